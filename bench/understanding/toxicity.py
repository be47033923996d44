"""Toxic language: found (Davidson, COLD), whom that wrongs, what is implicit; rewritten (ParaDetox), words deleted.

Weights are chosen on dev, cut from the training files; reported is what was held out of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench.understanding.records import Cell, Results, qkv, spread, table
from qkv.baselines import tfidf
from qkv.data.labelled import Labelled
from qkv.data.paradetox import Paradetox, ParadetoxStyle
from qkv.decoding import Greedy
from qkv.tasks import recipe as recipes
from qkv.tasks.folder import open_run
from qkv.tasks.metrics import choice_scores
from qkv.tasks.rewriting import Judges, rewriting_scores
from qkv.tasks.toxicity import (
    IDENTITIES,
    IDENTITIES_ZH,
    TEMPLATES,
    TEMPLATES_ZH,
    Lexicon,
    auc,
    identity_bias,
    lexicon,
    neutral,
    subgroup_aucs,
)

SAFE = {"davidson": "neither", "cold": "safe"}
SENTENCES = {"davidson": neutral(TEMPLATES, IDENTITIES), "cold": neutral(TEMPLATES_ZH, IDENTITIES_ZH)}
FEATURES = {
    "davidson": [tfidf.Features(1), tfidf.Features(2), tfidf.Features(2, 5)],
    "cold": [tfidf.Features(0, 2, across=True), tfidf.Features(0, 3, across=True)],
}


@cache
def rows(name: str, split: Any) -> list[Labelled]:
    """The rows of a detection recipe."""
    chosen = recipes.load(name)
    return chosen.task.load(chosen.data, split)


@cache
def words_of(name: str) -> Lexicon:
    """What training says are toxic words: for Chinese, characters."""
    train = rows(name, "train")
    toxic, safe = ([r.text for r in train if (r.labels[0] != SAFE[name]) == bad] for bad in (True, False))
    return lexicon(toxic, safe)


def told(name: str, score: Any) -> Cell:
    """What a score of toxicity is worth on the test, on neutral sentences about identities, and without the words of
    the lexicon (which is what we can call implicit without asking anybody)."""
    test, identities = rows(name, "test"), list(SENTENCES[name])
    p = np.asarray(score([row.text for row in test]))
    toxic = np.array([row.labels[0] != SAFE[name] for row in test])
    implicit = np.array([not words_of(name).found(row.text) for row in test])
    named = np.array([any(each in row.text.lower() for each in identities) for row in test])
    bias = identity_bias(score, SENTENCES[name])
    return {
        "auc": auc(p[toxic], p[~toxic]),
        "recall": float((p[toxic] >= 0.5).mean()),
        "recall_implicit": float((p[toxic & implicit] >= 0.5).mean()) if (toxic & implicit).any() else float("nan"),
        "implicit_share": float(implicit[toxic].mean()),
        "bias_mean": bias["mean"],
        "bias_worst": bias["worst"],
        "bias_gap": bias["gap"],
        **subgroup_aucs(p.tolist(), toxic.tolist(), named.tolist()),
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
    shutil.rmtree(folder)
    return figures


def linear(name: str) -> Cell:
    """TF-IDF with logistic regression, features and C chosen on dev."""
    sides = [
        ([r.text for r in rows(name, split)], [r.labels[0] for r in rows(name, split)]) for split in ("train", "dev")
    ]
    found = tfidf.learn(*sides[0], *sides[1], FEATURES[name])
    place = {label: number for number, label in enumerate(found.labels)}
    from qkv.models import Decision

    def score(texts: Sequence[str]) -> list[float]:
        return (1 - found.probabilities(list(texts))[:, place[SAFE[name]]]).tolist()

    test = rows(name, "test")
    p = found.probabilities([row.text for row in test])
    decided = [Decision(order.tolist(), each[order].tolist()) for each, order in zip(p, (-p).argsort(1), strict=True)]
    return choice_scores(decided, [place[row.labels[0]] for row in test]) | told(name, score)


def judged(outputs: Sequence[str], judges: Judges) -> Cell:
    """The measures of rewrites of the test."""
    test = Paradetox().load("test")
    return rewriting_scores([p.source for p in test], outputs, [p.targets for p in test], judges)


def rude_words() -> Lexicon:
    """Learned from the training sentences. Of least z-scores from 1.5 to 4, the first finds most on dev: a word in 89 %
    of the rude sentences, and in 4 % of the civil ones."""
    train = ParadetoxStyle().load("train")
    rude, civil = ([row.text for row in train if row.labels[0] == label] for label in ("rude", "civil"))
    return lexicon(rude, civil, least=1.5)


def rewrites(seed: int, judges: Judges, folder: Path) -> Cell:
    """Train the rewriter; its answers, and those that avoid the lexicon's words."""
    overrides = [f"training.seed={seed}", "training.tensorboard=false"]
    overrides += [f"task.translate.judges.{name}={getattr(judges, name)}" for name in ("style", "fluency")]
    qkv("train", "paradetox", *overrides, "--out", str(folder))
    run, test = open_run(folder), Paradetox().load("test")
    (folder / "words.txt").write_text("\n".join(sorted(rude_words().scores)) + "\n", encoding="utf-8")
    found: Cell = {}
    for name, task in (("", run.recipe.task), ("avoiding_", replace(run.recipe.task, avoid=str(folder / "words.txt")))):
        answers = task.predict(run.system, [pair.source for pair in test], run.recipe.decoding)  # type: ignore[attr-defined]
        scores = judged([answer.text for answer in answers], judges)
        found |= {f"{name}{figure}": value for figure, value in scores.items()}
    shutil.rmtree(folder)
    return found


