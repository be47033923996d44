"""What is known of a text as a whole beside what an encoder read of it: the ways to join the two.

    entry      output(choice, n) -> an entry of the outputs · stem(reader, n): changes to what the encoder begins with

The vector stands in the field `name` of every token, [B,T,K] (see `Reading.given`), so models, losses and decisions
need no further argument. Of topics it is u, the roots of their proportions, standardised (`Topics.vectors`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qkv.nn import Tokens
from qkv.nn.positions import Position

from .config import EmbeddingConfig
from .outputs import Choice, ChoiceOutput, pooled
from .reader import Reader
from .stack import Embedding, Memory

TOPICS = "topics"


def known(tokens: Tokens, name: str = TOPICS) -> Tensor:
    """What is known of each text, u [B,K]. Raises ValueError where the batch does not say it."""
    if name not in tokens.fields:
        raise ValueError(f"this model needs the {name} of a text, and the batch has none; ask through its task")
    return tokens.fields[name][:, 0]


@dataclass(frozen=True)
class Concatenation:
    """[h ; u]: the classifier's linear map sees both side by side."""

    def output(self, choice: Choice, n: int) -> Joined:
        """The output that joins."""
        return Joined(choice, n)

    def stem(self, reader: Reader, n: int) -> None:
        """The encoder reads the text alone."""


@dataclass(frozen=True)
class Gate:
    """g⊙h + (1−g)⊙m with m = W u + c and g = σ(A [h ; m] + b): for each text and each dimension as much of one as
    is lacking of the other. bias: b at first; 1 begins near what the encoder read."""

    bias: float = 1.0

    def output(self, choice: Choice, n: int) -> Gated:
        """The output that joins."""
        return Gated(choice, n, self.bias)

    def stem(self, reader: Reader, n: int) -> None:
        """The encoder reads the text alone."""


@dataclass(frozen=True)
class TopicToken:
    """W u is added to the first token's embedding: every token can attend to the topics, in every layer."""

    def output(self, choice: Choice, n: int) -> Choice:
        """The output is the plain one."""
        return choice

    def stem(self, reader: Reader, n: int) -> None:
        """Put an embedding that adds the vector in the place of the encoder's."""
        stack: Any = reader.encoder
        old: Any = stack.embedding
        new = TellingEmbedding(old.config, reader.config.stack.d_model, old.position[0], n)
        stack.embedding = new


Fusion = Concatenation | Gate | TopicToken


class TellingEmbedding(Embedding):
    """The embedding, with a map of the topics added at position 0. Its other weights have the names that they had."""

    def __init__(self, config: EmbeddingConfig, d_model: int, position: Position, n: int):
        super().__init__(config, d_model, position)
        self.topics = nn.Linear(n, d_model)
        self.reset_parameters()
        nn.init.normal_(self.topics.weight, std=(d_model * n) ** -0.5)  # as large as a word's embedding
        nn.init.zeros_(self.topics.bias)

    def forward(self, ids: Tensor, tokens: Tokens) -> Tensor:
        """ids [B,T] -> [B,T,E]."""
        first = (tokens.pos == 0).unsqueeze(-1)
        return super().forward(ids, tokens) + first * self.topics(known(tokens).to(self.topics.weight.dtype)).unsqueeze(
            1
        )


@dataclass(frozen=True)
class Joined:
    """`Concatenation` as an entry of the outputs. choice: the classifier. n: width of the vector."""

    choice: Choice
    n: int

    def count(self, batch: Any) -> float:
        """Rows of the batch."""
        return self.choice.count(batch)

    def build(self, name: str, d_model: int, counts: Sequence[int]) -> ChoiceOutput:
        """The module."""
        return JoinedOutput(self.choice, name, d_model + self.n, counts)


class JoinedOutput(ChoiceOutput):
    """Softmax of a linear map of [h ; u]."""

    def embed(self, memory: Memory) -> Tensor:
        """[B,E+K]."""
        read = pooled(memory.x, memory.tokens, self.pooling)
        return self.hidden(torch.cat([read, known(memory.tokens).to(read.dtype)], -1))


@dataclass(frozen=True)
class Gated:
    """`Gate` as an entry of the outputs. choice: the classifier. n: width of the vector. bias: of the gate at first."""

    choice: Choice
    n: int
    bias: float

    def count(self, batch: Any) -> float:
        """Rows of the batch."""
        return self.choice.count(batch)

    def build(self, name: str, d_model: int, counts: Sequence[int]) -> ChoiceOutput:
        """The module."""
        return GatedOutput(self, name, d_model, counts)


class GatedOutput(ChoiceOutput):
    """Softmax of a linear map of g⊙h + (1−g)⊙m; see `Gate`."""

    def __init__(self, config: Gated, name: str, d_model: int, counts: Sequence[int]):
        super().__init__(config.choice, name, d_model, counts)
        self.widen = nn.Linear(config.n, d_model)
        self.gate = nn.Linear(2 * d_model, d_model)
        nn.init.constant_(self.gate.bias, config.bias)

    def embed(self, memory: Memory) -> Tensor:
        """[B,E]."""
        read = pooled(memory.x, memory.tokens, self.pooling)
        told = self.widen(known(memory.tokens).to(read.dtype))
        gate = self.gate(torch.cat([read, told], -1)).sigmoid()
        return self.hidden(gate * read + (1 - gate) * told)
