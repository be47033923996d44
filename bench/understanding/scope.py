"""Out of scope on CLINC150: six scores of one classifier, a threshold by cost, and asking back where two are close."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch

from bench.understanding.classify import columns
from bench.understanding.classify_curves import embedded, labels_of
from bench.understanding.records import Cell, Results, spread, table
from qkv.baselines import tfidf
from qkv.data import sources
from qkv.data.corpora import Clinc150
from qkv.data.labelled import Labelled
from qkv.tasks import recipe as recipes
from qkv.tasks.classify import LABEL, Classify
from qkv.tasks.folder import open_run
from qkv.tasks.scope import features
from qkv.tasks.scope_metrics import (
    Costs,
    auroc,
    cheapest_margin,
    cheapest_threshold,
    cost,
    fpr_at_recall,
    margin_cost,
)
from qkv.tasks.scope_scores import (
    Energy,
    Gaussians,
    Mahalanobis,
    MaxProbability,
    Neighbours,
    ScoreConfig,
    WordMixture,
)
from qkv.tasks.train import train

SCORES: dict[str, tuple[str, ScoreConfig]] = {
    "msp": ("confidence (MSP)", MaxProbability()),
    "energy": ("energy", Energy()),
    "mahalanobis": ("Mahalanobis", Mahalanobis()),
    "gaussians": ("Gaussians, density", Gaussians()),
    "neighbours": ("10th neighbour", Neighbours(10)),
    "words": ("words, generative", WordMixture()),
}
COSTS = Costs(outside=0.1, answered=3.0, refused=1.0, wrong=1.0, asked=0.2)
STRENGTHS = (10.0, 100.0)
FIXED = 0.5  # the confidence that is often taken, for comparison


@cache
def outside(part: str) -> list[Labelled]:
    """Requests out of scope: "train" or "val"."""
    data = json.loads(sources.read("clinc150", "data_full.json"))
    return [Labelled(text, (label,)) for text, label in data[f"oos_{part}"]]


def told(name: str, inside: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> Cell:
    """What a score is worth. inside, others: scores on what chooses the threshold, then on what is reported."""
    threshold = cheapest_threshold(inside[0], others[0], COSTS)
    best = cheapest_threshold(inside[1], others[1], COSTS)
    return {
        f"{name}_auroc": auroc(inside[1], others[1]),
        f"{name}_fpr": fpr_at_recall(inside[1], others[1]),
        f"{name}_cost": cost(inside[1], others[1], threshold, COSTS),
        f"{name}_least": cost(inside[1], others[1], best, COSTS),
        f"{name}_refused": float((inside[1] < threshold).mean()),
        f"{name}_caught": float((others[1] < threshold).mean()),
    }


def fit(seed: int, runs: Path) -> Cell:
    """Train the classifier, then measure all scores and the margin."""
    folder = runs / str(seed)
    result = train(
        recipes.load("clinc150", [f"training.seed={seed}", "training.tensorboard=false"]), folder, say=lambda _: None
    )
    run = open_run(folder)
    task, found = run.recipe.task, run.system.tokenizers.labels[LABEL]
    assert isinstance(task, Classify)
    rows = {split: Clinc150().load(split) for split in ("train", "dev", "test")}
    seen = {name: features(run.system, task, part) for name, part in rows.items()}
    others = [features(run.system, task, outside(part)) for part in ("train", "val")]
    labels = {name: torch.tensor([found.number(row.labels[0]) for row in part]) for name, part in rows.items()}
    cell: Cell = {"seconds": result.elapsed, "steps": result.step, "intents": len(found)}
    cell |= {name: len(part) for name, part in rows.items()}
    cell |= {f"outside_{part}": len(outside(part)) for part in ("train", "val")}
    for name, (_, score) in SCORES.items():
        state = score.fit(seen["train"], labels["train"])
        inside = [score.score(state, seen[part]).numpy() for part in ("dev", "test")]
        strange = [score.score(state, part).numpy() for part in others]
        cell |= told(name, inside, strange)
        if name == "msp":
            cell["fixed_cost"] = cost(inside[1], strange[1], FIXED, COSTS)
    parts = {}
    for name in ("dev", "test"):
        two = seen[name].logits.topk(2)
        hit = two.indices == labels[name].unsqueeze(1)
        parts[name] = ((two.values[:, 0] - two.values[:, 1]).numpy(), hit[:, 0].numpy(), hit.any(1).numpy())
    margin = cheapest_margin(*parts["dev"], COSTS)
    gap, right, among = parts["test"]
    shutil.rmtree(folder)
    return cell | {
        "accuracy": float(right.mean()),
        "asked": float((gap < margin).mean()),
        "helped": float(np.where(gap < margin, among, right).mean()),
        "margin_cost": margin_cost(gap, right, among, margin, COSTS),
        "silent_cost": margin_cost(gap, right, among, -np.inf, COSTS),
    }


def linear() -> Cell:
    """The confidence of logistic regression on TF-IDF."""
    (texts, labels), (dev, dev_labels) = (columns(Clinc150().load(split)) for split in ("train", "dev"))
    found = tfidf.learn(texts, labels, dev, dev_labels, [tfidf.Features(1), tfidf.Features(2)], STRENGTHS)
    return confident(found.probabilities, found.labels)


def pretrained() -> Cell:
    """The confidence of logistic regression on what a frozen pretrained encoder makes of the requests."""
    from sklearn.linear_model import LogisticRegression

    rows = {split: Clinc150().load(split) for split in ("train", "dev")}
    vectors = {split: embedded(part).numpy() for split, part in rows.items()}
    tried = [LogisticRegression(C=c, max_iter=300).fit(vectors["train"], labels_of(rows["train"])) for c in STRENGTHS]
    best = max(tried, key=lambda model: model.score(vectors["dev"], labels_of(rows["dev"])))
    return confident(
        lambda texts: best.predict_proba(embedded([Labelled(text, ()) for text in texts]).numpy()), list(best.classes_)
    )


def confident(probabilities: Callable[[list[str]], np.ndarray], names: Sequence[str]) -> Cell:
    """The measures of a classifier that gives probabilities [N,labels], the greatest of which is its confidence."""
    test, right = columns(Clinc150().load("test"))
    inside = [probabilities(columns(Clinc150().load("dev"))[0]), probabilities(test)]
    strange = [probabilities(columns(outside(part))[0]).max(1) for part in ("train", "val")]
    hits = np.array([names[i] for i in inside[1].argmax(1)]) == np.array(right)
    sure = [p.max(1) for p in inside]
    return told("msp", sure, strange) | {
        "accuracy": float(hits.mean()),
        "fixed_cost": cost(sure[1], strange[1], FIXED, COSTS),
    }


def main(results: Results) -> str:
    """The tables."""
    torch.set_num_threads(1)
    cells = results.seeds("transformer", lambda seed: fit(seed, results.runs))
    single = {"TF-IDF": linear, "MiniLM": pretrained}
    plain, frozen = ([cell] if (cell := results.cell(name, make)) else [] for name, make in single.items())
    lines = []

    def line(title: str, some: Sequence[Cell], name: str) -> None:
        figures = [spread(some, f"{name}_{figure}") for figure in ("auroc", "fpr", "refused", "caught")]
        lines.append([title, *figures, *(spread(some, f"{name}_{f}", 1, 3) for f in ("cost", "least"))])

    for name, (title, _) in SCORES.items():
        line(f"Transformer, {title}", cells, name)
    line("TF-IDF + LR, confidence", plain, "msp")
    line("MiniLM, frozen, + LR, confidence", frozen, "msp")
    head = ["score", "AUROC", "FPR@95", "refused in scope", "caught out of scope", "cost a text", "least possible"]
    fixed = (
        f"With a fixed confidence of {FIXED} in place of the threshold: cost {spread(cells, 'fixed_cost', 1, 3)} "
        f"(Transformer) and {spread(plain, 'fixed_cost', 1, 3)} (TF-IDF + LR), where the chosen one of the same scores "
        f"costs {spread(cells, 'msp_cost', 1, 3)} and {spread(plain, 'msp_cost', 1, 3)}. "
        f"Seconds to train the Transformer: {spread(cells, 'seconds', 1, 0)}."
    )
    asking = (
        f"Intent accuracy: Transformer {spread(cells, 'accuracy')}, TF-IDF + LR {spread(plain, 'accuracy')}, "
        f"MiniLM + LR, pretrained elsewhere, {spread(frozen, 'accuracy')}. With the "
        f"ambiguity margin the Transformer asks back in {spread(cells, 'asked')} of the requests in scope, and with "
        f"the answers {spread(cells, 'helped')} are right; that costs {spread(cells, 'margin_cost', 1, 3)} a text, "
        f"never asking {spread(cells, 'silent_cost', 1, 3)}."
    )
    return "\n\n".join(
        [
            "## Out of scope",
            "    python -m bench.understanding scope",
            f"{results.machine()} Per cent, mean and range of three seeds. {_setting(cells)}",
            table(head, lines),
            *([_best(cells)] if cells else []),
            fixed,
            asking,
        ]
    )


def _setting(cells: Sequence[Cell]) -> str:
    """How it was measured, with the numbers of rows once they are known."""

    def rows(name: str) -> str:
        return f"{cells[0][name]:,} " if cells else ""

    return (
        f"CLINC150, full: {rows('intents')}intents. Trained on nine tenths of the published training file, "
        f"{rows('train')}requests. The threshold and the margin are chosen on the other {rows('dev')}and on the "
        f"{rows('outside_train')}requests out of scope of the training file (oos_train), which train nothing; reported "
        f"on the {rows('test')}+ {rows('outside_val')}published for choosing (val, oos_val), since the test keys are "
        "not there. Recall is of requests in scope: FPR@95 is the share out of scope that is let in where 95 % in "
        "scope are. The learning rate was chosen on dev after figures of another had been seen. "
        f"Costs: {COSTS.outside:.0%} of what comes is out of scope; answering it costs {COSTS.answered:g}, "
        f"refusing a request in scope {COSTS.refused:g}, a wrong intent {COSTS.wrong:g}, asking {COSTS.asked:g}."
    )


def _best(cells: Sequence[Cell]) -> str:
    """The scores by AUROC, the best first, and whether every seed of the first beats every seed of the second."""
    means = {name: sum(cell[f"{name}_auroc"] for cell in cells) / len(cells) for name in SCORES}
    first, second, *_, last = sorted(means, key=lambda name: -means[name])
    apart = min(cell[f"{first}_auroc"] for cell in cells) > max(cell[f"{second}_auroc"] for cell in cells)
    return (
        f"By AUROC {SCORES[first][0]} is best and {SCORES[second][0]} second "
        f"({'every seed of the one above every seed of the other' if apart else 'their seeds overlap'}), "
        f"{SCORES[last][0]} last."
    )
