"""Recorded attention against the equation, at all three sites, and the model untouched afterwards."""

from __future__ import annotations

import pytest
import torch

from qkv.models import DecoderOnly, EncoderDecoder, build, gpt2, vaswani
from qkv.nn import Attention, Tokens
from qkv.probe.attention import pictures, recording


def seq2seq() -> EncoderDecoder:
    model = build(vaswani("tiny", vocab_size=9)).eval()
    assert isinstance(model, EncoderDecoder)
    return model


def test_all_three_sites_are_recorded_by_name_and_in_order() -> None:
    model = seq2seq()
    with recording(model) as maps:
        model(torch.tensor([[4, 5, 2]]), Tokens.arange(1, 3), torch.tensor([[1, 6]]), Tokens.arange(1, 2))
    assert [m.where for m in maps] == ["encoder"] * 3 + ["decoder", "cross"] * 3
    assert maps[0].name == "encoder.blocks.0.attention" and maps[-1].name == "decoder.blocks.2.cross"
    shapes = {m.where: tuple(m.weights.shape) for m in maps}
    assert shapes == {"encoder": (1, 4, 3, 3), "decoder": (1, 4, 2, 2), "cross": (1, 4, 2, 3)}


def test_the_weights_are_those_of_the_equation() -> None:
    model = seq2seq()
    ids, tokens = torch.tensor([[4, 5, 6, 2]]), Tokens.arange(1, 4)
    site = model.encoder.blocks[0].attention
    with recording(model) as maps, torch.no_grad():
        model.encode(ids, tokens)
        x = model.encoder.embedding(ids, tokens)
        q, k, _ = site.split(site.query_key_value(x)).chunk(3, dim=1)  # type: ignore[union-attr, operator]
    expected = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
    torch.testing.assert_close(maps[0].weights, expected, atol=1e-6, rtol=1e-5)


def test_recording_changes_no_output_and_leaves_nothing_behind() -> None:
    model = seq2seq()
    ids, tokens = torch.tensor([[4, 5, 2]]), Tokens.arange(1, 3)
    with torch.no_grad():
        before = model.encode(ids, tokens).x
        with pytest.raises(RuntimeError, match="stop"), recording(model) as maps:
            during = model.encode(ids, tokens).x
            raise RuntimeError("stop")
        count = len(maps)
        after = model.encode(ids, tokens).x
    assert torch.equal(before, during) and torch.equal(before, after) and len(maps) == count
    sites = [m for m in model.modules() if isinstance(m, Attention)]
    assert not any(m.need_weights or m.kernel._forward_hooks for m in sites)


def test_layers_that_share_weights_are_recorded_once_each() -> None:
    config = gpt2(vocab_size=9, d_model=16, n_layers=3, n_heads=2, max_length=8)
    from dataclasses import replace

    model = build(replace(config, stack=replace(config.stack, distinct_layers=1))).eval()
    with recording(model) as maps:
        model(torch.tensor([[4, 5]]), Tokens.arange(1, 2))
    assert [m.name for m in maps] == ["decoder.blocks.0.attention"] * 3


def test_pictures_of_two_texts_are_labelled_by_what_is_written() -> None:
    letters = ["<bos>", "x", "y", "<eos>"]
    found = {p.where: p for p in pictures(seq2seq(), [1, 6, 7, 2], letters, [4, 5, 2], ["a", "b", "<eos>"])}
    assert found["cross"].rows == found["decoder"].rows == ["x", "y", "<eos>"]
    assert found["cross"].columns == found["encoder"].rows == ["a", "b", "<eos>"]
    assert found["decoder"].columns == ["<bos>", "x", "y"]
    for picture in found.values():
        assert picture.weights.shape == (3, 4, len(picture.rows), len(picture.columns))
        torch.testing.assert_close(picture.weights.sum(-1), torch.ones(3, 4, len(picture.rows)))
    assert torch.equal(found["decoder"].weights, found["decoder"].weights.tril())


def test_pictures_of_a_decoder_alone() -> None:
    model = build(gpt2(vocab_size=9, d_model=16, n_layers=2, n_heads=2, max_length=8)).eval()
    assert isinstance(model, DecoderOnly)
    [picture] = pictures(model, [4, 5, 6], ["a", "b", "c"])
    assert picture.where == "decoder" and picture.rows == picture.columns == ["a", "b", "c"]
    assert picture.weights.shape == (2, 2, 3, 3) and torch.equal(picture.weights, picture.weights.tril())
