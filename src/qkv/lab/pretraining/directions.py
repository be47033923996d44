"""What reading from left to right costs and what it does not (A17, A58)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn

from qkv.data.batch import IGNORE, Batch
from qkv.data.corruption import fill_in_the_middle
from qkv.lab import small
from qkv.lab.checks import above, below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import Any, Causal, Prefix


@dataclass(frozen=True)
class Strings:
    """n_symbols, length: all strings of which are enumerated."""

    n_symbols: Annotated[int, within(2, 4)] = 3
    length: Annotated[int, within(2, 5)] = 4


@experiment()
def one_distribution(lab: Lab, params: Strings) -> None:
    """What a causal model says of all strings adds up to one, in either direction; what a masked one says does not."""
    n, length = params.n_symbols, params.length
    texts = torch.tensor(list(itertools.product(range(n), repeat=length)))
    causal = small.decoder(n + 1, d_model=16, n_layers=2).double().eval()
    masked = small.encoder(n + 1, d_model=16, n_layers=2).double().eval()

    def in_turn(backwards: bool) -> Tensor:
        """log p of each string, its symbols told from the first to the last, or from the last to the first."""
        batch = small.following(texts.flip(1) if backwards else texts, begin=n)
        log_p = small.logits(causal, batch)[..., :n].log_softmax(-1)
        return log_p.gather(-1, batch.targets.unsqueeze(-1)).sum((1, 2))

    def each_from_the_rest() -> Tensor:
        """Σ_t log p(x_t | all others) of each string."""
        total = torch.zeros(len(texts), dtype=torch.float64)
        for t in range(length):
            hidden = texts.clone()
            hidden[:, t] = n
            log_p = small.logits(masked, small.labelled(hidden, texts))[:, t, :n].log_softmax(-1)
            total += log_p.gather(-1, texts[:, t : t + 1]).squeeze(1)
        return total

    def defect(log_p: Tensor) -> Tensor:
        return (log_p.exp().sum() - 1).abs()

    lab.claim(
        "adds_up",
        Text(
            "Over all strings the probabilities of a causal model add up to one, whichever end it starts from.",
            "因果模型给所有字符串的概率之和是 1，从哪头开始都一样。",
        ),
        measure=lambda many: max(float(defect(log_p)) for log_p in many),
        arm=[in_turn(False), in_turn(True)],
        control=[each_from_the_rest()],
        without=Text("each symbol told from all the others", "每个符号都由其余符号来预测"),
        holds=below(1e-12),
    )
    lab.number("masked_total", each_from_the_rest().exp().sum())


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
        """Share of the second half's right names to which the left one is ranked first."""
        model = small.decoder(size, d_model=32, n_layers=2)
        trained = lab.train(model, with_gaps if gaps else forwards, params.steps, seed=seed)
        names = right[half:]
        if gaps:
            asked = [torch.full_like(names, x) for x in (pre, suf, now)] + [names, torch.full_like(names, mid)]
        else:
            asked = [names, torch.full_like(names, back)]
        return first_ranked(trained, torch.stack(asked, 1), left[half:])

    def first_ranked(model: nn.Module, prompt: Tensor, wanted: Tensor) -> float:
        return float((small.logits(model, small.labelled(prompt, prompt))[:, -1].argmax(-1) == wanted).float().mean())

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
    lab.number("chance", 1 / n)

    def known(seed: int) -> tuple[float, float]:
        """Of the causal model: facts in the direction of the sentences, and questions that it was taught."""
        trained = lab.train(small.decoder(size, d_model=32, n_layers=2), forwards, params.steps, seed=seed)
        taught = first_ranked(trained, questions[:, :2], questions[:, 2])
        return first_ranked(trained, sentences[:, :2], sentences[:, 2]), taught

    found = [known(seed) for seed in range(3)]
    lab.number("forwards", sum(a for a, _ in found) / 3)
    lab.number("taught", sum(b for _, b in found) / 3)
