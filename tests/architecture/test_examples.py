"""Every example in a docstring is run, wherever it stands."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT / "src" / "qkv", ROOT / "bench")
FILES = [path for folder in FOLDERS for path in sorted(folder.rglob("*.py")) if ">>> " in path.read_text("utf-8")]


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part not in ("src", "__init__"))


@pytest.mark.parametrize("name", [name_of(path) for path in FILES])
def test_examples(name: str) -> None:
    torch.manual_seed(0)
    ran = doctest.testmod(importlib.import_module(name))
    assert ran.attempted and not ran.failed, "what was expected and what was got is printed above"
