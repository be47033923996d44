"""Attention weights while they are learned (A67, A68), and beside the effect of removing a token (B23)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Annotated

import torch
from torch import Tensor

from qkv import runtime
from qkv.data.batch import Batch
from qkv.lab import figures, small
from qkv.lab.checks import above
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import DecoderOnly
from qkv.nn import Einsum, Tokens
from qkv.probe.attention import recording

from .lookup import Lookup, reader


@dataclass(frozen=True)
class RelevanceTraining:
    """d_model: width. steps: updates. n_keys: keys, each of which stands in the table twice, once of either kind."""

    d_model: Annotated[int, within(8, 64)] = 32
    steps: Annotated[int, within(20, 1000)] = 200
    n_keys: Annotated[int, within(2, 12)] = 5


@torch.no_grad()
def last_row(model: DecoderOnly, batch: Batch) -> Tensor:
    """The weights with which the last token reads the others, [B,T], in the only head of the last layer."""
    with recording(model) as maps:
        model(batch.ids, batch.tokens)
    return maps[-1].weights[:, 0, -1]


@experiment(long=True)
def relevance_training(lab: Lab, params: RelevanceTraining) -> None:
    """Weight goes to the token whose value lowers the loss, and leaves its twin with the same key alone."""

    @cache
    def learned(asked: int, seed: int) -> tuple[float, list[tuple[float, float, float]], float]:
        """(final weight on the asked key in the first table, the course of both weights, accuracy)."""
        runtime.seed_everything(seed)
        task = Lookup(n_keys=params.n_keys, n_values=params.n_keys, n_kinds=2, asked=asked)
        model = reader(task.vocab_size, params.d_model)
        test, columns = task.draw(256, torch.Generator().manual_seed(10_000 + seed))
        course: list[tuple[float, float, float]] = []

        def note(step: float) -> None:
            first, second = last_row(model, test).gather(1, columns).mean(0).tolist()
            course.append((step, first, second))

        def make(generator: torch.Generator) -> Batch:
            if made[0] % 20 == 0:
                note(made[0])
            made[0] += 1
            return task.batch(generator)

        made = [0]
        lab.train(model, make, params.steps, seed=seed, learning_rate=5e-3)
        note(params.steps)
        return course[-1][1], course, small.accuracy(model, test)

    lab.claim(
        "weight",
        Text(
            "The query gives most of its weight to the entry that holds the answer, not to its twin with the same key.",
            "查询把大部分权重给了存有答案的那一项，而不是键相同、却没有答案的那一项。",
        ),
        measure=lambda asked, seed: learned(asked, seed)[0],
        arm=0,
        control=1,
        without=Text("the answer is in the other entry", "答案换到另一项里"),
        holds=above(0.5),
        seeds=3,
    )
    runs = [learned(0, seed) for seed in lab.seeds()]
    lab.number("accuracy", fmean(accuracy for _, _, accuracy in runs), "share")
    lab.number("before", fmean(course[0][1] for _, course, _ in runs))
    lab.number("twin_before", fmean(course[0][2] for _, course, _ in runs))
    lab.number("twin", fmean(course[-1][2] for _, course, _ in runs))
    lab.number("uniform", 1 / (2 * params.n_keys + 1))
    course = runs[0][1]
    lab.figure(
        "course",
        figures.lines(
            Text("Weight on two entries with the same key", "键相同的两项各得多少权重"),
            Text("updates", "更新步数"),
            Text("weight", "权重"),
            {"asked": [(s, a) for s, a, _ in course], "twin": [(s, b) for s, _, b in course]},
            {"asked": Text("holds the answer", "存有答案"), "twin": Text("its twin", "孪生项")},
        ),
    )


@dataclass(frozen=True)
class Faithfulness:
    """d_model: width. steps: updates. length: tokens of a text, each of which votes with a strength of its own.
    texts: how many are explained."""

    d_model: Annotated[int, within(8, 64)] = 16
    steps: Annotated[int, within(20, 1000)] = 150
    length: Annotated[int, within(4, 32)] = 8
    texts: Annotated[int, within(8, 256)] = 64


N_WORDS, NO, YES = 24, 24, 25
"""Words 0 … 23, then the two answers; the word NO also stands at the end, as the place where the answer is read."""


def votes(length: int, rows: int, generator: torch.Generator) -> Batch:
    """Texts [B, length + 1] whose label is the sign of the sum of their words' strengths, from −1 to 1."""
    words = torch.rand(rows, N_WORDS, generator=generator).argsort(1)[:, :length]
    strength = torch.linspace(-1, 1, N_WORDS)[words].sum(1)
    ids = torch.cat([words, torch.full((rows, 1), NO)], 1)
    return small.at_last(ids, torch.where(strength > 0, YES, NO))


