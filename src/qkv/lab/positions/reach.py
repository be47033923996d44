"""How strongly the last state depends on the first input, as the distance between them grows (A25, B2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qkv.baselines.recurrent import Recurrent, RecurrentConfig
from qkv.lab import figures
from qkv.lab.checks import above, below, between
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.lab.measures import slope
from qkv.nn import (
    Attention,
    AttentionConfig,
    Causal,
    MultiHead,
    Tokens,
    View,
    Xavier,
)

Read = Callable[[Tensor], Tensor]
"""Inputs [1,T,E] -> states [1,T,E]."""


@dataclass(frozen=True)
class GradientReach:
    """d: width. longest: the greatest distance, in steps. draws: inputs and weights that are averaged over."""

    d: Annotated[int, within(4, 64)] = 16
    longest: Annotated[int, within(16, 256)] = 64
    draws: Annotated[int, within(1, 20)] = 8


def attention(d: int) -> Read:
    """One causal self-attention at initial weights."""
    module = Attention(AttentionConfig(heads=MultiHead(1)), d).double()
    Xavier().apply(module)

    def read(x: Tensor) -> Tensor:
        tokens = Tokens.arange(1, x.shape[1])
        return module(x, View(Causal(), tokens, tokens))

    return read


def matching(d: int) -> Read:
    """The same module with W_Q = W_K = W_V = W_O = 1 and a large scale: a query looks at the keys that equal it."""
    module = Attention(AttentionConfig(heads=MultiHead(1), scale=8.0, bias=False, out_bias=False), d).double()
    one = torch.eye(d, dtype=torch.float64)
    module.query_key_value.weight.data = torch.cat([one] * 3)
    module.out.weight.data = one

    def read(x: Tensor) -> Tensor:
        tokens = Tokens.arange(1, x.shape[1])
        return module(x, View(Causal(), tokens, tokens))

    return read


def recurrent(d: int, cell: str, forget_bias: float | None = None) -> Read:
    """A recurrent cell at torch's initial weights; forget_bias: of the gate that keeps an LSTM's memory."""
    model = Recurrent(RecurrentConfig(1, d, cell=cell)).double()  # type: ignore[arg-type]
    if forget_bias is not None:
        model.cell.bias_ih_l0.data[d : 2 * d] = forget_bias
    return lambda x: model.cell(x)[0]


def pull(read: Read, x: Tensor) -> float:
    """The Frobenius norm of ∂(last state)/∂(first input)."""
    first = x[:, 0]

    def last(v: Tensor) -> Tensor:
        return read(torch.cat([v[:, None], x[:, 1:]], 1))[0, -1]

    return float(torch.autograd.functional.jacobian(last, first, vectorize=True).norm())


@experiment()
def gradient_reach(lab: Lab, params: GradientReach) -> None:
    """Through attention the influence of a distant input falls as a power of the distance, through recurrence
    exponentially."""
    kinds: dict[str, Callable[[], Read]] = {
        "attention": lambda: attention(params.d),
        "matching": lambda: matching(params.d),
        "rnn": lambda: recurrent(params.d, "rnn"),
        "lstm": lambda: recurrent(params.d, "lstm"),
        "lstm_open": lambda: recurrent(params.d, "lstm", forget_bias=5.0),
    }
    distances = [n for n in (4, 8, 16, 32, 64, 128, 256) if n <= params.longest]
    curves = {key: curve(lab, params, make, distances, key == "matching") for key, make in kinds.items()}
    logs = {key: [math.log(max(v, 1e-300)) for _, v in points] for key, points in curves.items()}
    power = {key: slope([math.log(n + 1) for n in distances], values) for key, values in logs.items()}
    decay = {key: slope(distances, values) for key, values in logs.items()}
    lab.claim(
        "power",
        Text(
            "With nearly uniform weights over n keys attention passes on about 1/n: on log–log paper a slope of −1.",
            "n 个键的权重接近均匀时，注意力传到的影响约为 1/n：双对数图上斜率为 −1。",
        ),
        measure=lambda key: power[key],
        arm="attention",
        control="rnn",
        without=Text("a recurrent network instead", "换成循环网络"),
        holds=between(-1.2, -0.8),
    )
    lab.claim(
        "exponential",
        Text(
            "A recurrent network at its usual initial weights loses more than a fifth of the influence at every step.",
            "循环网络在常用初始化下，每走一步影响损失五分之一以上。",
        ),
        measure=lambda key: decay[key],
        arm="rnn",
        control="attention",
        without=Text("attention instead", "换成注意力"),
        holds=below(math.log(0.8)),
        unit="nat/step",
    )
    lab.claim(
        "matched",
        Text(
            "A query that finds its key does not pay for distance: the influence at the longest distance is over 0.9 "
            "of that at the shortest.",
            "查询一旦匹配到键，距离不再有代价：最远处的影响超过最近处的九成。",
        ),
        measure=lambda key: curves[key][-1][1] / curves[key][0][1],
        arm="matching",
        control="attention",
        without=Text("weights that are nearly uniform", "权重接近均匀"),
        holds=above(0.9),
        unit="ratio",
    )
    for key in ("lstm", "lstm_open", "rnn"):
        lab.number(f"{key}_kept", math.exp(decay[key]), "per step")
    for key in ("attention", "rnn", "lstm", "lstm_open"):
        lab.number(f"{key}_far", curves[key][-1][1])
    draw(lab, curves)


def draw(lab: Lab, curves: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """The influence at each distance, for each kind of network."""
    names = {
        "attention": Text("attention", "注意力"),
        "matching": Text("attention that matches", "匹配的注意力"),
        "rnn": Text("RNN", "RNN"),
        "lstm": Text("LSTM", "LSTM"),
        "lstm_open": Text("LSTM, forget gate open", "LSTM，遗忘门常开"),
    }
    title = Text("∂(last state)/∂(first input)", "∂(最后状态)/∂(第一个输入)")
    floor = {key: [(n, max(v, 1e-20)) for n, v in points] for key, points in curves.items()}
    lab.figure(
        "reach", figures.lines(title, Text("distance", "距离"), Text("norm", "范数"), floor, names, "log", "log")
    )


def curve(
    lab: Lab, params: GradientReach, make: Callable[[], Read], distances: Sequence[int], matched: bool
) -> list[tuple[float, float]]:
    """(distance, geometric mean of the influence over the draws)."""
    norms: list[list[float]] = []
    for draw in range(params.draws):
        torch.manual_seed(lab.seed * 100 + draw)
        read = make()
        # One text a draw: a shorter distance leaves out what lies between, so that the points share their chance.
        x = torch.randn(1, params.longest + 1, params.d, dtype=torch.float64)
        if matched:  # unit-length keys, orthogonal to the query but for the first, which equals it
            x[:, :, 0] = 0.0
            x = x / x.norm(dim=-1, keepdim=True)
            x[:, [0, -1]] = torch.eye(params.d, dtype=torch.float64)[0]
        norms.append([math.log(pull(read, torch.cat([x[:, :n], x[:, -1:]], 1))) for n in distances])
    means = torch.tensor(norms, dtype=torch.float64).mean(0).exp().tolist()
    return [(float(n), value) for n, value in zip(distances, means, strict=True)]
