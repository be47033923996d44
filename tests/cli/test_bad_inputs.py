"""Every bad input gets exit code 2 and its one sentence."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import yaml

from .bad_inputs import CASES, Case
from .conftest import Invoke

SENTENCES: dict[str, str] = yaml.safe_load((Path(__file__).parent / "sentences.yaml").read_text(encoding="utf-8"))


def test_every_case_has_its_sentence() -> None:
    assert [case.name for case in CASES] == list(SENTENCES) and len(CASES) >= 40


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_sentence(
    case: Case,
    toy: Path,
    run: Path,
    text_run: Path,
    label_run: Path,
    tmp_path: Path,
    invoke: Invoke,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QKV_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    places = {"{toy}": toy, "{run}": run, "{text}": text_run, "{labels}": label_run, "{tmp}": tmp_path}

    def filled(text: str) -> str:
        for name, path in places.items():
            text = text.replace(name, str(path))
        return text

    if case.prepare is not None:
        case.prepare(tmp_path, run)
    result = invoke(*map(filled, case.arguments), input=case.stdin)
    shown = result.stderr.splitlines()[-1]
    for name, path in reversed(places.items()):
        shown = shown.replace(str(path), name)
    assert result.exit_code == 2
    expected = f"error: {SENTENCES[case.name]}"
    if expected.endswith("..."):  # a list of what there is: it grows
        shown = shown[: len(expected) - 3] + "..."
    assert shown == expected


def _full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_while_answering(
    run: Path, tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qkv.cli.console.os.fsync", _full)
    result = invoke("predict", run, "abc", "--output", tmp_path / "out.txt")
    sentence = f"error: cannot write {tmp_path}/out.txt: No space left on device; free some room or choose another file"
    assert result.exit_code == 2 and result.stderr == sentence + "\n"


def test_a_full_disk_while_training_loses_nothing_that_was_saved(
    toy: Path, tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (
        "train",
        toy / "toy.yaml",
        "training.max_steps=4",
        "training.checkpoint_every=2",
        "--out",
        tmp_path / "run",
    )
    from qkv.training import checkpoint

    write = checkpoint.write
    monkeypatch.setattr(checkpoint, "write", lambda root, step, *a: _full() if step > 2 else write(root, step, *a))
    result = invoke(*command)
    assert result.exit_code == 2 and "the disk is full; free some space and run the same command again" in result.stderr
    monkeypatch.setattr(checkpoint, "write", write)
    again = invoke(*command)
    assert again.exit_code == 0 and "going on" in again.stderr
