"""How attention is computed: the table of kernels, all of this file equal in value and gradient.

A kernel is a module (q [B,H,T,D], k [B,G,S,D], v [B,G,S,D], view, *, scale, dropout, need_weights)
-> (out [B,H,T,D], weights [B,H,T,S] or None). Query head h reads key head h // (H/G). A row that may see nothing
gives zeros, with finite gradients.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .dropout import dropout as drop
from .linear import Linear
from .view import View


def spread(x: Tensor, n_heads: int) -> Tensor:
    """Key or value heads [B,G,S,D] -> [B,H,S,D]: each repeated for the H/G query heads in a row that share it."""
    return x if x.shape[1] == n_heads else x.repeat_interleave(n_heads // x.shape[1], dim=1)


def seen_softmax(scores: Tensor, visible: Tensor | None) -> Tensor:
    """softmax over what is visible; a row that sees nothing is all zeros."""
    if visible is None:
        return scores.softmax(-1)
    hidden = ~visible
    return scores.masked_fill(hidden, torch.finfo(scores.dtype).min).softmax(-1).masked_fill(hidden, 0.0)


def attention_weights(q: Tensor, k: Tensor, view: View, scale: float) -> Tensor:
    """softmax(scale · q kᵀ + bias) over what is visible, [B,H,T,S]: the textbook table, made in full."""
    scores = torch.einsum("bhtd,bhsd->bhts", q, spread(k, q.shape[1])) * scale
    visible, bias = view.dense()
    return seen_softmax(scores if bias is None else scores + bias.to(scores.dtype), visible)


class PerHeadKernel(nn.Module):
    """One head after the other, each a page of matrices: the slowest and the easiest to read."""

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, view: View, *, scale: float, dropout: float, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        share = q.shape[1] // k.shape[1]
        visible, bias = view.dense()
        outs, tables = [], []
        for head in range(q.shape[1]):
            query, key, value = q[:, head], k[:, head // share], v[:, head // share]
            scores = scale * query @ key.transpose(1, 2)
            if bias is not None:
                scores = scores + bias[:, head].to(scores.dtype)
            seen = None if visible is None else visible[:, head if visible.shape[1] > 1 else 0]
            weights = seen_softmax(scores, seen)
            outs.append(drop(weights, dropout, self.training) @ value)
            tables.append(weights)
        return torch.stack(outs, dim=1), torch.stack(tables, dim=1) if need_weights else None


class EinsumKernel(nn.Module):
    """softmax(QKᵀ·scale)V in two contractions (Vaswani et al. 2017, eq. 1)."""

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, view: View, *, scale: float, dropout: float, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        weights = attention_weights(q, k, view, scale)
        kept = drop(weights, dropout, self.training)
        out = torch.einsum("bhts,bhsd->bhtd", kept, spread(v, q.shape[1]))
        return out, weights if need_weights else None


class FusedKernel(nn.Module):
    """torch's fused attention; it is told facts instead of a mask tensor wherever the view has them."""

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, view: View, *, scale: float, dropout: float, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        causal = q.shape[2] > 1 and view.causal_only
        mask = None if causal or view.all_visible else view.additive(q.dtype)
        if scale == 0.0:  # torch scales after it has hidden the future, and 0 · −∞ is no number
            q, scale = 0.0 * q, 1.0
        out = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            dropout_p=dropout if self.training else 0.0,
            is_causal=causal,
            scale=scale,
            enable_gqa=q.shape[1] != k.shape[1],
        )
        return out, attention_weights(q, k, view, scale) if need_weights else None


class ChunkedKernel(nn.Module):
    """Online softmax over tiles: O(n) memory forward and backward (Milakov & Gimelshein 2018; Rabe & Staats 2021).

    Queries go block by block; each block walks over the keys with a running maximum m, normaliser l and sum a:
        m' = max(m, max s),  l' = l·e^(m-m') + Σ e^(s-m'),  a' = a·e^(m-m') + e^(s-m') V,  out = a / l.
    Backward recomputes one block of queries at a time, so that no more than block x S scores ever live.
    """

    def __init__(self, block: int):
        super().__init__()
        self.block = block

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, view: View, *, scale: float, dropout: float, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        keys, values = spread(k, q.shape[1]), spread(v, q.shape[1])
        recompute = torch.is_grad_enabled()
        outs = []
        for start in range(0, q.shape[2], self.block):
            qs = slice(start, min(start + self.block, q.shape[2]))
            args = (q[:, :, qs], keys, values, view, qs, scale, dropout)
            outs.append(checkpoint(self._rows, *args, use_reentrant=False) if recompute else self._rows(*args))
        return torch.cat(outs, dim=2), attention_weights(q, k, view, scale) if need_weights else None

    def _rows(self, q: Tensor, k: Tensor, v: Tensor, view: View, qs: slice, scale: float, dropout: float) -> Tensor:
        """One block of queries against all keys."""
        top = q.new_full((*q.shape[:3], 1), float("-inf"))
        total = torch.zeros_like(top)
        mixed = v.new_zeros(*q.shape[:3], v.shape[-1])
        end = qs.stop if view.causal_only else k.shape[2]
        for start in range(0, end, self.block):
            ks = slice(start, min(start + self.block, end))
            visible, bias = view.tile(qs, ks)
            scores = scale * q @ k[:, :, ks].transpose(-1, -2)
            if bias is not None:
                scores = scores + bias.to(scores.dtype)
            if visible is not None:
                scores = scores.masked_fill(~visible, float("-inf"))
            peak = torch.maximum(top, scores.detach().amax(-1, keepdim=True))
            shift = peak.masked_fill(peak == float("-inf"), 0.0)  # a row that has seen nothing yet
            weights, fade = (scores - shift).exp(), (top - shift).exp()
            total = total * fade + weights.sum(-1, keepdim=True)
            mixed = mixed * fade + drop(weights, dropout, self.training) @ v[:, :, ks]
            top = peak
        return mixed / total.where(total > 0, 1.0)


@dataclass(frozen=True)
class PerHead:
    """A loop over the heads."""

    def build(self) -> nn.Module:
        return PerHeadKernel()


@dataclass(frozen=True)
class Einsum:
    """Two contractions and the whole table of weights between them."""

    def build(self) -> nn.Module:
        return EinsumKernel()


@dataclass(frozen=True)
class Fused:
    """torch's scaled_dot_product_attention."""

    def build(self) -> nn.Module:
        return FusedKernel()


@dataclass(frozen=True)
class Chunked:
    """block: how many queries and keys a tile has."""

    block: int = 128

    def __post_init__(self) -> None:
        if self.block < 1:
            raise ValueError(f"a chunked kernel's block holds at least one token, not {self.block}")

    def build(self) -> nn.Module:
        return ChunkedKernel(self.block)


KernelConfig = PerHead | Einsum | Fused | Chunked | Linear
"""The table of kernels. All compute one function, but `Linear`, which has its own (see linear.py)."""