def detection(results: Results) -> str:
    """Measure the classifiers, and their table."""
    lines, notes = [], []
    figures = (
        "macro_f1",
        "accuracy",
        "auc",
        "recall",
        "recall_implicit",
        "bias_mean",
        "bias_worst",
        "bias_gap",
        "bpsn",
    )
    for name in SAFE:
        plain = results.cell(f"{name} linear", lambda name=name: linear(name))  # type: ignore[misc]
        ours = results.seeds(
            f"{name} transformer", lambda seed, n=name: transformer(n, seed, results.runs / f"{n} {seed}")
        )
        for kind, cells in (("TF-IDF + logistic regression", [plain]), ("Transformer", ours)):
            lines.append([name, kind, *(spread(cells, each) for each in figures)])
        if plain:
            notes.append(
                f"{name}: {100 * plain['implicit_share']:.1f} % of toxic test texts hold no word of the lexicon."
            )
    false = ("false on identities", "worst", "gap", "BPSN")
    return f"{table(['', '', 'macro F1', 'accuracy', 'AUC', 'recall', 'implicit', *false], lines)}\n\n{' '.join(notes)}"


def rewriting(results: Results) -> str:
    """Measure rewrites, and their table."""
    judges = Judges(str(results.runs / "style"), str(results.runs / "fluency"))
    test = Paradetox().load("test") if results.measure else []
    if results.measure and not results.record["cells"].keys() >= {f"rewriter {seed}" for seed in (0, 1, 2)}:
        for recipe, folder in (("paradetox-style", judges.style), ("paradetox-civil", judges.fluency)):
            qkv("train", recipe, "training.tensorboard=false", "--out", folder)
    plain = {
        "copy": ("source, unchanged", lambda: [pair.source for pair in test]),
        "human": ("human (first rewrite)", lambda: [pair.targets[0] for pair in test]),
        "delete": ("words of the lexicon deleted", lambda: [rude_words().without(pair.source) for pair in test]),
    }
    arms = {
        name: [results.cell(key, lambda texts=texts: judged(texts(), judges))]  # type: ignore[misc]
        for key, (name, texts) in plain.items()
    }
    written = results.seeds("rewriter", lambda seed: rewrites(seed, judges, results.runs / f"rewriter {seed}"))
    measures = ("joint", "style_accuracy", "similarity", "fluency", "chrf_to_references")
    lines = [[name, *(spread(cells, each) for each in measures)] for name, cells in arms.items()]
    for prefix, name in (("", "Transformer"), ("avoiding_", "Transformer that avoids the lexicon's words")):
        lines.append([name, *(spread(written, prefix + each) for each in measures)])
    return table(["", "J", "style", "similarity to source", "fluency", "chrF to references"], lines)


def main(results: Results) -> str:
    """Measure, and the tables."""
    return (
        "## Toxic language\n\nDetection, %, on what was held out; mean (range) of three seeds. Implicit: recall on "
        "toxic texts without a word of the lexicon that training gives. False on identities: the share of neutral "
        f"sentences about an identity that are called toxic, on average.\n\n{detection(results)}\n\n"
        "Rewriting on ParaDetox, 591 sentences, %: J is the mean product of style, similarity and fluency.\n\n"
        f"{rewriting(results)}\n\n{results.machine()}"
    )
