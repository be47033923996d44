"""One layer of a Transformer, and where its norms and residuals sit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from .attention import Attention, AttentionConfig
from .bottleneck import Bottleneck
from .cache import Cache
from .dropout import check_rate, dropout_add
from .feedforward import FeedForward, FeedForwardConfig
from .norms import LayerNorm, NormConfig
from .positions import Position
from .tokens import Tokens
from .view import View


@dataclass(frozen=True)
class Placement:
    """Where the norms sit: x ← outer(α·x + dropout(branch(f(inner(x))))), each of the three a norm or nothing.

    `final`: the stack's output needs a norm of its own, because nothing else bounds the residual stream."""

    inner: ClassVar[bool] = False
    branch: ClassVar[bool] = False
    outer: ClassVar[bool] = False
    final: ClassVar[bool] = False

    def constants(self, n_layers: int, sublayers: int, n_source_layers: int) -> tuple[float, float]:
        """(α on the skip path, β: gain on the initial weights of values, outputs and the feed-forward)."""
        return 1.0, 1.0


@dataclass(frozen=True)
class Post(Placement):
    """norm(x + f(x)) (Vaswani et al. 2017)."""

    outer: ClassVar[bool] = True


@dataclass(frozen=True)
class Pre(Placement):
    """x + f(norm(x)) (Xiong et al. 2020)."""

    inner: ClassVar[bool] = True
    final: ClassVar[bool] = True


@dataclass(frozen=True)
class Sandwich(Placement):
    """x + norm(f(norm(x))) (Ding et al. 2021)."""

    inner: ClassVar[bool] = True
    branch: ClassVar[bool] = True
    final: ClassVar[bool] = True


@dataclass(frozen=True)
class DeepNorm(Placement):
    """norm(α·x + f(x)) with initial weights shrunk by β (Wang et al. 2022, table 2), for hundreds of layers."""

    outer: ClassVar[bool] = True

    def constants(self, n_layers: int, sublayers: int, n_source_layers: int) -> tuple[float, float]:
        """A stack alone: α=(2N)^¼, β=(8N)^-¼. A decoder: (3M)^¼, (12M)^-¼. An encoder that feeds an M-layer decoder
        is told M as `n_source_layers`: 0.81(N⁴M)^(1/16), 0.87(N⁴M)^(-1/16)."""
        if n_source_layers and sublayers == 2:
            both = n_layers**4 * n_source_layers
            return 0.81 * both ** (1 / 16), 0.87 * both ** (-1 / 16)
        return (sublayers * n_layers) ** 0.25, (4 * sublayers * n_layers) ** -0.25


@dataclass(frozen=True)
class Plain(Placement):
    """x + f(x), no norm anywhere in the layer."""


PlacementConfig = Post | Pre | Sandwich | DeepNorm | Plain


@dataclass(frozen=True)
class BlockConfig:
    """attention: its heads, kernel and scale. feedforward: the position-wise network. norm: which norm; placement:
    where it sits. dropout: rate on each branch before it joins the residual stream. bottleneck: a small network
    after each sub-layer, for what is learned later (None: none)."""

    attention: AttentionConfig = field(default_factory=AttentionConfig)
    feedforward: FeedForwardConfig = field(default_factory=FeedForward)
    norm: NormConfig = field(default_factory=LayerNorm)
    placement: PlacementConfig = field(default_factory=Pre)
    dropout: float = 0.1
    bottleneck: Bottleneck | None = None

    def __post_init__(self) -> None:
        check_rate(self.dropout)


class Residual(nn.Module):
    """x ← outer(α·x + dropout(branch(bottleneck(f(inner(x))))))."""

    def __init__(self, config: BlockConfig, d_model: int, alpha: float = 1.0):
        super().__init__()
        self.alpha, self.dropout = alpha, config.dropout
        place = config.placement
        self.bottleneck = config.bottleneck.build(d_model) if config.bottleneck else None
        self.inner = config.norm.build(d_model) if place.inner else None
        self.branch = config.norm.build(d_model) if place.branch else None
        self.outer = config.norm.build(d_model) if place.outer else None

    def forward(self, x: Tensor, f: Callable[[Tensor], Tensor], tokens: Tokens) -> Tensor:
        y = f(x if self.inner is None else self.inner(x, tokens))
        if self.bottleneck is not None:
            y = self.bottleneck(y)
        if self.branch is not None:
            y = self.branch(y, tokens)
        x = dropout_add(x if self.alpha == 1.0 else self.alpha * x, y, self.dropout, self.training)
        return x if self.outer is None else self.outer(x, tokens)


class Block(nn.Module):
    """One layer. Each arrow passes through a `Residual`:

    x ─► self-attention ─► cross-attention (decoders with a memory) ─► feed-forward ─► x
    """

    def __init__(self, config: BlockConfig, d_model: int, position: Position, cross: bool = False, alpha: float = 1.0):
        super().__init__()
        self.attention = Attention(config.attention, d_model, position)
        self.attention_residual = Residual(config, d_model, alpha)
        self.cross = Attention(config.attention, d_model, cross=True) if cross else None
        self.cross_residual = Residual(config, d_model, alpha) if cross else None
        self.feedforward = config.feedforward.build(d_model)
        self.feedforward_residual = Residual(config, d_model, alpha) if self.feedforward is not None else None

    def forward(
        self,
        x: Tensor,
        view: View,
        memory: Tensor | None = None,
        memory_view: View | None = None,
        cache: Cache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """x [B,T,E] (and memory [B,S,E]) -> [B,T,E]."""
        x = self.attention_residual(x, lambda h: self.attention(h, view, cache=cache, layer=layer), view.q)
        if self.cross is not None and self.cross_residual is not None and memory_view is not None:
            cross, across = self.cross, memory_view
            x = self.cross_residual(x, lambda h: cross(h, across, memory=memory, cache=cache, layer=layer), view.q)
        if self.feedforward is not None and self.feedforward_residual is not None:
            x = self.feedforward_residual(x, self.feedforward, view.q)
        return x
