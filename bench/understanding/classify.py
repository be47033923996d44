"""Classification: a Transformer and a CNN trained by the recipes, TF-IDF with logistic regression, a frozen encoder.

Every model is chosen on dev, which is cut from the training file, and reported on test, which nothing was chosen on.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bench.understanding.records import SEEDS, Cell, Results, spread, table
from qkv.baselines import tfidf
from qkv.data.labelled import Labelled
from qkv.decoding import Greedy
from qkv.models import Decision
from qkv.tasks import recipe as recipes
from qkv.tasks.calibration import scores_of, temperature
from qkv.tasks.classify import LABEL
from qkv.tasks.folder import open_run
from qkv.tasks.metrics import choice_scores
from qkv.tasks.train import train

# Kim's network instead of the Transformer; how labels are drawn, weighed and adjusted is the recipe's.
CNN = [
    "model={convolution: {stack: {d_embedding: 128, embedding: {dropout: 0.2}}}}",
    "task.classify.output.choice.dropout=0.5",
]
RECIPES = {
    "trec": "TREC, 6 labels",
    "sst2": "SST-2",
    "banking77": "BANKING77",
    "r8": "R8",
    "chnsenticorp": "ChnSentiCorp (zh)",
    "ag-news": "AG News",
    "sarcasm": "sarcasm, headlines",
    "isarcasm": "sarcasm, tweets",
}
NOTE = """Per cent; mean and range of seeds 0, 1 and 2, or one seed where no range stands; TF-IDF + LR draws nothing; –
stands for what is not measured. Dev is cut from the training file by a hash of the text; test is the dev file that was
published (SST-2, ChnSentiCorp) or made for us (headlines), else a tenth of the only file (AG News: a fifth). So figures
are not those of published test files. Words or letters, C, balancing, and the step of the weights are chosen on dev, by
the measure that is shown. R8, AG News and ChnSentiCorp were given more updates, chosen on dev, after test figures of a
shorter training had been seen. CNN: Kim 2014, on the Transformer's tokens, batches and steps."""
ON_ECE = """The temperature is fitted to dev's log loss. The ECE of a few hundred texts in 15 bins is itself off by some
points, always upwards: small differences, in either direction, say nothing."""
LATIN = [tfidf.Features(1), tfidf.Features(2), tfidf.Features(2, 5)]
WORDS = LATIN[:2]  # of whole articles: their letters would take minutes
HAN = [tfidf.Features(0, 2, across=True), tfidf.Features(0, 3, across=True)]
FEATURES = {"r8": WORDS, "ag-news": WORDS, "chnsenticorp": HAN}
STRENGTHS = (1.0, 10.0, 100.0)


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


def linear(train_rows: Sequence[Labelled], dev: Sequence[Labelled], test: Sequence[Labelled], recipe: str) -> Cell:
    """TF-IDF with logistic regression; features, C and, where macro F1 is shown, balancing are chosen on dev."""
    (texts, labels), (dev_texts, dev_labels), (test_texts, test_labels) = map(columns, (train_rows, dev, test))
    features, measure = FEATURES.get(recipe, LATIN), measure_of(recipe)
    learned = [
        tfidf.learn(texts, labels, dev_texts, dev_labels, features, STRENGTHS, balanced, measure)
        for balanced in ((False, True) if measure == "macro_f1" else (False,))
    ]
    return judged(max(learned, key=lambda found: found.reached), test_texts, test_labels)


def judged(found: tfidf.Linear, texts: Sequence[str], labels: Sequence[str]) -> Cell:
    """The measures of a linear classifier, and what was chosen."""
    p, order = torch.from_numpy(found.probabilities(texts)).sort(dim=1, descending=True)
    decided = [Decision(*pair) for pair in zip(order.tolist(), p.tolist(), strict=True)]
    chosen = {"C": found.strength, "words": found.features.words, "characters": found.features.characters}
    return {**choice_scores(decided, [found.labels.index(label) for label in labels]), **chosen}


