"""Which tokens of a text are chosen to be corrupted: tokens, whole words, or spans of words.

All three choose every token with the same probability, the rate, whatever the text. They differ in what is chosen
together: nothing, the pieces of a word, the words of a span.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qkv.text import Tokenizer

NONE = -1  # the group of a token that is not chosen


@dataclass(frozen=True)
class SpanLengths:
    """The geometric distribution p(k) ∝ p·(1-p)^(k-1) over k = 1 … longest (Joshi et al. 2020, SpanBERT, §3.1).

    >>> round(SpanLengths().mean, 2)
    3.8
    """

    p: float = 0.2
    """Chance that a span ends after each of its units."""
    longest: int = 10
    """Units of the longest span."""

    def __post_init__(self) -> None:
        if not 0 < self.p <= 1 or self.longest < 1:
            raise ValueError(f"spans of p {self.p} up to {self.longest}: give 0 < p <= 1 and a longest of 1 or more")

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Of the lengths 1 … longest."""
        weights = self.p * (1 - self.p) ** np.arange(self.longest)
        return weights / weights.sum()

    @property
    def mean(self) -> float:
        """Units of a span on average."""
        return float(self.probabilities @ np.arange(1, self.longest + 1))

    def draw(self, random: np.random.Generator) -> int:
        """The length of a span."""
        return 1 + int(np.searchsorted(self.probabilities.cumsum()[:-1], random.random(), side="right"))

    def rest(self, random: np.random.Generator) -> int:
        """How much is left of the span that covers a unit drawn at random, this unit included: k with the probability
        P(length ≥ k) / mean."""
        reaching = self.probabilities[::-1].cumsum()[::-1] / self.mean
        return 1 + int(np.searchsorted(reaching.cumsum()[:-1], random.random(), side="right"))


def words(ids: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """ids [T] -> the number of each token's word. begins [V]: whether a piece begins a word.

    >>> words(np.array([0, 1, 1, 0]), np.array([True, False])).tolist()
    [0, 0, 0, 1]

    (A text that begins inside a word has this part as its first word.)
    """
    return begins[ids].cumsum() - int(begins[ids[0]]) if len(ids) else np.zeros(0, dtype=np.int64)


def each(units: int, rate: float, random: np.random.Generator) -> np.ndarray:
    """Units chosen independently: the group of each, NONE where it is not chosen. Each is a group of its own."""
    return np.where(random.random(units) < rate, np.arange(units), NONE)


def runs(units: int, rate: float, random: np.random.Generator, lengths: SpanLengths | None = None) -> np.ndarray:
    """Spans of units: the number of each unit's span, NONE outside.

    Spans of geometric length alternate with gaps of geometric length, at least one unit long, of the mean that makes
    the share of spans `rate`; the process is entered where it has run for ever (a unit is then inside with probability
    `rate`, and sees the rest of its span). So each unit is chosen with probability `rate` exactly, and the lengths of
    spans are those of `lengths` exactly. Placing spans at random until a budget is spent, as the paper does, has
    neither in closed form.
    """
    lengths = lengths or SpanLengths()
    leave = rate / (lengths.mean * (1 - rate))  # chance that a gap ends after a unit: 1 / its mean length
    found = np.full(units, NONE, dtype=np.int64)
    at = number = 0
    if random.random() < rate:
        at = lengths.rest(random)
        found[:at] = 0
        number = 1
        at += int(random.geometric(leave))
    else:
        at = int(random.geometric(leave))
    while at < units:
        end = at + lengths.draw(random)
        found[at:end] = number
        number += 1
        at = end + int(random.geometric(leave))
    return found


def piece_begins(tokenizer: Tokenizer) -> np.ndarray:
    """bool [V]: which pieces begin a word. Special tokens do, and so does whatever has neither letter nor digit.

    Word pieces mark what goes on with `##`; others mark what begins, by `▁` or, over bytes, `Ġ`. A tokenizer without
    any marks has words, or characters, as its pieces: each piece is a word.
    """
    pieces = [tokenizer.backend.id_to_token(i) or "" for i in range(tokenizer.vocab_size)]
    special = set(tokenizer.special_ids.values())
    if any(piece.startswith("##") and len(piece) > 2 for piece in pieces):
        begins = [not piece.startswith("##") for piece in pieces]
    elif any(piece.startswith(("▁", "Ġ")) for piece in pieces):
        begins = [piece.startswith(("▁", "Ġ")) or not any(c.isalnum() for c in piece) for piece in pieces]
    else:
        begins = [True] * len(pieces)
    return np.array([begin or i in special for i, begin in enumerate(begins)])
