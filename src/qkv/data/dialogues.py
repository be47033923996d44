"""Dialogues: what a user and a system say in turn, and what the user wants after each turn.

A file of one's own is JSONL (also .gz), one dialogue a line:

{"turns": [{"user": "A table for Monday, please.", "state": {"day": "monday"}},
           {"system": "For how many?", "acts": ["people"], "user": "No, Tuesday. And the address?",
            "state": {"day": "tuesday"}, "requests": ["address"]}]}

user      what the user says; the only key that a turn must have
system    what the system said before it
acts      what the system meant by it: slots that it asked for, or [slot, value] where it named a value
state     slot -> value, all that holds after the turn: a slot that was filled before is given again
requests  what the user asks to be told in this turn

A slot may be written topic/slot (`taxi/to`). Further keys are ignored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from qkv.data import files, sources
from qkv.data.own import OwnFiles
from qkv.data.splits import Split
from qkv.errors import UserError

WOZ_SPLITS = {"train": "train", "dev": "train", "test": "validate"}
SGD_FILES = tuple(f"dialogues_{number:03}.json" for number in range(1, 7))


@dataclass(frozen=True)
class Turn:
    """What the system said, what the user answered, and what holds from then on (None: nobody has said)."""

    user: str
    system: str = ""
    acts: tuple[tuple[str, str], ...] = ()
    """(slot, value) that the system named, (slot, "") that it asked for."""
    state: Mapping[str, str] | None = None
    requests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dialogue:
    """Turns in order."""

    turns: tuple[Turn, ...]
    name: str = ""


@dataclass(frozen=True)
class Woz:
    """WoZ 2.0, restaurants in Cambridge: 600 dialogues of 2,536 turns and 200 of 830, the same in three languages.

    A tenth of the 600, by the SHA-256 of a dialogue's number, is "dev". The file `validate` is what we call "test": it
    is measured on, and nothing is chosen by it. The published test file is not used."""

    language: Literal["en", "de", "it"] = "en"
    """What the user speaks; the system always speaks English."""

    rows: ClassVar[str] = "dialogues"

    def load(self, split: Split) -> list[Dialogue]:
        """The dialogues of a split. Raises UserError when the files are absent."""
        data = json.loads(sources.read("woz2", f"woz_{WOZ_SPLITS[split]}_{self.language}.json"))
        found = [Dialogue(tuple(map(_woz_turn, d["dialogue"])), str(d["dialogue_idx"])) for d in data]
        return found if split == "test" else [d for d in found if (bucket(d.name) == 0) == (split == "dev")]


@dataclass(frozen=True)
class Sgd:
    """Schema-guided dialogues, small: 768 dialogues on 17 services; 80 : 10 : 10 by the SHA-256 of their names.

    A slot is service/slot (`Buses_1/fare`). Of a value that is spelled in several ways the first is kept."""

    rows: ClassVar[str] = "dialogues"

    def load(self, split: Split) -> list[Dialogue]:
        """The dialogues of a split. Raises UserError when the files are absent."""
        wanted = {"dev": (0,), "test": (1,), "train": tuple(range(2, 10))}[split]
        data = (d for file in SGD_FILES for d in json.loads(sources.read("sgd_small", file)))
        return [_sgd_dialogue(d) for d in data if bucket(d["dialogue_id"]) in wanted]


@dataclass(frozen=True)
class DialogueFiles(OwnFiles):
    """Dialogues: JSONL (also .gz), one a line, as this module says."""

    rows: ClassVar[str] = "dialogues"

    def load(self, split: Split) -> list[Dialogue]:
        """The dialogues of a split. Raises UserError for every mistake in its file."""
        return dialogues(self.file(split))


def bucket(name: str) -> int:
    """A tenth that a dialogue is in, 0 to 9, by the SHA-256 of its name.

    >>> [bucket(str(number)) for number in range(5)]
    [0, 3, 6, 3, 4]
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % 10


