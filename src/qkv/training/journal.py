"""What a run tells: lines in metrics.jsonl, TensorBoard events, a progress bar."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from .checkpoint import replace_file

METRICS = "metrics.jsonl"


class Journal:
    """One line a record: step, kind (train | evaluate), elapsed seconds, figures. Silent where `writing` is False.

    The bar appears only when standard output is a terminal.
    """

    def __init__(self, out: Path, step: int, writing: bool, progress: bool, tensorboard: bool):
        self.path, self.first_step = out / METRICS, step
        self.writing = writing
        self.showing = writing and progress and sys.stdout.isatty()
        self.events = _event_writer(out, step) if writing and tensorboard else None

    def __enter__(self) -> Journal:
        if self.writing:
            cut(self.path, self.first_step)
            self.file = self.path.open("a", encoding="utf-8")
        if self.showing:
            share, figures = TextColumn("{task.percentage:>3.0f} %"), TextColumn("{task.fields[text]}")
            self.bar = Progress(TextColumn("training"), BarColumn(), share, TimeRemainingColumn(), figures)
            self.task = self.bar.add_task("training", total=1.0, text="")
            self.bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.showing:
            self.bar.stop()
        if self.writing:
            self.file.close()
        if self.events is not None:
            self.events.close()

    def record(self, step: int, kind: str, elapsed: float, figures: dict[str, Any]) -> None:
        """Write a line, and the events; a run cut off here loses at most this line."""
        if not self.writing:
            return
        line = {"step": step, "kind": kind, "elapsed": round(elapsed, 3), **figures}
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        numbers = {n: v for n, v in figures.items() if isinstance(v, int | float)}
        if self.events is not None:
            for name, value in numbers.items():
                self.events.add_scalar(f"{kind}/{name}", value, step)
        if self.showing:
            self.bar.update(self.task, text="  ".join(f"{_short(n)} {v:.4g}" for n, v in numbers.items()))

    def advance(self, progress: float) -> None:
        """Show how much of the run is over, from 0 to 1."""
        if self.showing:
            self.bar.update(self.task, completed=min(1.0, progress))


def cut(path: Path, step: int) -> None:
    """Drop the lines after `step`, and a half-written one: what a resumed run will write again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    replace_file(path, lambda temporary: temporary.write_text("".join(kept), encoding="utf-8"))


def _event_writer(out: Path, step: int) -> Any:
    """A TensorBoard writer that hides events after `step`, or None where the package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(out / "tensorboard", purge_step=step + 1)


def _short(name: str) -> str:
    return {"learning_rate": "rate", "gradient_norm": "norm", "tokens_per_second": "tokens/s"}.get(name, name)
