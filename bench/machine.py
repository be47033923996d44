"""What the figures depend on: processor, threads, versions, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def processor() -> dict[str, Any]:
    """Model name and the vector instructions that decide how fast fp32, bf16 and int8 products can be."""
    facts: dict[str, str] = {}
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    flags = set(facts.get("flags", "").split())
    model = facts.get("model name") or platform.processor() or platform.machine()
    return {"model": model, "instructions": [name for name in INSTRUCTIONS if name in flags]}


def computes_bf16(instructions: list[str]) -> bool:
    """Whether the processor multiplies bfloat16 in hardware; elsewhere it is emulated, and slower than float32."""
    return any(name.endswith("_bf16") for name in instructions)


def commit() -> str:
    """The git commit of the working tree, with ``+`` when tracked files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def describe(threads: int, rounds: int) -> dict[str, Any]:
    """The head of a results file."""
    return {
        "format_version": 1,
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": commit(),
        "python": platform.python_version(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "threads": threads,
        "rounds": rounds,
    }
