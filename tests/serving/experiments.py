"""Experiments that the pages' tests run: quick, or as slow and as greedy as they are asked to be."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Literal

import torch

from qkv.lab import figures
from qkv.lab.checks import above
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within


@dataclass(frozen=True)
class Squares:
    """n: how many numbers are squared. scale: a factor on each. kind: of the numbers, pause, waste: seconds to wait
    and GB to take. sizes: a list of whole numbers."""

    n: Annotated[int, within(2, 1000)] = 16
    scale: Annotated[float, within(0.1, 10.0)] = 2.0
    kind: Literal["normal", "uniform"] = "normal"
    signed: bool = True
    pause: Annotated[float, within(0, 600)] = 0.0
    waste: Annotated[float, within(0, 100)] = 0.0
    sizes: tuple[int, ...] = (1, 2)


@experiment()
def squares(lab: Lab, params: Squares) -> None:
    """The mean square of numbers grows with their scale."""
    drawn = torch.randn(params.n, generator=lab.generator())
    ends = time.monotonic() + params.pause
    while (left := ends - time.monotonic()) > 0:
        lab.report(1 - left / params.pause, f"{params.pause - left:.1f} / {params.pause:g}")
        time.sleep(0.05)
    if params.waste:
        torch.ones(int(params.waste * 2**30) // 4)
    if params.n == 13:
        raise RuntimeError("thirteen is refused by the experiment itself")
    lab.number("count", params.n, "numbers")
    lab.claim(
        "growth",
        Text("Scaled numbers have a mean square above 1.5: d_k < 2.", "放大后的均方大于 1.5。"),
        measure=lambda scale: (scale * drawn).square().mean() + 1e-9,
        arm=params.scale,
        control=0.0,
        without=Text("scaled by zero", "乘以零"),
        holds=above(0.5),
        unit="share",
    )
    points = [(float(i + 1), float(x)) for i, x in enumerate((params.scale * drawn).square())]
    lab.figure(
        "squares",
        figures.lines(Text("Squares", "平方"), Text("index", "序号"), Text("square", "平方"), {"x": points}),
    )
