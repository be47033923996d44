"""Vectors that crowd into a narrow cone: how narrow it is, and two ways to open it after training.

Hidden states of language models lie at small angles to each other, because a few directions carry most of the variance
and the mean is far from zero (Ethayarajh 2019; Gao et al. 2019). Cosines then say little. Both remedies are affine maps
that are fitted to a sample of vectors and need no labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def mean_cosine(x: Tensor) -> float:
    """The mean cosine of two different vectors among x [N,E], by (‖Σ u‖² − N) / (N(N−1)) with u = x/‖x‖.

    >>> round(mean_cosine(torch.tensor([[2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])), 4)
    -0.3333
    """
    unit = F.normalize(x.double(), dim=-1)
    n = len(unit)
    return float((unit.sum(0).square().sum() - n) / (n * (n - 1)))


@dataclass(frozen=True)
class Affine:
    """x -> (x − mean) · matrix. mean [E], matrix [E,K], both in float64."""

    mean: Tensor
    matrix: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """x [N,E] -> [N,K], in the precision of x."""
        return ((x.double() - self.mean) @ self.matrix).to(x.dtype)


def whitening(x: Tensor, k: int | None = None) -> Affine:
    """The map W = UΛ^(−1/2) after which the covariance of x [N,E] is the identity, onto its k largest directions (None:
    all that vary); UΛUᵀ is the covariance (Su et al. 2021, §3, arXiv:2103.15316).

    Raises ValueError for a single vector, and for a k beyond the directions that vary."""
    mean, values, vectors = _spectrum(x)
    varying = int((values > values[0] * 1e-12).sum()) if float(values[0]) > 0 else 0
    if varying == 0 or (k is not None and not 1 <= k <= varying):
        raise ValueError(
            f"the vectors vary in {varying} directions, so {k if k is not None else 'none'} cannot be kept"
        )
    kept = varying if k is None else k
    return Affine(mean, vectors[:, :kept] / values[:kept].sqrt())


def all_but_the_top(x: Tensor, n: int) -> Affine:
    """The map that takes away the mean of x [N,E] and its n largest principal directions (Mu & Viswanath 2018, §2).

    Raises ValueError if n is not between 0 and E."""
    mean, _, vectors = _spectrum(x)
    if not 0 <= n <= x.shape[1]:
        raise ValueError(f"{n} directions cannot be removed from vectors of {x.shape[1]}")
    top = vectors[:, :n]
    return Affine(mean, torch.eye(x.shape[1], dtype=torch.float64, device=x.device) - top @ top.T)


def _spectrum(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [E], variances [E] by falling size and their directions as columns [E,E]."""
    if len(x) < 2:
        raise ValueError(f"{len(x)} vectors have no covariance; give at least two")
    x = x.double()
    mean = x.mean(0)
    values, vectors = torch.linalg.eigh((x - mean).T @ (x - mean) / (len(x) - 1))
    return mean, values.flip(0).clamp_min(0), vectors.flip(1)
