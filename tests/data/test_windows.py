from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qkv.data.batch import IGNORE
from qkv.data.windows import StridedWindows, WindowConfig, Windows
from qkv.errors import UserError


@given(st.integers(5, 60), st.integers(1, 4), st.integers(1, 5), st.integers(0, 99))
def test_crops_are_pieces_of_the_stream(n, length, rows, seed):
    source = Windows(np.arange(n), WindowConfig(length, rows), seed)
    plan = source.plan(3)
    assert plan == Windows(np.arange(n), WindowConfig(length, rows), seed).plan(3)
    assert sum(map(len, plan)) * length >= n > (sum(map(len, plan)) - rows) * length - length
    for indices in plan:
        batch = source.load(indices)
        assert batch.ids.shape == (rows, length) and batch.rows == indices
        assert (batch.targets == batch.ids + 1).all(), "the target is the next token of the stream"
        assert batch.ids[:, 0].tolist() == indices and int(batch.targets.max()) < n
        assert batch.tokens.pos.tolist() == [list(range(length))] * rows


def test_crops_begin_everywhere_alike_and_differ_between_epochs():
    source = Windows(np.arange(20), WindowConfig(length=4, rows=8), seed=0)
    starts = Counter(at for epoch in range(1000) for batch in source.plan(epoch) for at in batch)
    assert sorted(starts) == list(range(16)), "the first and the last window too"
    assert max(starts.values()) < 1.3 * min(starts.values())
    assert source.plan(0) != source.plan(1)


@given(st.integers(2, 80), st.integers(1, 9), st.data())
def test_strided_windows_ask_for_every_target_once(n, length, data):
    stride = data.draw(st.integers(1, length))
    seed = data.draw(st.one_of(st.none(), st.integers(0, 9)))
    source = StridedWindows(np.arange(n), WindowConfig(length, rows=3), stride, seed)
    asked: list[int] = []
    for indices in source.plan(0):
        batch = source.load(indices)
        assert len(indices) <= 3
        counted = batch.targets != IGNORE
        assert (batch.ids[counted] + 1 == batch.targets[counted]).all()
        assert batch.tokens.valid[counted].all()
        later = counted & (torch.tensor(indices) > 0)[:, None]
        assert not later.any() or int(batch.tokens.pos[later].min()) >= length - stride, "context"
        asked += batch.targets[counted].tolist()
    assert sorted(asked) == list(range(1, n))
    assert sum(map(len, source.plan(0))) == len(source)


def test_shuffled_strides_differ_between_epochs_and_fixed_ones_do_not():
    stream = np.arange(400)
    shuffled, fixed = (StridedWindows(stream, WindowConfig(8, 4), seed=seed) for seed in (1, None))
    assert shuffled.plan(0) == shuffled.plan(0) != shuffled.plan(1)
    assert fixed.plan(0) == fixed.plan(1) and fixed.plan(0)[0] == [0, 8, 16, 24]


def test_a_window_that_is_padded_knows_it():
    batch = StridedWindows([5, 6, 7, 8, 9], WindowConfig(3, 2)).load([0, 3])
    assert batch.ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch.targets.tolist() == [[6, 7, 8], [9, IGNORE, IGNORE]]
    assert batch.tokens.pos.tolist() == [[0, 1, 2], [0, -1, -1]]


def test_short_streams_and_strides_are_refused():
    with pytest.raises(UserError, match=r"the text has 4 tokens, too few for a window of 4 .* set length below 4"):
        Windows([1, 2, 3, 4], WindowConfig(4))
    Windows([1, 2, 3, 4, 5], WindowConfig(4))
    for stride in (0, 5):
        with pytest.raises(UserError, match=f"stride is {stride}; choose one from 1 to the windows' length, 4"):
            StridedWindows([1, 2, 3], WindowConfig(4), stride)
    with pytest.raises(UserError, match=r"the text has 1 tokens; at least 2"):
        StridedWindows([1])
    with pytest.raises(UserError, match=r"length is 0"):
        WindowConfig(0)


def test_a_limit_takes_windows_from_the_whole_stream():
    whole = StridedWindows(list(range(1000)), WindowConfig(10))
    some = StridedWindows(list(range(1000)), WindowConfig(10), limit=7)
    assert len(some) == 7 and set(some.offsets) <= set(whole.offsets)
    assert some.offsets[0] == 0 and some.offsets[-1] > 800
    assert StridedWindows(list(range(1000)), WindowConfig(10), limit=5000).offsets == whole.offsets
