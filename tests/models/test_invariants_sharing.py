"""Which weights are one: shared layers, tied and factorised embeddings, segments; and what a config refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qkv.config import parse
from qkv.models import (
    PRESETS,
    DecoderOnlyConfig,
    EmbeddingConfig,
    EncoderDecoderConfig,
    EncoderOnlyConfig,
    HeadConfig,
    StackConfig,
    bert,
    build,
    gpt2,
    llama,
    t5,
)
from qkv.nn import (
    AttentionConfig,
    BlockConfig,
    Causal,
    DeepNorm,
    FeedForward,
    Full,
    LayerNorm,
    Learned,
    MultiHead,
    Plain,
    Post,
    Pre,
    Rotary,
    Tokens,
    Window,
)
from tests.models.zoo import GRID, VOCAB, E, both, decoder, encoder, model, stack, words
from tests.nn.grid import close

ROW = GRID[0]
TOKENS = Tokens.arange(2, 5)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("distinct", "order"),
    [(0, [0, 1, 2, 3, 4, 5]), (1, [0] * 6), (2, [0, 0, 0, 1, 1, 1]), (3, [0, 0, 1, 1, 2, 2]), (4, [0, 0, 1, 2, 2, 3])],
)
def test_neighbouring_layers_share(distinct, order):
    built = encoder(ROW, n_layers=6, distinct_layers=distinct).encoder
    blocks = list(built.blocks)
    assert [blocks.index(layer) for layer in built.layers()] == order
    single = encoder(ROW, n_layers=1).encoder
    assert count(built) - count(single) == (len(blocks) - 1) * count(blocks[0])


def test_shared_layers_compute_what_a_deep_copy_of_them_would():
    shared = encoder(ROW, n_layers=4, distinct_layers=2)
    deep = encoder(ROW, n_layers=4)
    for layer, block in zip(deep.encoder.blocks, shared.encoder.layers(), strict=True):
        layer.load_state_dict(block.state_dict())
    rest = {k: v for k, v in shared.state_dict().items() if "blocks" not in k}
    deep.load_state_dict(rest, strict=False)
    ids = words(2, 5)
    close(shared(ids, TOKENS), deep(ids, TOKENS))
    shared(ids, TOKENS).square().sum().backward()
    deep(ids, TOKENS).square().sum().backward()
    summed = sum(deep.encoder.blocks[i].attention.out.weight.grad for i in (0, 1))
    close(shared.encoder.blocks[0].attention.out.weight.grad, summed)


def test_a_tied_head_is_the_table_and_an_untied_one_is_not():
    tied = decoder(ROW)
    assert tied.head.weight is tied.decoder.embedding.token.weight
    untied = model(DecoderOnlyConfig(stack(ROW), HeadConfig(tied=False, bias=True)))
    assert count(untied) - count(tied) == VOCAB * E
    hidden = torch.randn(2, 3, E, dtype=torch.float64)
    for built in (tied, untied):
        close(built.head(hidden), hidden @ built.head.weight.T + built.head.bias)
        close(built.head(hidden), F.linear(built.head.prepare(hidden), built.head.weight, built.head.bias))


@pytest.mark.parametrize("shared", [True, False])
def test_source_and_target_share_one_table_if_told_so(shared):
    config = EncoderDecoderConfig(stack(ROW), stack(ROW), shared_embedding=shared)
    built = model(config)
    assert (built.encoder.embedding.token is built.decoder.embedding.token) == shared
    assert built.head.weight is built.decoder.embedding.token.weight
    built.double()
    assert built.head.weight is built.decoder.embedding.token.weight, "tied after a cast, too"


def test_head_with_transform_and_scale():
    config = EncoderOnlyConfig(stack(ROW), HeadConfig(bias=True, transform="gelu", scale=0.25))
    head, x = model(config).head, torch.randn(2, E, dtype=torch.float64)
    prepared = head.norm(F.gelu(x @ head.dense.weight.T + head.dense.bias)) * 0.25
    close(head.prepare(x), prepared)
    close(head(x), prepared @ head.weight.T + head.bias)


def test_factorised_embeddings_have_the_weights_they_should_and_compute_their_equation():
    wide = encoder(ROW)
    narrow = encoder(ROW, embedding=EmbeddingConfig(VOCAB, rank=6, dropout=0.0))
    table, widen = narrow.encoder.embedding.token.weight, narrow.encoder.embedding.widen
    back = 6 * E + 6  # from d_model to the rank again, before the tied table
    assert count(wide) - count(narrow) == VOCAB * E - (VOCAB * 6 + 6 * E + E) - back
    assert narrow.head.weight is table and table.shape == (VOCAB, 6)
    ids = words(2, 5)
    x = table[ids] if not isinstance(ROW["position"], Learned) else None
    close(narrow.encoder.embedding(ids, TOKENS), x @ widen.weight.T + widen.bias)


def test_embeddings_are_their_equation():
    config = EmbeddingConfig(VOCAB, scaled=True, segments=3, norm=LayerNorm(), dropout=0.0)
    embedding = encoder(ROW | {"position": Learned(16)}, embedding=config).encoder.embedding
    position = embedding.position[0].table.weight
    ids, segment = words(2, 5), torch.randint(0, 3, (2, 5))
    tokens = Tokens.from_lengths([5, 3])
    plain = embedding.token.weight[ids] * E**0.5 + position[torch.arange(5)]
    for given, index in ((tokens.with_fields(segment=segment), segment), (tokens, torch.zeros_like(segment))):
        expected = embedding.norm(plain + embedding.segment.weight[index])
        got = embedding(ids, given)
        close(got[tokens.valid], expected[tokens.valid])
        assert got[~tokens.valid].eq(0).all(), "padding is zero"


def test_embedding_dropout_is_at_its_rate():
    config = EmbeddingConfig(VOCAB, dropout=0.3)
    embedding = encoder(ROW, embedding=config).encoder.embedding.train()
    out = embedding(words(50, 40), Tokens.arange(50, 40))
    assert abs(out.eq(0).double().mean().item() - 0.3) < 0.02
    assert embedding.eval()(words(2, 5), TOKENS).ne(0).all()


@pytest.mark.parametrize(("std", "expected"), [(None, 64**-0.5), (0.02, 0.02), (1.0, 1.0)])
def test_tables_start_with_their_deviation(std, expected):
    built = build(EncoderOnlyConfig(StackConfig(64, 1, embedding=EmbeddingConfig(500, std=std))))
    assert built.encoder.embedding.token.weight.std().item() == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(
    ("placement", "final", "has"),
    [(Pre(), None, True), (Post(), None, False), (Plain(), None, False), (Pre(), False, False), (Post(), True, True)],
)
def test_final_norm(placement, final, has):
    built = encoder(ROW | {"placement": placement}, final_norm=final)
    assert (built.encoder.norm is not None) == has
    if has:
        out = built(words(2, 5), TOKENS)
        built.encoder.norm = None
        assert not torch.allclose(out, built(words(2, 5), TOKENS))


def test_deep_norm_reaches_the_residuals_and_the_weights():
    row = ROW | {"placement": DeepNorm()}
    config = EncoderDecoderConfig(stack(row, n_layers=3), stack(row, n_layers=2))
    built = build(config)
    assert built.encoder.blocks[0].attention_residual.alpha == pytest.approx(0.81 * (3**4 * 2) ** (1 / 16))
    block = built.decoder.blocks[1]
    for residual in (block.attention_residual, block.cross_residual, block.feedforward_residual):
        assert residual.alpha == pytest.approx((3 * 2) ** 0.25)
    bound = (12 * 2) ** -0.25 * (6 / (E + E)) ** 0.5
    assert 0.9 * bound < block.attention.out.weight.abs().max().item() <= bound
    assert block.attention.query_key_value.weight.abs().max().item() > bound


def test_a_decoder_sees_its_past_unless_told_otherwise():
    partial = parse(DecoderOnlyConfig, {"stack": {"d_model": 64}})
    assert partial.stack.mask == Causal() == DecoderOnlyConfig().stack.mask
    assert parse(EncoderDecoderConfig, {"decoder": {"n_layers": 1}}).decoder.mask == Causal()
    assert EncoderDecoderConfig().encoder.mask is None
    assert DecoderOnlyConfig(StackConfig(mask=Full())).stack.mask == Full()
    assert parse(DecoderOnlyConfig, {"stack": {"mask": {"window": {"back": 3}}}}).stack.mask == Window(3)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_of_a_decoder_are_causal_and_of_an_encoder_are_not(name):
    config = PRESETS[name](vocab_size=5)
    if isinstance(config, EncoderDecoderConfig):
        assert config.decoder.mask == Causal() and config.encoder.mask in (None, Full())
    else:
        assert (config.stack.mask == Causal()) == isinstance(config, DecoderOnlyConfig)


SMALL = EmbeddingConfig(5)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: StackConfig(d_model=10), "d_model 10 does not divide into 4 heads: set attention.d_head"),
        (lambda: StackConfig(n_layers=4, distinct_layers=5), "distinct_layers is 5, not between 1 and n_layers"),
        (lambda: StackConfig(n_layers=0), "at least one layer"),
        (lambda: EncoderDecoderConfig(StackConfig(64), StackConfig(32)), "need one d_model, not 64 and 32"),
        (
            lambda: EncoderDecoderConfig(StackConfig(embedding=SMALL), shared_embedding=True),
            "shared embedding needs one vocab_size",
        ),
        (lambda: EmbeddingConfig(dropout=1.5), "rate from 0"),
        (lambda: build(EncoderOnlyConfig(StackConfig(64))), "vocab_size is 0"),
        (
            lambda: build(EncoderOnlyConfig(StackConfig(12, embedding=SMALL, position=Rotary()))),
            "head width 3 must be even",
        ),
        (lambda: encoder(ROW | {"position": Learned(4)})(words(2, 5), TOKENS), "beyond the 4 learned positions"),
    ],
)
def test_what_makes_no_sense_is_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_the_width_of_heads_may_be_chosen():
    attention = AttentionConfig(MultiHead(4), d_head=6)
    config = stack(ROW)
    block = BlockConfig(attention, FeedForward(8), dropout=0.0)
    built = model(EncoderOnlyConfig(replace(config, block=block)))
    assert built.encoder.blocks[0].attention.out.weight.shape == (E, 24)
    assert built(words(2, 5), TOKENS).shape == (2, 5, E)


def test_longest_sequence_is_known():
    assert both(ROW | {"position": Learned(9)}).max_length == 9
    assert decoder(ROW).max_length is None


def test_shared_layers_count_each_time_they_run_in_scaled_outputs() -> None:
    stack = replace(gpt2(50, d_model=64, n_layers=6, n_heads=4).stack, distinct_layers=2)
    model = build(DecoderOnlyConfig(stack))
    for block in model.decoder.blocks:
        assert block.feedforward.down.weight.std().item() == pytest.approx(0.02 / (2 * 6) ** 0.5, rel=0.05)


def test_every_part_begins_as_its_config_says() -> None:
    model = build(bert(500, d_model=64, n_layers=1, n_heads=4, d_ff=128))
    assert model.head.dense.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.encoder.position.table.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert build(llama(500, d_model=64)).head.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert build(t5(50, d_model=64)).encoder.position.table.weight.std().item() == pytest.approx(64**-0.5, rel=0.2)
