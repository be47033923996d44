"""Low-rank adaptation (Hu et al. 2022, arXiv:2106.09685): a frozen matrix and a trained correction of rank r.

    y = Wx + b + (α/r)·B A x,      A [r,in] random, B [out,r] zero: training starts from the old function

A rewrite of `nn.Linear` leaves: `insert` puts `LowRank` modules in, `add_lora` freezes the rest as well, `merge_lora`
takes them out again and leaves W + (α/r)·BA, so a merged model has the same names, shapes and costs as before. What is
trained is r·(in + out) numbers a matrix, and the old weights cannot be lost: without the correction the model is what
it was.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LowRank(nn.Module):
    """A linear layer [in] -> [out] that is frozen, and a correction of rank r that learns."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float):
        super().__init__()
        if not 1 <= rank <= min(linear.weight.shape):
            raise ValueError(
                f"rank is {rank}; a matrix of {list(linear.weight.shape)} takes 1 to {min(linear.weight.shape)}"
            )
        self.linear = linear.requires_grad_(False)
        weight = linear.weight
        self.down = nn.Parameter(weight.new_empty(rank, linear.in_features))
        self.up = nn.Parameter(weight.new_zeros(linear.out_features, rank))
        self.scale = alpha / rank
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def correction(self) -> Tensor:
        """(α/r)·BA, [out,in]."""
        return self.scale * self.up @ self.down

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.scale * F.linear(F.linear(x, self.down), self.up)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The linear layer with the correction added to its weights."""
        self.linear.weight += self.correction()
        return self.linear.requires_grad_(True)


def add_lora(
    model: nn.Module,
    rank: int = 8,
    alpha: float = 16.0,
    names: Collection[str] = ("query_key_value", "out"),
    free: Collection[str] = ("outputs",),
) -> list[str]:
    """Freeze a model and `insert` corrections, in place.

    free: first names of the parts that go on learning as they are, new outputs above all. Returns the paths of the
    layers. Raises ValueError if there is none."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.split(".")[0] in free)
    return insert(model, rank, alpha, names, free)


def insert(
    model: nn.Module, rank: int, alpha: float, names: Collection[str], outside: Collection[str] = ()
) -> list[str]:
    """Put a correction beside every linear layer whose last name is among `names`, in place; that layer is frozen.

    outside: first names of the parts that get none. Returns the paths of the layers. Raises ValueError if there is
    none, or the rank is more than one of them has."""
    found = [
        path
        for path, part in model.named_modules()
        if isinstance(part, nn.Linear) and path.rpartition(".")[2] in names and path.split(".")[0] not in outside
    ]
    if not found:
        raise ValueError(f"the model has no linear layer called {' or '.join(sorted(names))}")
    for path in found:
        _replace(model, path, LowRank(model.get_submodule(path), rank, alpha))  # type: ignore[arg-type]
    return found


def merge_lora(model: nn.Module) -> nn.Module:
    """Add every correction to its matrix and take it out, in place; everything may learn again. Returns the model."""
    for path, part in list(model.named_modules()):
        if isinstance(part, LowRank):
            _replace(model, path, part.merged())
    return model.requires_grad_(True)


def trainable(model: nn.Module) -> int:
    """How many numbers of a model learn."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _replace(model: nn.Module, path: str, part: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, part)
