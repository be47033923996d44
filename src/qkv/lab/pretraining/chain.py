"""Masked tokens on a Markov chain, whose posterior is known: what filling at once costs, and what only masks leave
untaught (A16, A54, A58)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn

from qkv.data.batch import Batch
from qkv.data.chains import MarkovChain
from qkv.data.corruption import Masking, Vocabulary, generator
from qkv.lab import figures, small
from qkv.lab.checks import higher, lower
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.training.schedules import Linear

LENGTH, AT = 12, 5  # of a text; the first of the two neighbours that are hidden
HIDDEN = Masking(rate=0.3)  # eighty, ten, ten
ONLY_MASKS = Masking(rate=0.3, masked=1.0, random=0.0)
HALF = Masking(rate=0.5, masked=1.0, random=0.0)  # so that two neighbours are often hidden together


@dataclass(frozen=True)
class Chain:
    """n_symbols: of the chains. sharpness: how far from uniform the rows of the first are. flatness: of the second, in
    which a symbol says little of its neighbours. steps: updates. rows: texts to test on."""

    n_symbols: Annotated[int, within(3, 12)] = 6
    sharpness: Annotated[float, within(0.5, 4)] = 2.0
    flatness: Annotated[float, within(0.1, 2)] = 0.5
    steps: Annotated[int, within(50, 1000)] = 400
    rows: Annotated[int, within(64, 4096)] = 1024


def vocabulary(n: int) -> Vocabulary:
    """Symbols 0 … n-1, each a word, and n, the mask."""
    return Vocabulary(n + 1, n, np.arange(n), np.ones(n + 1, dtype=bool))


def spoilt(ids: Tensor, masking: Masking, known: Vocabulary, seed: int, epochs: Tensor | None = None) -> Batch:
    """Texts [B,T], some tokens asked for, by the toolkit's corruption: row i as in its epoch (0 if none is given)."""
    found = [
        masking.corrupt(line, known, generator(seed, 0 if epochs is None else int(epochs[i]), i))
        for i, line in enumerate(ids.numpy())
    ]
    read, targets = (torch.from_numpy(np.stack(part)) for part in zip(*found, strict=True))
    return small.labelled(read, targets)


def learn(lab: Lab, chain: MarkovChain, masking: Masking, steps: int, seed: int) -> nn.Module:
    """A small encoder that fills masks, on fresh texts of the chain."""
    known = vocabulary(chain.n_symbols)

    def make(random: torch.Generator) -> Batch:
        ids = chain.sample(32, LENGTH, random)
        return spoilt(ids, masking, known, int(torch.randint(2**31, (), generator=random)))

    model = small.encoder(chain.n_symbols + 1, d_model=32, n_layers=2)
    return lab.train(model, make, steps, seed=seed, learning_rate=5e-3, schedule=Linear(warmup=20))


def pair_posterior(chain: MarkovChain, ids: Tensor) -> Tensor:
    """p(x_t, x_t+1 | all others) of texts [B,T] at t = AT, [B,V,V]: only the neighbours count."""
    left, right = ids[:, AT - 1], ids[:, AT + 2]
    joint = chain.table[left][:, :, None] * chain.table[None] * chain.table[:, right].T[:, None, :]
    return joint / joint.sum((1, 2), keepdim=True)


def information(joint: Tensor) -> float:
    """Mean I(x_t; x_t+1 | all others) of posteriors [B,V,V], in nats: what any product of two answers loses."""
    product = joint.sum(2, keepdim=True) * joint.sum(1, keepdim=True)
    return float((joint * (joint / product).log()).sum((1, 2)).mean())


def excess(model: nn.Module, ids: Tensor, joint: Tensor, at_once: bool) -> float:
    """Mean KL(p(x_t, x_t+1 | others) ‖ model) in nats: both masks filled from one reading, or the second only after the
    first."""
    n, rows = joint.shape[-1], len(ids)
    hidden = ids.clone()
    hidden[:, AT : AT + 2] = n

    def said(read: Tensor, place: int) -> Tensor:
        return small.logits(model, small.labelled(read, read))[:, place, :n].double().log_softmax(-1)

    first = said(hidden, AT)
    if at_once:
        second = said(hidden, AT + 1)[:, None, :].expand(-1, n, -1)
    else:
        filled = hidden[:, None].repeat(1, n, 1)
        filled[:, :, AT] = torch.arange(n)
        second = said(filled.flatten(0, 1), AT + 1).view(rows, n, n)
    return float((joint * (joint.log() - first[:, :, None] - second)).sum((1, 2)).mean())


def names_itself(model: nn.Module, ids: Tensor, n: int) -> float:
    """In texts without any mask: the share of positions whose own token the model ranks first."""
    return float((small.logits(model, small.labelled(ids, ids))[..., :n].argmax(-1) == ids).float().mean())


