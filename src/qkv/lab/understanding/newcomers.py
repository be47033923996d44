"""New labels with few examples: nearest means are a linear classifier, and what they need is a representation (A13)."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import torch
from torch import Tensor

from qkv.baselines.naive_bayes import NaiveBayes
from qkv.data.batch import Batch
from qkv.lab import figures, small
from qkv.lab.checks import above, below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.lab.understanding.rare import LABEL, asked
from qkv.models import Choice, EncoderOnlyConfig, Reader, pooled
from qkv.nn import Tokens
from qkv.tasks.fewshot import Points, prototypes
from qkv.training.objectives import OutputLosses


@dataclass(frozen=True)
class Means:
    """n_labels: points. width: of vectors. tested: vectors."""

    n_labels: Annotated[int, within(2, 100)] = 20
    width: Annotated[int, within(2, 256)] = 32
    tested: Annotated[int, within(10, 5000)] = 500


@experiment()
def nearest_mean(lab: Lab, params: Means) -> None:
    """The nearest mean is a linear classifier with weight 2c and bias −|c|²; without the bias it is another rule."""
    shape = (params.n_labels, params.width)
    made = torch.randn(*shape, generator=lab.generator(), dtype=torch.float64)
    made = made * torch.linspace(0.5, 2.0, params.n_labels).double()[:, None]
    points = Points(tuple(map(str, range(params.n_labels))), made)
    vectors = torch.randn(params.tested, params.width, generator=lab.generator(1), dtype=torch.float64)
    distances = torch.cdist(vectors, made).square()

    def error(biased: bool) -> Tensor:
        weight, bias = points.linear()
        scores = vectors @ weight.T + (bias if biased else 0)
        return (scores - (vectors.square().sum(1, keepdim=True) - distances)).abs().max()

    weight, _ = points.linear()
    nearest = distances.argmin(1)
    lab.number("same_without", ((vectors @ weight.T).argmax(1) == nearest).double().mean(), "share")
    lab.claim(
        "linear",
        Text("Scores 2c·x − |c|² rank labels as distances to the means do.", "得分 2c·x − |c|² 的排序就是距离的排序。"),
        measure=error,
        arm=True,
        control=False,
        without=Text("without the bias −|c|²", "去掉偏置 −|c|²"),
        holds=below(1e-10),
    )


@dataclass(frozen=True)
class Newcomers:
    """n_concepts with n_synonyms words each: the vocabulary. n_base, n_new: labels, each three concepts; no two the
    same. shots: examples of a new label. length: of a text. noise: share of words that are of any concept. steps:
    updates on base labels. fresh_steps: updates of the network that starts afresh. tested: texts a new label."""

    n_concepts: Annotated[int, within(6, 40)] = 15
    n_synonyms: Annotated[int, within(2, 60)] = 30
    n_base: Annotated[int, within(5, 100)] = 40
    n_new: Annotated[int, within(2, 50)] = 20
    shots: Annotated[int, within(1, 50)] = 5
    length: Annotated[int, within(3, 32)] = 12
    noise: Annotated[float, within(0, 0.9)] = 0.2
    steps: Annotated[int, within(10, 2000)] = 300
    fresh_steps: Annotated[int, within(10, 1000)] = 100
    tested: Annotated[int, within(5, 200)] = 30


class Concepts:
    """Labels as triples of concepts, texts as synonyms of them; the labels asked for in the end are new."""

    def __init__(self, lab: Lab, params: Newcomers):
        self.lab, self.params = lab, params
        triples = list(itertools.combinations(range(params.n_concepts), 3))
        random.Random(lab.seed).shuffle(triples)
        self.triples = torch.tensor(triples[: params.n_base + params.n_new])
        self.base, self.new = torch.arange(params.n_base), torch.arange(params.n_base, len(self.triples))
        self.test_labels = self.new.repeat_interleave(params.tested)
        self.test_ids = self.texts(self.test_labels, lab.generator(1))

    def texts(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """[B,T], a draw of words for labels [B]."""
        params, shape = self.params, (len(labels), self.params.length)
        concepts = self.triples[labels].gather(1, torch.randint(3, shape, generator=generator))
        other = torch.randint(params.n_concepts, shape, generator=generator)
        noisy = torch.rand(shape, generator=generator) < params.noise
        synonyms = torch.randint(params.n_synonyms, shape, generator=generator)
        return torch.where(noisy, other, concepts) * params.n_synonyms + synonyms

    def examples(self, shots: int) -> tuple[Tensor, Tensor]:
        """The few texts of new labels [B,T], and their labels [B]."""
        labels = self.new.repeat_interleave(shots)
        return self.texts(labels, self.lab.generator(2 + shots)), labels

    def reader(self, n_labels: int, seed: int) -> Reader:
        """A one-layer Transformer with fresh weights."""
        torch.manual_seed(seed)
        stack = small.stack(self.params.n_concepts * self.params.n_synonyms, d_model=32, n_layers=1)
        return Reader(EncoderOnlyConfig(stack), {LABEL: Choice(dropout=0.0)}, {LABEL: [1] * n_labels})

    def fit(self, model: Reader, make: Callable[[torch.Generator], Batch], steps: int, seed: int) -> Reader:
        """Trained on what `make` draws."""
        loss = OutputLosses({LABEL: Choice(dropout=0.0)})
        self.lab.train(model, make, steps, seed=seed, learning_rate=5e-3, loss=loss)
        return model

    @cache  # noqa: B019
    def trunk(self, seed: int) -> Reader:
        """Trained on plenty of texts of base labels."""

        def make(generator: torch.Generator) -> Batch:
            labels = torch.randint(self.params.n_base, (128,), generator=generator)
            return asked(self.texts(labels, generator), labels)

        return self.fit(self.reader(self.params.n_base, seed), make, self.params.steps, seed)

    @torch.no_grad()
    def nearest(self, model: Reader, shots: int) -> float:
        """Accuracy of the nearest mean of a model's vectors on new labels."""

        def vectors(ids: Tensor) -> Tensor:
            memory = model.encode(ids, Tokens.arange(*ids.shape))
            return pooled(memory.x, memory.tokens)

        ids, labels = self.examples(shots)
        found = prototypes(vectors(ids), list(map(str, labels.tolist())))
        return found.accuracy(vectors(self.test_ids), list(map(str, self.test_labels.tolist())))

    def afresh(self, shots: int, seed: int) -> float:
        """Accuracy of a network trained on the few texts alone."""
        ids, labels = self.examples(shots)
        batch, first = asked(ids, labels - self.params.n_base), self.params.n_base
        model = self.fit(self.reader(self.params.n_new, seed), lambda _: batch, self.params.fresh_steps, seed)
        with torch.no_grad():
            scores = model(self.test_ids, Tokens.arange(*self.test_ids.shape))[LABEL]
        return float((scores.argmax(-1) + first == self.test_labels).double().mean())

    def counted(self, shots: int) -> float:
        """Accuracy of naive Bayes on the words of the few texts."""
        ids, labels = self.examples(shots)
        n_words = self.params.n_concepts * self.params.n_synonyms
        found = NaiveBayes.fit(ids, labels - self.params.n_base, n_words, self.params.n_new, smoothing=0.1)
        return found.accuracy(self.test_ids, self.test_labels - self.params.n_base)


