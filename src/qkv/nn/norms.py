"""Normalisation of token vectors: the table of norms. Each entry builds a module norm(x [B,T,E], tokens) -> [B,T,E]."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .tokens import Tokens


class LayerNormalization(nn.LayerNorm):
    """(x - mean) / sqrt(var + eps) * weight + bias over E, each token on its own (Ba, Kiros & Hinton 2016)."""

    def forward(self, x: Tensor, tokens: Tokens | None = None) -> Tensor:
        return super().forward(x)


class RootMeanSquareNormalization(nn.Module):
    """x / sqrt(mean(x²) + eps) * weight over E (Zhang & Sennrich 2019)."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor, tokens: Tokens | None = None) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class BatchNormalization(nn.BatchNorm1d):
    """Statistics per feature over all valid tokens of the batch (Ioffe & Szegedy 2015); here for comparison.

    A token's output depends on its batch, so gradients accumulated over micro-batches are not those of one batch.
    """

    def forward(self, x: Tensor, tokens: Tokens | None = None) -> Tensor:
        if tokens is None or not tokens.padded:
            return super().forward(x.flatten(0, -2)).view_as(x)
        out = torch.zeros_like(x)
        out[tokens.valid] = super().forward(x[tokens.valid])
        return out


class NoNormalization(nn.Module):
    """The identity."""

    def forward(self, x: Tensor, tokens: Tokens | None = None) -> Tensor:
        return x


@dataclass(frozen=True)
class LayerNorm:
    """eps: added to the variance. bias: whether a shift is learned."""

    eps: float = 1e-5
    bias: bool = True

    def build(self, width: int) -> nn.Module:
        return LayerNormalization(width, self.eps, bias=self.bias)


@dataclass(frozen=True)
class RMSNorm:
    """eps: added to the mean square."""

    eps: float = 1e-6

    def build(self, width: int) -> nn.Module:
        return RootMeanSquareNormalization(width, self.eps)


@dataclass(frozen=True)
class BatchNorm:
    """eps: added to the variance. momentum: the weight of the newest batch in the running statistics."""

    eps: float = 1e-5
    momentum: float = 0.1

    def build(self, width: int) -> nn.Module:
        return BatchNormalization(width, self.eps, self.momentum)


@dataclass(frozen=True)
class NoNorm:
    """No normalisation."""

    def build(self, width: int) -> nn.Module:
        return NoNormalization()


NormConfig = LayerNorm | RMSNorm | BatchNorm | NoNorm
