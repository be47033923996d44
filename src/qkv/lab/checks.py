"""What a measured value must satisfy for a claim to hold, with the words that say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Test = Callable[[float, Sequence[float]], bool]


@dataclass(frozen=True)
class Check:
    """`test(value, others)`: value is one run's, others are those of the arm it is set against. `text` says it."""

    text: str
    test: Test

    def __call__(self, value: float, others: Sequence[float] = ()) -> bool:
        """Whether the value passes; NaN never does."""
        return value == value and self.test(value, others)


def above(bound: float) -> Check:
    """value > bound.

    >>> above(0.5)(0.7), above(0.5)(float("nan"))
    (True, False)
    """
    return Check(f"> {bound:g}", lambda value, _: value > bound)


def below(bound: float) -> Check:
    """value < bound."""
    return Check(f"< {bound:g}", lambda value, _: value < bound)


def between(least: float, most: float) -> Check:
    """least ≤ value ≤ most."""
    return Check(f"{least:g} … {most:g}", lambda value, _: least <= value <= most)


def close(expected: float, tolerance: float) -> Check:
    """|value − expected| ≤ tolerance."""
    return Check(f"{expected:g} ± {tolerance:g}", lambda value, _: abs(value - expected) <= tolerance)


def exactly(expected: float) -> Check:
    """value = expected: for counts."""
    return Check(f"= {expected:g}", lambda value, _: value == expected)


def lower() -> Check:
    """Below every value of the control: for losses and errors that are compared, not bounded."""
    return Check("< control", lambda value, others: all(value < other for other in others))


def higher() -> Check:
    """Above every value of the control: for accuracies that are compared, not bounded."""
    return Check("> control", lambda value, others: all(value > other for other in others))
