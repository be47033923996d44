"""`qkv train`: a recipe becomes a run folder."""

from __future__ import annotations

from pathlib import Path

import typer


def train(
    recipe: str = typer.Argument(help="A recipe of the package (demo, g2p, ...) or a YAML file."),
    overrides: list[str] | None = typer.Argument(
        None, metavar="[KEY=VALUE]...", help="Changes, such as training.max_steps=4000 or data.train=my.tsv."
    ),
    out: Path | None = typer.Option(None, "--out", help="The run folder.", show_default="runs/RECIPE"),
    fresh: bool = typer.Option(False, "--fresh", help="Begin anew even if the folder holds a run."),
    init: str | None = typer.Option(None, "--init", help="Fine-tune the weights of a run or a Hugging Face folder."),
) -> None:
    """Train a model. The same command resumes an interrupted run, and says so when it is finished.

    Your own data: [bold]data.train=FILE data.dev=FILE[/bold]. TSV or JSONL with the columns
    [i]source target[/i] for translate, [i]text label[/i] for classify, [i]words tags[/i] for tag,
    [i]text[/i] (or .txt) for language models; JSONL of dialogues for dialogue_state.
    """
    from dataclasses import replace

    from qkv.cli.console import note
    from qkv.cli.opening import opened
    from qkv.runtime import keep_memory
    from qkv.tasks import recipe as recipes
    from qkv.tasks.train import train as run
    from qkv.training.companions import companions

    keep_memory()  # before the first tensor: torch asks for huge pages only if it is told to by then
    chosen = recipes.load(recipe, overrides or ())
    if init is not None:
        chosen = replace(chosen, init=init)
    name = Path(recipe).name.removesuffix(".yaml").removesuffix(".yml")
    start = opened(Path(chosen.init), answers=False) if chosen.init is not None else None
    out = out or Path("runs") / name
    command = ["train", recipe, *(overrides or ()), "--out", str(out), *(["--init", init] if init is not None else [])]
    with companions(chosen.training.processes, command):
        run(chosen, out, fresh, note, start)
