"""The path of a stranger: train, evaluate, predict, resume, fine-tune; on data of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from .conftest import Invoke


def test_training_learns_and_leaves_a_run_folder(run: Path, invoke: Invoke) -> None:
    names = {p.name for p in run.iterdir()}
    assert {"config.yaml", "tokenizers", "model.safetensors", "card.md", "checkpoints", "metrics.jsonl"} <= names
    assert yaml.safe_load((run / "config.yaml").read_text())["format_version"] == 1
    result = invoke("evaluate", run, "--json")
    assert result.exit_code == 0, result.output
    scores = json.loads(result.stdout)
    assert scores["exact_match"] >= 0.9 and scores["rows"] == 40 and scores["data"] == "dev"


def test_the_card_says_what_the_weights_are(run: Path) -> None:
    card = (run / "card.md").read_text()
    assert "best by loss" in card and "parameters" in card and "dev loss" in card and "train.tsv" in card


def test_evaluate_on_ones_own_file_and_its_table(run: Path, toy: Path, invoke: Invoke, tmp_path: Path) -> None:
    rows = [{"source": "abc", "target": ["zzz", "cba"]}, {"source": "ab", "target": "never"}]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    scores = json.loads(invoke("evaluate", run, "--data", tmp_path / "own.jsonl", "--json").stdout)
    assert scores["rows"] == 2 and scores["exact_match"] == 0.5
    shown = invoke("evaluate", run, "--limit", 3, "beam.width=2").stdout
    assert "exact match" in shown and "%" in shown and " 3" in shown


def test_predict_takes_arguments_files_and_standard_input_in_order(run: Path, invoke: Invoke, tmp_path: Path) -> None:
    words = ["abc", "de", "edcb", "aab", "ce"]
    given = invoke("predict", run, *words)
    assert given.exit_code == 0, given.output
    answers = given.stdout.splitlines()
    assert len(answers) == 5 and sum(a == w[::-1] for a, w in zip(answers, words, strict=True)) >= 4
    (tmp_path / "in.txt").write_text("\n".join(words))
    assert invoke("predict", run, "--file", tmp_path / "in.txt").stdout == given.stdout
    assert invoke("predict", run, input="\n".join(words) + "\n").stdout == given.stdout
    assert invoke("predict", run, *words, "--output", tmp_path / "out.txt").stdout == ""
    assert (tmp_path / "out.txt").read_text() == given.stdout


def test_predict_json_and_nbest(run: Path, invoke: Invoke) -> None:
    result = invoke("predict", run, "abc", "de", "--json", "--nbest", 3, "beam.width=4")
    assert result.exit_code == 0, result.output
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [r["source"] for r in records] == ["abc", "de"]
    for record in records:
        scores = [best["score"] for best in record["nbest"]]
        assert len(scores) == 3 and scores == sorted(scores, reverse=True)
        assert len({best["text"] for best in record["nbest"]}) == 3
        assert record["prediction"] == record["nbest"][0]["text"] and record["score"] == scores[0]
    lines = invoke("predict", run, "abc", "--nbest", 2, "beam.width=2").stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["0", "0"] and len(lines[0].split("\t")) == 3


def test_answers_before_a_bad_line_are_not_lost(run: Path, invoke: Invoke) -> None:
    result = invoke("predict", run, input="abc\n\nde\n")
    assert result.exit_code == 2 and len(result.stdout.splitlines()) == 1
    assert "standard input line 2: line is empty" in result.stderr


def test_a_finished_run_says_so_and_a_changed_one_is_refused(run: Path, toy: Path, invoke: Invoke) -> None:
    before = (run / "model.safetensors").read_bytes()
    again = invoke("train", toy / "toy.yaml", "--out", run)
    assert again.exit_code == 0 and "is finished" in again.stderr
    changed = invoke("train", toy / "toy.yaml", "training.learning_rate=1", "--out", run)
    assert changed.exit_code == 2 and "training.learning_rate" in changed.stderr and "--fresh" in changed.stderr
    assert (run / "model.safetensors").read_bytes() == before


def test_a_card_lost_to_a_kill_is_written_by_the_same_command(run: Path, toy: Path, invoke: Invoke) -> None:
    card = (run / "card.md").read_text("utf-8")
    (run / "card.md").unlink()
    assert invoke("train", str(toy / "toy.yaml"), "--out", str(run)).exit_code == 0
    assert (run / "card.md").read_text("utf-8") == card


def test_an_interrupted_run_goes_on_and_ends_in_the_same_weights(toy: Path, invoke: Invoke, tmp_path: Path) -> None:
    arguments = ["training.max_steps=20", "training.checkpoint_every=10", "training.eval_every=10"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert invoke("train", toy / "toy.yaml", *arguments, "--out", whole).exit_code == 0
    assert invoke("train", toy / "toy.yaml", *arguments, "--out", broken).exit_code == 0
    # What a run that was killed after step 10 has: no result, no later checkpoint.
    (broken / "run.json").unlink()
    for path in sorted((broken / "checkpoints" / "step-20").iterdir()):
        path.unlink()
    (broken / "checkpoints" / "step-20").rmdir()
    (broken / "model.safetensors").unlink()
    resumed = invoke("train", toy / "toy.yaml", *arguments, "--out", broken)
    assert resumed.exit_code == 0 and "going on" in resumed.stderr
    assert (broken / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    fresh = invoke("train", toy / "toy.yaml", "training.max_steps=5", "--out", broken, "--fresh")
    assert fresh.exit_code == 0 and "going on" not in fresh.stderr


def test_fine_tuning_begins_with_the_weights_and_tokenizers_of_a_run(
    run: Path, toy: Path, invoke: Invoke, tmp_path: Path
) -> None:
    tiny = ["training.max_steps=1", "training.learning_rate=1e-9"]
    tuned = invoke("train", toy / "toy.yaml", *tiny, "--out", tmp_path / "tuned", "--init", run)
    assert tuned.exit_code == 0, tuned.output
    assert (tmp_path / "tuned" / "tokenizers" / "target.json").read_bytes() == (
        run / "tokenizers" / "target.json"
    ).read_bytes()
    assert json.loads(invoke("evaluate", tmp_path / "tuned", "--json").stdout)["exact_match"] >= 0.9
    assert f"Fine-tuned from: {run}" in (tmp_path / "tuned" / "card.md").read_text()


def test_a_language_model_trains_continues_and_is_measured(text_run: Path, invoke: Invoke) -> None:
    scores = json.loads(invoke("evaluate", text_run, "--json").stdout)
    assert scores["loss"] < 1.0 and scores["bits_per_byte"] < 1.5
    shown = invoke("predict", text_run, "the cat", "--max-new", 12)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith("the cat") and len(shown.stdout.rstrip("\n")) == len("the cat") + 12


def test_a_language_model_writes_past_its_positions(text_run: Path, invoke: Invoke) -> None:
    result = invoke("predict", text_run, "the cat sat", "--json", "sample.seed=3", "--max-new", 50)
    assert len(json.loads(result.stdout)["prediction"]) == len("the cat sat") + 50
    again = invoke("predict", text_run, "the cat sat", "--json", "sample.seed=3", "--max-new", 50)
    assert again.stdout == result.stdout
    other = invoke("predict", text_run, "the cat sat", "--json", "sample={seed: 4, temperature: 3.0}", "--max-new", 50)
    assert other.stdout != result.stdout
