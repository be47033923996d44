"""Public texts with labels: questions, sentiment, intents, news, sarcasm, offence.

`test` is what a figure is reported on: the file that was published to be held out, if it is there (SST-2's and others'
published dev file, where the test file is not), else a share of the training file. `dev` is what settings and weights
are chosen by: a share of the training file. Shares are cut by a hash of the text (`splits.py`).
"""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from qkv.data import sources
from qkv.data.labelled import Labelled
from qkv.data.splits import Split, cut, held_out

OUT_OF_SCOPE = "oos"


def _lines(name: str, file: str, encoding: str = "utf-8") -> list[str]:
    """The lines of a file that hold something. A byte-order mark is dropped."""
    text = sources.read(name, file, encoding).removeprefix("\ufeff")
    return [line for line in text.replace("\r\n", "\n").split("\n") if line.strip()]


def _table(name: str, file: str) -> Iterator[dict[str, str]]:
    """The rows of a CSV file with a header."""
    return csv.DictReader(io.StringIO(sources.read(name, file).removeprefix("\ufeff"), newline=""))


@dataclass(frozen=True)
class Trec:
    """What a question asks for: 5,452 questions, 6 coarse labels or 50 fine ones; 80 : 10 : 10 by text."""

    labels: Literal["coarse", "fine"] = "coarse"
    """DESC, or DESC:manner."""

    rows: ClassVar[str] = "labelled"

    def load(self, split: Split) -> list[Labelled]:
        """The questions of a split, in tokens as they were published."""
        coarse = self.labels == "coarse"
        pairs = (line.split(" ", 1) for line in _lines("trec", "TREC.train", "latin-1"))
        rows = (Labelled(text, (label.partition(":")[0] if coarse else label,)) for label, text in pairs)
        return cut(rows, split, test=10)


@dataclass(frozen=True)
class Sst2:
    """Sentences from film reviews, positive or negative: 6,920, no phrases; test is the 872 of the dev file."""

    rows: ClassVar[str] = "labelled"

    def load(self, split: Split) -> list[Labelled]:
        """The sentences of a split."""
        return held_out(self._read("train.tsv"), self._read("dev.tsv"), split)

    def _read(self, file: str) -> Iterator[Labelled]:
        for line in _lines("sst2", file):
            text, label = line.split("\t")
            yield Labelled(text, ("positive" if label == "1" else "negative",))


@dataclass(frozen=True)
class Banking77:
    """What a customer of a bank wants: 10,003 questions, 77 intents, unevenly many; 80 : 10 : 10 by text."""

    rows: ClassVar[str] = "labelled"

    def load(self, split: Split) -> list[Labelled]:
        """The questions of a split."""
        rows = (Labelled(" ".join(r["text"].split()), (r["category"],)) for r in _table("banking77", "train.csv"))
        return cut(rows, split, test=10)


@dataclass(frozen=True)
class R8:
    """News of 8 topics (Reuters), 5,485 articles, from 2,840 (earn) to 41 (grain); lower case; 80 : 10 : 10."""

    rows: ClassVar[str] = "labelled"

    def load(self, split: Split) -> list[Labelled]:
        """The articles of a split."""
        pairs = (line.split("\t") for line in _lines("r8", "train.txt"))
        return cut((Labelled(text, (label,)) for label, text in pairs), split, test=10)


@dataclass(frozen=True)
class Chnsenticorp:
    """Chinese reviews of hotels, books and computers, good or bad; 9,600, test is the 1,200 of the dev file.

    353 rows of the training file hold texts of the dev file; they are removed."""

    rows: ClassVar[str] = "labelled"

    def load(self, split: Split) -> list[Labelled]:
        """The reviews of a split."""
        return held_out(self._read("train.tsv"), self._read("dev.tsv"), split)

    def _read(self, file: str) -> Iterator[Labelled]:
        for line in _lines("chnsenticorp", file)[1:]:
            label, text = line.split("\t")
            yield Labelled(text, ("good" if label == "1" else "bad",))


@dataclass(frozen=True)
class AgNews:
    """News of 4 topics, title and first lines: the 7,600 of the published test file, cut 70 : 10 : 20 by text.

    The published training file (120,000) is not there, so figures are not comparable with published ones."""

    rows: ClassVar[str] = "labelled"

    def load(self, split: Split) -> list[Labelled]:
        """The news of a split."""
        names = _lines("ag_news_test", "classes.txt")
        found = csv.reader(io.StringIO(sources.read("ag_news_test", "test.csv"), newline=""))
        rows = (Labelled(f"{title} {text}".replace("\\", " "), (names[int(i) - 1],)) for i, title, text in found)
        return cut(rows, split, test=20)


