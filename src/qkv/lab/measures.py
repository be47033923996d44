"""What many experiments measure: one kernel by itself, operations, the exponent of a power law."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from qkv.nn import Einsum, Full, KernelConfig, Mask, Tokens, View

FULL, EINSUM = Full(), Einsum()


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask = FULL,
    kernel: KernelConfig = EINSUM,
    *,
    scale: float | None = None,
    bias: Tensor | None = None,
    need_weights: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """A kernel of the toolkit: q [B,H,T,D], k and v [B,H,S,D] -> out [B,H,T,D], weights [B,H,T,S] if they are wanted.

    The last query stands where the last key does, for masks that ask. scale: 1/√D unless given. bias [B|1,H|1,T,S]: is
    added to the scores."""
    length = max(q.shape[2], k.shape[2])
    tokens = Tokens.arange(1, length)
    queries, keys = (tokens if x.shape[2] == length else tokens[:, length - x.shape[2] :] for x in (q, k))
    view = View(mask, queries, keys, None if bias is None else lambda *_: bias)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return kernel.build()(q, k, v, view, scale=scale, dropout=0.0, need_weights=need_weights)


def weights(q: Tensor, k: Tensor, kernel: KernelConfig = EINSUM, scale: float | None = None) -> Tensor:
    """The weights [B,H,T,S] of q [B,H,T,D] on k [B,H,S,D], nothing hidden."""
    found = attend(q, k, k, kernel=kernel, scale=scale, need_weights=True)[1]
    assert found is not None
    return found


def counted(run: Callable[[], Any]) -> float:
    """Operations of the matrix products that `run` makes; a product and a sum are two."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the least-squares line through (x, y).

    >>> slope([0, 1, 2], [1, 3, 5])
    2.0
    """
    a, b = torch.tensor(x, dtype=torch.float64), torch.tensor(y, dtype=torch.float64)
    return float(((a - a.mean()) * (b - b.mean())).sum() / ((a - a.mean()) ** 2).sum())


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """a of y ∝ x^a, by least squares on logarithms.

    >>> round(exponent([1, 2, 4], [3, 12, 48]), 9)
    2.0
    """
    return slope([math.log(value) for value in x], [math.log(value) for value in y])
