"""Conversations: a state that can be read and edited, digressions, corrections, a store that survives a kill."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkv.data.dialogues import Turn
from qkv.data.simulation import REQUESTS, VALUES, simulated
from qkv.errors import UserError
from qkv.tasks.dialogue.domain import Domain, Topic
from qkv.tasks.dialogue.matching import Matching
from qkv.tasks.dialogue.policy import Policy
from qkv.tasks.dialogue.session import Session
from qkv.tasks.dialogue.state import Filled, State, Tracked, topic_of
from qkv.tasks.dialogue.store import Record, Store
from qkv.tasks.mentions import Ontology

TRACKER = Matching(Ontology(VALUES), REQUESTS)
DOMAIN = Domain.of_slots(VALUES)


def session(store: Store | None = None, **settings: object) -> Session:
    return Session(TRACKER, DOMAIN, store or Store(), **settings)  # type: ignore[arg-type]


def test_a_correction_keeps_what_it_replaced() -> None:
    talk = session()
    talk.say("a table on monday")
    reply = talk.say("no, tuesday")
    assert talk.state.top is not None
    assert talk.state.top.slots["table/day"] == Filled("tuesday", 2, 1.0, ("monday",))
    assert reply.acts == (("table/people", ""),)


def test_a_digression_is_pushed_and_popped_with_its_slots_intact() -> None:
    talk = session()
    talk.say("a table for two on monday")
    before = talk.state.top
    talk.say("and a taxi to the castle")
    assert [frame.topic for frame in talk.state.stack] == ["table", "taxi"]
    reply = talk.say("on friday")
    assert "Back to table. Which food?" in reply.text
    assert talk.state.top == before
    assert talk.state.values["taxi/day"] == "friday" and talk.state.values["table/day"] == "monday"


def test_a_finished_topic_can_be_corrected() -> None:
    talk = session()
    for text in ("a table for two on monday", "a taxi to the castle", "friday", "thai food"):
        talk.say(text)
    assert talk.say("to the museum").text.startswith("Noted: place museum, day friday.")
    assert talk.state.values["table/food"] == "thai"


@given(st.lists(st.tuples(st.sampled_from(sorted(VALUES)), st.sampled_from("abc")), max_size=12), st.data())
def test_states_are_plain_data_and_changes_touch_one_topic(steps: list[tuple[str, str]], data: st.DataObject) -> None:
    state, slow = State(), dict[str, str]()
    for slot, value in steps:
        others = {f.topic: f for f in state.frames if f.topic != topic_of(slot) and f.slots}
        state = state.filled(slot, value)
        slow[slot] = value
        assert {f.topic: f for f in state.frames if f.topic != topic_of(slot)} == others
        if data.draw(st.booleans()) and state.stack:
            kept = state.values
            state = state.popped()
            assert state.values == kept
        assert state.values == slow
        assert State.of(json.loads(json.dumps(state.plain()))) == state
    for slot in list(slow):
        state = state.cleared(slot)
        del slow[slot]
        assert state.values == slow


def test_out_of_scope_changes_no_slot_and_asks_again() -> None:
    talk = session(scope=lambda text: float("weather" in text))
    talk.say("a table on monday")
    kept = talk.state.values
    reply = talk.say("what is the weather on friday?")
    assert reply.kind == "out_of_scope" and reply.text.endswith("Which people?")
    assert talk.state.values == kept
    assert talk.say("for four people").kind == "ask"
    assert session(scope=lambda text: 0.5).say("monday").kind == "ask"  # not above the threshold


def test_what_interrupts_ends_up_on_top_however_it_is_told() -> None:
    both = Tracked({"taxi/place": ("castle", 1.0), "table/people": ("two", 1.0), "drink": ("tea", 1.0)})
    talk = Session(lambda turns: both, DOMAIN, Store())
    talk.edit("table/day", "monday")
    talk.say("for two, and a taxi to the castle")
    assert [frame.topic for frame in talk.state.stack] == ["table", "taxi"] and "drink" not in talk.state.values


def test_a_request_is_answered_and_the_question_repeated() -> None:
    row = {"table/day": "monday", "name": "The Anchor", "phone": "1234"}
    slots = tuple(slot for slot in VALUES if slot.startswith("table"))
    domain = Domain((Topic("table", slots, slots[:2], {"table/people": "How many?"}, "{name} on {day}.", (row,)),))
    talk = Session(TRACKER, domain, Store())
    talk.say("on monday")
    reply = talk.say("what is the phone?")
    assert (reply.kind, reply.text) == ("inform", "The phone is 1234. How many?")
    assert talk.say("what is the address?").text == "I do not know the address. How many?"
    assert talk.say("for two").text == "The Anchor on monday. Anything else?"
    assert "nothing with day friday" in talk.say("friday").text


def test_what_is_asked_for_is_told_of_the_topic_that_is_meant_and_not_guessed() -> None:
    hotel = Topic("hotel", ("hotel/day",), ("hotel/day",), rows=({"hotel/day": "monday", "phone": "1"},))
    anchor, bell = ({"table/food": food, "phone": phone} for food, phone in (("thai", "2"), ("greek", "3")))
    table = Topic("table", ("table/food",), ("table/food",), rows=(anchor, bell))
    policy, domain = Policy(), Domain((hotel, table))
    state, _ = policy(State().filled("hotel/day", "monday"), domain, Tracked())

    def told(state: State, name: str) -> str:
        return policy(state, domain, Tracked(requests=(name,)))[1].text

    assert told(state, "phone").startswith("The phone is 1.")
    assert told(state.pushed("table"), "table/phone").startswith("I do not know the phone.")  # two rows have one
    both = state.filled("table/food", "greek")
    assert told(both, "phone").startswith("The phone is 3.") and told(both, "hotel/phone").startswith("The phone is 1.")
    assert told(both, "day").startswith("The day is monday.") and told(both, "table/drink").startswith("I do not know")


def test_what_is_out_of_scope_names_the_slots_where_topics_have_no_name() -> None:
    _, reply = Policy()(State(), Domain.of_slots(["area", "price range"]), None)
    assert reply.text == "I can help with area, price range only. Which area?"


def test_the_tracker_is_told_the_same_of_a_turn_then_and_later() -> None:
    """Whatever lies between: an edit, a reset, a turn that was taken back."""
    told: list[list[Turn]] = []

    def tracker(turns: list[Turn]) -> Tracked:
        told.append(list(turns))
        return TRACKER(turns)

    talk = Session(tracker, DOMAIN, Store())  # type: ignore[arg-type]
    talk.edit("table/day", "monday")
    for text in ("for two", "a taxi", "thai food", "to the castle"):
        talk.say(text)
        assert talk.turns == told[-1] and told[-1][0].system == ""
        if text == "a taxi":
            talk.undo()
        if text == "thai food":
            talk.reset()
    assert [turn.user for turn in told[2]] == ["for two", "thai food"] and len(told[3]) == 1
    assert told[2][1].system == talk.records[1].reply


def test_an_unsure_value_is_said_back() -> None:
    _, reply = Policy(sure=0.6)(
        State().filled("table/day", "monday", 0.4), DOMAIN, Tracked({"table/day": ("monday", 0.4)})
    )
    assert reply.text.startswith("I understood day monday; correct me")


def test_edit_undo_and_reset() -> None:
    talk = session()
    talk.say("a table on monday")
    talk.edit("table/food", "thai")
    assert talk.state.values == {"table/day": "monday", "table/food": "thai"}
    talk.edit("table/day", "")
    assert talk.state.values == {"table/food": "thai"}
    assert [turn.user for turn in talk.turns] == ["a table on monday"]
    talk.undo()
    assert talk.state.values == {"table/day": "monday", "table/food": "thai"}
    talk.reset()
    assert talk.state == State() and talk.turns == []
    talk.undo()
    assert talk.state.values == {"table/day": "monday", "table/food": "thai"}
    while talk.undo():
        pass
    assert talk.state == State()
    with pytest.raises(UserError, match="no slot 'drink'; choose of table/day"):
        talk.edit("drink", "tea")


def test_a_session_goes_on_where_it_ended(tmp_path: Path) -> None:
    first = session(Store(tmp_path / "talk.db"))
    for text in ("a table on monday", "a taxi to the castle", "no, the museum"):
        first.say(text)
    first.undo()
    first.store.close()
    again = session(Store(tmp_path / "talk.db"))
    assert again.state == first.state and again.turns == first.turns
    assert again.say("friday").text == "Noted: place castle, day friday. Back to table. Which people?"
    assert [record["number"] for record in again.store.history("main")] == [1, 2, 4]
    assert json.loads(json.dumps(again.store.history("main")))[0]["user"] == "a table on monday"
    assert again.store.sessions() == ["main"] and session(again.store, name="other").state == State()


CHATTER = """
import sys
from tests.tasks.test_dialogue import session
from qkv.tasks.dialogue.store import Store
talk = session(Store(sys.argv[1]))
days = ["monday", "tuesday", "wednesday", "thursday", "friday"]
for number in range(100_000):
    talk.say(f"no, {days[number % 5]}")
    print(number + 1, flush=True)
