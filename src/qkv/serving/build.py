"""The lab as static files: the same pages, without what needs a server."""

from __future__ import annotations

import shutil
from pathlib import Path

from qkv.errors import UserError
from qkv.serving import drawing, render
from qkv.serving.content import LANGUAGES, Library

SCRIPTS = ("lab.css", "lab.js", "run.js", "front.js")


def build(library: Library, folder: Path) -> int:
    """Write the site into `folder`, which is made, or must be empty or hold an earlier site. Returns how many pages.

    Raises UserError for a folder that holds something else, and where it cannot be written."""
    mark = folder / ".qkv-lab"
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder for the site")
    if folder.is_dir() and any(folder.iterdir()) and not mark.exists():
        raise UserError(f"{folder} is not empty and no earlier site; name a folder of its own for the site")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark.write_text("written by qkv lab build\n", encoding="utf-8")
        return _write(library, folder)
    except OSError as error:
        raise UserError(f"cannot write {error.filename or folder}: {error.strerror}; choose another folder") from error


def _write(library: Library, folder: Path) -> int:
    pages = {"index.html": render.front()}
    for language in LANGUAGES:
        pages[f"{language}/index.html"] = render.index(library, language)
        pages |= {f"{language}/{key}.html": render.question(library, key, language) for key in library.entries}
    files = pages | {"assets/search.js": render.search_index(library), "assets/vega.js": drawing.script()}
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for name in SCRIPTS:
        shutil.copyfile(render.STATIC / name, folder / "assets" / name)
    return len(pages)
