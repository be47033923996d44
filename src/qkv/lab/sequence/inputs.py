"""What enters a decoder: shifted ids, scaled embeddings, and what the table learns from them (A18, A61)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qkv.data.batch import Batch
from qkv.data.chains import MarkovChain
from qkv.lab import figures, small
from qkv.lab.checks import above, below, close, exactly
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import DecoderOnly, EmbeddingConfig, HeadConfig, Stack, StackConfig
from qkv.nn import Sinusoidal, Tokens
from qkv.training.losses import TokenCrossEntropy

Shift = Callable[[Tensor], Batch]


def shifted(ids: Tensor) -> Batch:
    """Each token is predicted from those before it."""
    return small.following(ids)


def unshifted(ids: Tensor) -> Batch:
    """Each token is predicted from itself and those before it: the shift forgotten."""
    return small.labelled(ids, ids.clone())


@dataclass(frozen=True)
class DecoderInput:
    """vocab: size of the table. length: of a sequence. d_model: width of the embeddings whose scale is measured."""

    vocab: Annotated[int, within(8, 1000)] = 40
    length: Annotated[int, within(2, 64)] = 8
    d_model: Annotated[int, within(16, 2048)] = 512


@experiment()
def decoder_embedding(lab: Lab, params: DecoderInput) -> None:
    """Inputs are shifted by one; a tied table learns from both ends, an untied one only from the rows it has read."""
    ids = torch.randint(params.vocab, (2, params.length), generator=lab.generator())
    batch = shifted(ids)
    tied = small.decoder(params.vocab, head=HeadConfig(tied=True)).double()
    untied = small.decoder(params.vocab).double()
    untied.load_state_dict(tied.state_dict())
    by_tied, _ = table_gradients(tied, batch)
    by_input, by_output = table_gradients(untied, batch)
    read = batch.ids.unique()
    lab.number("rows_read", len(read))
    lab.number("rows_moved", moved(by_input).sum())
    lab.claim(
        "two_ends",
        Text(
            "The gradient of a tied table is the sum of its gradients as input and as output matrix.",
            "共享的词表，梯度等于作为输入表与作为输出矩阵两处梯度之和。",
        ),
        measure=lambda parts: (by_tied - parts.sum(0)).norm() / by_tied.norm(),
        arm=torch.stack((by_input, by_output)),
        control=by_output[None],
        without=Text("the input's share left out", "漏掉输入一端"),
        holds=below(1e-12),
    )
    unread = torch.ones(params.vocab, dtype=torch.bool)
    unread[read] = False
    lab.claim(
        "rows",
        Text(
            "An untied input table gets no gradient in rows that were not read.",
            "不共享时，没有读到的词，其输入向量得不到梯度。",
        ),
        measure=lambda gradient: moved(gradient)[unread].sum(),
        arm=by_input,
        control=by_tied,
        without=Text("the table tied to the output matrix", "与输出矩阵共享词表"),
        holds=exactly(0),
        unit="rows",
    )
    claim_shift(lab, untied, ids)
    claim_scale(lab, params)


def moved(gradient: Tensor) -> Tensor:
    """[V] bool: the rows that are not zero."""
    return gradient.ne(0).any(1)


def table_gradients(model: DecoderOnly, batch: Batch) -> tuple[Tensor, Tensor]:
    """The gradients [V,E] of the input table and of the output matrix (the same one where they are tied)."""
    model.zero_grad()
    total, count, _ = TokenCrossEntropy()(model, batch)["cross_entropy"]
    (total / count).backward()
    grads = (model.decoder.embedding.token.weight.grad, model.head.weight.grad)
    return grads[0].clone(), grads[1].clone()  # type: ignore[union-attr]


def claim_shift(lab: Lab, model: DecoderOnly, ids: Tensor) -> None:
    """Whether the score of a token depends on that token."""

    @torch.no_grad()
    def peek(shift: Shift) -> float:
        worst = 0.0
        for t in range(1, ids.shape[1]):
            other = ids.clone()
            other[:, t] = (other[:, t] + 1) % ids.max()
            before, after = (small.logits(model, shift(each)) for each in (ids, other))
            asked = t - (ids.shape[1] - before.shape[1])  # the position at which token t is asked
            worst = max(worst, float((before - after)[:, asked].abs().max()))
        return worst

    lab.claim(
        "shift",
        Text(
            "Shifted by one, no token is seen by the position that predicts it.",
            "右移一位后，预测某个词的位置看不到这个词本身。",
        ),
        measure=peek,
        arm=shifted,
        control=unshifted,
        without=Text("inputs not shifted", "输入不右移"),
        holds=below(1e-12),
    )


def claim_scale(lab: Lab, params: DecoderInput) -> None:
    """The norm of a token's vector beside that of its position's."""
    tokens = Tokens.arange(1, 64)
    ids = torch.randint(1000, (1, 64), generator=lab.generator(1))

    @torch.no_grad()
    def ratio(scaled: bool, d_model: int = params.d_model) -> float:
        embedding = EmbeddingConfig(1000, scaled=scaled, dropout=0.0)
        stack = Stack(StackConfig(d_model, 1, embedding=embedding, position=Sinusoidal()))
        both = stack.embedding(ids, tokens)
        position = stack.position.embed(torch.zeros_like(both), tokens)
        return float((both - position).norm(dim=-1).mean() / position.norm(dim=-1).mean())

    lab.claim(
        "scale",
        Text(
            "With E ~ N(0, 1/d), the factor √d makes a token √2 times as long as its sinusoid at any width.",
            "当 E ~ N(0, 1/d) 时，乘以 √d 使词向量的长度恒为正弦位置向量的 √2 倍。",
        ),
        measure=ratio,
        arm=True,
        control=False,
        without=Text("no factor √d", "不乘 √d"),
        holds=close(2**0.5, 0.05),
    )
    widths = [16 * 4**i for i in range(4)]
    names = {"scaled": Text("times √d", "乘 √d"), "raw": Text("as it is", "不乘")}
    lab.figure(
        "scale",
        figures.lines(
            Text("Length of a token's vector beside its position's", "词向量与位置向量的长度之比"),
            Text("width d", "宽度 d"),
            Text("ratio", "比值"),
            {"scaled": [(d, ratio(True, d)) for d in widths], "raw": [(d, ratio(False, d)) for d in widths]},
            names,
            x_scale="log",
            y_scale="log",
        ),
    )


@dataclass(frozen=True)
class ShiftedTraining:
    """symbols: of the Markov source. length: of a sequence. steps: updates."""

    symbols: Annotated[int, within(3, 16)] = 8
    length: Annotated[int, within(4, 64)] = 16
    steps: Annotated[int, within(20, 500)] = 150


@experiment(long=True)
def shifted_training(lab: Lab, params: ShiftedTraining) -> None:
    """Shifted inputs train down to the source's entropy and no further; unshifted ones fall through it to zero."""
    chain = MarkovChain.random(params.symbols, 1, lab.generator())
    held_out = chain.sample(500, params.length, lab.generator(1))
    entropy = -float(chain.log_prob(held_out)[:, 1:].mean())
    lab.number("entropy", entropy, "nat")

    def excess(shift: Shift, seed: int) -> float:
        model = small.decoder(params.symbols)
        lab.train(model, lambda g: shift(chain.sample(32, params.length, g)), params.steps, seed=seed)
        batch = shift(held_out)
        batch.targets[:, : batch.targets.shape[1] - params.length + 1] = -100  # the first token: not asked by either
        return small.log_loss(model, batch) - entropy

    lab.claim(
        "excess",
        Text(
            "Trained on shifted inputs, the loss stays at or above the entropy of the source.",
            "输入右移时，训练后的损失不会低于信源的熵。",
        ),
        measure=excess,
        arm=shifted,
        control=unshifted,
        without=Text("inputs not shifted: each target is its own input", "输入不右移：每个目标就是自己的输入"),
        holds=above(-0.02),
        unit="nat",
        seeds=3,
    )
