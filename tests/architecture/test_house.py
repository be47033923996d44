"""The house keeps its own rules."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.architecture import rules
from tests.architecture.rules import Source
from tests.planted_bugs import every_bug

ROOT = Path(__file__).parents[2]
CODE = ("src/qkv", "tests", "bench")


@cache
def sources(*folders: str) -> list[Source]:
    return rules.read_all(ROOT, *folders)


@pytest.mark.parametrize(
    ("rule", "folders"),
    [
        (rules.import_direction, ("src/qkv",)),
        (rules.file_size, CODE),
        (rules.function_size, CODE),
        (rules.family_names, ("src/qkv/nn",)),
        (rules.docstrings, ("src/qkv",)),
        (rules.contents, ("src/qkv",)),
        (rules.no_pickle, ("src/qkv",)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_house_keeps(rule: Callable[[Source], Iterator[str]], folders: tuple[str, ...]) -> None:
    read = sources(*folders)
    assert read, f"no source found in {folders}"
    broken = [sentence for source in read for sentence in rule(source)]
    assert not broken, "\n".join(broken)


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout: nothing is tracked")
def test_no_tracked_file_knows_this_machine() -> None:
    files = tracked()
    assert ROOT / "pyproject.toml" in files
    broken = [sentence for path in files for sentence in rules.machine_paths(path, ROOT)]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_the_prose_runs(page: str, tmp_path: Path) -> None:
    """All Python blocks of a page, in order, as one program in an empty folder."""
    blocks = rules.code_blocks((ROOT / page).read_text(encoding="utf-8"))
    assert blocks, f"{page} has no ```python block"
    program = tmp_path / "page.py"
    program.write_text("\n".join(blocks), encoding="utf-8")
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, program.name], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr


def test_no_planted_bug_is_stale() -> None:
    """Each finds the text that it changes exactly once, and the tests that it runs."""
    bugs = every_bug()
    stale = [b.name for b in bugs if (ROOT / "src" / "qkv" / b.file).read_text(encoding="utf-8").count(b.old) != 1]
    assert bugs and stale == []
    assert all((ROOT / "tests" / name.split("::")[0]).is_file() for bug in bugs for name in bug.tests)


def test_importing_the_package_is_light() -> None:
    """`import qkv` and the command line's frame do not wait for torch."""
    program = "import sys, qkv, qkv.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
