"""Why scores are divided by √d_k (A69, B9, B22; Vaswani et al. 2017, §3.2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qkv.data.batch import Batch
from qkv.lab import figures, small
from qkv.lab.checks import above, below, close, lower
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within

UNSCALED = Text("no division by √d_k", "不除以 √d_k")


@dataclass(frozen=True)
class Scaling:
    """d: width of a head. small_d: the width of the control. n_keys: keys a query chooses among. n_queries: drawn."""

    d: Annotated[int, within(2, 4096)] = 1024
    small_d: Annotated[int, within(1, 64)] = 4
    n_keys: Annotated[int, within(2, 512)] = 32
    n_queries: Annotated[int, within(100, 5000)] = 2000


def scores(d: int, params: Scaling, generator: torch.Generator) -> Tensor:
    """Dot products q·k [n_queries, n_keys] of components that are independent, of mean 0 and variance 1."""
    q = torch.randn(params.n_queries, d, generator=generator, dtype=torch.float64)
    k = torch.randn(params.n_keys, d, generator=generator, dtype=torch.float64)
    return q @ k.T


def jacobian_norm(scores: Tensor) -> float:
    """The median Frobenius norm of diag(p) − ppᵀ, the derivative of p = softmax(scores)."""
    p = scores.softmax(-1)
    square = (p**2).sum(-1)
    return float((square - 2 * (p**3).sum(-1) + square**2).clamp_min(0).sqrt().median())


@experiment()
def scaling(lab: Lab, params: Scaling) -> None:
    """The variance of a dot product grows with its width, and an unscaled softmax saturates."""
    raw = scores(params.d, params, lab.generator())
    narrow = scores(params.small_d, params, lab.generator(1))
    lab.number("jac_raw", jacobian_norm(raw))
    lab.number("jac_scaled", jacobian_norm(raw / params.d**0.5))
    lab.number("share_above_one", (raw / params.d**0.5).abs().gt(1).float().mean(), "share")
    lab.claim(
        "variance",
        Text("The variance of scaled scores is 1 at any width.", "缩放后分数的方差为 1，与宽度无关。"),
        measure=lambda s: s.var(),
        arm=raw / params.d**0.5,
        control=raw,
        without=UNSCALED,
        holds=close(1.0, 0.15),
    )
    lab.claim(
        "saturation",
        Text(
            "Without the division the softmax saturates: its Jacobian falls to under a hundredth of the scaled one's.",
            "不缩放时 softmax 饱和：雅可比不到缩放后的百分之一。",
        ),
        measure=lambda pair: jacobian_norm(pair[0]) / jacobian_norm(pair[0] / pair[1] ** 0.5),
        arm=(raw, params.d),
        control=(narrow, params.small_d),
        without=Text("narrow heads: d_k = small_d", "窄头：d_k = small_d"),
        holds=below(0.01),
    )
    lab.claim(
        "bounded",
        Text(
            "Scaling does not confine scores to [−1, 1]: more than a quarter lie outside.",
            "缩放并不把分数限制在 [−1, 1]：超过四分之一在区间之外。",
        ),
        measure=lambda s: s.abs().gt(1).float().mean(),
        arm=raw / params.d**0.5,
        control=raw / raw.abs().max(),
        without=Text("division by the largest |score|, which does confine", "改为除以最大的 |分数|，这才会限制区间"),
        holds=above(0.25),
        unit="share",
    )
    widths = [4**i for i in range(1, 7)]
    drawn = {d: scores(d, params, lab.generator(d)) for d in widths}
    lab.figure(
        "jacobian",
        figures.lines(
            Text("Median norm of the softmax's Jacobian", "softmax 雅可比范数的中位数"),
            Text("width of a head, d_k", "头的宽度 d_k"),
            Text("norm", "范数"),
            {
                "scaled": [(d, jacobian_norm(s / d**0.5)) for d, s in drawn.items()],
                "raw": [(d, max(jacobian_norm(s), 1e-9)) for d, s in drawn.items()],
            },
            {"scaled": Text("divided by √d_k", "除以 √d_k"), "raw": Text("not divided", "不除")},
            x_scale="log",
            y_scale="log",
        ),
    )


@dataclass(frozen=True)
class ScalingTraining:
    """d: width of the one head. small_d: that of the control. steps: updates. length: of a sequence."""

    d: Annotated[int, within(16, 512)] = 256
    small_d: Annotated[int, within(1, 16)] = 4
    steps: Annotated[int, within(20, 1000)] = 150
    length: Annotated[int, within(4, 64)] = 16


@experiment(long=True)
def scaling_training(lab: Lab, params: ScalingTraining) -> None:
    """At a wide head, training with scaled scores leaves training without far behind; at a narrow one it does not."""
    vocab, rows = 16, 32

    def recall(generator: torch.Generator) -> Batch:
        """Key and value alternate; the last token repeats a key, and its value is asked."""
        n = params.length // 2
        keys = torch.rand(rows, vocab, generator=generator).argsort(1)[:, :n]
        values = torch.randint(vocab, (rows, n), generator=generator)
        asked = torch.randint(n, (rows, 1), generator=generator)
        ids = torch.cat([torch.stack([keys, values + vocab], 2).flatten(1), keys.gather(1, asked)], 1)
        return small.at_last(ids, values.gather(1, asked).squeeze(1) + vocab)

    def final_loss(arm: tuple[int, float | None], seed: int) -> float:
        d, scale = arm
        attention = {"d_head": d, "scale": scale}
        model = small.decoder(2 * vocab, n_layers=2, n_heads=1, d_model=64, attention=attention)
        lab.train(model, recall, params.steps, seed=seed)
        return small.log_loss(model, recall(torch.Generator().manual_seed(10_000 + seed)))

    lab.claim(
        "loss",
        Text("Scaled scores train to a lower loss.", "缩放后训练损失更低。"),
        measure=final_loss,
        arm=(params.d, None),
        control=(params.d, 1.0),
        without=UNSCALED,
        holds=lower(),
        unit="nat",
        seeds=3,
    )
