"""Dialogue state tracking: what is read, what is right, what is carried."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qkv.data.batch import IGNORE
from qkv.data.dialogues import Dialogue, Sgd, Turn, Woz, dialogues
from qkv.data.simulation import Simulated, simulated
from qkv.decoding import Greedy
from qkv.errors import UserError
from qkv.models import Choice, Decision
from qkv.models.stems import Convolution
from qkv.nn import Tokens
from qkv.tasks import recipe as recipes
from qkv.tasks.dialogue_metrics import request_scores
from qkv.tasks.dialogue_state import NONE, REQUEST, SLOT, VALUES, DialogueState, _chosen, spoken
from qkv.tasks.folder import open_run
from qkv.tasks.labels import LabelSet
from qkv.tasks.mentions import Ontology, alike, is_marker, marked, words
from qkv.tasks.model import fresh, resolve
from qkv.tasks.task import System
from qkv.tasks.tokenizers import TokenizersConfig
from qkv.tasks.train import train
from qkv.text import Words

MODEL = {"encoder_only": {"stack": {"d_model": 32, "n_layers": 1, "position": "rotary", "embedding": {"segments": 2}}}}
ROWS = [
    Dialogue(
        (
            Turn("thai food on monday", state={"food": "thai", "day": "monday"}),
            Turn("no, tuesday", "monday?", (("day", "monday"),), {"food": "thai", "day": "tuesday"}),
            Turn(
                "whatever. what is the phone?",
                "how many?",
                (("people", ""),),
                {"food": "thai", "day": "tuesday"},
                ("phone",),
            ),
        )
    ),
    Dialogue(
        (Turn("for two", state={"people": "two"}), Turn("cheap please", state={"people": "two", "food": "inexpensive"}))
    ),
]


def system(task: DialogueState, rows: list[Dialogue] = ROWS) -> System:
    torch.manual_seed(0)
    tokenizers = task.learn(rows, TokenizersConfig(target=Words()))
    return System(fresh(resolve(MODEL), tokenizers, task).eval(), tokenizers)


@given(st.text("abcde", min_size=1, max_size=12), st.text("abcde", min_size=1, max_size=12))
def test_forms_of_a_word_by_the_slow_twin(a: str, b: str) -> None:
    shared = next((n for n in range(len(a), 0, -1) if b.startswith(a[:n])), 0)
    longer = max(len(a), len(b))
    same = a == b or (shared >= 4 and shared > longer / 2 and longer - shared <= 4)
    assert bool(alike(a, b)) == same == bool(alike(b, a))
    assert alike("restaurant", "restaurantmeister") == 0 < alike("restaurant", "restaurants")


@given(st.lists(st.lists(st.sampled_from(["aa", "bb", "cc", "x", "aa bb", "y"]), max_size=5), max_size=4))
def test_markers_count_distinct_values_from_the_end(texts: list[list[str]]) -> None:
    """The slow twin walks back over all words, at each place taking the longest value that ends there."""
    texts = [" ".join(text).split() for text in texts]
    found, values = marked(Ontology({"s": ["aa", "bb", "cc", "aa bb"]}), texts)
    seen: list[str] = []
    for text in reversed(texts):
        spans, i = [], 0
        while i < len(text):  # left to right the two-word value wins over its parts
            two = text[i : i + 2] == ["aa", "bb"]
            spans.append("aa bb" if two else text[i])
            i += 1 + two
        for value in reversed(spans):
            if value in ("aa", "bb", "cc", "aa bb") and value not in seen:
                seen.append(value)
    assert values == {f"s@{number}": value for number, value in enumerate(seen, 1)}
    back = [" ".join(values.get(word, word) for word in text).split() for text in found]
    assert back == texts


def test_what_is_right_is_what_changes_and_what_is_said_again() -> None:
    task = DialogueState()
    ontology = task.ontology(task.labels(ROWS))
    first = task.right(ontology, ROWS[0].turns[:1])
    assert first == {"food": "food@1", "day": "day@1", "people": NONE}
    assert task.right(ontology, ROWS[0].turns[:2]) == {"food": NONE, "day": "day@1", "people": NONE}
    assert task.right(ontology, ROWS[1].turns[:2])["food"] == "inexpensive"
    again = (Turn("on monday", state={"day": "monday"}), Turn("monday i said", state={"day": "monday"}))
    assert task.right(ontology, again)["day"] == "day@1"
    whole = DialogueState(carry=False, history=None)
    assert whole.right(ontology, ROWS[0].turns[:2]) == {"food": "food@1", "day": "day@1", "people": NONE}
    assert DialogueState(markers=False).right(ontology, ROWS[0].turns[:1])["food"] == "thai"


def test_what_is_read() -> None:
    task, ontology = DialogueState(), Ontology({"day": ["monday", "tuesday"]})
    view, read = task.view(ontology, ROWS[0].turns[:2])
    assert view.texts == [["day?", "day@2", "day@2", "?"], ["no", ",", "day@1"]] and len(read) == 1
    assert view.values == {"day@1": "tuesday", "day@2": "monday"}
    assert len(DialogueState(history=None).view(ontology, ROWS[0].turns)[0].texts) == 6
    made = system(task)
    [reading] = task.readings([ROWS[0].turns[:2]], made.tokenizers)
    names = made.tokenizers.target.tokens(reading.ids)
    assert names[0] == "<bos>" and names[reading.second :] == ["no", ",", "day@1", "<eos>"]
    batch = task.batches(ROWS, made.tokenizers).load([0, 1])
    assert batch.tokens.fields["segment"].any()


@pytest.mark.parametrize("longest", range(8, 30))
def test_what_is_oldest_is_not_read(longest: int) -> None:
    task = DialogueState(history=None)
    made = system(task)
    turns = tuple(Turn(" ".join(["thai"] * n), "monday for two") for n in (3, 5, 4))
    [whole] = task.readings([turns], made.tokenizers)
    [short] = task.readings([turns], made.tokenizers, longest)
    assert len(short.ids) == min(longest, len(whole.ids))
    assert list(short.ids) == [whole.ids[0], *whole.ids[len(whole.ids) - len(short.ids) + 1 :]]
    assert short.second is not None and list(short.ids[short.second :]) == list(whole.ids[whole.second :])


def test_a_label_that_training_never_gave_is_not_asked() -> None:
    task = DialogueState()
    made = system(task)
    strange = Dialogue((Turn("korean please", state={"food": "korean"}),))
    batch = task.batches([strange], made.tokenizers).load([0])
    assert batch.extra[SLOT + "food"].tolist() == [IGNORE]
    terms = task.loss(False)(made.model, batch)
    assert float(terms[SLOT + "food"][0].detach()) == 0.0 < float(terms[SLOT + "day"][0].detach())
    assert terms.keys() == task.loss(False).counts(batch).keys()


def test_the_loss_is_the_sum_over_slots_and_turns() -> None:
    task = DialogueState(output=Choice(dropout=0.0))
    made = system(task)
    batch = task.batches(ROWS, made.tokenizers).load([0, 1, 2])
    terms = task.loss(True)(made.model, batch)
    scores = made.model(batch.ids, batch.tokens)
    for name, (total, count, weight) in terms.items():
        right = batch.extra[name]
        if name == REQUEST:
            p = scores[name].sigmoid()
            slow = -torch.where(right.bool(), p, 1 - p).log().sum()
        else:
            slow = -scores[name].log_softmax(-1)[torch.arange(3), right].sum()
        assert float(total.detach()) == pytest.approx(float(slow.detach()), rel=1e-5)
        assert (count, weight) == (3, 1)


def test_a_run_tracks_and_carries(tmp_path: Path) -> None:
    """On dialogues that it has not seen, with values that training had for other slots' dialogues only."""
    settings = {"max_steps": 200, "learning_rate": 5e-3, "schedule": "constant", "threads": 1, "tensorboard": False}
    parts = {
        "task": {"dialogue_state": {"batch": {"tokens": 1024}}},
        "data": {"simulated": {"dialogues": 200}},
        "tokenizers": {"target": "words"},
        "model": MODEL,
        "training": settings,
        "evaluation": {"scored": 20},
    }
    train(recipes.from_data(parts), tmp_path / "run", say=lambda _: None)
    run = open_run(tmp_path / "run")
    task = run.recipe.task
    rows = Simulated(80).load("test")
    scores = task.evaluate(run.system, rows, Greedy())
    assert scores["joint_goal"] > 0.9 and scores["slot_accuracy"] > 0.98 and scores["request_f1"] > 0.95
    [answer] = task.predict(run.system, ["a table please on monday\tWhich people?\tno , tuesday"], Greedy())
    assert answer.details["state"] == {"table/day": "tuesday"} and answer.text == "table/day = tuesday"
    assert 0.5 < answer.scores[0] <= 1
    text = "a table on friday\twhat ?\ta taxi to the castle and italian food or thai"
    [answer] = task.predict(run.system, [text], Greedy())
    turns = [task.track(run.system, [spoken(text)[:end]])[0].updates for end in (1, 2)]
    kept = {**turns[0], **turns[1]}
    assert answer.scores[0] == pytest.approx(min(p for _, p in kept.values()), abs=1e-5) and len(kept) >= 2
    alone, among = task.states(run.system, rows[:1]), task.states(run.system, rows[:9])
    assert among[: len(alone)] == alone
    strange = task.strangeness(run.system)
    assert strange("a table on monday") == 0 < strange("who won yesterday's football match?")


