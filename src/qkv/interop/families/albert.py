"""ALBERT: `AlbertForMaskedLM`, `AlbertForPreTraining`, and `AlbertModel` alone."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from qkv.models import EncoderOnlyConfig, HeadConfig, albert
from qkv.nn import LayerNorm

from ..family import Family, Names, altered
from ..settings import Settings
from .bert import check_encoder, dropouts, shared_settings

GROUP = "albert.encoder.albert_layer_groups.{}.albert_layers.0"
BODY: Names = {
    "encoder.embedding.token": "albert.embeddings.word_embeddings",
    "encoder.position.table": "albert.embeddings.position_embeddings",
    "encoder.embedding.segment": "albert.embeddings.token_type_embeddings",
    "encoder.embedding.norm": "albert.embeddings.LayerNorm",
    "encoder.embedding.widen": "albert.encoder.embedding_hidden_mapping_in",
    "encoder.blocks.{}.attention.query_key_value": (
        f"{GROUP}.attention.query",
        f"{GROUP}.attention.key",
        f"{GROUP}.attention.value",
    ),
    "encoder.blocks.{}.attention.out": f"{GROUP}.attention.dense",
    "encoder.blocks.{}.attention_residual.outer": f"{GROUP}.attention.LayerNorm",
    "encoder.blocks.{}.feedforward.up": f"{GROUP}.ffn",
    "encoder.blocks.{}.feedforward.down": f"{GROUP}.ffn_output",
    "encoder.blocks.{}.feedforward_residual.outer": f"{GROUP}.full_layer_layer_norm",
}
HEAD: Names = {
    "head.dense": "predictions.dense",
    "head.norm": "predictions.LayerNorm",
    "head.bias": "predictions.bias",
}


def read(s: Settings, tensors: Container[str]) -> EncoderOnlyConfig:
    """config.json and the names of the tensors -> our config."""
    check_encoder(s)
    s.only("inner_group_num", 1)
    config = albert(
        vocab_size=s.size("vocab_size"),
        d_model=s.size("hidden_size"),
        n_layers=s.size("num_hidden_layers"),
        n_heads=s.size("num_attention_heads"),
        d_ff=s.size("intermediate_size"),
        rank=s.size("embedding_size", 128),
        max_length=s.size("max_position_embeddings"),
    )
    norm, activation = LayerNorm(s.number("layer_norm_eps", 1e-12)), s.activation("hidden_act", "gelu_new")
    # Without an output head there is only the matrix that leads back to the table's width: fresh, and named as such.
    head = HeadConfig(bias=True, transform=activation) if "predictions.bias" in tensors else HeadConfig()
    return altered(
        config,
        {
            "stack.distinct_layers": s.size("num_hidden_groups", 1),
            "stack.embedding.segments": s.size("type_vocab_size", 2),
            "stack.embedding.norm": norm,
            "stack.block.norm": norm,
            "stack.block.feedforward.activation": activation,
            "head": head,
            **dropouts(s, default=0.0),
        },
    )


def write(config: EncoderOnlyConfig) -> dict[str, Any]:
    """Our config -> the entries of config.json that it decides."""
    stack = config.stack
    return {
        "architectures": ["AlbertForMaskedLM" if config.head.transform else "AlbertModel"],
        **shared_settings(config),
        "embedding_size": stack.embedding.rank or stack.d_model,
        "num_hidden_groups": stack.distinct_layers or stack.n_layers,
        "inner_group_num": 1,
    }


def aliases(s: Settings) -> Mapping[str, tuple[str, ...]]:
    """Further names under which files hold the same tensor."""
    return {
        "albert.embeddings.word_embeddings.weight": ("predictions.decoder.weight",),
        "predictions.bias": ("predictions.decoder.bias",),
    }


ALBERT = Family(
    model_type="albert",
    config=EncoderOnlyConfig,
    read=read,
    write=write,
    names=lambda config: {**BODY, **(HEAD if config.head.transform else {})},
    defaults={"pad_token_id": 0},
    prefix="albert.",
    aliases=aliases,
    unused=r"albert\.pooler\.|sop_classifier\.|albert\.embeddings\.position_ids$",
)
