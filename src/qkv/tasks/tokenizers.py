"""Which tokenizers a task uses, how they are learned, and where a run keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qkv import text
from qkv.errors import UserError
from qkv.tasks.labels import Labels
from qkv.text import BOS, BPE, EOS, ByteBPE, Characters, Tokenizer, Unigram, WordPiece, Words
from qkv.text.topics import Topics
from qkv.training.checkpoint import replace_file

TOPICS = "topics.safetensors"


@dataclass(frozen=True)
class File:
    """A tokenizer that was trained before."""

    path: str
    """What `qkv data tokenizer --out` wrote, or a tokenizers/*.json of a run."""


TokenizerChoice = Characters | Words | BPE | ByteBPE | WordPiece | Unigram | File


@dataclass(frozen=True)
class TokenizersConfig:
    """One tokenizer for both sides, or one each."""

    source: TokenizerChoice | None = None
    """What the encoder's text is cut with."""
    target: TokenizerChoice | None = None
    """What the decoder's text is cut with; the only one of a language model."""
    shared: TokenizerChoice | None = None
    """One for both, learned from both; needed where source and target share an embedding."""

    def __post_init__(self) -> None:
        if self.shared is not None and (self.source is not None or self.target is not None):
            raise UserError("tokenizers: give either shared, or source and target, not both")
        if self.shared is None and self.target is None:
            raise UserError("tokenizers: none is named; give shared, or target (and source for two texts)")


@dataclass(frozen=True)
class Tokenizers:
    """What turns texts and labels into numbers and back.

    target: of what the decoder reads and writes, or the only stack reads. source: of what the encoder reads, if there
    are two; the same object where they share one. labels: what a task may answer, where it does not write text.
    topics: what makes a vector of a text as a whole, for a task that wants one."""

    target: Tokenizer
    source: Tokenizer | None = None
    labels: Labels = field(default_factory=Labels)
    topics: Topics | None = None

    @property
    def shared(self) -> bool:
        return self.source is self.target

    def framed(self, ids: Sequence[int], second: Sequence[int] | None = None) -> list[int]:
        """A text, or two, as an encoder reads them: begin · text · end (· second · end); [CLS] and [SEP] where the
        tokenizer has these."""
        own = self.target
        begin = self.bos if own.cls_id is None else own.cls_id
        end = self.eos if own.sep_id is None else own.sep_id
        return [begin, *ids, end] if second is None else [begin, *ids, end, *second, end]

    @property
    def bos(self) -> int:
        """What the decoder reads first: <bos>, or what a foreign tokenizer has in its place."""
        return next(i for i in (self.target.bos_id, self.target.eos_id, BOS) if i is not None)

    @property
    def eos(self) -> int:
        """What ends the decoder's text."""
        return EOS if self.target.eos_id is None else self.target.eos_id

    @property
    def unwritten(self) -> tuple[int, ...]:
        """Ids that no answer holds: <pad>, <bos> and <unk> stand for no text."""
        ids = (self.target.pad_id, self.target.bos_id, self.target.unk_id)
        return tuple({i for i in ids if i is not None and i != self.eos})

    @property
    def source_eos(self) -> int:
        """What ends the encoder's text."""
        return self.eos if self.source is None or self.source.eos_id is None else self.source.eos_id

    def save(self, folder: Path) -> None:
        """Write folder/{source,target}.json, and labels.json beside the folder; shared ones are two equal files. Topics
        are folder/topics.safetensors."""
        if self.labels.sets:
            self.labels.save(folder.parent)
        if self.topics is not None:
            replace_file(folder / TOPICS, self.topics.save)
        for name in ("source", "target"):
            tokenizer = getattr(self, name)
            if tokenizer is not None:
                tokenizer.save(folder / f"{name}.json")

    @classmethod
    def load(cls, folder: Path) -> Tokenizers:
        """Read what `save` wrote. Raises UserError for a missing or damaged file."""
        target, source = folder / "target.json", folder / "source.json"
        loaded, labels = Tokenizer.load(target), Labels.load(folder.parent)
        topics = Topics.load(folder / TOPICS) if (folder / TOPICS).is_file() else None
        if not source.exists():
            return cls(loaded, None, labels, topics)
        same = source.read_bytes() == target.read_bytes()
        return cls(loaded, loaded if same else Tokenizer.load(source), labels, topics)


def learn(
    config: TokenizersConfig,
    targets: Iterable[str],
    sources: Iterable[str] | None = None,
    specials: Sequence[str] = (),
) -> Tokenizers:
    """The tokenizers of a config, learned from texts. `sources` is None where there is only one side, and only then are
    there `specials`: tokens that the task needs besides the fixed ones, by name ("mask").

    Raises UserError where a side has none, for a file without these specials, and what training a tokenizer raises.
    """
    if sources is None:
        return Tokenizers(_one(config.shared or config.target, targets, "target", specials))
    if config.shared is not None:
        one = _one(config.shared, [*sources, *targets], "shared")
        return Tokenizers(one, one)
    return Tokenizers(_one(config.target, targets, "target"), _one(config.source, sources, "source"))


def _one(choice: TokenizerChoice | None, texts: Iterable[str], side: str, specials: Sequence[str] = ()) -> Tokenizer:
    if choice is None:
        raise UserError(f"tokenizers.{side}: missing; this task reads two texts, so give source and target, or shared")
    if isinstance(choice, File):
        return with_specials(Tokenizer.load(choice.path), specials, f"tokenizers.{side}: {choice.path}")
    try:
        return text.train(choice, texts, specials)
    except UserError as error:
        raise UserError(f"tokenizers.{side}: {error}") from error


def with_specials(tokenizer: Tokenizer, specials: Sequence[str], where: str) -> Tokenizer:
    """The tokenizer. Raises UserError where it lacks one of the special tokens."""
    lacking = [name for name in specials if name not in tokenizer.special_ids]
    if lacking:
        raise UserError(
            f"{where} has no <{lacking[0]}>, which this task needs; let the recipe train a tokenizer instead"
        )
    return tokenizer
