"""Texts that an encoder reads, with what is to be said about them, as batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from qkv.data.batch import IGNORE, Batch, pad
from qkv.data.buckets import BucketConfig, TokenBuckets
from qkv.nn.tokens import Tokens


@dataclass(frozen=True)
class Reading:
    """ids: the tokens as the encoder reads them, specials included. second: where a second text begins (None: there is
    one text). targets: what is asked of each token, IGNORE of none. extra: what is asked of the text, by output. given:
    vectors that are known of the text besides its tokens, by name."""

    ids: Sequence[int]
    second: int | None = None
    targets: Sequence[int] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Sequence[float]] = field(default_factory=dict)


def power_shares(labels: Sequence[Any], power: float) -> np.ndarray:
    """How often each reading comes, if a label that n of them have is to come ∝ n^power: n^(power−1).

    1: as it is. 0: all labels alike, so that what is rare is repeated often. In between lies what multilingual models
    are trained with, 0.3 to 0.7 (Conneau et al. 2020, §3.1).

    >>> power_shares(["a", "a", "a", "a", "b"], power=0.5).tolist()
    [0.5, 0.5, 0.5, 0.5, 1.0]
    """
    counts = Counter(labels)
    return np.array([float(counts[label]) ** (power - 1) for label in labels])


def drawn(shares: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """As many rows as there are, in any order: each comes as often as its share says, rounded down or up by chance.

    Systematic sampling: evenly spaced marks on a line on which every row has a stretch as long as its share. Repetition
    varies by less than one, where independent draws would leave out a third of equal rows."""
    order = random.permutation(len(shares))
    ends = np.cumsum(shares[order])
    marks = (np.arange(len(shares)) + random.random()) * (ends[-1] / len(shares))
    return order[np.minimum(np.searchsorted(ends, marks, side="right"), len(shares) - 1)]


class Readings:
    """Readings as a BatchSource: batches of like length; `batch.extra` holds each output's answers as a tensor [B,...].

    seed: of the order; None: longest first, every epoch the same. padding: the tokenizer's id of padding. shares: how
    often each reading comes, in proportion; None: once an epoch each.
    Raises UserError (see TokenBuckets) for a text that is too long; truncation is the task's, which knows the specials.
    """

    def __init__(
        self,
        readings: Sequence[Reading],
        config: BucketConfig,
        seed: int | None = 0,
        padding: int = 0,
        shares: np.ndarray | None = None,
    ):
        self.readings, self.padding, self.shares = readings, padding, shares
        self.buckets = TokenBuckets([len(r.ids) for r in readings], config, seed)

    def __len__(self) -> int:
        return len(self.readings)

    def plan(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch, as many readings as there are; a function of (seed, epoch)."""
        seed = self.buckets.seed
        if self.shares is None or seed is None:
            return self.buckets.plan(epoch)
        rows = drawn(self.shares, np.random.default_rng((seed, epoch, 1)))
        buckets = TokenBuckets(self.buckets.lengths[rows], self.buckets.config, seed)
        return [rows[batch].tolist() for batch in buckets.plan(epoch)]

    def load(self, indices: list[int]) -> Batch:
        """The batch of the given readings; the field `segment` says which text a token is of. What is `given` of a text
        is a field [B,T,K] of that name, the same at each of its tokens."""
        chosen = [self.readings[i] for i in indices]
        ids = pad([r.ids for r in chosen], self.padding)
        tokens = Tokens.from_lengths([len(r.ids) for r in chosen])
        if any(r.second is not None for r in chosen):
            start = torch.tensor([len(r.ids) if r.second is None else r.second for r in chosen]).unsqueeze(1)
            tokens = Tokens(tokens.pos, {"segment": (torch.arange(ids.shape[1]) >= start).long()})
        for name in chosen[0].given:
            vectors = torch.tensor([list(r.given[name]) for r in chosen])
            tokens = tokens.with_fields(**{name: vectors.unsqueeze(1).expand(-1, ids.shape[1], -1)})
        empty = [[IGNORE] * len(r.ids) if r.targets is None else r.targets for r in chosen]
        extra = {name: torch.tensor([r.extra[name] for r in chosen]) for name in chosen[0].extra}
        return Batch(ids, tokens, pad(empty, IGNORE), rows=list(indices), extra=extra)
