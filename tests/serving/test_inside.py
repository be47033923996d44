"""Trained runs looked into: three sites, the search, predictions without a part; and what cannot be looked at."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import torch

from qkv.errors import UserError
from qkv.nn import Tokens
from qkv.probe.ablation import without_layer
from qkv.serving.inside import Inside, checked, finished


@pytest.fixture(scope="module")
def inside(trained: list[Path]) -> Inside:
    return Inside(trained)


def test_runs_are_named_by_what_tells_them_apart(trained: list[Path], tmp_path: Path) -> None:
    assert [run["name"] for run in Inside(trained).listed()] == ["reversal", "writer"]
    other = tmp_path / "reversal"
    other.symlink_to(trained[0])
    copied = tmp_path / "copy" / "reversal"
    copied.mkdir(parents=True)
    (copied / "config.yaml").write_bytes((trained[0] / "config.yaml").read_bytes())
    assert sorted(Inside([trained[0], copied, other]).folders) == ["copy/reversal", "runs/reversal"]


def test_a_translator_shows_three_sites_and_its_search(inside: Inside) -> None:
    look = inside.look("reversal", "abcd", 3)
    sites = {site["where"]: site for site in look["sites"]}
    assert list(sites) == ["encoder", "cross", "decoder"]
    cross = sites["cross"]
    assert cross["columns"] == ["a", "b", "c", "d", "<eos>"]
    weights = torch.frombuffer(bytearray(base64.b64decode(cross["weights"])), dtype=torch.uint8).float() / 255
    shaped = weights.view(cross["layers"], cross["heads"], len(cross["rows"]), len(cross["columns"]))
    torch.testing.assert_close(shaped.sum(-1), torch.ones(shaped.shape[:-1]), atol=0.02, rtol=0)
    steps, best = look["search"]["steps"], look["search"]["best"]
    assert len(look["hypotheses"]) == 3 and look["hypotheses"][0]["finished"] and cross["rows"][-1] == "<eos>"
    assert 1 <= len(steps[0]["nodes"]) <= 6
    written = [steps[i]["nodes"][place] for i, place in enumerate(best)]
    assert [node["token"] for node in written] == cross["rows"]
    assert written[-1]["logp"] == pytest.approx(look["hypotheses"][0]["logp"], abs=1e-4)
    assert all(len(c) == 6 for c in steps[0]["candidates"].values())


def test_predictions_without_a_part_are_those_of_the_ablated_model(inside: Inside) -> None:
    found = inside.without("reversal", "abc", 1, 0)
    parts = {(p["site"], p["layer"], p["head"]): p for p in found["parts"]}
    sites = {site for site, _, _ in parts}
    assert sites == {"encoder", "decoder", "cross"} and ("cross", 0, None) not in parts
    assert all(part["kl"] >= 0 for part in parts.values()) and any(part["kl"] > 1e-4 for part in parts.values())
    opened = inside._open("reversal", 1)
    source, bos = opened.tokenizers.source, opened.tokenizers.bos
    assert source is not None
    ids = torch.tensor([[*source.encode("abc"), opened.tokenizers.source_eos]])
    with torch.no_grad(), without_layer(opened.model, "encoder", 0):
        hidden = opened.model(ids, Tokens.arange(1, 4), torch.tensor([[bos]]), Tokens.arange(1, 1))
        expected = opened.model.head(hidden[0, -1]).softmax(-1)
    shown = {label: share for label, _, share in parts["encoder", 0, None]["rows"]}
    token = opened.tokenizers.target.tokens([int(expected.argmax())])[0]
    assert shown[token] == pytest.approx(float(expected.max()), abs=1e-5)


def test_a_writer_shows_its_own_attention_and_goes_on(inside: Inside) -> None:
    look = inside.look("writer", "the cat", 2)
    [site] = look["sites"]
    assert site["where"] == "decoder" and site["rows"][:3] == ["t", "h", "e"] and site["rows"] == site["columns"]
    assert len(look["search"]["steps"]) <= 16 - 7
    parts = inside.without("writer", "the cat", 2, 0)["parts"]
    assert {part["site"] for part in parts} == {"decoder"}


@pytest.mark.parametrize(
    ("name", "text", "width", "step", "sentence"),
    [
        ("none", "a", 1, 0, "there is no run 'none'; choose one of reversal, writer"),
        ("reversal", "a" * 80, 1, 0, "80 tokens, and 64 can be looked into at once"),
        ("writer", "the cat sat on the mat", 1, 0, "and 14 can be looked into"),
        ("reversal", "", 1, 0, "the text is empty"),
        ("reversal", "a", 9, 0, "a beam of 9 cannot be shown; choose 1 to 8"),
        ("reversal", "a", 1, 99, "step 100 is not there"),
    ],
)
def test_what_cannot_be_looked_into_gets_a_sentence(
    inside: Inside, name: str, text: str, width: int, step: int, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        inside.without(name, text, width, step)


def test_only_finished_folders_are_offered(trained: list[Path], tmp_path: Path) -> None:
    assert finished(trained[0].parent) == trained and finished(tmp_path / "none") == []
    with pytest.raises(UserError, match="no run folder"):
        checked([tmp_path / "none"])
    (tmp_path / "config.yaml").write_bytes((trained[0] / "config.yaml").read_bytes())
    with pytest.raises(UserError, match="not finished"):
        checked([tmp_path])
