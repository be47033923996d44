"""Exact Bayes, to measure models against: a coin of unknown bias, and linear regression."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Coin:
    """Bits that are independent given a bias θ ~ Beta(heads, tails), drawn once a sequence."""

    heads: float = 1.0
    tails: float = 1.0

    def sample(self, rows: int, length: int, generator: torch.Generator) -> Tensor:
        """Bits [B,T], each row from a coin of its own."""
        # A Beta is a ratio of Gammas; whole parameters (all that is asked here) make those sums of exponentials.
        gammas = [
            -torch.rand(rows, int(n), generator=generator, dtype=torch.float64).clamp_min(1e-300).log().sum(1)
            for n in (self.heads, self.tails)
        ]
        bias = gammas[0] / (gammas[0] + gammas[1])
        return (torch.rand(rows, length, generator=generator, dtype=torch.float64) < bias[:, None]).long()

    def predictive(self, bits: Tensor) -> Tensor:
        """p(x_t = 1 | x_<t) for t = 1 … T of bits [B,T]: (heads + ones so far) / (heads + tails + tosses so far).

        With Beta(1,1) it is Laplace's rule of succession, with Beta(½,½) the Krichevsky–Trofimov estimate."""
        seen = torch.cat([torch.zeros_like(bits[:, :1]), bits[:, :-1]], 1).double().cumsum(1)
        tosses = torch.arange(bits.shape[1], dtype=torch.float64)
        return (self.heads + seen) / (self.heads + self.tails + tosses)


def bernoulli_divergence(true: Tensor, said: Tensor) -> Tensor:
    """KL(true ‖ said) of two probabilities of a one, elementwise in nats."""
    return torch.special.xlogy(true, true / said) + torch.special.xlogy(1 - true, (1 - true) / (1 - said))


@dataclass(frozen=True)
class LinearRegression:
    """y = Φw + noise, w ~ N(0, variance·I), noise ~ N(0, noise²): conjugate, hence exact (MacKay 1992).

    features: Φ [N,K]. targets: y [N]. All in float64."""

    features: Tensor
    targets: Tensor
    noise: float
    variance: float = 1.0

    def log_evidence(self) -> float:
        """log p(y | Φ) = log N(y; 0, variance·ΦΦᵀ + noise²·I): the weights integrated out."""
        n = len(self.targets)
        covariance = self.variance * self.features @ self.features.T + self.noise**2 * torch.eye(n).double()
        factor = torch.linalg.cholesky(covariance)
        scaled = torch.linalg.solve_triangular(factor, self.targets[:, None], upper=False)
        return float(-(scaled**2).sum() / 2 - factor.diagonal().log().sum() - n / 2 * math.log(2 * math.pi))

    def map(self) -> Tensor:
        """The weights [K] of largest posterior density, here also the posterior mean: ridge regression."""
        ridge = (self.noise**2 / self.variance) * torch.eye(self.features.shape[1]).double()
        return torch.linalg.solve(self.features.T @ self.features + ridge, self.features.T @ self.targets)

    def mle(self) -> Tensor:
        """The weights [K] of largest likelihood; the shortest of them if there are many."""
        return torch.linalg.lstsq(self.features, self.targets[:, None], driver="gelsd").solution[:, 0]

    def log_likelihood(self, weights: Tensor) -> float:
        """log p(y | Φ, w) of weights [K]."""
        error = self.targets - self.features @ weights
        scale = math.log(2 * math.pi * self.noise**2)
        return float(-(error**2).sum() / (2 * self.noise**2) - len(error) / 2 * scale)
