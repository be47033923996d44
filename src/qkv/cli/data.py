"""`qkv data`: get, list, show and audit datasets, train a tokenizer and compare several."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args

import typer

from qkv.cli.audit import audit
from qkv.cli.compare import compare

app = typer.Typer(no_args_is_help=True, help="Datasets and tokenizers.")
app.command("audit")(audit)
app.command("compare")(compare)


@app.command("list")
def list_() -> None:
    """The named datasets, and which of them are here."""
    from rich.console import Console
    from rich.table import Table

    from qkv.data import sources

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("name", "here", "what it is"):
        table.add_column(column)
    for name, source in sources.SOURCES.items():
        here = all(sources.find(name, file) for file in source.files)
        table.add_row(name, "yes" if here else "no", source.about)
    Console().print(table)


@app.command("get")
def get(
    name: str = typer.Argument(help="A name of `qkv data list`."),
    mirror: str | None = typer.Option(None, "--mirror", help="Take the files from a folder at this address instead."),
) -> None:
    """Download a dataset, check it against its SHA-256, and say where it lies."""
    from qkv.data import sources

    for path in sources.get(name, mirror):
        typer.echo(str(path))


@app.command("show")
def show(
    name: str = typer.Argument(help="A named dataset, or a TSV, JSONL or text file."),
    split: str = typer.Option("train", "--split", help="train, dev or test."),
    limit: int = typer.Option(5, "--limit", min=1, help="How many rows."),
) -> None:
    """The first rows of a dataset or a file, and how many there are."""
    rows = _rows(name, split)
    for row in rows[:limit]:
        typer.echo(_shown(row))
    typer.echo(f"{len(rows):,} rows", err=True)


def _rows(name: str, split: Any) -> list:
    from qkv.config import entry_name, parse
    from qkv.data import files
    from qkv.errors import UserError
    from qkv.tasks.recipe import FILES, Data

    if split not in ("train", "dev", "test"):
        raise UserError(f"--split: no split is called {split!r}; choose train, dev or test")
    names = [entry_name(entry) for entry in get_args(Data) if entry_name(entry) not in FILES.values()]
    if name in names:
        return parse(Data, name).load(split)
    if Path(name).exists():
        return list(files.stream(name)) if files.has_source(name) else files.documents(name)
    raise UserError(f"no dataset is called '{name}'; choose one of {', '.join(sorted(names))}, or give a file")


def _shown(row: Any) -> str:
    """A row in a line: its fields between tabs, several values of one between bars."""
    if not is_dataclass(row):
        return str(row)[:500]
    values = (getattr(row, field.name) for field in fields(row))
    cells = (" | ".join(map(str, value)) if isinstance(value, tuple) else value for value in values)
    return "\t".join(" ".join(str(cell).split()) for cell in cells if cell is not None)[:500]


@app.command("tokenizer")
def tokenizer(
    file: Path = typer.Argument(help="Text, or the columns source, target or text of a TSV or JSONL file."),
    kind: str = typer.Option("bpe", "--kind", help="characters, words, bpe, byte_bpe, word_piece or unigram."),
    vocab_size: int | None = typer.Option(None, "--vocab-size", help="Ids in all.", show_default="the kind's"),
    column: str = typer.Option("text", "--column", help="The column of a TSV or JSONL file to learn from."),
    out: Path = typer.Option(Path("tokenizer.json"), "--out", help="Where to write it."),
) -> None:
    """Train a tokenizer on a file, write it, and say how well it fits."""
    from qkv import text
    from qkv.config import parse
    from qkv.data import files

    options = {} if vocab_size is None else {"vocab_size": vocab_size}
    config = parse(text.TokenizerConfig, {kind.replace("-", "_"): options}, "--kind")
    if files.format_of(file) == ".txt":
        texts = [line for _, line in files.lines(file) if line.strip()]
    else:
        texts = [str(row[column]) for row in files.rows(file, (column,))]
    learned = text.train(config, texts)
    _save(learned, out)
    found = text.stats(learned, texts)
    typer.echo(f"{out}: {learned.vocab_size:,} tokens, learned from {found.texts:,} texts")
    typer.echo(f"characters per token {found.characters_per_token:.2f}")
    typer.echo(f"tokens per word      {found.tokens_per_word:.2f}")
    typer.echo(f"unknown              {100 * found.unknown_rate:.2f} %")


def _save(learned: object, out: Path) -> None:
    from qkv.errors import UserError

    try:
        learned.save(out)  # type: ignore[attr-defined]
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; free some room or choose another --out") from error
