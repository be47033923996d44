"""A training process for tests: python -m training.worker OUT MAX_STEPS (under torchrun or alone)."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from qkv.training import distributed, run
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


DISTRIBUTED = kit.config(max_steps=7, log_every=3, eval_every=3, checkpoint_every=2, ema_decay=0.9, clip_norm=0.5)

if __name__ == "__main__":
    torch.set_num_threads(1)
    {"signalled": signalled, "ranks": ranks}[sys.argv[1]](Path(sys.argv[2]))
