"""Every test runs on one thread and from a known seed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("qkv", deadline=None, derandomize=True)
settings.load_profile("qkv")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
