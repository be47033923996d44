from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkv.data.batch import IGNORE
from qkv.data.packing import PackedSource, PackingConfig, best_fit, pack, streaming
from qkv.errors import UserError
from qkv.text import BOS, EOS, PAD

ROOM = 12
documents = st.lists(st.lists(st.integers(4, 99), max_size=ROOM - 1), min_size=1, max_size=40)
sizes = st.lists(st.integers(1, ROOM), min_size=1, max_size=60)


def unpacked(batch) -> list[list[int]]:
    """The documents of a batch read back by their `doc` number; checks ids, positions and targets of each."""
    found = []
    for ids, targets, pos, doc in zip(
        batch.ids, batch.targets, batch.tokens.pos, batch.tokens.fields["doc"], strict=True
    ):
        for number in range(int(doc.max()) + 1):
            mine = doc == number
            read, asked = ids[mine].tolist(), targets[mine].tolist()
            assert pos[mine].tolist() == list(range(len(read))), "positions restart"
            assert read[0] == BOS and asked[-1] == EOS and read[1:] == asked[:-1], "targets stay within the document"
            found.append(asked[:-1])
        assert (ids[doc < 0] == PAD).all() and (targets[doc < 0] == IGNORE).all() and (pos[doc < 0] == -1).all()
        assert (pos[doc >= 0] >= 0).all()
    return found


@given(documents)
def test_packed_says_what_the_documents_say_apart(documents):
    batch = pack(documents, ROOM)
    assert batch.ids.shape[1] == ROOM
    assert unpacked(batch) == documents


@pytest.mark.parametrize("method", [best_fit, streaming])
@given(lengths=sizes)
def test_rows_hold_every_document_once_and_never_too_much(method, lengths):
    rows = method(lengths, ROOM)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(0 < sum(lengths[i] for i in row) <= ROOM for row in rows)


def slow_best_fit(lengths: list[int], room: int) -> int:
    """How many rows the textbook's loop over all open rows takes."""
    left: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [i for i, space in enumerate(left) if space >= length]
        if not fitting:
            fitting, left = [len(left)], [*left, room]
        left[min(fitting, key=lambda i: left[i])] -= length
    return len(left)


@given(sizes)
def test_best_fit_agrees_with_its_slow_twin(lengths):
    assert len(best_fit(lengths, ROOM)) == slow_best_fit(lengths, ROOM)


@given(sizes)
def test_streaming_keeps_order_and_fills_rows(lengths):
    rows = streaming(lengths, ROOM)
    assert [i for row in rows for i in row] == list(range(len(lengths)))
    for row, following in itertools.pairwise(rows):
        assert sum(lengths[i] for i in row) + lengths[following[0]] > ROOM


@given(
    documents, st.sampled_from(["best_fit", "streaming"]), st.one_of(st.none(), st.integers(0, 99)), st.integers(1, 4)
)
def test_an_epoch_holds_every_document_once(documents, method, seed, rows):
    source = PackedSource(documents, PackingConfig(ROOM, rows, method), seed)
    plan = source.plan(2)
    assert sorted(i for batch in plan for i in batch) == list(range(len(documents)))
    assert plan == PackedSource(documents, PackingConfig(ROOM, rows, method), seed).plan(2)
    cells = 0
    for indices in plan:
        batch = source.load(indices)
        assert batch.ids.shape[0] <= rows
        assert unpacked(batch) == [documents[i] for i in indices]
        cells += batch.ids.numel()
    assert source.waste(2) == pytest.approx(1 - sum(len(d) + 1 for d in documents) / cells)


def test_best_fit_wastes_little_and_epochs_differ():
    random = np.random.default_rng(0)
    documents = [[5] * int(n) for n in random.integers(1, 60, 3000)]
    source = PackedSource(documents, PackingConfig(128, 8), seed=1)
    in_order = PackedSource(documents, PackingConfig(128, 8, "streaming"), seed=1)
    assert source.waste(0) < 0.01 < 0.1 < in_order.waste(0)
    assert source.plan(0) != source.plan(1) and in_order.plan(0) != in_order.plan(1)
    assert PackedSource(documents, PackingConfig(128, 8), seed=None).plan(0)[0][:1] == [
        max(range(3000), key=lambda i: len(documents[i]))
    ]


def test_too_long_is_refused_or_truncated_as_asked():
    documents = [[5], [6, 7, 8, 9]]
    with pytest.raises(
        UserError, match=r"document 1 \(from 0\) has 4 tokens, more than a row of 4 takes; raise length"
    ):
        PackedSource(documents, PackingConfig(4))
    source = PackedSource(documents, PackingConfig(4, overlong="truncate"), seed=None)
    assert unpacked(source.load([0, 1])) == [[5], [6, 7, 8]]
    with pytest.raises(UserError, match=r"no documents"):
        PackedSource([])
    with pytest.raises(UserError, match=r"rows is 0"):
        PackingConfig(rows=0)
