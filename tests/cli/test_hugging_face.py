"""A Hugging Face folder answers, is measured, explained and fine-tuned like a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qkv.interop import save_folder
from qkv.tasks.folder import open_run

from .conftest import Invoke


@pytest.fixture(scope="module")
def folder(text_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy language model as a Hugging Face folder."""
    system = open_run(text_run).system
    path = save_folder(system.model, tmp_path_factory.mktemp("hf") / "model", "gpt2")
    system.tokenizers.target.backend.save(str(path / "tokenizer.json"))
    return path


def test_it_says_what_the_run_says(folder: Path, text_run: Path, invoke: Invoke) -> None:
    arguments = ["the cat", "greedy={}", "--max-new", 8]
    result = invoke("predict", folder, *arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout == invoke("predict", text_run, *arguments).stdout


def test_it_is_measured_on_a_file_only(folder: Path, text_run: Path, toy: Path, invoke: Invoke) -> None:
    ours = json.loads(invoke("evaluate", text_run, "--json").stdout)
    theirs = json.loads(invoke("evaluate", folder, "--data", toy / "text.txt", "--json").stdout)
    assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-5)
    refused = invoke("evaluate", folder)
    assert refused.exit_code == 2 and "has no data of its own; give --data FILE" in refused.stderr


def test_it_is_explained(folder: Path, invoke: Invoke) -> None:
    assert "Decoder self-attention" in invoke("explain", folder, "the cat").stdout


def test_it_is_fine_tuned_with_its_own_tokenizer(folder: Path, toy: Path, invoke: Invoke, tmp_path: Path) -> None:
    settings = ["training.max_steps=2", "training.learning_rate=1e-9"]
    result = invoke("train", toy / "text.yaml", *settings, "--init", folder, "--out", tmp_path / "tuned")
    assert result.exit_code == 0, result.output
    arguments = ["the cat", "greedy={}", "--max-new", 8]
    assert invoke("predict", tmp_path / "tuned", *arguments).stdout == invoke("predict", folder, *arguments).stdout
