"""What separate queries and keys are for: without them a token mostly attends to itself (A22, A92)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.func import functional_call

from qkv.lab import figures
from qkv.lab.checks import above, below, close, exactly
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import Attention, Mask, Window

from .parts import layer, normal, view, weights

OTHERS = ~Window(back=0, ahead=0)
"""Every key but the query's own."""


@dataclass(frozen=True)
class SelfWeight:
    """d_model: width, and that of the one head. length: of a sequence. rows: sequences."""

    d_model: Annotated[int, within(2, 512)] = 256
    length: Annotated[int, within(2, 128)] = 32
    rows: Annotated[int, within(1, 64)] = 4


def raw(d_model: int) -> Attention:
    """A layer whose queries, keys and values are its inputs: softmax(XXᵀ/√d) X."""
    attention = layer(d_model, bias=False, out_bias=False)
    attention.query_key_value.weight.data = torch.eye(d_model, dtype=torch.float64).repeat(3, 1)
    attention.out.weight.data = torch.eye(d_model, dtype=torch.float64)
    return attention


def projected(d_model: int) -> Attention:
    """A layer with random W_Q and W_K that keep components of q and k at variance 1."""
    attention = raw(d_model)
    torch.nn.init.normal_(attention.query_key_value.weight.data[: 2 * d_model], std=d_model**-0.5)
    return attention


def tied(d_model: int) -> Attention:
    """The same with W_K = W_Q."""
    attention = projected(d_model)
    table = attention.query_key_value.weight.data
    table[d_model : 2 * d_model] = table[:d_model]
    return attention


def on_itself(attention: Attention, x: Tensor, mask: Mask | None = None) -> Tensor:
    """The weight of each token on itself, [B,H,T]."""
    return weights(attention, x, mask).diagonal(dim1=-2, dim2=-1)


def predicted(d_model: int, length: int) -> float:
    """The weight on itself of a token of norm √d among others whose scores are N(0,1): e^√d / (e^√d + (n−1)√e)."""
    return 1 / (1 + (length - 1) * math.exp(0.5 - math.sqrt(d_model)))


@experiment()
def self_weight(lab: Lab, params: SelfWeight) -> None:
    """Attention between the vectors themselves looks at the diagonal; separate queries and keys take that away."""
    x = normal(lab.generator(), params.rows, params.length, params.d_model)
    widths = (4, 16, 64, 256)
    drawn = {d: normal(lab.generator(d), params.rows, params.length, d) for d in widths}
    measured = {d: float(on_itself(raw(d), drawn[d]).mean()) for d in widths}
    lab.number("raw_16", measured[16])
    lab.number("raw_64", measured[64])
    lab.number("predicted_16", predicted(16, params.length))
    lab.number("predicted_64", predicted(64, params.length))
    lab.number("uniform", 1 / params.length)
    lab.claim(
        "raw",
        Text(
            "With scores x·x' each token gives nearly all its weight to itself.",
            "用 x·x' 作分数时，每个词几乎把全部权重给了自己。",
        ),
        measure=lambda make: on_itself(make(params.d_model), x).mean(),
        arm=raw,
        control=projected,
        without=Text("separate random W_Q and W_K", "改用各自独立的随机 W_Q、W_K"),
        holds=above(0.9),
    )
    lab.claim(
        "tied",
        Text(
            "Sharing one matrix, W_Q = W_K, does not help: the diagonal stays.",
            "W_Q 与 W_K 共用一个矩阵无济于事：对角线仍占主导。",
        ),
        measure=lambda make: on_itself(make(params.d_model), x).mean(),
        arm=tied,
        control=projected,
        without=Text("separate random W_Q and W_K", "改用各自独立的随机 W_Q、W_K"),
        holds=above(0.9),
    )
    lab.claim(
        "masked",
        Text("A mask on the diagonal leaves no weight on itself.", "遮住对角线后，自身权重为零。"),
        measure=lambda mask: on_itself(raw(params.d_model), x, mask).max(),
        arm=OTHERS,
        control=None,
        without=Text("no such mask", "不加这个掩码"),
        holds=exactly(0),
    )
    _draw(lab, params, drawn)