"""


def test_a_kill_loses_no_answered_turn(tmp_path: Path) -> None:
    path, answered = tmp_path / "talk.db", 0
    for _ in range(3):
        chatter = subprocess.Popen([sys.executable, "-c", CHATTER, path], stdout=subprocess.PIPE, text=True)
        assert chatter.stdout is not None
        for line in chatter.stdout:
            if int(line) >= random.Random(answered).randint(3, 12):
                break
        chatter.send_signal(signal.SIGKILL)
        answered += max([int(line), *map(int, chatter.stdout.read().split())])
        chatter.wait()
        talk = session(Store(path))
        assert [record.number for record in talk.records] == list(range(1, len(talk.records) + 1))
        assert len(talk.records) in (answered, answered + 1)
        assert talk.state.turn == len(talk.records) and talk.state.values["table/day"]
        answered = len(talk.records)
        talk.store.close()


HALF = """
import sys, time
from qkv.tasks.dialogue.store import Store
store = Store(sys.argv[1])
with store._transaction():
    store.connection.execute("UPDATE turns SET user = 'half'")
    print("inside", flush=True)
    time.sleep(60)
"""


def test_a_kill_within_a_transaction_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "talk.db"
    session(Store(path)).say("a table on monday")
    chatter = subprocess.Popen([sys.executable, "-c", HALF, path], stdout=subprocess.PIPE, text=True)
    assert chatter.stdout is not None and chatter.stdout.readline() == "inside\n"
    chatter.kill()
    chatter.wait()
    assert [record.user for record in Store(path).records("main")] == ["a table on monday"]


def test_stores_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "no.db").write_text("this is no database, only a text of some length " * 40)
    with pytest.raises(UserError, match=r"no\.db: file is not a database; name a writable file"):
        Store(tmp_path / "no.db")
    with pytest.raises(UserError, match="unable to open"):
        Store(tmp_path / "nowhere" / "talk.db")
    store = Store(tmp_path / "talk.db")
    store.append("main", Record(1, "ask", "a", "b", (), State()))
    with pytest.raises(UserError, match="another process talks in this session"):
        store.append("main", Record(1, "ask", "a", "b", (), State()))
    for state in ("{}", "[", "[]", '{"stack": [[]], "finished": [], "turn": 1}', '{"stack": [3]}'):
        with sqlite3.connect(tmp_path / "talk.db") as other:
            other.execute("UPDATE turns SET state = ?", (state,))
        with pytest.raises(UserError, match="damaged"):
            store.records("main")


def test_matching_reads_what_a_rule_can() -> None:
    asked = Turn("no, tuesday", "Which day?", (("taxi/day", ""),))
    assert TRACKER([asked]).updates == {"taxi/day": ("tuesday", 1.0)}
    known = [
        Turn("a table on monday", acts=(("table/day", ""),)),
        Turn("sorry, tuesday", "And?", (("table/food", ""),)),
    ]
    assert TRACKER(known).updates == {"table/day": ("tuesday", 1.0)}
    assert TRACKER([Turn("any will do", "", (("table/food", ""),))]).updates == {"table/food": ("dontcare", 1.0)}
    assert TRACKER([Turn("what is the phone?")]).requests == ("phone",)
    both = Turn("not monday, tuesday", "", (("table/day", ""),))
    assert TRACKER([both]).updates == {"table/day": ("tuesday", 1.0)}


def test_domains_that_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "domain.yaml"
    for text, message in (
        ("[", "cannot read the domain"),
        ("topics: 3", "no list of topics"),
        ("topics: [{name: a}]", "with name, slots"),
        ("topics: [{name: a, slots: [a/b]}]", "tracks no slot 'a/b'; choose of"),
        ("topics: [{name: a, slots: [table/day]}]", "not of the topic 'a'"),
        ("topics: [{name: table, slots: [table/day], required: [x]}]", "slots of the topic only"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            Domain.read(path, tuple(VALUES))
    path.write_text('topics: [{name: table, slots: [table/day], answer: "{nothing}"}]')
    domain = Domain.read(path, tuple(VALUES))
    with pytest.raises(UserError, match="names 'nothing', which is not known"):
        Session(TRACKER, domain, Store()).say("monday")


def test_simulated_users_keep_their_own_truth() -> None:
    rows = simulated(60, random.Random(1))
    assert simulated(60, random.Random(1)) == rows != simulated(60, random.Random(2))
    corrected = digressed = 0
    for row in rows:
        before: dict[str, str] = {}
        for turn in row.turns:
            assert turn.state is not None and before.keys() <= turn.state.keys()
            new = {slot: value for slot, value in turn.state.items() if before.get(slot) != value}
            assert all(value in turn.user or value == "dontcare" for value in new.values())
            if turn.user.startswith(("no ,", "sorry", "i meant", "not ")) or ", not" in turn.user:
                assert new  # who corrects, changes something
            corrected += any(slot in before for slot in new)
            digressed += bool(before) and any(topic_of(s) not in map(topic_of, before) for s in new)
            before = dict(turn.state)
    assert corrected > 20 and digressed > 5
