"""`train`: the fixed ids, determinism, sizes, and what every kind promises about decoding."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkv.config import parse, plain
from qkv.errors import UserError
from qkv.text import BPE, ByteBPE, Characters, TokenizerConfig, Unigram, WordPiece, Words, train

# Words that tie in everything: any trace of hash order decides between them.
TIES = " ".join(
    [first + second + first for first in "abcdefghij" for second in "klmnop"] + [letter * 3 for letter in "qrstuvwxyz"]
)


def test_table_round_trips_through_yaml_names():
    assert parse(TokenizerConfig, {"byte_bpe": {"vocab_size": 300}}) == ByteBPE(300)
    assert plain(Unigram(), TokenizerConfig) == "unigram"


def test_special_ids_are_fixed_and_further_ones_follow(tokenizer):
    ids = (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id)
    assert ids == (0, 1, 2, 3) == tuple(map(tokenizer.id, ["<pad>", "<bos>", "<eos>", "<unk>"]))
    assert (tokenizer.mask_id, tokenizer.cls_id, tokenizer.sep_id) == (4, 5, 6)
    assert tokenizer.tokens([0, 3, 4, 6]) == ["<pad>", "<unk>", "<mask>", "<sep>"]


def test_absent_roles_are_none_and_bad_names_are_refused(corpus):
    plain_one = train(Characters(), corpus)
    assert plain_one.mask_id is None and plain_one.id("<mask>") is None
    with pytest.raises(UserError, match="letters"):
        train(Characters(), corpus, ["a b"])


def test_same_corpus_gives_the_same_file(config, corpus, tmp_path):
    files = set()
    for run in range(4):
        train(config, iter(corpus), ["mask"]).save(tmp_path / f"{run}.json")
        files.add((tmp_path / f"{run}.json").read_bytes())
    assert len(files) == 1


@pytest.mark.parametrize("config", [BPE(60), BPE(25), ByteBPE(290), WordPiece(90), WordPiece(40), Unigram(60)], ids=str)
def test_ties_are_broken_the_same_way_every_time(config):
    assert len({train(config, [TIES]).backend.to_str() for _ in range(8)}) == 1


@pytest.mark.parametrize("kind", [Characters, Words, BPE, WordPiece, Unigram])
@pytest.mark.parametrize("size", [14, 30, 60])
def test_vocabulary_never_exceeds_the_size_asked_for(kind, size, corpus):
    tokenizer = train(kind(vocab_size=size), corpus)
    assert 5 < tokenizer.vocab_size <= size
    assert all(0 <= i < tokenizer.vocab_size for i in tokenizer.encode(corpus[0]))


def test_a_small_alphabet_keeps_the_frequent_characters():
    tokenizer = train(BPE(vocab_size=4 + 3), ["aaaa bbb c", "aab"])
    assert {token for token in "▁abc" if tokenizer.id(token) is not None} == {"▁", "a", "b"}


@pytest.mark.parametrize(
    ("config", "texts", "message"),
    [
        (BPE(100), [], "no text"),
        (Unigram(100), ["", "  "], "no text"),
        (ByteBPE(200), ["x"], "set it to 260"),
        (BPE(200, byte_fallback=True), ["x"], "set it to 261"),
        (Words(vocab_size=4), ["x"], "too small"),
    ],
)
def test_impossible_requests_are_refused(config, texts, message):
    with pytest.raises(UserError, match=message):
        train(config, texts)


def test_min_frequency(corpus):
    tokenizer = train(Words(min_frequency=2), ["HH AH L OW", "HH AH"])
    assert tokenizer.tokens(tokenizer.encode("HH AH OW")) == ["HH", "AH", "<unk>"]


def test_lowercase_and_normalization_reach_the_model():
    tokenizer = train(BPE(60, lowercase=True, normalization="nfkc"), ["STRASSE Ｈｕｎｄ e\u0301"])
    assert tokenizer.decode(tokenizer.encode("Straße".replace("ß", "ss") + " Hund É")) == "strasse hund é"


def test_wordpiece_is_bert_style(tokenizers, corpus):
    tokenizer = tokenizers["word_piece"]
    assert " ".join(tokenizer.tokens(tokenizer.encode("Hundwiese. 我很"))) == "hund ##w ##ie ##s ##e . 我 很"
    stripped = train(WordPiece(260, strip_accents=True), corpus)
    assert stripped.decode(stripped.encode("Mädchen")) == "madchen"


# --- decoding


def test_words_decode_with_spaces():
    tokenizer = train(Words(), ["HH AH0 L OW1", "W ER1 L D"])
    assert tokenizer.decode(tokenizer.encode("L OW1  HH\tAH0")) == "L OW1 HH AH0"


@pytest.mark.parametrize("name", ["characters", "bpe", "bpe_fallback", "byte_bpe", "unigram", "unigram_fallback"])
def test_german_and_chinese_round_trip(name, tokenizers, corpus):
    tokenizer = tokenizers[name]
    for text in [*corpus, "Mann und Hund", " zwei  Räume ", "我们难过了", "e", "", " "]:
        known = text.replace("R", "M")
        assert tokenizer.decode(tokenizer.encode(known)) == tokenizer.normalize(known)
    assert tokenizer.decode_batch(tokenizer.encode_batch(corpus)) == [tokenizer.normalize(text) for text in corpus]


def test_normal_form_collapses_white_space_only(tokenizers):
    assert tokenizers["bpe"].normalize(" Ein\u3000 Hu\u0308nd\n▁!") == "Ein Hünd _!"
    assert tokenizers["byte_bpe"].normalize(" a\r\n ") == tokenizers["characters"].normalize(" a\r\n ") == " a\r\n "


PARTS = ["<pad>", "▁", " ", "\n", "ä", "我", "🙂", "<0x41>", "\x00"]
ANY_TEXT = st.text() | st.lists(st.sampled_from(PARTS)).map("".join)


@settings(deadline=None, max_examples=150)
@given(text=ANY_TEXT)
def test_byte_bpe_is_exact_for_any_text(tokenizers, text):
    tokenizer = tokenizers["byte_bpe"]
    assert tokenizer.decode(tokenizer.encode(text)) == text


@settings(deadline=None, max_examples=150)
@given(text=ANY_TEXT)
@pytest.mark.parametrize("name", ["bpe_fallback", "unigram_fallback"])
def test_byte_fallback_loses_nothing_but_what_normalization_does(tokenizers, name, text):
    tokenizer = tokenizers[name]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == tokenizer.normalize(text)
    assert tokenizer.unk_id not in ids


@settings(deadline=None, max_examples=50)
@given(text=st.text(alphabet="ab \n\t\r<pd>\u0301", max_size=20))
def test_characters_are_exact_and_one_each(text):
    tokenizer = train(Characters(), ["ab \n\t\r<pd>\u0301"])
    assert len(tokenizer.encode(text)) == len(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text
