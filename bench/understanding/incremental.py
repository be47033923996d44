"""Incremental training: BANKING77 in two halves, of its intents or of its lengths; what is left of the first."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

from bench.understanding.records import SEEDS, Cell, Results, spread, table
from qkv.data.labelled import Labelled
from qkv.decoding import Greedy
from qkv.tasks import recipe as recipes
from qkv.tasks.folder import Run, open_run
from qkv.tasks.task import System
from qkv.tasks.train import train

RECIPE, STEPS, RATE = "banking77", 450, 3e-3
WAYS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "replay 5 %": {"replay": 0.05},
    "replay 20 %": {"replay": 0.2},
    "replay 20 %, new vocabulary": {"vocabulary": "learned", "replay": 0.2},
}
Setting = Callable[[float], tuple[dict[str, Any], float]]
SETTINGS: dict[str, tuple[tuple[float, ...], Setting]] = {
    "L2-SP": ((0.03, 0.1, 0.3), lambda x: ({"strength": x, "importance": "equal"}, RATE)),
    "EWC": ((3000.0, 30000.0, 300000.0), lambda x: ({"strength": x, "importance": "fisher"}, RATE)),
    "low rank": ((RATE, 1e-2), lambda x: ({"adapter": {"low_rank": {"rank": 8, "alpha": 16.0}}}, x)),
    "bottleneck": ((RATE, 1e-2), lambda x: ({"adapter": {"bottleneck": {"size": 16}}}, x)),
}
"""What is tried, strengths of the penalties and learning rates of the adapters; and what that makes of `incremental`
and of the learning rate."""
INTENTS, LENGTH = "intents", "length"
NOTES = {
    INTENTS: f"""The 77 intents of BANKING77 in alphabetical order, the first 39 and then the other 38: {STEPS} updates
on each half at a learning rate of {RATE:g}, the old labels staying possible answers. Accuracy, %, on test (a tenth of
the training file), all labels competing; mean (range) of seeds, without a range one run. "Old before": on the first
half after its own training. "Among old": after the second training, if only the labels of the first half compete: what
is still known, but no longer said. Both at once: {2 * STEPS} updates on all. Adapters stand beside the frozen encoder,
outputs learn: low rank, r = 8 beside every matrix; bottleneck, 16 wide after every sub-layer. The strength of a penalty
and the learning rate of an adapter stand behind the name: the best of {len(SETTINGS["EWC"][0])} and
{len(SETTINGS["low rank"][0])} by the mean accuracy of both halves on dev, seed 0.""",
    LENGTH: """New data, the same labels: the questions of up to the median number of words (10), of all 77 intents, and
