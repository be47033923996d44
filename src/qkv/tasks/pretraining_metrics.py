"""How well tokens are told, pairs judged and replaced tokens detected."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from qkv.data.batch import IGNORE, Batch, BatchSource
from qkv.data.pretraining import PAIR
from qkv.models import Memory
from qkv.models.pretraining import ReplacementDetector, filler
from qkv.tasks.task import System
from qkv.training.losses import TokenCrossEntropy
from qkv.training.pretraining import replacements


@torch.inference_mode()
def pretraining_scores(system: System, source: BatchSource) -> dict[str, Any]:
    """Over all batches: loss, perplexity and accuracy per hidden token, and what else the model answers."""
    model: Any = system.model
    totals: dict[str, float] = {}

    def add(**parts: float | Tensor) -> None:
        for name, value in parts.items():
            totals[name] = totals.get(name, 0.0) + float(value)

    for indices in source.plan(0):
        batch = source.load(indices).to(system.device)
        fills = filler(model)
        hidden = fills(batch.ids, batch.tokens)
        asked = batch.targets != IGNORE
        logits, right = fills.head(hidden[asked]), batch.targets[asked]
        nats = torch.nn.functional.cross_entropy(logits, right, reduction="sum")
        add(tokens=int(asked.sum()), nats=nats, hits=(logits.argmax(-1) == right).sum())
        if isinstance(model, ReplacementDetector):
            add(**_detected(model, batch, logits))
        elif PAIR in batch.extra:
            given = model.outputs[PAIR](Memory(hidden, batch.tokens)).argmax(-1)
            add(pairs=len(given), pair_hits=(given == batch.extra[PAIR]).sum())
    return _shares(totals)


@torch.inference_mode()
def mean_nats(system: System, batches: Iterable[Batch]) -> dict[str, float]:
    """Loss in nats and perplexity per token that is asked for, and their number."""
    nats = tokens = 0.0
    for batch in batches:
        total, count, _ = TokenCrossEntropy()(system.model, batch.to(system.device))["cross_entropy"]
        nats, tokens = nats + float(total), tokens + count
    loss = nats / max(1.0, tokens)
    return {"tokens": int(tokens), "loss": loss, "perplexity": math.exp(min(loss, 700.0))}


def _detected(model: ReplacementDetector, batch: Batch, logits: Tensor) -> dict[str, float]:
    shown, replaced = replacements(logits, batch)
    valid = batch.tokens.valid
    said, true = (model(shown, batch.tokens) > 0)[valid], replaced[valid]
    counted = {"said": said, "true": true, "both": said & true, "wrong": said != true, "read": torch.ones_like(true)}
    return {name: float(part.sum()) for name, part in counted.items()}


def _shares(totals: dict[str, float]) -> dict[str, Any]:
    tokens = max(1.0, totals.get("tokens", 0.0))
    loss = totals.get("nats", 0.0) / tokens
    found: dict[str, Any] = {
        "tokens": int(totals.get("tokens", 0.0)),
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)),
        "accuracy": totals.get("hits", 0.0) / tokens,
    }
    if "pairs" in totals:
        found["pair_accuracy"] = totals["pair_hits"] / totals["pairs"]
    if "read" in totals:
        found["replaced"] = totals["true"] / totals["read"]
        found["detection_accuracy"] = 1 - totals["wrong"] / totals["read"]
        found["detection_f1"] = 2 * totals["both"] / max(1.0, totals["said"] + totals["true"])
    return found
