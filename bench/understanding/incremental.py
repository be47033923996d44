"""Incremental training: BANKING77 in two halves of its intents; what is left of the first after the second."""

from __future__ import annotations

import json
import shutil
from functools import cache, partial
from pathlib import Path
from typing import Any

from bench.understanding.records import SEEDS, Cell, Results, spread, table
from qkv.compress.lora import add_lora, merge_lora, trainable
from qkv.data.labelled import Labelled
from qkv.decoding import Greedy
from qkv.tasks import growth
from qkv.tasks import recipe as recipes
from qkv.tasks.classify import Classify
from qkv.tasks.folder import Run, open_run
from qkv.tasks.model import fresh
from qkv.tasks.task import System
from qkv.tasks.train import train
from qkv.training.config import TrainingConfig
from qkv.training.fit import fit

RECIPE, STEPS = "banking77", 900
WAYS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "replay 5 %": {"replay": 0.05},
    "replay 20 %": {"replay": 0.2},
    "L2-SP": {"strength": 0.3},
    "EWC": {"strength": 100.0, "importance": "fisher"},
    "new vocabulary": {"vocabulary": "learned"},
    "new vocabulary, replay 20 %": {"vocabulary": "learned", "replay": 0.2},
}
NOTE = f"""The 77 intents in alphabetical order, the first 39 and then the other 38: {STEPS} updates on each half,
the old labels staying possible answers. Accuracy of all 77 on test (a tenth of the training file, as for the recipe
banking77; dev chooses no weights here: the last ones are kept). "Old before": on the first half after its own
training, when the others were no possible answers. Both at once: {2 * STEPS} updates on all. Low rank: r = 8 beside
every matrix of the frozen encoder, new outputs free, merged at the end. Strengths were set once, not tuned."""


@cache
def halves() -> dict[tuple[int, str], list[Labelled]]:
    """The rows of each half of the intents by split."""
    data = recipes.load(RECIPE).data
    rows = {split: data.load(split) for split in ("train", "dev", "test")}  # type: ignore[arg-type]
    names = sorted({row.labels[0] for row in rows["train"]})
    first = set(names[: (len(names) + 1) // 2])
    return {
        (half, split): [row for row in found if (row.labels[0] in first) == (half == 0)]
        for split, found in rows.items()
        for half in (0, 1)
    }


def files(folder: Path) -> Path:
    """Both halves and all as JSONL, as a user's own files."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "dev"):
        parts = {str(half): halves()[half, split] for half in (0, 1)}
        for name, rows in {**parts, "all": [*parts["0"], *parts["1"]]}.items():
            lines = [json.dumps({"text": row.text, "label": row.labels[0]}) for row in rows]
            (folder / f"{split}-{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def recipe(part: str, folder: Path, seed: int, steps: int = STEPS, **more: Any) -> recipes.Recipe:
    """The recipe on one half or all, without a choice of weights by dev."""
    chosen = recipes.load(
        RECIPE, [f"training.seed={seed}", f"training.max_steps={steps}", "training.tensorboard=false"]
    )
    plain = chosen.plain()
    plain["data"] = {"train": str(folder / f"train-{part}.jsonl"), "dev": str(folder / f"dev-{part}.jsonl")}
    plain["training"] |= {"eval_every": None}
    plain["evaluation"] = {"scored": 0, "rows": 100}
    plain["training"] |= {"metric": "loss", "mode": "min"}
    return recipes.from_data({**plain, **more})


def accuracy(task: Any, system: System, half: int) -> float:
    """On the test rows of a half."""
    return task.evaluate(system, halves()[half, "test"], Greedy())["accuracy"]


def first(results: Results, seed: int) -> Run:
    """The run on the first half, trained or found."""
    data, out = files(results.runs / "data"), results.runs / f"first-{seed}"
    train(recipe("0", data, seed), out, say=lambda _: None)
    return open_run(out)


def second(results: Results, name: str, seed: int) -> Cell:
    """Going on with the second half, in one of the ways."""
    start, data = first(results, seed), results.runs / "data"
    out = results.runs / "second"
    shutil.rmtree(out, ignore_errors=True)
    made = recipe("1", data, seed, incremental=WAYS[name], init=str(start.folder))
    result = train(made, out, say=lambda _: None, start=start)
    run = open_run(out)
    return {**_scores(start, run.recipe.task, run.system), "seconds": result.elapsed}


def low_rank(results: Results, seed: int) -> Cell:
    """The encoder frozen, a correction of rank 8 beside each of its matrices."""
    start, task = first(results, seed), Classify(**vars(recipes.load(RECIPE).task))
    rows = halves()[1, "train"]
    labels = growth.union(start.system.tokenizers.labels, task.labels(rows))
    tokenizers = type(start.system.tokenizers)(start.system.tokenizers.target, None, labels)
    config = start.recipe.model_config
    model = fresh(config, tokenizers, task)
    growth.extend(model, task, config, tokenizers, start.system)
    add_lora(model, names=("query_key_value", "out", "up", "down"))
    learns = trainable(model)
    out = results.runs / "low-rank"
    shutil.rmtree(out, ignore_errors=True)
    training: TrainingConfig = recipe("1", results.runs / "data", seed).training
    result = fit(model, task.loss(True), task.batches(rows, tokenizers, seed), training, out, progress=False)
    merge_lora(model).eval()
    return {**_scores(start, task, System(model, tokenizers)), "seconds": result.elapsed, "trained": learns}


def both(results: Results, seed: int) -> Cell:
    """All intents at once: what there would be without a before and an after."""
    out = results.runs / "both"
    shutil.rmtree(out, ignore_errors=True)
    result = train(recipe("all", files(results.runs / "data"), seed, 2 * STEPS), out, say=lambda _: None)
    run = open_run(out)
    found = {f"half_{half}": accuracy(run.recipe.task, run.system, half) for half in (0, 1)}
    return {**found, "both": sum(found.values()) / 2, "seconds": result.elapsed}


def _scores(start: Run, task: Any, system: System) -> Cell:
    found = {f"half_{half}": accuracy(task, system, half) for half in (0, 1)}
    before = accuracy(start.recipe.task, start.system, 0)
    return {"before": before, **found, "both": sum(found.values()) / 2, "lost": before - found["half_0"]}


def main(results: Results) -> str:
    """One table: a way a row."""
    ways = {name: partial(second, results, name) for name in WAYS}
    ways |= {"low rank": partial(low_rank, results), "both at once": partial(both, results)}
    cells: dict[str, list[Cell]] = {name: [] for name in ways}
    for seed in SEEDS:  # all ways with one seed before the next
        for name, way in ways.items():
            cells[name] += [cell] if (cell := results.cell(f"{name} {seed}", partial(way, seed))) else []
    figures = ("before", "half_0", "half_1", "both", "lost")
    rows = [
        [name, *(spread(found, figure) for figure in figures), spread(found, "seconds", scale=1, digits=0)]
        for name, found in cells.items()
    ]
    head = ["what is done", "old before", "old after", "new", "mean", "forgotten", "seconds"]
    return f"## Incremental training\n\n{NOTE}\n\n{table(head, rows)}\n\n{results.machine()}"
