"""Analogies as offsets (A5): when they are exact, what breaks them, and what leaving out the inputs hides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qkv.baselines.cooccurrence import factorised, pmi
from qkv.data.factors import FactoredWords
from qkv.lab import figures, small
from qkv.lab.checks import above, below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.probe.analogy import accuracy, parallelism, returned

INTERACTION = Text("contexts that look at gender and role together", "上下文同时取决于性别与角色，二者有交互")


@dataclass(frozen=True)
class Offsets:
    """roles: values of the second feature, beside 2 genders and 3 numbers. contexts: context words a feature. d: width
    of the word vectors. draws: pairs of word and context in the sampled corpus."""

    roles: Annotated[int, within(3, 20)] = 6
    contexts: Annotated[int, within(8, 64)] = 24
    d: Annotated[int, within(4, 64)] = 12
    draws: Annotated[int, within(10_000, 2_000_000)] = 1_000_000

    def source(self, interaction: bool, seed: int, sharpness: float | tuple[float, ...] = 1.5) -> FactoredWords:
        generator = torch.Generator().manual_seed(seed)
        return FactoredWords.draw((2, self.roles, 3), self.contexts, generator, sharpness, interaction)


def defect(source: FactoredWords) -> Tensor:
    """The largest entry of b − a + c − d over all analogies of gender, in the exact PMI table."""
    a, b, c, d = (pmi(source.joint())[column] for column in source.analogies(0).T)
    return (b - a + c - d).abs().max()


def sampled_vectors(source: FactoredWords, params: Offsets, seed: int) -> Tensor:
    """Word vectors [V,d]: PMI of a sampled corpus, factorised."""
    counts = source.counts(params.draws, torch.Generator().manual_seed(seed + 100))
    return factorised(pmi(counts), params.d)


@experiment()
def analogy_offsets(lab: Lab, params: Offsets) -> None:
    """Offsets are parallel exactly where the log-ratios of co-occurrence are sums of features."""
    lab.claim(
        "parallelogram",
        Text("In the PMI table, b − a + c = d for every analogy.", "在 PMI 表中，每一道类比都满足 b − a + c = d。"),
        measure=lambda interaction: defect(params.source(interaction, lab.seed)),
        arm=False,
        control=True,
        without=INTERACTION,
        holds=below(1e-10),
    )

    def right(interaction: bool, seed: int) -> float:
        source = params.source(interaction, seed)
        return accuracy(sampled_vectors(source, params, seed), source.analogies(0), exclude=False)

    lab.claim(
        "corpus",
        Text(
            "Vectors from a sampled corpus answer them too, with no word left out of the answers.",
            "由采样语料得到的词向量也能答对，且不排除任何词。",
        ),
        measure=right,
        arm=False,
        control=True,
        without=INTERACTION,
        holds=above(0.7),
        unit="share",
        seeds=3,
    )
    broken = params.source(True, lab.seed)
    vectors = sampled_vectors(broken, params, lab.seed)
    lab.number("interaction_excluded", accuracy(vectors, broken.analogies(0)), "share")
    lab.number("interaction_parallel", parallelism(vectors, broken.analogies(0)), "cosine")
    lab.number("words", len(broken))


@dataclass(frozen=True)
class Hidden(Offsets):
    """faint: how much sharper the other features are than gender."""

    faint: Annotated[float, within(1, 100)] = 12.0


@experiment()
def analogy_exclusion(lab: Lab, params: Hidden) -> None:
    """Leaving the three words of the question out of the answers hides that the nearest vector is one of them."""

    def hidden(faint: float) -> float:
        source = params.source(False, lab.seed, (1.5 / faint, 1.5, 1.5))
        vectors, questions = sampled_vectors(source, params, lab.seed), source.analogies(0)
        return accuracy(vectors, questions) - accuracy(vectors, questions, exclude=False)

    lab.claim(
        "hidden",
        Text(
            "With a faint feature, excluding the inputs raises the score by more than 0.3.",
            "特征微弱时，排除输入词会把得分抬高 0.3 以上。",
        ),
        measure=hidden,
        arm=params.faint,
        control=1.0,
        without=Text("all features equally strong", "各特征同样强"),
        holds=above(0.3),
        unit="share",
    )
    points: dict[str, list[tuple[float, float]]] = {"excluded": [], "plain": [], "input": []}
    for faint in sorted({1.0, 2.0, 4.0, 6.0, 8.0, params.faint, 16.0}):
        source = params.source(False, lab.seed, (1.5 / faint, 1.5, 1.5))
        vectors, questions = sampled_vectors(source, params, lab.seed), source.analogies(0)
        points["excluded"].append((faint, accuracy(vectors, questions)))
        points["plain"].append((faint, accuracy(vectors, questions, exclude=False)))
        points["input"].append((faint, returned(vectors, questions)))
        if faint == params.faint:
            lab.number("excluded", points["excluded"][-1][1], "share")
            lab.number("plain", points["plain"][-1][1], "share")
            lab.number("input", points["input"][-1][1], "share")
    lab.figure(
        "exclusion",
        figures.lines(
            Text("The same vectors, two ways of scoring", "同一组向量，两种评分"),
            Text("how much fainter the feature is", "该特征弱多少倍"),
            Text("share of questions", "题目占比"),
            points,
            {
                "excluded": Text("right, inputs excluded", "答对，排除输入词"),
                "plain": Text("right, nothing excluded", "答对，不排除"),
                "input": Text("an input word is nearest", "最近的是输入词"),
            },
        ),
    )


@dataclass(frozen=True)
class Learned(Offsets):
    """d_model: width of the Transformer. length: contexts a text. steps: updates."""

    d_model: Annotated[int, within(8, 128)] = 32
    length: Annotated[int, within(1, 16)] = 6
    steps: Annotated[int, within(20, 2000)] = 300


@experiment(long=True)
def analogy_transformer(lab: Lab, params: Learned) -> None:
    """The word vectors of a small Transformer solve analogies where features add up, and not where they interact."""

    def embedded(interaction: bool, seed: int) -> tuple[Tensor, FactoredWords]:
        source = params.source(interaction, seed)
        n = len(source)
        model = small.decoder(n + source.table.shape[1], d_model=params.d_model, n_layers=1)

        def make(generator: torch.Generator):
            words, contexts = source.sample(128, generator, params.length)
            return small.following(torch.cat([words[:, None], n + contexts], 1))

        lab.train(model, make, params.steps, seed=seed, learning_rate=1e-2)
        vectors = model.decoder.embedding.token.weight[:n].detach().double()
        return vectors - vectors.mean(0), source

    def right(interaction: bool, seed: int) -> float:
        vectors, source = embedded(interaction, seed)
        return accuracy(vectors, source.analogies(0))

    lab.claim(
        "transformer",
        Text(
            "A Transformer's input embeddings solve nearly all analogies of additive features.",
            "特征可加时，Transformer 的输入嵌入几乎答对全部类比。",
        ),
        measure=right,
        arm=False,
        control=True,
        without=INTERACTION,
        holds=above(0.8),
        unit="share",
        seeds=3,
    )
    vectors, source = embedded(False, lab.seed)
    lab.number("plain", accuracy(vectors, source.analogies(0), exclude=False), "share")
    lab.number("chance", 1 / (len(source) - 3), "share")
