"""An encoder with outputs: what understanding tasks train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from qkv.nn import Tokens

from .outputs import Decision
from .stack import Memory


class Encoding(Protocol):
    """What a `Reader` is made from: an EncoderOnlyConfig, or another whose `stack` has a `d_model` and whose
    `stack.build()` makes a module (ids [B,T], tokens) -> [B,T,E] with a `max_length`."""

    @property
    def stack(self) -> Any: ...


class Reader(nn.Module):
    """One encoder, read by one or more outputs by name.

    The encoder's weights have the names that they have in `EncoderOnly`, so a pretrained one is taken over as it is.
    outputs: entries of the table in `outputs.py`. counts: how often each label of each output was seen.
    """

    def __init__(self, config: Encoding, outputs: Mapping[str, Any], counts: Mapping[str, Sequence[int]]):
        super().__init__()
        self.config: Any = config
        self.encoder = config.stack.build()
        width = config.stack.d_model
        self.outputs = nn.ModuleDict({name: out.build(name, width, counts[name]) for name, out in outputs.items()})

    @property
    def max_length(self) -> int | None:
        return self.encoder.max_length

    def encode(self, ids: Tensor, tokens: Tokens) -> Memory:
        """ids [B,T] -> hidden states [B,T,E] with their tokens."""
        return Memory(self.encoder(ids, tokens), tokens)

    def forward(self, ids: Tensor, tokens: Tokens) -> dict[str, Tensor]:
        """ids [B,T] -> the scores of every output."""
        memory = self.encode(ids, tokens)
        return {name: output(memory) for name, output in self.outputs.items()}

    def decide(self, batch: Any) -> dict[str, list[Decision]]:
        """What every output decides on each row of a batch."""
        outputs: Any = self.outputs
        scores = self(batch.ids, batch.tokens)
        return {name: outputs[name].decide(scores[name], batch) for name in scores}
