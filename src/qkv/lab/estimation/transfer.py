"""Prior and posterior in transfer (A81): what the weights of the first task are to the second, in a model where Bayes
is exact."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated

import torch
from torch import Tensor, nn

from qkv.lab import figures, small
from qkv.lab.checks import below, lower
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.training.optim import Sgd
from qkv.training.schedules import Constant


@dataclass(frozen=True)
class Transfer:
    """n_weights: of a linear regression. first, second: examples of the two tasks. drift: standard deviation of what a
    weight changes by between them; weights have 1. noise: of the targets. draws: pairs of tasks averaged. steps, rate:
    of gradient descent that is stopped early."""

    n_weights: Annotated[int, within(2, 50)] = 30
    first: Annotated[int, within(10, 2000)] = 100
    second: Annotated[int, within(2, 200)] = 20
    drift: Annotated[float, within(0.01, 2)] = 0.2
    noise: Annotated[float, within(0.1, 5)] = 0.7
    draws: Annotated[int, within(10, 1000)] = 500
    steps: Annotated[int, within(2, 500)] = 40
    rate: Annotated[float, within(0.001, 1)] = 0.2


@dataclass(frozen=True)
class Task:
    """Targets y [N] for features x [N,K]; or of D tasks at once, y [D,N,1] for x [D,N,K]."""

    x: Tensor
    y: Tensor

    @classmethod
    def drawn(cls, weights: Tensor, rows: int, noise: float, generator: torch.Generator) -> Task:
        x = torch.randn(rows, len(weights), generator=generator, dtype=torch.float64)
        return cls(x, x @ weights + noise * torch.randn(rows, generator=generator, dtype=torch.float64))

    def mode(self, noise: float, precision: Tensor, start: Tensor) -> Tensor:
        """The weights of highest posterior density under N(start, precision⁻¹), [K]; here also their mean."""
        curve = self.x.mT @ self.x / noise**2 + precision
        return torch.linalg.solve(curve, self.x.mT @ self.y / noise**2 + precision @ start)


class Line(nn.Module):
    """Weights [1,K] of a linear regression, at `start`."""

    def __init__(self, start: Tensor):
        super().__init__()
        self.weight = nn.Parameter(start[None].clone())


def descended(lab: Lab, task: Task, start: Tensor, steps: int, rate: float) -> Tensor:
    """Weights after gradient descent on the task from `start`, by the toolkit's loop."""
    model = Line(start)

    def half_squares(line: Line) -> Tensor:
        return ((task.y - task.x @ line.weight[0]) ** 2).sum() / 2

    lab.train(
        model,
        small.nothing,
        steps,
        learning_rate=rate,
        loss=small.Objective(half_squares, len(task.y)),
        optimizer=Sgd(),
        schedule=Constant(),
        clip_norm=None,
    )
    return model.weight.detach()[0]


@experiment()
def transfer_prior(lab: Lab, params: Transfer) -> None:
    """The first task's posterior is the second's prior, exactly; fine-tuning from its mode is an approximation."""
    generator, eye = lab.generator(), torch.eye(params.n_weights).double()
    weights = torch.randn(params.n_weights, generator=generator, dtype=torch.float64)
    first = Task.drawn(weights, params.first, params.noise, generator)
    second = Task.drawn(weights, params.second, params.noise, generator)
    joint = Task(torch.cat([first.x, second.x]), torch.cat([first.y, second.y]))
    zero = torch.zeros_like(weights)
    start = first.mode(params.noise, eye, zero)
    precision = first.x.T @ first.x / params.noise**2 + eye
    both = joint.mode(params.noise, eye, zero)
    priors = {"full": precision, "diagonal": precision.diag().diag(), "isotropic": precision.trace() / len(eye) * eye}
    gaps = {name: float((second.mode(params.noise, p, start) - both).norm()) for name, p in priors.items()}
    lab.number("diagonal", gaps["diagonal"])
    lab.claim(
        "chained",
        Text(
            "With the first task's posterior as prior (its mode and full precision), the second task alone gives the "
            "posterior mode of both.",
            "以第一个任务的后验（众数加完整的精度矩阵）作先验，只看第二个任务，就得到两个任务合在一起的后验众数。",
        ),
        measure=gaps.__getitem__,
        arm="full",
        control="isotropic",
        without=Text(
            "L2 towards the same start, one strength for all directions", "向同一起点做 L2 约束，各方向同样强"
        ),
        holds=below(1e-10),
    )
    _early(lab, params, second, start)
    _few(lab, params)


