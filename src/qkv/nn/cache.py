"""Keys and values of the past, kept so that a new token costs one step and not the whole sequence again."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .tokens import Tokens

Parts = tuple[Tensor, ...]


class Cache:
    """What the layers of one decoder remember, pre-allocated and grown by doubling.

    One forward pass first calls `extend` with its new tokens, then each layer appends its keys and values, tensors
    [B,G,T,D] whose number and meaning the attention's projection decides. All hypotheses of one source row live side
    by side along S in that row: re-ordering beams permutes a table of who descends from whom, and copies no key.
    """

    def __init__(self, capacity: int = 64):
        self.capacity = capacity
        self.tokens: Tokens | None = None
        self._layers: dict[int, Parts] = {}
        self._cross: dict[int, Parts] = {}
        self._new = 0

    @property
    def length(self) -> int:
        """How many key positions S each row holds."""
        return 0 if self.tokens is None else self.tokens.shape[1]

    def extend(self, tokens: Tokens) -> Tokens:
        """Announce the tokens [B,T] of this pass; returns those of all keys, [B,S]."""
        self.tokens = tokens if self.tokens is None else self.tokens.cat(tokens)
        self._new = tokens.shape[1]
        return self.tokens

    def append(self, layer: int, parts: Parts) -> Parts:
        """Store a layer's new parts [B,G,T,D]; returns all of its parts so far, [B,G,S,D], as views."""
        end, start = self.length, self.length - self._new
        held = self._layers.get(layer)
        if held is None or held[0].shape[2] < end:
            self.capacity = max(self.capacity, 1 << (end - 1).bit_length())
            held = self._layers[layer] = tuple(self._grown(new, start, old) for new, old in self._paired(parts, held))
        for buffer, new in zip(held, parts, strict=True):
            buffer[:, :, start:end] = new
        return tuple(buffer[:, :, :end] for buffer in held)

    @staticmethod
    def _paired(parts: Parts, held: Parts | None) -> list[tuple[Tensor, Tensor | None]]:
        return list(zip(parts, held or (None,) * len(parts), strict=True))

    def _grown(self, new: Tensor, used: int, old: Tensor | None) -> Tensor:
        buffer = new.new_empty(*new.shape[:2], self.capacity, new.shape[3])
        if old is not None:
            buffer[:, :, :used] = old[:, :, :used]
        return buffer

    def cross(self, layer: int, make: Callable[[], Parts]) -> Parts:
        """A layer's keys and values of the encoder's output: made once, kept for every later step."""
        if layer not in self._cross:
            # Contiguous, because every later step reads them all: a projection's heads lie far apart.
            self._cross[layer] = tuple(part.contiguous() for part in make())
        return self._cross[layer]

    def select(self, rows: Tensor) -> None:
        """Keep only these source rows, in this order (finished ones leave the batch)."""
        if self.tokens is not None:
            self.tokens = self.tokens.select(rows)
        for store in (self._layers, self._cross):
            for layer, parts in store.items():
                store[layer] = tuple(part.index_select(0, rows) for part in parts)

    def keep(self, columns: Tensor) -> None:
        """Keep only these key positions [B,S'] of each row, in this order (no hypothesis descends from the others).
        Cross keys stay."""
        if self.tokens is not None:
            self.tokens = self.tokens.gather(columns)
        row = torch.arange(len(columns), device=columns.device)[:, None, None]
        for parts in self._layers.values():
            for part in parts:
                group = torch.arange(part.shape[1], device=columns.device)[:, None]
                part[:, :, : columns.shape[1]] = part[row, group, columns.unsqueeze(1)]

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` key positions (a rejected proposal)."""
        if self.tokens is not None:
            self.tokens = self.tokens[:, :length]

    def bytes(self) -> int:
        """Bytes of the keys and values in use: 2·L·G·D·S·itemsize per row, cross keys included."""
        used = [part[:, :, : self.length] for parts in self._layers.values() for part in parts]
        used += [part for parts in self._cross.values() for part in parts]
        return sum(part.numel() * part.element_size() for part in used)
