"""What Bayes says of larger models (A40): the evidence has an Occam factor, and a proper prior makes size harmless."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qkv.lab import figures, small
from qkv.lab.checks import above, below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import Tokens

from .references import LinearRegression


@dataclass(frozen=True)
class Occam:
    """n: points. true_degree: of the polynomial that made them. largest: degree that is tried. noise: standard
    deviation."""

    n: Annotated[int, within(5, 200)] = 24
    true_degree: Annotated[int, within(1, 10)] = 5
    largest: Annotated[int, within(8, 40)] = 20
    noise: Annotated[float, within(0.01, 1)] = 0.1


def legendre(x: Tensor, degree: int) -> Tensor:
    """P_0 … P_degree at x [N], [N,degree+1]: polynomials that are orthogonal on [-1, 1]."""
    columns = [torch.ones_like(x), x]
    for k in range(1, degree):
        columns.append(((2 * k + 1) * x * columns[k] - k * columns[k - 1]) / (k + 1))
    return torch.stack(columns[: degree + 1], 1)


@experiment()
def occam_factor(lab: Lab, params: Occam) -> None:
    """The evidence peaks near the true degree and falls beyond it; the best fit of the training points only rises."""
    generator, degrees = lab.generator(), range(1, params.largest + 1)
    x = torch.rand(params.n, generator=generator, dtype=torch.float64) * 2 - 1
    truth = torch.randn(params.true_degree + 1, generator=generator, dtype=torch.float64)
    noise = params.noise * torch.randn(params.n, generator=generator, dtype=torch.float64)
    y = legendre(x, params.true_degree) @ truth + noise
    grid = torch.linspace(-1, 1, 401, dtype=torch.float64)
    clean = legendre(grid, params.true_degree) @ truth
    fits = {k: LinearRegression(legendre(x, k), y, params.noise) for k in degrees}
    scores = {
        "evidence": {k: fit.log_evidence() for k, fit in fits.items()},
        "likelihood": {k: fit.log_likelihood(fit.mle()) for k, fit in fits.items()},
    }
    best = max(degrees, key=scores["evidence"].__getitem__)
    lab.number("best_degree", best)
    lab.number("evidence_best", scores["evidence"][best], "nat")
    lab.number("evidence_largest", scores["evidence"][params.largest], "nat")

    def error(weights: Tensor) -> float:
        return float((legendre(grid, len(weights) - 1) @ weights - clean).square().mean())

    errors = {
        "map": {k: error(fit.map()) for k, fit in fits.items()},
        "mle": {k: error(fit.mle()) for k, fit in fits.items()},
    }
    for name, values in errors.items():
        lab.number(f"error_best_{name}", values[best])
        lab.number(f"error_largest_{name}", values[params.largest])
    lab.claim(
        "occam",
        Text(
            "The evidence of the largest polynomial lies more than two nats below the best one's.",
            "最高次多项式的证据比最佳次数低两个奈特以上。",
        ),
        measure=lambda score: scores[score][best] - scores[score][params.largest],
        arm="evidence",
        control="likelihood",
        without=Text("the likelihood at its best weights, nothing integrated out", "换成最优权重处的似然，不做积分"),
        holds=above(2.0),
        unit="nat",
    )
    lab.number("signal", clean.square().mean())
    lab.claim(
        "regular",
        Text(
            "With the prior, the error of the largest polynomial stays under half the signal's mean square.",
            "有先验时，最高次多项式的误差不到信号均方值的一半。",
        ),
        measure=lambda fit: errors[fit][params.largest] / clean.square().mean(),
        arm="map",
        control="mle",
        without=Text("no prior: maximum likelihood", "去掉先验，即最大似然"),
        holds=below(0.5),
    )
    _figure(lab, scores)


def _figure(lab: Lab, scores: dict[str, dict[int, float]]) -> None:
    """The two scores side by side; degrees one and two are off the chart."""
    lab.figure(
        "evidence",
        figures.lines(
            Text("Evidence and best fit by degree", "证据与最优拟合随次数的变化"),
            Text("degree", "次数"),
            Text("log probability of the points (nat)", "数据的对数概率（奈特）"),
            {name: [(k, v) for k, v in values.items() if k >= 3] for name, values in scores.items()},
            {
                "evidence": Text("weights integrated out", "对权重积分"),
                "likelihood": Text("weights at their best", "取最优权重"),
            },
        ),
    )


@dataclass(frozen=True)
class Width:
    """rows: sequences with a target. length, n_words: of a sequence. wide, wider: widths compared, multiples of 4.
    noise: standard deviation of the targets' noise. draws: random Transformers a width, whose evidence is averaged."""

    rows: Annotated[int, within(8, 200)] = 48
    length: Annotated[int, within(1, 32)] = 6
    n_words: Annotated[int, within(2, 100)] = 12
    wide: Annotated[int, within(8, 256)] = 128
    wider: Annotated[int, within(16, 512)] = 512
    noise: Annotated[float, within(0.01, 1)] = 0.6
    draws: Annotated[int, within(1, 10)] = 3


