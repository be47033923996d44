"""The position-wise feed-forward network: two matrices and a non-linearity, each token on its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from .dropout import check_rate, dropout

Activation = Literal["relu", "gelu", "gelu_tanh", "silu"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
}


class PositionWise(nn.Module):
    """W₂ φ(W₁x + b₁) + b₂ (Vaswani et al. 2017, eq. 2), or gated: W₂ (φ(W_g x) ⊙ W₁x) (Shazeer 2020).

    x [B,T,E] -> [B,T,E]; the hidden layer is [B,T,F].
    """

    def __init__(self, config: FeedForward, d_model: int):
        super().__init__()
        self.config = config
        # A gated network computes gate and value in one product: the first F rows are the gate.
        self.up = nn.Linear(d_model, config.d_ff * (2 if config.gated else 1), bias=config.bias)
        self.down = nn.Linear(config.d_ff, d_model, bias=config.bias)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.up(x)
        if self.config.gated:
            gate, value = hidden.chunk(2, dim=-1)
            hidden = self.activation(gate) * value
        else:
            hidden = self.activation(hidden)
        return self.down(dropout(hidden, self.config.dropout, self.training))


@dataclass(frozen=True)
class FeedForward:
    """d_ff: hidden width. activation: the non-linearity φ. gated: multiply φ by a second projection (silu gated is
    SwiGLU). bias: whether the matrices have one. dropout: rate on the hidden layer."""

    d_ff: int = 1024
    activation: Activation = "relu"
    gated: bool = False
    bias: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_rate(self.dropout)

    def build(self, d_model: int) -> nn.Module | None:
        return PositionWise(self, d_model)


@dataclass(frozen=True)
class NoFeedForward:
    """Attention only."""

    def build(self, d_model: int) -> nn.Module | None:
        return None


FeedForwardConfig = FeedForward | NoFeedForward
