"""Attention written by hand, as an interview asks for it, beside the toolkit's own and torch's (A101, B4)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from qkv.lab.checks import below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import (
    Causal,
    Einsum,
    Full,
    KernelConfig,
    Mask,
    Tokens,
    View,
)

from .parts import furthest, layer, normal

Attend = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def attend(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    """q [B,H,T,D], k and v [B,H,S,D], visible bool [B|1,1,T,S] -> [B,H,T,D]."""
    scores = torch.einsum("bhtd,bhsd->bhts", q, k) / math.sqrt(q.shape[-1])
    weights = scores.masked_fill(~visible, float("-inf")).softmax(-1)
    return torch.einsum("bhts,bhsd->bhtd", weights, v)


def multi_head(
    x: Tensor, memory: Tensor, visible: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, w_o: Tensor
) -> Tensor:
    """x [B,T,E], memory [B,S,E]; w_q, w_k, w_v [H,D,E], w_o [E,H,D] -> [B,T,E]."""
    q = torch.einsum("bte,hde->bhtd", x, w_q)
    k = torch.einsum("bse,hde->bhsd", memory, w_k)
    v = torch.einsum("bse,hde->bhsd", memory, w_v)
    return torch.einsum("bhtd,ehd->bte", attend(q, k, v, visible), w_o)


def masked_after(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    """A common slip: the softmax first, the mask after it, so that what is seen no longer adds up to 1."""
    weights = (torch.einsum("bhtd,bhsd->bhts", q, k) / math.sqrt(q.shape[-1])).softmax(-1)
    return torch.einsum("bhts,bhsd->bhtd", weights * visible, v)


def over_queries(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    """Another: the softmax over the queries instead of the keys."""
    scores = torch.einsum("bhtd,bhsd->bhts", q, k) / math.sqrt(q.shape[-1])
    weights = scores.masked_fill(~visible, torch.finfo(scores.dtype).min).softmax(-2)
    return torch.einsum("bhts,bhsd->bhtd", weights, v)


@dataclass(frozen=True)
class ByHand:
    """heads, d_head. length: of the queries. memory: keys of the cross-attention. padding: how many tokens of the
    second row are padding."""

    heads: Annotated[int, within(1, 16)] = 3
    d_head: Annotated[int, within(2, 64)] = 8
    length: Annotated[int, within(4, 64)] = 10
    memory: Annotated[int, within(4, 64)] = 7
    padding: Annotated[int, within(1, 3)] = 3


def visible(view: View) -> Tensor:
    """The table of a view, with the rows of padding queries, which nobody reads, opened."""
    seen, _ = view.dense()
    assert seen is not None
    return seen | ~view.q.valid[:, None, :, None]


@dataclass(frozen=True)
class Case:
    """Queries, keys and values of two rows, and who sees whom; the second row ends in padding."""

    q: Tensor
    k: Tensor
    v: Tensor
    view: View

    @classmethod
    def draw(cls, params: ByHand, mask: Mask, keys: int, generator: torch.Generator) -> Case:
        shape = 2, params.heads
        q = normal(generator, *shape, params.length, params.d_head)
        k, v = (normal(generator, *shape, keys, params.d_head) for _ in range(2))
        tokens = Tokens.from_lengths([keys, keys - params.padding])
        queries = tokens if keys == params.length else Tokens.arange(2, params.length)
        return cls(q, k, v, View(mask, queries, tokens))

    @property
    def visible(self) -> Tensor:
        """Who sees whom, [B,1,T,S]. A query that is padding sees nothing and is read by nobody; it is let see all, so
        that its row is a number in every implementation."""
        return visible(self.view)

    def by_hand(self, attend: Attend) -> Tensor:
        """Value and gradients, in one line of numbers."""
        return self._told(lambda q, k, v: attend(q, k, v, self.visible))

    def by_kernel(self, kernel: KernelConfig) -> Tensor:
        """The same by a kernel of the toolkit."""
        module, scale = kernel.build(), self.q.shape[-1] ** -0.5
        return self._told(lambda q, k, v: module(q, k, v, self.view, scale=scale, dropout=0.0, need_weights=False)[0])

    def by_torch(self) -> Tensor:
        """The same by torch alone, which is given a table of what may be seen."""
        return self._told(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=self.visible))

    def _told(self, compute: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        leaves = [part.clone().requires_grad_() for part in (self.q, self.k, self.v)]
        out = compute(*leaves)
        upstream = normal(torch.Generator().manual_seed(3), *out.shape)
        read = self.view.q.valid[:, None, :, None]
        gradients = torch.autograd.grad((out * upstream * read).sum(), leaves)
        return torch.cat([part.detach().flatten() for part in (out * read, *gradients)])


@experiment()
def attention_by_hand(lab: Lab, params: ByHand) -> None:
    """A dozen lines of einsum are the toolkit's attention and torch's, in value and gradient, masks included."""
    cases = {
        "causal": Case.draw(params, Causal(), params.length, lab.generator()),
        "padded": Case.draw(params, Full(), params.length, lab.generator(1)),
        "cross": Case.draw(params, Full(), params.memory, lab.generator(2)),
    }
    words = {
        "causal": ("with a causal mask and padding", "带因果掩码和填充"),
        "padded": ("with padding alone", "只有填充"),
        "cross": ("across two sequences of different length", "两个不等长序列之间的交叉注意力"),
    }
    slips = {
        "causal": (masked_after, Text("the mask applied after the softmax", "先做 softmax，再乘掩码")),
        "padded": (over_queries, Text("the softmax over the queries", "softmax 沿查询维做")),
        "cross": (masked_after, Text("the mask applied after the softmax", "先做 softmax，再乘掩码")),
    }
    for name, case in cases.items():
        en, zh = words[name]
        slip, without = slips[name]

        def apart(own: Attend, case: Case = case) -> float:
            ours = case.by_hand(own)
            return furthest((ours, case.by_torch()), (ours, case.by_kernel(Einsum())))

        lab.claim(
            name,
            Text(f"By hand, {en}: values and gradients are the library's.", f"手写版（{zh}）的值和梯度与库一致。"),
            measure=apart,
            arm=attend,
            control=slip,
            without=without,
            holds=below(1e-10),
        )
    _whole_layer(lab, params)


def _whole_layer(lab: Lab, params: ByHand) -> None:
    """The projections too, against a layer of the toolkit with the same matrices."""
    width = params.heads * params.d_head
    module = layer(width, params.heads, bias=False, out_bias=False)
    x = normal(lab.generator(4), 2, params.length, width)
    tokens = Tokens.from_lengths([params.length, params.length - params.padding])
    seen = View(Causal(), tokens, tokens)
    split = (params.heads, params.d_head)
    w_q, w_k, w_v = (part.unflatten(0, split) for part in module.query_key_value.weight.chunk(3))

    def apart(w_o: Tensor) -> float:
        ours = multi_head(x, x, visible(seen), w_q, w_k, w_v, w_o)
        return float((ours - module(x, seen))[tokens.valid].abs().max().detach())

    right = module.out.weight.unflatten(1, split)
    lab.claim(
        "layer",
        Text("With its projections it is the toolkit's layer.", "加上投影，就是工具箱的整个注意力层。"),
        measure=apart,
        arm=right,
        control=right.roll(1, dims=1),
        without=Text("the heads joined in another order than W_O expects", "各头拼接的次序与 W_O 不符"),
        holds=below(1e-12),
    )
