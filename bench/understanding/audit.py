"""Wrong labels: TREC with injected noise, where it is known which are wrong, and the test set of 20 Newsgroups."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import torch

from bench.understanding import classify
from bench.understanding.records import Cell, Results, spread, table
from qkv.baselines.tfidf import Features
from qkv.data.labelled import Labelled
from qkv.tasks import recipe as recipes
from qkv.tasks.audit import FitPredict, confident_joint, examine, in_sample, margins, numbers, out_of_fold, suspects
from qkv.tasks.judges import by_recipe, by_tfidf

SHARE = 0.15
PAIRS = {"DESC": "ENTY", "ENTY": "DESC", "NUM": "DESC", "LOC": "ENTY", "HUM": "ENTY", "ABBR": "DESC"}
RATES = {"DESC": 0.1, "ENTY": 0.3, "NUM": 0.05, "LOC": 0.2, "HUM": 0.1, "ABBR": 0.2}
KINDS = {"symmetric": "any other", "classes": "a fixed other"}
STEPS = 400  # of the Transformer, in each fold
JUDGES = {"tfidf": "TF-IDF + LR", "transformer": "Transformer"}
CELLS = (("symmetric", "tfidf"), ("classes", "tfidf"), ("classes", "transformer"))
LISTS = {"confident": "confident joint", "by_rate": "by rate", "cleanlab": "cleanlab"}
WHERE = {True: "out of fold", False: "in sample"}


@cache
def trec() -> list[Labelled]:
    """The training questions."""
    return classify.rows("trec", "train")


def noisy(kind: str, seed: int) -> tuple[list[Labelled], np.ndarray]:
    """Questions of which some have another label, and which, [N] bool."""
    random = np.random.default_rng((seed, 38))
    names = sorted({row.labels[0] for row in trec()})
    rows, wrong = [], np.zeros(len(trec()), dtype=bool)
    for number, row in enumerate(trec()):
        label = row.labels[0]
        rate = SHARE if kind == "symmetric" else RATES[label]
        if random.random() < rate:
            others = [name for name in names if name != label]
            label = others[random.integers(len(others))] if kind == "symmetric" else PAIRS[label]
            wrong[number] = True
        rows.append(Labelled(row.text, (label,)))
    return rows, wrong


def judge(name: str, outside: bool, seed: int) -> FitPredict:
    """TF-IDF + LR, or the recipe for TREC in fewer steps; in sample, no row is spared from fitting."""
    if name == "tfidf":
        return by_tfidf([Features(1), Features(2)])
    settings = [f"training.max_steps={STEPS}", f"training.seed={seed}", "evaluation.scored=400"]
    return by_recipe(recipes.load("trec", settings), spared=outside)


def of_trec(name: str, kind: str, outside: bool, seed: int) -> Cell:
    """What a classifier finds of the replaced labels."""
    rows, wrong = noisy(kind, seed)
    names = tuple(sorted({row.labels[0] for row in rows}))
    given, fit_predict = numbers(rows, names), judge(name, outside, seed)
    p = out_of_fold(rows, fit_predict, names, seed=seed) if outside else in_sample(rows, fit_predict, names)
    joint = confident_joint(p, given)
    first = np.argsort(-margins(p, given), kind="stable")[: wrong.sum()]
    cell: Cell = {
        "rows": len(rows),
        "wrong": float(wrong.mean()),
        "estimated": joint.wrong / len(rows),
        "at_k": float(wrong[first].mean()),
    }
    lists = {"confident": suspects(p, given, joint), "by_rate": suspects(p, given, joint, "by_rate")}
    if (theirs := cleanlab(p, given)) is not None:
        lists["cleanlab"] = theirs
    for label, chosen in lists.items():
        cell[f"{label}_precision"] = float(wrong[chosen].mean()) if chosen.any() else 0.0
        cell[f"{label}_recall"] = float(chosen[wrong].mean())
    return cell


def cleanlab(p: np.ndarray, given: np.ndarray) -> np.ndarray | None:
    """What cleanlab lists by its default, "prune by noise rate", [N] bool; None where it is not installed."""
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        return None
    # Probabilities of exactly 0 are what it warns of.
    p = np.maximum(p, 1e-9)
    return find_label_issues(given, p / p.sum(1, keepdims=True), n_jobs=1)


def of_newsgroups() -> Cell:
    """The test postings, judged in folds of their own: how many look wrong, and the first ten by number."""
    rows = classify.rows("newsgroups20", "test")
    names = tuple(sorted({row.labels[0] for row in rows}))
    found = examine(rows, names, out_of_fold(rows, by_tfidf([Features(1)], (10.0,)), names))
    ours, theirs = suspects(found.p, found.given, found.joint, "by_rate"), cleanlab(found.p, found.given)
    overlap = {} if theirs is None else {"overlap": float((ours & theirs).sum() / (ours | theirs).sum())}
    return {
        "rows": len(rows),
        "agreement": found.agreement,
        "estimated": found.joint.wrong / len(rows),
        "review": len(found.findings),
        "conflicts": sum("same text" in finding.reason for finding in found.findings),
        "by_rate": int(ours.sum()),
        "cleanlab": None if theirs is None else int(theirs.sum()),
        "first": [f"{f.row}: {f.label} → {f.suggested} ({f.score:.2f})" for f in found.findings[:10]],
        **overlap,
    }


def main(results: Results) -> str:
    """The tables."""
    torch.set_num_threads(1)
    found = {
        (kind, name, outside): results.seeds(
            f"trec {kind} {name} {WHERE[outside]}", partial(of_trec, name, kind, outside)
        )
        for kind, name in CELLS
        for outside in WHERE
    }
    lines = []
    for (kind, name, outside), cells in found.items():
        pairs = [" / ".join(spread(cells, f"{way}_{figure}") for figure in ("precision", "recall")) for way in LISTS]
        shares = f"{spread(cells, 'estimated')} of {spread(cells, 'wrong')}"
        lines.append([KINDS[kind], f"{JUDGES[name]}, {WHERE[outside]}", spread(cells, "at_k"), *pairs, shares])
    head = ["replaced by", "judge", "precision at K", *(f"{t}, P / R" for t in LISTS.values()), "estimated wrong"]
    parts = [
        "## Wrong labels",
        "    python -m bench.understanding audit",
        f"{results.machine()} Per cent, mean and range of three seeds. {_setting(next(iter(found.values())))}",
        table(head, lines),
        *(_compared(KINDS[kind], name, found[kind, name, True], found[kind, name, False]) for kind, name in CELLS),
        _newsgroups(results.cell("newsgroups test", of_newsgroups)),
    ]
    return "\n\n".join(part for part in parts if part)


def _setting(cells: Sequence[Cell]) -> str:
    rates = ", ".join(f"{label} {rate:.0%}" for label, rate in RATES.items())
    number = f"{cells[0]['rows']:,} " if cells else ""
    return (
        f"TREC: {number}training questions, coarse labels, {SHARE:.0%} replaced by any other with equal chance, or by "
        f"one fixed other at a rate of each label's own ({rates}). Five folds; the Transformer is the recipe trec in "
        f"{STEPS} steps. In sample is the control: the classifier judges what it was fitted to. At K: of as many of "
        "the most suspicious questions as labels were replaced, the share that was. P / R: precision and recall of the "
        "list to review. cleanlab: `find_label_issues` on the same probabilities; by rate is the same rule here."
    )


def _compared(kind: str, name: str, outside: Sequence[Cell], inside: Sequence[Cell]) -> str:
    """What the control finds beside the arm, and whether every seed of one beats every seed of the other."""
    if not outside or not inside:
        return ""
    told = []
    for figure, title in (("confident_recall", "recall of the confident joint"), ("at_k", "precision at K")):
        ours, theirs = ([cell[figure] for cell in cells] for cells in (outside, inside))
        apart = "seeds overlap"
        if min(ours) > max(theirs) or max(ours) < min(theirs):
            apart = f"every seed {'above' if min(ours) > max(theirs) else 'below'}"
        told.append(f"{title} {spread(outside, figure)} against {spread(inside, figure)} in sample ({apart})")
    return f"{JUDGES[name]}, replaced by {kind}: {'; '.join(told)}."


def _newsgroups(cell: dict[str, Any]) -> str:
    if not cell:
        return "20 Newsgroups, test: not measured yet."
    told = [
        f"20 Newsgroups, the {cell['rows']:,} test postings (TF-IDF + LR, five folds within them; which labels are",
        f"wrong is not known): {cell['agreement']:.1%} agree with the likeliest label, {cell['estimated']:.1%} are",
        f"estimated to be wrong, {cell['review']:,} are listed for review, {cell['conflicts']} of them because the",
        f"same text stands there under two labels; by rate {cell['by_rate']:,}.",
    ]
    if cell["cleanlab"] is not None:
        told.append(f"cleanlab lists {cell['cleanlab']:,}; {cell['overlap']:.1%} of both lists are on both.")
    return " ".join([*told, f"The first ten, by number: {'; '.join(cell['first'])}."])
