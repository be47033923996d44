"""`qkv ask`: a question about the Transformer, answered in the terminal by prose and a run."""

from __future__ import annotations

import locale
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

if TYPE_CHECKING:
    from qkv.lab.evidence import Evidence

FIGURES = Path("runs") / "lab"


def ask(
    question: list[str] = typer.Argument(help="A number (69: list A; b9: list B) or words in either language."),
    lang: str | None = typer.Option(None, "--lang", help="zh or en.", show_default="the terminal's language"),
    seed: int = typer.Option(0, "--seed", help="Of everything that the run draws."),
    run: bool = typer.Option(True, "--run/--no-run", help="Run the experiments now, or show the last recorded run."),
    quick: bool = typer.Option(False, "--quick", help="Run what takes seconds; show the recorded run of the rest."),
) -> None:
    """Answer a question: in two lines, derived, and shown by a run that could have come out the other way."""
    from rich.console import Console

    from qkv.errors import UserError
    from qkv.lab import answers, ledger
    from qkv.lab.questions import find
    from qkv.lab.terminal import print_answer

    language = _language(lang)
    found = find(" ".join(question))
    chosen = next((q for q in found if q.answered), found[0])
    answer = answers.read(chosen, language)
    if answer is None:
        near = ", ".join(r.upper() for r in chosen.related) or "qkv lab shows all"
        raise UserError(f"{chosen.label} ({chosen.title(language)}) is not answered yet; see also: {near}")
    evidence = {name: e for name, e in ledger.read().items() if name in chosen.experiments}
    ran = _run(chosen.experiments, seed, quick) if run else {}
    evidence |= ran
    console = Console()
    print_answer(console, answer, evidence, ran)
    for line in _figures(evidence, language):
        console.print(line, style="dim", soft_wrap=True)
    others = [f"{q.label} {q.title(language)}" for q in found[:4] if q is not chosen]
    if others:
        console.print(("另见：" if language == "zh" else "Also near: ") + " · ".join(others), style="dim")
    if any(not e.passed for e in ran.values()):
        raise typer.Exit(1)


def _language(wanted: str | None) -> Literal["en", "zh"]:
    from qkv.errors import UserError

    if wanted is None:
        return "zh" if (locale.getlocale()[0] or "").lower().startswith(("zh", "chinese")) else "en"
    if wanted not in ("en", "zh"):
        raise UserError(f"--lang: {wanted!r} is not a language of the answers; choose zh or en")
    return "zh" if wanted == "zh" else "en"


def _run(names: tuple[str, ...], seed: int, quick: bool) -> dict[str, Evidence]:
    """Run the experiments with a progress bar each; where data is missing the recorded run has to do."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    from qkv.lab.kit import run
    from qkv.lab.registry import find_experiment

    found = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        for name in names:
            experiment = find_experiment(name)
            if (quick and experiment.long) or experiment.missing:
                continue
            bar = bars.add_task(name, total=1.0, note="")

            def report(share: float, note: str, bar: TaskID = bar) -> None:
                bars.update(bar, completed=share, note=note)

            found[name] = run(experiment, seed=seed, report=report)
            report(1.0, "")
    return found


def _figures(evidence: Mapping[str, Evidence], language: str) -> list[str]:
    """Draw every figure as an SVG file; the lines that say where they are."""
    from qkv.errors import UserError
    from qkv.lab import figures

    said = []
    for name, one in evidence.items():
        for figure, drawing in one.figures.items():
            path = FIGURES / f"{name}-{figure}.{language}.svg"
            try:
                picture = figures.svg(drawing, language)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(picture, encoding="utf-8")
            except UserError as error:
                return [str(error)]
            except OSError as error:
                return [f"cannot write {path}: {error.strerror}"]
            said.append(str(path))
    return said
