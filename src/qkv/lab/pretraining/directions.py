"""What reading from left to right costs and what it does not (A17, A58)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn

from qkv.data.batch import IGNORE, Batch
from qkv.data.corruption import Vocabulary, fill_in_the_middle
from qkv.data.pretraining import Example, collate
from qkv.lab import small
from qkv.lab.checks import above, below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import EncoderOnlyConfig
from qkv.models.config import HeadConfig
from qkv.models.pretraining import PretrainedEncoder
from qkv.nn import Any, Causal, Prefix
from qkv.tasks.objectives import Permuted


@dataclass(frozen=True)
class Strings:
    """n_symbols, length: all strings of which are enumerated. orders: in which the symbols are told."""

    n_symbols: Annotated[int, within(2, 4)] = 3
    length: Annotated[int, within(2, 5)] = 4
    orders: Annotated[int, within(2, 24)] = 6


@experiment()
def one_distribution(lab: Lab, params: Strings) -> None:
    """What a model says of all strings adds up to one if it tells their symbols one after the other, in any order; each
    told from all the others, the same model's answers do not."""
    n, length = params.n_symbols, params.length
    texts = torch.tensor(list(itertools.product(range(n), repeat=length)))
    known = Vocabulary(n + 1, n, np.arange(n), np.ones(n + 1, dtype=bool))
    causal = small.decoder(n + 1, d_model=16, n_layers=2).double().eval()
    config = EncoderOnlyConfig(small.stack(n + 1, d_model=16, n_layers=2), HeadConfig(tied=False))
    encoder = PretrainedEncoder(config).double().eval()

    def asked(model: nn.Module, batch: Batch) -> Tensor:
        """log p of what a batch asks for, added up in each row."""
        log_p = small.logits(model, batch)[..., :n].log_softmax(-1)
        wanted = batch.targets != IGNORE
        told = log_p.gather(-1, batch.targets.clamp_min(0).unsqueeze(-1)).squeeze(-1)
        return (told * wanted).sum(1)

    def in_order(number: int) -> Tensor:
        """log p of each string, its symbols told one after the other in an order drawn with this number."""
        free = np.ones(length, dtype=bool)
        rows = [
            Permuted(rate=1.0).row(Example(line, free), known, np.random.default_rng(number)) for line in texts.numpy()
        ]
        return asked(encoder, collate(rows))

    def each_from_the_rest() -> Tensor:
        """Σ_t log p(x_t | all others) of each string."""
        places = [[Permuted().asking(line, [t], known) for line in texts.numpy()] for t in range(length)]
        return torch.stack([asked(encoder, collate(rows)) for rows in places]).sum(0)

    def defect(log_p: Tensor) -> Tensor:
        return (log_p.exp().sum() - 1).abs()

    lab.claim(
        "adds_up",
        Text(
            "Symbols told one after the other, in whatever order: the probabilities of all strings add up to one.",
            "符号一个接一个地猜，不论按什么次序，所有字符串的概率之和都是 1。",
        ),
        measure=lambda many: max(float(defect(log_p)) for log_p in many),
        arm=[asked(causal, small.following(texts, begin=n)), *(in_order(i) for i in range(params.orders))],
        control=[each_from_the_rest()],
        without=Text("each symbol told from all the others", "每个符号都由其余符号来预测"),
        holds=below(1e-12),
    )
    lab.number("masked_total", each_from_the_rest().exp().sum())
    lab.number("differ", torch.stack([in_order(i) for i in range(params.orders)]).std(0).mean(), "nat")


@dataclass(frozen=True)
class Tags:
    """steps: updates. length: of a text."""

    steps: Annotated[int, within(50, 500)] = 150
    length: Annotated[int, within(4, 32)] = 10


