"""Every experiment by name, found by importing the topics' modules."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache
from pathlib import Path

from qkv.errors import UserError

from .kit import Experiment

ROOT = Path(__file__).parent


@cache
def experiments() -> dict[str, Experiment]:
    """All experiments of all topics, in alphabetical order. Raises ValueError if two have one name."""
    found: dict[str, Experiment] = {}
    for topic in pkgutil.iter_modules([str(ROOT)]):
        if not topic.ispkg or topic.name == "site":
            continue
        for module in pkgutil.iter_modules([str(ROOT / topic.name)]):
            name = f"{__package__}.{topic.name}.{module.name}"
            for value in vars(importlib.import_module(name)).values():
                if isinstance(value, Experiment) and value.module == name:
                    if value.name in found:
                        raise ValueError(
                            f"two experiments are called {value.name!r}, in {name} and {found[value.name].module}"
                        )
                    found[value.name] = value
    return dict(sorted(found.items()))


def find_experiment(name: str) -> Experiment:
    """The experiment of that name; UserError if there is none."""
    if name not in experiments():
        near = difflib.get_close_matches(name, experiments(), n=5, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "an answer names its own: qkv ask 69"
        raise UserError(f"there is no experiment {name!r}; {hint}")
    return experiments()[name]
