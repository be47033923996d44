"""How attention learns where a token is: the table of positions.

Each entry builds a module with three hooks, of which it uses the ones it needs:
embed(x, tokens) adds to the embeddings, rotate(x, tokens) turns queries and keys, bias(q, k) is added to the scores.
All are functions of `tokens.pos`, never of a column's index. An entry that does not suit every model has a
`check(shape)`, which raises ValueError; it is called when the config of the stack is made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .tokens import Tokens

Layout = Literal["halves", "interleaved"]


@dataclass(frozen=True)
class PositionShape:
    """What a position may need to know of the model: embedding width, head count, head width, and the standard
    deviation that embeddings begin with (None: width^-½)."""

    width: int
    n_heads: int
    d_head: int
    std: float | None = None


class Position(nn.Module):
    """No position at all; the base of those that tell one. `biased` says whether `bias` returns anything."""

    biased = False
    max_length: int | None = None

    def embed(self, x: Tensor, tokens: Tokens) -> Tensor:
        """x [B,T,E] with the positions added."""
        return x

    def rotate(self, x: Tensor, tokens: Tokens) -> Tensor:
        """Queries or keys x [B,H,T,D], turned by their positions."""
        return x

    def bias(self, q: Tokens, k: Tokens) -> Tensor | None:
        """[B|1,H,T,S] to add to the scores, or None."""
        return None


def frequencies(width: int, theta: float, device: torch.device | None = None) -> Tensor:
    """theta^(-2i/width) for i = 0 .. width/2-1, in float64."""
    return theta ** (-torch.arange(0, width, 2, dtype=torch.float64, device=device) / width)


def join(first: Tensor, second: Tensor, layout: Layout) -> Tensor:
    """[..., n] and [..., n] -> [..., 2n]: one after the other, or alternating."""
    return torch.cat((first, second), -1) if layout == "halves" else torch.stack((first, second), -1).flatten(-2)


class SinusoidalPosition(Position):
    """PE(p, 2i) = sin(p/theta^(2i/E)), PE(p, 2i+1) = cos(same) (Vaswani et al. 2017, §3.5); no longest length."""

    def __init__(self, config: Sinusoidal, shape: PositionShape):
        super().__init__()
        self.config, self.width = config, shape.width
        # One table a dtype, each rounded once from float64: a buffer would be rounded again by every `.to(dtype)`.
        self.tables: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def table(self, length: int, like: Tensor) -> Tensor:
        """At least `length` rows of the table, made by doubling."""
        kind = (like.dtype, like.device)
        if kind not in self.tables or len(self.tables[kind]) < length:
            pos = torch.arange(max(512, 1 << (length - 1).bit_length()), dtype=torch.float64, device=like.device)
            angle = pos.unsqueeze(1) * frequencies(self.width, self.config.theta, like.device)
            self.tables[kind] = join(angle.sin(), angle.cos(), self.config.layout).to(like.dtype)
        return self.tables[kind]

    def embed(self, x: Tensor, tokens: Tokens) -> Tensor:
        return x + F.embedding(tokens.pos.clamp_min(0), self.table(tokens.end, x))


class LearnedPosition(Position):
    """One trained vector for each of the first max_length positions (Gehring et al. 2017)."""

    def __init__(self, config: Learned, shape: PositionShape):
        super().__init__()
        self.max_length = config.max_length
        self.table = nn.Embedding(config.max_length, shape.width)
        nn.init.normal_(self.table.weight, std=shape.width**-0.5 if shape.std is None else shape.std)

    def embed(self, x: Tensor, tokens: Tokens) -> Tensor:
        if tokens.end > len(self.table.weight):
            raise ValueError(
                f"position {tokens.end - 1} is beyond the {len(self.table.weight)} learned positions: "
                "shorten the text or raise position.learned.max_length"
            )
        return x + self.table(tokens.pos.clamp_min(0))


class RotaryPosition(Position):
    """Turns each pair of components by the angle pos · theta^(-2i/D), so that q·k depends on the offset only.

    (Su et al. 2021.) layout "halves" pairs component i with i + D/2, "interleaved" pairs 2i with 2i+1; the two are the
    same function up to a fixed permutation of the head's components.
    """

    def __init__(self, config: Rotary):
        super().__init__()
        self.config = config

    def _turn(self, tokens: Tokens, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """cos and sin [B,1,T,D]; positions up to 2^53 are exact because the angle is taken in float64."""
        angle = tokens.pos.clamp_min(0).unsqueeze(-1) * frequencies(width, self.config.theta, tokens.device)
        angle = join(angle, angle, self.config.layout).unsqueeze(1)
        return angle.cos().to(dtype), angle.sin().to(dtype)

    def rotate(self, x: Tensor, tokens: Tokens) -> Tensor:
        key = ("rotary", self.config, x.shape[-1], x.dtype)
        cos, sin = tokens.memo(key, lambda: self._turn(tokens, x.shape[-1], x.dtype))
        if self.config.layout == "halves":
            first, second = x.chunk(2, dim=-1)
        else:
            first, second = x[..., 0::2], x[..., 1::2]
        return x * cos + join(-second, first, self.config.layout) * sin


class LinearBiasPosition(Position):
    """-slope_h · |distance|, slopes geometric over the heads from 2^(-8/H) to 2^-8 (ALiBi; Press et al. 2021)."""

    biased = True
    slopes: Tensor

    def __init__(self, shape: PositionShape):
        super().__init__()
        self.register_buffer("slopes", torch.tensor(self._slopes(shape.n_heads)), persistent=False)

    @staticmethod
    def _slopes(n_heads: int) -> list[float]:
        """For a head count that is no power of two, every other slope of the next power fills the gap, as published."""
        power = 1 << int(math.log2(n_heads))
        slopes = [2.0 ** (-8 * (i + 1) / power) for i in range(power)]
        finer = [2.0 ** (-8 * (i + 1) / (2 * power)) for i in range(0, 2 * power, 2)]
        return slopes + finer[: n_heads - power]

    def bias(self, q: Tokens, k: Tokens) -> Tensor:
        distance = (q.pos[:, None, :, None] - k.pos[:, None, None, :]).abs()
        return -self.slopes[:, None, None] * distance


class RelativeBucketsPosition(Position):
    """A trained bias per head and bucket of the offset: one bucket an offset when near, logarithmic when far.

    (Raffel et al. 2020, §2.1.) In one direction (causal) all buckets serve the past and the future shares bucket 0.
    """

    biased = True

    def __init__(self, config: RelativeBuckets, shape: PositionShape):
        super().__init__()
        self.config = config
        self.table = nn.Embedding(config.n_buckets, shape.n_heads)
        nn.init.normal_(self.table.weight, std=shape.width**-0.5)  # small beside the scores, whatever embeddings do

    def bucket(self, offset: Tensor) -> Tensor:
        """The bucket of each offset (key position minus query position), any shape."""
        n = self.config.n_buckets
        if self.config.bidirectional:
            n //= 2
            base, distance = (offset > 0) * n, offset.abs()
        else:
            base, distance = torch.zeros_like(offset), (-offset).clamp_min(0)
        near = n // 2
        # float32 on purpose: at exact powers the logarithm decides a boundary, and published weights were trained so.
        ratio = (distance.clamp_min(1).float() / near).log() / math.log(self.config.max_distance / near)
        far = (near + (ratio * (n - near)).long()).clamp_max(n - 1)
        return base + distance.where(distance < near, far)

    def bias(self, q: Tokens, k: Tokens) -> Tensor:
        offset = k.pos[:, None, :] - q.pos[:, :, None]
        if len(offset) > 1 and bool((offset == offset[:1]).all()):
            offset = offset[:1]  # the usual batch: all rows share their offsets
        return self.table(self.bucket(offset)).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class NoPosition:
    """No position: attention sees a set (or, under a causal mask, what the mask gives away)."""

    def build(self, shape: PositionShape) -> Position:
        return Position()


@dataclass(frozen=True)
class Sinusoidal:
    """theta: the longest wavelength is 2π·theta. layout: sines and cosines in two halves or interleaved."""

    theta: float = 10000.0
    layout: Layout = "interleaved"

    def check(self, shape: PositionShape) -> None:
        if shape.width % 2:
            raise ValueError(f"sinusoids come in pairs, so the embedding width {shape.width} must be even")

    def build(self, shape: PositionShape) -> Position:
        self.check(shape)
        return SinusoidalPosition(self, shape)


@dataclass(frozen=True)
class Learned:
    """max_length: how many positions have a vector; longer input is refused."""

    max_length: int = 512

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise ValueError(f"max_length is {self.max_length}, but at least one position is needed")

    def build(self, shape: PositionShape) -> Position:
        return LearnedPosition(self, shape)


@dataclass(frozen=True)
class Rotary:
    """theta: the slowest pair turns once in about 2π·theta positions. layout: which components form a pair."""

    theta: float = 10000.0
    layout: Layout = "halves"

    def check(self, shape: PositionShape) -> None:
        if shape.d_head % 2:
            raise ValueError(f"rotary positions turn pairs of components: the head width {shape.d_head} must be even")

    def build(self, shape: PositionShape) -> Position:
        self.check(shape)
        return RotaryPosition(self)


@dataclass(frozen=True)
class LinearBias:
    """A fixed penalty per head that grows linearly with the distance."""

    def build(self, shape: PositionShape) -> Position:
        return LinearBiasPosition(shape)


@dataclass(frozen=True)
class RelativeBuckets:
    """n_buckets: how many trained biases a head has. max_distance: beyond it all offsets share the last bucket.
    bidirectional: whether the future has buckets of its own (encoders) or not (causal decoders)."""

    n_buckets: int = 32
    max_distance: int = 128
    bidirectional: bool = True

    def __post_init__(self) -> None:
        near = self.n_buckets // (4 if self.bidirectional else 2)
        if not 1 <= near < self.max_distance:
            raise ValueError(
                f"{self.n_buckets} buckets give the nearest {near} offsets one each: "
                f"this must be at least 1 and less than max_distance ({self.max_distance})"
            )

    def build(self, shape: PositionShape) -> Position:
        return RelativeBucketsPosition(self, shape)


PositionConfig = NoPosition | Sinusoidal | Learned | Rotary | LinearBias | RelativeBuckets
