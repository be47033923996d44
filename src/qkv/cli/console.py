"""What the command line says and where: results on standard output, everything else on standard error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.text import Text

from qkv.errors import UserError


def note(message: str) -> None:
    """A line for the human, on standard error."""
    Console(stderr=True).print(Text(message, style="dim"), soft_wrap=True)


def complain(message: str) -> None:
    """An error in red, on standard error, in one line however narrow the terminal is."""
    Console(stderr=True).print(Text(f"error: {message}", style="red"), soft_wrap=True)


@contextmanager
def writing(path: Path | None, otherwise: TextIO) -> Iterator[TextIO]:
    """A file to write lines to, or `otherwise`. A full disk and missing rights become UserErrors."""
    if path is None:
        yield otherwise
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; free some room or choose another file") from error