def _early(lab: Lab, params: Transfer, task: Task, start: Tensor) -> None:
    """Gradient descent of t steps moves each eigendirection by the share 1 − (1 − ηs)^t of the way to the optimum."""
    s, axes = torch.linalg.eigh(task.x.T @ task.x / len(task.y))
    s, seen = s.clamp_min(0), s > 1e-9
    way = axes.T @ (torch.linalg.pinv(task.x) @ (task.y - task.x @ start))
    filters = {
        "descent": 1 - (1 - params.rate * s) ** params.steps,
        "ridge": s / (s + 1 / (params.rate * params.steps)),
    }
    end = descended(lab, task, start, params.steps, params.rate)
    lab.number("unseen", int((~seen).sum()))
    lab.number("most_rate", params.rate * s.max())
    lab.claim(
        "filter",
        Text(
            "Stopped after t steps, gradient descent has gone the share 1 − (1 − ηs)^t of the way in a direction of "
            "curvature s.",
            "梯度下降走 t 步就停，在曲率为 s 的方向上恰好走完全程的 1 − (1 − ηs)^t。",
        ),
        measure=lambda kind: (end - start - axes @ (filters[kind] * way)).abs().max(),
        arm="descent",
        control="ridge",
        without=Text("the share s/(s + 1/ηt) of a Gaussian prior at the start", "以起点为中心的高斯先验：s/(s + 1/ηt)"),
        holds=below(1e-10),
    )
    u = torch.logspace(-2, 2, 4001, dtype=torch.float64)
    early, prior = 1 - (-u).exp(), u / (1 + u)
    lab.number("filter_gap", (early - prior).max())
    lab.number("filter_gap_at", u[(early - prior).argmax()])
    best = min(float((early - u / (c + u)).abs().max()) for c in torch.linspace(0.3, 1, 141).tolist())
    lab.number("filter_gap_best", best)

    def moved(kind: str) -> Tensor:
        """How far the weights move, by descent, in directions that the task's examples do not have."""
        weights = end if kind == "descent" else torch.zeros_like(end)
        return (axes[:, ~seen].T @ (weights - start)).norm()

    lab.claim(
        "unseen_kept",
        Text(
            "In directions that the new examples do not have, fine-tuned weights remain those of the first task.",
            "新样本没有涉及的方向上，微调后的权重仍是第一个任务的权重。",
        ),
        measure=moved,
        arm="descent",
        control="scratch",
        without=Text("training from zero, which stays at zero there", "从零训练：那里停在零"),
        holds=below(1e-10),
    )
    _draw(lab, u, early, prior)


def _draw(lab: Lab, u: Tensor, early: Tensor, prior: Tensor) -> None:
    thin = u[::100].tolist()
    lab.figure(
        "filters",
        figures.lines(
            Text("Share of the way from the old weights to the new optimum", "从旧权重到新任务最优点走了多少"),
            Text("η·t·s (steps × rate × curvature)", "η·t·s（步数 × 学习率 × 曲率）"),
            Text("share", "比例"),
            {
                "early": list(zip(thin, early[::100].tolist(), strict=True)),
                "prior": list(zip(thin, prior[::100].tolist(), strict=True)),
            },
            {"early": Text("stopped early", "早停"), "prior": Text("Gaussian prior, λ = 1/ηt", "高斯先验，λ = 1/ηt")},
            x_scale="log",
        ),
    )


def _few(lab: Lab, params: Transfer) -> None:
    """Squared error of the second task's weights, by where they are drawn to and how strongly."""
    k, eye = params.n_weights, torch.eye(params.n_weights).double()

    @cache
    def error(kind: str, seed: int) -> float:
        """Mean over `draws` pairs of tasks, which are solved side by side."""
        generator, d = lab.generator(1000 + seed), params.draws

        def normal(*shape: int) -> Tensor:
            return torch.randn(d, *shape, generator=generator, dtype=torch.float64)

        old = normal(k, 1)
        new = old + params.drift * normal(k, 1)
        first, task = (
            Task(x, x @ w + params.noise * normal(rows, 1))
            for w, rows, x in (
                (old, params.first, normal(params.first, k)),
                (new, params.second, normal(params.second, k)),
            )
        )
        start = torch.zeros_like(old) if kind == "scratch" else first.mode(params.noise, eye, torch.zeros_like(old))
        if kind == "fine-tuned":  # to the end: the nearest of the weights that fit the examples
            found = start + task.x.mT @ torch.linalg.solve(task.x @ task.x.mT, task.y - task.x @ start)
        else:
            variance = 1 + params.drift**2 if kind == "scratch" else params.drift**2
            found = task.mode(params.noise, eye / variance, start)
        return float(((found - new) ** 2).sum() / d)

    for name, control, without in (
        ("few_examples", "scratch", Text("a prior of the right width around zero", "以零为中心、宽度正确的先验")),
        ("beats_fitting", "fine-tuned", Text("fine-tuning until the examples are fitted", "微调到完全拟合样本")),
    ):
        lab.claim(
            name,
            Text(
                "Few examples: weights drawn to the old ones are nearer to the truth than with "
                + ("a prior at zero." if control == "scratch" else "fine-tuning to the end."),
                "样本少时，约束在旧权重附近，比"
                + ("约束在零附近" if control == "scratch" else "一直微调到底")
                + "更接近真值。",
            ),
            measure=error,
            arm="prior",
            control=control,
            without=without,
            holds=lower(),
            seeds=3,
        )
