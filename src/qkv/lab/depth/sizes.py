"""How a feed-forward network is given fewer weights, and what each way costs (A46)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from qkv.lab import figures
from qkv.lab.checks import close
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import FeedForward
from qkv.nn.feedforward import PositionWise


@dataclass(frozen=True)
class FeedForwardSizes:
    """d: width. d_ff: hidden width, a multiple of three. rank: what is kept of each matrix."""

    d: Annotated[int, within(8, 256)] = 64
    d_ff: Annotated[int, within(12, 1024)] = 264
    rank: Annotated[int, within(1, 64)] = 16


def build(config: FeedForward, d: int) -> PositionWise:
    """A network in float64."""
    network = config.build(d)
    assert isinstance(network, PositionWise)
    return network.double()


def count(module: nn.Module) -> int:
    """Numbers in a module."""
    return sum(p.numel() for p in module.parameters())


def factored(matrix: nn.Linear, kept: slice) -> nn.Sequential:
    """The product of two thin matrices made of the singular vectors `kept`; without bias."""
    u, s, v = torch.linalg.svd(matrix.weight.detach(), full_matrices=False)
    rank = len(s[kept])
    thin = nn.Linear(matrix.in_features, rank, bias=False), nn.Linear(rank, matrix.out_features, bias=False)
    thin[0].weight.data, thin[1].weight.data = v[kept], u[:, kept] * s[kept]
    return nn.Sequential(*thin)


@experiment()
def feed_forward_sizes(lab: Lab, params: FeedForwardSizes) -> None:
    """Gating at two thirds of the width keeps the weights; a truncated SVD loses exactly the energy that it drops."""
    plain = build(FeedForward(params.d_ff, bias=False), params.d)
    lab.number("weights", count(plain))
    lab.claim(
        "gated_width",
        Text(
            "A gated network of two thirds of the hidden width has as many weights.",
            "门控前馈网络取三分之二的隐藏宽度，参数量不变。",
        ),
        measure=lambda width: count(build(FeedForward(width, "silu", gated=True, bias=False), params.d)) / count(plain),
        arm=params.d_ff * 2 // 3,
        control=params.d_ff,
        without=Text("the same hidden width", "隐藏宽度不变"),
        holds=close(1.0, 1e-12),
    )
    x = torch.randn(4000, params.d, generator=lab.generator(), dtype=torch.float64)
    values = torch.linalg.svdvals(plain.up.weight.detach())
    dropped = float(values[params.rank :].square().sum() / values.square().sum())

    @torch.no_grad()
    def lost(kept: slice) -> Tensor:
        """Share of the output's energy that is lost, on inputs of identity covariance."""
        exact = plain.up(x)
        return (factored(plain.up, kept)(x) - exact).square().sum() / exact.square().sum()

    lab.claim(
        "low_rank",
        Text(
            "Kept are the largest singular values: the energy lost is that of the others.",
            "保留最大的奇异值，丢失的能量就是其余奇异值的能量。",
        ),
        measure=lambda kept: lost(kept),
        arm=slice(0, params.rank),
        control=slice(-params.rank, None),
        without=Text("the smallest kept instead", "改为保留最小的奇异值"),
        holds=close(dropped, 0.02),
        unit="share",
    )
    lab.number("low_rank_weights", count(factored(plain.up, slice(0, params.rank))) / plain.up.weight.numel(), "share")
    ranks = [1, 2, 4, 8, 16, 24, 32, 48, 64]
    lab.figure(
        "low_rank",
        figures.lines(
            Text("Untrained weights have no rank to spare", "未训练的权重没有多余的秩"),
            Text("weights kept (share)", "保留的参数比例"),
            Text("energy lost", "丢失的能量比例"),
            {
                "svd": [
                    (
                        rank * (params.d + params.d_ff) / (params.d * params.d_ff),
                        float(values[rank:].square().sum() / values.square().sum()),
                    )
                    for rank in ranks
                    if rank <= params.d
                ]
            },
            {"svd": Text("truncated SVD", "截断 SVD")},
        ),
    )
