"""Single attention layers of the toolkit, taken out of their stack, for experiments that need no whole model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qkv.nn import Attention, AttentionConfig, Full, Mask, MultiHead, Tokens, View
from qkv.nn.init import Xavier
from qkv.probe.attention import recording


def layer(d_model: int, n_heads: int = 1, cross: bool = False, **config: Any) -> Attention:
    """One attention layer in float64 with Xavier's initial weights; `config`: further fields of AttentionConfig."""
    attention = Attention(AttentionConfig(heads=MultiHead(n_heads), **config), d_model, cross=cross)
    Xavier().apply(attention)
    return attention.double().eval()


def view(rows: int, length: int, mask: Mask | None = None, keys: int | None = None) -> View:
    """`rows` sequences of `length` queries, without padding, and their own keys (or `keys` of a memory)."""
    q = Tokens.arange(rows, length)
    return View(mask or Full(), q, q if keys is None else Tokens.arange(rows, keys))


@torch.no_grad()
def weights(attention: Attention, x: Tensor, mask: Mask | None = None) -> Tensor:
    """The weights [B,H,T,T] with which x [B,T,E] attends to itself."""
    with recording(attention) as maps:
        attention(x, view(x.shape[0], x.shape[1], mask))
    return maps[0].weights


def furthest(*pairs: tuple[Tensor, Tensor]) -> float:
    """The largest difference between the two of any pair; NaN if there is one anywhere."""
    return float(torch.cat([(a - b).detach().abs().flatten() for a, b in pairs]).max())


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Independent components of mean 0 and variance 1, in float64."""
    return torch.randn(*shape, generator=generator, dtype=torch.float64)
