"""Label smoothing: another target, hence another optimum, which is finite (A30)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from qkv.lab import figures
from qkv.lab.checks import below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.training.fused import linear_cross_entropy


@dataclass(frozen=True)
class Smoothing:
    """classes: K. smoothing: ε, the share of the target that is spread over all K. rows: random logits compared."""

    classes: Annotated[int, within(3, 1000)] = 10
    smoothing: Annotated[float, within(0.001, 0.9)] = 0.1
    rows: Annotated[int, within(1, 100)] = 20


def loss(z: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """The toolkit's fused loss of logits z [N,K], whose output matrix is the identity; sum over rows."""
    return linear_cross_entropy(z, torch.eye(z.shape[1], dtype=z.dtype), None, targets, smoothing)


def optimum(classes: int, smoothing: float, steps: int = 60) -> Tensor:
    """Logits [K] that minimise the loss of class 0, found by L-BFGS from zero."""
    z = torch.zeros(1, classes, dtype=torch.float64, requires_grad=True)
    target = torch.zeros(1, dtype=torch.long)
    optimizer = torch.optim.LBFGS([z], max_iter=steps, tolerance_grad=1e-13, tolerance_change=0.0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(z, target, smoothing)
        value.backward()
        return value

    optimizer.step(closure)
    return z.detach()[0]


def gap(z: Tensor) -> float:
    """How far the right class's logit leads the mean of the others."""
    return float(z[0] - z[1:].mean())


@experiment()
def label_smoothing(lab: Lab, params: Smoothing) -> None:
    """Smoothing is cross-entropy with a mixed target; its optimum is a finite lead, and its floor is not zero."""
    k, e = params.classes, params.smoothing
    z = 3 * torch.randn(params.rows, k, generator=lab.generator(), dtype=torch.float64)
    y = torch.randint(k, (params.rows,), generator=lab.generator(1))

    def mixed(spread: int) -> float:
        """Against (1−ε)·CE(y) + ε·CE(uniform over `spread` classes: all, or all but y)."""
        logp = z.log_softmax(-1)
        right = logp.gather(1, y[:, None]).sum()
        uniform = (logp.sum() - (0 if spread == k else right)) / spread
        return float((-(1 - e) * right - e * uniform - loss(z, y, e)).abs())

    lab.claim(
        "mixture",
        Text(
            "Smoothed loss = (1−ε)·CE(label) + ε·CE(uniform over all K).",
            "平滑损失 = (1−ε)·CE(标签) + ε·CE(K 类均匀分布)。",
        ),
        measure=mixed,
        arm=k,
        control=k - 1,
        without=Text("ε spread over the K−1 wrong classes only", "ε 只分给 K−1 个错类"),
        holds=below(1e-9),
        unit="nat",
    )
    formula = math.log(1 + k * (1 - e) / e)
    lab.number("formula", formula)
    lab.number("gap", gap(optimum(k, e)))
    lab.number("confidence", optimum(k, e).softmax(-1)[0])
    lab.number("ceiling", 1 - e + e / k)
    lab.claim(
        "finite",
        Text("The optimal lead is ln(1 + K(1−ε)/ε).", "最优领先量是 ln(1 + K(1−ε)/ε)。"),
        measure=lambda smoothing: abs(gap(optimum(k, smoothing)) - formula),
        arm=e,
        control=0.0,
        without=Text("ε = 0: the lead grows for as long as one optimises", "ε = 0：优化多久，领先量就长多久"),
        holds=below(1e-6),
    )
    target = torch.full((k,), e / k, dtype=torch.float64)
    target[0] += 1 - e
    entropy = float(-(target * target.log()).sum())
    lab.number("floor", entropy, "nat")
    lab.number("floor_perplexity", math.exp(entropy))
    lab.claim(
        "floor_loss",
        Text(
            "The smallest smoothed loss is the entropy of the smoothed target, not zero.",
            "平滑损失的最小值是平滑目标的熵，不是零。",
        ),
        measure=lambda smoothing: abs(float(loss(optimum(k, smoothing)[None], y[:1] * 0, smoothing)) - entropy),
        arm=e,
        control=0.0,
        without=Text("ε = 0, whose infimum is zero", "ε = 0，下确界是零"),
        holds=below(1e-9),
        unit="nat",
    )
    _draw(lab, k, e)


def _draw(lab: Lab, k: int, e: float) -> None:
    leads = [x / 4 for x in range(0, 49)]
    logits = torch.zeros(len(leads), k, dtype=torch.float64)
    logits[:, 0] = torch.tensor(leads)
    curves = {}
    for name, smoothing in (("hard", 0.0), ("smooth", e)):
        values = [F.relu(loss(z[None], torch.zeros(1, dtype=torch.long), smoothing)) for z in logits]
        curves[name] = [(x, float(v)) for x, v in zip(leads, values, strict=True)]
    lab.figure(
        "lead",
        figures.lines(
            Text("Loss against the right class's lead", "损失随正确类领先量的变化"),
            Text("lead of the right logit", "正确类 logit 的领先量"),
            Text("nat", "奈特"),
            curves,
            {"hard": Text("ε = 0", "ε = 0"), "smooth": Text(f"ε = {e:g}", f"ε = {e:g}")},
        ),
    )
