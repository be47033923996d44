"""Where the mode of a posterior lies: how fast it approaches maximum likelihood, and that it depends on the coordinate
(A83, A84)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from torch import Tensor

from qkv.baselines.naive_bayes import NaiveBayes
from qkv.lab.bayes.references import LinearRegression
from qkv.lab.checks import below, close
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.lab.measures import exponent


@dataclass(frozen=True)
class Washing:
    """n_weights: of a linear regression. least: examples at first. doublings: of their number. noise: its standard
    deviation. decay: of the arm whose loss is a mean, per example."""

    n_weights: Annotated[int, within(2, 50)] = 10
    least: Annotated[int, within(20, 1000)] = 50
    doublings: Annotated[int, within(2, 12)] = 10
    noise: Annotated[float, within(0.1, 5)] = 1.0
    decay: Annotated[float, within(0.001, 1)] = 0.1


@experiment()
def prior_washes_out(lab: Lab, params: Washing) -> None:
    """A fixed prior's mode comes within O(1/n) of maximum likelihood; a decay of a mean loss stays where it is."""
    most = params.least * 2**params.doublings
    generator = lab.generator()
    features = torch.randn(most, params.n_weights, generator=generator, dtype=torch.float64)
    weights = torch.randn(params.n_weights, generator=generator, dtype=torch.float64)
    targets = features @ weights + params.noise * torch.randn(most, generator=generator, dtype=torch.float64)
    sizes = [params.least * 2**k for k in range(params.doublings + 1)]

    def gaps(mean_loss: bool) -> list[float]:
        found = []
        for n in sizes:
            variance = params.noise**2 / (params.decay * n) if mean_loss else 1.0
            problem = LinearRegression(features[:n], targets[:n], params.noise, variance)
            found.append(float((problem.map() - problem.mle()).norm()))
        return found

    def slope(mean_loss: bool) -> float:
        return exponent(sizes, gaps(mean_loss))

    lab.number("most", most)
    for n, gap in ((sizes[0], gaps(False)[0]), (sizes[-1], gaps(False)[-1])):
        lab.number("gap_times_n_first" if n == sizes[0] else "gap_times_n_last", gap * n)
    lab.number("mean_loss_first", gaps(True)[0])
    lab.number("mean_loss_last", gaps(True)[-1])
    lab.claim(
        "rate",
        Text(
            "Prior fixed: the gap between mode and maximum likelihood falls as 1/n.",
            "先验固定：众数与极大似然之差按 1/n 下降。",
        ),
        measure=slope,
        arm=False,
        control=True,
        without=Text(
            "loss a mean and decay fixed: the prior's precision grows with n", "损失取平均、衰减固定：先验精度随 n 增长"
        ),
        holds=close(-1.0, 0.1),
        unit="slope",
    )
    _untouched(lab, params, features)


def _untouched(lab: Lab, params: Washing, features: Tensor) -> None:
    """With too few examples the posterior is, in some direction, the prior."""

    def untouched(n: int) -> float:
        """Variance that the posterior leaves in the direction that it knows least, as a share of the prior's."""
        phi = features[:n]
        precision = phi.T @ phi / params.noise**2 + torch.eye(params.n_weights).double()
        return float(1 / torch.linalg.eigvalsh(precision)[0])

    lab.claim(
        "too_few",
        Text(
            "With fewer examples than weights there is a direction of which the data say nothing: its posterior is the "
            "prior.",
            "样本少于权重时，总有一个方向数据完全没有提到：那里的后验就是先验。",
        ),
        measure=untouched,
        arm=params.n_weights // 2,
        control=params.least,
        without=Text("more examples than weights", "样本多于权重"),
        holds=close(1.0, 1e-10),
        unit="share",
    )


@dataclass(frozen=True)
class Modes:
    """heads, tosses: of a coin. a, b: of its Beta prior, both above 1. rows: texts that naive Bayes counts."""

    heads: Annotated[int, within(1, 50)] = 7
    tosses: Annotated[int, within(2, 100)] = 10
    a: Annotated[float, within(1.1, 20)] = 3.0
    b: Annotated[float, within(1.1, 20)] = 2.0
    rows: Annotated[int, within(5, 200)] = 20


