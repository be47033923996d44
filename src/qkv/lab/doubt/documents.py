"""Topics beside a Transformer (A41): what a document is about as a whole, and what its beginning says in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from qkv.baselines.gibbs import Sampler
from qkv.data.buckets import BucketConfig
from qkv.data.readings import Reading, Readings
from qkv.lab import figures, small
from qkv.lab.checks import above
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import Choice, EncoderOnlyConfig, Reader
from qkv.models.fusion import TOPICS, Concatenation, Fusion, Gate, TopicToken
from qkv.text.topics import Topics
from qkv.training.objectives import OutputLosses


@dataclass(frozen=True)
class Mixtures:
    """texts, length: of the corpus. n_topics: topics, each with `words` words of its own. spread: of the Dirichlet that
    a text's proportions are drawn from. sweeps: of the sampler."""

    texts: Annotated[int, within(20, 500)] = 80
    length: Annotated[int, within(5, 100)] = 30
    n_topics: Annotated[int, within(2, 6)] = 3
    words: Annotated[int, within(2, 50)] = 8
    spread: Annotated[float, within(0.05, 5)] = 0.2
    sweeps: Annotated[int, within(1, 200)] = 30


@experiment(long=True)
def topic_recovery(lab: Lab, params: Mixtures) -> None:
    """Gibbs sampling recovers known topics from which words stand together, and from nothing else."""
    n_words = params.n_topics * params.words
    true = np.zeros((params.n_topics, n_words))
    for k in range(params.n_topics):
        true[k, k * params.words : (k + 1) * params.words] = 1 / params.words

    def corpus(seed: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng((seed, 41))
        theta = random.dirichlet([params.spread] * params.n_topics, params.texts)
        topic = np.array([random.choice(params.n_topics, params.length, p=row) for row in theta])
        return params.words * topic + random.integers(params.words, size=topic.shape), theta

    def recovered(together: bool, seed: int) -> float:
        """The least cosine between a true topic and the one matched with it."""
        texts, _ = corpus(seed)
        if not together:
            texts = np.random.default_rng(seed).permuted(texts.ravel()).reshape(texts.shape)
        found = Sampler(texts.tolist(), params.n_topics, n_words, params.spread, 0.1, seed).sweep(params.sweeps).words
        lengths = np.linalg.norm(true, axis=1)[:, None] * np.linalg.norm(found, axis=1)[None]
        cosine = true @ found.T / lengths
        matched = (min(cosine[k, p[k]] for k in range(params.n_topics)) for p in permutations(range(params.n_topics)))
        return float(max(matched))

    lab.claim(
        "recovered",
        Text("Every known topic is found again (cosine above 0.9).", "每个已知主题都被找回（余弦大于 0.9）。"),
        measure=recovered,
        arm=True,
        control=False,
        without=Text("the same words dealt to the texts at random", "同样的词随机分给各文本"),
        holds=above(0.9),
        seeds=3,
    )


@dataclass(frozen=True)
class Documents:
    """length: words of a document after its first two. window: tokens that the encoder reads. own: chance that a word
    is of the document's own topic. documents: a pool for training. tested: new documents. steps, rows: updates,
    documents in each."""

    length: Annotated[int, within(20, 200)] = 80
    window: Annotated[int, within(3, 64)] = 8
    own: Annotated[float, within(0.5, 1)] = 0.65
    documents: Annotated[int, within(100, 5000)] = 1500
    tested: Annotated[int, within(100, 5000)] = 500
    steps: Annotated[int, within(10, 500)] = 120
    rows: Annotated[int, within(4, 256)] = 48


WORDS, N_WORDS, PADDING = 10, 22, 22
"""Ten words of each of two topics, 0-19; 20 and 21 open every document, in either order. 22 is padding."""
LABELS = 4


class Library:
    """Documents whose label is topic x order: 2·topic + (whether 21 comes before 20)."""

    def __init__(self, params: Documents, rows: int, seed: int):
        generator = torch.Generator().manual_seed(seed)
        topic, order = (torch.randint(0, 2, (rows,), generator=generator) for _ in range(2))
        own = torch.rand(rows, params.length, generator=generator) < params.own
        word = torch.randint(0, WORDS, own.shape, generator=generator)
        words = WORDS * (topic[:, None] ^ (~own).long()) + word
        self.ids = torch.cat([20 + order[:, None], 21 - order[:, None], words], 1)
        self.labels = 2 * topic + order
        self.theta = known_topics(params.own).infer(self.ids.tolist())

    def source(self, window: int, told: Tensor) -> Readings:
        """The documents as an encoder reads them that stops after `window` tokens, `told` [N,K] of each."""
        readings = [
            Reading(ids[:window], extra={"label": label}, given={TOPICS: given})
            for ids, label, given in zip(self.ids.tolist(), self.labels.tolist(), told.tolist(), strict=True)
        ]
        return Readings(readings, BucketConfig(), None, PADDING)


def known_topics(own: float) -> Topics:
    """The two topics as they are: a word's share of either is 1/10 or 0; the prior is that of a clear mixture."""
    true = torch.full((2, 2 * WORDS), 1e-3, dtype=torch.float64)
    true[0, :WORDS] = true[1, WORDS:] = 1.0
    return Topics(torch.arange(2 * WORDS), 1000 * true, prior=own)


@dataclass(frozen=True)
class Arm:
    """window: tokens read. fusion: how topics enter (None: not at all). theta: "own" or that of "other" documents."""

    window: int
    fusion: Fusion | None
    theta: str = "own"


class Trainer:
    """Trains an arm of a seed once and says how accurate it is on new documents."""

    def __init__(self, lab: Lab, params: Documents):
        self.lab, self.params = lab, params
        self.done: dict[tuple[Arm, int], float] = {}

    def accuracy(self, arm: Arm, seed: int) -> float:
        """Share of new documents whose label is found."""
        if (arm, seed) not in self.done:
            self.done[arm, seed] = self._train(arm, seed)
        return self.done[arm, seed]

    def _train(self, arm: Arm, seed: int) -> float:
        params = self.params
        pool, new = (Library(params, n, 2 * seed + i) for i, n in enumerate((params.documents, params.tested)))
        topics = known_topics(params.own).standardised(pool.ids.tolist())
        told = [topics.vectors(library.ids.tolist()) for library in (pool, new)]
        told = [each if arm.theta == "own" else each.roll(1, 0) for each in told]
        sources = [library.source(arm.window, each) for library, each in zip((pool, new), told, strict=True)]
        torch.manual_seed(seed)
        choice = Choice(dropout=0.0)
        entry: Any = choice if arm.fusion is None else arm.fusion.output(choice, 2)
        config = EncoderOnlyConfig(small.stack(N_WORDS + 1, d_model=32, n_layers=1))
        model = Reader(config, {"label": entry}, {"label": [1] * LABELS})
        if arm.fusion is not None:
            arm.fusion.stem(model, 2)

        def batch(generator: torch.Generator) -> Any:
            return sources[0].load(torch.randint(0, params.documents, (params.rows,), generator=generator).tolist())

        loss = OutputLosses({"label": entry})
        self.lab.train(model, batch, params.steps, seed=seed, learning_rate=5e-3, loss=loss)
        with torch.no_grad():
            every = sources[1].load(list(range(params.tested)))
            scores = model(every.ids, every.tokens)["label"]
        return float((scores.argmax(-1) == every.extra["label"]).double().mean())


@experiment(long=True)
def topic_fusion(lab: Lab, params: Documents) -> None:
    """Topics help an encoder exactly where it does not read the whole document."""
    trainer = Trainer(lab, params)
    whole = params.length + 2
    lab.claim(
        "fused",
        Text("Window and topics together find topic and order.", "窗口加主题，既知主题又知次序。"),
        measure=trainer.accuracy,
        arm=Arm(params.window, Concatenation()),
        control=Arm(params.window, Concatenation(), "other"),
        without=Text("topics of another document", "换成别的文档的主题"),
        holds=above(0.9),
        unit="share",
        seeds=3,
    )

    def gain(window: int, seed: int) -> float:
        told, alone = (Arm(window, fusion) for fusion in (Concatenation(), None))
        return trainer.accuracy(told, seed) - trainer.accuracy(alone, seed)

    lab.claim(
        "gain",
        Text("With a short window the topics add a tenth or more.", "窗口短时，主题使准确率提高一成以上。"),
        measure=gain,
        arm=params.window,
        control=whole,
        without=Text("a window that holds the whole document", "窗口容得下整篇文档"),
        holds=above(0.1),
        unit="share",
        seeds=3,
    )
    numbers = {
        "window": trainer.accuracy(Arm(params.window, None), lab.seed),
        "topics": _topics_alone(params, lab.seed),
        "fused": trainer.accuracy(Arm(params.window, Concatenation()), lab.seed),
        "gate": trainer.accuracy(Arm(params.window, Gate()), lab.seed),
        "token": trainer.accuracy(Arm(params.window, TopicToken()), lab.seed),
        "whole": trainer.accuracy(Arm(whole, None), lab.seed),
    }
    for name in ("window", "topics", "gate", "token", "whole"):
        lab.number(f"{name}_alone" if name in ("window", "topics", "whole") else name, numbers[name], "share")
    _figure(lab, numbers)


def _topics_alone(params: Documents, seed: int) -> float:
    """The best that the likelier topic allows without the order: the topic is right, the order is guessed."""
    library = Library(params, params.tested, 2 * seed + 1)
    right = library.theta.argmax(1) == library.labels // 2
    return float(right.double().mean()) / 2


def _figure(lab: Lab, heights: Mapping[str, float]) -> None:
    names = {
        "window": Text("window", "窗口"),
        "topics": Text("topics", "主题"),
        "fused": Text("concatenated", "拼接"),
        "gate": Text("gated", "门控"),
        "token": Text("topic token", "主题标记"),
        "whole": Text("whole text", "全文"),
    }
    title = Text("Documents labelled by topic and order", "按主题与次序分类文档")
    lab.figure("accuracy", figures.bars(title, Text("accuracy", "准确率"), dict(heights), names))
