"""A source of (source, target) batches, for training and for evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qkv.data.batch import Batch, Ids, seq2seq
from qkv.data.buckets import BucketConfig, TokenBuckets


class PairSource:
    """Examples (x, y) of ids without specials, as a BatchSource: the encoder reads x EOS, the decoder predicts y EOS.

    seed: of the order; None: longest first (what does not fit in memory fails at once), every epoch the same. Results
    then come out of order: put them back by `batch.rows`.
    With `overlong: truncate`, what exceeds max_length - 1 ids of a side is cut off before EOS is put.
    Raises UserError (see TokenBuckets) for an example that is too long.
    """

    def __init__(self, examples: Sequence[tuple[Ids, Ids]], config: BucketConfig | None = None, seed: int | None = 0):
        config = config or BucketConfig()
        keep = config.max_length - 1 if config.max_length and config.overlong == "truncate" else None
        self.examples = [(x[:keep], y[:keep]) for x, y in examples]
        lengths = np.array([(len(x) + 1, len(y) + 1) for x, y in self.examples], dtype=np.int64)
        self.buckets = TokenBuckets(lengths, config, seed)

    def __len__(self) -> int:
        return len(self.examples)

    def plan(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch; a function of (seed, epoch)."""
        return self.buckets.plan(epoch)

    def waste(self, epoch: int) -> float:
        """The share of padding in an epoch's batches, from 0 to 1."""
        return self.buckets.waste(self.plan(epoch))

    def load(self, indices: list[int]) -> Batch:
        """The batch of the given examples; `batch.rows` says which row is which."""
        return seq2seq([self.examples[i][0] for i in indices], [self.examples[i][1] for i in indices], list(indices))
