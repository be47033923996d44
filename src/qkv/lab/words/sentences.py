"""Sentence vectors from a masked language model (A99): a narrow cone, and three ways out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from qkv.data.batch import IGNORE, Batch
from qkv.data.couples import SIMILARITY
from qkv.lab import figures, small
from qkv.lab.checks import below, higher
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import EmbeddingConfig, EncoderOnly, EncoderOnlyConfig, Reader, pooled
from qkv.models.likeness import InBatch, Likeness, TwoDropouts
from qkv.models.outputs import Pooling
from qkv.nn import Tokens
from qkv.probe.isotropy import mean_cosine, whitening
from qkv.tasks.similarity_metrics import spearman
from qkv.training.objectives import OutputLosses

N_TOPICS, WORDS, COMMON = 8, 12, 16
FURTHER_RATE = 2e-3
CLS, MASK = N_TOPICS * WORDS + COMMON, N_TOPICS * WORDS + COMMON + 1


@dataclass(frozen=True)
class Sentences:
    """length: words of a text. noise: share of words that say nothing of the topic. steps: updates of masked language
    modelling. contrastive: further updates, of whatever kind. d_model: width."""

    length: Annotated[int, within(4, 64)] = 12
    noise: Annotated[float, within(0, 0.95)] = 0.5
    steps: Annotated[int, within(10, 2000)] = 250
    contrastive: Annotated[int, within(0, 2000)] = 200
    d_model: Annotated[int, within(8, 128)] = 32


def mixtures(rows: int, generator: torch.Generator) -> Tensor:
    """Topic mixtures [B,8], by which texts are alike."""
    mixture = torch.rand(rows, N_TOPICS, generator=generator).pow(6)
    return mixture / mixture.sum(1, keepdim=True)


def drawn(params: Sentences, mixture: Tensor, generator: torch.Generator) -> Tensor:
    """A text [1+length] of each topic mixture, [B,1+length]; its first token is <cls>."""
    topic = torch.multinomial(mixture, params.length, replacement=True, generator=generator)
    shape = topic.shape
    words = topic * WORDS + (torch.rand(shape, generator=generator).pow(2) * WORDS).long()
    common = N_TOPICS * WORDS + (torch.rand(shape, generator=generator).pow(3) * COMMON).long()
    ids = torch.where(torch.rand(shape, generator=generator) < params.noise, common, words)
    return torch.cat([torch.full((len(mixture), 1), CLS), ids], 1)


def masked(ids: Tensor, generator: torch.Generator) -> Batch:
    """15 % of the words are hidden and asked for."""
    hidden = (torch.rand(ids.shape, generator=generator) < 0.15) & (ids != CLS)
    hidden[:, 1] |= ~hidden.any(1)
    return small.labelled(ids.masked_fill(hidden, MASK), ids.masked_fill(~hidden, IGNORE))


def pretrained(lab: Lab, params: Sentences, seed: int) -> EncoderOnly:
    """A small encoder after masked language modelling."""
    model = small.encoder(
        MASK + 1,
        d_model=params.d_model,
        n_layers=2,
        embedding=EmbeddingConfig(MASK + 1, dropout=0.1),
        block={"dropout": 0.1},
    )
    return guessing(lab, params, model, params.steps, seed, learning_rate=5e-3)


def guessing(
    lab: Lab, params: Sentences, model: EncoderOnly, steps: int, seed: int, learning_rate: float
) -> EncoderOnly:
    """The encoder after so many updates of masked language modelling, in place."""

    def make(generator: torch.Generator) -> Batch:
        return masked(drawn(params, mixtures(64, generator), generator), generator)

    lab.train(model, make, steps, seed=seed, learning_rate=learning_rate)
    return model


def contrasted(lab: Lab, params: Sentences, model: EncoderOnly, output: Likeness, seed: int) -> Reader:
    """The same encoder, trained on with every text as its own pair, or with pairs of texts of one mixture."""
    reader = Reader(EncoderOnlyConfig(model.config.stack), {SIMILARITY: output}, {SIMILARITY: ()})
    reader.encoder.load_state_dict(model.encoder.state_dict())

    def make(generator: torch.Generator) -> Batch:
        mixture = mixtures(64, generator)
        first = drawn(params, mixture, generator)
        twice = torch.cat([first, first if output.own else drawn(params, mixture, generator)])
        batch = small.labelled(twice, torch.full_like(twice, IGNORE))
        batch.extra[SIMILARITY] = torch.ones(64)
        return batch

    loss = OutputLosses({SIMILARITY: output})
    lab.train(reader, make, params.contrastive, seed=seed, learning_rate=FURTHER_RATE, loss=loss)
    return reader


@torch.no_grad()
def vectors(model: EncoderOnly | Reader, ids: Tensor, pooling: Pooling) -> Tensor:
    """One vector a text, [B,E]."""
    memory = model.eval().encode(ids, Tokens.arange(*ids.shape))
    return pooled(memory.x, memory.tokens, pooling)


NAMES = {
    "first": Text("first token", "首词元"),
    "mean": Text("mean", "平均"),
    "whitened": Text("whitened", "白化"),
    "whitened_few": Text("whitened, 8 left", "白化，留 8 维"),
    "longer": Text("trained on", "继续训练"),
    "dropouts": Text("two dropouts", "两次 dropout"),
    "pairs": Text("pairs", "成对文本"),
}


def agreement(x: Tensor, mixture: Tensor) -> float:
    """Spearman's correlation of cosines with the cosines of the topic mixtures, over neighbouring texts."""
    found = F.cosine_similarity(x[0::2], x[1::2])
    return spearman(found.tolist(), F.cosine_similarity(mixture[0::2], mixture[1::2]).tolist())


