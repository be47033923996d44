"""Decoding: one loop, `generate`, and the choosers and constraints it is steered by."""

from .choosers import Beam, Chooser, Greedy, Sample
from .constraints import Constraint, Forbidden, Forced, MinimumLength
from .generate import generate
from .layout import prepare
from .state import Hypothesis

__all__ = [
    "Beam",
    "Chooser",
    "Constraint",
    "Forbidden",
    "Forced",
    "Greedy",
    "Hypothesis",
    "MinimumLength",
    "Sample",
    "generate",
    "prepare",
]
