"""Trained on short texts, read on long ones: what each kind of position does beyond the length it knows (A28, B10)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated

import torch
from torch import Tensor

from qkv.data.batch import Batch
from qkv.data.chains import MarkovChain
from qkv.lab import figures, small
from qkv.lab.checks import below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import DecoderOnly
from qkv.nn import LinearBias, NoPosition, PositionConfig, Rotary, Sinusoidal, Tokens, Window

VOCAB = 8
KINDS: dict[str, PositionConfig] = {
    "alibi": LinearBias(),
    "sinusoidal": Sinusoidal(),
    "rotary": Rotary(),
    "none": NoPosition(),
}


@dataclass(frozen=True)
class LengthTraining:
    """short: length that is trained. long: length that is read. steps: updates. window: keys that are left to the
    model with a linear bias when it is asked how far it looks."""

    short: Annotated[int, within(8, 64)] = 24
    long: Annotated[int, within(16, 256)] = 192
    steps: Annotated[int, within(20, 1000)] = 200
    window: Annotated[int, within(1, 64)] = 12


class Readers:
    """Models of each kind of position, trained on short texts of one source, and what they lose on long ones."""

    def __init__(self, lab: Lab, params: LengthTraining):
        self.lab, self.params = lab, params
        self.chain = MarkovChain.random(VOCAB, 2, torch.Generator().manual_seed(5))
        self.trained, self.curve = cache(self._trained), cache(self._curve)

    def _trained(self, kind: str, seed: int) -> DecoderOnly:
        torch.manual_seed(seed)
        model = small.decoder(VOCAB, n_heads=4, position=KINDS[kind])

        def batch(generator: torch.Generator) -> Batch:
            return small.following(self.chain.sample(16, self.params.short + 1, generator))

        self.lab.train(model, batch, self.params.steps, seed=seed)
        return model

    def _curve(self, kind: str, seed: int, back: int | None = None) -> Tensor:
        """Excess loss over the chain's own, in nats, at each position of long texts."""
        model, rows, length = self.trained(kind, seed), 128, self.params.long
        ids = self.chain.sample(rows, length + 1, torch.Generator().manual_seed(10_000 + seed))
        mask = None if back is None else Window(back=back)
        with torch.no_grad():
            z = model.head(model.decode(ids[:, :-1], Tokens.arange(rows, length), mask=mask))
        found = -z.log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
        return (found + self.chain.log_prob(ids)[:, 1:]).mean(0)

    def inside(self, kind: str, seed: int) -> float:
        """The mean excess in the second half of the trained length."""
        short = self.params.short
        return float(self.curve(kind, seed)[short // 2 : short].mean())

    def far(self, kind: str, seed: int, back: int | None = None) -> float:
        """The mean excess in the last quarter of a long text; back: how many keys before each query are left."""
        return float(self.curve(kind, seed, back)[-self.params.long // 4 :].mean())

    def beyond(self, kind: str, seed: int) -> float:
        """How much more a token costs far out than inside."""
        return self.far(kind, seed) - self.inside(kind, seed)


@experiment(long=True)
def length_training(lab: Lab, params: LengthTraining) -> None:
    """Beyond the trained length some positions fail; a model with a linear bias reads its neighbourhood there."""
    readers = Readers(lab, params)
    lab.claim(
        "local",
        Text(
            "A model with a linear bias loses under 0.05 nat a token when it is left its nearest keys only.",
            "线性偏置的模型只留最近的若干键，每个词的损失增加不到 0.05 nat。",
        ),
        measure=lambda back, seed: readers.far("alibi", seed, back) - readers.far("alibi", seed),
        arm=params.window,
        control=0,
        # One key before the query would not do: with the query's own it is all that a source of order two needs.
        without=Text("the query's own key alone, where the source needs two", "只留查询自己的键，而信源需要两个"),
        holds=below(0.05),
        unit="nat",
        seeds=3,
    )
    # No claim: in some arms the seeds scatter so much that the gap is no three times their range. So all is printed.
    drawn = {kind: [readers.beyond(kind, seed) for seed in lab.seeds()] for kind in KINDS}
    means = {kind: lab.spread(f"beyond_{kind}", found, "nat") for kind, found in drawn.items()}
    widest = max(max(drawn[kind]) - min(drawn[kind]) for kind in ("sinusoidal", "alibi"))
    lab.number("gap_in_ranges", (means["sinusoidal"] - means["alibi"]) / widest, "times")
    lab.number("inside", readers.inside("alibi", lab.seed), "nat")
    draw(lab, readers)


def draw(lab: Lab, readers: Readers) -> None:
    """Excess loss along a long text."""
    length = readers.params.long
    smooth = max(1, length // 12)
    curves = {kind: readers.curve(kind, lab.seed) for kind in KINDS}
    starts = range(2, length - smooth + 1, smooth)
    names = {
        "alibi": Text("linear bias (ALiBi)", "线性偏置（ALiBi）"),
        "sinusoidal": Text("sinusoids", "正弦"),
        "rotary": Text("rotary", "旋转"),
        "none": Text("no position", "无位置"),
    }
    title = Text("Excess loss by position", "各位置的超额损失")
    points = {kind: [(float(i), float(c[i : i + smooth].mean())) for i in starts] for kind, c in curves.items()}
    unit = Text("nats above the source's own", "高出信源熵的 nat 数")
    lab.figure("beyond", figures.lines(title, Text("position", "位置"), unit, points, names))
