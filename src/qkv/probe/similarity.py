"""How alike two sets of representations are, whatever their axes: centred kernel alignment."""

from __future__ import annotations

from torch import Tensor


def linear_cka(x: Tensor, y: Tensor) -> float:
    """‖XᵀY‖² / (‖XᵀX‖ · ‖YᵀY‖) of centred columns (Kornblith et al. 2019, eq. 3), from 0 to 1.

    x [N,E], y [N,E']: the same N examples in two representations. Rotating, shifting or scaling either changes
    nothing. Raises ValueError if they hold different numbers of examples.

    >>> import torch
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    >>> round(linear_cka(x, 3 * x.flip(1) + 1), 4)
    1.0
    """
    if len(x) != len(y):
        raise ValueError(f"{len(x)} examples in one representation and {len(y)} in the other; give the same ones")
    x, y = x.double() - x.double().mean(0), y.double() - y.double().mean(0)
    return float((x.T @ y).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm()))
