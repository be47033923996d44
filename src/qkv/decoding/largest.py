"""The few largest of many numbers."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 64
MANY = 1 << 16  # below so many numbers one slow operation beats a dozen fast ones


def largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of scores [...,V] and their indices, [...,k] each, in falling order; where V < k, all V.

    They lie in the k blocks of 64 whose maxima are the k largest, or in the rest of less than a block. Maxima are found
    eight numbers at a time, where a search for places goes one by one: at V = 8,000 that is several times as fast.
    """
    size = scores.shape[-1]
    whole = size - size % BLOCK
    if size <= 2 * k * BLOCK or scores.numel() < MANY:
        values, places = scores.topk(min(k, size), dim=-1)
        return values, places
    peaks = scores[..., :whole].unflatten(-1, (-1, BLOCK)).amax(-1)
    within = torch.arange(BLOCK, device=scores.device)
    blocks = (peaks.topk(k, dim=-1).indices.unsqueeze(-1) * BLOCK + within).flatten(-2)
    rest = torch.arange(whole, size, device=scores.device).expand(*scores.shape[:-1], size - whole)
    places = torch.cat((blocks, rest), dim=-1)
    values, chosen = scores.gather(-1, places).topk(k, dim=-1)
    return values, places.gather(-1, chosen)
