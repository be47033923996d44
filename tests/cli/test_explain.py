"""Attention in the terminal and as a page that stands alone."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import torch
import yaml

from qkv.cli.explain import _look
from qkv.cli.page import page
from qkv.probe.attention import Picture
from qkv.tasks.folder import open_run
from qkv.tasks.task import Prediction
from qkv.text import BPE, train

from .conftest import Invoke


class Reader(HTMLParser):
    """Collects what a page would fetch, and the text of each script."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.scripts: dict[str, str] = {}
        self.current = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.fetched += [v for k, v in values.items() if k in ("src", "href") and v and not v.startswith("data:")]
        self.current = (values.get("type") or "code") if tag == "script" else ""

    def handle_data(self, data: str) -> None:
        if self.current:
            self.scripts[self.current] = self.scripts.get(self.current, "") + data


def read(content: str) -> Reader:
    reader = Reader()
    reader.feed(content)
    return reader


def test_the_terminal_shows_all_sites_of_a_translation(run: Path, invoke: Invoke) -> None:
    result = invoke("explain", run, "abc")
    assert result.exit_code == 0, result.output
    for title in ("Encoder self-attention", "Cross-attention", "Decoder self-attention"):
        assert title in result.stdout
    # Title, column labels, then the row of "a": four hundredths that sum to 100, rounding aside.
    _, columns, row, *_ = result.stdout.splitlines()
    assert columns.split() == ["a", "b", "c", "<eos>"] and row.split()[0] == "a"
    numbers = [int(n) if n.isdigit() else 0 for n in row.split()[1:]]
    assert len(numbers) == 4 and abs(sum(numbers) - 100) <= 2


def test_a_tagger_is_drawn_with_the_spelling_that_it_reads(tmp_path: Path, invoke: Invoke) -> None:
    rows = [{"words": ["To", "rome", "at", "10"], "tags": ["O", "B-city", "O", "O"]}] * 4
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    recipe = {
        "task": {"tag": {"digits": True, "words": {"spelling": {"width": 4, "filters": 4}}}},
        "data": {"train": str(tmp_path / "rows.jsonl"), "dev": str(tmp_path / "rows.jsonl")},
        "tokenizers": {"source": "characters", "target": "words"},
        "model": {"encoder_only": {"stack": {"d_model": 16, "n_layers": 1, "position": "rotary"}}},
        "training": {"max_steps": 1, "tensorboard": False},
    }
    (tmp_path / "tag.yaml").write_text(yaml.safe_dump(recipe))
    assert invoke("train", tmp_path / "tag.yaml", "--out", tmp_path / "run").exit_code == 0
    [picture], answer = _look(open_run(tmp_path / "run"), "To rome  at 12")
    assert picture.columns == ["<bos>", "To", "rome", "at", "00", "<eos>"] and "rome" in answer


def test_the_answer_is_drawn_as_it_was_written_not_as_it_is_spelled(run: Path, monkeypatch) -> None:
    """A model may write an answer in other pieces than the tokenizer cuts it into; here, letter by letter."""
    found = open_run(run)
    pairs = train(BPE(vocab_size=9), ["ab ab"])
    letters = [6, 4, 5]
    assert len(pairs.encode("ab")) == 1 and pairs.decode(letters) == "ab"
    found.system.tokenizers = replace(found.system.tokenizers, target=pairs)
    for finished, rows in ((True, ["▁", "a", "b", "<eos>"]), (False, ["▁", "a", "b"])):
        written = Prediction("abc", ["ab"], [0.0], [finished], [letters])
        monkeypatch.setattr(type(found.recipe.task), "predict", lambda *_, answer=written: [answer])
        pictures, answer = _look(found, "abc")
        assert answer == "ab" and [p.rows for p in pictures if p.where == "cross"] == [rows]


def test_a_layer_a_head_and_a_site_can_be_chosen(run: Path, text_run: Path, invoke: Invoke) -> None:
    result = invoke("explain", run, "abc", "--site", "cross", "--layer", 0, "--head", 1)
    assert "layer 0, head 1" in result.stdout and "self-attention" not in result.stdout
    assert "Decoder self-attention · layer 0" in invoke("explain", text_run, "the cat").stdout


def test_the_page_fetches_nothing_and_holds_every_layer_and_head(run: Path, invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("explain", run, "abc", "--html", tmp_path / "a.html")
    assert result.exit_code == 0, result.output
    content = (tmp_path / "a.html").read_text(encoding="utf-8")
    reader = read(content)
    assert reader.fetched == [] and not re.search(r"@import|url\(|fetch\(|XMLHttpRequest", content)
    data = json.loads(reader.scripts["application/json"])
    assert [site["where"] for site in data["sites"]] == ["encoder", "cross", "decoder"]
    for site in data["sites"]:
        weights = torch.tensor(site["weights"])
        assert weights.shape[2:] == (len(site["rows"]), len(site["columns"]))
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:3]), atol=1e-3, rtol=0)


def test_a_token_that_ends_a_script_stays_inside_the_data() -> None:
    evil = "</script><script>alert(1)</script>"
    picture = Picture("decoder", "t", [evil], [evil], torch.ones(1, 1, 1, 1))
    reader = read(page("run", evil, "<b>", [picture], None, None))
    assert json.loads(reader.scripts["application/json"])["sites"][0]["rows"] == [evil]
    assert "alert(1)" not in reader.scripts["code"]


def test_percent_marks_in_a_text_are_not_placeholders() -> None:
    picture = Picture("decoder", "t", ["a"], ["a"], torch.ones(1, 1, 1, 1))
    content = page("run", "%ANSWER% %DATA%", "no", [picture], None, None)
    assert "<b>%ANSWER% %DATA%</b>" in content
