"""Word vectors from counts: pointwise mutual information and its factorisation.

Skip-gram with k negative samples has its optimum at PMI − log k for every pair of word and context (Levy & Goldberg
2014), so the factors of that matrix are what such training approaches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def cooccurrences(texts: Sequence[Sequence[int]], n_words: int, window: int = 2) -> Tensor:
    """How often word j stands at most `window` places from word i, [V,V] in float64, over texts of word numbers.

    >>> cooccurrences([[0, 1, 2]], 3, window=1).tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    counts = torch.zeros(n_words * n_words, dtype=torch.float64)
    for distance in range(1, window + 1):
        left = torch.tensor([word for text in texts for word in text[:-distance]], dtype=torch.long)
        right = torch.tensor([word for text in texts for word in text[distance:]], dtype=torch.long)
        counts += torch.bincount(left * n_words + right, minlength=n_words * n_words)
    table = counts.view(n_words, n_words)
    return table + table.T


def pmi(counts: Tensor, shift: float = 0.0, positive: bool = False) -> Tensor:
    """log p(w,c) / (p(w) p(c)) − shift of counts or probabilities [V,C]; 0 for pairs that were never seen.

    shift: log of the number of negative samples. positive: negative values become 0 (PPMI).

    >>> pmi(torch.tensor([[1.0, 1.0], [1.0, 0.0]])).exp().round(decimals=4).tolist()
    [[0.75, 1.5], [1.5, 1.0]]
    """
    counts = counts.double()
    seen = counts > 0
    expected = counts.sum(1, keepdim=True) * counts.sum(0, keepdim=True) / counts.sum()
    table = torch.where(seen, (counts.clamp_min(1e-300) / expected.clamp_min(1e-300)).log() - shift, 0.0)
    return table.clamp_min(0) if positive else table


def factorised(table: Tensor, d: int, power: float = 0.5) -> Tensor:
    """Word vectors U·Σ^power [V,d] of the best approximation of a table [V,C] by rank d.

    With power 1 the rows have the inner products, and hence the angles, of the approximated table's rows."""
    u, s, _ = torch.linalg.svd(table, full_matrices=False)
    return u[:, :d] * s[:d].pow(power)
