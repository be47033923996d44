"""The table of datasets that a recipe chooses from: `data: cmudict` or `data: {multi30k: {target: fr}}`.

Each entry is a frozen dataclass with one method, `load(split)`, and says in `rows` what that gives: pairs of texts for
the tasks that map one text to another, single texts for language modelling. Splits are "train", "dev" and "test".
Further entries stand in files of their own (`corpora.py`, `own.py`, ...), and `recipe.py` joins them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from qkv.data import cmudict, sources
from qkv.data.dialogues import DialogueFiles
from qkv.data.files import Pair
from qkv.data.own import LabelledFiles, PairFiles, TaggedFiles, TextFiles
from qkv.data.splits import NoSplit, Split
from qkv.errors import UserError


@dataclass(frozen=True)
class Cmudict:
    """Spelling -> pronunciation, English; 90 : 5 : 5 by word."""

    stress: bool = False
    """Keep the digits that mark stress (AH0, AH1): 69 phonemes instead of 39."""

    rows: ClassVar[str] = "pairs"

    def load(self, split: Split) -> list[Pair]:
        """One pair a word: the spelling and all listed pronunciations. Raises UserError when it is not installed."""
        return cmudict.pairs(split, stress=self.stress)


@dataclass(frozen=True)
class Multi30k:
    """Image captions, 29,000 / 1,014 / 1,000 pairs; test is 2016's Flickr set."""

    source: Literal["en", "de", "fr"] = "en"
    """The language translated from."""
    target: Literal["en", "de", "fr"] = "de"
    """The language translated to."""

    rows: ClassVar[str] = "pairs"

    def load(self, split: Split) -> list[Pair]:
        """The pairs of a split, in order. Raises UserError when the files are absent or one language is given twice."""
        if self.source == self.target:
            raise UserError(f"multi30k: source and target are both {self.source}; choose two of en, de, fr")
        stem = {"train": "train", "dev": "val", "test": "test_2016_flickr"}[split]
        sides = [sources.read("multi30k", f"{stem}.{side}").strip().split("\n") for side in (self.source, self.target)]
        return [Pair(source.strip(), (target.strip(),)) for source, target in zip(*sides, strict=True)]


@dataclass(frozen=True)
class Tinyshakespeare:
    """One text of 1,115,394 characters: the first 90 % for training, the rest is dev (nanoGPT's split); no test."""

    rows: ClassVar[str] = "texts"

    def load(self, split: Split) -> list[str]:
        """The one document of the split. Raises NoSplit for "test"."""
        if split == "test":
            raise NoSplit("tinyshakespeare has no test split; its published figures are on dev")
        text = sources.read("tinyshakespeare", "input.txt")
        cut = int(0.9 * len(text))
        return [text[:cut] if split == "train" else text[cut:]]


Files = PairFiles | TextFiles | LabelledFiles | TaggedFiles | DialogueFiles
"""The entries for files of one's own, one for each kind of rows."""
