"""A tiny translation task for tests of training: ragged lengths, a real model, everything small."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from qkv.data.batch import Batch, seq2seq
from qkv.models.presets import vaswani
from qkv.models.transformer import EncoderDecoder, build
from qkv.training.config import TrainingConfig
from qkv.training.losses import TokenCrossEntropy
from qkv.training.schedules import Constant

VOCAB = 24
CONFIG = TrainingConfig(
    max_steps=8,
    threads=1,
    learning_rate=1e-2,
    schedule=Constant(),
    log_every=2,
    eval_every=None,
    checkpoint_every=None,
    tensorboard=False,
)


def config(**changes: Any) -> TrainingConfig:
    return replace(CONFIG, **changes)


def model(dropout: float = 0.0, dtype: torch.dtype = torch.float32) -> EncoderDecoder:
    torch.manual_seed(1)
    shape = vaswani("tiny", VOCAB, dropout)
    small = {"d_model": 16, "n_layers": 1}
    block = shape.encoder.block
    block = replace(block, feedforward=replace(block.feedforward, d_ff=24))
    encoder = replace(shape.encoder, block=block, **small)
    decoder = replace(shape.decoder, block=block, **small)
    return build(replace(shape, encoder=encoder, decoder=decoder)).to(dtype)


class Ragged:
    """Pairs (x, reversed x) of very different lengths, a few to a batch."""

    def __init__(self, examples: int = 24, rows: int = 3, plan: list[list[int]] | None = None):
        draw = random.Random(5)
        self.pairs = [[draw.randrange(4, VOCAB) for _ in range(draw.randint(1, 9))] for _ in range(examples)]
        self.rows, self.fixed = rows, plan

    def __len__(self) -> int:
        return len(self.pairs)

    def plan(self, epoch: int) -> list[list[int]]:
        if self.fixed is not None:
            return self.fixed
        order = random.Random(epoch).sample(range(len(self)), len(self))
        return [order[i : i + self.rows] for i in range(0, len(order), self.rows)]

    def load(self, indices: list[int]) -> Batch:
        chosen = [self.pairs[i] for i in indices]
        return seq2seq(chosen, [x[::-1] for x in chosen], indices)


def validation_loss(model: Any, step: int) -> dict[str, float]:
    batch = Ragged().load([0, 1, 2, 3])
    [(total, count, _)] = TokenCrossEntropy()(model, batch).values()
    return {"loss": float(total) / count}


def metrics(out: Path) -> list[dict[str, Any]]:
    """The log without what depends on the clock."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("elapsed", "tokens_per_second")} for line in lines]
