"""What a user wants so far: dialogue state tracking, one output a slot, over the last turns or all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

from qkv.data import dialogues
from qkv.data.batch import IGNORE, Batch
from qkv.data.buckets import BucketConfig
from qkv.data.dialogues import Dialogue, Turn
from qkv.data.readings import Reading, Readings
from qkv.decoding import Chooser
from qkv.errors import UserError
from qkv.models import Choice, Decision, EncoderOnlyConfig, ModelConfig, Reader, Several
from qkv.models.stems import StemConfig, add_stem
from qkv.tasks.dialogue.state import Tracked
from qkv.tasks.dialogue_metrics import request_scores, state_scores
from qkv.tasks.labels import Labels, LabelSet
from qkv.tasks.mentions import Ontology, is_marker, marked, words
from qkv.tasks.reading import decisions
from qkv.tasks.task import Prediction, System, Task, spaced
from qkv.tasks.tokenizers import Tokenizers, TokenizersConfig, learn
from qkv.training.losses import Term

SLOT, VALUES, REQUEST = "slot:", "values:", "request"
NONE = "none"


@dataclass(frozen=True)
class View:
    """What is read of a turn. texts: system and user in turn, the user last, markers in place of values. values: of
    each marker."""

    texts: list[list[str]]
    values: dict[str, str]


class SlotLosses:
    """One term for each output of the model, summed over turns. training: with the outputs' regularisation."""

    additive = True

    def __init__(self, training: bool):
        self.training = training

    def __call__(self, model: Any, batch: Batch) -> dict[str, Term]:
        """Terms of a batch whose `extra` holds the right label of every output."""
        scores = model(batch.ids, batch.tokens)
        counts = self.counts(batch)
        return {n: (model.outputs[n].loss(s, batch, self.training), counts[n], 1.0) for n, s in scores.items()}

    def counts(self, batch: Batch) -> dict[str, float]:
        """Turns of the batch, for every output."""
        return {name: float(len(batch.ids)) for name in batch.extra}


