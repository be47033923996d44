"""What one trained network does not know (A8, A80): it memorises, is sure of anything, and several disagree."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qkv.baselines.naive_bayes import NaiveBayes
from qkv.data.batch import Batch
from qkv.lab import figures, small
from qkv.lab.checks import above, lower
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.tasks.scope_metrics import auroc
from qkv.training.losses import Term, TokenCrossEntropy

FAMILIAR, N_WORDS, CLASS = 10, 20, 20
"""Words 0-9 occur in training, 10-19 never; 20 asks for the class."""


@dataclass(frozen=True)
class Uncertainty:
    """rows: training texts. random_rows: those whose labels are random. length: words of a text. noise: share of
    training labels that are wrong. members: networks of an ensemble. steps, random_steps: updates. penalty: of the
    Gaussian prior, per squared weight. tested: texts."""

    rows: Annotated[int, within(8, 500)] = 160
    random_rows: Annotated[int, within(8, 500)] = 48
    length: Annotated[int, within(1, 32)] = 7
    noise: Annotated[float, within(0, 0.5)] = 0.1
    members: Annotated[int, within(2, 10)] = 5
    steps: Annotated[int, within(20, 1000)] = 100
    random_steps: Annotated[int, within(20, 1000)] = 80
    penalty: Annotated[float, within(0, 1)] = 0.05
    tested: Annotated[int, within(100, 5000)] = 1000


class Penalised(TokenCrossEntropy):
    """Cross-entropy and ½·penalty·Σw²: minus the log of a posterior under a Gaussian prior, up to a factor."""

    def __init__(self, penalty: float):
        super().__init__()
        self.penalty = penalty

    def __call__(self, model: Any, batch: Batch) -> dict[str, Term]:
        squares = torch.stack([p.square().sum() for p in model.parameters()]).sum()
        return super().__call__(model, batch) | {"prior": (squares / 2, 1, self.penalty)}

    def counts(self, batch: Batch) -> dict[str, float]:
        return super().counts(batch) | {"prior": 1}


def texts(rows: int, length: int, least: int, most: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Words [B,T] from least .. most-1 and the class [B]: whether more than half of them are odd numbers."""
    words = torch.randint(least, most, (rows, length), generator=generator)
    return words, (2 * (words % 2).sum(1) > length).long()


def asking(words: Tensor, labels: Tensor) -> Batch:
    """Words [B,T] and, after them, the token that asks for the labels [B]."""
    return small.asking(words, CLASS, labels)


def negative_log(said: Tensor, labels: Tensor) -> float:
    """Mean -log p(label) of said [B,2], in nats."""
    return float(F.nll_loss(said.clamp_min(1e-12).log(), labels))


def disagreement(said: Tensor) -> Tensor:
    """Entropy of the mean minus mean entropy of said [M,B,2], [B]: the information about the label in the member."""

    def entropy(p: Tensor) -> Tensor:
        return -torch.special.xlogy(p, p).sum(-1)

    return entropy(said.mean(0)) - entropy(said).mean(0)


class Nets:
    """Networks trained on noisy texts, each once, and what they say of new ones."""

    def __init__(self, lab: Lab, params: Uncertainty):
        self.lab, self.params, self.net = lab, params, cache(self._net)
        generator = lab.generator(1)
        self.familiar, self.labels = texts(params.tested, params.length, 0, FAMILIAR, generator)
        self.strange, _ = texts(params.tested, params.length, FAMILIAR, N_WORDS, generator)

    def corpus(self, rows: int, noise: float) -> tuple[Tensor, Tensor]:
        """The same texts for all seeds, which differ in the networks."""
        generator = self.lab.generator(2)
        words, labels = texts(rows, self.params.length, 0, FAMILIAR, generator)
        wrong = torch.rand(len(labels), generator=generator) < noise
        return words, labels ^ wrong.long()

    def _net(self, seed: int, member: int, penalty: float) -> nn.Module:
        batch = asking(*self.corpus(self.params.rows, self.params.noise))
        return self.train(batch, self.params.steps, 100 * seed + member, penalty)

    def train(self, batch: Batch, steps: int, seed: int, penalty: float = 0.0) -> nn.Module:
        torch.manual_seed(seed)
        model = small.encoder(N_WORDS + 1, d_model=32, n_layers=1)
        return self.lab.train(model, lambda _: batch, steps, seed=seed, loss=Penalised(penalty))

    def said(self, model: nn.Module, words: Tensor) -> Tensor:
        """p(class | words) of texts [B,T], [B,2]."""
        logits = small.logits(model, asking(words, torch.zeros(len(words), dtype=torch.long)))
        return logits[:, -1, :2].double().softmax(-1)

    def ensemble(self, distinct: bool, seed: int, words: Tensor) -> Tensor:
        """[M,B,2]; not distinct: the first member so many times."""
        members = range(self.params.members) if distinct else [0] * self.params.members
        return torch.stack([self.said(self.net(seed, m, 0.0), words) for m in members])


