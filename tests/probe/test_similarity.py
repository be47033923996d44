"""Centred kernel alignment against its definition by Gram matrices."""

import pytest
import torch

from qkv.probe.similarity import linear_cka


def by_gram_matrices(x, y):
    """tr(KHLH) / sqrt(tr(KHKH) tr(LHLH)), with K = XXᵀ, L = YYᵀ and the centring matrix H."""
    n = len(x)
    h = torch.eye(n, dtype=torch.float64) - 1 / n
    k, m = h @ x @ x.T @ h, h @ y @ y.T @ h
    return float((k * m).sum() / (k.norm() * m.norm()))


def draw(rows, width, seed):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 2


def test_it_is_the_alignment_of_the_centred_gram_matrices():
    x, y = draw(30, 5, 0), draw(30, 8, 1)
    assert linear_cka(x, y) == pytest.approx(by_gram_matrices(x, y), abs=1e-12)


def test_rotation_shift_and_scale_change_nothing_and_a_general_map_does():
    x = draw(40, 6, 0)
    rotation = torch.linalg.qr(draw(6, 6, 1)).Q
    assert linear_cka(x, 7 * x @ rotation - 3) == pytest.approx(1.0, abs=1e-12)
    assert linear_cka(x, x @ torch.diag(torch.tensor([9.0, 1, 1, 1, 1, 1], dtype=torch.float64))) < 0.9


def test_unrelated_representations_are_less_alike_the_more_examples_there_are():
    few, many = (linear_cka(draw(n, 4, 0), draw(n, 4, 1)) for n in (10, 2000))
    assert many < 0.02 < few


def test_different_examples_are_refused():
    with pytest.raises(ValueError, match="3 examples in one representation and 4"):
        linear_cka(draw(3, 2, 0), draw(4, 2, 1))
