"""What attention knows about each token besides its vector: position, document, and so on.

Masks, rotations and biases are functions of the query's and the key's `Tokens`, never of tensor shapes. That is why
left padding, packing, chunked prefill, windows and beams need no special code anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

PADDING = -1


@dataclass(frozen=True, eq=False)
class Tokens:
    """Positions and named per-token fields of a batch of sequences.

    pos [B,T] integer: the position of each token in its own document; -1 marks padding.
    fields: named tensors [B,T]; in use are `doc` (packing), `prefix` (1 = seen by all), `global` (1 = sees all and is
    seen by all) and `segment`.
    """

    pos: Tensor
    fields: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def arange(cls, rows: int, length: int, start: int = 0, device: torch.device | str | None = None) -> Tokens:
        """`rows` unpadded sequences with positions start .. start+length-1."""
        pos = torch.arange(start, start + length, device=device).expand(rows, length)
        return cls(pos).know(padded=False, ordered=True)

    @classmethod
    def from_lengths(
        cls, lengths: Sequence[int] | Tensor, length: int | None = None, side: str = "right", device: Any = None
    ) -> Tokens:
        """Sequences of the given lengths, padded on one side ("right" or "left") to `length` (default: the longest)."""
        if side not in ("right", "left"):
            raise ValueError(f"side is 'right' or 'left', not {side!r}")
        sizes = torch.as_tensor(lengths, device=device).unsqueeze(1)
        width = int(sizes.max()) if length is None else length
        column = torch.arange(width, device=sizes.device).expand(len(sizes), width)
        pos = column if side == "right" else column - (width - sizes)
        return cls(pos.where((pos >= 0) & (pos < sizes), PADDING))

    @cached_property
    def valid(self) -> Tensor:
        """[B,T] bool: True where there is a token, False where there is padding."""
        with torch.inference_mode(False):  # what is kept may later be part of a backward pass
            return self.pos >= 0

    @cached_property
    def padded(self) -> bool:
        """Whether there is any padding."""
        return not bool(self.valid.all())

    @cached_property
    def ordered(self) -> bool:
        """Whether in every row positions strictly increase and padding, if any, comes after them."""
        before, after = self.pos[:, :-1], self.pos[:, 1:]
        return bool(((after < 0) | ((before >= 0) & (after > before))).all())

    @cached_property
    def end(self) -> int:
        """One more than the largest position."""
        return int(self.pos.max()) + 1 if self.pos.numel() else 0

    @property
    def shape(self) -> torch.Size:
        return self.pos.shape

    @property
    def device(self) -> torch.device:
        return self.pos.device

    def know(self, **facts: Any) -> Tokens:
        """Record facts that are known without looking: `padded`, `ordered`, `end`. Returns these tokens."""
        self.__dict__.update(facts)
        return self

    def _facts(self) -> dict[str, Any]:
        """What is known so far and is true of the same positions elsewhere."""
        return {name: self.__dict__[name] for name in ("padded", "ordered", "end") if name in self.__dict__}

    def _facts_of_parts(self) -> dict[str, bool]:
        """What of it is true of any rows and of any stretch of them: that there is no padding, that all is in order."""
        known = self._facts()
        return {name: fact for name, fact in (("padded", False), ("ordered", True)) if known.get(name) is fact}

    @cached_property
    def _memo(self) -> dict[Hashable, Any]:
        return {}

    def memo(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """A value derived from these tokens, made once and shared by all layers (rotation tables, for instance)."""
        if key not in self._memo:
            with torch.inference_mode(False):  # as for `valid`
                self._memo[key] = make()
        return self._memo[key]

    def _map(self, f: Callable[[Tensor], Tensor]) -> Tokens:
        return Tokens(f(self.pos), {name: f(value) for name, value in self.fields.items()})

    def __getitem__(self, index: Any) -> Tokens:
        """Slices of rows and time: `tokens[:, a:b]`."""
        return self._map(lambda t: t[index]).know(**self._facts_of_parts())

    def select(self, rows: Tensor) -> Tokens:
        """The given rows, in the given order."""
        return self._map(lambda t: t.index_select(0, rows)).know(**self._facts_of_parts())

    def gather(self, columns: Tensor) -> Tokens:
        """Of each row the tokens at its own columns [B,T'], in the given order."""
        chosen = self._map(lambda t: t.gather(1, columns))
        return chosen.know(padded=False) if self.__dict__.get("padded") is False else chosen

    def to(self, device: torch.device | str) -> Tokens:
        same = self.device == torch.device(device)
        return self if same else self._map(lambda t: t.to(device)).know(**self._facts())

    def with_fields(self, **fields: Tensor) -> Tokens:
        """The same tokens with fields added or replaced."""
        return Tokens(self.pos, {**self.fields, **fields}).know(**self._facts())

    def cat(self, other: Tokens) -> Tokens:
        """These tokens followed by `other` along time; a field that one side lacks is 0 there."""
        names = {*self.fields, *other.fields}
        fields = {n: torch.cat((self.get(n), other.get(n)), dim=1) for n in names}
        joined = Tokens(torch.cat((self.pos, other.pos), dim=1), fields)
        known = self.__dict__.get("padded") is False and other.__dict__.get("padded") is False
        return joined.know(padded=False) if known else joined

    def get(self, name: str) -> Tensor:
        """The named field [B,T]; one that is not there is 0 everywhere."""
        return self.fields[name] if name in self.fields else torch.zeros_like(self.pos)
