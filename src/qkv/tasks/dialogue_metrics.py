"""How well a dialogue's state is tracked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

State = Mapping[str, str]


def state_scores(given: Sequence[State], right: Sequence[State], slots: Sequence[str]) -> dict[str, float]:
    """Over turns: the share whose whole state is right (joint goal accuracy), and the share of right slots, an empty
    one included.

    >>> state_scores([{"a": "1"}, {"a": "1"}], [{"a": "1"}, {"a": "1", "b": "2"}], ["a", "b"])
    {'joint_goal': 0.5, 'slot_accuracy': 0.75}
    """
    known = {*slots, *(slot for state in right for slot in state)}
    pairs = list(zip(given, right, strict=True))
    hits = sum(g.get(slot) == r.get(slot) for g, r in pairs for slot in known)
    return {
        "joint_goal": sum(dict(g) == dict(r) for g, r in pairs) / max(1, len(pairs)),
        "slot_accuracy": hits / max(1, len(known) * len(pairs)),
    }


def request_scores(given: Sequence[Sequence[str]], right: Sequence[Sequence[str]]) -> dict[str, float]:
    """Micro F1 of what is requested over all turns, and the share of turns in which all of it is right.

    >>> request_scores([["phone"], []], [["phone", "address"], []])
    {'request_f1': 0.6666666666666666, 'request_accuracy': 0.5}
    """
    both = sum(len({*g} & {*r}) for g, r in zip(given, right, strict=True))
    size = sum(len({*g}) + len({*r}) for g, r in zip(given, right, strict=True))
    exact = sum({*g} == {*r} for g, r in zip(given, right, strict=True))
    return {"request_f1": 2 * both / size if size else 1.0, "request_accuracy": exact / max(1, len(right))}
