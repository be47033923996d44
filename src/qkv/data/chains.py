"""Sources whose truth is known: Markov chains of any order, with their exact entropy rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class MarkovChain:
    """p(x_t | x_{t-k} … x_{t-1}) = table[x_{t-k}, …, x_{t-1}, x_t] over V symbols; the first k are uniform.

    table: probabilities of shape [V]·(k+1), in float64; k = 0 draws independent symbols.
    """

    table: Tensor

    @classmethod
    def random(cls, n_symbols: int, order: int, generator: torch.Generator, sharpness: float = 2.0) -> MarkovChain:
        """A chain whose log-probabilities are normal with standard deviation `sharpness`."""
        scores = torch.randn([n_symbols] * (order + 1), generator=generator, dtype=torch.float64)
        return cls((sharpness * scores).softmax(-1))

    @property
    def n_symbols(self) -> int:
        return self.table.shape[-1]

    @property
    def order(self) -> int:
        return self.table.dim() - 1

    def sample(self, rows: int, length: int, generator: torch.Generator) -> Tensor:
        """Sequences [B,T] of symbols 0 … V-1."""
        ids = torch.randint(self.n_symbols, (rows, max(length, self.order)), generator=generator)
        for t in range(self.order, length):
            context = tuple(ids[:, t - self.order + i] for i in range(self.order))
            probabilities = self.table[context] if context else self.table.expand(rows, -1)
            ids[:, t] = torch.multinomial(probabilities, 1, generator=generator).squeeze(1)
        return ids[:, :length]

    def log_prob(self, ids: Tensor) -> Tensor:
        """log p of each symbol of ids [B,T] given those before it, [B,T] in nats."""
        out = torch.full(ids.shape, -math.log(self.n_symbols), dtype=self.table.dtype)
        for t in range(self.order, ids.shape[1]):
            out[:, t] = self.table[tuple(ids[:, t - self.order + i] for i in range(self.order + 1))].log()
        return out

    def stationary(self) -> Tensor:
        """The long-run probability of each context of k symbols, shape [V]·k; 1 for k = 0."""
        n, k = self.n_symbols, self.order
        if k == 0:
            return torch.ones((), dtype=self.table.dtype)
        weights = torch.full([n] * k, n**-k, dtype=self.table.dtype)
        for _ in range(10_000):
            new = (weights.unsqueeze(-1) * self.table).sum(0)
            if float((new - weights).abs().max()) < 1e-15:
                break
            weights = new
        return weights

    def entropy_rate(self) -> float:
        """H(x_t | context) in the long run, in nats a symbol: what no model can beat."""
        surprise = -(self.table * self.table.clamp_min(1e-300).log()).sum(-1)
        return float((self.stationary() * surprise).sum())