def measure_of(recipe: str) -> tfidf.Measure:
    """What a recipe chooses its weights by, and the table shows."""
    return "macro_f1" if recipes.load(recipe).training.metric == "macro_f1" else "accuracy"


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


class Compared(NamedTuple):
    """The cells of a dataset, one a seed; of TF-IDF, which draws nothing, one alone."""

    transformer: list[Cell]
    cnn: list[Cell]
    counted: list[Cell]


def measured(results: Results) -> dict[str, Compared]:
    """All datasets, three models."""

    def model(name: str, recipe: str, seed: int) -> Cell:
        overrides = [*settings(name), f"training.seed={seed}"]
        return fit(recipe, overrides, results.runs / f"{recipe}-{name}-{seed}")

    def plain(recipe: str) -> Cell:
        return linear(rows(recipe, "train"), rows(recipe, "dev"), rows(recipe, "test"), recipe)

    found = {}
    for recipe in RECIPES:
        counted = [cell for cell in [results.cell(f"{recipe} TF-IDF", partial(plain, recipe))] if cell]
        own, other = (
            results.seeds(f"{recipe} {name}", partial(model, name, recipe)) for name in ("Transformer", "CNN")
        )
        found[recipe] = Compared(own, other, counted)
    return found


def compared(found: Mapping[str, Compared]) -> str:
    """What each model reaches."""
    lines = []
    for recipe, title in RECIPES.items():
        cells, measure = found[recipe], measure_of(recipe)
        seconds = f"{spread(cells.transformer, 'seconds', 1, 0)} / {spread(cells.cnn, 'seconds', 1, 0)}"
        scores = (spread(some, measure) for some in cells)
        lines.append([title, f"{len(rows(recipe, 'train')):,}", measure.replace("_f1", " F1"), *scores, seconds])
    return table(["data", "texts", "measure", "Transformer", "CNN", "TF-IDF + LR", "seconds, Transformer / CNN"], lines)


def verdicts(found: Mapping[str, Compared]) -> str:
    """Where the Transformer wins and where it loses, if no seed of one model reaches into the range of the other."""
    where: dict[str, list[str]] = {"above both": [], "below both": [], "neither": []}
    for recipe, title in RECIPES.items():
        own, *others = ([cell[measure_of(recipe)] for cell in cells] for cells in found[recipe])
        if len(own) < len(SEEDS) or not all(others):
            continue
        above = all(min(own) > max(other) for other in others)
        below = all(max(own) < min(other) for other in others)
        where["above both" if above else "below both" if below else "neither"].append(title)
    said = "; ".join(f"{name}: {', '.join(titles)}" for name, titles in where.items() if titles)
    return f"The Transformer beside CNN and TF-IDF + LR, by the whole range of its seeds: {said}." if said else ""


def calibrated(found: Mapping[str, Compared]) -> str:
    """How far confidence is from accuracy, before and after a temperature that was fitted on dev."""
    lines = []
    for recipe, title in RECIPES.items():
        cells = found[recipe]
        pairs = (
            f"{spread(some, 'calibration_error')} → {spread(some, 'calibrated_error')}"
            for some in (cells.transformer, cells.cnn)
        )
        fitted = spread(cells.transformer, "temperature", 1, 2)
        lines.append([title, *pairs, fitted, spread(cells.counted, "calibration_error")])
    head = ["ECE, before → after", "Transformer", "CNN", "temperature of the Transformer", "TF-IDF + LR as it is"]
    return table(head, lines)


def main(results: Results) -> str:
    """All tables."""
    from bench.understanding import classify_curves as curves

    torch.set_num_threads(1)
    found = measured(results)
    parts = [
        "## Classification",
        "    python -m bench.understanding classify",
        f"{results.machine()} {NOTE}",
        compared(found),
        verdicts(found),
        "### Calibration",
        ON_ECE,
        calibrated(found),
        "### Rare labels",
        curves.imbalance(results),
        "### By data size",
        curves.trec(results, found),
        curves.banking(results, found),
        "### With a pretrained encoder",
        curves.pretrained(results, found),
    ]
    return "\n\n".join(part for part in parts if part)
