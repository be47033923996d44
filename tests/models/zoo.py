"""Small models that cover every pair of choices, and the ways to run them that the invariants compare."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from qkv import nn as parts
from qkv.models import (
    DecoderOnlyConfig,
    EmbeddingConfig,
    EncoderDecoderConfig,
    EncoderOnlyConfig,
    HeadConfig,
    ModelConfig,
    StackConfig,
    Transformer,
    build,
)
from tests.nn.grid import pairwise

VOCAB, E, H, L = 11, 16, 4, 2

AXES: dict[str, list[Any]] = {
    "heads": [parts.MultiHead(H), parts.GroupedQuery(H, 2), parts.MultiQuery(H)],
    "position": [
        parts.Rotary(),
        parts.LinearBias(),
        parts.Sinusoidal(),
        parts.RelativeBuckets(8, 20),
        parts.Learned(32),
        parts.NoPosition(),
        parts.Rotary(layout="interleaved"),
    ],
    "kernel": [parts.Fused(), parts.Einsum(), parts.Chunked(3), parts.PerHead()],
    "norm": [parts.LayerNorm(), parts.RMSNorm(), parts.NoNorm()],
    "placement": [parts.Post(), parts.Pre(), parts.Sandwich(), parts.DeepNorm(), parts.Plain()],
    "feedforward": [
        parts.FeedForward(24),
        parts.FeedForward(24, "gelu"),
        parts.FeedForward(20, "silu", gated=True, bias=False),
        parts.NoFeedForward(),
    ],
    "qk_norm": [None, parts.RMSNorm()],
}
GRID = pairwise(**AXES)
BATCH_NORM = {name: values[0] for name, values in AXES.items()} | {"norm": parts.BatchNorm()}


def stack(row: dict[str, Any], mask: parts.Mask | None = None, **changes: Any) -> StackConfig:
    """The stack of one combination; no dropout, biases and norms included."""
    attention = parts.AttentionConfig(row["heads"], kernel=row["kernel"], qk_norm=row["qk_norm"])
    block = parts.BlockConfig(attention, row["feedforward"], row["norm"], row["placement"], dropout=0.0)
    embedding = EmbeddingConfig(VOCAB, dropout=0.0, scaled=True)
    config = StackConfig(E, L, embedding=embedding, position=row["position"], mask=mask, block=block)  # type: ignore[arg-type]
    return replace(config, **changes)


def model(config: ModelConfig, seed: int = 0) -> Transformer:
    """A model in float64 whose every parameter is random, so that no bias or gain hides at 0 or 1."""
    torch.manual_seed(seed)
    built = build(config).double().eval()
    for parameter in built.parameters():
        if parameter.dim() == 1:
            parameter.data.add_(torch.randn_like(parameter) * 0.3)
    return built


def decoder(row: dict[str, Any], mask: parts.Mask | None = None, **changes: Any) -> Transformer:
    return model(DecoderOnlyConfig(stack(row, mask, **changes), HeadConfig(bias=True)))


def encoder(row: dict[str, Any], mask: parts.Mask | None = None, **changes: Any) -> Transformer:
    return model(EncoderOnlyConfig(stack(row, mask, **changes), HeadConfig(bias=True)))


def both(row: dict[str, Any]) -> Transformer:
    return model(EncoderDecoderConfig(stack(row), stack(row), HeadConfig(bias=True)))


def words(rows: int, length: int, seed: int = 5) -> Tensor:
    return torch.randint(0, VOCAB, (rows, length), generator=torch.Generator().manual_seed(seed))


def pad(ids: Tensor, lengths: list[int], width: int, side: str) -> tuple[Tensor, parts.Tokens]:
    """The first lengths[i] ids of each row in a row of `width`, with nonsense where there is padding."""
    tokens = parts.Tokens.from_lengths(lengths, width, side)
    out = words(len(ids), width, seed=99)
    for i, n in enumerate(lengths):
        out[i, tokens.valid[i]] = ids[i, :n]
    return out, tokens


def gradients(built: Transformer, hidden: Tensor, valid: Tensor, weight: Tensor) -> dict[str, Tensor]:
    """Gradients of a sum over valid tokens, by parameter; `weight` [N,V] makes every token's share its own."""
    built.zero_grad()
    (built.head(hidden)[valid] * weight).sum().backward()
    return {name: p.grad for name, p in built.named_parameters() if p.grad is not None}
