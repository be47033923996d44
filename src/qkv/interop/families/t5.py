"""T5: `T5ForConditionalGeneration`, version 1.0 (ReLU, tied, output scaled) and 1.1 (gated, not tied, not scaled)."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from qkv.errors import UserError
from qkv.models import EncoderDecoderConfig, t5
from qkv.nn import FeedForward, RelativeBuckets, RMSNorm
from qkv.nn.feedforward import Activation

from ..family import Family, Names, altered
from ..settings import ACTIVATIONS, THEIR_ACTIVATIONS, Settings


def _attention(side: str, sublayer: int, kind: str) -> tuple[str, str, str, str]:
    q, k, v, o = (f"{side}.block.{{}}.layer.{sublayer}.{kind}.{part}" for part in "qkvo")
    return q, k, v, o


def _stack(side: str, feedforward: int, gated: bool) -> dict[str, str | tuple[str, ...]]:
    """The names of one stack; `feedforward` is the index of that sublayer."""
    q, k, v, o = _attention(side, 0, "SelfAttention")
    layer, block = f"{side}.block.{{}}.layer", f"{side}.blocks.{{}}"
    ff = f"{layer}.{feedforward}.DenseReluDense"
    return {
        f"{side}.embedding.token": "shared",
        f"{side}.position.table": f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias",
        f"{block}.attention_residual.inner": f"{layer}.0.layer_norm",
        f"{block}.attention.query_key_value": (q, k, v),
        f"{block}.attention.out": o,
        f"{block}.feedforward_residual.inner": f"{layer}.{feedforward}.layer_norm",
        f"{block}.feedforward.up": (f"{ff}.wi_0", f"{ff}.wi_1") if gated else f"{ff}.wi",
        f"{block}.feedforward.down": f"{ff}.wo",
        f"{side}.norm": f"{side}.final_layer_norm",
    }


def names(config: EncoderDecoderConfig) -> Names:
    """Our modules -> theirs."""
    ff = config.decoder.block.feedforward
    gated = isinstance(ff, FeedForward) and ff.gated
    q, k, v, o = _attention("decoder", 1, "EncDecAttention")
    return {
        **_stack("encoder", 1, gated),
        **_stack("decoder", 2, gated),
        "decoder.blocks.{}.cross_residual.inner": "decoder.block.{}.layer.1.layer_norm",
        "decoder.blocks.{}.cross.query": q,
        "decoder.blocks.{}.cross.key_value": (k, v),
        "decoder.blocks.{}.cross.out": o,
        "head.weight": "lm_head.weight",
    }


def _activation(s: Settings) -> tuple[Activation, bool]:
    """(activation, whether it gates); `gated-gelu` has always meant the tanh form."""
    name = str(s.get("feed_forward_proj", "relu"))
    kind = "gelu_new" if name == "gated-gelu" else name.removeprefix("gated-")
    if kind not in ACTIVATIONS:
        raise UserError(
            f"{s.where}: feed_forward_proj is {name!r}, which qkv does not implement "
            f"(only {', '.join(ACTIVATIONS)}, alone or after 'gated-'); choose another checkpoint"
        )
    return ACTIVATIONS[kind], name.startswith("gated-")


def read(s: Settings, tensors: Container[str]) -> EncoderDecoderConfig:
    """config.json and the names of the tensors -> our config."""
    d_model, n_layers = s.size("d_model"), s.size("num_layers")
    activation, gated = _activation(s)
    config = t5(
        vocab_size=s.size("vocab_size"),
        d_model=d_model,
        n_layers=n_layers,
        n_heads=s.size("num_heads"),
        d_head=s.size("d_kv", 64),
        d_ff=s.size("d_ff"),
        gated=gated,
        dropout=s.number("dropout_rate", 0.1),
    )
    buckets = s.size("relative_attention_num_buckets", 32), s.size("relative_attention_max_distance", 128)
    changes: dict[str, Any] = {"decoder.n_layers": s.size("num_decoder_layers", n_layers)}
    for side in ("encoder", "decoder"):
        changes[f"{side}.position"] = RelativeBuckets(*buckets, bidirectional=side == "encoder")
        changes[f"{side}.block.norm"] = RMSNorm(s.number("layer_norm_epsilon", 1e-6))
        changes[f"{side}.block.feedforward.activation"] = activation
    # Version 1.1 says "not tied" to mean two things; newer files tell the scale apart, and the tensors tell the matrix.
    scaled = s.flag("scale_decoder_outputs", s.flag("tie_word_embeddings", True))
    changes["head.scale"] = d_model**-0.5 if scaled else None
    changes["head.tied"] = "lm_head.weight" not in tensors
    return altered(config, changes)


def write(config: EncoderDecoderConfig) -> dict[str, Any]:
    """Our config -> the entries of config.json that it decides."""
    encoder = config.encoder
    attention, ff, position, norm = (
        encoder.block.attention, encoder.block.feedforward, encoder.position, encoder.block.norm
    )  # fmt: skip
    activation, gated = (ff.activation, ff.gated) if isinstance(ff, FeedForward) else ("relu", False)
    theirs = THEIR_ACTIVATIONS[activation]
    gate = "gated-gelu" if activation == "gelu_tanh" else f"gated-{theirs}"
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "is_encoder_decoder": True,
        "vocab_size": encoder.embedding.vocab_size,
        "d_model": encoder.d_model,
        "num_layers": encoder.n_layers,
        "num_decoder_layers": config.decoder.n_layers,
        "num_heads": attention.heads.n,
        "d_kv": attention.width(encoder.d_model),
        "d_ff": ff.d_ff if isinstance(ff, FeedForward) else 0,
        "feed_forward_proj": gate if gated else theirs,
        "relative_attention_num_buckets": position.n_buckets if isinstance(position, RelativeBuckets) else 0,
        "relative_attention_max_distance": position.max_distance if isinstance(position, RelativeBuckets) else 0,
        "layer_norm_epsilon": norm.eps if isinstance(norm, RMSNorm) else 0.0,
        "dropout_rate": encoder.block.dropout,
        "tie_word_embeddings": config.head.tied,
        "scale_decoder_outputs": config.head.scale is not None,
    }


def aliases(s: Settings) -> Mapping[str, tuple[str, ...]]:
    """Further names under which files hold the same tensor."""
    return {"shared.weight": ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")}


T5 = Family(
    model_type="t5",
    config=EncoderDecoderConfig,
    read=read,
    write=write,
    names=names,
    defaults={"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "decoder_start_token_id": 1},
    aliases=aliases,
    unused=r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight$",  # made, never used
)
