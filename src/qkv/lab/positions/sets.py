"""A set function, trained: it compares units but cannot order them without positions or a mask (A70, B7, A23)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import torch
from torch import nn

from qkv.data.batch import Batch
from qkv.lab import small
from qkv.lab.checks import above, higher
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import Learned, NoPosition, PositionConfig

ROWS = 64
NOISE = 8
"""Symbols that fill up a sequence; two more are the marks whose order is asked, and one asks."""


@dataclass(frozen=True)
class SetTraining:
    """length: units of a sequence. d_model: width. steps: updates of the models that order, pair_steps: of those that
    compare. kinds: units to compare."""

    length: Annotated[int, within(4, 32)] = 10
    d_model: Annotated[int, within(8, 64)] = 32
    steps: Annotated[int, within(20, 1000)] = 120
    pair_steps: Annotated[int, within(20, 2000)] = 800
    kinds: Annotated[int, within(8, 200)] = 64


Task = Callable[[torch.Generator, SetTraining, int], Batch]


def ordered(generator: torch.Generator, params: SetTraining, rows: int) -> Batch:
    """Two marks among noise; the last token asks which of them came first (0 or 1)."""
    n = params.length - 1
    ids = torch.randint(NOISE, (rows, n), generator=generator)
    places = torch.rand(rows, n, generator=generator).argsort(1)[:, :2]
    ids.scatter_(1, places, torch.tensor([NOISE, NOISE + 1]).expand(rows, 2))
    asks = torch.full((rows, 1), NOISE + 2)
    return small.at_last(torch.cat([ids, asks], 1), (places[:, 1] < places[:, 0]).long())


def paired(generator: torch.Generator, params: SetTraining, rows: int) -> Batch:
    """A set with length // 4 pairs of equal units; each unit has to say whether it has a double (0 or 1)."""
    n = params.length
    ids = torch.rand(rows, params.kinds, generator=generator).argsort(1)[:, :n]
    half = n // 4
    ids[:, n - half :] = ids[:, :half]
    ids = ids.gather(1, torch.rand(rows, n, generator=generator).argsort(1))
    return small.labelled(ids, ((ids[:, :, None] == ids[:, None]).sum(-1) > 1).long())


@experiment(long=True)
def set_training(lab: Lab, params: SetTraining) -> None:
    """Attention without positions finds equal pairs in a set, but which of two units came first it cannot say."""

    def score(model: nn.Module, task: Task, steps: int, seed: int) -> float:
        lab.train(model, lambda g: task(g, params, ROWS), steps, seed=seed)
        return small.accuracy(model, task(torch.Generator().manual_seed(10_000 + seed), params, 1000))

    @cache
    def order(position: PositionConfig, causal: bool, seed: int) -> float:
        torch.manual_seed(seed)
        make = small.decoder if causal else small.encoder
        return score(make(NOISE + 3, d_model=params.d_model, position=position), ordered, params.steps, seed)

    def pairs(scale: float | None, seed: int) -> float:
        torch.manual_seed(seed)
        model = small.encoder(
            params.kinds, d_model=params.d_model, n_layers=1, position=NoPosition(), attention={"scale": scale}
        )
        return score(model, paired, params.pair_steps, seed)

    claim_order(lab, order)
    lab.claim(
        "pairs",
        Text(
            "One layer of attention without positions finds units that have a double better than pooling does.",
            "一层没有位置编码的注意力比先汇总更能找出集合中成对的单元。",
        ),
        measure=pairs,
        arm=None,
        control=0.0,
        without=Text("uniform weights: each unit sees the mean of the set", "权重均匀：每个单元只看到集合的均值"),
        holds=higher(),
        unit="accuracy",
        seeds=3,
    )
    lab.number("majority", 1 - 2 * (params.length // 4) / params.length, "accuracy")


def claim_order(lab: Lab, order: Callable[[PositionConfig, bool, int], float]) -> None:
    """What lets a model say which mark came first. order: (position, whether causal, seed) -> accuracy."""
    none = (NoPosition(), False)
    for name, arm, text in (
        (
            "positions",
            (Learned(small.MAX_LENGTH), False),
            Text(
                "With positions an encoder learns which of two marks came first.",
                "有位置编码，编码器就学会判断哪个标记在前。",
            ),
        ),
        (
            "causal",
            (NoPosition(), True),
            Text("A causal stack learns it without any positions.", "因果模型没有位置编码也能学会。"),
        ),
    ):
        lab.claim(
            name,
            text,
            measure=lambda arm, seed: order(arm[0], arm[1], seed),
            arm=arm,
            control=none,
            without=Text("an encoder without positions", "没有位置编码的编码器"),
            holds=above(0.95),
            unit="accuracy",
            seeds=3,
        )
