"""Classifiers as one function (rows to train on, rows held out) -> probabilities: what an audit asks."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from qkv.baselines import tfidf
from qkv.baselines.tfidf import Features
from qkv.data.datasets import LabelledFiles
from qkv.data.labelled import Labelled
from qkv.errors import UserError
from qkv.models import Choice
from qkv.tasks.audit import FitPredict, Said, equal_texts, folds
from qkv.tasks.classify import LABEL, Classify
from qkv.tasks.folder import open_run
from qkv.tasks.recipe import Recipe
from qkv.tasks.train import train

PARTS = 10  # one of so many parts of the rows to train on chooses the best weights


def by_recipe(recipe: Recipe, spared: bool = True) -> FitPredict:
    """Trains the recipe anew in a folder that is thrown away, from its `init` if it has one; its own data is not read.

    spared: a tenth of the rows to train on is not fitted and chooses the weights; else all are fitted, and the same
    ones choose. Never do rows held out. Raises UserError for a recipe that does not classify with one label a text."""
    task = recipe.task
    if not isinstance(task, Classify) or not isinstance(task.output, Choice):
        raise UserError("this recipe does not give one label a text; take one of the task classify with output: choice")

    start = open_run(recipe.init) if recipe.init else None

    def fit_predict(rows: Sequence[Labelled], held: Sequence[Labelled]) -> Said:
        with tempfile.TemporaryDirectory(prefix="qkv-audit-") as made:
            folder = Path(made)
            fitted, choosing = _split(rows) if spared else (rows, rows)
            files = {"train": fitted, "dev": choosing}
            for name, part in files.items():
                _write(folder / f"{name}.jsonl", part)
            data = LabelledFiles(*(str(folder / f"{name}.jsonl") for name in files))
            settings = replace(recipe.training, tensorboard=False)
            train(replace(recipe, data=data, training=settings), folder / "run", say=lambda _: None, start=start)
            system = open_run(folder / "run").system
        decided = task.decide(system, held)
        p = np.zeros((len(held), len(decided[0].labels)))
        for row, decision in enumerate(decided):
            p[row, decision.labels] = decision.probabilities
        return system.tokenizers.labels[LABEL].names, p

    return fit_predict


def _split(rows: Sequence[Labelled]) -> tuple[list[Labelled], list[Labelled]]:
    """Rows to fit, and rows to choose by: a tenth of the texts of every label, but for labels that would not be fitted
    then. Of fewer than ten texts all are fitted, and the same ones choose.

    Not by `data.splits.cut`: a corpus may be what that cut has left."""
    if len(equal_texts(rows)) < PARTS:
        return list(rows), list(rows)
    held = folds(rows, PARTS) == 0
    labels = {row.labels for row, out in zip(rows, held, strict=True) if not out}
    fitted: list[Labelled] = []
    choosing: list[Labelled] = []
    for row, out in zip(rows, held, strict=True):
        (choosing if out and row.labels in labels else fitted).append(row)
    return fitted, choosing


def _write(path: Path, rows: Sequence[Labelled]) -> None:
    """Rows as a file of one's own."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            second = {} if row.second is None else {"second": row.second}
            print(json.dumps({"text": row.text, "label": row.labels[0], **second}), file=file)


def by_tfidf(choices: Sequence[Features] = (Features(),), strengths: Sequence[float] = (1.0, 10.0)) -> FitPredict:
    """Logistic regression on TF-IDF of all rows to train on, tuned anew each time, where there is a choice: fitted to
    nine tenths of them, the other tenth chooses.

    Raises UserError when scikit-learn is not installed."""

    def fit_predict(rows: Sequence[Labelled], held: Sequence[Labelled]) -> Said:
        every, chosen = _columns(rows), (choices, strengths)
        if len(choices) * len(strengths) > 1:
            fitted, choosing = map(_columns, _split(rows))
            tuned = tfidf.learn(*fitted, *choosing, *chosen)
            chosen = [tuned.features], [tuned.strength]
        found = tfidf.learn(*every, *every, *chosen)
        return found.labels, found.probabilities(_columns(held)[0])

    return fit_predict


def _columns(rows: Sequence[Labelled]) -> tuple[list[str], list[str]]:
    """Texts, those of a pair after each other, and their labels."""
    texts = [row.text if row.second is None else f"{row.text} {row.second}" for row in rows]
    return texts, [row.labels[0] for row in rows]
