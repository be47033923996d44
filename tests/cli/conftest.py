"""A toy run that every test of the command line may read: strings are reversed, learned in a few seconds."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from qkv.cli import app

STACK = {
    "d_model": 32,
    "n_layers": 1,
    "block": {"placement": "pre", "feedforward": {"feed_forward": {"d_ff": 64}}, "dropout": 0.0},
}
RECIPE = {
    "task": {"translate": {"measure": "exact", "batch": {"tokens": 600}, "label_smoothing": 0.0}},
    "tokenizers": {"source": "characters", "target": "characters"},
    "model": {
        "preset": "vaswani",
        "size": "tiny",
        "dropout": 0.0,
        "shared_embedding": False,
        "encoder": STACK,
        "decoder": STACK,
    },
    "training": {
        "max_steps": 300,
        "learning_rate": 5e-3,
        "schedule": {"linear": {"warmup": 20}},
        "eval_every": 150,
        "checkpoint_every": 150,
        "tensorboard": False,
    },
}
TEXT_RECIPE = {
    "task": {"language_model": {"windows": {"length": 16, "rows": 8}, "max_new": 30}},
    "tokenizers": {"target": "characters"},
    "model": {"preset": "gpt2", "d_model": 32, "n_layers": 1, "n_heads": 2, "max_length": 16, "dropout": 0.0},
    "training": {"max_steps": 150, "learning_rate": 1e-2, "schedule": "linear", "eval_every": 75, "tensorboard": False},
}
LABEL_RECIPE = {
    "task": "classify",
    "tokenizers": {"target": "words"},
    "model": {"encoder_only": {"stack": {**STACK, "position": "rotary"}}},
    "training": {
        "max_steps": 60,
        "learning_rate": 1e-2,
        "schedule": "constant",
        "eval_every": 30,
        "tensorboard": False,
    },
}

Invoke = Callable[..., Result]


def reversals(count: int, seed: int) -> list[str]:
    """Lines of a TSV: a word over five letters, and the word reversed."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcde", k=rng.randint(2, 4))) for _ in range(count)]
    return [f"{word}\t{word[::-1]}" for word in words]


@pytest.fixture(scope="session")
def invoke() -> Invoke:
    """Run the program in this process, as typed."""
    runner = CliRunner()

    def run(*arguments: Any, **options: Any) -> Result:
        return runner.invoke(app, [str(a) for a in arguments], **options)

    return run


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.tsv, dev.tsv, toy.yaml, text.txt and text.yaml."""
    folder = tmp_path_factory.mktemp("toy")
    (folder / "train.tsv").write_text("\n".join(reversals(800, 1)) + "\n")
    (folder / "dev.tsv").write_text("\n".join(reversals(40, 2)) + "\n")
    data = {"train": str(folder / "train.tsv"), "dev": str(folder / "dev.tsv")}
    (folder / "toy.yaml").write_text(yaml.safe_dump({**RECIPE, "data": data}))
    (folder / "text.txt").write_text("the cat sat on the mat. " * 60 + "\n")
    data = {"train": str(folder / "text.txt"), "dev": str(folder / "text.txt")}
    (folder / "text.yaml").write_text(yaml.safe_dump({**TEXT_RECIPE, "data": data}))
    return folder


@pytest.fixture(scope="session")
def run(toy: Path, invoke: Invoke) -> Path:
    """The finished toy run; read it, do not write into it."""
    result = invoke("train", toy / "toy.yaml", "--out", toy / "run")
    assert result.exit_code == 0, result.output
    return toy / "run"


@pytest.fixture(scope="session")
def text_run(toy: Path, invoke: Invoke) -> Path:
    """A finished language model."""
    result = invoke("train", toy / "text.yaml", "--out", toy / "text_run")
    assert result.exit_code == 0, result.output
    return toy / "text_run"


@pytest.fixture(scope="session")
def label_run(toy: Path, invoke: Invoke) -> Path:
    """A finished classifier of films into good, bad and neither."""
    words = {"good": "fine great good", "bad": "bad poor awful", "neither": "long short old"}
    lines = [
        f"the {word} film {i}\t{label}" for i in range(9) for label, some in words.items() for word in some.split()
    ]
    (toy / "labels.tsv").write_text("text\tlabel\n" + "\n".join(lines) + "\n")
    data = {"train": str(toy / "labels.tsv"), "dev": str(toy / "labels.tsv")}
    (toy / "labels.yaml").write_text(yaml.safe_dump({**LABEL_RECIPE, "data": data}))
    result = invoke("train", toy / "labels.yaml", "--out", toy / "label_run")
    assert result.exit_code == 0, result.output
    return toy / "label_run"
