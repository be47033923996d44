"""Saving and loading, and tokenizers that come from elsewhere."""

from __future__ import annotations

import json
import os

import pytest
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend
from tokenizers.implementations import BertWordPieceTokenizer

from qkv.errors import UserError
from qkv.text import Tokenizer, from_tokenizer_json, from_wordpiece_vocab

PIECES = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES += ["the", "dog", "##s", "run", "##ning", ".", "[", "]", "cafe", "我", "pad", "##a", "cls", "mask"]
TEXTS = ["The dogs running.", "the CAFÉ [PAD] dog", "我 dog我s", "dog [MASK] [CLS]", "cats", "", "  the\tdog\n"]


def test_save_and_load(tokenizer, corpus, tmp_path):
    path = tmp_path / "folder" / "source.json"
    tokenizer.save(path)
    loaded = Tokenizer.load(path)
    tricky = [*corpus, "<pad> <mask>", ""]
    assert loaded.encode_batch(tricky) == tokenizer.encode_batch(tricky)
    assert loaded.special_ids == tokenizer.special_ids and loaded.mask_id == 4
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    assert os.listdir(path.parent) == ["source.json"]


def test_a_failed_save_keeps_the_old_file(tokenizers, tmp_path, monkeypatch):
    path = tmp_path / "source.json"
    tokenizers["bpe"].save(path)
    before = path.read_bytes()

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dump", full_disk)
    with pytest.raises(OSError, match="No space"):
        tokenizers["unigram"].save(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["source.json"]


def damage(good: str) -> dict[str, str]:
    state = json.loads(good)
    return {
        "cut": good[: len(good) // 2],
        "empty": "",
        "list": "[1, 2]",
        "other": '{"a": 1}',
        "newer": json.dumps(state | {"version": 99}),
        "no model": json.dumps(state | {"tokenizer": {"model": 3}}),
        "no ids": json.dumps(state | {"special_ids": {"pad": 10**6}}),
        "ids no mapping": json.dumps(state | {"special_ids": [0, 1]}),
        "foreign": json.dumps(state["tokenizer"]),
    }


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cut", "damaged"),
        ("empty", "damaged"),
        ("list", "JSON object"),
        ("other", "no tokenizer file of qkv"),
        ("newer", "version 99"),
        ("no model", "damaged"),
        ("no ids", "special_ids"),
        ("ids no mapping", "special_ids"),
        ("foreign", "from_tokenizer_json"),
    ],
)
def test_bad_files_get_one_sentence(kind, message, tokenizers, tmp_path):
    path = tmp_path / "t.json"
    tokenizers["words"].save(path)
    path.write_text(damage(path.read_text(encoding="utf-8"))[kind], encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        Tokenizer.load(path)
    assert str(path) in str(caught.value)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        Tokenizer.load(tmp_path / "absent.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="damaged"):
        Tokenizer.load(tmp_path / "binary.json")


# --- foreign tokenizers


@pytest.fixture
def vocab_txt(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return path


def test_wordpiece_vocab_equals_the_reference(vocab_txt):
    tokenizer = from_wordpiece_vocab(vocab_txt)
    reference = BertWordPieceTokenizer(str(vocab_txt), lowercase=True)
    reference._tokenizer.encode_special_tokens = True
    for text in TEXTS:
        assert tokenizer.encode(text) == reference.encode(text, add_special_tokens=False).ids, text
    roles = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
    assert roles == (0, 2, 3, 4, 5)
    assert tokenizer.bos_id is None and tokenizer.eos_id is None
    assert tokenizer.decode([3, *tokenizer.encode("the dogs running."), 4, 0]) == "the dogs running."


def test_cased_wordpiece_vocab(vocab_txt):
    cased = from_wordpiece_vocab(vocab_txt, lowercase=False)
    assert cased.tokens(cased.encode("The dog")) == ["[UNK]", "dog"]


@pytest.mark.parametrize(("text", "message"), [("a\nb\n", r"lacks \[UNK\]"), ("[UNK]\na\na\n", "repeated")])
def test_bad_vocab_txt(text, message, tmp_path):
    (tmp_path / "vocab.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        from_wordpiece_vocab(tmp_path / "vocab.txt")


def unigram_json(tmp_path):
    """What a multilingual Unigram checkpoint ships: specials with score 0 in the model, and a template."""
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), ("▁the", -3.0), ("dog", -3.0)]
    pieces += [(character, -6.0) for character in "abcdeghopst<>/"]
    backend = Backend(models.Unigram(pieces, unk_id=3))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.add_special_tokens([AddedToken(piece, normalized=False) for piece in ("<s>", "<pad>", "</s>", "<unk>")])
    ends = [("<s>", 0), ("</s>", 2)]
    backend.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    backend.enable_truncation(3)
    backend.save(str(tmp_path / "tokenizer.json"))
    return backend


def test_tokenizer_json(tmp_path):
    backend = unigram_json(tmp_path)
    backend.no_truncation()
    tokenizer = from_tokenizer_json(tmp_path)
    assert tokenizer.encode("the dog the dog") == backend.encode("the dog the dog", add_special_tokens=False).ids
    assert (tokenizer.bos_id, tokenizer.pad_id, tokenizer.eos_id, tokenizer.unk_id) == (0, 1, 2, 3)
    assert tokenizer.mask_id is None
    assert tokenizer.decode([0, *tokenizer.encode("the dog"), 2, 1]) == "the dog"


def test_foreign_specials_cannot_be_spelled_and_survive_saving(tmp_path):
    backend = unigram_json(tmp_path)
    assert 2 in backend.encode("the </s> dog", add_special_tokens=False).ids  # the danger is real
    backend.encode_special_tokens = True
    assert 2 in backend.encode("the</s>dog", add_special_tokens=False).ids  # and one door is not enough
    tokenizer = from_tokenizer_json(tmp_path / "tokenizer.json")
    tokenizer.save(tmp_path / "ours.json")
    for one in (tokenizer, Tokenizer.load(tmp_path / "ours.json")):
        assert not {0, 1, 2, 3} & set(one.encode("the</s>dog <pad> <s>the"))
        assert one.special_ids == {"pad": 1, "bos": 0, "eos": 2, "unk": 3}


def test_declared_roles_win_over_usual_spellings(tmp_path):
    unigram_json(tmp_path)
    declared = {"cls_token": "<s>", "sep_token": {"content": "</s>"}, "pad_token": "</s>", "mask_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(declared))
    tokenizer = from_tokenizer_json(tmp_path)
    assert (tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.bos_id) == (0, 2, 2, 0)


def test_not_a_tokenizer_json(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="no 'model'"):
        from_tokenizer_json(tmp_path)
