"""The Unigram twin: against brute force over all segmentations, against the library, and the laws of EM."""

from __future__ import annotations

from itertools import combinations, pairwise
from math import exp, fsum, inf, isclose, log

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import models

from qkv.text import Unigram, train, trainers
from qkv.text.twins import unigram as twin
from qkv.text.twins import unigram_training as training

TEXTS = st.text("abc", min_size=1, max_size=8)
CORPORA = st.dictionaries(st.text("abc", min_size=1, max_size=6), st.integers(1, 5), min_size=1, max_size=6)
# Few distinct scores, all exact in binary: many ties.
TIES = st.sampled_from([-1.0, -2.0, -2.5, -4.0])
TIED_SCORES = st.dictionaries(st.text("abc", min_size=1, max_size=4), TIES, min_size=1)


@st.composite
def scores_with_characters(draw):
    longer = draw(st.sets(st.text("abc", min_size=2, max_size=4), max_size=10))
    return {piece: draw(st.floats(-9, -0.1)) for piece in [*"abc", *sorted(longer)]}


def segmentations(text):
    """All 2^(n−1) ways to cut a text of n characters."""
    for cuts in range(len(text)):
        for inner in combinations(range(1, len(text)), cuts):
            borders = [0, *inner, len(text)]
            yield [text[a:b] for a, b in pairwise(borders)]


def paths(text, scores):
    """(pieces, log-probability) of the segmentations that the vocabulary can spell."""
    for pieces in segmentations(text):
        if all(piece in scores for piece in pieces):
            yield pieces, fsum(scores[piece] for piece in pieces)


@settings(deadline=None, max_examples=150)
@given(text=TEXTS, scores=scores_with_characters())
def test_forward_and_backward_sum_over_all_segmentations(text, scores):
    total = log(fsum(exp(score) for _, score in paths(text, scores)))
    assert isclose(twin.forward(text, scores)[-1], total, rel_tol=1e-9, abs_tol=1e-9)
    assert isclose(twin.backward(text, scores)[0], total, rel_tol=1e-9, abs_tol=1e-9)


@settings(deadline=None, max_examples=150)
@given(text=TEXTS, scores=TIED_SCORES)
def test_unreachable_texts_have_probability_zero(text, scores):
    reachable = any(True for _ in paths(text, scores))
    assert (twin.forward(text, scores)[-1] > -inf) == reachable == (twin.backward(text, scores)[0] > -inf)


@settings(deadline=None, max_examples=150)
@given(text=TEXTS, scores=scores_with_characters())
def test_viterbi_is_the_best_of_all_segmentations(text, scores):
    pieces, score = twin.viterbi(text, scores)
    assert "".join(pieces) == text
    assert isclose(score, fsum(scores[piece] for piece in pieces), abs_tol=1e-9)
    assert isclose(score, max(score for _, score in paths(text, scores)), abs_tol=1e-9)


@settings(deadline=None, max_examples=300)
@given(text=st.text("abc☃", min_size=1, max_size=10), scores=TIED_SCORES)
def test_viterbi_equals_the_library_with_ties_and_unknowns(text, scores):
    model = models.Unigram([("<unk>", 0.0), *scores.items()], unk_id=0)
    encoded = trainers.Backend(model).encode(text)
    spans = [text[start:end] for start, end in encoded.offsets]
    # "<unk>" takes part in the library's minimum, and its score 0 is above all others.
    assert twin.viterbi(text, scores)[0] == spans


def test_viterbi_equals_the_library_on_text(tokenizers, corpus):
    backend = tokenizers["unigram"].backend
    scores = {piece: score for piece, score in trainers._scores(backend).items() if score < 0}  # specials have 0
    words = trainers.count_words(backend, [*corpus, "Überraschung! Hundehütte 他们没难过"])
    for word in words:
        ids = [backend.token_to_id(piece) if piece in scores else 3 for piece in twin.viterbi(word, scores)[0]]
        assert ids == [token.id for token in backend.model.tokenize(word)], word


@settings(deadline=None, max_examples=100)
@given(counts=CORPORA, scores=scores_with_characters())
def test_expected_counts_average_over_the_posterior(counts, scores):
    expected = dict.fromkeys(scores, 0.0)
    for word, count in counts.items():
        found = list(paths(word, scores))
        total = fsum(exp(score) for _, score in found)
        for pieces, score in found:
            for piece in pieces:
                expected[piece] += count * exp(score) / total
    computed = training.expected_counts(counts, scores)
    assert computed == pytest.approx({piece: value for piece, value in expected.items() if piece in computed}, rel=1e-6)
    assert all(value == 0 for piece, value in expected.items() if piece not in computed)


@settings(deadline=None, max_examples=100)
@given(counts=CORPORA, scores=scores_with_characters())
def test_em_never_lowers_the_likelihood(counts, scores):
    total = log(fsum(exp(score) for score in scores.values()))
    scores = {piece: score - total for piece, score in scores.items()}  # EM compares distributions
    likelihoods = [training.log_likelihood(counts, scores)]
    for _ in range(5):
        scores = training.em_step(counts, scores)
        assert isclose(fsum(exp(score) for score in scores.values()), 1.0, rel_tol=1e-9)
        likelihoods.append(training.log_likelihood(counts, scores))
    for before, after in pairwise(likelihoods):
        assert after >= before - 1e-9 * max(1.0, abs(before))


def test_em_does_raise_the_likelihood():
    counts = {"hut": 5, "hund": 5, "huhn": 5}
    before = training.seed(counts)
    after = training.em_step(counts, before)
    assert training.log_likelihood(counts, after) > training.log_likelihood(counts, before) + 1


@settings(deadline=None, max_examples=60)
@given(counts=CORPORA, size=st.integers(3, 12))
def test_pruning_keeps_characters_and_the_size(counts, size):
    scores = training.em_step(counts, training.seed(counts), floor=0.5)
    kept = training.prune(counts, scores, size)
    characters = set("".join(counts))
    assert characters <= kept.keys() <= scores.keys()
    assert len(kept) <= max(size, len(characters))
    assert training.log_likelihood(counts, kept) > -inf


def test_pruning_drops_the_piece_that_costs_least():
    counts = {"ab": 9, "cd": 1}
    scores = {**dict.fromkeys("abcd", -3.0), "ab": -1.0, "cd": -1.0}

    def cost(piece):
        without = {other: score for other, score in scores.items() if other != piece}
        return training.log_likelihood(counts, scores) - training.log_likelihood(counts, without)

    assert cost("cd") < cost("ab")
    assert set(scores) - set(training.prune(counts, scores, size=5)) == {"cd"}


@settings(deadline=None, max_examples=30)
@given(counts=CORPORA, size=st.integers(4, 10))
def test_a_trained_vocabulary_spells_its_corpus(counts, size):
    scores = training.train(counts, size)
    assume(len(scores) > 0)
    assert len(scores) <= max(size, len(set("".join(counts))))
    assert all("".join(twin.viterbi(word, scores)[0]) == word for word in counts)
    assert training.log_likelihood(counts, scores) > -inf


def test_library_scores_fit_the_corpus_better_than_characters(corpus):
    backend = train(Unigram(190), corpus).backend
    scores = {piece: score for piece, score in trainers._scores(backend).items() if score < 0}
    words = trainers.count_words(backend, corpus)
    longer = sum(count * len(twin.viterbi(word, scores)[0]) for word, count in words.items())
    characters = sum(count * len(word) for word, count in words.items())
    assert longer < 0.9 * characters