def margin(model: DecoderOnly, batch: Batch, tokens: Tokens | None = None) -> Tensor:
    """The logit of yes minus that of no, [B], at the end of the texts."""
    answer = model.head(model(batch.ids, tokens or batch.tokens))[:, -1]
    return answer[:, YES] - answer[:, NO]


@torch.no_grad()
def left_out(model: DecoderOnly, batch: Batch) -> Tensor:
    """By how much the margin falls when a word is taken away, [B, length]: as padding, so that nothing else moves."""
    whole, falls = margin(model, batch), []
    for column in range(batch.ids.shape[1] - 1):
        pos = batch.tokens.pos.clone()
        pos[:, column] = -1
        falls.append(whole - margin(model, batch, Tokens(pos)))
    return torch.stack(falls, 1)


def gradient_times_input(model: DecoderOnly, batch: Batch) -> Tensor:
    """∂margin/∂x · x for each word's embedding, [B, length]."""
    held: list[Tensor] = []

    def keep(_module: object, _inputs: object, out: Tensor) -> Tensor:
        held.append(out.detach().requires_grad_())
        return held[0]

    handle = model.decoder.embedding.token.register_forward_hook(keep)
    try:
        (gradient,) = torch.autograd.grad(margin(model, batch).sum(), held)
    finally:
        handle.remove()
    return (gradient * held[0].detach()).sum(-1)[:, :-1]


def kendall(a: Tensor, b: Tensor) -> float:
    """Kendall's τ of two rankings [B,n], averaged over rows: concordant minus discordant pairs, as a share of all."""
    pairs = torch.triu_indices(a.shape[1], a.shape[1], 1)
    agree = torch.sign(a[:, pairs[0]] - a[:, pairs[1]]) * torch.sign(b[:, pairs[0]] - b[:, pairs[1]])
    return float(agree.detach().mean())


@experiment(long=True)
def attention_faithfulness(lab: Lab, params: Faithfulness) -> None:
    """In a trained classifier the effect of removing a word follows gradient × input, not attention: it has no sign."""

    def trained(seed: int, scale: float | None = None) -> tuple[DecoderOnly, Batch]:
        runtime.seed_everything(seed)
        model = reader(YES + 1, params.d_model, d_ff=None, scale=scale, kernel=Einsum())
        lab.train(model, lambda generator: votes(params.length, 32, generator), params.steps, seed=seed)
        return model, votes(params.length, params.texts, torch.Generator().manual_seed(10_000 + seed))

    @cache
    def explained(seed: int) -> dict[str, float]:
        model, test = trained(seed)
        weights, effect = last_row(model, test)[:, :-1], left_out(model, test)
        gradients = gradient_times_input(model, test)
        return {
            "accuracy": small.accuracy(model, test),
            "attention": kendall(weights, effect),
            "gradient": kendall(gradients, effect),
            "attention_size": kendall(weights, effect.abs()),
            "gradient_size": kendall(gradients.abs(), effect.abs()),
            "same_word": float((weights.argmax(1) == effect.abs().argmax(1)).float().mean()),
        }

    lab.claim(
        "tau",
        Text(
            "Gradient × input ranks words by the effect of removing them; attention weights do not.",
            "梯度×输入能按“去掉一个词的影响”给词排序，注意力权重不能。",
        ),
        measure=lambda method, seed: explained(seed)[method],
        arm="gradient",
        control="attention",
        without=Text("the attention weights as explanation", "改用注意力权重作解释"),
        holds=above(0.5),
        unit="Kendall's τ",
        seeds=3,
    )
    seeds = lab.seeds()
    means = {name: sum(explained(seed)[name] for seed in seeds) / 3 for name in explained(lab.seed)}
    for name in ("accuracy", "same_word"):
        lab.number(name, means[name], "share")
    for name in ("attention_size", "gradient_size"):
        lab.number(name, means[name], "Kendall's τ")
    lab.number("accuracy_uniform", sum(small.accuracy(*trained(seed, 0.0)) for seed in seeds) / 3, "share")
    lab.number("chance", 1 / params.length, "share")
    _draw(lab, means)


def _draw(lab: Lab, means: dict[str, float]) -> None:
    names = {
        "attention": Text("attention, signed effect", "注意力，带符号的影响"),
        "gradient": Text("gradient × input, signed", "梯度×输入，带符号"),
        "attention_size": Text("attention, size of effect", "注意力，影响的大小"),
        "gradient_size": Text("gradient × input, size", "梯度×输入，大小"),
    }
    lab.figure(
        "tau",
        figures.bars(
            Text("Agreement with the effect of removing a word", "与“去掉一个词的影响”的一致程度"),
            Text("Kendall's τ", "Kendall τ"),
            {name: means[name] for name in names},
            names,
        ),
    )
