"""`qkv.runtime`: threads, allocator, device and seeds."""

from __future__ import annotations

import os
import platform
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from qkv.errors import UserError
from qkv.runtime import choose_device, seed_everything, set_threads

FAULTS = """
import resource, sys, torch
from qkv.runtime import keep_memory
torch.set_num_threads(1)
if sys.argv[1] == "keep":
    assert keep_memory()
x = torch.zeros(12_000_000)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(30):  # until the heap has found its shape
    x.exp()
before = faults()
for _ in range(10):
    x.exp()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
def test_kept_memory_is_not_faulted_in_again() -> None:
    # An earlier test of this process may have kept its memory, and the switch is an environment variable.
    clean = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}

    def faults(how: str) -> int:
        command = [sys.executable, "-c", FAULTS, how]
        return int(subprocess.run(command, check=True, capture_output=True, env=clean).stdout)

    pages = 10 * 48_000_000 // os.sysconf("SC_PAGESIZE")
    assert faults("keep") < pages // 1000
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not (huge.exists() and "[always]" in huge.read_text()):  # huge pages everywhere would hide the control
        assert faults("default") > pages // 2


def test_threads() -> None:
    before = torch.get_num_threads()
    try:
        set_threads(1)
        assert torch.get_num_threads() == 1
        set_threads(0)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    with pytest.raises(UserError, match="threads: expected 0"):
        set_threads(-1)


def test_device_auto_prefers_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device().type == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device().type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device().type == "cuda"
    assert choose_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(UserError, match="device 'cuda:1' is not available"):
        choose_device("cuda:1")


@pytest.mark.parametrize("name", ["cuda", "meta", "gpu", "", "cuda:x"])
def test_a_device_that_is_not_there_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="choose auto or one of"):
        choose_device(name)


def test_a_seed_fixes_all_generators() -> None:
    def draws(seed: int) -> tuple[float, float, float]:
        seed_everything(seed)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    first = draws(2**40 + 1)
    assert draws(2**40 + 1) == first
    assert all(a != b for a, b in zip(first, draws(2), strict=True))