def test_the_whole_state_without_carrying() -> None:
    task = DialogueState(carry=False, history=None)
    made = system(task)
    found = task.track(made, [ROWS[0].turns[:2]])
    [(state, _), *_] = task.states(made, [Dialogue(ROWS[0].turns[1:2])])
    assert set(state) <= {"food", "day", "people"} and len(found) == 1


def test_only_a_marker_that_stands_in_the_text_holds() -> None:
    labels = LabelSet(("food@2", "food@1", "none"), (1, 1, 1))
    decision = Decision([0, 1, 2], [0.5, 0.3, 0.2])
    assert _chosen("food", decision, labels, {"food@1": "thai"}) == ("thai", 0.3)
    assert _chosen("food", decision, labels, {}) == ("none", 0.2)


def test_a_request_too_many_is_not_right() -> None:
    assert request_scores([["a", "b"], ["a"]], [["a"], ["a"]]) == {"request_f1": 0.8, "request_accuracy": 0.5}


def test_a_stem_reads_neighbours_and_no_other_dialogue() -> None:
    """The last word's state hangs on the word before it without any attention; what is decided, on no other row."""
    task = DialogueState(stem=Convolution(2))
    made = system(task)
    ids = torch.tensor([[5, 6, 7], [5, 8, 7]])
    first, second = made.model.encoder.embedding(ids, Tokens.arange(2, 3))
    assert torch.equal(first[0], second[0]) and not torch.equal(first[2], second[2])
    rows = simulated(6, random.Random(3))
    made = system(task, rows)
    assert task.states(made, rows) == [state for row in rows for state in task.states(made, [row])]


