"""What a search must not or must say: functions (log-probabilities [B,W,V], state) -> the same with some at -inf."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .state import DEAD, State


class Constraint(Protocol):
    """What a search asks at every step."""

    def __call__(self, scores: Tensor, state: State) -> Tensor: ...


@dataclass(frozen=True)
class Forbidden:
    """Tokens that never appear."""

    ids: tuple[int, ...]

    def __call__(self, scores: Tensor, state: State) -> Tensor:
        return scores.index_fill(2, torch.tensor(self.ids, dtype=torch.long, device=scores.device), DEAD)


@dataclass(frozen=True)
class Forced:
    """Tokens that every output begins with."""

    ids: tuple[int, ...]

    def __call__(self, scores: Tensor, state: State) -> Tensor:
        if state.step >= len(self.ids):
            return scores
        token = self.ids[state.step]
        only = torch.full_like(scores, DEAD)
        only[..., token] = scores[..., token]
        return only


@dataclass(frozen=True)
class MinimumLength:
    """No end before this many tokens."""

    length: int

    def __call__(self, scores: Tensor, state: State) -> Tensor:
        return Forbidden((state.eos,))(scores, state) if state.step < self.length else scores
