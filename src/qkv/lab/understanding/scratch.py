"""Intents by an encoder trained from scratch or pretrained on unlabelled requests: when pretraining pays (A35)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated

import torch
from torch import Tensor, nn

from qkv.data.batch import IGNORE, Batch
from qkv.lab import figures, small
from qkv.lab.checks import above
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import Choice, EncoderOnly, EncoderOnlyConfig, HeadConfig, Reader, bert
from qkv.probe.cost import operations, parameters
from qkv.training.objectives import OutputLosses

INTENT = "intent"


@dataclass(frozen=True)
class Shots:
    """intents: there are. words: that speak for each. fillers: words that say nothing. length: of a request. few, many:
    labelled requests of an intent. pretraining, steps: updates without and with labels. rows: to test on."""

    intents: Annotated[int, within(2, 20)] = 6
    words: Annotated[int, within(4, 100)] = 40
    fillers: Annotated[int, within(4, 200)] = 40
    length: Annotated[int, within(3, 20)] = 8
    few: Annotated[int, within(1, 50)] = 2
    many: Annotated[int, within(10, 2000)] = 300
    pretraining: Annotated[int, within(20, 5000)] = 400
    steps: Annotated[int, within(20, 1000)] = 120
    rows: Annotated[int, within(50, 2000)] = 600

    @property
    def vocabulary(self) -> int:
        """Words, and the mask at the end."""
        return self.intents * self.words + self.fillers + 1


def requests(params: Shots, intents: Tensor, generator: torch.Generator) -> Tensor:
    """Requests [B,T] for intents [B]: half of the words speak for the intent, half say nothing."""
    shape = (len(intents), params.length)
    telling = intents.unsqueeze(1) * params.words + torch.randint(params.words, shape, generator=generator)
    other = params.intents * params.words + torch.randint(params.fillers, shape, generator=generator)
    return torch.where(torch.rand(shape, generator=generator) < 0.5, telling, other)


def of_each(params: Shots, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`count` requests of every intent, and the intents."""
    intents = torch.arange(params.intents).repeat_interleave(count)
    return requests(params, intents, generator), intents


