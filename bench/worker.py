"""The far end of the pipe: one process that builds one contender of one cell and runs it when told to.

Requests and replies are JSON lines. The reply channel is the standard output that the process was born with; whatever
a library prints afterwards goes to standard error instead, so that it cannot corrupt a reply.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from importlib.metadata import version
from typing import Any, TextIO


def serve(requests: TextIO, replies: TextIO) -> None:
    """Answers requests until ``stop`` or the end of the input; an exception becomes an ``error`` reply."""
    job: Any = None
    for line in requests:
        request = json.loads(line)
        if request["do"] == "stop":
            return
        try:
            if request["do"] == "build":
                job, reply = build(request)
            elif request["do"] == "run":
                reply = run(job, request["repeats"])
            elif request["do"] == "output":
                reply = {"output": job.output() if job.output else None}
            else:
                reply = {"error": f"unknown request {request['do']!r}"}
        except Exception as error:  # whatever went wrong in a library, the other contenders go on
            reply = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def build(request: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Sets the threads before any work is done, imports the adapter and builds its job."""
    import torch

    from bench.cells import Cell

    torch.set_num_threads(request["threads"])
    torch.manual_seed(request["cell"]["seed"])
    module = importlib.import_module(request["module"])
    job = module.build(Cell(**request["cell"]), request["variant"], request["folder"])
    versions = {package: version(package) for package in job.packages}
    return job, {"parameters": job.parameters, "note": job.note, "versions": versions}


def run(job: Any, repeats: int) -> dict[str, Any]:
    """Times ``repeats`` whole steps under one clock; seconds, and the peak memory of the process so far."""
    start = time.perf_counter()
    for _ in range(repeats):
        job.step()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def main() -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.stdin, replies)


if __name__ == "__main__":
    main()
