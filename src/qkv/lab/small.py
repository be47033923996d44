"""The small models that experiments train, and the batches they are trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qkv.data.batch import IGNORE, Batch, pad
from qkv.models import DecoderOnly, EncoderDecoder, EncoderOnly
from qkv.models.config import (
    DecoderOnlyConfig,
    EmbeddingConfig,
    EncoderDecoderConfig,
    EncoderOnlyConfig,
    HeadConfig,
    StackConfig,
)
from qkv.nn import AttentionConfig, BlockConfig, FeedForward, Learned, MultiHead, NoFeedForward, PositionConfig, Tokens
from qkv.training.losses import Term, run

MAX_LENGTH = 256


def stack(
    vocab_size: int,
    d_model: int = 32,
    n_layers: int = 2,
    n_heads: int = 2,
    d_ff: int | None = None,
    position: PositionConfig | None = None,
    attention: dict[str, Any] | None = None,
    block: dict[str, Any] | None = None,
    **changes: Any,
) -> StackConfig:
    """A stack without dropout. d_ff: 4·d_model unless given, 0 for no feed-forward. position: learned unless given.
    attention, block, changes: further fields of AttentionConfig, BlockConfig and StackConfig."""
    width = 4 * d_model if d_ff is None else d_ff
    return StackConfig(
        d_model=d_model,
        n_layers=n_layers,
        position=Learned(MAX_LENGTH) if position is None else position,
        **{
            "embedding": EmbeddingConfig(vocab_size, dropout=0.0),
            "block": BlockConfig(
                attention=AttentionConfig(**{"heads": MultiHead(n_heads), **(attention or {})}),
                feedforward=FeedForward(width) if width else NoFeedForward(),
                **{"dropout": 0.0, **(block or {})},
            ),
            **changes,
        },
    )


def decoder(vocab_size: int, head: HeadConfig | None = None, **changes: Any) -> DecoderOnly:
    """A causal language model; `changes` as in `stack`."""
    return DecoderOnly(DecoderOnlyConfig(stack(vocab_size, **changes), head or HeadConfig(tied=False)))


def encoder(vocab_size: int, head: HeadConfig | None = None, **changes: Any) -> EncoderOnly:
    """A bidirectional encoder with a head at every position; `changes` as in `stack`."""
    return EncoderOnly(EncoderOnlyConfig(stack(vocab_size, **changes), head or HeadConfig(tied=False)))


def encoder_decoder(vocab_size: int, head: HeadConfig | None = None, **changes: Any) -> EncoderDecoder:
    """Both, with embeddings of their own; `changes` as in `stack`, for both sides."""
    both = stack(vocab_size, **changes)
    return EncoderDecoder(EncoderDecoderConfig(both, both, head or HeadConfig(tied=False)))


def following(ids: Tensor, begin: int | None = None) -> Batch:
    """ids [B,T] -> the batch in which each token is predicted from those before it; with `begin`, the first one too."""
    if begin is not None:
        ids = torch.cat([ids.new_full((len(ids), 1), begin), ids], dim=1)
    return labelled(ids[:, :-1], ids[:, 1:])


def labelled(ids: Tensor, targets: Tensor) -> Batch:
    """ids [B,T] and what each position has to say, [B,T]; IGNORE where nothing is asked."""
    return Batch(ids, Tokens.arange(*ids.shape), targets)


def at_last(ids: Tensor, labels: Tensor) -> Batch:
    """ids [B,T] -> labels [B], asked at the last position only."""
    targets = torch.full_like(ids, IGNORE)
    targets[:, -1] = labels
    return labelled(ids, targets)


def asking(ids: Tensor, token: int, labels: Tensor) -> Batch:
    """ids [B,T] and, behind them, the token that asks for labels [B]."""
    return at_last(torch.cat([ids, ids.new_full((len(ids), 1), token)], dim=1), labels)


def asked_first(rows: Sequence[Sequence[int]], asks: Sequence[int], labels: Sequence[int]) -> Batch:
    """Rows of any length and, before each, the token that asks for its label; padded on the right, [B,1+T]."""
    ids = pad([[token, *row] for token, row in zip(asks, rows, strict=True)])
    targets = torch.full_like(ids, IGNORE)
    targets[:, 0] = torch.tensor(labels)
    return Batch(ids, Tokens.from_lengths([1 + len(row) for row in rows]), targets)


def paired(source_ids: Tensor, ids: Tensor, begin: int) -> Batch:
    """source_ids [B,S], ids [B,T] -> the batch in which a decoder that starts with `begin` writes ids."""
    inputs = torch.cat([ids.new_full((len(ids), 1), begin), ids[:, :-1]], dim=1)
    return Batch(inputs, Tokens.arange(*ids.shape), ids, source_ids, Tokens.arange(*source_ids.shape))


class Objective:
    """A loss that is a function of the model alone: `value(model)` is a sum over `count` units. To be trained on
    `nothing`."""

    additive = True

    def __init__(self, value: Callable[[Any], Tensor], count: int = 1):
        self.value, self.count = value, count

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Term]:
        return {"objective": (self.value(model), self.count, 1.0)}

    def counts(self, batch: Batch) -> dict[str, float]:
        return {"objective": self.count}


def nothing(generator: torch.Generator) -> Batch:
    """The batch for an `Objective`, which does not look at it."""
    ids = torch.zeros(1, 1, dtype=torch.long)
    return labelled(ids, ids)


@torch.no_grad()
def logits(model: nn.Module, batch: Batch) -> Tensor:
    """What the model says at every position, [B,T,V], without gradients."""
    return model.head(run(model, batch))  # type: ignore[operator]


def log_loss(model: nn.Module, batch: Batch) -> float:
    """Mean cross-entropy over the positions that are asked, in nats."""
    return float(F.cross_entropy(logits(model, batch).flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE))


def accuracy(model: nn.Module, batch: Batch) -> float:
    """Share of the asked positions at which the likeliest token is the right one."""
    asked = batch.targets != IGNORE
    return float((logits(model, batch).argmax(-1) == batch.targets)[asked].float().mean())
