"""Every claim, in parallel: what holds, what does not, how long it took."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

from .evidence import Evidence
from .registry import experiments

QUICK_SECONDS, FULL_SECONDS = 3.0, 60.0
"""CPU seconds that one experiment may take, in quick and in full verification."""


@dataclass(frozen=True)
class Outcome:
    """What became of one experiment: its evidence, or why there is none. missing: datasets for want of which it was
    skipped."""

    experiment: str
    evidence: Evidence | None
    error: str = ""
    missing: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.evidence is not None and self.evidence.passed


def chosen(full: bool, names: Sequence[str] = ()) -> list[str]:
    """The experiments to run, long ones first so that they end together: all in full, in quick those not `long`."""
    found = [e for e in experiments().values() if (not names and (full or not e.long)) or e.name in names]
    return [e.name for e in sorted(found, key=lambda e: not e.long)]


def verify(names: Sequence[str], jobs: int = 2, seed: int = 0) -> Iterator[Outcome]:
    """Run experiments in `jobs` processes of one thread each; outcomes as they come."""
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        waiting = {pool.submit(attempt, name, seed): name for name in names}
        for done in as_completed(waiting):
            error = done.exception()
            yield Outcome(waiting[done], None, f"{type(error).__name__}: {error}") if error else done.result()


def attempt(name: str, seed: int = 0, report: Callable[[float, str], None] | None = None) -> Outcome:
    """Run one experiment by name, or skip it for want of its data; an exception becomes an outcome."""
    from .kit import run

    experiment = experiments()[name]
    if missing := experiment.missing:
        return Outcome(name, None, missing=tuple(missing))
    try:
        return Outcome(name, run(experiment, seed=seed, report=report))
    except Exception as error:
        return Outcome(name, None, f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-3)}")
