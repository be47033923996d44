"""Texts as vectors that are alike where the texts mean alike: the output of a bi-encoder, and what it is trained on.

A batch holds n couples as 2n rows: all first texts, then all second ones (see `data/couples.py`). The entries of the
table share the vector, the pooled hidden states; they differ in the objective on the cosines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .outputs import Decision, Pooling, pooled
from .stack import Memory


def cosines(vectors: Tensor) -> Tensor:
    """Vectors [2n,E] of first and second texts -> the cosine of each couple, [n]."""
    first, second = vectors.chunk(2)
    return F.cosine_similarity(first, second, dim=-1)


def contrast(vectors: Tensor, temperature: float) -> Tensor:
    """Σ_i −log softmax_j(cos(a_i, b_j)/τ)_i, the mean of choosing the second for a first and the first for a second
    (InfoNCE; van den Oord et al. 2018, eq. 4). vectors [2n,E]: the a_i, then the b_i.

    >>> float(contrast(torch.eye(4), temperature=1.0))  # four right angles: each partner is one of two
    1.3862943649291992
    """
    first, second = F.normalize(vectors, dim=-1).chunk(2)
    scores = first @ second.T / temperature
    right = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, right, reduction="sum") + F.cross_entropy(scores.T, right, reduction="sum")) / 2


class LikenessOutput(nn.Module):
    """Memory -> one vector a text, [2n,E]: pooled, without weights of its own."""

    def __init__(self, config: Likeness, name: str):
        super().__init__()
        self.config, self.name = config, name

    def forward(self, memory: Memory) -> Tensor:
        """[2n,E]."""
        return pooled(memory.x, memory.tokens, self.config.pooling)

    def loss(self, vectors: Tensor, batch: Any, training: bool = True) -> Tensor:
        """The entry's own."""
        return self.config.objective(vectors, batch.extra[self.name])

    def decide(self, vectors: Tensor, batch: Any) -> list[Decision]:
        """No label, and the cosine, of each couple."""
        return [Decision([], [cosine]) for cosine in cosines(vectors).tolist()]


class Objective:
    """What the entries share: a text is one vector, and a unit is one couple."""

    def build(self, name: str, d_model: int, counts: Sequence[int]) -> LikenessOutput:
        """The module; `batch.extra[name]` [n] will hold similarities from 0 to 1."""
        return LikenessOutput(self, name)  # type: ignore[arg-type]

    def count(self, batch: Any) -> float:
        """Couples of the batch."""
        return len(batch.ids) / 2


@dataclass(frozen=True)
class Regression(Objective):
    """The cosine is to be the similarity that people gave: Σ (cos − s)² (Reimers & Gurevych 2019, §3).

    pooling: how the tokens' states become one vector."""

    pooling: Pooling = "mean"

    additive: ClassVar[bool] = True
    own: ClassVar[bool] = False

    def objective(self, vectors: Tensor, similarity: Tensor) -> Tensor:
        """Σ (cos − s)²."""
        return (cosines(vectors) - similarity).square().sum()


@dataclass(frozen=True)
class InBatch(Objective):
    """A text's partner is to be found among all second texts of the batch: `contrast`. Trained on couples that mean
    the same; the others of the batch are the negatives, so the loss is no sum over independent units.

    pooling: as in `Regression`. temperature: τ. least: the similarity from which on a couple counts as the same."""

    pooling: Pooling = "mean"
    temperature: float = 0.05
    least: float = 0.8

    additive: ClassVar[bool] = False
    own: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _positive(self.temperature)
        if not 0 <= self.least <= 1:
            raise ValueError(f"least is {self.least}; give a similarity from 0 to 1")

    def objective(self, vectors: Tensor, similarity: Tensor) -> Tensor:
        """InfoNCE in both directions."""
        return contrast(vectors, self.temperature)


@dataclass(frozen=True)
class TwoDropouts(Objective):
    """Each text is its own partner, read with two draws of dropout, and the others of the batch are the negatives:
    no labels are needed (SimCSE; Gao et al. 2021, §3). Without dropout in the encoder there is nothing to learn.

    pooling, temperature: as in `InBatch`."""

    pooling: Pooling = "mean"
    temperature: float = 0.05

    additive: ClassVar[bool] = False
    own: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _positive(self.temperature)

    def objective(self, vectors: Tensor, similarity: Tensor) -> Tensor:
        """InfoNCE in both directions."""
        return contrast(vectors, self.temperature)


Likeness = Regression | InBatch | TwoDropouts


def _positive(temperature: float) -> None:
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}; give a number above 0")
