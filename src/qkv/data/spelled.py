"""Readings whose tokens also carry the characters that they are spelled with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from qkv.data.batch import Batch
from qkv.data.buckets import BucketConfig
from qkv.data.readings import Reading, Readings


class SpelledReadings(Readings):
    """`Readings` with the field `spelling` [B,T,K] of their tokens: the ids of the characters of each, 0 for none.

    spellings: for each reading, for each of its tokens, the characters; None: no such field."""

    def __init__(
        self,
        readings: Sequence[Reading],
        spellings: Sequence[Sequence[Sequence[int]]] | None,
        config: BucketConfig,
        seed: int | None = 0,
        padding: int = 0,
    ):
        super().__init__(readings, config, seed, padding)
        self.spellings = spellings

    def load(self, indices: list[int]) -> Batch:
        """The batch of the given readings."""
        batch = super().load(indices)
        if self.spellings is None:
            return batch
        chosen = [self.spellings[i] for i in indices]
        places = max(1, *(len(word) for row in chosen for word in row))
        table = np.zeros((*batch.ids.shape, places), dtype=np.int64)
        for line, row in zip(table, chosen, strict=True):
            for cell, word in zip(line, row, strict=False):
                cell[: len(word)] = word
        batch.tokens = batch.tokens.with_fields(spelling=torch.from_numpy(table))
        return batch
