"""Transformers put together from `qkv.nn`: stacks, the three shapes, and the well-known families as configs."""

from .config import (
    DecoderOnlyConfig,
    EmbeddingConfig,
    EncoderDecoderConfig,
    EncoderOnlyConfig,
    HeadConfig,
    ModelConfig,
    StackConfig,
)
from .outputs import Choice, Decision, Several, pooled
from .presets import PRESETS, albert, bert, gpt2, llama, marian, t5, vaswani
from .reader import Reader
from .stack import Embedding, Head, Memory, Stack
from .transformer import DecoderOnly, EncoderDecoder, EncoderOnly, Transformer, build

__all__ = [
    "PRESETS",
    "Choice",
    "Decision",
    "DecoderOnly",
    "DecoderOnlyConfig",
    "Embedding",
    "EmbeddingConfig",
    "EncoderDecoder",
    "EncoderDecoderConfig",
    "EncoderOnly",
    "EncoderOnlyConfig",
    "Head",
    "HeadConfig",
    "Memory",
    "ModelConfig",
    "Reader",
    "Several",
    "Stack",
    "StackConfig",
    "Transformer",
    "albert",
    "bert",
    "build",
    "gpt2",
    "llama",
    "marian",
    "pooled",
    "t5",
    "vaswani",
]
