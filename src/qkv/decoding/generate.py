"""The one loop that decodes: prompt once, then a token a step for all hypotheses of all rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from qkv.models import Memory
from qkv.nn import Cache, Explicit, Mask, Tokens

from .choosers import Chooser, Greedy
from .constraints import Constraint, MinimumLength
from .state import DEAD, Hypothesis, State


class Decodes(Protocol):
    """What `generate` asks of a model."""

    head: torch.nn.Module
    max_length: int | None

    def decode(
        self, ids: Tensor, tokens: Tokens, memory: Memory | None, cache: Cache | None, mask: Mask | None
    ) -> Tensor:
        """ids [B,T] -> hidden states [B,T,E]."""
        ...


@torch.inference_mode()
def generate(
    model: Decodes,
    prompt_ids: Tensor,
    prompt_tokens: Tokens,
    *,
    memory: Memory | None = None,
    chooser: Chooser | None = None,
    max_new: int | Tensor = 256,
    min_new: int = 0,
    eos: int = 2,
    constraints: Sequence[Constraint] = (),
    rows: Sequence[int] | None = None,
) -> list[list[Hypothesis]]:
    """Continue each prompt [B,T] (left- or right-padded); per row the n best hypotheses, best first.

    memory: an encoder's output for the same B rows. max_new: the most new tokens, one number or one a row [B].
    min_new: no end before it. rows: the rows' own numbers, which sampling draws from. Raises ValueError for an empty
    prompt and for one that leaves the model's positions no room. The output does not depend on the batch: logits agree
    to about 1e-5, so tokens are equal wherever the two best differ by more.
    """
    chooser = chooser or Greedy()
    lengths = prompt_tokens.valid.sum(1)
    if prompt_ids.shape[0] == 0:
        return []
    limit = _limits(model.max_length, lengths, max_new)
    checks = (*constraints, MinimumLength(min_new)) if min_new else tuple(constraints)
    state = State.start(list(rows or range(len(lengths))), limit, chooser.width, chooser.live, eos)
    session = Session(model, prompt_ids, prompt_tokens, memory, chooser.width, int(limit.max()))
    results: dict[int, list[Hypothesis]] = {}
    places = list(range(len(lengths)))
    scores = session.prompt()
    while True:
        for check in checks:
            scores = check(scores, state)
        tokens, parents, logp = chooser(scores, state)
        state.advance(tokens, parents, logp)
        _finish(state, chooser)
        running = state.running()
        if not bool(running.all()):
            alive = int(running.sum())
            # Finished rows leave once they are an eighth of the batch: each leave-taking copies the cache once.
            if alive == 0 or 8 * (len(places) - alive) >= len(places):
                keep = running.nonzero().flatten()
                for i in (~running).nonzero().flatten().tolist():
                    results[places[i]] = sorted(state.pool[i], key=lambda h: -h.score)[: chooser.n_best]
                if alive == 0:
                    return [results[i] for i in range(len(results))]
                places = [places[i] for i in keep.tolist()]
                state.select(keep)
                tokens, parents = tokens[keep], None if parents is None else parents[keep]
                session.select(keep)
        scores = session.step(tokens, parents)


def _limits(longest: int | None, lengths: Tensor, max_new: int | Tensor) -> Tensor:
    """[B]: the most new tokens of each row."""
    if bool((lengths == 0).any()):
        raise ValueError(f"prompt {int((lengths == 0).nonzero()[0])} is empty: a search needs at least a begin token")
    limit = torch.as_tensor(max_new, device=lengths.device).expand(len(lengths)).clone()
    if bool((limit < 1).any()):
        raise ValueError(f"max_new is {int(limit.min())}, but at least one token must be asked for")
    if longest is not None:
        room = longest - lengths
        if bool((room < 1).any()):
            row = int((room < 1).nonzero()[0])
            raise ValueError(f"prompt {row} has {int(lengths[row])} tokens, and the model's positions end at {longest}")
        limit = torch.minimum(limit, room)
    return limit


def _finish(state: State, chooser: Chooser) -> None:
    """Hypotheses that chose the end or reached their limit go to the pool; rows whose search is decided stop."""
    last = state.ids[:, :, -1]
    alive = state.logp > DEAD
    ended = alive & (last == state.eos)
    full = alive & ~ended & (state.step >= state.limit).unsqueeze(1)
    for row, column in (ended | full).nonzero().tolist():
        done = bool(ended[row, column])
        ids = state.ids[row, column, :-1] if done else state.ids[row, column]
        logp = float(state.logp[row, column])
        state.end(row, ids, chooser.rank(logp, state.step), logp, done)
    state.logp = state.logp.masked_fill(ended | full, DEAD)
    best = state.logp.amax(1).tolist()  # of all rows at once: a tensor is slow to ask row by row
    decided = [row for row, pool in enumerate(state.pool) if pool and chooser.enough(state, row, best[row])]
    if decided:
        state.logp[decided] = DEAD


class Session:
    """A model in the middle of decoding: its cache, the positions to come, and who descends from whom.

    All W hypotheses of a row are W queries of that row. Their keys lie side by side in the cache; `ancestors`
    [B,W,S] says which of them belong to each hypothesis. Choosing parents permutes this table; no key moves.
    """

    def __init__(self, model: Decodes, ids: Tensor, tokens: Tokens, memory: Memory | None, width: int, longest: int):
        self.model, self.memory, self.width = model, memory, width
        self.ids, self.tokens = ids, tokens
        self.cache = Cache(min(tokens.shape[1] + width * longest, 4096))
        self.next = tokens.pos.amax(1, keepdim=True) + 1
        last = tokens.pos.argmax(1, keepdim=True)
        self.last = last
        self.doc = tokens.fields["doc"].gather(1, last) if "doc" in tokens.fields else None
        self.ancestors = ids.new_ones(len(ids), width, ids.shape[1], dtype=torch.bool) if width > 1 else None

    def prompt(self) -> Tensor:
        """Read the prompt; log-probabilities [B,W,V] of the first new token."""
        hidden = self.model.decode(self.ids, self.tokens, self.memory, self.cache, None)
        hidden = hidden.take_along_dim(self.last.unsqueeze(2), dim=1)
        return self._scores(hidden).expand(-1, self.width, -1)

    def step(self, tokens: Tensor, parents: Tensor | None) -> Tensor:
        """Read one token a hypothesis, [B,W]; log-probabilities [B,W,V] of the next."""
        fields = {} if self.doc is None else {"doc": self.doc.expand_as(tokens)}
        new = Tokens(self.next.expand_as(tokens), fields)._know(padded=False)
        mask = None
        if self.ancestors is not None:
            if parents is not None:
                self.ancestors = self.ancestors.gather(1, parents[:, :, None].expand_as(self.ancestors))
            own = torch.eye(self.width, dtype=torch.bool, device=tokens.device).expand(len(tokens), -1, -1)
            self.ancestors = torch.cat((self.ancestors, own), dim=2)
            mask = Explicit(self.ancestors.unsqueeze(1))
        self.next = self.next + 1
        return self._scores(self.model.decode(tokens, new, self.memory, self.cache, mask))

    def _scores(self, hidden: Tensor) -> Tensor:
        return self.model.head(hidden).float().log_softmax(-1)

    def select(self, rows: Tensor) -> None:
        """Drop all source rows but these."""
        self.cache.select(rows)
        self.next = self.next[rows]
        self.memory = None if self.memory is None else self.memory.select(rows)
        self.doc = None if self.doc is None else self.doc[rows]
        self.ancestors = None if self.ancestors is None else self.ancestors[rows]
