"""Gradients add until somebody clears them: one large batch from single rows (A29, A20, A32)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from qkv.data.batch import Batch
from qkv.lab import figures, small
from qkv.lab.checks import below, close
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import DecoderOnly
from qkv.nn import BatchNorm, LayerNorm, NormConfig
from qkv.training.losses import TokenCrossEntropy

from .ragged import MeanOfMeans, Rows, draw, flat_gradient, flat_weights, gradient_of, relative, total, update

VOCAB = 11


@dataclass(frozen=True)
class Accumulation:
    """rows: instances of one update, fed one at a time. longest: tokens of the longest; the shortest has two.
    clip: norm to which a gradient is cut, as a share of the whole gradient's."""

    rows: Annotated[int, within(2, 32)] = 8
    longest: Annotated[int, within(4, 64)] = 24
    clip: Annotated[float, within(0.01, 0.9)] = 0.3


class Bench:
    """A model in float64, ragged rows, and the gradient that one batch of them all would give."""

    def __init__(self, params: Accumulation, generator: torch.Generator):
        step = (params.longest - 2) / (params.rows - 1)
        self.rows = draw([round(2 + i * step) for i in range(params.rows)], VOCAB, generator)
        self.model = decoder()
        self.single, self.whole = Rows(self.rows, 1), Rows(self.rows, params.rows)
        value, self.tokens = total(self.model, self.whole.batches()[0])
        self.gradient = gradient_of(self.model, value / self.tokens)


def decoder(norm: NormConfig | None = None) -> DecoderOnly:
    """A decoder in float64."""
    return small.decoder(VOCAB, d_model=16, n_layers=1, block={"norm": norm or LayerNorm()}).double()


def accumulated(model: nn.Module, batches: Sequence[Batch], forget: bool = False) -> Tensor:
    """Backward of each batch's sum over the count of all, one after the other, [P]. forget: zero_grad before each."""
    count = sum(TokenCrossEntropy().counts(batch)["cross_entropy"] for batch in batches)
    model.zero_grad(set_to_none=True)
    for batch in batches:
        if forget:
            model.zero_grad(set_to_none=True)
        (total(model, batch)[0] / count).backward()
    return flat_gradient(model).clone()


@experiment()
def exact_accumulation(lab: Lab, params: Accumulation) -> None:
    """Single rows give exactly the gradient of their batch if they are divided by its tokens, and cleared after it."""
    bench = Bench(params, lab.generator())
    lab.number("tokens", bench.tokens, "tokens")
    lab.claim(
        "kept",
        Text(
            "Backward row by row without zero_grad leaves the gradient of the whole batch.",
            "逐条反向、中间不清零，留下的就是整批的梯度。",
        ),
        measure=lambda forget: relative(accumulated(bench.model, bench.single.batches(), forget), bench.gradient),
        arm=False,
        control=True,
        without=Text("zero_grad before every row", "每条之前都清零"),
        holds=below(1e-10),
    )
    lab.claim(
        "normalised",
        Text(
            "An update of fit from single rows is the update from one batch, though the rows are ragged.",
            "样本长短不一，fit 逐条累积的一次更新仍等于整批的一次更新。",
        ),
        measure=lambda loss: relative(update(bench.model, loss, bench.single), bench.gradient),
        arm=TokenCrossEntropy(),
        control=MeanOfMeans(),
        without=Text("each row divided by its own tokens, then averaged", "每条先除以自己的词数，再求平均"),
        holds=below(1e-10),
    )
    claim_clip(lab, params, bench)
    claim_norm(lab, bench)
    claim_step_in_backward(lab, bench)
    draw_error(lab, params)


def claim_clip(lab: Lab, params: Accumulation, bench: Bench) -> None:
    """Clip once, what has been summed."""
    limit = params.clip * float(bench.gradient.norm())
    whole = update(bench.model, TokenCrossEntropy(), bench.whole, limit)

    def each() -> Tensor:
        """Every row's gradient cut to its share of the limit, then summed."""
        parts = [gradient_of(bench.model, total(bench.model, b)[0] / bench.tokens) for b in bench.single.batches()]
        return torch.stack([g * min(1.0, limit / len(parts) / float(g.norm())) for g in parts]).sum(0)

    lab.claim(
        "clipped",
        Text(
            "Clipped once after the sum, the update is that of the whole batch.", "求和之后裁剪一次，更新与整批相同。"
        ),
        measure=lambda once: relative(
            update(bench.model, TokenCrossEntropy(), bench.single, limit) if once else each(), whole
        ),
        arm=True,
        control=False,
        without=Text("every row's gradient clipped by itself", "每条的梯度各自裁剪"),
        holds=below(1e-10),
    )


def claim_norm(lab: Lab, bench: Bench) -> None:
    """What looks across the batch cannot be cut."""

    def error(norm: NormConfig) -> float:
        model = decoder(norm).train()
        return relative(accumulated(model, bench.single.batches()), accumulated(model, bench.whole.batches()))

    lab.claim(
        "independent",
        Text(
            "It is exact because layer norm looks at one token at a time.",
            "之所以精确，是因为层归一化每次只看一个词。",
        ),
        measure=error,
        arm=LayerNorm(),
        control=BatchNorm(),
        without=Text("batch norm, whose statistics are of the micro-batch", "批归一化，统计量来自微批"),
        holds=below(1e-10),
    )


