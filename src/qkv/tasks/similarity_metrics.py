"""How well numbers agree with other numbers: correlation of values and of ranks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def ranks(values: Sequence[float]) -> np.ndarray:
    """The rank of each value from 1; equal values share the mean of their ranks.

    >>> ranks([3.0, 1.0, 3.0]).tolist()
    [2.5, 1.0, 2.5]
    """
    array = np.asarray(values, dtype=float)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts - 1) / 2)[inverse]


def pearson(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """Covariance over the product of the standard deviations, from −1 to 1; 0 where one of them does not vary.

    >>> round(pearson([1, 2, 3], [2, 4, 7]), 4)
    0.9934
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale else 0.0


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Pearson's correlation of the ranks: what the order says, however the values are spaced.

    >>> spearman([1, 2, 3], [2, 4, 70])
    1.0
    """
    return pearson(ranks(a), ranks(b))


def correlations(found: Sequence[float], right: Sequence[float]) -> dict[str, float]:
    """Both, by name."""
    return {"spearman": spearman(found, right), "pearson": pearson(found, right)}
