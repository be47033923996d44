"""Stems: a convolution or a recurrent network between the embeddings and the first block.

A stem gives a stack what attention lacks: a convolution, the neighbourhood at every place alike; a recurrent network, a
state that is carried from token to token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from qkv.nn import Tokens

from .stack import Embedding, Stack


class ConvolutionalStem(nn.Module):
    """x + gelu(conv(x)) along time; causal: from this token and those before it only."""

    def __init__(self, config: Convolution, d_model: int):
        super().__init__()
        self.config = config
        self.conv = nn.Conv1d(d_model, d_model, config.width)

    def forward(self, x: Tensor) -> Tensor:
        before = self.config.width - 1 if self.config.causal else self.config.width // 2
        padded = F.pad(x.transpose(1, 2), (before, self.config.width - 1 - before))
        return x + F.gelu(self.conv(padded)).transpose(1, 2)


class RecurrentStem(nn.Module):
    """x + h, h_t = f(h_{t-1}, x_t): what a token has seen so far in order, beside the token."""

    def __init__(self, config: Recurrence, d_model: int):
        super().__init__()
        cells = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
        self.cell = cells[config.cell](d_model, d_model, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.cell(x)[0]


@dataclass(frozen=True)
class Convolution:
    """width: tokens that a filter sees. causal: none of them later than the token itself."""

    width: int = 3
    causal: bool = True

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"a convolutional stem sees at least one token, not {self.width}")

    def build(self, d_model: int) -> nn.Module:
        return ConvolutionalStem(self, d_model)


@dataclass(frozen=True)
class Recurrence:
    """cell: lstm (Hochreiter & Schmidhuber 1997), gru (Cho et al. 2014) or rnn (Elman 1990), from left to right."""

    cell: Literal["lstm", "gru", "rnn"] = "lstm"

    def build(self, d_model: int) -> nn.Module:
        return RecurrentStem(self, d_model)


StemConfig = Convolution | Recurrence


class StemmedEmbedding(nn.Module):
    """stem(embedding(ids)): stands where a stack has its embedding.

    A stem has no cache and reads tokens by their columns: sequences begin at position 0, are padded on the right and
    hold one document. Raises ValueError otherwise."""

    def __init__(self, embedding: Embedding, stem: nn.Module):
        super().__init__()
        self.embedding, self.stem = embedding, stem

    @property
    def token(self) -> nn.Embedding:
        """The table of token vectors, as a stack's own embedding has it."""
        return self.embedding.token

    def forward(self, ids: Tensor, tokens: Tokens) -> Tensor:
        """ids [B,T] -> [B,T,E]; padding gives zeros."""
        if not tokens.ordered or bool((tokens.pos[:, 0] > 0).any()) or "doc" in tokens.fields:
            raise ValueError(
                "a stem reads a sequence from its beginning: give it one document, padded on the right, and no cache"
            )
        x = self.stem(self.embedding(ids, tokens))
        return x.masked_fill(~tokens.valid.unsqueeze(-1), 0.0) if tokens.padded else x


def add_stem(stack: Stack, config: StemConfig) -> Stack:
    """Put a stem of fresh weights into a stack, in place (Gulati et al. 2020 mix convolution into every block; a stem
    is the simplest hybrid). Returns the stack."""
    if not isinstance(stack.embedding, Embedding):
        raise ValueError("the stack has a stem already")
    stack.embedding = StemmedEmbedding(stack.embedding, config.build(stack.config.d_model))  # type: ignore[assignment]
    return stack
