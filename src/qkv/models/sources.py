"""Several sources of token vectors fed in together: trained tables from elsewhere, beside a stack's own embedding.

concat   own + W [s₁(id); s₂(id); …]    one projection of all, joined
sum      own + Σ_i W_i s_i(id)          the same function: projecting what is joined is adding projections
gate     own + Σ_i g_i(id) W_i s_i(id)  g = softmax over sources of a linear map of all of them (Kiela et al. 2018)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from qkv.nn import Tokens

from .stack import Embedding, Stack


class SourceMixer(nn.Module):
    """ids -> what the sources say, [...,E]. tables [V,E_i] stay as they are unless `config.trained`."""

    def __init__(self, config: Sources, tables: Sequence[Tensor], d_model: int):
        super().__init__()
        self.config = config
        self.tables = nn.ModuleList(nn.Embedding.from_pretrained(t.clone(), freeze=not config.trained) for t in tables)
        widths = [table.shape[1] for table in tables]
        joined = config.how == "concat"
        self.project = nn.ModuleList(
            nn.Linear(width, d_model, bias=False) for width in ([sum(widths)] if joined else widths)
        )
        self.gate = nn.Linear(sum(widths), len(tables)) if config.how == "gate" else None

    def forward(self, ids: Tensor) -> Tensor:
        vectors = [table(ids) for table in self.tables]
        if self.config.how == "concat":
            return self.project[0](torch.cat(vectors, -1))
        projected = torch.stack([project(v) for project, v in zip(self.project, vectors, strict=True)], -1)
        if self.gate is None:
            return projected.sum(-1)
        return (projected * self.gate(torch.cat(vectors, -1)).softmax(-1).unsqueeze(-2)).sum(-1)


@dataclass(frozen=True)
class Sources:
    """how: concat, sum (the same function in other weights) or gate. trained: whether the tables go on learning."""

    how: Literal["concat", "sum", "gate"] = "gate"
    trained: bool = False

    def build(self, tables: Sequence[Tensor], d_model: int) -> SourceMixer:
        """The module for tables [V,E_i] of one vocabulary. Raises ValueError for none, or several vocabularies."""
        sizes = sorted({len(table) for table in tables})
        if len(sizes) != 1:
            raise ValueError(f"sources have {sizes or 'no'} tokens; give tables of one vocabulary, one row a token")
        return SourceMixer(self, tables, d_model)


class SourcedEmbedding(nn.Module):
    """embedding(ids) + mixer(ids): stands where a stack has its embedding, as a stem does (see `stems.py`)."""

    def __init__(self, embedding: Embedding, mixer: SourceMixer):
        super().__init__()
        self.embedding, self.mixer = embedding, mixer

    @property
    def token(self) -> nn.Embedding:
        """The stack's own table of token vectors."""
        return self.embedding.token

    def forward(self, ids: Tensor, tokens: Tokens) -> Tensor:
        """ids [B,T] -> [B,T,E]; padding gives zeros."""
        x = self.embedding(ids, tokens) + self.mixer(ids)
        return x.masked_fill(~tokens.valid.unsqueeze(-1), 0.0) if tokens.padded else x


def add_sources(stack: Stack, config: Sources, tables: Sequence[Tensor]) -> Stack:
    """Feed tables [V,E_i] into a stack beside its own embedding, in place. Returns the stack."""
    if not isinstance(stack.embedding, Embedding):
        raise ValueError("the stack's embedding has a stem or sources already")
    if any(len(table) != stack.embedding.token.num_embeddings for table in tables):
        n_tokens = stack.embedding.token.num_embeddings
        raise ValueError(f"the stack has {n_tokens} tokens; give tables with a row for each")
    mixer = config.build(tables, stack.config.d_model)
    stack.embedding = SourcedEmbedding(stack.embedding, mixer)  # type: ignore[assignment]
    return stack
