"""All sequences of a small alphabet: a model's and a source's probabilities of each, so that nothing is estimated."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qkv.data.chains import MarkovChain
from qkv.lab import small


def sequences(symbols: int, length: int) -> Tensor:
    """All of them, [V^n, n]; the last symbol changes fastest."""
    return torch.cartesian_prod(*[torch.arange(symbols)] * length)


def log_likelihood(model: nn.Module, ids: Tensor) -> Tensor:
    """log q of each symbol given those before it, [B,T]; the first is uniform, as a chain's is."""
    batch = small.following(ids)
    logp = small.logits(model, batch).log_softmax(-1)
    rest = logp.gather(2, batch.targets.unsqueeze(2)).squeeze(2).double()
    return torch.cat([torch.full_like(rest[:, :1], -math.log(logp.shape[-1])), rest], 1)


@dataclass(frozen=True)
class Joint:
    """log p of every symbol of all sequences ids [K,T], and p of each sequence [K]."""

    ids: Tensor
    steps: Tensor

    @classmethod
    def of_chain(cls, chain: MarkovChain, length: int) -> Joint:
        ids = sequences(chain.n_symbols, length)
        steps = chain.log_prob(ids)
        steps[:, : chain.order] = -math.log(chain.n_symbols)  # to the last bit of float64
        return cls(ids, steps)

    @classmethod
    def of_model(cls, model: nn.Module, symbols: int, length: int) -> Joint:
        ids = sequences(symbols, length)
        return cls(ids, log_likelihood(model, ids))

    @property
    def symbols(self) -> int:
        return int(self.ids.max()) + 1

    @property
    def p(self) -> Tensor:
        return self.steps.sum(1).exp()

    def entropy(self) -> float:
        """H of the whole sequence in nats."""
        return float(-(self.p * self.steps.sum(1)).sum())

    def cross_entropy(self, other: Joint) -> float:
        """E_p[−log q] of the whole sequence."""
        return float(-(self.p * other.steps.sum(1)).sum())

    def divergence(self, other: Joint) -> float:
        """KL(p ‖ q) of whole sequences."""
        return float((self.p * (self.steps - other.steps).sum(1)).sum())

    def stepwise(self, other: Joint, walked: Joint) -> float:
        """Σ_t E KL(p(·|x_<t) ‖ q(·|x_<t)), prefixes x_<t drawn from `walked`."""
        shape = [self.symbols] * self.ids.shape[1]
        found = 0.0
        for t in range(self.ids.shape[1]):
            here = (self.steps[:, t] - other.steps[:, t]) * self.steps[:, t].exp()
            # one value for each prefix and symbol: what follows later does not matter
            first = here.reshape(*shape[: t + 1], -1)[..., 0].sum(-1)
            prefix = walked.p.reshape(*shape[:t], -1).sum(-1)
            found += float((prefix * first).sum())
        return found

    def variation(self, other: Joint, t: int) -> float:
        """Total variation between the distributions of the first t symbols."""
        tail = self.symbols ** (self.ids.shape[1] - t)
        return float((self.p - other.p).reshape(-1, tail).sum(1).abs().sum() / 2)

    def head(self, other: Joint, t: int) -> float:
        """KL of the first t symbols."""
        return float((self.p * (self.steps - other.steps)[:, :t].sum(1)).sum())

    def forgetful(self) -> Joint:
        """The sequence with the same p(x_t | x_1) at every t and nothing else: what is left if the prefix is not the
        target's own, but its first symbol is."""
        v, n = self.symbols, self.ids.shape[1]
        table = self.p.reshape([v] * n)
        steps = [self.steps[:, 0]]
        for t in range(1, n):
            pair = table.sum([i for i in range(1, n) if i != t])
            steps.append((pair / pair.sum(1, keepdim=True)).log()[self.ids[:, 0], self.ids[:, t]])
        return Joint(self.ids, torch.stack(steps, 1))
