"""Corruption: measured rates beside their closed forms, and the same text spoilt alike whoever asks."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkv import text
from qkv.data import spans
from qkv.data.batch import IGNORE
from qkv.data.corruption import Masking, Vocabulary, cuts, fill_in_the_middle, fillings, generator, sentinels
from qkv.data.spans import NONE, SpanLengths
from qkv.errors import UserError

V = 50
BEGINS = np.arange(V) % 3 != 0  # a third of the pieces go on with a word
VOCABULARY = Vocabulary(V, 4, np.arange(7, V), BEGINS)
ROWS, LENGTH = 3000, 40
UNITS = [Masking(), Masking(unit="word"), Masking(unit="span")]
named = pytest.mark.parametrize("masking", UNITS, ids=lambda m: m.unit)


def ids(row: int = 0) -> np.ndarray:
    return np.random.default_rng(row).integers(7, V, size=LENGTH)


def near(measured: float, expected: float, n: int, spread: float = 1.0) -> bool:
    """Within five standard deviations of a share of n draws; spread: how much wider than of independent ones."""
    return abs(measured - expected) < 5 * spread * math.sqrt(expected * (1 - expected) / n)


@named
def test_every_token_is_asked_for_at_the_rate_wherever_it_stands(masking: Masking) -> None:
    text_ids = ids()
    asked = np.zeros(LENGTH)
    for row in range(ROWS):
        asked += masking.corrupt(text_ids, VOCABULARY, generator(1, 0, row))[1] != IGNORE
    assert all(near(share, 0.15, ROWS) for share in asked / ROWS)
    together = 1.0 if masking.unit == "token" else 3.5  # tokens of a row are not independent of one another
    assert near(asked.mean() / ROWS, 0.15, ROWS * LENGTH, together)


def test_a_span_that_was_there_before_the_text_is_entered_anywhere() -> None:
    """Lengths 1 to 4, all as likely: unlike geometric ones, what is left of them is no draw of its own."""
    even = SpanLengths(p=1e-9, longest=4)
    chosen = np.zeros(8)
    for row in range(20_000):
        chosen += spans.runs(8, 0.5, generator(7, 0, row), even) != NONE
    assert all(near(share, 0.5, 20_000) for share in chosen / 20_000)


@named
def test_eighty_ten_ten(masking: Masking) -> None:
    """Of the tokens asked for: 0.8 hidden, 0.1 drawn at random, of which one in |ordinary| hits the right one."""
    counts: Counter[str] = Counter()
    for row in range(ROWS):
        text_ids = ids(row)
        read, targets = masking.corrupt(text_ids, VOCABULARY, generator(2, 0, row))
        asked = targets != IGNORE
        assert (targets[asked] == text_ids[asked]).all() and (read[~asked] == text_ids[~asked]).all()
        counts["asked"] += int(asked.sum())
        counts["masked"] += int((read[asked] == VOCABULARY.mask).sum())
        counts["same"] += int((read[asked] == text_ids[asked]).sum())
    n = counts["asked"]
    wide = 1.0 if masking.unit == "token" else 2.5
    assert near(counts["masked"] / n, 0.8, n, wide)
    assert near(counts["same"] / n, 0.1 + 0.1 / len(VOCABULARY.ordinary), n, wide)


def test_spans_have_the_lengths_of_the_truncated_geometric_distribution() -> None:
    """p(k) ∝ 0.2 · 0.8^(k-1), k <= 10: mean 1/p - L·q^L/(1 - q^L), SpanBERT's 3.8; gaps are geometric, 1 at least."""
    lengths = SpanLengths()
    q = 0.8**10
    assert lengths.mean == pytest.approx(5 - 10 * q / (1 - q))
    group = spans.runs(200_000, 0.15, np.random.default_rng(0), lengths)
    change = np.flatnonzero(np.diff(group)) + 1
    pieces = [(group[a], b - a) for a, b in itertools.pairwise(change)]
    found = [n for of, n in pieces if of != NONE]
    for k, p in enumerate(lengths.probabilities, 1):
        assert near(found.count(k) / len(found), float(p), len(found)), k
    gaps = [n for of, n in pieces if of == NONE]
    leave = 0.15 / (0.85 * lengths.mean)
    assert np.mean(gaps) == pytest.approx(1 / leave, rel=0.05)
    assert gaps.count(1) / len(gaps) == pytest.approx(leave, abs=0.02)


def test_the_rest_of_a_span_is_that_of_a_unit_drawn_at_random() -> None:
    """P(rest = k) = P(length >= k) / mean, enumerated over spans, each as likely as it is long."""
    lengths, random = SpanLengths(0.5, 4), np.random.default_rng(0)
    expected = Counter[int]()
    for k, p in enumerate(lengths.probabilities, 1):
        for place in range(k):
            expected[k - place] += float(p) / lengths.mean
    drawn = Counter(lengths.rest(random) for _ in range(20_000))
    assert all(near(drawn[k] / 20_000, p, 20_000) for k, p in expected.items())


@pytest.mark.parametrize("unit", ["word", "span"])
def test_what_is_chosen_together_is_whole_words_and_fares_alike(unit: str) -> None:
    masking = Masking(unit=unit, random=0.0)  # type: ignore[arg-type]
    for row in range(200):
        text_ids = ids(row)
        word = spans.words(text_ids, BEGINS)
        group = masking.groups(text_ids, VOCABULARY, generator(3, 0, row))
        read, targets = masking.corrupt(text_ids, VOCABULARY, generator(3, 0, row))
        assert ((targets != IGNORE) == (group != NONE)).all()
        for one in np.unique(word):
            assert len(np.unique(group[word == one])) == 1
        for one in set(group.tolist()) - {NONE}:
            assert len(np.unique(read[group == one] == VOCABULARY.mask)) == 1


