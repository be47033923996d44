"""How good entities are, and intents with slots: strict entity scores by seqeval, sentence accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qkv.errors import UserError
from qkv.tasks.schemes import Scheme, entities

Tags = Sequence[Sequence[str]]
"""The tags of each row."""


def entity_scores(given: Tags, right: Tags, scheme: Scheme) -> dict[str, Any]:
    """Precision, recall and F1 over all entities, and of each type, in `types`.

    An entity counts where its type and both its ends are right. Strict: tags that break their scheme make no entity
    (seqeval, mode="strict", of the scheme). `lenient_f1` reads broken ones as generously as conlleval does: an I-x
    without a B-x begins an entity. Raises UserError when seqeval is not installed.

    >>> scores = entity_scores([["B-x", "I-x", "O", "I-y"]], [["B-x", "I-x", "O", "B-y"]], "bio")
    >>> round(scores["f1"], 3), round(scores["lenient_f1"], 3), scores["types"]["x"]["f1"]
    (0.667, 1.0, 1.0)
    """
    metrics, schemes = _seqeval()
    if not any(tag != "O" for rows in (given, right) for tags in rows for tag in tags):
        return {"precision": 0.0, "recall": 0.0, "f1": 0.0, "lenient_f1": 0.0, "types": {}}
    lists = [[[_iobes(tag) for tag in tags] for tags in rows] for rows in (right, given)]
    reader = schemes.IOB2 if scheme == "bio" else schemes.IOBES
    report = metrics.classification_report(*lists, mode="strict", scheme=reader, output_dict=True, zero_division=0)
    total = report.pop("micro avg")
    types = {name: _plain(of) for name, of in report.items() if not name.endswith(" avg")}
    strict = {"precision": total["precision"], "recall": total["recall"], "f1": total["f1-score"]}
    lenient = metrics.f1_score(*lists, zero_division=0)
    return {**{k: float(v) for k, v in strict.items()}, "lenient_f1": float(lenient), "types": types}


def broken(given: Tags, scheme: Scheme) -> float:
    """The share of rows whose tags break their scheme: some tag belongs to no entity.

    >>> broken([["O", "I-x"], ["B-x", "I-x"]], "bio")
    0.5
    """
    wrong = 0
    for tags in given:
        inside = {i for entity in entities(tags, scheme) for i in range(entity.start, entity.end)}
        wrong += any(tag != "O" and i not in inside for i, tag in enumerate(tags))
    return wrong / max(1, len(given))


def joint_scores(
    given: Tags, right: Tags, intents: Sequence[str], right_intents: Sequence[str], scheme: Scheme
) -> dict[str, Any]:
    """Intent accuracy, slot F1 and the share of sentences in which the intent and every tag are right. What was never
    seen in training is wrong, as it must be."""
    hits = [a == b for a, b in zip(intents, right_intents, strict=True)]
    same = [list(a) == list(b) for a, b in zip(given, right, strict=True)]
    slots = entity_scores(given, right, scheme)
    return {
        "intent_accuracy": sum(hits) / max(1, len(hits)),
        "slot_f1": slots["f1"],
        "sentence_accuracy": sum(a and b for a, b in zip(hits, same, strict=True)) / max(1, len(hits)),
        "slot_precision": slots["precision"],
        "slot_recall": slots["recall"],
        "types": slots["types"],
    }


def _iobes(tag: str) -> str:
    """seqeval knows BMES by the letters of IOBES."""
    return f"I{tag[1:]}" if tag.startswith("M-") else tag


def _plain(of: dict[str, Any]) -> dict[str, float]:
    return {
        "precision": float(of["precision"]),
        "recall": float(of["recall"]),
        "f1": float(of["f1-score"]),
        "entities": int(of["support"]),
    }


def _seqeval() -> tuple[Any, Any]:
    try:
        from seqeval import metrics, scheme
    except ImportError as error:
        raise UserError("entity scores need seqeval, which is not installed; pip install 'qkv[tasks]'") from error
    return metrics, scheme
