"""A class and then words drawn apart: what generating by naive Bayes loses, a known source beside it (A86-A88)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qkv.baselines.naive_bayes import NaiveBayes
from qkv.data.chains import MarkovChain
from qkv.decoding import Sample, generate
from qkv.lab import figures, small
from qkv.lab.checks import above, below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import DecoderOnly
from qkv.nn import Tokens

from .bigrams import counts, table


@dataclass(frozen=True)
class Sources:
    """n_symbols: of the two classes' chains. turn: share of steps that go on to the next symbol in a circle. length:
    of the texts, all of which are enumerated. rows: texts drawn."""

    n_symbols: Annotated[int, within(3, 5)] = 4
    turn: Annotated[float, within(0, 0.95)] = 0.6
    length: Annotated[int, within(2, 6)] = 6
    rows: Annotated[int, within(100, 5000)] = 1500


class Classes:
    """Two equally likely classes: a stationary chain, and the same chain read backwards. Their words have one
    distribution, and only the order tells them apart. For each class a decoder that holds its table is exact."""

    def __init__(self, lab: Lab, params: Sources):
        v = params.n_symbols
        others = MarkovChain.random(v, 1, lab.generator(3)).table
        circle = torch.eye(v).double().roll(1, 1)
        forwards = MarkovChain(params.turn * circle + (1 - params.turn) * others)
        self.share = forwards.stationary()
        backwards = MarkovChain(forwards.table.T * self.share[None, :] / self.share[:, None])
        self.chains = (forwards, backwards)
        self.ids = torch.cartesian_prod(*[torch.arange(v)] * params.length)
        self.decoders = [table(v, chain.table.log()) for chain in self.chains]
        self.log_p = torch.stack([self.log_prob(decoder) for decoder in self.decoders])  # log p(x | c), [2,K]

    def log_prob(self, decoder: DecoderOnly) -> Tensor:
        """log p(x) of every text by the chain rule, [K]; the first symbol is the chain's in the long run."""
        said = small.logits(decoder, small.following(self.ids)).log_softmax(-1)
        return self.share.log()[self.ids[:, 0]] + said.gather(-1, self.ids[:, 1:, None]).sum((1, 2))

    def naive(self, extra: float = 0.0) -> NaiveBayes:
        """The naive Bayes nearest to the source: each class's words as often as they are. extra: a pseudo-count."""
        words = (self.share + extra) / (1 + extra * len(self.share))
        return NaiveBayes(torch.tensor([0.5, 0.5]).double().log(), words.log().expand(2, -1))

    def information(self, c: int) -> float:
        """Σ_t I(x_t; x_<t | c) in nats, from entropies of the enumerated texts' beginnings and single words."""
        p = self.log_p[c].exp().reshape([len(self.share)] * self.ids.shape[1])
        total = 0.0
        for t in range(1, p.dim()):
            before, until = (p.sum(list(range(k, p.dim()))) if k < p.dim() else p for k in (t, t + 1))
            word = p.sum([i for i in range(p.dim()) if i != t])
            total += entropy(before) + entropy(word) - entropy(until)
        return total


def entropy(p: Tensor) -> float:
    """Of a table of probabilities, in nats."""
    return float(torch.special.entr(p).sum())


@experiment()
def naive_bayes_generation(lab: Lab, params: Sources) -> None:
    """What naive Bayes loses as a generator is the information that words have about each other, to rounding."""
    source = Classes(lab, params)
    p = source.log_p[0].exp()

    def excess(extra: float) -> float:
        """How far −log p of naive Bayes lies above that of the chain rule, and above what information says."""
        loss = -(p * source.naive(extra).log_words[0][source.ids].sum(1)).sum()
        return abs(float(loss + (p * source.log_p[0]).sum()) - source.information(0))

    lab.number("cost", source.information(0), "nat")
    lab.number("cost_per_word", source.information(0) / (params.length - 1), "nat")
    rate = source.chains[0].entropy_rate()
    lab.number("rate_formula", entropy(source.share) - rate, "nat")
    lab.number("texts", len(source.ids))
    lab.claim(
        "information",
        Text(
            "Loss of the best naive Bayes − loss of the chain rule = Σ I(x_t; x_<t | c).",
            "最好的朴素贝叶斯的损失 − 链式法则的损失 = Σ I(x_t; x_<t | c)。",
        ),
        measure=excess,
        arm=0.0,
        control=0.1,
        without=Text(
            "naive Bayes with smoothed, hence wrong, word probabilities", "词概率经过平滑、因而不准的朴素贝叶斯"
        ),
        holds=below(1e-10),
        unit="nat",
    )

    def accuracy(kind: str) -> float:
        """Of the likelier class by Bayes' rule, over the source itself; a tie is a coin toss."""
        joint = source.log_p if kind == "chain rule" else source.naive().log_joint(source.ids).T
        first = torch.where((joint[0] - joint[1]).abs() < 1e-9, 0.5, (joint[0] > joint[1]).double())
        right = torch.stack([first, 1 - first])
        return float((source.log_p.exp() * right).sum() / 2)

    lab.claim(
        "order",
        Text(
            "Bayes' rule with two class-conditional decoders tells classes apart that differ in order alone.",
            "用两个类条件解码器做贝叶斯分类，能分开只在词序上不同的两类。",
        ),
        measure=accuracy,
        arm="chain rule",
        control="naive Bayes",
        without=Text("Bayes' rule with naive Bayes", "同样用贝叶斯公式，换成朴素贝叶斯"),
        holds=above(0.75),
        unit="share",
    )
    _samples(lab, params, source)


