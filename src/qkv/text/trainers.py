"""Training that gives the same model every time.

The trainers of Hugging Face `tokenizers` read words out of a hash map with a random seed. Where the order shows:

- WordPiece numbers the `##c` symbols as it meets them, and breaks ties between merges by number: ids and even the set
  of pieces change from run to run. We hand it those symbols, sorted, in advance.
- An alphabet that is cut to size breaks ties by memory layout. We cut it ourselves: by count, then by code point.
- Unigram adds floating-point numbers in that order, and gives the characters that have no score of their own one that
  rises in that order. We train on one thread, give those characters one score, round all to four places, and sort.

So words are counted here, in Python, and the library sees nothing but words: exactly what the twins see.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers
from tokenizers import trainers as library

from qkv.errors import UserError
from qkv.text.pipelines import BYTES
from qkv.text.specials import UNK

if TYPE_CHECKING:
    from qkv.text.configs import BPE, ByteBPE, Characters, Unigram, WordPiece, Words

SCORE_DECIMALS = 4


def count_words(backend: Backend, texts: Iterable[str]) -> Counter[str]:
    """How often each pre-token occurs in `texts` after normalisation."""
    normalizer, pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    words: Counter[str] = Counter()
    for text in texts:
        normal = text if normalizer is None else normalizer.normalize_str(text)
        words.update(word for word, _ in pre_tokenizer.pre_tokenize_str(normal))
    return words


def word_level(config: Characters | Words, words: Counter[str], spellings: Sequence[str]) -> models.Model:
    """Every word that is frequent enough, most frequent first, ties in code point order."""
    kept = [word for word, count in _ranked(words) if count >= config.min_frequency]
    if config.vocab_size is not None:
        kept = kept[: _room(config.vocab_size, spellings)]
    return models.WordLevel({token: i for i, token in enumerate([*spellings, *kept])}, unk_token=spellings[UNK])


def bpe(config: BPE, words: Counter[str], spellings: Sequence[str]) -> models.Model:
    """Merges of the most frequent neighbours, over characters (Sennrich et al. 2016)."""
    reserved = [*spellings, *(BYTES if config.byte_fallback else [])]
    model = models.BPE(unk_token=spellings[UNK], byte_fallback=config.byte_fallback)
    trainer = library.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=reserved,
        show_progress=False,
    )
    return _fit(model, trainer, _within_alphabet(words, _room(config.vocab_size, reserved)))


def byte_bpe(config: ByteBPE, words: Counter[str], spellings: Sequence[str]) -> models.Model:
    """The same over bytes: no text is unknown (Radford et al. 2019)."""
    _room(config.vocab_size, spellings, least=256)
    trainer = library.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=list(spellings),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    return _fit(models.BPE(), trainer, words)


def wordpiece(config: WordPiece, words: Counter[str], spellings: Sequence[str]) -> models.Model:
    """Pieces by frequency, those inside a word marked `##` (Schuster & Nakajima 2012; Devlin et al. 2019)."""
    room = _room(config.vocab_size, spellings, least=2)
    inside = {character for word in words for character in word[1:]}
    # Every character of the alphabet has a symbol, and each that occurs inside a word a second one.
    words = _within_alphabet(words, max(room - len(inside), room // 2))
    inside = {character for word in words for character in word[1:]}
    trainer = library.WordPieceTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=[*spellings, *(f"##{character}" for character in sorted(inside))],
        show_progress=False,
    )
    return _fit(models.WordPiece(unk_token=spellings[UNK]), trainer, words)


def unigram(config: Unigram, words: Counter[str], spellings: Sequence[str]) -> models.Model:
    """Pieces with probabilities, found by expectation-maximisation and pruning (Kudo 2018)."""
    reserved = [*spellings, *(BYTES if config.byte_fallback else [])]
    room = _room(config.vocab_size, reserved)
    words = _within_alphabet(words, room)
    unknown = spellings[UNK]
    trainer = library.UnigramTrainer(
        vocab_size=room + 1,  # the trainer counts <unk>, which is one of ours
        special_tokens=[unknown],
        unk_token=unknown,
        max_piece_length=config.max_piece_length,
        show_progress=False,
    )
    backend = Backend(models.Unigram())
    with _one_thread():
        backend.train_from_iterator(words.elements(), trainer)
    scores = {piece: score for piece, score in _scores(backend).items() if piece != unknown}
    pieces = [*((piece, 0.0) for piece in reserved), *_best(_settled(scores), room)]
    return models.Unigram(pieces, unk_id=UNK, byte_fallback=config.byte_fallback)


def _scores(backend: Backend) -> dict[str, float]:
    return dict(json.loads(backend.to_str())["model"]["vocab"])


def _settled(scores: dict[str, float]) -> dict[str, float]:
    """Scores without the traces of word order (see the top of this file)."""
    characters = sum(len(piece) == 1 for piece in scores)
    lowest = min(scores.values())
    # The library scores leftover characters lowest, lowest + 0.0001, lowest + 0.0002, ... in the order it meets them.
    leftover = lowest + 1e-4 * (characters + 1)
    return {
        piece: round(lowest if len(piece) == 1 and score < leftover else score, SCORE_DECIMALS)
        for piece, score in scores.items()
    }


def _best(scores: dict[str, float], room: int) -> list[tuple[str, float]]:
    """All characters and the best longer pieces, best first: the library can overshoot the size it is given.

    >>> _best({"ab": -1.0, "a": -3.0, "ba": -2.0, "b": -3.0}, room=3)
    [('ab', -1.0), ('a', -3.0), ('b', -3.0)]
    """
    ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    spare = room - sum(len(piece) == 1 for piece in scores)
    longer = [piece for piece, _ in ranked if len(piece) > 1][: max(spare, 0)]
    kept = {piece for piece in scores if len(piece) == 1}.union(longer)
    return [(piece, score) for piece, score in ranked if piece in kept]


def _fit(model: models.Model, trainer: library.Trainer, words: Counter[str]) -> models.Model:
    backend = Backend(model)
    backend.train_from_iterator(words.elements(), trainer)
    return backend.model


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _room(vocab_size: int, reserved: Sequence[str], least: int = 1) -> int:
    """Ids that are left for learned pieces."""
    room = vocab_size - len(reserved)
    if room < least:
        raise UserError(
            f"vocab_size {vocab_size} is too small: {len(reserved)} ids are reserved and at least {least} "
            f"more are needed; set it to {len(reserved) + least} or more"
        )
    return room


def _within_alphabet(words: Counter[str], limit: int) -> Counter[str]:
    """`words` cut at every character that is not among the `limit` most frequent ones.

    >>> sorted(_within_alphabet(Counter({"abxa": 2, "b": 1}), 2).items())
    [('a', 2), ('ab', 2), ('b', 1)]
    """
    characters: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            characters[character] += count
    if len(characters) <= limit:
        return words
    rare = re.compile("[" + re.escape("".join(character for character, _ in _ranked(characters)[limit:])) + "]")
    kept: Counter[str] = Counter()
    for word, count in words.items():
        for part in rare.split(word):
            if part:
                kept[part] += count
    return kept


@contextmanager
def _one_thread() -> Iterator[None]:
    """The library asks this variable before each parallel loop."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
