"""What layers cost in operations, and in steps that must wait for each other (A15, A94, B1, B5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from qkv.baselines.recurrent import Recurrent, RecurrentConfig
from qkv.lab import figures, small
from qkv.lab.checks import exactly
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.lab.measures import attend, counted
from qkv.models.stack import Stack
from qkv.nn import Einsum, Sinusoidal, Tokens
from qkv.probe.cost import operations

VOCAB = 8
SHAPES = ((8, 4, 1), (8, 48, 1), (16, 32, 2), (16, 7, 1), (24, 10, 1), (32, 5, 3))
"""(width, length, layers)."""


@dataclass(frozen=True)
class LayerOperations:
    """d: width, which both heads share. span: how many tokens the convolution joins. short: length at which the steps
    that wait for each other are counted, and its double."""

    d: Annotated[int, within(4, 64)] = 16
    span: Annotated[int, within(1, 9)] = 3
    short: Annotated[int, within(4, 64)] = 16


def transformer(d: int, n_layers: int = 1, d_ff: int | None = None) -> Stack:
    """Layers of two heads, with the table of scores made in full; d_ff 0: attention alone."""
    kernel = {"kernel": Einsum()}
    return Stack(small.stack(VOCAB, d, n_layers, d_ff=d_ff, position=Sinusoidal(), attention=kernel)).double()


def read(module: nn.Module, n: int) -> Tensor:
    """The states of n tokens, [1,n,E]."""
    return module(torch.zeros(1, n, dtype=torch.long), Tokens.arange(1, n))


@cache
def cost(kind: str, d: int, n: int, span: int = 3) -> float:
    """Operations of one layer on n tokens."""
    if kind == "table":
        x = torch.zeros(1, 2, n, d // 2, dtype=torch.float64)
        return counted(lambda: attend(x, x, x))
    if kind == "convolution":
        convolution = nn.Conv1d(d, d, span, padding=span // 2).double()
        return counted(lambda: convolution(torch.zeros(1, d, n, dtype=torch.float64)))
    if kind in ("rnn", "lstm"):
        recurrent = Recurrent(RecurrentConfig(VOCAB, d, cell=kind)).double()  # type: ignore[arg-type]
        return counted(lambda: read(recurrent, n))
    stack = transformer(d, d_ff=0 if kind == "attention" else None)
    return counted(lambda: read(stack, n))


def waiting(module: nn.Module, n: int) -> int:
    """The longest chain of operations that each need the one before, in the graph of one pass."""
    depths: dict[Any, int] = {}
    todo: list[Any] = [read(module, n)[0, -1].sum().grad_fn]
    while todo:
        node = todo[-1]
        before = [parent for parent, _ in node.next_functions if parent is not None]
        missing = [parent for parent in before if parent not in depths]
        if missing:
            todo += missing
        else:
            depths[node] = 1 + max((depths[parent] for parent in before), default=0)
            todo.pop()
    return max(depths.values())


@experiment()
def layer_operations(lab: Lab, params: LayerOperations) -> None:
    """Counted operations equal the closed form; the table of scores is the larger part only beyond six widths."""
    claim_formula(lab)
    claim_crossings(lab, params.d)
    claim_rivals(lab, params)
    claim_waiting(lab, params)
    kinds = ("table", "attention", "block", "rnn", "lstm", "convolution")
    names = {
        "table": Text("table of scores alone", "只算分数表"),
        "attention": Text("attention with projections", "注意力（含投影）"),
        "block": Text("whole layer", "整层（含前馈）"),
        "rnn": Text("RNN", "RNN"),
        "lstm": Text("LSTM", "LSTM"),
        "convolution": Text("convolution", "卷积"),
    }
    lengths = [params.d * k // 4 for k in (1, 2, 4, 8, 16, 32)]
    lab.figure(
        "costs",
        figures.lines(
            Text("Operations of one layer", "一层的运算次数"),
            Text("n / d", "n / d"),
            Text("operations", "运算次数"),
            {kind: [(n / params.d, cost(kind, params.d, n, params.span)) for n in lengths] for kind in kinds},
            names,
            x_scale="log",
            y_scale="log",
        ),
    )


def claim_formula(lab: Lab) -> None:
    """The closed form, on several shapes."""
    runs = []
    for d, n, n_layers in SHAPES:
        stack = transformer(d, n_layers)
        runs.append((operations(stack.config, n), counted(lambda stack=stack, n=n: read(stack, n))))  # type: ignore[misc]
    lab.number("shapes", len(SHAPES))

    def apart(parts: Sequence[str]) -> float:
        return sum(abs(sum(getattr(formula, part) for part in parts) - count) for formula, count in runs)

    lab.claim(
        "formula",
        Text(
            "Counted operations equal 8nd² + 16nd² + 4n²d a layer (projections, feed-forward, table), to the last one.",
            "数出的运算次数与每层 8nd² + 16nd² + 4n²d（投影、前馈、分数表）一次不差。",
        ),
        measure=apart,
        arm=("projections", "feedforward", "table"),
        control=("projections", "feedforward"),
        without=Text("the formula without the table", "公式里去掉分数表"),
        holds=exactly(0),
        unit="operations",
    )


def claim_crossings(lab: Lab, d: int) -> None:
    """At what length the table costs as much as the rest."""
    lab.claim(
        "whole_layer",
        Text(
            "In a whole layer the table costs as much as all the rest at n = 6d.",
            "整层里，分数表在 n = 6d 时与其余部分相等。",
        ),
        measure=lambda n: cost("table", d, n) / (cost("block", d, n) - cost("table", d, n)),
        arm=6 * d,
        control=2 * d,
        without=Text("n = 2d, where only attention's own projections are matched", "n = 2d，只追平注意力自己的投影"),
        holds=exactly(1),
        unit="ratio",
    )
    lab.claim(
        "projections",
        Text("It costs as much as the four projections at n = 2d.", "分数表在 n = 2d 时与四个投影相等。"),
        measure=lambda n: cost("table", d, n) / (cost("attention", d, n) - cost("table", d, n)),
        arm=2 * d,
        control=d,
        without=Text("n = d, the usual rule", "n = d，通常的说法"),
        holds=exactly(1),
        unit="ratio",
    )


def claim_rivals(lab: Lab, params: LayerOperations) -> None:
    """Beside recurrent and convolutional layers of the same width."""
    d = params.d
    lab.claim(
        "against_rnn",
        Text(
            "The table alone costs what a tanh RNN costs at n = d: the comparison of the 2017 paper.",
            "只算分数表时，n = d 处与 tanh RNN 相等：这是 2017 年论文的比法。",
        ),
        measure=lambda kind: cost(kind, d, d) / cost("rnn", d, d),
        arm="table",
        control="attention",
        without=Text("its projections counted as well, as they are for the RNN", "把投影也算上，与 RNN 同样对待"),
        holds=exactly(1),
        unit="ratio",
    )
    lab.claim(
        "against_lstm",
        Text(
            "Attention with its projections costs what an LSTM costs at n = 2d.",
            "含投影的注意力在 n = 2d 时与 LSTM 相等。",
        ),
        measure=lambda kind: cost("attention", d, 2 * d) / cost(kind, d, 2 * d),
        arm="lstm",
        control="rnn",
        without=Text("a tanh RNN, which has no gates", "没有门的 tanh RNN"),
        holds=exactly(1),
        unit="ratio",
    )
    lab.number("short_rnn", cost("attention", d, d // 4) / cost("rnn", d, d // 4), "ratio")
    lab.number("convolution", cost("attention", d, d) / cost("convolution", d, d, params.span), "ratio")


def claim_waiting(lab: Lab, params: LayerOperations) -> None:
    """Steps that must wait for each other."""
    n = params.short
    modules = {
        "attention": transformer(params.d),
        "rnn": Recurrent(RecurrentConfig(VOCAB, params.d, cell="rnn")).double(),
    }
    chains = {key: (waiting(module, n), waiting(module, 2 * n)) for key, module in modules.items()}
    for key, (short, twice) in chains.items():
        lab.number(f"{key}_chain", short, "operations")
        lab.number(f"{key}_chain_twice", twice, "operations")
    lab.claim(
        "waiting",
        Text(
            "Twice the length adds nothing to the longest chain of operations that wait for each other.",
            "长度加倍，必须依次等待的最长运算链一步不增。",
        ),
        measure=lambda key: chains[key][1] - chains[key][0],
        arm="attention",
        control="rnn",
        without=Text("a recurrent layer", "换成循环层"),
        holds=exactly(0),
        unit="operations",
    )
