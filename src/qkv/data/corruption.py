"""Texts spoilt for a model to mend, as functions of a random generator that (seed, epoch, row) makes.

A row of an epoch is spoilt in one way only, whenever and wherever it is asked for: a run that resumes, or that shares
its batches among processes, trains on the same. `Masking.dynamic` decides whether the epoch counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from qkv.data import spans
from qkv.data.batch import IGNORE
from qkv.data.spans import NONE, SpanLengths
from qkv.errors import UserError
from qkv.text import Tokenizer

Unit = Literal["token", "word", "span"]


def generator(seed: int, epoch: int, row: int) -> np.random.Generator:
    """The random numbers of one row in one epoch."""
    return np.random.default_rng((seed, epoch, row))


@dataclass(frozen=True)
class Vocabulary:
    """What corruption knows of a tokenizer. size: V. mask: the id of `<mask>`. ordinary: ids that a random token may
    be, all but the special ones. begins [V]: which pieces begin a word."""

    size: int
    mask: int
    ordinary: np.ndarray
    begins: np.ndarray

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Vocabulary:
        """Of a tokenizer with <mask>. Raises UserError for one without."""
        if tokenizer.mask_id is None:
            raise UserError(
                "this tokenizer has no <mask>, so nothing can be masked; let the recipe train one of its own, "
                "or name a file that a masked language model was trained with"
            )
        special = set(tokenizer.special_ids.values())
        ordinary = np.array([i for i in range(tokenizer.vocab_size) if i not in special])
        return cls(tokenizer.vocab_size, tokenizer.mask_id, ordinary, spans.piece_begins(tokenizer))


@dataclass(frozen=True)
class Masking:
    """Which tokens are asked for, and what stands in their place.

    A share `rate` of the tokens is asked for. Of these `masked` become <mask>, `random` become a token drawn uniformly
    from the vocabulary, and the rest stay as they are (Devlin et al. 2019, §3.1); what is chosen together fares alike
    (Joshi et al. 2020).
    """

    unit: Unit = "token"
    """token: each by itself. word: all pieces of a word. span: runs of whole words of geometric length."""
    rate: float = 0.15
    """Share of the tokens that is asked for."""
    masked: float = 0.8
    """Share of these that becomes <mask>."""
    random: float = 0.1
    """Share of these that becomes a random token."""
    dynamic: bool = True
    """New in every epoch (Liu et al. 2019); false: each row is masked once, and alike in all epochs."""
    lengths: SpanLengths = field(default_factory=SpanLengths)
    """Of spans, in words."""

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise ValueError(f"rate is {self.rate}; give a number between 0 and 1")
        if min(self.masked, self.random) < 0 or self.masked + self.random > 1:
            raise ValueError(f"masked {self.masked} and random {self.random} are shares; give two that add up to <= 1")
        most = self.lengths.mean / (1 + self.lengths.mean)
        if self.unit == "span" and self.rate > most:
            raise ValueError(f"rate is {self.rate}, but spans with a gap between them cover {most:.2f} at most")

    def groups(self, ids: np.ndarray, vocabulary: Vocabulary, random: np.random.Generator) -> np.ndarray:
        """ids [T] -> which chosen group each token is of, NONE where it is not asked for."""
        if self.unit == "token":
            return spans.each(len(ids), self.rate, random)
        word = spans.words(ids, vocabulary.begins)
        n = int(word[-1]) + 1 if len(word) else 0
        found = (
            spans.each(n, self.rate, random) if self.unit == "word" else spans.runs(n, self.rate, random, self.lengths)
        )
        return found[word]

    def corrupt(
        self, ids: np.ndarray, vocabulary: Vocabulary, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """ids [T] -> what the model reads and what it is asked for, IGNORE where nothing is asked."""
        group = self.groups(ids, vocabulary, random)
        asked = group != NONE
        fate = random.random(len(ids))[group]  # one number for each group
        drawn = vocabulary.ordinary[random.integers(len(vocabulary.ordinary), size=len(ids))]
        read = np.where(asked & (fate < self.masked), vocabulary.mask, ids)
        read = np.where(asked & (fate >= self.masked) & (fate < self.masked + self.random), drawn, read)
        return read, np.where(asked, ids, IGNORE)


def sentinels(ids: Sequence[int] | np.ndarray, group: np.ndarray, marks: Sequence[int]) -> tuple[list[int], list[int]]:
    """(source, target) of Raffel et al. 2020, §3.1.4: in the source each group is one mark; the target tells, after
    each mark, what it stands for, and ends with the next mark. Groups beyond the last mark but one stay in the text.

    >>> sentinels([5, 6, 7, 8], np.array([-1, 0, 0, -1]), [90, 91])
    ([5, 90, 8], [90, 6, 7, 91])
    """
    mark = dict(zip(dict.fromkeys(group[group != NONE].tolist()), marks[:-1], strict=False))
    source: list[int] = []
    target: list[int] = []
    last = NONE
    for token, of in zip(ids, group.tolist(), strict=True):
        if of not in mark:
            source.append(int(token))
        else:
            if of != last:
                source.append(mark[of])
                target.append(mark[of])
            target.append(int(token))
        last = of
    return source, [*target, marks[len(mark)]]


def fillings(target: Sequence[int], marks: Sequence[int], asked: Sequence[int]) -> list[list[int]]:
    """What a target of `sentinels` tells behind each mark that is asked for; nothing, where it leaves the mark out, and
    the last, where it repeats one.

    >>> fillings([90, 6, 7, 91], [90, 91, 92], asked=[90])
    [[6, 7]]
    """
    known, now = set(marks), NONE
    told: dict[int, list[int]] = {}
    for token in target:
        if token in known:
            now, told[token] = token, []
        elif now != NONE:
            told[now].append(token)
    return [told.get(mark, []) for mark in asked]


def fill_in_the_middle(
    ids: Sequence[int] | np.ndarray, random: np.random.Generator, marks: tuple[int, int, int], suffix_first: float = 0.5
) -> list[int]:
    """A text whose middle stands last, so that a model that reads from left to right fills gaps (Bavarian et al. 2022).

    Cut at two places drawn uniformly, it is written `<pre> prefix <suf> suffix <mid> middle` (PSM) or, with the chance
    `suffix_first`, `<pre> <suf> suffix <mid> prefix middle` (SPM, in the form that trains together with PSM).
    marks: the ids of <pre>, <suf>, <mid>.
    """
    pre, suf, mid = marks
    low, high = cuts(len(ids), random)
    prefix, middle, suffix = ([int(i) for i in part] for part in (ids[:low], ids[low:high], ids[high:]))
    if random.random() < suffix_first:
        return [pre, suf, *suffix, mid, *prefix, *middle]
    return [pre, *prefix, suf, *suffix, mid, *middle]


def cuts(length: int, random: np.random.Generator) -> tuple[int, int]:
    """Two places in a text, in order, each drawn uniformly from its length + 1 places."""
    low, high = sorted(random.integers(length + 1, size=2).tolist())
    return low, high
