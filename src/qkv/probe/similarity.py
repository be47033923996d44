"""How alike two sets of representations are, whatever their axes.

Each measure says what it does not see. x [N,E], y [N,E'] are the same N examples in two representations:

    linear_cka, debiased_cka   rotations, shifts and one scale
    cca                        any invertible affine map
    neighbours                 whatever keeps the k nearest of each example
    rsa                        rotations, shifts, one scale and any rising function of the distances

All raise ValueError if the two hold different numbers of examples.
"""

from __future__ import annotations

import torch
from torch import Tensor


def linear_cka(x: Tensor, y: Tensor) -> float:
    """‖XᵀY‖² / (‖XᵀX‖ · ‖YᵀY‖) of centred columns (Kornblith et al. 2019, eq. 3), from 0 to 1.

    Unrelated representations have a value above 0 that grows with E/N; `debiased_cka` has not.

    >>> import torch
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    >>> round(linear_cka(x, 3 * x.flip(1) + 1), 4)
    1.0
    """
    x, y = _centred(x, y)
    return float((x.T @ y).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm()))


def debiased_cka(x: Tensor, y: Tensor) -> float:
    """The same quotient with unbiased estimates (Song et al. 2012, eq. 5; Nguyen et al. 2021): about 0 for unrelated
    representations at any N ≥ 4 (it can be below 0), 1 for equal ones."""
    x, y = _centred(x, y)
    if len(x) < 4:
        raise ValueError(f"{len(x)} examples are too few for an unbiased estimate; give 4 or more")
    k, m = x @ x.T, y @ y.T
    return float(_hsic(k, m) / (_hsic(k, k) * _hsic(m, m)).sqrt())


def _hsic(k: Tensor, m: Tensor) -> Tensor:
    n = len(k)
    k, m = k - k.diagonal().diag(), m - m.diagonal().diag()
    total = (k * m).sum() + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k.sum(0) @ m.sum(0))
    return total / (n * (n - 3))


def cca(x: Tensor, y: Tensor, variance: float = 1.0) -> float:
    """The mean canonical correlation: that of the best-correlated pair of directions, of the next pair that is
    uncorrelated with it, ..., over min(E, E') pairs (Hotelling 1936). With no more examples than directions it is 1.

    variance: of each side keep the fewest principal directions with so much of it (SVCCA; Raghu et al. 2017: 0.99).

    >>> import torch
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0], [2.0, 0.5]])
    >>> round(cca(x, x @ torch.tensor([[5.0, 1.0], [0.0, 0.1]])), 4)
    1.0
    """
    bases = []
    for side in _centred(x, y):
        u, s, _ = torch.linalg.svd(side, full_matrices=False)
        share = s.square().cumsum(0) / s.square().sum()
        enough = int((share < variance - 1e-12).sum()) + 1
        bases.append(u[:, : min(enough, int((s > s[0] * 1e-10).sum()))])
    correlations = torch.linalg.svdvals(bases[0].T @ bases[1]).clamp(0, 1)
    return float(correlations.mean())


def neighbours(x: Tensor, y: Tensor, k: int = 10) -> float:
    """The share of each example's k nearest others by cosine in x that are among its k nearest in y, on average.
    Chance is k/(N−1)."""
    _same(x, y)
    if not 1 <= k < len(x):
        raise ValueError(f"k is {k}; give a number of neighbours from 1 to {len(x) - 1}")
    near = []
    for side in (x, y):
        unit = torch.nn.functional.normalize(side.double(), dim=-1)
        near.append((unit @ unit.T).fill_diagonal_(float("-inf")).topk(k).indices)
    return float((near[0].unsqueeze(2) == near[1].unsqueeze(1)).any(2).double().mean())


def rsa(x: Tensor, y: Tensor) -> float:
    """Spearman's correlation of the distances between examples in x with those in y (Kriegeskorte et al. 2008)."""
    _same(x, y)
    rows, columns = torch.triu_indices(len(x), len(x), 1)
    ranks = []
    for side in (x.double(), y.double()):
        _, inverse, counts = torch.cdist(side, side, compute_mode="donot_use_mm_for_euclid_dist")[rows, columns].unique(
            return_inverse=True, return_counts=True
        )
        rank = (counts.cumsum(0) - (counts.double() - 1) / 2)[inverse]
        ranks.append(rank - rank.mean())
    a, b = ranks
    return float(a @ b / (a.norm() * b.norm()))


def _same(x: Tensor, y: Tensor) -> None:
    if len(x) != len(y):
        raise ValueError(f"{len(x)} examples in one representation and {len(y)} in the other; give the same ones")


def _centred(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    _same(x, y)
    return x.double() - x.double().mean(0), y.double() - y.double().mean(0)
