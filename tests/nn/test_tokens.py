"""`Tokens`: what is known of each token survives slicing, selecting and joining."""

from __future__ import annotations

import pytest
import torch

from qkv.nn import Tokens


def test_lengths_make_positions_on_either_side():
    right, left = Tokens.from_lengths([3, 1], 4), Tokens.from_lengths([3, 1], 4, "left")
    assert right.pos.tolist() == [[0, 1, 2, -1], [0, -1, -1, -1]]
    assert left.pos.tolist() == [[-1, 0, 1, 2], [-1, -1, -1, 0]]
    assert Tokens.from_lengths([3, 1]).shape == (2, 3)
    with pytest.raises(ValueError, match="'right' or 'left'"):
        Tokens.from_lengths([1], side="top")


@pytest.mark.parametrize(
    ("pos", "padded", "ordered"),
    [
        ([[0, 1, 2]], False, True),
        ([[4, 5, 6]], False, True),
        ([[0, 1, -1]], True, True),
        ([[-1, 0, 1]], True, False),
        ([[0, 1, 0]], False, False),
        ([[0, 0, 1]], False, False),
        ([[0, -1, 1]], True, False),
        ([[0, 1, 2], [0, 2, 1]], False, False),
        ([[-1, -1]], True, True),
    ],
)
def test_facts(pos, padded, ordered):
    tokens = Tokens(torch.tensor(pos))
    assert (tokens.padded, tokens.ordered) == (padded, ordered)
    assert tokens.end == max(max(row) for row in pos) + 1


def test_facts_that_are_known_are_true():
    known = Tokens.arange(2, 4, start=3)
    for part in (known, known[:, 1:3], known.cat(Tokens.arange(2, 2))):
        looked = Tokens(part.pos)
        assert (part.padded, part.ordered, part.end) == (looked.padded, looked.ordered, looked.end)


def facts(tokens):
    return {name: fact for name, fact in vars(tokens).items() if name in ("padded", "ordered", "end")}


@pytest.mark.parametrize(
    ("pos", "kept"),
    [
        ([[0, 1, 2], [3, 4, 5]], {"padded": False, "ordered": True}),
        ([[0, 1, 2], [3, 4, -1]], {"ordered": True}),
        ([[0, 1, 2], [0, 1, 0]], {"padded": False}),
        ([[0, 1, 2], [-1, 0, 1]], {}),
    ],
)
def test_what_is_known_stays_known_where_it_remains_true(pos, kept):
    tokens = Tokens(torch.tensor(pos))
    assert facts(tokens) == {}, "nothing is looked at before it is asked for"
    whole = {"padded": tokens.padded, "ordered": tokens.ordered, "end": tokens.end}
    assert facts(tokens.with_fields(doc=tokens.pos)) == whole == facts(tokens.to("meta"))
    parts = [tokens.select(torch.tensor([1, 0, 1])), tokens.select(torch.tensor([0])), tokens[:1], tokens[:, 1:]]
    for part in parts:
        assert facts(part) == kept
        looked = Tokens(part.pos)
        assert (part.padded, part.ordered, part.end) == (looked.padded, looked.ordered, looked.end)


def test_slices_rows_and_fields_go_together():
    tokens = Tokens.from_lengths([3, 2]).with_fields(doc=torch.tensor([[5, 6, 7], [8, 9, 0]]))
    assert tokens[:, 1:].fields["doc"].tolist() == [[6, 7], [9, 0]]
    picked = tokens.select(torch.tensor([1, 1, 0]))
    assert picked.pos.tolist() == [[0, 1, -1], [0, 1, -1], [0, 1, 2]]
    assert picked.fields["doc"].tolist() == [[8, 9, 0], [8, 9, 0], [5, 6, 7]]


def test_columns_are_gathered_row_by_row():
    tokens = Tokens.from_lengths([3, 2]).with_fields(doc=torch.tensor([[5, 6, 7], [8, 9, 0]]))
    kept = tokens.gather(torch.tensor([[2, 0], [1, 0]]))
    assert kept.pos.tolist() == [[2, 0], [1, 0]] and kept.fields["doc"].tolist() == [[7, 5], [9, 8]]
    assert tokens.padded and not kept.padded and not kept.ordered
    whole = Tokens.arange(1, 3).gather(torch.tensor([[2, 1]]))
    assert facts(whole) == {"padded": False} and not whole.ordered, "the order may be another"


def test_a_slice_of_padded_tokens_looks_again():
    tokens = Tokens.from_lengths([3, 2])
    assert tokens.padded and not tokens[:, :2].padded and tokens[:, 2:].padded


def test_joining_fills_missing_fields_with_zero():
    left = Tokens.arange(1, 2).with_fields(doc=torch.tensor([[3, 3]]))
    both = left.cat(Tokens.from_lengths([1], 2).with_fields(prefix=torch.ones(1, 2, dtype=torch.long)))
    assert both.pos.tolist() == [[0, 1, 0, -1]]
    assert both.fields["doc"].tolist() == [[3, 3, 0, 0]]
    assert both.fields["prefix"].tolist() == [[0, 0, 1, 1]]
    assert both.padded and left.get("segment").tolist() == [[0, 0]]


def test_memo_makes_once():
    tokens, calls = Tokens.arange(1, 2), []
    for _ in range(3):
        assert tokens.memo("key", lambda: calls.append(1) or 7) == 7
    assert len(calls) == 1
