from __future__ import annotations

import gzip
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkv.data import files
from qkv.data.files import Pair, documents, pairs, rows, stream
from qkv.errors import UserError


@pytest.fixture
def write(tmp_path):
    def make(name: str, content: str | bytes):
        path = tmp_path / name
        raw = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        return path

    return make


GOOD = {
    "plain.tsv": "a\tb\nc\td\n",
    "zipped.tsv.gz": "a\tb\nc\td",
    "header.tsv": "id\ttarget\tsource\n1\tb\ta\n2\td\tc\n",
    "windows.tsv": b"\xef\xbb\xbfsource\ttarget\r\na\tb\r\nc\td\r\n",
    "objects.jsonl": '{"source": "a", "target": "b", "id": 1}\n{"target": ["d"], "source": "c"}\n',
    "zipped.jsonl.gz": '{"source": "a", "target": "b"}\n{"source": "c", "target": "d"}\n',
}


@pytest.mark.parametrize("name", GOOD)
def test_the_same_pairs_in_every_dress(write, name):
    assert pairs(write(name, GOOD[name])) == [Pair("a", ("b",)), Pair("c", ("d",))]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("x.txt", "a\n", True),
        ("x.tsv", "a\tb\n", True),
        ("x.tsv", "a\tb\tc\n", True),  # which `stream` then refuses with a sentence
        ("x.tsv", "text\tid\na\t1\n", False),
        ("x.tsv", "text\tsource\na\tb\n", True),
        ("x.jsonl", '{"text": "a"}\n', False),
        ("x.jsonl.gz", '{"source": "a"}\n', True),
        ("x.jsonl", '{"other": "a"}\n', True),
    ],
)
def test_texts_to_predict_from_are_told_from_documents(write, name, content, expected):
    assert files.has_source(write(name, content)) is expected


BAD = {
    "ragged": ("x.tsv", "a\tb\nc\n", r"x\.tsv line 2: 1 cell where 2 are expected \(source, target\); separate"),
    "wide": ("x.tsv", "a\tb\tc\n", r"line 1: 3 cells where 2 are expected .* or name the columns in a first line"),
    "ragged below a header": ("x.tsv", "source\ttarget\tid\na\tb\n", r"line 2: 2 cells where 3 are expected"),
    "no column": ("x.tsv", "source\tgerman\na\tb\n", r"x\.tsv: no column target; the columns there are source, german"),
    "twice": ("x.tsv", "source\ttarget\tsource\na\tb\tc\n", "two columns have one name"),
    "header only": ("x.tsv", "source\ttarget\n", "has a header and no rows"),
    "blank cell": ("x.tsv", "a\tb\nc\t \n", "line 2: target is empty; fill it or remove the line"),
    "blank line": ("x.tsv", "a\tb\n\n", "line 2: 1 cell where 2"),
    "empty": ("x.tsv", "", r"x\.tsv is empty"),
    "empty zip": ("x.jsonl.gz", "", r"x\.jsonl\.gz is empty"),
    "latin-1": ("x.tsv", b"a\tb\nc\tM\xe4dchen\n", "line 2: byte 4 is not UTF-8; convert the file: iconv"),
    "not json": ("x.jsonl", '{"source": "a", "target": "b"}\n{"source"\n', "line 2: not JSON"),
    "blank json": ("x.jsonl", '{"source": "a", "target": "b"}\n\n', "line 2: not JSON"),
    "nested": ("x.jsonl", "[" * 100_000, "line 1: not JSON|where an object"),
    "array": ("x.jsonl", '["a", "b"]\n', r"line 1: a list where an object is expected: source, target"),
    "key": ("x.jsonl", '{"source": "a", "tgt": "b"}\n', "line 1: no column target; the columns there are source, tgt"),
    "no keys": ("x.jsonl", "{}\n", "no column source, target; the columns there are none"),
    "number": ("x.jsonl", '{"source": "a", "target": 3}\n', "line 1: target is a number where a string or a list of"),
    "null": ("x.jsonl", '{"source": null, "target": "a"}\n', "line 1: source is null where a string is expected"),
    "list source": ("x.jsonl", '{"source": ["a"], "target": "a"}\n', "source is a list where a string"),
    "no references": ("x.jsonl", '{"source": "a", "target": []}\n', "target is an empty list where"),
    "mixed": (
        "x.jsonl",
        '{"source": "a", "target": ["a", 1]}\n',
        "target is a list where a string or a list of strings",
    ),
    "blank reference": ("x.jsonl", '{"source": "a", "target": ["b", ""]}\n', "target is empty"),
    "surrogate": ("x.jsonl", '{"source": "\\ud800", "target": "b"}\n', "source holds half a surrogate pair"),
    "format": ("x.csv", "a,b\n", r"x\.csv: cannot tell the format from the name; use \.tsv, \.jsonl, \.txt"),
    "text": ("x.txt", "a\n", "is plain text, without targets"),
}


