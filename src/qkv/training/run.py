"""The run folder's life: new, resumed or finished; and what Ctrl-C and SIGTERM do to it.

config.yaml · tokenizers/ · labels.json · model.safetensors · card.md · checkpoints/ · metrics.jsonl · tensorboard/
run.json        appears when the run is finished, with its result
"""

from __future__ import annotations

import enum
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from qkv.config import differing
from qkv.errors import UserError

from .checkpoint import replace_file

FORMAT_VERSION = 1
CONFIG, RESULT, WEIGHTS = "config.yaml", "run.json", "model.safetensors"
FILES = (CONFIG, RESULT, WEIGHTS, "metrics.jsonl", "card.md", "labels.json", "scope.json", "scope.safetensors")
FOLDERS = ("checkpoints", "tensorboard", "tokenizers")
TRAINED = ("checkpoints", "metrics.jsonl", WEIGHTS, RESULT)  # one of these is there before the first update


class Status(enum.Enum):
    """What a run folder held when it was opened."""

    NEW = "new"
    RESUMED = "resumed"
    FINISHED = "finished"


class Interrupted(Exception):
    """The run was saved and stopped on a signal; `exit_code` is 128 + the signal's number."""

    def __init__(self, number: int, step: int):
        super().__init__(f"stopped on {signal.Signals(number).name} after step {step}; the same command resumes")
        self.exit_code = 128 + number


def start_or_resume(out: Path, run_config: Mapping[str, Any], fresh: bool = False) -> Status:
    """Make a new run folder or find out what an old one holds. Calling it again changes nothing.

    run_config: plain data, the whole recipe. fresh: delete an earlier run in this folder (its own files only). One of
    another config that was refused, or killed, before its first update holds nothing and makes room by itself.
    Raises UserError when the folder was trained in with another config, naming the keys, or is no folder.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; choose another folder for the run")
    if fresh:
        _clear(out)
    config = {"format_version": FORMAT_VERSION, **json.loads(json.dumps(run_config))}
    path = out / CONFIG
    if not path.exists():
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        return Status.NEW
    changed = differing(_said(_read_config(path)), _said(config))
    if changed and not any((out / name).exists() for name in TRAINED):
        return start_or_resume(out, run_config, fresh=True)
    if changed:
        raise UserError(
            f"{out} was started with another {', '.join(changed)}; "
            "undo the change, choose another folder, or start over with --fresh"
        )
    return Status.FINISHED if (out / RESULT).exists() else Status.RESUMED


def finish(out: Path, result: Mapping[str, Any]) -> None:
    """Mark the run finished."""
    text = json.dumps({"format_version": FORMAT_VERSION, **result}, indent=1)
    replace_file(out / RESULT, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def result(out: Path) -> dict[str, Any]:
    """What `finish` wrote."""
    data = json.loads((out / RESULT).read_text(encoding="utf-8"))
    del data["format_version"]
    return data


@dataclass
class Signals:
    """The signal that asked the run to stop, 0 if none did."""

    number: int = 0


@contextmanager
def interrupts() -> Iterator[Signals]:
    """Let the first Ctrl-C or SIGTERM be seen at the next step's boundary; a second Ctrl-C quits at once.

    Outside the main thread, where Python delivers no signals, this does nothing.
    """
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return

    def note(number: int, frame: Any) -> None:
        if signals.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        signals.number = number
        if number == signal.SIGINT:
            os.write(2, b"\nsaving after this step; press Ctrl-C again to quit at once\n")

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _said(config: Any) -> Any:
    """Without the keys that are null, at any depth: a setting that did not exist when a run began is null now."""
    if not isinstance(config, Mapping):
        return config
    return {key: _said(value) for key, value in config.items() if value is not None}


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} is not readable YAML; restore it, or start over with --fresh") from error
    if not isinstance(config, dict) or config.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{path} is not of run format {FORMAT_VERSION}; choose another folder, or start over with --fresh"
        )
    return config


def _clear(out: Path) -> None:
    for name in FILES:
        (out / name).unlink(missing_ok=True)
    for name in FOLDERS:
        shutil.rmtree(out / name, ignore_errors=True)
