"""Losses that hold weights near where they were: another loss, and a term that grows with the distance.

    L(θ) = L_new(θ) + strength · ½ Σ_i F_i (θ_i − θ*_i)²

F = 1 is L2-SP (Li et al. 2018, §3.3): the pretrained weights instead of zero as the centre of weight decay. F = the
diagonal of the Fisher information of the old task is elastic weight consolidation (Kirkpatrick et al. 2017, eq. 3): a
quadratic approximation of the old task's loss around its optimum, with all correlations of weights left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from qkv.data.batch import Batch

from .losses import Loss, Term

ANCHOR = "anchor"


class Anchored:
    """`loss`, and the term `anchor` of unit count, so that it is not divided by anything and micro-batches add nothing.

    anchors: θ* by the names of the model's parameters; those not named are free. importance: F by name (None: 1).
    """

    def __init__(
        self, loss: Loss, anchors: Mapping[str, Tensor], strength: float, importance: Mapping[str, Tensor] | None = None
    ):
        self.loss, self.strength, self.additive = loss, strength, loss.additive
        self.anchors = {name: tensor.detach().clone() for name, tensor in anchors.items()}
        self.importance = None if importance is None else {name: importance[name].detach() for name in self.anchors}

    def __call__(self, model: Any, batch: Batch) -> dict[str, Term]:
        """The terms of the loss, and the anchor's."""
        return {**self.loss(model, batch), ANCHOR: (self._distance(model), 1.0, self.strength)}

    def counts(self, batch: Batch) -> dict[str, float]:
        """Those of the loss; 1 for the anchor, of each micro-batch."""
        return {**self.loss.counts(batch), ANCHOR: 1.0}

    def _distance(self, model: nn.Module) -> Tensor:
        terms = []
        for name, parameter in model.named_parameters():
            if name in self.anchors:
                square = (parameter - self.anchors[name].to(parameter)).square()
                weight = None if self.importance is None else self.importance[name].to(parameter)
                terms.append((square if weight is None else weight * square).sum())
        if not terms:
            raise ValueError("no parameter of the model has the name of an anchor")
        return torch.stack(terms).sum() / 2


def fisher_diagonal(model: nn.Module, loss: Loss, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """The mean over batches of the squared gradient of the loss of each, by name.

    Of batches of one example with answers drawn from the model itself it is the diagonal of the Fisher information;
    with the data's answers it is the empirical Fisher, another matrix and near zero on what is learned (Kunstner et al.
    2019).

    The model is in evaluation mode while this is measured. Raises ValueError for no batches."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = {name: torch.zeros_like(p) for name, p in parameters.items()}
    was_training, n = model.training, 0
    model.eval()
    for batch in batches:
        terms = loss(model, batch)
        objective = torch.stack([weight * total for total, _, weight in terms.values()]).sum()
        grads = torch.autograd.grad(objective, list(parameters.values()), allow_unused=True)
        for name, grad in zip(found, grads, strict=True):
            if grad is not None:
                found[name] += grad.square()
        n += 1
    model.train(was_training)
    if not n:
        raise ValueError("the Fisher information is a mean over examples, and there are none")
    return {name: total / n for name, total in found.items()}
