"""The near end of the pipe: starts a worker process and speaks JSON lines with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from bench.cells import Cell
from bench.contenders import Contender
from bench.machine import ROOT


class WorkerError(Exception):
    """A contender could not do what it was asked to; the message is one sentence."""


def environment(threads: int) -> dict[str, str]:
    """The worker's environment: threads fixed before any library is imported, nothing looked up on a network."""
    number = str(threads)
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    fixed = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "CT2_VERBOSE": "-2", "PYTHONPATH": path}
    return os.environ | fixed | dict.fromkeys(variables, number)


class Worker:
    """One contender of one cell in a process of its own, alive until ``stop``."""

    def __init__(self, contender: Contender, threads: int) -> None:
        self.contender, self.threads = contender, threads
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(threads),
            cwd=ROOT,
            text=True,
        )

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Sends one request and waits for its reply.

        Raises:
            WorkerError: the contender failed, or its process died.
        """
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"the process ended with code {self.process.wait()} while asked to {do}")
        reply = json.loads(line)
        if "error" in reply:
            raise WorkerError(reply["error"])
        return reply

    def build(self, cell: Cell, folder: str) -> dict[str, Any]:
        arguments = {"module": self.contender.module, "variant": self.contender.variant, "threads": self.threads}
        return self.ask("build", cell=cell.plain(), folder=folder, **arguments)

    def run(self, repeats: int) -> dict[str, Any]:
        return self.ask("run", repeats=repeats)

    def stop(self) -> None:
        """Ends the process, politely first."""
        try:
            assert self.process.stdin
            self.process.stdin.write('{"do": "stop"}\n')
            self.process.stdin.close()
            self.process.wait(timeout=10)
        except (OSError, ValueError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        finally:
            if self.process.stdout:
                self.process.stdout.close()
