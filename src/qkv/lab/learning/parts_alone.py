"""One group of weights trained, the others as they were drawn (A21)."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import torch

from qkv import runtime
from qkv.data.batch import Batch
from qkv.data.chains import MarkovChain
from qkv.lab import figures, small
from qkv.lab.checks import lower
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within

from .trainable import GROUPS, only


@dataclass(frozen=True)
class PartsAlone:
    """symbols: of a source of order 2. length: of its sequences. steps: updates of each arm."""

    symbols: Annotated[int, within(2, 8)] = 4
    length: Annotated[int, within(4, 64)] = 16
    steps: Annotated[int, within(10, 1000)] = 150


@experiment(long=True)
def parts_trained_alone(lab: Lab, params: PartsAlone) -> None:
    """What each group of weights can learn while all others stay random."""
    chain = MarkovChain.random(params.symbols, 2, lab.generator())
    held_out = small.following(chain.sample(256, params.length, lab.generator(1)))

    @cache
    def loss(kept: str, seed: int) -> float:
        runtime.seed_everything(seed)
        model = small.decoder(params.symbols, d_model=32, n_layers=2)
        if kept == "none":
            return small.log_loss(model.eval(), held_out)

        def make(generator: torch.Generator) -> Batch:
            return small.following(chain.sample(32, params.length, generator))

        lab.train(only(model, kept), make, params.steps, seed=seed)
        return small.log_loss(model, held_out)

    lab.claim(
        "mixing",
        Text(
            "Of single groups attention learns more than the output matrix does on random states.",
            "只训练一组时，注意力比“随机状态上的输出矩阵”学得多。",
        ),
        measure=loss,
        arm="attention",
        control="head",
        without=Text("attention left random, the output matrix trained", "注意力保持随机，只训练输出矩阵"),
        holds=lower(),
        unit="nat",
        seeds=3,
    )
    lab.claim(
        "together",
        Text("All groups together learn more than the norms.", "全部一起训练，比只训练层归一化学到得多。"),
        measure=loss,
        arm="all",
        control="norm",
        without=Text("only gains and shifts of the norms trained", "只训练层归一化"),
        holds=lower(),
        unit="nat",
        seeds=3,
    )
    lab.number("entropy", chain.entropy_rate(), "nat")
    means = {kept: statistics.fmean(loss(kept, seed) for seed in lab.seeds()) for kept in ("none", *GROUPS, "all")}
    for kept, value in means.items():
        lab.number(f"loss_{kept}", value, "nat")
    names = GROUPS | {"none": Text("nothing", "都不训练"), "all": Text("all", "全部")}
    lab.figure(
        "losses",
        figures.bars(Text("Loss when only this is trained", "只训练这一组时的损失"), Text("nat", "奈特"), means, names),
    )
