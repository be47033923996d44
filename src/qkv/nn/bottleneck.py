"""A bottleneck after a sub-layer: a few weights of its own, which leave it as it is until they learn."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BottleneckAdapter(nn.Module):
    """h + U φ(D h + d) + u, φ = gelu; D [size,E], U [E,size] (Houlsby et al. 2019, arXiv:1902.00751).

    U, u and d begin at zero, whatever the stack's initialisation: at first it changes nothing, exactly, and the first
    gradient that is not zero is that of U and u. It has 2·E·size + E + size numbers.
    """

    def __init__(self, config: Bottleneck, d_model: int):
        super().__init__()
        self.down = nn.Parameter(torch.empty(config.size, d_model))
        self.down_bias = nn.Parameter(torch.zeros(config.size))
        self.up = nn.Parameter(torch.zeros(d_model, config.size))
        self.up_bias = nn.Parameter(torch.zeros(d_model))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, h: Tensor) -> Tensor:
        """h [B,T,E] -> [B,T,E]."""
        return h + F.linear(F.gelu(F.linear(h, self.down, self.down_bias)), self.up, self.up_bias)


@dataclass(frozen=True)
class Bottleneck:
    """size: width of the hidden layer."""

    size: int = 16

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}; give 1 or more")

    def build(self, d_model: int) -> nn.Module:
        return BottleneckAdapter(self, d_model)