@pytest.mark.parametrize("case", BAD)
def test_every_mistake_is_one_sentence_with_file_and_line(write, case):
    name, content, sentence = BAD[case]
    with pytest.raises(UserError, match=sentence) as caught:
        pairs(write(name, content))
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_unreadable_files(tmp_path, write):
    with pytest.raises(UserError, match=r"cannot read .*none.tsv: No such file or directory"):
        pairs(tmp_path / "none.tsv")
    (tmp_path / "folder.tsv").mkdir()
    with pytest.raises(UserError, match=r"cannot read .*: Is a directory"):
        pairs(tmp_path / "folder.tsv")
    for damaged in (b"plain", gzip.compress(b"a\tb\n" * 1000)[:-12]):
        (tmp_path / "x.tsv.gz").write_bytes(damaged)
        with pytest.raises(UserError, match=r"is a damaged gzip file"):
            pairs(tmp_path / "x.tsv.gz")


def test_a_line_without_end_is_refused_before_it_fills_the_memory(write, monkeypatch):
    monkeypatch.setattr(files, "MAX_LINE", 10)
    assert pairs(write("x.tsv", "1234567\t9\n")) == [Pair("1234567", ("9",))]
    with pytest.raises(UserError, match=r"line 2: longer than 10 bytes"):
        pairs(write("x.tsv", "a\tb\n" + "c" * 11))


def test_references_and_absent_targets(write):
    lines = [{"source": "a", "target": ["b", "c"]}, {"source": "d"}]
    path = write("x.jsonl", "\n".join(map(json.dumps, lines)))
    assert list(stream(path)) == [Pair("a", ("b", "c")), Pair("d")]
    with pytest.raises(UserError, match=r"line 2: no column target"):
        pairs(path)
    assert list(stream(write("x.tsv", "a\nb\n"))) == [Pair("a"), Pair("b")]
    assert list(stream(write("y.tsv", "a\tb\n"))) == [Pair("a", ("b",))]
    assert list(stream(write("x.txt", "a\tb\nc\n"))) == [Pair("a\tb"), Pair("c")]


def test_standard_input_is_read_lazily_and_left_open():
    given_stream = io.BytesIO(b"erste\nzweite\n\nvierte\n")
    found = stream("stdin.txt", given_stream)
    assert [next(found), next(found)] == [Pair("erste"), Pair("zweite")]
    with pytest.raises(UserError, match=r"stdin\.txt line 3: line is empty"):
        next(found)
    assert not given_stream.closed


def test_documents(write):
    assert documents(write("x.txt.gz", "ein\r\nzwei\n\ndrei")) == ["ein\nzwei\n\ndrei\n"]
    assert documents(write("x.tsv", "text\tid\neins\t1\nzwei\t2\n")) == ["eins", "zwei"]
    assert documents(write("x.jsonl", '{"text": "eins"}')) == ["eins"]
    with pytest.raises(UserError, match=r"holds no text"):
        documents(write("y.txt", "\n \n"))


def test_other_tasks_ask_for_their_own_columns(write):
    path = write("x.tsv", "gut\tpositive\nschlecht\tnegative\n")
    assert [row["label"] for row in rows(path, ("text", "label"))] == ["positive", "negative"]


cells = st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r\ufeff"), min_size=1).filter(str.strip)


@given(st.lists(st.tuples(cells, cells), min_size=1))
def test_what_is_written_is_read_whatever_the_characters(tmp_path_factory, written):
    """No other line separator (U+2028, form feed, ...) and no quote splits or joins anything."""
    folder = tmp_path_factory.mktemp("any")
    wanted = [Pair(x, (y,)) for x, y in written]
    (folder / "x.tsv").write_bytes(b"source\ttarget\n" + "".join(f"{x}\t{y}\n" for x, y in written).encode())
    (folder / "x.jsonl").write_text("".join(json.dumps({"source": x, "target": y}) + "\n" for x, y in written))
    assert pairs(folder / "x.tsv") == pairs(folder / "x.jsonl") == wanted
