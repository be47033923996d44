"""The process that runs one experiment: a request on standard input, events as JSON lines on standard output.

in   {"experiment": name, "module": where it is, "params": {...}, "seed": n, "memory": bytes}
out  {"event": "progress", "share": 0.4, "text": "60 / 150"} …
     {"event": "done", "evidence": {...}} or {"event": "failed", "kind": "memory" | "error", "message": sentence}
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

SELDOM = 0.15
"""Seconds between two reports of progress."""


def main() -> None:
    """Run what standard input asks for."""
    # Whatever an experiment prints must not come between the events.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(event: str, **data: Any) -> None:
        out.write(json.dumps({"event": event, **data}, ensure_ascii=False) + "\n")
        out.flush()

    asked = json.load(sys.stdin)
    last = [0.0]

    def report(share: float, text: str) -> None:
        now = time.monotonic()
        if now - last[0] >= SELDOM:
            last[0] = now
            send("progress", share=share, text=text)

    try:
        from qkv import config
        from qkv.lab.kit import Experiment, run

        # The one module, not the registry: every run waits for its imports.
        found = vars(importlib.import_module(asked["module"])).values()
        experiment = next(e for e in found if isinstance(e, Experiment) and e.name == asked["experiment"])
        bound_memory(asked["memory"])
        evidence = run(experiment, config.parse(experiment.params, asked["params"]), asked["seed"], report)
        errors = " ".join(claim.error for claim in evidence.claims)
        if "allocate" in errors:  # a measure that ran out of memory is told in its claim; here the bound was met
            raise MemoryError
        send("done", evidence=evidence.plain())
    except Exception as error:
        short = isinstance(error, MemoryError) or "allocate memory" in str(error)
        send("failed", kind="memory" if short else "error", message=f"{type(error).__name__}: {error}")


def bound_memory(extra: int) -> None:
    """Let this process map `extra` bytes more than it has by now, once torch and the experiments are loaded. Where the
    system has no such limit the run is bounded in time only."""
    try:
        import resource
    except ImportError:
        return
    sizes = Path("/proc/self/statm")
    mapped = int(sizes.read_text().split()[0]) * resource.getpagesize() if sizes.exists() else 0
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    bound = mapped + extra if most == resource.RLIM_INFINITY else min(mapped + extra, most)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (bound, most))
    except (OSError, ValueError):
        return


if __name__ == "__main__":
    main()