class Pretraining:
    """Encoders that filled masks in requests without labels, or in the same words with their company shuffled."""

    def __init__(self, lab: Lab, params: Shots):
        self.lab, self.params = lab, params
        self.encoder = cache(self._encoder)
        self.accuracy = cache(self._accuracy)
        intents = torch.randint(params.intents, (params.rows,), generator=lab.generator(1))
        self.test = requests(params, intents, lab.generator(2)), intents

    def config(self) -> EncoderOnlyConfig:
        return EncoderOnlyConfig(small.stack(self.params.vocabulary, n_layers=1, d_ff=64), HeadConfig(tied=False))

    def _encoder(self, shuffled: bool, seed: int) -> dict[str, Tensor]:
        """Pretrained weights."""
        params = self.params
        torch.manual_seed(seed)
        model = EncoderOnly(self.config())

        def make(generator: torch.Generator) -> Batch:
            ids = requests(params, torch.randint(params.intents, (64,), generator=generator), generator)
            if shuffled:
                ids = ids.flatten()[torch.randperm(ids.numel(), generator=generator)].view_as(ids)
            hidden = torch.rand(ids.shape, generator=generator) < 0.25
            return small.labelled(ids.masked_fill(hidden, params.vocabulary - 1), ids.where(hidden, IGNORE))

        self.lab.train(model, make, params.pretraining, seed=seed, learning_rate=5e-3)
        return model.state_dict()

    def _accuracy(self, start: str, shots: int, seed: int) -> float:
        """Of intents, after learning from `shots` labelled requests each. start: fresh, pretrained or shuffled."""
        torch.manual_seed(1000 + seed)
        params = self.params
        outputs = {INTENT: Choice(dropout=0.0)}
        model = Reader(self.config(), outputs, {INTENT: [1] * params.intents})
        if start != "fresh":
            model.load_state_dict(self.encoder(start == "shuffled", seed), strict=False)
        ids, intents = of_each(params, shots, self.lab.generator(100 + seed))

        def make(generator: torch.Generator) -> Batch:
            rows = torch.randint(len(ids), (min(48, len(ids)),), generator=generator)
            batch = small.labelled(ids[rows], ids[rows])
            batch.extra[INTENT] = intents[rows]
            return batch

        self.lab.train(model, make, params.steps, seed=seed, loss=OutputLosses(outputs), learning_rate=3e-3)
        return self._share(model)

    @torch.no_grad()
    def _share(self, model: nn.Module) -> float:
        ids, intents = self.test
        batch = small.labelled(ids, ids)
        return float((model(batch.ids, batch.tokens)[INTENT].argmax(-1) == intents).float().mean())

    def linear(self, shots: int, seed: int) -> float:
        """TF-IDF and logistic regression, by scikit-learn, on the same labelled requests."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        ids, intents = of_each(self.params, shots, self.lab.generator(100 + seed))
        model = make_pipeline(TfidfVectorizer(token_pattern=r"\d+"), LogisticRegression(C=10.0, max_iter=300))
        model.fit([" ".join(map(str, row)) for row in ids.tolist()], intents.tolist())
        test, right = self.test
        return float(model.score([" ".join(map(str, row)) for row in test.tolist()], right.tolist()))


@experiment(long=True)
def few_labels(lab: Lab, params: Shots) -> None:
    """Pretraining on unlabelled requests decides the intent where labels are few, and hardly matters where they are
    many."""
    made = Pretraining(lab, params)
    lab.number("few_shots", params.few)

    def gain(start: str, shots: int, seed: int) -> float:
        return made.accuracy(start, shots, seed) - made.accuracy("fresh", shots, seed)

    lab.claim(
        "few",
        Text(
            "With few labelled requests an intent, the pretrained encoder is far ahead; with many, it is not.",
            "每个意图只有几条标注时，预训练的编码器遥遥领先；标注很多时则不然。",
        ),
        measure=lambda shots, seed: gain("pretrained", shots, seed),
        arm=params.few,
        control=params.many,
        without=Text("many labelled requests", "标注很多"),
        holds=above(0.1),
        unit="accuracy",
        seeds=3,
    )
    lab.claim(
        "company",
        Text(
            "What it brings is which words keep company: pretrained on the same words shuffled, it gains little.",
            "它带来的是“哪些词常在一起”：同样的词打乱后再预训练，几乎没有好处。",
        ),
        measure=lambda start, seed: gain(start, params.few, seed),
        arm="pretrained",
        control="shuffled",
        without=Text("words shuffled over all requests", "词在所有请求之间打乱"),
        holds=above(0.1),
        unit="accuracy",
        seeds=3,
    )
    points = sorted({params.few, 10, 50, params.many})
    curves = {
        start: [(float(k), made.accuracy(start, k, lab.seed)) for k in points] for start in ("fresh", "pretrained")
    }
    curves["linear"] = [(float(k), made.linear(k, lab.seed)) for k in points]
    for name, curve in curves.items():
        lab.number(f"{name}_few", curve[0][1], "accuracy")
        lab.number(f"{name}_many", curve[-1][1], "accuracy")
    lab.figure(
        "curve",
        figures.lines(
            Text("Accuracy of intents by labelled requests", "意图准确率与标注条数"),
            Text("labelled requests of an intent", "每个意图的标注条数"),
            Text("accuracy", "准确率"),
            curves,
            {
                "fresh": Text("from scratch", "从零训练"),
                "pretrained": Text("pretrained", "预训练"),
                "linear": Text("TF-IDF + logistic regression", "TF-IDF + 逻辑回归"),
            },
            x_scale="log",
        ),
    )
    _sizes(lab)


def _sizes(lab: Lab) -> None:
    """The price: an encoder of the size of BERT base beside one of the size of our recipes, 16 tokens read."""
    large, little = bert(vocab_size=30522).stack, small.stack(8000, d_model=128, n_layers=2, d_ff=256)
    lab.number("parameters", parameters(large) / parameters(little), "times")
    lab.number("operations", operations(large, 16).total / operations(little, 16).total, "times")
