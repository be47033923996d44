"""What a model and a loss are given at once, and what a training loop asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from qkv.nn.tokens import Tokens
from qkv.text import BOS, EOS, PAD

IGNORE = -100  # a target that no loss counts

Ids = Sequence[int] | np.ndarray


@dataclass
class Batch:
    """Rows of token ids with what is known about them.

    ids [B,T]: the decoder's inputs, or those of the only stack. tokens [B,T]: their positions and fields.
    targets [B,T]: what each position has to predict; IGNORE where nothing is asked.
    source_ids, source_tokens [B,S]: the encoder's side, if there is one.
    rows: the index in the dataset of each row. extra: whatever else a task's loss needs.
    """

    ids: Tensor
    tokens: Tokens
    targets: Tensor
    source_ids: Tensor | None = None
    source_tokens: Tokens | None = None
    rows: list[int] | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device; of `extra`, whatever is a tensor or Tokens moves along."""
        moved = {
            name: value.to(device)
            for name in ("ids", "tokens", "targets", "source_ids", "source_tokens")
            if (value := getattr(self, name)) is not None
        }
        extra = {n: v.to(device) if isinstance(v, Tensor | Tokens) else v for n, v in self.extra.items()}
        return replace(self, **moved, extra=extra)


class BatchSource(Protocol):
    """Where a training loop gets batches from. What it gets depends on (seed, epoch, index) alone, so an interrupted
    run resumes in the middle of an epoch by counting batches."""

    def plan(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch as indices of examples; a deterministic function of (seed, epoch)."""
        ...

    def load(self, indices: list[int]) -> Batch:
        """The batch of the given examples."""
        ...

    def __len__(self) -> int:
        """The number of examples."""
        ...


def pad(rows: Sequence[Ids], value: int = PAD, side: str = "right") -> Tensor:
    """[B,T]: the rows padded to the longest with `value`, on the "right" or the "left".

    >>> pad([[5], [6, 7]], value=0, side="left").tolist()
    [[0, 5], [6, 7]]
    """
    width = max(map(len, rows))
    table = np.full((len(rows), width), value, dtype=np.int64)
    for line, row in zip(table, rows, strict=True):
        line[slice(len(row)) if side == "right" else slice(width - len(row), width)] = row
    return torch.from_numpy(table)


def seq2seq(sources: Sequence[Ids], targets: Sequence[Ids], rows: list[int] | None = None) -> Batch:
    """Source x and target y (no specials) as the encoder reads x EOS, the decoder BOS y, and y EOS is predicted.

    >>> batch = seq2seq([[5, 6]], [[7]])
    >>> batch.source_ids.tolist(), batch.ids.tolist(), batch.targets.tolist()
    ([[5, 6, 2]], [[1, 7]], [[7, 2]])
    """
    encoder, decoder = [[*x, EOS] for x in sources], [[BOS, *y] for y in targets]
    return Batch(
        ids=pad(decoder),
        tokens=Tokens.from_lengths([len(y) for y in decoder]),
        targets=pad([[*y, EOS] for y in targets], IGNORE),
        source_ids=pad(encoder),
        source_tokens=Tokens.from_lengths([len(x) for x in encoder]),
        rows=rows,
    )
