"""BERT: `BertForMaskedLM`, `BertForPreTraining`, and `BertModel` alone (then without an output head of its own)."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from qkv.models import EncoderOnlyConfig, HeadConfig, bert
from qkv.nn import FeedForward, LayerNorm, Learned

from ..family import Family, Names, altered
from ..settings import THEIR_ACTIVATIONS, Settings

TABLES = {
    "encoder.embedding.token": "bert.embeddings.word_embeddings",
    "encoder.position.table": "bert.embeddings.position_embeddings",
    "encoder.embedding.segment": "bert.embeddings.token_type_embeddings",
    "encoder.embedding.norm": "bert.embeddings.LayerNorm",
}
LAYER = {
    "attention.query_key_value": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention.out": ("attention.output.dense",),
    "attention_residual.outer": ("attention.output.LayerNorm",),
    "feedforward.up": ("intermediate.dense",),
    "feedforward.down": ("output.dense",),
    "feedforward_residual.outer": ("output.LayerNorm",),
}
HEAD = {
    "head.dense": "cls.predictions.transform.dense",
    "head.norm": "cls.predictions.transform.LayerNorm",
    "head.bias": "cls.predictions.bias",
}
BODY: Names = TABLES | {
    f"encoder.blocks.{{}}.{ours}": tuple(f"bert.encoder.layer.{{}}.{part}" for part in theirs)
    for ours, theirs in LAYER.items()
}


def check_encoder(s: Settings) -> None:
    """Refuse what turns the encoder into something else."""
    s.only("position_embedding_type", "absolute")
    s.only("is_decoder", False)
    s.only("add_cross_attention", False)
    s.only("tie_word_embeddings", True)


def dropouts(s: Settings, default: float) -> dict[str, float]:
    """Our dropout rates by path."""
    hidden = s.number("hidden_dropout_prob", default)
    return {
        "stack.embedding.dropout": hidden,
        "stack.block.dropout": hidden,
        "stack.block.attention.dropout": s.number("attention_probs_dropout_prob", default),
    }


def read(s: Settings, tensors: Container[str]) -> EncoderOnlyConfig:
    """config.json and the names of the tensors -> our config."""
    check_encoder(s)
    config = bert(
        vocab_size=s.size("vocab_size"),
        d_model=s.size("hidden_size"),
        n_layers=s.size("num_hidden_layers"),
        n_heads=s.size("num_attention_heads"),
        d_ff=s.size("intermediate_size"),
        max_length=s.size("max_position_embeddings"),
        segments=s.size("type_vocab_size", 2),
        activation=s.activation("hidden_act", "gelu"),
    )
    norm = LayerNorm(s.number("layer_norm_eps", 1e-12))
    head = config.head if "cls.predictions.bias" in tensors else HeadConfig()
    changes = {"stack.block.norm": norm, "stack.embedding.norm": norm, "head": head}
    return altered(config, {**changes, **dropouts(s, default=0.1)})


def shared_settings(config: EncoderOnlyConfig) -> dict[str, Any]:
    """The entries that the families with this encoder have in common."""
    stack = config.stack
    attention, ff, position, norm = stack.block.attention, stack.block.feedforward, stack.position, stack.block.norm
    return {
        "vocab_size": stack.embedding.vocab_size,
        "hidden_size": stack.d_model,
        "num_hidden_layers": stack.n_layers,
        "num_attention_heads": attention.heads.n,
        "intermediate_size": ff.d_ff if isinstance(ff, FeedForward) else 0,
        "max_position_embeddings": position.max_length if isinstance(position, Learned) else 0,
        "type_vocab_size": stack.embedding.segments,
        "hidden_act": THEIR_ACTIVATIONS[ff.activation] if isinstance(ff, FeedForward) else "none",
        "layer_norm_eps": norm.eps if isinstance(norm, LayerNorm) else 0.0,
        "hidden_dropout_prob": stack.block.dropout,
        "attention_probs_dropout_prob": attention.dropout,
        "tie_word_embeddings": config.head.tied,
    }


def write(config: EncoderOnlyConfig) -> dict[str, Any]:
    """Our config -> the entries of config.json that it decides."""
    return {"architectures": ["BertForMaskedLM" if config.head.transform else "BertModel"], **shared_settings(config)}


def aliases(s: Settings) -> Mapping[str, tuple[str, ...]]:
    """Further names under which files hold the same tensor."""
    return {
        "bert.embeddings.word_embeddings.weight": ("cls.predictions.decoder.weight",),
        "cls.predictions.bias": ("cls.predictions.decoder.bias",),
    }


BERT = Family(
    model_type="bert",
    config=EncoderOnlyConfig,
    read=read,
    write=write,
    names=lambda config: {**BODY, **(HEAD if config.head.transform else {})},
    defaults={"pad_token_id": 0},
    prefix="bert.",
    aliases=aliases,
    renames=(("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")),
    unused=r"bert\.pooler\.|cls\.seq_relationship\.|bert\.embeddings\.position_ids$",
)
