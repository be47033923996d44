"""Several losses on one encoder: how they are weighed, and what is done where their gradients disagree.

Fixed weights are `OutputLosses`. The others are losses around one:

    Uncertain   Σ_k exp(−s_k)·L_k + s_k/2, the log variances s_k learned with the model (Kendall, Gal & Cipolla 2018)
    Surgery     where two gradients of the shared weights conflict, each loses its part along the other (PCGrad, Yu et
                al. 2020)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qkv.data.batch import Batch

from .losses import Term
from .objectives import OutputLosses


class LogVariances(nn.Module):
    """s [K]: the log variance of each task, 0 at first. A part of the model: trained and saved with it."""

    def __init__(self, names: Sequence[str]):
        super().__init__()
        self.names = tuple(names)
        self.values = nn.Parameter(torch.zeros(len(self.names)))

    def of(self, name: str) -> Tensor:
        """s_k, a scalar."""
        return self.values[self.names.index(name)]


class Uncertain:
    """exp(−s_k)·L_k for each task and one term more, `log_variance`, Σ s_k/2; `model.log_variances` holds the s_k.

    A task whose loss stays large gets a large variance, and so a small weight: at the optimum s_k = log 2L_k."""

    additive = True

    def __init__(self, losses: OutputLosses):
        self.losses = losses

    def __call__(self, model: Any, batch: Batch) -> dict[str, Term]:
        """The terms of a batch."""
        s: LogVariances = model.log_variances
        terms = {
            name: ((-s.of(name)).exp() * total, count, weight)
            for name, (total, count, weight) in self.losses(model, batch).items()
        }
        rows = float(len(batch.ids))
        return {**terms, "log_variance": (s.values.sum() / 2 * rows, rows, 1.0)}

    def counts(self, batch: Batch) -> dict[str, float]:
        """Units of each task, and rows."""
        return {**self.losses.counts(batch), "log_variance": float(len(batch.ids))}


class Surgery:
    """The terms of another loss and one more, `surgery`, of value 0, whose gradient turns the sum of the tasks'
    gradients of the shared weights into PCGrad's.

    It takes a backward pass a task more than without. A projection of sums is no sum of projections: not additive.
    shared: how the names of the shared weights begin."""

    additive = False

    def __init__(self, losses: OutputLosses | Uncertain, shared: str = "encoder."):
        self.losses, self.shared = losses, shared

    def __call__(self, model: Any, batch: Batch) -> dict[str, Term]:
        """The terms of a batch."""
        terms = self.losses(model, batch)
        weights = _shared(model, self.shared)
        tasks = [w * total / (count or 1.0) for n, (total, count, w) in terms.items() if n != "log_variance"]
        gradients = [_gradient(task, weights) for task in tasks]
        change = torch.stack(projected(gradients)).sum(0) - torch.stack(gradients).sum(0)
        moved = torch.cat([p.flatten() for p in weights]) @ change
        return {**terms, "surgery": (moved - moved.detach(), 1.0, 1.0)}

    def counts(self, batch: Batch) -> dict[str, float]:
        """Units of each task, and one."""
        return {**self.losses.counts(batch), "surgery": 1.0}


def projected(gradients: Sequence[Tensor]) -> list[Tensor]:
    """Each gradient [P] without its parts along those that it conflicts with, in their order.

    >>> [g.tolist() for g in projected([torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0])])]
    [[0.5, 0.5], [0.0, 1.0]]
    """
    found = []
    for i, gradient in enumerate(gradients):
        for j, other in enumerate(gradients):
            if i != j and (along := gradient @ other) < 0:
                gradient = gradient - along / (other @ other) * other
        found.append(gradient)
    return found


def conflict(model: Any, losses: OutputLosses, batch: Batch, shared: str = "encoder.") -> float:
    """The cosine between the gradients that the first two tasks have in the shared weights; negative: they conflict."""
    weights = _shared(model, shared)
    totals = [total / (count or 1.0) for total, count, _ in losses(model, batch).values()][:2]
    one, other = (_gradient(total, weights) for total in totals)
    return float(torch.nn.functional.cosine_similarity(one, other, dim=0))


def _shared(model: Any, prefix: str) -> list[Tensor]:
    return [p for name, p in model.named_parameters() if name.startswith(prefix) and p.requires_grad]


def _gradient(loss: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """The gradient of a loss in the weights as one vector [P]; the graph stays."""
    found = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True, materialize_grads=True)
    return torch.cat([g.flatten() for g in found])
