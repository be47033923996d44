"""Which independence masked language models assume, and what it costs (A85, A88)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated

import torch
from torch import Tensor, nn

from qkv.data.batch import IGNORE, Batch
from qkv.lab import small
from qkv.lab.checks import above, below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within

from .bigrams import table


@dataclass(frozen=True)
class Masked:
    """n_symbols: a text is one of them, said twice. steps: updates."""

    n_symbols: Annotated[int, within(2, 8)] = 2
    steps: Annotated[int, within(20, 500)] = 120


def corpus(v: int) -> Batch:
    """Every text (a, a) masked in each of three ways; v is the mask. Asked are the masked positions alone."""
    texts = torch.arange(v)[:, None].expand(v, 2).repeat(3, 1)
    hidden = torch.tensor([[1, 1], [1, 0], [0, 1]]).bool().repeat_interleave(v, 0)
    return small.labelled(texts.masked_fill(hidden, v), texts.masked_fill(~hidden, IGNORE))


def conditionals(model: nn.Module, v: int) -> tuple[Tensor, Tensor, Tensor]:
    """p(x₁), p(x₂) with both masked, [2,V]; p(x₁ | x₂) [x₂,x₁]; p(x₂ | x₁) [x₁,x₂]."""

    def said(ids: Tensor) -> Tensor:
        return small.logits(model, small.labelled(ids, ids))[..., :v].double().softmax(-1)

    given, mask = torch.arange(v), torch.full((v,), v)
    both = said(torch.full((1, 2), v))[0]
    return both, said(torch.stack([mask, given], 1))[:, 0], said(torch.stack([given, mask], 1))[:, 1]


def log_odds(p: Tensor) -> Tensor:
    """log p(0,0)p(1,1) / p(0,1)p(1,0) of a table [2,2], of a joint or of either of its conditionals alike."""
    return p[0, 0].log() + p[1, 1].log() - p[0, 1].log() - p[1, 0].log()


@experiment()
def masked_product(lab: Lab, params: Masked) -> None:
    """Masked tokens that are filled at once do not know of each other; filled one after the other they do."""
    v = params.n_symbols

    @cache
    def model(seed: int) -> nn.Module:
        fresh, batch = small.encoder(v + 1, d_model=32, n_layers=1), corpus(v)
        return lab.train(fresh, lambda _: batch, params.steps, seed=seed, learning_rate=1e-2)

    def illegal(at_once: bool, seed: int) -> Tensor:
        both, _, second = conditionals(model(seed), v)
        follows = both[1].expand(v, v) if at_once else second
        return 1 - (both[0] * follows.diagonal()).sum()

    def lone_error(other_seen: bool, seed: int) -> Tensor:
        both, first, _ = conditionals(model(seed), v)
        return 1 - (first.diagonal() if other_seen else both[0]).mean()

    lab.claim(
        "illegal",
        Text(
            "Two equal masked tokens filled at once: about half of the probability goes to pairs that do not exist.",
            "两个必须相同的掩码词同时填：约一半概率落在不存在的词对上。",
        ),
        measure=illegal,
        arm=True,
        control=False,
        without=Text("one token filled first, and the other given it", "先填一个，再在它的条件下填另一个"),
        holds=above(0.4),
        unit="share",
        seeds=3,
    )
    lab.claim(
        "single",
        Text(
            "One masked token is filled right: its conditional is learnt.", "只掩一个词时填得对：单词条件分布学到了。"
        ),
        measure=lone_error,
        arm=True,
        control=False,
        without=Text("the other token hidden as well", "另一个词也掩住"),
        holds=below(0.05),
        unit="share",
        seeds=3,
    )
    both, _, _ = conditionals(model(lab.seed), v)
    lab.number("loss_both", -(both[0].log().mean() + both[1].log().mean()), "nat")
    lab.number("entropy", torch.tensor(float(v)).log(), "nat")
    _compatibility(lab)


def _compatibility(lab: Lab) -> None:
    """Two conditionals belong to one joint distribution only if their odds ratios agree."""

    def gap(kind: str) -> Tensor:
        torch.manual_seed(lab.seed)
        if kind == "masked":
            model = small.encoder(3, d_model=16, n_layers=1).double()
            with torch.no_grad():
                model.head.weight.mul_(3)  # untrained weights hardly prefer anything
            _, first, second = conditionals(model, 2)
            return (log_odds(first) - log_odds(second)).abs()
        decoder = table(2, torch.randn(2, 2, dtype=torch.float64).log_softmax(-1))
        ids = torch.arange(2)[:, None]
        joint = small.logits(decoder, small.labelled(ids, ids))[:, 0].softmax(-1) / 2
        first, second = joint.T / joint.sum(0)[:, None], joint / joint.sum(1, keepdim=True)
        return (log_odds(first) - log_odds(second)).abs()

    lab.claim(
        "incompatible",
        Text(
            "The single-token conditionals of a masked model (untrained) belong to no joint distribution: their odds "
            "ratios differ.",
            "掩码模型（未训练）的两个单词条件分布不属于任何联合分布：优势比不相等。",
        ),
        measure=gap,
        arm="masked",
        control="causal",
        without=Text("a causal model, whose conditionals come from one joint", "因果模型：条件分布出自同一个联合分布"),
        holds=above(0.01),
        unit="nat",
    )
