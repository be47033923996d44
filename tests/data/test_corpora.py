"""Public labelled texts: their splits share nothing, their leaks are gone, their counts are the published ones."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any, get_args

import pytest

from qkv.config import entry_name, parse
from qkv.data import corpora
from qkv.data.corpora import Corpora
from qkv.data.labelled import Labelled
from qkv.data.sources import SOURCES, Source
from qkv.data.splits import cut, held_out, hundredth

SPLITS = ("train", "dev", "test")
COUNTS = {
    "trec": (5452, 6),
    "sst2": (7792, 2),
    "banking77": (10003, 77),
    "r8": (5485, 8),
    "chnsenticorp": (9600 - 353 + 1200, 2),
    "ag_news": (7600, 4),
    "sarcasm_headlines": (25721 + 1449, 2),
    "isarcasm": (3467, 2),
    "davidson": (22306 + 1222, 3),
    "cold": (25726 - 30 + 6431, 2),
    "newsgroups20": (11314 - 26 + 7532, 20),
    "clinc150": (15000 - 3 + 3000, 150),
}


def test_a_cut_is_by_text_alone() -> None:
    rows = [Labelled(f"text {i}") for i in range(4000)]
    parts = {split: cut(rows, split, dev=10, test=20) for split in SPLITS}
    assert sorted(r.text for part in parts.values() for r in part) == sorted(r.text for r in rows)
    assert [round(len(parts[s]) / 40) for s in SPLITS] == pytest.approx([70, 10, 20], abs=2)
    assert {hundredth(r.text) < 20 for r in parts["test"]} == {True}
    assert cut(rows[::-1], "dev", dev=10, test=20) == parts["dev"][::-1]
    assert hundredth(" text 7 ") == hundredth("text 7")


def test_what_is_held_out_is_nowhere_else() -> None:
    rows = [Labelled(f"text {i} ") for i in range(200)]
    held = [Labelled(" text 3"), Labelled("new")]
    parts = {split: held_out(iter(rows), iter(held), split) for split in SPLITS}
    assert parts["test"] == held
    assert sorted(r.text for s in ("train", "dev") for r in parts[s]) == sorted(r.text for r in rows if r != rows[3])


def dataset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, files: dict[str, bytes]) -> None:
    """A made-up dataset of this name in $QKV_DATA."""
    monkeypatch.setenv("QKV_DATA", str(tmp_path))
    monkeypatch.setitem(SOURCES, name, Source("", files=dict.fromkeys(files, "")))
    (tmp_path / name).mkdir()
    for file, content in files.items():
        (tmp_path / name / f"{file}.gz").write_bytes(gzip.compress(content))


def every(entry: Any) -> list[Labelled]:
    """The rows of all splits, sorted."""
    return sorted((row for split in SPLITS for row in entry.load(split)), key=repr)


def test_questions_are_latin_1_and_labelled_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = "HUM:ind Who is Günter ?\nLOC:city Where is Köln ?\n".encode("latin-1")
    dataset(monkeypatch, tmp_path, "trec", {"TREC.train": content})
    assert every(corpora.Trec()) == [Labelled("Where is Köln ?", ("LOC",)), Labelled("Who is Günter ?", ("HUM",))]
    assert [r.labels for r in every(corpora.Trec("fine"))] == [("LOC:city",), ("HUM:ind",)]


def test_quoted_cells_marks_and_escapes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = 'text,category\r\n"one, ""two""\r\nthree",x\r\n'
    dataset(monkeypatch, tmp_path, "banking77", {"train.csv": table.encode()})
    assert every(corpora.Banking77()) == [Labelled('one, "two" three', ("x",))]
    tweets = b',class,tweet\n0,0,"a &amp; b"\n'
    dataset(monkeypatch, tmp_path, "davidson_hate", {"train.csv": tweets, "dev.csv": b"class,tweet\n2,&lt;3\n"})
    assert every(corpora.Davidson()) == [Labelled("<3", ("neither",)), Labelled("a & b", ("hate",))]
    comments = "\ufeff,split,topic,label,TEXT\n0,train,race,1,也是\n".encode()
    dataset(monkeypatch, tmp_path, "cold", {"train.csv": comments, "dev.csv": comments})
    assert every(corpora.Cold()) == [Labelled("也是", ("offensive",))]


NAMED = {
    "sst2": (corpora.Sst2, {"train.tsv": "fine\t1\npoor\t0\n", "dev.tsv": "dull\t0\n"}),
    "r8": (corpora.R8, {"train.txt": "earn\tfine\nship\tpoor\nship\tdull\n"}),
    "chnsenticorp": (
        corpora.Chnsenticorp,
        {"train.tsv": "label\ttext\n1\tfine\n0\tpoor\n", "dev.tsv": "l\tt\n0\tdull\n"},
    ),
    "ag_news_test": (
        corpora.AgNews,
        {"classes.txt": "World\nSports\n", "test.csv": '"1","fi","ne"\n"2","po","or"\n"2","du","ll"\n'},
    ),
    "sarcasm_headlines": (
        corpora.SarcasmHeadlines,
        {
            "train.jsonl": '{"headline": "fine", "is_sarcastic": 1}\n{"headline": "poor", "is_sarcastic": 0}\n',
            "dev.jsonl": '{"headline": "dull", "is_sarcastic": 0}\n',
        },
    ),
    "isarcasm": (corpora.Isarcasm, {"train.En.csv": ",tweet,sarcastic\n0,fine,1\n1,poor,0\n2,dull,0\n3, ,0\n"}),
}
LABELS = {
    "sst2": ("positive", "negative"),
    "r8": ("earn", "ship"),
    "chnsenticorp": ("good", "bad"),
    "ag_news_test": ("World", "Sports"),
    "sarcasm_headlines": ("sarcastic", "serious"),
    "isarcasm": ("sarcastic", "serious"),
}


@pytest.mark.parametrize("name", NAMED)
def test_every_text_has_its_own_label(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    entry, files = NAMED[name]
    dataset(monkeypatch, tmp_path, name, {file: content.encode() for file, content in files.items()})
    fine, other = LABELS[name]
    found = {row.text.replace(" ", ""): row.labels for row in every(entry())}
    assert found == {"fine": (fine,), "poor": (other,), "dull": (other,)}


def test_headers_are_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    row = json.dumps({"label": "sci.med", "text": "From: a\nSubject: b\n\nbody\n\nmore"}).encode()
    other = json.dumps({"label": "sci.med", "text": "From: a\n\nother"}).encode()
    dataset(monkeypatch, tmp_path, "newsgroups20", {"train.jsonl": row, "test.jsonl": other})
    assert [r.text for r in every(corpora.Newsgroups20())] == ["body\n\nmore", "other"]


def test_out_of_scope_only_where_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = {"train": [["a", "x"]], "val": [["b", "x"]], "oos_train": [["c", "oos"]], "oos_val": [["d", "oos"]]}
    dataset(monkeypatch, tmp_path, "clinc150", {"data_small.json": json.dumps(data).encode()})
    assert [r.text for r in every(corpora.Clinc150("small"))] == ["a", "b"]
    assert [r.labels for r in corpora.Clinc150("small", oos=True).load("test")] == [("x",), (corpora.OUT_OF_SCOPE,)]


@pytest.mark.parametrize("entry", get_args(Corpora), ids=entry_name)
def test_the_real_ones(entry: type) -> None:
    """No text in two splits, every label in training, and as many rows as SOURCES says after what was removed."""
    if not os.environ.get("QKV_DATA"):
        pytest.skip("needs $QKV_DATA")
    made = parse(Corpora, entry_name(entry))
    parts = {split: made.load(split) for split in SPLITS}
    texts = {split: {row.text.strip() for row in rows} for split, rows in parts.items()}
    assert not (texts["train"] & texts["dev"] or texts["train"] & texts["test"] or texts["dev"] & texts["test"])
    rows, labels = COUNTS[entry_name(entry)]
    assert sum(map(len, parts.values())) == rows
    assert len({row.labels for row in parts["train"]}) == labels
    assert {row.labels for row in parts["test"]} <= {row.labels for row in parts["train"]}
