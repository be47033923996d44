"""The output projection and its cross-entropy as one operation that never holds all logits.

With Z = hidden·Wᵀ + b [N,V], the label-smoothed loss of row n with target t is

    loss_n = logsumexp(Z_n) - (1 - s)·Z_nt - (s / V)·Σ_v Z_nv          (Szegedy et al. 2016, arXiv:1512.00567)

and its gradient is G = softmax(Z) - (1 - s)·onehot(t) - s / V. The logits serve nothing else, so a chunk of rows is
projected into a buffer, turned into G there, multiplied into the three gradients, and overwritten by the next chunk:
the memory is chunk_rows·V, not several times N·V. The uniform part of G has rank one and never touches the buffer:
Σ_v Z_nv = hidden_n·Σ_v W_v + Σ_v b_v, whose gradients are that sum of W, the sum of the hidden rows, and a constant.

Measured forward and backward, N 2,048, V 8,000, s 0.1, fp32, one thread of an AVX2 core, best of 5: with E 256 0.42 s
instead of 0.69 s for `F.linear` and `F.cross_entropy`, with E 512 0.83 s instead of 1.28 s. The three matrix products
alone take 0.44 s and 0.87 s; chunks of 128 to 1,024 rows differ by less than a tenth, smaller ones are slower.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_ROWS = 256


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    smoothing: float = 0.0,
    chunk_rows: int = CHUNK_ROWS,
) -> Tensor:
    """Sum over rows of the label-smoothed cross-entropy of `hidden @ weight.T + bias`; differentiable once.

    Args:
        hidden: [N,E]. Rows that carry no loss must have been left out.
        weight: [V,E].
        bias: [V] or None.
        targets: [N], class ids in 0..V-1.
        smoothing: the share s of the target's mass that is spread evenly over all V classes, as in `F.cross_entropy`.
        chunk_rows: rows whose logits exist at the same time.

    Returns:
        A scalar: float64 for float64 inputs, else float32. Under autocast the matrix products run in the autocast type,
        softmax, loss and the sum of the gradients in float32.
    """
    return _LinearCrossEntropy.apply(hidden, weight, bias, targets, smoothing, chunk_rows, torch.is_grad_enabled())


class _LinearCrossEntropy(torch.autograd.Function):
    """Gradients for an upstream gradient of 1 are found on the way forward; backward scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        smoothing: float,
        chunk_rows: int,
        recording: bool,
    ) -> Tensor:
        device = hidden.device.type
        product = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        wanted = [recording and needed for needed in ctx.needs_input_grad[:3]]
        with torch.autocast(device, enabled=False):
            loss, grads = _sweep(hidden, weight, bias, targets, smoothing, chunk_rows, product, wanted)
        ctx.save_for_backward(*grads)
        ctx.dtypes = [None if t is None else t.dtype for t in (hidden, weight, bias)]
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        grads = (
            None if grad is None else (grad * upstream).to(dtype)
            for grad, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return *grads, None, None, None, None


def _sweep(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    smoothing: float,
    chunk_rows: int,
    product: torch.dtype,
    wanted: list[bool],
) -> tuple[Tensor, list[Tensor | None]]:
    """The loss and the wanted gradients of hidden, weight and bias; `product` is the type of the matrix products."""
    (rows, _), classes = hidden.shape, len(weight)
    exact = torch.float64 if product == torch.float64 else torch.float32
    chunk_rows = max(1, min(chunk_rows, rows))
    uniform = smoothing / classes
    column = weight.sum(0, dtype=exact)
    operand, offset = weight.to(product), None if bias is None else bias.to(exact)

    def empty(*shape: int, dtype: torch.dtype = exact) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=hidden.device)

    # The uniform part of the loss and of the gradients comes first; the chunks add theirs.
    whole = hidden.sum(0, dtype=exact)
    loss = -uniform * (whole @ column)
    d_hidden = (-uniform * column).repeat(rows, 1) if wanted[0] else None
    d_weight = (-uniform * whole).repeat(classes, 1) if wanted[1] else None
    d_bias = empty(classes).fill_(-uniform * rows) if wanted[2] else None
    if offset is not None:
        loss -= uniform * rows * offset.sum()

    logits = empty(chunk_rows, classes)
    narrow = logits if product == exact else empty(chunk_rows, classes, dtype=product)
    for start in range(0, rows, chunk_rows):
        part = slice(start, min(start + chunk_rows, rows))
        h, target = hidden[part].to(product), targets[part].unsqueeze(1)
        z, n = logits[: len(h)], narrow[: len(h)]
        torch.mm(h, operand.t(), out=n)
        if n is not z:
            z.copy_(n)
        if offset is not None:
            z += offset
        chosen = z.gather(1, target)
        peak = z.amax(1, keepdim=True)
        # logsumexp(z) = peak - log softmax(z)[peak]: exact, because the largest probability is at least 1/V.
        torch.softmax(z, 1, out=z)
        loss += (peak - z.amax(1, keepdim=True).log()).sum() - (1 - smoothing) * chosen.sum()
        if not any(wanted):
            continue
        z.scatter_add_(1, target, z.new_full((), smoothing - 1).expand_as(target))
        if d_bias is not None:
            d_bias += z.sum(0)
        if n is not z:
            n.copy_(z)
        if d_hidden is not None:
            _accumulate(d_hidden[part], n, operand)
        if d_weight is not None:
            _accumulate(d_weight, n.t(), h)
    return loss, [d_hidden, d_weight, d_bias]


def _accumulate(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b, the sum in the type of `total`."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b
