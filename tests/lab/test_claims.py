"""Every claim of quick verification holds here and now: the experiments, run."""

from __future__ import annotations

import pytest

from qkv.lab.kit import run
from qkv.lab.registry import experiments
from qkv.lab.terminal import summary

QUICK = [e for e in experiments().values() if not e.long]


@pytest.mark.parametrize("experiment", QUICK, ids=lambda e: e.name)
def test_claims_hold_and_their_controls_fail(experiment):
    evidence = run(experiment)
    assert {claim.name: claim.error or summary(claim) for claim in evidence.claims if not claim.passed} == {}
