"""Averages of weights along a run: a moving one, and that of the last checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from .weights import load_weights


class MovingAverage:
    """ema ← ema + (1 - d)·(weight - ema) after every update, in fp32 (Polyak & Juditsky 1992).

    d = min(decay, (1 + t) / (10 + t)) at update t: a short run is not held back by the weights it started from.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.tensors = {n: p.detach().float().clone() for n, p in self.parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        now = [p.detach().float() for p in self.parameters.values()]
        torch._foreach_lerp_(list(self.tensors.values()), now, 1 - decay)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])


def average_checkpoints(folders: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of the weights in checkpoint folders, summed in fp64 (Vaswani et al. 2017, section 6.1).

    What is not a floating-point number (a counter, say) is taken from the last one.
    """
    *earlier, last = (load_weights(folder / "model.safetensors") for folder in folders)
    mean = {}
    for name, tensor in last.items():
        if tensor.is_floating_point():
            total = torch.stack([tensor.double(), *(other[name].double() for other in earlier)]).mean(0)
            tensor = total.to(tensor.dtype)
        mean[name] = tensor
    return mean
