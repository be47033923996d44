"""Which patterns of attention a head of width d_k can form: hard ones need two dimensions, soft ones many (B12)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qkv.lab import figures
from qkv.lab.checks import below, exactly
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.lab.measures import weights


@dataclass(frozen=True)
class SoftPatterns:
    """length: of the text. sharpness: standard deviation of the pattern's log-weights."""

    length: Annotated[int, within(8, 64)] = 32
    sharpness: Annotated[float, within(0.5, 4.0)] = 2.0


def softmax(q: Tensor, k: Tensor) -> Tensor:
    """softmax(QKᵀ) [T,S] of q [T,D] and k [S,D], by the toolkit's kernel."""
    return weights(q[None, None], k[None, None], scale=1.0)[0, 0]


def found(order: Tensor, d_k: int) -> tuple[float, float]:
    """(share of queries whose largest weight is on their key, mean weight there): keys on a circle, or on a line."""
    n = len(order)
    angle = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
    keys = torch.stack([angle.cos(), angle.sin()], 1) if d_k == 2 else torch.linspace(-1, 1, n).double()[:, None]
    table = softmax(1e4 * keys[order], keys)
    right = table.argmax(-1) == order
    return float(right.double().mean()), float(table[torch.arange(n), order].mean())


@experiment()
def soft_patterns(lab: Lab, params: SoftPatterns) -> None:
    """Any permutation fits into a head of two dimensions; a soft pattern of n keys needs up to n − 1."""
    n = params.length
    order = torch.randperm(n, generator=lab.generator())
    lab.claim(
        "hard",
        Text(
            "Two dimensions suffice for any one-to-one pattern: keys on a circle, sharp queries.",
            "两维就够实现任意一一对应：键排在圆上，查询足够尖锐。",
        ),
        measure=lambda d_k: found(order, d_k)[0],
        arm=2,
        control=1,
        without=Text("one dimension: only the two ends of a line can win", "一维：只有线段两端能取到最大"),
        holds=exactly(1),
    )
    lab.number("hard_weight", found(order, 2)[1])
    scores = params.sharpness * torch.randn(n, n, dtype=torch.float64, generator=lab.generator(1))
    target = scores.log_softmax(-1)
    centred = target - target.mean(-1, keepdim=True)
    u, s, v = torch.linalg.svd(centred)

    def divergence(d_k: int) -> float:
        """Mean KL from the pattern to what the d_k largest singular vectors of its log-weights form, in nats."""
        root = s[:d_k].sqrt()
        made = softmax(u[:, :d_k] * root, v[:d_k].T * root)
        return abs(float((target.exp() * (target - made.log())).sum(-1).mean()))  # rounding may go below zero

    lab.claim(
        "soft",
        Text(
            "A random soft pattern over n keys is formed exactly with n − 1 dimensions.",
            "n 个键上的随机软分布，用 n − 1 维可以精确实现。",
        ),
        measure=divergence,
        arm=n - 1,
        control=n // 2,
        without=Text("half as many dimensions", "维数减半"),
        holds=below(1e-10),
        unit="nat",
    )
    widths = [0] + [w for w in (1, 2, 4, 8, 16, 32, 64) if w < n]
    curve = [(float(w), divergence(w)) for w in widths]
    for w, value in curve:
        lab.number(f"soft_{w:.0f}", value, "nat")
    lab.figure(
        "soft",
        figures.lines(
            Text("Soft pattern formed with d_k dimensions", "用 d_k 维实现软分布"),
            Text("d_k", "d_k"),
            Text("KL (nat)", "KL（奈特）"),
            {"svd": curve},
            {"svd": Text("from the singular vectors", "由奇异向量构造")},
        ),
    )
