"""Naive Bayes in closed form: a class, then words that are independent given the class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class NaiveBayes:
    """p(c) Π_t p(w_t | c): the multinomial model (McCallum & Nigam 1998), all tables in float64.

    log_prior: log p(c), [C]. log_words: log p(w | c), [C,V]. Code the position into the word (2·t + bit, say) and it is
    the naive Bayes of categorical features.

    >>> ids, labels = torch.tensor([[0, 0], [1, 1]]), torch.tensor([0, 1])
    >>> NaiveBayes.fit(ids, labels, n_words=2, n_classes=2).posterior(torch.tensor([[0, 0]])).round(decimals=2).tolist()
    [[0.9, 0.1]]
    """

    log_prior: Tensor
    log_words: Tensor

    @classmethod
    def fit(cls, ids: Tensor, labels: Tensor, n_words: int, n_classes: int, smoothing: float = 1.0) -> NaiveBayes:
        """Counts of ids [B,T] and labels [B]. smoothing: pseudo-count of every word in every class, the posterior mean
        under a symmetric Dirichlet prior (1: Laplace; 0: maximum likelihood). Classes are not smoothed."""
        of_class = F.one_hot(labels, n_classes).double()
        words = F.one_hot(ids, n_words).double().sum(1)
        counts = of_class.T @ words + smoothing
        return cls((of_class.sum(0) / len(labels)).log(), (counts / counts.sum(1, keepdim=True)).log())

    def log_joint(self, ids: Tensor) -> Tensor:
        """log p(c, ids) of ids [B,T] for every class, [B,C]."""
        return self.log_prior + self.log_words[:, ids].sum(-1).T

    def posterior(self, ids: Tensor) -> Tensor:
        """p(c | ids) by Bayes' rule, [B,C]."""
        return self.log_joint(ids).softmax(-1)

    def log_prob(self, ids: Tensor) -> Tensor:
        """log p(ids) = log Σ_c p(c, ids), [B]: what it says of a text as a generator."""
        return self.log_joint(ids).logsumexp(-1)

    def accuracy(self, ids: Tensor, labels: Tensor) -> float:
        """Share of texts whose likeliest class is their label [B]."""
        return float((self.log_joint(ids).argmax(-1) == labels).double().mean())

    def sample(self, rows: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Texts [B,T] and their classes [B], as the model believes they arise."""
        labels = torch.multinomial(self.log_prior.exp(), rows, replacement=True, generator=generator)
        words = torch.multinomial(self.log_words.exp()[labels], length, replacement=True, generator=generator)
        return words, labels
