"""One function, several implementations: a loop over heads, one product, a fused call, tiles (A71)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from qkv.lab import figures
from qkv.lab.checks import above, below, close
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import (
    Attention,
    AttentionConfig,
    Causal,
    Chunked,
    Einsum,
    Full,
    Fused,
    KernelConfig,
    MultiHead,
    PerHead,
    Tokens,
    View,
)

from .by_hand import ByHand, Case
from .parts import furthest, normal


def per_head(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    """One head after the other."""
    outs = []
    for head in range(q.shape[1]):
        scores = q[:, head] @ k[:, head].transpose(1, 2) / q.shape[-1] ** 0.5
        weights = scores.masked_fill(~visible[:, 0], float("-inf")).softmax(-1)
        outs.append(weights @ v[:, head])
    return torch.stack(outs, dim=1)


def batched(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    """All heads in two contractions."""
    scores = torch.einsum("bhtd,bhsd->bhts", q, k) / q.shape[-1] ** 0.5
    weights = scores.masked_fill(~visible, float("-inf")).softmax(-1)
    return torch.einsum("bhts,bhsd->bhtd", weights, v)


def fused(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    """torch's own."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visible)


def tiled(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, block: int = 4) -> Tensor:
    """Keys tile by tile, with a running maximum, sum and mixture."""
    top = q.new_full((*q.shape[:3], 1), float("-inf"))
    total, mixed = torch.zeros_like(top), torch.zeros_like(q)
    for start in range(0, k.shape[2], block):
        tile = slice(start, start + block)
        scores = q @ k[:, :, tile].transpose(2, 3) / q.shape[-1] ** 0.5
        scores = scores.masked_fill(~visible[..., tile], float("-inf"))
        peak = torch.maximum(top, scores.detach().amax(-1, keepdim=True))
        shift = peak.masked_fill(peak == float("-inf"), 0.0)
        weights, fade = (scores - shift).exp(), (top - shift).exp()
        total = total * fade + weights.sum(-1, keepdim=True)
        mixed = mixed * fade + weights @ v[:, :, tile]
        top = peak
    return mixed / total


PRINTED = (per_head, batched, fused, tiled)
"""What the answer prints."""


def unfaded(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, block: int = 4) -> Tensor:
    """Tiles without the correction: each subtracts its own maximum, and the sums are added as they are."""
    total, mixed = q.new_zeros((*q.shape[:3], 1)), torch.zeros_like(q)
    for start in range(0, k.shape[2], block):
        tile = slice(start, start + block)
        scores = q @ k[:, :, tile].transpose(2, 3) / q.shape[-1] ** 0.5
        scores = scores.masked_fill(~visible[..., tile], -1e9)
        weights = (scores - scores.amax(-1, keepdim=True)).exp() * visible[..., tile]
        total, mixed = total + weights.sum(-1, keepdim=True), mixed + weights @ v[:, :, tile]
    return mixed / total


KERNELS: dict[str, KernelConfig] = {
    "per_head": PerHead(),
    "einsum": Einsum(),
    "fused": Fused(),
    "chunked": Chunked(block=4),
}


@dataclass(frozen=True)
class Implementations(ByHand):
    """As ByHand. long: the length at which memory is compared, and its double. block: of the chunked kernel then."""

    long: Annotated[int, within(64, 1024)] = 256
    block: Annotated[int, within(8, 128)] = 32


@experiment()
def attention_implementations(lab: Lab, params: Implementations) -> None:
    """A loop over heads, einsum, torch's fused product and an online softmax over tiles are one function."""
    case = Case.draw(params, Causal(), params.length, lab.generator())
    results = {name: case.by_kernel(kernel) for name, kernel in KERNELS.items()}
    lab.claim(
        "printed",
        Text(
            "The four functions that the answer prints agree with the toolkit's.",
            "答案里印出的四个函数与工具箱一致。",
        ),
        measure=lambda ours: furthest(*((case.by_hand(own), results["einsum"]) for own in ours)),
        arm=PRINTED,
        control=(*PRINTED, unfaded),
        without=Text(
            "a fifth: tiles whose sums are added without correcting for the maximum",
            "加上第五个：各块之和不作修正就相加",
        ),
        holds=below(1e-10),
    )
    unseen = replace(case, view=View(Full(), case.view.q, case.view.k)).by_kernel(Einsum())
    lab.claim(
        "agree",
        Text(
            "All pairs of the four kernels agree in value and gradient, with causal mask and padding.",
            "四种实现两两之间值与梯度一致，带因果掩码与填充。",
        ),
        measure=lambda told: furthest(*itertools.combinations(told, 2)),
        arm=[*results.values()],
        control=[*results.values(), unseen],
        without=Text("a fifth one that forgets the causal mask", "加上忘了因果掩码的第五种"),
        holds=below(1e-10),
    )
    _against_torch(lab, params)
    _memory(lab, params)


