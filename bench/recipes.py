"""`python -m bench.recipes`: what each recipe reaches, into docs/results.md.

Every recipe is trained once at full length, and with three seeds at a tenth of it for the spread; then evaluated on its
test split with its own decoding, all through the command line, as a user would. Finished runs are kept in --runs and
not trained again, interrupted ones resume; the report is rewritten after every run, so the command may be stopped at
any time and given again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.machine import ROOT, commit, describe

REPORT, RECORDS = ROOT / "docs" / "results.md", ROOT / "docs" / "results.json"
SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Goal:
    """A figure of `qkv evaluate`, what it must reach, and how it is shown."""

    figure: str
    label: str
    bar: float | None = None
    at_least: bool = False
    percent: bool = False

    def shown(self, value: float | None) -> str:
        """The value as the table prints it."""
        if value is None:
            return "–"
        return f"{100 * value:.2f} %" if self.percent else f"{value:.3f}" if value < 10 else f"{value:.2f}"

    def verdict(self, value: float | None) -> str:
        """Whether the bar is met, in words."""
        if self.bar is None or value is None:
            return ""
        met = value >= self.bar if self.at_least else value <= self.bar
        return "met" if met else "**missed**"


def _speech(word: float, phoneme: float) -> tuple[Goal, ...]:
    return (
        Goal("word_error", "word error", word, percent=True),
        Goal("phoneme_error", "phoneme error", phoneme, percent=True),
    )


GOALS: dict[str, tuple[Goal, ...]] = {
    "demo": _speech(0.42, 0.12),
    "g2p": _speech(0.25, 0.06),
    "multi30k-de": (
        Goal("bleu", "BLEU, 13a, cased", 38.0, at_least=True),
        Goal("bleu_lowercase_tokenized", "BLEU, 13a tokens, lower-cased"),
    ),
    "shakespeare-char": (Goal("loss", "validation loss", 1.88),),
    "shakespeare-char-30min": (Goal("loss", "validation loss", 1.60),),
}


def qkv(*arguments: str) -> str:
    """Run a command of qkv; its standard output."""
    command = [sys.executable, "-m", "qkv", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout


def measured(recipe: str, folder: Path, overrides: list[str]) -> dict[str, Any]:
    """Train (or find trained) and evaluate (or find evaluated) one run."""
    record = folder / "evaluation.json"
    if not record.exists():
        qkv("train", recipe, *overrides, "--out", str(folder))
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        scores = json.loads(qkv("evaluate", str(folder), "--json"))
        del scores["run"]  # a path of this machine
        facts = {"minutes": run["elapsed"] / 60, "steps": run["step"], "weights": run["weights"]}
        record.write_text(json.dumps({**facts, **scores, "commit": commit()}, indent=1), encoding="utf-8")
    return json.loads(record.read_text(encoding="utf-8"))


def tenth(recipe: str, seed: int, steps: int) -> list[str]:
    """The overrides of a run with another seed and a tenth of the `steps` of the full one, its warm-up shortened alike.

    Steps, also where the recipe gives minutes: then the spread does not depend on what else the machine does."""
    path = ROOT / "src" / "qkv" / "recipes" / f"{recipe}.yaml"
    schedule = yaml.safe_load(path.read_text(encoding="utf-8"))["training"].get("schedule", {})
    entry = next(iter(schedule)) if isinstance(schedule, dict) and schedule else None
    warmup = schedule[entry].get("warmup") if entry else None
    overrides = [f"training.max_steps={steps // 10}", f"training.seed={seed}"]
    return [*overrides, f"training.schedule.{entry}.warmup={max(1, warmup // 10)}"] if warmup else overrides


def spread(goal: Goal, runs: list[dict[str, Any]]) -> str:
    """Mean and range of a figure over the seeds."""
    values = [run[goal.figure] for run in runs if goal.figure in run]
    if not values:
        return "–"
    return f"{goal.shown(statistics.mean(values))} ({goal.shown(min(values))} … {goal.shown(max(values))})"


def table(records: dict[str, Any]) -> list[str]:
    """The Markdown table of all recipes."""
    lines = [
        "| recipe | figure | bar | full length | | minutes | a tenth of the length, 3 seeds: mean (least … most) |",
        "|---|---|---|---|---|---|---|",
    ]
    for recipe, goals in GOALS.items():
        record = records.get(recipe, {})
        full, seeds = record.get("full"), record.get("tenth", [])
        for goal in goals:
            value = None if full is None else full.get(goal.figure)
            bar = "" if goal.bar is None else f"{'≥' if goal.at_least else '≤'} {goal.shown(goal.bar)}"
            minutes = "–" if full is None else f"{full['minutes']:.1f}"
            cells = (recipe, goal.label, bar, goal.shown(value), goal.verdict(value), minutes, spread(goal, seeds))
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def write(records: dict[str, Any]) -> None:
    """docs/results.md between its two marks, and docs/results.json."""
    RECORDS.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    text = REPORT.read_text(encoding="utf-8")
    start, end = "<!-- recipes -->\n", "<!-- /recipes -->"
    head, rest = text.split(start)
    tail = rest.split(end)[1]
    machine = records["machine"]
    facts = (
        f"{machine['processor']['model']}, {machine['cores']} cores ({', '.join(machine['processor']['instructions'])})"
    )
    body = "\n".join(
        [f"Measured on {facts}; torch {machine['torch']}, Python {machine['python']}.", "", *table(records)]
    )
    REPORT.write_text(f"{head}{start}\n{body}\n\n{end}{tail}", encoding="utf-8")


def main() -> None:
    """Train and evaluate what is missing, in the order of GOALS."""
    parser = argparse.ArgumentParser(prog="python -m bench.recipes", description=__doc__)
    parser.add_argument("--only", default=",".join(GOALS), help="recipes, joined by commas")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "results", help="where the run folders are kept")
    parser.add_argument("--part", choices=("full", "tenth", "all"), default="all")
    chosen = parser.parse_args()
    runs = chosen.runs.resolve()
    import torch

    records = json.loads(RECORDS.read_text(encoding="utf-8")) if RECORDS.exists() else {}
    records["machine"] = describe(threads=torch.get_num_threads(), rounds=1) | {"torch": torch.__version__}
    for recipe in chosen.only.split(","):
        record = records.setdefault(recipe, {})
        if chosen.part in ("full", "all"):
            record["full"] = measured(recipe, runs / recipe / "full", [])
            write(records)
        if chosen.part in ("tenth", "all"):
            if "full" not in record:
                parser.error(f"{recipe}: a tenth is counted from the full run; train that first")
            settings = [tenth(recipe, seed, record["full"]["steps"]) for seed in SEEDS]
            folders = [runs / recipe / f"tenth-{seed}" for seed in SEEDS]
            record["tenth"] = [measured(recipe, *one) for one in zip(folders, settings, strict=True)]
            write(records)


if __name__ == "__main__":
    main()
