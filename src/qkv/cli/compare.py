"""`qkv data compare`: tokenizers side by side on texts."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from qkv.text.compare import Comparison

NUMBER = 4  # digits of the numbers whose cuts are compared
HEAD = ("tokenizer", "file", "tokens a word", "a character", "bits a byte", "unknown", "typo changes", "longer")


def compare(
    files: list[Path] = typer.Argument(
        help="Texts, one a line, or TSV or JSONL; each file is a column, say a language."
    ),
    tokenizer: list[Path] = typer.Option(..., "--tokenizer", help="A tokenizer's file; give it several times."),
    column: str = typer.Option("text", "--column", help="The column of a TSV or JSONL file."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object a tokenizer and file."),
) -> None:
    """Fertility, bits per byte, typos and numbers of several tokenizers on several files.

    Every tenth line is measured; the token frequencies behind the bits come from the others.
    """
    from qkv.data import files as reading
    from qkv.errors import UserError
    from qkv.text import Tokenizer
    from qkv.text.compare import Code, number_cuts
    from qkv.text.compare import compare as measured

    rows = {path: list(reading.inputs(path, column)) for path in files}
    if short := next((path for path, texts in rows.items() if len(texts) < 10), None):
        raise UserError(f"{short} has {len(rows[short])} texts; give 10 or more, of which a tenth is measured")
    loaded = {path: Tokenizer.load(path) for path in tokenizer}
    found = {
        (path, file): measured(Code.learn(one, [t for i, t in enumerate(texts) if i % 10]), texts[::10])
        for path, one in loaded.items()
        for file, texts in rows.items()
    }
    numbers = {path: number_cuts(one, NUMBER) for path, one in loaded.items()}
    if not as_json:
        _table(found)
        for path, (tokens, alike) in numbers.items():
            typer.echo(f"{path}: numbers of {NUMBER} digits take {tokens:.2f} tokens, {alike:.0%} of them cut alike")
        return
    for (path, file), one in found.items():
        tokens, alike = numbers[path]
        cut = {"number_tokens": tokens, "numbers_alike": alike}
        typer.echo(json.dumps({"tokenizer": str(path), "file": str(file), **asdict(one), **cut}, ensure_ascii=False))


def _table(found: dict[tuple[Path, Path], Comparison]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in HEAD:  # a long path goes on in the next line, a heading breaks at its spaces only
        table.add_column(name, overflow="fold", min_width=max(map(len, name.split())))
    for (path, file), one in found.items():
        figures = (one.fertility, one.tokens_per_character, one.bits_per_byte)
        percent = (one.unknown, one.changed)
        cells = [*(f"{x:.3f}" for x in figures), *(f"{x:.1%}" for x in percent), f"{one.longer:.2f}"]
        table.add_row(str(path), str(file), *cells)
    Console().print(table)