@experiment(long=True)
def masked_chain(lab: Lab, params: Chain) -> None:
    """Two masks filled at once lose what the hidden tokens tell of each other; a model that only ever answers at masks
    learns nothing about the tokens that it sees."""
    chain = MarkovChain.random(params.n_symbols, 1, lab.generator(), params.sharpness)
    test = chain.sample(params.rows, LENGTH, lab.generator(1))
    joint = pair_posterior(chain, test)
    lost = lab.number("information", information(joint), "nat")
    flat = MarkovChain.random(params.n_symbols, 1, lab.generator(2), params.flatness)
    plain = flat.sample(params.rows, LENGTH, lab.generator(3))
    models: dict[int, nn.Module] = {}

    def model(seed: int) -> nn.Module:
        if seed not in models:
            models[seed] = learn(lab, chain, HALF, params.steps, seed)
        return models[seed]

    def named(masking: Masking, seed: int) -> float:
        return names_itself(learn(lab, flat, masking, params.steps // 2, seed), plain, params.n_symbols)

    lab.claim(
        "in_turn",
        Text(
            "Filled one after the other, two hidden neighbours are nearer to the exact posterior than at once.",
            "两个相邻的掩码依次填，比同时填更接近精确后验。",
        ),
        measure=lambda at_once, seed: excess(model(seed), test, joint, at_once),
        arm=False,
        control=True,
        without=Text("both filled from one reading", "一次前向同时填两个"),
        holds=lower(),
        unit="nat",
        seeds=3,
    )
    lab.claim(
        "sees_itself",
        Text(
            "Trained with 80/10/10, the model can name the tokens that it sees; trained with masks alone, it cannot.",
            "按 80/10/10 训练的模型说得出自己看见的词；只用 [MASK] 训练的说不出。",
        ),
        measure=named,
        arm=HIDDEN,
        control=ONLY_MASKS,
        without=Text("every hidden token becomes <mask>", "选中的词全部换成 <mask>"),
        holds=higher(),
        seeds=3,
    )
    heights = {"bound": lost, "once": excess(model(lab.seed), test, joint, True)}
    heights["turn"] = excess(model(lab.seed), test, joint, False)
    lab.figure(
        "excess",
        figures.bars(
            Text("Nats above the exact posterior of two neighbours", "两个相邻词相对精确后验多付的奈特"),
            Text("nat", "奈特"),
            heights,
            {
                "bound": Text("mutual information", "互信息（下界）"),
                "once": Text("at once", "同时填"),
                "turn": Text("in turn", "依次填"),
            },
        ),
    )


@dataclass(frozen=True)
class Epochs:
    """texts: to learn from. steps: updates. n_symbols: of the chain."""

    texts: Annotated[int, within(8, 256)] = 48
    steps: Annotated[int, within(50, 2000)] = 300
    n_symbols: Annotated[int, within(3, 12)] = 6


@experiment(long=True)
def fixed_masks(lab: Lab, params: Epochs) -> None:
    """Masks that are drawn once are learned by heart; drawn anew in every epoch, the same texts teach more."""
    chain = MarkovChain.random(params.n_symbols, 1, lab.generator(), 2.0)
    known = vocabulary(params.n_symbols)
    texts = chain.sample(params.texts, LENGTH, lab.generator(1))
    fresh = spoilt(chain.sample(1024, LENGTH, lab.generator(2)), ONLY_MASKS, known, 7)
    rows = min(24, params.texts)
    lab.number("epochs", params.steps * rows / params.texts)
    losses: dict[tuple[bool, int], tuple[float, float]] = {}

    def measured(dynamic: bool, seed: int) -> tuple[float, float]:
        """Loss on the training texts as they are masked in their first epoch, and on fresh ones."""
        if (dynamic, seed) not in losses:
            first = spoilt(texts, ONLY_MASKS, known, seed)

            def make(random: torch.Generator) -> Batch:
                epochs = torch.randint(1 if not dynamic else 2**31, (params.texts,), generator=random)
                chosen = torch.randperm(params.texts, generator=random)[:rows]
                batch = spoilt(texts, ONLY_MASKS, known, seed, epochs)
                return small.labelled(batch.ids[chosen], batch.targets[chosen])

            model = lab.train(small.encoder(known.size, d_model=32, n_layers=2), make, params.steps, seed=seed)
            losses[dynamic, seed] = small.log_loss(model, first), small.log_loss(model, fresh)
        return losses[dynamic, seed]

    lab.claim(
        "fresh_text",
        Text(
            "On fresh text the loss is lower when the masks of the same few texts change with every epoch.",
            "同样几篇文本，掩码每轮重抽，在新文本上的损失更低。",
        ),
        measure=lambda dynamic, seed: measured(dynamic, seed)[1],
        arm=True,
        control=False,
        without=Text("each text masked once for all epochs", "每篇文本只掩码一次，各轮相同"),
        holds=lower(),
        unit="nat",
        seeds=3,
    )
    for name, dynamic in (("dynamic", True), ("static", False)):
        lab.number(f"own_{name}", sum(measured(dynamic, seed)[0] for seed in range(3)) / 3, "nat")
