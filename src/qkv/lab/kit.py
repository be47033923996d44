"""What an experiment is given: claims that carry a control, numbers, figures, and the one training loop."""

from __future__ import annotations

import inspect
import statistics
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from pydantic import Field
from torch import Tensor, nn

import qkv
from qkv import runtime
from qkv.data import sources
from qkv.data.batch import Batch
from qkv.training.config import TrainingConfig
from qkv.training.fit import fit
from qkv.training.losses import Loss, TokenCrossEntropy
from qkv.training.optim import AdamW
from qkv.training.schedules import Constant, Schedule

from .checks import Check
from .evidence import Claim, Evidence, Number, Text

Arm = TypeVar("Arm")
Report = Callable[[float, str], None]
"""Told the share of the run that is over, from 0 to 1, and what is being done."""


def within(least: float, most: float) -> Any:
    """Bounds of a parameter: `d_head: Annotated[int, within(1, 4096)] = 1024`."""
    return Field(ge=least, le=most)


@dataclass(frozen=True)
class NoParams:
    """For experiments that have nothing to change but the seed."""


@dataclass(frozen=True)
class Experiment:
    """A function (lab, params) -> None, the dataclass of its params, whether it is left to full verification, and the
    public datasets that it reads."""

    name: str
    run: Callable[[Lab, Any], None]
    params: type
    long: bool
    module: str
    data: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The first paragraph of its docstring, in one line."""
        return " ".join((inspect.getdoc(self.run) or "").split("\n\n")[0].split())

    def title(self, language: str) -> str:
        """What it shows: its summary, or in Chinese what titles.yaml says."""
        return self.summary if language == "en" else _titles().get(self.name, self.summary)

    @property
    def missing(self) -> list[str]:
        """Those of its datasets that are not on this machine: without them it is skipped, and its evidence is the
        ledger's."""
        return [
            name for name in self.data if any(sources.find(name, file) is None for file in sources.named(name).files)
        ]

    @property
    def path(self) -> Path:
        """The file that it is written in."""
        return Path(inspect.getfile(inspect.unwrap(self.run)))


@cache
def _titles() -> dict[str, str]:
    return yaml.safe_load((Path(__file__).parent / "titles.yaml").read_text(encoding="utf-8"))


def experiment(long: bool = False, data: tuple[str, ...] = ()) -> Callable[[Callable[[Lab, Any], None]], Experiment]:
    """Make an experiment of a function; it is known by the function's name. long: too slow for quick verification.
    data: public datasets that it reads; where one is missing it is skipped."""

    def declare(run: Callable[[Lab, Any], None]) -> Experiment:
        hints = inspect.get_annotations(run, eval_str=True)
        return Experiment(run.__name__, run, hints["params"], long, run.__module__, data)

    return declare


class Generated:
    """A BatchSource whose i-th batch is `make(generator seeded with (seed, i))`; an epoch is the whole run."""

    def __init__(self, make: Callable[[torch.Generator], Batch], steps: int, seed: int, report: Report):
        self.make, self.steps, self.seed, self.report = make, steps, seed, report

    def plan(self, epoch: int) -> list[list[int]]:
        return [[i] for i in range(self.steps)]

    def load(self, indices: list[int]) -> Batch:
        self.report(indices[0] / self.steps, f"{indices[0]:,} / {self.steps:,}")
        return self.make(torch.Generator().manual_seed(self.seed * 1_000_003 + indices[0]))

    def __len__(self) -> int:
        return self.steps


