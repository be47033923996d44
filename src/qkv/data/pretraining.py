"""Texts as rows to pretrain on: windows of a stream, or pairs of neighbouring segments, and batches of them spoilt.

A window is read as <cls> text <sep>, with another <sep> wherever a document ends inside (Liu et al. 2019,
FULL-SENTENCES); a pair as <cls> first <sep> second <sep>.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from qkv.data.batch import IGNORE, Batch, pad
from qkv.data.buckets import positive
from qkv.data.corruption import generator
from qkv.errors import UserError
from qkv.nn.tokens import PADDING, Tokens
from qkv.text import Tokenizer

PAIR = "pair"
"""The name of what is asked of a pair."""


@dataclass(frozen=True)
class Example:
    """ids [T]: what is read, specials included. free [T]: which of them may be spoilt. second: where the second text
    begins, if there are two. label: what is true of the pair, 0 or 1."""

    ids: np.ndarray
    free: np.ndarray
    second: int | None = None
    label: int | None = None


@dataclass(frozen=True)
class Row:
    """ids, targets [T]: what the model reads and is asked for. fields: further numbers of the tokens, `pos` among them
    where it is not the column. extra: what else the loss needs, [T] or a number."""

    ids: np.ndarray
    targets: np.ndarray
    fields: Mapping[str, np.ndarray] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


class Examples(Protocol):
    """The rows of an epoch before anything is spoilt; `random` draws what of a row is drawn."""

    def __len__(self) -> int: ...
    def example(self, row: int, random: np.random.Generator) -> Example: ...


class StreamExamples:
    """Documents of ids, end to end, cut into windows of `length` tokens; every token is in one.

    begin, end: what a window begins and ends with. between: what stands between documents."""

    def __init__(
        self, documents: Sequence[Sequence[int]], length: int, begin: Sequence[int], end: Sequence[int], between: int
    ):
        self.begin, self.end, self.between = list(begin), list(end), between
        self.room = length - len(self.begin) - len(self.end)
        stream = [token for document in documents if len(document) for token in (*document, between)][:-1]
        if not stream:
            raise UserError("there is no text to learn from; give at least one document that is not empty")
        self.stream = np.array(stream, dtype=np.int64)

    def __len__(self) -> int:
        return -(-len(self.stream) // self.room)

    def example(self, row: int, random: np.random.Generator) -> Example:
        """The window; nothing is drawn."""
        cut = self.stream[row * self.room : (row + 1) * self.room]
        ids = np.concatenate([self.begin, cut, self.end]).astype(np.int64)
        free = ids != self.between
        free[: len(self.begin)] = False
        free[len(ids) - len(self.end) :] = False
        return Example(ids, free)


def sentences(text: str) -> list[str]:
    """The sentences of a text: split at line ends, and after . ! ? and their Chinese forms.

    >>> sentences("One. Two!\\nThree")
    ['One.', 'Two!', 'Three']
    """
    parts = [part for line in text.split("\n") for part in re.split(r"(?<=[.!?])\s+|(?<=[。！？])", line)]
    return [part.strip() for part in parts if part.strip()]


def segments(parts: Sequence[Sequence[int]], room: int) -> list[list[int]]:
    """Sentences of ids, in order, as segments of at most `room` tokens that begin and end with a sentence; one that is
    longer than a segment is cut.

    >>> segments([[1, 2], [3], [4, 5, 6, 7]], room=3)
    [[1, 2, 3], [4, 5, 6]]
    """
    found: list[list[int]] = []
    for part in parts:
        kept = list(part[:room])
        if found and len(found[-1]) + len(kept) <= room:
            found[-1] += kept
        elif kept:
            found.append(kept)
    return found


@dataclass(frozen=True)
class NextSentence:
    """Whether the second segment follows the first (0), or is one of another document (1) (Devlin et al. 2019)."""

    def draw(self, pairs: PairExamples, row: int, random: np.random.Generator) -> tuple[list[int], list[int], int]:
        """First, second, label."""
        document, at = pairs.places[row]
        first, second = pairs.documents[document][at : at + 2]
        if random.random() < 0.5:
            return first, second, 0
        other = (document + 1 + int(random.integers(len(pairs.documents) - 1))) % len(pairs.documents)
        return first, pairs.documents[other][int(random.integers(len(pairs.documents[other])))], 1

    def check(self, documents: int) -> None:
        """Raise UserError where there is no other document."""
        if documents < 2:
            raise UserError(
                f"next_sentence takes half its segments from another document, and there are {documents}; "
                "give a TSV or JSONL file with more texts of two or more sentences, or use sentence_order"
            )


@dataclass(frozen=True)
class SentenceOrder:
    """Whether two neighbouring segments stand in their order (0) or are swapped (1) (Lan et al. 2020)."""

    def draw(self, pairs: PairExamples, row: int, random: np.random.Generator) -> tuple[list[int], list[int], int]:
        """First, second, label."""
        document, at = pairs.places[row]
        first, second = pairs.documents[document][at : at + 2]
        return (first, second, 0) if random.random() < 0.5 else (second, first, 1)

    def check(self, documents: int) -> None:
        """Raise UserError where there is no document at all."""
        if not documents:
            raise UserError(
                "sentence_order needs a text of two sentences or more, and there is none; give longer texts"
            )


class PairExamples:
    """Pairs of neighbouring segments; `kind` draws which of them stand in the row, and in which order.

    texts: each a list of sentences of ids. Raises UserError where there are too few of more than one segment."""

    def __init__(
        self,
        texts: Sequence[Sequence[Sequence[int]]],
        kind: NextSentence | SentenceOrder,
        length: int,
        cls: int,
        sep: int,
    ):
        self.kind, self.cls, self.sep = kind, cls, sep
        cut = [segments(parts, (length - 3) // 2) for parts in texts]
        self.documents = [parts for parts in cut if len(parts) > 1]
        kind.check(len(self.documents))
        self.places = [(d, at) for d, parts in enumerate(self.documents) for at in range(0, len(parts) - 1, 2)]

    def __len__(self) -> int:
        return len(self.places)

    def example(self, row: int, random: np.random.Generator) -> Example:
        """The pair."""
        first, second, label = self.kind.draw(self, row, random)
        ids = np.array([self.cls, *first, self.sep, *second, self.sep], dtype=np.int64)
        free = np.ones(len(ids), dtype=bool)
        free[[0, len(first) + 1, -1]] = False
        return Example(ids, free, len(first) + 2, label)


Corrupt = Callable[[Example, np.random.Generator], Row]


class CorruptedRows:
    """Examples, spoilt, as a BatchSource. Its indices are epoch · n + row, so that what a row reads may depend on both.

    rows: of a batch. seed: of the order and of all that is spoilt; None: in order, of seed 0, every epoch the same.
    dynamic: spoilt anew in every epoch. limit: at most so many rows, evenly spaced. padding: the id of padding.
    """

    def __init__(
        self,
        examples: Examples,
        corrupt: Corrupt,
        rows: int,
        seed: int | None = 0,
        dynamic: bool = True,
        limit: int | None = None,
        padding: int = 0,
    ):
        self.examples, self.corrupt, self.rows, self.seed = examples, corrupt, rows, seed
        self.dynamic, self.padding = dynamic and seed is not None, padding
        positive(self, "rows")
        n = len(examples)
        self.chosen = list(range(n)) if limit is None or limit >= n else [i * n // limit for i in range(limit)]

    def __len__(self) -> int:
        return len(self.chosen)

    def plan(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch; a function of (seed, epoch)."""
        order = self.chosen
        if self.seed is not None:
            order = np.random.default_rng((self.seed, epoch)).permutation(order).tolist()
        order = [epoch * len(self.examples) + row for row in order]
        return [order[i : i + self.rows] for i in range(0, len(order), self.rows)]

    def row(self, index: int) -> Row:
        """A row of an epoch, spoilt."""
        epoch, row = divmod(index, len(self.examples))
        random = generator(self.seed or 0, epoch if self.dynamic else 0, row)
        example = self.examples.example(row, random)
        spoilt = self.corrupt(example, random)
        fields, extra = dict(spoilt.fields), dict(spoilt.extra)
        if example.second is not None:
            pos = fields.get("pos", np.arange(len(spoilt.ids)))
            fields["segment"] = (pos >= example.second).astype(np.int64)
            extra[PAIR] = example.label
        return Row(spoilt.ids, spoilt.targets, fields, extra)

    def load(self, indices: list[int]) -> Batch:
        """The batch of the given rows."""
        return collate([self.row(i) for i in indices], self.padding, indices)


