"""What a decoder gains from each of its two inputs, beside the mutual information that it could gain (A27, A97)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from qkv.data.batch import Batch
from qkv.lab import small
from qkv.lab.checks import below, close
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import PADDING, Tokens

Given = Literal["both", "prefix", "source", "prefix, other source", "source, other prefix"]


@dataclass(frozen=True)
class Sources:
    """symbols: of source and target. length: of both. copied: p that a target symbol is its source symbol. chained: p
    that it follows from the target symbol before; strong: the same in a language that hardly needs its source, where
    only `rare` is copied. steps: updates. rows: of a batch."""

    symbols: Annotated[int, within(3, 16)] = 8
    length: Annotated[int, within(3, 16)] = 8
    copied: Annotated[float, within(0.1, 0.9)] = 0.5
    chained: Annotated[float, within(0.1, 0.9)] = 0.4
    rare: Annotated[float, within(0.01, 0.2)] = 0.04
    strong: Annotated[float, within(0.5, 0.95)] = 0.9
    steps: Annotated[int, within(50, 1000)] = 250
    rows: Annotated[int, within(16, 256)] = 64


@dataclass(frozen=True)
class Language:
    """p(y_t | y_{t-1}, x_t) = copied·[y_t = x_t] + chained·[y_t = y_{t-1} + 1] + the rest, spread evenly over K."""

    symbols: int
    copied: float
    chained: float

    def sample(self, rows: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Source and target [B,T]; the source is uniform."""
        shape = (rows, length)
        x, y = (torch.randint(self.symbols, shape, generator=generator) for _ in range(2))
        draw = torch.rand(shape, generator=generator)
        for t in range(length):
            y[:, t] = torch.where(draw[:, t] < self.copied, x[:, t], y[:, t])
            if t:
                chain = (draw[:, t] >= self.copied) & (draw[:, t] < self.copied + self.chained)
                y[:, t] = torch.where(chain, (y[:, t - 1] + 1) % self.symbols, y[:, t])
        return x, y

    def loss(self, x: Tensor, y: Tensor, given: Literal["both", "prefix", "source"]) -> float:
        """The mean −log p(y_t | what is given), exact: no model can do better in expectation.

        Given the source alone, p(y_t | x) is a recursion over t, because y_{t-1} is known only through x_{<t}."""
        k, total = self.symbols, 0.0
        copy = F.one_hot(x, k).double() if given != "prefix" else torch.full((*x.shape, k), 1 / k).double()
        before = torch.full((len(x), k), 1 / k).double()
        for t in range(x.shape[1]):
            follow = before.roll(1, -1) if t else torch.full_like(before, 1 / k)
            p = self.copied * copy[:, t] + self.chained * follow + (1 - self.copied - self.chained) / k
            total -= float(p.gather(1, y[:, t : t + 1]).log().mean())
            before = p if given == "source" else F.one_hot(y[:, t], k).double()
        return total / x.shape[1]


def told(batch: Batch, given: Given, begin: int) -> Batch:
    """The batch as a decoder sees it that is given only so much; other: that of the next row, which says nothing."""
    assert batch.source_ids is not None and batch.source_tokens is not None
    if given == "prefix":
        return replace(batch, source_tokens=Tokens(torch.full_like(batch.source_tokens.pos, PADDING)))
    if given == "source":
        return replace(batch, ids=torch.full_like(batch.ids, begin))
    if given == "prefix, other source":
        return replace(batch, source_ids=batch.source_ids.roll(1, 0))
    return replace(batch, ids=batch.ids.roll(1, 0)) if given == "source, other prefix" else batch


@experiment(long=True)
def two_inputs(lab: Lab, params: Sources) -> None:
    """What the loss falls by when the decoder is given source or prefix is the conditional mutual information."""
    k = params.symbols
    languages = {
        "even": Language(k, params.copied, params.chained),
        "strong": Language(k, params.rare, params.strong),
    }
    held_out = {name: each.sample(2000, params.length, lab.generator(1)) for name, each in languages.items()}
    exact = {
        name: {g: each.loss(*held_out[name], g) for g in ("both", "prefix", "source")}
        for name, each in languages.items()
    }

    @cache
    def loss(language: str, given: Given, seed: int) -> float:
        def make(generator: torch.Generator) -> Batch:
            return told(small.paired(*languages[language].sample(params.rows, params.length, generator), k), given, k)

        model = small.encoder_decoder(k + 1, n_layers=1)
        lab.train(model, make, params.steps, seed=seed, learning_rate=5e-3)
        return small.log_loss(model, told(small.paired(*held_out[language], k), given, k))

    memory = lab.number("memory_exact", exact["even"]["prefix"] - exact["even"]["both"], "nat")
    prefix = lab.number("prefix_exact", exact["even"]["source"] - exact["even"]["both"], "nat")
    lab.number("strong_exact", exact["strong"]["prefix"] - exact["strong"]["both"], "nat")
    lab.claim(
        "memory",
        Text(
            "A memory lowers the loss by I(y_t; x | y_<t), within 0.03 nat.",
            "有了编码结果，损失的下降等于 I(y_t; x | y_<t)，误差在 0.03 nat 以内。",
        ),
        measure=lambda given, seed: loss("even", "prefix", seed) - loss("even", given, seed),
        arm="both",
        control="prefix, other source",
        without=Text("the source of another row", "换成别的样本的源序列"),
        holds=close(memory, 0.03),
        unit="nat",
        seeds=3,
    )
    lab.claim(
        "prefix",
        Text(
            "A prefix lowers the loss by I(y_t; y_<t | x), within 0.03 nat.",
            "有了前缀，损失的下降等于 I(y_t; y_<t | x)，误差在 0.03 nat 以内。",
        ),
        measure=lambda given, seed: loss("even", "source", seed) - loss("even", given, seed),
        arm="both",
        control="source, other prefix",
        without=Text("the prefix of another row", "换成别的样本的前缀"),
        holds=close(prefix, 0.03),
        unit="nat",
        seeds=3,
    )
    lab.claim(
        "ignored",
        Text(
            "Where the prefix says nearly all, the memory is worth less than 0.15 nat.",
            "前缀几乎决定一切时，编码结果的价值不到 0.15 nat。",
        ),
        measure=lambda language, seed: loss(language, "prefix", seed) - loss(language, "both", seed),
        arm="strong",
        control="even",
        without=Text("a language in which source and prefix matter alike", "换成源序列与前缀同样重要的语言"),
        holds=below(0.15),
        unit="nat",
        seeds=3,
    )
