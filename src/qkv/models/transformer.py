"""The three shapes of Transformer: encoder only, decoder only, encoder and decoder."""

from __future__ import annotations

from torch import Tensor, nn

from qkv.nn import Cache, Mask, Tokens

from .config import DecoderOnlyConfig, EncoderDecoderConfig, EncoderOnlyConfig, HeadConfig, ModelConfig
from .reader import Reader
from .stack import Head, Memory, Stack


def _head(config: HeadConfig, stack: Stack) -> Head:
    return Head(stack, config.tied, config.bias, config.scale, config.transform)


class EncoderOnly(nn.Module):
    """Every token sees every other: for understanding."""

    def __init__(self, config: EncoderOnlyConfig):
        super().__init__()
        self.config = config
        self.encoder = Stack(config.stack)
        self.head = _head(config.head, self.encoder)

    @property
    def max_length(self) -> int | None:
        return self.encoder.max_length

    def encode(self, ids: Tensor, tokens: Tokens) -> Memory:
        """ids [B,T] -> hidden states [B,T,E] with their tokens."""
        return Memory(self.encoder(ids, tokens), tokens)

    def forward(self, ids: Tensor, tokens: Tokens) -> Tensor:
        """ids [B,T] -> hidden states [B,T,E]; `self.head` turns them into logits."""
        return self.encoder(ids, tokens)


class DecoderOnly(nn.Module):
    """Each token sees its past: a language model."""

    def __init__(self, config: DecoderOnlyConfig):
        super().__init__()
        self.config = config
        self.decoder = Stack(config.stack)
        self.head = _head(config.head, self.decoder)

    @property
    def max_length(self) -> int | None:
        return self.decoder.max_length

    def decode(
        self,
        ids: Tensor,
        tokens: Tokens,
        memory: Memory | None = None,
        cache: Cache | None = None,
        mask: Mask | None = None,
    ) -> Tensor:
        """ids [B,T] -> hidden states [B,T,E]; with a cache, ids are the new tokens only."""
        return self.decoder(ids, tokens, memory, cache, mask)

    def forward(self, ids: Tensor, tokens: Tokens) -> Tensor:
        """ids [B,T] -> hidden states [B,T,E]; `self.head` turns them into logits."""
        return self.decoder(ids, tokens)


class EncoderDecoder(nn.Module):
    """p(y|x) = Π_t p(y_t | y_<t, x): an encoder reads x, a decoder writes y (Vaswani et al. 2017)."""

    def __init__(self, config: EncoderDecoderConfig):
        super().__init__()
        self.config = config
        depths = config.encoder.n_layers, config.decoder.n_layers
        self.encoder = Stack(config.encoder, n_source_layers=depths[1])
        self.decoder = Stack(config.decoder, cross=True, n_source_layers=depths[0])
        if config.shared_embedding:
            self.encoder.embedding.token = self.decoder.embedding.token
        self.head = _head(config.head, self.decoder)

    @property
    def max_length(self) -> int | None:
        """The longest target, or None; `encoder.max_length` bounds the source."""
        return self.decoder.max_length

    def encode(self, source_ids: Tensor, source_tokens: Tokens) -> Memory:
        """source_ids [B,S] -> memory for `decode`."""
        return Memory(self.encoder(source_ids, source_tokens), source_tokens)

    def decode(
        self,
        ids: Tensor,
        tokens: Tokens,
        memory: Memory | None = None,
        cache: Cache | None = None,
        mask: Mask | None = None,
    ) -> Tensor:
        """ids [B,T] -> hidden states [B,T,E]; with a cache, ids are the new tokens only."""
        return self.decoder(ids, tokens, memory, cache, mask)

    def forward(self, source_ids: Tensor, source_tokens: Tokens, ids: Tensor, tokens: Tokens) -> Tensor:
        """source_ids [B,S], ids [B,T] -> hidden states [B,T,E]; `self.head` turns them into logits."""
        return self.decode(ids, tokens, self.encode(source_ids, source_tokens))


Transformer = EncoderOnly | DecoderOnly | EncoderDecoder | Reader


def build(config: ModelConfig) -> Transformer:
    """The model that a config describes, with fresh weights."""
    if isinstance(config, EncoderDecoderConfig):
        return EncoderDecoder(config)
    return DecoderOnly(config) if isinstance(config, DecoderOnlyConfig) else EncoderOnly(config)
