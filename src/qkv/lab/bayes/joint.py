"""What encoder, decoder, training and inference have to do with Bayes (A7): the chain rule always, his rule by data."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated

import torch
from torch import Tensor, nn

from qkv.data.batch import Batch
from qkv.lab import figures, small
from qkv.lab.checks import below, exactly
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import EncoderDecoder
from qkv.nn import Full
from qkv.training.schedules import Cosine


@dataclass(frozen=True)
class Chain:
    """n_symbols, length: of the targets that are enumerated. sources: source sentences. source_length: of each."""

    n_symbols: Annotated[int, within(2, 5)] = 3
    length: Annotated[int, within(1, 4)] = 3
    sources: Annotated[int, within(1, 100)] = 12
    source_length: Annotated[int, within(1, 8)] = 5


def strings(n_symbols: int, length: int) -> Tensor:
    """Every string, [n_symbols^length, length]."""
    return torch.tensor(list(itertools.product(range(n_symbols), repeat=length)))


def log_probs(model: nn.Module, sources: Tensor | None, targets: Tensor, begin: int) -> Tensor:
    """log p(y | x) of each target [N,T] given each source [M,S], [M,N]; without sources (a language model) [1,N]."""
    rows = 1 if sources is None else len(sources)
    y = targets.repeat(rows, 1)
    if sources is None:
        batch = small.following(y, begin)
    else:
        batch = small.paired(sources.repeat_interleave(len(targets), 0), y, begin)
    said = small.logits(model, batch)[..., :begin].double().log_softmax(-1)
    return said.gather(-1, y.unsqueeze(-1)).sum((1, 2)).view(rows, -1)


@experiment()
def chain_rule_sum(lab: Lab, params: Chain) -> None:
    """With any weights the probabilities of all targets sum to 1, because the decoder is causal: the chain rule."""
    begin = params.n_symbols
    sources = torch.randint(begin, (params.sources, params.source_length), generator=lab.generator())
    model = small.encoder_decoder(begin + 1, n_layers=1).double()
    open_decoder = replace(model.config.decoder, mask=Full())
    leaking = EncoderDecoder(replace(model.config, decoder=open_decoder)).double()
    leaking.load_state_dict(model.state_dict())
    every = strings(begin, params.length)
    tables = {name: log_probs(m, sources, every, begin) for name, m in (("causal", model), ("full", leaking))}
    lab.number("targets", len(every))
    lab.claim(
        "normalised",
        Text(
            "With untrained weights, the probabilities of all targets sum to 1 for every source.",
            "权重未经训练，对每个源句，所有目标句的概率之和都是 1。",
        ),
        measure=lambda mask: (tables[mask].logsumexp(1).exp() - 1).abs().max(),
        arm="causal",
        control="full",
        without=Text("no causal mask in the decoder, the same weights", "去掉解码器的因果掩码，权重不变"),
        holds=below(1e-10),
    )
    sure = 6 * tables["causal"]  # untrained weights hardly prefer anything: sharpen the sentence distributions
    direct = sure.log_softmax(1)
    prior_x = torch.randn(params.sources, generator=lab.generator(1), dtype=torch.float64).log_softmax(0)
    prior_y = (prior_x[:, None] + direct).logsumexp(0)
    channel = prior_x[:, None] + direct - prior_y  # log p(x | y), columns sum to 1
    lab.claim(
        "channel",
        Text(
            "Choosing y by p(x|y)·p(y) chooses what p(y|x) chooses, for every source.",
            "按 p(x|y)·p(y) 选 y，与按 p(y|x) 选 y，对每个源句结果都相同。",
        ),
        measure=lambda prior: ((channel + prior).argmax(1) == direct.argmax(1)).double().mean(),
        arm=prior_y,
        control=torch.zeros_like(prior_y),
        without=Text("no prior p(y): maximum likelihood over y", "去掉先验 p(y)，即对 y 做最大似然"),
        holds=exactly(1),
        unit="share",
    )


@dataclass(frozen=True)
class Joint:
    """n_symbols, length: of both sentences. pairs: in the training corpus, which is the joint distribution itself.
    steps: updates of each network."""

    n_symbols: Annotated[int, within(2, 4)] = 3
    length: Annotated[int, within(1, 3)] = 2
    pairs: Annotated[int, within(50, 2000)] = 200
    steps: Annotated[int, within(20, 1000)] = 160


class Toy:
    """A corpus of pairs (x, y) in which every probability is a count, and networks trained on all of it at once."""

    def __init__(self, lab: Lab, params: Joint, seed: int):
        self.lab, self.params, self.seed = lab, params, seed
        self.begin = params.n_symbols
        self.every = strings(params.n_symbols, params.length)
        generator = lab.generator()  # one corpus for all seeds, which differ in their initial weights
        n = len(self.every)
        weights = (1.5 * torch.randn(n * n, generator=generator)).softmax(0)
        cells = torch.multinomial(weights, params.pairs, replacement=True, generator=generator)
        self.x, self.y = cells // n, cells % n
        self.alone = self.x[torch.randperm(params.pairs, generator=generator)]
        self.counts = torch.bincount(cells, minlength=n * n).view(n, n).double()

    def conditional(self, given: Tensor, said: Tensor) -> Tensor:
        """log p(said | given) of a network trained on the index pairs, [given, said]."""
        model = small.encoder_decoder(self.begin + 1, d_model=32, n_layers=1)
        batch = small.paired(self.every[given], self.every[said], self.begin)
        return log_probs(self._trained(model, batch), self.every, self.every, self.begin)

    def marginal(self, said: Tensor) -> Tensor:
        """log p(said) of a language model, [1, said]."""
        model = small.decoder(self.begin + 1, d_model=32, n_layers=1)
        return log_probs(
            self._trained(model, small.following(self.every[said], self.begin)), None, self.every, self.begin
        )

    def _trained(self, model: nn.Module, batch: Batch) -> nn.Module:
        schedule = Cosine(warmup=10)
        return self.lab.train(
            model, lambda _: batch, self.params.steps, seed=self.seed, learning_rate=1e-2, schedule=schedule
        )


@experiment(long=True)
def bayes_rule_learned(lab: Lab, params: Joint) -> None:
    """Four networks trained apart on one corpus come to obey Bayes' rule; the architecture alone does not make them."""
    drawings: dict[str, list[tuple[float, float]]] = {}

    @cache
    def parts(seed: int) -> tuple[Toy, Tensor, Tensor, Tensor]:
        toy = Toy(lab, params, seed)
        return toy, toy.conditional(toy.x, toy.y), toy.marginal(toy.y), toy.marginal(toy.x)

    def disagreement(paired: bool, seed: int) -> float:
        """Mean over the corpus of |log p(x|y) + log p(y) - log p(x) - log p(y|x)|."""
        toy, direct, prior_y, prior_x = parts(seed)
        channel = toy.conditional(toy.y, toy.x if paired else toy.alone).T
        inverted = channel + prior_y - prior_x.T
        if seed == lab.seed:
            points = sorted(
                {(float(a), float(b)) for a, b in zip(direct[toy.x, toy.y], inverted[toy.x, toy.y], strict=True)}
            )
            drawings["paired" if paired else "alone"] = points
        return float((inverted - direct)[toy.x, toy.y].abs().mean())

    lab.claim(
        "consistent",
        Text(
            "log p(x|y) + log p(y) − log p(x) is within 0.1 nat of the direct log p(y|x), on average over the corpus.",
            "log p(x|y) + log p(y) − log p(x) 与直接得到的 log p(y|x)，在语料上平均相差不到 0.1 奈特。",
        ),
        measure=disagreement,
        arm=True,
        control=False,
        without=Text("a channel trained on sentences that are paired at random", "信道模型在随机配对的句子上训练"),
        holds=below(0.1),
        unit="nat",
        seeds=3,
    )
    toy, direct, _, _ = parts(lab.seed)
    seen = toy.counts > 0
    exact = (toy.counts / toy.counts.sum(1, keepdim=True).clamp_min(1)).clamp_min(1e-300).log()
    lab.number("direct_error", (direct - exact)[seen].abs().mul(toy.counts[seen]).sum() / toy.counts.sum(), "nat")
    lab.figure(
        "inverted",
        figures.lines(
            Text("Bayes' rule on three networks against a fourth", "三个网络经贝叶斯公式，对照第四个网络"),
            Text("direct log p(y|x) (nat)", "直接的 log p(y|x)（奈特）"),
            Text("log p(x|y) + log p(y) − log p(x) (nat)", "log p(x|y) + log p(y) − log p(x)（奈特）"),
            drawings,
            {
                "paired": Text("trained on one corpus", "在同一语料上训练"),
                "alone": Text("channel trained on random pairs", "信道在随机配对上训练"),
            },
        ),
    )
