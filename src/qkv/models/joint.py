"""A reader whose slots may be told what the whole text wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from qkv.nn import Tokens

from .config import EncoderOnlyConfig
from .reader import Reader
from .stack import Memory


class ConditionedReader(Reader):
    """`Reader` in which one output sees the decision of another: the probabilities that `giver` gives its labels are
    mapped to a vector and added to every state that `taker` reads (in the manner of Goo et al. 2018; Qin et al. 2019).

    The gradient of the taker's loss flows into the giver, too."""

    def __init__(
        self,
        config: EncoderOnlyConfig,
        outputs: Mapping[str, Any],
        counts: Mapping[str, Sequence[int]],
        giver: str,
        taker: str,
    ):
        super().__init__(config, outputs, counts)
        self.giver, self.taker = giver, taker
        self.condition = nn.Linear(len(counts[giver]), config.stack.d_model, bias=False)

    def forward(self, ids: Tensor, tokens: Tokens) -> dict[str, Tensor]:
        """ids [B,T] -> the scores of every output."""
        memory = self.encode(ids, tokens)
        told = self.outputs[self.giver](memory)
        state = memory.x + self.condition(told.softmax(-1)).unsqueeze(1)
        seen = {self.taker: Memory(state, tokens)}
        others = {n: output(seen.get(n, memory)) for n, output in self.outputs.items() if n != self.giver}
        return {self.giver: told, **others}