def _draw(lab: Lab, params: SelfWeight, drawn: dict[int, Tensor]) -> None:
    lab.figure(
        "diagonal",
        figures.lines(
            Text("Mean weight of a token on itself", "词对自身的平均权重"),
            Text("width", "宽度"),
            Text("weight", "权重"),
            {
                "raw": [(d, float(on_itself(raw(d), x).mean())) for d, x in drawn.items()],
                "formula": [(d, predicted(d, params.length)) for d in drawn],
                "projected": [(d, float(on_itself(projected(d), x).mean())) for d, x in drawn.items()],
            },
            {
                "raw": Text("x·x'/√d", "x·x'/√d"),
                "formula": Text("formula", "公式"),
                "projected": Text("separate W_Q, W_K", "独立的 W_Q、W_K"),
            },
            x_scale="log",
        ),
    )


@dataclass(frozen=True)
class Cycle:
    """length: how many tokens stand in a ring, each of which has to find the next. steps: of Adam."""

    length: Annotated[int, within(3, 12)] = 3
    steps: Annotated[int, within(10, 1000)] = 120


@experiment()
def directed_cycle(lab: Lab, params: Cycle) -> None:
    """Queries that are their own keys cannot send every token of a ring to the next one: the loss stops at ln 2."""

    def loss(shared: bool, seed: int) -> float:
        return _ring(params, shared, seed)[0]

    lab.claim(
        "loss",
        Text("With W_Q and W_K of its own the ring is learned.", "W_Q、W_K 各自独立时，环可以学会。"),
        measure=loss,
        arm=False,
        control=True,
        without=Text("W_K = W_Q", "令 W_K = W_Q"),
        holds=below(0.05),
        unit="nat",
        seeds=3,
    )
    lab.number("half", math.log(2), "nat")
    lab.claim(
        "right",
        Text("Every token's largest weight is on its successor.", "每个词的最大权重都在后继上。"),
        measure=lambda shared: _ring(params, shared, lab.seed)[1],
        arm=False,
        control=True,
        without=Text("W_K = W_Q", "令 W_K = W_Q"),
        holds=close(1.0, 0.0),
        unit="share",
    )
    x = normal(lab.generator(), 1, 16, 32)

    def nearest(make: type | object) -> float:
        """Whether the token with the longest key gives its largest weight to itself."""
        attention = make(32)  # type: ignore[operator]
        key = attention.split(attention.query_key_value(x).chunk(3, -1)[1])
        longest = int(key.norm(dim=-1).argmax())
        return float(weights(attention, x)[0, 0, longest].argmax() == longest)

    lab.claim(
        "longest",
        Text(
            "Where queries are keys, the token with the longest key attends to itself most.",
            "查询即键时，键最长的词必定最关注自己。",
        ),
        measure=lambda make: sum(nearest(make) for _ in range(50)) / 50,
        arm=tied,
        control=projected,
        without=Text("separate W_Q and W_K", "W_Q、W_K 各自独立"),
        holds=exactly(1),
        unit="share",
    )


def _ring(params: Cycle, shared: bool, seed: int) -> tuple[float, float]:
    """(loss, share of tokens whose largest weight is on the next) after training W_Q and W_K on one-hot tokens that
    may not see themselves. Values are the tokens, so that a row of the output is a row of weights."""
    n = params.length
    attention = raw(n)
    seen = view(1, n, OTHERS)
    generator = torch.Generator().manual_seed(seed)
    w_q, w_k = (normal(generator, n, n).requires_grad_() for _ in range(2))
    x = torch.eye(n, dtype=torch.float64).unsqueeze(0)
    following = torch.arange(1, n + 1) % n
    adam = torch.optim.Adam([w_q] if shared else [w_q, w_k], lr=0.1)
    for _ in range(params.steps):
        table = torch.cat([w_q, w_q if shared else w_k, torch.eye(n, dtype=torch.float64)])
        rows = functional_call(attention, {"query_key_value.weight": table}, (x, seen))[0]
        loss = -rows.gather(1, following.unsqueeze(1)).clamp_min(1e-300).log().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    right = (rows.argmax(-1) == following).double().mean()
    return float(loss.detach()), float(right)
