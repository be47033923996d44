"""Texts that an encoder reads, with what is to be said about them, as batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from qkv.data.batch import IGNORE, Batch, pad
from qkv.data.buckets import BucketConfig, TokenBuckets
from qkv.nn.tokens import Tokens


@dataclass(frozen=True)
class Reading:
    """ids: the tokens as the encoder reads them, specials included. second: where a second text begins (None: there is
    one text). targets: what is asked of each token, IGNORE of none. extra: what is asked of the text, by output."""

    ids: Sequence[int]
    second: int | None = None
    targets: Sequence[int] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


class Readings:
    """Readings as a BatchSource: batches of like length; `batch.extra` holds each output's answers as a tensor [B,...].

    seed: of the order; None: longest first, every epoch the same. padding: the tokenizer's id of padding.
    Raises UserError (see TokenBuckets) for a text that is too long; truncation is the task's, which knows the specials.
    """

    def __init__(self, readings: Sequence[Reading], config: BucketConfig, seed: int | None = 0, padding: int = 0):
        self.readings, self.padding = readings, padding
        self.buckets = TokenBuckets([len(r.ids) for r in readings], config, seed)

    def __len__(self) -> int:
        return len(self.readings)

    def plan(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch; a function of (seed, epoch)."""
        return self.buckets.plan(epoch)

    def load(self, indices: list[int]) -> Batch:
        """The batch of the given readings; the field `segment` says which text a token is of."""
        chosen = [self.readings[i] for i in indices]
        ids = pad([r.ids for r in chosen], self.padding)
        tokens = Tokens.from_lengths([len(r.ids) for r in chosen])
        if any(r.second is not None for r in chosen):
            start = torch.tensor([len(r.ids) if r.second is None else r.second for r in chosen]).unsqueeze(1)
            tokens = Tokens(tokens.pos, {"segment": (torch.arange(ids.shape[1]) >= start).long()})
        empty = [[IGNORE] * len(r.ids) if r.targets is None else r.targets for r in chosen]
        extra = {name: torch.tensor([r.extra[name] for r in chosen]) for name in chosen[0].extra}
        return Batch(ids, tokens, pad(empty, IGNORE), rows=list(indices), extra=extra)
