"""The WordPiece twin equals the library, in encoding and in training by frequency."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models

from qkv.text import WordPiece, trainers
from qkv.text.specials import names, spelling
from qkv.text.twins import wordpiece as twin

SPECIALS = [spelling(name) for name in names()]
WORDS = st.dictionaries(st.text("abc", min_size=1, max_size=7), st.integers(1, 4), min_size=1, max_size=8)
PIECES = st.sets(st.text("abc", min_size=1, max_size=3).flatmap(lambda text: st.sampled_from([text, "##" + text])))


@settings(deadline=None, max_examples=300)
@given(pieces=PIECES, word=st.text("abc", min_size=1, max_size=10))
def test_encoding_equals_the_library(pieces, word):
    vocabulary = {piece: i for i, piece in enumerate(["<unk>", *sorted(pieces)])}
    backend = trainers.Backend(models.WordPiece(vocabulary, unk_token="<unk>"))
    assert twin.encode(word, vocabulary) == backend.encode(word).tokens


def test_encoding_equals_the_library_on_text(tokenizers, corpus):
    tokenizer = tokenizers["word_piece"]
    vocabulary = tokenizer.backend.get_vocab()
    for text in [*corpus, "Überraschung! Hundehütte xyz", "ä" * 100, "ä" * 101]:
        words = trainers.count_words(tokenizer.backend, [text])
        for word in words:
            assert [tokenizer.id(piece) for piece in twin.encode(word, vocabulary)] == tokenizer.encode(word), word


@settings(deadline=None, max_examples=200)
@given(counts=WORDS, size=st.integers(1, 30), min_frequency=st.integers(1, 3))
def test_training_by_frequency_equals_the_library(counts, size, min_frequency):
    symbols = len({symbol for word in counts for symbol in twin.symbols(word)} | set("".join(counts)))
    config = WordPiece(len(SPECIALS) + symbols + size, min_frequency)
    backend = trainers.Backend(trainers.wordpiece(config, Counter(counts), SPECIALS))
    learned = sorted(backend.get_vocab(), key=backend.token_to_id)
    assert learned == [*SPECIALS, *twin.train(counts, symbols + size, min_frequency)]


@settings(deadline=None, max_examples=100)
@given(counts=WORDS, criterion=st.sampled_from(["frequency", "likelihood"]))
def test_a_trained_vocabulary_knows_its_corpus(counts, criterion):
    vocabulary = twin.train(counts, vocab_size=40, criterion=criterion)
    for word in counts:
        pieces = twin.encode(word, set(vocabulary))
        assert "".join(piece.removeprefix("##") for piece in pieces) == word