def peak(log_density: Callable[[Tensor], Tensor], least: float, most: float) -> float:
    """Where a function of one number with one peak has slope 0: bisection on the derivative that autograd gives."""
    for _ in range(100):
        middle = torch.tensor((least + most) / 2, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(log_density(middle), middle)
        least, most = (middle.item(), most) if slope > 0 else (least, middle.item())
    return (least + most) / 2


@experiment()
def mode_and_coordinate(lab: Lab, params: Modes) -> None:
    """The mode of a posterior moves when the parameter is written otherwise; maximum likelihood does not."""
    h, n, a, b = params.heads, params.tosses, params.a, params.b

    def log_density(theta: Tensor, prior: bool) -> Tensor:
        likelihood = h * theta.log() + (n - h) * (1 - theta).log()
        return likelihood + prior * ((a - 1) * theta.log() + (b - 1) * (1 - theta).log())

    def in_logits(eta: Tensor, prior: bool) -> Tensor:
        """A density, if there is one, is multiplied by dθ/dη = θ(1 − θ); a likelihood is no density."""
        theta = eta.sigmoid()
        return log_density(theta, prior) + prior * (theta * (1 - theta)).log()

    plain = {prior: peak(partial(log_density, prior=prior), 1e-9, 1 - 1e-9) for prior in (True, False)}
    logit = {prior: peak(partial(in_logits, prior=prior), -20, 20) for prior in (True, False)}
    logit = {prior: 1 / (1 + math.exp(-eta)) for prior, eta in logit.items()}
    mode, mean = (h + a - 1) / (n + a + b - 2), (h + a) / (n + a + b)
    lab.number("mle", plain[False])
    lab.number("mode", plain[True])
    lab.number("mode_in_logits", logit[True])
    lab.number("mean", mean)
    lab.claim(
        "invariant",
        Text(
            "Maximum likelihood is the same coin whether θ or its logit is estimated.",
            "估计 θ 还是估计它的 logit，极大似然给出同一枚硬币。",
        ),
        measure=lambda prior: abs(plain[prior] - logit[prior]),
        arm=False,
        control=True,
        without=Text("the mode of a posterior instead", "换成后验众数"),
        holds=below(1e-9),
    )
    lab.claim(
        "mode_formula",
        Text("The mode in θ is (h+a−1)/(n+a+b−2).", "以 θ 为参数，众数是 (h+a−1)/(n+a+b−2)。"),
        measure=lambda formula: abs(plain[True] - formula),
        arm=mode,
        control=mean,
        without=Text("the mean, (h+a)/(n+a+b)", "后验均值 (h+a)/(n+a+b)"),
        holds=below(1e-9),
    )
    lab.claim(
        "logit_mode",
        Text("The mode in the logit is the posterior mean of θ.", "以 logit 为参数，众数恰是 θ 的后验均值。"),
        measure=lambda formula: abs(logit[True] - formula),
        arm=mean,
        control=mode,
        without=Text("the mode in θ", "以 θ 为参数的众数"),
        holds=below(1e-9),
    )
    _pseudo_counts(lab, params)


def _pseudo_counts(lab: Lab, params: Modes) -> None:
    """Naive Bayes with Laplace's pseudo-count: a mean under one prior and a mode under another."""
    generator = lab.generator()
    ids = torch.randint(3, (params.rows, 4), generator=generator) * torch.randint(
        2, (params.rows, 4), generator=generator
    )
    said = NaiveBayes.fit(ids, torch.zeros(params.rows, dtype=torch.long), 3, 1, smoothing=1.0).log_words[0].exp()
    count = torch.bincount(ids.flatten(), minlength=3).double()

    def mode(concentration: float) -> Tensor:
        return (count + concentration - 1) / (count + concentration - 1).sum()

    lab.claim(
        "add_one",
        Text(
            "Adding one to every count is the mode under Dirichlet(2); under the flat Dirichlet(1) it is the mean.",
            "每个计数加一，是 Dirichlet(2) 下的众数，而不是平坦的 Dirichlet(1) 下的众数；它是后者的均值。",
        ),
        measure=lambda concentration: (said - mode(concentration)).abs().max(),
        arm=2.0,
        control=1.0,
        without=Text("the flat prior, whose mode is maximum likelihood", "平坦先验，其众数就是极大似然"),
        holds=below(1e-12),
    )
