"""CCA, debiased CKA, neighbours, RSA and Procrustes: closed forms, and what each does not see."""

import pytest
import torch

from qkv.probe import alignment
from qkv.probe.similarity import cca, debiased_cka, linear_cka, neighbours, rsa


def draw(rows, width, seed=0):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(width, seed=9):
    return torch.linalg.qr(draw(width, width, seed)).Q


MEASURES = {"cka": linear_cka, "debiased": debiased_cka, "cca": cca, "neighbours": neighbours, "rsa": rsa}


@pytest.mark.parametrize("name", MEASURES)
def test_a_rotated_and_scaled_copy_is_the_same(name):
    x = draw(60, 5)
    assert MEASURES[name](x, 3 * x @ rotation(5)) == pytest.approx(1.0, abs=1e-9)
    assert MEASURES[name](x, draw(60, 5, 1)) < 0.5
    with pytest.raises(ValueError, match="the same ones"):
        MEASURES[name](x, x[:50])


def test_only_cca_does_not_see_a_general_linear_map():
    x = draw(300, 6)
    y = x @ draw(6, 6, 1) + 2
    assert cca(x, y) == pytest.approx(1.0, abs=1e-9)
    assert max(linear_cka(x, y), debiased_cka(x, y), neighbours(x, y), rsa(x, y)) < 0.95


def test_cca_is_the_root_of_the_eigenvalues():
    """ρ² are the eigenvalues of Σxx⁻¹ Σxy Σyy⁻¹ Σyx."""
    x, y = draw(40, 3), draw(40, 4, 1)
    y[:, 0] += 2 * x[:, 1]
    joint = torch.cov(torch.cat([x, y], 1).T)
    xx, xy, yy = joint[:3, :3], joint[:3, 3:], joint[3:, 3:]
    squares = torch.linalg.eigvals(torch.linalg.solve(xx, xy) @ torch.linalg.solve(yy, xy.T)).real
    assert cca(x, y) == pytest.approx(float(squares.sqrt().mean()), abs=1e-10)


def test_cca_is_blind_when_directions_are_as_many_as_examples_and_svcca_less_so():
    x, y = draw(20, 30), draw(20, 30, 1)
    assert cca(x, y) == pytest.approx(1.0, abs=1e-9)
    noise = 1e-3 * draw(200, 20, 2)
    x, y = torch.cat([draw(200, 2), noise], 1), torch.cat([draw(200, 2, 3), noise], 1)
    assert cca(x, y) > 0.85 > 0.3 > cca(x, y, variance=0.99)


def test_debiased_cka_is_the_sum_over_distinct_quadruples():
    """Its parts are U-statistics; unrelated representations give about 0, where the biased one is high."""
    x, y = draw(7, 3), draw(7, 2, 1)

    def statistic(a, b):
        k, m = a @ a.T, b @ b.T
        total, n = 0.0, len(a)
        for i in range(n):
            for j in range(n):
                for q in range(n):
                    for r in range(n):
                        if len({i, j, q, r}) == 4:
                            total += float(k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]))
        return total / (n * (n - 1) * (n - 2) * (n - 3))

    expected = statistic(x, y) / (statistic(x, x) * statistic(y, y)) ** 0.5
    assert debiased_cka(x, y) == pytest.approx(expected, abs=1e-10)
    x, y = draw(30, 40), draw(30, 40, 1)
    assert linear_cka(x, y) > 0.5
    assert abs(debiased_cka(x, y)) < 0.15


def test_neighbours_against_a_loop_and_chance():
    x, y = draw(15, 3), draw(15, 3, 1)
    shared = 0
    for i in range(15):
        near = [
            {
                j
                for _, j in sorted(
                    (-float(torch.cosine_similarity(s[i], s[j], dim=0)), j) for j in range(15) if j != i
                )[:4]
            }
            for s in (x, y)
        ]
        shared += len(near[0] & near[1])
    assert neighbours(x, y, 4) == pytest.approx(shared / 60)
    assert neighbours(draw(400, 20), draw(400, 20, 1), 10) == pytest.approx(10 / 399, abs=0.01)


def test_procrustes_finds_the_rotation_and_no_rotation_does_better():
    x, q = draw(30, 4), rotation(4)
    torch.testing.assert_close(alignment.procrustes(x, x @ q), q, rtol=0, atol=1e-10)
    y = x @ q + 0.3 * draw(30, 4, 2)
    found = alignment.procrustes(x, y)
    torch.testing.assert_close(found @ found.T, torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-12)
    least = float((x @ found - y).norm())
    assert all(float((x @ rotation(4, seed) - y).norm()) > least for seed in range(20))
    with pytest.raises(ValueError, match="vectors of one width"):
        alignment.procrustes(x, y[:, :3])


def test_the_distance_is_what_is_left_after_the_best_fit():
    x, y = draw(25, 3) + 5, draw(25, 3, 1)
    a, b = x - x.mean(0), y - y.mean(0)
    turned = a @ alignment.procrustes(a, b)
    scale = float((turned * b).sum() / a.square().sum())
    left = float((scale * turned - b).square().sum() / b.square().sum())
    assert alignment.distance(x, y) == pytest.approx(left, abs=1e-10)
    assert alignment.distance(x, y) == pytest.approx(alignment.distance(y, x), abs=1e-12)
    assert alignment.distance(x, 2 * x @ rotation(3) + 1) == pytest.approx(0, abs=1e-9)


def test_a_mean_needs_aligned_spaces():
    latent = draw(80, 6)
    spaces = [(latent + 0.5 * draw(80, 6, seed)) @ rotation(6, seed) for seed in (1, 2)]
    aligned = alignment.aligned_mean(spaces)
    naive = torch.stack(spaces).mean(0)
    assert neighbours(aligned, latent) > max(neighbours(space, latent) for space in spaces) > neighbours(naive, latent)
