"""The examples in the docstrings of the pages and of what looks inside a model."""

from __future__ import annotations

import doctest
from types import ModuleType

import pytest

from qkv.probe import ablation, search
from qkv.serving import guard, prose, render


@pytest.mark.parametrize("module", [ablation, search, guard, prose, render], ids=lambda m: m.__name__)
def test_examples(module: ModuleType) -> None:
    ran = doctest.testmod(module)
    assert ran.attempted and not ran.failed
