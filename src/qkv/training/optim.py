"""Optimizers, as configs that build them. Fused: one pass over the weights instead of a dozen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .muon import MuonWithAdam


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019). Two numbers of state per weight."""

    betas: tuple[float, float] = (0.9, 0.98)
    """Decay of the running means of the gradient and of its square; 0.98 is Vaswani et al.'s."""
    eps: float = 1e-9
    """Added to the root of the mean square."""
    weight_decay: float = 0.0
    """Share of a matrix that an update at rate 1 takes away; biases and norms are left alone."""

    def build(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        groups = parameter_groups(model, self.weight_decay)
        return torch.optim.AdamW(groups, lr=learning_rate, betas=self.betas, eps=self.eps, fused=_fusible(model))


@dataclass(frozen=True)
class Sgd:
    """Gradient descent with momentum: one number of state per weight, none without momentum."""

    momentum: float = 0.0
    """Share of the last update that goes into the next."""
    weight_decay: float = 0.0
    """As AdamW's, but part of the gradient."""

    def build(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        groups = parameter_groups(model, self.weight_decay)
        return torch.optim.SGD(groups, lr=learning_rate, momentum=self.momentum, fused=_fusible(model))


@dataclass(frozen=True)
class Muon:
    """Hidden matrices by orthogonal updates (Jordan et al. 2024), the rest by Adam; one number of state per weight of a
    matrix. Fewer updates to the same loss, each somewhat dearer: it pays where batches are large beside the width."""

    momentum: float = 0.95
    """Share of the last direction that goes into the next."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Adam's, for what is no hidden matrix."""
    eps: float = 1e-9
    """Adam's."""
    weight_decay: float = 0.0
    """As AdamW's."""

    def build(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        return MuonWithAdam(model, learning_rate, self.momentum, self.weight_decay, self.betas, self.eps)


Optimizer = AdamW | Sgd | Muon


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Two groups: matrices (embeddings included), which decay, and vectors, which do not."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.dim() < 2], "weight_decay": 0.0},
    ]


def _fusible(model: nn.Module) -> bool:
    return all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in model.parameters())
