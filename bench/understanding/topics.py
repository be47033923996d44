"""Topics beside a Transformer on 20 Newsgroups: three ways to join them, the control of other documents' topics."""

from __future__ import annotations

import shutil
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from bench.understanding import classify
from bench.understanding.records import Cell, Results, spread, table
from qkv.decoding import Greedy
from qkv.tasks import recipe as recipes
from qkv.tasks.folder import TOKENIZERS, open_run
from qkv.tasks.tokenizers import Tokenizers
from qkv.tasks.train import train

TASK = "task.classify_topics"
ARMS: dict[str, tuple[str, str, list[str]]] = {
    "alone": ("newsgroups20", "Transformer, first 96 tokens", []),
    "concatenation": ("newsgroups20-topics", "+ topics, concatenated", [f"{TASK}.fusion=concatenation"]),
    "gate": ("newsgroups20-topics", "+ topics, gated", [f"{TASK}.fusion=gate"]),
    "token": ("newsgroups20-topics", "+ topics, as a token", [f"{TASK}.fusion=topic_token"]),
    "shuffled": ("newsgroups20-topics", "+ topics of another posting (control)", [f"{TASK}.shuffled=true"]),
}


SETTING = """20 Newsgroups by date, headers removed; per cent on the 7,532 test postings, mean and range of three seeds;
weights are chosen on a tenth of the training postings. LDA: 40 topics, learned once from the training postings without
their labels; the proportions are inferred from whole postings."""


@cache
def tokenizers(folder: Path) -> Tokenizers:
    """Tokenizer and topics, learned once: they do not depend on the seed of training."""
    chosen = recipes.load("newsgroups20-topics")
    if not (folder / TOKENIZERS / "target.json").exists():
        rows = chosen.task.load(chosen.data, "train")
        chosen.task.learn(rows, chosen.tokenizers).save(folder / TOKENIZERS)
    return Tokenizers.load(folder / TOKENIZERS)


def fit(arm: str, seed: int, runs: Path) -> Cell:
    """Train an arm and measure it on test; the folder goes when its figures are known."""
    recipe, _, overrides = ARMS[arm]
    folder = runs / f"{arm}-{seed}"
    if not folder.exists():
        shared = tokenizers(runs / "shared")
        shared.save(folder / TOKENIZERS)
    chosen = recipes.load(recipe, [*overrides, f"training.seed={seed}", "training.tensorboard=false"])
    result = train(chosen, folder, say=lambda _: None)
    run = open_run(folder)
    scores = run.recipe.task.evaluate(run.system, classify.rows("newsgroups20", "test"), Greedy())
    shutil.rmtree(folder)
    return {**scores, "seconds": result.elapsed, "steps": result.step}


def linear(of: str, runs: Path) -> Cell:
    """Logistic regression on the proportions alone, C chosen on dev; or the tuned one on TF-IDF of whole postings."""
    parts = [classify.rows("newsgroups20", split) for split in ("train", "dev", "test")]
    if of == "tfidf":
        return classify.linear(*parts, han=False)
    from sklearn.linear_model import LogisticRegression

    task: Any = recipes.load("newsgroups20-topics").task
    theta = [task.vectors(part, tokenizers(runs / "shared")).numpy() for part in parts]
    labels = [[row.labels[0] for row in part] for part in parts]
    tried = [LogisticRegression(C=c, max_iter=1000).fit(theta[0], labels[0]) for c in (1.0, 10.0, 100.0)]
    best = max(tried, key=lambda model: model.score(theta[1], labels[1]))
    return classify.measures(best.predict(theta[2]).tolist(), labels[2])


def main(results: Results) -> str:
    """The table."""
    torch.set_num_threads(1)
    lines = []
    for arm, (_, title, _) in ARMS.items():
        cells = results.seeds(arm, partial(lambda arm, seed: fit(arm, seed, results.runs), arm))
        lines.append([title, spread(cells, "accuracy"), spread(cells, "macro_f1"), spread(cells, "seconds", 1, 0)])
    for name, title in (("topics", "topics alone + LR"), ("tfidf", "TF-IDF + LR, whole posting")):
        cell = [found] if (found := results.cell(name, partial(linear, name, results.runs))) else []
        lines.append([title, spread(cell, "accuracy"), spread(cell, "macro_f1"), spread(cell, "seconds", 1, 0)])
    return "\n\n".join(
        [
            "## Topics and a Transformer",
            "    python -m bench.understanding topics",
            f"{results.machine()} {SETTING}",
            table(["model", "accuracy", "macro F1", "seconds"], lines),
        ]
    )
