"""torch.nn.Transformer, the reference implementation that ships with torch: training only."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.cells import Cell, Size
from bench.job import Example, Job, mean_loss, training_job

PACKAGES = ["torch"]


def keep_residual_dropout_only(layer: nn.Module) -> None:
    """Switches off the dropouts that no other contender has: on attention weights and inside the feed-forward."""
    for name in ("self_attn", "multihead_attn"):
        if hasattr(layer, name):
            getattr(layer, name).dropout = 0.0
    layer.dropout = nn.Identity()


def sinusoids(length: int, d_model: int) -> Tensor:
    """The table ``[length, d_model]`` of Vaswani et al. 2017, section 3.5, sines first."""
    rates = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
    angles = torch.arange(length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Translator(nn.Module):
    """torch.nn.Transformer between one tied embedding and its transpose, post-norm, without the extra final norms."""

    def __init__(self, size: Size, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size.vocab, size.d_model)
        nn.init.normal_(self.embedding.weight, std=size.d_model**-0.5)
        layers = (size.encoder_layers, size.decoder_layers)
        self.body = nn.Transformer(size.d_model, size.heads, *layers, size.d_ff, dropout, batch_first=True)
        self.body.encoder.norm = self.body.decoder.norm = None
        for layer in [*self.body.encoder.layers, *self.body.decoder.layers]:
            keep_residual_dropout_only(layer)
        self.dropout = nn.Dropout(dropout)
        self.scale = math.sqrt(size.d_model)
        self.positions: Tensor
        self.register_buffer("positions", sinusoids(size.max_length, size.d_model))

    def embed(self, ids: Tensor) -> Tensor:
        return self.dropout(self.embedding(ids) * self.scale + self.positions[: ids.shape[1]])

    def forward(self, source: Tensor, inputs: Tensor) -> Tensor:
        """Logits ``[B,T,V]``."""
        causal = nn.Transformer.generate_square_subsequent_mask(inputs.shape[1])
        hidden = self.body(self.embed(source), self.embed(inputs), tgt_mask=causal, tgt_is_causal=True)
        return F.linear(hidden, self.embedding.weight)


class LanguageModel(nn.Module):
    """Pre-norm torch.nn.TransformerEncoder layers under a causal mask, learned positions, GELU, tied output."""

    def __init__(self, size: Size, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size.vocab, size.d_model)
        self.positions = nn.Embedding(size.max_length, size.d_model)
        nn.init.normal_(self.embedding.weight, std=0.02)
        shape = (size.d_model, size.heads, size.d_ff, dropout)
        layer = nn.TransformerEncoderLayer(*shape, activation="gelu", batch_first=True, norm_first=True)
        norm = nn.LayerNorm(size.d_model)
        self.body = nn.TransformerEncoder(layer, size.decoder_layers, norm, enable_nested_tensor=False)
        for copied in self.body.layers:
            keep_residual_dropout_only(copied)
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits ``[B,T,V]``."""
        causal = nn.Transformer.generate_square_subsequent_mask(inputs.shape[1])
        embedded = self.dropout(self.embedding(inputs) + self.positions.weight[: inputs.shape[1]])
        return F.linear(self.body(embedded, mask=causal, is_causal=True), self.embedding.weight)


def build(cell: Cell, variant: str, folder: str) -> Job:
    kind = Translator if cell.dimensions.seq2seq else LanguageModel
    made = kind(cell.dimensions, cell.dropout)

    def loss(example: Example) -> Tensor:
        ids = [example.inputs] if example.source is None else [example.source, example.inputs]
        return mean_loss(made(*ids), example.targets, cell.smoothing)

    return training_job(made, loss, cell, PACKAGES)