def collate(rows: Sequence[Row], padding: int = 0, numbers: Sequence[int] | None = None) -> Batch:
    """Rows side by side, padded on the right."""
    tokens = Tokens.from_lengths([len(row.ids) for row in rows])
    fields = {name: pad([row.fields[name] for row in rows], 0) for name in rows[0].fields if name != "pos"}
    pos = pad([row.fields["pos"] for row in rows], PADDING) if "pos" in rows[0].fields else tokens.pos
    extra = {
        name: pad([row.extra[name] for row in rows], 0) if isinstance(value, np.ndarray) else _numbers(rows, name)
        for name, value in rows[0].extra.items()
    }
    return Batch(
        ids=pad([row.ids for row in rows], padding),
        tokens=tokens.with_fields(**fields) if pos is tokens.pos else Tokens(pos, fields),
        targets=pad([row.targets for row in rows], IGNORE),
        rows=None if numbers is None else list(numbers),
        extra=extra,
    )


def _numbers(rows: Sequence[Row], name: str) -> torch.Tensor:
    return torch.tensor([row.extra[name] for row in rows])


def split_documents(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[list[int]]]:
    """Texts as sentences of ids."""
    split = [sentences(text) for text in texts]
    ids = iter(tokenizer.encode_batch([sentence for parts in split for sentence in parts]))
    return [[next(ids) for _ in parts] for parts in split]
