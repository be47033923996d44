"""Irony as a grammar (B29): a cue in the text makes it learnable, and nothing replaces the cue."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated

import torch
from torch import Tensor, nn

from qkv.baselines.naive_bayes import NaiveBayes
from qkv.baselines.recurrent import Recurrent, RecurrentConfig
from qkv.data.batch import Batch
from qkv.lab import figures, small
from qkv.lab.checks import above
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within

N_WORDS, CLASS = 80, 80
"""Words 0-3 praise, 4-7 blame, 8-11 tell of an ordinary event, 12-75 of a mishap; 76-79 say nothing. 80 asks."""


@dataclass(frozen=True)
class Irony:
    """ironic: share of ironic texts. known: of the 64 words for a mishap, so many occur in training. steps:
    updates. rows: texts a batch. tested: texts on which accuracy is measured."""

    ironic: Annotated[float, within(0.05, 0.5)] = 0.3
    known: Annotated[int, within(1, 63)] = 3
    steps: Annotated[int, within(20, 1000)] = 150
    rows: Annotated[int, within(8, 256)] = 64
    tested: Annotated[int, within(100, 20000)] = 1000


@dataclass(frozen=True)
class Source:
    """cued: the event is told; else a word that says nothing stands in its place. mishaps: [first, last) of the words
    that tell of a mishap."""

    cued: bool = True
    mishaps: tuple[int, int] = (12, 15)


def texts(params: Irony, source: Source, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Texts [B,4] and what their writer thinks [B]: the word's polarity (1 praise), turned round where it is ironic.

    An ironic text names a mishap and a literal one an ordinary event; the words stand in any order."""

    def words(least: int, most: int) -> Tensor:
        return torch.randint(least, most, (rows,), generator=generator)

    ironic = torch.rand(rows, generator=generator) < params.ironic
    praise = torch.rand(rows, generator=generator) < 0.5
    opinion = torch.where(praise, words(0, 4), words(4, 8))
    event = torch.where(ironic, words(*source.mishaps), words(8, 12)) if source.cued else words(76, 80)
    ids = torch.stack([opinion, event, *(words(76, 80) for _ in range(2))], 1)
    order = torch.rand(ids.shape, generator=generator).argsort(1)
    return ids.gather(1, order), (praise ^ ironic).long()


@experiment(long=True)
def irony_cue(lab: Lab, params: Irony) -> None:
    """A Transformer learns irony from a cue in the text; without the cue it can do no better than read literally."""
    told = Source(True, (12, 12 + params.known))
    new, untold = Source(True, (12 + params.known, 76)), Source(False)

    def batch(source: Source, rows: int, generator: torch.Generator) -> Batch:
        ids, labels = texts(params, source, rows, generator)
        return small.asking(ids, CLASS, labels)

    def reader(model: nn.Module, source: Source, seed: int) -> nn.Module:
        return lab.train(model, lambda g: batch(source, params.rows, g), params.steps, seed=seed, learning_rate=5e-3)

    @cache
    def transformer(source: Source, seed: int) -> nn.Module:
        return reader(small.encoder(CLASS + 1, d_model=32, n_layers=2), source, seed)

    def accuracy(learned: Source, seed: int, asked: Source | None = None) -> float:
        """Of a Transformer that learned from one source, on texts of the same or of another."""
        return small.accuracy(transformer(learned, seed), batch(asked or learned, params.tested, lab.generator(seed)))

    lab.claim(
        "cue",
        Text("With the cue in the text, irony is recognised.", "线索写在文中时，反话能被识别。"),
        measure=accuracy,
        arm=told,
        control=untold,
        without=Text(
            "texts that do not tell the event: no reader can do better than the literal share",
            "文本不提事件：任何读者都不可能超过“按字面理解”的比例",
        ),
        holds=above(0.95),
        unit="share",
        seeds=3,
    )
    recurrent = reader(Recurrent(RecurrentConfig(CLASS + 1, 32)), told, lab.seed)
    lab.number("lstm", small.accuracy(recurrent, batch(told, params.tested, lab.generator())), "share")
    ids, labels = texts(params, told, params.tested, lab.generator())
    other_ids, other_labels = texts(params, told, params.tested, lab.generator(1))
    bag = NaiveBayes.fit(ids, labels, N_WORDS, 2).accuracy(other_ids, other_labels)
    lab.number("naive_bayes", bag, "share")
    lab.number("literal", 1 - params.ironic, "share")
    unheard = [accuracy(told, seed, new) for seed in lab.seeds()]
    lab.spread("new_words", unheard, "share")
    heard = {"told": accuracy(told, lab.seed), "new": unheard[0], "untold": accuracy(untold, lab.seed)}
    _figure(lab, heard, bag)


def _figure(lab: Lab, heard: dict[str, float], bag: float) -> None:
    """What each reader makes of the same texts."""
    lab.figure(
        "accuracy",
        figures.bars(
            Text("What the writer thinks, recognised", "识别出作者真实态度的比例"),
            Text("accuracy", "准确率"),
            {
                "cue": heard["told"],
                "new": heard["new"],
                "none": heard["untold"],
                "bag": bag,
            },
            {
                "cue": Text("cue", "有线索"),
                "new": Text("new word as cue", "线索是生词"),
                "none": Text("no cue", "无线索"),
                "bag": Text("cue, naive Bayes", "有线索，朴素贝叶斯"),
            },
        ),
    )
