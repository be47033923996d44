"""Classification by an encoder and by topics: what the text says in order, and what it is about as a whole.

The topics are those of latent Dirichlet allocation, learned from the training texts without their labels. A text's
proportions are inferred from all of its tokens, also from those after `longest`, which the encoder does not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import Tensor

from qkv.data.labelled import Labelled
from qkv.data.readings import Reading
from qkv.errors import UserError
from qkv.models import Choice, ModelConfig, Reader
from qkv.models.fusion import TOPICS, Concatenation, Fusion
from qkv.tasks.classify import LABEL, Classify
from qkv.tasks.tokenizers import Tokenizers, TokenizersConfig
from qkv.text import topics as lda
from qkv.text.topics import TopicsConfig
from qkv.training.objectives import OutputLosses


@dataclass(frozen=True)
class ClassifyTopics(Classify):
    """`Classify` whose classifier is also told the topics of the whole text."""

    topics: TopicsConfig = field(default_factory=TopicsConfig)
    """Which topics are learned."""
    fusion: Fusion = field(default_factory=Concatenation)
    """How they enter: concatenation, gate or topic_token."""
    shuffled: bool = False
    """The control, in which topics must not help: a text is told those of the text before it, the first the last's. It
    is one only where neighbours have nothing in common, so not on a file that is sorted by label."""

    shape: ClassVar[str] = "encoder_only"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.output, Choice):
            raise ValueError("topics are joined to one label a text; set output to choice")

    @property
    def entry(self) -> Choice:
        """The output: an entry that is built, counted and decided like a `Choice`."""
        assert isinstance(self.output, Choice)
        return self.fusion.output(self.output, self.topics.n)  # type: ignore[return-value]

    def learn(self, rows: Sequence[Labelled], config: TokenizersConfig) -> Tokenizers:
        """One tokenizer, and the topics of the texts as it cuts them."""
        learned = super().learn(rows, config)
        ids = self.whole(rows, learned)
        return replace(learned, topics=lda.learn(ids, self.topics, without=learned.unwritten))

    def whole(self, rows: Sequence[Labelled], tokenizers: Tokenizers) -> list[list[int]]:
        """All tokens of each row, of both texts of a pair."""
        texts = [row.text if row.second is None else f"{row.text} {row.second}" for row in rows]
        return [list(ids) for ids in tokenizers.target.encode_batch(texts)]

    def vectors(self, rows: Sequence[Labelled], tokenizers: Tokenizers) -> Tensor:
        """What is told of each row, [N,K]. Raises UserError for tokenizers of a run that learned no topics."""
        if tokenizers.topics is None or tokenizers.topics.n != self.topics.n:
            raise UserError(
                f"this run has no {self.topics.n} topics; train it without --init, or from one that has them"
            )
        told = tokenizers.topics.vectors(self.whole(rows, tokenizers))
        return told.roll(1, 0) if self.shuffled else told

    def build(self, config: ModelConfig, tokenizers: Tokenizers) -> Reader:
        """The encoder of the config, with the output, both told as `fusion` says."""
        reader = Reader(config, {LABEL: self.entry}, tokenizers.labels.counts)  # type: ignore[arg-type]
        self.fusion.stem(reader, self.topics.n)
        return reader

    def readings(self, rows: Sequence[Labelled], tokenizers: Tokenizers, bound: int | None = None) -> list[Reading]:
        """As `Classify` reads rows, with their topics."""
        told = self.vectors(rows, tokenizers).tolist()
        read = super().readings(rows, tokenizers, bound)
        return [replace(reading, given={TOPICS: given}) for reading, given in zip(read, told, strict=True)]

    def loss(self, training: bool) -> OutputLosses:
        """The output's own."""
        return OutputLosses({LABEL: self.entry}, training)
