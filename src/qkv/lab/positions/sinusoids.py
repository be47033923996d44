"""What the inner products of sinusoids say about offsets, and what projections do to it (A95, B7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qkv.lab import figures
from qkv.lab.checks import above, below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import (
    Attention,
    AttentionConfig,
    Learned,
    LinearBias,
    MultiHead,
    PositionConfig,
    Rotary,
    Sinusoidal,
    Tokens,
    Xavier,
)
from qkv.nn.positions import PositionShape

SMALL = below(1e-10)


@dataclass(frozen=True)
class SinusoidGeometry:
    """d: width of the encoding. length: positions looked at. shift: the offset k by which positions are moved."""

    d: Annotated[int, within(8, 512)] = 64
    length: Annotated[int, within(16, 256)] = 128
    shift: Annotated[int, within(1, 64)] = 7


@torch.no_grad()
def table(position: PositionConfig, params: SinusoidGeometry) -> Tensor:
    """The rows PE(0) … PE(length − 1) that a position adds to embeddings, [T,E] in float64."""
    module = position.build(PositionShape(params.d, 1, params.d)).double()
    return module.embed(torch.zeros(1, params.length, params.d, dtype=torch.float64), Tokens.arange(1, params.length))[
        0
    ]


def turned(x: Tensor, pos: Tensor) -> Tensor:
    """Rows x [T,D], each turned by the rotary rotation of its position in pos [T]."""
    rotary = Rotary(layout="interleaved").build(PositionShape(x.shape[-1], 1, x.shape[-1]))
    return rotary.rotate(x[None, None], Tokens(pos[None]))[0, 0]


def spread(scores: Tensor) -> float:
    """How far scores [T,T] are from a function of the offset: the largest standard deviation along a diagonal that has
    at least eight entries, in units of the standard deviation of all scores."""
    n = len(scores)
    return max(float(scores.diagonal(k).std()) for k in range(8 - n, n - 7)) / float(scores.std())


def rising(scores: Tensor) -> float:
    """The share of steps away from the first query at which its score rises instead of falling."""
    return float((scores[0].diff() > 0).double().mean())


@experiment()
def sinusoid_geometry(lab: Lab, params: SinusoidGeometry) -> None:
    """Sinusoids turn an offset into one rotation; their dot product is symmetric, wavy, and undone by projections."""
    sines = table(Sinusoidal(), params)
    learned = table(Learned(params.length), params)
    steps = torch.full((params.length,), params.shift)
    lab.claim(
        "rotation",
        Text(
            "One rotation takes PE(p + k) to PE(p), the same at every p; it is the rotation of rotary positions.",
            "同一个旋转把 PE(p + k) 变回 PE(p)，与 p 无关；它正是旋转位置编码的那个旋转。",
        ),
        measure=lambda rows: (turned(rows, steps)[params.shift :] - rows[: -params.shift]).abs().max(),
        arm=sines,
        control=learned,
        without=Text("a learned table, at its initial values", "换成可学习的位置表（初始值）"),
        holds=SMALL,
    )
    lab.claim(
        "offset_only",
        Text(
            "PE(p)·PE(q) depends on the offset p − q only.",
            "PE(p)·PE(q) 只取决于位移 p − q。",
        ),
        measure=lambda rows: spread(rows @ rows.T),
        arm=sines,
        control=learned,
        without=Text("a learned table, at its initial values", "换成可学习的位置表（初始值）"),
        holds=SMALL,
    )
    claim_shape(lab, sines, params)
    claim_projected(lab, sines, params)


def claim_shape(lab: Lab, sines: Tensor, params: SinusoidGeometry) -> None:
    """What the plain product cannot say: direction, and which of two distances is the longer."""
    dots = sines @ sines.T
    one_back = turned(sines, torch.ones(params.length, dtype=torch.long)) @ sines.T  # PE(p)ᵀ R_1 PE(q)
    lab.claim(
        "symmetric",
        Text(
            "The plain product cannot tell before from after: it is the same at offset k and −k.",
            "直接内积分不清前后：位移 k 与 −k 的值相同。",
        ),
        measure=lambda scores: (scores - scores.T).abs().max(),
        arm=dots,
        control=one_back,
        without=Text("a rotation between the two, as W_QᵀW_K can learn", "中间插入一个旋转，W_QᵀW_K 能学到这样的矩阵"),
        holds=SMALL,
    )
    lab.number("previous", (one_back.argmax(1)[1:] == torch.arange(params.length - 1)).double().mean(), "share")
    bias = LinearBias().build(PositionShape(params.d, 1, params.d)).bias(*[Tokens.arange(1, params.length)] * 2)
    assert bias is not None
    lab.claim(
        "not_monotone",
        Text(
            "The product does not fall steadily with distance: at more than a quarter of the steps it rises.",
            "内积并不随距离单调下降：超过四分之一的步子上它反而上升。",
        ),
        measure=rising,
        arm=dots,
        control=bias[0, 0],
        without=Text("a linear bias, made to fall with distance", "换成线性偏置，它按距离单调下降"),
        holds=above(0.25),
        unit="share",
    )
    lab.figure(
        "products",
        figures.lines(
            Text("Score of position 0 with position k", "位置 0 与位置 k 的分数"),
            Text("offset k", "位移 k"),
            Text("score / score at k = 0", "分数 / k = 0 处的分数"),
            {
                "plain": [(k, float(v / dots[0, 0])) for k, v in enumerate(dots[0])],
                "projected": [(k, float(v)) for k, v in enumerate(projected(sines, params)[0] / params.d)],
            },
            {
                "plain": Text("PE(0)·PE(k)", "PE(0)·PE(k)"),
                "projected": Text("after W_Q, W_K, random", "经过随机的 W_Q、W_K"),
            },
        ),
    )


@torch.no_grad()
def projected(rows: Tensor, params: SinusoidGeometry, rotary: bool = False) -> Tensor:
    """Scores q·k [T,T] of rows [T,E] in one head at initial weights. rotary: q and k are turned by their positions."""
    torch.manual_seed(1)
    attention = Attention(AttentionConfig(heads=MultiHead(1)), params.d).double()
    Xavier().apply(attention)
    q, k, _ = attention.query_key_value(rows).chunk(3, dim=-1)
    if rotary:
        q, k = (turned(x, torch.arange(params.length)) for x in (q, k))
    return q @ k.T


def claim_projected(lab: Lab, sines: Tensor, params: SinusoidGeometry) -> None:
    """What is left of it after W_Q and W_K, and how rotary positions keep it."""
    word = torch.randn(params.d, generator=lab.generator(), dtype=torch.float64).expand_as(sines)
    lab.number("projected_spread", spread(projected(sines, params)))
    lab.claim(
        "rotary_keeps",
        Text(
            "Rotary positions turn q and k after the projections, so scores of one word depend on the offset only.",
            "旋转位置编码在投影之后转动 q 和 k，因此同一个词的分数只取决于位移。",
        ),
        measure=lambda rotary: spread(projected(word if rotary else word + sines, params, rotary)),
        arm=True,
        control=False,
        without=Text("sinusoids added before the projections", "正弦编码在投影之前相加"),
        holds=SMALL,
    )
