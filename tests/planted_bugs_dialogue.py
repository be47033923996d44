"""The bugs that `tests.planted_bugs` plants in dialogue: tracking, mentions, the state, the policy, the store."""

from __future__ import annotations

from tests.planted_bugs_table import Bug

TALK, TRACK, CHAT = ("tasks/test_dialogue.py",), ("tasks/test_dialogue_state.py",), ("cli/test_chat.py",)
EXPLAIN = ("cli/test_explain.py",)

_S, _P, _N, _B, _D = (f"tasks/dialogue/{name}.py" for name in ("state", "policy", "session", "store", "domain"))
_T, _M, _R = (f"tasks/{name}.py" for name in ("dialogue_state", "mentions", "dialogue_metrics"))
_G, _U, _C, _E = "tasks/dialogue/matching.py", "data/simulation.py", "cli/chat.py", "cli/explain.py"

# fmt: off
DIALOGUE = [
    Bug("state: a correction forgets what it replaced", _S, "(*old.before, old.value)", "old.before", TALK),
    Bug("state: popping loses the slots", _S, "finished=(*self.finished, *self.stack[-1:])", "finished=self.finished",
        TALK),
    Bug("state: a digression drops what it interrupts", _S, "if f.topic != topic and f.slots)",
        "if f.topic != topic and f.answered)", TALK),
    Bug("state: a topic that comes again begins anew", _S, "next((frame for frame in self.frames if", "next((frame for "
        "frame in () if", TALK),
    Bug("state: the older frame's value wins", _S, "iter((*reversed(self.stack), *reversed(self.finished)))",
        "iter((*self.finished, *self.stack))", TALK),
    Bug("state: a finished topic stays answered when corrected", _S, "slots=slots, answered=False))",
        "slots=slots))", TALK),
    Bug("policy: what is out of scope is answered", _P, 'kind="out_of_scope", text', "text", TALK),
    Bug("policy: the interrupted topic is not taken up", _P, "state = state.popped()", "pass", TALK),
    Bug("policy: sure values are said back", _P, "if p < self.sure", "if p >= self.sure", TALK),
    Bug("policy: an answered question is guessed of several", _P, "if len(found) == 1 or _complete(topic, values)",
        "if found", TALK),
    Bug("session: an edit is a turn for the tracker", _N, 'if record.kind != "edit"', "if record.kind", TALK),
    Bug("session: the tracker remembers beyond a reset", _N, 'found, before = [], Reply("wait", "")',
        'before = Reply("wait", "")', TALK),
    Bug("session: a new topic comes before the one that is talked of", _N, 'u[0].rpartition("/")[0] != here)',
        'u[0].rpartition("/")[0] == here)', TALK),
    Bug("session: at the threshold it is out of scope", _N, "self.scope(text) <= self.threshold",
        "self.scope(text) < self.threshold", TALK),
    Bug("session: the number of an undone turn comes again", _N, "self.store.last_number(self.name) + 1",
        "len(self.records) + 1", TALK),
    Bug("store: undone turns are read", _B, "WHERE session = ? AND NOT undone \"", 'WHERE session = ? "', TALK),
    Bug("store: no transaction", _B, 'self.connection.execute("BEGIN IMMEDIATE")', "pass", TALK),
    Bug("domain: rows need every slot", _D, "row.get(s, v) == v", "row.get(s) == v", TALK),
    Bug("matching: the first of two values holds", _G, "found |= {slot: mention.values[slot] for slot in wanted}",
        "found = {slot: mention.values[slot] for slot in wanted} | found", TALK),
    Bug("mentions: markers count from the beginning", _M, "for text in reversed(texts):", "for text in texts:", TRACK),
    Bug("mentions: the shorter of two that overlap", _M, "key=lambda each: (-each[0], -each[1], each[2])",
        "key=lambda each: (each[0], each[1], each[2])", TRACK),
    Bug("mentions: a word that is longer by any ending", _M, "longer - shared <= STEM and", "", TRACK),
    Bug("tracking: nothing is carried", _T, "**(state if self.carry else {}), ", "", TRACK),
    Bug("tracking: a dialogue goes on with the state of the last", _T, "state: dict[str, tuple[str, float]] = {}\n",
        "state = dict(found[-1][-1].updates) if found else {}\n", TRACK),
    Bug("tracking: the score of the surest value", _T, "least = min((p for", "least = max((p for", TRACK),
    Bug("tracking: the stem looks ahead", "models/stems.py", "before = self.config.width - 1 if",
        "before = self.config.width - 2 if", TRACK),
    Bug("tracking: the user's words are cut first", _T, "before[max(0, len(before) - (longest - 1 - len(user))) :]",
        "before[: longest - 1 - len(user)]", TRACK),
    Bug("tracking: a marker that is not in the text", _T, "if not is_marker(name, slot):", "if True:", TRACK),
    Bug("tracking: a repeated value is none", _T, "and (slot, value) not in again:", ":", TRACK),
    Bug("tracking: acts are never read", _T, "(acts if self.acts else [])", "[]", TRACK),
    Bug("tracking: the last turn but one", _T, "turns[-self.history :]", "turns[-self.history - 1 : -1]",
        TRACK),
    Bug("tracking: known words are strange", _T, "sum(i == tokenizer.unk_id", "sum(i != tokenizer.unk_id", TRACK),
    Bug("scores: a slot that is empty counts wrong", _R, "hits = sum(g.get(slot) == r.get(slot) for",
        "hits = sum(g.get(slot, 1) == r.get(slot, 2) for", TRACK),
    Bug("scores: more than is asked for is right", _R, "exact = sum({*g} == {*r}", "exact = sum({*g} >= {*r}", TRACK),
    Bug("simulation: a correction may change nothing", _U, "if value != old])", "])", TALK),
    Bug("chat: spaces around a command", _C, "yield from (line.strip() for", "yield from (line for", CHAT),
    Bug("explain: a dialogue as plain words", _E, "if isinstance(task, DialogueState):", "if False:", CHAT),
    Bug("explain: a tagger without spelling", _E, "if isinstance(task, WordTask):", "if False:", EXPLAIN),
]
# fmt: on
