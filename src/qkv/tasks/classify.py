"""A label, or several, for a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from qkv.data import labelled
from qkv.data.buckets import BucketConfig
from qkv.data.labelled import Labelled
from qkv.data.readings import Reading, Readings, power_shares
from qkv.decoding import Chooser
from qkv.errors import UserError
from qkv.models import Choice, Decision, EncoderDecoderConfig, ModelConfig, Reader, Several
from qkv.tasks.labels import Labels, LabelSet
from qkv.tasks.metrics import choice_scores, several_scores
from qkv.tasks.reading import decisions, framed
from qkv.tasks.task import Prediction, System, Task, spaced
from qkv.tasks.tokenizers import Tokenizers, TokenizersConfig, learn
from qkv.training.objectives import OutputLosses

LABEL = "label"


@dataclass(frozen=True)
class Classify(Task):
    """An encoder reads the text; what it knows at its end is one vector, and a linear layer scores the labels."""

    output: Choice | Several = field(default_factory=Choice)
    """choice: one label of several; several: any number of them, an independent yes or no each."""
    batch: BucketConfig = field(default_factory=BucketConfig)
    """How training batches are cut."""
    longest: int = 256
    """Tokens of the longest text, specials included; the end of a longer one is not read."""
    power: float = 1.0
    """A label with n texts is drawn ∝ n^power in training: 1 takes every text once an epoch, 0 all labels alike."""

    rows: ClassVar[str] = "labelled"
    shape: ClassVar[str] = "encoder_only or convolution"
    ranks: ClassVar[bool] = True
    column: ClassVar[str] = "text"

    def __post_init__(self) -> None:
        if self.longest < 4:
            raise ValueError(f"longest is {self.longest}; give 4 or more, for a begin, an end and a word or two")
        if not 0 <= self.power <= 1:
            raise ValueError(f"power is {self.power}; give 0 to 1")
        if self.power < 1 and isinstance(self.output, Several):
            raise ValueError("power draws texts by their one label, and here a text has several; leave it at 1")

    def read(self, path: str) -> list[Labelled]:
        """The rows of a TSV or JSONL file; `|` separates several labels in a TSV."""
        rows = labelled.labelled(path)
        if isinstance(self.output, Choice):
            return rows
        return [Labelled(r.text, tuple(x for label in r.labels for x in label.split("|")), r.second) for r in rows]

    def learn(self, rows: Sequence[Labelled], config: TokenizersConfig) -> Tokenizers:
        """One tokenizer, from all texts."""
        texts = [text for row in rows for text in (row.text, row.second) if text is not None]
        learned = learn(config, texts)
        return Tokenizers(learned.target, None, self.labels(rows))

    def labels(self, rows: Sequence[Labelled]) -> Labels:
        """The labels of the rows. Raises UserError where there are fewer than two, or a row has not one to choose."""
        if isinstance(self.output, Choice) and (bad := next((r for r in rows if len(r.labels) != 1), None)):
            raise UserError(
                f"{bad.text[:40]!r} has {len(bad.labels)} labels; give one each, or set task.classify.output=several"
            )
        found = LabelSet.of(label for row in rows for label in row.labels)
        if len(found) < 2:
            raise UserError(f"the training data has {len(found)} label; give rows of at least two")
        return Labels({LABEL: found})

    def build(self, config: ModelConfig, tokenizers: Tokenizers) -> Reader:
        """The encoder of the config, with the output."""
        assert not isinstance(config, EncoderDecoderConfig)
        return Reader(config, {LABEL: self.output}, tokenizers.labels.counts)

    def readings(self, rows: Sequence[Labelled], tokenizers: Tokenizers, bound: int | None = None) -> list[Reading]:
        """Rows as the encoder reads them, with the numbers of their labels, where they have any."""
        longest = min(bound or self.longest, self.longest)
        ids = framed(tokenizers, [row.text for row in rows], [row.second for row in rows], longest)
        found = tokenizers.labels[LABEL]
        return [
            Reading(x, second, extra={LABEL: self._right(row, found)} if row.labels else {})
            for row, (x, second) in zip(rows, ids, strict=True)
        ]

    def _right(self, row: Labelled, found: LabelSet) -> int | list[int]:
        numbers = [found.number(label) for label in row.labels]
        if isinstance(self.output, Choice):
            return numbers[0]
        return [int(i in numbers) for i in range(len(found))]

    def batches(
        self, rows: Sequence[Labelled], tokenizers: Tokenizers, seed: int | None = None, limit: int | None = None
    ) -> Readings:
        """Batches of texts of like length."""
        readings = self.readings(spaced(rows, limit) if seed is None else rows, tokenizers)
        shares = power_shares([row.labels for row in rows], self.power) if seed is not None and self.power < 1 else None
        return Readings(readings, self.batch, seed, tokenizers.target.pad_id or 0, shares)

    def loss(self, training: bool) -> OutputLosses:
        """The output's own."""
        return OutputLosses({LABEL: self.output}, training)

    def predict(
        self, system: System, texts: Sequence[str], chooser: Chooser, max_new: int | None = None, first: int = 0
    ) -> list[Prediction]:
        """Labels by falling probability; a tab separates the two texts of a pair."""
        rows = [Labelled(*_pair(text)) for text in texts]
        names = system.tokenizers.labels[LABEL].names
        found = []
        for text, decision in zip(texts, self.decide(system, rows), strict=True):
            labels, p = [names[i] for i in decision.labels], decision.probabilities
            if isinstance(self.output, Choice):
                found.append(Prediction(text, labels, p, [True] * len(labels)))
            else:
                details = {"labels": dict(zip(labels, p, strict=True))}
                found.append(Prediction(text, [" | ".join(labels)], [min(p, default=0.0)], [True], details=details))
        return found

    def decide(self, system: System, rows: Sequence[Labelled]) -> list[Decision]:
        """What the model decides on rows, whatever their labels."""
        bare = [Labelled(row.text, (), row.second) for row in rows]
        return decisions(system, self.readings(bare, system.tokenizers, system.model.max_length))[LABEL]

    def evaluate(self, system: System, rows: Sequence[Labelled], chooser: Chooser) -> dict[str, Any]:
        """Accuracy, macro F1 and calibration of one label; F1 and exact matches of several."""
        found = system.tokenizers.labels[LABEL]
        decided = self.decide(system, rows)
        if isinstance(self.output, Choice):
            right = [found.number(row.labels[0]) for row in rows]
            return {"rows": len(rows), **choice_scores(decided, right)}
        several = [[found.number(label) for label in row.labels] for row in rows]
        return {"rows": len(rows), **several_scores(decided, several)}


def _pair(text: str) -> tuple[str, tuple[str, ...], str | None]:
    first, tab, second = text.partition("\t")
    return (first, (), second) if tab else (text, (), None)