class Lab:
    """The bench that an experiment works at. `only`: the claims to measure (None: all)."""

    def __init__(self, seed: int = 0, report: Report | None = None, only: Collection[str] | None = None):
        self.seed, self.only = seed, only
        self.report: Report = report or (lambda share, text: None)
        self.trainings = 0
        self.numbers: dict[str, Number] = {}
        self.claims: list[Claim] = []
        self.figures: dict[str, dict[str, Any]] = {}

    def generator(self, offset: int = 0) -> torch.Generator:
        """Random numbers of this run alone."""
        return torch.Generator().manual_seed(self.seed * 7919 + offset)

    def seeds(self, count: int = 3) -> tuple[int, ...]:
        """The seeds that a claim of so many draws."""
        return tuple(self.seed + i for i in range(count))

    def number(self, name: str, value: float | Tensor, unit: str = "") -> float:
        """Record a measurement that no claim rests on; prose may name it. Returns it."""
        self._require_new(name)
        plain = float(value.detach() if isinstance(value, Tensor) else value)
        self.numbers[name] = Number(plain, unit)
        return plain

    def spread(self, name: str, values: Sequence[float], unit: str = "") -> float:
        """Record the mean of several runs as `name`, and `name_least` and `name_most`, between which they lie. Returns
        the mean."""
        self.number(f"{name}_least", min(values), unit)
        self.number(f"{name}_most", max(values), unit)
        return self.number(name, statistics.fmean(values), unit)

    def figure(self, name: str, drawing: dict[str, Any]) -> None:
        """Keep a drawing of `figures`."""
        self.figures[name] = drawing

    def claim(
        self,
        name: str,
        text: Text,
        *,
        measure: Callable[..., float | Tensor],
        arm: Arm,
        control: Arm,
        without: Text,
        holds: Check,
        unit: str = "",
        seeds: int = 0,
    ) -> Claim | None:
        """Claim `text`: holds(measure(arm)) and not holds(measure(control)).

        control: the arm in which the mechanism is removed or reversed, so that the claim must be false there;
        `without` says in words what was removed. With `seeds` (at least 3, for whatever is trained) it is
        measure(arm, seed), every seed of the arm must hold, none of the control's, and the means must lie apart by
        three times the larger range. An exception in a measure fails the claim and is told in it.
        """
        if seeds and seeds < 3:
            raise ValueError(
                f"claim {name!r}: {seeds} seeds do not show a spread; take at least 3, or 0 for an identity"
            )
        if arm is control or not (without.en and without.zh):
            raise ValueError(f"claim {name!r}: it needs a control, another arm in which it must fail, said in words")
        self._require_new(name)
        if self.only is not None and name not in self.only:
            return None
        drawn = self.seeds(seeds)
        error = ""
        measured: tuple[float, ...] = ()
        against: tuple[float, ...] = ()
        try:
            measured, against = (self._measure(measure, side, drawn) for side in (arm, control))
        except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as broken:
            error = f"{type(broken).__name__}: {broken}"
        claim = Claim(
            name=name,
            text=text,
            control=without,
            expected=holds.text,
            unit=unit,
            measured=measured,
            against=against,
            held=bool(measured) and all(holds(value, against) for value in measured),
            refuted=bool(against) and not any(holds(value, measured) for value in against),
            seeds=drawn,
            error=error,
        )
        self.claims.append(claim)
        return claim

    def train(
        self,
        model: nn.Module,
        make: Callable[[torch.Generator], Batch],
        steps: int,
        *,
        seed: int = 0,
        learning_rate: float = 3e-3,
        loss: Loss | None = None,
        schedule: Schedule | None = None,
        **settings: Any,
    ) -> nn.Module:
        """Train `model` by `fit` on `steps` generated batches, in a folder that is thrown away; in eval mode after.

        Adam without decay at a constant rate, unless `settings` of TrainingConfig say otherwise."""
        config = TrainingConfig(
            max_steps=steps,
            seed=seed,
            threads=1,
            device="cpu",
            learning_rate=learning_rate,
            schedule=schedule or Constant(),
            eval_every=None,
            checkpoint_every=None,
            log_every=steps,
            tensorboard=False,
            **{"optimizer": AdamW(weight_decay=0.0), **settings},
        )
        with tempfile.TemporaryDirectory(prefix="qkv-lab-") as folder:
            self.trainings += 1
            which = f"#{self.trainings} · "  # the bar begins anew with each training
            source = Generated(make, steps, seed, lambda share, text: self.report(share, which + text))
            fit(model, loss or TokenCrossEntropy(), source, config, Path(folder) / "run", progress=False)
        return model

    def _measure(self, measure: Callable[..., float | Tensor], arm: Any, seeds: tuple[int, ...]) -> tuple[float, ...]:
        values = []
        for seed in seeds or (self.seed,):
            runtime.seed_everything(seed)
            value = measure(arm, seed) if seeds else measure(arm)
            values.append(float(value.detach() if isinstance(value, Tensor) else value))
        return tuple(values)

    def _require_new(self, name: str) -> None:
        if name in self.numbers or any(claim.name == name for claim in self.claims):
            raise ValueError(f"{name!r} is measured twice in one experiment; give each number and claim its own name")


def run(
    chosen: Experiment,
    params: Any = None,
    seed: int = 0,
    report: Report | None = None,
    only: Collection[str] | None = None,
) -> Evidence:
    """Run an experiment on one thread; the same seed and params give the same numbers."""
    from .ledger import digest, versions

    params = chosen.params() if params is None else params
    lab = Lab(seed, report, only)
    runtime.set_threads(1)
    runtime.seed_everything(seed)
    started = time.process_time()
    chosen.run(lab, params)
    if not lab.claims and only is None:
        raise ValueError(f"experiment {chosen.name!r} claims nothing; an experiment asserts at least one claim")
    return Evidence(
        experiment=chosen.name,
        params=asdict(params),
        seed=seed,
        numbers=lab.numbers,
        claims=tuple(lab.claims),
        figures=lab.figures,
        seconds=round(time.process_time() - started, 2),
        versions=versions() | {"qkv": qkv.__version__},
        digest=digest(chosen),
    )
