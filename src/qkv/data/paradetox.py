"""ParaDetox: 10,739 rude sentences with one to three rewrites each that say the same politely (Logacheva et al. 2022).

The file of 591 that was cut off for dev is what we call "test"; a tenth of the other, by a hash of the rude sentence,
is "dev". CC0. The published test set is not part of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from qkv.data import sources
from qkv.data.files import Pair
from qkv.data.labelled import Labelled, Tagged
from qkv.data.splits import Split, hundredth

RUDE, CIVIL = "rude", "civil"


def _read(file: str) -> Iterator[Pair]:
    """Sentence and rewrites; quotation marks are text, not quoting."""
    for line in sources.read("paradetox", file).strip("\n").split("\n")[1:]:
        source, *rewrites = (cell.strip() for cell in line.rstrip("\r").split("\t"))
        if any(rewrites):  # a sentence that nobody has rewritten teaches nothing
            yield Pair(source, tuple(dict.fromkeys(rewrite for rewrite in rewrites if rewrite)))


def pairs(split: Split) -> list[Pair]:
    """The pairs of a split. A sentence of the test is in no other one. Raises UserError when the files are absent."""
    held = list(_read("dev.tsv"))
    if split == "test":
        return held
    seen = {pair.source for pair in held}
    rest = (pair for pair in _read("train.tsv") if pair.source not in seen)
    return [pair for pair in rest if (hundredth(pair.source) < 10) == (split == "dev")]


@dataclass(frozen=True)
class Paradetox:
    """Rude sentence -> civil rewrites."""

    rows: ClassVar[str] = "pairs"

    def load(self, split: Split) -> list[Pair]:
        """The pairs of a split."""
        return pairs(split)


@dataclass(frozen=True)
class ParadetoxStyle:
    """The same sentences with the labels rude and civil: what a judge of style learns from."""

    rows: ClassVar[str] = "labelled"

    def load(self, split: Split) -> list[Labelled]:
        """Every sentence and every rewrite once, with its label."""
        found = pairs(split)
        civil = dict.fromkeys(text for pair in found for text in pair.targets)
        rude = dict.fromkeys(pair.source for pair in found if pair.source not in civil)
        return [*(Labelled(text, (RUDE,)) for text in rude), *(Labelled(text, (CIVIL,)) for text in civil)]


@dataclass(frozen=True)
class ParadetoxCivil:
    """The rewrites alone: what a judge of fluency learns from."""

    rows: ClassVar[str] = "texts"

    def load(self, split: Split) -> list[str]:
        """Every rewrite once."""
        return list(dict.fromkeys(text for pair in pairs(split) for text in pair.targets))


@dataclass(frozen=True)
class ParadetoxSpans:
    """The rude sentences with the words tagged that no rewrite keeps: what people took out or said otherwise, which is
    mostly what was rude. Tags are B-rude, I-rude and O."""

    rows: ClassVar[str] = "tagged"

    def load(self, split: Split) -> list[Tagged]:
        """The sentences of a split, in words between spaces."""
        return [Tagged(tuple(pair.source.split()), lost(pair)) for pair in pairs(split)]


def lost(pair: Pair) -> tuple[str, ...]:
    """The tag of each word of the source.

    >>> lost(Pair("You silly old fool , go !", ("You may go .", "please go")))
    ('O', 'B-rude', 'I-rude', 'I-rude', 'O', 'O', 'O')
    """
    kept = {word for target in pair.targets for word in _letters(target)}
    gone = [bool(word := _letters(part)) and kept.isdisjoint(word) for part in pair.source.split()]
    return tuple(
        "O" if not now else f"I-{RUDE}" if before else f"B-{RUDE}"
        for before, now in zip([False, *gone], gone, strict=False)
    )


def _letters(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