@experiment(long=True)
def weight_uncertainty(lab: Lab, params: Uncertainty) -> None:
    """One network fits random labels and is sure of texts it never saw; a prior and an ensemble each mend a part."""
    nets = Nets(lab, params)

    def random_labels(arm: str, seed: int) -> float:
        words, labels = nets.corpus(params.random_rows, 0.5)
        if arm == "naive Bayes":
            return NaiveBayes.fit(words, labels, FAMILIAR, 2).accuracy(words, labels)
        batch = asking(words, labels)
        return small.accuracy(nets.train(batch, params.random_steps, seed), batch)

    def alone(penalty: float, seed: int) -> float:
        """The loss on new texts, averaged over networks that are each asked alone."""
        said = [nets.said(nets.net(seed, m, penalty), nets.familiar) for m in range(params.members)]
        return sum(negative_log(one, nets.labels) for one in said) / len(said)

    lab.claim(
        "memorised",
        Text("Labels drawn at random are learned by heart.", "随机标签能被背下来。"),
        measure=random_labels,
        arm="transformer",
        control="naive Bayes",
        without=Text("naive Bayes with Laplace's prior on the same labels", "同样的标签，用带拉普拉斯先验的朴素贝叶斯"),
        holds=above(0.95),
        unit="share",
        seeds=3,
    )
    lab.claim(
        "prior_helps",
        Text("A Gaussian prior in the loss lowers the loss on new texts.", "损失中加上高斯先验，新文本上的损失降低。"),
        measure=alone,
        arm=params.penalty,
        control=0.0,
        without=Text("no prior", "不加先验"),
        holds=lower(),
        unit="nat",
        seeds=3,
    )

    def gain(distinct: bool, seed: int) -> float:
        said = nets.ensemble(distinct, seed, nets.familiar)
        mean = sum(negative_log(one, nets.labels) for one in said) / len(said)
        return mean - negative_log(said.mean(0), nets.labels)

    lab.claim(
        "ensemble_gain",
        Text(
            "Averaging the predictions of several networks lowers the loss on new texts by more than 0.05 nat.",
            "平均几个网络的预测，新文本上的损失降低 0.05 奈特以上。",
        ),
        measure=gain,
        arm=True,
        control=False,
        without=Text("copies of one network", "同一个网络的几份复制"),
        holds=above(0.05),
        unit="nat",
        seeds=3,
    )
    _strange(lab, params, nets)


def _strange(lab: Lab, params: Uncertainty, nets: Nets) -> None:
    """Texts of words that no training showed: a single network is sure of them, and only several betray that."""

    def detected(distinct: bool, seed: int) -> float:
        scores = [disagreement(nets.ensemble(distinct, seed, words)) for words in (nets.strange, nets.familiar)]
        return auroc(*(score.round(decimals=9).numpy() for score in scores))

    lab.claim(
        "disagree",
        Text(
            "The disagreement of several networks tells unknown words from known ones.",
            "几个网络的分歧能区分生词文本与熟词文本。",
        ),
        measure=detected,
        arm=True,
        control=False,
        without=Text("copies of one network, which cannot disagree", "同一个网络的复制品，不可能有分歧"),
        holds=above(0.7),
        unit="share",
        seeds=3,
    )
    one = nets.net(lab.seed, 0, 0.0)
    sure = {
        name: nets.said(one, words).amax(-1) for name, words in (("strange", nets.strange), ("familiar", nets.familiar))
    }
    lab.number("sure_strange", sure["strange"].mean(), "share")
    lab.number("sure_familiar", sure["familiar"].mean(), "share")
    single = lab.number("single_ranking", auroc(-sure["strange"].numpy(), -sure["familiar"].numpy()), "share")
    names = {
        "several": Text("disagreement of several", "多个网络的分歧"),
        "one": Text("doubt of one", "单个网络的犹豫"),
    }
    heights = {"several": detected(True, lab.seed), "one": single}
    title = Text("Texts of unknown words, told from known ones", "区分生词文本与熟词文本")
    lab.figure("strange", figures.bars(title, Text("area under the ROC curve", "ROC 曲线下面积"), heights, names))