def _memory(lab: Lab, params: Implementations) -> None:
    """What each keeps for the backward pass, at a length and at its double."""
    kept = {
        name: [kept_bytes(kernel, n) for n in (params.long, 2 * params.long)]
        for name, kernel in {**KERNELS, "chunked": Chunked(params.block)}.items()
    }
    for name, (short, twice) in kept.items():
        lab.number(f"{name}_kept", short / 1e6, "MB")
        lab.number(f"{name}_growth", twice / short)
    lab.claim(
        "memory",
        Text(
            "What the tiles keep for the backward pass doubles with the length; the table of weights quadruples.",
            "长度加倍时，分块实现为反向保存的数据加倍；存整张权重表的则变成四倍。",
        ),
        measure=lambda name: kept[name][1] / kept[name][0],
        arm="chunked",
        control="einsum",
        without=Text("the table of weights is made in full", "显式生成整张权重表"),
        holds=close(2.0, 0.1),
    )
    lab.claim(
        "table",
        Text("The loop over heads keeps the table as well.", "逐头循环同样保存整张表。"),
        measure=lambda name: kept[name][1] / kept[name][0],
        arm="per_head",
        control="fused",
        without=Text("the fused kernel, which recomputes it", "融合实现，反向时重算"),
        holds=above(3.5),
    )
    lab.figure(
        "kept",
        figures.bars(
            Text("Kept for the backward pass", "为反向传播保存的数据"),
            Text("MB", "MB"),
            {name: short / 1e6 for name, (short, _) in kept.items()},
            {
                "per_head": Text("per head", "逐头循环"),
                "einsum": Text("einsum", "einsum"),
                "fused": Text("fused", "融合算子"),
                "chunked": Text("tiles", "分块在线 softmax"),
            },
        ),
    )


def kept_bytes(kernel: KernelConfig, length: int) -> int:
    """Bytes of the distinct tensors that autograd keeps of one pass, whatever it shares counted once."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, length, 16, generator=generator, requires_grad=True) for _ in range(3))
    tokens = Tokens.arange(1, length)
    seen = View(Causal(), tokens, tokens)
    storages: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    module = kernel.build()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module(q, k, v, seen, scale=0.25, dropout=0.0, need_weights=False)
    return sum(tensor.untyped_storage().nbytes() for tensor in storages.values())


def _against_torch(lab: Lab, params: Implementations) -> None:
    """nn.MultiheadAttention with the same weights: an implementation that is not ours."""
    width = params.heads * params.d_head
    theirs = torch.nn.MultiheadAttention(width, params.heads, batch_first=True).double()
    ours = Attention(AttentionConfig(MultiHead(params.heads)), width).double()
    with torch.no_grad():
        theirs.in_proj_bias.normal_()
        for mine, other in (
            (ours.query_key_value.weight, theirs.in_proj_weight),
            (ours.query_key_value.bias, theirs.in_proj_bias),
            (ours.out.weight, theirs.out_proj.weight),
            (ours.out.bias, theirs.out_proj.bias),
        ):
            mine.copy_(other)
    x = normal(lab.generator(5), 2, params.length, width)
    tokens = Tokens.arange(2, params.length)
    hidden = ~torch.ones(params.length, params.length, dtype=torch.bool).tril()

    def apart(mask: Tensor) -> float:
        out, _ = theirs(x, x, x, attn_mask=mask, need_weights=False)
        return float((ours(x, View(Causal(), tokens, tokens)) - out).abs().max().detach())

    lab.claim(
        "torch",
        Text(
            "The layer is torch.nn.MultiheadAttention with the same weights.",
            "整层与同权重的 torch.nn.MultiheadAttention 一致。",
        ),
        measure=apart,
        arm=hidden,
        control=~hidden,
        without=Text(
            "its boolean mask read the other way: in that module True means hidden",
            "布尔掩码反着理解：在那个模块里 True 表示遮住",
        ),
        holds=below(1e-10),
    )
