"""The learning rate over a run: a multiplier that depends on (step, progress) alone.

step: 1 for the first update. progress: how much of the run is over, from 0 to 1: step / max_steps, or, where the run is
bounded by time, elapsed / max_minutes, so that a decay ends when the run does. Every multiplier peaks at 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Constant:
    """1 after a linear warm-up."""

    warmup: int = 0
    """Updates until the full rate."""

    def __call__(self, step: int, progress: float) -> float:
        return _ramp(step, self.warmup)


@dataclass(frozen=True)
class Noam:
    """√warmup · min(step^-½, step·warmup^-3/2): up linearly, down with the root of the step.

    Vaswani et al. 2017, equation 3, with the peak taken out: theirs is a learning_rate of (d_model·warmup)^-½.
    """

    warmup: int = 4000
    """Updates until the peak."""

    def __call__(self, step: int, progress: float) -> float:
        warmup = max(1, self.warmup)
        return min(step / warmup, math.sqrt(warmup / step))


@dataclass(frozen=True)
class InverseSqrt:
    """√(hold / max(step, hold)): full rate from the first update, then down with the root of the step (T5, 2020)."""

    hold: int = 10000
    """Updates at the full rate."""

    def __call__(self, step: int, progress: float) -> float:
        return math.sqrt(self.hold / max(step, self.hold)) if self.hold else 1 / math.sqrt(step)


@dataclass(frozen=True)
class Linear:
    """Up linearly for `warmup` updates, then down in a straight line to `final` at the end of the run."""

    warmup: int = 0
    """Updates until the full rate."""
    final: float = 0.0
    """The multiplier at the end."""

    def __call__(self, step: int, progress: float) -> float:
        return _ramp(step, self.warmup) * (1 - (1 - self.final) * _decayed(step, progress, self.warmup))


@dataclass(frozen=True)
class Cosine:
    """Up linearly for `warmup` updates, then down along half a cosine to `final` (Loshchilov & Hutter 2017)."""

    warmup: int = 0
    """Updates until the full rate."""
    final: float = 0.0
    """The multiplier at the end."""

    def __call__(self, step: int, progress: float) -> float:
        fallen = (1 - math.cos(math.pi * _decayed(step, progress, self.warmup))) / 2
        return _ramp(step, self.warmup) * (1 - (1 - self.final) * fallen)


Schedule = Constant | Noam | InverseSqrt | Linear | Cosine


def _ramp(step: int, warmup: int) -> float:
    return min(1.0, step / warmup) if warmup else 1.0


def _decayed(step: int, progress: float, warmup: int) -> float:
    """How much of the run after the warm-up is over, from 0 to 1.

    The warm-up is counted in updates and the run perhaps in minutes: at an even pace it ended at progress·warmup/step,
    which is warmup/max_steps where the run is counted in updates too.
    """
    if step <= warmup:
        return 0.0
    start = progress * warmup / step
    return min(1.0, max(0.0, (progress - start) / (1 - start)))