@experiment(long=True)
def new_labels(lab: Lab, params: Newcomers) -> None:
    """Means of a few vectors classify labels that training never had, if the trunk was trained on other labels made of
    the same concepts; the same few texts alone teach a network little, and counts of words more."""
    source = Concepts(lab, params)

    def accuracy(kind: str, seed: int, shots: int = params.shots) -> float:
        if kind == "afresh":
            return source.afresh(shots, seed)
        return source.nearest(source.trunk(seed) if kind == "trunk" else source.reader(params.n_base, seed), shots)

    lab.number("chance", 1 / params.n_new, "share")
    lab.number("counted", source.counted(params.shots), "share")
    lab.number("untrained", accuracy("untrained", lab.seed), "share")
    lab.claim(
        "trunk",
        Text(
            "The nearest mean in the space of a trained trunk finds new labels.",
            "在训练好的主干的空间里，最近的均值认得出新类。",
        ),
        measure=accuracy,
        arm="trunk",
        control="afresh",
        without=Text("a network trained on the few texts alone", "只用这几条文本训练的网络"),
        holds=above(0.5),
        unit="share",
        seeds=3,
    )
    counts = (1, 2, 5, 10, 20)
    lab.figure(
        "shots",
        figures.lines(
            Text("New labels: accuracy by number of examples", "新类的准确率与样本数"),
            Text("examples of each new label", "每个新类的样本数"),
            Text("accuracy", "准确率"),
            {
                "trunk": [(float(n), accuracy("trunk", lab.seed, n)) for n in counts],
                "afresh": [(float(n), accuracy("afresh", lab.seed, n)) for n in counts],
                "counted": [(float(n), source.counted(n)) for n in counts],
            },
            {
                "trunk": Text("means on a trained trunk", "训练好的主干＋均值"),
                "afresh": Text("trained on these alone", "只用这些训练"),
                "counted": Text("naive Bayes on words", "词计数的朴素贝叶斯"),
            },
            x_scale="log",
        ),
    )
