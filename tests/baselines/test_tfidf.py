"""TF-IDF with logistic regression: the formula by hand, the optimum by its gradient, tuning on dev alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qkv.baselines.tfidf import Features, learn
from qkv.errors import UserError

TEXTS = ["a good film", "a bad film", "good good", "bad bad ?", "a film", "good !"]
LABELS = ["y", "n", "y", "n", "n", "y"]


def test_weights_are_those_of_the_formula() -> None:
    vectorizer = Features(words=1).build()
    row = vectorizer.fit_transform(TEXTS).toarray()[3]
    counts = {"bad": (2, 2), "?": (1, 1)}  # count in this text, texts that hold it
    slow = {w: (1 + math.log(n)) * (math.log((1 + 6) / (1 + df)) + 1) for w, (n, df) in counts.items()}
    length = math.sqrt(sum(value**2 for value in slow.values()))
    names = [name.removeprefix("words__") for name in vectorizer.get_feature_names_out()]
    assert {w: row[names.index(w)] for w in slow} == pytest.approx({w: v / length for w, v in slow.items()}, rel=1e-5)
    assert row.sum() == pytest.approx(sum(slow.values()) / length, rel=1e-5)


def test_the_gradient_is_zero_where_it_stops() -> None:
    found = learn(TEXTS, LABELS, TEXTS, LABELS, strengths=(2.0,))
    rows = found.vectorizer.transform(TEXTS).toarray()
    right = np.array([label == "y" for label in LABELS])
    gradient = 2.0 * rows.T @ (found.probabilities(TEXTS)[:, 1] - right) + found.model.coef_[0]
    assert np.abs(gradient).max() < 1e-2
    assert found.labels == ("n", "y") and found.accuracy(TEXTS, LABELS) == 1.0


def test_dev_chooses() -> None:
    """Words say nothing here and letters all: the set with letters is taken, whichever comes first."""
    train = ["walked", "talked", "walking", "talking"] * 2
    labels = ["past", "past", "now", "now"] * 2
    dev, right = ["jumped", "jumping"], ["past", "now"]
    sets = [Features(words=1), Features(words=0, characters=4)]
    for features in (sets, sets[::-1]):
        found = learn(train, labels, dev, right, features)
        assert found.features == sets[1] and found.predict(["hopped"]) == ["past"]
        assert len(found.tried) == 2 and max(found.tried[sets[0]].values()) <= 0.5


def test_it_is_chosen_by_what_is_reported() -> None:
    """With strong regularisation the frequent label is all there is: macro F1 says so, accuracy hides it."""
    train, labels = ["ab", "ab", "ab", "cb"], ["often", "often", "often", "rare"]
    dev, right = ["ab"] * 8 + ["cb"] * 2, ["often"] * 8 + ["rare"] * 2
    by = {}
    for measure in ("accuracy", "macro_f1"):
        found = [learn(train, labels, dev, right, strengths=(c,), measure=measure) for c in (0.01, 100.0)]
        by[measure] = [each.reached for each in found]
    assert by["accuracy"] == pytest.approx([0.8, 1.0])
    assert by["macro_f1"] == pytest.approx([(2 * 8 / (8 + 10)) / 2, 1.0]), "F1 is 16/18 of the frequent label, 0 else"


def test_only_training_texts_are_counted() -> None:
    found = learn(TEXTS, LABELS, ["a new film"], ["y"])
    names = {name.removeprefix("words__") for name in found.vectorizer.get_feature_names_out()}
    assert "film" in names and "new" not in names
    assert learn(TEXTS, LABELS, ["a new film"] * 9, ["y"] * 9).vectorizer.transform(["good"]).toarray() == (
        pytest.approx(found.vectorizer.transform(["good"]).toarray())
    ), "nor is how often words are in the others"


def test_balanced_labels_weigh_alike() -> None:
    """Of a word that is not known, only how often labels were seen can be told; balanced, not even that."""
    texts, labels = ["x a"] * 8 + ["x b"] * 2, ["often"] * 8 + ["rare"] * 2
    plain, fair = (
        learn(texts, labels, texts, labels, strengths=(1.0,), balanced=balanced) for balanced in (False, True)
    )
    assert plain.probabilities(["nothing"])[0, 0] > 0.7
    assert fair.probabilities(["nothing"])[0, 0] == pytest.approx(0.5, abs=0.02)


def test_chinese_by_letters() -> None:
    found = learn(
        ["很好", "不好", "好吃", "难吃"], ["y", "n", "y", "n"], ["很好吃"], ["y"], [Features(0, 2, across=True)]
    )
    assert found.predict(["很好吃", "不难吃"]) == ["y", "n"]


def test_what_cannot_be() -> None:
    with pytest.raises(UserError, match="at least two"):
        learn(["a"], ["x"], ["a"], ["x"])
    with pytest.raises(ValueError, match="neither words nor characters"):
        Features(words=0)
