"""The arms that have no residual connections, and what experiments on depth measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qkv.lab.small import stack
from qkv.models.config import EmbeddingConfig
from qkv.models.stack import Stack
from qkv.nn import Block, NoPosition, Plain, Pre, Tokens

VOCAB = 64


@dataclass(frozen=True)
class NoSkip(Pre):
    """f(norm(x)): pre-norm whose skip path carries nothing (α = 0)."""

    def constants(self, n_layers: int, sublayers: int, n_source_layers: int) -> tuple[float, float]:
        return 0.0, 1.0


@dataclass(frozen=True)
class Bare(Plain):
    """f(x): neither norm nor skip path."""

    def constants(self, n_layers: int, sublayers: int, n_source_layers: int) -> tuple[float, float]:
        return 0.0, 1.0


def deep_stack(n_layers: int, d_model: int, d_ff: int | None = None, **block: Any) -> Stack:
    """An untrained stack in float64, without positions, on embeddings of the length that a norm gives: √d_model."""
    config = stack(
        VOCAB,
        d_model=d_model,
        n_layers=n_layers,
        d_ff=d_ff,
        position=NoPosition(),
        block=block,
        embedding=EmbeddingConfig(VOCAB, dropout=0.0, std=1.0),
    )
    return Stack(config).double()


def streams(model: Stack, ids: Tensor) -> list[Tensor]:
    """The residual stream before the first layer and after each, [B,T,E] each; a final norm is left out."""
    found: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if not found:
            found.append(inputs[0])
        found.append(output)

    handles = [block.register_forward_hook(keep) for block in model.blocks]
    try:
        model(ids, Tokens.arange(*ids.shape))
    finally:
        for handle in handles:
            handle.remove()
    return found


def first_weights(block: nn.Module) -> Tensor:
    """The first matrix of the block's feed-forward network, whose gradient stands for the layer's."""
    assert isinstance(block, Block) and block.feedforward is not None
    return block.feedforward.up.weight  # type: ignore[union-attr, return-value]


def spread(x: Tensor) -> float:
    """How much the tokens of a sequence differ: ‖x − mean over tokens‖ / ‖x‖, for x [B,T,E]."""
    return float((x - x.mean(1, keepdim=True)).norm() / x.norm())


def different_tokens(length: int) -> Tensor:
    """ids [1,T], all different."""
    return torch.arange(length)[None]
