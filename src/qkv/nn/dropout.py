"""Dropout whose random bits are cheap on a CPU.

torch draws one Bernoulli number per element from a serial generator; at a training step's shapes that costs more than
the matrix product beside it. Here one 64-bit draw serves four elements, 16 bits each, so the rate is exact to 2^-16 and
the scale uses the rounded rate, which keeps the expectation exact.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_LEVELS = 1 << 16


def check_rate(rate: float) -> None:
    """Refuse what is no probability of dropping, or drops everything."""
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"dropout is {rate}: it is a rate from 0 up to but not including 1")


def keep_mask(like: Tensor, rate: float) -> Tensor:
    """Independent factors of the shape and dtype of `like`: 0 with probability `rate`, else 1/(1-rate)."""
    dropped = min(round(rate * _LEVELS), _LEVELS - 1)
    size = like.numel()
    bits = torch.empty((size + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None).view(torch.int16)[:size]
    # Comparing straight into a float tensor is several times faster than making booleans and casting them.
    dtype = torch.promote_types(like.dtype, torch.float32)
    kept = torch.ge(bits, dropped - _LEVELS // 2, out=torch.empty(size, dtype=dtype))
    return kept.mul_(_LEVELS / (_LEVELS - dropped)).view(like.shape).to(like.dtype)


def dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """x with each element zeroed with probability `rate` and the rest scaled by 1/(1-rate) (Srivastava et al. 2014)."""
    if not training or rate == 0.0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, rate, True)
    return x * keep_mask(x, rate)


def dropout_add(x: Tensor, branch: Tensor, rate: float, training: bool) -> Tensor:
    """x + dropout(branch), in one pass."""
    if not training or rate == 0.0:
        return x + branch
    if x.device.type != "cpu":
        return x + F.dropout(branch, rate, True)
    return torch.addcmul(x, branch, keep_mask(branch, rate))
