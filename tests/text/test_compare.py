"""Comparing tokenizers: the code against its definition, typos, numbers, sampling, seeded dropout."""

from __future__ import annotations

import random
from collections import Counter
from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkv import text
from qkv.errors import UserError
from qkv.text import BPE, ByteBPE, Characters, Unigram, WordPiece
from qkv.text.compare import Code, changed, compare, cuts, number_cuts, sampled, shares, typos
from qkv.text.dropout import DroppedMerges
from qkv.text.twins.unigram import forward, viterbi

CORPUS = ["the lower tower", "the low town grows lower", "a new tower is newer than the lower one"] * 4


def test_bits_are_those_of_the_smoothed_frequencies_and_unknown_text_is_paid_for() -> None:
    tokenizer = text.train(Characters(), ["aab"])
    code = Code.learn(tokenizer, ["aab"])
    total = 3 + tokenizer.vocab_size
    spelled = -log2(3 / total) - log2(2 / total)
    assert code.bits_per_byte(["ab"]) == pytest.approx(spelled / 2)
    unknown = -log2(1 / total) + 16
    assert code.bits_per_byte(["ü"]) == pytest.approx(unknown / 2)
    assert sum(2**-bits for bits in code.bits) == pytest.approx(1.0)


def test_a_unigram_code_of_words_is_their_entropy() -> None:
    """On its own corpus and without smoothing's share it tends to the entropy of the tokens."""
    texts = ["a b a c"] * 500
    tokenizer = text.train(text.Words(), texts)
    bits = Code.learn(tokenizer, texts).bits_per_byte(texts) * len("a b a c")
    assert bits == pytest.approx(4 * 1.5, abs=0.05)


@given(st.lists(st.text("abcdef", min_size=1, max_size=9), min_size=1, max_size=8), st.integers(0, 9))
def test_a_typo_is_one_slip(words: list[str], seed: int) -> None:
    spoilt = typos(words, seed)
    assert spoilt == typos(words, seed)
    for before, after in zip(words, spoilt, strict=True):
        assert abs(len(before) - len(after)) <= 1
        assert (Counter(before) - Counter(after)).total() <= 1 and (Counter(after) - Counter(before)).total() <= 1


def test_what_a_typo_does_to_pieces() -> None:
    whole = text.train(BPE(vocab_size=200, min_frequency=1), CORPUS)
    single = text.train(Characters(), CORPUS)
    held = ["the lower tower grows"]
    merged, spelled = (compare(Code.learn(t, CORPUS), held) for t in (whole, single))
    assert merged.fertility < spelled.fertility
    assert merged.changed > spelled.changed
    assert merged.longer > 1.3 > spelled.longer
    assert merged.unknown == spelled.unknown == 0
    assert changed([1, 2], [1, 2]) == 0 and changed([1], []) == 1


def test_numbers_are_cut_alike_by_characters_and_not_by_merges() -> None:
    texts = [f"{n} and {n * 7}" for n in range(1, 3000, 3)]
    digits, merged = text.train(Characters(), texts), text.train(BPE(vocab_size=300), texts)
    assert number_cuts(digits, 4) == (4.0, 1.0)
    tokens, alike = number_cuts(merged, 4)
    assert tokens < 3 and alike < 0.9
    assert cuts(digits, "123") == (1, 1, 1) and sum(cuts(merged, "1234")) == 4


def test_temperature_moves_text_to_the_small_language() -> None:
    assert shares({"a": 95, "b": 5}, 1.0) == pytest.approx({"a": 0.95, "b": 0.05})
    assert shares({"a": 95, "b": 5}, 0.0) == pytest.approx({"a": 0.5, "b": 0.5})
    texts = {"a": ["x"] * 950, "b": ["y"] * 50}
    drawn = Counter(sampled(texts, 0.3, 20_000))
    assert drawn["y"] / 20_000 == pytest.approx(shares({"a": 950, "b": 50}, 0.3)["b"], abs=0.015)
    assert sampled(texts, 0.3, 9) == sampled(texts, 0.3, 9)


@pytest.mark.parametrize(
    "config", [BPE(150, min_frequency=1), BPE(420, min_frequency=1, byte_fallback=True), ByteBPE(320, min_frequency=1)]
)
def test_without_dropout_it_is_the_tokenizer_and_with_all_it_is_characters(config: text.TokenizerConfig) -> None:
    tokenizer = text.train(config, CORPUS)
    dropped, draw = DroppedMerges(tokenizer), random.Random(0)
    for line in [*CORPUS[:3], "newest töwn ☃", "two  spaces", "<pad> low"]:
        assert dropped.encode(line, 0.0, draw) == tokenizer.encode(line)
        if "☃" not in line:
            apart = dropped.encode(line, 1.0, draw)
            assert len(apart) >= len(tokenizer.normalize(line)) - (0 if isinstance(config, ByteBPE) else 1)
        once, again = (dropped.encode(line, 0.5, random.Random(7)) for _ in range(2))
        assert once == again
        if "ö" not in line:
            assert tokenizer.decode(once) == tokenizer.decode(tokenizer.encode(line))


def test_dropout_makes_many_segmentations_of_one_word() -> None:
    dropped, draw = DroppedMerges(text.train(BPE(150, min_frequency=1), CORPUS)), random.Random(0)
    found = {tuple(dropped.encode("lower tower", 0.3, draw)) for _ in range(200)}
    assert len(found) > 10
    assert len({tuple(dropped.encode("lower tower", 0.0, draw)) for _ in range(20)}) == 1


def test_dropout_needs_merges() -> None:
    with pytest.raises(UserError, match="a WordPiece tokenizer has none"):
        DroppedMerges(text.train(WordPiece(100, min_frequency=1), CORPUS))
    with pytest.raises(UserError, match="a Unigram tokenizer has none"):
        DroppedMerges(text.train(Unigram(60), CORPUS))
    with pytest.raises(UserError, match="from 0 to 1"):
        DroppedMerges(text.train(BPE(100), CORPUS)).encode("a", 1.5, random.Random(0))


def test_the_best_segmentation_is_never_likelier_than_all_of_them() -> None:
    scores = {"a": -1.2, "b": -1.5, "ab": -1.9, "ba": -2.2, "aba": -2.9}
    for word in ("abab", "aabb", "babab"):
        assert viterbi(word, scores)[1] <= forward(word, scores)[-1]
