"""The well-known families as functions that return configs. A family is data: nothing is subclassed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from qkv.nn import (
    AttentionConfig,
    BlockConfig,
    Causal,
    FeedForward,
    GroupedQuery,
    LayerNorm,
    Learned,
    MultiHead,
    Normal,
    PositionConfig,
    Post,
    Pre,
    RelativeBuckets,
    RMSNorm,
    Rotary,
    Sinusoidal,
    Xavier,
)
from qkv.nn.feedforward import Activation

from .config import (
    DecoderOnlyConfig,
    EmbeddingConfig,
    EncoderDecoderConfig,
    EncoderOnlyConfig,
    HeadConfig,
    ModelConfig,
    StackConfig,
)


def _encoder_decoder(
    encoder: StackConfig, decoder_layers: int, decoder_position: PositionConfig, head: HeadConfig, shared: bool
) -> EncoderDecoderConfig:
    """The decoder is the encoder with a causal mask, its own depth and position."""
    decoder = replace(encoder, n_layers=decoder_layers, position=decoder_position, mask=Causal())
    return EncoderDecoderConfig(encoder=encoder, decoder=decoder, head=head, shared_embedding=shared)


def vaswani(
    size: str = "base", vocab_size: int = 0, dropout: float | None = None, shared_embedding: bool = True
) -> EncoderDecoderConfig:
    """Vaswani et al. 2017, table 3; `tiny` is the common size for small corpora. size: tiny | base | big."""
    sizes = {"tiny": (256, 3, 4, 1024, 0.1), "base": (512, 6, 8, 2048, 0.1), "big": (1024, 6, 16, 4096, 0.3)}
    d_model, n_layers, n_heads, d_ff, rate = sizes[size]
    rate = rate if dropout is None else dropout
    stack = StackConfig(
        d_model=d_model,
        n_layers=n_layers,
        embedding=EmbeddingConfig(vocab_size=vocab_size, scaled=True, dropout=rate),
        position=Sinusoidal(),
        block=BlockConfig(
            attention=AttentionConfig(heads=MultiHead(n_heads)),
            feedforward=FeedForward(d_ff),
            placement=Post(),
            dropout=rate,
        ),
        init=Xavier(),
    )
    return _encoder_decoder(stack, n_layers, stack.position, HeadConfig(), shared_embedding)


def bert(
    vocab_size: int = 0,
    d_model: int = 768,
    n_layers: int = 12,
    n_heads: int = 12,
    d_ff: int = 3072,
    max_length: int = 512,
    segments: int = 2,
    dropout: float = 0.1,
    activation: Activation = "gelu",
    rank: int | None = None,
    distinct_layers: int = 0,
) -> EncoderOnlyConfig:
    """Devlin et al. 2019."""
    norm = LayerNorm(eps=1e-12)
    stack = StackConfig(
        d_model=d_model,
        n_layers=n_layers,
        distinct_layers=distinct_layers,
        embedding=EmbeddingConfig(vocab_size, rank=rank, segments=segments, norm=norm, dropout=dropout, std=0.02),
        position=Learned(max_length),
        block=BlockConfig(
            attention=AttentionConfig(heads=MultiHead(n_heads), dropout=dropout),
            feedforward=FeedForward(d_ff, activation),
            norm=norm,
            placement=Post(),
            dropout=dropout,
        ),
        init=Normal(0.02),
    )
    return EncoderOnlyConfig(stack, HeadConfig(tied=True, bias=True, transform=activation))


def albert(
    vocab_size: int = 0,
    d_model: int = 768,
    n_layers: int = 12,
    n_heads: int = 12,
    d_ff: int = 3072,
    rank: int = 128,
    max_length: int = 512,
    dropout: float = 0.0,
) -> EncoderOnlyConfig:
    """Lan et al. 2020: one layer's weights for all layers, and a factorised embedding."""
    return bert(
        vocab_size, d_model, n_layers, n_heads, d_ff, max_length, 2, dropout, "gelu_tanh", rank, distinct_layers=1
    )


