"""Files of one's own: TSV, JSONL and plain text, each also as `.gz`, read as streams.

Columns have names: `source` and `target` for pairs, `text` for language modelling; a task may ask for others.

TSV    One row a line, cells separated by tabs, no quoting. If any cell of the first line is the name of a column that
       is asked for, that line is a header: columns stand in any order and further ones are ignored. Otherwise there is
       no header and every line holds exactly the columns asked for, in order (`source`, `target`).
JSONL  One object a line, keyed by column; further keys are ignored. `target` may be a list: several references.
text   For language modelling the whole file is one document; for prediction every line is a source.

Text is UTF-8. Every mistake is a UserError that names the file and the line.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from qkv.errors import UserError

MAX_LINE = 1 << 20  # bytes: a longer line is a file of another kind
FORMATS = (".tsv", ".jsonl", ".txt")
LISTS = ("target", "label", "words", "tags")  # columns that a JSONL file may give as lists

Row = dict[str, str | list[str]]


@dataclass(frozen=True)
class Pair:
    """A source text and its references; the first is the preferred one. No reference: a text to predict from."""

    source: str
    targets: tuple[str, ...] = ()


def examples(pairs: Iterable[Pair]) -> Iterator[tuple[str, str]]:
    """Every (source, reference), for training.

    >>> list(examples([Pair("a", ("x", "y")), Pair("b", ("z",))]))
    [('a', 'x'), ('a', 'y'), ('b', 'z')]
    """
    return ((pair.source, target) for pair in pairs for target in pair.targets)


def pairs(path: str | Path) -> list[Pair]:
    """All pairs of a TSV or JSONL file. Raises UserError (see the module)."""
    return list(stream(path, need_target=True))


def documents(path: str | Path) -> list[str]:
    """The documents of a file, for language modelling: a .txt file is one (lines end with LF), else each `text` is."""
    if format_of(path) == ".txt":
        text = "".join(f"{line}\n" for _, line in lines(path))
        if not text.strip():
            raise UserError(f"{path} holds no text; give a file with at least one word")
        return [text]
    return [str(row["text"]) for row in rows(path, ("text",))]


def inputs(path: str | Path, column: str, file: BinaryIO | None = None) -> Iterator[str]:
    """Texts to predict from: the lines of plain text, or `column` of TSV and JSONL. `file` as in `stream`."""
    if format_of(path) == ".txt":
        yield from (_filled(line, "line", path, number) for number, line in lines(path, file))
    else:
        yield from (str(row[column]) for row in rows(path, (column,), (), file))


def stream(path: str | Path, file: BinaryIO | None = None, need_target: bool = False) -> Iterator[Pair]:
    """Pairs one by one, for prediction: a line of plain text is a source; TSV and JSONL may hold targets too.

    file: read this open binary stream instead (standard input); `path` then only names it and tells its format.
    """
    if format_of(path) == ".txt":
        if need_target:
            raise UserError(f"{path} is plain text, without targets; give a .tsv or .jsonl file of source and target")
        for number, line in lines(path, file):
            yield Pair(_filled(line, "line", path, number))
        return
    required = ("source", "target") if need_target else ("source",)
    for row in rows(path, required, () if need_target else ("target",), file):
        target = row.get("target", [])
        yield Pair(str(row["source"]), (target,) if isinstance(target, str) else tuple(target))


def has_source(path: str | Path) -> bool:
    """Whether a file holds texts to predict from, and not only a column `text`."""
    if format_of(path) == ".txt":
        return True
    first = next(rows(path, (), ("source", "target", "text")), {})
    return "source" in first or "text" not in first


def rows(
    path: str | Path, required: Sequence[str], optional: Sequence[str] = (), file: BinaryIO | None = None
) -> Iterator[Row]:
    """The rows of a TSV or JSONL file as dicts of the columns asked for. Raises UserError (see the module)."""
    kind = format_of(path)
    if kind == ".txt":
        raise UserError(f"{path} is plain text, without columns; give a .tsv or .jsonl file with {_list(required)}")
    return (_tsv if kind == ".tsv" else _jsonl)(path, required, optional, file)


def format_of(path: str | Path) -> str:
    """The format told by the name: ".tsv", ".jsonl" or ".txt". Raises UserError for another."""
    name = Path(path).name.removesuffix(".gz")
    suffix = Path(name).suffix.lower()
    if suffix not in FORMATS:
        raise UserError(f"{path}: cannot tell the format from the name; use {_list(FORMATS)}, with or without .gz")
    return suffix


def lines(path: str | Path, file: BinaryIO | None = None) -> Iterator[tuple[int, str]]:
    """Numbered lines, from 1, without their ends (LF or CRLF); a byte-order mark is dropped.

    Raises UserError: no such file, unreadable, damaged gzip, empty, a line over MAX_LINE bytes, not UTF-8.
    """
    number = 0
    try:
        with nullcontext(file) if file else _open(path) as opened:  # a stream that was given stays open
            while raw := opened.readline(MAX_LINE + 1):
                number += 1
                if len(raw) > MAX_LINE:
                    raise UserError(f"{path} line {number}: longer than {MAX_LINE:,} bytes; split it")
                yield number, _decoded(raw, path, number)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path} is a damaged gzip file ({error}); make it again") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; check the name and the rights") from error
    if number == 0:
        raise UserError(f"{path} is empty; give a file with at least one line")


def _open(path: str | Path) -> BinaryIO:
    return gzip.open(path, "rb") if str(path).endswith(".gz") else open(path, "rb")  # type: ignore[return-value]


def _decoded(raw: bytes, path: str | Path, number: int) -> str:
    try:
        text = raw.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} line {number}: byte {error.start + 1} is not UTF-8; convert the file: iconv -f latin1 -t utf-8"
        ) from error
    return text.removeprefix("\ufeff") if number == 1 else text


def _tsv(path: str | Path, required: Sequence[str], optional: Sequence[str], file: BinaryIO | None) -> Iterator[Row]:
    names: list[str] = []
    filled = False
    for number, line in lines(path, file):
        cells = line.split("\t")
        if not names:
            header = not {*required, *optional}.isdisjoint(cells)
            names = cells if header else [*required, *optional][: max(len(required), len(cells))]
            _has_columns(names, required, path)
            if header:
                continue
        filled = True
        if len(cells) != len(names):
            raise UserError(
                f"{path} line {number}: {_count(len(cells))} where {len(names)} are expected ({_list(names)}); "
                "separate cells with one tab, or name the columns in a first line"
            )
        yield {n: _filled(c, n, path, number) for n, c in zip(names, cells, strict=True) if n in (*required, *optional)}
    if not filled:
        raise UserError(f"{path} has a header and no rows; add at least one")


def _jsonl(path: str | Path, required: Sequence[str], optional: Sequence[str], file: BinaryIO | None) -> Iterator[Row]:
    for number, line in lines(path, file):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} line {number}: not JSON ({error}); write one object a line") from error
        if not isinstance(row, dict):
            raise UserError(f"{path} line {number}: {_json_type(row)} where an object is expected: {_list(required)}")
        _has_columns(list(row), required, f"{path} line {number}")
        yield {n: _value(row[n], n, path, number) for n in (*required, *optional) if n in row}


def _value(value: object, name: str, path: str | Path, number: int) -> str | list[str]:
    if isinstance(value, list) and name in LISTS and value and all(isinstance(v, str) for v in value):
        return [_filled(v, name, path, number) for v in value]
    if not isinstance(value, str):
        wanted = "a string or a list of strings" if name in LISTS else "a string"
        raise UserError(f"{path} line {number}: {name} is {_json_type(value)} where {wanted} is expected")
    return _filled(value, name, path, number)


def _filled(text: str, name: str, path: str | Path, number: int) -> str:
    if not text.strip():
        raise UserError(f"{path} line {number}: {name} is empty; fill it or remove the line")
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        raise UserError(f"{path} line {number}: {name} holds half a surrogate pair; write the character itself")
    return text


def _has_columns(present: Sequence[str], required: Sequence[str], where: str | Path) -> None:
    missing = [name for name in required if name not in present]
    if missing:
        raise UserError(f"{where}: no column {_list(missing)}; the columns there are {_list(present) or 'none'}")
    if len(set(present)) < len(present):
        raise UserError(f"{where}: two columns have one name in {_list(present)}; rename one")


def _json_type(value: object) -> str:
    if isinstance(value, list):
        return "an empty list" if not value else "a list"
    kinds = {dict: "an object", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")


def _count(cells: int) -> str:
    return "1 cell" if cells == 1 else f"{cells} cells"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
