"""Rows of unequal length, gradients as one vector, and one update as `fit` makes it."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from qkv.data.batch import IGNORE, Batch, pad
from qkv.nn import Tokens
from qkv.text import PAD
from qkv.training.config import TrainingConfig
from qkv.training.fit import fit
from qkv.training.losses import Loss, Term, TokenCrossEntropy
from qkv.training.optim import Sgd
from qkv.training.schedules import Constant

Row = list[int]


def draw(lengths: Sequence[int], vocab: int, generator: torch.Generator) -> list[Row]:
    """One row of random tokens for each length; a row of n + 1 tokens asks n questions."""
    return [torch.randint(vocab, (n + 1,), generator=generator).tolist() for n in lengths]


def collate(rows: Sequence[Row], longer: int = 0, ignore: int = IGNORE) -> Batch:
    """Each token is predicted from those before it. longer: columns of padding added to what the longest row needs.
    ignore: the target of padding; anything but IGNORE is a mistake that a control makes."""
    lengths = [len(row) - 1 for row in rows]
    width = max(lengths) + longer
    filler = [ignore] * width  # a row that sets the width and is cut off again
    ids = pad([*(row[:-1] for row in rows), [PAD] * width])[:-1]
    targets = pad([*(row[1:] for row in rows), filler], ignore)[:-1]
    return Batch(ids, Tokens.from_lengths(lengths, width), targets)


@dataclass(frozen=True)
class Rows:
    """A BatchSource: the rows in their order, `size` at a time."""

    rows: list[Row]
    size: int

    def plan(self, epoch: int) -> list[list[int]]:
        return [list(range(i, min(i + self.size, len(self)))) for i in range(0, len(self), self.size)]

    def load(self, indices: list[int]) -> Batch:
        return collate([self.rows[i] for i in indices])

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self) -> list[Batch]:
        """Those of one epoch."""
        return [self.load(indices) for indices in self.plan(0)]


class MeanOfMeans(TokenCrossEntropy):
    """The mistake: each micro-batch gives its own mean and counts as one."""

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Term]:
        terms = super().__call__(model, batch)
        return {name: (total / count, 1.0, weight) for name, (total, count, weight) in terms.items()}

    def counts(self, batch: Batch) -> dict[str, float]:
        return dict.fromkeys(super().counts(batch), 1.0)


def total(model: nn.Module, batch: Batch) -> tuple[Tensor, float]:
    """Sum and count of the cross-entropy of a batch."""
    value, count, _ = TokenCrossEntropy()(model, batch)["cross_entropy"]
    return value, count


def flat_weights(model: nn.Module) -> Tensor:
    """All weights as one vector [P]."""
    return torch.cat([p.detach().flatten() for p in model.parameters()]).clone()


def flat_gradient(model: nn.Module) -> Tensor:
    """All gradients as one vector [P]; zero where there is none."""
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in model.parameters()])


def gradient_of(model: nn.Module, value: Tensor) -> Tensor:
    """The gradient [P] of one scalar, whatever was there before forgotten."""
    model.zero_grad(set_to_none=True)
    value.backward()
    return flat_gradient(model).clone()


def relative(a: Tensor, b: Tensor) -> float:
    """‖a − b‖ / ‖b‖."""
    return float((a - b).norm() / b.norm())


def update(model: nn.Module, loss: Loss, source: Rows, clip: float | None = None) -> Tensor:
    """What one update of `fit` takes off the weights of a copy at rate 1, [P]: the (clipped) gradient of the epoch, its
    batches accumulated."""
    trained = copy.deepcopy(model)
    config = TrainingConfig(
        max_steps=1,
        threads=1,
        device="cpu",
        optimizer=Sgd(),
        learning_rate=1.0,
        schedule=Constant(),
        clip_norm=clip,
        accumulate=len(source.plan(0)),
        eval_every=None,
        checkpoint_every=None,
        tensorboard=False,
    )
    with tempfile.TemporaryDirectory(prefix="qkv-lab-") as folder:
        fit(trained, loss, source, config, Path(folder) / "run", progress=False)
    return flat_weights(model) - flat_weights(trained)