def test_rows_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='turns without "state"'):
        DialogueState().labels([Dialogue((Turn("hello"),))])
    path = tmp_path / "d.jsonl"
    for line, message in (
        ("[", "line 1: not JSON"),
        ("{}", "line 1: no list of turns"),
        ('{"turns": [{"system": "hi"}]}', 'line 1, turn 1: "user" is missing'),
        ('{"turns": [{"user": "hi", "state": {"a": 1}}]}', '"state" maps slots to values'),
        ('{"turns": [{"user": "hi", "acts": [["a"]]}]}', '"acts" is a list of slots'),
        ('{"turns": [{"user": "hi", "state": {"a.b": "c"}}]}', "'a.b' cannot name a slot"),
        ('{"turns": [{"user": "hi", "requests": "phone"}]}', '"requests" is a list'),
    ):
        path.write_text(line + "\n")
        with pytest.raises(UserError, match=message):
            dialogues(path)
    good = {"turns": [{"user": "hi", "acts": ["a", ["b", "c"]], "state": {"a": "1"}, "requests": ["x"], "more": 1}]}
    path.write_text(json.dumps(good) + "\n")
    assert dialogues(path) == [Dialogue((Turn("hi", "", (("a", ""), ("b", "c")), {"a": "1"}, ("x",)),), "1")]
    with pytest.raises(UserError, match=r"read from \.jsonl"):
        dialogues(tmp_path / "d.tsv")
    with pytest.raises(UserError, match="this dataset has dialogues"):
        recipes.from_data({"task": "classify", "data": "simulated", "tokenizers": {"target": "words"}, "model": MODEL,
                           "training": {"max_steps": 1}})  # fmt: skip


def test_values_and_markers_are_told_apart() -> None:
    assert is_marker("price_range@2", "price range") and not is_marker("me@home", "me") and not is_marker("a@1", "b")
    task = DialogueState()
    labels = task.labels(simulated(20, random.Random(0)))
    assert set(task.ontology(labels).values) == {n.removeprefix(VALUES) for n in labels.sets if n.startswith(VALUES)}
    assert words("下周二, OK") == ["下", "周", "二", ",", "ok"]


@pytest.mark.skipif("QKV_DATA" not in os.environ, reason="needs WoZ 2.0 and SGD in $QKV_DATA")
def test_public_dialogues() -> None:
    splits = {split: Woz().load(split) for split in ("train", "dev", "test")}  # type: ignore[arg-type]
    assert [len(rows) for rows in splits.values()] == [532, 68, 200]
    assert sum(len(d.turns) for rows in splits.values() for d in rows) == 2536 + 830
    german = {d.name for d in Woz("de").load("train")}
    assert german == {d.name for d in splits["train"]}
    small = [len(Sgd().load(split)) for split in ("train", "dev", "test")]  # type: ignore[arg-type]
    assert sum(small) == 768 and min(small) > 50
    assert all(turn.state is not None for d in Sgd().load("dev") for turn in d.turns)
