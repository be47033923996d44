"""A convolutional encoder: windows of words instead of attention, behind the calls of a Transformer's."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor, cat, nn

from qkv.models.config import EmbeddingConfig
from qkv.nn import Tokens
from qkv.nn.dropout import check_rate


@dataclass(frozen=True)
class Convolution:
    """Filters over windows of words (Kim 2014, arXiv:1408.5882).

    embedding: vocab_size (0: the tokenizer's), and dropout on the words' vectors; its other fields are not used.
    d_embedding: width of a word's vector. widths: words of a window, one bank of filters each. filters: of a bank."""

    embedding: EmbeddingConfig = field(default_factory=lambda: EmbeddingConfig(dropout=0.0))
    d_embedding: int = 128
    widths: tuple[int, ...] = (3, 4, 5)
    filters: int = 100

    def __post_init__(self) -> None:
        check_rate(self.embedding.dropout)
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths are {list(self.widths)}; give one or more, each 1 or more")
        if self.d_embedding < 1 or self.filters < 1:
            raise ValueError(f"d_embedding is {self.d_embedding} and filters {self.filters}; give 1 or more")

    @property
    def d_model(self) -> int:
        """Width of what comes out: all filters."""
        return len(self.widths) * self.filters

    def build(self) -> ConvolutionEncoder:
        """The module."""
        return ConvolutionEncoder(self)


@dataclass(frozen=True)
class ConvolutionConfig:
    """stack: the encoder. With the output `choice: {pooling: max, dropout: 0.5}` it is Kim's network."""

    stack: Convolution = field(default_factory=Convolution)


class ConvolutionEncoder(nn.Module):
    """ids -> hidden states [B,T,E]: h_t = relu(W · E[ids] in the window around t + b), the banks side by side.

    A window of even width reaches one word further to the right. What it meets beyond the text is zero, padding too.
    """

    max_length: int | None = None

    def __init__(self, config: Convolution):
        super().__init__()
        if config.embedding.vocab_size < 1:
            raise ValueError("embedding.vocab_size is 0: build the model with the size of its tokenizer's vocabulary")
        self.config = config
        self.token = nn.Embedding(config.embedding.vocab_size, config.d_embedding)
        nn.init.uniform_(self.token.weight, -0.25, 0.25)  # Kim's
        self.dropout = nn.Dropout(config.embedding.dropout)
        self.banks = nn.ModuleList(nn.Conv1d(config.d_embedding, config.filters, width) for width in config.widths)

    def forward(self, ids: Tensor, tokens: Tokens) -> Tensor:
        """ids [B,T] -> [B,T,E]."""
        x = self.dropout(self.token(ids)).masked_fill(~tokens.valid.unsqueeze(-1), 0.0).transpose(1, 2)
        margins = [((width - 1) // 2, width // 2) for width in self.config.widths]
        found = [bank(F.pad(x, margin)) for bank, margin in zip(self.banks, margins, strict=True)]
        return F.relu(cat(found, dim=1)).transpose(1, 2)
