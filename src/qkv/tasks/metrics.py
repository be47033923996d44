"""How good predictions are: BLEU and chrF, word and phoneme error, exact match, perplexity and bits.

Rates are fractions of 1, BLEU and chrF are points of 100. Every function takes all rows at once, because corpus scores
are ratios of sums and not means of ratios.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from qkv.errors import UserError
from qkv.models import Decision

References = Sequence[Sequence[str]]
"""Per row every reference that counts as right."""


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """The fewest insertions, deletions and substitutions that turn a into b (Levenshtein 1966), in O(|a|·|b|).

    >>> edit_distance("HH AH L OW".split(), "HH EH L".split())
    2
    """
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def exact_match(predictions: Sequence[str], references: References) -> float:
    """The share of predictions that equal one of their references."""
    return sum(p in refs for p, refs in zip(predictions, references, strict=True)) / max(1, len(predictions))


def pronunciation_errors(predictions: Sequence[str], references: References) -> dict[str, float]:
    """Word and phoneme error rate; any listed pronunciation counts.

    A word is wrong when its prediction is none of the listed ones. The phoneme error rate is Σ edits / Σ length, where
    each word is compared with the listed pronunciation that is nearest (of equally near ones the longest).

    >>> pronunciation_errors(["T AH", "K"], [["T EY T OW", "T AH"], ["K AE T"]])
    {'word_error': 0.5, 'phoneme_error': 0.4}
    """
    wrong = edits = length = 0
    for prediction, listed in zip(predictions, references, strict=True):
        said = prediction.split()
        distances = [(edit_distance(said, reference.split()), -len(reference.split())) for reference in listed]
        nearest, negative_length = min(distances)
        wrong += nearest > 0
        edits += nearest
        length -= negative_length
    return {"word_error": wrong / max(1, len(predictions)), "phoneme_error": edits / max(1, length)}


def translation_scores(predictions: Sequence[str], references: References) -> dict[str, Any]:
    """BLEU by sacrebleu's 13a tokens, cased, on detokenised text; the same lower-cased; chrF (Post 2018; Popović 2015).

    `bleu` is the one to quote. `bleu_lowercase_tokenized` compares lower-cased 13a tokens, which is near what papers
    mean that score tokenised lower-cased text. Raises UserError when sacrebleu is not installed.
    """
    try:
        from sacrebleu.metrics import BLEU, CHRF
    except ImportError as error:
        raise UserError("BLEU needs sacrebleu, which is not installed; pip install 'qkv[tasks]'") from error
    most = max(map(len, references))
    # sacrebleu wants one list a reference number; None says that a row has fewer.
    streams: Any = [[refs[i] if i < len(refs) else None for refs in references] for i in range(most)]
    bleu = BLEU()
    score = bleu.corpus_score(list(predictions), streams)
    return {
        "bleu": score.score,
        "bleu_lowercase_tokenized": BLEU(lowercase=True).corpus_score(list(predictions), streams).score,
        "chrf": CHRF().corpus_score(list(predictions), streams).score,
        "signature": str(bleu.get_signature()),
    }


def language_model_scores(nats: float, tokens: float, text: str) -> dict[str, float]:
    """Of `nats` lost on `tokens` predictions that spell `text`: loss and perplexity per token, bits per character and
    per byte. The latter two do not depend on the tokenizer.

    >>> language_model_scores(math.log(2) * 4, 2, "ab")["bits_per_char"]
    2.0
    """
    loss = nats / max(1.0, tokens)
    bits = nats / math.log(2)
    return {
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)),
        "bits_per_char": bits / max(1, len(text)),
        "bits_per_byte": bits / max(1, len(text.encode())),
    }


def choice_scores(decided: Sequence[Decision], right: Sequence[int]) -> dict[str, float]:
    """Accuracy, macro F1 over the labels that occur or are given, log loss in nats and expected calibration error.

    The calibration error is Σ_bins n/N · |accuracy − confidence| over 15 bins of equal width (Guo et al. 2017). Raises
    UserError when scikit-learn is not installed.
    """
    f1_score = _scikit_learn("F1").f1_score
    given = [decision.labels[0] for decision in decided]
    hits = np.array([a == b for a, b in zip(given, right, strict=True)], dtype=float)
    confidence = np.array([decision.probabilities[0] for decision in decided])
    true = [dict(zip(d.labels, d.probabilities, strict=True)).get(r, 0.0) for d, r in zip(decided, right, strict=True)]
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [abs(float((hits[bins == b] - confidence[bins == b]).sum())) for b in range(15)]
    return {
        "accuracy": float(hits.mean()),
        "macro_f1": float(f1_score(list(right), given, average="macro", zero_division=0.0)),
        "log_loss": float(-np.log(np.maximum(true, 1e-12)).mean()),
        "calibration_error": sum(gaps) / len(hits),
    }


def several_scores(decided: Sequence[Decision], right: Sequence[Sequence[int]]) -> dict[str, float]:
    """Micro F1 over all labels of all rows, F1 of each row on average, and the share of rows that are exactly right."""
    both = given = there = exact = 0
    rows = 0.0
    for decision, labels in zip(decided, map(set, right), strict=True):
        found = set(decision.labels)
        common = len(found & labels)
        both, given, there, exact = both + common, given + len(found), there + len(labels), exact + (found == labels)
        rows += 2 * common / (len(found) + len(labels)) if found or labels else 1.0
    return {
        "micro_f1": 2 * both / max(1, given + there),
        "row_f1": rows / len(decided),
        "exact_match": exact / len(decided),
    }


def _scikit_learn(what: str) -> Any:
    try:
        from sklearn import metrics
    except ImportError as error:
        raise UserError(f"{what} needs scikit-learn, which is not installed; pip install 'qkv[tasks]'") from error
    return metrics
