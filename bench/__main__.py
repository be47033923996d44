"""``python -m bench``: measures qkv beside its peers, prints a table a cell, writes JSON and Markdown."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
from rich.console import Console

from bench import cells as table
from bench import machine, report, results_file
from bench.cells import Cell, Kind, Precision
from bench.contenders import CONTENDERS
from bench.machine import ROOT
from bench.pipe import environment
from bench.rounds import measure


def listed(text: str, valid: tuple[str, ...], option: str) -> list[str]:
    """A comma-separated option as a list; an unknown word is refused with the valid ones named."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in valid:
            raise typer.BadParameter(f"{option} {word!r} is none of {', '.join(valid)}")
    return words


def weights(cell: Cell, folder: str, threads: int) -> str:
    """The Hugging Face folder with the cell's random weights, written by a process of its own where it is missing."""
    if cell.kind == "training":
        return ""
    path = Path(folder) / cell.size
    if not path.exists():
        command = [sys.executable, "-m", "bench.peers.hf", cell.size, str(cell.seed), str(path)]
        subprocess.run(command, cwd=ROOT, env=environment(threads), check=True, capture_output=True)
    return str(path)


def main(
    only: Annotated[str, typer.Option(help="training, decoding, encoder; several with commas")] = "training,decoding",
    sizes: Annotated[str, typer.Option(help="tiny, base, gpt; several with commas")] = "tiny,base,gpt",
    threads: Annotated[int, typer.Option(min=1)] = 1,
    precision: Annotated[str, typer.Option(help="fp32, bf16; default: bf16 too where the processor has it")] = "",
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    seconds: Annotated[float, typer.Option(help="least length of a timed unit")] = 1.0,
    out: Annotated[Path, typer.Option(help="folder of the results")] = ROOT / "bench" / "results",
    contenders: Annotated[str, typer.Option(help="names, separated by commas; default: all")] = "",
) -> None:
    """Measure qkv beside its peers, interleaved, and write medians and ratios."""
    console = Console()
    names = listed(contenders, tuple(c.name for c in CONTENDERS), "--contenders") or [c.name for c in CONTENDERS]
    kinds = listed(only, get_args(Kind), "--only")
    native = ["fp32", "bf16"] if machine.computes_bf16(machine.processor()["instructions"]) else ["fp32"]
    precisions = listed(precision, get_args(Precision), "--precision") or native
    if not precision and "bf16" not in native:
        console.print("This processor has no bfloat16 instructions: fp32 only (--precision fp32,bf16 to insist).")
    chosen = table.choose(kinds, listed(sizes, ("tiny", "base", "gpt"), "--sizes"), cast(list[Precision], precisions))
    head = machine.describe(threads, rounds)
    records: dict[str, dict[str, Any]] = {kind: head | {"cells": []} for kind in kinds}
    with tempfile.TemporaryDirectory() as folder, console.status("") as status:
        for cell in chosen:
            takers = [c for c in CONTENDERS if c.name in names and c.takes(cell, precisions)]
            written = weights(cell, folder, threads)
            entry = measure(cell, takers, threads, rounds, seconds, written, status.update)
            report.show(entry, console)
            records[cell.kind]["cells"].append(entry)
            stamp = head["date"].replace(":", "").removesuffix("Z")
            results_file.write(records[cell.kind], out / f"{stamp}-{cell.kind}.json")
            report.rewrite(out)
    for sentence in report.verdicts([cell for record in records.values() for cell in record["cells"]]):
        console.print(sentence, markup=False)
    console.print(f"Written to {out}", markup=False)


if __name__ == "__main__":
    typer.run(main)
