"""Which masks understanding needs: never the causal one, where a tag depends on what follows (A33)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch

from qkv.data.batch import IGNORE, Batch
from qkv.lab import small
from qkv.lab.checks import higher
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import Causal, Full, Mask


@dataclass(frozen=True)
class Tagging:
    """words: of the vocabulary. length: of a text. steps: updates."""

    words: Annotated[int, within(4, 32)] = 8
    length: Annotated[int, within(3, 32)] = 10
    steps: Annotated[int, within(20, 500)] = 120


@experiment(long=True)
def tagging_masks(lab: Lab, params: Tagging) -> None:
    """A causal mask halves the accuracy of tags that depend on the next word; at the last position it costs nothing."""

    def tags(generator: torch.Generator) -> Batch:
        """A word's tag: its own parity and that of the next word; the last word has none."""
        ids = torch.randint(params.words, (32, params.length), generator=generator)
        targets = ids % 2 + 2 * (ids.roll(-1, 1) % 2)
        targets[:, -1] = IGNORE
        return small.labelled(ids, targets)

    def accuracy(mask: Mask, seed: int) -> float:
        model = small.encoder(params.words, n_layers=1, mask=mask)
        lab.train(model, tags, params.steps, seed=seed)
        return small.accuracy(model, tags(torch.Generator().manual_seed(10_000)))

    lab.claim(
        "tags",
        Text(
            "Tags that depend on the next word are learned without a causal mask, and not under one.",
            "标签取决于下一个词时，不加因果掩码学得会，加了就学不会。",
        ),
        measure=accuracy,
        arm=Full(),
        control=Causal(),
        without=Text("a causal mask", "加上因果掩码"),
        holds=higher(),
        unit="share",
        seeds=3,
    )

    def whole(read_at: Literal["last", "first"], seed: int) -> float:
        def texts(generator: torch.Generator) -> Batch:
            """A text's label: the parities of its first and its last word, asked at one position."""
            ids = torch.randint(params.words, (32, params.length), generator=generator)
            targets = torch.full_like(ids, IGNORE)
            targets[:, -1 if read_at == "last" else 0] = ids[:, 0] % 2 + 2 * (ids[:, -1] % 2)
            return small.labelled(ids, targets)

        model = small.encoder(params.words, n_layers=1, mask=Causal())
        lab.train(model, texts, params.steps, seed=seed, learning_rate=5e-3)
        test = [texts(torch.Generator().manual_seed(10_000 + i)) for i in range(20)]
        return sum(small.accuracy(model, batch) for batch in test) / len(test)

    lab.claim(
        "last",
        Text(
            "A causal model classifies a whole text when it is read at the last position.",
            "因果模型也能给整篇文本分类，只要在最后一个位置读取。",
        ),
        measure=whole,
        arm="last",
        control="first",
        without=Text("read at the first position, as a leading [CLS] is", "改在第一个位置读取，如放在开头的 [CLS]"),
        holds=higher(),
        unit="share",
        seeds=3,
    )
