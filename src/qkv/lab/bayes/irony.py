"""Irony as a grammar (B29): a cue in the text makes it learnable, and nothing replaces the cue."""

from __future__ import annotations

from dataclasses import dataclass
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

N_WORDS, CLASS = 32, 32
"""Words 0-3 praise, 4-7 blame, 8-11 tell of an ordinary event, 12-27 of a mishap; 28-31 say nothing. 32 asks."""


@dataclass(frozen=True)
class Irony:
    """ironic: share of ironic texts. known: of the sixteen words for a mishap, so many occur in training. steps:
    updates. rows: texts a batch. tested: texts on which accuracy is measured."""

    ironic: Annotated[float, within(0.05, 0.5)] = 0.3
    known: Annotated[int, within(1, 15)] = 3
    steps: Annotated[int, within(20, 1000)] = 100
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
    event = torch.where(ironic, words(*source.mishaps), words(8, 12)) if source.cued else words(28, 32)
    ids = torch.stack([opinion, event, *(words(28, 32) for _ in range(2))], 1)
    order = torch.rand(ids.shape, generator=generator).argsort(1)
    return ids.gather(1, order), (praise ^ ironic).long()


@experiment()
def irony_cue(lab: Lab, params: Irony) -> None:
    """A Transformer learns irony from a cue in the text; without the cue it can do no better than read literally."""
    told = Source(True, (12, 12 + params.known))
    new, untold = Source(True, (12 + params.known, 28)), Source(False)
    trained: dict[int, nn.Module] = {}

    def batch(source: Source, rows: int, generator: torch.Generator) -> Batch:
        ids, labels = texts(params, source, rows, generator)
        return small.at_last(torch.cat([ids, torch.full((rows, 1), CLASS)], 1), labels)

    def reader(model: nn.Module, seed: int) -> nn.Module:
        return lab.train(model, lambda g: batch(told, params.rows, g), params.steps, seed=seed, learning_rate=1e-2)

    def accuracy(source: Source, seed: int) -> float:
        if seed not in trained:
            trained[seed] = reader(small.encoder(CLASS + 1, d_model=32, n_layers=1), seed)
        return small.accuracy(trained[seed], batch(source, params.tested, lab.generator(seed)))

    controls = {
        "cue": (
            Text("With the cue in the text, irony is recognised.", "线索写在文中时，反话能被识别。"),
            untold,
            Text(
                "texts that do not tell the event: no reader can do better than the literal share",
                "文本不提事件：任何读者都不可能超过“按字面理解”的比例",
            ),
        ),
        "known_words": (
            Text(
                "It holds for words of mishap that the training has shown.",
                "这只对训练中出现过的“倒霉事”词汇成立。",
            ),
            new,
            Text("words of mishap that the training never shows", "换成训练中从未出现的“倒霉事”词汇"),
        ),
    }
    for name, (text, control, without) in controls.items():
        lab.claim(
            name,
            text,
            measure=accuracy,
            arm=told,
            control=control,
            without=without,
            holds=above(0.95),
            unit="share",
            seeds=3,
        )
    recurrent = reader(Recurrent(RecurrentConfig(CLASS + 1, 32)), lab.seed)
    lab.number("lstm", small.accuracy(recurrent, batch(told, params.tested, lab.generator())), "share")
    ids, labels = texts(params, told, params.tested, lab.generator())
    other_ids, other_labels = texts(params, told, params.tested, lab.generator(1))
    bag = NaiveBayes.fit(ids, labels, N_WORDS, 2).accuracy(other_ids, other_labels)
    lab.number("naive_bayes", bag, "share")
    lab.number("literal", 1 - params.ironic, "share")
    heard = {name: accuracy(source, lab.seed) for name, source in (("told", told), ("new", new), ("untold", untold))}
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
