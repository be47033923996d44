"""The closed forms against what is counted: operations, parameters, bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from qkv.models.config import EmbeddingConfig, StackConfig
from qkv.models.stack import Stack
from qkv.nn import (
    AttentionConfig,
    BlockConfig,
    Bottleneck,
    Cache,
    Causal,
    Einsum,
    FeedForward,
    GroupedQuery,
    LayerNorm,
    Learned,
    MultiHead,
    MultiQuery,
    NoFeedForward,
    Post,
    RelativeBuckets,
    RMSNorm,
    Rotary,
    Sandwich,
    Tokens,
)
from qkv.probe.cost import cache_bytes, operations, parameters


def attention(**changes) -> AttentionConfig:
    return AttentionConfig(**{"heads": MultiHead(4), "kernel": Einsum(), **changes})


BASE = StackConfig(
    d_model=16,
    n_layers=3,
    embedding=EmbeddingConfig(11),
    mask=Causal(),
    block=BlockConfig(attention(), FeedForward(24)),
)
STACKS = {
    "base": BASE,
    "post": replace(BASE, block=BlockConfig(attention(bias=False), FeedForward(8, bias=False), placement=Post())),
    "grouped": replace(BASE, block=BlockConfig(attention(heads=GroupedQuery(4, 2)), FeedForward(8, "silu", True))),
    "one key": replace(BASE, block=BlockConfig(attention(heads=MultiQuery(4), out_bias=False), NoFeedForward())),
    "wide": replace(BASE, block=BlockConfig(attention(d_head=6, qk_norm=RMSNorm()), norm=RMSNorm()), position=Rotary()),
    "shared": replace(BASE, distinct_layers=1, position=Learned(9), final_norm=False),
    "factorised": replace(BASE, embedding=EmbeddingConfig(11, rank=4, segments=2, norm=LayerNorm())),
    "bottleneck": replace(BASE, block=BlockConfig(attention(), FeedForward(24), bottleneck=Bottleneck(3))),
    "sandwich": replace(BASE, block=BlockConfig(attention(), placement=Sandwich()), position=RelativeBuckets()),
}


@pytest.mark.parametrize("name", STACKS)
def test_parameters_are_those_of_the_module(name):
    assert parameters(STACKS[name]) == sum(p.numel() for p in Stack(STACKS[name]).parameters())


@pytest.mark.parametrize("name", STACKS)
def test_operations_and_bytes_are_those_of_a_run(name):
    config, cache = STACKS[name], Cache()
    stack, tokens = Stack(config).eval(), Tokens.arange(1, 7)
    ids = torch.zeros(1, 7, dtype=torch.long)
    for part, keys in ((slice(0, 5), 5), (slice(5, 7), 7)):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            stack(ids[:, part], tokens[:, part], cache=cache)
        assert counter.get_total_flops() == operations(config, part.stop - part.start, keys).total
        assert cache.bytes() == cache_bytes(config, keys)


def test_the_parts_of_a_layer_with_the_usual_ratios():
    config = StackConfig(d_model=32, n_layers=1, block=BlockConfig(attention(), FeedForward(128)))
    found = operations(config, 6 * 32)
    assert found.projections + found.feedforward == 2 * 12 * 6 * 32 * 32**2
    assert found.table == found.projections + found.feedforward
    deeper = replace(config, n_layers=2)
    assert parameters(deeper) - parameters(config) == 12 * 32**2 + 13 * 32
