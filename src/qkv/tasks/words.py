"""What the tasks share that label words: words to pieces and back, tags in the run's scheme, entities as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from qkv.data import labelled
from qkv.data.batch import IGNORE
from qkv.data.buckets import BucketConfig
from qkv.data.labelled import Tagged
from qkv.data.readings import Reading
from qkv.data.spelled import SpelledReadings
from qkv.errors import UserError
from qkv.models import EncoderOnlyConfig, Reader
from qkv.models.lexical import Lexical, add_lexical
from qkv.models.outputs import Decision
from qkv.tasks.exchange import exchanged
from qkv.tasks.labels import LabelSet
from qkv.tasks.reading import CELLS, decided
from qkv.tasks.schemes import OUTSIDE, Entity, Scheme, converted, scheme_of
from qkv.tasks.task import System, Task, spaced
from qkv.tasks.tokenizers import Tokenizers, TokenizersConfig, learn

DIGIT = re.compile(r"\d")


@dataclass(frozen=True)
class WordTask(Task):
    """A task that reads words one by one: each is encoded by itself, and its label stands at its first piece."""

    unit: Literal["word", "character"] = "word"
    """What a text to predict for is cut into: words at white space, or characters (Chinese)."""
    scheme: Scheme | None = None
    """The scheme that tags are converted to: bio, bioes or bmes; null: as the training data has them."""
    words: Lexical = field(default_factory=Lexical)
    """What is seen of a word before the first block: its spelling, its neighbourhood; words read as unknown."""
    digits: bool = False
    """Read every digit as 0."""
    exchanged: int = 0
    """So many further copies of each training text, in which what stands in a slot, or a name, is exchanged for
    another of its type."""
    batch: BucketConfig = field(default_factory=BucketConfig)
    """How training batches are cut."""
    longest: int = 256
    """Pieces of the longest text, specials included; later words are not read, and get the tag O."""

    rows: ClassVar[str] = "tagged"
    shape: ClassVar[str] = "encoder_only"
    column: ClassVar[str] = "words"

    def __post_init__(self) -> None:
        if self.longest < 3:
            raise ValueError(f"longest is {self.longest}; give 3 or more, for a begin, an end and a word")
        if self.exchanged < 0:
            raise ValueError(f"exchanged is {self.exchanged}; give 0 or more copies")

    def read(self, path: str) -> list[Tagged]:
        """The rows of a TSV or JSONL file with the columns `words`, `tags` and, if labelled, `intent`."""
        return labelled.tagged(path)

    def split(self, text: str) -> tuple[str, ...]:
        """A text to predict for in its words."""
        return tuple("".join(text.split())) if self.unit == "character" else tuple(text.split())

    def learned(self, rows: Sequence[Tagged], config: TokenizersConfig) -> Tokenizers:
        """A tokenizer from the words, each a text by itself, and one from their characters if spelling is read.

        Raises UserError where spelling is asked for and no tokenizer for it is named."""
        words = [self._plain(word) for row in rows for word in row.words]
        if self.words.spelling is None:
            return learn(config, words)
        if config.source is None:
            raise UserError("tokenizers.source: missing; words.spelling reads characters, so set it to characters")
        return learn(config, words, words)

    def encoder(self, model: Reader, config: EncoderOnlyConfig, tokenizers: Tokenizers) -> Reader:
        """The model with its encoder reading words as `words` says."""
        own = tokenizers.target
        unknown, symbols = own.unk_id, tokenizers.source.vocab_size if tokenizers.source else 0
        if self.words.unknown and unknown is None:
            raise UserError("words.unknown: this tokenizer knows every text, so nothing is unknown to it; set it to 0")
        kept = {i for i in (own.pad_id, own.cls_id, own.sep_id, tokenizers.bos, tokenizers.eos) if i is not None}
        add_lexical(model.encoder, self.words, symbols, unknown or 0, sorted(kept))
        return model

    def tags(self, rows: Sequence[Tagged]) -> LabelSet:
        """The tags of training rows in the task's scheme. Raises UserError where there are fewer than two."""
        given = scheme_of(tag for row in rows for tag in row.tags)
        found = LabelSet.of(tag for row in rows for tag in converted(row.tags, given, self.scheme or given))
        if len(found) < 2:
            raise UserError(f"the training data has {len(found)} tag; give rows with at least two")
        return found

    def used(self, rows: Sequence[Tagged], seed: int | None, limit: int | None) -> list[Tagged]:
        """The rows to train on, with a seed: all, and their copies; without, those to measure on."""
        return spaced(rows, limit) if seed is None else [*rows, *exchanged(rows, self.exchanged, seed)]

    def in_scheme(self, rows: Sequence[Tagged], known: LabelSet) -> list[list[str]]:
        """The tags of rows in the scheme of the tags that are `known`."""
        given, wanted = scheme_of(tag for row in rows for tag in row.tags), scheme_of(known.names)
        return [converted(row.tags, given, wanted) for row in rows]

    def source(
        self,
        rows: Sequence[Tagged],
        tokenizers: Tokenizers,
        *,
        targets: Sequence[Sequence[int]] | None = None,
        extras: Sequence[Mapping[str, Any]] | None = None,
        seed: int | None = None,
        batch: BucketConfig | None = None,
        bound: int | None = None,
    ) -> SpelledReadings:
        """Rows as batches. targets: the number of each word's label (None: to be decided); extras: of each text.
        bound: the model's own longest text."""
        most = min(bound or self.longest, self.longest) - 2
        pieces = self._pieces(rows, tokenizers)
        spelled = self._spelled(rows, tokenizers)
        readings, spellings = [], []
        for number, row in enumerate(rows):
            right = [0] * len(row.words) if targets is None else targets[number]
            ids: list[int] = []
            marks: list[int] = []
            letters: list[Sequence[int]] = []
            for word, target in zip(row.words, right, strict=True):
                new = pieces[word][: max(0, most - len(ids))]
                rest = len(new) - 1
                if rest >= 0:
                    ids, marks = [*ids, *new], [*marks, target, *[IGNORE] * rest]
                    letters += [spelled.get(word, []), *[[]] * rest]
            extra = {} if extras is None else extras[number]
            readings.append(Reading(tokenizers.framed(ids), targets=[IGNORE, *marks, IGNORE], extra=extra))
            spellings.append([[], *letters, []])
        config = batch or BucketConfig(tokens=max(CELLS, *(len(r.ids) for r in readings)))
        padding = tokenizers.target.pad_id or 0
        return SpelledReadings(readings, spellings if spelled else None, config, seed, padding)

    @property
    def joint(self) -> str:
        """What stands between two words of a text."""
        return "" if self.unit == "character" else " "

    def decided(self, system: System, rows: Sequence[Tagged]) -> dict[str, list[Decision]]:
        """What every output of the model decides on rows, whatever their labels."""
        if not rows:
            return {name: [] for name in getattr(system.model, "outputs", ())}
        return decided(system, self.source(rows, system.tokenizers, bound=system.model.max_length))

    def _plain(self, word: str) -> str:
        return DIGIT.sub("0", word) if self.digits else word

    def _pieces(self, rows: Sequence[Tagged], tokenizers: Tokenizers) -> dict[str, list[int]]:
        """The pieces of every distinct word; one that the tokenizer sees nothing in is unknown."""
        words = list(dict.fromkeys(word for row in rows for word in row.words))
        encoded = tokenizers.target.encode_batch([self._plain(word) for word in words])
        nothing = [tokenizers.target.unk_id or 0]
        return {word: ids or nothing for word, ids in zip(words, encoded, strict=True)}

    def _spelled(self, rows: Sequence[Tagged], tokenizers: Tokenizers) -> dict[str, list[int]]:
        if self.words.spelling is None or tokenizers.source is None:
            return {}
        words = list(dict.fromkeys(word for row in rows for word in row.words))
        encoded = tokenizers.source.encode_batch([self._plain(word) for word in words])
        return dict(zip(words, encoded, strict=True))


def named(decision: Decision, known: LabelSet, length: int) -> list[str]:
    """The tags that a decision gives `length` words; O for words that were not read."""
    tags = [known.names[i] for i in decision.labels]
    return [*tags, *[OUTSIDE] * (length - len(tags))]


def details(words: Sequence[str], tags: Sequence[str], found: Sequence[Entity], joint: str) -> dict[str, Any]:
    """Tagged words and their entities for JSON. joint: what stands between words in an entity's text."""
    listed = [
        {"type": e.kind, "start": e.start, "end": e.end, "text": joint.join(words[e.start : e.end])} for e in found
    ]
    return {"words": list(words), "tags": list(tags), "entities": listed}


def marked(words: Sequence[str], found: Iterable[Entity], joint: str = " ") -> str:
    """Words with their entities in brackets.

    >>> marked("from new york today".split(), [Entity(1, 3, "city")])
    'from [new york](city) today'
    """
    parts, at = [], 0
    for entity in sorted(found):
        parts += [*words[at : entity.start], f"[{joint.join(words[entity.start : entity.end])}]({entity.kind})"]
        at = entity.end
    return joint.join([*parts, *words[at:]])
