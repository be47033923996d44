"""Naive Bayes and the Transformer (A39): it is a special case of attention, and one that training may leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from qkv.baselines.naive_bayes import NaiveBayes
from qkv.baselines.recurrent import Recurrent, RecurrentConfig
from qkv.lab import figures, small
from qkv.lab.checks import above, below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import EncoderOnly
from qkv.nn import Attention, Block, NoPosition, Plain, Tokens


@dataclass(frozen=True)
class Inside:
    """n_classes, n_words: of the naive Bayes. length: of a text. rows: texts compared."""

    n_classes: Annotated[int, within(2, 16)] = 3
    n_words: Annotated[int, within(2, 100)] = 20
    length: Annotated[int, within(1, 64)] = 12
    rows: Annotated[int, within(1, 1000)] = 200


def only_attention(model: EncoderOnly) -> Attention:
    """The attention of a model of one layer."""
    (block,) = model.encoder.blocks
    assert isinstance(block, Block)
    return block.attention


@torch.no_grad()
def as_attention(source: NaiveBayes, length: int) -> EncoderOnly:
    """One layer, one head, no norm, no feed-forward, whose hidden state at a last class token is log p(c, words).

    Zero queries see all n+1 tokens alike; W_O undoes the mean by n+1; the class token, which the residual path counts
    once more, carries half of the log prior."""
    n_classes, n_words = source.log_words.shape
    model = small.encoder(
        n_words + 1,
        d_model=n_classes,
        n_layers=1,
        n_heads=1,
        d_ff=0,
        position=NoPosition(),
        attention={"bias": False, "out_bias": False},
        block={"placement": Plain()},
    ).double()
    attention = only_attention(model)
    eye = torch.eye(n_classes, dtype=torch.float64)
    attention.query_key_value.weight.copy_(torch.cat([0 * eye, 0 * eye, eye]))
    attention.out.weight.copy_((length + 1) * eye)
    model.encoder.embedding.token.weight.copy_(torch.cat([source.log_words.T, source.log_prior[None] / 2]))
    return model


@experiment()
def naive_bayes_inside(lab: Lab, params: Inside) -> None:
    """One attention layer with uniform weights is multinomial naive Bayes, to rounding."""
    generator = lab.generator()
    drawn = [
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((params.n_classes,), (params.n_classes, params.n_words))
    ]
    source = NaiveBayes(*(scores.log_softmax(-1) for scores in drawn))
    words, labels = source.sample(params.rows, params.length, generator)
    ids = torch.cat([words, torch.full((params.rows, 1), params.n_words)], 1)
    lab.number("accuracy", source.accuracy(words, labels), "share")

    def distance(uniform: bool) -> Tensor:
        model = as_attention(source, params.length)
        if not uniform:
            nn.init.normal_(only_attention(model).query_key_value.weight[: 2 * params.n_classes])
        with torch.no_grad():
            joint = model(ids, Tokens.arange(*ids.shape))[:, -1]
        return (joint.softmax(-1) - source.posterior(words)).abs().max()

    lab.claim(
        "identity",
        Text(
            "Uniform attention over values log p(w|c) gives naive Bayes' posterior.",
            "均匀注意力加上值 log p(w|c)，得到的就是朴素贝叶斯的后验。",
        ),
        measure=distance,
        arm=True,
        control=False,
        without=Text("attention weights that depend on the words", "注意力权重随词而变"),
        holds=below(1e-10),
    )


@dataclass(frozen=True)
class Interaction:
    """n_bits: length of a text of bits, of which the first two decide. steps: updates."""

    n_bits: Annotated[int, within(2, 8)] = 4
    steps: Annotated[int, within(10, 500)] = 100


@experiment()
def naive_bayes_xor(lab: Lab, params: Interaction) -> None:
    """Where the class depends on two words together, naive Bayes is at chance and a Transformer is not."""
    bits = torch.cartesian_prod(*[torch.arange(2)] * params.n_bits)
    words, asks = 2 * torch.arange(params.n_bits) + bits, 2 * params.n_bits
    xor, first = bits[:, 0] ^ bits[:, 1], bits[:, 0]

    def learned(model: nn.Module, seed: int) -> float:
        every = small.asking(words, asks, xor)
        lab.train(model, lambda _: every, params.steps, seed=seed, learning_rate=5e-3)
        return small.accuracy(model, every)

    def accuracy(arm: str, seed: int) -> float:
        if arm == "naive Bayes":
            return NaiveBayes.fit(words, xor, asks, 2).accuracy(words, xor)
        return learned(small.encoder(asks + 1, d_model=32, n_layers=2), seed)

    claim = lab.claim(
        "xor",
        Text("A Transformer learns the exclusive or of two words.", "Transformer 学会了两个词的异或。"),
        measure=accuracy,
        arm="transformer",
        control="naive Bayes",
        without=Text("naive Bayes, fitted to every text that there is", "朴素贝叶斯，在全部文本上拟合"),
        holds=above(0.95),
        unit="share",
        seeds=3,
    )
    lstm = learned(Recurrent(RecurrentConfig(asks + 1, 32)), lab.seed)
    lab.number("lstm", lstm, "share")
    lab.number("naive_bayes_one_word", NaiveBayes.fit(words, first, asks, 2).accuracy(words, first), "share")
    if claim and claim.measured:
        heights = {"transformer": min(claim.measured), "lstm": lstm, "naive": claim.against[0]}
        names = {
            "transformer": Text("Transformer", "Transformer"),
            "lstm": Text("LSTM", "LSTM"),
            "naive": Text("naive Bayes", "朴素贝叶斯"),
        }
        title = Text("Exclusive or of two words", "两个词的异或")
        lab.figure("accuracy", figures.bars(title, Text("accuracy", "准确率"), heights, names))
