"""A classifier on the command line: evaluate, predict with n-best, files and JSON, explain."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from qkv.cli.explain import _look
from qkv.tasks.calibration import scores_of, temperature
from qkv.tasks.folder import open_run

from .conftest import Invoke

WORDS = {"the great film 3": "good", "the poor film 1": "bad"}


def test_evaluate_prints_the_measures(label_run: Path, toy: Path, invoke: Invoke) -> None:
    found = json.loads(invoke("evaluate", label_run, "--data", toy / "labels.tsv", "--json").stdout)
    assert found["accuracy"] == found["macro_f1"] == 1.0 and found["rows"] == 81
    assert set(found) >= {"log_loss", "calibration_error"}


def test_evaluate_calibrates_and_keeps_it(toy: Path, tmp_path: Path, invoke: Invoke) -> None:
    """Who learned by heart is too sure where every fourth label is another's: a temperature mends it."""
    words = ("good", "bad")
    rows = [(f"the {words[i % 2]} film {i}", words[(i % 2) ^ (i % 8 < 2)]) for i in range(160)]
    for name, part in (("train", rows[:80]), ("dev", rows[80:120]), ("test", rows[120:])):
        (tmp_path / f"{name}.tsv").write_text("text\tlabel\n" + "\n".join(map("\t".join, part)) + "\n")
    files = [f"data.{name}={tmp_path / name}.tsv" for name in ("train", "dev", "test")]
    run = tmp_path / "run"
    trained = invoke("train", toy / "labels.yaml", *files, "training.eval_every=null", "--out", run)
    assert trained.exit_code == 0, trained.output
    plain = json.loads(invoke("evaluate", run, "--json").stdout)
    result = invoke("evaluate", run, "--calibrate", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["temperature"] > 1 and found["accuracy"] == plain["accuracy"]
    for name in ("log_loss", "calibration_error"):
        assert found[f"{name}_before"] == plain[name] > found[name]
    opened = open_run(run)
    dev = scores_of(opened.system, opened.recipe.task, opened.recipe.task.load(opened.recipe.data, "dev"))
    assert found["temperature"] == pytest.approx(temperature(*dev)), "fitted on dev, whatever it is measured on"
    again = json.loads(invoke("evaluate", run, "--json").stdout)
    assert again["calibration_error"] == found["calibration_error"], "it is kept"
    assert "temperature" in invoke("evaluate", run, "--calibrate").stdout
    on_dev = invoke("evaluate", run, "--calibrate", "--split", "dev")
    assert "rows that the temperature was fitted on" in on_dev.stderr


def test_only_a_classifier_is_calibrated(run: Path, invoke: Invoke) -> None:
    refused = invoke("evaluate", run, "--calibrate")
    assert refused.exit_code == 2 and "only a run of classify has a temperature" in refused.stderr


def test_the_best_labels_are_ranked(label_run: Path, invoke: Invoke) -> None:
    result = invoke("predict", label_run, *WORDS, "--nbest", 2)
    assert result.exit_code == 0, result.output
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert [line[0] for line in lines] == ["0", "0", "1", "1"]
    assert [lines[0][2], lines[2][2]] == list(WORDS.values())
    assert float(lines[0][1]) > 0.9 > float(lines[1][1])


def test_json_has_the_probabilities(label_run: Path, invoke: Invoke) -> None:
    result = invoke("predict", label_run, *WORDS, "--json", "--nbest", 3)
    for line, label in zip(result.stdout.splitlines(), WORDS.values(), strict=True):
        row = json.loads(line)
        assert row["prediction"] == label == row["nbest"][0]["text"] and len(row["nbest"]) == 3
        assert math.isclose(sum(each["score"] for each in row["nbest"]), 1.0, abs_tol=1e-4)
    assert "nbest" not in json.loads(invoke("predict", label_run, *WORDS, "--json").stdout.splitlines()[0])


def test_a_file_is_answered_by_its_column(label_run: Path, tmp_path: Path, invoke: Invoke) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text, "id": "7"}) + "\n" for text in WORDS))
    assert invoke("predict", label_run, "--file", tmp_path / "a.jsonl").stdout.split() == list(WORDS.values())
    (tmp_path / "a.txt").write_text("\n".join(WORDS) + "\n")
    assert invoke("predict", label_run, "--file", tmp_path / "a.txt").stdout.split() == list(WORDS.values())


def test_the_picture_shows_what_the_model_reads(label_run: Path, invoke: Invoke) -> None:
    text = next(iter(WORDS))
    result = invoke("explain", label_run, text)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1].split() == ["<bos>", "the", "great", "film", "3", "<eos>"]
    [picture], answer = _look(open_run(label_run), text)
    assert answer == "good" and picture.where == "encoder" and picture.weights.shape[-2:] == (6, 6)
    [picture], _ = _look(open_run(label_run), "great\tfilm")
    assert picture.columns == ["<bos>", "great", "<eos>", "film", "<eos>"]


def test_a_model_without_attention_draws_none(label_run: Path, toy: Path, tmp_path: Path, invoke: Invoke) -> None:
    settings = ["model={convolution: {stack: {d_embedding: 8, filters: 4}}}", "training.max_steps=2"]
    result = invoke("train", toy / "labels.yaml", *settings, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    result = invoke("explain", tmp_path / "run", "the film")
    assert result.exit_code == 2 and "has no attention to draw; explain a run of a Transformer" in result.stderr


def test_named_datasets_are_shown_and_their_absence_told(tmp_path: Path, invoke: Invoke, monkeypatch) -> None:
    monkeypatch.setenv("QKV_DATA", str(tmp_path))
    monkeypatch.setenv("QKV_CACHE", str(tmp_path))
    result = invoke("data", "show", "sarcasm_headlines")
    assert result.exit_code == 2 and "no address has these files: Headlines" in result.stderr
