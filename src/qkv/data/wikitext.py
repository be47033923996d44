"""WikiText-2: 600 articles of Wikipedia to train on and 60 to choose by (Merity et al. 2017, arXiv:1609.07843).

The published text is tokenised: spaces around every mark, ` @-@ ` for a hyphen inside a word, and `<unk>` for each word
that is rarer than three. Read here as documents, one an article, with those signs undone, unless they are asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from qkv.data import sources
from qkv.data.datasets import NoSplit, Split

_FILES = {"train": "train.txt", "dev": "valid.txt"}
# A title stands between single equals signs in a line of its own; section headings have two or more.
_TITLE = re.compile(r"^ = [^=].*[^=] = $")

UNKNOWN = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Wikitext2:
    """Articles of Wikipedia, 2,088,628 / 217,646 tokens of 33,278 types, no test; CC BY-SA."""

    published: bool = False
    """The lines as they were published, `@-@` and `<unk>` included: for figures that are to be compared with papers.
    Otherwise hyphens and numbers are joined again and an unknown word is one character, U+FFFD, which no text holds by
    chance: a tokenizer has one piece for it, not the three of a spelled-out `<unk>`."""

    rows: ClassVar[str] = "texts"

    def load(self, split: Split) -> list[str]:
        """The articles of a split, in order. Raises NoSplit for "test"."""
        if split == "test":
            raise NoSplit("wikitext2 has no test split here; measure on one of your own: qkv evaluate RUN --data FILE")
        found = articles(sources.read("wikitext2", _FILES[split]))
        return found if self.published else [joined(article) for article in found]


def articles(text: str) -> list[str]:
    """The file cut before every title.

    >>> articles(" \\n = One = \\n \\n Text . \\n \\n = Two = \\n \\n = = Part = = \\n")
    [' = One = \\n \\n Text . \\n \\n', ' = Two = \\n \\n = = Part = = \\n']
    """
    lines = text.splitlines(keepends=True)
    # The second condition spares formulas, which stand inside paragraphs.
    starts = [i for i, line in enumerate(lines) if _TITLE.match(line.rstrip("\n")) and _alone(lines, i)]
    return ["".join(lines[a:b]) for a, b in zip(starts, [*starts[1:], len(lines)], strict=True)]


def _alone(lines: list[str], i: int) -> bool:
    return all(not lines[j].strip() for j in (i - 1, i + 1) if 0 <= j < len(lines))


def joined(text: str) -> str:
    """Without the signs of tokenisation: a line a paragraph, no empty ones.

    >>> joined(" role @-@ playing of 5 @,@ 000 <unk> \\n \\n 0 @.@ 7 \\n")
    'role-playing of 5,000 \\ufffd\\n0.7'
    """
    text = re.sub(r" @([-,.])@ ", r"\1", text).replace("<unk>", UNKNOWN)
    return "\n".join(line.strip() for line in text.split("\n") if line.strip())