@dataclass(frozen=True)
class DialogueState(Task):
    """An encoder reads what the system said last and what the user answered; each slot has an output that says what
    the turn does to it: a value that is mentioned by its marker (see `qkv.tasks.mentions`), another by its name."""

    history: int | None = 1
    """Turns that are read, the present one included; null: all of the dialogue, as far as `longest` goes."""
    carry: bool = True
    """Outputs say what changes in the turn, and what was known is kept; false: they say the whole state each time."""
    markers: bool = True
    """Replace mentions of values by markers; false: a value is a label like any other."""
    acts: bool = True
    """Read what the system meant (which slots it asked for) before its words, where the data says it."""
    output: Choice = field(default_factory=lambda: Choice(pooling="max"))
    """What each slot is decided by."""
    stem: StemConfig | None = None
    """What neighbouring words are read together by before the first block, convolution or recurrence; null: nothing."""
    batch: BucketConfig = field(default_factory=BucketConfig)
    """How training batches are cut."""
    longest: int = 256
    """Tokens that are read at most, specials included; what is oldest is not read."""

    rows: ClassVar[str] = "dialogues"
    shape: ClassVar[str] = "encoder_only"
    column: ClassVar[str] = "text"

    def __post_init__(self) -> None:
        if self.history is not None and self.history < 1:
            raise ValueError(f"history is {self.history}; give 1 or more, or null for all turns")
        if self.longest < 8:
            raise ValueError(f"longest is {self.longest}; give 8 or more")

    def read(self, path: str) -> list[Dialogue]:
        """The dialogues of a JSONL file (see `qkv.data.dialogues`)."""
        return dialogues.dialogues(path)

    def learn(self, rows: Sequence[Dialogue], config: TokenizersConfig) -> Tokenizers:
        """One tokenizer, from the turns as they are read."""
        labels = self.labels(rows)
        ontology = self.ontology(labels)
        seen = [self.view(ontology, row.turns[:end])[0].texts for row in rows for end in range(1, len(row.turns) + 1)]
        return Tokenizers(learn(config, (" ".join(text) for texts in seen for text in texts[-2:])).target, None, labels)

    def labels(self, rows: Sequence[Dialogue]) -> Labels:
        """Of every slot the values that occur, and the labels that its output gives. Raises UserError for no state."""
        turns = [turn for row in rows for turn in row.turns]
        if any(turn.state is None for turn in turns) or not any(turn.state for turn in turns):
            raise UserError('the training data has turns without "state"; say in every turn what holds after it')
        slots = sorted({slot for turn in turns for slot in turn.state or ()})
        sets = {
            VALUES + slot: LabelSet.of(turn.state[slot] for turn in turns if turn.state and slot in turn.state)
            for slot in slots
        }
        ontology = self.ontology(Labels(sets))
        found: dict[str, list[str]] = {SLOT + slot: [NONE] for slot in slots}
        for row in rows:
            for end in range(1, len(row.turns) + 1):
                for slot, label in self.right(ontology, row.turns[:end]).items():
                    found[SLOT + slot].append(label)
        sets |= {name: LabelSet.of(names) for name, names in found.items()}
        requests = [request for turn in turns for request in turn.requests]
        return Labels(sets | ({REQUEST: LabelSet.of(requests)} if requests else {}))

    def ontology(self, labels: Labels) -> Ontology:
        """The values of every slot, as training saw them."""
        return _ontology(
            tuple((n.removeprefix(VALUES), s.names) for n, s in labels.sets.items() if n.startswith(VALUES))
        )

    def build(self, config: ModelConfig, tokenizers: Tokenizers) -> Reader:
        """The encoder of the config, with the stem, an output a slot and one for requests."""
        assert isinstance(config, EncoderOnlyConfig)
        outputs: dict[str, Any] = {name: self.output for name in tokenizers.labels.sets if name.startswith(SLOT)}
        if REQUEST in tokenizers.labels.sets:
            outputs[REQUEST] = Several(self.output.pooling, self.output.hidden, self.output.dropout)
        model = Reader(config, outputs, tokenizers.labels.counts)
        if self.stem is not None:
            add_stem(model.encoder, self.stem)
        return model

    def view(self, ontology: Ontology, turns: Sequence[Turn]) -> tuple[View, Sequence[Turn]]:
        """What is read of the last of `turns`, and the turns that it is read from."""
        read = turns if self.history is None else turns[-self.history :]
        texts = [text for turn in read for text in (self._said(turn), words(turn.user))]
        if not self.markers:
            return View(texts, {}), read
        return View(*marked(ontology, texts)), read

    def _said(self, turn: Turn) -> list[str]:
        acts = [word for slot, value in turn.acts for word in (f"{slot.replace(' ', '_')}?", *words(value))]
        return (acts if self.acts else []) + words(turn.system)

    def right(self, ontology: Ontology, turns: Sequence[Turn]) -> dict[str, str]:
        """The label of every slot for the last of `turns`.

        With `carry` that is what changes; and a value that the user says again, which makes no difference to the state
        but would else be a mention that counts here and not there."""
        now, before = turns[-1].state or {}, (turns[-2].state or {}) if len(turns) > 1 else {}
        view, _ = self.view(ontology, turns)
        again = {v for m in ontology.find(words(turns[-1].user)) for v in m.values.items()} if self.carry else set()
        found = {}
        for slot in ontology.values:
            value = now.get(slot, NONE)
            if self.carry and value == before.get(slot, NONE) and (slot, value) not in again:
                value = NONE
            names = [m for m, v in view.values.items() if v == value and is_marker(m, slot)]
            found[slot] = names[0] if names else value
        return found

    def readings(
        self, rows: Iterable[Sequence[Turn]], tokenizers: Tokenizers, bound: int | None = None
    ) -> list[Reading]:
        """Turns, each with those before it, as the encoder reads them; with the right labels where they are known."""
        ontology, longest = self.ontology(tokenizers.labels), min(bound or self.longest, self.longest)
        rows = list(rows)
        views = [self.view(ontology, turns)[0] for turns in rows]
        texts = iter(tokenizers.target.encode_batch(" ".join(text) for view in views for text in view.texts))
        found = []
        for turns, view in zip(rows, views, strict=True):
            ids, last = _joined([next(texts) for _ in view.texts], tokenizers, longest)
            known = turns[-1].state is not None
            extra = self._numbers(ontology, turns, tokenizers.labels) if known else {}
            found.append(Reading(ids, last, extra=extra))
        return found

    def _numbers(self, ontology: Ontology, turns: Sequence[Turn], labels: Labels) -> dict[str, Any]:
        """Labels as numbers; IGNORE for one that training never gave, which only dev and test have."""
        right = self.right(ontology, turns)
        found: dict[str, Any] = {
            SLOT + slot: labels[SLOT + slot].numbers.get(label, IGNORE) for slot, label in right.items()
        }
        if REQUEST in labels.sets:
            found[REQUEST] = [int(name in turns[-1].requests) for name in labels[REQUEST].names]
        return found

    def batches(
        self, rows: Sequence[Dialogue], tokenizers: Tokenizers, seed: int | None = None, limit: int | None = None
    ) -> Readings:
        """Batches of turns of like length; `limit` counts dialogues."""
        chosen = spaced(rows, limit) if seed is None else rows
        if any(turn.state is None for row in chosen for turn in row.turns):
            raise UserError('a turn has no "state"; say in every turn what holds after it')
        return Readings(self.readings(_turns(chosen), tokenizers), self.batch, seed, tokenizers.target.pad_id or 0)

    def loss(self, training: bool) -> SlotLosses:
        """The outputs' own."""
        return SlotLosses(training)

    def track(self, system: System, rows: Sequence[Sequence[Turn]]) -> list[Tracked]:
        """What the last turn of each row says; a row is a dialogue up to that turn."""
        labels = system.tokenizers.labels
        ontology = self.ontology(labels)
        bare = [[*turns[:-1], Turn(turns[-1].user, turns[-1].system, turns[-1].acts)] for turns in rows]
        decided = decisions(system, self.readings(bare, system.tokenizers, system.model.max_length))
        requests = decided.pop(REQUEST, None)
        found = []
        for number, turns in enumerate(rows):
            values = self.view(ontology, turns)[0].values
            said = {n.removeprefix(SLOT): d[number] for n, d in decided.items()}
            chosen = {slot: _chosen(slot, d, labels[SLOT + slot], values) for slot, d in said.items()}
            updates = {slot: pair for slot, pair in chosen.items() if pair[0] != NONE}
            asked = requests[number].labels if requests else []
            found.append(Tracked(updates, tuple(labels[REQUEST].names[i] for i in asked)))
        return found

    def states(self, system: System, rows: Sequence[Dialogue]) -> list[tuple[dict[str, str], tuple[str, ...]]]:
        """State and requests after every turn of the dialogues, in order; only the model's own states are carried."""
        found = [now for turns in self._followed(system, rows) for now in turns]
        return [({slot: value for slot, (value, _) in now.updates.items()}, now.requests) for now in found]

    def _followed(self, system: System, rows: Sequence[Dialogue]) -> list[list[Tracked]]:
        """Of every turn of each dialogue the whole state, as updates of an empty one, and what is requested."""
        tracked = iter(self.track(system, list(_turns(rows))))
        found: list[list[Tracked]] = []
        for row in rows:
            state: dict[str, tuple[str, float]] = {}
            found.append([])
            for now in (next(tracked) for _ in row.turns):
                state = {**(state if self.carry else {}), **now.updates}
                found[-1].append(Tracked(state, now.requests))
        return found

    def strangeness(self, system: System) -> Callable[[str], float]:
        """A score of how far out of scope a text is: the share of its words that training never saw. It finds what is
        said in other words, and not what is meant otherwise in the same."""
        ontology, tokenizer = self.ontology(system.tokenizers.labels), system.tokenizers.target

        def score(text: str) -> float:
            [line] = marked(ontology, [words(text)])[0] if self.markers else [words(text)]
            ids = tokenizer.encode(" ".join(word for word in line if word.isalnum() or "@" in word))
            return sum(i == tokenizer.unk_id for i in ids) / len(ids) if ids else 0.0

        return score

    def predict(
        self, system: System, texts: Sequence[str], chooser: Chooser, max_new: int | None = None, first: int = 0
    ) -> list[Prediction]:
        """The state at the end of each dialogue (see `spoken`); the score: the probability of its least sure value."""
        rows = [Dialogue(spoken(text)) for text in texts]
        answers = []
        for text, turns in zip(texts, self._followed(system, rows), strict=True):
            end = turns[-1]
            state = {slot: value for slot, (value, _) in end.updates.items()}
            told = "; ".join([*(f"{s} = {v}" for s, v in sorted(state.items())), *(f"{r}?" for r in end.requests)])
            least = min((p for _, p in end.updates.values()), default=1.0)
            details = {"state": state, "requests": list(end.requests)}
            answers.append(Prediction(text, [told or NONE], [least], [True], details=details))
        return answers

    def evaluate(self, system: System, rows: Sequence[Dialogue], chooser: Chooser) -> dict[str, Any]:
        """Joint goal accuracy, slot accuracy, and F1 of requests, over turns."""
        found = self.states(system, rows)
        turns = [turn for row in rows for turn in row.turns]
        slots = list(self.ontology(system.tokenizers.labels).values)
        scores: dict[str, Any] = {"rows": len(rows), "turns": len(turns)}
        scores |= state_scores([state for state, _ in found], [turn.state or {} for turn in turns], slots)
        if REQUEST in system.tokenizers.labels.sets:
            scores |= request_scores([asked for _, asked in found], [turn.requests for turn in turns])
        return scores


