from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkv.data.batch import IGNORE, BatchSource
from qkv.data.buckets import BucketConfig
from qkv.data.pairs import PairSource
from qkv.errors import UserError
from qkv.text import BOS, EOS

ids = st.lists(st.integers(4, 99), max_size=9)
examples = st.lists(st.tuples(ids, ids), min_size=1, max_size=30)


def epoch_of(source: BatchSource, epoch: int = 0) -> dict[int, tuple[list[int], list[int]]]:
    """The examples that an epoch's batches hold, by row index, read back from the tensors."""
    found = {}
    for indices in source.plan(epoch):
        batch = source.load(indices)
        assert batch.rows == indices
        for line, row in enumerate(batch.rows):
            assert row not in found, "an example came twice"
            x = batch.source_ids[line][batch.source_tokens.valid[line]].tolist()
            y = batch.targets[line][batch.targets[line] != IGNORE].tolist()
            assert batch.ids[line][batch.tokens.valid[line]].tolist() == [BOS, *y[:-1]]
            assert x.pop() == y.pop() == EOS
            found[row] = (x, y)
    return found


@given(examples, st.integers(0, 3))
def test_an_epoch_holds_every_example_as_it_was(examples, epoch):
    for seed in (5, None):
        source = PairSource(examples, BucketConfig(40), seed)
        assert len(source) == len(examples)
        assert epoch_of(source, epoch) == dict(enumerate(examples))


@given(examples)
def test_a_batch_holds_no_more_cells_than_the_budget(examples):
    source = PairSource(examples, BucketConfig(40), seed=5)
    batches = [source.load(indices) for indices in source.plan(0)]
    total = [batch.ids.numel() + batch.source_ids.numel() for batch in batches]
    assert max(total) <= 40
    used = sum(len(x) + len(y) + 2 for x, y in examples)
    assert source.waste(0) == pytest.approx(1 - used / sum(total))


def test_too_long_is_refused_or_truncated_as_asked():
    examples = [([5, 6, 7, 8], [9]), ([5], [6, 7, 8])]
    with pytest.raises(UserError, match=r"example 0 \(from 0\) has 5 tokens, more than max_length 3"):
        PairSource(examples, BucketConfig(40, max_length=3))
    source = PairSource(examples, BucketConfig(40, max_length=3, overlong="truncate"))
    assert epoch_of(source) == {0: ([5, 6], [9]), 1: ([5], [6, 7])}
    assert max(source.load([0, 1]).source_ids.shape[1], source.load([0, 1]).ids.shape[1]) == 3


def test_evaluation_begins_with_the_longest():
    source = PairSource([([5] * n, [6] * n) for n in (1, 9, 4)], BucketConfig(20), seed=None)
    assert source.plan(0) == source.plan(9) == [[1], [0, 2]]
