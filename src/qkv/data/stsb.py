"""STS-B: pairs of sentences with how alike people find them, from 0 to 5, in English and in Chinese (by machine).

The published dev set is the test set here: it is never tuned on. Our dev set is cut from the published training set by
the SHA-256 of a pair's first sentence, one in ten. Leaks are removed: 252 of the 1,500 published dev pairs (271 in
Chinese) share a sentence with a training pair, so training pairs that hold a sentence of dev or test are left out.
"""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass
from typing import ClassVar, Literal

from qkv.data import sources
from qkv.data.labelled import Labelled

Language = Literal["en", "zh"]


@dataclass(frozen=True)
class Stsb:
    """Pairs of sentences with how alike they are, 0 to 5: 4,707 / 561 / 1,500 in English."""

    language: Language = "en"
    """en, or zh, which was translated by machine."""

    rows: ClassVar[str] = "labelled"

    def load(self, split: Literal["train", "dev", "test"]) -> list[Labelled]:
        """The pairs of a split, in order; the label is the score. Raises UserError when the files are absent."""
        return pairs(self.language, split)


def pairs(language: Language, split: str) -> list[Labelled]:
    """The pairs of a split; see the module."""
    test = _read(language, "dev")
    if split == "test":
        return test
    published = _without(_read(language, "train"), test)
    dev = [row for row in published if _held_out(row.text)]
    return dev if split == "dev" else _without([row for row in published if not _held_out(row.text)], dev)


def _read(language: Language, part: str) -> list[Labelled]:
    text = sources.read("stsb", f"stsb-{language}-{part}.csv")
    return [Labelled(first, (score,), second) for first, second, score in csv.reader(io.StringIO(text, newline=""))]


def _held_out(text: str) -> bool:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 10 == 0


def _without(kept: list[Labelled], others: list[Labelled]) -> list[Labelled]:
    """The rows of which no sentence occurs in the others."""
    seen = {text for row in others for text in (row.text, row.second)}
    return [row for row in kept if row.text not in seen and row.second not in seen]
