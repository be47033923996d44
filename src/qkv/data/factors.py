"""Words that are bundles of features, and texts about them, whose true vectors are known: a yardstick for analogies.

Every word has one value of each of K features (gender, role, number, ...). What stands around a word says something of
one feature at a time: p(context | word) = 1/K · p_k(context | value_k), every feature k with contexts of its own. With
all words equally frequent, PMI(word, context) depends on the word through one feature only, so a word's row of the PMI
table is a sum of one vector a feature, and b − a + c = d exactly for every analogy that swaps one value.

With `interaction`, the contexts of the first feature look at the values of the first two together, as if a word for a
female king had nothing to do with either: then the offsets of the first feature are no longer parallel.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FactoredWords:
    """values [V,K]: each word's value of each feature. table [V,C]: p(context | word). spans: which contexts belong to
    each feature, as (start, end)."""

    values: Tensor
    table: Tensor
    spans: tuple[tuple[int, int], ...]

    @classmethod
    def draw(
        cls,
        sizes: tuple[int, ...],
        contexts: int,
        generator: torch.Generator,
        sharpness: float | tuple[float, ...] = 1.5,
        interaction: bool = False,
    ) -> FactoredWords:
        """Words with all combinations of features of the given sizes, and so many contexts a feature, whose
        log-probabilities are normal with standard deviation `sharpness` (one for all features, or one each)."""
        widths = sharpness if isinstance(sharpness, tuple) else (sharpness,) * len(sizes)
        values = torch.tensor(list(itertools.product(*map(range, sizes))))
        parts = []
        for k, size in enumerate(sizes):
            kinds = values[:, k]
            if interaction and k == 0:
                kinds, size = values[:, 0] * sizes[1] + values[:, 1], sizes[0] * sizes[1]
            scores = widths[k] * torch.randn(size, contexts, generator=generator, dtype=torch.float64)
            parts.append(scores.softmax(-1)[kinds] / len(sizes))
        spans = tuple((k * contexts, (k + 1) * contexts) for k in range(len(sizes)))
        return cls(values, torch.cat(parts, 1), spans)

    def __len__(self) -> int:
        return len(self.values)

    def joint(self) -> Tensor:
        """p(word, context) with all words alike, [V,C]."""
        return self.table / len(self)

    def sample(self, rows: int, generator: torch.Generator, contexts: int = 1) -> tuple[Tensor, Tensor]:
        """Words [B] and what was seen around each, [B,contexts]."""
        words = torch.randint(len(self), (rows,), generator=generator)
        return words, torch.multinomial(self.table[words], contexts, replacement=True, generator=generator)

    def counts(self, draws: int, generator: torch.Generator) -> Tensor:
        """How often each context was seen around each word, [V,C], in so many draws, as many of every word."""
        seen = torch.multinomial(self.table, max(1, draws // len(self)), replacement=True, generator=generator)
        return torch.zeros_like(self.table).scatter_add_(1, seen, torch.ones_like(seen, dtype=self.table.dtype))

    def analogies(self, feature: int = 0) -> Tensor:
        """All questions (a, b, c, d) that change one feature's value alike in two different words, [Q,4]."""
        numbers = {tuple(row): i for i, row in enumerate(self.values.tolist())}
        found = []
        for a, c in itertools.permutations(range(len(self)), 2):
            one, other = self.values[a].tolist(), self.values[c].tolist()
            if one[feature] != other[feature]:
                continue
            for value in range(int(self.values[:, feature].max()) + 1):
                if value != one[feature]:
                    b, d = list(one), list(other)
                    b[feature] = d[feature] = value
                    found.append([a, numbers[tuple(b)], c, numbers[tuple(d)]])
        return torch.tensor(found)
