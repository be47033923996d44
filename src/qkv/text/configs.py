"""The table of tokenizers, `TokenizerConfig`, and `train`, which turns an entry and a corpus into a `Tokenizer`.

Which one? `ByteBPE` when nothing may ever be unknown or changed; `BPE` or `Unigram` for translation; `WordPiece` for
encoders in the manner of Devlin et al. 2019; `Words` for sequences of symbols such as phonemes; `Characters` for
spelling and for tiny corpora.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from tokenizers.models import Model

from qkv.errors import UserError
from qkv.text import pipelines, trainers
from qkv.text.specials import names as special_names
from qkv.text.specials import spelling
from qkv.text.tokenizer import Tokenizer

Normalization = Literal["none", "nfc", "nfkc"]


@dataclass(frozen=True)
class Characters:
    """One token a Unicode character. Decoding gives exactly the text, spaces and newlines included."""

    vocab_size: int | None = None
    """Most ids in all, specials included; None keeps every character that is frequent enough."""
    min_frequency: int = 1
    """Characters seen less often are unknown."""
    lowercase: bool = False
    """Lower-case the text first."""
    normalization: Normalization = "none"
    """Unicode normal form of the text: none, nfc (composes accents) or nfkc (also unifies full-width forms etc.)."""


@dataclass(frozen=True)
class Words:
    """One token a word between white space, as in phoneme strings (`HH AH0 L OW1`). Decoding joins with spaces."""

    vocab_size: int | None = None
    """Most ids in all, specials included; None keeps every word that is frequent enough."""
    min_frequency: int = 1
    """Words seen less often are unknown."""
    lowercase: bool = False
    """Lower-case the text first."""
    normalization: Normalization = "nfc"
    """Unicode normal form of the text: none, nfc or nfkc."""


@dataclass(frozen=True)
class BPE:
    """Byte-pair encoding over characters (Sennrich et al. 2016, arXiv:1508.07909).

    White space is collapsed to single spaces, a word's piece carries its space as `▁` (so `▁` in a text becomes `_`),
    and punctuation stands alone. Decoding gives back the normalised text.
    """

    vocab_size: int = 8000
    """Ids in all, specials included; fewer when the corpus offers fewer merges."""
    min_frequency: int = 2
    """A pair must occur this often to be merged."""
    lowercase: bool = False
    """Lower-case the text first."""
    normalization: Normalization = "nfc"
    """Unicode normal form of the text: none, nfc or nfkc."""
    byte_fallback: bool = False
    """Spell characters that training never saw as UTF-8 bytes (256 ids more) instead of <unk>."""


@dataclass(frozen=True)
class ByteBPE:
    """Byte-pair encoding over UTF-8 bytes (Radford et al. 2019): nothing is unknown, decoding is exact for any text."""

    vocab_size: int = 8000
    """Ids in all: the specials, the 256 bytes, and the merges."""
    min_frequency: int = 2
    """A pair must occur this often to be merged."""
    lowercase: bool = False
    """Lower-case the text first; decoding is then exact up to case."""
    normalization: Normalization = "none"
    """Unicode normal form of the text: none, nfc or nfkc; decoding is exact for none."""


@dataclass(frozen=True)
class WordPiece:
    """Greedy longest match, `##` before pieces inside a word (Schuster & Nakajima 2012; Devlin et al. 2019).

    Control characters are removed, punctuation and Chinese characters stand alone, so decoding restores words but not
    always their spacing. The pieces are learned by pair frequency, as Hugging Face does, not by likelihood; the
    original criterion is in `qkv.text.twins.wordpiece`.
    """

    vocab_size: int = 8000
    """Ids in all, specials included."""
    min_frequency: int = 2
    """A pair must occur this often to be merged."""
    lowercase: bool = True
    """Lower-case the text first."""
    strip_accents: bool = False
    """Turn é into e and ü into u, as the uncased checkpoints of Devlin et al. do."""
    normalization: Normalization = "nfc"
    """Unicode normal form of the text: none, nfc or nfkc."""


@dataclass(frozen=True)
class Unigram:
    """The most probable segmentation under a unigram model of pieces (Kudo 2018, arXiv:1804.10959).

    Text is prepared as for `BPE`. Decoding gives back the normalised text.
    """

    vocab_size: int = 8000
    """Ids in all, specials included; fewer when the corpus offers fewer pieces."""
    max_piece_length: int = 16
    """Characters of the longest piece."""
    lowercase: bool = False
    """Lower-case the text first."""
    normalization: Normalization = "nfkc"
    """Unicode normal form of the text: none, nfc or nfkc."""
    byte_fallback: bool = False
    """Spell characters that training never saw as UTF-8 bytes (256 ids more) instead of <unk>."""


TokenizerConfig = Characters | Words | BPE | ByteBPE | WordPiece | Unigram


def train(config: TokenizerConfig, texts: Iterable[str], specials: Iterable[str] = ()) -> Tokenizer:
    """Learn a tokenizer from `texts`; the same texts give the same file, byte for byte.

    `specials` are names without brackets ("mask", "cls", "sep", ...): they get the ids from 4 on, in the given order.
    `texts` is read once; its words are counted in Python and handed to the library in one order (`trainers` says why).

    Raises `UserError` when there is no text to learn from, or `vocab_size` cannot hold the least that is needed.
    """
    names = special_names(specials)
    spellings = [spelling(name) for name in names]
    backend = pipelines.build(config, spellings)
    words = trainers.count_words(backend, texts)
    if not words:
        raise UserError("cannot train a tokenizer on no text; give at least one text that is not empty")
    backend.model = _TRAINERS[type(config)](config, words, spellings)
    backend.add_special_tokens(spellings)
    return Tokenizer(backend, {name: i for i, name in enumerate(names)})


_TRAINERS: dict[type, Callable[..., Model]] = {
    Characters: trainers.word_level,
    Words: trainers.word_level,
    BPE: trainers.bpe,
    ByteBPE: trainers.byte_bpe,
    WordPiece: trainers.wordpiece,
    Unigram: trainers.unigram,
}
