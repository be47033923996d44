"""A contender that needs no library: what the pipe tests measure."""

from __future__ import annotations

import os
import time

from bench.cells import Cell
from bench.job import Job


def build(cell: Cell, variant: str, folder: str) -> Job:
    """variant: "fast" or "slow" work; "absent" fails to build; "dies" ends the process in its first step."""
    if variant == "absent":
        raise ImportError("No module named 'fake'")

    def step() -> None:
        print("a library that prints")  # must not reach the pipe
        if variant == "dies":
            os._exit(3)
        time.sleep({"fast": 0.005, "slow": 0.02}[variant])

    def output() -> list[list[int]]:
        return [[1, 2, 3]] if variant == "fast" else [[1, 2, 4]]

    return Job(step, parameters=7, output=output, packages=["torch"])
