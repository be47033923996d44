"""Measures one cell: builds all contenders, warms them up, then lets each work once in every round.

Interleaving (A B C A B C ...) spreads whatever else the machine does over all contenders alike, and each contender has
a process of its own, so that one's allocator, threads and caches cannot help or hinder another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from bench.cells import Cell
from bench.contenders import Contender
from bench.pipe import Worker, WorkerError

Say = Callable[[str], None]


def measure(
    cell: Cell, contenders: list[Contender], threads: int, rounds: int, seconds: float, folder: str, say: Say
) -> dict[str, Any]:
    """One entry of a results file.

    Args:
        seconds: a timed unit repeats the step until it lasts about this long, as estimated by the warm-up.
        folder: the Hugging Face folder with the weights of the cell; empty for training.

    Returns:
        ``{"name", "cell", "contenders": [...], "absent": [{"name", "reason"}]}``; a contender's ``rates`` are tokens/s,
        one a round. Whoever fails is moved to ``absent``; the others go on.
    """
    workers: list[Worker] = []
    entries: dict[str, dict[str, Any]] = {}
    absent: list[dict[str, str]] = []
    try:
        workers = [Worker(contender, threads) for contender in contenders]
        for stage in ("build", "warm up", *range(rounds), "output"):
            for worker in list(workers):
                name = worker.contender.name
                say(f"{cell.name} · {name} · {f'round {stage + 1} of {rounds}' if isinstance(stage, int) else stage}")
                try:
                    advance(stage, worker, cell, entries, seconds, folder)
                except WorkerError as error:
                    absent.append({"name": name, "reason": str(error)})
                    entries.pop(name, None)
                    workers.remove(worker)
                    worker.stop()
    finally:
        for worker in workers:
            worker.stop()
    return {"name": cell.name, "cell": cell.plain(), "contenders": list(entries.values()), "absent": absent}


def advance(
    stage: str | int, worker: Worker, cell: Cell, entries: dict[str, dict[str, Any]], seconds: float, folder: str
) -> None:
    """Takes one contender through one stage and notes what came out."""
    contender = worker.contender
    if stage == "build":
        known = {"name": contender.name, "role": contender.role}
        entries[contender.name] = known | worker.build(cell, folder) | {"rates": [], "output": None}
        return
    entry = entries[contender.name]
    if stage == "warm up":
        entry["warm_seconds"] = worker.run(1)["seconds"]
        entry["repeats"] = max(1, min(100, math.ceil(seconds / entry["warm_seconds"])))
    elif stage == "output":
        if cell.kind == "decoding":
            entry["output"] = worker.ask("output")["output"]
    else:
        reply = worker.run(entry["repeats"])
        entry["rates"].append(entry["repeats"] * cell.tokens / reply["seconds"])
        entry["peak_bytes"] = reply["peak_bytes"]
