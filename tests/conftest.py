"""Every test runs on one thread and from a known seed."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import Phase, settings

torch.set_num_threads(1)
settings.register_profile("qkv", deadline=None, derandomize=True)
# For planted bugs: that a test fails is all they ask, so the failing example need not become a small one.
settings.register_profile("planted", settings.get_profile("qkv"), phases=[Phase.explicit, Phase.generate])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "qkv"))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