@dataclass(frozen=True)
class SarcasmHeadlines:
    """Headlines, sarcastic (The Onion) or serious (HuffPost): 25,721; test is the 1,449 of the dev file.

    The label says which of two papers it is from, so style alone gives much of it away."""

    rows: ClassVar[str] = "labelled"

    def load(self, split: Split) -> list[Labelled]:
        """The headlines of a split."""
        return held_out(self._read("train.jsonl"), self._read("dev.jsonl"), split)

    def _read(self, file: str) -> Iterator[Labelled]:
        for line in _lines("sarcasm_headlines", file):
            row = json.loads(line)
            yield Labelled(row["headline"], ("sarcastic" if row["is_sarcastic"] else "serious",))


@dataclass(frozen=True)
class Isarcasm:
    """Tweets that their own authors call sarcastic (867) or not (2,600); 80 : 10 : 10 by text."""

    rows: ClassVar[str] = "labelled"

    def load(self, split: Split) -> list[Labelled]:
        """The tweets of a split."""
        found = [row for row in _table("isarcasm", "train.En.csv") if row["tweet"].strip()]
        rows = (Labelled(row["tweet"], ("sarcastic" if row["sarcastic"] == "1" else "serious",)) for row in found)
        return cut(rows, split, test=10)


@dataclass(frozen=True)
class Davidson:
    """Tweets: hate (1,358 of 23,528), offensive or neither, by majority of annotators; test is the 1,222 of the dev
    file. HTML's escapes (&amp;, &#128514;) are undone."""

    rows: ClassVar[str] = "labelled"

    def load(self, split: Split) -> list[Labelled]:
        """The tweets of a split."""
        return held_out(self._read("train.csv"), self._read("dev.csv"), split)

    def _read(self, file: str) -> Iterator[Labelled]:
        names = ("hate", "offensive", "neither")
        for row in _table("davidson_hate", file):
            yield Labelled(html.unescape(row["tweet"]), (names[int(row["class"])],))


@dataclass(frozen=True)
class Cold:
    """Chinese comments on race, gender and region, offensive or safe: 25,726; test is the 6,431 of the dev file."""

    rows: ClassVar[str] = "labelled"

    def load(self, split: Split) -> list[Labelled]:
        """The comments of a split."""
        return held_out(self._read("train.csv"), self._read("dev.csv"), split)

    def _read(self, file: str) -> Iterator[Labelled]:
        for row in _table("cold", file):
            yield Labelled(row["TEXT"], ("offensive" if row["label"] == "1" else "safe",))


@dataclass(frozen=True)
class Newsgroups20:
    """Postings to 20 newsgroups, by date: 11,314 for training, 7,532 to test. The headers, which name the group, are
    removed; what a posting quotes and its signature stay."""

    rows: ClassVar[str] = "labelled"

    def load(self, split: Split) -> list[Labelled]:
        """The postings of a split."""
        return held_out(self._read("train.jsonl"), self._read("test.jsonl"), split)

    def _read(self, file: str) -> Iterator[Labelled]:
        for line in _lines("newsgroups20", file):
            row = json.loads(line)
            yield Labelled(row["text"].partition("\n\n")[2], (row["label"],))


@dataclass(frozen=True)
class Clinc150:
    """Requests to an assistant, 150 intents: 100 each for training (full), test is the 3,000 published for choosing."""

    variant: Literal["full", "small", "imbalanced", "oos_plus"] = "full"
    """small: 50 requests an intent. imbalanced: 25 to 100. oos_plus: 250 requests out of scope instead of 100."""
    oos: bool = False
    """Requests that are out of scope too, under the label "oos": 100 (or 250) for training and dev, 100 in test."""

    rows: ClassVar[str] = "labelled"

    def load(self, split: Split) -> list[Labelled]:
        """The requests of a split."""
        data = json.loads(sources.read("clinc150", f"data_{self.variant}.json"))

        def rows(name: str) -> list[Labelled]:
            outside = data[f"oos_{name}"] if self.oos else []
            return [Labelled(text, (label,)) for text, label in [*data[name], *outside]]

        return held_out(rows("train"), rows("val"), split)


Corpora = (
    Trec
    | Sst2
    | Banking77
    | R8
    | Chnsenticorp
    | AgNews
    | SarcasmHeadlines
    | Isarcasm
    | Davidson
    | Cold
    | Newsgroups20
    | Clinc150
)
"""The entries of this file."""
