"""Why vectors represent well (A2): almost orthogonal directions are many, and parts recombine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import torch
from torch import Tensor, nn

from qkv.data.batch import Batch
from qkv.lab import figures, small
from qkv.lab.checks import above, between
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.lab.measures import exponent


@dataclass(frozen=True)
class Codes:
    """n_features: that vectors are to tell apart. widths: the least width; it is doubled `doublings` times. active:
    features that one vector holds at a time. crowded: so many that their noise drowns them. trials: vectors read."""

    n_features: Annotated[int, within(100, 3000)] = 1500
    width: Annotated[int, within(8, 256)] = 128
    doublings: Annotated[int, within(1, 6)] = 4
    active: Annotated[int, within(1, 50)] = 4
    crowded: Annotated[int, within(10, 500)] = 80
    trials: Annotated[int, within(10, 1000)] = 200


@experiment()
def distributed_codes(lab: Lab, params: Codes) -> None:
    """Far more directions than dimensions are almost orthogonal, so a vector holds several features out of many."""

    def directions(width: int, centred: bool) -> Tensor:
        x = torch.randn(params.n_features, width, generator=lab.generator(width))
        x = x if centred else x.abs()
        return x / x.norm(dim=1, keepdim=True)

    def crosstalk(width: int, centred: bool) -> float:
        """The largest |cosine| of two different directions."""
        x = directions(width, centred)
        return float((x @ x.T).fill_diagonal_(0).abs().max())

    widths = [params.width * 2**i for i in range(params.doublings + 1)]
    found = {centred: [crosstalk(w, centred) for w in widths] for centred in (True, False)}
    bound = [2 * math.sqrt(math.log(params.n_features) / w) for w in widths]
    lab.number("widest", widths[-1])
    lab.number("cosine_narrow", found[True][0])
    lab.number("cosine_wide", found[True][-1])
    lab.number("formula_wide", bound[-1])

    lab.claim(
        "slope",
        Text(
            "The largest cosine among many random directions falls as the root of the width.",
            "大量随机方向中最大的余弦，随维数的平方根下降。",
        ),
        measure=lambda centred: exponent(widths, found[centred]),
        arm=True,
        control=False,
        without=Text("directions with positive components alone", "分量全为正的方向"),
        holds=between(-0.55, -0.45),
        unit="slope",
    )
    _reading(lab, params, directions(256, True))
    _draw(lab, params, widths, {**{str(k): v for k, v in found.items()}, "formula": bound})


def _reading(lab: Lab, params: Codes, table: Tensor) -> None:
    """Which features were added up is read back from their sum. table [N,D]: a direction a feature."""

    def recovered(active: int) -> float:
        """Share of sums of `active` directions whose largest projections are exactly those that were added."""
        rows = torch.rand(params.trials, params.n_features, generator=lab.generator(1)).topk(active).indices
        read = (table[rows].sum(1) @ table.T).topk(active).indices
        return float((read.sort().values == rows.sort().values).all(1).float().mean())

    lab.number("read_width", table.shape[1])
    lab.claim(
        "readable",
        Text(
            "A sum of a few directions out of many more than there are dimensions is read back by projections.",
            "方向总数远多于维数，少数几个方向相加之后，仍能用投影读出是哪几个。",
        ),
        measure=recovered,
        arm=params.active,
        control=params.crowded,
        without=Text("too many features at a time", "同时激活的特征太多"),
        holds=above(0.95),
        unit="share",
    )


def _draw(lab: Lab, params: Codes, widths: list[int], cosines: dict[str, list[float]]) -> None:
    lab.figure(
        "crosstalk",
        figures.lines(
            Text(
                "Largest cosine among {n} random directions".replace("{n}", str(params.n_features)),
                "随机方向之间最大的余弦",
            ),
            Text("width", "维数"),
            Text("largest |cosine|", "最大的 |余弦|"),
            {
                "centred": list(zip(widths, cosines["True"], strict=True)),
                "formula": list(zip(widths, cosines["formula"], strict=True)),
                "positive": list(zip(widths, cosines["False"], strict=True)),
            },
            {
                "centred": Text("random", "随机方向"),
                "formula": Text("2√(ln N / d)", "2√(ln N / d)"),
                "positive": Text("positive components", "分量全为正"),
            },
            x_scale="log",
            y_scale="log",
        ),
    )


@dataclass(frozen=True)
class Combinations:
    """n_values: of each of two factors; a text is one of each and a question. held: in so many of n_values the
    diagonal combinations are never trained. steps: updates."""

    n_values: Annotated[int, within(4, 16)] = 8
    held: Annotated[int, within(1, 3)] = 2
    steps: Annotated[int, within(20, 500)] = 80


@experiment()
def unseen_combinations(lab: Lab, params: Combinations) -> None:
    """Trained on some combinations of two factors, a network answers for the others; if the answer is composed."""
    n = params.n_values
    a, b = (x.flatten() for x in torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij"))
    unseen = (b - a) % n < params.held
    code = torch.rand(2, n, generator=lab.generator()).argsort(1) % 4  # four colours, four shapes
    free = torch.randint(4, (2, n * n), generator=lab.generator(1))

    def batch(composed: bool, rows: Tensor) -> Batch:
        """Both questions about each of the pairs: which colour (of a), which shape (of b); else a random answer."""
        parts = []
        for question, factor in enumerate((a, b)):
            ids = torch.stack([a, n + b, torch.full_like(a, 2 * n + question)], 1)
            answer = 2 * n + 2 + (code[question][factor] if composed else free[question])
            parts.append((ids[rows], answer[rows]))
        return small.at_last(torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts]))

    @cache
    def network(composed: bool, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        model = small.encoder(2 * n + 6, d_model=32, n_layers=1)
        seen = batch(composed, ~unseen)
        return lab.train(model, lambda _: seen, params.steps, seed=seed, learning_rate=1e-2)

    def accuracy(composed: bool, seed: int) -> float:
        return small.accuracy(network(composed, seed), batch(composed, unseen))

    lab.number("pairs_unseen", int(unseen.sum()))
    lab.number("pairs", n * n)
    lab.number("chance", 0.25, "share")
    lab.claim(
        "composed",
        Text(
            "On combinations that training never showed, the network answers right.",
            "训练中从未出现的组合，网络也答得对。",
        ),
        measure=accuracy,
        arm=True,
        control=False,
        without=Text(
            "answers drawn at random for each combination: nothing to compose", "每个组合的答案随机指定，无从组合"
        ),
        holds=above(0.95),
        unit="share",
        seeds=3,
    )
    lab.number("random_seen", small.accuracy(network(False, lab.seed), batch(False, ~unseen)), "share")
