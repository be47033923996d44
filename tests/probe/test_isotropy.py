"""Isotropy: whitening and the removal of directions against their definitions."""

import pytest
import torch

from qkv.probe.isotropy import all_but_the_top, mean_cosine, whitening


def draw(rows, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator, dtype=torch.float64)
    return torch.randn(rows, width, generator=generator, dtype=torch.float64) @ mix + 3


def test_the_mean_cosine_is_the_mean_over_pairs():
    x = draw(12, 5)
    slow = [torch.cosine_similarity(x[i], x[j], dim=0) for i in range(12) for j in range(12) if i != j]
    assert mean_cosine(x) == pytest.approx(float(torch.stack(slow).mean()), abs=1e-12)
    assert mean_cosine(torch.ones(5, 3)) == pytest.approx(1.0)


def test_whitened_vectors_have_the_identity_as_covariance():
    x = draw(200, 6)
    white = whitening(x)(x)
    torch.testing.assert_close(torch.cov(white.T), torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-10)
    torch.testing.assert_close(white.mean(0), torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-10)


def test_whitening_makes_distances_those_of_mahalanobis():
    x = draw(100, 4)
    white, inverse = whitening(x)(x), torch.cov(x.T).inverse()
    gap = x[0] - x[1]
    assert float((white[0] - white[1]).square().sum()) == pytest.approx(float(gap @ inverse @ gap), rel=1e-9)


def test_fewer_directions_are_the_largest_ones():
    x = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    kept = whitening(x, 1)(x).flatten()
    assert kept.abs().tolist() == pytest.approx([1.5**0.5, 1.5**0.5, 0, 0], abs=1e-6)
    with pytest.raises(ValueError, match="vary in 2 directions, so 3"):
        whitening(x, 3)
    flat = torch.cat([x, torch.zeros(4, 1)], 1)
    assert whitening(flat)(flat).shape == (4, 2)


def test_the_top_is_gone_and_the_rest_is_untouched():
    x = draw(150, 5)
    found = all_but_the_top(x, 2)
    top = torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh[:2]
    rest = found(x)
    torch.testing.assert_close(rest @ top.T, torch.zeros(150, 2, dtype=torch.float64), rtol=0, atol=1e-9)
    torch.testing.assert_close((x - x.mean(0)) - rest, ((x - x.mean(0)) @ top.T) @ top, rtol=0, atol=1e-9)
    torch.testing.assert_close(all_but_the_top(x, 0)(x), x - x.mean(0), rtol=0, atol=1e-9)


def test_a_common_direction_is_what_makes_cosines_large():
    x = torch.randn(300, 8, generator=torch.Generator().manual_seed(1)) + 4
    assert mean_cosine(x) > 0.9
    assert abs(mean_cosine(whitening(x)(x))) < 0.02
    assert abs(mean_cosine(all_but_the_top(x, 1)(x))) < 0.02


def test_one_vector_has_no_covariance():
    with pytest.raises(ValueError, match="at least two"):
        whitening(torch.ones(1, 3))
    with pytest.raises(ValueError, match="6 directions cannot"):
        all_but_the_top(torch.ones(4, 3), 6)
