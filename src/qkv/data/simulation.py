"""Dialogues from a simulator whose truth is known: tables and taxis, answers, corrections, digressions, questions.

The user has something in mind and the system asks for it slot by slot, as `qkv.tasks.dialogue.policy` does. On the way
the user says more than was asked, corrects ("no, Tuesday"; "Tuesday, not Monday"), does not mind, asks for something
or turns to the other topic and comes back. Both topics have a day: whose Tuesday it is only the talk so far can tell.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from qkv.data.dialogues import Dialogue, Turn

ANY = "dontcare"
DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
VALUES = {
    "table/day": DAYS,
    "table/people": ["two", "three", "four", "five", "six", "seven", "eight"],
    "table/food": ["italian", "indian", "thai", "greek", "french", "korean", "turkish"],
    "taxi/place": ["station", "airport", "museum", "cinema", "theatre", "harbour", "castle"],
    "taxi/day": DAYS,
}
PHRASES = {
    "table/day": ("on {}", "for {}", "{} please"),
    "table/people": ("for {} people", "we are {}", "{} of us"),
    "table/food": ("{} food", "something {}", "a {} restaurant"),
    "taxi/place": ("to the {}", "the {} please", "i am going to the {}"),
    "taxi/day": ("on {}", "for {}", "{} please"),
}
OPENINGS = {"table": ("i would like a table", "a table please", "book a table"), "taxi": ("i need a taxi", "a taxi")}
TURNS = {"table": ("i also want a table", "and a table"), "taxi": ("i also need a taxi", "by the way a taxi")}
CORRECTIONS = ("no , {new}", "sorry , {new}", "i meant {new}", "{new} , not {old}", "not {old} but {new}")
MINDLESS = ("i do not mind", "any will do", "that does not matter")
REQUESTS = ("address", "phone")


@dataclass(frozen=True)
class Simulated:
    """Simulated dialogues: no files are needed. dialogues: in the training split; the others have a quarter of it.
    seed: of all that is drawn; every split has a stream of its own."""

    dialogues: int = 400
    seed: int = 0

    rows: ClassVar[str] = "dialogues"

    def load(self, split: Literal["train", "dev", "test"]) -> list[Dialogue]:
        """The dialogues of a split."""
        count = self.dialogues if split == "train" else max(1, self.dialogues // 4)
        return simulated(count, random.Random(f"{split} {self.seed}"))


def simulated(count: int, rng: random.Random) -> list[Dialogue]:
    """So many dialogues."""
    return [Dialogue(tuple(User(rng).talk()), str(number)) for number in range(count)]


@dataclass
class User:
    """One who talks. state: what was said so far. topics: those that are open, the one that is talked of last."""

    rng: random.Random
    state: dict[str, str] = field(default_factory=dict)
    topics: list[str] = field(default_factory=list)

    def talk(self) -> list[Turn]:
        """A whole dialogue."""
        self.topics = [self.rng.choice(("table", "taxi"))]
        first = self.rng.sample(self._slots(), self.rng.choice((0, 1, 1, 2)))
        said = [self.rng.choice(OPENINGS[self.topics[-1]]), *map(self._inform, first)]
        turns = [Turn(" ".join(said), state=dict(self.state))]
        while (missing := self._missing()) is not None and len(turns) < 10:
            system = f"Which {missing.partition('/')[2]}?"
            user, requests = self._answer(missing)
            turns.append(Turn(user, system, ((missing, ""),), dict(self.state), requests))
        return turns

    def _answer(self, asked: str) -> tuple[str, tuple[str, ...]]:
        rng, known = self.rng, [slot for slot in self._slots() if self.state.get(slot, ANY) != ANY]
        kind = rng.choices(("answer", "correct", "digress", "request", "any"), (6, 2.5, 1, 1, 1))[0]
        if kind == "correct" and known:
            return self._correct(rng.choice(known)), ()
        other = "taxi" if self.topics[-1] == "table" else "table"
        if kind == "digress" and other not in self.topics and not any(slot.startswith(other) for slot in self.state):
            self.topics.append(other)
            return f"{rng.choice(TURNS[other])} {self._inform(rng.choice(self._slots()))}", ()
        if kind == "request":
            name = rng.choice(REQUESTS)
            return rng.choice(("what is the {} ?", "can you give me the {} ?")).format(name), (name,)
        if kind == "any":
            self.state[asked] = ANY
            return rng.choice(MINDLESS), ()
        more = [slot for slot in self._slots() if slot not in self.state and slot != asked]
        extra = [self._inform(rng.choice(more))] if more and rng.random() < 0.2 else []
        return " ".join([self._inform(asked), *extra]), ()

    def _inform(self, slot: str) -> str:
        self.state[slot] = self.rng.choice(VALUES[slot])
        return self.rng.choice(PHRASES[slot]).format(self.state[slot])

    def _correct(self, slot: str) -> str:
        old = self.state[slot]
        self.state[slot] = self.rng.choice([value for value in VALUES[slot] if value != old])
        return self.rng.choice(CORRECTIONS).format(new=self.state[slot], old=old)

    def _slots(self) -> list[str]:
        return [slot for slot in VALUES if slot.startswith(self.topics[-1])]

    def _missing(self) -> str | None:
        """The slot that is asked for next; a topic that is complete gives way to the one below."""
        while self.topics:
            found = next((slot for slot in self._slots() if slot not in self.state), None)
            if found is not None:
                return found
            self.topics.pop()
        return None
