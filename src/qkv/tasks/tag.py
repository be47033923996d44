"""A label for every word: named entities, slots, parts of speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from qkv.data.batch import IGNORE
from qkv.data.labelled import Tagged
from qkv.data.spelled import SpelledReadings
from qkv.decoding import Chooser
from qkv.models import EncoderOnlyConfig, ModelConfig, Reader
from qkv.models.tagging import Tagging, TaggingOutput
from qkv.tasks.labels import Labels
from qkv.tasks.schemes import entities, scheme_of
from qkv.tasks.tag_metrics import broken, entity_scores
from qkv.tasks.task import Prediction, System
from qkv.tasks.tokenizers import Tokenizers, TokenizersConfig
from qkv.tasks.words import WordTask, details, marked, named
from qkv.training.objectives import OutputLosses

TAGS = "tags"


@dataclass(frozen=True)
class Tag(WordTask):
    """An encoder reads the words; a softmax each, or a linear chain over all, labels them (Lample et al. 2016)."""

    output: Tagging = field(default_factory=Tagging)
    """crf, constrained, dropout: how labels are scored and chosen."""

    def learn(self, rows: Sequence[Tagged], config: TokenizersConfig) -> Tokenizers:
        """One tokenizer, from all words, and one of their characters if `words.spelling` asks for it."""
        learned = self.learned(rows, config)
        return Tokenizers(learned.target, learned.source, self.labels(rows))

    def labels(self, rows: Sequence[Tagged]) -> Labels:
        """The tags of the rows, in the task's scheme. Raises UserError where there are fewer than two."""
        return Labels({TAGS: self.tags(rows)})

    def build(self, config: ModelConfig, tokenizers: Tokenizers) -> Reader:
        """The encoder of the config, with the output."""
        assert isinstance(config, EncoderOnlyConfig)
        model = Reader(config, {TAGS: self.output}, tokenizers.labels.counts)
        output = model.outputs[TAGS]
        assert isinstance(output, TaggingOutput)
        output.constrain(tokenizers.labels[TAGS].names)
        return self.encoder(model, config, tokenizers)

    def batches(
        self, rows: Sequence[Tagged], tokenizers: Tokenizers, seed: int | None = None, limit: int | None = None
    ) -> SpelledReadings:
        """Batches of texts of like length. A tag that was not in training is not counted in a loss."""
        known = tokenizers.labels[TAGS]
        chosen = self.used(rows, seed, limit)
        targets = [[known.numbers.get(tag, IGNORE) for tag in tags] for tags in self.in_scheme(chosen, known)]
        return self.source(chosen, tokenizers, targets=targets, seed=seed, batch=self.batch)

    def loss(self, training: bool) -> OutputLosses:
        """The output's own, in nats a word."""
        return OutputLosses({TAGS: self.output}, training)

    def predict(
        self, system: System, texts: Sequence[str], chooser: Chooser, max_new: int | None = None, first: int = 0
    ) -> list[Prediction]:
        """Texts with their entities in brackets; the score is the probability of the word that is least sure."""
        rows = [Tagged(self.split(text)) for text in texts]
        scheme = scheme_of(system.tokenizers.labels[TAGS].names)
        found = []
        for text, row, tags, least in zip(texts, rows, *self._tagged(system, rows), strict=True):
            inside = entities(tags, scheme)
            answer, more = marked(row.words, inside, self.joint), details(row.words, tags, inside, self.joint)
            found.append(Prediction(text, [answer], [least], [True], details=more))
        return found

    def evaluate(self, system: System, rows: Sequence[Tagged], chooser: Chooser) -> dict[str, Any]:
        """Strict precision, recall and F1 of entities, the same by type, accuracy of words, and the share of rows whose
        tags break their scheme. What training never saw is counted as wrong."""
        known = system.tokenizers.labels[TAGS]
        right, scheme = self.in_scheme(rows, known), scheme_of(known.names)
        given = self._tagged(system, rows)[0]
        hits = [a == b for one, other in zip(given, right, strict=True) for a, b in zip(one, other, strict=True)]
        return {
            "rows": len(rows),
            **entity_scores(given, right, scheme),
            "accuracy": sum(hits) / max(1, len(hits)),
            "broken_rows": broken(given, scheme),
        }

    def _tagged(self, system: System, rows: Sequence[Tagged]) -> tuple[list[list[str]], list[float]]:
        """The tags of each row, and the probability of the least sure one."""
        known = system.tokenizers.labels[TAGS]
        decided = self.decided(system, rows)[TAGS]
        tags = [named(d, known, len(row.words)) for d, row in zip(decided, rows, strict=True)]
        return tags, [min(d.probabilities, default=1.0) for d in decided]
