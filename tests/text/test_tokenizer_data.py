"""Small slices of real German and Chinese."""

from __future__ import annotations

import gzip
import json
import os
from itertools import islice
from pathlib import Path

import pytest

from qkv.text import BPE, ByteBPE, Characters, Unigram, WordPiece, stats, train, trainers
from qkv.text.twins import bpe as bpe_twin
from qkv.text.twins import unigram as unigram_twin
from qkv.text.twins import wordpiece as wordpiece_twin

SOURCES = {"german": ("multi30k/train.de.gz", 0), "chinese": ("tatoeba_cmn_eng/train.tsv.gz", 1)}


# Share of unknown tokens in unseen text: a Chinese sentence often brings a character that 1500 others lacked.
UNKNOWN_AT_MOST = {"german": 0.005, "chinese": 0.12}


def lines(language, start, stop):
    folder = os.environ.get("QKV_DATA")
    name, column = SOURCES[language]
    if not folder or not (Path(folder) / name).exists():
        pytest.skip(f"needs {name} in $QKV_DATA")
    with gzip.open(Path(folder) / name, "rt", encoding="utf-8") as file:
        return [line.rstrip("\n").split("\t")[column] for line in islice(file, start, stop)]


@pytest.fixture(scope="module", params=SOURCES)
def corpus(request):
    # Every fourth line, because neighbours are alike.
    rows = lines(request.param, 0, 6000)[::4]
    return rows[:1300], rows[1300:]


@pytest.fixture(scope="module")
def language(corpus):
    return "german" if " " in corpus[0][0] else "chinese"


LOSSLESS = [BPE(2500, byte_fallback=True), ByteBPE(1500), Unigram(2500, byte_fallback=True)]


@pytest.mark.parametrize("config", LOSSLESS, ids=str)
def test_unseen_sentences_round_trip(config, corpus):
    seen, unseen = corpus
    tokenizer = train(config, seen)
    assert tokenizer.decode_batch(tokenizer.encode_batch(unseen)) == [tokenizer.normalize(text) for text in unseen]
    assert stats(tokenizer, unseen).unknown_rate == 0
    assert stats(tokenizer, seen).characters_per_token > stats(train(Characters(), seen), seen).characters_per_token


@pytest.mark.parametrize("config", [BPE(2000), Unigram(2000), WordPiece(2000)], ids=str)
def test_seen_sentences_have_no_unknowns(config, corpus, language):
    seen, unseen = corpus
    tokenizer = train(config, seen)
    assert stats(tokenizer, seen).unknown_rate == 0
    assert stats(tokenizer, unseen).unknown_rate < UNKNOWN_AT_MOST[language]
    if not isinstance(config, WordPiece):
        assert tokenizer.decode_batch(tokenizer.encode_batch(seen)) == [tokenizer.normalize(text) for text in seen]


def test_twins_encode_real_words_like_the_library(corpus):
    seen, unseen = corpus
    for config in (BPE(1200), WordPiece(1200), Unigram(1200)):
        tokenizer = train(config, seen)
        backend = tokenizer.backend
        state = json.loads(backend.to_str())["model"]
        known = set(backend.get_vocab()) - set(tokenizer.tokens(range(4)))
        words = list(trainers.count_words(backend, unseen))
        if not isinstance(config, WordPiece):  # the others are compared on spelled pieces, without <unk>
            words = [word for word in words if set(word) <= known]
        for word in words[:300]:
            if isinstance(config, BPE):
                pieces = bpe_twin.encode(word, [tuple(pair) for pair in state["merges"]])
            elif isinstance(config, WordPiece):
                pieces = wordpiece_twin.encode(word, known)
            else:
                scores = {piece: score for piece, score in state["vocab"] if piece in known}
                pieces = unigram_twin.viterbi(word, scores)[0]
            assert pieces == [token.value for token in backend.model.tokenize(word)], (config, word)
        assert len(words) > 100


def test_bpe_twin_trains_like_the_library(corpus):
    seen = corpus[0][:150]
    tokenizer = train(BPE(300), seen)
    words = trainers.count_words(tokenizer.backend, seen)
    _, merges = bpe_twin.train(words, vocab_size=tokenizer.vocab_size - 4)
    assert [tuple(pair) for pair in json.loads(tokenizer.backend.to_str())["model"]["merges"]] == merges != []
