"""Llama: `LlamaForCausalLM` with plain rotary positions."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from qkv.models import DecoderOnlyConfig, llama
from qkv.nn import FeedForward, RMSNorm, Rotary

from ..family import Family, Names, altered
from ..settings import THEIR_ACTIVATIONS, Settings

LAYER = "model.layers.{}"
NAMES: Names = {
    "decoder.embedding.token": "model.embed_tokens",
    "decoder.blocks.{}.attention_residual.inner": f"{LAYER}.input_layernorm",
    "decoder.blocks.{}.attention.query_key_value": (
        f"{LAYER}.self_attn.q_proj",
        f"{LAYER}.self_attn.k_proj",
        f"{LAYER}.self_attn.v_proj",
    ),
    "decoder.blocks.{}.attention.out": f"{LAYER}.self_attn.o_proj",
    "decoder.blocks.{}.feedforward_residual.inner": f"{LAYER}.post_attention_layernorm",
    "decoder.blocks.{}.feedforward.up": (f"{LAYER}.mlp.gate_proj", f"{LAYER}.mlp.up_proj"),
    "decoder.blocks.{}.feedforward.down": f"{LAYER}.mlp.down_proj",
    "decoder.norm": "model.norm",
    "head.weight": "lm_head.weight",
}


def rotary_theta(s: Settings) -> float:
    """The base of the rotation, from the newer `rope_parameters` or the older `rope_theta` and `rope_scaling`."""
    theta = s.number("rope_theta", 10000.0)
    for key in ("rope_scaling", "rope_parameters"):
        rope = Settings(s.get(key, {}), f"{s.where}: {key}")
        rope.only("rope_type", "default")
        rope.only("type", "default")
        rope.only("partial_rotary_factor", 1.0)
        theta = rope.number("rope_theta", theta)
    return theta


def read(s: Settings, tensors: Container[str]) -> DecoderOnlyConfig:
    """config.json and the names of the tensors -> our config."""
    n_heads, d_model = s.size("num_attention_heads"), s.size("hidden_size")
    bias = s.flag("attention_bias", False)
    config = llama(
        vocab_size=s.size("vocab_size"),
        d_model=d_model,
        n_layers=s.size("num_hidden_layers"),
        n_heads=n_heads,
        n_groups=s.size("num_key_value_heads", n_heads),
        d_ff=s.size("intermediate_size"),
        theta=rotary_theta(s),
        eps=s.number("rms_norm_eps", 1e-6),
        tied=s.flag("tie_word_embeddings", False) and "lm_head.weight" not in tensors,
    )
    return altered(
        config,
        {
            "stack.block.attention.d_head": s.size("head_dim", d_model // n_heads),
            "stack.block.attention.bias": bias,
            "stack.block.attention.out_bias": bias,
            "stack.block.attention.dropout": s.number("attention_dropout", 0.0),
            "stack.block.feedforward.bias": s.flag("mlp_bias", False),
            "stack.block.feedforward.activation": s.activation("hidden_act", "silu"),
        },
    )


def write(config: DecoderOnlyConfig) -> dict[str, Any]:
    """Our config -> the entries of config.json that it decides."""
    stack = config.stack
    attention, ff, position, norm = stack.block.attention, stack.block.feedforward, stack.position, stack.block.norm
    theta = position.theta if isinstance(position, Rotary) else 0.0
    return {
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": stack.embedding.vocab_size,
        "hidden_size": stack.d_model,
        "num_hidden_layers": stack.n_layers,
        "num_attention_heads": attention.heads.n,
        "num_key_value_heads": attention.heads.groups,
        "head_dim": attention.width(stack.d_model),
        "intermediate_size": ff.d_ff if isinstance(ff, FeedForward) else 0,
        "hidden_act": THEIR_ACTIVATIONS[ff.activation] if isinstance(ff, FeedForward) else "none",
        "mlp_bias": ff.bias if isinstance(ff, FeedForward) else False,
        "attention_bias": attention.bias,
        "attention_dropout": attention.dropout,
        "rms_norm_eps": norm.eps if isinstance(norm, RMSNorm) else 0.0,
        "rope_theta": theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "tie_word_embeddings": config.head.tied,
    }


def aliases(s: Settings) -> Mapping[str, tuple[str, ...]]:
    """Further names under which files hold the same tensor."""
    return {"model.embed_tokens.weight": ("lm_head.weight",)} if s.flag("tie_word_embeddings", False) else {}


LLAMA = Family(
    model_type="llama",
    config=DecoderOnlyConfig,
    read=read,
    write=write,
    names=lambda config: NAMES,
    defaults={"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "max_position_embeddings": 2048},
    prefix="model.",
    aliases=aliases,
    unused=r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq$",
)
