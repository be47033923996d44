"""Metrics against figures worked out by hand, brute force and sacrebleu itself."""

from __future__ import annotations

import functools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkv.tasks.metrics import (
    edit_distance,
    exact_match,
    language_model_scores,
    pronunciation_errors,
    translation_scores,
)

words = st.lists(st.sampled_from("abc"), max_size=6)


@given(words, words)
def test_edit_distance_is_the_recursive_definition(a: list[str], b: list[str]) -> None:
    @functools.cache
    def slow(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        return min(slow(i - 1, j) + 1, slow(i, j - 1) + 1, slow(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    assert edit_distance(a, b) == slow(len(a), len(b))


def test_any_listed_pronunciation_counts_and_the_nearest_is_the_measure() -> None:
    scores = pronunciation_errors(["A B C", "A X"], [["D E F G", "A B"], ["A X", "B"]])
    # The first is one insertion away from "A B" (length 2), the second right (length 2).
    assert scores == {"word_error": 0.5, "phoneme_error": 1 / 4}


def test_of_equally_near_pronunciations_the_longest_is_divided_by() -> None:
    assert pronunciation_errors(["A B"], [["A", "A B C"]])["phoneme_error"] == 1 / 3
    assert pronunciation_errors(["A B"], [["A B C", "A"]])["phoneme_error"] == 1 / 3


def test_an_empty_prediction_loses_every_phoneme() -> None:
    assert pronunciation_errors([""], [["A B C"]]) == {"word_error": 1.0, "phoneme_error": 1.0}


def test_exact_match_takes_any_reference() -> None:
    assert exact_match(["a", "b", "c"], [["x", "a"], ["b"], ["d"]]) == 2 / 3


def test_bleu_is_sacrebleus_and_case_matters_to_the_first_only() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    said = ["Ein hund läuft durch das Gras.", "Zwei Männer reden ."]
    right = ["Ein Hund läuft durch das Gras.", "Zwei Männer reden."]
    scores = translation_scores(said, [[r] for r in right])
    assert scores["bleu"] == sacrebleu.corpus_bleu(said, [right]).score < scores["bleu_lowercase_tokenized"]
    assert scores["bleu_lowercase_tokenized"] == pytest.approx(100.0)
    assert "tok:13a" in scores["signature"] and "case:mixed" in scores["signature"]


def test_references_of_different_numbers_score_like_the_best_of_them() -> None:
    pytest.importorskip("sacrebleu")
    said = ["the cat sat on the mat", "hello big wide world"]
    scores = translation_scores(said, [["no", said[0]], [said[1]]])
    assert scores["bleu"] == pytest.approx(100.0)


def test_bits_do_not_depend_on_the_tokenizer() -> None:
    by_char = language_model_scores(10.0, 5, "fünf!")
    by_word = language_model_scores(10.0, 1, "fünf!")
    assert by_char["bits_per_char"] == by_word["bits_per_char"] == pytest.approx(10 / math.log(2) / 5)
    assert by_char["bits_per_byte"] == pytest.approx(10 / math.log(2) / 6)
    assert by_char["perplexity"] == pytest.approx(math.exp(2)) and by_word["loss"] == 10.0
