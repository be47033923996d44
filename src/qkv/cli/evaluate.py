"""`qkv evaluate`: how good a run is on rows with references."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

LABELS = {
    "word_error": "word error",
    "phoneme_error": "phoneme error",
    "word_error_with_stress": "word error, with stress",
    "phoneme_error_with_stress": "phoneme error, with stress",
    "exact_match": "exact match",
    "bleu": "BLEU (13a, cased, detokenised)",
    "bleu_lowercase_tokenized": "BLEU (13a tokens, lower-cased)",
    "chrf": "chrF",
    "loss": "loss, nats per token",
    "perplexity": "perplexity per token",
    "bits_per_char": "bits per character",
    "bits_per_byte": "bits per byte",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "f1": "entity F1, strict",
    "slot_f1": "slot F1, strict",
    "log_loss": "log loss, nats",
    "joint_goal": "joint goal accuracy",
}
POINTS = ("bleu", "bleu_lowercase_tokenized", "chrf")
SHARES = ("error", "match", "accuracy", "f1", "precision", "recall", "joint_goal")


def evaluate(
    run: Path = typer.Argument(help="A run folder or a Hugging Face folder."),
    overrides: list[str] | None = typer.Argument(
        None, metavar="[KEY=VALUE]...", help="Other decoding, such as beam.width=8 or greedy={}."
    ),
    data: Path | None = typer.Option(None, "--data", help="Your own TSV or JSONL file instead of the recipe's data."),
    split: str | None = typer.Option(None, "--split", help="train, dev or test.", show_default="test, dev without one"),
    limit: int | None = typer.Option(None, "--limit", min=1, help="At most so many rows, evenly spaced."),
    calibrate: bool = typer.Option(
        False, "--calibrate", help="First fit a classifier's temperature on the dev split, and keep it in RUN."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
    device: str = typer.Option("auto", "--device", help="auto, cpu, cuda or mps."),
) -> None:
    """Measure a run by what its task says: errors, BLEU and chrF, loss and bits, accuracy, F1, joint goal accuracy."""
    from qkv.cli.opening import opened
    from qkv.errors import UserError
    from qkv.runtime import choose_device, keep_memory
    from qkv.tasks.recipe import with_decoding
    from qkv.tasks.task import spaced

    keep_memory()
    found = opened(run, choose_device(device))
    recipe = with_decoding(found.recipe, overrides or ())
    if data is None and not (run / "config.yaml").is_file():
        raise UserError(f"{run} has no data of its own; give --data FILE")
    given, name = (recipe.task.read(str(data)), str(data)) if data else _split(recipe, split)
    rows: list[Any] = spaced(given, limit)
    if calibrate:
        from qkv.tasks.calibration import classifier

        classifier(found)  # refuses other runs before anything is measured
    scores = recipe.task.evaluate(found.system, rows, recipe.decoding)
    if calibrate:
        scores = _calibrated(found, rows, scores)
        if name == "dev":
            typer.echo("measured on the rows that the temperature was fitted on; other rows fit less well", err=True)
    if as_json:
        typer.echo(json.dumps({"run": str(run), "data": name, **scores}, ensure_ascii=False))
    else:
        _table(f"{run} on {name}", scores)


def _calibrated(run: Any, rows: list[Any], before: dict[str, Any]) -> dict[str, Any]:
    """The measures with a temperature fitted on dev, beside those that it changes as they were."""
    from qkv.tasks.calibration import calibrate

    fitted = calibrate(run)
    after = run.recipe.task.evaluate(run.system, rows, run.recipe.decoding)
    changed = {f"{name}_before": before[name] for name in ("log_loss", "calibration_error")}
    return {**after, **changed, "temperature": fitted}


def _split(recipe: Any, split: str | None) -> tuple[list[Any], str]:
    """The rows of a split and its name; without a choice the test split, or dev where the dataset has no other."""
    from qkv.data.splits import NoSplit
    from qkv.errors import UserError

    if split is not None:
        if split not in ("train", "dev", "test"):
            raise UserError(f"--split: no split is called {split!r}; choose train, dev or test")
        return recipe.task.load(recipe.data, split), split
    try:
        return recipe.task.load(recipe.data, "test"), "test"
    except NoSplit:
        return recipe.task.load(recipe.data, "dev"), "dev"


def _table(title: str, scores: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in scores.items():
        if isinstance(value, dict):  # measures of each label: for --json
            continue
        table.add_row(LABELS.get(name, name.replace("_", " ")), _shown(name, value))
    Console().print(table)


def _shown(name: str, value: Any) -> str:
    if isinstance(value, float):
        if any(part in name for part in SHARES):
            return f"{100 * value:.2f} %"
        return f"{value:.2f}" if name in POINTS else f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
