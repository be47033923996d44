"""Collapsed Gibbs sampling of topics: against the posterior by enumeration; counts stay counts."""

from __future__ import annotations

from collections import Counter
from itertools import product
from math import lgamma

import numpy as np
import pytest

from qkv.baselines.gibbs import Sampler

TEXTS = [[0, 0, 1], [1, 2]]
ALPHA, BETA = 0.5, 0.3


def log_joint(topics: tuple[int, ...], n_words: int = 3) -> float:
    """log p(words, topics) with both Dirichlets integrated out."""
    split = topics[:3], topics[3:]
    total = 0.0
    for own in split:
        total += sum(lgamma(own.count(k) + ALPHA) for k in range(2)) - lgamma(len(own) + 2 * ALPHA)
    pairs = [(k, w) for own, text in zip(split, TEXTS, strict=True) for k, w in zip(own, text, strict=True)]
    for k in range(2):
        total += sum(lgamma(pairs.count((k, w)) + BETA) for w in range(n_words))
        total -= lgamma(topics.count(k) + n_words * BETA)
    return total


@pytest.mark.parametrize("n_words", [3, 30])
def test_the_chain_visits_states_as_often_as_they_are_likely(n_words: int) -> None:
    states = list(product(range(2), repeat=5))
    weights = np.exp([log_joint(state, n_words) for state in states])
    sampler = Sampler(TEXTS, 2, n_words, ALPHA, BETA)
    visits = Counter(tuple(int(k) for t in sampler.sweep().topics for k in t) for _ in range(8000))
    seen = np.array([visits[state] / 8000 for state in states])
    assert seen == pytest.approx(weights / weights.sum(), abs=0.02)


def test_counts_stay_counts() -> None:
    sampler = Sampler(TEXTS, 2, 3).sweep(5)
    assert sampler.of_text.sum(1).tolist() == [3, 2]
    assert sampler.of_word.sum(0).tolist() == [2, 2, 1]
    assert sampler.of_topic.tolist() == sampler.of_word.sum(1).tolist()
    assert sampler.words.sum(1) == pytest.approx([1, 1]) and sampler.proportions.sum(1) == pytest.approx([1, 1])
    again = Sampler(TEXTS, 2, 3).sweep(5)
    assert all((a == b).all() for a, b in zip(sampler.topics, again.topics, strict=True))
