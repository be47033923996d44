"""Marian: `MarianMTModel`, with one table for both languages or one each."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from qkv.models import EncoderDecoderConfig, marian
from qkv.nn import FeedForward, MultiHead

from ..family import ROW, Family, Names, altered
from ..settings import THEIR_ACTIVATIONS, Settings


def _stack(side: str) -> dict[str, str | tuple[str, ...]]:
    layer, block = f"model.{side}.layers.{{}}", f"{side}.blocks.{{}}"
    return {
        f"{block}.attention.query_key_value": tuple(f"{layer}.self_attn.{part}_proj" for part in "qkv"),
        f"{block}.attention.out": f"{layer}.self_attn.out_proj",
        f"{block}.attention_residual.outer": f"{layer}.self_attn_layer_norm",
        f"{block}.feedforward.up": f"{layer}.fc1",
        f"{block}.feedforward.down": f"{layer}.fc2",
        f"{block}.feedforward_residual.outer": f"{layer}.final_layer_norm",
    }


def names(config: EncoderDecoderConfig) -> Names:
    """Our modules -> theirs."""
    layer, shared = "model.decoder.layers.{}", config.shared_embedding
    return {
        **_stack("encoder"),
        **_stack("decoder"),
        "encoder.embedding.token": "model.shared" if shared else "model.encoder.embed_tokens",
        "decoder.embedding.token": "model.shared" if shared else "model.decoder.embed_tokens",
        "decoder.blocks.{}.cross.query": f"{layer}.encoder_attn.q_proj",
        "decoder.blocks.{}.cross.key_value": (f"{layer}.encoder_attn.k_proj", f"{layer}.encoder_attn.v_proj"),
        "decoder.blocks.{}.cross.out": f"{layer}.encoder_attn.out_proj",
        "decoder.blocks.{}.cross_residual.outer": f"{layer}.encoder_attn_layer_norm",
        "head.weight": "lm_head.weight",
        "head.bias": "final_logits_bias",
    }


def _side(s: Settings, side: str) -> dict[str, Any]:
    """What config.json says about one of the two stacks, by path."""
    scale, dropout = s.flag("scale_embedding", False), s.number("dropout", 0.1)
    ff = FeedForward(
        s.size(f"{side}_ffn_dim"),
        s.activation("activation_function", "gelu"),
        dropout=s.number("activation_dropout", 0.0),
    )
    return {
        f"{side}.n_layers": s.size(f"{side}_layers"),
        f"{side}.block.attention.heads": MultiHead(s.size(f"{side}_attention_heads")),
        f"{side}.block.attention.dropout": s.number("attention_dropout", 0.0),
        f"{side}.block.feedforward": ff,
        f"{side}.embedding.scaled": scale,
        f"{side}.embedding.dropout": dropout,
        f"{side}.block.dropout": dropout,
    }


def read(s: Settings, tensors: Container[str]) -> EncoderDecoderConfig:
    """config.json and the names of the tensors -> our config."""
    for key in ("normalize_before", "normalize_embedding", "add_final_layer_norm"):
        s.only(key, False)
    s.only("static_position_embeddings", True)
    vocab_size, shared = s.size("vocab_size"), s.flag("share_encoder_decoder_embeddings", True)
    config = marian(vocab_size=vocab_size, d_model=s.size("d_model"), n_heads=1)
    target = vocab_size if shared else s.size("decoder_vocab_size", vocab_size)
    changes = {"shared_embedding": shared, "decoder.embedding.vocab_size": target}
    changes["head.tied"] = s.flag("tie_word_embeddings", True) and "lm_head.weight" not in tensors
    return altered(config, {**changes, **_side(s, "encoder"), **_side(s, "decoder")})


def write(config: EncoderDecoderConfig) -> dict[str, Any]:
    """Our config -> the entries of config.json that it decides."""
    written: dict[str, Any] = {
        "architectures": ["MarianMTModel"],
        "is_encoder_decoder": True,
        "vocab_size": config.encoder.embedding.vocab_size,
        "decoder_vocab_size": config.decoder.embedding.vocab_size,
        "d_model": config.encoder.d_model,
        "share_encoder_decoder_embeddings": config.shared_embedding,
        "scale_embedding": config.encoder.embedding.scaled,
        "dropout": config.encoder.block.dropout,
        "attention_dropout": config.encoder.block.attention.dropout,
        "static_position_embeddings": True,
        "tie_word_embeddings": config.head.tied,
    }
    for side, stack in (("encoder", config.encoder), ("decoder", config.decoder)):
        ff = stack.block.feedforward
        written[f"{side}_layers"] = stack.n_layers
        written[f"{side}_attention_heads"] = stack.block.attention.heads.n
        written[f"{side}_ffn_dim"] = ff.d_ff if isinstance(ff, FeedForward) else 0
        written["activation_function"] = THEIR_ACTIVATIONS[ff.activation] if isinstance(ff, FeedForward) else "none"
        written["activation_dropout"] = ff.dropout if isinstance(ff, FeedForward) else 0.0
    return written


def aliases(s: Settings) -> Mapping[str, tuple[str, ...]]:
    """Further names under which files hold the same tensor."""
    tables = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight")
    head = ("lm_head.weight",) if s.flag("tie_word_embeddings", True) else ()
    if s.flag("share_encoder_decoder_embeddings", True):
        return {"model.shared.weight": (*tables, *head)}
    return {tables[1]: head}


MARIAN = Family(
    model_type="marian",
    config=EncoderDecoderConfig,
    read=read,
    write=write,
    names=names,
    defaults={
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "decoder_start_token_id": 1,
        "forced_eos_token_id": None,
        "max_position_embeddings": 1024,
    },
    prefix="model.",
    aliases=aliases,
    unused=r"model\.(en|de)coder\.embed_positions\.weight$",  # sinusoids, computed here
    layouts={"head.bias": ROW},
)
