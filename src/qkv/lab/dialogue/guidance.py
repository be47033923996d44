"""Decoding guided by a classifier (A79): exact when it knows the future, something else when it reads the prefix."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qkv.lab import small
from qkv.lab.checks import below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within


@dataclass(frozen=True)
class Guidance:
    """symbols, length: of the texts; all of them are enumerated. bad: symbols two of which in a row are not ok. soft:
    p(ok) of a text that is not. power: γ of p(x)·p(ok|x)^γ."""

    symbols: Annotated[int, within(3, 6)] = 4
    length: Annotated[int, within(2, 6)] = 5
    soft: Annotated[float, within(0.001, 0.5)] = 0.02
    power: Annotated[float, within(0.5, 4)] = 1.0


def is_ok(text: tuple[int, ...]) -> bool:
    """Symbol 1 is harmless, symbol 2 is harmless; 1 and somewhere after it 2 are not."""
    return 1 not in text or 2 not in text[text.index(1) :]


@experiment()
def guided_decoding(lab: Lab, params: Guidance) -> None:
    """Weighing each next token by what is to come gives exactly p(x)·p(ok|x)^γ; a classifier of prefixes does not."""
    torch.manual_seed(lab.seed)
    v, n, begin = params.symbols, params.length, params.symbols
    model = small.decoder(v + 1, d_model=16).double().eval()
    texts = list(itertools.product(range(v), repeat=n))
    ids = torch.tensor(texts)
    steps = small.logits(model, small.following(ids, begin))[..., :v].log_softmax(-1)
    logp = steps.gather(-1, ids[..., None])[..., 0].sum(1)
    ok = torch.tensor([1.0 if is_ok(text) else params.soft for text in texts]).double()
    weight = ok**params.power
    target = logp.exp() * weight / (logp.exp() * weight).sum()

    def guide(kind: str, prefix: tuple[int, ...]) -> Tensor:
        """What a prefix is weighed by: the mean of p(ok|x)^γ over its continuations, or the classifier on itself."""
        if kind == "prefix":
            return torch.tensor((1.0 if is_ok(prefix) else params.soft) ** params.power).double()
        inside = torch.tensor([text[: len(prefix)] == prefix for text in texts])
        return (logp.exp() * weight)[inside].sum() / logp.exp()[inside].sum()

    def distribution(kind: str) -> Tensor:
        """The probability of every text if each next symbol is drawn from p(symbol)·guide, normalised: step by step."""
        found = torch.ones(len(texts)).double()
        rows = {text: row for row, text in enumerate(texts)}
        for length in range(n):
            for prefix in itertools.product(range(v), repeat=length):
                inside = [text for text in texts if text[:length] == prefix]
                p = steps[rows[inside[0]], length].exp()
                p = p * torch.stack([guide(kind, (*prefix, symbol)) for symbol in range(v)])
                p = p / p.sum()
                for text in inside:
                    found[rows[text]] *= p[text[length]]
        return found

    made = {kind: distribution(kind) for kind in ("future", "prefix")}
    bad = ok < 1
    lab.number("texts", len(texts))
    lab.number("bad_before", logp.exp()[bad].sum())
    lab.number("bad_wanted", target[bad].sum())
    lab.number("bad_prefix", made["prefix"][bad].sum())
    lab.number("tries", 1 / (logp.exp() * ok).sum())
    lab.claim(
        "exact",
        Text(
            "Step by step, with the expected p(ok|x)^γ of what may follow, every text has its wanted probability.",
            "每一步都乘上“此后 p(ok|x)^γ 的期望”，逐步抽样就让每个文本恰有所要的概率。",
        ),
        measure=lambda kind: (made[kind] - target).abs().max() / target.max(),
        arm="future",
        control="prefix",
        without=Text("the future: the classifier reads the prefix alone", "不看未来：分类器只读前缀"),
        holds=below(1e-12),
    )
