"""What a decoder gains from each of its two inputs, beside the mutual information that it could gain (A27, A97)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Literal

import torch
from torch import nn

from qkv import runtime
from qkv.data.batch import IGNORE, Batch
from qkv.lab import figures, small
from qkv.lab.checks import below, close
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import PADDING, Sinusoidal, Tokens

Given = Literal["both", "prefix", "source", "both, other source", "both, other prefix"]


@dataclass(frozen=True)
class Sources:
    """symbols: of source and target. length: of both. copied: p that a target symbol is its source symbol. recalled: p
    that it is the first target symbol, which no source tells; rare, strong: the same two in a language that hardly
    needs its source. steps: updates. rows: of a batch."""

    symbols: Annotated[int, within(3, 16)] = 4
    length: Annotated[int, within(3, 16)] = 4
    copied: Annotated[float, within(0.1, 0.9)] = 0.5
    recalled: Annotated[float, within(0.1, 0.9)] = 0.4
    rare: Annotated[float, within(0.01, 0.2)] = 0.04
    strong: Annotated[float, within(0.5, 0.95)] = 0.9
    steps: Annotated[int, within(50, 1000)] = 220
    rows: Annotated[int, within(16, 256)] = 64


@dataclass(frozen=True)
class Language:
    """p(y_t | y_<t, x) = copied·[y_t = x_t] + recalled·[y_t = y_0] + the rest, spread evenly; y_0 and x are uniform."""

    symbols: int
    copied: float
    recalled: float

    def sample(self, rows: int, length: int, generator: torch.Generator) -> Batch:
        """The batch of source x and target y [B,T]; y_0 is given, the others are asked."""
        shape = (rows, length)
        x, y = (torch.randint(self.symbols, shape, generator=generator) for _ in range(2))
        draw = torch.rand(shape, generator=generator)
        again = torch.where(draw < self.copied + self.recalled, y[:, :1], y)
        y[:, 1:] = torch.where(draw < self.copied, x, again)[:, 1:]
        batch = small.paired(x, y, self.symbols)
        return replace(batch, targets=torch.cat((torch.full_like(y[:, :1], IGNORE), y[:, 1:]), 1))

    def entropy(self, given: Literal["both", "prefix", "source"]) -> float:
        """H(y_t | what is given) in nats: the table p[x_t, y_0, y_t], averaged over what is not given."""
        same = torch.eye(self.symbols, dtype=torch.float64)
        rest = (1 - self.copied - self.recalled) / self.symbols
        table = self.copied * same[:, None] + self.recalled * same[None] + rest
        if given != "both":
            table = table.mean(0 if given == "prefix" else 1)
        return -float((table * table.log()).sum(-1).mean())


def told(batch: Batch, given: Given, begin: int) -> Batch:
    """The batch as a decoder sees it that is given only so much; other: that of the next row, which says nothing."""
    assert batch.source_ids is not None and batch.source_tokens is not None
    if given == "prefix":
        return replace(batch, source_tokens=Tokens(torch.full_like(batch.source_tokens.pos, PADDING)))
    if given == "source":
        return replace(batch, ids=torch.full_like(batch.ids, begin))
    if given == "both, other source":
        return replace(batch, source_ids=batch.source_ids.roll(1, 0))
    return replace(batch, ids=batch.ids.roll(1, 0)) if given == "both, other prefix" else batch


@experiment(long=True)
def two_inputs(lab: Lab, params: Sources) -> None:
    """What the loss falls by when the decoder is given source or prefix is the conditional mutual information."""
    k = params.symbols
    even, strong = Language(k, params.copied, params.recalled), Language(k, params.rare, params.strong)

    @cache
    def trained(language: Language, given: Given, seed: int) -> nn.Module:
        def make(generator: torch.Generator) -> Batch:
            return told(language.sample(params.rows, params.length, generator), given, k)

        runtime.seed_everything(seed)  # the same model, whichever claim asks for it first
        model = small.encoder_decoder(k + 1, n_layers=1, position=Sinusoidal())
        return lab.train(model, make, params.steps, seed=seed, learning_rate=5e-3)

    def loss(language: Language, given: Given, seed: int) -> float:
        """On fresh text. With the input of another row: of the model that was trained on both, at the test only."""
        model = trained(language, "both" if "other" in given else given, seed)
        return small.log_loss(model, told(language.sample(4000, params.length, lab.generator(1)), given, k))

    memory = lab.number("memory_exact", even.entropy("prefix") - even.entropy("both"), "nat")
    prefix = lab.number("prefix_exact", even.entropy("source") - even.entropy("both"), "nat")
    lab.number("strong_exact", strong.entropy("prefix") - strong.entropy("both"), "nat")
    claim_gains(lab, lambda given, seed: loss(even, given, seed), memory, prefix)
    lab.claim(
        "ignored",
        Text(
            "Where the prefix says nearly all, the memory is worth less than 0.15 nat.",
            "前缀几乎决定一切时，编码结果的价值不到 0.15 nat。",
        ),
        measure=lambda language, seed: loss(language, "prefix", seed) - loss(language, "both", seed),
        arm=strong,
        control=even,
        without=Text("a language in which source and prefix matter alike", "换成源序列与前缀同样重要的语言"),
        holds=below(0.15),
        unit="nat",
        seeds=3,
    )
    draw_worth(lab, memory, prefix)


def claim_gains(lab: Lab, loss: Callable[[Given, int], float], memory: float, prefix: float) -> None:
    """The two gains beside the two informations; loss: (what is given, seed) -> nat."""
    lab.claim(
        "memory",
        Text(
            "A memory lowers the loss by I(y_t; x | y_<t), within 0.03 nat.",
            "有了编码结果，损失的下降等于 I(y_t; x | y_<t)，误差在 0.03 nat 以内。",
        ),
        measure=lambda given, seed: loss("prefix", seed) - loss(given, seed),
        arm="both",
        control="both, other source",
        without=Text("at the test, the source of another row", "测试时换成别的样本的源序列"),
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
        measure=lambda given, seed: loss("source", seed) - loss(given, seed),
        arm="both",
        control="both, other prefix",
        without=Text("at the test, the prefix of another row", "测试时换成别的样本的前缀"),
        holds=close(prefix, 0.03),
        unit="nat",
        seeds=3,
    )


def draw_worth(lab: Lab, memory: float, prefix: float) -> None:
    """Exact and measured, as bars; nothing where not all claims were asked for."""
    if len(lab.claims) < 3:
        return
    found = {c.name: sum(c.measured) / len(c.measured) for c in lab.claims if c.measured}
    heights = {"memory": memory, "memory_found": found.get("memory", 0.0)}
    heights |= {"prefix": prefix, "prefix_found": found.get("prefix", 0.0)}
    names = {
        "memory": Text("I(y; x | prefix)", "I(y; x | 前缀)"),
        "memory_found": Text("gain from the memory", "编码结果的增益"),
        "prefix": Text("I(y; prefix | x)", "I(y; 前缀 | x)"),
        "prefix_found": Text("gain from the prefix", "前缀的增益"),
    }
    title = Text("What each input is worth, exact and measured", "两路输入的价值：精确值与测得值")
    lab.figure("worth", figures.bars(title, Text("nat", "nat"), heights, names))
