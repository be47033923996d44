"""What a task is: how rows become batches, and how a trained model answers and is measured.

A task is a frozen dataclass, an entry of the table in `recipe.py`, with the methods of `Task`. It holds no weights:
these come in a `System`. The one loop that trains and the one that decodes know no task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch

from qkv.data.batch import BatchSource
from qkv.data.splits import Split
from qkv.decoding import Chooser, Hypothesis
from qkv.errors import UserError
from qkv.models import ModelConfig, Transformer, build
from qkv.tasks.labels import Labels
from qkv.tasks.tokenizers import Tokenizers, TokenizersConfig
from qkv.training.losses import Loss


@dataclass
class System:
    """A model with the tokenizers that it was trained with: all that answering needs."""

    model: Transformer
    tokenizers: Tokenizers

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device


@dataclass(frozen=True)
class Prediction:
    """The answers to one text, best first. ids: the tokens of each that were written, without begin, end and what the
    text itself brought along. finished: whether each ended by itself rather than at the length limit. details: what
    else there is to tell, for JSON."""

    source: str
    texts: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    finished: list[bool] = field(default_factory=list)
    ids: list[list[int]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, source: str, best: Sequence[Hypothesis], texts: list[str]) -> Prediction:
        """What a search found, and its hypotheses in letters."""
        return cls(source, texts, [h.score for h in best], [h.finished for h in best], [h.ids for h in best])

    @property
    def text(self) -> str:
        return self.texts[0]


class Task(Protocol):
    """How the rows of a dataset are learned from and answered. Rows are whatever `load` of the dataset gives."""

    shape: ClassVar[str]
    """The model that it needs: encoder_decoder, decoder_only, encoder_only or convolution; several with " or "."""
    rows: ClassVar[str]
    """The rows that it learns from: pairs, texts, labelled or tagged; a dataset names its own alike."""
    ranks: ClassVar[bool] = False
    """Whether its answers come ranked without a search, so that any number of them can be asked for."""
    column: ClassVar[str] = "source"
    """The column of a file that holds the texts to predict from."""

    def load(self, data: Any, split: Split) -> list[Any]:
        """The rows of a split. Raises UserError for a dataset of other rows."""
        check_rows(self, data)
        return data.load(split)

    def agree(self, config: ModelConfig) -> None:
        """Raise UserError where a model of the right shape cannot serve; asked when a recipe is read."""
        return

    def labels(self, rows: Sequence[Any]) -> Labels:
        """The labels in the rows of the training split; none for a task that writes text."""
        return Labels()

    def build(self, config: ModelConfig, tokenizers: Tokenizers) -> Transformer:
        """A model with fresh weights; the config's vocabulary sizes are known."""
        return build(config)

    def read(self, path: str) -> list[Any]:
        """The rows, with their references, of a file of one's own. Raises UserError for every mistake in it."""
        ...

    def learn(self, rows: Sequence[Any], config: TokenizersConfig) -> Tokenizers:
        """The tokenizers, learned from rows of the training split, with the labels of these rows."""
        ...

    def batches(
        self, rows: Sequence[Any], tokenizers: Tokenizers, seed: int | None = None, limit: int | None = None
    ) -> BatchSource:
        """Batches to train on in a seeded order, or, without a seed, to measure a loss on in a fixed one, of at most
        `limit` rows."""
        ...

    def loss(self, training: bool) -> Loss:
        """What is trained on, or, with `training` false, what is measured: the same without regularisation."""
        ...

    def predict(
        self, system: System, texts: Sequence[str], chooser: Chooser, max_new: int | None = None, first: int = 0
    ) -> list[Prediction]:
        """Answers to texts, in their order. max_new: most new tokens (None: the task's own rule). first: the number of
        the first text, from which and the seed sampling draws."""
        ...

    def evaluate(self, system: System, rows: Sequence[Any], chooser: Chooser) -> dict[str, Any]:
        """The task's measures on rows with references, by name."""
        ...


KINDS = {
    "pairs": "pairs of texts",
    "texts": "single texts",
    "labelled": "texts with labels",
    "tagged": "words with tags",
    "dialogues": "dialogues",
}
"""What each kind of rows is called."""


def check_rows(task: Task, data: Any) -> None:
    """Raise UserError where a dataset has other rows than the task learns from."""
    if data.rows != task.rows:
        raise UserError(
            f"data: this dataset has {KINDS[data.rows]}, and the task needs {KINDS[task.rows]}; choose another"
        )


def spaced(rows: Sequence[Any], limit: int | None) -> list[Any]:
    """At most `limit` rows, evenly spaced: the start of a sorted file stands for nothing but itself.

    >>> spaced("abcdef", 3)
    ['a', 'c', 'e']
    """
    if limit is None or limit >= len(rows):
        return list(rows)
    return [rows[i * len(rows) // limit] for i in range(limit)]
