"""What encoders are pretrained on: hidden tokens, what is asked of the text beside them, and replaced tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from qkv.data.batch import IGNORE, Batch
from qkv.models import Memory
from qkv.models.pretraining import drawn

from .losses import Term, TokenCrossEntropy

DRAWS = 1 << 24
"""`extra["draw"]` holds integers below this; over it, they are uniform in [0, 1)."""


class MaskedTokens:
    """Cross-entropy of the tokens that are asked for, and the losses of outputs that read the text.

    outputs: their entries, by name; `batch.extra` holds what they ask for. training: with their regularisation."""

    additive = True

    def __init__(self, outputs: Mapping[str, Any] | None = None, training: bool = True):
        self.outputs, self.training = dict(outputs or {}), training
        self.tokens = TokenCrossEntropy()

    def __call__(self, model: Any, batch: Batch) -> dict[str, Term]:
        """`cross_entropy` in nats per token that is asked for, and one term for each output."""
        hidden, counts = model(batch.ids, batch.tokens), self.counts(batch)
        terms = {"cross_entropy": self.tokens.term(model.head, hidden, batch.targets)}
        for name in self.outputs:
            scores = model.outputs[name](Memory(hidden, batch.tokens))
            terms[name] = (model.outputs[name].loss(scores, batch, self.training), counts[name], 1.0)
        return terms

    def counts(self, batch: Batch) -> dict[str, float]:
        """Tokens that are asked for, and units of each output."""
        return {**self.tokens.counts(batch), **{name: out.count(batch) for name, out in self.outputs.items()}}


class ReplacedTokens:
    """The generator's cross-entropy at the masked tokens, and the detector's binary one at every token:
    L = L_generator + weight · L_detector (Clark et al. 2020, §2). No gradient passes from detector to generator.

    What the generator writes is drawn with the numbers in `extra["draw"]`, not with the global generator: a row of an
    epoch is replaced alike whatever batch it is in and whoever computes it. A draw that hits the right token counts as
    not replaced."""

    additive = True

    def __init__(self, weight: float = 50.0):
        self.weight = weight
        self.tokens = TokenCrossEntropy()

    def __call__(self, model: Any, batch: Batch) -> dict[str, Term]:
        """Terms `cross_entropy`, per masked token, and `detection`, per token."""
        generator, asked = model.generator, batch.targets != IGNORE
        hidden = generator(batch.ids, batch.tokens)
        with torch.no_grad():
            shown, replaced = replacements(generator.head(hidden[asked]), batch)
        scores = model(shown, batch.tokens)
        valid = batch.tokens.valid
        detection = F.binary_cross_entropy_with_logits(scores[valid], replaced[valid].to(scores.dtype), reduction="sum")
        return {
            "cross_entropy": self.tokens.term(generator.head, hidden, batch.targets),
            "detection": (detection, self.counts(batch)["detection"], self.weight),
        }

    def counts(self, batch: Batch) -> dict[str, float]:
        """Masked tokens, and all tokens."""
        return {**self.tokens.counts(batch), "detection": float(batch.tokens.valid.sum())}


def replacements(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """logits [N,V] of the asked tokens -> the ids [B,T] with these drawn anew, and where they differ from the text."""
    asked = batch.targets != IGNORE
    shown = batch.ids.clone()
    shown[asked] = drawn(logits, batch.extra["draw"][asked].to(logits.dtype) / DRAWS)
    return shown, asked & (shown != batch.targets)
