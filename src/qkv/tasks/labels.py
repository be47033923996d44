"""The labels that a run gives, and how often it saw each: labels.json."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from qkv.errors import UserError
from qkv.training.checkpoint import replace_file

FILE = "labels.json"


@dataclass(frozen=True)
class LabelSet:
    """names: in the order of their numbers. counts: how often each was seen in training.

    >>> topics = LabelSet.of(["b", "a", "b"])
    >>> topics.names, topics.counts, topics.number("b")
    (('a', 'b'), (1, 2), 1)
    """

    names: tuple[str, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, labels: Iterable[str]) -> LabelSet:
        """The distinct labels in alphabetical order, and their counts."""
        counts = Counter(labels)
        names = tuple(sorted(counts))
        return cls(names, tuple(counts[name] for name in names))

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Name -> number."""
        return {name: number for number, name in enumerate(self.names)}

    def number(self, name: str) -> int:
        """The number of a label. Raises UserError for one that was not there in training."""
        if name not in self.numbers:
            some = ", ".join(self.names[:8]) + (", ..." if len(self.names) > 8 else "")
            raise UserError(f"the label {name!r} was not in the training data; mend it, or train with it ({some})")
        return self.numbers[name]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Labels:
    """The label sets of a run, by the name of the output that gives them; none for a task that writes text."""

    sets: Mapping[str, LabelSet] = field(default_factory=dict)

    def __getitem__(self, output: str) -> LabelSet:
        return self.sets[output]

    @property
    def counts(self) -> dict[str, Sequence[int]]:
        """What `Reader` is built with."""
        return {name: found.counts for name, found in self.sets.items()}

    def save(self, folder: Path) -> None:
        """Write labels.json, whole or not at all."""
        data = {name: dict(zip(found.names, found.counts, strict=True)) for name, found in self.sets.items()}
        text = json.dumps(data, ensure_ascii=False, indent=1) + "\n"
        replace_file(folder / FILE, lambda path: path.write_text(text, encoding="utf-8"))

    @classmethod
    def load(cls, folder: Path) -> Labels:
        """Those of a run folder; none where it has no such file. Raises UserError for a damaged one."""
        path = folder / FILE
        if not path.is_file():
            return cls()
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return cls({name: LabelSet(tuple(found), tuple(map(int, found.values()))) for name, found in data.items()})
        except (ValueError, AttributeError, TypeError) as error:
            raise UserError(f"{path} is damaged ({error}); train again with --fresh") from error
