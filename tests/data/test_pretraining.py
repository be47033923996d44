"""Rows to pretrain on: windows and pairs, their batches, and what depends on the epoch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qkv.data.batch import IGNORE
from qkv.data.corruption import Masking, Vocabulary
from qkv.data.pretraining import (
    PAIR,
    CorruptedRows,
    Example,
    NextSentence,
    PairExamples,
    Row,
    SentenceOrder,
    StreamExamples,
    collate,
    segments,
    sentences,
)
from qkv.errors import UserError

CLS, SEP = 5, 6
VOCABULARY = Vocabulary(1000, 4, np.arange(10, 1000), np.ones(1000, dtype=bool))
DOCUMENTS = [list(range(100, 130)), [], list(range(200, 217))]
TEXTS = [[[100 * d + 10 * s + i for i in range(4)] for s in range(6)] for d in range(1, 5)]


def rows(dynamic: bool = True, seed: int | None = 0, **settings: int) -> CorruptedRows:
    masking, examples = Masking(), StreamExamples(DOCUMENTS, 10, (CLS,), (SEP,), SEP)

    def corrupt(example: Example, random: np.random.Generator) -> Row:
        return Row(*masking.corrupt(example.ids, VOCABULARY, random))

    return CorruptedRows(examples, corrupt, 2, seed, dynamic, **settings)


@pytest.mark.parametrize("length", [9, 10, 100])
def test_every_token_is_in_one_window(length: int) -> None:
    examples = StreamExamples(DOCUMENTS, length, (CLS,), (SEP,), SEP)
    cut = [examples.example(i, np.random.default_rng(0)) for i in range(len(examples))]
    assert all(len(e.ids) <= length and e.ids[0] == CLS and e.ids[-1] == SEP for e in cut)
    assert [x for e in cut for x in e.ids[1:-1].tolist()] == [*DOCUMENTS[0], SEP, *DOCUMENTS[2]]
    assert all(not e.free[i] for e in cut for i in np.flatnonzero((e.ids == CLS) | (e.ids == SEP)))
    with pytest.raises(UserError, match="no text to learn from"):
        StreamExamples([[]], 10, (CLS,), (SEP,), SEP)


def test_an_epoch_reads_every_row_once_and_says_which_epoch_it_is() -> None:
    source = rows()
    for epoch in (0, 3):
        plan = [i for batch in source.plan(epoch) for i in batch]
        assert sorted(i - epoch * len(source) for i in plan) == list(range(len(source)))
    assert source.plan(0) == rows().plan(0) != rows(seed=1).plan(0)


def test_dynamic_rows_change_with_the_epoch_and_static_ones_do_not() -> None:
    n = len(rows())
    for row in range(n):
        static = rows(dynamic=False)
        assert static.row(row).ids.tolist() == static.row(row + 7 * n).ids.tolist() == rows().row(row).ids.tolist()
    assert any(rows().row(r).ids.tolist() != rows().row(r + n).ids.tolist() for r in range(n))
    measured = rows(seed=None)
    assert measured.plan(0)[0] == [0, 1]
    assert all(measured.row(r).ids.tolist() == measured.row(r + n).ids.tolist() for r in range(n))


def test_a_row_does_not_depend_on_its_batch() -> None:
    source = rows()
    [alone] = source.load([3]).ids.tolist()
    assert source.load([0, 3, 1]).ids[1, : len(alone)].tolist() == alone


def test_fewer_rows_are_evenly_spaced() -> None:
    assert rows(limit=3, seed=None).plan(0) == [[0, 2], [4]]


def test_sentences_and_segments() -> None:
    assert sentences("One. Two? 三。四！\n\nfive") == ["One.", "Two?", "三。", "四！", "five"]
    assert segments([[1], [2, 3], [4, 5, 6, 7, 8], []], room=4) == [[1, 2, 3], [4, 5, 6, 7]]


def drawn(kind: NextSentence | SentenceOrder) -> list[tuple[list[int], list[int], int]]:
    examples = PairExamples(TEXTS, kind, 11, CLS, SEP)
    assert len(examples) == 4 * 3
    found = []
    for epoch in range(60):
        for row in range(len(examples)):
            example = examples.example(row, np.random.default_rng((epoch, row)))
            ids, second = example.ids.tolist(), example.second
            assert second is not None and example.label is not None
            assert ids[0] == CLS and ids[second - 1] == SEP == ids[-1]
            assert example.free.sum() == len(ids) - 3
            found.append((ids[1 : second - 1], ids[second:-1], example.label))
    return found


def test_the_next_segment_or_one_of_another_document() -> None:
    pairs = drawn(NextSentence())
    for first, second, label in pairs:
        assert (second[0] == first[0] + 10) is (label == 0)
        assert (second[0] // 100 == first[0] // 100) is (label == 0)
    assert sum(label for *_, label in pairs) / len(pairs) == pytest.approx(0.5, abs=5 * 0.5 / len(pairs) ** 0.5)


def test_neighbours_in_order_or_swapped() -> None:
    pairs = drawn(SentenceOrder())
    assert all(second[0] - first[0] == (10 if label == 0 else -10) for first, second, label in pairs)
    assert sum(label for *_, label in pairs) / len(pairs) == pytest.approx(0.5, abs=5 * 0.5 / len(pairs) ** 0.5)


def test_segments_are_numbered_from_the_second_one_on() -> None:
    def unspoilt(example: Example, random: np.random.Generator) -> Row:
        return Row(example.ids, np.full(len(example.ids), IGNORE))

    source = CorruptedRows(PairExamples(TEXTS, SentenceOrder(), 11, CLS, SEP), unspoilt, 2)
    for index in range(len(source)):
        row = source.row(index)
        first_end = row.ids.tolist().index(SEP)
        assert row.fields["segment"].tolist() == [int(i > first_end) for i in range(len(row.ids))]
        assert row.extra[PAIR] == int(row.ids[1] > row.ids[first_end + 1])


def test_pairs_that_cannot_be() -> None:
    with pytest.raises(UserError, match="another document, and there are 1"):
        PairExamples(TEXTS[:1], NextSentence(), 11, CLS, SEP)
    with pytest.raises(UserError, match="two sentences"):
        PairExamples([[[1]]], SentenceOrder(), 11, CLS, SEP)


def test_rows_side_by_side() -> None:
    def row(n: int, label: int) -> Row:
        ids = np.arange(n)
        fields = {"pos": np.array([*range(n - 1), 0]), "query": ids % 2}
        return Row(ids, np.full(n, IGNORE), fields, {"draw": ids + 7, PAIR: label})

    batch = collate([row(3, 0), row(2, 1)], padding=9)
    assert batch.ids.tolist() == [[0, 1, 2], [0, 1, 9]]
    assert batch.tokens.pos.tolist() == [[0, 1, 0], [0, 0, -1]]
    assert batch.tokens.fields["query"].tolist() == [[0, 1, 0], [0, 1, 0]]
    assert batch.extra["draw"].tolist() == [[7, 8, 9], [7, 8, 0]]
    assert torch.equal(batch.extra[PAIR], torch.tensor([0, 1]))
