"""One set of weights and three questions about real requests (B28): a token says which of them is asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Annotated

import torch
from torch import nn

from qkv.baselines.tfidf import Features, learn
from qkv.data.batch import Batch
from qkv.data.labelled import Tagged
from qkv.data.splits import Split
from qkv.data.tagged_corpora import Atis
from qkv.lab import figures, small
from qkv.lab.checks import above
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import Rotary
from qkv.tasks.schemes import entities
from qkv.training.schedules import Cosine

QUESTIONS = {
    "origin": Text("where from", "从哪里出发"),
    "destination": Text("where to", "到哪里去"),
    "intent": Text("what is wanted", "想做什么"),
}
SLOTS = ("fromloc.city_name", "toloc.city_name")


@dataclass(frozen=True)
class Flights:
    """steps: updates. rows: requests a batch. d_model: width."""

    steps: Annotated[int, within(20, 2000)] = 800
    rows: Annotated[int, within(8, 256)] = 64
    d_model: Annotated[int, within(16, 128)] = 32


def answers(row: Tagged) -> tuple[str, ...] | None:
    """City of departure, city of arrival and intent of a request that names one of either; of others None."""
    found = [[e for e in entities(row.tags, "bio") if e.kind == slot] for slot in SLOTS]
    if row.intent is None or any(len(cities) != 1 for cities in found):
        return None
    return *(" ".join(row.words[city.start : city.end]) for (city,) in found), row.intent


class Requests:
    """Requests to an airline (ATIS) and what each of the three questions has for an answer. Token ids: the questions,
    the answers that training has, then words."""

    def __init__(self) -> None:
        self.train, self.test = self._read("train"), self._read("test")
        known = sorted({answer for _, right in self.train for answer in right})
        often = Counter(word for row, _ in self.train for word in row.words)
        words = sorted(word for word, n in often.items() if n > 1)  # a word that occurs once is as good as unknown
        self.answers = {answer: i for i, answer in enumerate(known, len(QUESTIONS))}
        self.unknown = len(QUESTIONS) + len(known)  # a word that training has not, or an answer
        self.words = {word: i for i, word in enumerate(words, self.unknown + 1)}
        self.vocab_size = self.unknown + 1 + len(words)

    def _read(self, split: Split) -> list[tuple[Tagged, tuple[str, ...]]]:
        return [(row, right) for row in Atis().load(split) if (right := answers(row)) is not None]

    def batch(self, rows: list[tuple[Tagged, tuple[str, ...]]], asked: list[int], told: list[int]) -> Batch:
        """asked: which question's answer is right for each row. told: which question stands before it."""
        return small.asked_first(
            [[self.words.get(word, self.unknown) for word in row.words] for row, _ in rows],
            told,
            [self.answers.get(right[q], self.unknown) for (_, right), q in zip(rows, asked, strict=True)],
        )

    def linear(self, question: int, words: int) -> float:
        """Accuracy of counted runs of up to so many words with logistic regression, its strength chosen on a tenth of
        the training requests."""
        cut = len(self.train) // 10
        texts, right = (
            [*part] for part in zip(*((" ".join(r.words), a[question]) for r, a in self.train), strict=True)
        )
        model = learn(texts[cut:], right[cut:], texts[:cut], right[:cut], (Features(words=words),), (3.0, 30.0))
        return model.accuracy([" ".join(row.words) for row, _ in self.test], [a[question] for _, a in self.test])


@experiment(long=True, data=("atis",))
def flight_questions(lab: Lab, params: Flights) -> None:
    """On real requests too, a token chooses what the same weights read: the origin, the destination or the intent."""
    requests, three = Requests(), range(len(QUESTIONS))

    @cache
    def reader(seed: int) -> nn.Module:
        def make(generator: torch.Generator) -> Batch:
            chosen = torch.randint(len(requests.train), (params.rows,), generator=generator).tolist()
            asked = torch.randint(len(QUESTIONS), (params.rows,), generator=generator).tolist()
            return requests.batch([requests.train[i] for i in chosen], asked, asked)

        model = small.encoder(requests.vocab_size, d_model=params.d_model, n_heads=4, position=Rotary())
        return lab.train(model, make, params.steps, seed=seed, learning_rate=5e-3, schedule=Cosine(warmup=50))

    def accuracy(question: int, turn: int, seed: int) -> float:
        """On the test requests. turn: by how many questions the token is off."""
        n = len(requests.test)
        told = (question + turn) % len(QUESTIONS)
        return small.accuracy(reader(seed), requests.batch(requests.test, [question] * n, [told] * n))

    lab.claim(
        "three_questions",
        Text(
            "One set of weights answers three questions about the same requests, told by one token.",
            "同一组权重，对同一批请求回答三个问题，由一个词元指定。",
        ),
        measure=lambda turn, seed: fmean(accuracy(question, turn, seed) for question in three),
        arm=0,
        control=1,
        without=Text(
            "the same weights and requests, the token of another question", "权重和请求不变，换成另一问题的词元"
        ),
        holds=above(0.85),
        unit="share",
        seeds=3,
    )
    lab.number("requests", len(requests.train))
    lab.number("tested", len(requests.test))
    heights = {}
    for question, name in enumerate(QUESTIONS):
        heights[name] = lab.spread(name, [accuracy(question, 0, seed) for seed in lab.seeds()], "share")
    for name, words in (("bag", 1), ("pairs", 2)):
        lab.number(f"cities_{name}", fmean(requests.linear(question, words) for question in (0, 1)), "share")
    lab.number("intent_bag", requests.linear(2, 1), "share")
    title = Text("Real requests, asked by token", "真实请求，由词元提问")
    lab.figure("questions", figures.bars(title, Text("accuracy", "准确率"), heights, QUESTIONS))
