"""What a request asks for, and with which particulars: an intent and slots, by one encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from qkv.data.batch import IGNORE
from qkv.data.labelled import Tagged
from qkv.data.spelled import SpelledReadings
from qkv.decoding import Chooser
from qkv.errors import UserError
from qkv.models import Choice, EncoderOnlyConfig, ModelConfig, Reader
from qkv.models.joint import ConditionedReader
from qkv.models.tagging import Tagging, TaggingOutput
from qkv.tasks.labels import Labels, LabelSet
from qkv.tasks.schemes import entities, scheme_of
from qkv.tasks.tag_metrics import broken, entity_scores, joint_scores
from qkv.tasks.task import Prediction, System
from qkv.tasks.tokenizers import Tokenizers, TokenizersConfig
from qkv.tasks.words import WordTask, details, marked, named
from qkv.training.losses import Loss
from qkv.training.objectives import OutputLosses
from qkv.training.weighting import LogVariances, Surgery, Uncertain

INTENT, SLOTS = "intent", "slots"


@dataclass(frozen=True)
class Fixed:
    """intent, slots: the weight of each loss, both in nats: a text, and a word."""

    intent: float = 1.0
    slots: float = 1.0

    def __post_init__(self) -> None:
        if min(self.intent, self.slots) <= 0:
            raise ValueError("weights are above 0; to leave one out, set only to the other")


@dataclass(frozen=True)
class Learned:
    """Weights exp(−s_k) with a log variance s_k for each loss, trained with the model (Kendall et al. 2018)."""


@dataclass(frozen=True)
class IntentSlots(WordTask):
    """One encoder reads the request; one output chooses the intent, another labels each word with a slot."""

    intent: Choice = field(default_factory=Choice)
    """How the intent is scored."""
    slots: Tagging = field(default_factory=Tagging)
    """How slots are scored."""
    only: Literal["both", "intent", "slots"] = "both"
    """Train one of the two alone: what joint training is compared with."""
    weights: Fixed | Learned = field(default_factory=Fixed)
    """How the two losses are weighed."""
    surgery: bool = False
    """Where the gradients of the two conflict in the encoder, project them (PCGrad); takes about twice the time."""
    conditioned: bool = False
    """Slots see the probabilities of the intents."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.only != "both" and (self.surgery or self.conditioned or isinstance(self.weights, Learned)):
            raise ValueError("surgery, conditioned and learned weights need both outputs; set only to both")

    @property
    def outputs(self) -> dict[str, Choice | Tagging]:
        """The entries of the outputs that there are."""
        both: dict[str, Choice | Tagging] = {INTENT: self.intent, SLOTS: self.slots}
        return {name: entry for name, entry in both.items() if self.only in ("both", name)}

    def learn(self, rows: Sequence[Tagged], config: TokenizersConfig) -> Tokenizers:
        """One tokenizer, from all words, and one of their characters if `words.spelling` asks for it."""
        learned = self.learned(rows, config)
        return Tokenizers(learned.target, learned.source, self.labels(rows))

    def labels(self, rows: Sequence[Tagged]) -> Labels:
        """Intents and slot tags of the rows. Raises UserError for a row without an intent, and for a single label."""
        sets = {}
        if INTENT in self.outputs:
            sets[INTENT] = LabelSet.of(_intents(rows))
            if len(sets[INTENT]) < 2:
                raise UserError("the training data has one intent; give rows of at least two, or train the task tag")
        if SLOTS in self.outputs:
            sets[SLOTS] = self.tags(rows)
        return Labels(sets)

    def build(self, config: ModelConfig, tokenizers: Tokenizers) -> Reader:
        """The encoder of the config, with its outputs and, if they are learned, the weights of their losses."""
        assert isinstance(config, EncoderOnlyConfig)
        counts = tokenizers.labels.counts
        if self.conditioned:
            model: Reader = ConditionedReader(config, self.outputs, counts, giver=INTENT, taker=SLOTS)
        else:
            model = Reader(config, self.outputs, counts)
        if SLOTS in model.outputs:
            output = model.outputs[SLOTS]
            assert isinstance(output, TaggingOutput)
            output.constrain(tokenizers.labels[SLOTS].names)
        if isinstance(self.weights, Learned):
            model.log_variances = LogVariances(list(self.outputs))
        return self.encoder(model, config, tokenizers)

    def batches(
        self, rows: Sequence[Tagged], tokenizers: Tokenizers, seed: int | None = None, limit: int | None = None
    ) -> SpelledReadings:
        """Batches of texts of like length. An intent or a tag that was not in training has no loss."""
        chosen = self.used(rows, seed, limit)
        sets, targets, extras = tokenizers.labels.sets, None, None
        if SLOTS in sets:
            known = sets[SLOTS]
            targets = [[known.numbers.get(tag, IGNORE) for tag in tags] for tags in self.in_scheme(chosen, known)]
        if INTENT in sets:
            extras = [{INTENT: sets[INTENT].numbers.get(intent, IGNORE)} for intent in _intents(chosen)]
        return self.source(chosen, tokenizers, targets=targets, extras=extras, seed=seed, batch=self.batch)

    def loss(self, training: bool) -> Loss:
        """Of training: as weighed and operated on; measured: the sum of both, by their fixed weights."""
        fixed = self.weights if isinstance(self.weights, Fixed) else Fixed()
        weights = {INTENT: fixed.intent, SLOTS: fixed.slots}
        losses = OutputLosses(self.outputs, training, weights)
        if not training:
            return losses
        weighed = Uncertain(losses) if isinstance(self.weights, Learned) else losses
        return Surgery(weighed) if self.surgery else weighed

    def predict(
        self, system: System, texts: Sequence[str], chooser: Chooser, max_new: int | None = None, first: int = 0
    ) -> list[Prediction]:
        """`intent: text with slots in brackets`; the score is the intent's probability, or the least sure word's."""
        rows = [Tagged(self.split(text)) for text in texts]
        decided, sets = self.decided(system, rows), system.tokenizers.labels.sets
        found = []
        for number, (text, row) in enumerate(zip(texts, rows, strict=True)):
            answer, more, score = text, {}, 1.0
            if SLOTS in sets:
                decision, known = decided[SLOTS][number], sets[SLOTS]
                tags = named(decision, known, len(row.words))
                inside = entities(tags, scheme_of(known.names))
                answer, more = marked(row.words, inside, self.joint), details(row.words, tags, inside, self.joint)
                score = min(decision.probabilities, default=1.0)
            if INTENT in sets:
                decision, names = decided[INTENT][number], sets[INTENT].names
                ranked = [names[i] for i in decision.labels]
                answer, score = f"{ranked[0]}: {answer}", decision.probabilities[0]
                more = {"intents": dict(zip(ranked, decision.probabilities, strict=True)), **more}
            found.append(Prediction(text, [answer], [score], [True], details=more))
        return found

    def evaluate(self, system: System, rows: Sequence[Tagged], chooser: Chooser) -> dict[str, Any]:
        """Intent accuracy, strict slot F1 and sentence accuracy, slots by type. What training never saw is wrong."""
        sets, decided = system.tokenizers.labels.sets, self.decided(system, rows)
        found: dict[str, Any] = {"rows": len(rows)}
        intents, right_intents = [], []
        if INTENT in sets:
            right_intents = _intents(rows)
            intents = [sets[INTENT].names[d.labels[0]] for d in decided[INTENT]]
        if SLOTS not in sets:
            hits = [a == b for a, b in zip(intents, right_intents, strict=True)]
            return {**found, "intent_accuracy": sum(hits) / max(1, len(hits))}
        known = sets[SLOTS]
        right, scheme = self.in_scheme(rows, known), scheme_of(known.names)
        given = [named(d, known, len(row.words)) for d, row in zip(decided[SLOTS], rows, strict=True)]
        if INTENT in sets:
            found |= joint_scores(given, right, intents, right_intents, scheme)
        else:
            scores = entity_scores(given, right, scheme)
            found |= {f"slot_{name}": scores[name] for name in ("f1", "precision", "recall")}
            found["types"] = scores["types"]
        return {**found, "broken_rows": broken(given, scheme)}


def _intents(rows: Sequence[Tagged]) -> list[str]:
    """The intent of each row. Raises UserError for a row without one."""
    missing = next((i for i, row in enumerate(rows, 1) if row.intent is None), None)
    if missing is not None:
        raise UserError(f"row {missing} has no intent; give a column `intent`, or train the task tag")
    return [str(row.intent) for row in rows]
