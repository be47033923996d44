"""A linear-chain conditional random field over the units of a sequence (Lafferty et al. 2001).

    score(y) = start[y_1] + Σ_t emission[t, y_t] + Σ_{t>1} transition[y_{t-1}, y_t] + end[y_n]
    log p(y) = score(y) − log Z,   Z = Σ_y exp score(y)

Units are the positions that carry a label. What lies between them (special tokens, the later pieces of a word, padding)
is a gap: `join` takes it out, and the chain goes from each unit to the next. A row without units has one labelling, the
empty one, of score 0. Letters: U units, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Chain:
    """The scores of labellings: start [C], transition [C,C] (from, to), end [C]. −inf forbids."""

    start: Tensor
    transition: Tensor
    end: Tensor

    def score(self, emissions: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """score(labels) of each row [B]. emissions [B,U,C]; labels [B,U], any number where not valid; valid [B,U], its
        True ones first."""
        if not valid.shape[1]:
            return emissions.sum((1, 2))
        labels = labels.where(valid, 0)
        own = emissions.gather(2, labels.unsqueeze(2)).squeeze(2)
        steps = self.transition[labels[:, :-1], labels[:, 1:]]
        last = labels.gather(1, (valid.sum(1, keepdim=True) - 1).clamp_min(0)).squeeze(1)
        ends = (self.start[labels[:, 0]] + self.end[last]).where(valid[:, 0], 0.0)
        return ends + own.where(valid, 0.0).sum(1) + steps.where(valid[:, 1:], 0.0).sum(1)

    def log_partition(self, emissions: Tensor, valid: Tensor) -> Tensor:
        """log Z of each row [B], by the forward algorithm."""
        if not valid.shape[1]:
            return emissions.sum((1, 2))
        alpha = self.forward(emissions, valid)[-1]
        return (alpha + self.end).logsumexp(1).where(valid[:, 0], 0.0)

    def forward(self, emissions: Tensor, valid: Tensor) -> list[Tensor]:
        """log α_t [B,C] for each unit t: the log of the sum over all beginnings of a labelling that end in a label
        there. Past a row's end the last one is repeated."""
        step = _LogProduct(self.transition)
        alphas = [self.start + emissions[:, 0]]
        for t in range(1, valid.shape[1]):
            alphas.append((step(alphas[-1]) + emissions[:, t]).where(valid[:, t : t + 1], alphas[-1]))
        return alphas

    def marginals(self, emissions: Tensor, valid: Tensor) -> Tensor:
        """p(y_t = c) of every unit, [B,U,C]; zeros where not valid. By the forward and the backward algorithm."""
        if not valid.shape[1]:
            return emissions
        alphas = self.forward(emissions, valid)
        step = _LogProduct(self.transition.T)
        betas = [self.end.expand_as(alphas[0])]
        for t in range(valid.shape[1] - 1, 0, -1):
            betas.append(step(emissions[:, t] + betas[-1]).where(valid[:, t : t + 1], self.end))
        joint = torch.stack(alphas, 1) + torch.stack(betas[::-1], 1)
        return joint.softmax(2).where(valid.unsqueeze(2), 0.0)

    def best(self, emissions: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """The labelling of the highest score (Viterbi 1967) [B,U], 0 where not valid, and that score [B]."""
        if not valid.shape[1]:
            return valid.long(), emissions.sum((1, 2))
        delta, before = self.start + emissions[:, 0], []
        stay = torch.arange(emissions.shape[2], device=emissions.device).expand_as(delta)
        for t in range(1, valid.shape[1]):
            value, origin = (delta.unsqueeze(2) + self.transition).max(1)
            alive = valid[:, t : t + 1]
            delta = (value + emissions[:, t]).where(alive, delta)
            before.append(origin.where(alive, stay))
        score, label = (delta + self.end).max(1)
        path = [label]
        for origin in reversed(before):
            label = origin.gather(1, label.unsqueeze(1)).squeeze(1)
            path.append(label)
        return torch.stack(path[::-1], 1).where(valid, 0), score.where(valid[:, 0], 0.0)


class _LogProduct:
    """x [B,C] -> log Σ_i exp(x_i + T_ij) [B,C], as a product of matrices:

        m + τ_j + log Σ_i exp(x_i − m)·exp(T_ij − τ_j),   m = max_i x_i,  τ_j = max_i T_ij

    exact as long as no T_ij lies more than 80 below the best of its column, unless it is forbidden."""

    def __init__(self, transition: Tensor):
        self.top = _finite(transition.amax(0))
        self.table = (transition - self.top).exp()

    def __call__(self, x: Tensor) -> Tensor:
        top = _finite(x.amax(1, keepdim=True))
        return ((x - top).exp() @ self.table).log() + top + self.top


def _finite(x: Tensor) -> Tensor:
    """A shift of exponents: no gradient, and 0 where everything is forbidden."""
    return x.where(x.isfinite(), 0.0).detach()


def join(scores: Tensor, units: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """Take the gaps out: scores [B,T,...] and whatever else is [B,T,...] at the positions where `units` [B,T] is True,
    moved to the left in their order; the last result says which places [B,U] are filled."""
    count = int(units.sum(1).max()) if units.numel() else 0
    order = (~units).long().argsort(dim=1, stable=True)[:, :count]
    valid = units.gather(1, order)
    rows = torch.arange(len(units), device=units.device).unsqueeze(1)
    return *(each[rows, order] for each in (scores, *others)), valid


class LinearChain(nn.Module):
    """The learned part of a chain over C labels. The weights start at zero, where the model is a softmax a unit."""

    def __init__(self, n_labels: int):
        super().__init__()
        self.start = nn.Parameter(torch.zeros(n_labels))
        self.transition = nn.Parameter(torch.zeros(n_labels, n_labels))
        self.end = nn.Parameter(torch.zeros(n_labels))

    def chain(self, legal: Legal | None = None) -> Chain:
        """Its scores, with what is not `legal` forbidden."""
        own = Chain(self.start, self.transition, self.end)
        return own if legal is None else legal.forbid(own)


@dataclass(frozen=True)
class Legal:
    """Which labels may begin a sequence [C], follow another [C,C] (from, to), and end it [C]."""

    start: Tensor
    follow: Tensor
    end: Tensor

    def forbid(self, chain: Chain) -> Chain:
        """The chain with −inf for what is not allowed."""
        device = chain.start.device
        start, follow, end = (each.to(device) for each in (self.start, self.follow, self.end))
        no = float("-inf")
        return Chain(
            chain.start.masked_fill(~start, no),
            chain.transition.masked_fill(~follow, no),
            chain.end.masked_fill(~end, no),
        )


def legal(names: Sequence[str]) -> Legal:
    """What the names of labels allow, in BIO, BIOES and BMES alike.

    `B-x` begins an entity of type x, `I-x` or `M-x` goes on, `E-x` ends it, `S-x` is a whole one; any other name, `O`
    first of all, lies outside. Where no name has E or S (BIO), an entity ends wherever it is not gone on with.

    >>> legal(["B-x", "I-x", "O"]).follow.int().tolist()
    [[1, 1, 1], [1, 1, 1], [1, 0, 1]]
    """
    parts = [part(name) for name in names]
    explicit = any(place in "ES" for place, _ in parts)

    def inside(i: int) -> bool:
        """Whether an entity is open after label i and has to go on."""
        return explicit and parts[i][0] in "BI"

    def goes_on(i: int, j: int) -> bool:
        return parts[i][0] in "BI" and parts[i][1] == parts[j][1]

    n = len(parts)
    follow = [[goes_on(i, j) if parts[j][0] in "IE" else not inside(i) for j in range(n)] for i in range(n)]
    start = [place not in "IE" for place, _ in parts]
    end = [not inside(i) for i in range(n)]
    return Legal(*(torch.tensor(each, dtype=torch.bool) for each in (start, follow, end)))


def part(name: str) -> tuple[str, str]:
    """A label's place in an entity (B, I, E, S, or O for none) and the entity's type; M reads as I.

    >>> part("M-ORG"), part("B-city.name"), part("O"), part("NOUN")
    (('I', 'ORG'), ('B', 'city.name'), ('O', ''), ('O', ''))
    """
    place, dash, kind = name.partition("-")
    if not dash or place not in ("B", "I", "M", "E", "S"):
        return "O", ""
    return "I" if place == "M" else place, kind
