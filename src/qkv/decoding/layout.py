"""Weights laid out in memory as decoding reads them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qkv.models import Reader, Transformer

FEW = 4  # a product of fewer rows reads its matrix as it lies


class Product:
    """x Wᵀ + b for one matrix W [N,K], held twice: as it lies, for a few rows, and packed, for many.

    A product of many rows first copies its matrix into the tiles that its inner loop reads, and at 32 rows the copying
    costs a good part of the whole. Here oneDNN's tiles are made once (32 x 256 x 8,000: 3.0 instead of 5.0 ms).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None):
        self.weight, self.bias, self.few = weight, bias, FEW * weight.shape[1]
        fit = weight.dtype is torch.float32 and torch.backends.mkldnn.is_available()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous()) if fit else None

    def __call__(self, x: Tensor) -> Tensor:
        """x [...,K] -> [...,N]."""
        if self.packed is None or x.numel() < self.few or torch.is_grad_enabled():
            return F.linear(x, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


@torch.no_grad()
def prepare(model: Transformer) -> Transformer:
    """Lay out a model's matrices for decoding on a CPU, in place; no value changes. For inference only, and the last
    step before it: a prepared model holds each matrix twice and does not follow when weights change.

    A step of one row multiplies a vector with every matrix, and its time is the time to read them. Reading runs along
    the longer side at twice the speed (measured at 512 x 2048 from beyond the L2 cache: 0.25 instead of 0.44 ms), so
    that side becomes the contiguous one. An output matrix that is tied to the embedding gets a copy of its own, because
    the embedding is read by rows. A step of many rows is a matrix product: see `Product`.
    """
    if isinstance(model, Reader) or next(model.parameters()).device.type != "cpu":
        return model
    head = model.head
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    # One block for all: it is large enough for the kernel to give it huge pages (5 % of a step of one row).
    sizes = [weight.numel() for weight in (*(linear.weight for linear in linears), head.weight)]
    *places, last = head.weight.new_empty(sum(sizes)).split(sizes)
    for linear, place in zip(linears, places, strict=True):
        linear.weight.data = _placed(linear.weight, place)
        linear.forward = Product(linear.weight, linear.bias)  # type: ignore[assignment, method-assign]
    head.weight = nn.Parameter(_placed(head.weight, last), requires_grad=False)
    head.project = Product(head.weight, head.bias)  # type: ignore[assignment, method-assign]
    return model


def _placed(weight: Tensor, place: Tensor) -> Tensor:
    """The same matrix [N,K] in `place`, along its longer side."""
    n, k = weight.shape
    return (place.view(k, n).t() if n >= k else place.view(n, k)).copy_(weight)
