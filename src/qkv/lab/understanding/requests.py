"""Intent and slots by one encoder: whether their gradients agree, how losses are weighed, what joint training costs and
gives (A76)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated

import torch
from torch import Tensor

from qkv.data.batch import Batch
from qkv.lab import figures, small
from qkv.lab.checks import above, below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import Choice, EmbeddingConfig, EncoderOnlyConfig, Reader
from qkv.models.tagging import Tagging
from qkv.nn import Full, Window
from qkv.training.losses import Loss
from qkv.training.objectives import OutputLosses
from qkv.training.weighting import LogVariances, Surgery, Uncertain, projected

INTENT, SLOTS = "intent", "slots"
BOTH = (INTENT, SLOTS)


@dataclass(frozen=True)
class Weights:
    """n: of the shared gradient. factor: how much larger the second loss is counted, say because it is summed over
    words instead of averaged."""

    n: Annotated[int, within(2, 1000)] = 50
    factor: Annotated[float, within(2, 1e6)] = 100.0


@experiment()
def loss_weights(lab: Lab, params: Weights) -> None:
    """Learned log variances take the scale of a loss out; gradient surgery takes conflicts out, and stops where the
    gradients are opposite."""
    generator = lab.generator()
    one, other = torch.randn(2, params.n, generator=generator, dtype=torch.float64)
    losses = {INTENT: 0.3, SLOTS: 1.7}

    def direction(learned: bool, scale: float) -> Tensor:
        """The direction of the encoder's step when the second loss is multiplied by `scale`, s at its optimum."""
        model = torch.nn.Module()
        model.encoder = torch.nn.Parameter(torch.zeros(params.n, dtype=torch.float64))
        model.log_variances = LogVariances(BOTH).double()
        factors = {INTENT: 1.0, SLOTS: scale}

        class Linear(OutputLosses):
            """Two losses of known value and gradient."""

            def __call__(self, model: torch.nn.Module, batch: object) -> dict:
                parts = {INTENT: one, SLOTS: other}
                return {n: (factors[n] * (losses[n] + model.encoder @ g), 1.0, 1.0) for n, g in parts.items()}

        with torch.no_grad():
            best = [math.log(2 * factors[n] * losses[n]) for n in BOTH]
            model.log_variances.values.copy_(torch.tensor(best, dtype=torch.float64))
        objective = Uncertain(Linear({})) if learned else Linear({})
        terms = objective(model, small.labelled(torch.zeros(1, 1).long(), torch.zeros(1, 1).long()))
        torch.stack([total / count for total, count, _ in terms.values()]).sum().backward()
        assert model.encoder.grad is not None
        return model.encoder.grad / model.encoder.grad.norm()

    lab.claim(
        "scale",
        Text(
            "With log variances at their optimum, the step's direction does not change when one loss is rescaled.",
            "对数方差取到最优时，把其中一个损失放大，更新方向不变。",
        ),
        measure=lambda learned: (direction(learned, 1.0) - direction(learned, params.factor)).norm(),
        arm=True,
        control=False,
        without=Text("fixed weights of one", "固定权重 1"),
        holds=below(1e-10),
    )
    claim_surgery(lab, params, one)


def claim_surgery(lab: Lab, params: Weights, one: Tensor) -> None:
    """What projecting gradients does to two that conflict, and to two that are opposite. one [n]: a gradient."""
    lab.claim(
        "projection",
        Text(
            "After surgery no task's gradient points against the other task's.",
            "做过梯度手术，任何一个任务的梯度都不再与另一个相冲突。",
        ),
        measure=lambda operate: min(_against(operate, lab.generator(i), params.n) for i in range(20)),
        arm=True,
        control=False,
        without=Text("the gradients as they are", "原来的梯度"),
        holds=above(-1e-10),
    )
    lab.claim(
        "opposite",
        Text(
            "Where two gradients are opposite, surgery leaves nothing: it stops at points where the sum would go on.",
            "两个梯度方向相反时，手术之后什么也不剩：总损失还能下降的地方，它停住了。",
        ),
        measure=lambda operate: _left(one, -2 * one, operate) / float(one.norm()),
        arm=True,
        control=False,
        without=Text("the plain sum of the gradients", "直接把梯度相加"),
        holds=below(1e-10),
        unit="of the first gradient",
    )


def _against(operate: bool, generator: torch.Generator, n: int) -> float:
    """The least inner product of one task's step with the other's own gradient."""
    one, other = torch.randn(2, n, generator=generator, dtype=torch.float64)
    first, second = projected([one, other]) if operate else (one, other)
    return min(float(first @ other), float(second @ one))


def _left(one: Tensor, other: Tensor, operate: bool) -> float:
    return float(sum(projected([one, other]) if operate else [one, other]).norm())  # type: ignore[union-attr]


@dataclass(frozen=True)
class Requests:
    """words: that name something, of `kinds` kinds. fillers: other words. few: requests to learn from. length: of one.
    steps: updates. rows: requests to test on. features: values that each of a word's two features takes. narrow, wide:
    numbers that a word is known by."""

    words: Annotated[int, within(8, 200)] = 32
    kinds: Annotated[int, within(2, 8)] = 4
    fillers: Annotated[int, within(4, 200)] = 64
    few: Annotated[int, within(10, 1000)] = 150
    length: Annotated[int, within(3, 20)] = 16
    steps: Annotated[int, within(20, 1000)] = 200
    rows: Annotated[int, within(50, 2000)] = 400
    features: Annotated[int, within(2, 8)] = 6
    narrow: Annotated[int, within(1, 8)] = 1
    wide: Annotated[int, within(2, 64)] = 16


