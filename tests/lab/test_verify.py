"""Verification: which experiments it runs, what it says of each, what it records and when it exits with 1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from qkv.cli.lab import app
from qkv.data.catalog import named
from qkv.lab import ledger
from qkv.lab.evidence import Claim, Evidence, Number, Text
from qkv.lab.kit import run
from qkv.lab.registry import experiments
from qkv.lab.verify import Outcome, attempt, chosen

SAID = Text("it is", "是")


def evidence(name: str, measured: float, **more) -> Evidence:
    """Of an experiment with one claim, > 0.5, whose control gave 0."""
    claim = Claim("c", SAID, SAID, "> 0.5", "", (measured,), (0.0,), held=measured > 0.5, refuted=True)
    return Evidence(name, {}, 0, {"n": Number(measured)}, (claim,), **more)


def test_quick_verification_leaves_the_long_ones_out_and_full_begins_with_them():
    long = {name for name, experiment in experiments().items() if experiment.long}
    assert not long & {*chosen(full=False)} and set(chosen(full=True)) == set(experiments())
    assert set(chosen(full=True)[: len(long)]) == long
    name = sorted(long)[0]
    assert chosen(full=False, names=[name]) == [name], "what is named is run, however long it takes"


def test_an_exception_becomes_an_outcome(monkeypatch):
    def broken(*_, **__) -> None:
        raise ValueError("a reason")

    monkeypatch.setattr("qkv.lab.kit.run", broken)
    outcome = attempt("anatomy")
    assert not outcome.passed and outcome.evidence is None and "ValueError: a reason" in outcome.error


@pytest.fixture
def verified(monkeypatch, tmp_path):
    """A function: outcomes -> (exit code, what is printed, the ledger that is written)."""

    def verify(*outcomes: Outcome) -> tuple[int, str, dict[str, Evidence]]:
        def fake(names: list[str], jobs: int, seed: int) -> Iterator[Outcome]:
            yield from outcomes

        monkeypatch.setattr("qkv.lab.verify.verify", fake)
        path = tmp_path / "ledger.jsonl"
        names = [outcome.experiment for outcome in outcomes]
        result = CliRunner().invoke(app, ["verify", *names, "--record", str(path)])
        return result.exit_code, " ".join(result.output.split()), ledger.read(path)

    return verify


def test_what_holds_is_recorded(verified):
    code, said, kept = verified(Outcome("scaling", evidence("scaling", 0.9)))
    assert code == 0 and "holds scaling: 1 claims" in said and "all hold" in said
    assert kept["scaling"].numbers["n"].value == 0.9


def test_what_fails_is_named_with_its_numbers(verified):
    good = Outcome("anatomy", evidence("anatomy", 0.9))
    code, said, _ = verified(good, Outcome("scaling", evidence("scaling", 0.25)))
    assert code == 1 and "1 failed: scaling.c" in said and "0.25, expected > 0.5; control 0" in said


def test_what_breaks_is_no_success(verified):
    code, said, kept = verified(Outcome("scaling", None, "ValueError: no"))
    assert code == 1 and "broken scaling: ValueError: no" in said and kept == {}


def test_what_lacks_its_data_is_skipped_and_said(verified):
    code, said, kept = verified(Outcome("flight_questions", None, missing=("atis",)))
    assert code == 0 and "skipped flight_questions" in said and "'qkv data get atis'" in said and kept == {}


def test_what_takes_too_long_is_told(verified):
    quick, slow = evidence("anatomy", 0.9, seconds=2.9), evidence("scaling", 0.9, seconds=3.1)
    code, said, _ = verified(Outcome("anatomy", quick), Outcome("scaling", slow))
    assert code == 0 and said.count("over its budget") == 1 and "1 experiments took longer" in said


def test_a_wrong_name_gets_a_sentence():
    result = CliRunner().invoke(app, ["verify", "nosuch"])
    assert result.exit_code != 0 and "no experiment 'nosuch'" in f"{result.output}{result.exception}"


def test_the_data_of_an_experiment_are_looked_for_where_loaders_do(monkeypatch, tmp_path):
    experiment = experiments()["flight_questions"]
    monkeypatch.setenv("QKV_DATA", str(tmp_path))
    monkeypatch.setenv("QKV_CACHE", str(tmp_path / "cache"))
    assert experiment.missing == ["atis"] and attempt(experiment.name) == Outcome(
        experiment.name, None, missing=("atis",)
    )
    for file in named("atis").files:
        path = tmp_path / "atis" / f"{file}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert experiment.missing == []


def test_the_ledger_keeps_what_is_not_recorded_again(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger.record([evidence("b", 0.9), evidence("a", 0.8)], path)
    ledger.record([evidence("b", 0.7)], path)
    found = ledger.read(path)
    assert [*found] == ["a", "b"] and found["a"].numbers["n"].value == 0.8 and found["b"].numbers["n"].value == 0.7
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "nothing else is left lying there"


def test_evidence_is_out_of_date_when_its_file_or_the_toolkit_changed():
    experiment = experiments()["anatomy"]
    fresh = run(experiment, only=())
    assert ledger.outdated(fresh, experiment) == ""
    assert "experiment" in ledger.outdated(replace(fresh, digest="0" * 12), experiment)
    assert "toolkit" in ledger.outdated(replace(fresh, versions=fresh.versions | {"toolkit": "0"}), experiment)
