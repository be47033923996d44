"""One conversation: what was said so far, and what saying something does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from qkv.data.dialogues import Turn
from qkv.errors import UserError

from .domain import Domain
from .policy import Policy, Reply
from .state import State, Tracked
from .store import Record, Store

Scope = Callable[[str], float]
"""How far out of scope a text is; above a session's threshold it changes nothing."""

GREETING = Reply("wait", "What can I do for you?")


class Tracker(Protocol):
    """What says what a turn means."""

    def __call__(self, turns: Sequence[Turn]) -> Tracked:
        """What the last of `turns` says, given those before it."""
        ...


class Session:
    """A conversation by name. The store is the only memory: a new Session of the same name goes on where it ended.

    tracker: what a turn means. domain: what can be talked of. scope, threshold: a turn that scores above it is out of
    scope and changes nothing.
    """

    def __init__(
        self,
        tracker: Tracker,
        domain: Domain,
        store: Store,
        name: str = "main",
        policy: Policy | None = None,
        scope: Scope | None = None,
        threshold: float = 0.5,
    ):
        self.tracker, self.domain, self.store, self.name = tracker, domain, store, name
        self.policy, self.scope, self.threshold = policy or Policy(), scope, threshold
        self.records = store.records(name)

    @property
    def state(self) -> State:
        """What is known now."""
        return self.records[-1].state if self.records else State()

    @property
    def opening(self) -> Reply:
        """What the system said last, or says first."""
        last = self.records[-1] if self.records else None
        return Reply("wait", last.reply, last.acts) if last else GREETING

    @property
    def turns(self) -> list[Turn]:
        """What a tracker was told of the conversation: since the last reset, without edits."""
        return self._and("")[:-1]

    def _and(self, text: str) -> list[Turn]:
        """`turns` and what is said now. The first one has no system before it, whatever greeting was shown."""
        found, before = list[Turn](), Reply("wait", "")
        for record in self.records:
            if record.kind == "reset":
                found, before = [], Reply("wait", "")
                continue
            if record.kind != "edit":
                found.append(Turn(record.user, before.text, before.acts))
            before = Reply("wait", record.reply if found else "", record.acts)
        return [*found, Turn(text, before.text, before.acts)]

    def say(self, text: str) -> Reply:
        """The reply to what the user says; it is on the disk when this returns."""
        state = replace(self.state, turn=self.state.turn + 1)
        heard: Tracked | None = None
        if self.scope is None or self.scope(text) <= self.threshold:
            heard = self.tracker(self._and(text))
            state = self._updated(state, heard)
        state, reply = self.policy(state, self.domain, heard)
        self._keep(reply.kind, text, reply, state)
        return reply

    def _updated(self, state: State, heard: Tracked) -> State:
        """The topic that was talked of comes first, so that what interrupts it ends up on top. Slots that the domain
        does not talk of are left alone."""
        here = state.top.topic if state.top else None
        for slot, (value, confidence) in sorted(heard.updates.items(), key=lambda u: u[0].rpartition("/")[0] != here):
            if slot in self.domain.slots and state.values.get(slot) != value:
                state = state.filled(slot, value, confidence)
        return state

    def edit(self, slot: str, value: str) -> Reply:
        """Set a slot by hand, or clear it with an empty value."""
        if slot not in self.domain.slots:
            raise UserError(f"there is no slot {slot!r}; choose of {', '.join(self.domain.slots)}")
        state = self.state.filled(slot, value) if value else self.state.cleared(slot)
        state, reply = self.policy(state, self.domain, Tracked())
        self._keep("edit", f"{slot} = {value}", reply, state)
        return reply

    def reset(self) -> Reply:
        """Begin anew; what was said stays in the store."""
        self._keep("reset", "", GREETING, State())
        return GREETING

    def undo(self) -> Record | None:
        """Take back the last turn, edit or reset; None if there is none."""
        if not self.records:
            return None
        self.store.undo(self.name, self.records[-1].number)
        return self.records.pop()

    def _keep(self, kind: str, user: str, reply: Reply, state: State) -> None:
        number = self.store.last_number(self.name) + 1
        record = Record(number, kind, user, reply.text, reply.acts, state)
        self.store.append(self.name, record)
        self.records.append(record)
