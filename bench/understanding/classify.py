"""Classification: a Transformer and a CNN trained by the recipes, TF-IDF with logistic regression, a frozen encoder.

Every model is chosen on dev, which is cut from the training file, and reported on test, which nothing was chosen on.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from bench.understanding.records import Cell, Results, spread, table
from qkv.baselines import tfidf
from qkv.data.labelled import Labelled
from qkv.decoding import Greedy
from qkv.tasks import recipe as recipes
from qkv.tasks.calibration import scores_of, temperature
from qkv.tasks.classify import LABEL
from qkv.tasks.folder import open_run
from qkv.tasks.train import train

CNN = [
    "model={convolution: {stack: {d_embedding: 128, embedding: {dropout: 0.2}}}}",
    "task.classify.output={choice: {pooling: max, dropout: 0.5}}",
]
RECIPES = {
    "trec": "TREC, 6 labels",
    "sst2": "SST-2",
    "banking77": "BANKING77",
    "r8": "R8",
    "chnsenticorp": "ChnSentiCorp (zh)",
    "ag-news": "AG News, 5,327 to train on",
    "sarcasm": "sarcasm, headlines",
    "isarcasm": "sarcasm, tweets",
}
FIGURE = {"isarcasm": "macro_f1"}
SPLITS = """Dev is cut from the training file by a hash of the text; test is the dev file that was published (SST-2,
ChnSentiCorp) or made for us (headlines), else a tenth of the only file (AG News: a fifth). So figures are not those of
published test files. Words, letters, C, and the step of the weights are chosen on dev. CNN: Kim 2014."""
LATIN = [tfidf.Features(1), tfidf.Features(2), tfidf.Features(2, 5)]
HAN = [tfidf.Features(0, 2, across=True), tfidf.Features(0, 3, across=True)]


@cache
def rows(recipe: str, split: Any) -> list[Labelled]:
    """The rows of a recipe's dataset."""
    chosen = recipes.load(recipe)
    return chosen.task.load(chosen.data, split)


def fit(recipe: str, overrides: Sequence[str], folder: Path) -> Cell:
    """Train a recipe, calibrate it on dev, measure it on test. The folder goes when its figures are known."""
    chosen = recipes.load(recipe, [*overrides, "training.tensorboard=false"])
    result = train(chosen, folder, say=lambda _: None)
    run = open_run(folder)
    task, data = run.recipe.task, run.recipe.data
    test, dev = task.load(data, "test"), task.load(data, "dev")
    plain = task.evaluate(run.system, test, Greedy())
    output: Any = run.system.model.outputs[LABEL]  # type: ignore[union-attr, index]
    output.temperature.fill_(fitted := temperature(*scores_of(run.system, task, dev)))
    scaled = task.evaluate(run.system, test, Greedy())
    shutil.rmtree(folder)
    return {
        **plain,
        "seconds": result.elapsed,
        "steps": result.step,
        "parameters": sum(p.numel() for p in run.system.model.parameters()),
        "temperature": fitted,
        "calibrated_error": scaled["calibration_error"],
        "calibrated_loss": scaled["log_loss"],
    }


def linear(train_rows: Sequence[Labelled], dev: Sequence[Labelled], test: Sequence[Labelled], han: bool) -> Cell:
    """TF-IDF with logistic regression, features and C chosen on dev."""
    (texts, labels), (dev_texts, dev_labels), (test_texts, test_labels) = map(columns, (train_rows, dev, test))
    found = tfidf.learn(texts, labels, dev_texts, dev_labels, HAN if han else LATIN)
    chosen = {"C": found.strength, "words": found.features.words, "characters": found.features.characters}
    return {**measures(found.predict(test_texts), test_labels), **chosen}


def measures(given: Sequence[str], right: Sequence[str]) -> Cell:
    """Accuracy and macro F1."""
    from sklearn.metrics import f1_score

    hits = sum(a == b for a, b in zip(given, right, strict=True)) / len(right)
    return {"accuracy": hits, "macro_f1": float(f1_score(right, given, average="macro", zero_division=0.0))}


def columns(some: Sequence[Labelled]) -> tuple[list[str], list[str]]:
    """Texts, and their labels."""
    return [row.text for row in some], [row.labels[0] for row in some]


def settings(name: str) -> list[str]:
    """What makes a recipe's model the one of that name."""
    return CNN if name == "CNN" else []


def compared(results: Results) -> str:
    """All datasets, three models."""

    def model(name: str, recipe: str, seed: int) -> Cell:
        overrides = [*settings(name), f"training.seed={seed}"]
        return fit(recipe, overrides, results.runs / f"{recipe}-{name}-{seed}")

    def plain(recipe: str) -> Cell:
        return linear(*(rows(recipe, split) for split in ("train", "dev", "test")), han=recipe == "chnsenticorp")

    lines = []
    for recipe, title in RECIPES.items():
        own, other = (
            results.seeds(f"{recipe} {name}", partial(model, name, recipe)) for name in ("Transformer", "CNN")
        )
        counted = results.cell(f"{recipe} TF-IDF", partial(plain, recipe))
        figure = FIGURE.get(recipe, "accuracy")
        lines.append(
            [
                title,
                figure.replace("_f1", " F1"),
                *(spread(found, figure) for found in (own, other, [counted])),
                f"{spread(own, 'seconds', 1, 0)} / {spread(other, 'seconds', 1, 0)}",
                f"{spread(own, 'calibration_error')} → {spread(own, 'calibrated_error')}",
            ]
        )
    head = ["data", "figure", "Transformer", "CNN", "TF-IDF + LR", "seconds, T / CNN", "ECE of T → with temperature"]
    return table(head, lines)


def main(results: Results) -> str:
    """All tables."""
    from bench.understanding import classify_curves as curves

    torch.set_num_threads(1)
    parts = [
        "## Classification",
        "    python -m bench.understanding classify",
        f"{results.machine()} Per cent; mean and range of three seeds (0, 1, 2); TF-IDF + LR has none. {SPLITS}",
        compared(results),
        "### By data size",
        curves.trec(results),
        curves.banking(results),
        "### Rare labels",
        curves.imbalance(results),
    ]
    return "\n\n".join(parts)
