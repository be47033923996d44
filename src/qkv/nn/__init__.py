"""What a Transformer is made of. Imports torch and nothing else of ours."""

from .attention import Attention, AttentionConfig, GroupedQuery, HeadsConfig, MultiHead, MultiQuery
from .block import Block, BlockConfig, DeepNorm, PlacementConfig, Plain, Post, Pre, Sandwich
from .bottleneck import Bottleneck
from .cache import Cache
from .feedforward import FeedForward, FeedForwardConfig, NoFeedForward
from .init import InitConfig, Normal, Xavier
from .kernels import Chunked, Einsum, Fused, KernelConfig, PerHead
from .linear import Linear
from .masks import All, Any, Causal, Explicit, Full, GlobalTokens, Mask, MaskConfig, Not, Prefix, SameDocument, Window
from .norms import BatchNorm, LayerNorm, NoNorm, NormConfig, RMSNorm
from .positions import Learned, LinearBias, NoPosition, PositionConfig, RelativeBuckets, Rotary, Sinusoidal
from .tokens import PADDING, Tokens
from .view import View

__all__ = [
    "PADDING",
    "All",
    "Any",
    "Attention",
    "AttentionConfig",
    "BatchNorm",
    "Block",
    "BlockConfig",
    "Bottleneck",
    "Cache",
    "Causal",
    "Chunked",
    "DeepNorm",
    "Einsum",
    "Explicit",
    "FeedForward",
    "FeedForwardConfig",
    "Full",
    "Fused",
    "GlobalTokens",
    "GroupedQuery",
    "HeadsConfig",
    "InitConfig",
    "KernelConfig",
    "LayerNorm",
    "Learned",
    "Linear",
    "LinearBias",
    "Mask",
    "MaskConfig",
    "MultiHead",
    "MultiQuery",
    "NoFeedForward",
    "NoNorm",
    "NoPosition",
    "NormConfig",
    "Normal",
    "Not",
    "PerHead",
    "PlacementConfig",
    "Plain",
    "PositionConfig",
    "Post",
    "Pre",
    "Prefix",
    "RMSNorm",
    "RelativeBuckets",
    "Rotary",
    "SameDocument",
    "Sandwich",
    "Sinusoidal",
    "Tokens",
    "View",
    "Window",
    "Xavier",
]
