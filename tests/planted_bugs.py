"""Proves the tests: plants one bug at a time and names the test that catches it.

    python -m tests.planted_bugs                  # all bugs, a line each
    python -m tests.planted_bugs mask rotary      # those whose name contains a word
    python -m tests.planted_bugs --write FILE     # also write the table as Markdown

The bugs are in the tables tests/planted_bugs_*.py. Each is a textual change to a copy of `src`, so the working tree is
never touched. A change whose old text is not found exactly once is stale (tests/architecture watches that). Exits 1 if
a bug survives or is stale.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.planted_bugs_table import Bug

ROOT = Path(__file__).resolve().parent.parent


def every_bug() -> list[Bug]:
    """The bugs of all tables."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("planted_bugs_*.py"))
    tables = [importlib.import_module(f"tests.{name}") for name in names]
    return [bug for table in tables for value in vars(table).values() if isinstance(value, list) for bug in value]


class FirstFailure:
    """A pytest plugin that remembers what failed first, and how."""

    def __init__(self) -> None:
        self.failed = ""

    def pytest_runtest_logreport(self, report) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid

    def pytest_collectreport(self, report) -> None:
        if report.failed and not self.failed:
            self.failed = f"{report.nodeid} (does not import)"


def plant(bug: Bug, folder: Path) -> bool:
    """A copy of `src` in `folder` with the bug in it; False if its old text is not there exactly once."""
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "src" / "qkv" / bug.file
    text = path.read_text()
    if text.count(bug.old) != 1:
        return False
    path.write_text(text.replace(bug.old, bug.new))
    return True


def first_failure(bug: Bug, folder: Path) -> str:
    """The first failing test, or "" if all pass; in a forked child, so that torch is imported once for all bugs."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.write(writer, _run(bug, folder).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        found = pipe.read()
    os.waitpid(child, 0)
    return found


def _run(bug: Bug, folder: Path) -> str:
    import pytest

    os.chdir(ROOT)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.path.insert(0, str(folder / "src"))
    os.environ["PYTHONPATH"] = str(folder / "src")  # for the processes that tests start
    watch = FirstFailure()
    options = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-o", "addopts="]
    pytest.main([*options, *(f"tests/{name}" for name in bug.tests)], plugins=[watch])
    import qkv

    if not str(qkv.__file__).startswith(str(folder)):
        return f"nothing was tested: qkv came from {qkv.__file__}"
    return watch.failed


def hunt(bugs: Iterable[Bug]) -> list[tuple[Bug, str]]:
    """(bug, first failing test) of each, printed as they come."""
    import hypothesis  # noqa: F401  imported before forking, because they are slow to import
    import torch
    import torch.utils.checkpoint

    torch.set_num_threads(1)
    os.environ["HYPOTHESIS_PROFILE"] = "planted"
    results = []
    for bug in bugs:
        with tempfile.TemporaryDirectory() as name:
            found = first_failure(bug, Path(name)) if plant(bug, Path(name)) else "STALE: the text has changed"
        results.append((bug, found or "SURVIVED"))
        print(f"{bug.name:45} {results[-1][1]}", flush=True)
    return results


def markdown(results: list[tuple[Bug, str]]) -> str:
    """The table for docs/decisions."""
    rows = [f"| {bug.name} | `{bug.file}` | `{found.removeprefix('tests/')}` |" for bug, found in results]
    return "\n".join(["| bug | file | first test that fails |", "|---|---|---|", *rows])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="only bugs whose name contains one of these")
    parser.add_argument("--write", type=Path, help="write the table to this file, after its heading")
    options = parser.parse_args()
    chosen = [b for b in every_bug() if not options.words or any(word in b.name for word in options.words)]
    results = hunt(chosen)
    if options.write:
        head = options.write.read_text().split("| bug |")[0] if options.write.exists() else ""
        options.write.write_text(head + markdown(results) + "\n")
    missed = [bug.name for bug, found in results if found.startswith(("SURVIVED", "STALE", "nothing"))]
    print(
        f"{len(results) - len(missed)} of {len(results)} caught" + (f"; missed: {', '.join(missed)}" if missed else "")
    )
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
