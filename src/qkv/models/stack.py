"""A stack: embeddings, blocks and a final norm. Encoders and decoders are stacks that differ in mask and memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from qkv.nn import Block, Cache, Full, Mask, Tokens, View
from qkv.nn.dropout import dropout
from qkv.nn.feedforward import ACTIVATIONS
from qkv.nn.init import shrink_branches
from qkv.nn.positions import Position

from .config import EmbeddingConfig, StackConfig


@dataclass(frozen=True)
class Memory:
    """An encoder's output for a decoder to read: x [B,S,E] and its tokens."""

    x: Tensor
    tokens: Tokens

    def select(self, rows: Tensor) -> Memory:
        """The given rows, in the given order."""
        return Memory(self.x.index_select(0, rows), self.tokens.select(rows))


class Embedding(nn.Module):
    """dropout(norm(E[ids]·√width + position + segment)), then widened to d_model when factorised.

    A factorised table [V,R] with a matrix [R,E] has V·R + R·E weights instead of V·E (Lan et al. 2020). Padding gives
    zeros.
    """

    def __init__(self, config: EmbeddingConfig, d_model: int, position: Position):
        super().__init__()
        if config.vocab_size < 1:
            raise ValueError("embedding.vocab_size is 0: build the model with the size of its tokenizer's vocabulary")
        self.config, self.width = config, config.rank or d_model
        self.token = nn.Embedding(config.vocab_size, self.width)
        self.segment = nn.Embedding(config.segments, self.width) if config.segments else None
        self.norm = config.norm.build(self.width) if config.norm else None
        self.widen = nn.Linear(self.width, d_model) if config.rank else None
        self.position = [position]  # in a list: the stack owns it

    def reset_parameters(self) -> None:
        std = self.width**-0.5 if self.config.std is None else self.config.std
        for table in (self.token, self.segment):
            if table is not None:
                nn.init.normal_(table.weight, std=std)

    def forward(self, ids: Tensor, tokens: Tokens) -> Tensor:
        """ids [B,T] -> [B,T,E]."""
        x = self.token(ids)
        if self.config.scaled:
            x = x * math.sqrt(self.width)
        x = self.position[0].embed(x, tokens)
        if self.segment is not None:
            x = x + (self.segment(tokens.fields["segment"]) if "segment" in tokens.fields else self.segment.weight[0])
        if self.norm is not None:
            x = self.norm(x, tokens)
        x = dropout(x, self.config.dropout, self.training)
        if self.widen is not None:
            x = self.widen(x)
        return x.masked_fill(~tokens.valid.unsqueeze(-1), 0.0) if tokens.padded else x


class Stack(nn.Module):
    """ids -> hidden states [B,T,E].

    `cross`: its blocks read a memory. `n_source_layers`: depth of the stack at the other end, for initialisation.
    """

    def __init__(self, config: StackConfig, cross: bool = False, n_source_layers: int = 0):
        super().__init__()
        self.config, self.cross = config, cross
        self.position = config.position.build(config.position_shape)
        self.embedding = Embedding(config.embedding, config.d_model, self.position)
        placement = config.block.placement
        alpha, beta = placement.constants(config.n_layers, 3 if cross else 2, n_source_layers)
        self.blocks = nn.ModuleList(
            Block(config.block, config.d_model, self.position, cross, alpha)
            for _ in range(config.distinct_layers or config.n_layers)
        )
        final = placement.final if config.final_norm is None else config.final_norm
        self.norm = config.block.norm.build(config.d_model) if final else None
        config.init.apply(self, repeats=config.n_layers / len(self.blocks))
        self.embedding.reset_parameters()
        if beta != 1.0:
            for block in self.blocks:
                shrink_branches(block, beta)

    @property
    def max_length(self) -> int | None:
        """The longest sequence its positions allow, or None."""
        return self.position.max_length

    def layers(self) -> list[Block]:
        """The block of each layer, shared ones repeated: layer i uses distinct block i·distinct // n_layers."""
        n, distinct = self.config.n_layers, len(self.blocks)
        return [self.blocks[i * distinct // n] for i in range(n)]  # type: ignore[misc]

    def forward(
        self,
        ids: Tensor,
        tokens: Tokens,
        memory: Memory | None = None,
        cache: Cache | None = None,
        mask: Mask | None = None,
    ) -> Tensor:
        """ids [B,T] -> [B,T,E]; `mask` is ANDed to the stack's own. With a cache, ids are the new tokens only.

        Raises ValueError if a memory is missing where the blocks read one, or given where they do not."""
        if self.cross != (memory is not None):
            raise ValueError("a decoder that reads an encoder needs its memory, and no other stack takes one")
        keys = tokens if cache is None else cache.extend(tokens)
        own = self.config.mask or Full()
        seen = own if mask is None else own & mask
        bias = self.position.bias if self.position.biased else None
        view = View(seen, tokens, keys, bias)
        memory_view = View(Full(), tokens, memory.tokens) if memory is not None else None
        x = self.embedding(ids, tokens)
        source = memory.x if memory is not None else None
        for index, block in enumerate(self.layers()):
            x = block(x, view, source, memory_view, cache, index)
        return x if self.norm is None else self.norm(x, tokens)


class Head(nn.Module):
    """Hidden states [...,E] -> logits [...,V] = prepare(hidden) Wᵀ + b; W may be the embedding's table itself."""

    def __init__(self, stack: Stack, tied: bool, bias: bool, scale: float | None, transform: str | None):
        super().__init__()
        table = stack.embedding.token.weight
        d_model = stack.config.d_model
        width = table.shape[1] if tied else d_model
        self.scale = scale
        self.weight = table if tied else nn.Parameter(table.new_empty(len(table), d_model))
        if not tied:
            std = stack.config.embedding.std  # an output matrix begins as a table of embeddings does
            nn.init.normal_(self.weight, std=d_model**-0.5 if std is None else std)
        self.bias = nn.Parameter(table.new_zeros(len(table))) if bias else None
        self.dense = nn.Linear(d_model, width) if transform or width != d_model else None
        self.activation = ACTIVATIONS[transform] if transform else None
        self.norm = stack.config.block.norm.build(width) if transform else None
        stack.config.init.apply(self)

    def prepare(self, hidden: Tensor) -> Tensor:
        """What is multiplied with the output matrix, [...,R]."""
        if self.dense is not None:
            hidden = self.dense(hidden)
        if self.activation is not None and self.norm is not None:
            hidden = self.norm(self.activation(hidden))
        return hidden if self.scale is None else hidden * self.scale

    def project(self, prepared: Tensor) -> Tensor:
        """[...,R] -> logits [...,V]."""
        return F.linear(prepared, self.weight, self.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.project(self.prepare(hidden))