def _samples(lab: Lab, params: Sources, source: Classes) -> None:
    """Texts of both, by the pairs of neighbours in them."""
    true = source.share[:, None] * source.chains[0].table

    def drawn(kind: str) -> Tensor:
        if kind == "naive Bayes":
            return source.naive().sample(params.rows, params.length, lab.generator(5))[0]
        first = torch.multinomial(source.share, params.rows, replacement=True, generator=lab.generator(6))[:, None]
        rest = generate(
            source.decoders[0],
            first,
            Tokens.arange(*first.shape),
            chooser=Sample(seed=lab.seed),
            max_new=params.length - 1,
            eos=-1,
        )
        return torch.cat([first, torch.tensor([list(row[0].ids) for row in rest])], 1)

    def variation(kind: str) -> Tensor:
        found = counts(drawn(kind), params.n_symbols)
        return (found / found.sum() - true).abs().sum() / 2

    words = source.naive().sample(params.rows, params.length, lab.generator(5))[0]
    shares = torch.bincount(words.flatten(), minlength=params.n_symbols).double() / words.numel()
    lab.number("words_right", (shares - source.share).abs().sum() / 2)
    lab.number("independent_pairs", (source.share[:, None] * source.share[None] - true).abs().sum() / 2)
    lab.claim(
        "pairs",
        Text(
            "Neighbouring words of generated texts are as in the source (total variation).",
            "生成文本中相邻词对的分布与来源一致（总变差）。",
        ),
        measure=variation,
        arm="chain rule",
        control="naive Bayes",
        without=Text(
            "texts drawn by naive Bayes: a class, then words apart", "朴素贝叶斯的生成：先抽类别，再逐词独立抽取"
        ),
        holds=below(0.05),
    )
    lab.figure(
        "pairs",
        figures.heat(
            Text("Naive Bayes' pairs minus the source's", "朴素贝叶斯生成的词对频率减去来源的频率"),
            Text("second word", "后一个词"),
            Text("first word", "前一个词"),
            (source.share[:, None] * source.share[None] - true).tolist(),
            Text("probability", "概率"),
        ),
    )


@dataclass(frozen=True)
class Repeats:
    """n_bits: features of a text, each of which says its class with probability `right`. most: copies of each."""

    n_bits: Annotated[int, within(1, 9)] = 1
    right: Annotated[float, within(0.51, 0.99)] = 0.7
    most: Annotated[int, within(2, 32)] = 8


@experiment()
def repeated_evidence(lab: Lab, params: Repeats) -> None:
    """A feature that is written down several times is counted several times: naive Bayes grows sure, not right."""
    bits = torch.cartesian_prod(*[torch.arange(2)] * params.n_bits).view(-1, params.n_bits)
    step = torch.tensor([[params.right, 1 - params.right], [1 - params.right, params.right]]).double().log()
    source = NaiveBayes(torch.tensor([0.5, 0.5]).double().log(), step)
    p = source.log_joint(bits).exp()  # every text and class, [K,2]

    def certainty(copies: int) -> tuple[float, float]:
        """Mean probability of the class that it names, and how often that class is right."""
        said = source.posterior(bits.repeat(1, copies))
        sure, chosen = said.max(1)
        return float((p.sum(1) * sure).sum()), float(p.gather(1, chosen[:, None]).sum())

    lab.number("confidence", certainty(params.most)[0], "share")
    lab.number("confidence_once", certainty(1)[0], "share")
    lab.number("accuracy", certainty(params.most)[1], "share")
    lab.number("accuracy_once", certainty(1)[1], "share")
    lab.number("odds", params.right / (1 - params.right))
    lab.number("confidence_formula", 1 / (1 + ((1 - params.right) / params.right) ** params.most), "share")
    lab.claim(
        "overconfident",
        Text(
            "With copied features naive Bayes is surer than it is right by more than a fifth.",
            "特征重复之后，朴素贝叶斯的置信度比准确率高出五分之一以上。",
        ),
        measure=lambda copies: certainty(copies)[0] - certainty(copies)[1],
        arm=params.most,
        control=1,
        without=Text("each feature once: the assumption holds", "每个特征只出现一次，假设成立"),
        holds=above(0.2),
        unit="share",
    )
    curve = [(2.0**k, *certainty(2**k)) for k in range(params.most.bit_length())]
    lab.figure(
        "certainty",
        figures.lines(
            Text("Copies of one piece of evidence", "同一条证据重复多次"),
            Text("copies", "重复次数"),
            Text("share", "比例"),
            {"sure": [(m, s) for m, s, _ in curve], "right": [(m, r) for m, _, r in curve]},
            {"sure": Text("confidence", "置信度"), "right": Text("accuracy", "准确率")},
            x_scale="log",
        ),
    )
