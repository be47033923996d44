"""The task that several experiments train on: a table in the context, one of whose entries is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qkv.data.batch import Batch
from qkv.lab import small
from qkv.models import DecoderOnly
from qkv.nn import NoPosition


@dataclass(frozen=True)
class Lookup:
    """A row is a shuffled table of tokens (kind, key, value), every kind and key once with a random value; then a
    token that names a key. The answer is that key's value in the table of kind `asked`; the other kinds, with the very
    same keys, are never asked."""

    n_keys: int = 8
    n_values: int = 8
    n_kinds: int = 1
    asked: int = 0

    @property
    def vocab_size(self) -> int:
        return self.n_kinds * self.n_keys * self.n_values + self.n_keys + self.n_values

    def draw(self, rows: int, generator: torch.Generator) -> tuple[Batch, Tensor]:
        """A batch, and at which columns [B, n_kinds] the asked key stands, kind by kind."""
        entries = self.n_kinds * self.n_keys
        values = torch.randint(self.n_values, (rows, entries), generator=generator)
        order = torch.rand(rows, entries, generator=generator).argsort(1)
        table = (torch.arange(entries) * self.n_values + values).gather(1, order)
        key = torch.randint(self.n_keys, (rows, 1), generator=generator)
        wanted = torch.arange(self.n_kinds) * self.n_keys + key
        columns = (order.unsqueeze(1) == wanted.unsqueeze(2)).int().argmax(-1)
        answer = values.gather(1, wanted[:, self.asked, None]).squeeze(1)
        questions = entries * self.n_values
        ids = torch.cat([table, questions + key], 1)
        return small.at_last(ids, questions + self.n_keys + answer), columns

    def batch(self, generator: torch.Generator, rows: int = 32) -> Batch:
        """A batch to train or test on."""
        return self.draw(rows, generator)[0]


def reader(vocab_size: int, d_model: int, d_ff: int | None = 0, **attention: Any) -> DecoderOnly:
    """A model of one layer and one head that knows no positions; `attention`: further fields of AttentionConfig."""
    return small.decoder(
        vocab_size, n_layers=1, n_heads=1, d_model=d_model, d_ff=d_ff, position=NoPosition(), attention=attention
    )
