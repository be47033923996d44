"""Naive Bayes and a Transformer on few texts, where the assumption of naive Bayes is true (A86)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated

import torch
from torch import Tensor

from qkv.baselines.naive_bayes import NaiveBayes
from qkv.data.batch import Batch
from qkv.lab import figures, small
from qkv.lab.checks import lower
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within


@dataclass(frozen=True)
class Few:
    """n_words: the vocabulary. length: of a text. sharpness: standard deviation of the words' log-probabilities. few,
    many: training texts. draws: training sets of each size. steps: updates of the network. tested: texts."""

    n_words: Annotated[int, within(5, 100)] = 20
    length: Annotated[int, within(2, 32)] = 8
    sharpness: Annotated[float, within(0.1, 3)] = 0.6
    few: Annotated[int, within(4, 100)] = 16
    many: Annotated[int, within(100, 4000)] = 1024
    draws: Annotated[int, within(1, 40)] = 16
    steps: Annotated[int, within(10, 500)] = 60
    tested: Annotated[int, within(100, 5000)] = 1000


class Texts:
    """A naive Bayes source: training sets drawn from it, and how far below the source's own rule a classifier is."""

    def __init__(self, lab: Lab, params: Few):
        self.lab, self.params = lab, params
        scores = params.sharpness * torch.randn(2, params.n_words, generator=lab.generator(), dtype=torch.float64)
        self.source = NaiveBayes(torch.tensor([0.5, 0.5]).double().log(), scores.log_softmax(-1))
        self.ids, _ = self.source.sample(params.tested, params.length, lab.generator(1))
        self.truth = self.source.posterior(self.ids)

    def shortfall(self, chosen: Tensor) -> float:
        """Bayes' accuracy minus that of the chosen classes [B], both in expectation over the labels of the texts."""
        right = self.truth.gather(1, chosen[:, None])[:, 0]
        return float((self.truth.amax(1) - right).mean())

    def asking(self, ids: Tensor, labels: Tensor) -> Batch:
        return small.asking(ids, self.params.n_words, labels)

    def error(self, kind: str, n: int, draw: int, seed: int) -> float:
        """Shortfall of a classifier trained on the draw-th set of n texts, half of each class."""
        labels = torch.arange(n) % 2
        words = self.source.log_words.exp()[labels]
        ids = torch.multinomial(
            words, self.params.length, replacement=True, generator=self.lab.generator(100 * n + draw)
        )
        if kind == "naive":
            found = NaiveBayes.fit(ids, labels, self.params.n_words, 2)
            return self.shortfall(found.log_joint(self.ids).argmax(1))
        start = 1009 * seed + draw  # other weights for every training set, or one lucky start would count for all
        torch.manual_seed(start)
        model = small.encoder(self.params.n_words + 1, d_model=16, n_layers=1)
        batch = self.asking(ids, labels)
        self.lab.train(model, lambda _: batch, self.params.steps, seed=start, learning_rate=5e-3)
        said = small.logits(model, self.asking(self.ids, self.truth.argmax(1)))[:, -1, :2]
        return self.shortfall(said.argmax(1))


@experiment(long=True)
def small_samples(lab: Lab, params: Few) -> None:
    """On few texts from a source that meets its assumption naive Bayes is ahead of a Transformer; on many, hardly.

    All seeds see the same training sets and differ in initial weights."""
    texts = Texts(lab, params)
    lab.number("bayes", texts.truth.amax(1).mean(), "share")

    @cache
    def mean(kind: str, n: int, seed: int) -> float:
        draws = params.draws if n <= params.few else 1
        return sum(texts.error(kind, n, draw, seed) for draw in range(draws)) / draws

    lab.claim(
        "few_texts",
        Text(
            "With few texts naive Bayes falls less short of the best accuracy than a Transformer does.",
            "文本少时，朴素贝叶斯离最优准确率比 Transformer 更近。",
        ),
        measure=lambda kind, seed: mean(kind, params.few, seed),
        arm="naive",
        control="transformer",
        without=Text("a Transformer, which does not know that words are independent", "换成 Transformer，不知词间独立"),
        holds=lower(),
        unit="share",
        seeds=3,
    )
    sizes = sorted({params.few, 64, 256, params.many})
    curves = {kind: [(float(n), mean(kind, n, lab.seed)) for n in sizes] for kind in ("naive", "transformer")}
    lab.number("naive_many", curves["naive"][-1][1], "share")
    lab.number("transformer_many", curves["transformer"][-1][1], "share")
    lab.figure(
        "shortfall",
        figures.lines(
            Text("Accuracy that is missing to Bayes' rule", "与最优准确率的差距"),
            Text("training texts", "训练文本数"),
            Text("share", "比例"),
            curves,
            {"naive": Text("naive Bayes", "朴素贝叶斯"), "transformer": Text("Transformer", "Transformer")},
            x_scale="log",
        ),
    )
