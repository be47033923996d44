"""Cells on disk: what was measured, on what, in how many seconds; and the tables that are made of them."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.machine import ROOT, describe
from bench.results_file import read, write

REPORT = ROOT / "docs" / "results-understanding.md"
FOLDER = ROOT / "bench" / "results" / "understanding"
RUNS = ROOT / "runs" / "understanding"
SEEDS = (0, 1, 2)

Cell = dict[str, Any]


class Results:
    """The cells of a part, in bench/results/understanding/PART.json, rewritten after every cell.

    runs: a folder for what is trained. measure: false only reads; a cell that is not there is then empty.
    """

    def __init__(self, part: str, runs: Path, measure: bool = True, folder: Path = FOLDER):
        self.path, self.runs, self.measure = folder / f"{part}.json", runs, measure
        self.record: Cell = read(self.path) if self.path.exists() else {"cells": {}}

    def cell(self, key: str, make: Callable[[], Mapping[str, Any]]) -> Cell:
        """What `make` measured under this key, now or earlier, with the seconds that it took."""
        cells = self.record["cells"]
        if key not in cells and self.measure:
            started = time.perf_counter()
            print(key, end=" ... ", flush=True)
            found = {"seconds": 0.0, **make()}
            found["seconds"] = round(found["seconds"] or time.perf_counter() - started, 1)
            self.record |= describe(threads=int(os.environ.get("OMP_NUM_THREADS", 0)), rounds=1) | {
                "torch": version("torch")
            }
            cells[key] = found
            write(self.record, self.path)
            print(" ".join(f"{name}={_shown(value)}" for name, value in found.items()), flush=True)
        return cells.get(key, {})

    def seeds(self, key: str, make: Callable[[int], Mapping[str, Any]], seeds: Sequence[int] = SEEDS) -> list[Cell]:
        """One cell a seed, under `key seed`."""
        found = [self.cell(f"{key} {seed}", lambda seed=seed: make(seed)) for seed in seeds]  # type: ignore[misc]
        return [cell for cell in found if cell]

    def machine(self) -> str:
        """What it was measured on, as one sentence."""
        if "processor" not in self.record:
            return "Not measured yet."
        processor = self.record["processor"]
        facts = f"{processor['model']}, {self.record['cores']} cores ({', '.join(processor['instructions'])})"
        return f"Measured on {facts}, {self.record['threads'] or 'all'} thread(s); torch {self.record['torch']}."


def trained(recipe: str, overrides: Sequence[str], folder: Path, evaluate: Sequence[str] = ()) -> Cell:
    """Train (or go on with, or find) a run through the command line, as a user would, and evaluate it: its measures,
    its steps and the seconds of training. evaluate: further arguments of `qkv evaluate`."""
    qkv("train", recipe, *overrides, "--out", str(folder))
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    scores = json.loads(qkv("evaluate", str(folder), *evaluate, "--json"))
    del scores["run"]  # a path of this machine
    return {"seconds": run["elapsed"], "steps": run["step"], **scores}


def qkv(*arguments: str) -> str:
    """Run a command of qkv; its standard output."""
    command = [sys.executable, "-m", "qkv", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout


def spread(cells: Sequence[Mapping[str, Any]], figure: str, scale: float = 100.0, digits: int = 1) -> str:
    """Mean and range of a figure over seeds, as a table shows it; one value alone where there is one.

    >>> spread([{"f1": 0.5}, {"f1": 0.7}], "f1")
    '60.0 (50.0 … 70.0)'
    >>> spread([], "f1")
    '–'
    """
    values = [scale * float(cell[figure]) for cell in cells if figure in cell]
    if not values:
        return "–"
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{digits}f} … {max(values):.{digits}f})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def publish(part: str, text: str, report: Path = REPORT) -> None:
    """Put Markdown between the two marks of a part, at the end of the report if it has none."""
    start, end = f"<!-- part:{part} -->", f"<!-- /part:{part} -->"
    old = report.read_text(encoding="utf-8") if report.exists() else "# Results: understanding\n"
    if start not in old:
        old = f"{old.rstrip()}\n\n{start}\n{end}\n"
    head, rest = old.split(start)
    fresh = f"{head}{start}\n\n{text.strip()}\n\n{end}{rest.split(end)[1]}"
    partial = report.with_suffix(f".{os.getpid()}")  # another part may be at it
    partial.write_text(fresh, encoding="utf-8")
    partial.replace(report)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) and math.isfinite(value) else str(value)
