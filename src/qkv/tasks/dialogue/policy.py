"""What to say next, by rules that one can read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from .domain import Domain, Topic, listed, short
from .state import State, Tracked, topic_of

Kind = Literal["ask", "answer", "inform", "out_of_scope", "wait"]


@dataclass(frozen=True)
class Reply:
    """kind: what the turn came to. text: what is said. acts: slots that are asked for, as a tracker reads them."""

    kind: Kind
    text: str
    acts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Policy:
    """sure: a value of less confidence is said back, so that it can be corrected."""

    sure: float = 0.6

    def __call__(self, state: State, domain: Domain, heard: Tracked | None) -> tuple[State, Reply]:
        """The state after the reply, and the reply. heard: None for a turn that is out of scope.

        In this order: answer what was requested; say back what is unsure; answer a topic that is complete, and go back
        to the one that it interrupted; ask for the first slot that is missing."""
        if heard is None:
            state, following = self._next(state, domain)
            about = ", ".join(name for t in domain.topics for name in ([t.name] if t.name else map(short, t.slots)))
            return state, replace(
                following, kind="out_of_scope", text=f"I can help with {about} only. {following.text}"
            )
        said = [self._told(state, domain, name) for name in heard.requests]
        kind: Kind = "inform" if said else "wait"
        said += self._unsure(state, heard)
        while (frame := state.top) and _complete(domain[frame.topic], frame.values) and not frame.answered:
            said.append(domain[frame.topic].told(frame.values))
            kind = "answer"
            state = state.with_top(replace(frame, answered=True, asked=None))
            if len(state.stack) > 1:
                state = state.popped()
                if state.top is not None and state.top.topic and not state.top.answered:
                    said.append(f"Back to {state.top.topic}.")
        state, following = self._next(state, domain)
        kind = following.kind if kind == "wait" else kind
        return state, Reply(kind, " ".join([*said, following.text]), following.acts)

    def _next(self, state: State, domain: Domain) -> tuple[State, Reply]:
        """Ask for what is missing of the topic on top, or wait."""
        frame = state.top
        topic = domain[frame.topic] if frame else domain.topics[0]
        missing = next((slot for slot in topic.required if frame is None or slot not in frame.slots), None)
        if missing is None:
            return state, Reply("wait", "Anything else?")
        state = state.pushed(topic.name)
        state = state.with_top(replace(state.stack[-1], asked=missing))
        return state, Reply("ask", topic.question(missing), ((missing, ""),))

    def _told(self, state: State, domain: Domain, name: str) -> str:
        """What is known of a thing that the user asks for: a value of the state, or of what was found, of the topic in
        its name, or else of the one that was talked of last. What several rows could answer is not guessed."""
        key = short(name)
        for frame in (frame for frame in state.frames if topic_of(name) in ("", frame.topic)):
            topic, values = domain[frame.topic], frame.values
            found = topic.matches(values)
            sole = found[:1] if len(found) == 1 or _complete(topic, values) else []
            known = {short(slot): value for row in (values, *sole) for slot, value in row.items()}
            if key in known:
                return f"The {key} is {known[key]}."
        return f"I do not know the {key}."

    def _unsure(self, state: State, heard: Tracked) -> list[str]:
        doubtful = {s: v for s, (v, p) in heard.updates.items() if p < self.sure and state.values.get(s) == v}
        return [f"I understood {listed(doubtful)}; correct me if that is wrong."] if doubtful else []


def _complete(topic: Topic, values: dict[str, str]) -> bool:
    return bool(topic.required) and all(slot in values for slot in topic.required)
