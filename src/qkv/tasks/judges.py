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
from qkv.data.splits import hundredth
from qkv.errors import UserError
from qkv.models import Choice
from qkv.tasks.audit import FitPredict, Said
from qkv.tasks.classify import LABEL, Classify
from qkv.tasks.folder import open_run
from qkv.tasks.recipe import Recipe
from qkv.tasks.train import train

DEV = 10  # of a hundred training texts, so many choose the best weights


def by_recipe(recipe: Recipe) -> FitPredict:
    """Trains the recipe anew in a folder that is thrown away, from its `init` if it has one; its own data is not read.

    A tenth of the rows to train on, by a hash of their text, chooses the weights: never rows held out. Raises UserError
    for a recipe that does not classify with one label a text."""
    task = recipe.task
    if not isinstance(task, Classify) or not isinstance(task.output, Choice):
        raise UserError("this recipe does not give one label a text; take one with task: classify and output: choice")

    start = open_run(recipe.init) if recipe.init else None

    def fit_predict(rows: Sequence[Labelled], held: Sequence[Labelled]) -> Said:
        with tempfile.TemporaryDirectory(prefix="qkv-audit-") as made:
            folder = Path(made)
            fitted, choosing = _split(rows)
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
    """Rows to fit and rows to choose weights by; a label that only the latter would have is fitted."""
    fitted = [row for row in rows if hundredth(row.text) >= DEV]
    labels = {row.labels for row in fitted}
    choosing = [row for row in rows if hundredth(row.text) < DEV and row.labels in labels]
    kept = {id(row) for row in choosing}
    return [row for row in rows if id(row) not in kept], choosing or list(rows)


def _write(path: Path, rows: Sequence[Labelled]) -> None:
    """Rows as a file of one's own."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            second = {} if row.second is None else {"second": row.second}
            print(json.dumps({"text": row.text, "label": row.labels[0], **second}), file=file)


def by_tfidf(choices: Sequence[Features] = (Features(),), strengths: Sequence[float] = (1.0, 10.0)) -> FitPredict:
    """Logistic regression on TF-IDF, tuned anew each time on a tenth of the rows to train on, where there is a choice.

    Raises UserError when scikit-learn is not installed."""

    def fit_predict(rows: Sequence[Labelled], held: Sequence[Labelled]) -> Said:
        fitted, choosing = _split(rows) if len(choices) * len(strengths) > 1 else (list(rows), list(rows))
        parts = [([_joined(row) for row in part], [row.labels[0] for row in part]) for part in (fitted, choosing)]
        found = tfidf.learn(*parts[0], *parts[1], choices, strengths)
        return found.labels, found.probabilities([_joined(row) for row in held])

    return fit_predict


def _joined(row: Labelled) -> str:
    return row.text if row.second is None else f"{row.text} {row.second}"
