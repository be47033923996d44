"""Bringing one set of vectors onto another: the best rotation between two embeddings of the same words."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def procrustes(x: Tensor, y: Tensor) -> Tensor:
    """The orthogonal Q [E,E] with the least ‖XQ − Y‖, for x, y [N,E]: UVᵀ of the singular value decomposition of XᵀY
    (Schönemann 1966). Rows of x and y are the same examples; centre them first if shifts do not matter.

    >>> import torch
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> (x @ procrustes(x, torch.tensor([[0.0, 1.0], [-2.0, 0.0]]))).round(decimals=4).tolist()
    [[0.0, 1.0], [-2.0, 0.0]]
    """
    if x.shape != y.shape:
        raise ValueError(f"x is {list(x.shape)} and y {list(y.shape)}; give the same examples in vectors of one width")
    u, _, vh = torch.linalg.svd(x.double().T @ y.double())
    return (u @ vh).to(x.dtype)


def distance(x: Tensor, y: Tensor) -> float:
    """min over rotations, shifts and scales of ‖aXQ + b − Y‖² / ‖Y − mean‖²: 0 for equal shapes, at most 1. It is
    1 − (Σσ)² / (‖X‖²‖Y‖²) of centred x, y with σ the singular values of XᵀY; the same with x and y exchanged."""
    if len(x) != len(y):
        raise ValueError(f"{len(x)} examples in one representation and {len(y)} in the other; give the same ones")
    x, y = x.double() - x.double().mean(0), y.double() - y.double().mean(0)
    total = torch.linalg.svdvals(x.T @ y).sum()
    return max(0.0, float(1 - total.square() / (x.square().sum() * y.square().sum())))


def aligned_mean(spaces: Sequence[Tensor]) -> Tensor:
    """The mean [N,E] of several embeddings [N,E] of the same words, each rotated onto the first (a meta-embedding).

    Without the rotation the mean mixes directions that have nothing to do with each other."""
    first = spaces[0]
    return torch.stack([first, *(space @ procrustes(space, first) for space in spaces[1:])]).mean(0)
