"""Weighted counts of words and letters with logistic regression: the plain baseline of every classification.

scikit-learn does both. The strength of regularisation is chosen on a dev set, as are the features, where several sets
are given, by the measure that is reported: an untuned baseline would flatter whatever stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np

from qkv.errors import UserError

Measure = Literal["accuracy", "macro_f1"]
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


@dataclass(frozen=True)
class Features:
    """words: longest run of words that is counted (0: none). characters: longest run of letters within a word (0:
    none), from two on; for texts without spaces between words set `across`, and runs of one letter on are counted
    across whatever stands there. rarest: texts in which a feature must occur."""

    words: int = 2
    characters: int = 0
    across: bool = False
    rarest: int = 1

    def __post_init__(self) -> None:
        if self.words < 1 and self.characters < 1:
            raise ValueError("neither words nor characters are counted; set one of them to 1 or more")

    def build(self) -> Any:
        """A scikit-learn transformer: texts -> rows (1 + log count) · log((1+N)/(1+n) + 1) of length 1, sparse."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import FeatureUnion

        parts: list[tuple[str, Any]] = []
        common: dict[str, Any] = {"sublinear_tf": True, "min_df": self.rarest, "dtype": np.float32}
        if self.words:
            pattern = r"(?u)\w+|[^\w\s]"  # one letter is a word too, and so is a question mark
            parts.append(("words", TfidfVectorizer(ngram_range=(1, self.words), token_pattern=pattern, **common)))
        if self.characters:
            analyzer, least = ("char", 1) if self.across else ("char_wb", min(2, self.characters))
            parts.append(
                ("letters", TfidfVectorizer(analyzer=analyzer, ngram_range=(least, self.characters), **common))
            )
        return FeatureUnion(parts)


@dataclass
class Linear:
    """What was learned. labels: their names, in the order of the columns of `probabilities`. strength: the chosen C.
    tried: the measure on dev of every C, by the features they were tried with."""

    labels: tuple[str, ...]
    features: Features
    strength: float
    vectorizer: Any
    model: Any
    tried: dict[Features, dict[float, float]] = field(default_factory=dict)

    @property
    def reached(self) -> float:
        """The measure on dev by which it was chosen."""
        return self.tried[self.features][self.strength]

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """[N,C], rows sum to 1."""
        return self.model.predict_proba(self.vectorizer.transform(texts))

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The likeliest label of each text."""
        return [self.labels[i] for i in self.probabilities(texts).argmax(1)]

    def accuracy(self, texts: Sequence[str], labels: Sequence[str]) -> float:
        """The share of texts whose likeliest label is theirs."""
        return float(np.mean([a == b for a, b in zip(self.predict(texts), labels, strict=True)]))


def learn(
    texts: Sequence[str],
    labels: Sequence[str],
    dev_texts: Sequence[str],
    dev_labels: Sequence[str],
    features: Sequence[Features] = (Features(),),
    strengths: Sequence[float] = STRENGTHS,
    balanced: bool = False,
    measure: Measure = "accuracy",
) -> Linear:
    """The classifier that is best on dev: minimises Σ −log p(label) + |w|²/2C, for every C and every set of features.

    balanced: weigh each text by 1/(number of its label). measure: what is best by. Of equally good ones the first, with
    the smaller C, is kept.
    Raises UserError when scikit-learn is not installed or there are fewer than two labels.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import accuracy_score, f1_score
    except ImportError as error:
        raise UserError("this baseline needs scikit-learn, which is not installed; pip install 'qkv[tasks]'") from error
    if len(set(labels)) < 2:
        raise UserError(f"the training data has {len(set(labels))} label; give rows of at least two")
    score = accuracy_score if measure == "accuracy" else partial(f1_score, average="macro", zero_division=0.0)
    best: tuple[float, Linear] | None = None
    tried: dict[Features, dict[float, float]] = {}
    for chosen in features:
        vectorizer = chosen.build()
        rows, dev = vectorizer.fit_transform(texts), vectorizer.transform(dev_texts)
        tried[chosen] = {}
        for strength in strengths:
            weight = "balanced" if balanced else None
            model = LogisticRegression(C=strength, max_iter=1000, class_weight=weight).fit(rows, labels)
            tried[chosen][strength] = reached = float(score(list(dev_labels), model.predict(dev)))
            if best is None or reached > best[0]:
                best = reached, Linear(tuple(map(str, model.classes_)), chosen, strength, vectorizer, model, tried)
    assert best is not None
    return best[1]
