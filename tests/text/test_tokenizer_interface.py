"""The interface of `Tokenizer`: encode, decode, tokens, and that no text spells a special."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qkv.errors import UserError
from qkv.text import BPE, Characters, stats, train

TRICKS = ["<pad>", "<bos>", "<eos>", "<mask>", "<PAD>", "＜pad＞", "<<pad>>", "<pa<pad>d>", "<pad", ">", "<", "<0x41>"]


def test_empty_string_is_no_ids(tokenizer):
    assert tokenizer.encode("") == []
    assert tokenizer.encode_batch(["", ""]) == [[], []]
    assert tokenizer.encode_batch([]) == []
    assert tokenizer.decode([]) == ""


def test_batches_equal_single_calls(tokenizer, corpus):
    rows = tokenizer.encode_batch(corpus)
    assert rows == [tokenizer.encode(text) for text in corpus]
    assert tokenizer.decode_batch(rows) == [tokenizer.decode(row) for row in rows]


def test_encode_adds_nothing_and_decode_skips_specials(tokenizer):
    ids = tokenizer.encode("Ein Hund")
    assert not {0, 1, 2, 4, 5, 6} & set(ids)
    framed = [1, *ids, 2, 0, 0, 4]
    assert tokenizer.decode(framed) == tokenizer.decode(ids) == tokenizer.decode(torch.tensor(framed))


@settings(deadline=None, max_examples=200)
@given(parts=st.lists(st.sampled_from([*TRICKS, " ", "a", "\x00", "Hund"]) | st.text(max_size=3), max_size=8))
def test_no_text_spells_a_special(tokenizers, parts):
    for name, tokenizer in tokenizers.items():
        spelled = set(tokenizer.encode("".join(parts))) & {0, 1, 2, 4, 5, 6}
        assert not spelled, (name, parts)


@pytest.mark.parametrize("name", ["bpe_fallback", "unigram_fallback"])
def test_no_text_spells_a_byte_piece(tokenizers, name):
    tokenizer = tokenizers[name]
    assert tokenizer.id("<0x41>") not in tokenizer.encode("<0x41> a<0x41>a")
    assert tokenizer.decode(tokenizer.encode("<0x41> a<0x41>a")) == "<0x41> a<0x41>a"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))], ids=["deepcopy", "pickle"])
def test_copies_keep_the_guard(tokenizer, copied):
    text = "Ein <pad> Hund <mask>"
    assert copied(tokenizer).encode(text) == tokenizer.encode(text)
    assert copied(tokenizer).mask_id == 4


def test_text_around_a_spelled_special_is_untouched(tokenizers):
    for name in ("characters", "bpe", "byte_bpe", "unigram"):
        text = "Ein <pad> Hund<mask>!"
        assert tokenizers[name].decode(tokenizers[name].encode(text)) == text


def test_lone_surrogates_are_refused_with_their_place(tokenizer):
    with pytest.raises(UserError, match="position 2"):
        tokenizer.encode("ab\ud800")
    with pytest.raises(UserError, match="text 1: position 0"):
        tokenizer.encode_batch(["ok", "\udfff"])


def test_tokens_are_readable(tokenizers):
    byte_level = tokenizers["byte_bpe"]
    shown = byte_level.tokens([1, *byte_level.encode(" Hund ü我"), 2])
    assert shown[0] == "<bos>" and shown[-1] == "<eos>"
    assert " Hund" in shown[1:3] or shown[1].startswith(" ")
    assert "".join(shown[1:-1]).startswith(" Hund ü")
    lone = byte_level.tokens(byte_level.encode("☃"))
    assert lone == ["<0xE2>", "<0x98>", "<0x83>"]
    subword = tokenizers["bpe"]
    assert "".join(subword.tokens(subword.encode("Ein Hund"))) == "▁Ein▁Hund"


@pytest.mark.parametrize("bad", [-1, 10**6])
def test_tokens_outside_the_vocabulary(tokenizer, bad):
    with pytest.raises(IndexError, match="outside the vocabulary"):
        tokenizer.tokens([bad])


def test_every_id_has_a_token_and_back(tokenizer):
    assert len(tokenizer.tokens(range(tokenizer.vocab_size))) == tokenizer.vocab_size
    assert tokenizer.id("no such token") is None
    names = [tokenizer.backend.id_to_token(i) for i in range(tokenizer.vocab_size)]
    assert [tokenizer.id(name) for name in names] == list(range(tokenizer.vocab_size))


def test_stats_by_hand():
    tokenizer = train(Characters(), ["ab c"])
    found = stats(tokenizer, ["ab cd", "a"])  # d is unknown; ids: 5 + 1
    assert (found.texts, found.characters, found.words, found.tokens, found.unknown) == (2, 6, 3, 6, 1)
    assert (found.characters_per_token, found.tokens_per_word, found.unknown_rate) == (1.0, 2.0, 1 / 6)


def test_stats_improve_with_vocabulary_and_survive_no_text(corpus):
    small, large = (stats(train(BPE(size), corpus), corpus) for size in (100, 200))
    assert large.characters_per_token > small.characters_per_token > 0.8
    assert stats(train(BPE(150), corpus), []).unknown_rate == 0
