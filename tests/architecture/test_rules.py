"""Each rule catches the violation that is planted for it, and lets the lawful twin pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.architecture import rules
from tests.architecture.rules import Source

LONG_FUNCTION = "def f():\n" + "    x = 1\n" * 60
DOCUMENTED_FUNCTION = 'def f():\n    """One.\n\n    Two.\n    """\n' + "    x = 1\n" * 59
DOC = '"""A module."""\n'

PLANTED = [
    (rules.import_direction, "nn/a.py", "from qkv.models import stack", "qkv.nn may not import qkv.models"),
    (rules.import_direction, "nn/a.py", "from qkv.errors import UserError", "qkv.nn may not import qkv.errors"),
    (rules.import_direction, "nn/a.py", "def f():\n    import numpy.linalg", "standard library only, not numpy.linalg"),
    (rules.import_direction, "nn/a.py", "from ..errors import UserError", "qkv.nn may not import qkv.errors"),
    (rules.import_direction, "nn/__init__.py", "from .. import config", "qkv.nn may not import qkv.config"),
    (rules.import_direction, "models/a.py", "import qkv.data.batch", "qkv.models may not import qkv.data.batch"),
    (rules.import_direction, "text/a.py", "from qkv import nn", "qkv.text may not import qkv.nn"),
    (rules.import_direction, "training/a.py", "from qkv.decoding import generate", "may not import qkv.decoding"),
    (rules.import_direction, "tasks/a.py", "from qkv.cli.app import app", "qkv.tasks may not import qkv.cli.app"),
    (rules.import_direction, "errors.py", "from qkv.config import parse", "qkv.errors may not import qkv.config"),
    (rules.import_direction, "extra/a.py", "", "qkv.extra has no place in the import order"),
    (rules.file_size, "a.py", "x = 1\n" * 400, "400 lines, at most 399"),
    (rules.function_size, "a.py", LONG_FUNCTION, "f has 61 lines, at most 60"),
    (rules.family_names, "nn/a.py", "def gpt2_block(): ...", "names the model family 'gpt2'"),
    (rules.family_names, "nn/a.py", "class T5Bias: ...", "names the model family 't5'"),
    (rules.family_names, "nn/a.py", "def f(layout='llama'): ...", "names the model family 'llama'"),
    (rules.family_names, "nn/a.py", "def f(use_roberta_pos): ...", "names the model family 'roberta'"),
    (rules.family_names, "nn/a.py", "x.bertStyle = 1", "names the model family 'bert'"),
    (rules.docstrings, "a.py", "x = 1", "the module has no docstring"),
    (rules.docstrings, "a.py", DOC + "class A: ...", "A has no docstring"),
    (rules.docstrings, "a.py", DOC + "async def run(): ...", "run has no docstring"),
    (rules.contents, "a/__init__.py", '"""b.py  a room"""', "its contents name b.py, which is gone"),
    (rules.no_pickle, "a.py", "import pickle", "imports pickle"),
    (rules.no_pickle, "a.py", "from torch import load", "torch.load"),
    (rules.no_pickle, "a.py", "torch.save({}, 'x')", "torch.save"),
    (rules.no_pickle, "a.py", "np.load('x', allow_pickle=True)", "allow_pickle"),
]

LAWFUL = [
    (rules.import_direction, "nn/a.py", "import math, torch.nn.functional as F\nfrom qkv.nn.masks import Causal"),
    (rules.import_direction, "nn/sub/a.py", "from ..masks import Causal"),
    (rules.import_direction, "models/a.py", "from qkv.errors import UserError\nfrom qkv import nn, __version__"),
    (rules.import_direction, "cli/a.py", "def f():\n    from qkv.tasks import recipe\n    import typer"),
    (rules.import_direction, "config.py", "from qkv.errors import UserError"),
    (rules.import_direction, "__main__.py", "from qkv.cli import main"),
    (rules.file_size, "a.py", "x = 1\n" * 399),
    (rules.function_size, "a.py", DOCUMENTED_FUNCTION),
    (rules.family_names, "nn/a.py", '"""As in GPT-2 (Radford 2019)."""\ndef relative(): # like T5\n    """BERT."""'),
    (rules.family_names, "nn/a.py", "def bertrand(llamas, t55, at5): return 'barter'"),
    (rules.docstrings, "a.py", DOC + "def _f(): ...\n@overload\ndef g(): ..."),
    (rules.contents, "a/__init__.py", '"""A package."""'),
    (rules.contents, "a.py", '"""See b.py."""'),
    (rules.no_pickle, "a.py", "import json\nx.load('y')\nnp.load('x', allow_pickle=False)"),
]

Rule = Callable[[Source], Iterator[str]]


def _verdict(rule: Rule, root: Path, name: str, code: str) -> list[str]:
    path = root / "src" / "qkv" / name
    path.parent.mkdir(parents=True)
    path.write_text(code, encoding="utf-8")
    (source,) = rules.read_all(root, "src/qkv")
    return list(rule(source))


@pytest.mark.parametrize(("rule", "name", "code", "sentence"), PLANTED)
def test_a_planted_violation_is_caught(rule: Rule, name: str, code: str, sentence: str, tmp_path: Path) -> None:
    found = _verdict(rule, tmp_path, name, code)
    assert len(found) == 1
    assert sentence in found[0]
    assert name in found[0]


def test_contents_that_leave_a_file_out_are_caught(tmp_path: Path) -> None:
    package = tmp_path / "src" / "qkv" / "a"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('"""b.py  a room"""', encoding="utf-8")
    (package / "b.py").touch()
    assert list(rules.contents(rules.read_all(tmp_path, "src/qkv")[0])) == []
    (package / "c.py").touch()
    [sentence] = rules.contents(rules.read_all(tmp_path, "src/qkv")[0])
    assert "leave out c.py" in sentence


@pytest.mark.parametrize(("rule", "name", "code"), LAWFUL)
def test_lawful_code_passes(rule: Rule, name: str, code: str, tmp_path: Path) -> None:
    assert _verdict(rule, tmp_path, name, code) == []


@pytest.mark.parametrize(
    "line", ["see {}home/ann/x", "cd '{}root/run'", "DATA={}Users/ann", "{}work/x", "at {ROOT}/src"]
)
def test_machine_paths_are_caught(line: str, tmp_path: Path) -> None:
    file = tmp_path / "notes.md"
    file.write_text("fine\n" + line.format("/", ROOT=tmp_path), encoding="utf-8")
    (sentence,) = rules.machine_paths(file, tmp_path)
    assert "notes.md:2" in sentence


@pytest.mark.parametrize("line", ["https://x.org{}home/ann", "~{}work/a", "runs{}work/x", "[--home{}work/a]", "a {} b"])
def test_other_slashes_are_no_machine_paths(line: str, tmp_path: Path) -> None:
    file = tmp_path / "notes.md"
    file.write_text(line.format("/"), encoding="utf-8")
    assert list(rules.machine_paths(file, tmp_path)) == []


def test_code_blocks() -> None:
    text = "a\n```python\nx = 1\n\ny = 2\n```\nb\n```sh\nls\n```\n```python\nz = 3\n```\n"
    assert rules.code_blocks(text) == ["x = 1\n\ny = 2\n", "z = 3\n"]
    assert rules.code_blocks("```sh\nls\n```\n") == []