def gpt2(
    vocab_size: int = 0,
    d_model: int = 768,
    n_layers: int = 12,
    n_heads: int = 12,
    d_ff: int | None = None,
    max_length: int = 1024,
    dropout: float = 0.1,
    bias: bool = True,
) -> DecoderOnlyConfig:
    """Radford et al. 2019; d_ff defaults to 4·d_model. bias=False leaves biases out of matrices and norms."""
    stack = StackConfig(
        d_model=d_model,
        n_layers=n_layers,
        embedding=EmbeddingConfig(vocab_size, dropout=dropout, std=0.02),
        position=Learned(max_length),
        mask=Causal(),
        block=BlockConfig(
            attention=AttentionConfig(heads=MultiHead(n_heads), dropout=dropout, bias=bias, out_bias=bias),
            feedforward=FeedForward(d_ff or 4 * d_model, "gelu_tanh", bias=bias),
            norm=LayerNorm(bias=bias),
            placement=Pre(),
            dropout=dropout,
        ),
        init=Normal(0.02, depth_scaled=True),
    )
    return DecoderOnlyConfig(stack)


def t5(
    vocab_size: int = 0,
    d_model: int = 512,
    n_layers: int = 6,
    n_heads: int = 8,
    d_head: int | None = None,
    d_ff: int = 2048,
    gated: bool = False,
    dropout: float = 0.1,
) -> EncoderDecoderConfig:
    """Raffel et al. 2020; gated=True is version 1.1 (gated GELU, output matrix of its own)."""
    stack = StackConfig(
        d_model=d_model,
        n_layers=n_layers,
        embedding=EmbeddingConfig(vocab_size, dropout=dropout, std=1.0),
        position=RelativeBuckets(bidirectional=True),
        block=BlockConfig(
            attention=AttentionConfig(
                heads=MultiHead(n_heads), d_head=d_head, scale=1.0, bias=False, out_bias=False, dropout=dropout
            ),
            feedforward=FeedForward(d_ff, "gelu_tanh" if gated else "relu", gated, bias=False, dropout=dropout),
            norm=RMSNorm(1e-6),
            placement=Pre(),
            dropout=dropout,
        ),
        init=Normal(d_model**-0.5),
    )
    head = HeadConfig(tied=False) if gated else HeadConfig(scale=d_model**-0.5)
    return _encoder_decoder(stack, n_layers, RelativeBuckets(bidirectional=False), head, True)


def marian(
    vocab_size: int = 0,
    d_model: int = 512,
    n_layers: int = 6,
    n_heads: int = 8,
    d_ff: int = 2048,
    activation: Activation = "silu",
    dropout: float = 0.1,
) -> EncoderDecoderConfig:
    """Junczys-Dowmunt et al. 2018: the first Transformer, with sinusoids in halves and a bias per word."""
    stack = StackConfig(
        d_model=d_model,
        n_layers=n_layers,
        embedding=EmbeddingConfig(vocab_size, scaled=True, dropout=dropout),
        position=Sinusoidal(layout="halves"),
        block=BlockConfig(
            attention=AttentionConfig(heads=MultiHead(n_heads)),
            feedforward=FeedForward(d_ff, activation),
            placement=Post(),
            dropout=dropout,
        ),
    )
    return _encoder_decoder(stack, n_layers, stack.position, HeadConfig(bias=True), True)


def llama(
    vocab_size: int = 0,
    d_model: int = 512,
    n_layers: int = 8,
    n_heads: int = 8,
    n_groups: int = 4,
    d_ff: int = 1376,
    theta: float = 10000.0,
    eps: float = 1e-5,
    tied: bool = False,
    dropout: float = 0.0,
) -> DecoderOnlyConfig:
    """Touvron et al. 2023: pre-norm RMS, rotary positions, gated SiLU, no biases, grouped keys."""
    stack = StackConfig(
        d_model=d_model,
        n_layers=n_layers,
        embedding=EmbeddingConfig(vocab_size, dropout=dropout, std=0.02),
        position=Rotary(theta),
        mask=Causal(),
        block=BlockConfig(
            attention=AttentionConfig(heads=GroupedQuery(n_heads, n_groups), bias=False, out_bias=False),
            feedforward=FeedForward(d_ff, "silu", gated=True, bias=False),
            norm=RMSNorm(eps),
            placement=Pre(),
            dropout=dropout,
        ),
        init=Normal(0.02),
    )
    return DecoderOnlyConfig(stack, HeadConfig(tied=tied))


PRESETS: dict[str, Callable[..., ModelConfig]] = {
    "vaswani": vaswani,
    "bert": bert,
    "albert": albert,
    "gpt2": gpt2,
    "t5": t5,
    "marian": marian,
    "llama": llama,
}
"""Every preset by name, for recipes: `model: {preset: gpt2, d_model: 384}`."""
