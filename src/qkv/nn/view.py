"""What the queries of one forward pass see of its keys: mask, bias and tokens bound together, once for all layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from .masks import Causal, Full, Mask
from .tokens import Tokens

Bias = Callable[[Tokens, Tokens], Tensor | None]


class View:
    """Who sees whom, and with what bias.

    Kernels ask it for facts first (`all_visible`, `causal_only`), so that the fused paths build no mask tensor; then
    for the whole table (`dense`, `additive`), which is made once and shared by all layers; or for one tile of it.
    Invalid keys are hidden here and nowhere else. Rows of padding queries are unspecified but finite.
    """

    def __init__(self, mask: Mask, q: Tokens, k: Tokens, bias: Bias | None = None):
        self.q, self.k = q, k
        self.mask = mask.simplify(q, k)
        self.bias = bias
        self._additive: dict[torch.dtype, Tensor] = {}

    @cached_property
    def all_visible(self) -> bool:
        """Every key is seen by every query and no bias is added."""
        if self.bias is not None or self.k.padded:
            return False
        if isinstance(self.mask, Full):
            return True
        # One new token after a cache that holds only its past: the everyday decoding step.
        return isinstance(self.mask, Causal) and self.q.shape[1] == 1 and bool((self.k.pos <= self.q.pos).all())

    @cached_property
    def causal_only(self) -> bool:
        """Query t sees exactly the keys 0..t: what a fused kernel can do with no table. Padding, if any, comes last."""
        same = self.q is self.k or self.q.pos is self.k.pos
        return self.bias is None and isinstance(self.mask, Causal) and same and self.q.ordered

    def tile(self, qs: slice, ks: slice) -> tuple[Tensor | None, Tensor | None]:
        """(visible bool [B|1,H|1,t,s] or None for all, bias [B|1,H,t,s] or None) of a rectangle of the table."""
        q, k = self.q[:, qs], self.k[:, ks]
        bias = None if self.bias is None else self.bias(q, k)
        open_keys = k.valid[:, None, None, :] if self.k.padded else None
        if isinstance(self.mask, Full):
            return open_keys, bias
        visible = self.mask.tile(qs, ks)(q, k)
        return (visible if open_keys is None else visible & open_keys), bias

    def dense(self) -> tuple[Tensor | None, Tensor | None]:
        """The whole table, (visible [B|1,H|1,T|1,S] or None, bias [B|1,H,T,S] or None)."""
        return self._dense

    @cached_property
    def _dense(self) -> tuple[Tensor | None, Tensor | None]:
        return self.tile(slice(None), slice(None))

    def additive(self, dtype: torch.dtype) -> Tensor | None:
        """The table as one tensor to add to the scores: the bias where visible, minus infinity elsewhere."""
        if dtype not in self._additive:
            visible, bias = self.dense()
            if visible is None:
                return None if bias is None else bias.to(dtype)
            base = torch.zeros((), dtype=dtype, device=visible.device) if bias is None else bias.to(dtype)
            self._additive[dtype] = torch.where(visible, base, float("-inf"))
        return self._additive[dtype]
