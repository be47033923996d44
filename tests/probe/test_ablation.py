"""Ablation against the same model with the weights taken out by hand, and the model untouched afterwards."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qkv.decoding import Beam, generate
from qkv.models import Choice, DecoderOnly, EncoderDecoder, EncoderOnly, Reader, bert, build, gpt2, vaswani
from qkv.nn import Chunked, Tokens
from qkv.probe.ablation import stacks, without_head, without_layer

SOURCE, IDS = torch.tensor([[4, 5, 6, 2]]), torch.tensor([[1, 7, 8]])
PAIR = (SOURCE, Tokens.arange(1, 4), IDS, Tokens.arange(1, 3))


def seq2seq() -> EncoderDecoder:
    torch.manual_seed(0)
    model = build(vaswani("tiny", vocab_size=9)).eval()
    assert isinstance(model, EncoderDecoder)
    return model


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("where", ["encoder", "decoder", "cross"])
def test_a_head_is_removed_as_if_its_columns_of_the_output_matrix_were_zero(where: str) -> None:
    model, cut = seq2seq(), seq2seq()
    before = model(*PAIR)
    with without_head(model, where, 1, 2):  # type: ignore[arg-type]
        without = model(*PAIR)
    block = (cut.encoder if where == "encoder" else cut.decoder).blocks[1]
    site = block.cross if where == "cross" else block.attention
    width = site.d_head  # type: ignore[union-attr]
    site.out.weight[:, 2 * width : 3 * width] = 0.0  # type: ignore[union-attr, operator, index]
    torch.testing.assert_close(without, cut(*PAIR))
    assert (without - before).abs().max() > 1e-4
    assert torch.equal(model(*PAIR), before)


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_a_layer_is_passed_by_as_if_it_had_never_been_there(side: str) -> None:
    model, cut = seq2seq(), seq2seq()
    before = model(*PAIR)
    with without_layer(model, side, 1):  # type: ignore[arg-type]
        without = model(*PAIR)
    stack = stacks(cut)[side]  # type: ignore[index]
    del stack.blocks[1]
    stack.config = replace(stack.config, n_layers=2)
    torch.testing.assert_close(without, cut(*PAIR))
    assert (without - before).abs().max() > 1e-4
    assert torch.equal(model(*PAIR), before)


def shared() -> DecoderOnly:
    torch.manual_seed(0)
    config = gpt2(vocab_size=9, d_model=16, n_layers=3, n_heads=2, max_length=8)
    model = build(replace(config, stack=replace(config.stack, distinct_layers=1))).eval()
    assert isinstance(model, DecoderOnly)
    return model


def test_of_layers_that_share_weights_only_the_named_one_is_cut() -> None:
    model, read = shared(), (IDS, Tokens.arange(1, 3))
    outputs = []
    for layer in range(3):
        with without_head(model, "decoder", layer, 0):
            outputs.append(model(*read))
        with without_layer(model, "decoder", layer):
            outputs.append(model(*read))
    # Skipping one of three equal layers gives two of them, whichever it was; a head's place does matter.
    model.decoder.config = replace(model.decoder.config, n_layers=2)
    for skipped in outputs[1::2]:
        torch.testing.assert_close(skipped, model(*read))
    assert (outputs[0] - outputs[2]).abs().max() > 1e-4


def test_a_search_with_a_cache_is_cut_as_a_whole_pass_is() -> None:
    model = seq2seq()
    with without_layer(model, "decoder", 0), without_head(model, "cross", 2, 1):
        memory = model.encode(*PAIR[:2])
        [[best]] = generate(
            model, IDS[:, :1], Tokens.arange(1, 1), memory=memory, chooser=Beam(3), max_new=6, min_new=6
        )
        ids = torch.tensor([[1, *best.ids]])
        logits = model.head(model.decode(ids, Tokens.arange(1, ids.shape[1]), memory)).log_softmax(-1)
    each = logits[0, :-1].gather(1, ids[0, 1:, None])
    assert float(each.sum()) == pytest.approx(best.logp, abs=1e-4)


def test_other_kernels_are_cut_too() -> None:
    model = seq2seq()
    config = vaswani("tiny", vocab_size=9)
    attention = replace(config.encoder.block.attention, kernel=Chunked(block=2))
    block = replace(config.encoder.block, attention=attention)
    other = build(replace(config, encoder=replace(config.encoder, block=block))).eval()
    other.load_state_dict(model.state_dict())
    with without_head(model, "encoder", 0, 3), without_head(other, "encoder", 0, 3):
        torch.testing.assert_close(model(*PAIR), other(*PAIR))


def test_a_reader_is_cut_as_its_encoder_is() -> None:
    torch.manual_seed(0)
    config = bert(9, d_model=16, n_layers=2, n_heads=2, d_ff=32, max_length=8)
    reader = Reader(config, {"label": Choice()}, {"label": (1, 1)}).eval()
    encoder = EncoderOnly(config).eval()
    encoder.encoder.load_state_dict(reader.encoder.state_dict())
    with without_layer(reader, "encoder", 1), without_head(reader, "encoder", 0, 1):
        found = reader.encode(*PAIR[:2]).x
    with without_layer(encoder, "encoder", 1), without_head(encoder, "encoder", 0, 1):
        assert torch.equal(found, encoder(*PAIR[:2]))
    assert not torch.equal(found, reader.encode(*PAIR[:2]).x)


def test_parts_that_are_not_there_are_refused_and_errors_leave_no_hook() -> None:
    model = seq2seq()
    with pytest.raises(ValueError, match="heads 0 to 3, not 4"), without_head(model, "cross", 0, 4):
        pass
    with pytest.raises(ValueError, match="layers 0 to 2, not 3"), without_layer(model, "encoder", 3):
        pass
    with pytest.raises(ValueError, match="no encoder"), without_layer(shared(), "encoder", 0):
        pass
    with pytest.raises(ValueError, match="no cross attention"), without_head(shared(), "cross", 0, 0):
        pass
    with pytest.raises(RuntimeError, match="stop"), without_head(model, "encoder", 0, 0):
        raise RuntimeError("stop")
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
