"""Sums between two lines of the log. What an update produces stays on its device until the meter is settled: one
synchronisation a line, not one a step."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from qkv.data.batch import Batch
from qkv.errors import UserError

from .distributed import World


class Meter:
    """Loss per unit, gradient norm, tokens and padding since the last line.

    sums: settled figures of all processes, plain numbers; a part of every checkpoint.
    """

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self._own: dict[str, float] = defaultdict(float)  # of this process, not settled
        self._pending: list[tuple[int, dict[str, Tensor]]] = []

    def batch(self, batch: Batch) -> None:
        """Note the size of a batch that is about to be used."""
        for tokens in (batch.tokens, batch.source_tokens):
            if tokens is not None:
                self._own["valid"] += int(tokens.valid.sum())
                self._own["cells"] += tokens.pos.numel()
        self._own["tokens"] += int(batch.tokens.valid.sum())

    def step(self, step: int, sums: Mapping[str, Tensor], counts: Mapping[str, float], norm: Tensor) -> None:
        """Note an update: per term the weighted sum of this process and the count of all; the gradient's norm."""
        for name, count in counts.items():
            self.sums[f"count/{name}"] = self.sums.get(f"count/{name}", 0.0) + count
        values = {"norm": norm, **{f"sum/{name}": total for name, total in sums.items()}}
        self._pending.append((step, {name: value.detach().double() for name, value in values.items()}))

    def settle(self, world: World) -> None:
        """Fetch what is pending, from all processes. Raises UserError, on all alike, if anything is not finite."""
        if not self._pending:
            return
        names = list(dict.fromkeys(name for _, values in self._pending for name in values))
        absent = torch.zeros_like(self._pending[0][1]["norm"])
        rows = torch.stack([torch.stack([v.get(n, absent) for n in names]) for _, v in self._pending]).tolist()
        steps = [step for step, _ in self._pending]
        broken = [step for step, row in zip(steps, rows, strict=True) if not all(map(math.isfinite, row))]
        self._own |= {name: sum(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
        norm = self._own.pop("norm")
        self._own["broken"] = float(bool(broken))
        total = world.sum(self._own) | {"norm": norm, "steps": len(rows)}
        self._own.clear()
        self._pending.clear()
        if total.pop("broken"):
            where = f"at step {broken[0]}" if broken else f"in steps {steps[0]} to {steps[-1]}"
            raise UserError(
                f"the loss or the gradient is not finite {where}; "
                "lower learning_rate, lengthen the warm-up or set clip_norm (the last checkpoint is intact)"
            )
        for name, value in total.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def line(self, seconds: float) -> dict[str, Any]:
        """The figures of one line of the log, after `settle`; starts afresh."""
        sums, self.sums = self.sums, {}
        terms = {n[4:]: value / (sums[f"count/{n[4:]}"] or 1.0) for n, value in sums.items() if n.startswith("sum/")}
        return {
            "loss": sum(terms.values()),
            **(terms if len(terms) > 1 else {}),
            "gradient_norm": sums["norm"] / sums["steps"],
            "tokens_per_second": round(sums["tokens"] / max(seconds, 1e-9), 1),
            "padding": 1 - sums["valid"] / max(sums["cells"], 1.0),
        }
