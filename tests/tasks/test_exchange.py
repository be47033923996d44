"""More training texts by exchange: what changes, what stays, how often each filling comes."""

from __future__ import annotations

from collections import Counter

import pytest

from qkv.data.labelled import Tagged
from qkv.tasks.exchange import exchanged
from qkv.tasks.schemes import entities
from qkv.tasks.tag import TAGS, Tag
from qkv.tasks.tokenizers import TokenizersConfig
from qkv.text import Words

ROWS = [
    Tagged(("fly", "boston", "to", "new", "york"), ("O", "B-from", "O", "B-to", "I-to"), "flight"),
    Tagged(("from", "boston", "please"), ("O", "B-from", "O"), "flight"),
    Tagged(("fares", "from", "san", "jose"), ("O", "O", "B-from", "I-from"), "airfare"),
    Tagged(("hello",), ("O",), "greeting"),
]


def pieces(row: Tagged, scheme: str = "bio") -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    """The words outside, and the entities with their types."""
    found = entities(row.tags, scheme)
    inside = {i for e in found for i in range(e.start, e.end)}
    outside = tuple(word for i, word in enumerate(row.words) if i not in inside)
    return outside, [(e.kind, " ".join(row.words[e.start : e.end])) for e in found]


def test_only_what_stands_in_a_slot_changes() -> None:
    fillings = {filling for row in ROWS for filling in pieces(row)[1]}
    copies = exchanged(ROWS, 5, seed=1)
    assert len(copies) == 5 * 3  # the row without a slot has none
    for number, copy in enumerate(copies):
        row = ROWS[number % 3]
        outside, inside = pieces(copy)
        assert outside == pieces(row)[0] and copy.intent == row.intent
        assert [kind for kind, _ in inside] == [kind for kind, _ in pieces(row)[1]]
        assert set(inside) <= fillings and len(copy.words) == len(copy.tags)
    assert {pieces(c)[1][0][1] for c in copies} == {"boston", "san jose"}


def test_a_filling_comes_as_often_as_it_is_there() -> None:
    drawn = Counter(pieces(copy)[1][0][1] for copy in exchanged(ROWS[:3], 400, seed=0))
    assert drawn["boston"] / drawn.total() == pytest.approx(2 / 3, abs=0.05)


def test_the_scheme_stays() -> None:
    rows = [
        Tagged(tuple("见张三丰吗"), ("O", "B-per", "M-per", "E-per", "O")),
        Tagged(tuple("找李"), ("O", "S-per")),
    ]
    for copy in exchanged(rows, 10, seed=0):
        assert pieces(copy, "bmes")[1][0] in [("per", "张 三 丰"), ("per", "李")]


def test_what_breaks_its_scheme_is_left_alone() -> None:
    broken = Tagged(("a", "b"), ("B-x", "I-y"))
    assert [copy.words[0] for copy in exchanged([broken, ROWS[0]], 2, seed=0)] == ["fly", "fly"]


def test_the_seed_decides() -> None:
    assert exchanged(ROWS, 3, seed=4) == exchanged(ROWS, 3, seed=4) != exchanged(ROWS, 3, seed=5)
    assert exchanged(ROWS, 0, seed=4) == []


def test_training_sees_the_copies_and_measuring_does_not() -> None:
    task = Tag(exchanged=2)
    tokenizers = task.learn(ROWS, TokenizersConfig(target=Words()))
    assert tokenizers.labels[TAGS].counts == Tag().learn(ROWS, TokenizersConfig(target=Words())).labels[TAGS].counts
    assert len(task.batches(ROWS, tokenizers, seed=0)) == 4 + 2 * 3
    assert len(task.batches(ROWS, tokenizers)) == 4
    with pytest.raises(ValueError, match="0 or more"):
        Tag(exchanged=-1)