@lru_cache(maxsize=8)
def _ontology(values: tuple[tuple[str, tuple[str, ...]], ...]) -> Ontology:
    return Ontology(dict(values))


def _turns(rows: Iterable[Dialogue]) -> Iterable[tuple[Turn, ...]]:
    """Every turn of the dialogues, with those before it."""
    return (row.turns[:end] for row in rows for end in range(1, len(row.turns) + 1))


def _joined(texts: list[list[int]], tokenizers: Tokenizers, longest: int) -> tuple[list[int], int]:
    """What is said as one text, begin · system · end · user · end ..., at most `longest` tokens, and where the user's
    last words begin; what is oldest goes first."""
    begin, end = tokenizers.framed([])
    user = [*texts[-1][: longest - 2], end]
    before = [token for text in texts[:-1] for token in (*text, end)]
    kept = before[max(0, len(before) - (longest - 1 - len(user))) :]
    return [begin, *kept, *user], 1 + len(kept)


def _chosen(slot: str, decision: Decision, labels: LabelSet, values: dict[str, str]) -> tuple[str, float]:
    """The best label that can be: of markers only those that stand in the text. A marker means its value."""
    for number, p in zip(decision.labels, decision.probabilities, strict=True):
        name = labels.names[number]
        if name in values:
            return values[name], p
        if not is_marker(name, slot):
            return name, p
    return NONE, 0.0


def spoken(text: str) -> tuple[Turn, ...]:
    """The turns of a text: tabs separate what is said, the user first, then the system."""
    said = text.split("\t")
    return tuple(Turn(said[i], said[i - 1] if i else "") for i in range(0, len(said), 2))
