"""The three non-linear operations of a layer, each taken away and put back alone (A72)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor, nn

from qkv.lab.checks import below, close
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import (
    Attention,
    AttentionConfig,
    BatchNorm,
    Block,
    BlockConfig,
    FeedForward,
    Full,
    LayerNorm,
    MultiHead,
    NormConfig,
    Pre,
    Tokens,
    View,
)
from qkv.nn.feedforward import PositionWise
from qkv.nn.positions import Position


@dataclass(frozen=True)
class Nonlinearities:
    """d: width. length: of the sequence. n_layers: of the stack that is taken apart."""

    d: Annotated[int, within(4, 64)] = 16
    length: Annotated[int, within(2, 32)] = 6
    n_layers: Annotated[int, within(1, 8)] = 3


@dataclass(frozen=True)
class Parts:
    """Which of the three are there."""

    softmax: bool = False
    activation: bool = False
    norm: bool = False


class Tower(nn.Module):
    """Blocks on vectors [B,T,E] without embeddings. Removed are: the softmax by a scale of 0 (uniform weights), the
    activation by the identity, the norm's division by a BatchNorm in inference, whose divisor is a constant."""

    def __init__(self, params: Nonlinearities, parts: Parts):
        super().__init__()
        attention = AttentionConfig(MultiHead(2), scale=None if parts.softmax else 0.0)
        norm: NormConfig = LayerNorm() if parts.norm else BatchNorm()
        config = BlockConfig(attention, FeedForward(4 * params.d), norm, Pre(), dropout=0.0)
        self.blocks = nn.ModuleList(Block(config, params.d, Position()) for _ in range(params.n_layers))
        tokens = Tokens.arange(1, params.length)
        self.view = View(Full(), tokens, tokens)
        if not parts.activation:
            for part in self.modules():
                if isinstance(part, PositionWise):
                    part.activation = nn.Identity()
        self.double().eval()

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, self.view)
        return x


def defect(f: nn.Module, x: Tensor, y: Tensor) -> float:
    """Relative failure of superposition, ‖f(x+y) − f(x) − f(y) + f(0)‖ / ‖f(x+y)‖: 0 for affine maps only."""
    with torch.no_grad():
        both = f(x + y)
        return float((both - f(x) - f(y) + f(torch.zeros_like(x))).norm() / both.norm())


@experiment()
def three_nonlinearities(lab: Lab, params: Nonlinearities) -> None:
    """Without softmax, activation and normalisation a stack is one affine map; any one of them ends that."""
    x, y = torch.randn(2, 1, params.length, params.d, generator=lab.generator(), dtype=torch.float64)

    def of(parts: Parts) -> float:
        torch.manual_seed(lab.seed)
        return defect(Tower(params, parts), x, y)

    linear = Parts()
    for name, en, zh in (
        ("softmax", "the attention weights computed from the tokens", "注意力权重由输入算出"),
        ("activation", "the activation of the feed-forward network", "前馈网络的激活函数"),
        ("norm", "the division by each token's own standard deviation", "除以各词自己的标准差"),
    ):
        lab.claim(
            f"without_{name}",
            Text(
                f"Without all three a stack is one affine map; put back was only {en}.",
                f"三种非线性都去掉，整个网络是一个仿射变换；对照只装回：{zh}。",
            ),
            measure=of,
            arm=linear,
            control=replace(linear, **{name: True}),
            without=Text(f"put back: {en}", f"装回：{zh}"),
            holds=below(1e-12),
        )
    lab.number("all_three", of(Parts(True, True, True)))
    collapse_claim(lab, params, x)
    degree_claims(lab, params, x)


def collapse_claim(lab: Lab, params: Nonlinearities, x: Tensor) -> None:
    """Two matrices without an activation are one."""
    network = FeedForward(4 * params.d).build(params.d)
    assert isinstance(network, PositionWise)
    network.double()
    up, down = network.up, network.down
    product, shift = down.weight @ up.weight, down.weight @ up.bias + down.bias

    def distance(activation: nn.Module) -> Tensor:
        network.activation = activation
        return (network(x) - (x @ product.T + shift)).detach().abs().max()

    lab.claim(
        "one_matrix",
        Text(
            "A feed-forward network without activation equals one matrix, however wide it is.",
            "没有激活函数的前馈网络，再宽也等于一个矩阵。",
        ),
        measure=distance,
        arm=nn.Identity(),
        control=nn.ReLU(),
        without=Text("the activation put back", "装回激活函数"),
        holds=below(1e-12),
    )


def degree_claims(lab: Lab, params: Nonlinearities, x: Tensor) -> None:
    """How each of the three answers to an input three times as large: a degree of homogeneity tells them apart."""
    factor = 3.0
    norm = LayerNorm(eps=0.0).build(params.d).double()
    network = FeedForward(4 * params.d, bias=False).build(params.d)
    assert network is not None
    network.double()
    tokens = Tokens.arange(1, params.length)
    view = View(Full(), tokens, tokens)

    def attention(scale: float | None) -> Attention:
        torch.manual_seed(lab.seed)
        return Attention(AttentionConfig(MultiHead(2), scale=scale, bias=False, out_bias=False), params.d).double()

    def deviation(f: nn.Module, degree: int, *rest: View) -> Tensor:
        """‖f(c·x) − c^degree·f(x)‖ / ‖c^degree·f(x)‖."""
        with torch.no_grad():
            expected = factor**degree * f(x, *rest)
            return (f(factor * x, *rest) - expected).norm() / expected.norm()

    lab.number("factor", factor)
    lab.claim(
        "relu_degree",
        Text(
            "A ReLU network without biases is homogeneous of degree one: it bends but does not select by size.",
            "无偏置的 ReLU 网络是一次齐次的：有折线，但不随大小改变取舍。",
        ),
        measure=lambda f: deviation(f, 1),
        arm=network,
        control=norm,
        without=Text("LayerNorm, which is of degree zero", "换成 LayerNorm：零次齐次"),
        holds=below(1e-12),
    )
    lab.claim(
        "attention_mixes",
        Text(
            "Attention with fixed weights is linear; with weights made from the tokens no degree fits.",
            "权重固定时注意力是线性的；权重由输入算出后就不再齐次。",
        ),
        measure=lambda scale: deviation(attention(scale), 1, view),
        arm=0.0,
        control=None,
        without=Text("weights computed from the tokens", "权重由输入算出"),
        holds=below(1e-12),
    )
    sharp = attention(1e6)
    weights = attention_hull(sharp, x, view)
    lab.claim(
        "convex_hull",
        Text(
            "A head's output is a weighted mean of its values: the weights are positive and sum to one.",
            "一个头的输出是各个 value 的加权平均：权重非负、和为一。",
        ),
        measure=lambda w: (w.sum(-1) - 1).abs().max() + w.clamp(max=0).abs().max(),
        arm=weights,
        control=weights.clamp_min(1e-9).log(),
        without=Text("the scores before the softmax", "softmax 之前的分数"),
        holds=close(0.0, 1e-10),
    )


def attention_hull(attention: Attention, x: Tensor, view: View) -> Tensor:
    """The weights [B,H,T,S] that the attention uses on x."""
    found: list[Tensor] = []
    attention.need_weights = True
    handle = attention.kernel.register_forward_hook(lambda _m, _i, result: found.append(result[1].detach()))
    attention(x, view)
    handle.remove()
    return found[0]
