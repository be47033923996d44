"""Datasets of one's own: a file for each split, `data: {train: FILE, dev: FILE, test: FILE}`.

A class for each kind of rows; that of dialogues is in `dialogues.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qkv.data import files, labelled
from qkv.data.files import Pair
from qkv.data.labelled import Labelled, Tagged
from qkv.data.splits import NoSplit, Split


@dataclass(frozen=True)
class OwnFiles:
    """A file for each split; a class below says how their rows are read."""

    train: str
    """File to train on."""
    dev: str
    """File to choose the best weights by."""
    test: str = ""
    """File to evaluate on at the end; may be left out."""

    def file(self, split: Split) -> str:
        """The file of a split. Raises NoSplit where there is none."""
        path: str = getattr(self, split)
        if not path:
            raise NoSplit(f"this dataset has no {split} file; name one: data.{split}=FILE")
        return path


@dataclass(frozen=True)
class PairFiles(OwnFiles):
    """Pairs: .tsv or .jsonl (also .gz) with the columns `source` and `target`."""

    rows: ClassVar[str] = "pairs"

    def load(self, split: Split) -> list[Pair]:
        """The pairs of a split. Raises UserError for every mistake in its file."""
        return files.pairs(self.file(split))


@dataclass(frozen=True)
class TextFiles(OwnFiles):
    """Documents: .txt (the file is one document), or .tsv / .jsonl with the column `text`; also .gz."""

    rows: ClassVar[str] = "texts"

    def load(self, split: Split) -> list[str]:
        """The documents of a split. Raises UserError for every mistake in its file."""
        return files.documents(self.file(split))


@dataclass(frozen=True)
class LabelledFiles(OwnFiles):
    """Labelled texts: .tsv or .jsonl (also .gz), columns `text`, `label` and, for pairs, `second`."""

    rows: ClassVar[str] = "labelled"

    def load(self, split: Split) -> list[Labelled]:
        """The rows of a split. Raises UserError for every mistake in its file."""
        return labelled.labelled(self.file(split))


@dataclass(frozen=True)
class TaggedFiles(OwnFiles):
    """Tagged words: .tsv or .jsonl (also .gz), columns `words`, `tags` and, if labelled, `intent`."""

    rows: ClassVar[str] = "tagged"

    def load(self, split: Split) -> list[Tagged]:
        """The rows of a split. Raises UserError for every mistake in its file."""
        return labelled.tagged(self.file(split))
