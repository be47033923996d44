"""The same network on true, random and noisy labels: what memorising and generalising share (A24, A30)."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal

import torch
from torch import Tensor

from qkv import runtime
from qkv.lab import figures, small
from qkv.lab.checks import above, lower
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import EncoderOnly
from qkv.training.losses import TokenCrossEntropy

CLASSES, VOCAB, LENGTH = 4, 16, 6
Kind = Literal["true", "random", "noisy", "contradictory"]


@dataclass(frozen=True)
class Labels:
    """rows: of the training set. noise: share of the noisy set's labels that are redrawn at random. smoothing: ε.
    steps: updates, each on the whole set."""

    rows: Annotated[int, within(16, 512)] = 128
    noise: Annotated[float, within(0.1, 0.9)] = 0.4
    smoothing: Annotated[float, within(0.01, 0.8)] = 0.3
    steps: Annotated[int, within(10, 1000)] = 100


def rule(ids: Tensor) -> Tensor:
    """The label of ids [B,T]: which quarter of the alphabet the first token lies in."""
    return ids[:, 0] // (VOCAB // CLASSES)


class Sets:
    """Training sets of one rule, and models that are trained on them."""

    def __init__(self, lab: Lab, params: Labels):
        self.lab, self.params = lab, params
        self.trained = cache(self._train)

    def training(self, kind: Kind, rows: int) -> tuple[Tensor, Tensor]:
        """ids [B,T] and labels [B]. contradictory: every input stands twice, with different labels."""
        g = self.lab.generator(1)
        ids = torch.randint(VOCAB, (rows, LENGTH), generator=g)
        labels, other = rule(ids), torch.randint(CLASSES, (rows,), generator=g)
        if kind == "random":
            return ids, other
        if kind == "noisy":
            return ids, torch.where(torch.rand(rows, generator=g) < self.params.noise, other, labels)
        if kind == "contradictory":
            half = rows // 2
            return ids[:half].repeat(2, 1), torch.cat([labels[:half], (labels[:half] + 1) % CLASSES])
        return ids, labels

    def test(self, noisy: bool = False, rows: int = 1000) -> tuple[Tensor, Tensor]:
        g = self.lab.generator(2)
        ids = torch.randint(VOCAB, (rows, LENGTH), generator=g)
        other = torch.randint(CLASSES, (rows,), generator=g)
        redrawn = torch.rand(rows, generator=g) < (self.params.noise if noisy else 0.0)
        return ids, torch.where(redrawn, other, rule(ids))

    def _train(self, kind: Kind, seed: int, smoothing: float = 0.0, rows: int = 0) -> EncoderOnly:
        runtime.seed_everything(seed)
        model = small.encoder(VOCAB, d_model=32, n_layers=1)
        batch = small.at_last(*self.training(kind, rows or self.params.rows))
        self.lab.train(model, lambda _: batch, self.params.steps, seed=seed, loss=TokenCrossEntropy(smoothing))
        return model

    def fit(self, kind: Kind, seed: int) -> float:
        """Accuracy on the training set."""
        return small.accuracy(self.trained(kind, seed), small.at_last(*self.training(kind, self.params.rows)))

    def unseen(self, kind: Kind, seed: int, rows: int = 0) -> float:
        """Accuracy on new inputs, by the rule."""
        return small.accuracy(self.trained(kind, seed, rows=rows), small.at_last(*self.test()))

    def calibration(self, smoothing: float, seed: int) -> float:
        """|confidence − accuracy| in ten bins of confidence, weighted by their share (ECE), on new noisy labels."""
        model = self.trained("noisy", seed, smoothing)
        ids, labels = self.test(noisy=True)
        p, said = small.logits(model, small.at_last(ids, labels))[:, -1].softmax(-1).max(-1)
        right, place = (said == labels).float(), (10 * p).long().clamp_max(9)
        bins = [place == i for i in range(10)]
        return sum(float((p[b].mean() - right[b].mean()).abs() * b.float().mean()) for b in bins if bool(b.any()))

    def noisy(self, smoothing: float, seed: int) -> tuple[float, float]:
        """Negative log-likelihood and accuracy on new noisy labels."""
        model, batch = self.trained("noisy", seed, smoothing), small.at_last(*self.test(noisy=True))
        return small.log_loss(model, batch), small.accuracy(model, batch)


@experiment(long=True)
def true_and_random_labels(lab: Lab, params: Labels) -> None:
    """One network fits true and random labels alike, and generalises from the true ones; smoothing tempers it."""
    sets = Sets(lab, params)
    lab.claim(
        "memorises",
        Text("Random labels are fitted to more than 95 %.", "随机标签也能拟合到 95% 以上。"),
        measure=sets.fit,
        arm="random",
        control="contradictory",
        without=Text(
            "each input twice with different labels: no function fits", "同一输入出现两次、标签不同：没有函数能拟合"
        ),
        holds=above(0.95),
        unit="share",
        seeds=3,
    )
    lab.claim(
        "generalises",
        Text("From true labels the accuracy on new inputs exceeds 80 %.", "用真实标签训练，新样本准确率超过 80%。"),
        measure=sets.unseen,
        arm="true",
        control="random",
        without=Text("random labels: same inputs, same training", "随机标签：输入和训练都相同"),
        holds=above(0.8),
        unit="share",
        seeds=3,
    )
    seeds = lab.seeds()
    lab.number("fit_true", statistics.fmean(sets.fit("true", seed) for seed in seeds), "share")
    lab.number("chance", 1 / CLASSES, "share")
    sizes = (16, 32, 64, params.rows)
    errors = {n: 1 - statistics.fmean(sets.unseen("true", seed, n) for seed in seeds) for n in sizes}
    lab.number("error_small", errors[16], "share")
    lab.number("error_large", errors[params.rows], "share")
    lab.figure(
        "sizes",
        figures.lines(
            Text("Error on new inputs", "新样本错误率"),
            Text("training examples", "训练样本数"),
            Text("share", "份额"),
            {"true": list(errors.items())},
            {"true": Text("true labels", "真实标签")},
            x_scale="log",
        ),
    )
    _calibration(lab, params, sets, seeds)


def _calibration(lab: Lab, params: Labels, sets: Sets, seeds: tuple[int, ...]) -> None:
    lab.claim(
        "calibrated",
        Text("On noisy labels smoothing lowers the calibration error.", "标签有噪声时，平滑降低校准误差。"),
        measure=sets.calibration,
        arm=params.smoothing,
        control=0.0,
        without=Text("ε = 0", "ε = 0"),
        holds=lower(),
        seeds=3,
    )
    for name, smoothing in (("plain", 0.0), ("smooth", params.smoothing)):
        values = [sets.noisy(smoothing, seed) for seed in seeds]
        lab.number(f"nll_{name}", statistics.fmean(nll for nll, _ in values), "nat")
        lab.number(f"accuracy_{name}", statistics.fmean(right for _, right in values), "share")
