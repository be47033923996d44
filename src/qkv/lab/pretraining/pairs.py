"""What a pair of segments gives away: next sentence by topic, order by nothing but order (A47, A54)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from qkv.data.pretraining import NextSentence, PairExamples, SentenceOrder
from qkv.lab import figures
from qkv.lab.checks import above, below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within

CLS, SEP, FIRST = 0, 1, 2  # special tokens; the first word


@dataclass(frozen=True)
class Documents:
    """documents, sentences, words: how many of each in the next. vocabulary: words there are. spread: of a topic; a
    small one keeps a document to few words."""

    documents: Annotated[int, within(4, 400)] = 80
    sentences: Annotated[int, within(4, 60)] = 16
    words: Annotated[int, within(4, 40)] = 8
    vocabulary: Annotated[int, within(20, 2000)] = 300
    spread: Annotated[float, within(0.005, 10)] = 0.05


def written(params: Documents, own_topics: bool, random: np.random.Generator) -> list[list[list[int]]]:
    """Documents of sentences of words, all drawn independently from the document's topic (or from one that all share):
    the order of its sentences says nothing."""
    weights = np.full(params.vocabulary, params.spread)
    topics = random.dirichlet(weights, size=params.documents if own_topics else 1)
    chosen = [topics[d % len(topics)] for d in range(params.documents)]
    size = (params.sentences, params.words)
    return [(FIRST + random.choice(params.vocabulary, size=size, p=topic)).tolist() for topic in chosen]


def drawn(
    texts: list[list[list[int]]], kind: NextSentence | SentenceOrder, length: int, seed: int
) -> list[tuple[list[int], list[int], int]]:
    """The pairs that the toolkit makes of the texts: first, second, label."""
    examples = PairExamples(texts, kind, length, CLS, SEP)
    found = []
    for row in range(len(examples)):
        example = examples.example(row, np.random.default_rng((seed, row)))
        assert example.second is not None and example.label is not None
        ids = example.ids.tolist()
        found.append((ids[1 : example.second - 1], ids[example.second : -1], example.label))
    return found


def overlap(first: list[int], second: list[int]) -> float:
    """Words that both segments have, over words that either has: the same for (a, b) and (b, a)."""
    a, b = set(first), set(second)
    return len(a & b) / len(a | b)


def threshold(pairs: list[tuple[list[int], list[int], int]]) -> float:
    """Accuracy, on the second half, of the best rule `overlap above a threshold: label 0` (or 1) of the first half."""
    scores = np.array([overlap(a, b) for a, b, _ in pairs])
    labels = np.array([label for *_, label in pairs])
    half = len(pairs) // 2
    rules = [(t, flip) for t in np.unique(scores[:half]) for flip in (0, 1)]

    def accuracy(rule: tuple[float, int], part: slice) -> float:
        return float((((scores[part] < rule[0]) ^ rule[1]) == labels[part]).mean())

    best = max(rules, key=lambda rule: accuracy(rule, slice(half)))
    return accuracy(best, slice(half, None))


@experiment()
def pair_shortcuts(lab: Lab, params: Documents) -> None:
    """Whether a segment is the next one shows in shared words alone; in which order two stand does not."""
    length = 2 * 2 * params.words + 3  # two sentences a segment
    random = np.random.default_rng(lab.seed)
    topical, alike = (written(params, own, random) for own in (True, False))

    def rule(case: tuple[list[list[list[int]]], NextSentence | SentenceOrder]) -> float:
        return threshold(drawn(*case, length, lab.seed))

    lab.claim(
        "topic",
        Text(
            "Counting shared words tells the next segment from one of another document, in texts without any order.",
            "文本内部毫无次序可言，只数共同的词，就能分辨“下一段”和“别的文档的一段”。",
        ),
        measure=rule,
        arm=(topical, NextSentence()),
        control=(topical, SentenceOrder()),
        without=Text("both segments of one document, in order or swapped", "两段取自同一文档，只是可能对调"),
        holds=above(0.8),
    )
    lab.claim(
        "hard_negatives",
        Text(
            "Where all documents share one topic, the shortcut is gone.",
            "所有文档同一主题时，这条捷径就没有了。",
        ),
        measure=rule,
        arm=(alike, NextSentence()),
        control=(topical, NextSentence()),
        without=Text("negatives of other topics", "反例来自别的主题"),
        holds=below(0.6),
    )
    pairs = drawn(topical, NextSentence(), length, lab.seed)
    for name, wanted in (("next", 0), ("other", 1)):
        lab.number(f"overlap_{name}", float(np.mean([overlap(a, b) for a, b, label in pairs if label == wanted])))
    lab.figure(
        "accuracy",
        figures.bars(
            Text("Accuracy of counting shared words", "只数共同词的准确率"),
            Text("accuracy", "准确率"),
            {
                "next": rule((topical, NextSentence())),
                "one": rule((alike, NextSentence())),
                "order": rule((topical, SentenceOrder())),
            },
            {
                "next": Text("next sentence", "下一句"),
                "one": Text("next, one topic", "下一句，同主题"),
                "order": Text("order", "句序"),
            },
        ),
    )