def test_words_by_a_loop() -> None:
    for row in range(50):
        number, slow = -1, []
        for i, token in enumerate(ids(row)):
            number += bool(BEGINS[token]) or i == 0
            slow.append(number)
        assert spans.words(ids(row), BEGINS).tolist() == slow


@named
def test_a_row_of_an_epoch_is_spoilt_in_one_way(masking: Masking) -> None:
    def spoilt(epoch: int, row: int) -> list[int]:
        return masking.corrupt(ids(), VOCABULARY, generator(5, epoch, row))[0].tolist()

    forwards = [spoilt(e, r) for e in range(2) for r in range(20)]
    backwards = [spoilt(e, r) for e in reversed(range(2)) for r in reversed(range(20))]
    assert forwards == backwards[::-1]
    assert forwards[:20] != forwards[20:]


def groups(draw: st.DrawFn) -> np.ndarray:
    return spans.runs(draw(st.integers(1, 30)), 0.4, np.random.default_rng(draw(st.integers(0, 999))))


@given(st.composite(groups)(), st.integers(2, 6))
def test_sentinels_lose_nothing(group: np.ndarray, n_marks: int) -> None:
    """Source and target hold each token once, each mark at most once a side, and together the whole text."""
    marks = list(range(900, 900 + n_marks))
    text_ids = list(range(len(group)))
    source, target = sentinels(text_ids, group, marks)
    told = iter(fillings(target, marks, [x for x in source if x in marks]))
    assert [i for x in source for i in (next(told) if x in marks else [x])] == text_ids
    used = min(len({*group.tolist()} - {NONE}), n_marks - 1)
    assert [x for x in source if x >= 900] == marks[:used]
    assert [x for x in target if x >= 900] == marks[: used + 1]
    assert len(source) + len(target) == len(text_ids) + 2 * used + 1


def test_the_middle_stands_last() -> None:
    marks, firsts = (91, 92, 93), 0
    for row in range(400):
        random = np.random.default_rng(row)
        made = fill_in_the_middle(list(range(12)), random, marks)
        head, mid = made[: made.index(93)], made[made.index(93) + 1 :]
        assert head[0] == 91
        if head[1] == 92:  # suffix first: prefix and middle stand together behind
            firsts += 1
            assert [*mid, *head[2:]] == list(range(12))
        else:
            at = head.index(92)
            assert [*head[1:at], *mid, *head[at + 1 :]] == list(range(12))
    # An empty prefix looks like the other form: <pre> <suf> suffix <mid> middle is both.
    p_empty = 1 - (12 / 13) ** 2
    assert near(firsts / 400, 0.5 + 0.5 * p_empty, 400)


def test_cuts_are_uniform() -> None:
    """The lower of two places drawn from 0 … n is n(2n+1) / (6(n+1)) on average."""
    n, random = 10, np.random.default_rng(0)
    drawn = [cuts(n, random) for _ in range(20_000)]
    assert np.mean([a for a, _ in drawn]) == pytest.approx(n * (2 * n + 1) / (6 * (n + 1)), abs=0.1)
    assert np.mean([b - a for a, b in drawn]) == pytest.approx(n - 2 * n * (2 * n + 1) / (6 * (n + 1)), abs=0.1)


TEXTS = ["the unbelievable cat doesn't sit, it sleeps", "unbelievable cats sleep and sit and the cat"] * 3


@pytest.mark.parametrize(
    "config",
    [text.WordPiece(60, lowercase=False), text.BPE(60), text.Unigram(60), text.ByteBPE(290)],
    ids=lambda c: type(c).__name__,
)
def test_pieces_that_begin_words(config: text.TokenizerConfig) -> None:
    """Joined at their beginnings, the pieces of a text without marks are its words."""
    tokenizer = text.train(config, TEXTS, ["mask"])
    begins = spans.piece_begins(tokenizer)
    sentence = "the unbelievable cat sleeps and sits"
    found = np.array(tokenizer.encode(sentence))
    number = spans.words(found, begins)
    pieces = [tokenizer.decode(found[number == i]).strip() for i in range(number[-1] + 1)]
    assert pieces == sentence.split()
    assert begins[tokenizer.special_ids["mask"]]


def test_characters_and_words_are_words_themselves() -> None:
    assert spans.piece_begins(text.train(text.Characters(), TEXTS)).all()
    assert spans.piece_begins(text.train(text.Words(), TEXTS)).all()


def test_a_random_token_is_never_special() -> None:
    tokenizer = text.train(text.Words(), TEXTS, ["mask", "cls", "sep"])
    vocabulary = Vocabulary.of(tokenizer)
    assert vocabulary.mask == tokenizer.mask_id
    assert not set(vocabulary.ordinary.tolist()) & set(tokenizer.special_ids.values())
    with pytest.raises(UserError, match="has no <mask>"):
        Vocabulary.of(text.train(text.Words(), TEXTS))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"rate": 0.0}, "between 0 and 1"),
        ({"masked": 0.8, "random": 0.3}, "add up"),
        ({"unit": "span", "rate": 0.9}, "cover"),
    ],
)
def test_settings_that_cannot_be(fields: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Masking(**fields)
