"""The one loop that decodes: prompt once, then a token a step for all hypotheses of all rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qkv.models import Memory
from qkv.nn import Tokens

from .choosers import Chooser, Greedy
from .constraints import Constraint, MinimumLength
from .session import Decodes, Session
from .state import DEAD, Hypothesis, State


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
        running = _finish(state, chooser)
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


def _finish(state: State, chooser: Chooser) -> Tensor:
    """Hypotheses that chose the end or reached their limit go to the pool; rows whose search is decided stop.

    Returns [B] bool: the rows that still have a running hypothesis."""
    alive = state.logp > DEAD
    ended = state.ids[:, :, -1] == state.eos
    over = alive & (ended | (state.step >= state.limit).unsqueeze(1))
    for row, column in over.nonzero().tolist():
        done = bool(ended[row, column])
        ids = state.ids[row, column, :-1] if done else state.ids[row, column]
        logp = float(state.logp[row, column])
        state.end(row, ids, chooser.rank(logp, state.step), logp, done)
    if not any(state.pool):
        return alive.any(1)
    state.logp = state.logp.masked_fill(over, DEAD)
    best = state.logp.amax(1).tolist()  # of all rows at once: a tensor is slow to ask row by row
    decided = [row for row, pool in enumerate(state.pool) if pool and chooser.enough(state, row, best[row])]
    if decided:
        state.logp[decided] = DEAD
    return (state.logp > DEAD).any(1)
