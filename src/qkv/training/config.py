"""Every setting of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .optim import AdamW, Optimizer
from .schedules import Noam, Schedule


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained. Give `max_steps` or `max_minutes`."""

    max_steps: int | None = None
    """Updates in the whole run. A killed run resumes to the same weights, bit for bit."""
    max_minutes: float | None = None
    """Minutes in the whole run, evaluation and interrupted sessions included; the schedule follows this clock."""
    seed: int = 0
    """Of dropout and everything else that draws while training."""
    threads: int = 0
    """Threads of one operation; 0 takes torch's default, one per core. The operations of a small model can be shorter
    than waking the threads: measure 1 as well."""
    device: str = "auto"
    """auto (CUDA, else MPS, else CPU) or a device's name."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: matrix products in bfloat16, weights and statistics in fp32. Pays only where the processor has it."""
    optimizer: Optimizer = field(default_factory=AdamW)
    """adam_w | sgd | muon, with their fields."""
    learning_rate: float = 1e-3
    """The peak, which the schedule multiplies."""
    schedule: Schedule = field(default_factory=Noam)
    """constant | noam | inverse_sqrt | linear | cosine, with their fields."""
    clip_norm: float | None = 1.0
    """Gradients whose joint L2 norm is larger are scaled down to it; null leaves them alone."""
    accumulate: int = 1
    """Micro-batches an update (a process). Memory is one micro-batch's, the gradient is exactly the whole batch's."""
    processes: int = 1
    """Processes that share every update; `qkv train` starts them. With a small model two of one thread are faster on
    two cores than one of two. One process alone works off the micro-batches of all: the update is the same."""
    ema_decay: float | None = None
    """Evaluate and keep an exponential moving average of the weights; 0.999 remembers about 1,000 updates."""
    average_last: int = 0
    """Keep the mean of the weights of the last so many checkpoints among those of `checkpoint_every`; 0 does not."""
    log_every: int = 50
    """Updates between two lines of metrics.jsonl."""
    eval_every: int | None = 500
    """Updates between two evaluations; null evaluates at the end only."""
    checkpoint_every: int | None = 500
    """Updates between two checkpoints; null saves when the metric improves, on a signal, and at the end."""
    keep_checkpoints: int = 2
    """So many last checkpoints stay, and the best one, and those to be averaged."""
    metric: str = "loss"
    """Which figure of the evaluation says what is best."""
    mode: Literal["min", "max"] = "min"
    """Whether less or more of it is better."""
    patience: int | None = None
    """Stop after so many evaluations in a row without a better metric; null does not."""
    tensorboard: bool = True
    """Write event files too, where the package `tensorboard` is installed."""

    def __post_init__(self) -> None:
        if (self.max_steps is None) == (self.max_minutes is None):
            raise ValueError("give either max_steps or max_minutes, and not both")
        for name in ("max_steps", "max_minutes", "learning_rate", "clip_norm", "log_every"):
            self._require_positive(name)
        for name in ("accumulate", "processes", "eval_every", "checkpoint_every", "keep_checkpoints", "patience"):
            self._require_positive(name)
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}; give a number between 0 and 1")
        if self.average_last and self.checkpoint_every is None:
            raise ValueError("average_last takes checkpoints at a regular interval; set checkpoint_every")
        if self.average_last and self.ema_decay is not None:
            raise ValueError("average_last and ema_decay both average weights; choose one")

    def _require_positive(self, name: str) -> None:
        value = getattr(self, name)
        if value is not None and value <= 0:
            raise ValueError(f"{name} is {value}; give a positive number")
