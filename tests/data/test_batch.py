from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from qkv.data.batch import IGNORE, Batch, pad, seq2seq
from qkv.nn.tokens import Tokens
from qkv.text import BOS, EOS, PAD

ids = st.lists(st.integers(4, 99), max_size=7)


@given(st.lists(st.tuples(ids, ids), min_size=1, max_size=5))
def test_seq2seq_is_what_each_row_says(pairs):
    batch = seq2seq([x for x, _ in pairs], [y for _, y in pairs], rows=list(range(len(pairs))))
    for row, (x, y) in enumerate(pairs):
        read = batch.tokens.valid[row]
        assert batch.ids[row][read].tolist() == [BOS, *y]
        assert batch.targets[row][read].tolist() == [*y, EOS]
        assert batch.tokens.pos[row][read].tolist() == list(range(len(y) + 1))
        assert (batch.targets[row][~read] == IGNORE).all() and (batch.ids[row][~read] == PAD).all()
        seen = batch.source_tokens.valid[row]
        assert batch.source_ids[row][seen].tolist() == [*x, EOS]
        assert (batch.source_ids[row][~seen] == PAD).all()
    assert batch.source_ids.shape[1] == max(len(x) for x, _ in pairs) + 1, "no column of padding only"
    assert batch.ids.shape == batch.targets.shape == batch.tokens.shape


@given(st.lists(ids.filter(bool), min_size=1, max_size=5), st.sampled_from(["left", "right"]))
def test_pad_agrees_with_tokens(rows, side):
    table, tokens = pad(rows, IGNORE, side), Tokens.from_lengths([len(r) for r in rows], side=side)
    assert table.dtype == torch.long
    assert [table[i][tokens.valid[i]].tolist() for i in range(len(rows))] == rows
    assert (table[~tokens.valid] == IGNORE).all()


def test_to_moves_everything_and_keeps_the_rest():
    batch = seq2seq([[5]], [[6, 7]], rows=[3])
    batch.extra = {"weights": torch.ones(1), "tokens": batch.tokens, "name": "x"}
    moved = batch.to("meta")
    parts = [moved.ids, moved.targets, moved.source_ids, moved.tokens, moved.source_tokens]
    assert all(part.device.type == "meta" for part in [*parts, moved.extra["weights"], moved.extra["tokens"]])
    assert moved.rows == [3] and moved.extra["name"] == "x" and batch.ids.device.type == "cpu"


def test_to_without_a_source():
    batch = Batch(pad([[5]]), Tokens.arange(1, 1), pad([[6]]))
    assert batch.to("cpu").source_ids is None
