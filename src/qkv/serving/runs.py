"""Experiments that are run again from a page: one at a time, bounded in time and memory, cancellable."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import IO, Any, Literal

from qkv.lab.evidence import Evidence, Text
from qkv.lab.kit import Experiment

Status = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED: tuple[Status, ...] = ("done", "failed", "cancelled")


@dataclass(frozen=True)
class Limits:
    """seconds: the longest that one run may take. memory: bytes that it may map beyond torch itself. waiting: how many
    runs may wait. kept: how many ended ones are remembered."""

    seconds: float = 600.0
    memory: int = 4 << 30
    waiting: int = 8
    kept: int = 50


@dataclass(eq=False)
class Run:
    """One experiment run again. share, text: how far it is. evidence: once it is done. message: why it failed."""

    id: str
    experiment: Experiment
    params: dict[str, Any]
    seed: int
    asserted: bool
    status: Status = "queued"
    share: float = 0.0
    text: str = ""
    started: float = 0.0
    evidence: Evidence | None = None
    message: Text = field(default_factory=lambda: Text("", ""))
    process: subprocess.Popen[str] | None = None

    @property
    def ended(self) -> bool:
        return self.status in ENDED


class Full(Exception):
    """So many runs wait that no more are taken."""


class Runs:
    """A queue with one worker thread; each run is a process of its own, so that it can be bounded and stopped."""

    def __init__(self, limits: Limits | None = None):
        self.limits = limits or Limits()
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._waiting: queue.Queue[Run | None] = queue.Queue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, experiment: Experiment, params: dict[str, Any], seed: int, asserted: bool) -> Run:
        """Put a run at the end of the queue. Raises Full."""
        with self._lock:
            if sum(run.status == "queued" for run in self._runs.values()) >= self.limits.waiting:
                raise Full
            run = Run(uuid.uuid4().hex, experiment, params, seed, asserted)
            self._runs[run.id] = run
            for old in [r.id for r in self._runs.values() if r.ended][: -self.limits.kept]:
                del self._runs[old]
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True, name="lab-runs")
                self._thread.start()
        self._waiting.put(run)
        return run

    def get(self, key: str) -> Run | None:
        """The run of that id, None if it is not known (any more)."""
        return self._runs.get(key)

    def ahead(self, run: Run) -> int:
        """How many runs come before a queued one."""
        with self._lock:
            before = list(self._runs.values())
        return sum(not other.ended for other in before[: before.index(run)]) if run in before else 0

    def cancel(self, run: Run) -> None:
        """Stop a run that waits or runs; an ended one stays as it is."""
        with self._lock:
            if run.ended:
                return
            run.status = "cancelled"
            process = run.process
        if process is not None:
            _kill(process)

    def close(self) -> None:
        """Cancel everything and end the thread."""
        for run in list(self._runs.values()):
            self.cancel(run)
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(timeout=5)
            self._thread = None

    def _work(self) -> None:
        while (run := self._waiting.get()) is not None:
            try:
                self._one(run)
            except Exception as error:  # a run that cannot even start must not end the queue
                self._fail(run, Text(f"the run could not start: {error}", f"无法启动：{error}"))

    def _one(self, run: Run) -> None:
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
            with self._lock:
                if run.ended:
                    return
                run.status, run.started = "running", time.monotonic()
                run.process = _start(errors)
            late, code = self._listen(run, run.process)
            errors.seek(0)
            last = (errors.read().strip().splitlines() or [""])[-1]
        if late:
            n = f"{self.limits.seconds:g}"
            en = f"stopped after {n} s, the limit; choose smaller sizes"
            self._fail(run, Text(en, f"已到 {n} 秒上限而停止；请减小规模"))
        elif not run.ended:
            self._fail(run, Text(f"the run ended with code {code}. {last}", f"运行以代码 {code} 结束。{last}"))

    def _listen(self, run: Run, process: subprocess.Popen[str]) -> tuple[bool, int]:
        """Ask the process to run, and take its events until it ends; (whether its time was up, its exit code)."""
        late = threading.Event()

        def stop() -> None:
            late.set()
            _kill(process)

        clock = threading.Timer(self.limits.seconds, stop)
        clock.daemon = True
        clock.start()
        asked = {
            "experiment": run.experiment.name,
            "module": run.experiment.module,
            "params": run.params,
            "seed": run.seed,
            "memory": self.limits.memory,
        }
        try:
            assert process.stdin is not None and process.stdout is not None
            with contextlib.suppress(BrokenPipeError):  # it is gone already, and its exit code says why
                process.stdin.write(json.dumps(asked))
                process.stdin.close()
            for line in process.stdout:
                self._take(run, json.loads(line))
            return late.is_set(), process.wait()
        finally:
            clock.cancel()
            _kill(process)

    def _take(self, run: Run, event: dict[str, Any]) -> None:
        """An event of the process."""
        if event["event"] == "progress":
            run.share, run.text = event["share"], event["text"]
        elif event["event"] == "done":
            run.evidence = Evidence.of(event["evidence"])
            with self._lock:
                run.status = run.status if run.ended else "done"
        elif event["kind"] == "memory":
            n = f"{self.limits.memory / 2**30:.3g}"
            en = f"it needs more than {n} GB, the limit; choose smaller sizes"
            self._fail(run, Text(en, f"所需内存超过 {n} GB 的上限；请减小规模"))
        else:
            self._fail(run, Text(event["message"], event["message"]))

    def _fail(self, run: Run, message: Text) -> None:
        with self._lock:
            if not run.ended:
                run.message, run.status = message, "failed"


def _start(errors: IO[str]) -> subprocess.Popen[str]:
    """A worker in a process group of its own, on one thread and without a GPU, as the lab's claims are measured."""
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    return subprocess.Popen(
        [sys.executable, "-m", "qkv.serving.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        encoding="utf-8",
        env=os.environ | threads | {"CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )


def _kill(process: subprocess.Popen[str]) -> None:
    """End a worker and whatever it started."""
    if process.poll() is not None:
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (AttributeError, OSError):
        process.kill()
