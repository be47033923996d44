"""A decoder whose weights hold a table: its next-token probabilities are a given matrix, exactly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qkv.lab import small
from qkv.models import DecoderOnly
from qkv.nn import NoPosition, Plain

NEVER = -1e4  # a log-probability of what cannot happen; minus infinity times zero is not a number


@torch.no_grad()
def table_model(table: Tensor) -> DecoderOnly:
    """table [V,V]: p(next | token) -> a decoder with one-hot embeddings, whose layer adds nothing, and whose output
    matrix holds log p. In the table's type, in eval mode, weights frozen."""
    size = len(table)
    shape: dict[str, Any] = {"d_model": size, "n_layers": 1, "n_heads": 1, "d_ff": 0, "position": NoPosition()}
    model = small.decoder(size, **shape, block={"placement": Plain()}, final_norm=False).to(table.dtype).eval()
    for p in model.parameters():
        p.requires_grad_(False).zero_()
    model.decoder.embedding.token.weight.copy_(torch.eye(size))
    model.head.weight.copy_(table.log().clamp_min(NEVER).T)
    return model
