"""What a tagger sees of a word before the first block: its vector, its spelling, its neighbourhood.

A vocabulary learned from few texts leaves many words unknown. Their letters are known: a small convolution over them
gives every word a second vector (Ma & Hovy 2016). Some known words are read as unknown in training, so that the model
learns to use letters and neighbours where the word itself says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qkv.nn import Tokens
from qkv.nn.dropout import check_rate, dropout

from .stack import Embedding, Stack
from .stems import StemConfig, StemmedEmbedding

SPELLING = "spelling"
"""The field of Tokens that holds each token's characters, [B,T,K]; 0 where there is none."""


@dataclass(frozen=True)
class Spelling:
    """width: of a character's vector. filters: features a word has. reach: characters that a filter sees."""

    width: int = 32
    filters: int = 64
    reach: int = 3

    def __post_init__(self) -> None:
        if min(self.width, self.filters, self.reach) < 1:
            raise ValueError("width, filters and reach of the spelling must be 1 or more")


@dataclass(frozen=True)
class Lexical:
    """unknown: share of the tokens that training reads as unknown. spelling: also read the characters of a word (the
    recipe then names a tokenizer for them). stem: a convolution or recurrence before the first block."""

    unknown: float = 0.0
    spelling: Spelling | None = None
    stem: StemConfig | None = None

    def __post_init__(self) -> None:
        check_rate(self.unknown)


class Speller(nn.Module):
    """Characters [B,T,K] -> a vector for each token [B,T,E]: max over places of gelu(conv(characters)), then linear.

    A token without characters (begin, end, padding, later pieces of a word) gets zeros."""

    def __init__(self, config: Spelling, n_symbols: int, d_model: int):
        super().__init__()
        self.config = config
        self.symbol = nn.Embedding(n_symbols, config.width, padding_idx=0)
        self.conv = nn.Conv1d(config.width, config.filters, config.reach)
        self.linear = nn.Linear(config.filters, d_model, bias=False)

    def forward(self, characters: Tensor) -> Tensor:
        words, place = characters.flatten(0, 1).unique(dim=0, return_inverse=True)  # a batch repeats most words
        before = self.config.reach // 2
        x = F.pad(self.symbol(words).transpose(1, 2), (before, self.config.reach - 1 - before))
        seen = words.unsqueeze(1) > 0
        features = F.gelu(self.conv(x)).masked_fill(~seen, float("-inf")).amax(2)
        features = features.where(seen.any(2), 0.0)
        return self.linear(features)[place].unflatten(0, characters.shape[:2])


class LexicalEmbedding(nn.Module):
    """embedding(ids) + speller(characters): stands where a stack has its embedding. kept: ids that are never read as
    unknown. Raises ValueError where it spells and the tokens carry no characters."""

    def __init__(self, embedding: Embedding, config: Lexical, n_symbols: int, unknown: int, kept: Sequence[int]):
        super().__init__()
        self.embedding, self.config, self.unknown, self.kept = embedding, config, unknown, tuple(kept)
        d_model = embedding.widen.out_features if embedding.widen is not None else embedding.width
        self.speller = None if config.spelling is None else Speller(config.spelling, n_symbols, d_model)

    @property
    def token(self) -> nn.Embedding:
        """The table of token vectors, as a stack's own embedding has it."""
        return self.embedding.token

    def forward(self, ids: Tensor, tokens: Tokens) -> Tensor:
        """ids [B,T] -> [B,T,E]; padding gives zeros."""
        if self.training and self.config.unknown:
            lost = torch.rand(ids.shape, device=ids.device) < self.config.unknown
            for kept in self.kept:
                lost &= ids != kept
            ids = ids.masked_fill(lost, self.unknown)
        x = self.embedding(ids, tokens)
        if self.speller is None:
            return x
        if SPELLING not in tokens.fields:
            raise ValueError("this model reads spellings: give the field `spelling` [B,T,K] with the tokens")
        y = self.speller(tokens.fields[SPELLING])
        return x + dropout(y, self.embedding.config.dropout, self.training)


def add_lexical(stack: Stack, config: Lexical, n_symbols: int, unknown: int, kept: Sequence[int]) -> Stack:
    """Have a fresh stack read words by `config`, in place: `n_symbols` characters there are, `unknown` the id of an
    unknown word, `kept` the ids that stay what they are. Returns the stack."""
    if config.unknown or config.spelling is not None:
        own = LexicalEmbedding(stack.embedding, config, n_symbols, unknown, kept)
        stack.embedding = own  # type: ignore[assignment]
    if config.stem is not None:
        stem = config.stem.build(stack.config.d_model)
        stack.embedding = StemmedEmbedding(stack.embedding, stem)  # type: ignore[assignment]
    return stack
