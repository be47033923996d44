"""`qkv lab verify`: every claim of the lab, in parallel, and a non-zero exit if one fails."""

from __future__ import annotations

import os
import time
from pathlib import Path

import typer


def verify(
    names: list[str] | None = typer.Argument(None, metavar="[EXPERIMENT]...", help="Only these.", show_default="all"),
    full: bool = typer.Option(False, "--full/--quick", help="Also what trains for up to a minute."),
    jobs: int = typer.Option(0, "--jobs", min=0, help="Experiments at once.", show_default="one a core"),
    seed: int = typer.Option(0, "--seed", help="Of everything that the runs draw."),
    record: Path | None = typer.Option(None, "--record", help="Put the evidence into this ledger (JSON lines)."),
) -> None:
    """Check every claim against its control. Exits with 1 if one fails."""
    from rich.console import Console

    from qkv.lab import ledger
    from qkv.lab import verify as lab
    from qkv.lab.registry import find_experiment
    from qkv.lab.terminal import summary

    for name in names or ():
        find_experiment(name)
    jobs = jobs or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    chosen = lab.chosen(full, names or ())
    console = Console()
    started, failed, claims, slow = time.monotonic(), [], 0, 0
    for outcome in lab.verify(chosen, jobs, seed):
        evidence = outcome.evidence
        if outcome.missing:
            wanted = " and ".join(f"'qkv data get {name}'" for name in outcome.missing)
            console.print(f"skipped {outcome.experiment}: its data is not on this machine; {wanted}", highlight=False)
            continue
        if evidence is None:
            failed.append(outcome.experiment)
            console.print(f"[red]broken[/] {outcome.experiment}: {outcome.error}", soft_wrap=True, highlight=False)
            continue
        claims += len(evidence.claims)
        over = evidence.seconds > (lab.FULL_SECONDS if find_experiment(outcome.experiment).long else lab.QUICK_SECONDS)
        slow += over
        mark = "[green]holds[/] " if evidence.passed else "[red]fails[/] "
        time_spent = f"{evidence.seconds:.1f} s{' (over its budget)' if over else ''}"
        console.print(f"{mark} {outcome.experiment}: {len(evidence.claims)} claims, {time_spent}", highlight=False)
        for claim in evidence.claims:
            if not claim.passed:
                failed.append(f"{outcome.experiment}.{claim.name}")
                why = claim.error or summary(claim)
                console.print(f"       [red]{claim.name}[/]: {claim.text.en} {why}", soft_wrap=True, highlight=False)
        if record is not None:
            ledger.record([evidence], record)
    spent = time.monotonic() - started
    verdict = f"{len(failed)} failed: {', '.join(failed)}" if failed else "all hold"
    console.print(f"{claims} claims of {len(chosen)} experiments in {spent:.0f} s with {jobs} jobs: {verdict}")
    if slow:
        console.print(f"{slow} experiments took longer than their budget")
    if failed:
        raise typer.Exit(1)
