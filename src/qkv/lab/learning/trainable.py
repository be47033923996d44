"""What is trained in a Transformer, how much of it there is, and what of it cannot matter (A21)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import nn

from qkv.data.batch import Batch
from qkv.lab import figures, small
from qkv.lab.checks import below, exactly
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import DecoderOnly
from qkv.models.config import HeadConfig
from qkv.nn import Rotary

from .ragged import total


@dataclass(frozen=True)
class Trainable:
    """d_model, layers, vocab: of the decoder."""

    d_model: Annotated[int, within(8, 128)] = 32
    layers: Annotated[int, within(1, 6)] = 2
    vocab: Annotated[int, within(5, 200)] = 20


GROUPS = {
    "embedding": Text("embeddings", "词嵌入与位置"),
    "attention": Text("attention", "注意力"),
    "feedforward": Text("feed-forward", "前馈网络"),
    "norm": Text("norms", "层归一化"),
    "head": Text("output matrix", "输出矩阵"),
}


def group(name: str) -> str:
    """Which of GROUPS a parameter belongs to."""
    if name.startswith("head"):
        return "head"
    if "embedding" in name or "position" in name:
        return "embedding"
    if "residual" in name or ".norm" in name:
        return "norm"
    return "attention" if "attention" in name else "feedforward"


def sizes(model: nn.Module) -> dict[str, int]:
    """Weights of each group."""
    found = dict.fromkeys(GROUPS, 0)
    for name, p in model.named_parameters():
        found[group(name)] += p.numel()
    return found


def formula(params: Trainable) -> int:
    """(V + n)·d + L·(4d² + 4d + 8d² + 5d + 4d) + 2d + V·d for learned positions, F = 4d, pre-norm, an untied head."""
    d, v = params.d_model, params.vocab
    return (v + small.MAX_LENGTH) * d + params.layers * (12 * d * d + 13 * d) + 2 * d + v * d


@experiment()
def trainable_parts(lab: Lab, params: Trainable) -> None:
    """Parameters by a formula, a bias that never learns, and weights that can be exchanged without any change."""
    shape = {"d_model": params.d_model, "n_layers": params.layers}

    def decoder(**changes: object) -> DecoderOnly:
        return small.decoder(params.vocab, **shape, **changes).double()  # type: ignore[arg-type]

    model, rotary = decoder(), decoder(position=Rotary())
    ids = torch.randint(params.vocab, (4, 13), generator=lab.generator())
    batch = small.following(ids)
    found = sizes(model)
    for name, count in found.items():
        lab.number(name, count, "weights")
    lab.number("all", sum(found.values()), "weights")
    lab.number("formula", formula(params), "weights")
    lab.claim(
        "count",
        Text("The number of parameters is that of the formula.", "参数量与公式一致。"),
        measure=lambda head: (
            sum(p.numel() for p in small.decoder(params.vocab, head, **shape).parameters()) - formula(params)
        ),
        arm=HeadConfig(tied=False),
        control=HeadConfig(tied=True),
        without=Text("output matrix tied to the embedding: V·d fewer", "输出矩阵与词嵌入共享：少 V·d 个"),
        holds=exactly(0),
        unit="weights",
    )
    claim_key_bias(lab, batch, model, rotary)
    Exchange(model, batch, lab).claims()
    lab.figure(
        "sizes",
        figures.bars(
            Text("Where the weights are", "参数在哪里"),
            Text("weights", "参数个数"),
            {key: float(value) for key, value in found.items()},
            GROUPS,
            scale="symlog",
        ),
    )


def first(model: DecoderOnly) -> Any:
    """Its first layer."""
    return model.decoder.blocks[0]


def claim_key_bias(lab: Lab, batch: Batch, model: DecoderOnly, rotary: DecoderOnly) -> None:
    """Gradients of the biases of the projections in, as a share of the query's."""

    def parts(model: DecoderOnly) -> tuple[float, ...]:
        attention = first(model).attention
        with torch.no_grad():  # biases begin at zero; none shall be special
            attention.query_key_value.bias.normal_(generator=lab.generator(5))
        model.zero_grad(set_to_none=True)
        total(model, batch)[0].backward()
        return tuple(float(g.norm()) for g in attention.query_key_value.bias.grad.chunk(3))

    query, key, value = parts(copy.deepcopy(model))
    lab.number("query_bias", query)
    lab.number("key_bias", key)
    lab.number("value_bias", value)
    lab.claim(
        "dead_bias",
        Text(
            "The bias of the keys has no gradient: it adds one constant to all scores of a query.",
            "键的偏置没有梯度：它给同一查询的全部分数加同一个常数。",
        ),
        measure=lambda m: parts(copy.deepcopy(m))[1],
        arm=model,
        control=rotary,
        without=Text("rotary positions: the constant then depends on the distance", "旋转位置编码：这个数随距离而变"),
        holds=below(1e-10),
    )


