"""The evidence of the last full run, one JSON line an experiment; it fills the placeholders where nothing is run."""

from __future__ import annotations

import ast
import hashlib
import json
import platform
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import torch

import qkv
from qkv.training.checkpoint import replace_file

from .evidence import Evidence
from .kit import Experiment

ROOT = Path(__file__).parent
LEDGER = ROOT / "ledger.jsonl"
MEASURED = (
    "baselines",
    "compress",
    "data",
    "decoding",
    "interop",
    "models",
    "nn",
    "probe",
    "tasks",
    "text",
    "training",
)
"""The parts of the toolkit that experiments run on."""


def digest(experiment: Experiment) -> str:
    """A fingerprint of the file that the experiment is written in, and of those of the lab's topics that it imports."""
    waiting, seen = [experiment.path], set()
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting += _imported(path)
    total = hashlib.sha256()
    for path in sorted(seen):
        total.update(path.read_bytes())
    return total.hexdigest()[:12]


def _imported(path: Path) -> list[Path]:
    """The modules in the lab's topics that a file imports; the kit itself is no part of what is measured."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = path.parents[node.level - 1] if node.level else ROOT.parents[1]
            module = base.joinpath(*(node.module or "").split("."))
            found += [module / alias.name for alias in node.names] + [module]
    files = [place.with_suffix(".py") for place in found]
    return [file for file in files if file.is_file() and file.parent.parent == ROOT]


@cache
def versions() -> dict[str, str]:
    """What a measurement depends on: Python, torch, and a fingerprint of the toolkit's source."""
    source = Path(qkv.__file__).parent
    toolkit = hashlib.sha256()
    for part in MEASURED:
        for path in sorted((source / part).rglob("*.py")):
            toolkit.update(path.read_bytes())
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "toolkit": toolkit.hexdigest()[:12],
    }


def read(path: Path = LEDGER) -> dict[str, Evidence]:
    """The evidence by experiment; empty where there is no ledger."""
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    found = (Evidence.of(json.loads(line)) for line in lines if line)
    return {evidence.experiment: evidence for evidence in found}


def record(new: Iterable[Evidence], path: Path = LEDGER) -> None:
    """Put evidence in the place of what the ledger holds of the same experiments, whole or not at all."""
    kept = read(path) | {evidence.experiment: evidence for evidence in new}
    lines = [json.dumps(kept[name].plain(), ensure_ascii=False, sort_keys=True) for name in sorted(kept)]
    replace_file(path, lambda temporary: temporary.write_text("\n".join(lines) + "\n", encoding="utf-8"))


def outdated(evidence: Evidence, experiment: Experiment) -> str:
    """Why the evidence is older than what it measured ("" if it is not): the experiment or the toolkit has changed."""
    if evidence.digest != digest(experiment):
        return "the experiment has changed since"
    if evidence.versions.get("toolkit") != versions()["toolkit"]:
        return "the toolkit has changed since"
    return ""
