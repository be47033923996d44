"""What a run of an experiment leaves behind: numbers with units, claims with what they were set against, figures."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

MARGIN = 3.0
"""A claim on training runs needs a gap between the arms' means of at least so many times the larger arm's range."""


@dataclass(frozen=True)
class Text:
    """The same thing said to two readers."""

    en: str
    zh: str

    def of(self, language: str) -> str:
        """The text in `language`: en or zh."""
        return self.zh if language == "zh" else self.en


@dataclass(frozen=True)
class Number:
    """A measurement and its unit ("" for a pure number)."""

    value: float
    unit: str = ""


@dataclass(frozen=True)
class Claim:
    """A sentence, what was measured for it, and what the same measure gave where the mechanism was removed.

    measured, against: one value a seed (a single one where nothing is trained). held: the check is met by every value
    of the arm. refuted: it is met by none of the control's. margin: |gap of means| / larger range, over seeds.
    error: why there is nothing measured, if the run broke."""

    name: str
    text: Text
    control: Text
    expected: str
    unit: str
    measured: tuple[float, ...]
    against: tuple[float, ...]
    held: bool
    refuted: bool
    seeds: tuple[int, ...] = ()
    error: str = ""

    @property
    def margin(self) -> float:
        """The gap between the means in units of the larger arm's range; infinite where nothing varies."""
        if not self.measured or not self.against:
            return 0.0
        spread = max(max(arm) - min(arm) for arm in (self.measured, self.against))
        gap = abs(statistics.fmean(self.measured) - statistics.fmean(self.against))
        return gap / spread if spread else float("inf")

    @property
    def passed(self) -> bool:
        """Held where it should, failed where it should and, over seeds, by a margin."""
        clear = len(self.seeds) < 2 or self.margin >= MARGIN
        return self.held and self.refuted and clear and not self.error


@dataclass(frozen=True)
class Evidence:
    """One run of one experiment."""

    experiment: str
    params: dict[str, Any]
    seed: int
    numbers: dict[str, Number] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    digest: str = ""

    @property
    def passed(self) -> bool:
        """Every claim passed."""
        return all(claim.passed for claim in self.claims)

    def values(self) -> dict[str, float | str]:
        """Everything a placeholder may name, without the experiment's name: parameters, numbers, and of a claim c its
        mean `c`, `c.least`, `c.most`, `c.margin`, `c.seeds`, and the control's `c.control`, `c.control.least`, …"""
        found: dict[str, float | str] = {k: v for k, v in self.params.items() if isinstance(v, int | float | str)}
        found |= {"seed": self.seed, "seconds": self.seconds}
        found |= {name: number.value for name, number in self.numbers.items()}
        for claim in self.claims:
            for key, arm in ((claim.name, claim.measured), (f"{claim.name}.control", claim.against)):
                if arm:
                    found |= {key: statistics.fmean(arm), f"{key}.least": min(arm), f"{key}.most": max(arm)}
            found |= {f"{claim.name}.margin": claim.margin, f"{claim.name}.seeds": len(claim.seeds)}
        return found

    def plain(self) -> dict[str, Any]:
        """The evidence as JSON data."""
        return asdict(self)

    @classmethod
    def of(cls, data: dict[str, Any]) -> Evidence:
        """The inverse of `plain`."""
        claims = tuple(
            Claim(
                **{
                    **c,
                    "text": Text(**c["text"]),
                    "control": Text(**c["control"]),
                    **{name: tuple(c[name]) for name in ("measured", "against", "seeds")},
                }
            )
            for c in data["claims"]
        )
        numbers = {name: Number(**number) for name, number in data["numbers"].items()}
        return cls(**{**data, "claims": claims, "numbers": numbers})
