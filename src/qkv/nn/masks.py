"""Which key each query may see, as predicates that compose with `&`, `|` and `~`.

A mask is a function (q: Tokens, k: Tokens) -> bool [B|1,H|1,T,S]; True means "may be seen". Predicates neither see
nor handle padding: `View` hides invalid keys once, after the whole expression, so `~mask` cannot reveal them.
Masks are frozen dataclasses and therefore also their own configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from .tokens import Tokens


def _pair(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """[B,T] and [B,S] -> [B,1,T,1] and [B,1,1,S], ready to be compared."""
    return q[:, None, :, None], k[:, None, None, :]


class Mask:
    """Base of all predicates."""

    def __call__(self, q: Tokens, k: Tokens) -> Tensor:
        """bool [B|1,H|1,T,S]."""
        raise TypeError(f"{type(self).__name__} does not say what may be seen")

    def simplify(self, q: Tokens, k: Tokens) -> Mask:
        """An equivalent mask for these tokens, simpler where their fields allow it (no documents: all is one)."""
        return self

    def tile(self, qs: slice, ks: slice) -> Mask:
        """The predicate to apply to `q[:, qs]` and `k[:, ks]`; only masks that hold a table differ from themselves."""
        return self

    def __and__(self, other: Mask) -> Mask:
        return All((self, other))

    def __or__(self, other: Mask) -> Mask:
        return Any((self, other))

    def __invert__(self) -> Mask:
        return Not(self)


@dataclass(frozen=True)
class Full(Mask):
    """Every key."""

    def __call__(self, q: Tokens, k: Tokens) -> Tensor:
        return torch.ones(1, 1, q.shape[1], k.shape[1], dtype=torch.bool, device=q.device)


@dataclass(frozen=True)
class Causal(Mask):
    """Keys at the query's own position or before it."""

    def __call__(self, q: Tokens, k: Tokens) -> Tensor:
        query, key = _pair(q.pos, k.pos)
        return key <= query


@dataclass(frozen=True)
class Window(Mask):
    """Keys at most `back` positions before and `ahead` after the query (None: no bound on that side)."""

    back: int | None = 128
    ahead: int | None = None

    def __post_init__(self) -> None:
        if any(bound is not None and bound < 0 for bound in (self.back, self.ahead)):
            raise ValueError("a window's bounds are not negative")

    def __call__(self, q: Tokens, k: Tokens) -> Tensor:
        query, key = _pair(q.pos, k.pos)
        distance = query - key
        seen = torch.ones_like(distance, dtype=torch.bool)
        if self.back is not None:
            seen &= distance <= self.back
        if self.ahead is not None:
            seen &= distance >= -self.ahead
        return seen


@dataclass(frozen=True)
class Prefix(Mask):
    """Keys whose field `prefix` is set (the part of a sequence that all may read, as in prefix language models)."""

    def __call__(self, q: Tokens, k: Tokens) -> Tensor:
        return (k.get("prefix") > 0)[:, None, None, :]

    def simplify(self, q: Tokens, k: Tokens) -> Mask:
        return self if "prefix" in k.fields else NOTHING


@dataclass(frozen=True)
class SameDocument(Mask):
    """Keys of the query's own document (packing); where no document is named, all tokens share one."""

    def __call__(self, q: Tokens, k: Tokens) -> Tensor:
        query, key = _pair(q.get("doc"), k.get("doc"))
        return query == key

    def simplify(self, q: Tokens, k: Tokens) -> Mask:
        return self if "doc" in q.fields or "doc" in k.fields else Full()


@dataclass(frozen=True)
class GlobalTokens(Mask):
    """Pairs of which one, query or key, is a global token: it sees all and is seen by all."""

    def __call__(self, q: Tokens, k: Tokens) -> Tensor:
        query, key = _pair(q.get("global"), k.get("global"))
        return (query > 0) | (key > 0)

    def simplify(self, q: Tokens, k: Tokens) -> Mask:
        return self if "global" in q.fields or "global" in k.fields else NOTHING


@dataclass(frozen=True, eq=False)
class Explicit(Mask):
    """A given table, `visible` bool [B|1,H|1,T,S]: for what no field expresses (the ancestors of beams, say)."""

    visible: Tensor

    def __call__(self, q: Tokens, k: Tokens) -> Tensor:
        if self.visible.shape[-2:] != (q.shape[1], k.shape[1]):
            shape = tuple(self.visible.shape[-2:])
            raise ValueError(f"the explicit mask is {shape} for {q.shape[1]} queries and {k.shape[1]} keys")
        return self.visible

    def tile(self, qs: slice, ks: slice) -> Mask:
        return Explicit(self.visible[..., qs, ks])


@dataclass(frozen=True)
class All(Mask):
    """What every part lets through: `a & b`."""

    parts: tuple[Mask, ...]

    def __call__(self, q: Tokens, k: Tokens) -> Tensor:
        return reduce(torch.logical_and, (part(q, k) for part in self.parts))

    def simplify(self, q: Tokens, k: Tokens) -> Mask:
        parts = dict.fromkeys(part.simplify(q, k) for part in self.parts)
        if NOTHING in parts:
            return NOTHING
        parts.pop(Full(), None)
        return All(tuple(parts)) if len(parts) > 1 else next(iter(parts), Full())

    def tile(self, qs: slice, ks: slice) -> Mask:
        return All(tuple(part.tile(qs, ks) for part in self.parts))


@dataclass(frozen=True)
class Any(Mask):
    """What at least one part lets through: `a | b`."""

    parts: tuple[Mask, ...]

    def __call__(self, q: Tokens, k: Tokens) -> Tensor:
        return reduce(torch.logical_or, (part(q, k) for part in self.parts))

    def simplify(self, q: Tokens, k: Tokens) -> Mask:
        parts = dict.fromkeys(part.simplify(q, k) for part in self.parts)
        if Full() in parts:
            return Full()
        parts.pop(NOTHING, None)
        return Any(tuple(parts)) if len(parts) > 1 else next(iter(parts), NOTHING)

    def tile(self, qs: slice, ks: slice) -> Mask:
        return Any(tuple(part.tile(qs, ks) for part in self.parts))


@dataclass(frozen=True)
class Not(Mask):
    """What the part hides: `~a`. Padding stays hidden all the same."""

    part: Mask

    def __call__(self, q: Tokens, k: Tokens) -> Tensor:
        return ~self.part(q, k)

    def simplify(self, q: Tokens, k: Tokens) -> Mask:
        part = self.part.simplify(q, k)
        return part.part if isinstance(part, Not) else Not(part)

    def tile(self, qs: slice, ks: slice) -> Mask:
        return Not(self.part.tile(qs, ks))


NOTHING = Not(Full())

MaskConfig = Full | Causal | Window | Prefix | SameDocument | GlobalTokens | All | Any | Not
"""The table of masks that a config can name; `Explicit` is for code."""
