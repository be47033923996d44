"""What attention weights are moved by, and why they need not explain an output (A67, A68, B23)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qkv.lab import figures
from qkv.lab.checks import below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.lab.measures import attend

from .parts import normal


@dataclass(frozen=True)
class ScoreGradient:
    """n_keys: tokens that are attended to. d_head: width of queries, keys and values."""

    n_keys: Annotated[int, within(2, 128)] = 12
    d_head: Annotated[int, within(1, 64)] = 8


def biased(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Output and weights with `bias` [1,1,T,S] added to the scores."""
    out, weights = attend(q, k, v, bias=bias, need_weights=True)
    assert weights is not None
    return out, weights


@experiment()
def score_gradient(lab: Lab, params: ScoreGradient) -> None:
    """A score's gradient is a_j g·(v_j − o): it rises where the value is better than the average that is read."""
    generator = lab.generator()
    q = normal(generator, 1, 1, 1, params.d_head)
    k, v = (normal(generator, 1, 1, params.n_keys, params.d_head) for _ in range(2))
    g = normal(generator, 1, 1, 1, params.d_head)
    nudge = torch.zeros(1, 1, 1, params.n_keys, dtype=torch.float64, requires_grad=True)
    out, weights = biased(q, k, v, nudge)
    (measured,) = torch.autograd.grad((out * g).sum(), nudge)
    out, weights = out.detach(), weights.detach()

    def formula(centred: bool) -> Tensor:
        gain = ((v - out if centred else v) * g).sum(-1).unsqueeze(2)
        return weights * gain

    lab.claim(
        "formula",
        Text("∂L/∂s_j = a_j g·(v_j − o), by autograd.", "自动微分证实 ∂L/∂s_j = a_j g·(v_j − o)。"),
        measure=lambda centred: (formula(centred) - measured).abs().max(),
        arm=True,
        control=False,
        without=Text("the average o left out: a_j g·v_j", "不减去平均值 o：a_j g·v_j"),
        holds=below(1e-12),
    )
    lab.number("gradient_sum", measured.sum().abs())
    step = 0.01

    def loss_after(direction: float) -> float:
        moved, _ = biased(q, k, v, -direction * step * measured)
        return float(((moved - out) * g).sum())

    lab.claim(
        "descent",
        Text("A step against it lowers the loss.", "沿负梯度走一步，损失下降。"),
        measure=loss_after,
        arm=1.0,
        control=-1.0,
        without=Text("a step along it", "沿正梯度走一步"),
        holds=below(0.0),
    )


@dataclass(frozen=True)
class OtherWeights:
    """n_keys: tokens attended to. few_keys: those of the control. d_head: width of the values."""

    n_keys: Annotated[int, within(4, 128)] = 32
    few_keys: Annotated[int, within(2, 32)] = 8
    d_head: Annotated[int, within(1, 32)] = 8


def elsewhere(weights: Tensor, v: Tensor, keep_output: bool, generator: torch.Generator) -> Tensor:
    """Other weights [S] that still add up to 1 and, with keep_output, average the values v [S,D] to the same vector.

    Walk along a direction that changes neither until a weight reaches 0; go on among the rest. No direction is left
    when at most D + 1 weights are (Carathéodory's theorem)."""
    fixed = torch.ones(len(weights), 1, dtype=weights.dtype)
    if keep_output:
        fixed = torch.cat([fixed, v], 1)
    weights = weights.clone()
    while True:
        alive = (weights > 0).nonzero().squeeze(1)
        basis = torch.linalg.svd(fixed[alive].T)[2][torch.linalg.matrix_rank(fixed[alive]) :]
        if len(basis) == 0:
            return weights
        direction = normal(generator, len(basis)) @ basis
        room = torch.where(direction < 0, -weights[alive] / direction, torch.inf)
        weights[alive] += room.min() * direction
        weights[alive[room.argmin()]] = 0.0
        weights.clamp_(min=0.0)


@experiment()
def other_weights(lab: Lab, params: OtherWeights) -> None:
    """With more keys than the values have dimensions, other attention weights give the very same output."""
    d = params.d_head

    def drawn(n: int) -> tuple[Tensor, Tensor, Tensor]:
        generator = lab.generator(n)
        return normal(generator, 1, 1, 1, d), normal(generator, 1, 1, n, d), normal(generator, 1, 1, n, d)

    def moved(n: int, keep_output: bool) -> tuple[float, float, Tensor, Tensor]:
        """(change of the output, total variation of the weights, old weights, new ones)."""
        q, k, v = drawn(n)
        out, weights = biased(q, k, v, torch.zeros(1, 1, 1, n, dtype=torch.float64))
        other = elsewhere(weights.flatten(), v[0, 0], keep_output, lab.generator(9))
        logits = (other.clamp_min(1e-300).log() - weights.flatten().log()).view(1, 1, 1, n)
        new, told = biased(q, k, v, logits)
        return (
            float((new - out).abs().max()),
            float((told - weights).abs().sum() / 2),
            weights.flatten(),
            told.flatten(),
        )

    lab.claim(
        "output",
        Text("The output stays while the weights move.", "权重变了，输出不变。"),
        measure=lambda keep: moved(params.n_keys, keep)[0],
        arm=True,
        control=False,
        without=Text("a move of the weights that is not chosen in the null space", "权重的变动不取自零空间"),
        holds=below(1e-12),
    )
    _, variation, before, after = moved(params.n_keys, True)
    lab.number("variation", variation, "total variation")
    lab.number("support", after.gt(1e-12).sum())
    lab.number("directions", params.n_keys - d - 1)
    ranked = before.argsort(descending=True)
    lab.number("top_before", before[ranked[0]])
    lab.number("top_after", after[ranked[0]])
    lab.claim(
        "unique",
        Text(
            "With at most d_v + 1 keys there is no other: the only move that keeps the output is none.",
            "键不多于 d_v + 1 个时没有别的权重：保持输出的变动只有零。",
        ),
        measure=lambda n: moved(n, True)[1],
        arm=params.few_keys,
        control=params.n_keys,
        without=Text("more keys than that", "键更多"),
        holds=below(1e-12),
    )
    lab.figure(
        "weights",
        figures.lines(
            Text("Two sets of weights, one output", "两组权重，同一输出"),
            Text("key, by its weight", "键（按权重排列）"),
            Text("weight", "权重"),
            {"before": [*enumerate(before[ranked].tolist())], "after": [*enumerate(after[ranked].tolist())]},
            {"before": Text("computed", "算出的"), "after": Text("another", "另一组")},
        ),
    )
