"""What an encoder says of a text or of each of its tokens: the outputs of understanding, and their table.

    entry      build(name, d_model, counts) -> module · count(batch) -> units that its loss is summed over
    module     (memory) -> scores · loss(scores, batch, training) -> sum · decide(scores, batch) -> one Decision a row

`counts` [C] says how often each label was seen in training: their number, and what imbalance is answered with. What is
right stands in the batch: `extra[name]` for a text, `targets` for its tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qkv.nn import Tokens
from qkv.nn.dropout import check_rate

from .stack import Memory

Pooling = Literal["mean", "first", "max"]


def pooled(x: Tensor, tokens: Tokens, how: Pooling = "mean") -> Tensor:
    """x [B,T,E] -> one vector a sequence, [B,E]: the mean or the maximum over its tokens, or its first token's."""
    valid = tokens.valid.unsqueeze(-1)
    if how == "first":
        return x[torch.arange(len(x), device=x.device), tokens.valid.int().argmax(1)]
    if how == "max":
        return x.masked_fill(~valid, float("-inf")).amax(1)
    return (x * valid).sum(1) / valid.sum(1).clamp_min(1)


class Pooler(nn.Module):
    """Memory -> scores [B,C]: dropout, then a linear map of the pooled states, through a tanh layer if `hidden`."""

    def __init__(self, d_model: int, n_labels: int, pooling: Pooling, hidden: bool, dropout: float):
        super().__init__()
        self.pooling = pooling
        self.hidden = nn.Sequential(nn.Linear(d_model, d_model), nn.Tanh()) if hidden else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(d_model, n_labels)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def embed(self, memory: Memory) -> Tensor:
        """The vector [B,E] that the linear map sees, without dropout."""
        return self.hidden(pooled(memory.x, memory.tokens, self.pooling))

    def forward(self, memory: Memory) -> Tensor:
        """[B,C]."""
        return self.linear(self.dropout(self.embed(memory)))


@dataclass(frozen=True)
class Choice:
    """One label of several for a text: softmax and cross-entropy.

    pooling: how the tokens' states become one vector. hidden: a tanh layer before the linear one. dropout: before the
    linear layer. smoothing: label smoothing. adjustment: τ of logit adjustment for rare labels: training adds
    τ·log p(label) to the logits, so that answers are as if all labels were equally frequent (Menon et al. 2021).
    effective: β of weights by effective number: a text whose label was seen n times counts (1−β)/(1−β^n), over the
    mean of that in training (Cui et al. 2019); 0.999 takes the thousandth text of a label for little news."""

    pooling: Pooling = "mean"
    hidden: bool = False
    dropout: float = 0.1
    smoothing: float = 0.0
    adjustment: float = 0.0
    effective: float = 0.0

    def __post_init__(self) -> None:
        check_rate(self.dropout)
        for name in ("smoothing", "effective"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 0 or more, below 1")

    def count(self, batch: Any) -> float:
        """Rows of the batch."""
        return float(len(batch.ids))

    def build(self, name: str, d_model: int, counts: Sequence[int]) -> ChoiceOutput:
        """The module; `batch.extra[name]` [B] will hold the right label's number."""
        return ChoiceOutput(self, name, d_model, counts)


class ChoiceOutput(Pooler):
    """Softmax over labels; see `Choice`. temperature: what scores are divided by for probabilities, 1 until it is
    fitted (`qkv.tasks.calibration`); no label's rank depends on it."""

    def __init__(self, config: Choice, name: str, d_model: int, counts: Sequence[int]):
        super().__init__(d_model, len(counts), config.pooling, config.hidden, config.dropout)
        self.config, self.name = config, name
        seen = torch.tensor(counts, dtype=torch.float32).clamp_min(1)
        self.log_prior: Tensor
        self.register_buffer("log_prior", (seen / seen.sum()).log(), persistent=False)
        self.weights: Tensor
        self.register_buffer("weights", effective_weights(seen, config.effective), persistent=False)
        self.temperature: Tensor
        self.register_buffer("temperature", torch.ones(()))

    def loss(self, scores: Tensor, batch: Any, training: bool = True) -> Tensor:
        """Σ −log p(label) over the rows; without `training`, neither smoothed nor adjusted nor weighted."""
        right = batch.extra[self.name]
        if not training:
            return F.cross_entropy(scores, right, reduction="sum")
        if self.config.adjustment:
            scores = scores + self.config.adjustment * self.log_prior
        nats = F.cross_entropy(scores, right, reduction="none", label_smoothing=self.config.smoothing)
        return (nats * self.weights[right]).sum() if self.config.effective else nats.sum()

    def decide(self, scores: Tensor, batch: Any) -> list[Decision]:
        """Labels by falling probability."""
        p = (scores / self.temperature).softmax(-1)
        order = p.argsort(-1, descending=True)
        return [Decision(o.tolist(), q[o].tolist()) for o, q in zip(order.cpu(), p.cpu(), strict=True)]


def effective_weights(counts: Tensor, beta: float) -> Tensor:
    """counts [C] -> weights [C] ∝ (1−β)/(1−β^n), whose mean over the texts of all labels is 1; β = 0 gives ones.

    Between β = 0, where all texts count alike, and β → 1, where all labels do (Cui et al. 2019, arXiv:1901.05555).
    """
    weights = (1 - beta) / (1 - beta ** counts.double())
    return (weights * counts.sum() / (weights * counts).sum()).float()


@dataclass(frozen=True)
class Several:
    """Any number of labels for a text: an independent sigmoid each.

    pooling, hidden, dropout: as in `Choice`. threshold: probability from which on a label is given."""

    pooling: Pooling = "mean"
    hidden: bool = False
    dropout: float = 0.1
    threshold: float = 0.5

    def __post_init__(self) -> None:
        check_rate(self.dropout)
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold}; give a number between 0 and 1")

    def count(self, batch: Any) -> float:
        """Rows of the batch."""
        return float(len(batch.ids))

    def build(self, name: str, d_model: int, counts: Sequence[int]) -> SeveralOutput:
        """The module; `batch.extra[name]` [B,C] will hold 1 for each label that is right."""
        return SeveralOutput(self, name, d_model, counts)


class SeveralOutput(Pooler):
    """Sigmoids over labels; see `Several`."""

    def __init__(self, config: Several, name: str, d_model: int, counts: Sequence[int]):
        super().__init__(d_model, len(counts), config.pooling, config.hidden, config.dropout)
        self.config, self.name = config, name

    def loss(self, scores: Tensor, batch: Any, training: bool = True) -> Tensor:
        """Sum of the binary cross-entropies over rows and labels."""
        right = batch.extra[self.name].to(scores.dtype)
        return F.binary_cross_entropy_with_logits(scores, right, reduction="sum")

    def decide(self, scores: Tensor, batch: Any) -> list[Decision]:
        """The labels that reach the threshold, most probable first."""
        found = []
        for p in scores.sigmoid().cpu():
            order = p.argsort(descending=True)
            chosen = [i for i in order.tolist() if p[i] >= self.config.threshold]
            found.append(Decision(chosen, p[chosen].tolist()))
        return found


@dataclass(frozen=True)
class Decision:
    """labels: numbers, best first (of a tagger: one a unit, in order). probabilities: of each of them."""

    labels: list[int]
    probabilities: list[float]
