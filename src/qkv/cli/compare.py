"""`qkv data compare`: tokenizers side by side on texts."""

from __future__ import annotations

from pathlib import Path

import typer

NUMBER = 4  # digits of the numbers whose cuts are compared


def compare(
    files: list[Path] = typer.Argument(
        help="Texts, one a line, or TSV or JSONL; each file is a column, say a language."
    ),
    tokenizer: list[Path] = typer.Option(..., "--tokenizer", help="A tokenizer's file; give it several times."),
    column: str = typer.Option("text", "--column", help="The column of a TSV or JSONL file."),
) -> None:
    """Fertility, bits per byte, typos and numbers of several tokenizers on several files.

    Every tenth line is measured; the token frequencies behind the bits come from the others.
    """
    from rich.console import Console
    from rich.table import Table

    from qkv.data import files as reading
    from qkv.errors import UserError
    from qkv.text import Tokenizer
    from qkv.text.compare import Code, number_cuts
    from qkv.text.compare import compare as measured

    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in (
        "tokenizer",
        "file",
        "tokens/word",
        "tokens/char",
        "bits/byte",
        "unknown",
        "typo changes",
        "typo lengthens",
    ):
        table.add_column(name)
    rows = {path: list(reading.inputs(path, column)) for path in files}
    if short := next((path for path, texts in rows.items() if len(texts) < 10), None):
        raise UserError(f"{short} has {len(rows[short])} texts; give 10 or more, of which a tenth is measured")
    loaded = {path: Tokenizer.load(path) for path in tokenizer}
    for path, one in loaded.items():
        for file, texts in rows.items():
            found = measured(Code.learn(one, [t for i, t in enumerate(texts) if i % 10]), texts[::10])
            figures = (found.fertility, found.tokens_per_character, found.bits_per_byte)
            percent = (found.unknown, found.changed)
            cells = [*(f"{x:.3f}" for x in figures), *(f"{x:.1%}" for x in percent), f"{found.longer:.2f}"]
            table.add_row(str(path), str(file), *cells)
    Console().print(table)
    for path, one in loaded.items():
        tokens, alike = number_cuts(one, NUMBER)
        typer.echo(f"{path}: numbers of {NUMBER} digits take {tokens:.2f} tokens, {alike:.0%} of them cut alike")
