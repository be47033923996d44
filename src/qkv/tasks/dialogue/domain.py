"""What can be talked of: topics, the slots of each, how they are asked for and what is answered.

A domain is derived from a run's labels, or read from a YAML file:

topics:
  - name: table                       # of the slots table/day, table/people; "" for slots without a topic
    slots: [table/day, table/people]  # in the order in which they are asked for
    required: [table/day]             # default: all
    questions: {table/day: "For which day?"}
    answer: "A table on {day} for {people}."    # slots without their topic; default: the values
    rows:                             # what can be found; slots that a row has must agree
      - {table/day: monday, name: The Anchor, phone: "1234"}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from qkv.errors import UserError

from .state import topic_of

ANY = ("dontcare", "es ist egal", "non importa")
"""Values that agree with all others."""


@dataclass(frozen=True)
class Topic:
    """What a file may say of a topic; see the module."""

    name: str
    slots: tuple[str, ...]
    required: tuple[str, ...]
    questions: Mapping[str, str] = field(default_factory=dict)
    answer: str = ""
    rows: tuple[Mapping[str, str], ...] = ()

    def question(self, slot: str) -> str:
        """How the slot is asked for."""
        return self.questions.get(slot) or f"Which {short(slot)}?"

    def matches(self, values: Mapping[str, str]) -> list[Mapping[str, str]]:
        """The rows that agree with the values."""
        return [row for row in self.rows if all(row.get(s, v) == v or v in ANY for s, v in values.items())]

    def told(self, values: Mapping[str, str]) -> str:
        """The answer once all that is required is known: of the first row that agrees, where there are rows."""
        found = self.matches(values)
        if self.rows and not found:
            return f"There is nothing with {listed(values)}."
        known = {short(name): value for name, value in {**values, **(found[0] if found else {})}.items()}
        try:
            return self.answer.format(**known) if self.answer else f"Noted: {listed(values)}."
        except (KeyError, IndexError, ValueError) as error:
            raise UserError(
                f"domain: the answer of {self.name!r} names {error}, which is not known; mend it"
            ) from error


@dataclass(frozen=True)
class Domain:
    """Topics in order."""

    topics: tuple[Topic, ...]

    def __getitem__(self, name: str) -> Topic:
        return next((topic for topic in self.topics if topic.name == name), Topic(name, (), ()))

    @property
    def slots(self) -> tuple[str, ...]:
        """All slots."""
        return tuple(slot for topic in self.topics for slot in topic.slots)

    @classmethod
    def of_slots(cls, slots: Iterable[str]) -> Domain:
        """Every slot in the topic of its name, all of them required."""
        by_topic: dict[str, list[str]] = {}
        for slot in slots:
            by_topic.setdefault(topic_of(slot), []).append(slot)
        return cls(tuple(Topic(name, tuple(own), tuple(own)) for name, own in by_topic.items()))

    @classmethod
    def read(cls, path: str | Path, slots: Sequence[str]) -> Domain:
        """The domain in a YAML file. Raises UserError for every mistake, slots that the tracker does not know among
        them."""
        try:
            data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UserError(
                f"cannot read the domain {path}: {error}; give a YAML file with a list of topics"
            ) from error
        if not isinstance(data, dict) or not isinstance(data.get("topics"), list):
            raise UserError(f"{path}: no list of topics; see qkv.tasks.dialogue.domain")
        topics = tuple(_topic(entry, str(path)) for entry in data["topics"])
        for topic in topics:
            for slot in topic.slots:
                if slot not in slots:
                    raise UserError(f"{path}: the run tracks no slot {slot!r}; choose of {', '.join(slots)}")
                if topic_of(slot) != topic.name:
                    raise UserError(f"{path}: the slot {slot!r} is not of the topic {topic.name!r}; name it topic/slot")
        return cls(topics)


def short(slot: str) -> str:
    """A slot without its topic, in words."""
    return slot.rpartition("/")[2].replace("_", " ")


def listed(values: Mapping[str, str]) -> str:
    """Slots and values in a line."""
    return ", ".join(f"{short(slot)} {value}" for slot, value in values.items()) or "nothing"


def _topic(data: Any, where: str) -> Topic:
    known = set(Topic.__dataclass_fields__)
    if not isinstance(data, dict) or "slots" not in data or not data.keys() <= known:
        raise UserError(f"{where}: a topic is a mapping with name, slots and of {', '.join(sorted(known))}; mend it")
    slots: Any = data["slots"]
    rows: Any = data.get("rows", [])
    required: Any = data.get("required", slots)
    questions: Any = data.get("questions", {})
    if not (_strings(slots) and _strings(required) and isinstance(questions, dict) and isinstance(rows, list)):
        raise UserError(f"{where}: slots and required are lists, questions a mapping, rows a list of mappings; mend it")
    if any(slot not in slots for slot in (*required, *questions)):
        raise UserError(f"{where}: required and questions name slots of the topic only; mend {data.get('name')!r}")
    if any(not isinstance(row, dict) for row in rows):
        raise UserError(f"{where}: a row is a mapping of names to values; mend {data.get('name')!r}")
    found = tuple({str(name): str(value) for name, value in row.items()} for row in rows)
    name, answer = str(data.get("name") or ""), str(data.get("answer", ""))
    return Topic(name, tuple(slots), tuple(required), questions, answer, found)


def _strings(data: Any) -> bool:
    return isinstance(data, list) and all(isinstance(entry, str) for entry in data)
