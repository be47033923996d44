"""Runs from a page: queued, streamed, bounded in time and memory, cancelled; bad parameters are refused."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from qkv.serving.app import create_app
from qkv.serving.content import Library
from qkv.serving.runs import Full, Limits, Run, Runs
from tests.serving.experiments import Squares, squares

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))  # the worker imports this folder's experiments


@pytest.fixture
def queue() -> Iterator[Callable[[Limits], Runs]]:
    opened: list[Runs] = []

    def make(limits: Limits) -> Runs:
        opened.append(Runs(limits))
        return opened[-1]

    yield make
    for runs in opened:
        runs.close()


def submit(runs: Runs, **params: Any) -> Run:
    return runs.submit(squares, asdict(Squares(**params)), 0, True)


def ended(run: Run, seconds: float = 60) -> Run:
    limit = time.monotonic() + seconds
    while not run.ended:
        assert time.monotonic() < limit, f"still {run.status}"
        time.sleep(0.02)
    return run


def test_a_run_measures_what_the_experiment_measures(queue: Callable[[Limits], Runs], library: Library) -> None:
    run = ended(submit(queue(Limits())))
    assert run.status == "done" and run.evidence is not None and run.evidence.passed
    assert run.evidence.claims == library.evidence["squares"].claims
    assert run.evidence.values() | {"seconds": 0} == library.evidence["squares"].values() | {"seconds": 0}


def test_the_time_is_bounded(queue: Callable[[Limits], Runs]) -> None:
    run = submit(queue(Limits(seconds=6)), pause=300.0)
    started = time.monotonic()
    assert ended(run).status == "failed" and "stopped after 6 s, the limit" in run.message.en
    assert time.monotonic() - started < 20
    assert run.process is not None and run.process.poll() is not None


def test_the_memory_is_bounded(queue: Callable[[Limits], Runs]) -> None:
    runs = queue(Limits(memory=1 << 29))
    run = ended(submit(runs, waste=1.0))  # what the machine itself has room for
    assert run.status == "failed" and "needs more than 0.5 GB, the limit" in run.message.en
    assert ended(submit(runs, waste=0.1)).status == "done"


def test_an_experiment_s_own_error_is_told(queue: Callable[[Limits], Runs]) -> None:
    run = ended(submit(queue(Limits()), n=13))
    assert run.status == "failed" and "thirteen is refused by the experiment itself" in run.message.en


def test_runs_wait_and_are_cancelled_waiting_or_running(queue: Callable[[Limits], Runs]) -> None:
    runs = queue(Limits(waiting=2))
    first = submit(runs, pause=300.0)
    while first.status == "queued" or first.process is None:
        time.sleep(0.02)
    second, third = submit(runs), submit(runs)
    assert [runs.ahead(run) for run in (first, second, third)] == [0, 1, 2]
    with pytest.raises(Full):
        submit(runs)
    runs.cancel(second)
    assert second.status == "cancelled" and runs.ahead(third) == 1
    runs.cancel(first)
    assert ended(third).status == "done" and first.status == "cancelled"
    assert first.process.poll() is not None
    runs.cancel(third)
    assert third.status == "done"


def test_ended_runs_are_forgotten_in_time(queue: Callable[[Limits], Runs]) -> None:
    runs = queue(Limits(kept=1))
    found = []
    for _ in range(3):
        found.append(submit(runs))
        runs.cancel(found[-1])
    assert [runs.get(run.id) is not None for run in found] == [False, True, True]


def events(client: TestClient, key: str, language: str = "en") -> list[tuple[str, dict[str, Any]]]:
    text = client.get(f"/api/runs/{key}/events", params={"language": language}).text
    blocks = [block.split("\n") for block in text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


@pytest.fixture
def client(library: Library) -> Iterator[TestClient]:
    with TestClient(create_app(library, limits=Limits(waiting=1)), base_url="http://127.0.0.1") as opened:
        yield opened


def test_progress_streams_and_the_result_is_a_piece_of_the_page(client: TestClient) -> None:
    wish = {"experiment": "squares", "params": {"n": "32", "pause": "1.5"}, "seed": "3"}
    reply = client.post("/api/runs", json=wish)
    assert reply.status_code == 202
    told = events(client, reply.json()["id"], "zh")
    names = [name for name, _ in told]
    assert names[-1] == "done" and "progress" in names and names.count("started") <= 1
    shares = [data["share"] for name, data in told if name == "progress"]
    assert len(shares) > 3 and shares == sorted(shares) and 0 <= shares[0] < shares[-1] <= 1
    html = told[-1][1]["html"]
    assert "观察" in html and "n = 32" in html and "种子 3" in html and "<svg" in html


def test_at_default_parameters_claims_are_asserted(client: TestClient) -> None:
    reply = client.post("/api/runs", json={"experiment": "squares", "params": {"n": "16"}})
    html = events(client, reply.json()["id"])[-1][1]["html"]
    assert 'class="held"' in html and "observation" not in html


def test_a_cancelled_run_says_so(client: TestClient) -> None:
    key = client.post("/api/runs", json={"experiment": "squares", "params": {"pause": 300}}).json()["id"]
    assert client.delete(f"/api/runs/{key}").json() == {"status": "cancelled"}
    assert events(client, key) == [("cancelled", {})]


@pytest.mark.parametrize(
    ("wish", "status", "field", "sentence"),
    [
        ({"experiment": "nothing"}, 404, "", "there is no experiment 'nothing'"),
        ({"experiment": "squares", "params": {"n": "0"}}, 422, "n", "n must lie from 2 to 1,000, and 0 does not"),
        ({"experiment": "squares", "params": {"n": "0"}, "language": "zh"}, 422, "n", "n 须在 2 到 1,000 之间"),
        ({"experiment": "squares", "seed": "x"}, 422, "seed", "seed must be a whole number"),
        ({"experiment": "squares", "params": {"kind": "t"}}, 422, "kind", "one of normal, uniform"),
    ],
)
def test_bad_wishes_get_a_sentence(
    client: TestClient, wish: dict[str, Any], status: int, field: str, sentence: str
) -> None:
    reply = client.post("/api/runs", json=wish)
    assert reply.status_code == status and reply.json()["field"] == field and sentence in reply.json()["message"]


def test_a_full_queue_and_unknown_runs(client: TestClient) -> None:
    slow = {"experiment": "squares", "params": {"pause": 300}}
    codes = [client.post("/api/runs", json=slow).status_code for _ in range(4)]
    assert codes[0] == 202 and codes[-1] == 429
    assert client.get("/api/runs/none/events").status_code == client.delete("/api/runs/none").status_code == 404
