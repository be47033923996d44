"""Batches of texts: how often what is rare is drawn, against the closed form."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from qkv.data.buckets import BucketConfig
from qkv.data.readings import Reading, Readings, drawn, power_shares

LABELS = ["a"] * 900 + ["b"] * 90 + ["c"] * 10


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_a_label_is_drawn_in_proportion_to_its_power(power: float) -> None:
    rows = drawn(power_shares(LABELS, power), np.random.default_rng(0))
    found = Counter(LABELS[i] for i in rows)
    counts = Counter(LABELS)
    total = sum(n**power for n in counts.values())
    for label, n in counts.items():
        assert found[label] == pytest.approx(1000 * n**power / total, abs=40 * (1 - power) + 1e-9)
        each = Counter(i for i in rows if LABELS[i] == label)
        expected = 1000 * n ** (power - 1) / total
        assert {each[i] for i in range(1000) if LABELS[i] == label} <= {int(expected), int(expected) + 1}


def test_the_mean_of_many_epochs_is_exact() -> None:
    shares = np.array([1.0, 2.0, 3.5, 0.5])
    random = np.random.default_rng(0)
    counts = sum(np.bincount(drawn(shares, random), minlength=4) for _ in range(4000)) / 4000
    assert counts == pytest.approx(4 * shares / shares.sum(), abs=0.03)


def test_an_epoch_is_a_function_of_the_seed_and_keeps_to_the_budget() -> None:
    readings = [Reading([1] * (2 + i % 7), extra={"label": 0}) for i in range(len(LABELS))]
    config = BucketConfig(tokens=64)
    shares = power_shares(LABELS, 0.0)
    source = Readings(readings, config, seed=3, shares=shares)
    assert source.plan(1) == Readings(readings, config, seed=3, shares=shares).plan(1) != source.plan(2)
    for batch in source.plan(1):
        assert len(batch) * max(len(readings[i].ids) for i in batch) <= 64
    assert sum(map(len, source.plan(1))) == len(readings)
    assert len(set().union(*source.plan(1))) < 500, "a third of the 900 frequent rows, all of the rare ones"
    assert {i for batch in source.plan(1) for i in batch} >= set(range(990, 1000))
    every = Readings(readings, config, seed=None, shares=shares)
    assert sorted(i for batch in every.plan(0) for i in batch) == list(range(1000)), "measuring takes every row once"
