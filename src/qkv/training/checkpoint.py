"""Checkpoints: folders that exist whole or not at all, and are verified before they are read.

checkpoints/step-N/ holds safetensors files, state.json and manifest.json with the size and SHA-256 of all others. It is
written under a temporary name, flushed to the disk and renamed once; a process killed at any moment leaves either the
old checkpoints or the old ones and the new. Safetensors and JSON only: reading a checkpoint runs no code.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from qkv.errors import UserError

from .weights import save_weights

MANIFEST, STATE = "manifest.json", "state.json"


def write(root: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> Path:
    """Write root/step-N with one safetensors file per entry of `tensors`; a folder of that name is replaced."""
    root.mkdir(parents=True, exist_ok=True)
    final, temporary = root / f"step-{step}", root / f".writing-step-{step}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    for name, group in tensors.items():
        save_weights(group, temporary / f"{name}.safetensors")
    (temporary / STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")
    manifest = {path.name: _fingerprint(path) for path in sorted(temporary.iterdir())}
    (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for path in temporary.iterdir():
        _flush(path)
    _flush(temporary)
    if final.exists():
        shutil.rmtree(final)
    os.rename(temporary, final)
    _flush(root)
    return final


def read(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The tensors by file, and the state, of a checkpoint that was verified."""
    tensors = {path.stem: load_file(path) for path in sorted(folder.glob("*.safetensors"))}
    return tensors, json.loads((folder / STATE).read_text(encoding="utf-8"))


def latest_valid(root: Path) -> Path | None:
    """The newest checkpoint whose files are all as they were written; broken ones are passed over with a warning."""
    for folder in reversed(steps(root)):
        problem = _problem(folder)
        if problem is None:
            return folder
        warnings.warn(f"{folder}: {problem}; using the checkpoint before it", stacklevel=2)
    return None


def steps(root: Path) -> list[Path]:
    """The checkpoint folders, oldest first."""
    found = [p for p in root.glob("step-*") if p.is_dir() and p.name[5:].isdigit()]
    return sorted(found, key=step_of)


def step_of(folder: Path) -> int:
    """The step that a checkpoint folder was written at."""
    return int(folder.name[5:])


def remove_unfinished(root: Path) -> None:
    """Clear away what a killed process was writing."""
    for folder in root.glob(".writing-*"):
        shutil.rmtree(folder, ignore_errors=True)


def prune(root: Path, keep: int, spared: Collection[int | None]) -> None:
    """Leave the last `keep` checkpoints and those at the steps `spared`."""
    for folder in steps(root)[:-keep]:
        if step_of(folder) not in spared:
            shutil.rmtree(folder)


@contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """Turn a full disk, wherever it is met, into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"{out}: the disk is full; free some space and run the same command again, "
            "it goes on from the last checkpoint"
        ) from error


def _problem(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name, expected in manifest.items():
            if _fingerprint(folder / name) != expected:
                return f"{name} is damaged"
    except (OSError, ValueError, AttributeError) as error:
        return f"it cannot be read ({error})"
    return None if STATE in manifest else f"{STATE} is missing"


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _flush(path: Path) -> None:
    """Have the operating system put a file or folder on the disk now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write(temporary path)` and put the result in the place of `path` in one move. A failure leaves nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".writing-{path.name}")
    try:
        write(temporary)
        _flush(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush(path.parent)
