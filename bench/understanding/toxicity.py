"""Toxic language found (Davidson, COLD), whom that wrongs, and what of it is implicit.

Weights are chosen on dev, cut from the training files; reported is what was held out of them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from bench.understanding.records import Cell, Results, qkv, spread, table
from qkv.baselines import tfidf
from qkv.data.labelled import Labelled
from qkv.decoding import Greedy
from qkv.models import Decision
from qkv.tasks import recipe as recipes
from qkv.tasks.folder import open_run
from qkv.tasks.metrics import choice_scores
from qkv.tasks.toxicity import (
    IDENTITIES,
    IDENTITIES_ZH,
    PLAIN,
    PLAIN_ZH,
    TEMPLATES,
    TEMPLATES_ZH,
    Lexicon,
    Score,
    auc,
    identity_bias,
    lexicon,
    naming,
    neutral,
    subgroup_aucs,
)

SAFE = {"davidson": "neither", "cold": "safe"}
NAMED = {"davidson": IDENTITIES, "cold": IDENTITIES_ZH}
SENTENCES = {"davidson": neutral(TEMPLATES, IDENTITIES), "cold": neutral(TEMPLATES_ZH, IDENTITIES_ZH)}
CONTROLS = {"davidson": neutral(TEMPLATES, PLAIN), "cold": neutral(TEMPLATES_ZH, PLAIN_ZH)}
FEATURES = {
    "davidson": [tfidf.Features(1), tfidf.Features(2), tfidf.Features(2, 5)],
    "cold": [tfidf.Features(0, 2, across=True), tfidf.Features(0, 3, across=True)],
}
NOTE = """## Toxic language

