"""What can stand in for the division by √d_k (B22): the initial weights, a norm on queries and keys, 1/d_k."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from qkv.lab.checks import above, below, close
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import Attention, RMSNorm

from .parts import layer, normal, view, weights


@dataclass(frozen=True)
class Rescaling:
    """d: width of the one head. d_model: of its inputs. length: of a sequence. steps: of Adam. rate: of Adam.
    growth: the factor by which weights grow in the test of the norm."""

    d: Annotated[int, within(2, 512)] = 48
    d_model: Annotated[int, within(2, 256)] = 16
    length: Annotated[int, within(2, 64)] = 12
    steps: Annotated[int, within(1, 200)] = 20
    rate: Annotated[float, within(1e-5, 0.1)] = 1e-3
    growth: Annotated[float, within(2, 100)] = 10.0


def folded(divided: Attention) -> Attention:
    """The same layer with scale 1 and the old scale multiplied into W_Q."""
    twin = copy.deepcopy(divided)
    twin.scale = 1.0
    twin.query.weight.data *= divided.scale
    return twin


def trained(attention: Attention, x: Tensor, target: Tensor, params: Rescaling, query_rate: float) -> Tensor:
    """What the layer says about x after `steps` of Adam on the squared error, W_Q learning at a rate of its own."""
    groups: list[dict[str, Any]] = [
        {"params": [attention.query.weight], "lr": query_rate},
        {"params": [p for name, p in attention.named_parameters() if not name.startswith("query.")]},
    ]
    adam = torch.optim.Adam(groups, lr=params.rate, eps=0.0)
    seen = view(1, params.length, keys=params.length)
    for _ in range(params.steps):
        adam.zero_grad()
        (attention(x, seen, memory=x) - target).square().mean().backward()
        adam.step()
    return attention(x, seen, memory=x).detach()


@experiment()
def scaling_alternatives(lab: Lab, params: Rescaling) -> None:
    """√d_k may be folded into W_Q, replaced by a norm on queries and keys, or by d_k: what each keeps and changes."""
    generator = lab.generator()
    x = normal(generator, 1, params.length, params.d_model)
    target = normal(generator, 1, params.length, params.d_model)
    divided = layer(params.d_model, cross=True, d_head=params.d, bias=False, out_bias=False)
    seen = view(1, params.length, keys=params.length)
    plain = copy.deepcopy(divided)
    plain.scale = 1.0
    lab.claim(
        "fold",
        Text(
            "Folding 1/√d_k into the initial W_Q gives the same function.",
            "把 1/√d_k 折进 W_Q 的初值，得到同一个函数。",
        ),
        measure=lambda other: (other(x, seen, memory=x) - divided(x, seen, memory=x)).abs().max().detach(),
        arm=folded(divided),
        control=plain,
        without=Text("the division dropped and not folded", "去掉除法而不折进权重"),
        holds=below(1e-12),
    )
    reference = trained(copy.deepcopy(divided), x, target, params, params.rate)
    lab.claim(
        "adam",
        Text(
            "After the same steps of Adam the folded layer is a different function: its W_Q learns √d_k times as fast.",
            "同样的 Adam 步数之后，折叠的层成了另一个函数：它的 W_Q 学得快 √d_k 倍。",
        ),
        measure=lambda rate: (trained(folded(divided), x, target, params, rate) - reference).abs().max(),
        arm=params.rate,
        control=params.rate * divided.scale,
        without=Text("W_Q's learning rate divided by √d_k as well", "W_Q 的学习率也除以 √d_k"),
        holds=above(1e-3),
    )
    _norm(lab, params, x)
    _aligned(lab, params)


def _norm(lab: Lab, params: Rescaling, x: Tensor) -> None:
    def change(norm: RMSNorm | None) -> float:
        attention = layer(params.d_model, d_head=params.d, qk_norm=norm, bias=False)
        before = weights(attention, x)
        attention.query_key_value.weight.data[: 2 * params.d] *= params.growth
        return float((weights(attention, x) - before).abs().max())

    lab.claim(
        "norm",
        Text(
            "With a norm on queries and keys, attention weights do not change when W_Q and W_K grow.",
            "对 q、k 做归一化之后，W_Q、W_K 变大不改变注意力权重。",
        ),
        measure=change,
        arm=RMSNorm(eps=1e-15),
        control=None,
        without=Text("no norm: the scores grow with the product of the weights", "不做归一化：分数随权重之积增大"),
        holds=below(1e-10),
    )


def _aligned(lab: Lab, params: Rescaling) -> None:
    aligned = normal(lab.generator(1), 1000, params.d)

    lab.claim(
        "aligned",
        Text(
            "Divided by d_k, the score of a query that equals its key is 1 on average at any width.",
            "除以 d_k 时，与键相同的查询，其分数平均为 1，与宽度无关。",
        ),
        measure=lambda power: (aligned.square().sum(-1) / params.d**power).mean(),
        arm=1.0,
        control=0.5,
        without=Text("divided by √d_k: it is √d_k", "改为除以 √d_k：平均为 √d_k"),
        holds=close(1.0, 0.1),
    )