def claim_step_in_backward(lab: Lab, bench: Bench) -> None:
    """Each weight stepped and its gradient freed as soon as it is complete."""
    live: list[float] = []

    def moved(source: Rows) -> Tensor:
        model = copy.deepcopy(bench.model)
        weights = list(model.parameters())
        size = sum(p.numel() for p in weights)

        @torch.no_grad()
        def step(p: Tensor) -> None:
            live.append(sum(w.numel() for w in weights if w.grad is not None) / size)
            assert p.grad is not None
            p -= p.grad
            p.grad = None

        for p in weights:
            p.register_post_accumulate_grad_hook(step)
        for batch in source.batches():
            (total(model, batch)[0] / bench.tokens).backward()
        return flat_weights(bench.model) - flat_weights(model)

    lab.claim(
        "in_backward",
        Text(
            "Stepping every weight inside backward, and freeing its gradient there, gives the same update.",
            "在反向途中更新每个参数并立刻释放其梯度，更新不变。",
        ),
        measure=lambda source: relative(moved(source), bench.gradient),
        arm=bench.whole,
        control=bench.single,
        without=Text(
            "together with accumulation: later rows see moved weights", "与累积同用：后面的样本见到的是已改动的参数"
        ),
        holds=below(1e-10),
    )
    moved(bench.whole)
    lab.number("live_gradients", max(live), "share")


class Held:
    """Bytes of activations that some backward still needs, each storage once; weights are not counted."""

    def __init__(self, model: nn.Module):
        self.weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self.users: dict[int, int] = {}
        self.now = self.peak = 0

    def pack(self, x: Tensor) -> Kept:
        return Kept(x, self)

    def change(self, x: Tensor, by: int) -> None:
        place = x.untyped_storage().data_ptr()
        if place in self.weights:
            return
        before = self.users.get(place, 0)
        self.users[place] = before + by
        if (before == 0) != (before + by == 0):
            self.now += by * x.untyped_storage().nbytes()
            self.peak = max(self.peak, self.now)


class Kept:
    """One tensor that autograd keeps, until it lets go of this."""

    def __init__(self, x: Tensor, held: Held):
        self.x, self.held = x, held
        held.change(x, 1)

    def __del__(self) -> None:
        self.held.change(self.x, -1)


def peak(model: nn.Module, batches: Sequence[Batch], together: bool = False) -> int:
    """The most bytes held for backward. together: the sums are added first, and backward runs once."""
    held, waiting = Held(model), []
    with torch.autograd.graph.saved_tensors_hooks(held.pack, lambda kept: kept.x):
        for batch in batches:
            value = total(model, batch)[0]
            if together:
                waiting.append(value)
            else:
                value.backward()
            del value
        if waiting:
            torch.stack(waiting).sum().backward()
    return held.peak


@experiment()
def accumulation_memory(lab: Lab, params: Accumulation) -> None:
    """What is kept for backward is one row's, not the batch's, if backward runs after every row."""
    bench = Bench(params, lab.generator())
    longest = max(peak(bench.model, [batch]) for batch in bench.single.batches())
    lab.number("longest", longest / 1024, "KiB")
    lab.number("batch", peak(bench.model, bench.whole.batches()) / 1024, "KiB")
    lab.claim(
        "peak",
        Text(
            "Backward after every row: the peak of kept activations is that of the longest row alone.",
            "每条之后立刻反向：保存的激活峰值等于最长一条单独所需。",
        ),
        measure=lambda together: peak(bench.model, bench.single.batches(), together) / longest,
        arm=False,
        control=True,
        without=Text("losses added up first, one backward at the end", "先把损失加起来，最后只反向一次"),
        holds=close(1.0, 0.05),
        unit="×",
    )


def draw_error(lab: Lab, params: Accumulation) -> None:
    """The mean of means errs the more, the more ragged the rows are."""
    points = []
    for shortest in sorted({2, 4, 8, 12, 16, params.longest}):
        if shortest <= params.longest:
            half = params.rows // 2
            rows = draw([params.longest] * (params.rows - half) + [shortest] * half, VOCAB, lab.generator(7))
            model = decoder()
            exact = accumulated(model, Rows(rows, len(rows)).batches())
            parts = [gradient_of(model, v / n) for v, n in (total(model, b) for b in Rows(rows, 1).batches())]
            points.append((params.longest / shortest, relative(torch.stack(parts).mean(0), exact)))
    lab.figure(
        "ragged",
        figures.lines(
            Text("Error of averaging means", "“均值再平均”的误差"),
            Text("longest row / shortest row", "最长与最短之比"),
            Text("relative error of the gradient", "梯度的相对误差"),
            {"mean": points},
            {"mean": Text("each row divided by its own tokens", "每条除以自己的词数")},
        ),
    )
