"""Linear attention: the same numbers as a recurrence, a state of fixed size, and what it cannot keep (A10, B21)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch

from qkv.lab import figures
from qkv.lab.checks import above, below, close
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.lab.measures import attend, counted, weights
from qkv.nn import Causal, Einsum, Full, KernelConfig, Linear
from qkv.nn.linear import step

SHARPNESS = (1.0, 4.0, 16.0, 64.0)


@dataclass(frozen=True)
class LinearAttention:
    """d: width of the head. pairs: keys with values that are stored, at most. length: of the texts whose cost is
    counted, and its double."""

    d: Annotated[int, within(4, 64)] = 16
    pairs: Annotated[int, within(8, 256)] = 64
    length: Annotated[int, within(64, 1024)] = 256


@experiment()
def linear_attention(lab: Lab, params: LinearAttention) -> None:
    """Linear attention is a recurrence with a state of d(d+1) numbers: cheap at any length, and of bounded rank."""
    d, n = params.d, params.pairs
    q, k, v = (torch.randn(1, 1, n, d, dtype=torch.float64, generator=lab.generator(i)) for i in range(3))
    state, outs = None, []
    for t in range(n):
        out, state = step(q[:, :, t], k[:, :, t], v[:, :, t], state)
        outs.append(out)
    walked = torch.stack(outs, 2)
    lab.number("state", d * (d + 1), "numbers")
    lab.number("cached", 2 * n * d, "numbers")
    lab.claim(
        "recurrence",
        Text("Block by block or token by token: one function.", "分块并行与逐词递推是同一个函数。"),
        measure=lambda mask: (attend(q, k, v, mask, Linear(8), scale=1.0)[0] - walked).abs().max(),
        arm=Causal(),
        control=Full(),
        without=Text("the parallel form sees the future as well", "并行形式连未来也看"),
        holds=below(1e-10),
    )
    claim_growth(lab, params)
    lab.claim(
        "rank",
        Text(
            "Without a mask the table of weights has no higher rank than the head is wide.",
            "不加掩码时，权重表的秩不超过头的宽度。",
        ),
        measure=lambda kernel: torch.linalg.matrix_rank(weights(q, k, kernel, scale=1.0)[0, 0]).double(),
        arm=Linear(),
        control=Einsum(),
        without=Text("softmax attention", "softmax 注意力"),
        holds=below(d + 0.5),
    )
    claim_recall(lab, params)


def claim_growth(lab: Lab, params: LinearAttention) -> None:
    """How operations grow with the length."""

    def growth(kernel: KernelConfig) -> float:
        costs = []
        for length in (params.length, 2 * params.length):
            x = torch.zeros(1, 1, length, params.d)
            costs.append(counted(lambda x=x: attend(x, x, x, Causal(), kernel)))  # type: ignore[misc]
        return math.log2(costs[1] / costs[0])

    lab.claim(
        "growth",
        Text(
            "The operations of linear attention grow in proportion to the length.", "线性注意力的运算次数与长度成正比。"
        ),
        measure=growth,
        arm=Linear(32),
        control=Einsum(),
        without=Text("softmax attention", "softmax 注意力"),
        holds=close(1.0, 0.01),
        unit="exponent",
    )


def claim_recall(lab: Lab, params: LinearAttention) -> None:
    """Keys with random values: a query equal to a key should bring back that key's value and no other."""
    d = params.d

    def recall(kernel: KernelConfig, n: int) -> float:
        """Share of the n values that are nearest to what comes back, at the sharpness that serves the kernel best."""
        shares = []
        for draw in range(4):
            generator = lab.generator(50 + draw)
            keys, values = (torch.randn(1, 1, n, d, dtype=torch.float64, generator=generator) for _ in range(2))
            keys = keys / keys.norm(dim=-1, keepdim=True)
            found = []
            for sharp in SHARPNESS:
                width = math.sqrt(sharp)
                out, _ = attend(width * keys, width * keys, values, kernel=kernel, scale=1.0)
                nearest = torch.cdist(out[0, 0], values[0, 0]).argmin(-1)
                found.append(float((nearest == torch.arange(n)).double().mean()))
            shares.append(found)
        return float(torch.tensor(shares).mean(0).max())

    sizes = [m for m in (2, 4, 8, 16, 32, 64, 128, 256) if m <= params.pairs]
    kernels: dict[str, KernelConfig] = {"softmax": Einsum(), "linear": Linear()}
    curves = {key: [(float(m), recall(kernel, m)) for m in sizes] for key, kernel in kernels.items()}
    lab.number("few", sizes[1], "pairs")
    lab.number("linear_few", curves["linear"][1][1])
    lab.claim(
        "recall",
        Text(
            "Sharp softmax attention brings back nearly every value, though there are more of them than dimensions.",
            "尖锐的 softmax 注意力几乎能取回每一个值，哪怕个数多于维数。",
        ),
        measure=lambda key: curves[key][-1][1],
        arm="softmax",
        control="linear",
        without=Text("linear attention with the same keys, not trained", "同样的键、未经训练的线性注意力"),
        holds=above(0.95),
    )
    lab.figure(
        "recall",
        figures.lines(
            Text("Values brought back", "取回的比例"),
            Text("pairs stored", "存入的键值对"),
            Text("share", "比例"),
            curves,
            {"softmax": Text("softmax", "softmax"), "linear": Text("linear, untrained", "线性（未训练）")},
            x_scale="log",
        ),
    )
