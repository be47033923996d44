"""Topics beside a Transformer on 20 Newsgroups: three ways to join them, the control of other documents' topics."""

from __future__ import annotations

import shutil
from array import array
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from bench.understanding import classify
from bench.understanding.records import Cell, Results, spread, table
from qkv.baselines import tfidf
from qkv.decoding import Greedy
from qkv.tasks import recipe as recipes
from qkv.tasks.folder import TOKENIZERS, open_run
from qkv.tasks.tokenizers import Tokenizers
from qkv.tasks.train import train
from qkv.text.topics import Ids, Topics

TASK = "task.classify_topics"
ARMS: dict[str, tuple[str, str, list[str]]] = {
    "alone": ("newsgroups20", "Transformer", []),
    "concatenation": ("newsgroups20-topics", "+ topics, concatenated", [f"{TASK}.fusion=concatenation"]),
    "gate": ("newsgroups20-topics", "+ topics, gated", [f"{TASK}.fusion=gate"]),
    "token": ("newsgroups20-topics", "+ topics, as a token", [f"{TASK}.fusion=topic_token"]),
    "shuffled": ("newsgroups20-topics", "+ topics of another posting (control)", [f"{TASK}.shuffled=true"]),
}
PLAIN = {
    "topics": "topics alone + LR",
    "window": "TF-IDF + LR, the tokens that the Transformer reads",
    "tfidf": "TF-IDF + LR, whole posting",
}
STRENGTHS = (3.0, 10.0, 30.0, 100.0)


def remembered(infer: Callable[[Topics, Ids], torch.Tensor]) -> Callable[[Topics, Ids], torch.Tensor]:
    """Inference that is asked once a posting: all arms are told the topics of the same ones by the same `Topics`."""
    seen: dict[bytes, torch.Tensor] = {}

    def asked(topics: Topics, texts: Ids) -> torch.Tensor:
        keys = [array("l", ids).tobytes() for ids in texts]
        new = {key: ids for key, ids in zip(keys, texts, strict=True) if key not in seen}
        seen.update(zip(new, infer(topics, list(new.values())), strict=True))
        return torch.stack([seen[key] for key in keys])

    return asked


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
    """Logistic regression on the topics alone, or on TF-IDF of whole postings or of what the encoder reads of them; C
    chosen on dev."""
    from sklearn.linear_model import LogisticRegression

    shared, task = tokenizers(runs / "shared"), _task()
    parts = [classify.rows("newsgroups20", split) for split in ("train", "dev", "test")]
    labels = [[row.labels[0] for row in part] for part in parts]
    sizes = {"rows": len(parts[0]), "test": len(parts[2])}
    if of == "topics":
        told = [task.vectors(part, shared).numpy() for part in parts]
        tried = [LogisticRegression(C=c, max_iter=1000).fit(told[0], labels[0]) for c in (0.1, 1.0, 10.0)]
        best = max(tried, key=lambda model: model.score(told[1], labels[1]))
        return sizes | classify.measures(best.predict(told[2]).tolist(), labels[2])
    window = slice(task.longest - 2 if of == "window" else None)  # without a begin and an end
    texts = [[shared.target.decode(ids[window]) for ids in task.whole(part, shared)] for part in parts]
    found = tfidf.learn(texts[0], labels[0], texts[1], labels[1], [tfidf.Features(1, rarest=2)], STRENGTHS)
    return sizes | {"C": found.strength} | classify.measures(found.predict(texts[2]), labels[2])


def _task() -> Any:
    return recipes.load("newsgroups20-topics").task


def main(results: Results) -> str:
    """The table."""
    torch.set_num_threads(1)
    Topics.infer = remembered(Topics.infer)  # type: ignore[method-assign]
    plain = {name: results.cell(name, partial(linear, name, results.runs)) for name in PLAIN}
    found = {arm: results.seeds(arm, partial(lambda arm, seed: fit(arm, seed, results.runs), arm)) for arm in ARMS}
    named = [(title, found[arm]) for arm, (_, title, _) in ARMS.items()]
    named += [(title, [plain[name]] if plain[name] else []) for name, title in PLAIN.items()]
    lines = [
        [title, spread(cells, "accuracy"), spread(cells, "macro_f1"), spread(cells, "seconds", 1, 0)]
        for title, cells in named
    ]
    return "\n\n".join(
        [
            "## Topics and a Transformer",
            "    python -m bench.understanding topics",
            f"{results.machine()} {_setting(plain['tfidf'])}",
            table(["model", "accuracy", "macro F1", "seconds"], lines),
            *([_compared(found, plain)] if all([*found.values(), *plain.values()]) else []),
        ]
    )


def _setting(cell: Cell) -> str:
    task = _task()
    train_rows, test = (f"{cell[name]:,} " if cell else "" for name in ("rows", "test"))
    return (
        f"20 Newsgroups by date, headers removed; {train_rows}postings to train on; per cent on the {test}test "
        "postings, mean and range of three seeds; weights, C and features are chosen on a tenth of the training "
        "postings, the Transformer's shape and updates after a test figure of shorter training had been "
        f"seen. It reads the first {task.longest} tokens. LDA: {task.topics.n} topics, learned once "
        "from the training postings without their labels; the proportions are inferred from whole postings."
    )


def _compared(found: dict[str, list[Cell]], plain: dict[str, Cell]) -> str:
    """What topics add, what the control adds, and what reading more would."""

    def accuracies(arm: str) -> list[float]:
        return [100 * cell["accuracy"] for cell in found[arm]]

    def gain(arm: str) -> str:
        ours, alone = accuracies(arm), accuracies("alone")
        apart = "every seed" if min(ours) > max(alone) else "not every seed"
        return f"{sum(ours) / len(ours) - sum(alone) / len(alone):+.1f} points ({apart} above every one without)"

    told = [f"{ARMS[arm][1].removeprefix('+ ')}: {gain(arm)}" for arm in ARMS if arm != "alone"]
    whole, window = (100 * plain[name]["accuracy"] for name in ("tfidf", "window"))
    best = max(sum(accuracies(arm)) / len(accuracies(arm)) for arm in ARMS)
    return (
        f"Beside the Transformer alone: {'; '.join(told)}. TF-IDF + LR gains {whole - window:+.1f} points by reading "
        f"whole postings in place of the window, and with them is {whole - best:+.1f} points from the best "
        f"Transformer; with the same window as the Transformer it has {window:.1f}."
    )
