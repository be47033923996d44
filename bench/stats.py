"""Medians, ratios pair by pair, and the summaries that the targets are stated in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Ratio:
    """How many times as fast one contender is as another: median, smallest and largest over the rounds."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


def ratio(rates: Sequence[float], peer: Sequence[float]) -> Ratio:
    """The ratio of two contenders' rates, formed within each round: what slows the machine in a round slows both.

    Raises:
        ValueError: the two were not measured in the same rounds.
    """
    if len(rates) != len(peer) or not rates:
        raise ValueError(f"{len(rates)} rounds against {len(peer)}: ratios are formed round by round")
    pairs = [mine / its for mine, its in zip(rates, peer, strict=True)]
    return Ratio(median(pairs), min(pairs), max(pairs))


def geometric_mean(values: Sequence[float]) -> float:
    """exp of the mean logarithm; the mean for ratios.

    >>> geometric_mean([2.0, 8.0])
    4.0
    """
    return math.exp(sum(map(math.log, values)) / len(values))


@dataclass(frozen=True)
class Agreement:
    """How far two decoded outputs are equal.

    tokens: the share of equal tokens, position by position. step: the chance that the next token is equal while all
    before it were, estimated as (tokens before the first difference) / (those + rows that differ). One early difference
    changes the rest of a row, so ``step`` says how good the arithmetic is, ``tokens`` how much its user would notice.
    """

    tokens: float
    step: float

    def __str__(self) -> str:
        return f"{self.tokens:.1%} of tokens, {self.step:.1%} a step"


def agreement(output: Sequence[Sequence[int]], reference: Sequence[Sequence[int]]) -> Agreement:
    """Compares row by row; what one output has beyond the other's end counts as different."""
    total = equal = before = differing = 0
    for a, b in zip(output, reference, strict=True):
        same = [x == y for x, y in zip(a, b, strict=False)] + [False] * abs(len(a) - len(b))
        total += len(same)
        equal += sum(same)
        before += same.index(False) if False in same else len(same)
        differing += False in same
    return Agreement(equal / total, before / (before + differing))
