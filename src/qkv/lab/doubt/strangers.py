"""Texts out of scope seen by a trained classifier (A31): no score is best for all kinds of strangers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from qkv.data.batch import Batch
from qkv.lab import figures, small
from qkv.lab.checks import above, higher
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.tasks.scope_metrics import auroc, fpr_at_recall
from qkv.tasks.scope_scores import Energy, Features, Mahalanobis, MaxProbability, Neighbours, ScoreConfig, WordMixture

INTENTS, OWN, FILLERS, NEW = 6, 4, 12, 12
"""Intents with so many words of their own, 0-23; words of none, 24-35; words that no training text has, 36-47."""
FILLER, STRANGE, CLASS = INTENTS * OWN, INTENTS * OWN + FILLERS, INTENTS * OWN + FILLERS + NEW
SCORES: dict[str, ScoreConfig] = {
    "confidence": MaxProbability(),
    "energy": Energy(),
    "mahalanobis": Mahalanobis(),
    "neighbours": Neighbours(10),
    "words": WordMixture(),
}
NAMES = {
    "confidence": Text("confidence", "置信度"),
    "energy": Text("energy", "能量"),
    "mahalanobis": Text("Mahalanobis", "马氏距离"),
    "neighbours": Text("neighbours", "近邻"),
    "words": Text("word mixture", "词的混合"),
}


@dataclass(frozen=True)
class Requests:
    """length: words of a request, two of which state its intent. texts: for training. tested: of each kind. steps:
    updates."""

    length: Annotated[int, within(3, 32)] = 7
    texts: Annotated[int, within(60, 2000)] = 400
    tested: Annotated[int, within(100, 5000)] = 500
    steps: Annotated[int, within(10, 500)] = 80


def words_of(intent: Tensor, generator: torch.Generator) -> Tensor:
    """A word of each intent [B], of its own."""
    return OWN * intent + torch.randint(0, OWN, intent.shape, generator=generator)


def requests(params: Requests, kind: str, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Requests [B,T] and the intents [B] of their first word.

    kind "known": two words of one intent. "new": two words that training never showed. "two": words of two different
    intents, each known. "none": words of no intent only."""
    intent = torch.randint(0, INTENTS, (rows,), generator=generator)
    other = (intent + torch.randint(1, INTENTS, (rows,), generator=generator)) % INTENTS
    ids = FILLER + torch.randint(0, FILLERS, (rows, params.length), generator=generator)
    if kind == "new":
        ids[:, :2] = STRANGE + torch.randint(0, NEW, (rows, 2), generator=generator)
    elif kind != "none":
        second = other if kind == "two" else intent
        ids[:, 0], ids[:, 1] = words_of(intent, generator), words_of(second, generator)
    order = torch.rand(ids.shape, generator=generator).argsort(1)
    return ids.gather(1, order), intent


def asking(ids: Tensor, intent: Tensor) -> Batch:
    """Requests and, after them, the token that asks for the intent."""
    return small.at_last(torch.cat([ids, torch.full((len(ids), 1), CLASS)], 1), intent)


@torch.no_grad()
def features(model: nn.Module, ids: Tensor) -> Features:
    """What the model makes of requests [B,T]."""
    batch = asking(ids, torch.zeros(len(ids), dtype=torch.long))
    vectors = model.encoder(batch.ids, batch.tokens)[:, -1]  # type: ignore[operator]
    logits = model.head(vectors)[:, :INTENTS]  # type: ignore[operator]
    return Features(logits.double(), vectors.double(), ids.tolist())


