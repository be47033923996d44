"""What is known in a conversation: frames of slots on a stack, each value with its source. All of it is plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Tracked:
    """What one turn was understood to say. updates: slot -> value and its probability. requests: what is asked."""

    updates: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    requests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Filled:
    """A slot's value, the turn that it comes from, how sure that is, and the values that it replaced, oldest first."""

    value: str
    turn: int
    confidence: float = 1.0
    before: tuple[str, ...] = ()


@dataclass(frozen=True)
class Frame:
    """One topic with its slots. asked: the slot that the system asked for last. answered: whether the topic was brought
    to its end, with the values that it has now."""

    topic: str
    slots: Mapping[str, Filled] = field(default_factory=dict)
    asked: str | None = None
    answered: bool = False

    @property
    def values(self) -> dict[str, str]:
        """slot -> value."""
        return {slot: filled.value for slot, filled in self.slots.items()}


def topic_of(slot: str) -> str:
    """The topic in a slot's name, "" where there is none.

    >>> topic_of("taxi/to"), topic_of("food")
    ('taxi', '')
    """
    return slot.rpartition("/")[0]


@dataclass(frozen=True)
class State:
    """stack: frames, the one that is talked of last. finished: frames that were left behind complete. turn: how many
    there were. Every change gives a new state, and a change of one frame leaves the others as they are.

    >>> state = State().filled("hotel/day", "monday").filled("taxi/to", "station")  # a digression is pushed,
    >>> state.top.topic, state.popped().top.values                                  # and popped, slots intact
    ('taxi', {'hotel/day': 'monday'})
    >>> state.filled("hotel/day", "tuesday").top.slots["hotel/day"].before          # a correction
    ('monday',)
    """

    stack: tuple[Frame, ...] = ()
    finished: tuple[Frame, ...] = ()
    turn: int = 0

    @property
    def top(self) -> Frame | None:
        """The frame that is talked of."""
        return self.stack[-1] if self.stack else None

    @property
    def frames(self) -> Iterator[Frame]:
        """All of them, the one that is talked of first."""
        return iter((*reversed(self.stack), *reversed(self.finished)))

    @property
    def values(self) -> dict[str, str]:
        """slot -> value, over all frames."""
        return {slot: value for frame in self.frames for slot, value in frame.values.items()}

    def pushed(self, topic: str) -> State:
        """The topic on top: as it was left if it has been talked of before, else empty. Only frames without any value
        are dropped."""
        if self.top is not None and self.top.topic == topic:
            return self
        known = next((frame for frame in self.frames if frame.topic == topic), Frame(topic))
        others = (tuple(f for f in side if f.topic != topic and f.slots) for side in (self.stack, self.finished))
        stack, finished = others
        return replace(self, stack=(*stack, known), finished=finished)

    def popped(self) -> State:
        """The topic on top is finished, and the one below is talked of again, exactly as it was."""
        return replace(self, stack=self.stack[:-1], finished=(*self.finished, *self.stack[-1:]))

    def filled(self, slot: str, value: str, confidence: float = 1.0) -> State:
        """The slot has the value, from the present turn; its topic is on top. The same value again changes nothing."""
        state = self.pushed(topic_of(slot))
        frame = state.stack[-1]
        old = frame.slots.get(slot)
        if old is not None and old.value == value:
            return state
        before = (*old.before, old.value) if old is not None else ()
        slots = {**frame.slots, slot: Filled(value, self.turn, confidence, before)}
        return state.with_top(replace(frame, slots=slots, answered=False))

    def cleared(self, slot: str) -> State:
        """Without a value for the slot, wherever its topic is."""

        def without(frame: Frame) -> Frame:
            if slot not in frame.slots:
                return frame
            return replace(frame, slots={s: f for s, f in frame.slots.items() if s != slot}, answered=False)

        return replace(self, stack=tuple(map(without, self.stack)), finished=tuple(map(without, self.finished)))

    def with_top(self, frame: Frame) -> State:
        """Another frame in the place of the top one."""
        return replace(self, stack=(*self.stack[:-1], frame))

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it; `of` reads it back."""
        return asdict(self)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> State:
        """The inverse of `plain`."""
        stack, finished = (tuple(map(_frame, data[side])) for side in ("stack", "finished"))
        return cls(stack, finished, data["turn"])


def _frame(data: Mapping[str, Any]) -> Frame:
    slots = {slot: Filled(**{**filled, "before": tuple(filled["before"])}) for slot, filled in data["slots"].items()}
    return Frame(data["topic"], slots, data["asked"], data["answered"])
