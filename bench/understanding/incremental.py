"""Incremental training: BANKING77 in two halves of its intents; what is left of the first after the second."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.understanding.records import SEEDS, Cell, Results, spread, table
from qkv.compress.lora import add_lora, merge_lora, trainable
from qkv.data.labelled import Labelled
from qkv.decoding import Greedy
from qkv.tasks import growth
from qkv.tasks import recipe as recipes
from qkv.tasks.folder import Run, open_run
from qkv.tasks.model import fresh
from qkv.tasks.task import System
from qkv.tasks.train import train
from qkv.training.fit import fit

RECIPE, STEPS, RATE = "banking77", 450, 3e-3
WAYS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "replay 5 %": {"replay": 0.05},
    "replay 20 %": {"replay": 0.2},
    "replay 20 %, new vocabulary": {"vocabulary": "learned", "replay": 0.2},
}
SETTINGS = {"L2-SP": (0.03, 0.1, 0.3), "EWC": (3000.0, 30000.0, 300000.0), "low rank": (RATE, 1e-2)}
NOTE = f"""The 77 intents of BANKING77 in alphabetical order, the first 39 and then the other 38: {STEPS} updates on
each half at a learning rate of {RATE:g}, the old labels staying possible answers. Accuracy, %, on test (a tenth of
the training file), all labels competing; mean (range) of seeds, without a range one run. "Old before": on the first
half after its own training. "Among old": after the second training, if only the labels of the first half compete: what
is still known, but no longer said. Both at once: {2 * STEPS} updates on all. Low rank: r = 8 beside every matrix of the
frozen encoder, new outputs free, merged at the end. The strength of a penalty and the learning rate of low rank stand
behind the name: the best of {len(SETTINGS["EWC"])} and {len(SETTINGS["low rank"])} by the mean accuracy of both halves
on dev, seed 0."""


@cache
def halves() -> dict[tuple[int, str], list[Labelled]]:
    """The rows of each half of the intents by split."""
    data: Any = recipes.load(RECIPE).data
    rows = {split: data.load(split) for split in ("train", "dev", "test")}
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
    plain["training"] |= {"eval_every": None, "metric": "loss", "mode": "min", "learning_rate": RATE}
    plain["evaluation"] = {"scored": 0, "rows": 100}
    return recipes.from_data({**plain, **more})


def accuracies(task: Any, system: System, split: str) -> Cell:
    """On the rows of each half, all labels competing, their mean; on the first, only its own labels competing."""
    names, own = system.tokenizers.labels["label"].names, {row.labels[0] for row in halves()[0, "train"]}
    said = [[names[i] for i in d.labels] for d in task.decide(system, halves()[0, split])]
    right = [row.labels[0] for row in halves()[0, split]]
    among = [next(name for name in order if name in own) for order in said]
    half_0, known = (sum(map(str.__eq__, found, right)) / len(right) for found in ([order[0] for order in said], among))
    half_1 = task.evaluate(system, halves()[1, split], Greedy())["accuracy"]
    return {"half_0": half_0, "half_1": half_1, "both": (half_0 + half_1) / 2, "known": known}


def first(results: Results, seed: int) -> Run:
    """The run on the first half, trained or found."""
    data, out = files(results.runs / "data"), results.runs / f"first-{seed}"
    train(recipe("0", data, seed), out, say=lambda _: None)
    return open_run(out)


def second(results: Results, how: dict[str, Any], seed: int) -> Cell:
    """Going on with the second half, in one of the ways."""
    start, data = first(results, seed), results.runs / "data"
    out = results.runs / "second"
    shutil.rmtree(out, ignore_errors=True)
    made = recipe("1", data, seed, incremental=how, init=str(start.folder))
    result = train(made, out, say=lambda _: None, start=start)
    run = open_run(out)
    return {**_scores(start, run.recipe.task, run.system), "seconds": result.elapsed}


def chosen(results: Results, name: str) -> tuple[str, Any]:
    """A way with the setting that is best on dev, seed 0: its name, which tells the setting, and what measures it."""
    ways: dict[str, Any] = {}
    for value in SETTINGS[name]:
        importance = "fisher" if name == "EWC" else "equal"
        how = {"strength": value, "importance": importance}
        way = partial(low_rank, results, value) if name == "low rank" else partial(second, results, how)
        ways[f"{name}, {value:g}"] = way
    found = {key: results.cell(f"{key} 0", partial(way, 0)) for key, way in ways.items()}
    best = max(found, key=lambda key: found[key].get("dev", 0.0))
    return best, ways[best]


def low_rank(results: Results, rate: float, seed: int) -> Cell:
    """The encoder frozen, a correction of rank 8 beside each of its matrices."""
    start = first(results, seed)
    task: Any = start.recipe.task
    rows, config = halves()[1, "train"], start.recipe.model_config
    labels = growth.union(start.system.tokenizers.labels, task.labels(rows))
    tokenizers = replace(start.system.tokenizers, labels=labels)
    model = fresh(config, tokenizers, task)
    growth.extend(model, task, config, tokenizers, start.system)
    add_lora(model, names=("query_key_value", "out", "up", "down"))
    learns = trainable(model)
    out = results.runs / "low-rank"
    shutil.rmtree(out, ignore_errors=True)
    training = replace(recipe("1", results.runs / "data", seed).training, learning_rate=rate)
    result = fit(model, task.loss(True), task.batches(rows, tokenizers, seed), training, out, progress=False)
    merge_lora(model).eval()
    return {**_scores(start, task, System(model, tokenizers)), "seconds": result.elapsed, "trained": learns}


def both(results: Results, seed: int) -> Cell:
    """All intents at once: what there would be without a before and an after."""
    out = results.runs / "both"
    shutil.rmtree(out, ignore_errors=True)
    result = train(recipe("all", files(results.runs / "data"), seed, 2 * STEPS), out, say=lambda _: None)
    run = open_run(out)
    return {**accuracies(run.recipe.task, run.system, "test"), "seconds": result.elapsed}


def _scores(start: Run, task: Any, system: System) -> Cell:
    found, dev = (accuracies(task, system, split) for split in ("test", "dev"))
    earlier: Any = start.recipe.task
    before = earlier.evaluate(start.system, halves()[0, "test"], Greedy())["accuracy"]
    return {"before": before, **found, "lost": before - found["half_0"], "dev": dev["both"]}


def main(results: Results) -> str:
    """One table: a way a row."""
    ways: dict[str, Any] = {name: partial(second, results, how) for name, how in WAYS.items()}
    ways |= dict(chosen(results, name) for name in SETTINGS)
    ways["both at once"] = partial(both, results)
    cells: dict[str, list[Cell]] = {name: [] for name in ways}
    for seed in SEEDS:  # all ways with one seed before the next
        for name, way in ways.items():
            cells[name] += [cell] if (cell := results.cell(f"{name} {seed}", partial(way, seed))) else []
    figures = ("before", "half_0", "half_1", "both", "lost", "known")
    rows = [
        [name, *(spread(found, figure) for figure in figures), spread(found, "seconds", scale=1, digits=0)]
        for name, found in cells.items()
    ]
    told = verdict({name: found for name, found in cells.items() if found and "lost" in found[0]})
    head = ["what is done", "old before", "old after", "new", "mean", "forgotten", "among old", "seconds"]
    return f"## Incremental training\n\n{NOTE}\n\n{table(head, rows)}\n\n{told}\n\n{results.machine()}"


def verdict(cells: dict[str, list[Cell]]) -> str:
    """What forgets least and what serves both halves best, and how much is still known."""
    if "nothing" not in cells:
        return ""
    means = {name: {f: 100 * fmean(c[f] for c in found) for f in found[0]} for name, found in cells.items()}
    best, naive = max(means, key=lambda name: means[name]["both"]), means["nothing"]
    return (
        f"With nothing done {naive['lost']:.0f} points of the first half are forgotten; if only its labels compete, "
        f"{naive['known']:.0f} % are still right: answers are no longer said before they are no longer known. Best for "
        f"both halves is {best} ({means[best]['both']:.1f}, forgotten {means[best]['lost']:.1f})."
    )
