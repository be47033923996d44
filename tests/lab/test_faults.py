"""The lab can be wrong: each planted fault turns the claims red that rest on what it breaks."""

from __future__ import annotations

import pytest

from .faults import FAULTS


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_turns_its_claims_red(fault):
    found = fault.measured()
    assert set(found) == set(fault.claims), "a claim has another name now"
    assert [name for name, claim in found.items() if claim.passed] == []


def test_faults_leave_nothing_behind():
    """Without a fault the same claims hold: what turned them red was the fault."""
    from qkv.lab.kit import run
    from qkv.lab.registry import experiments

    for name in {claim.split(".")[0] for fault in FAULTS for claim in fault.claims}:
        wanted = {claim.split(".")[1] for fault in FAULTS for claim in fault.claims if claim.startswith(f"{name}.")}
        assert all(claim.passed for claim in run(experiments()[name], only=wanted).claims), name
