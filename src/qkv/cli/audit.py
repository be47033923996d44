"""`qkv data audit`: which labels of a file are probably wrong."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from qkv.tasks.audit import Audit, FitPredict

COLUMNS = ("row", "label", "suggested", "score", "reason", "text")


def audit(
    file: Path = typer.Argument(help="TSV or JSONL with the columns text and label (and second, for pairs)."),
    judge: str = typer.Option("tfidf", "--with", help="tfidf, or a recipe with task: classify, by name or file."),
    folds: int = typer.Option(5, "--folds", help="Parts; each is judged by a classifier trained on the others."),
    seed: int = typer.Option(0, "--seed", help="Of the parts."),
    method: str = typer.Option(
        "confident", "--method", help="confident, or by_rate: of a pair of labels as many rows as are estimated wrong."
    ),
    limit: int = typer.Option(20, "--limit", min=1, help="Rows shown; --output and --json hold all."),
    output: Path | None = typer.Option(None, "--output", help="Write the rows to review to a .tsv or .jsonl file."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """List the rows whose label is probably wrong, most suspicious first, with a reason and a suggestion."""
    from qkv.cli.console import note
    from qkv.config import parse
    from qkv.data import files, labelled
    from qkv.errors import UserError
    from qkv.tasks.audit import Method
    from qkv.tasks.audit import audit as audited

    if output is not None and files.format_of(output) == ".txt":
        raise UserError(f"--output {output}: the list has columns; name a .tsv or .jsonl file")
    how: Method = parse(Method, method.replace("-", "_"), "--method")
    rows = labelled.labelled(file)
    found = audited(rows, _judge(judge), folds, seed, how, note)
    if output is not None:
        _write(output, found)
    if as_json:
        typer.echo(json.dumps(_summary(file, judge, folds, found), ensure_ascii=False))
    else:
        _table(file, found, limit)


def _judge(name: str) -> FitPredict:
    from qkv.errors import UserError
    from qkv.tasks import recipe as recipes
    from qkv.tasks.judges import by_recipe, by_tfidf

    if name == "tfidf":
        return by_tfidf()
    try:
        return by_recipe(recipes.load(name))
    except UserError as error:
        raise UserError(f"--with is tfidf or a recipe: {error}") from error


def _summary(file: Path, judge: str, folds: int, found: Audit) -> dict[str, Any]:
    return {
        "file": str(file),
        "with": judge,
        "folds": folds,
        "rows": len(found.given),
        "agreement": found.agreement,
        "estimated_wrong": found.joint.wrong,
        "labels": [
            {"label": name, "rows": int(sum(found.given == i)), "estimated_right": float(found.joint.calibrated[i, i])}
            for i, name in enumerate(found.names)
        ],
        "findings": [asdict(finding) for finding in found.findings],
    }


def _write(path: Path, found: Audit) -> None:
    """The findings in the columns `COLUMNS`."""
    import sys

    from qkv.cli.console import writing
    from qkv.data import files

    with writing(path, sys.stdout) as sink:
        tabs = files.format_of(path) == ".tsv"
        if tabs:
            print("\t".join(COLUMNS), file=sink)
        for finding in found.findings:
            record = asdict(finding)
            if tabs:
                cells = [f"{record[c]:.4f}" if c == "score" else " ".join(str(record[c]).split()) for c in COLUMNS]
                print("\t".join(cells), file=sink)
            else:
                print(json.dumps({c: record[c] for c in COLUMNS}, ensure_ascii=False), file=sink)


def _table(file: Path, found: Audit, limit: int) -> None:
    from rich.console import Console
    from rich.table import Table

    rows, wrong = len(found.given), found.joint.wrong
    typer.echo(f"{file}: {rows:,} rows, {len(found.names)} labels; {found.agreement:.1%} are given the likeliest label")
    typer.echo(f"about {wrong:.0f} labels are wrong ({wrong / rows:.1%}); {len(found.findings):,} rows to review")
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in COLUMNS:
        table.add_column(column)
    for f in found.findings[:limit]:
        text = f.text if len(f.text) <= 60 else f"{f.text[:59]}…"
        table.add_row(*(_plain(cell) for cell in (str(f.row), f.label, f.suggested, f"{f.score:.2f}", f.reason, text)))
    if found.findings:
        Console().print(table)
    if len(found.findings) > limit:
        typer.echo(f"and {len(found.findings) - limit:,} more; --output FILE writes them all")


def _plain(cell: str) -> Any:
    """Text in which brackets are no markup."""
    from rich.text import Text

    return Text(" ".join(cell.split()))