@experiment(long=True)
def sentence_vectors(lab: Lab, params: Sentences) -> None:
    """Vectors of a masked language model crowd together; whitening spreads them, training on pairs orders them."""
    scores: dict[str, list[float]] = {name: [] for name in NAMES}
    cones: dict[str, list[float]] = {name: [] for name in scores}
    for seed in range(lab.seed, lab.seed + 3):
        torch.manual_seed(seed)
        model = pretrained(lab, params, seed)
        generator = lab.generator(50)  # every seed is measured on the same texts
        mixture = mixtures(2000, generator)
        ids = drawn(params, mixture, generator)
        sample = vectors(model, drawn(params, mixtures(2000, generator), generator), "mean")
        found = {
            "first": vectors(model, ids, "first"),
            "mean": vectors(model, ids, "mean"),
            "whitened": whitening(sample)(vectors(model, ids, "mean")),
            "whitened_few": whitening(sample, N_TOPICS)(vectors(model, ids, "mean")),
            "dropouts": vectors(contrasted(lab, params, model, TwoDropouts(temperature=0.1), seed), ids, "mean"),
            "pairs": vectors(contrasted(lab, params, model, InBatch(temperature=0.1), seed), ids, "mean"),
        }
        further = guessing(lab, params, model, params.contrastive, seed + 1, FURTHER_RATE)  # last: it changes the model
        found["longer"] = vectors(further, ids, "mean")
        for name, x in found.items():
            scores[name].append(agreement(x, mixture))
            cones[name].append(mean_cosine(x))
    for name in scores:
        lab.number(f"{name}_score", sum(scores[name]) / 3, "rank correlation")
        lab.number(f"{name}_cosine", sum(cones[name]) / 3, "cosine")
    _claims(lab, scores, cones)
    heights = {name: sum(values) / 3 for name, values in scores.items()}
    title = Text("Agreement with the true similarity", "与真实相似度的一致性")
    lab.figure("agreement", figures.bars(title, Text("Spearman", "Spearman"), heights, NAMES))


def _claims(lab: Lab, scores: dict[str, list[float]], cones: dict[str, list[float]]) -> None:
    lab.claim(
        "cone",
        Text("Whitened, two random texts are at right angles on average.", "白化之后，任意两个文本平均接近正交。"),
        measure=lambda name, seed: abs(cones[name][seed - lab.seed]),
        arm="whitened",
        control="mean",
        without=Text("the mean of the hidden states as it is", "隐状态的平均，不加处理"),
        holds=below(0.05),
        unit="cosine",
        seeds=3,
    )
    lab.claim(
        "pairs",
        Text(
            "Contrastive training on pairs that mean alike raises the agreement with the true similarity.",
            "用意思相近的成对文本做对比学习，会提高与真实相似度的一致性。",
        ),
        measure=lambda name, seed: scores[name][seed - lab.seed] - scores["mean"][seed - lab.seed],
        arm="pairs",
        control="dropouts",
        without=Text(
            "pairs: as many updates of the same loss, each text its own pair",
            "不给成对文本：同一损失、同样步数，文本与自身配对",
        ),
        holds=higher(),
        unit="rank correlation",
        seeds=3,
    )


@experiment()
def whitened_covariance(lab: Lab, params: Sentences) -> None:
    """Whitening makes the covariance the identity, whatever the vectors were."""
    generator = lab.generator()
    mix = torch.randn(params.d_model, params.d_model, generator=generator, dtype=torch.float64)
    x = torch.randn(1000, params.d_model, generator=generator, dtype=torch.float64) @ mix + 5
    lab.number("cosine", mean_cosine(x), "cosine")
    eye = torch.eye(params.d_model, dtype=torch.float64)
    lab.claim(
        "identity",
        Text("The covariance of whitened vectors is the identity.", "白化后的协方差矩阵是单位阵。"),
        measure=lambda y: (torch.cov(y.T) - eye).abs().max(),
        arm=whitening(x)(x),
        control=x - x.mean(0),
        without=Text("only the mean taken away", "只减去均值"),
        holds=below(1e-9),
    )
