"""How the next token is chosen: the table of choosers.

A chooser maps log-probabilities [B,W,V] and the search's state to (tokens [B,W], parents [B,W] or None, logp [B,W]):
the token that each column gets, the column whose hypothesis it continues, and the new log-probability. `rank` turns a
log-probability and a length into the score that hypotheses are compared by.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .largest import largest
from .state import DEAD, State

Choice = tuple[Tensor, Tensor | None, Tensor]


@dataclass(frozen=True)
class Greedy:
    """The most probable token at each step."""

    width = 1
    live = 1
    n_best = 1

    def __call__(self, scores: Tensor, state: State) -> Choice:
        best, tokens = largest(scores, 1)
        return tokens.squeeze(2), None, state.logp + best.squeeze(2)

    def rank(self, logp: float, length: int) -> float:
        """The log-probability itself."""
        return logp

    def enough(self, state: State, row: int, best: float) -> bool:
        """Whether the row's search may stop although hypotheses still run; `best` is the largest of their logps."""
        return False


_MASK64 = (1 << 64) - 1


def uniform(seed: int, row: int, sample: int, step: int) -> float:
    """A number in [0,1) that depends on these four alone (SplitMix64), so that a draw never depends on the batch."""
    x = seed & _MASK64
    for part in (row, sample, step):
        x = (x + 0x9E3779B97F4A7C15 * (part + 1)) & _MASK64
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK64
        x ^= x >> 31
    return (x >> 11) / (1 << 53)


@dataclass(frozen=True)
class Sample:
    """A random token, from softmax(logits / temperature) cut to the likelier part.

    n: samples per row. temperature: below 1 sharpens. top_k: keep the k likeliest (0: all). top_p: keep the smallest
    set whose mass reaches p (Holtzman et al. 2020). min_p: keep tokens at least min_p times as likely as the likeliest
    (Nguyen et al. 2024). seed: draws depend on (seed, row, sample, step) only.
    """

    n: int = 1
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n < 1 or self.top_k < 0:
            raise ValueError("sampling needs n >= 1 and top_k >= 0")
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}, but must be above 0 (use greedy for 0)")
        if not 0 < self.top_p <= 1 or not 0 <= self.min_p <= 1:
            raise ValueError("top_p must lie in (0, 1] and min_p in [0, 1]")

    @property
    def width(self) -> int:
        return self.n

    @property
    def live(self) -> int:
        return self.n

    @property
    def n_best(self) -> int:
        return self.n

    def __call__(self, scores: Tensor, state: State) -> Choice:
        mass = self.truncated(scores / self.temperature).cumsum(-1)
        draws = [[uniform(self.seed, row, sample, state.step) for sample in range(self.n)] for row in state.rows]
        target = torch.tensor(draws, dtype=mass.dtype, device=mass.device).unsqueeze(2) * mass[..., -1:]
        tokens = torch.searchsorted(mass, target, right=True).clamp_max(scores.shape[-1] - 1)
        return tokens.squeeze(2), None, state.logp + scores.gather(2, tokens).squeeze(2)

    def truncated(self, scores: Tensor) -> Tensor:
        """Probabilities [...,V], float64, zero where cut (temperature first, then top-k, top-p and min-p in turn)."""
        probs = scores.double().softmax(-1)
        if 0 < self.top_k < probs.shape[-1]:
            kth = probs.topk(self.top_k, dim=-1).values[..., -1:]
            probs = probs.where(probs >= kth, 0.0)
        if self.top_p < 1.0:
            ordered, index = probs.sort(dim=-1, descending=True, stable=True)
            ordered = ordered / ordered.sum(-1, keepdim=True)
            before = ordered.cumsum(-1) - ordered
            probs = torch.zeros_like(probs).scatter(-1, index, ordered.where(before < self.top_p, 0.0))
        if self.min_p > 0.0:
            probs = probs.where(probs >= self.min_p * probs.amax(-1, keepdim=True), 0.0)
        return probs

    def rank(self, logp: float, length: int) -> float:
        """The log-probability itself."""
        return logp

    def enough(self, state: State, row: int, best: float) -> bool:
        """Every sample runs to its own end."""
        return False


@dataclass(frozen=True)
class Beam:
    """The best of W hypotheses kept side by side, ranked by logp / length^length_penalty.

    width: W. length_penalty: 0 compares log-probabilities, 1 their mean per token. n_best: how many are returned.
    exact: search on until no running hypothesis could still win; otherwise stop when none would win at its present
    length, which is far sooner and almost always the same.
    """

    width: int = 5
    length_penalty: float = 1.0
    n_best: int = 1
    exact: bool = False

    live = 1

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"a beam is at least 1 wide, not {self.width}")
        if not 1 <= self.n_best <= self.width:
            raise ValueError(f"n_best is {self.n_best}, but a beam of width {self.width} holds 1 to {self.width}")
        if self.length_penalty < 0:
            raise ValueError(f"length_penalty is {self.length_penalty}, but must not be negative")

    def __call__(self, scores: Tensor, state: State) -> Choice:
        # Of 2W candidates at most W end here (one for each parent), so at least W go on.
        each, words = largest(scores, 2 * self.width)
        total = (state.logp.unsqueeze(2) + each).flatten(1)
        best, index = total.topk(min(2 * self.width, total.shape[1]), dim=1)
        parents, tokens = index // each.shape[2], words.flatten(1).gather(1, index)
        ended = (tokens == state.eos) & (best > DEAD)
        if bool(ended.any()):
            self._collect(state, best, parents, ended)
            order = ended.long().argsort(dim=1, stable=True)
            best = best.masked_fill(ended, DEAD)
            best, parents, tokens = (t.gather(1, order) for t in (best, parents, tokens))
        return tuple(self._fill(t) for t in (tokens, parents, best))  # type: ignore[return-value]

    def _fill(self, t: Tensor) -> Tensor:
        """[B,W]: the first W candidates (a vocabulary smaller than the beam offers fewer; the rest are dead)."""
        missing = self.width - t.shape[1]
        if missing <= 0:
            return t[:, : self.width]
        return torch.nn.functional.pad(t, (0, missing), value=DEAD if t.is_floating_point() else 0)

    def _collect(self, state: State, best: Tensor, parents: Tensor, ended: Tensor) -> None:
        """Move hypotheses that chose the end token, and rank among the first W, to the pool; keep its best W."""
        for row, place in ended[:, : self.width].nonzero().tolist():
            logp = float(best[row, place])
            state.end(row, state.ids[row, parents[row, place]], self.rank(logp, state.step + 1), logp, True)
            state.pool[row].sort(key=lambda h: -h.score)
            del state.pool[row][self.width :]

    def rank(self, logp: float, length: int) -> float:
        """logp / length^length_penalty, the end token counted."""
        return logp / length**self.length_penalty

    def enough(self, state: State, row: int, best: float) -> bool:
        """W have ended and no running one can beat the worst of them."""
        pool = state.pool[row]
        if len(pool) < self.width:
            return False
        # A log-probability only falls, and dividing by a greater length only raises it towards zero.
        length = int(state.limit[row]) if self.exact else state.step
        return pool[-1].score >= self.rank(best, length)


Chooser = Greedy | Sample | Beam