class Exchange:
    """Other weights, the same function."""

    def __init__(self, model: DecoderOnly, batch: Batch, lab: Lab):
        self.batch, self.lab = batch, lab
        self.model = copy.deepcopy(model)
        with torch.no_grad():
            for p in self.model.parameters():  # gains and biases too: none stays at its special start
                p.data += 0.2 * torch.randn(p.shape, generator=lab.generator(p.numel()), dtype=p.dtype)
        self.before = small.logits(self.model, batch)

    @torch.no_grad()
    def change(self, edit: Callable[[DecoderOnly], None]) -> float:
        """How far the logits move."""
        model = copy.deepcopy(self.model)
        edit(model)
        return float((small.logits(model, self.batch) - self.before).abs().max())

    def gauge(self, inverse: bool) -> Callable[[DecoderOnly], None]:
        """W_Q ← A W_Q and W_K ← A^-T W_K in the first head of the first layer, biases along; or A for both."""

        def edit(model: DecoderOnly) -> None:
            layer = first(model).attention
            w, b, d = layer.query_key_value.weight, layer.query_key_value.bias, layer.d_head
            a = torch.randn(d, d, generator=self.lab.generator(9), dtype=w.dtype) + 3 * torch.eye(d, dtype=w.dtype)
            other = torch.linalg.inv(a).T if inverse else a
            keys = layer.n_heads * d
            for at, matrix in ((slice(0, d), a), (slice(keys, keys + d), other)):
                w[at], b[at] = matrix @ w[at], matrix @ b[at]

        return edit

    def fold(self, shift: bool) -> Callable[[DecoderOnly], None]:
        """Gain and shift of the norm before the first feed-forward moved into its matrix; or the gain only."""

        def edit(model: DecoderOnly) -> None:
            block = first(model)
            norm, into = block.feedforward_residual.inner, _first_linear(block.feedforward)
            if shift:
                into.bias.data += into.weight @ norm.bias
            into.weight *= norm.weight
            norm.weight.fill_(1.0)
            norm.bias.zero_()

        return edit

    def claims(self) -> None:
        self.lab.claim(
            "gauge",
            Text(
                "W_Q → A·W_Q with W_K → A⁻ᵀ·W_K changes no output: only their product counts.",
                "W_Q → A·W_Q 且 W_K → A⁻ᵀ·W_K，输出不变：起作用的只是乘积。",
            ),
            measure=lambda inverse: self.change(self.gauge(inverse)),
            arm=True,
            control=False,
            without=Text("A for both, no inverse", "两边都乘 A，不取逆"),
            holds=below(1e-9),
        )
        self.lab.claim(
            "folded",
            Text(
                "A norm's gain and shift can be moved into the matrix after it.",
                "层归一化的增益和平移可以并入其后的矩阵。",
            ),
            measure=lambda shift: self.change(self.fold(shift)),
            arm=True,
            control=False,
            without=Text("the gain alone, the shift dropped", "只并入增益，丢掉平移"),
            holds=below(1e-9),
        )


def _first_linear(module: nn.Module) -> nn.Linear:
    """The matrix that a feed-forward begins with."""
    return next(m for m in module.modules() if isinstance(m, nn.Linear))


def only(model: nn.Module, kept: str) -> nn.Module:
    """Freeze all groups but one ("all": none)."""
    for name, p in model.named_parameters():
        p.requires_grad_(kept in ("all", group(name)))
    return model
