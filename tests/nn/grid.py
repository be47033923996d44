"""What the tests of `nn` and `models` share: example tokens, every mask, and combinations that cover all pairs."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import torch
from torch import Tensor

from qkv import nn as parts
from qkv.nn import Mask, Tokens


def pairwise(**axes: list[Any]) -> list[dict[str, Any]]:
    """Few combinations in which every value of every axis meets every value of every other axis."""
    todo = {
        frozenset(((a, i), (b, j)))
        for a, b in combinations(axes, 2)
        for i, j in product(range(len(axes[a])), range(len(axes[b])))
    }
    rows = []
    while todo:
        row = dict(min(sorted(pair) for pair in todo))
        for name in axes:
            if name not in row:
                choices = range(len(axes[name]))
                gain = {v: sum(frozenset(((name, v), other)) in todo for other in row.items()) for v in choices}
                row[name] = max(choices, key=lambda v, gain=gain: (gain[v], -((v - len(rows)) % len(gain))))
        todo -= {frozenset(pair) for pair in combinations(row.items(), 2)}
        rows.append({name: axes[name][row[name]] for name in axes})
    return rows


def label(row: Any) -> str:
    """A short name for a combination, for pytest's ids."""
    return "-".join(value if isinstance(value, str) else type(value).__name__ for value in row.values())


def fields(rows: int, length: int) -> dict[str, Tensor]:
    """Documents of three tokens, a prefix of two, a global token in the middle."""
    column = torch.arange(length).expand(rows, length)
    return {"doc": column // 3, "prefix": (column < 2).long(), "global": (column == length // 2).long()}


def example_tokens(padding: str, rows: int = 3, length: int = 9) -> Tokens:
    """`rows` sequences of ragged lengths, the first one full; padding: none | right | left | both."""
    lengths = torch.tensor([length - 2 * i for i in range(rows)])
    if padding == "none":
        return Tokens.arange(rows, length).with_fields(**fields(rows, length))
    side = padding if padding != "both" else "right"
    tokens = Tokens.from_lengths(lengths, length, side)
    pos = tokens.pos.roll(1, 1) if padding == "both" else tokens.pos
    return Tokens(pos, fields(rows, length))


def table(rows: int, heads: int, queries: int, keys: int) -> Tensor:
    """A random table of what may be seen in which the first query of the first row sees nothing."""
    visible = torch.rand(rows, heads, queries, keys, generator=torch.Generator().manual_seed(1)) < 0.5
    visible[0, :, 0] = False
    return visible


def masks(rows: int = 3, length: int = 9, heads: int = 4) -> dict[str, Mask]:
    """Every predicate, their compositions, and expressions under which some queries see nothing."""
    return {
        "full": parts.Full(),
        "causal": parts.Causal(),
        "window": parts.Window(2, 1),
        "past-window": parts.Causal() & parts.Window(3),
        "prefix": parts.Causal() | parts.Prefix(),
        "documents": parts.Causal() & parts.SameDocument(),
        "global": (parts.Causal() & parts.Window(1)) | parts.GlobalTokens(),
        "explicit": parts.Explicit(table(rows, 1, length, length)),
        "explicit-heads": parts.Explicit(table(rows, heads, length, length)) & parts.Causal(),
        "future": ~parts.Causal(),
        "others": ~parts.SameDocument() & parts.Causal(),
        "nothing": ~parts.Full(),
    }


def close(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> None:
    """Equal in float64 but for the order of sums."""
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
