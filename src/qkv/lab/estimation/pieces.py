"""What a feed-forward network can represent, what depth adds, and what representing does not promise (A50)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from qkv.lab import figures, small
from qkv.lab.checks import above, below, close, exactly
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import FeedForward
from qkv.nn.feedforward import PositionWise


@dataclass(frozen=True)
class Pieces:
    """depth: layers of two units. most_units: of the one layer that approximates a sine. outside: how far beyond its
    range it is asked, in half periods. steps: updates of the network that is to find the sawtooth."""

    depth: Annotated[int, within(1, 10)] = 6
    most_units: Annotated[int, within(8, 512)] = 128
    outside: Annotated[int, within(2, 9)] = 3
    steps: Annotated[int, within(10, 1000)] = 150


def layer(first: Tensor, shift: Tensor, second: Tensor, offset: float = 0.0) -> PositionWise:
    """The toolkit's feed-forward network of one input: x -> second · relu(first x + shift) + offset."""
    network = FeedForward(len(first)).build(1)
    assert isinstance(network, PositionWise)
    network.double()
    with torch.no_grad():
        network.up.weight.copy_(first[:, None])
        network.up.bias.copy_(shift)
        network.down.weight.copy_(second[None])
        network.down.bias.fill_(offset)
    return network


def tent() -> PositionWise:
    """0 -> 0, ½ -> 1, 1 -> 0, straight between: 2 relu(x) − 4 relu(x − ½)."""
    return layer(*torch.tensor([[1.0, 1.0], [0.0, -0.5], [2.0, -4.0]]).double())


def interpolation(knots: Tensor, values: Tensor) -> PositionWise:
    """One unit a knot (but for the last): through all (knot, value), straight between and beyond."""
    slopes = (values[1:] - values[:-1]) / (knots[1:] - knots[:-1])
    bends = torch.cat([slopes[:1], slopes[1:] - slopes[:-1]])
    return layer(torch.ones_like(bends), -knots[:-1], bends, float(values[0]))


@torch.no_grad()
def on(network: nn.Module, x: Tensor) -> Tensor:
    """Its values [N] at x [N]."""
    return network(x[:, None])[:, 0]


def count_pieces(network: nn.Module, x: Tensor) -> int:
    """Straight pieces over the grid x, whose cells hold no kink inside."""
    slopes = on(network, x).diff() / x.diff()
    return 1 + int((slopes.diff().abs() > 1e-6).sum())


@experiment()
def linear_pieces(lab: Lab, params: Pieces) -> None:
    """Depth doubles the pieces with every two units; width approximates anything, on its range; neither is learning."""
    k = params.depth
    deep = nn.Sequential(*(tent() for _ in range(k)))
    grid = torch.linspace(0, 1, 2 ** (k + 2) + 1, dtype=torch.float64)
    bend = torch.linspace(0, 1, 2 * k + 1, dtype=torch.float64)[:-1]  # as many units, each with a kink of its own
    wide = layer(torch.ones(2 * k).double(), -bend, (-1.0) ** torch.arange(2 * k).double())
    fine = torch.linspace(0, 1, 2 * k * 64 + 1, dtype=torch.float64)
    lab.number("units", 2 * k)
    lab.claim(
        "deep_pieces",
        Text(
            "Every layer of two units doubles the number of straight pieces.", "每多一层（两个单元），直线段数翻一倍。"
        ),
        measure=lambda arm: count_pieces(*arm) / 2**k,
        arm=(deep, grid),
        control=(wide, fine),
        without=Text("the same units side by side in one layer", "同样多的单元并排放在一层"),
        holds=exactly(1),
        unit="of 2^depth",
    )
    lab.number("wide_pieces", count_pieces(wide, fine))
    lab.number("deep_count", count_pieces(deep, grid))
    _sine(lab, params)
    _sawtooth_learnt(lab, params, deep)
    lab.figure(
        "sawtooth",
        figures.lines(
            Text("As many units, one on the other or side by side", "单元数相同：叠成多层，或并排成一层"),
            Text("x", "x"),
            Text("output", "输出"),
            {
                "deep": list(zip(grid.tolist(), on(deep, grid).tolist(), strict=True)),
                "wide": list(zip(fine[::16].tolist(), (on(wide, fine[::16]) * k).tolist(), strict=True)),
            },
            {"deep": Text("deep", "多层"), "wide": Text("one layer (scaled)", "一层（已缩放）")},
        ),
    )


def _sine(lab: Lab, params: Pieces) -> None:
    """One hidden layer through equidistant points of a sine, no training."""

    def error(units: int, reach: float = 1.0) -> float:
        """Largest error between −reach·π and reach·π of a network made for [−π, π]."""
        knots = torch.linspace(-math.pi, math.pi, units + 1, dtype=torch.float64)
        x = torch.linspace(-reach * math.pi, reach * math.pi, 4001, dtype=torch.float64)
        return float((on(interpolation(knots, knots.sin()), x) - x.sin()).abs().max())

    sizes = [2**i for i in range(3, params.most_units.bit_length())]
    for name, units in (("error_narrow", sizes[0]), ("error_wide", sizes[-1])):
        lab.number(name, error(units))
    lab.number("narrow", sizes[0])

    def slope(reach: float) -> float:
        return math.log(error(sizes[-1], reach) / error(sizes[0], reach)) / math.log(sizes[-1] / sizes[0])

    lab.claim(
        "rate",
        Text(
            "On its range the error of one hidden layer falls with the square of its width.",
            "在给定区间内，单隐层的误差随宽度的平方下降。",
        ),
        measure=slope,
        arm=1.0,
        control=float(params.outside),
        without=Text("beyond the range, where width does not help", "区间之外：加宽没有用"),
        holds=close(-2.0, 0.15),
        unit="slope",
    )
    lab.claim(
        "beyond",
        Text(
            "Beyond its range the network goes on straight and is wrong by more than 1.",
            "出了区间，网络沿直线走下去，误差超过 1。",
        ),
        measure=lambda reach: error(params.most_units, reach),
        arm=float(params.outside),
        control=1.0,
        without=Text("inside the range", "区间之内"),
        holds=above(1.0),
    )


def _sawtooth_learnt(lab: Lab, params: Pieces, deep: nn.Module) -> None:
    """The same network, from random weights, asked to learn what it can represent."""
    x = torch.linspace(0, 1, 257, dtype=torch.float64)
    y = 1 - (1 - 2 * (x * 2 ** (params.depth - 1) % 1)).abs()  # the sawtooth by its formula, not by the network
    squares = small.Objective(lambda network: ((network(x[:, None])[:, 0] - y) ** 2).sum(), len(y))
    lab.number("variance", y.var(unbiased=False))

    def misfit(kind: str, seed: int) -> float:
        if kind == "built":
            return float(((on(deep, x) - y) ** 2).mean())
        torch.manual_seed(seed)
        parts = [FeedForward(2).build(1) for _ in range(params.depth)]
        network = nn.Sequential(*(part for part in parts if part is not None)).double()
        lab.train(network, small.nothing, params.steps, seed=seed, learning_rate=1e-2, loss=squares)
        return float(((on(network, x) - y) ** 2).mean())

    lab.claim(
        "not_found",
        Text(
            "The sawtooth is represented exactly by weights that are written down.",
            "手工写出的权重精确表示了锯齿函数。",
        ),
        measure=misfit,
        arm="built",
        control="trained",
        without=Text("the same network, its weights left to gradient descent", "同一网络，权重交给梯度下降去找"),
        holds=below(1e-12),
        seeds=3,
    )
