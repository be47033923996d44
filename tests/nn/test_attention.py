"""The attention layer against torch's and against its equation: projections, scale, norms, rotation, joining."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from qkv.nn import (
    Attention,
    AttentionConfig,
    Cache,
    Causal,
    Full,
    GroupedQuery,
    MultiHead,
    RMSNorm,
    Rotary,
    Tokens,
    View,
)
from qkv.nn.positions import PositionShape
from tests.nn.grid import close

B, T, S, E, H = 2, 5, 7, 16, 4


def torch_twin(attention: Attention) -> nn.MultiheadAttention:
    twin = nn.MultiheadAttention(E, H, batch_first=True, dtype=torch.float64)
    fused = [attention.query, attention.key_value] if attention.cross else [attention.query_key_value]
    twin.in_proj_weight.data = torch.cat([part.weight.data for part in fused])
    twin.in_proj_bias.data = torch.cat([part.bias.data for part in fused])
    twin.out_proj.load_state_dict(attention.out.state_dict())
    return twin


@pytest.mark.parametrize("cross", [False, True], ids=["self", "cross"])
def test_equals_torch_in_values_and_gradients(cross):
    attention = Attention(AttentionConfig(MultiHead(H)), E, cross=cross).double()
    twin = torch_twin(attention)
    x = torch.randn(B, T, E, dtype=torch.float64, requires_grad=True)
    memory = torch.randn(B, S, E, dtype=torch.float64, requires_grad=True) if cross else x
    tokens = Tokens.from_lengths([S, 3] if cross else [T, 3], S if cross else T)
    got = attention(x, View(Full(), Tokens.arange(B, T), tokens), memory=memory if cross else None)
    expected, _ = twin(x, memory, memory, key_padding_mask=~tokens.valid)
    close(got, expected)
    upstream = torch.randn_like(got)
    for a, b in zip(torch.autograd.grad(got, (x, memory), upstream),
                    torch.autograd.grad(expected, (x, memory), upstream), strict=True):  # fmt: skip
        close(a, b)


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("bias", [True, False])
def test_is_its_equation_with_grouped_heads_norms_and_rotation(scale, bias):
    """concat_h(softmax(s·R(norm q_h)·R(norm k_g)) v_g) W_O: the norm first, the rotation after it."""
    config = AttentionConfig(GroupedQuery(H, 2), d_head=6, scale=scale, qk_norm=RMSNorm(), bias=bias, out_bias=bias)
    rotary = Rotary().build(PositionShape(E, H, 6))
    attention = Attention(config, E, rotary).double()
    nn.init.uniform_(attention.query_norm.weight, 0.5, 2), nn.init.uniform_(attention.key_norm.weight, 0.5, 2)
    x, tokens = torch.randn(B, T, E, dtype=torch.float64), Tokens.arange(B, T, start=2)
    rows = attention.query_key_value(x).split(6, dim=-1)
    turned = [rotary.rotate(attention.query_norm(rows[h])[:, None], tokens)[:, 0] for h in range(H)]
    keys = [rotary.rotate(attention.key_norm(rows[H + g])[:, None], tokens)[:, 0] for g in range(2)]
    hidden = torch.ones(T, T, dtype=torch.bool).triu(1)
    joined = []
    for h in range(H):
        scores = (6**-0.5 if scale is None else scale) * turned[h] @ keys[h // 2].transpose(1, 2)
        joined.append(scores.masked_fill(hidden, float("-inf")).softmax(-1) @ rows[H + 2 + h // 2])
    close(attention(x, View(Causal(), tokens, tokens)), attention.out(torch.cat(joined, -1)))
    assert (attention.query_key_value.bias is None) == (attention.out.bias is None) == (not bias)


def test_norms_of_queries_and_keys_in_cross_attention():
    attention = Attention(AttentionConfig(MultiHead(H), qk_norm=RMSNorm()), E, cross=True).double()
    x, memory = torch.randn(B, T, E, dtype=torch.float64), torch.randn(B, S, E, dtype=torch.float64)
    view = View(Full(), Tokens.arange(B, T), Tokens.arange(B, S))
    got = attention(x, view, memory=memory)
    q = attention.query_norm(attention.split(attention.query(x)))
    k, v = attention.split(attention.key_value(memory)).chunk(2, 1)
    weights = (q @ attention.key_norm(k).transpose(2, 3) / 2).softmax(-1)
    close(got, attention.out((weights @ v).transpose(1, 2).reshape(B, T, E)))


def test_cross_keys_are_projected_once_with_a_cache():
    attention = Attention(AttentionConfig(MultiHead(H)), E, cross=True)
    calls = []
    attention.key_value.register_forward_hook(lambda *_: calls.append(1))
    x, memory, cache = torch.randn(B, T, E), torch.randn(B, S, E), Cache()
    view = View(Full(), Tokens.arange(B, T), Tokens.arange(B, S))
    outs = [attention(x, view, memory=memory, cache=cache) for _ in range(3)]
    assert len(calls) == 1 and outs[0].equal(outs[2])