def _woz_turn(turn: Mapping[str, Any]) -> Turn:
    informed = (belief for belief in turn["belief_state"] if belief["act"] == "inform")
    state = {slot: value for belief in informed for slot, value in belief["slots"]}
    acts = tuple((act, "") if isinstance(act, str) else (act[0], act[1]) for act in turn["system_acts"])
    requests = tuple(value for slot, value in turn["turn_label"] if slot == "request")
    return Turn(turn["transcript"].strip(), turn["system_transcript"].strip(), acts, state, requests)


def _sgd_dialogue(data: Mapping[str, Any]) -> Dialogue:
    said: tuple[str, tuple[tuple[str, str], ...]] = ("", ())
    turns = []
    for turn in data["turns"]:
        frame = turn["frames"][0]
        service = frame["service"]
        if turn["speaker"] == "SYSTEM":
            said = (turn["utterance"], tuple(_sgd_acts(service, frame["actions"])))
            continue
        state = {f"{service}/{slot}": values[0].lower() for slot, values in frame["state"]["slot_values"].items()}
        requests = tuple(f"{service}/{slot}" for slot in frame["state"]["requested_slots"])
        turns.append(Turn(turn["utterance"], *said, state, requests))
        said = ("", ())
    return Dialogue(tuple(turns), data["dialogue_id"])


def _sgd_acts(service: str, actions: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, str]]:
    for action in actions:
        if action["act"] == "REQUEST" and action["slot"]:
            yield f"{service}/{action['slot']}", ""
        elif action["act"] in ("CONFIRM", "OFFER") and action["values"]:
            yield f"{service}/{action['slot']}", action["values"][0].lower()


def dialogues(path: str | Path) -> list[Dialogue]:
    """The dialogues of a JSONL file. Raises UserError for every mistake in it."""
    if files.format_of(path) != ".jsonl":
        raise UserError(f"{path}: dialogues are read from .jsonl or .jsonl.gz, one a line; see qkv.data.dialogues")
    found = []
    for number, line in files.lines(path):
        where = f"{path} line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: not JSON ({error}); write one dialogue a line") from error
        turns = row.get("turns") if isinstance(row, dict) else None
        if not isinstance(turns, list) or not turns:
            raise UserError(f'{where}: no list of turns; write {{"turns": [{{"user": ..., "state": {{...}}}}, ...]}}')
        read = tuple(_turn(turn, f"{where}, turn {place}") for place, turn in enumerate(turns, 1))
        found.append(Dialogue(read, str(row.get("name", number))))
    return found


def _turn(data: Any, where: str) -> Turn:
    if not isinstance(data, dict) or not isinstance(data.get("user"), str) or not data["user"].strip():
        raise UserError(f'{where}: "user" is missing or empty; it is what the user says')
    system, state = data.get("system", ""), data.get("state")
    if not isinstance(system, str):
        raise UserError(f'{where}: "system" is no string; it is what the system said before')
    if state is not None and not (isinstance(state, dict) and all(isinstance(v, str) and v for v in state.values())):
        raise UserError(f'{where}: "state" maps slots to values, all of them strings; leave out what is not filled')
    acts, requests = data.get("acts", []), data.get("requests", [])
    if not isinstance(acts, list) or not all(map(_is_act, acts)):
        raise UserError(f'{where}: "acts" is a list of slots, or of [slot, value]; mend it')
    if not isinstance(requests, list) or not all(isinstance(name, str) for name in requests):
        raise UserError(f'{where}: "requests" is a list of strings; mend it')
    _check_names([*(state or {}), *requests], where)
    pairs = tuple((act, "") if isinstance(act, str) else (act[0], act[1]) for act in acts)
    return Turn(data["user"], system, pairs, state, tuple(requests))


def _is_act(act: Any) -> bool:
    return isinstance(act, str) or (isinstance(act, list) and len(act) == 2 and all(isinstance(x, str) for x in act))


def _check_names(names: Sequence[str], where: str) -> None:
    bad = next((name for name in names if not name.strip() or "." in name or "@" in name), None)
    if bad is not None:
        raise UserError(f"{where}: {bad!r} cannot name a slot; write it without . and @, such as taxi/to")