@experiment()
def evidence_of_width(lab: Lab, params: Width) -> None:
    """The evidence of a Bayesian read-out on a random Transformer tends to a limit in width or falls, by its prior."""
    generator = lab.generator()
    ids = torch.randint(params.n_words, (params.rows, params.length), generator=generator)
    tokens = Tokens.arange(*ids.shape)
    value = torch.randn(params.n_words, generator=generator, dtype=torch.float64)
    y = value[ids].mean(1) * params.length**0.5
    y = y + params.noise * torch.randn(params.rows, generator=generator, dtype=torch.float64)

    @torch.no_grad()
    def features(width: int) -> Tensor:
        model = small.encoder(params.n_words, d_model=width, n_layers=1, n_heads=4).double()
        return model(ids, tokens).mean(1) * params.length**0.5

    widths = sorted({w for w in (4, 8, 16, 32, 64, 128, 256, 512) if w < params.wider} | {params.wide, params.wider})
    drawn = {w: [features(w) for _ in range(params.draws)] for w in widths}

    def evidence(width: int, shrinking: bool) -> float:
        variance = 1 / width if shrinking else 1.0
        fits = [LinearRegression(phi, y, params.noise, variance) for phi in drawn[width]]
        return sum(fit.log_evidence() for fit in fits) / (len(fits) * params.rows)

    curves = {
        name: {w: evidence(w, shrinking) for w in widths} for name, shrinking in (("shrinking", True), ("fixed", False))
    }
    for name, curve in curves.items():
        lab.number(f"{name}_wide", curve[params.wide], "nat")
        lab.number(f"{name}_wider", curve[params.wider], "nat")
        lab.number(f"{name}_best_width", max(curve, key=curve.__getitem__))
    lab.claim(
        "limit",
        Text(
            "With a prior variance of 1/width a weight, four times the width moves the evidence by less than a fifth "
            "of a nat a target.",
            "先验方差取 1/宽度时，宽度增至四倍，平均每个目标的对数证据变化不到 0.2 奈特。",
        ),
        measure=lambda name: abs(curves[name][params.wider] - curves[name][params.wide]),
        arm="shrinking",
        control="fixed",
        without=Text("a prior of variance 1 a weight, at any width", "先验方差恒为 1，不随宽度变"),
        holds=below(0.2),
        unit="nat",
    )
    lab.figure(
        "width",
        figures.lines(
            Text("Evidence of a read-out on a random Transformer", "随机 Transformer 上读出层的证据"),
            Text("width", "宽度"),
            Text("log evidence a target (nat)", "每个目标的对数证据（奈特）"),
            {name: list(curve.items()) for name, curve in curves.items()},
            {
                "shrinking": Text("prior variance 1/width", "先验方差 1/宽度"),
                "fixed": Text("prior variance 1", "先验方差 1"),
            },
            x_scale="log",
        ),
    )
