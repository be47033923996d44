"""What a stack costs, in closed form: operations, parameters, and the bytes of its cache.

An operation is one multiplication or one addition inside a matrix product: a product [m,k]·[k,n] has 2·m·k·n of them,
as `torch.utils.flop_counter` counts. Norms, softmax, activations, looking up embeddings and residual sums are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from qkv.models.config import StackConfig
from qkv.nn.feedforward import FeedForward


@dataclass(frozen=True)
class Operations:
    """Of all layers together. projections: W_Q, W_K, W_V and W_O. table: scores QKᵀ and averages AV. feedforward: its
    matrices. widen: the second matrix of a factorised embedding. bottlenecks: after the sub-layers."""

    projections: int
    table: int
    feedforward: int
    widen: int = 0
    bottlenecks: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.projections + self.table + self.feedforward + self.widen + self.bottlenecks


def operations(config: StackConfig, queries: int, keys: int | None = None) -> Operations:
    """Operations of one row of `queries` new tokens that look at `keys` tokens (None: at each other).

    With T queries, S keys, width E, H heads of width D, G key heads and inner width F, a layer has
    2·T·E·D·(2H + 2G) + 4·T·S·H·D + 4·T·E·F, and 6·T·E·F where the feed-forward is gated; a bottleneck of size K after
    a sub-layer has 4·T·E·K. The whole table of scores is counted, hidden pairs too, as a dense kernel computes them; a
    layer that shares its weights costs what another does.
    Self-attention only: the blocks of a decoder that reads a memory cost more.

    >>> operations(StackConfig(d_model=8, n_layers=1), 4).projections
    2048
    """
    attention, e, n = config.block.attention, config.d_model, config.n_layers
    seen = queries if keys is None else keys
    d, h, g = attention.width(e), attention.heads.n, attention.heads.groups
    rank = config.embedding.rank
    return Operations(
        projections=n * 2 * queries * e * d * (2 * h + 2 * g),
        table=n * 4 * queries * seen * h * d,
        feedforward=n * 2 * queries * e * _inner(config),
        widen=2 * queries * rank * e if rank else 0,
        bottlenecks=n * _sublayers(config) * 4 * queries * e * _bottleneck(config),
    )


def parameters(config: StackConfig) -> int:
    """Weights of a stack without cross-attention and without an output head; shared layers are counted once.

    A layer with H heads of keys, F = 4E, biases and two layer norms has 12E² + 13E.

    >>> parameters(StackConfig(d_model=8, n_layers=2)) - parameters(StackConfig(d_model=8, n_layers=1)) > 12 * 8 * 8
    True
    """
    block, e = config.block, config.d_model
    attention, place = block.attention, block.placement
    d, h, g = attention.width(e), attention.heads.n, attention.heads.groups
    into, out = (h + 2 * g) * d, h * d
    layer = e * into + out * e + (into if attention.bias else 0) + (e if attention.out_bias else 0)
    if attention.qk_norm is not None:
        layer += 2 * _size(attention.qk_norm.build(d))
    sublayers, feedforward = _sublayers(config), block.feedforward
    if isinstance(feedforward, FeedForward):
        up = feedforward.d_ff * (2 if feedforward.gated else 1)
        layer += e * _inner(config) + (up + e if feedforward.bias else 0)
    norm = _size(block.norm.build(e))
    layer += sublayers * (place.inner + place.branch + place.outer) * norm
    layer += sublayers * _size(block.bottleneck.build(e)) if block.bottleneck else 0
    final = place.final if config.final_norm is None else config.final_norm
    return (config.distinct_layers or config.n_layers) * layer + (norm if final else 0) + _embedding(config)


def cache_bytes(config: StackConfig, length: int, itemsize: int = 4) -> int:
    """Bytes of the keys and values of `length` tokens of one row: 2·L·G·D·S·itemsize. itemsize: bytes of a number.

    >>> cache_bytes(StackConfig(d_model=8, n_layers=2), 10)
    1280
    """
    attention = config.block.attention
    return 2 * config.n_layers * attention.heads.groups * attention.width(config.d_model) * length * itemsize


def _inner(config: StackConfig) -> int:
    """F times the number of matrices of the feed-forward: two, or three where it is gated."""
    feedforward = config.block.feedforward
    if not isinstance(feedforward, FeedForward):
        return 0
    return feedforward.d_ff * (3 if feedforward.gated else 2)


def _sublayers(config: StackConfig) -> int:
    return 2 if isinstance(config.block.feedforward, FeedForward) else 1


def _bottleneck(config: StackConfig) -> int:
    return config.block.bottleneck.size if config.block.bottleneck else 0


def _embedding(config: StackConfig) -> int:
    """The tables of words, segments and positions, their norm and the matrix that widens them."""
    embedding, e = config.embedding, config.d_model
    width = embedding.rank or e
    found = (embedding.vocab_size + embedding.segments) * width + _size(config.position.build(config.position_shape))
    found += width * e + e if embedding.rank else 0
    return found + (_size(embedding.norm.build(width)) if embedding.norm else 0)


def _size(part: nn.Module | None) -> int:
    return 0 if part is None else sum(p.numel() for p in part.parameters())
