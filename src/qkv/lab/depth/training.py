"""Deep stacks that have to learn labels drawn at random (A42, A46, B16, B17, B31; Zhang et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from statistics import fmean
from typing import Annotated

import torch

from qkv.data.batch import Batch
from qkv.lab import figures, small
from qkv.lab.checks import above, higher, lower
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import PlacementConfig, Plain, Post, Pre
from qkv.training.schedules import Constant

from .skips import NoSkip


@dataclass(frozen=True)
class DeepTraining:
    """rows sequences of `length` symbols with labels drawn at random. deep, shallow: depths. steps: updates on all
    rows, at the constant rate 0.003. warmup: updates of the arm that warms up."""

    rows: Annotated[int, within(8, 256)] = 32
    length: Annotated[int, within(2, 16)] = 4
    n_labels: Annotated[int, within(2, 16)] = 4
    d: Annotated[int, within(8, 64)] = 16
    deep: Annotated[int, within(4, 48)] = 20
    shallow: Annotated[int, within(1, 4)] = 2
    steps: Annotated[int, within(20, 500)] = 80
    warmup: Annotated[int, within(0, 500)] = 50


RATE = 3e-3
VOCAB = 16


@dataclass(frozen=True)
class Arm:
    """One way to build and train a stack."""

    placement: PlacementConfig
    n_layers: int
    warmup: int = 0


@dataclass(frozen=True)
class Outcome:
    """After training: loss and accuracy on the rows that were learnt, accuracy on new ones."""

    loss: float
    accuracy: float
    new: float


def labelled_at_random(params: DeepTraining, seed: int) -> Batch:
    """Random sequences; the label of each has nothing to do with it."""
    generator = torch.Generator().manual_seed(50_000 + seed)
    ids = torch.randint(VOCAB, (params.rows, params.length), generator=generator)
    return small.at_last(ids, torch.randint(params.n_labels, (params.rows,), generator=generator))


@experiment(long=True)
def deep_training(lab: Lab, params: DeepTraining) -> None:
    """Residuals and norms let a deep stack learn anything, random labels included; a shallow one does without."""

    @cache
    def outcome(arm: Arm, seed: int) -> Outcome:
        batch = labelled_at_random(params, seed)
        torch.manual_seed(seed)
        block = {"placement": arm.placement}
        model = small.encoder(VOCAB, d_model=params.d, n_layers=arm.n_layers, block=block)
        schedule = Constant(arm.warmup)
        lab.train(model, lambda _: batch, params.steps, seed=seed, learning_rate=RATE, schedule=schedule)
        new = labelled_at_random(replace(params, rows=512), 1000 + seed)
        return Outcome(small.log_loss(model, batch), small.accuracy(model, batch), small.accuracy(model, new))

    def accuracy(arm: Arm, seed: int) -> float:
        return outcome(arm, seed).accuracy

    both, bare = Arm(Pre(), params.deep), Arm(NoSkip(), params.deep)
    learns = partial(lab.claim, measure=accuracy, unit="share", seeds=3, holds=above(0.9))
    learns(
        "residual",
        Text(
            "A deep stack with residuals and norms learns random labels by heart.",
            "有残差和归一化的深层网络能背下随机标签。",
        ),
        arm=both,
        control=bare,
        without=Text("no residual connections", "去掉残差连接"),
    )
    learns(
        "norm",
        Text("The norms are needed as well.", "归一化同样不可少。"),
        arm=both,
        control=Arm(Plain(), params.deep),
        without=Text("no norms", "去掉归一化"),
    )
    learns(
        "shallow_without_residual",
        Text("Two layers learn them without residual connections.", "只有两层时，没有残差连接也学得会。"),
        arm=Arm(NoSkip(), params.shallow),
        control=bare,
        without=Text("the same at the larger depth", "同样没有残差，但层数多"),
    )
    further_claims(lab, params, outcome)
    report(lab, params, outcome)


def report(lab: Lab, params: DeepTraining, outcome: Callable[[Arm, int], Outcome]) -> None:
    """What is only observed: means over the seeds of the claims."""

    def mean(arm: Arm, field: str = "accuracy") -> float:
        return fmean(getattr(outcome(arm, seed), field) for seed in lab.seeds())

    lab.number("rate", RATE)
    lab.number("chance", 1 / params.n_labels)
    lab.number("both_new", mean(Arm(Pre(), params.deep), "new"), "share")
    lab.number("shallow_plain", mean(Arm(Plain(), params.shallow)), "share")
    lab.number("post_shallow", mean(Arm(Post(), params.shallow), "loss"), "nat")
    warm = Arm(Post(), params.deep, params.warmup)
    lab.number("post_warm", mean(warm, "loss"), "nat")
    lab.number("post_warm_most", max(outcome(warm, seed).loss for seed in lab.seeds()), "nat")
    arms = {
        "pre": (Arm(Pre(), params.deep), Text("residual and norm", "残差＋归一化")),
        "no_skip": (Arm(NoSkip(), params.deep), Text("no residual", "无残差")),
        "plain": (Arm(Plain(), params.deep), Text("no norm", "无归一化")),
        "post": (Arm(Post(), params.deep), Text("post-norm", "Post-norm")),
        "warm": (warm, Text("post-norm, warm-up", "Post-norm＋预热")),
    }
    lab.figure(
        "accuracy",
        figures.bars(
            Text(f"Random labels learnt, {params.deep} layers", f"记住的随机标签（{params.deep} 层）"),
            Text("share", "比例"),
            {name: mean(arm) for name, (arm, _) in arms.items()},
            {name: text for name, (_, text) in arms.items()},
        ),
    )


def further_claims(lab: Lab, params: DeepTraining, outcome: Callable[[Arm, int], Outcome]) -> None:
    """What a stack that can learn does with it; and pre-norm against post-norm at a high rate without warm-up."""
    both = Arm(Pre(), params.deep)
    lab.claim(
        "overfits",
        Text(
            "What residuals and norms enable is overfitting: perfect on the rows learnt, chance on new ones.",
            "残差和归一化带来的正是过拟合：训练样本全对，新样本等于瞎猜。",
        ),
        measure=lambda arm, seed: outcome(arm, seed).accuracy - outcome(arm, seed).new,
        arm=both,
        control=Arm(NoSkip(), params.deep),
        without=Text(
            "no residual connections: nothing is learnt, so nothing is overfitted", "去掉残差：学不会，也就谈不上过拟合"
        ),
        holds=higher(),
        unit="share",
        seeds=3,
    )
    lab.claim(
        "pre_norm",
        Text(
            "At a high rate without warm-up pre-norm trains and post-norm does not.",
            "学习率高又不预热时，Pre-norm 能训练，Post-norm 不能。",
        ),
        measure=lambda arm, seed: outcome(arm, seed).loss,
        arm=both,
        control=Arm(Post(), params.deep),
        without=Text("post-norm", "换成 Post-norm"),
        holds=lower(),
        unit="nat",
        seeds=3,
    )
