"""A model in the middle of decoding: what it has read, and who descends from whom."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from qkv.models import Memory
from qkv.nn import Cache, Explicit, Mask, Tokens

REVIEW = 64  # keys a row, before which none is looked at


class Decodes(Protocol):
    """What `generate` asks of a model."""

    @property
    def head(self) -> torch.nn.Module:
        """Hidden states [...,E] -> logits [...,V]."""
        ...

    @property
    def max_length(self) -> int | None:
        """The longest sequence that its positions allow, or None."""
        ...

    def decode(
        self, ids: Tensor, tokens: Tokens, memory: Memory | None, cache: Cache | None, mask: Mask | None
    ) -> Tensor:
        """ids [B,T] -> hidden states [B,T,E]."""
        ...


class Session:
    """A model in the middle of decoding: its cache, the positions to come, and who descends from whom.

    All W hypotheses of a row are W queries of that row. Their keys lie side by side in the cache; `ancestors`
    [B,W,S] says which of them belong to each hypothesis. Choosing parents permutes this table; no key moves. Now and
    then keys that nobody descends from are dropped.
    """

    def __init__(self, model: Decodes, ids: Tensor, tokens: Tokens, memory: Memory | None, width: int, longest: int):
        self.model, self.memory, self.width = model, memory, width
        self.ids, self.tokens = ids, tokens
        self.cache = Cache(min(tokens.shape[1] + width * longest, 4096))
        self.next = tokens.pos.amax(1, keepdim=True) + 1
        self.last = tokens.pos.argmax(1, keepdim=True)
        self.doc = tokens.fields["doc"].gather(1, self.last) if "doc" in tokens.fields else None
        self.ancestors = ids.new_ones(len(ids), width, ids.shape[1], dtype=torch.bool) if width > 1 else None
        self.review = max(REVIEW, 2 * ids.shape[1])

    def prompt(self) -> Tensor:
        """Read the prompt; log-probabilities [B,W,V] of the first new token."""
        hidden = self.model.decode(self.ids, self.tokens, self.memory, self.cache, None)
        hidden = hidden.take_along_dim(self.last.unsqueeze(2), dim=1)
        return self._scores(hidden).expand(-1, self.width, -1)

    def step(self, tokens: Tensor, parents: Tensor | None) -> Tensor:
        """Read one token a hypothesis, [B,W]; log-probabilities [B,W,V] of the next."""
        fields = {} if self.doc is None else {"doc": self.doc.expand_as(tokens)}
        new = Tokens(self.next.expand_as(tokens), fields).know(padded=False)
        mask = None
        if self.ancestors is not None:
            if parents is not None:
                self.ancestors = self.ancestors.gather(1, parents[:, :, None].expand_as(self.ancestors))
                if self.ancestors.shape[2] >= self.review:
                    self.ancestors = self._without_dead(self.ancestors)
            own = torch.eye(self.width, dtype=torch.bool, device=tokens.device).expand(len(tokens), -1, -1)
            self.ancestors = torch.cat((self.ancestors, own), dim=2)
            mask = Explicit(self.ancestors.unsqueeze(1))
        self.next = self.next + 1
        return self._scores(self.model.decode(tokens, new, self.memory, self.cache, mask))

    def _without_dead(self, ancestors: Tensor) -> Tensor:
        """The table [B,W,S'] when only keys that some hypothesis descends from are kept, of as many as the fullest row
        has. Beams soon agree on their past, so most keys of a long search are dead. The next review comes when the rest
        has doubled, so that a key is copied about once."""
        live = ancestors.any(1)
        most = int(live.sum(1).max())
        self.review = max(REVIEW, 2 * most)
        if most == live.shape[1]:
            return ancestors
        columns = live.byte().argsort(dim=1, descending=True, stable=True)[:, :most]
        self.cache.keep(columns)
        return ancestors.gather(2, columns.unsqueeze(1).expand(-1, self.width, -1))

    def _scores(self, hidden: Tensor) -> Tensor:
        return self.model.head(hidden).float().log_softmax(-1)

    def select(self, rows: Tensor) -> None:
        """Drop all source rows but these."""
        self.cache.select(rows)
        self.next = self.next[rows]
        self.memory = None if self.memory is None else self.memory.select(rows)
        self.doc = None if self.doc is None else self.doc[rows]
        self.ancestors = None if self.ancestors is None else self.ancestors[rows]