%, on what was held out; mean (range) of seeds, without a range one run. Toxic: what is labelled hate or offensive.
Implicit: toxic texts without a word of the lexicon that training gives (of Chinese, a character); recall of them, and
AUC against all texts that are not toxic. Identities: the share of sentences that offend nobody and name an identity
that are called toxic, on average, the worst identity, and the mean gap to the average; *control*: of the same sentences
with a word that names no group. BPSN: AUC of toxic texts elsewhere against texts that are not toxic and name an
identity. COLD's training and dev files were labelled half by machine (Deng et al. 2022), and its dev file is the test
here: not comparable with figures on the published test file."""


@cache
def rows(name: str, split: Any) -> list[Labelled]:
    """The rows of a detection recipe."""
    chosen = recipes.load(name)
    return chosen.task.load(chosen.data, split)


def toxic(name: str, found: Sequence[Labelled]) -> np.ndarray:
    """Of each row whether its label says so, [N] bool."""
    return np.array([row.labels[0] != SAFE[name] for row in found])


@cache
def words_of(name: str) -> Lexicon:
    """What training says are toxic words: for Chinese, characters."""
    train = rows(name, "train")
    bad, safe = (
        [row.text for row, is_toxic in zip(train, toxic(name, train), strict=True) if is_toxic == side]
        for side in (True, False)
    )
    return lexicon(bad, safe)


def told(name: str, score: Score) -> Cell:
    """What a score of toxicity is worth: on the test, on its implicit part, on sentences that offend nobody."""
    test = rows(name, "test")
    p, bad = np.asarray(score([row.text for row in test])), toxic(name, test)
    implicit = bad & np.array([not words_of(name).found(row.text) for row in test])
    names = naming(NAMED[name])
    named = [bool(names.search(row.text)) for row in test]
    bias, control = (identity_bias(score, sentences[name]) for sentences in (SENTENCES, CONTROLS))
    return {
        "auc": auc(p[bad], p[~bad]),
        "recall": float((p[bad] >= 0.5).mean()),
        "recall_implicit": float((p[implicit] >= 0.5).mean()),
        "auc_implicit": auc(p[implicit], p[~bad]),
        "implicit_share": float(implicit.sum() / bad.sum()),
        "named_share": float(np.mean(named)),
        **{f"bias_{figure}": bias[figure] for figure in ("mean", "worst", "gap")},
        "control": control["mean"],
        **subgroup_aucs(p.tolist(), bad.tolist(), named),
    }


def transformer(name: str, seed: int, folder: Path) -> Cell:
    """Train the recipe; the folder goes when its figures are known."""
    qkv("train", name, f"training.seed={seed}", "training.tensorboard=false", "--out", str(folder))
    run = open_run(folder)
    task: Any = run.recipe.task

    def score(texts: Sequence[str]) -> list[float]:
        found = task.predict(run.system, list(texts), Greedy())
        return [1 - dict(zip(each.texts, each.scores, strict=True))[SAFE[name]] for each in found]

    figures = task.evaluate(run.system, rows(name, "test"), Greedy()) | told(name, score)
    seconds = json.loads((folder / "run.json").read_text(encoding="utf-8"))["elapsed"]
    shutil.rmtree(folder)
    return {"seconds": seconds, **figures}


def linear(name: str) -> Cell:
    """TF-IDF with logistic regression, features and C chosen on dev."""
    sides = [
        ([r.text for r in rows(name, split)], [r.labels[0] for r in rows(name, split)]) for split in ("train", "dev")
    ]
    found = tfidf.learn(*sides[0], *sides[1], FEATURES[name])
    place = {label: number for number, label in enumerate(found.labels)}

    def score(texts: Sequence[str]) -> list[float]:
        return (1 - found.probabilities(list(texts))[:, place[SAFE[name]]]).tolist()

    test = rows(name, "test")
    p = found.probabilities([row.text for row in test])
    decided = [Decision(order.tolist(), each[order].tolist()) for each, order in zip(p, (-p).argsort(1), strict=True)]
    return choice_scores(decided, [place[row.labels[0]] for row in test]) | told(name, score)


FIGURES = {
    "macro F1": "macro_f1",
    "accuracy": "accuracy",
    "AUC": "auc",
    "recall": "recall",
    "implicit: recall": "recall_implicit",
    "AUC, implicit": "auc_implicit",
    "identities": "bias_mean",
    "worst": "bias_worst",
    "gap": "bias_gap",
    "*control*": "control",
    "BPSN": "bpsn",
}


def main(results: Results) -> str:
    """Measure, and the table."""
    lines, notes = [], []
    for name in SAFE:
        plain = results.cell(f"{name} linear", lambda name=name: linear(name))  # type: ignore[misc]
        ours = results.seeds(
            f"{name} transformer",
            lambda seed, n=name: transformer(n, seed, results.runs / f"{n} {seed}"),  # type: ignore[misc]
        )
        for kind, cells in (("TF-IDF + logistic regression", [plain]), ("Transformer", ours)):
            figures = [spread(cells, figure) for figure in FIGURES.values()]
            lines.append([name, kind, *figures, spread(cells, "seconds", scale=1, digits=0)])
        if plain and ours:
            notes.append(verdict(name, plain, ours))
    return f"{NOTE}\n\n{table(['', '', *FIGURES, 'seconds'], lines)}\n\n{' '.join(notes)}\n\n{results.machine()}"


def verdict(name: str, plain: Cell, ours: Sequence[Cell]) -> str:
    """What the row of a dataset says, in words."""
    mean = {figure: 100 * fmean(cell[figure] for cell in ours) for figure in ours[0] if figure in plain}
    gap, least = mean["macro_f1"] - 100 * plain["macro_f1"], min(cell["macro_f1"] for cell in ours)
    level = least <= plain["macro_f1"] <= max(cell["macro_f1"] for cell in ours)
    who = "is level with" if level else "beats" if gap > 0 else "loses to"
    named = [100 * (cell["bias_mean"] - cell["control"]) for cell in (plain, *ours)]
    return (
        f"{name}: the Transformer {who} the linear model ({gap:+.1f} points of macro F1). Of its toxic texts "
        f"{plain['implicit_share']:.1%} hold no word of the lexicon; there recall falls by "
        f"{mean['recall'] - mean['recall_implicit']:.0f} points. That a sentence names an identity, and not only that "
        f"it is short and plain, raises false alarms by {fmean(named[1:]):+.0f} points (linear model {named[0]:+.0f})."
    )
