"""Wrong labels (A38): a threshold for each label recovers the noise matrix; only held-out judgement lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from qkv.baselines.naive_bayes import NaiveBayes
from qkv.data.batch import Batch
from qkv.data.labelled import Labelled
from qkv.lab import figures, small
from qkv.lab.checks import above, below, close
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.tasks.audit import FitPredict, Joint, Said, confident_joint, in_sample, margins, out_of_fold, suspects

NOISE = np.array([[0.90, 0.05, 0.05], [0.05, 0.90, 0.05], [0.50, 0.10, 0.40]])
"""p(given | right), a row for each right label: of the last one more texts are given the first label than their own."""
NAMES = ("0", "1", "2")
OWN, FILLERS = 8, 16
"""Words of each label, and words of none: 0-7, 8-15, 16-23 and 24-39. 40 asks."""
CLASS = OWN * len(NAMES) + FILLERS


@dataclass(frozen=True)
class Matrix:
    """twenties: a label has twenty times as many texts, so that every share of NOISE is a whole number of them."""

    twenties: Annotated[int, within(1, 500)] = 5


@experiment()
def noise_matrix(lab: Lab, params: Matrix) -> None:
    """A threshold for each label recovers the noise matrix exactly from true probabilities; the likeliest does not."""
    number = np.rint(NOISE * 20 * params.twenties).astype(int)
    right = np.repeat(np.arange(3), number.sum(1))
    given = np.concatenate([np.repeat(np.arange(3), row) for row in number])
    told = NOISE[right]  # what a perfect classifier, trained on such labels, says of a text that it did not see
    lab.number("wrong", (given != right).mean(), "share")

    def likeliest(p: np.ndarray) -> np.ndarray:
        counts = np.zeros((3, 3))
        np.add.at(counts, (given, p.argmax(1)), 1)
        return counts / np.maximum(counts.sum(0), 1)

    def distance(thresholds: bool) -> float:
        found = confident_joint(told, given).noise if thresholds else likeliest(told)
        return float(np.abs(found - NOISE.T).max())

    def wrong(p: np.ndarray) -> float:
        return confident_joint(p, given).wrong / len(given)

    lab.claim(
        "recovered",
        Text("A threshold for each label recovers the noise matrix exactly.", "每个标签各设阈值，就精确恢复噪声矩阵。"),
        measure=distance,
        arm=True,
        control=False,
        without=Text("the likeliest label of each text in place of thresholds", "不设阈值，取每条文本概率最大的标签"),
        holds=below(1e-10),
    )
    lab.claim(
        "counted",
        Text("The share of wrong labels is the estimated one.", "错误标签的比例等于估计值。"),
        measure=wrong,
        arm=told,
        control=np.eye(3)[given],
        without=Text("a classifier that knows its training labels by heart", "分类器把训练标签背了下来"),
        holds=close(float((given != right).mean()), 1e-10),
        unit="share",
    )

    def listed(p: np.ndarray) -> float:
        return float(suspects(p, given, confident_joint(p, given))[given != right].mean())

    lab.claim(
        "listed",
        Text("Every wrong label is on the list to review.", "每个错误的标签都在复查名单上。"),
        measure=listed,
        arm=told,
        control=np.eye(3)[given],
        without=Text(
            "the same noise matrix, but the text decides, by a rule that the classifier has learned",
            "噪声矩阵不变，但标错与否由文本决定，而分类器学会了这条规则",
        ),
        holds=close(1.0, 1e-10),
        unit="share",
    )
    joint = confident_joint(told, given)
    lab.number("threshold_first", joint.thresholds[0], "share")
    lab.number("threshold_last", joint.thresholds[2], "share")
    _figure(lab, joint)


def _figure(lab: Lab, joint: Joint) -> None:
    title = Text("p(given | right) as recovered", "恢复出的 p(给定 | 真实)")
    axes = Text("given label", "给定的标签"), Text("right label", "真实的标签")
    lab.figure("noise", figures.heat(title, *axes, joint.noise.T.tolist(), Text("share", "比例")))


@dataclass(frozen=True)
class Corpus:
    """texts: in the corpus. length: words of a text. own: chance that a word is one of its label's. wrong: share of
    labels that are wrong. steps: updates of each network. folds: parts of the corpus."""

    texts: Annotated[int, within(60, 2000)] = 400
    length: Annotated[int, within(2, 32)] = 8
    own: Annotated[float, within(0.05, 1)] = 0.5
    wrong: Annotated[float, within(0.01, 0.5)] = 0.15
    steps: Annotated[int, within(10, 500)] = 150
    folds: Annotated[int, within(2, 10)] = 3


@dataclass(frozen=True)
class Labels:
    """rows: texts with the labels that they were given. right, given: numbers [N]."""

    rows: list[Labelled]
    right: np.ndarray
    given: np.ndarray

    @property
    def wrong(self) -> np.ndarray:
        """[N] bool."""
        return self.right != self.given

    def precision(self, p: np.ndarray) -> float:
        """Of as many of the most suspicious texts as there are wrong labels, the share that is wrong."""
        first = np.argsort(-margins(p, self.given), kind="stable")[: self.wrong.sum()]
        return float(self.wrong[first].mean())


def corpus(params: Corpus, seed: int, noise: str = "label") -> Labels:
    """Texts of three labels, of which some were given a wrong one.

    noise "label": any text, any other label. "vague": the texts with the fewest words of their own label. "word": every
    text of label 0 with the word 0 was given label 1. "shuffled": as many texts of label 0, drawn at random, were, so
    that the noise matrix is that of "word"."""
    random = np.random.default_rng((seed, 38))
    right = random.integers(3, size=params.texts)
    own = random.random((params.texts, params.length)) < params.own
    words = np.where(
        own,
        OWN * right[:, None] + random.integers(OWN, size=own.shape),
        3 * OWN + random.integers(FILLERS, size=own.shape),
    )
    given = right.copy()
    if noise in ("label", "vague"):
        order = np.argsort(own.sum(1), kind="stable") if noise == "vague" else random.permutation(params.texts)
        chosen = order[: round(params.wrong * params.texts)]
        given[chosen] = (right[chosen] + random.integers(1, 3, size=len(chosen))) % 3
    else:
        told = np.flatnonzero((words == 0).any(1))
        first = random.permutation(np.flatnonzero(right == 0))
        given[told if noise == "word" else first[: len(told)]] = 1
    rows = [Labelled(" ".join(map(str, text)), (NAMES[label],)) for text, label in zip(words, given, strict=True)]
    return Labels(rows, right, given)


def ids(rows: Sequence[Labelled]) -> tuple[Tensor, Tensor]:
    """Words [N,T] and labels [N]."""
    words = torch.tensor([[int(word) for word in row.text.split()] for row in rows])
    return words, torch.tensor([int(row.labels[0]) for row in rows])


def transformer(lab: Lab, steps: int, seed: int) -> FitPredict:
    """A small encoder, trained until it knows its rows by heart or nearly so."""

    def fit_predict(rows: Sequence[Labelled], held: Sequence[Labelled]) -> Said:
        def batch(part: Sequence[Labelled]) -> Batch:
            words, labels = ids(part)
            return small.at_last(torch.cat([words, torch.full((len(words), 1), CLASS)], 1), labels)

        torch.manual_seed(seed)
        every = batch(rows)
        model = lab.train(small.encoder(CLASS + 1, d_model=32, n_layers=1), lambda _: every, steps, seed=seed)
        return NAMES, small.logits(model, batch(held))[:, -1, :3].double().softmax(-1).numpy()

    return fit_predict


def naive_bayes(rows: Sequence[Labelled], held: Sequence[Labelled]) -> Said:
    """Naive Bayes in closed form."""
    return NAMES, NaiveBayes.fit(*ids(rows), CLASS, 3).posterior(ids(held)[0]).numpy()


@experiment(long=True)
def label_audit(lab: Lab, params: Corpus) -> None:
    """Held-out judgement lists most wrong labels; a network that judges its own training texts lists almost none."""

    judged: dict[tuple[bool, int], np.ndarray] = {}

    def said(outside: bool, seed: int) -> np.ndarray:
        if (outside, seed) not in judged:
            rows, judge = corpus(params, seed).rows, transformer(lab, params.steps, seed)
            p = out_of_fold(rows, judge, NAMES, params.folds) if outside else in_sample(rows, judge, NAMES)
            judged[outside, seed] = p
        return judged[outside, seed]

    def listed(outside: bool, seed: int) -> float:
        labels, p = corpus(params, seed), said(outside, seed)
        return float(suspects(p, labels.given, confident_joint(p, labels.given))[labels.wrong].mean())

    found = lab.claim(
        "held_out",
        Text(
            "Most wrong labels are on the list of a network that was trained without them.",
            "由没见过它们的网络来判断，大多数错误标签都在名单上。",
        ),
        measure=listed,
        arm=True,
        control=False,
        without=Text("the network judges its own training texts", "网络判断自己的训练文本"),
        holds=above(0.5),
        unit="share",
        seeds=3,
    )
    seeds = [lab.seed + i for i in range(3)]
    for outside, name in ((True, "ranked"), (False, "ranked_in_sample")):
        each = [corpus(params, seed).precision(said(outside, seed)) for seed in seeds] if found else [0.0]
        lab.number(name, float(np.mean(each)), "share")
        lab.number(f"{name}_least", min(each), "share")
        lab.number(f"{name}_most", max(each), "share")
    for noise in ("shuffled", "word", "vague"):
        simple = [corpus(params, seed, noise) for seed in seeds]
        each = [one.precision(out_of_fold(one.rows, naive_bayes, NAMES, params.folds)) for one in simple]
        lab.number(f"bayes_{noise}", float(np.mean(each)), "share")
    labels = corpus(params, lab.seed)
    p = out_of_fold(labels.rows, naive_bayes, NAMES, params.folds)
    joint = confident_joint(p, labels.given)
    chosen = suspects(p, labels.given, joint)
    lab.number("chosen", chosen.sum(), "texts")
    lab.number("chosen_precision", labels.wrong[chosen].mean(), "share")
    lab.number("chosen_recall", chosen[labels.wrong].mean(), "share")
    lab.number("estimated", joint.wrong / len(p), "share")
    lab.number("naive_bayes", labels.precision(p), "share")
    if found and found.measured:
        heights = {"outside": min(found.measured), "inside": max(found.against)}
        names = {
            "outside": Text("held out, worst seed", "留出，最差的种子"),
            "inside": Text("in sample, best seed", "样本内，最好的种子"),
        }
        title = Text("Wrong labels that are on the list to review", "错误标签中列入复查名单的比例")
        lab.figure("listed", figures.bars(title, Text("share", "比例"), heights, names))
