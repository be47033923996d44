"""`qkv scope`: teach a run to tell texts that it was not trained for, and texts between two labels."""

from __future__ import annotations

import json
from pathlib import Path

import typer


def scope(
    run: Path = typer.Argument(help="A run folder of the task classify."),
    outside: Path | None = typer.Option(None, "--outside", help="Texts out of scope: .txt, or the column text."),
    refused: float | None = typer.Option(None, "--refused", help="Without such texts: refuse at most this share."),
    score: str = typer.Option(
        "energy", "--score", help="max_probability, energy, mahalanobis, gaussians, neighbours or word_mixture."
    ),
    share: float = typer.Option(
        0.1, "--share", min=0, max=1, help="Of the texts that will come, so many are out of scope."
    ),
    answered_costs: float = typer.Option(1.0, "--answered-costs", min=0, help="What answering such a text costs."),
    refused_costs: float = typer.Option(1.0, "--refused-costs", min=0, help="What refusing a text in scope costs."),
    wrong_costs: float = typer.Option(1.0, "--wrong-costs", min=0, help="What a wrong label costs."),
    asked_costs: float = typer.Option(0.2, "--asked-costs", min=0, help="What asking back between two labels costs."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Fit a score on the training texts, choose threshold and margin on the dev texts by cost, and keep both in RUN.

    From then on `qkv predict RUN --json` says of every text whether it is in scope and whether two labels are close."""
    from qkv.config import parse
    from qkv.data import files
    from qkv.data.labelled import Labelled
    from qkv.errors import UserError
    from qkv.tasks.classify import Classify
    from qkv.tasks.folder import open_run
    from qkv.tasks.scope import Scope, written
    from qkv.tasks.scope_metrics import Costs
    from qkv.tasks.scope_scores import ScoreConfig

    if outside and refused is not None:
        raise UserError("--refused is for want of texts out of scope, and --outside gives some; leave one of them away")
    opened = open_run(run)
    task, data = opened.recipe.task, opened.recipe.data
    if not isinstance(task, Classify):
        raise UserError(f"{run} does not classify texts; train a run of the task classify: qkv train clinc150")
    chosen = parse(ScoreConfig, score.replace("-", "_"), "--score")
    given = {"outside": share, "answered": answered_costs, "refused": refused_costs}
    costs = parse(Costs, {**given, "wrong": wrong_costs, "asked": asked_costs}, "--share")
    others = [Labelled(text) for text in files.inputs(outside, "text")] if outside else []
    train, dev = (task.load(data, split) for split in ("train", "dev"))
    fitted = Scope.fit(opened.system, task, train, dev, others, chosen, costs, refused)
    fitted.save(run)
    found = {"threshold": fitted.threshold, "margin": fitted.margin, **fitted.measured}
    if as_json:
        typer.echo(json.dumps({"score": score, **{name: written(value) for name, value in found.items()}}))
    else:
        lines = {"score": score, **{name.replace("_", " "): f"{value:.4f}" for name, value in found.items()}}
        typer.echo("\n".join(f"{name:<20} {value}" for name, value in lines.items()))
