"""Speculative decoding: a small model proposes, the large one checks in one pass, and the law stays the same (A53)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qkv.lab import figures, small
from qkv.lab.checks import below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import DecoderOnly
from qkv.models.config import HeadConfig
from qkv.nn import Cache, Causal, Full, Mask, Tokens

VOCAB = 12


@dataclass(frozen=True)
class DraftVerification:
    """prefix: tokens that are there. proposed: tokens that the small model proposes at a time."""

    prefix: Annotated[int, within(1, 32)] = 6
    proposed: Annotated[int, within(1, 16)] = 4


def law(p: Tensor, q: Tensor, corrected: bool) -> Tensor:
    """What one round of proposing from q and accepting with min(1, p/q) gives, [B,V]: after a rejection the token is
    drawn anew from the rest max(p-q, 0), or uncorrected from p."""
    accepted = torch.minimum(p, q)
    rest = (p - q).clamp_min(0.0) if corrected else p
    return accepted + (1 - accepted.sum(-1, keepdim=True)) * rest / rest.sum(-1, keepdim=True)


@torch.no_grad()
def states(model: DecoderOnly, ids: Tensor, prefix: int, at_once: bool) -> Tensor:
    """States of the tokens after the prefix, which the cache holds: in one pass, or one token a pass."""
    tokens, cache = Tokens.arange(*ids.shape), Cache()
    model.decode(ids[:, :prefix], tokens[:, :prefix], cache=cache)
    n = ids.shape[1]
    cuts = [slice(prefix, n)] if at_once else [slice(t, t + 1) for t in range(prefix, n)]
    return torch.cat([model.decode(ids[:, cut], tokens[:, cut], cache=cache) for cut in cuts], 1)


@experiment()
def draft_verification(lab: Lab, params: DraftVerification) -> None:
    """Proposals of a small model, checked in one pass and corrected after a rejection, leave the law unchanged."""
    head = HeadConfig(tied=False, scale=1.5)
    large = small.decoder(VOCAB, head, d_model=32, n_layers=3).double().eval()
    little = small.decoder(VOCAB, head, d_model=8, n_layers=1).double().eval()
    ids = torch.randint(VOCAB, (16, params.prefix), generator=lab.generator())
    p, q = (small.logits(model, small.labelled(ids, ids))[:, -1].softmax(-1) for model in (large, little))
    lab.claim(
        "same_law",
        Text(
            "Accept with probability min(1, p/q), else draw from max(p − q, 0): this is the law of the large model.",
            "以 min(1, p/q) 的概率接受，否则从 max(p − q, 0) 重抽：结果服从大模型的分布。",
        ),
        measure=lambda corrected: (law(p, q, corrected) - p).abs().max(),
        arm=True,
        control=False,
        without=Text("after a rejection the token is drawn from p itself", "拒绝后直接从 p 重抽"),
        holds=below(1e-12),
    )
    accepted = float(torch.minimum(p, q).sum(-1).mean())
    lab.number("accepted", accepted)
    lab.number("distance", (p - q).abs().sum(-1).mean() / 2)
    lab.number("tokens_a_pass", (1 - accepted ** (params.proposed + 1)) / (1 - accepted))
    lab.figure(
        "tokens",
        figures.lines(
            Text("Tokens for one pass of the large model", "大模型每次前向得到的词数"),
            Text("tokens proposed", "一次提议的词数"),
            Text("tokens", "词数"),
            {f"{a:.1f}": [(float(k), (1 - a ** (k + 1)) / (1 - a)) for k in range(9)] for a in (0.5, 0.7, 0.9)},
            {f"{a:.1f}": Text(f"accepted {a:.0%}", f"接受率 {a:.0%}") for a in (0.5, 0.7, 0.9)},
        ),
    )
    text = torch.randint(VOCAB, (2, params.prefix + params.proposed), generator=lab.generator(1))

    def apart(mask: Mask) -> Tensor:
        torch.manual_seed(lab.seed)
        model = small.decoder(VOCAB, d_model=16, mask=mask).double().eval()
        once, singly = (states(model, text, params.prefix, at_once) for at_once in (True, False))
        return (once - singly).abs().max()

    lab.claim(
        "one_pass",
        Text(
            "One pass over all proposals gives each the state that a pass of its own would give.",
            "一次前向算完全部提议，各词的状态与逐个前向相同。",
        ),
        measure=apart,
        arm=Causal(),
        control=Full(),
        without=Text("no causal mask: proposals see later proposals", "没有因果掩码：提议能看到后面的提议"),
        holds=below(1e-10),
    )
