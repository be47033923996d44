"""Recurrent networks behind the calls of a decoder-only Transformer: what they share is the loss, not the mechanism."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from qkv.nn import Tokens


@dataclass(frozen=True)
class RecurrentConfig:
    """vocab_size. d_model: width of embedding and state. n_layers. cell: lstm (Hochreiter & Schmidhuber 1997), gru
    (Cho et al. 2014) or rnn (tanh, Elman 1990). bidirectional: read from both ends; no language model then."""

    vocab_size: int
    d_model: int = 64
    n_layers: int = 1
    cell: Literal["lstm", "gru", "rnn"] = "lstm"
    bidirectional: bool = False


class OutputLayer(nn.Linear):
    """A linear head with the calls that `TokenCrossEntropy` makes."""

    def prepare(self, hidden: Tensor) -> Tensor:
        return hidden


class Recurrent(nn.Module):
    """ids -> hidden states, one token after the other: h_t = f(h_{t-1}, E[ids_t])."""

    def __init__(self, config: RecurrentConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        cells = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
        self.cell = cells[config.cell](
            config.d_model, config.d_model, config.n_layers, batch_first=True, bidirectional=config.bidirectional
        )
        self.head = OutputLayer(config.d_model * (2 if config.bidirectional else 1), config.vocab_size)

    def forward(self, ids: Tensor, tokens: Tokens | None = None) -> Tensor:
        """ids [B,T] -> hidden states [B,T,E] ([B,T,2E] when bidirectional). Padding, if any, comes last; a state of a
        padding position is unspecified."""
        return self.cell(self.embedding(ids))[0]

    def logits(self, ids: Tensor) -> Tensor:
        """ids [B,T] -> [B,T,V]."""
        return F.linear(self.forward(ids), self.head.weight, self.head.bias)
