"""How much a text looks like those that a classifier was trained on: the table of scores. Higher is more in scope.

    entry      fit(features, labels) -> state, tensors by name · score(state, features) -> [N]

Softmax gives every text a label and most a high probability; whether the text belongs here at all is another question,
and which of these answers it best depends on the data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

State = Mapping[str, Tensor]
CHUNK = 512  # texts whose distances are computed at once


@dataclass(frozen=True)
class Features:
    """What a trained classifier makes of N texts. logits [N,C]: its scores of the labels. vectors [N,E]: what its last
    linear map sees. ids: the tokens of each, without begin and end. In float64."""

    logits: Tensor
    vectors: Tensor
    ids: Sequence[Sequence[int]]


@dataclass(frozen=True)
class MaxProbability:
    """max_c softmax(logits)_c (Hendrycks & Gimpel 2017): the confidence itself, the baseline."""

    def fit(self, features: Features, labels: Tensor) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def score(self, state: State, features: Features) -> Tensor:
        """[N], in (0, 1]."""
        return features.logits.softmax(-1).amax(-1)


@dataclass(frozen=True)
class Energy:
    """T·log Σ_c exp(logit_c / T) (Liu et al. 2020): what softmax divides away, the height of all logits together."""

    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}; give a positive number")

    def fit(self, features: Features, labels: Tensor) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def score(self, state: State, features: Features) -> Tensor:
        """[N]: minus the free energy."""
        return self.temperature * (features.logits / self.temperature).logsumexp(-1)


@dataclass(frozen=True)
class Mahalanobis:
    """−min_c (z−μ_c)ᵀ Σ⁻¹ (z−μ_c) with the mean of each label and one covariance (Lee et al. 2018).

    shrinkage: Σ is mixed with so much of a multiple of the identity that has its trace."""

    shrinkage: float = 0.1

    def __post_init__(self) -> None:
        _check_shrinkage(self.shrinkage)

    def fit(self, features: Features, labels: Tensor) -> dict[str, Tensor]:
        """The means and what whitens, W with W Wᵀ = Σ⁻¹."""
        return gaussians(features.vectors, labels, self.shrinkage)

    def score(self, state: State, features: Features) -> Tensor:
        """[N], at most 0."""
        return -squares(state, features.vectors).amin(-1)


@dataclass(frozen=True)
class Gaussians:
    """log Σ_c π_c N(z; μ_c, Σ): how likely the vector is under a generative model of those in scope.

    shrinkage: as in `Mahalanobis`."""

    shrinkage: float = 0.1

    def __post_init__(self) -> None:
        _check_shrinkage(self.shrinkage)

    def fit(self, features: Features, labels: Tensor) -> dict[str, Tensor]:
        """Means, whitening and shares of the labels."""
        return gaussians(features.vectors, labels, self.shrinkage)

    def score(self, state: State, features: Features) -> Tensor:
        """[N]: log densities."""
        width = features.vectors.shape[1]
        scale = torch.linalg.slogdet(state["whiten"]).logabsdet - width / 2 * math.log(2 * math.pi)
        return (state["log_share"] - squares(state, features.vectors) / 2).logsumexp(-1) + scale


@dataclass(frozen=True)
class Neighbours:
    """Minus the distance to the k-th nearest training text, vectors brought to length 1 (Sun et al. 2022)."""

    k: int = 10

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k is {self.k}; give 1 or more")

    def fit(self, features: Features, labels: Tensor) -> dict[str, Tensor]:
        """All training vectors."""
        return {"vectors": F.normalize(features.vectors, dim=-1).float()}

    def score(self, state: State, features: Features) -> Tensor:
        """[N], between −2 and 0."""
        kept = state["vectors"].to(features.vectors.dtype)
        near = []
        for part in F.normalize(features.vectors, dim=-1).split(CHUNK):
            distances = (2 - 2 * part @ kept.T).clamp_min(0)
            near.append(distances.topk(min(self.k, len(kept)), largest=False).values[:, -1].sqrt())
        return -torch.cat(near)


@dataclass(frozen=True)
class WordMixture:
    """1/T · log Σ_c π_c Π_t p(w_t | c): a generative model of the text and not of the classifier's vector of it.

    smoothing: pseudo-count of every token of the vocabulary in every label; what no training text has, has that."""

    smoothing: float = 0.1

    def __post_init__(self) -> None:
        if self.smoothing <= 0:
            raise ValueError(f"smoothing is {self.smoothing}; give a positive number, or unseen words end everything")

    def fit(self, features: Features, labels: Tensor) -> dict[str, Tensor]:
        """Tables log p(w | c) [C,V+1], the last word for ids that training never saw, and shares of the labels."""
        size = 1 + max((max(ids, default=0) for ids in features.ids), default=0)
        counts = torch.full((features.logits.shape[1], size + 1), self.smoothing, dtype=torch.float64)
        for ids, label in zip(features.ids, labels.tolist(), strict=True):
            counts[label].index_add_(0, torch.tensor(ids, dtype=torch.long), torch.ones(len(ids), dtype=torch.float64))
        log_words = (counts / counts.sum(1, keepdim=True)).log()
        return {"log_words": log_words, "log_share": log_shares(labels, len(counts))}

    def score(self, state: State, features: Features) -> Tensor:
        """[N], nats a token; an empty text has that of one unseen word."""
        log_words, last = state["log_words"], state["log_words"].shape[1] - 1
        found = []
        for ids in features.ids:
            known = torch.tensor([min(i, last) for i in ids] or [last])
            found.append((state["log_share"] + log_words[:, known].sum(1)).logsumexp(0) / len(known))
        return torch.stack(found)


ScoreConfig = MaxProbability | Energy | Mahalanobis | Gaussians | Neighbours | WordMixture


def gaussians(vectors: Tensor, labels: Tensor, shrinkage: float) -> dict[str, Tensor]:
    """One Gaussian a label, all with one covariance, from vectors [N,E] and labels [N].

    whiten [E,E]: W with W Wᵀ = Σ⁻¹. centres [C,E]: μ_c W; infinite where a label has no vector. log_share [C]."""
    count = int(labels.max()) + 1
    of = F.one_hot(labels, count).to(vectors.dtype)
    number = of.sum(0)
    means = of.T @ vectors / number.clamp_min(1).unsqueeze(1)
    apart = vectors - means[labels]
    covariance = apart.T @ apart / len(vectors)
    width = vectors.shape[1]
    round_ = covariance.trace() / width + 1e-12
    covariance = (1 - shrinkage) * covariance + shrinkage * round_ * torch.eye(width, dtype=vectors.dtype)
    whiten = torch.linalg.inv(torch.linalg.cholesky(covariance)).T
    centres = (means @ whiten).masked_fill(number.unsqueeze(1) == 0, float("inf"))
    return {"whiten": whiten.contiguous(), "centres": centres, "log_share": log_shares(labels, count)}


def squares(state: State, vectors: Tensor) -> Tensor:
    """(z−μ_c)ᵀ Σ⁻¹ (z−μ_c) of vectors [N,E], [N,C]."""
    return torch.cdist(vectors @ state["whiten"], state["centres"], compute_mode="donot_use_mm_for_euclid_dist") ** 2


def log_shares(labels: Tensor, count: int) -> Tensor:
    """log of the share of each label, [C]."""
    number = torch.bincount(labels, minlength=count).double()
    return (number / number.sum()).log()


def _check_shrinkage(shrinkage: float) -> None:
    if not 0 <= shrinkage <= 1:
        raise ValueError(f"shrinkage is {shrinkage}; give a number from 0 to 1")