@experiment(long=True)
def tag_ahead(lab: Lab, params: Tags) -> None:
    """A tag that hangs on the next word is out of a causal reader's reach; the same decoder gives it once the text is a
    prefix that is read in both directions."""
    n = 8

    def texts(random: torch.Generator, rows: int = 32) -> Batch:
        ids = torch.randint(n, (rows, params.length + 1), generator=random)
        batch = small.labelled(ids, torch.full_like(ids, IGNORE))
        batch.targets[:, :-1] = (ids[:, :-1] + ids[:, 1:]) % 2
        batch.tokens = batch.tokens.with_fields(prefix=torch.ones_like(ids))
        return batch

    test = texts(lab.generator(5), 500)

    def accuracy(mask: Any | Causal, seed: int) -> float:
        model = small.decoder(n, d_model=32, n_layers=2, mask=mask)
        return small.accuracy(lab.train(model, texts, params.steps, seed=seed), test)

    lab.claim(
        "tagged",
        Text(
            "A decoder whose mask opens the prefix tags by the next word; causal, it is no better than a coin.",
            "掩码放开前缀的解码器能按下一个词打标签；纯因果的和抛硬币一样。",
        ),
        measure=accuracy,
        arm=Any((Causal(), Prefix())),
        control=Causal(),
        without=Text("the causal mask alone", "只有因果掩码"),
        holds=above(0.99),
        seeds=3,
    )


@dataclass(frozen=True)
class Facts:
    """facts: pairs of names. steps: updates."""

    facts: Annotated[int, within(4, 64)] = 24
    steps: Annotated[int, within(50, 1000)] = 250


@experiment(long=True)
def reversed_facts(lab: Lab, params: Facts) -> None:
    """A causal model that learned `a is b` does not answer who b is, though it knows that question of other facts;
    trained to fill gaps in the same sentences it does."""
    n = params.facts
    drawn = torch.randperm(n, generator=lab.generator())
    left, right = torch.arange(n), n + drawn
    now, back, pre, suf, mid = range(2 * n, 2 * n + 5)
    size, half = 2 * n + 5, n // 2
    sentences = torch.stack([left, torch.full((n,), now), right], 1)
    questions = torch.stack([right[:half], torch.full((half,), back), left[:half]], 1)  # of the first half alone

    def forwards(random: torch.Generator) -> Batch:
        rows = torch.cat([sentences, questions])
        return small.following(rows[torch.randperm(len(rows), generator=random)])

    def with_gaps(random: torch.Generator) -> Batch:
        numbers = np.random.default_rng(int(torch.randint(2**31, (), generator=random)))
        rows = [fill_in_the_middle(line, numbers, (pre, suf, mid)) for line in sentences.tolist()]
        return small.following(torch.tensor(rows))

    def answered(gaps: bool, seed: int) -> float:
        """Share of the second half's right names to which, of its left names, the one that belongs is ranked first."""
        model = small.decoder(size, d_model=32, n_layers=2)
        trained = lab.train(model, with_gaps if gaps else forwards, params.steps, seed=seed)
        names = right[half:]
        if gaps:
            asked = [torch.full_like(names, x) for x in (pre, suf, now)] + [names, torch.full_like(names, mid)]
        else:
            asked = [names, torch.full_like(names, back)]
        return first_ranked(trained, torch.stack(asked, 1), left[half:])

    def first_ranked(model: nn.Module, prompt: Tensor, names: Tensor) -> float:
        """Share of the prompts [B,T] whose own name is ranked first among those of all prompts, [B]. Names that are no
        answer to any of them do not compete: how often they were said in training decides nothing."""
        scores = small.logits(model, small.labelled(prompt, prompt))[:, -1, names]
        return float((scores.argmax(-1) == torch.arange(len(names))).float().mean())

    lab.claim(
        "who",
        Text(
            "From sentences that are written in one direction only, a model that fills gaps answers in the other.",
            "句子只朝一个方向写过，会填空的模型却能反着答。",
        ),
        measure=answered,
        arm=True,
        control=False,
        without=Text("next-token training on the same sentences", "在同样的句子上做下一词预测"),
        holds=above(0.9),
        seeds=3,
    )
    lab.number("chance", 1 / (n - half))

    def known(seed: int) -> tuple[float, float]:
        """Of the causal model: facts in the direction of the sentences, and questions that it was taught."""
        trained = lab.train(small.decoder(size, d_model=32, n_layers=2), forwards, params.steps, seed=seed)
        taught = first_ranked(trained, questions[:, :2], questions[:, 2])
        return first_ranked(trained, sentences[:, :2], sentences[:, 2]), taught

    found = [known(seed) for seed in range(3)]
    lab.number("forwards", sum(a for a, _ in found) / 3)
    lab.number("taught", sum(b for _, b in found) / 3)
