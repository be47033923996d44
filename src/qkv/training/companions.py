"""`training.processes`: one command becomes several processes on this machine, which share every update.

This process is rank 0 and starts the others with its own command; `distributed.start` then joins them. Two processes of
one thread are faster on a CPU than one of two threads when a model's operations are small: what lies between the
products (norms, softmax, indexing, the interpreter itself) is shared too.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

import torch.distributed as dist

from qkv.errors import UserError

PATIENCE = 30.0  # seconds that a companion has for its end after ours


@contextmanager
def companions(processes: int, command: Sequence[str]) -> Iterator[None]:
    """Around a training: `processes` − 1 more of them, each `qkv COMMAND...` with its rank in the environment.

    Starts nothing where one process is asked for, or torchrun has started this one already. Raises UserError with the
    last words of a companion that failed while this process did its part.
    """
    if processes <= 1 or "WORLD_SIZE" in os.environ:
        yield
        return
    before = dict(os.environ)
    shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    if sys.platform == "linux":
        shared["GLOO_SOCKET_IFNAME"] = before.get("GLOO_SOCKET_IFNAME", "lo")  # a host's name need not resolve
    os.environ.update(shared, RANK="0", LOCAL_RANK="0")
    started = [_start(command, rank) for rank in range(1, processes)]
    try:
        yield
    except RuntimeError as error:
        if words := _last_words(started):
            raise UserError(f"a process of this run ended: {words}; the same command resumes") from error
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        for process, log in started:
            _end(process)
            log.close()
        os.environ.clear()
        os.environ.update(before)


def _start(command: Sequence[str], rank: int) -> tuple[subprocess.Popen, IO[bytes]]:
    log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by companions)
    environment = {**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank)}
    line = [sys.executable, "-m", "qkv", *command]
    return subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=log), log


def _end(process: subprocess.Popen) -> None:
    """Wait for a companion; one that hangs is told to go, then made to."""
    for urge in (process.terminate, process.kill):
        try:
            process.wait(PATIENCE)
            return
        except subprocess.TimeoutExpired:
            urge()
    process.wait()


def _last_words(started: Sequence[tuple[subprocess.Popen, IO[bytes]]]) -> str | None:
    """The last line that a companion which failed wrote; None where none failed."""
    for process, log in started:
        try:
            code = process.wait(1.0)
        except subprocess.TimeoutExpired:
            continue
        if code:
            log.seek(0)
            lines = log.read().decode(errors="replace").strip().splitlines()
            return lines[-1].removeprefix("error: ") if lines else f"exit code {code}"
    return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
