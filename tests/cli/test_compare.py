"""`qkv data compare`: several tokenizers on several files."""

from __future__ import annotations

import json
from pathlib import Path

from qkv import text

from .conftest import Invoke

LINES = [f"the {word} tower stands {i} times lower" for i in range(20) for word in ("low", "new")]


def test_tokenizers_side_by_side(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "en.txt").write_text("\n".join(LINES) + "\n")
    for name, config in {"letters": text.Characters(), "merges": text.BPE(120, min_frequency=1)}.items():
        text.train(config, LINES).save(tmp_path / f"{name}.json")
    chosen = [part for name in ("letters", "merges") for part in ("--tokenizer", str(tmp_path / f"{name}.json"))]
    done = invoke("data", "compare", str(tmp_path / "en.txt"), *chosen)
    assert done.exit_code == 0, done.output
    assert done.output.count("numbers of 4 digits") == 2
    assert "take 4.00 tokens, 100% of them cut alike" in done.output
    lines = invoke("data", "compare", str(tmp_path / "en.txt"), *chosen, "--json").stdout.splitlines()
    letters, merges = map(json.loads, lines)
    assert letters["number_tokens"] == 4.0 and letters["numbers_alike"] == 1.0
    assert letters["tokens_per_character"] == 1.0 > merges["tokens_per_character"] and letters["unknown"] == 0.0


def test_too_few_texts(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "en.txt").write_text("one line\n")
    text.train(text.Characters(), LINES).save(tmp_path / "letters.json")
    done = invoke("data", "compare", str(tmp_path / "en.txt"), "--tokenizer", str(tmp_path / "letters.json"))
    assert done.exit_code == 2 and "give 10 or more" in done.output.replace("\n", " ")
