"""Every example in the docstrings of `qkv.text` is run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import qkv.text

MODULES = [module.name for module in pkgutil.walk_packages(qkv.text.__path__, "qkv.text.")]
TWINS = {f"qkv.text.twins.{name}" for name in ("bpe", "wordpiece", "unigram", "unigram_training")}


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0
    assert result.attempted >= (3 if name in TWINS else 0)
    assert set(MODULES) >= TWINS
