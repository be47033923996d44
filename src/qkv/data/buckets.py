"""Batches of examples of like length under a budget of tokens, so that little of a batch is padding.

An epoch's plan: shuffle, sort by length, cut into runs that fill the budget, shuffle the runs. Sorting is stable, so
examples of equal length stay shuffled and meet others every epoch. With several lengths an example (source and target)
the order is a snake: by the last length, and within one value of it by the first, up and down in turn, so that
neighbours across a step are alike too. On the training words of the pronouncing dictionary 0.8 % of the cells of
4,096-token batches are padding; with batches drawn at random it is nearly half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qkv.errors import UserError

Overlong = Literal["refuse", "truncate"]


@dataclass(frozen=True)
class BucketConfig:
    """How batches are cut."""

    tokens: int = 4096
    """Budget of a batch in cells, padding included: rows x (longest source + longest target)."""
    max_rows: int | None = None
    """At most so many rows, however short; None: as many as the budget allows."""
    max_length: int | None = None
    """At most so many tokens a sequence, EOS included; None: no limit but the budget."""
    overlong: Overlong = "refuse"
    """What happens to a longer one: an error that names it, or its end is cut off (EOS stays)."""

    def __post_init__(self) -> None:
        positive(self, "tokens", "max_rows", "max_length")
        if self.overlong == "truncate" and self.max_length is None:
            raise UserError("overlong: truncate needs a max_length to truncate to; set it")


def positive(config: object, *names: str) -> None:
    """Raise UserError for a field of `config` that is a number below 1."""
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise UserError(f"{name} is {value}; give 1 or more")


class TokenBuckets:
    """Plans over examples of which only the lengths are known.

    lengths: integers [N] or [N,K], K sequences an example, each as long as it stands in the batch, before truncation.
    seed: of the shuffles; None leaves the order alone (longest first, every epoch the same): for evaluation.
    Raises UserError when a sequence is longer than max_length or an example exceeds the budget alone.
    """

    def __init__(self, lengths: Sequence | np.ndarray, config: BucketConfig, seed: int | None = 0):
        if not len(lengths):
            raise UserError("there are no examples to make batches of")
        self.lengths = np.asarray(lengths, dtype=np.int64).reshape(len(lengths), -1)
        if config.overlong == "truncate":
            self.lengths = np.minimum(self.lengths, config.max_length or 0)
        self.config, self.seed = config, seed
        _check(self.lengths, config)

    def __len__(self) -> int:
        return len(self.lengths)

    def plan(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch: every example once. A function of (seed, epoch) alone; their number is the same in
        every epoch, since the sorted lengths are."""
        if self.seed is None:
            return self._cut(self._sorted(np.arange(len(self))))[::-1]
        random = np.random.default_rng((self.seed, epoch))
        batches = self._cut(self._sorted(random.permutation(len(self))))
        return [batches[i] for i in random.permutation(len(batches))]

    def waste(self, plan: list[list[int]]) -> float:
        """The share of padding among all cells of a plan, from 0 to 1."""
        cells = sum(len(batch) * int(self.lengths[batch].max(axis=0).sum()) for batch in plan)
        used = sum(int(self.lengths[batch].sum()) for batch in plan)
        return 1 - used / cells if cells else 0.0

    def _sorted(self, rows: np.ndarray) -> np.ndarray:
        first, last = self.lengths[rows, 0], self.lengths[rows, -1]
        return rows[np.lexsort((np.where(last % 2, first, -first), last))]

    def _cut(self, order: np.ndarray) -> list[list[int]]:
        """Greedily, the longest run that keeps within the budget, again and again."""
        lengths, batches, start = self.lengths[order], [], 0
        while start < len(order):
            # The first example's cells bound the number of rows, since the longest of a run is at least as long.
            most = self.config.tokens // max(1, int(lengths[start].sum()))
            most = min(most, self.config.max_rows or most)
            run = np.maximum.accumulate(lengths[start : start + most], axis=0).sum(axis=1)
            size = int(np.searchsorted(run * np.arange(1, len(run) + 1), self.config.tokens, side="right"))
            batches.append(order[start : start + size].tolist())
            start += size
        return batches


def _check(lengths: np.ndarray, config: BucketConfig) -> None:
    longest, cells = lengths.max(axis=1), lengths.sum(axis=1)
    row = int(longest.argmax())
    if config.max_length is not None and longest[row] > config.max_length:
        raise UserError(
            f"example {row} (from 0) has {longest[row]} tokens, more than max_length {config.max_length}; "
            "shorten it, raise max_length, or set overlong: truncate"
        )
    row = int(cells.argmax())
    if cells[row] > config.tokens:
        raise UserError(
            f"example {row} (from 0) has {cells[row]} tokens, more than the budget of {config.tokens} a batch; "
            "raise tokens, or set max_length with overlong: truncate"
        )
