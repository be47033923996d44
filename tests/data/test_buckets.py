from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkv.data.buckets import BucketConfig, TokenBuckets
from qkv.errors import UserError

BUDGET = 60
lengths = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=80)
seeds = st.one_of(st.none(), st.integers(0, 2**40))


def cells(lengths, batch: list[int]) -> int:
    """What a batch costs, by brute force."""
    return len(batch) * sum(max(lengths[i][side] for i in batch) for side in (0, 1))


@given(lengths, seeds, st.integers(0, 5), st.one_of(st.none(), st.integers(1, 6)))
def test_every_example_once_and_within_the_budget(lengths, seed, epoch, max_rows):
    plan = TokenBuckets(lengths, BucketConfig(BUDGET, max_rows), seed).plan(epoch)
    assert sorted(i for batch in plan for i in batch) == list(range(len(lengths)))
    assert all(cells(lengths, batch) <= BUDGET for batch in plan)
    assert all(1 <= len(batch) <= (max_rows or len(lengths)) for batch in plan)
    assert all(type(i) is int for batch in plan for i in batch)


@given(lengths, seeds)
def test_waste_is_the_share_of_padding(lengths, seed):
    buckets = TokenBuckets(lengths, BucketConfig(BUDGET), seed)
    plan = buckets.plan(0)
    padded = sum(cells(lengths, batch) for batch in plan)
    used = sum(map(sum, lengths))
    assert buckets.waste(plan) == pytest.approx(1 - used / padded if padded else 0.0)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=80), st.integers(0, 9))
def test_one_length_an_example(lengths, seed):
    plan = TokenBuckets(lengths, BucketConfig(BUDGET), seed).plan(0)
    assert sorted(i for batch in plan for i in batch) == list(range(len(lengths)))
    assert all(len(batch) * max(lengths[i] for i in batch) <= BUDGET for batch in plan)


@given(lengths)
def test_runs_are_as_long_as_the_budget_allows(lengths):
    """In the unshuffled order no batch could take the first example of the next."""
    plan = TokenBuckets(lengths, BucketConfig(BUDGET), None).plan(0)[::-1]  # the order in which runs are cut
    for batch, following in itertools.pairwise(plan):
        assert cells(lengths, [*batch, following[0]]) > BUDGET or len(batch) == BUDGET


def realistic(n: int) -> np.ndarray:
    random = np.random.default_rng(0)
    source = random.poisson(8, n) + 2
    return np.stack([source, np.maximum(2, source + random.integers(-2, 2, n))], axis=1)


def test_plans_depend_on_seed_and_epoch_alone():
    lengths, config = realistic(500), BucketConfig(256)
    buckets = TokenBuckets(lengths, config, seed=7)
    third = buckets.plan(3)
    buckets.plan(0)
    assert len({len(buckets.plan(epoch)) for epoch in range(5)}) == 1, "an epoch is a fixed number of steps"
    assert third == buckets.plan(3) == TokenBuckets(lengths, config, seed=7).plan(3), "no hidden state"
    others = [buckets.plan(2), TokenBuckets(lengths, config, seed=8).plan(3), TokenBuckets(lengths, config, 3).plan(7)]
    assert all(plan != third for plan in others)


def test_neighbours_change_and_lengths_come_in_no_order():
    lengths = realistic(2000)
    plans = [TokenBuckets(lengths, BucketConfig(512), seed=1).plan(epoch) for epoch in (0, 1)]
    first, second = ({frozenset(batch) for batch in plan} for plan in plans)
    assert len(first & second) < 0.05 * len(first), "examples meet others every epoch"
    means = [lengths[batch].mean() for batch in plans[0]]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3, "batches are dealt in shuffled order"


def test_little_padding_and_fast_enough_for_the_dictionary():
    lengths = realistic(120_000)
    buckets = TokenBuckets(lengths, BucketConfig(4096), seed=0)
    buckets.plan(0)
    start = time.thread_time()
    plan = buckets.plan(1)
    assert time.thread_time() - start < 0.3
    assert buckets.waste(plan) < 0.01
    shuffled = np.random.default_rng(0).permutation(len(lengths)).reshape(-1, 200).tolist()
    assert buckets.waste(shuffled) > 0.3, "control: batches drawn at random are a third padding"


def test_evaluation_is_longest_first_and_the_same_every_epoch():
    lengths = realistic(300)
    buckets = TokenBuckets(lengths, BucketConfig(256), seed=None)
    plan = buckets.plan(0)
    assert plan == buckets.plan(1)
    longest = [lengths[batch][:, 1].max() for batch in plan]
    assert longest == sorted(longest, reverse=True)


def test_too_long_is_refused_with_its_number():
    with pytest.raises(UserError, match=r"example 1 \(from 0\) has 9 tokens, more than max_length 8; .* truncate"):
        TokenBuckets([(2, 2), (3, 9)], BucketConfig(100, max_length=8))
    with pytest.raises(UserError, match=r"example 2 \(from 0\) has 12 tokens, more than the budget of 10 a batch"):
        TokenBuckets([(2, 2), (3, 5), (6, 6)], BucketConfig(10))
    TokenBuckets([(2, 2), (5, 5)], BucketConfig(10, max_length=5))


def test_truncate_clips_the_lengths():
    buckets = TokenBuckets([(2, 50), (50, 3)], BucketConfig(20, max_length=10, overlong="truncate"))
    assert buckets.lengths.tolist() == [[2, 10], [10, 3]]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"tokens": 0}, "tokens is 0; give 1 or more"),
        ({"max_rows": 0}, "max_rows is 0"),
        ({"max_length": -1}, "max_length is -1"),
        ({"overlong": "truncate"}, "overlong: truncate needs a max_length"),
    ],
)
def test_senseless_configs_are_refused(fields, sentence):
    with pytest.raises(UserError, match=sentence):
        BucketConfig(**fields)


def test_nothing_is_refused():
    with pytest.raises(UserError, match=r"no examples"):
        TokenBuckets([], BucketConfig())
