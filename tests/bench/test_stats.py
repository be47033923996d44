from __future__ import annotations

import pytest

from bench.stats import agreement, geometric_mean, ratio


def test_ratio_is_formed_within_each_round():
    # Round 2 was slow for both: their ratio is unaffected, while the ratio of medians would be 90/60.
    result = ratio([100.0, 10.0, 90.0], [50.0, 5.0, 60.0])
    assert (result.median, result.low, result.high) == (2.0, 1.5, 2.0)
    assert str(result) == "2.00 (1.50-2.00)"


@pytest.mark.parametrize("peer", [[], [1.0]])
def test_ratio_refuses_unpaired_rounds(peer):
    with pytest.raises(ValueError, match="round by round"):
        ratio([1.0, 2.0], peer)


def test_geometric_mean_of_a_ratio_and_its_inverse_is_one():
    assert geometric_mean([4.0, 0.25]) == pytest.approx(1.0)


def test_agreement_counts_tokens_and_first_differences():
    found = agreement([[1, 2, 3, 4], [5, 9, 7, 8]], [[1, 2, 3, 4], [5, 6, 7, 8]])
    assert found.tokens == 7 / 8
    assert found.step == 5 / 6  # 4 + 1 tokens before any difference, one row that differs


def test_agreement_counts_missing_tokens_as_different():
    found = agreement([[1, 2]], [[1, 2, 3, 4]])
    assert (found.tokens, found.step) == (0.5, 2 / 3)
    assert agreement([[1]], [[1]]).step == 1.0
