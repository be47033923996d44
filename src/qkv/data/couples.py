"""Couples of texts that an encoder reads one by one, as batches: for tasks that compare texts by their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from qkv.data.batch import IGNORE, Batch, pad
from qkv.errors import UserError
from qkv.nn.tokens import Tokens

SIMILARITY = "similarity"


@dataclass(frozen=True)
class Couple:
    """first, second: the tokens of either text as the encoder reads them, specials included. similarity: how alike
    they are, from 0 to 1."""

    first: Sequence[int]
    second: Sequence[int]
    similarity: float = 1.0


class Couples:
    """Couples as a BatchSource: a batch of n couples has 2n rows, all first texts and then all second ones in the same
    order, and `extra["similarity"]` [n].

    They are mixed whatever their lengths: with in-batch negatives, texts of like length would tell little apart.
    size: couples a batch. seed: of the order; None: as given, every epoch the same. padding: the id of padding.
    """

    def __init__(self, couples: Sequence[Couple], size: int = 64, seed: int | None = 0, padding: int = 0):
        if not couples:
            raise UserError("there are no pairs of texts to make batches of")
        self.couples, self.size, self.seed, self.padding = couples, size, seed, padding

    def __len__(self) -> int:
        return len(self.couples)

    def plan(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch; a function of (seed, epoch)."""
        rows = np.arange(len(self))
        if self.seed is not None:
            rows = np.random.default_rng((self.seed, epoch)).permutation(rows)
        return [rows[i : i + self.size].tolist() for i in range(0, len(rows), self.size)]

    def load(self, indices: list[int]) -> Batch:
        """The batch of the given couples."""
        chosen = [self.couples[i] for i in indices]
        texts = [couple.first for couple in chosen] + [couple.second for couple in chosen]
        tokens = Tokens.from_lengths([len(text) for text in texts])
        similarity = torch.tensor([couple.similarity for couple in chosen])
        ids = pad(texts, self.padding)
        return Batch(ids, tokens, torch.full_like(ids, IGNORE), rows=list(indices), extra={SIMILARITY: similarity})
