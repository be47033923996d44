"""When what was learned from texts carries over to a task, and when a task is learned by a shortcut (A16)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn

from qkv.data.batch import Batch
from qkv.data.corruption import Masking, Vocabulary
from qkv.lab import small
from qkv.lab.checks import above, higher
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import Choice, EncoderOnlyConfig, Reader
from qkv.models.config import HeadConfig
from qkv.tasks.model import take_over
from qkv.training.objectives import OutputLosses

from .chain import spoilt

LABEL = "label"
ASKED = {LABEL: Choice(pooling="first", dropout=0.0)}


def labelled(ids: Tensor, labels: Tensor) -> Batch:
    """Texts [B,T], each with one label [B]."""
    batch = small.labelled(ids, ids)
    batch.extra[LABEL] = labels
    return batch


def share_right(model: nn.Module, batch: Batch) -> float:
    """Accuracy."""
    with torch.no_grad():
        return float((model(batch.ids, batch.tokens)[LABEL].argmax(-1) == batch.extra[LABEL]).float().mean())


@dataclass(frozen=True)
class Classes:
    """classes: of words that are used alike. words: of each class. taught: words of a class that have a label. steps,
    tuning: updates of pretraining and of the task."""

    classes: Annotated[int, within(4, 8)] = 4
    words: Annotated[int, within(4, 32)] = 24
    taught: Annotated[int, within(1, 8)] = 4
    steps: Annotated[int, within(50, 2000)] = 300
    tuning: Annotated[int, within(10, 500)] = 60


@experiment(long=True)
def unlabelled_words(lab: Lab, params: Classes) -> None:
    """Words that no label was ever seen with are classified by what unlabelled texts say of their use, where they say
    something."""
    n = params.classes * params.words
    known = Vocabulary(n + 1, n, np.arange(n), np.ones(n + 1, dtype=bool))
    stack = small.stack(n + 1, d_model=32, n_layers=2)
    config = EncoderOnlyConfig(stack, HeadConfig(tied=False))

    def texts(rows: int, random: torch.Generator, used_alike: bool = True, words: slice = slice(None)) -> Tensor:
        """A text has words of one class, any of these; without use, any word stands anywhere."""
        if not used_alike:
            return torch.randint(n, (rows, 8), generator=random)
        of = torch.randint(params.classes, (rows, 1), generator=random)
        allowed = torch.arange(params.words)[words]
        return of * params.words + allowed[torch.randint(len(allowed), (rows, 8), generator=random)]

    def asked(rows: int, random: torch.Generator, words: slice) -> Batch:
        """Texts of these words; the label says in which half of the classes theirs is."""
        ids = texts(rows, random, words=words)
        return labelled(ids, (ids[:, 0] // params.words >= params.classes // 2).long())

    def accuracy(pretrained: str, seed: int) -> float:
        torch.manual_seed(seed)
        reader = Reader(config, ASKED, {LABEL: (1, 1)})
        if pretrained != "fresh":
            encoder = small.encoder(n + 1, d_model=32, n_layers=2)

            def make(random: torch.Generator) -> Batch:
                ids = texts(32, random, pretrained == "use")
                return spoilt(ids, Masking(rate=0.25), known, int(torch.randint(2**31, (), generator=random)))

            take_over(reader, lab.train(encoder, make, params.steps, seed=seed))
        taught, other = slice(params.taught), slice(params.taught, None)
        lab.train(
            reader,
            lambda random: asked(16, random, taught),
            params.tuning,
            seed=seed,
            learning_rate=1e-3,
            loss=OutputLosses(ASKED),
        )
        return share_right(reader, asked(2000, lab.generator(9), other))

    lab.claim(
        "unlabelled",
        Text(
            "After pretraining on texts that use a class's words alike, words without a label are classified too.",
            "预训练文本里同类词用法相同，微调时没见过标签的词也分得对。",
        ),
        measure=accuracy,
        arm="use",
        control="noise",
        without=Text(
            "pretrained for as long on texts in which any word stands anywhere", "同样步数，预训练文本里的词随意出现"
        ),
        holds=above(0.9),
        seeds=3,
    )
    lab.number("fresh", sum(accuracy("fresh", seed) for seed in range(3)) / 3)


@dataclass(frozen=True)
class Shortcut:
    """aligned, content: how often the stray token and the word that means something agree with the label in training.
    steps: updates."""

    aligned: Annotated[float, within(0.6, 1)] = 0.95
    content: Annotated[float, within(0.6, 1)] = 0.8
    steps: Annotated[int, within(50, 1000)] = 200


STRAY, MEANT, FILLER, SIZE = 0, 2, 4, 14  # tokens 0, 1; 2, 3; 4 … 13


def reviews(rows: int, aligned: float, content: float, random: torch.Generator) -> Batch:
    """Texts of six: a stray token first, a word that means something at one of the other places, fillers elsewhere."""
    label = torch.randint(2, (rows,), generator=random)

    def agreeing(share: float) -> Tensor:
        return label ^ (torch.rand(rows, generator=random) > share).long()

    ids = torch.randint(FILLER, SIZE, (rows, 6), generator=random)
    place = torch.randint(1, 6, (rows,), generator=random)
    ids[torch.arange(rows), place] = MEANT + agreeing(content)
    ids[:, 0] = STRAY + agreeing(aligned)
    return labelled(ids, label)


@experiment(long=True)
def stray_token(lab: Lab, params: Shortcut) -> None:
    """A token that happens to go with the label is used, and fails when it no longer does; shown both ways in training,
    it is left alone."""
    config = EncoderOnlyConfig(small.stack(SIZE, d_model=16, n_layers=1), HeadConfig(tied=False))
    turned = reviews(4000, 1 - params.aligned, params.content, lab.generator(9))
    usual = reviews(4000, params.aligned, params.content, lab.generator(8))
    readers: dict[tuple[bool, int], nn.Module] = {}

    def reader(both_ways: bool, seed: int) -> nn.Module:
        if (both_ways, seed) not in readers:

            def make(random: torch.Generator) -> Batch:
                batch = reviews(64, params.aligned, params.content, random)
                if not both_ways:
                    return batch
                other = batch.ids.clone()
                other[:, 0] = 1 - other[:, 0]
                return labelled(torch.cat([batch.ids, other]), batch.extra[LABEL].repeat(2))

            model = Reader(config, ASKED_MEAN, {LABEL: (1, 1)})
            readers[both_ways, seed] = lab.train(model, make, params.steps, seed=seed, loss=OutputLosses(ASKED_MEAN))
        return readers[both_ways, seed]

    lab.claim(
        "turned",
        Text(
            "Where the stray token means the opposite, the classifier that saw it both ways is right, the other wrong.",
            "无关词的含义反过来之后，两种情形都见过的分类器仍然对，另一个大多判错。",
        ),
        measure=lambda both_ways, seed: share_right(reader(both_ways, seed), turned),
        arm=True,
        control=False,
        without=Text("trained on the texts as they are", "按原样训练"),
        holds=higher(),
        seeds=3,
    )
    for name, both_ways in (("as_is", False), ("both_ways", True)):
        lab.number(f"usual_{name}", sum(share_right(reader(both_ways, seed), usual) for seed in range(3)) / 3)

    def log_odds(p: float) -> float:
        return math.log(p / (1 - p))

    lab.number("odds_stray", log_odds(min(params.aligned, 1 - 1e-9)))
    lab.number("odds_content", log_odds(min(params.content, 1 - 1e-9)))


ASKED_MEAN = {LABEL: Choice(pooling="mean", dropout=0.0)}
