"""Multi-head attention: project, turn by position, attend, join the heads."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from .cache import Cache
from .dropout import check_rate
from .kernels import Fused, KernelConfig
from .norms import LayerNorm, RMSNorm
from .positions import Position
from .view import View


@dataclass(frozen=True)
class MultiHead:
    """n: heads; every query head has keys and values of its own (Vaswani et al. 2017)."""

    n: int = 4

    @property
    def groups(self) -> int:
        return self.n


@dataclass(frozen=True)
class MultiQuery:
    """n: query heads, which all share one head of keys and values (Shazeer 2019)."""

    n: int = 4

    @property
    def groups(self) -> int:
        return 1


@dataclass(frozen=True)
class GroupedQuery:
    """n: query heads. groups: heads of keys and values, each shared by n/groups query heads (Ainslie et al. 2023)."""

    n: int = 4
    groups: int = 2

    def __post_init__(self) -> None:
        if self.groups < 1 or self.n % self.groups:
            raise ValueError(f"{self.n} query heads cannot share {self.groups} key heads evenly")


HeadsConfig = MultiHead | MultiQuery | GroupedQuery


@dataclass(frozen=True)
class AttentionConfig:
    """heads: how many, and who shares keys. d_head: width of a head (None: d_model / heads). kernel: how it is
    computed. scale: factor on the scores (None: 1/sqrt(d_head)). qk_norm: a norm on each head's queries and keys
    (Henry et al. 2020). bias, out_bias: whether the projections in and out have one. dropout: rate on the weights."""

    heads: HeadsConfig = field(default_factory=MultiHead)
    d_head: int | None = None
    kernel: KernelConfig = field(default_factory=Fused)
    scale: float | None = None
    qk_norm: LayerNorm | RMSNorm | None = None
    bias: bool = True
    out_bias: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_rate(self.dropout)
        if self.heads.n < 1:
            raise ValueError(f"attention.heads: n is {self.heads.n}, but at least one head is needed")

    def width(self, d_model: int) -> int:
        """The width of one head."""
        if self.d_head is None and d_model % self.heads.n:
            raise ValueError(f"d_model {d_model} does not divide into {self.heads.n} heads: set attention.d_head")
        return self.d_head or d_model // self.heads.n


class Attention(nn.Module):
    """concat_h(softmax(Q_h K_gᵀ · scale + bias) V_g) W_O (Vaswani et al. 2017, §3.2).

    With `cross`, queries come from x and keys and values from a memory; else all three come from x, in one product.
    """

    need_weights = False  # set by probes: the kernel then also returns its weights

    def __init__(self, config: AttentionConfig, d_model: int, position: Position | None = None, cross: bool = False):
        super().__init__()
        self.config, self.cross = config, cross
        self.d_head = config.width(d_model)
        self.n_heads, self.n_groups = config.heads.n, config.heads.groups
        self.scale = self.d_head**-0.5 if config.scale is None else config.scale
        self.position = [position or Position()]  # in a list: the stack owns it, all layers share it
        queries, keys = self.n_heads * self.d_head, self.n_groups * self.d_head
        if cross:
            self.query = nn.Linear(d_model, queries, bias=config.bias)
            self.key_value = nn.Linear(d_model, 2 * keys, bias=config.bias)
        else:
            self.query_key_value = nn.Linear(d_model, queries + 2 * keys, bias=config.bias)
        self.out = nn.Linear(queries, d_model, bias=config.out_bias)
        norm = config.qk_norm
        self.query_norm = norm.build(self.d_head) if norm else None
        self.key_norm = norm.build(self.d_head) if norm else None
        self.kernel = config.kernel.build()

    def split(self, x: Tensor) -> Tensor:
        """[B,T,n·D] -> [B,n,T,D], a view."""
        return x.unflatten(-1, (-1, self.d_head)).transpose(1, 2)

    def forward(
        self, x: Tensor, view: View, memory: Tensor | None = None, cache: Cache | None = None, layer: int = 0
    ) -> Tensor:
        """x [B,T,E] and, for cross-attention, memory [B,S,E] -> [B,T,E]; `layer` names this layer in the cache."""
        if self.cross:
            q, k, v = self._across(x, memory, cache, layer)
        else:
            q, k, v = self._within(x, view, cache, layer)
        dropout = self.config.dropout
        out, _ = self.kernel(q, k, v, view, scale=self.scale, dropout=dropout, need_weights=self.need_weights)
        return self.out(out.transpose(1, 2).flatten(2))

    def _within(self, x: Tensor, view: View, cache: Cache | None, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        heads = self.split(self.query_key_value(x))
        q, k, v = heads.split((self.n_heads, self.n_groups, self.n_groups), dim=1)
        q, k = self._normed(q, k)
        position = self.position[0]
        q, k = position.rotate(q, view.q), position.rotate(k, view.q)
        if cache is not None:
            k, v = cache.append(layer, (k, v))
        return q, k, v

    def _across(
        self, x: Tensor, memory: Tensor | None, cache: Cache | None, layer: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        q = self.split(self.query(x))

        def make() -> tuple[Tensor, Tensor]:
            k, v = self.split(self.key_value(memory)).chunk(2, dim=1)
            return self._normed(None, k)[1], v

        k, v = make() if cache is None else cache.cross(layer, make)
        return self._normed(q, None)[0], k, v

    def _normed(self, q: Tensor | None, k: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.query_norm is not None and self.key_norm is not None:
            q, k = None if q is None else self.query_norm(q), None if k is None else self.key_norm(k)
        return q, k  # type: ignore[return-value]
