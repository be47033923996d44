"""Rows of understanding: texts with labels, and words with tags; and files of one's own that hold them.

labelled   columns `text` and `label`, and optionally `second` (the other text of a pair). Several labels of one text
           are a list in JSONL, and stand between `|` in TSV where the task gives several.
tagged     columns `words` and `tags`, each separated by spaces (lists in JSONL), and optionally `intent`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qkv.data import files
from qkv.errors import UserError


@dataclass(frozen=True)
class Labelled:
    """A text, or two, and the labels that are right for it; none: a text to predict for."""

    text: str
    labels: tuple[str, ...] = ()
    second: str | None = None


@dataclass(frozen=True)
class Tagged:
    """Words, a tag for each (none: words to predict for), and what the whole asks for, where that is labelled."""

    words: tuple[str, ...]
    tags: tuple[str, ...] = ()
    intent: str | None = None


def labelled(path: str | Path) -> list[Labelled]:
    """The rows of a file with the columns `text` and `label`. Raises UserError for every mistake in it."""
    found = []
    for number, row in enumerate(files.rows(path, ("text", "label"), ("second",)), 1):
        label, second = row["label"], row.get("second")
        labels = tuple(label) if isinstance(label, list) else (label,)
        if not all(labels):
            raise UserError(f"{path} row {number}: the label is empty; give one")
        found.append(Labelled(str(row["text"]), labels, None if second is None else str(second)))
    return found


def tagged(path: str | Path) -> list[Tagged]:
    """The rows of a file with the columns `words` and `tags`. Raises UserError for every mistake in it."""
    found = []
    for number, row in enumerate(files.rows(path, ("words", "tags"), ("intent",)), 1):
        words, tags = _split(row["words"]), _split(row["tags"])
        if len(words) != len(tags) or not words:
            raise UserError(f"{path} row {number}: {len(words)} words and {len(tags)} tags; give one tag a word")
        found.append(Tagged(words, tags, str(row["intent"]) if "intent" in row else None))
    return found


def _split(cell: str | list[str]) -> tuple[str, ...]:
    return tuple(cell.split() if isinstance(cell, str) else cell)
