"""What a search knows at each step, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

DEAD = float("-inf")


@dataclass(frozen=True)
class Hypothesis:
    """One output: token ids without begin and end, the score it was ranked by, its log-probability in nats (the end
    token's included), and whether it ended by itself rather than by the length limit."""

    ids: list[int]
    score: float
    logp: float
    finished: bool


@dataclass
class State:
    """The running hypotheses of B source rows, W of each.

    rows: the callers' numbers of the rows. limit [B]: most new tokens. ids [B,W,n]: tokens so far. logp [B,W]: their
    log-probability; minus infinity marks a column that holds no running hypothesis. pool: what has ended, per row.
    """

    rows: list[int]
    limit: Tensor
    eos: int
    ids: Tensor
    logp: Tensor
    pool: list[list[Hypothesis]] = field(default_factory=list)

    @classmethod
    def start(cls, rows: list[int], limit: Tensor, width: int, live: int, eos: int) -> State:
        """`live` of the `width` columns hold the empty hypothesis, the others nothing yet."""
        logp = torch.full((len(rows), width), DEAD, device=limit.device)
        logp[:, :live] = 0.0
        ids = torch.empty(len(rows), width, 0, dtype=torch.long, device=limit.device)
        return cls(rows, limit, eos, ids, logp, [[] for _ in rows])

    @property
    def step(self) -> int:
        """How many tokens the running hypotheses have."""
        return self.ids.shape[2]

    def end(self, row: int, ids: Tensor, score: float, logp: float, finished: bool) -> None:
        """Put a hypothesis into its row's pool."""
        self.pool[row].append(Hypothesis(ids.tolist(), score, logp, finished))

    def advance(self, tokens: Tensor, parents: Tensor | None, logp: Tensor) -> None:
        """Each column becomes its parent's hypothesis (None: its own) with one more token."""
        history = self.ids if parents is None else self.ids.gather(1, parents[:, :, None].expand_as(self.ids))
        self.ids = torch.cat((history, tokens.unsqueeze(2)), dim=2)
        self.logp = logp

    def select(self, keep: Tensor) -> None:
        """Drop all rows but these."""
        self.limit, self.ids, self.logp = self.limit[keep], self.ids[keep], self.logp[keep]
        chosen = keep.tolist()
        self.rows = [self.rows[i] for i in chosen]
        self.pool = [self.pool[i] for i in chosen]
