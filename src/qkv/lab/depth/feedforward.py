"""What a feed-forward network is: a memory read by each token on its own (A93, B15, B32; Geva et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

import torch
from torch import Tensor, nn

from qkv.lab import small
from qkv.lab.checks import below, close
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import (
    Attention,
    AttentionConfig,
    Block,
    BlockConfig,
    Causal,
    FeedForward,
    Full,
    Mask,
    MultiHead,
    NoFeedForward,
    NoPosition,
    Plain,
    PositionConfig,
    Sinusoidal,
    Tokens,
    View,
)
from qkv.nn.feedforward import PositionWise
from qkv.nn.positions import Position

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class FeedForwardForm:
    """d: width of the stream; the hidden layer has 4·d. length: of the sequence."""

    d: Annotated[int, within(4, 64)] = 16
    length: Annotated[int, within(2, 32)] = 7


@experiment()
def feed_forward_form(lab: Lab, params: FeedForwardForm) -> None:
    """A feed-forward network treats every token alike and alone, as a sum over memory cells; it tells no position."""
    width, length = params.d, params.length
    x = torch.randn(1, length, width, generator=lab.generator(), dtype=torch.float64)
    order = torch.randperm(length, generator=lab.generator(1)).roll(1)
    tokens = Tokens.arange(1, length)
    network = FeedForward(4 * width).build(width)
    assert isinstance(network, PositionWise)
    network.double()

    def attending(mask: Mask) -> Map:
        attention = Attention(AttentionConfig(MultiHead(2)), width).double()
        return lambda y: attention(y, View(mask, tokens, tokens))

    lab.claim(
        "commutes",
        Text("Permuting the tokens permutes the outputs.", "打乱词序，输出只是跟着打乱。"),
        measure=lambda f: (f(x[:, order]) - f(x)[:, order]).abs().max(),
        arm=network,
        control=attending(Causal()),
        without=Text("causal attention instead", "换成因果注意力"),
        holds=below(1e-12),
    )

    def cross_talk(f: Map) -> Tensor:
        """The largest derivative of one position's output by another position's input."""
        table: Tensor = torch.autograd.functional.jacobian(f, x)[0, :, :, 0]
        own = torch.eye(length, dtype=torch.bool)[:, None, :, None]
        return table.abs().masked_fill(own, 0.0).max()

    lab.claim(
        "alone",
        Text("No token's output depends on another token.", "任何一个词的输出都不依赖别的词。"),
        measure=cross_talk,
        arm=network,
        control=attending(Full()),
        without=Text("attention instead", "换成注意力"),
        holds=below(1e-12),
    )
    lab.claim(
        "no_position",
        Text(
            "An encoder with feed-forward networks and no position encoding does not know the order.",
            "编码器有前馈网络而没有位置编码时，不知道词序。",
        ),
        measure=partial(order_defect, params),
        arm=NoPosition(),
        control=Sinusoidal(),
        without=Text("sinusoidal positions added to the embeddings", "在词嵌入上加正弦位置编码"),
        holds=below(1e-10),
    )
    memory_claim(lab, network, x)
    parameter_claims(lab, params)


def memory_claim(lab: Lab, network: PositionWise, x: Tensor) -> None:
    """The matrix form is the sum over cells."""
    lab.claim(
        "memory",
        Text(
            "The network is the sum over its hidden units of φ(x·k + b)·v, a look-up of values by soft matches.",
            "前馈网络等于对所有隐藏单元求和 φ(x·k + b)·v：按匹配程度取出各自的值。",
        ),
        measure=lambda phi: (network(x) - cells(network, x[0], phi)).abs().max(),
        arm=network.activation,
        control=nn.Identity(),
        without=Text("the sum without the activation", "求和时去掉激活函数"),
        holds=below(1e-12),
    )


def cells(network: PositionWise, x: Tensor, phi: Map) -> Tensor:
    """Unit by unit: x [T,E] -> [T,E]."""
    out = network.down.bias.expand_as(x).clone()
    for key, bias, value in zip(network.up.weight, network.up.bias, network.down.weight.T, strict=True):
        out += phi(x @ key + bias)[:, None] * value
    return out


def order_defect(params: FeedForwardForm, position: PositionConfig) -> Tensor:
    """How far the outputs of a whole encoder are from permuting with its input."""
    ids = torch.arange(params.length)[None]
    order = torch.arange(params.length).roll(2)
    tokens = Tokens.arange(1, params.length)
    with torch.no_grad():
        model = small.encoder(params.length, d_model=params.d, position=position).double()
        return (model(ids[:, order], tokens) - model(ids, tokens)[:, order]).abs().max()


def parameter_claims(lab: Lab, params: FeedForwardForm) -> None:
    """What share of a layer it is, and what a layer without it can do to a single token."""
    width = params.d
    base = BlockConfig(
        attention=AttentionConfig(MultiHead(2), bias=False, out_bias=False), placement=Plain(), dropout=0.0
    )

    def block(config: FeedForward | NoFeedForward) -> Block:
        return Block(replace(base, feedforward=config), width, Position()).double()

    def share(config: FeedForward) -> float:
        made = block(config)
        assert made.feedforward is not None
        return sum(p.numel() for p in made.feedforward.parameters()) / sum(p.numel() for p in made.parameters())

    lab.claim(
        "share_of_weights",
        Text("At d_ff = 4·d it holds two thirds of a layer's weights.", "d_ff = 4·d 时，它占一层权重的三分之二。"),
        measure=share,
        arm=FeedForward(4 * width, bias=False),
        control=FeedForward(width, bias=False),
        without=Text("d_ff = d", "d_ff = d"),
        holds=close(2 / 3, 1e-12),
    )
    a, b = torch.randn(2, 1, 1, width, generator=lab.generator(2), dtype=torch.float64)
    zero = torch.zeros_like(a)
    alone = View(Full(), Tokens.arange(1, 1), Tokens.arange(1, 1))

    @torch.no_grad()
    def defect(config: FeedForward | NoFeedForward) -> Tensor:
        f = partial(block(config), view=alone)
        return (f(a + b) - f(a) - f(b) + f(zero)).abs().max()

    lab.claim(
        "linear_without",
        Text(
            "Take the feed-forward network away, and what a layer without norms does to a lone token is linear.",
            "去掉前馈网络（也不加归一化），一层对单独一个词做的只是线性变换。",
        ),
        measure=defect,
        arm=NoFeedForward(),
        control=FeedForward(4 * width),
        without=Text("the feed-forward network put back", "装回前馈网络"),
        holds=below(1e-12),
    )
