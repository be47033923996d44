"""Public texts whose words are tagged: slots of requests, names in Chinese.

`test` is what a figure is reported on: the published test file where it is there, else the published dev file. `dev` is
what settings and weights are chosen by: the published dev file, or where that is reported on, a share of the training
file. A text of dev or test is in no training split, though the published files have some in both.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from qkv.data import sources
from qkv.data.labelled import Tagged
from qkv.data.splits import Split, hundredth
from qkv.errors import UserError

WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Atis:
    """Questions to an airline with slots and an intent (ATIS): 4,478 / 500 / 893; 120 BIO tags, 21 intents.

    The test file has intents and slots that training has not; they are counted as wrong. A question that wants two
    things has an intent of its own, `flight#airfare`."""

    pooled: bool = False
    """Train on the published training and dev files together, as they were before 500 were set apart; dev are then a
    twentieth of these texts, by hash."""

    rows: ClassVar[str] = "tagged"

    def load(self, split: Split) -> list[Tagged]:
        """The utterances of a split, lower-cased and in words as published; intents without their prefix `atis_`."""
        test = _requests("atis", "test")
        if split == "test":
            return test
        train, dev = _requests("atis", "train"), _requests("atis", "dev")
        if self.pooled:
            rows = _without([*train, *dev], test)
            return [row for row in rows if (hundredth(_text(row)) < 5) == (split == "dev")]
        return dev if split == "dev" else _without(train, dev, test)


@dataclass(frozen=True)
class Snips:
    """Requests to an assistant with slots and one of 7 intents (SNIPS): 13,084, 72 BIO tags; test is the published dev
    file (700), and dev are 700 rows of the training file, those whose text has the smallest hash."""

    rows: ClassVar[str] = "tagged"

    def load(self, split: Split) -> list[Tagged]:
        """The utterances of a split, lower-cased and in words as published."""
        test = _requests("snips", "dev")
        if split == "test":
            return test
        rows = _without(_requests("snips", "train"), test)
        chosen = _smallest(rows, 700)
        return [row for row in rows if (_text(row) in chosen) == (split == "dev")]


@dataclass(frozen=True)
class ResumeNer:
    """Sentences of Chinese résumés, a tag a character (BMES), 8 types of name: 3,821 / 463 / 477."""

    rows: ClassVar[str] = "tagged"

    def load(self, split: Split) -> list[Tagged]:
        """The sentences of a split; a word is a character."""
        found = self._read(split)
        return found if split != "train" else _without(found, self._read("dev"), self._read("test"))

    def _read(self, split: str) -> list[Tagged]:
        return list(_columns("resume_ner", f"{split}.char.bmes"))


@dataclass(frozen=True)
class WeiboNer:
    """Chinese micro-blog posts, a tag a character (BIO), names and nominals of 4 types: 1,350; test is the published
    dev file (270), and dev is a tenth of the training file by hash."""

    rows: ClassVar[str] = "tagged"

    def load(self, split: Split) -> list[Tagged]:
        """The posts of a split; a word is a character. The digit after each, its place in a word, is left out."""
        test = self._read("dev")
        if split == "test":
            return test
        rows = _without(self._read("train"), test)
        return [row for row in rows if (hundredth(_text(row)) < 10) == (split == "dev")]

    def _read(self, split: str) -> list[Tagged]:
        return list(_columns("weibo_ner", f"weiboNER_2nd_conll.{split}", first=True))


@dataclass(frozen=True)
class Restaurant8k:
    """What guests say to book a table, 5 slots: the 8,198 rows of the published training file, 80 : 10 : 10 by text."""

    rows: ClassVar[str] = "tagged"

    def load(self, split: Split) -> list[Tagged]:
        """The utterances of a split, words and punctuation apart, tagged in BIO."""
        places = {"train": range(20, 100), "dev": range(10, 20), "test": range(10)}[split]
        rows = json.loads(sources.read("restaurant8k", "train_0.json"))
        found = (_spanned(row["userInput"]["text"], row.get("labels", ())) for row in rows)
        return [row for row in found if hundredth(_text(row)) in places]


def _requests(name: str, split: str) -> list[Tagged]:
    """The rows of a folder with the files seq.in, seq.out and label."""
    words, tags, intents = (
        sources.read(name, f"{split}/{f}").strip().split("\n") for f in ("seq.in", "seq.out", "label")
    )
    found = []
    for number, (text, marks, intent) in enumerate(zip(words, tags, intents, strict=True), 1):
        row = Tagged(tuple(text.split()), tuple(marks.split()), intent.strip().replace("atis_", ""))
        if len(row.words) != len(row.tags):
            raise UserError(
                f"{name}/{split} row {number}: {len(row.words)} words and {len(row.tags)} tags; get it again"
            )
        found.append(row)
    return found


def _columns(name: str, file: str, first: bool = False) -> Iterator[Tagged]:
    """The sentences of a file with a character and its tag a line, and an empty line after each sentence. first: only
    the first character of the first column."""
    for block in re.split(r"\n\s*\n", sources.read(name, file).strip("\n")):
        cells = [line.split() for line in block.split("\n")]
        yield Tagged(tuple(word[0] if first else word for word, _ in cells), tuple(tag for _, tag in cells))


def _spanned(text: str, labels: Iterable[dict]) -> Tagged:
    """A text with character spans in words with tags; a word belongs to the span that it begins in."""
    words = list(WORD.finditer(text))
    tags = ["O"] * len(words)
    for label in labels:
        span = label["valueSpan"]
        inside = [i for i, w in enumerate(words) if span.get("startIndex", 0) <= w.start() < span["endIndex"]]
        for place, i in enumerate(inside):
            tags[i] = f"{'I' if place else 'B'}-{label['slot']}"
    return Tagged(tuple(w.group() for w in words), tuple(tags))


def _text(row: Tagged) -> str:
    return " ".join(row.words)


def _without(rows: list[Tagged], *others: list[Tagged]) -> list[Tagged]:
    """The rows whose text is in none of the others."""
    seen = {_text(row) for other in others for row in other}
    return [row for row in rows if _text(row) not in seen]


def _smallest(rows: list[Tagged], count: int) -> set[str]:
    """The texts of the first `count` rows by the SHA-256 of their text: equal texts are on one side."""
    texts = sorted((hashlib.sha256(text.encode()).hexdigest(), text) for text in map(_text, rows))
    return {text for _, text in texts[:count]}


TaggedCorpora = Atis | Snips | ResumeNer | WeiboNer | Restaurant8k
"""The entries of this file."""
