"""The questions of both lists, and the search over them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import yaml

from qkv import config
from qkv.errors import UserError

ROOT = Path(__file__).parent
Language = Literal["en", "zh"]


@dataclass(frozen=True)
class Question:
    """id: a1 … a101, b1 … b32. en, zh: its title. category, depth: as in questions.yaml. premise: whether the question
    is sound as worded. experiments: names of those that its answer rests on. related: ids."""

    id: str
    en: str
    zh: str
    category: tuple[str, ...]
    depth: Literal["L0", "L1", "L2", "L3", "basic", "advanced"]
    premise: Literal["sound", "partly", "wrong"]
    experiments: tuple[str, ...]
    related: tuple[str, ...]

    @property
    def list(self) -> str:
        """A or B."""
        return self.id[0].upper()

    @property
    def number(self) -> int:
        """Its number in its list."""
        return int(self.id[1:])

    @property
    def label(self) -> str:
        """How it is cited: A69."""
        return self.id.upper()

    @property
    def stem(self) -> str:
        """The name of its answer's files, without language and suffix: a069, b09."""
        return f"{self.id[0]}{self.number:0{3 if self.list == 'A' else 2}d}"

    def title(self, language: str) -> str:
        """The title in `language`."""
        return self.zh if language == "zh" else self.en

    def path(self, language: str) -> Path | None:
        """The file of its answer, or None while there is none."""
        return _files().get(f"{self.stem}.{language}.md")

    @property
    def answered(self) -> bool:
        """Whether it is answered, in both languages."""
        return all(self.path(language) for language in ("en", "zh"))


@cache
def _files() -> dict[str, Path]:
    return {path.name: path for path in ROOT.glob("*/[ab][0-9]*.md")}


@cache
def questions() -> dict[str, Question]:
    """All questions by id, in the order of the lists."""
    path = ROOT / "questions.yaml"
    rows = config.parse(tuple[Question, ...], yaml.safe_load(path.read_text(encoding="utf-8")), path.name)
    return {row.id: row for row in rows}


def find(query: str) -> list[Question]:
    """The questions that `query` means, best first: one for a number (69 and a69: list A; b9: list B), else those
    whose title in either language shares words with it. Raises UserError if there is none."""
    wanted = query.strip().lower()
    if re.fullmatch(r"[ab]?\d+", wanted):
        key = f"{wanted[0] if wanted[0] in 'ab' else 'a'}{int(wanted.lstrip('ab'))}"
        if key not in questions():
            raise UserError(f"there is no question {query!r}: list A has 1 to 101 (69 or a69), list B has b1 to b32")
        return [questions()[key]]
    asked = _words(wanted)
    scores = {q: _overlap(asked, q) for q in questions().values()}
    found = sorted((q for q, score in scores.items() if score > 0), key=lambda q: -scores[q])
    if not found:
        raise UserError(f"no question's title shares a word with {query!r}; give a number (69, b9) or other words")
    return found


def _words(text: str) -> set[str]:
    """Words of Latin letters without a final s or d, and pairs of neighbouring Chinese characters."""
    latin = {word.rstrip("sd") for word in re.findall(r"[a-z0-9]+", text.lower())} - _COMMON - {""}
    chinese = "".join(re.findall(r"[\u4e00-\u9fff]+", text))
    return latin | {chinese[i : i + 2] for i in range(len(chinese) - 1)}


_COMMON = frozenset(
    {"why", "how", "what", "the", "a", "i", "do", "doe", "in", "of", "to", "it", "we", "by", "an", "or", "for"}
)


def _overlap(asked: set[str], question: Question) -> float:
    """The share of the asked words in the title, and a little for how much of the title they are."""
    title = _words(f"{question.en} {question.zh} {' '.join(question.category)}")
    shared = len(asked & title)
    return shared / max(1, len(asked)) + 0.1 * shared / max(1, len(title))
