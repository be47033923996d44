"""A label for every unit of a text: the output of taggers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from qkv.nn.dropout import check_rate

from .crf import Chain, Legal, LinearChain, join, legal
from .outputs import Decision
from .stack import Memory

IGNORE = -100  # the target of a position that carries no label; torch's own


@dataclass(frozen=True)
class Tagging:
    """One label a unit, where `batch.targets` [B,T] is not −100: that is a word's first piece.

    crf: score whole label sequences (a linear chain); without, each unit by a softmax of its own. constrained: give
    only sequences that the names of the labels allow: no I-x without a B-x. dropout: before the linear layer."""

    crf: bool = False
    constrained: bool = True
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_rate(self.dropout)

    def count(self, batch: Any) -> float:
        """Units of the batch."""
        return float((batch.targets != IGNORE).sum())

    def build(self, name: str, d_model: int, counts: Sequence[int]) -> TaggingOutput:
        """The module; `batch.targets` [B,T] will hold the right labels' numbers."""
        return TaggingOutput(self, d_model, len(counts))


class TaggingOutput(nn.Module):
    """Memory -> emissions [B,T,C]; see `Tagging`. `constrain` tells it the names of the labels."""

    def __init__(self, config: Tagging, d_model: int, n_labels: int):
        super().__init__()
        self.config = config
        self.dropout = nn.Dropout(config.dropout)
        self.linear = nn.Linear(d_model, n_labels)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)
        self.chain = LinearChain(n_labels) if config.crf else None
        self.legal: Legal | None = None

    def constrain(self, names: Sequence[str]) -> TaggingOutput:
        """Have it decide on sequences that `names`, in the order of their numbers, allow, if it is to. Returns it."""
        self.legal = legal(names) if self.config.constrained else None
        return self

    def forward(self, memory: Memory) -> Tensor:
        """[B,T,C]."""
        return self.linear(self.dropout(memory.x))

    def loss(self, scores: Tensor, batch: Any, training: bool = True) -> Tensor:
        """Σ −log p(labels of a row) over the rows; without a CRF, Σ −log p(label) over the units."""
        if self.chain is None:
            return F.cross_entropy(scores.flatten(0, 1), batch.targets.flatten(), reduction="sum", ignore_index=IGNORE)
        emissions, labels, valid = join(scores, batch.targets != IGNORE, batch.targets)
        chain = self.chain.chain()
        return (chain.log_partition(emissions, valid) - chain.score(emissions, labels, valid)).sum()

    def decide(self, scores: Tensor, batch: Any) -> list[Decision]:
        """The best labels of each row's units in order, with the probability of each by itself (its marginal).

        A row whose labels allow no sequence at all is decided without constraint."""
        emissions, valid = join(scores, batch.targets != IGNORE)
        chain = self._chain(scores, self.legal)
        path, score = chain.best(emissions, valid)
        p = chain.marginals(emissions, valid)
        stuck = ~score.isfinite()
        if self.legal is not None and bool(stuck.any()):
            free = self._chain(scores, None)
            path[stuck] = free.best(emissions[stuck], valid[stuck])[0]
            p[stuck] = free.marginals(emissions[stuck], valid[stuck])
        own = p.gather(2, path.unsqueeze(2)).squeeze(2)
        lengths = valid.sum(1).tolist()
        rows = zip(path.tolist(), own.tolist(), lengths, strict=True)
        return [Decision(labels[:n], probabilities[:n]) for labels, probabilities, n in rows]

    def _chain(self, like: Tensor, allowed: Legal | None) -> Chain:
        if self.chain is not None:
            return self.chain.chain(allowed)
        none = like.new_zeros(like.shape[2])
        flat = Chain(none, like.new_zeros(len(none), len(none)), none)
        return flat if allowed is None else allowed.forbid(flat)
