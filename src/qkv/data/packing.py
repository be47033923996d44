"""Many documents in one row, none seeing another: no cell is spent on padding that a document could fill.

Every document starts at position 0 and has its own number in the field `doc`, which a mask compares; its targets are
its own ids, shifted, so nothing is predicted across a boundary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from qkv.data.batch import IGNORE, Batch, Ids
from qkv.data.buckets import Overlong, positive
from qkv.errors import UserError
from qkv.nn.tokens import PADDING, Tokens
from qkv.text import BOS, EOS, PAD


@dataclass(frozen=True)
class PackingConfig:
    """How documents are packed."""

    length: int = 256
    """Cells of a row."""
    rows: int = 16
    """Rows of a batch."""
    method: Literal["best_fit", "streaming"] = "best_fit"
    """Longest first, each into the row with the least room that takes it; or in order, a new row when one is full."""
    overlong: Overlong = "refuse"
    """What happens to a document longer than a row: an error that names it, or its end is cut off (EOS stays)."""

    def __post_init__(self) -> None:
        positive(self, "length", "rows")


def best_fit(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Rows of indices by best-fit decreasing: at most 11/9 of the fewest rows possible, plus 4 (Johnson 1973).

    Rooms are small integers, so the rows that have r cells left are kept in list r, and which lists hold rows is a bit
    set: the best fit for n is the lowest bit at or above n.

    >>> best_fit([2, 5, 3, 4], room=7)
    [[1, 0], [3, 2]]
    """
    rows: list[list[int]] = []
    having: list[list[int]] = [[] for _ in range(room + 1)]
    open_rooms = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fitting = open_rooms >> lengths[index] << lengths[index]
        if fitting:
            left = (fitting & -fitting).bit_length() - 1
            row = having[left].pop()
            if not having[left]:
                open_rooms ^= 1 << left
        else:
            left, row = room, len(rows)
            rows.append([])
        rows[row].append(index)
        left -= lengths[index]
        having[left].append(row)
        open_rooms |= 1 << left
    return rows


def streaming(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Rows of indices in order: a new row begins when the next document does not fit. No order-keeping cut has fewer.

    >>> streaming([2, 5, 3, 4], room=7)
    [[0, 1], [2, 3]]
    """
    rows: list[list[int]] = []
    left = 0
    for index, length in enumerate(lengths):
        if length > left or not rows:
            rows.append([])
            left = room
        rows[-1].append(index)
        left -= length
    return rows


def pack(documents: Sequence[Ids], length: int) -> Batch:
    """A batch [B,length] of documents (ids without specials) packed in order: BOS y is read, y EOS predicted.

    >>> batch = pack([[5, 6], [7]], length=6)
    >>> batch.ids.tolist(), batch.targets.tolist()
    ([[1, 5, 6, 1, 7, 0]], [[5, 6, 2, 7, 2, -100]])
    >>> batch.tokens.pos.tolist(), batch.tokens.fields["doc"].tolist()
    ([[0, 1, 2, 0, 1, -1]], [[0, 0, 0, 1, 1, -1]])
    """
    rows = streaming([len(document) + 1 for document in documents], length)
    table = np.empty((4, len(rows), length), dtype=np.int64)
    table[:] = np.array([PAD, IGNORE, PADDING, PADDING])[:, None, None]
    for line, row in enumerate(rows):
        start = 0
        for number, document in enumerate(documents[i] for i in row):
            end = start + len(document) + 1
            table[0, line, start:end] = [BOS, *document]
            table[1, line, start:end] = [*document, EOS]
            table[2, line, start:end] = np.arange(end - start)
            table[3, line, start:end] = number
            start = end
    ids, targets, pos, doc = torch.from_numpy(table)
    return Batch(ids, Tokens(pos, {"doc": doc}), targets)


class PackedSource:
    """Documents of ids without specials, packed, as a BatchSource whose examples are the documents.

    seed: of the order; None: every epoch the same. Raises UserError for a document longer than a row.
    """

    def __init__(self, documents: Sequence[Ids], config: PackingConfig | None = None, seed: int | None = 0):
        self.config, self.seed = config or PackingConfig(), seed
        most = self.config.length - 1  # BOS or EOS takes one cell
        keep = most if self.config.overlong == "truncate" else None
        self.documents = [document[:keep] for document in documents]
        if not self.documents:
            raise UserError("there are no documents to pack")
        longest = max(range(len(self.documents)), key=lambda i: len(self.documents[i]))
        if len(self.documents[longest]) > most:
            raise UserError(
                f"document {longest} (from 0) has {len(self.documents[longest])} tokens, more than a row of "
                f"{self.config.length} takes; raise length, or set overlong: truncate"
            )

    def __len__(self) -> int:
        return len(self.documents)

    def plan(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch as indices of documents; a function of (seed, epoch)."""
        random = None if self.seed is None else np.random.default_rng((self.seed, epoch))
        order = list(range(len(self))) if random is None else random.permutation(len(self)).tolist()
        method = best_fit if self.config.method == "best_fit" else streaming
        packed = method([len(self.documents[i]) + 1 for i in order], self.config.length)
        if random is not None:
            packed = [packed[i] for i in random.permutation(len(packed))]
        size = self.config.rows
        return [[order[i] for row in packed[at : at + size] for i in row] for at in range(0, len(packed), size)]

    def load(self, indices: list[int]) -> Batch:
        """The batch of the given documents, packed in the given order: never more rows than the plan put them in, since
        packing in order cuts a sequence into the fewest rows; `extra["documents"]` holds the indices."""
        batch = pack([self.documents[i] for i in indices], self.config.length)
        batch.extra["documents"] = list(indices)
        return batch

    def waste(self, epoch: int) -> float:
        """The share of padding in an epoch's batches, from 0 to 1."""
        used = sum(len(document) + 1 for document in self.documents)
        lengths = ([len(self.documents[i]) + 1 for i in batch] for batch in self.plan(epoch))
        return 1 - used / sum(len(streaming(batch, self.config.length)) * self.config.length for batch in lengths)
