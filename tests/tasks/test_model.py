"""The `model:` part of a recipe."""

from __future__ import annotations

import pytest

from qkv.errors import UserError
from qkv.models import DecoderOnlyConfig, EncoderDecoderConfig, vaswani
from qkv.nn import Post, Pre, Rotary
from qkv.tasks.model import amended, fresh, parameters, resolve, shape_of, sized, written
from qkv.tasks.tokenizers import Tokenizers
from qkv.text import Characters, Words, train


def tokenizers(shared: bool = False) -> Tokenizers:
    source = train(Characters(), ["abcdef"])
    return Tokenizers(source if shared else train(Words(), ["x y z"]), source)


def test_a_preset_is_called_with_its_parameters() -> None:
    assert resolve({"preset": "vaswani", "size": "tiny", "dropout": 0.3}) == vaswani("tiny", dropout=0.3)


def test_nested_fields_change_on_top_of_a_preset_and_nothing_else_does() -> None:
    base = vaswani("tiny")
    changes = {"block": {"placement": "pre"}, "position": {"rotary": {"theta": 50.0}}}
    config = resolve({"preset": "vaswani", "size": "tiny", "encoder": changes})
    assert isinstance(config, EncoderDecoderConfig)
    assert isinstance(config.encoder.block.placement, Pre) and isinstance(config.decoder.block.placement, Post)
    assert config.encoder.position == Rotary(theta=50.0)
    assert config.encoder.block.attention == base.encoder.block.attention and config.decoder == base.decoder


def test_the_written_form_reads_back_as_the_same_config() -> None:
    for data in ({"preset": "vaswani", "size": "tiny"}, {"preset": "gpt2", "n_layers": 2}, {"preset": "llama"}):
        config = resolve(data)
        assert resolve(written(config)) == config and list(written(config)) == [shape_of(config)]


def test_another_entry_of_a_table_replaces_and_the_same_one_merges() -> None:
    base = {"mask": {"window": {"back": 3, "ahead": 0}}, "n": 1}
    assert amended(base, {"mask": {"window": {"back": 5}}}) == {"mask": {"window": {"back": 5, "ahead": 0}}, "n": 1}
    assert amended(base, {"mask": {"prefix": {}}})["mask"] == {"prefix": {}}
    assert amended(base, {"mask": "causal"})["mask"] == "causal"


def test_vocabulary_sizes_come_from_the_tokenizers() -> None:
    two = tokenizers()
    assert two.source is not None
    config = sized(resolve({"preset": "vaswani", "size": "tiny", "shared_embedding": False}), two)
    assert isinstance(config, EncoderDecoderConfig)
    assert config.encoder.embedding.vocab_size == two.source.vocab_size == 10
    assert config.decoder.embedding.vocab_size == two.target.vocab_size == 7


def test_a_shared_embedding_with_two_tokenizers_is_refused() -> None:
    with pytest.raises(UserError, match="shared_embedding needs one tokenizer"):
        sized(resolve({"preset": "vaswani", "size": "tiny"}), tokenizers())
    sized(resolve({"preset": "vaswani", "size": "tiny"}), tokenizers(shared=True))


def test_shared_weights_count_once() -> None:
    config = DecoderOnlyConfig()
    model = fresh(config, tokenizers())
    assert parameters(model) == sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())
    assert model.head.weight is model.decoder.embedding.token.weight  # type: ignore[union-attr]
