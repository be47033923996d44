"""A training process for tests: python -m training.worker OUT MAX_STEPS (under torchrun or alone)."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from qkv.errors import UserError
from qkv.training import checkpoint, distributed, run
from qkv.training.fit import fit
from qkv.training.losses import TokenCrossEntropy

from . import kit


class Announcing(TokenCrossEntropy):
    """Tells when training is under way, and takes its time, so that a signal finds it there."""

    def __call__(self, model, batch):
        print("training", flush=True)
        time.sleep(0.05)
        return super().__call__(model, batch)


def signalled(out: Path) -> None:
    try:
        fit(kit.model(0.2), Announcing(), kit.Ragged(), kit.config(max_steps=400), out)
    except run.Interrupted as stop:
        print(stop, flush=True)
        sys.exit(stop.exit_code)


def ranks(out: Path) -> None:
    distributed.start(torch.device("cpu"))
    source = kit.Ragged(examples=30, rows=3)
    fit(kit.model(dtype=torch.float64), TokenCrossEntropy(0.1), source, DISTRIBUTED, out, evaluate=kit.validation_loss)


def failing(out: Path, where: str) -> None:
    """Rank 0 fails in its evaluation, or in writing a checkpoint; each rank says how it stopped."""
    world = distributed.start(torch.device("cpu"))

    def fail(*arguments: object) -> None:
        raise OSError("of rank 0 alone")

    if where == "checkpoint" and world.main:
        checkpoint.write = fail  # type: ignore[assignment]
    evaluate = fail if where == "evaluation" else kit.validation_loss
    try:
        fit(kit.model(), TokenCrossEntropy(), kit.Ragged(), kit.config(eval_every=2), out, evaluate=evaluate)  # type: ignore[arg-type]
    except (OSError, UserError) as error:
        (out / f"rank-{world.rank}").write_text(str(error))
        time.sleep(2)  # a process that only ends would wake the others by its broken connection


DISTRIBUTED = kit.config(max_steps=7, log_every=3, eval_every=3, checkpoint_every=2, ema_decay=0.9, clip_norm=0.5)

if __name__ == "__main__":
    torch.set_num_threads(1)
    {"signalled": signalled, "ranks": ranks, "failing": failing}[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
