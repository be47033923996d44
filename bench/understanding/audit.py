"""Wrong labels: TREC with injected noise, where it is known which are wrong, and the test set of 20 Newsgroups."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import torch

from bench.understanding import classify
from bench.understanding.records import Cell, Results, spread, table
from qkv.baselines.tfidf import Features
from qkv.data.labelled import Labelled
from qkv.tasks import recipe as recipes
from qkv.tasks.audit import FitPredict, confident_joint, in_sample, margins, numbers, out_of_fold, review, suspects
from qkv.tasks.judges import by_recipe, by_tfidf

SHARE = 0.15
PAIRS = {"DESC": "ENTY", "ENTY": "DESC", "NUM": "DESC", "LOC": "ENTY", "HUM": "ENTY", "ABBR": "DESC"}
RATES = {"DESC": 0.1, "ENTY": 0.3, "NUM": 0.05, "LOC": 0.2, "HUM": 0.1, "ABBR": 0.2}
KINDS = {"symmetric": "symmetric, 15 %", "classes": "by class, 5 to 30 %"}
STEPS = 400  # of the Transformer, in each of the five folds
SETTING = """TREC: 4,346 training questions, coarse labels, some replaced by another: any with equal chance, or a fixed
other label at a rate of each label's own (ENTY 30 %, NUM 5 %). Five folds; in sample is the control, the classifier
judging what it was trained on. At K: of as many of the most suspicious questions as labels were replaced, the share
that was. Precision and recall are of the list to review. cleanlab: `find_label_issues` on the same probabilities."""


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


def judge(name: str, seed: int) -> FitPredict:
    """TF-IDF + LR, or the recipe for TREC in fewer steps."""
    if name == "tfidf":
        return by_tfidf([Features(1), Features(2)])
    settings = [f"training.max_steps={STEPS}", f"training.seed={seed}", "evaluation.scored=400"]
    return by_recipe(recipes.load("trec", settings))


def of_trec(name: str, kind: str, outside: bool, seed: int) -> Cell:
    """What a classifier finds of the replaced labels."""
    from sklearn.metrics import average_precision_score

    rows, wrong = noisy(kind, seed)
    names = tuple(sorted({row.labels[0] for row in rows}))
    given, fit_predict = numbers(rows, names), judge(name, seed)
    p = out_of_fold(rows, fit_predict, names, seed=seed) if outside else in_sample(rows, fit_predict, names)
    score, joint = margins(p, given), confident_joint(p, given)
    first = np.argsort(-score, kind="stable")[: wrong.sum()]
    cell: Cell = {
        "wrong": float(wrong.mean()),
        "estimated": joint.wrong / len(rows),
        "agreement": float((p.argmax(1) == given).mean()),
        "at_k": float(wrong[first].mean()),
        "average_precision": float(average_precision_score(wrong, score)),
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
    """The 7,532 test postings, judged in five folds: how many look wrong, and the first ten by number."""
    rows = classify.rows("newsgroups20", "test")
    names = tuple(sorted({row.labels[0] for row in rows}))
    given = numbers(rows, names)
    p = out_of_fold(rows, by_tfidf([Features(1)], (10.0,)), names)
    joint, found = confident_joint(p, given), review(rows, names, p)
    ours, theirs = suspects(p, given, joint, "by_rate"), cleanlab(p, given)
    both = float((ours & theirs).sum() / (ours | theirs).sum()) if theirs is not None else float("nan")
    first = [f"{f.row}: {f.label} → {f.suggested} ({f.score:.2f})" for f in found[:10]]
    return {
        "rows": len(rows),
        "agreement": float((p.argmax(1) == given).mean()),
        "estimated": joint.wrong / len(rows),
        "review": len(found),
        "by_rate": int(ours.sum()),
        "cleanlab": int(theirs.sum()) if theirs is not None else None,
        "overlap": both,
        "first": first,
    }


def main(results: Results) -> str:
    """The tables."""
    torch.set_num_threads(1)
    judges = {"tfidf": "TF-IDF + LR", "transformer": "Transformer"}
    lines = []
    for kind, told in KINDS.items():
        for name, title in judges.items():
            for outside in (True, False):
                where = "out of fold" if outside else "in sample"
                make: Callable[[int], Cell] = partial(of_trec, name, kind, outside)
                cells = results.seeds(f"trec {kind} {name} {where}", make)
                pairs = [
                    " / ".join(spread(cells, f"{way}_{figure}") for figure in ("precision", "recall"))
                    for way in ("confident", "by_rate", "cleanlab")
                ]
                shares = f"{spread(cells, 'estimated')} of {spread(cells, 'wrong')}"
                lines.append([told, f"{title}, {where}", spread(cells, "at_k"), *pairs, shares])
    head = [
        "noise",
        "judge",
        "precision at K",
        "confident, P / R",
        "by rate, P / R",
        "cleanlab, P / R",
        "estimated wrong",
    ]
    return "\n\n".join(
        [
            "## Wrong labels",
            "    python -m bench.understanding audit",
            f"{results.machine()} Per cent, mean and range of three seeds. {SETTING}",
            table(head, lines),
            _newsgroups(results.cell("newsgroups test", of_newsgroups)),
        ]
    )


def _newsgroups(cell: dict[str, Any]) -> str:
    if not cell:
        return "20 Newsgroups, test: not measured yet."
    listed = "; ".join(cell["first"])
    told = [
        f"20 Newsgroups, the {cell['rows']:,} test postings (TF-IDF + LR, five folds within them; which labels are",
        f"wrong is not known): {100 * cell['agreement']:.1f} % agree with the likeliest label,",
        f"{100 * cell['estimated']:.1f} % are estimated to be wrong, {cell['review']:,} are listed for review; by rate",
        f"{cell['by_rate']:,}, cleanlab {cell['cleanlab']:,}, {100 * cell['overlap']:.1f} % of both lists on both.",
        f"The first ten, by number: {listed}.",
    ]
    return " ".join(told)
