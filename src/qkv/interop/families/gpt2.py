"""GPT-2: `GPT2LMHeadModel`, and the published files, which leave the prefix of their names out."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from qkv.models import DecoderOnlyConfig, gpt2
from qkv.nn import FeedForward, LayerNorm, Learned

from ..family import TRANSPOSED, Family, Names, altered
from ..settings import THEIR_ACTIVATIONS, Settings

NAMES: Names = {
    "decoder.embedding.token": "transformer.wte",
    "decoder.position.table": "transformer.wpe",
    "decoder.blocks.{}.attention_residual.inner": "transformer.h.{}.ln_1",
    "decoder.blocks.{}.attention.query_key_value": "transformer.h.{}.attn.c_attn",
    "decoder.blocks.{}.attention.out": "transformer.h.{}.attn.c_proj",
    "decoder.blocks.{}.feedforward_residual.inner": "transformer.h.{}.ln_2",
    "decoder.blocks.{}.feedforward.up": "transformer.h.{}.mlp.c_fc",
    "decoder.blocks.{}.feedforward.down": "transformer.h.{}.mlp.c_proj",
    "decoder.norm": "transformer.ln_f",
    "head.weight": "lm_head.weight",
}
MATRICES = ("attention.query_key_value", "attention.out", "feedforward.up", "feedforward.down")


def read(s: Settings, tensors: Container[str]) -> DecoderOnlyConfig:
    """config.json and the names of the tensors -> our config."""
    s.only("scale_attn_by_inverse_layer_idx", False)
    s.only("add_cross_attention", False)
    d_model = s.size("n_embd")
    config = gpt2(
        vocab_size=s.size("vocab_size"),
        d_model=d_model,
        n_layers=s.size("n_layer"),
        n_heads=s.size("n_head"),
        d_ff=s.size("n_inner", 4 * d_model),
        max_length=s.size("n_positions"),
    )
    norm = LayerNorm(s.number("layer_norm_epsilon", 1e-5))
    return altered(
        config,
        {
            "stack.embedding.dropout": s.number("embd_pdrop", 0.1),
            "stack.block.dropout": s.number("resid_pdrop", 0.1),
            "stack.block.attention.dropout": s.number("attn_pdrop", 0.1),
            "stack.block.attention.scale": None if s.flag("scale_attn_weights", True) else 1.0,
            "stack.block.feedforward.activation": s.activation("activation_function", "gelu_new"),
            "stack.block.norm": norm,
            "head.tied": s.flag("tie_word_embeddings", True) and "lm_head.weight" not in tensors,
        },
    )


def write(config: DecoderOnlyConfig) -> dict[str, Any]:
    """Our config -> the entries of config.json that it decides."""
    stack = config.stack
    attention, ff, position, norm = stack.block.attention, stack.block.feedforward, stack.position, stack.block.norm
    return {
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": stack.embedding.vocab_size,
        "n_embd": stack.d_model,
        "n_layer": stack.n_layers,
        "n_head": attention.heads.n,
        "n_inner": ff.d_ff if isinstance(ff, FeedForward) else 0,
        "n_positions": position.max_length if isinstance(position, Learned) else 0,
        "activation_function": THEIR_ACTIVATIONS[ff.activation] if isinstance(ff, FeedForward) else "none",
        "layer_norm_epsilon": norm.eps if isinstance(norm, LayerNorm) else 0.0,
        "scale_attn_weights": attention.scale != 1.0,
        "embd_pdrop": stack.embedding.dropout,
        "resid_pdrop": stack.block.dropout,
        "attn_pdrop": attention.dropout,
        "tie_word_embeddings": config.head.tied,
    }


def aliases(s: Settings) -> Mapping[str, tuple[str, ...]]:
    """Further names under which files hold the same tensor."""
    return {"transformer.wte.weight": ("lm_head.weight",)} if s.flag("tie_word_embeddings", True) else {}


GPT2 = Family(
    model_type="gpt2",
    config=DecoderOnlyConfig,
    read=read,
    write=write,
    names=lambda config: NAMES,
    defaults={"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
    prefix="transformer.",
    aliases=aliases,
    unused=r"transformer\.h\.\d+\.attn\.(masked_)?bias$",  # the causal mask, once stored as a tensor
    # Their projections are x W + b with W [in, out].
    layouts={f"decoder.blocks.{{}}.{matrix}.weight": TRANSPOSED for matrix in MATRICES},
)
