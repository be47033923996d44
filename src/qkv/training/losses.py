"""What a model is trained on. A loss returns sums and counts; only `fit` divides, by the counts of the global batch."""

from __future__ import annotations

from typing import Any, Protocol

import torch.nn.functional as F
from torch import Tensor

from qkv.data.batch import IGNORE, Batch

from .fused import linear_cross_entropy

Term = tuple[Tensor, float, float]
"""The sum over units (a scalar tensor), the number of units, and the weight of the term in the objective."""


class Loss(Protocol):
    """A training objective of one or more terms: total = Σ_term weight · Σ sum / Σ count.

    additive: whether each term is a sum over units that do not depend on each other. Then k micro-batches give exactly
    the gradient of one batch. Losses with in-batch negatives, for instance, are not, and `fit` refuses to accumulate.
    """

    additive: bool

    def __call__(self, model: Any, batch: Batch) -> dict[str, Term]: ...

    def counts(self, batch: Batch) -> dict[str, float]:
        """The counts that calling the loss would return, without running the model."""
        ...


def smoothed_cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> tuple[Tensor, int]:
    """Sum and count of the cross-entropy of logits [...,V] over the targets [...] that are not IGNORE.

    The target distribution is (1 - smoothing)·onehot + smoothing/V (Szegedy et al. 2016, arXiv:1512.00567).

    >>> import torch
    >>> total, count = smoothed_cross_entropy(torch.zeros(1, 3, 4), torch.tensor([[2, 0, -100]]))
    >>> round(float(total) / count, 4), count
    (1.3863, 2)
    """
    total = F.cross_entropy(
        logits.flatten(0, -2), targets.flatten(), ignore_index=IGNORE, reduction="sum", label_smoothing=smoothing
    )
    return total, _count(targets)


class TokenCrossEntropy:
    """Cross-entropy of every target token: next-token prediction, translation, masked tokens.

    Logits are computed at the positions that have a target and nowhere else, and never all at once (`fused`).
    """

    additive = True

    def __init__(self, smoothing: float = 0.0):
        self.smoothing = smoothing

    def __call__(self, model: Any, batch: Batch) -> dict[str, Term]:
        """One term, `cross_entropy`, in nats per token."""
        return {"cross_entropy": self.term(model.head, run(model, batch), batch.targets)}

    def term(self, head: Any, hidden: Tensor, targets: Tensor) -> Term:
        """Hidden states [B,T,E] against targets [B,T]."""
        hidden, targets = hidden.flatten(0, 1), targets.flatten()
        count = _count(targets)
        if count < len(targets):
            rows = (targets != IGNORE).nonzero().squeeze(1)
            hidden, targets = hidden.index_select(0, rows), targets.index_select(0, rows)
        total = linear_cross_entropy(head.prepare(hidden), head.weight, head.bias, targets, self.smoothing)
        return total, count, 1.0

    def counts(self, batch: Batch) -> dict[str, float]:
        return {"cross_entropy": _count(batch.targets)}


def run(model: Any, batch: Batch) -> Tensor:
    """The hidden states [B,T,E] of a batch, whichever shape of Transformer the model is."""
    if batch.source_ids is None:
        return model(batch.ids, batch.tokens)
    return model(batch.source_ids, batch.source_tokens, batch.ids, batch.tokens)


def _count(targets: Tensor) -> int:
    return int((targets != IGNORE).sum())