class Classifiers:
    """A classifier a seed, trained once, and the scores of requests of each kind."""

    def __init__(self, lab: Lab, params: Requests):
        self.lab, self.params = lab, params
        self.trained: dict[int, nn.Module] = {}

    def model(self, seed: int) -> nn.Module:
        """Trained on known requests."""
        if seed not in self.trained:
            every = asking(*self.known(seed))
            torch.manual_seed(seed)
            model = small.encoder(CLASS + 1, d_model=32, n_layers=1)
            self.trained[seed] = self.lab.train(model, lambda _: every, self.params.steps, seed=seed)
        return self.trained[seed]

    def known(self, seed: int) -> tuple[Tensor, Tensor]:
        """The training requests and their intents."""
        return requests(self.params, "known", self.params.texts, torch.Generator().manual_seed(100 + seed))

    def sampled(self, kind: str, seed: int, part: int = 0) -> Features:
        """New requests of a kind, as the classifier sees them."""
        generator = torch.Generator().manual_seed(1000 + 10 * seed + part)
        return features(self.model(seed), requests(self.params, kind, self.params.tested, generator)[0])

    def scores(self, score: ScoreConfig, kind: str, seed: int) -> tuple[Tensor, Tensor]:
        """Of known requests and of those of the kind."""
        ids, intents = self.known(seed)
        state = score.fit(features(self.model(seed), ids), intents)
        return score.score(state, self.sampled("known", seed)), score.score(state, self.sampled(kind, seed, 1))

    def measured(self, measure: Callable, score: ScoreConfig, kind: str, seed: int) -> float:
        """A measure of how well a score tells the kind from known requests."""
        return measure(*(scores.numpy() for scores in self.scores(score, kind, seed)))


def gap(seen: Features) -> Tensor:
    """The best logit minus the second, [N]."""
    best = seen.logits.topk(2).values
    return best[:, 0] - best[:, 1]


@experiment(long=True)
def scope_scores(lab: Lab, params: Requests) -> None:
    """A model of the words sees new words; which score is best depends on the kind of stranger."""
    classifiers = Classifiers(lab, params)
    lab.claim(
        "vocabulary",
        Text("A generative model of the words tells requests with new words.", "词的生成模型能认出含生词的请求。"),
        measure=lambda kind, seed: classifiers.measured(auroc, WordMixture(), kind, seed),
        arm="new",
        control="known",
        without=Text("requests of the known kind in their place", "换成同类的已知请求"),
        holds=above(0.9),
        seeds=3,
    )

    def unclear(kind: str, seed: int) -> float:
        return auroc(gap(classifiers.sampled("known", seed)).numpy(), gap(classifiers.sampled(kind, seed, 1)).numpy())

    lab.claim(
        "margin",
        Text(
            "A small gap between the two best logits tells requests of two intents.",
            "前两名 logit 差距小，能认出含两个意图的请求。",
        ),
        measure=unclear,
        arm="two",
        control="known",
        without=Text("requests of one intent in their place", "换成单一意图的请求"),
        holds=higher(),
        seeds=3,
    )
    ranked = {}
    for kind in ("new", "none", "two"):
        for name, score in SCORES.items():
            ranked[kind, name] = lab.number(f"{name}_{kind}", classifiers.measured(auroc, score, kind, lab.seed))
            lab.number(f"{name}_{kind}_let_in", classifiers.measured(fpr_at_recall, score, kind, lab.seed), "share")
    model, (ids, intents) = classifiers.model(lab.seed), requests(params, "known", params.tested, lab.generator(5))
    lab.number("accuracy", small.accuracy(model, asking(ids, intents)), "share")
    new = features(model, requests(params, "new", params.tested, lab.generator(6))[0])
    lab.number("sure_of_new", new.logits.softmax(-1).amax(-1).median(), "share")
    kinds = {
        "new": Text("new words", "生词"),
        "none": Text("no intent", "没有意图"),
        "two": Text("two intents", "两个意图"),
    }
    cells = [[ranked[kind, name] for kind in kinds] for name in SCORES]
    _figure(lab, kinds, cells)


def _figure(lab: Lab, kinds: dict[str, Text], cells: list[list[float]]) -> None:
    points = {name: [(float(i), value) for i, value in enumerate(row)] for name, row in zip(SCORES, cells, strict=True)}
    order = {language: ", ".join(text.of(language) for text in kinds.values()) for language in ("en", "zh")}
    x = Text(f"kind of stranger: {order['en']}", f"陌生样本的种类：{order['zh']}")
    title = Text("Which score tells which stranger", "哪种分数认得出哪种陌生样本")
    lab.figure("auroc", figures.lines(title, x, Text("AUROC", "AUROC"), points, NAMES))
