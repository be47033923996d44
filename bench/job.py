"""What an adapter hands to the worker, and the one training step that all contenders share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.cells import Cell, random_ids

BATCHES = 4  # a few different batches in turn, so that no contender can profit from seeing one again


@dataclass
class Job:
    """A built contender: ``step()`` does one whole unit of work; ``output()`` shows what decoding produced."""

    step: Callable[[], object]
    parameters: int
    output: Callable[[], list[list[int]]] | None = None
    note: str = ""
    packages: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Example:
    """One training batch: ``source [B,S]`` (None when decoder-only), decoder ``inputs [B,T]`` and ``targets [B,T]``."""

    source: Tensor | None
    inputs: Tensor
    targets: Tensor


def examples(cell: Cell) -> list[Example]:
    """The training batches of a cell. Every target is a real token; a decoder's first input is the start id."""
    made = []
    for draw in range(BATCHES):
        source = random_ids(cell, cell.batch, cell.prompt, 2 * draw) if cell.dimensions.seq2seq else None
        stream = random_ids(cell, cell.batch, cell.length + 1, 2 * draw + 1)
        if source is not None:
            stream[:, 0] = cell.dimensions.pad
        made.append(Example(source, stream[:, :-1].contiguous(), stream[:, 1:].contiguous()))
    return made


def parameters(model: nn.Module) -> int:
    """Distinct trainable numbers: tied weights count once, fixed tables do not count."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def mean_loss(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Mean label-smoothed cross-entropy in float32 of ``logits [B,T,V]``."""
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), label_smoothing=smoothing)


def training_job(model: nn.Module, loss: Callable[[Example], Tensor], cell: Cell, packages: list[str]) -> Job:
    """A step = zero the gradients, forward, loss, backward, AdamW: the same for all, with torch's fused CPU kernel.

    Args:
        loss: maps a batch to the scalar mean loss over its ``cell.tokens`` targets.
    """
    model.train()
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-4, fused=True)
    batches = examples(cell)
    turn = 0

    def step() -> None:
        nonlocal turn
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16) if cell.precision == "bf16" else nullcontext():
            value = loss(batches[turn % BATCHES])
        value.backward()
        optimizer.step()
        turn += 1

    return Job(step, parameters(model), packages=packages)