then those that are longer. How often an intent is asked for differs between the halves, too. "New before": on the long
questions after training on short ones. The rest as above.""",
}


@cache
def halves(by: str) -> dict[tuple[int, str], list[Labelled]]:
    """The rows of each half, of the intents or of the lengths, by split."""
    data: Any = recipes.load(RECIPE).data
    rows = {split: data.load(split) for split in ("train", "dev", "test")}
    names = sorted({row.labels[0] for row in rows["train"]})
    early = set(names[: (len(names) + 1) // 2])
    middle = median(len(row.text.split()) for row in rows["train"])

    def first_half(row: Labelled) -> bool:
        return row.labels[0] in early if by == INTENTS else len(row.text.split()) <= middle

    return {
        (half, split): [row for row in found if first_half(row) == (half == 0)]
        for split, found in rows.items()
        for half in (0, 1)
    }


def files(by: str, runs: Path) -> Path:
    """Both halves and all as JSONL, as a user's own files; the folder that they are in."""
    folder = runs / ("data" if by == INTENTS else f"data-{by}")
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "dev"):
        parts = {str(half): halves(by)[half, split] for half in (0, 1)}
        for name, rows in {**parts, "all": [*parts["0"], *parts["1"]]}.items():
            lines = [json.dumps({"text": row.text, "label": row.labels[0]}) for row in rows]
            (folder / f"{split}-{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def recipe(part: str, folder: Path, seed: int, steps: int, rate: float = RATE, **more: Any) -> recipes.Recipe:
    """The recipe on one half or all, without a choice of weights by dev."""
    chosen = recipes.load(
        RECIPE, [f"training.seed={seed}", f"training.max_steps={steps}", "training.tensorboard=false"]
    )
    plain = chosen.plain()
    plain["data"] = {"train": str(folder / f"train-{part}.jsonl"), "dev": str(folder / f"dev-{part}.jsonl")}
    plain["training"] |= {"eval_every": None, "metric": "loss", "mode": "min", "learning_rate": rate}
    plain["evaluation"] = {"scored": 0, "rows": 100}
    return recipes.from_data({**plain, **more})


def accuracies(by: str, task: Any, system: System, split: str) -> Cell:
    """On the rows of each half, all labels competing, their mean; on the first, only its own labels competing."""
    names, own = system.tokenizers.labels["label"].names, {row.labels[0] for row in halves(by)[0, "train"]}
    said = [[names[i] for i in d.labels] for d in task.decide(system, halves(by)[0, split])]
    right = [row.labels[0] for row in halves(by)[0, split]]
    among = [next(name for name in order if name in own) for order in said]
    half_0, known = (sum(map(str.__eq__, found, right)) / len(right) for found in ([order[0] for order in said], among))
    half_1 = task.evaluate(system, halves(by)[1, split], Greedy())["accuracy"]
    return {"half_0": half_0, "half_1": half_1, "both": (half_0 + half_1) / 2, "known": known}


def first(results: Results, by: str, seed: int) -> Run:
    """The run on the first half, trained or found."""
    out = results.runs / (f"first-{seed}" if by == INTENTS else f"first-{by}-{seed}")
    train(recipe("0", files(by, results.runs), seed, STEPS), out, say=lambda _: None)
    return open_run(out)


def second(results: Results, by: str, how: dict[str, Any], rate: float, seed: int) -> Cell:
    """Going on with the second half, in one of the ways."""
    start, out = first(results, by, seed), results.runs / "second"
    shutil.rmtree(out, ignore_errors=True)
    made = recipe("1", files(by, results.runs), seed, STEPS, rate, incremental=how, init=str(start.folder))
    result = train(made, out, say=lambda _: None, start=start)
    run = open_run(out)
    found, dev = (accuracies(by, run.recipe.task, run.system, split) for split in ("test", "dev"))
    before = _before(by, start)
    lost = before["before"] - found["half_0"]
    return {**before, **found, "lost": lost, "dev": dev["both"], "seconds": result.elapsed}


def _before(by: str, start: Run) -> Cell:
    """What the first run was right in: on its own half, and on the other where that has the same labels."""
    task: Any = start.recipe.task
    figures = ["before"] if by == INTENTS else ["before", "new_before"]
    return {
        name: task.evaluate(start.system, halves(by)[half, "test"], Greedy())["accuracy"]
        for half, name in enumerate(figures)
    }


def chosen(results: Results, by: str, name: str) -> tuple[str, Any]:
    """A way with the setting that is best on dev, seed 0: its name, which tells the setting, and what measures it."""
    values, setting = SETTINGS[name]
    ways: dict[str, Any] = {f"{name}, {x:g}": partial(second, results, by, *setting(x)) for x in values}
    found = {key: results.cell(_key(by, key, 0), partial(make, 0)) for key, make in ways.items()}
    best = max(found, key=lambda key: found[key].get("dev", 0.0))
    return best, ways[best]


def _key(by: str, name: str, seed: int) -> str:
    return f"{name} {seed}" if by == INTENTS else f"{by}: {name} {seed}"


def both(results: Results, by: str, seed: int) -> Cell:
    """All rows at once: what there would be without a before and an after."""
    out = results.runs / "both"
    shutil.rmtree(out, ignore_errors=True)
    result = train(recipe("all", files(by, results.runs), seed, 2 * STEPS), out, say=lambda _: None)
    run = open_run(out)
    return {**accuracies(by, run.recipe.task, run.system, "test"), "seconds": result.elapsed}


def measured(results: Results, by: str, plain: Sequence[str], tuned: Sequence[str]) -> dict[str, list[Cell]]:
    """The cells of a table by the name of the way. plain: ways as they are; tuned: those whose setting is chosen."""
    ways: dict[str, Any] = {name: partial(second, results, by, WAYS[name], RATE) for name in plain}
    ways |= dict(chosen(results, by, name) for name in tuned)
    ways["both at once"] = partial(both, results, by)
    cells: dict[str, list[Cell]] = {name: [] for name in ways}
    for seed in SEEDS:  # all ways with one seed before the next
        for name, make in ways.items():
            cells[name] += [cell] if (cell := results.cell(_key(by, name, seed), partial(make, seed))) else []
    return cells


def shown(cells: dict[str, list[Cell]], figures: dict[str, str]) -> str:
    """A table: a way a row, a figure a column. figures: what stands above it, and its name in the cells."""
    rows = [
        [name, *(spread(found, figure) for figure in figures.values()), spread(found, "seconds", scale=1, digits=0)]
        for name, found in cells.items()
    ]
    return table(["what is done", *figures, "seconds"], rows)


def main(results: Results) -> str:
    """Two tables: other intents, in every way; other lengths of the same intents, in some."""
    intents = measured(results, INTENTS, list(WAYS), list(SETTINGS))
    columns = {"old before": "before", "old after": "half_0", "new": "half_1", "mean": "both", "forgotten": "lost"}
    parts = [NOTES[INTENTS], shown(intents, {**columns, "among old": "known"}), verdict(intents, INTENTS)]
    length = measured(results, LENGTH, ["nothing", "replay 5 %"], ["EWC", "low rank"])
    columns = {"old before": "before", "new before": "new_before", **columns}
    parts += [NOTES[LENGTH], shown(length, columns), verdict(length, LENGTH), results.machine()]
    return "\n\n".join(["## Incremental training", *(part for part in parts if part)])


def verdict(cells: dict[str, list[Cell]], by: str) -> str:
    """What is forgotten where nothing is done, what that shows, and what serves both halves best."""
    means = _means(cells)
    if "nothing" not in means:
        return ""
    best, naive = max(means, key=lambda name: means[name]["both"]), means["nothing"]
    shows = {
        INTENTS: "; if only its labels compete, {known:.0f} % are still right: answers are no longer said before they "
        "are no longer known",
        LENGTH: ", and the second goes from {new_before:.1f} to {half_1:.1f}",
    }
    return (
        f"With nothing done {naive['lost']:.1f} points of the first half are forgotten{shows[by].format(**naive)}. "
        f"Best for both halves is {best} ({means[best]['both']:.1f}, forgotten {means[best]['lost']:.1f})."
    )


def _means(cells: dict[str, list[Cell]]) -> dict[str, dict[str, float]]:
    """Of every way that forgets, the mean of each figure over seeds, in per cent."""
    told = {name: found for name, found in cells.items() if found and "lost" in found[0]}
    return {name: {f: 100 * fmean(c[f] for c in found if f in c) for f in found[0]} for name, found in told.items()}
