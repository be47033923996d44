"""The first Transformer against torch.nn: whole models, single layers, attention alone, the order of shared heads."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qkv.interop.family import altered
from qkv.models import EncoderDecoder, Memory, vaswani
from qkv.nn import (
    Attention,
    AttentionConfig,
    Block,
    BlockConfig,
    Causal,
    Chunked,
    Einsum,
    FeedForward,
    Full,
    Fused,
    GroupedQuery,
    MultiHead,
    MultiQuery,
    PerHead,
    Post,
    Pre,
    Tokens,
    View,
)
from qkv.nn.positions import Position
from tests.models.parity_kit import assert_close, scatter

E, HEADS, D_FF = 24, 4, 40
SOURCE, TARGET = (9, 5, 1), (6, 7, 2)
PRECISIONS = [(torch.float32, 1e-5), (torch.float64, 1e-10)]
PLACEMENTS = {"post": Post(), "pre": Pre()}
pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor")


def copy_linear(ours: nn.Linear, *theirs: tuple[Tensor, Tensor]) -> None:
    """Their (weight, bias) pairs, stacked along the rows of one of our products."""
    ours.weight.data.copy_(torch.cat([weight for weight, _ in theirs]))
    ours.bias.data.copy_(torch.cat([bias for _, bias in theirs]))


def copy_attention(ours: Attention, theirs: nn.MultiheadAttention) -> None:
    weight, bias = theirs.in_proj_weight, theirs.in_proj_bias
    if ours.cross:
        copy_linear(ours.query, (weight[:E], bias[:E]))
        copy_linear(ours.key_value, (weight[E:], bias[E:]))
    else:
        copy_linear(ours.query_key_value, (weight, bias))
    ours.out.load_state_dict(theirs.out_proj.state_dict())


def copy_layer(ours: Block, theirs: nn.TransformerEncoderLayer | nn.TransformerDecoderLayer) -> None:
    copy_attention(ours.attention, theirs.self_attn)
    residuals = [ours.attention_residual, ours.feedforward_residual]
    if isinstance(theirs, nn.TransformerDecoderLayer):
        copy_attention(ours.cross, theirs.multihead_attn)
        residuals.insert(1, ours.cross_residual)
    for number, residual in enumerate(residuals, 1):
        (residual.inner or residual.outer).load_state_dict(getattr(theirs, f"norm{number}").state_dict())
    ours.feedforward.up.load_state_dict(theirs.linear1.state_dict())
    ours.feedforward.down.load_state_dict(theirs.linear2.state_dict())


def pair(placement: str, dtype: torch.dtype) -> tuple[EncoderDecoder, nn.Transformer]:
    """Our model and torch's with equal weights; torch's has a final norm under both placements."""
    preset = vaswani("tiny", 31, dropout=0.0)
    changes = {"d_model": E, "final_norm": True, "block.placement": PLACEMENTS[placement],
               "block.attention.heads": MultiHead(HEADS), "block.feedforward": FeedForward(D_FF)}  # fmt: skip
    encoder = altered(preset.encoder, {**changes, "n_layers": 2})
    decoder = altered(preset.decoder, {**changes, "n_layers": 3})
    config = replace(preset, encoder=encoder, decoder=decoder)
    theirs = nn.Transformer(E, HEADS, 2, 3, D_FF, 0.0, batch_first=True, norm_first=placement == "pre")
    scatter(theirs)
    theirs, ours = theirs.to(dtype).eval(), EncoderDecoder(config).to(dtype).eval()
    for stack, other in ((ours.encoder, theirs.encoder), (ours.decoder, theirs.decoder)):
        for block, layer in zip(stack.blocks, other.layers, strict=True):
            copy_layer(block, layer)
        stack.norm.load_state_dict(other.norm.state_dict())
    return ours, theirs


def inputs(model: EncoderDecoder) -> tuple[Tensor, Tokens, Tensor, Tokens]:
    generator = torch.Generator().manual_seed(0)
    source = torch.randint(0, 31, (3, max(SOURCE)), generator=generator)
    target = torch.randint(0, 31, (3, max(TARGET)), generator=generator)
    return source, Tokens.from_lengths(SOURCE), target, Tokens.from_lengths(TARGET)


def sinusoids(length: int, dtype: torch.dtype) -> Tensor:
    """The paper's table, number by number."""
    angle = [[pos / 10000 ** (2 * (i // 2) / E) for i in range(E)] for pos in range(length)]
    table = torch.tensor(angle, dtype=torch.float64)
    table[:, 0::2], table[:, 1::2] = table[:, 0::2].sin(), table[:, 1::2].cos()
    return table.to(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_whole_transformer(placement: str, dtype: torch.dtype, tolerance: float) -> None:
    """Embedding √d-scaled plus sinusoids, encoder, decoder, masks and padding; logits and the gradient of the table."""
    ours, theirs = pair(placement, dtype)
    source, source_tokens, target, target_tokens = inputs(ours)
    table = ours.decoder.embedding.token.weight
    embedded = [table[ids] * E**0.5 + sinusoids(ids.shape[1], dtype) for ids in (source, target)]
    causal = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1)  # theirs: True is hidden
    no_source, no_target = ~source_tokens.valid, ~target_tokens.valid
    hidden = theirs(*embedded, tgt_mask=causal, src_key_padding_mask=no_source, tgt_key_padding_mask=no_target,
                    memory_key_padding_mask=no_source)  # fmt: skip
    expected = hidden[target_tokens.valid] @ table.t()
    found = ours.head(ours(source, source_tokens, target, target_tokens))[target_tokens.valid]
    assert_close(found, expected, tolerance)
    (gradient,) = torch.autograd.grad(found.square().sum(), table, retain_graph=True)
    (reference,) = torch.autograd.grad(expected.square().sum(), table)
    torch.testing.assert_close(gradient, reference, rtol=100 * tolerance, atol=100 * tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("decoder", [False, True], ids=["encoder", "decoder"])
def test_one_layer(decoder: bool, placement: str, dtype: torch.dtype, tolerance: float) -> None:
    kind = nn.TransformerDecoderLayer if decoder else nn.TransformerEncoderLayer
    theirs = kind(E, HEADS, D_FF, 0.0, F.gelu, batch_first=True, norm_first=placement == "pre")
    scatter(theirs)
    theirs = theirs.to(dtype).train()  # in evaluation mode torch takes a fused path of its own; without dropout: equal
    config = BlockConfig(AttentionConfig(MultiHead(HEADS)), FeedForward(D_FF, "gelu"), placement=PLACEMENTS[placement],
                         dropout=0.0)  # fmt: skip
    ours = Block(config, E, Position(), cross=decoder).to(dtype)
    copy_layer(ours, theirs)
    tokens, source_tokens = Tokens.from_lengths(TARGET), Tokens.from_lengths(SOURCE)
    x, memory = torch.randn(3, 7, E, dtype=dtype), torch.randn(3, 9, E, dtype=dtype)
    if decoder:
        causal = torch.ones(7, 7, dtype=torch.bool).triu(1)
        hidden = {"tgt_key_padding_mask": ~tokens.valid, "memory_key_padding_mask": ~source_tokens.valid}
        expected = theirs(x, memory, tgt_mask=causal, **hidden)
        across = View(Full(), tokens, source_tokens)
        found = ours(x, View(Causal(), tokens, tokens), memory, across)
    else:
        expected = theirs(x, src_key_padding_mask=~tokens.valid)
        found = ours(x, View(Full(), tokens, tokens))
    assert_close(found[tokens.valid], expected[tokens.valid], tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("kernel", [PerHead(), Einsum(), Fused(), Chunked(3)], ids=lambda k: type(k).__name__)
@pytest.mark.parametrize("cross", [False, True])
def test_attention_and_its_weights(cross: bool, kernel, dtype: torch.dtype, tolerance: float) -> None:  # type: ignore[no-untyped-def]
    theirs = nn.MultiheadAttention(E, HEADS, batch_first=True).to(dtype)
    scatter(theirs, 0.3)
    ours = Attention(AttentionConfig(MultiHead(HEADS), kernel=kernel), E, cross=cross).to(dtype)
    copy_attention(ours, theirs)
    tokens, source_tokens = Tokens.from_lengths(TARGET), Tokens.from_lengths(SOURCE)
    x = torch.randn(3, 7, E, dtype=dtype)
    memory = torch.randn(3, 9, E, dtype=dtype) if cross else x
    keys = source_tokens if cross else tokens
    expected, weights = theirs(x, memory, memory, key_padding_mask=~keys.valid, average_attn_weights=False)
    view = View(Full(), tokens, keys)
    assert_close(ours(x, view, memory if cross else None)[tokens.valid], expected[tokens.valid], tolerance)
    q, k = ours.split(x @ theirs.in_proj_weight[:E].t()), ours.split(memory @ theirs.in_proj_weight[E : 2 * E].t())
    bias = theirs.in_proj_bias
    q, k = q + ours.split(bias[None, None, :E]), k + ours.split(bias[None, None, E : 2 * E])
    _, found = ours.kernel(q, k, k, view, scale=ours.scale, dropout=0.0, need_weights=True)
    torch.testing.assert_close(found, weights, atol=tolerance, rtol=0)


@pytest.mark.parametrize("kernel", [PerHead(), Einsum(), Fused(), Chunked(3)], ids=lambda k: type(k).__name__)
@pytest.mark.parametrize("heads", [MultiHead(6), MultiQuery(6), GroupedQuery(6, 2), GroupedQuery(6, 3)], ids=str)
def test_which_query_heads_share_a_key_head(heads, kernel) -> None:  # type: ignore[no-untyped-def]
    """Head h reads key head h // (H/G), as torch's enable_gqa has it; no invariant of ours would see another order."""
    attention = Attention(AttentionConfig(heads, kernel=kernel, bias=False), 24).double()
    scatter(attention, 0.3)
    x, tokens = torch.randn(2, 5, 24, dtype=torch.float64), Tokens.from_lengths((5, 3))
    heads_of = (x @ attention.query_key_value.weight.t()).unflatten(-1, (-1, 4)).transpose(1, 2)
    q, k, v = heads_of.split([6, heads.groups, heads.groups], dim=1)
    mask = (tokens.valid[:, None, :] & torch.ones(5, 5, dtype=torch.bool).tril()).unsqueeze(1)
    joined = F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True).transpose(1, 2).flatten(2)
    found = attention(x, View(Causal(), tokens, tokens))
    assert_close(found[tokens.valid], attention.out(joined)[tokens.valid], 1e-10)


def test_a_memory_that_is_given_is_the_one_that_is_read() -> None:
    ours, theirs = pair("post", torch.float64)
    _, source_tokens, target, target_tokens = inputs(ours)
    memory = torch.randn(3, 9, E, dtype=torch.float64)
    table = ours.decoder.embedding.token.weight
    embedded = table[target] * E**0.5 + sinusoids(7, torch.float64)
    causal = torch.ones(7, 7, dtype=torch.bool).triu(1)
    expected = theirs.decoder(embedded, memory, causal, memory_key_padding_mask=~source_tokens.valid)
    found = ours.decode(target, target_tokens, Memory(memory, source_tokens))
    assert_close(found[target_tokens.valid], expected[target_tokens.valid], 1e-10)
