"""What is Bayesian about a trained predictor (A6): log-loss on many sources ends at the posterior predictive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import torch
from torch import Tensor, nn

from qkv.baselines.recurrent import Recurrent, RecurrentConfig
from qkv.data.batch import Batch
from qkv.lab import figures, small
from qkv.lab.checks import above, below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.training.schedules import Linear

from .references import Coin, bernoulli_divergence

BEGIN = 2


@dataclass(frozen=True)
class Coins:
    """length: tosses of a coin. rows: coins a batch. steps: updates. d_model: of both networks. tested: coins on which
    divergences are averaged. shifted: the biased prior is Beta(shifted, 1)."""

    length: Annotated[int, within(4, 64)] = 16
    rows: Annotated[int, within(8, 256)] = 64
    steps: Annotated[int, within(20, 2000)] = 350
    d_model: Annotated[int, within(8, 64)] = 32
    tested: Annotated[int, within(100, 5000)] = 1000
    shifted: Annotated[int, within(2, 20)] = 8


def scattered(bits: Tensor, generator: torch.Generator) -> Tensor:
    """Bits [B,T] with every column shuffled over the rows: the same marginals, and no coin in any row."""
    order = torch.rand(bits.shape, generator=generator).argsort(0)
    return bits.gather(0, order)


def said(model: nn.Module, bits: Tensor) -> Tensor:
    """The model's p(x_t = 1 | x_<t) for all t of bits [B,T], in float64."""
    return small.logits(model, small.following(bits, BEGIN))[..., :2].double().softmax(-1)[..., 1]


def plug_in(bits: Tensor) -> Tensor:
    """The share of ones so far, kept 0.01 away from certainty: maximum likelihood, no prior."""
    seen = torch.cat([torch.zeros_like(bits[:, :1]), bits[:, :-1]], 1).double().cumsum(1)
    return (
        (seen / torch.arange(bits.shape[1]).clamp_min(1)).clamp(0.01, 0.99).where(torch.arange(bits.shape[1]) > 0, 0.5)
    )


def trainer(lab: Lab, params: Coins) -> Callable[[str, bool, int], nn.Module]:
    """(network, whether a row is one coin, seed) -> the trained network; each is trained once."""
    prior = Coin()

    def build(kind: str) -> nn.Module:
        if kind == "lstm":
            return Recurrent(RecurrentConfig(3, params.d_model))
        return small.decoder(3, d_model=params.d_model, n_layers=1)

    @cache
    def get(kind: str, coherent: bool, seed: int) -> nn.Module:
        def make(generator: torch.Generator) -> Batch:
            bits = prior.sample(params.rows, params.length, generator)
            return small.following(bits if coherent else scattered(bits, generator), BEGIN)

        schedule = Linear(warmup=20)
        return lab.train(build(kind), make, params.steps, seed=seed, learning_rate=5e-3, schedule=schedule)

    return get


@experiment(long=True)
def coin_predictive(lab: Lab, params: Coins) -> None:
    """Transformer and LSTM, trained on coins of unknown bias, predict as Bayes does under their training prior."""
    get, prior, biased = trainer(lab, params), Coin(), Coin(float(params.shifted), 1.0)
    bits = {p: p.sample(params.tested, params.length, lab.generator()) for p in (prior, biased)}

    def divergence(model: nn.Module, source: Coin) -> float:
        true = source.predictive(bits[source])
        return float(bernoulli_divergence(true, said(model, bits[source])).mean())

    names = {"transformer": Text("The Transformer", "Transformer"), "lstm": Text("The LSTM", "LSTM")}
    for kind, name in names.items():
        lab.claim(
            kind,
            Text(
                f"{name.en} ends within 0.004 nat a toss of the posterior predictive.",
                f"{name.zh} 与后验预测分布的差距每次抛掷小于 0.004 奈特。",
            ),
            measure=lambda coherent, seed, kind=kind: divergence(get(kind, coherent, seed), prior),
            arm=True,
            control=False,
            without=Text("each bit of a row from another coin", "一行中的每一位来自不同的硬币"),
            holds=below(0.004),
            unit="nat",
            seeds=3,
        )
    lab.claim(
        "prior_shift",
        Text(
            "On coins from another prior the same Transformer is far from that prior's predictive: it keeps its own.",
            "换成另一先验的硬币，同一个 Transformer 远离新先验的后验预测：它保留的是训练先验。",
        ),
        measure=lambda source, seed: divergence(get("transformer", True, seed), source),
        arm=biased,
        control=prior,
        without=Text("coins from the prior of the training", "硬币仍来自训练先验"),
        holds=above(0.02),
        unit="nat",
        seeds=3,
    )
    true = prior.predictive(bits[prior])
    rules = {"half_prior": Coin(0.5, 0.5).predictive(bits[prior]), "plug_in": plug_in(bits[prior])}
    for label, rule in rules.items():
        lab.number(label, bernoulli_divergence(true, rule).mean(), "nat")
    theirs = biased.predictive(bits[biased])
    lab.number("own_prior_shifted", bernoulli_divergence(theirs, prior.predictive(bits[biased])).mean(), "nat")
    _runs_of_heads(lab, params, get)


def _runs_of_heads(lab: Lab, params: Coins, get: Callable[[str, bool, int], nn.Module]) -> None:
    """After n heads in a row: (n+1)/(n+2) is Laplace's answer."""
    heads = torch.ones(1, params.length, dtype=torch.long)
    curves = {
        "bayes": Coin().predictive(heads),
        "transformer": said(get("transformer", True, lab.seed), heads),
        "lstm": said(get("lstm", True, lab.seed), heads),
        "scattered": said(get("transformer", False, lab.seed), heads),
    }
    lab.figure(
        "heads",
        figures.lines(
            Text("Probability of heads after n heads in a row", "连续 n 次正面之后，再出正面的概率"),
            Text("n", "n"),
            Text("probability", "概率"),
            {name: list(enumerate(curve[0].tolist())) for name, curve in curves.items()},
            {
                "bayes": Text("(n+1)/(n+2)", "(n+1)/(n+2)"),
                "transformer": Text("Transformer", "Transformer"),
                "lstm": Text("LSTM", "LSTM"),
                "scattered": Text("Transformer, no coin in a row", "Transformer，每行不是同一枚硬币"),
            },
        ),
    )
