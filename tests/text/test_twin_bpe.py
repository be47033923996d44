"""The BPE twin equals the library, in training (ties included) and in encoding."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from qkv.text import BPE, ByteBPE, train, trainers
from qkv.text.specials import names, spelling
from qkv.text.twins import bpe as twin

SPECIALS = [spelling(name) for name in names()]
WORDS = st.dictionaries(st.text("abc", min_size=1, max_size=7), st.integers(1, 4), min_size=1, max_size=8)


def merges_of(backend):
    return [tuple(pair) for pair in json.loads(backend.to_str())["model"]["merges"]]


@settings(deadline=None, max_examples=200)
@given(counts=WORDS, size=st.integers(1, 40), min_frequency=st.integers(1, 3))
def test_training_equals_the_library_on_ties(counts, size, min_frequency):
    model = trainers.bpe(BPE(size + 7, min_frequency), Counter(counts), SPECIALS)
    backend = trainers.Backend(model)
    vocabulary, merges = twin.train(counts, vocab_size=size + 3, min_frequency=min_frequency)
    assert merges_of(backend) == merges
    assert sorted(backend.get_vocab(), key=backend.token_to_id) == [*SPECIALS, *vocabulary]


def test_training_equals_the_library_on_text(corpus):
    tokenizer = train(BPE(220), corpus)
    words = trainers.count_words(tokenizer.backend, corpus)
    vocabulary, merges = twin.train(words, vocab_size=216)
    assert merges_of(tokenizer.backend) == merges and len(merges) > 50
    assert [tokenizer.id(symbol) for symbol in vocabulary] == list(range(4, 4 + len(vocabulary)))


def test_byte_level_training_is_the_same_algorithm(corpus):
    tokenizer = train(ByteBPE(330), corpus)
    words = trainers.count_words(tokenizer.backend, corpus)
    unseen = 256 - len(set("".join(words)))
    _, merges = twin.train(words, vocab_size=326 - unseen)
    assert merges_of(tokenizer.backend) == merges and len(merges) == 70


@settings(deadline=None, max_examples=200)
@given(counts=WORDS, word=st.text("abc", min_size=1, max_size=12))
def test_encoding_equals_the_library(counts, word):
    backend = trainers.Backend(trainers.bpe(BPE(40, min_frequency=1), Counter({"abc": 1} | counts), SPECIALS))
    assert twin.encode(word, merges_of(backend)) == backend.encode(word).tokens


@settings(deadline=None, max_examples=100)
@given(pairs=st.lists(st.sampled_from(["a a", "a b", "b a", "aa b", "a ab", "ab a", "b ab", "aa a"]), unique=True))
def test_encoding_equals_the_library_for_merges_in_any_order(pairs):
    merges = [tuple(pair.split()) for pair in pairs]
    vocabulary = dict.fromkeys([*"ab", *("".join(pair) for pair in merges), "aa", "ab", "ba"])
    model = trainers.models.BPE({token: i for i, token in enumerate(vocabulary)}, merges)
    for word in ("aab", "aaab", "abaab", "babaaab", "aaaaaa"):
        assert twin.encode(word, merges) == trainers.Backend(model).encode(word).tokens


@settings(deadline=None, max_examples=100)
@given(counts=WORDS)
def test_a_merge_never_adds_tokens(counts):
    _, merges = twin.train(counts, vocab_size=60, min_frequency=1)
    totals = twin.token_counts(counts, merges)
    assert all(after < before for before, after in pairwise(totals))
    assert totals[-1] == sum(count * len(twin.encode(word, merges)) for word, count in counts.items())
