"""A task that needs the near and the far at once, under masks that give one, the other or both (B24, B11, A25, B2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Annotated

import torch
from torch import nn

from qkv.baselines.recurrent import Recurrent, RecurrentConfig
from qkv.data.batch import IGNORE, Batch
from qkv.lab import figures, small
from qkv.lab.checks import above
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import Causal, GlobalTokens, Mask, Window

from .ranges import tokens_of

SYMBOLS = 4
LOCAL = Causal() & Window(back=2)
HUB = Causal() & (Window(back=0) | GlobalTokens())
MASKS: dict[str, Mask] = {"full": Causal(), "mixed": LOCAL | (Causal() & GlobalTokens()), "local": LOCAL, "hub": HUB}


@dataclass(frozen=True)
class RangeTraining:
    """length: of a sequence. d_model: width. steps: updates of each model."""

    length: Annotated[int, within(12, 64)] = 24
    d_model: Annotated[int, within(8, 64)] = 32
    steps: Annotated[int, within(20, 1000)] = 200


def near_and_far(generator: torch.Generator, params: RangeTraining, rows: int = 32) -> Batch:
    """From the middle on, each position has to say (the symbol before it + the first symbol) mod SYMBOLS."""
    ids = torch.randint(SYMBOLS, (rows, params.length), generator=generator)
    targets = torch.full_like(ids, IGNORE)
    half = params.length // 2
    targets[:, half:] = (ids[:, half - 1 : -1] + ids[:, :1]) % SYMBOLS
    return Batch(ids, tokens_of(params.length, 1, rows), targets)


@experiment(long=True)
def range_training(lab: Lab, params: RangeTraining) -> None:
    """Windows alone miss the far, global tokens alone miss the near; together they learn the task."""

    @cache
    def score(key: str, seed: int) -> float:
        torch.manual_seed(seed)
        model: nn.Module
        if key in MASKS:
            model = small.decoder(SYMBOLS, d_model=params.d_model, mask=MASKS[key])
        else:
            model = Recurrent(RecurrentConfig(SYMBOLS, 2 * params.d_model, cell="lstm"))
        lab.train(model, lambda g: near_and_far(g, params), params.steps, seed=seed)
        return small.accuracy(model, near_and_far(torch.Generator().manual_seed(10_000 + seed), params, 200))

    for name, control, text, without in (
        (
            "needs_far",
            "local",
            Text(
                "A window with one global token learns a task that needs the first and the previous token.",
                "窗口加一个全局词，学会同时需要首词和前一词的任务。",
            ),
            Text("the window alone", "只有窗口"),
        ),
        (
            "needs_near",
            "hub",
            Text("It needs the window too.", "窗口也不可少。"),
            Text("the global token alone", "只有全局词"),
        ),
    ):
        lab.claim(
            name,
            text,
            measure=score,
            arm="mixed",
            control=control,
            without=without,
            holds=above(0.9),
            unit="accuracy",
            seeds=3,
        )
    means = {key: fmean(score(key, seed) for seed in lab.seeds()) for key in (*MASKS, "lstm")}
    for key in ("full", "lstm"):
        lab.number(key, means[key], "accuracy")
    lab.number("chance", 1 / SYMBOLS, "accuracy")
    names = {
        "full": Text("full", "全部"),
        "mixed": Text("window + global", "窗口 + 全局"),
        "local": Text("window", "窗口"),
        "hub": Text("global", "全局"),
        "lstm": Text("LSTM", "LSTM"),
    }
    title = Text("Accuracy where near and far are both needed", "同时需要近处与远处时的准确率")
    lab.figure("masks", figures.bars(title, Text("accuracy", "准确率"), means, names))
