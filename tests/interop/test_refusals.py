"""Folders that cannot be loaded: each gets one sentence that names the thing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from qkv.errors import UserError
from qkv.interop import from_state_dict, load_folder, save_folder
from qkv.models import build, gpt2
from tests.models.parity_kit import hf_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_folder(build(gpt2(31, 24, 2, 4, 40, max_length=16)), tmp_path / "model")


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def only_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cposix\nsystem\n")


def shards(folder: Path, **places: str) -> None:
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


SPOILT: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (lambda f: f.rename(f.parent / "elsewhere"), "cannot read .*config.json: No such file"),
    "no config": (lambda f: (f / "config.json").unlink(), "cannot read .*config.json"),
    "config no JSON": (lambda f: (f / "config.json").write_text("{"), "is no JSON"),
    "config a list": (lambda f: (f / "config.json").write_text("[]"), "holds no JSON object"),
    "another family": (lambda f: change_config(f, model_type="mamba"), "'mamba', but .* bert, albert, gpt2, t5, mar"),
    "no family": (lambda f: change_config(f, model_type=None), "model_type is None"),
    "no size": (lambda f: change_config(f, n_embd=None), "n_embd is missing"),
    "size a string": (lambda f: change_config(f, n_layer="2"), "n_layer is '2', expected a positive integer"),
    "size true": (lambda f: change_config(f, n_layer=True), "n_layer is True"),
    "number a list": (lambda f: change_config(f, layer_norm_epsilon=[1]), r"layer_norm_epsilon is \[1\]"),
    "flag a string": (lambda f: change_config(f, tie_word_embeddings="no"), "expected true or false"),
    "heads": (lambda f: change_config(f, n_head=5), "does not divide into 5 heads"),
    "activation": (lambda f: change_config(f, activation_function="mish"), "'mish', which qkv does not implement"),
    "option": (lambda f: change_config(f, scale_attn_by_inverse_layer_idx=True), "scale_attn_by_inverse_layer_idx"),
    "pickle": (only_pickle, "pytorch_model.bin, a pickle"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
    "cut short": (lambda f: (f / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{"), "is damaged"),
    "tensor missing": (
        lambda f: change_tensors(f, lambda t: t.pop("transformer.h.1.mlp.c_fc.weight")),
        "lacks transformer.h.1.mlp.c_fc.weight",
    ),
    "layers missing": (lambda f: change_config(f, n_layer=3), "lacks transformer.h.2.attn.c_attn.weight and 11 more"),
    "layers left over": (lambda f: change_config(f, n_layer=1), "has no place"),
    "tensor added": (
        lambda f: change_tensors(f, lambda t: t.update({"score.weight": torch.zeros(2)})), "holds score.weight, for"
    ),
    "wrong shape": (
        lambda f: change_config(f, vocab_size=30), r"wte.weight has shape \[31, 24\], but .* makes it \[30, 24\]"
    ),
    "wrong inner shape": (lambda f: change_config(f, n_inner=48), r"mlp.c_fc.weight has shape \[24, 40\]"),
    "untied without matrix": (lambda f: change_config(f, tie_word_embeddings=False), "lacks lm_head.weight"),
    "shard missing": (lambda f: shards(f, a="model-2.safetensors"), "names model-2.safetensors, which is not there"),
    "shard outside": (lambda f: shards(f, a="../model-1.safetensors"), "has no weight_map of file names"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILT)
def test_spoilt_folders(case: str, folder: Path) -> None:
    spoil, says = SPOILT[case]
    spoil(folder)
    with pytest.raises(UserError, match=says) as caught:
        load_folder(folder)
    assert "\n" not in str(caught.value)


OPTIONS = [
    ("bert", {"position_embedding_type": "relative_key"}),
    ("bert", {"is_decoder": True}),
    ("bert", {"tie_word_embeddings": False}),
    ("albert", {"inner_group_num": 2}),
    ("gpt2", {"add_cross_attention": True}),
    ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}),
    ("llama", {"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "rope_theta": 5e5}}),
    ("llama", {"hidden_act": "gelu_10"}),
    ("t5", {"feed_forward_proj": "gated-mish"}),
    ("marian", {"normalize_before": True}),
    ("marian", {"static_position_embeddings": False}),
]


@pytest.mark.parametrize(("case", "option"), OPTIONS, ids=lambda value: str(value)[:30])
def test_options_that_change_the_sums(case: str, option: dict[str, Any]) -> None:
    """What we do not implement is refused by name, never ignored."""
    hf = hf_model(case)
    ((key, value),) = option.items()
    named = value.get("type", value.get("rope_type")) if isinstance(value, dict) else value
    with pytest.raises(UserError, match=f"{key}.* is {named!r}"):
        from_state_dict({**hf.config.to_dict(), **option}, hf.state_dict())


def test_old_spellings_and_leftovers_are_understood() -> None:
    """gamma and beta, names without prefix, stored causal masks, older rope entries: as published files have them."""
    bert = hf_model("bert")
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
           for name, tensor in bert.state_dict().items()}  # fmt: skip
    extra = {"bert.pooler.dense.weight": torch.zeros(24, 24), "cls.seq_relationship.bias": torch.zeros(2)}
    found = from_state_dict(bert.config.to_dict(), old | extra)
    assert torch.equal(found.head.norm.weight, bert.cls.predictions.transform.LayerNorm.weight)
    gpt = hf_model("gpt2")
    bare = {name.removeprefix("transformer."): t for name, t in gpt.state_dict().items() if name != "lm_head.weight"}
    bare["h.0.attn.bias"] = torch.ones(1, 1, 16, 16)
    found = from_state_dict(gpt.config.to_dict(), bare)
    assert torch.equal(found.decoder.embedding.token.weight, gpt.transformer.wte.weight)
    llama = hf_model("llama")
    settings = {k: v for k, v in llama.config.to_dict().items() if k != "rope_parameters"}
    frequencies = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2)}
    found = from_state_dict({**settings, "rope_theta": 77.0, "rope_scaling": None}, llama.state_dict() | frequencies)
    assert found.config.stack.position.theta == 77.0


def test_half_precision_is_read_as_asked(folder: Path) -> None:
    change_tensors(folder, lambda tensors: tensors.update({k: v.bfloat16() for k, v in tensors.items()}))
    assert {p.dtype for p in load_folder(folder)[0].parameters()} == {torch.float32}
    assert {p.dtype for p in load_folder(folder, dtype=None)[0].parameters()} == {torch.bfloat16}
