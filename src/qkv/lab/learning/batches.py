"""Batches whose size is a budget of tokens: what they save, and when their gradients mean the same (A32)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from qkv.data.buckets import BucketConfig, TokenBuckets
from qkv.lab import figures, small
from qkv.lab.checks import below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within

from .ragged import collate, draw, gradient_of, relative, total

VOCAB = 11


@dataclass(frozen=True)
class Buckets:
    """examples: of the epoch whose padding is counted. budget: cells of a batch. rows: examples of the small set whose
    gradients are enumerated. chosen: how many of them a random batch has."""

    examples: Annotated[int, within(100, 20000)] = 5000
    budget: Annotated[int, within(256, 8192)] = 2048
    rows: Annotated[int, within(6, 12)] = 10
    chosen: Annotated[int, within(2, 5)] = 3


def lengths(n: int, seed: int) -> np.ndarray:
    """Lengths as sentences have them: log-normal around 20, from 1 to 200."""
    return np.random.default_rng(seed).lognormal(math.log(20), 0.6, n).round().clip(1, 200).astype(np.int64)


@experiment()
def dynamic_batches(lab: Lab, params: Buckets) -> None:
    """Buckets under a token budget waste little; sums of gradients stay exact under any cut, means of means do not."""
    drawn = lengths(params.examples, lab.seed)
    buckets = TokenBuckets(drawn, BucketConfig(tokens=params.budget), lab.seed)
    plan = buckets.plan(0)
    size = params.examples // len(plan)
    order = np.random.default_rng(lab.seed).permutation(params.examples).tolist()
    random = [order[i : i + size] for i in range(0, len(order), size)]
    lab.number("batches", len(plan))
    lab.number("fixed_rows", size)
    lab.number("fewest_rows", min(map(len, plan)))
    lab.number("most_rows", max(map(len, plan)))
    lab.claim(
        "waste",
        Text("Less than a twentieth of the cells are padding.", "填充不到全部格子的二十分之一。"),
        measure=buckets.waste,
        arm=plan,
        control=random,
        without=Text("batches of a fixed number of rows, drawn at random", "固定行数、随机组批"),
        holds=below(0.05),
        unit="share",
    )
    points: dict[str, list[tuple[float, float]]] = {"bucket": [], "random": []}
    for budget in (512, 1024, 2048, 4096, 8192):
        each = TokenBuckets(drawn, BucketConfig(tokens=budget), lab.seed)
        cut = each.plan(0)
        rows = max(1, params.examples // len(cut))
        points["bucket"].append((budget, each.waste(cut)))
        points["random"].append((budget, each.waste([order[i : i + rows] for i in range(0, len(order), rows)])))
    lab.figure(
        "waste",
        figures.lines(
            Text("Padding", "填充所占的份额"),
            Text("budget in cells", "一批的格子数"),
            Text("share of cells", "份额"),
            points,
            {"bucket": Text("buckets", "按长度分桶"), "random": Text("random rows", "随机组批")},
            x_scale="log",
        ),
    )
    Sums(lab, params).claims()


class Sums:
    """Rows of which the gradient of each one's sum is known, G [N,P], and its count c [N]."""

    def __init__(self, lab: Lab, params: Buckets):
        self.lab, self.params = lab, params
        self.sizes = [2 + 3 * i for i in range(params.rows)]
        rows = draw(self.sizes, VOCAB, lab.generator())
        model = small.decoder(VOCAB, d_model=16, n_layers=1).double()
        parts = [total(model, collate([row])) for row in rows]
        self.c = torch.tensor([float(count) for _, count in parts]).double()
        self.g = torch.stack([gradient_of(model, value) for value, _ in parts])
        whole, count = total(model, collate(rows))
        self.full = gradient_of(model, whole / count)
        self.rows, self.model = rows, model

    def epoch(self, plan: Sequence[Sequence[int]], means: bool) -> float:
        """How far the gradients of a plan's batches, put together, are from the whole set's."""
        sums, counts = [], []
        for chosen in plan:
            value, count = total(self.model, collate([self.rows[i] for i in chosen]))
            sums.append(gradient_of(self.model, value))
            counts.append(count)
        if means:
            together = torch.stack([g / n for g, n in zip(sums, counts, strict=True)]).mean(0)
        else:
            together = torch.stack(sums).sum(0) / sum(counts)
        return relative(together, self.full)

    def subsets(self) -> Tensor:
        """Every batch of `chosen` rows as a row of 0 and 1, [K,N]."""
        n, b = self.params.rows, self.params.chosen
        table = torch.zeros(math.comb(n, b), n, dtype=torch.double)
        for line, picked in zip(table, combinations(range(n), b), strict=True):
            line[list(picked)] = 1.0
        return table

    def expected(self, own_count: bool) -> float:
        """The error of the mean over all batches: divided by a constant, or each by its own tokens."""
        picked = self.subsets()
        usual = float(self.c.mean()) * self.params.chosen
        divisor = picked @ self.c if own_count else torch.full((len(picked),), usual, dtype=torch.double)
        return relative((picked @ self.g / divisor[:, None]).mean(0), self.full)

    def noise(self, b: int) -> float:
        """E‖g_B − g‖² over all batches of b rows; g_B the mean of the rows' sums."""
        n = self.params.rows
        centred = self.g - self.g.mean(0)
        gram = centred @ centred.T
        index = torch.tensor(list(combinations(range(n), b)))
        return float(gram[index[:, :, None], index[:, None, :]].sum((1, 2)).mean()) / b**2

    def claims(self) -> None:
        lab, n = self.lab, self.params.rows
        budget = BucketConfig(tokens=max(self.sizes) + 4)
        cut = TokenBuckets(self.sizes, budget, lab.seed).plan(0)
        lab.claim(
            "whole_epoch",
            Text(
                "Whatever the cut, the batches' sums over the count of all are the gradient of the whole set.",
                "不论怎样切批，各批之和除以总词数就是全集的梯度。",
            ),
            measure=lambda means: self.epoch(cut, means),
            arm=False,
            control=True,
            without=Text("the mean of the batches' means", "各批均值再求平均"),
            holds=below(1e-10),
        )
        lab.claim(
            "unbiased",
            Text(
                "Over all random batches, sums divided by a constant have the whole set's gradient as their mean.",
                "对所有随机批求期望：和除以常数，恰为全集的梯度。",
            ),
            measure=self.expected,
            arm=False,
            control=True,
            without=Text("each batch divided by its own tokens: a ratio estimator", "每批除以自己的词数：比值估计"),
            holds=below(1e-10),
        )
        spread = float((self.g - self.g.mean(0)).square().sum()) / (n - 1)
        lab.claim(
            "noise",
            Text(
                "The variance of a batch's gradient is s²/b·(1 − b/n): it falls as 1/b.",
                "批梯度的方差是 s²/b·(1 − b/n)：按 1/b 下降。",
            ),
            measure=lambda power: max(abs(self.noise(b) / (spread * (1 - b / n) / b**power) - 1) for b in (2, 3, 4, 5)),
            arm=1.0,
            control=2.0,
            without=Text("1/b², as if the errors cancelled twice", "1/b²，好像误差抵消两次"),
            holds=below(1e-10),
        )
