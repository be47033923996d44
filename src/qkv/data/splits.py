"""Splits that need no file: by a hash of the text, so that equal texts are on one side, whoever makes the split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

from qkv.data.labelled import Labelled
from qkv.errors import UserError

Split = Literal["train", "dev", "test"]


class NoSplit(UserError):
    """The dataset has no such split: not a mistake in a file of it."""


def hundredth(text: str) -> int:
    """0 to 99, from the SHA-256 of the text without spaces around it.

    >>> hundredth("attention"), hundredth(" attention ")
    (75, 75)
    """
    return int.from_bytes(hashlib.sha256(text.strip().encode()).digest()[:8], "big") % 100


def cut(rows: Iterable[Labelled], split: Split, dev: int = 10, test: int = 0) -> list[Labelled]:
    """The rows of a split: of a hundred texts `test` are for testing, `dev` for choosing, the others for training."""

    def side(row: Labelled) -> Split:
        number = hundredth(row.text)
        return "test" if number < test else "dev" if number < test + dev else "train"

    return [row for row in rows if side(row) == split]


def held_out(rows: Iterable[Labelled], held: Iterable[Labelled], split: Split) -> list[Labelled]:
    """Splits of a dataset that comes in two parts: `held` is the test, and dev is a tenth of the other, cut by hash.

    A text of `held` is in no other split, though the published files may have it in both.
    """
    held = list(held)
    if split == "test":
        return held
    seen = {row.text.strip() for row in held}
    return cut((row for row in rows if row.text.strip() not in seen), split)
