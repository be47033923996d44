"""Linear attention: the softmax of the scores replaced by a product of features, so that the past fits in one matrix.

    out_t = Σ_s φ(q_t)·φ(k_s) v_s / Σ_s φ(q_t)·φ(k_s),   φ(x) = elu(x) + 1   (Katharopoulos et al. 2020)

The sum over the past is a state of D·(D+1) numbers a head, whatever the length: S = Σ φ(k_s) v_sᵀ and z = Σ φ(k_s).
It is another function than softmax attention, so it stands beside the kernels that are all equal, and is not tested
against them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .masks import Causal, Full
from .tokens import Tokens
from .view import View

State = tuple[Tensor, Tensor]
"""(S [B,H,D,D], z [B,H,D])."""


def features(x: Tensor) -> Tensor:
    """φ(x) = elu(x) + 1, above zero, so that weights are positive."""
    return F.elu(x) + 1


def step(q: Tensor, k: Tensor, v: Tensor, state: State | None = None, scale: float = 1.0) -> tuple[Tensor, State]:
    """One token of the recurrence: q, k, v [B,H,D] and the state so far -> (out [B,H,D], the state with this token)."""
    key = features(k)
    pairs, total = key[..., :, None] * v[..., None, :], key
    if state is not None:
        pairs, total = pairs + state[0], total + state[1]
    query = features(scale * q)
    out = torch.einsum("bhd,bhde->bhe", query, pairs) / (query * total).sum(-1, keepdim=True)
    return out, (pairs, total)


def linear_weights(q: Tensor, k: Tensor, view: View, scale: float) -> Tensor:
    """The definition as a table [B,H,T,S], in full: φ(scale·q)·φ(k) over what is visible, rows summing to 1."""
    table = torch.einsum("bhtd,bhsd->bhts", features(scale * q), features(k))
    visible = view.dense()[0]
    if visible is not None:
        table = table.masked_fill(~visible, 0.0)
    total = table.sum(-1, keepdim=True)
    return table / total.where(total > 0, 1.0)


def _in_order(tokens: Tokens) -> bool:
    """Whether every token stands after all that have a smaller position, padding anywhere."""
    before = tokens.pos.cummax(1).values[:, :-1]
    return bool(((tokens.pos[:, 1:] > before) | ~tokens.valid[:, 1:]).all())


class LinearKernel(nn.Module):
    """O(n) operations and memory, causal or not; in causal form block by block, with the state carried between them.

    Raises ValueError for what a state cannot express: a bias on the scores, dropout on weights that are never made,
    and every mask but all keys, or the past in order (padding is served, at either end).
    """

    def __init__(self, block: int):
        super().__init__()
        self.block = block

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, view: View, *, scale: float, dropout: float, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        causal = self._causal(view)
        if dropout and self.training:
            raise ValueError("linear attention has no table of weights to drop from: set attention.dropout to 0")
        share = q.shape[1] // k.shape[1]
        if share > 1:
            k, v = k.repeat_interleave(share, dim=1), v.repeat_interleave(share, dim=1)
        query, key = features(scale * q), features(k)
        if view.k.padded:
            key = key * view.k.valid[:, None, :, None]
        # A column of ones beside the values: the normaliser z is then one more column of the state.
        values = torch.cat([v, torch.ones_like(v[..., :1])], dim=-1)
        summed = self._past(query, key, values) if causal else query @ (key.transpose(2, 3) @ values)
        total = summed[..., -1:]
        out = summed[..., :-1] / total.where(total > 0, 1.0)
        return out, linear_weights(q, k, view, scale) if need_weights else None

    def _past(self, query: Tensor, key: Tensor, values: Tensor) -> Tensor:
        """Σ over the past, [B,H,T,D+1]: within a block by a small table, before it by the state."""
        state = values.new_zeros(*values.shape[:2], key.shape[-1], values.shape[-1])
        sums = []
        for q, k, v in zip(*(part.split(self.block, dim=2) for part in (query, key, values)), strict=True):
            sums.append(q @ state + (q @ k.transpose(2, 3)).tril() @ v)
            state = state + k.transpose(2, 3) @ v
        return torch.cat(sums, dim=2)

    @staticmethod
    def _causal(view: View) -> bool:
        """Whether it is the causal form that serves this view."""
        if view.bias is not None:
            raise ValueError("linear attention cannot add a bias to scores that it never makes: use another position")
        if view.all_visible or isinstance(view.mask, Full):
            return False
        same = view.q is view.k or view.q.pos is view.k.pos
        if isinstance(view.mask, Causal) and same and _in_order(view.q):
            return True
        raise ValueError(
            "linear attention serves all keys, or the past of tokens in their order, and no other mask: "
            "its state forgets which key each summand came from"
        )


@dataclass(frozen=True)
class Linear:
    """Linear attention, another function than the others: its state has a fixed size. block: tokens that the causal
    form takes at a time."""

    block: int = 64

    def __post_init__(self) -> None:
        if self.block < 1:
            raise ValueError(f"a linear kernel's block holds at least one token, not {self.block}")

    def build(self) -> nn.Module:
        return LinearKernel(self.block)