def agreeing(params: Requests, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Words [B,T], slots [B,T], intents [B]: one word names something, of some kind; its slot is the kind, and so is
    the intent."""
    ids = params.words + torch.randint(params.fillers, (rows, params.length), generator=generator)
    place = torch.randint(params.length, (rows,), generator=generator)
    thing = torch.randint(params.words, (rows,), generator=generator)
    ids[torch.arange(rows), place] = thing
    kind = thing % params.kinds
    slots = torch.zeros_like(ids)
    slots[torch.arange(rows), place] = 1 + kind
    return ids, slots, kind


def unrelated(params: Requests, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """A word has two features that know nothing of each other: the slot of every word is its one, the intent the other
    one of the first word."""
    ids = torch.randint(params.words, (rows, params.length), generator=generator)
    return ids, ids % params.kinds, ids[:, 0] // params.kinds % params.kinds


def reader(params: Requests, which: tuple[str, ...], rank: int | None, pooling: str, learned: bool) -> Reader:
    """A small encoder; with a rank, of words that are known by so many numbers, and that see themselves alone."""
    outputs = {INTENT: Choice(pooling=pooling, dropout=0.0), SLOTS: Tagging(dropout=0.0)}  # type: ignore[arg-type]
    size = params.words + params.fillers
    stack = small.stack(
        size,
        d_model=24,
        n_layers=1,
        d_ff=0 if rank else 48,
        mask=Window(0, 0) if rank else Full(),
        embedding=EmbeddingConfig(size, rank=rank, dropout=0.0),
    )
    counts = {INTENT: [1] * params.kinds, SLOTS: [1] * (params.kinds + 1)}
    model = Reader(EncoderOnlyConfig(stack), {name: outputs[name] for name in which}, counts)
    if learned:
        model.log_variances = LogVariances(which)
    return model


class Trained:
    """Readers of one source, each trained once, and the accuracies of their outputs on fresh requests."""

    def __init__(self, lab: Lab, params: Requests, source: str):
        self.lab, self.params, self.source = lab, params, source
        self.accuracy = cache(self._accuracy)

    def batch(self, rows: int, generator: torch.Generator) -> Batch:
        make = agreeing if self.source == "agreeing" else unrelated
        ids, slots, intents = make(self.params, rows, generator)
        found = small.labelled(ids, slots)
        found.extra[INTENT] = intents
        return found

    def _accuracy(self, which: tuple[str, ...], rank: int | None, weighing: str, seed: int) -> dict[str, float]:
        torch.manual_seed(seed)
        params, agree = self.params, self.source == "agreeing"
        model = reader(params, which, rank, "mean" if agree else "first", weighing == "learned")
        fixed = self.batch(params.few, self.lab.generator(100 + seed))

        def make(generator: torch.Generator) -> Batch:
            return fixed if agree else self.batch(64, generator)

        losses = OutputLosses({name: model.outputs[name].config for name in which})
        objective: Loss = Uncertain(losses) if weighing == "learned" else losses
        if weighing == "surgery":
            objective = Surgery(losses)
        self.lab.train(model, make, params.steps, seed=seed, loss=objective, learning_rate=1e-2)
        test = self.batch(params.rows, self.lab.generator(1))
        with torch.no_grad():
            scores = model(test.ids, test.tokens)
        right = {INTENT: test.extra[INTENT], SLOTS: test.targets}
        return {name: float((scores[name].argmax(-1) == right[name]).float().mean()) for name in which}


@experiment(long=True)
def joint_or_apart(lab: Lab, params: Requests) -> None:
    """Joint training helps where slots say what the intent needs, and costs where both must share too few numbers."""
    agree = Trained(lab, params, "agreeing")
    pairs = replace(params, words=params.features**2, kinds=params.features, fillers=32, length=8, steps=300)
    part = Trained(lab, pairs, "unrelated")
    for name, which in (("together", BOTH), ("alone", (INTENT,))):
        found = [agree.accuracy(which, None, "fixed", lab.seed + i)[INTENT] for i in range(3)]
        lab.number(name, sum(found) / 3, "accuracy")
        lab.number(f"{name}_least", min(found), "accuracy")
        lab.number(f"{name}_most", max(found), "accuracy")

    def cost(rank: int, weighing: str, seed: int) -> float:
        """What joint training takes from the mean accuracy of both, against one encoder each."""
        alone = sum(part.accuracy((name,), rank, "fixed", seed)[name] for name in BOTH)
        return (alone - sum(part.accuracy(BOTH, rank, weighing, seed).values())) / 2

    lab.claim(
        "costs",
        Text(
            "Two unrelated tasks in an encoder with too few numbers a word cost each other accuracy; with more, not.",
            "编码器给每个词的维数太少时，两个无关的任务互相拖累；维数够了就不会。",
        ),
        measure=lambda rank, seed: cost(rank, "fixed", seed),
        arm=params.narrow,
        control=params.wide,
        without=Text("a wide encoder", "宽的编码器"),
        holds=above(0.05),
        unit="accuracy",
        seeds=3,
    )
    costs = {"fixed": cost(params.narrow, "fixed", lab.seed)}
    for weighing in ("learned", "surgery"):
        costs[weighing] = lab.number(f"cost_{weighing}", cost(params.narrow, weighing, lab.seed), "accuracy")
    costs["wide"] = cost(params.wide, "fixed", lab.seed)
    names = {
        "fixed": Text("fixed weights", "固定权重"),
        "learned": Text("learned weights", "学到的权重"),
        "surgery": Text("gradient surgery", "梯度手术"),
        "wide": Text("wide encoder", "宽编码器"),
    }
    title = Text("What joint training costs two unrelated tasks", "两个无关任务一起训练的代价")
    lab.figure("costs", figures.bars(title, Text("mean accuracy lost", "平均准确率损失"), costs, names))
