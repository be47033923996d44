"""What a model is, as data: small frozen dataclasses that presets fill in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from qkv.nn import BlockConfig, Causal, InitConfig, MaskConfig, NormConfig, PositionConfig, Sinusoidal, Xavier
from qkv.nn.dropout import check_rate
from qkv.nn.feedforward import Activation
from qkv.nn.positions import PositionShape

if TYPE_CHECKING:
    from .stack import Stack


@dataclass(frozen=True)
class EmbeddingConfig:
    """vocab_size: 0 means "the tokenizer's". rank: width of a factorised table (None: d_model). scaled: multiply by
    sqrt(width). segments: how many segment vectors there are (0: none). norm: applied to the sum of all. dropout: rate
    on the result. std: of the initial table (None: width^-½)."""

    vocab_size: int = 0
    rank: int | None = None
    scaled: bool = False
    segments: int = 0
    norm: NormConfig | None = None
    dropout: float = 0.1
    std: float | None = None

    def __post_init__(self) -> None:
        check_rate(self.dropout)
        for name in ("vocab_size", "segments"):
            if getattr(self, name) < 0:
                raise ValueError(f"embedding.{name} is {getattr(self, name)}, but must not be negative")
        if self.rank is not None and self.rank < 1:
            raise ValueError(f"embedding.rank is {self.rank}; give 1 or more, or null for d_model")


@dataclass(frozen=True)
class StackConfig:
    """d_model: width of the residual stream. n_layers: depth. distinct_layers: how many layers have weights of their
    own; neighbours share (0: all). embedding, position, block: the parts. mask: what a token sees of its own sequence
    (None: all of it in an encoder, its past in a decoder). final_norm: a norm after the last layer (None: where the
    placement needs one). init: initial weights."""

    d_model: int = 256
    n_layers: int = 3
    distinct_layers: int = 0
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    position: PositionConfig = field(default_factory=Sinusoidal)
    mask: MaskConfig | None = None
    block: BlockConfig = field(default_factory=BlockConfig)
    final_norm: bool | None = None
    init: InitConfig = field(default_factory=Xavier)

    def __post_init__(self) -> None:
        shape = self.position_shape
        if self.d_model < 1 or shape.d_head < 1:
            raise ValueError(f"d_model is {self.d_model} and d_head {shape.d_head}, but widths are at least 1")
        if hasattr(self.position, "check"):
            self.position.check(shape)
        if self.n_layers < 1:
            raise ValueError(f"n_layers is {self.n_layers}, but a stack has at least one layer")
        if self.distinct_layers and not 1 <= self.distinct_layers <= self.n_layers:
            raise ValueError(f"distinct_layers is {self.distinct_layers}, not between 1 and n_layers ({self.n_layers})")

    @property
    def position_shape(self) -> PositionShape:
        """What the position is built for."""
        attention, embedding = self.block.attention, self.embedding
        width = embedding.rank or self.d_model
        return PositionShape(width, attention.heads.n, attention.width(self.d_model), embedding.std)

    def build(self) -> Stack:
        """An encoder of this config; what `Reader` asks of whatever it reads with."""
        from .stack import Stack

        return Stack(self)


def _causal(decoder: StackConfig) -> StackConfig:
    """A decoder sees its past, unless its config names another mask."""
    return replace(decoder, mask=Causal()) if decoder.mask is None else decoder


@dataclass(frozen=True)
class HeadConfig:
    """tied: use the input embedding as output matrix. bias: a bias per word. scale: factor on the hidden states
    (None: 1). transform: a dense layer, its activation and a norm first (as masked language models have)."""

    tied: bool = True
    bias: bool = False
    scale: float | None = None
    transform: Activation | None = None


@dataclass(frozen=True)
class EncoderOnlyConfig:
    """stack: the encoder. head: hidden states to vocabulary, for masked language modelling."""

    stack: StackConfig = field(default_factory=StackConfig)
    head: HeadConfig = field(default_factory=HeadConfig)


@dataclass(frozen=True)
class DecoderOnlyConfig:
    """stack: the decoder. head: hidden states to vocabulary."""

    stack: StackConfig = field(default_factory=StackConfig)
    head: HeadConfig = field(default_factory=HeadConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stack", _causal(self.stack))


@dataclass(frozen=True)
class EncoderDecoderConfig:
    """encoder, decoder: the two stacks, of one width. head: hidden states to target vocabulary. shared_embedding: one
    table for source and target (they then share a tokenizer)."""

    encoder: StackConfig = field(default_factory=StackConfig)
    decoder: StackConfig = field(default_factory=StackConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    shared_embedding: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "decoder", _causal(self.decoder))
        source, target = self.encoder.embedding, self.decoder.embedding
        if self.shared_embedding and (source.vocab_size, source.rank) != (target.vocab_size, target.rank):
            raise ValueError("a shared embedding needs one vocab_size and one rank for encoder and decoder")
        if self.encoder.d_model != self.decoder.d_model:
            raise ValueError(
                f"the decoder reads the encoder's output, so both need one d_model, not {self.encoder.d_model} "
                f"and {self.decoder.d_model}"
            )


ModelConfig = EncoderOnlyConfig | DecoderOnlyConfig | EncoderDecoderConfig
