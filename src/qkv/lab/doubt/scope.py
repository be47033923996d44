"""Out of scope (A31): what confidence throws away, what energy is worth, and where to cut a score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from qkv.lab import figures
from qkv.lab.checks import above, below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.tasks.scope_metrics import Costs, auroc, cheapest_threshold
from qkv.tasks.scope_scores import Energy, Features, MaxProbability, ScoreConfig

CENTRES = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 3.0]], dtype=torch.float64)


@dataclass(frozen=True)
class Plane:
    """points: drawn of each kind. far: distance from the origin at which strangers begin."""

    points: Annotated[int, within(100, 20000)] = 2000
    far: Annotated[float, within(6, 30)] = 8.0


def generative(points: Tensor) -> Tensor:
    """log p(c) + log p(z | c) of points [N,2] for three labels of equal share, each a unit Gaussian: [N,3]."""
    squares = (points[:, None] - CENTRES).square().sum(-1)
    return -squares / 2 - math.log(2 * math.pi) - math.log(3)


def told(logits: Tensor) -> Features:
    """Logits as what a score is given."""
    return Features(logits, torch.zeros(len(logits), 1, dtype=torch.float64), [[]] * len(logits))


def points(lab: Lab, params: Plane) -> tuple[Tensor, Tensor, Tensor]:
    """Classes [N] and their points [N,2] around three centres; and points [N,2] far from all of them."""
    generator = lab.generator()
    label = torch.randint(0, 3, (params.points,), generator=generator)
    noise = torch.randn(params.points, 2, generator=generator, dtype=torch.float64)
    angle = 2 * math.pi * torch.rand(params.points, generator=generator, dtype=torch.float64)
    radius = params.far * (1 + torch.rand(params.points, generator=generator, dtype=torch.float64) / 2)
    return label, CENTRES[label] + noise, radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)


@experiment()
def energy_gauge(lab: Lab, params: Plane) -> None:
    """Energy is what softmax divides away of the logits; it is the density only if the logits were built so."""
    label, inside, outside = points(lab, params)

    def remainder(temperature: float) -> Tensor:
        seen = told(generative(inside))
        confidence = MaxProbability().score({}, seen)
        return (seen.logits.amax(-1) - confidence.log() - Energy(temperature).score({}, seen)).abs().max()

    def ranking(score: ScoreConfig, normalised: bool = False) -> float:
        both = [generative(points) for points in (inside, outside)]
        both = [logits.log_softmax(-1) if normalised else logits for logits in both]
        return auroc(*(score.score({}, told(logits)).numpy().round(9) for logits in both))

    lab.claim(
        "split",
        Text("The best logit is log confidence plus energy.", "最大 logit 等于对数置信度加能量。"),
        measure=remainder,
        arm=1.0,
        control=2.0,
        without=Text("energy at another temperature", "换一个温度的能量"),
        holds=below(1e-10),
        unit="nat",
    )
    lab.claim(
        "density",
        Text(
            "Where the logits are log joint densities, energy tells strangers.",
            "logits 是对数联合密度时，能量能认出陌生样本。",
        ),
        measure=ranking,
        arm=Energy(),
        control=MaxProbability(),
        without=Text("confidence from the same logits", "同样的 logits，改用置信度"),
        holds=above(0.95),
    )
    lab.claim(
        "gauge",
        Text(
            "Training does not fix it: other logits with the same probabilities have another energy.",
            "训练并不确定它：概率相同的另一组 logits，能量就不同。",
        ),
        measure=lambda normalised: ranking(Energy(), normalised),
        arm=False,
        control=True,
        without=Text(
            "the same probabilities, each text's logits shifted to energy 0",
            "概率不变，每条文本的 logits 平移到能量为零",
        ),
        holds=above(0.95),
    )
    logits = generative(inside)
    losses = [float(F.cross_entropy(each, label)) for each in (logits, logits.log_softmax(-1))]
    lab.number("loss", losses[0], "nat")
    lab.number("loss_change", abs(losses[0] - losses[1]), "nat")
    lab.number("sure_inside", MaxProbability().score({}, told(logits)).median(), "share")
    lab.number("sure_outside", MaxProbability().score({}, told(generative(outside))).median(), "share")


@dataclass(frozen=True)
class Cut:
    """texts: of each kind that choose a threshold. apart: distance between the mean scores, in standard deviations.
    rare, common: share of texts out of scope in two contexts, such as amid a booking and at the start."""

    texts: Annotated[int, within(100, 100000)] = 5000
    apart: Annotated[float, within(0.5, 6)] = 2.0
    rare: Annotated[float, within(0.001, 0.5)] = 0.02
    common: Annotated[float, within(0.001, 0.9)] = 0.4


def _normal(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


class Scores:
    """Scores N(apart, 1) in scope and N(0, 1) out of it: everything is known in closed form."""

    def __init__(self, params: Cut):
        self.apart, self.texts = params.apart, params.texts

    def cost(self, threshold: float, costs: Costs) -> float:
        """Expected cost a text of a threshold."""
        refused, answered = _normal(threshold - self.apart), 1 - _normal(threshold)
        return (1 - costs.outside) * costs.refused * refused + costs.outside * costs.answered * answered

    def best(self, costs: Costs) -> float:
        """Where both densities, weighed by share and cost, are equal: a/2 + log(π c_answered / (1−π) c_refused) / a."""
        odds = costs.outside * costs.answered / ((1 - costs.outside) * costs.refused)
        return self.apart / 2 + math.log(odds) / self.apart

    def chosen(self, costs: Costs, seed: int) -> float:
        """The threshold that is cheapest on a sample."""
        random = np.random.default_rng((seed, 31))
        return cheapest_threshold(random.normal(self.apart, 1, self.texts), random.normal(0, 1, self.texts), costs)


@experiment()
def scope_costs(lab: Lab, params: Cut) -> None:
    """A threshold chosen by cost is nearly the best; one fixed confidence is not, nor one for all contexts."""
    scores = Scores(params)
    cases = [Costs(outside=share, answered=price) for share in (0.05, 0.3) for price in (0.2, 1.0, 10.0)]

    def regret(by_cost: bool) -> float:
        """The worst relative excess over the least cost."""
        found = []
        for costs in cases:
            least = scores.cost(scores.best(costs), costs)
            threshold = scores.chosen(costs, lab.seed) if by_cost else params.apart / 2
            found.append(scores.cost(threshold, costs) / least - 1)
        return max(found)

    lab.claim(
        "by_cost",
        Text(
            "Chosen by cost on a sample, a threshold is within a twentieth of the best, whatever mistakes cost.",
            "在样本上按代价选阈值，无论错误代价如何，都比最优至多多花二十分之一。",
        ),
        measure=regret,
        arm=True,
        control=False,
        without=Text(
            "one threshold for all costs, where either kind is as likely", "不论代价，统一取两类一样可能的那一点"
        ),
        holds=below(0.05),
    )

    def saving(shares: tuple[float, float]) -> float:
        """What a threshold for each context saves over one for both, in parts of the latter's cost."""
        each = [Costs(outside=share) for share in shares]
        both = Costs(outside=sum(shares) / 2)
        one = sum(scores.cost(scores.best(both), costs) for costs in each)
        return 1 - sum(scores.cost(scores.best(costs), costs) for costs in each) / one

    lab.claim(
        "context",
        Text(
            "Where contexts differ, a threshold for each saves a tenth or more.", "语境不同时，各设阈值可省一成以上。"
        ),
        measure=saving,
        arm=(params.rare, params.common),
        control=((params.rare + params.common) / 2,) * 2,
        without=Text("contexts in which as many texts are out of scope", "两种语境中离题的比例一样"),
        holds=above(0.1),
        unit="share",
    )
    for name, share in (("rare", params.rare), ("common", params.common)):
        lab.number(f"threshold_{name}", scores.best(Costs(outside=share)))
    points = {
        name: [(t / 10, scores.cost(t / 10, Costs(outside=share))) for t in range(-10, 31)]
        for name, share in (("rare", params.rare), ("common", params.common))
    }
    names = {"rare": Text("amid a booking", "订座途中"), "common": Text("at the start", "刚开口时")}
    title = Text("Cost of a threshold in two contexts", "两种语境下阈值的代价")
    axes = Text("threshold on the score", "分数阈值"), Text("cost a text", "每条文本的代价")
    lab.figure("cost", figures.lines(title, *axes, points, names))
