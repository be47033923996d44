"""What a `Reader` is trained on: the sum of its outputs' own losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qkv.data.batch import Batch

from .losses import Term


class OutputLosses:
    """One term for each output, by its name. outputs: their entries. weights: in the objective, 1 where none is given.

    training: with the outputs' regularisation (label smoothing, logit adjustment); without, as they are measured.
    """

    def __init__(self, outputs: Mapping[str, Any], training: bool = True, weights: Mapping[str, float] | None = None):
        self.outputs, self.training, self.weights = dict(outputs), training, dict(weights or {})
        self.additive = all(getattr(output, "additive", True) for output in self.outputs.values())

    def __call__(self, model: Any, batch: Batch) -> dict[str, Term]:
        """Terms of a batch whose `extra` and `targets` hold what the outputs ask for."""
        scores, counts = model(batch.ids, batch.tokens), self.counts(batch)
        return {
            name: (
                model.outputs[name].loss(scores[name], batch, self.training),
                counts[name],
                self.weights.get(name, 1.0),
            )
            for name in self.outputs
        }

    def counts(self, batch: Batch) -> dict[str, float]:
        """Units of each output in the batch."""
        return {name: output.count(batch) for name, output in self.outputs.items()}
