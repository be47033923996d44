"""Folders: ours to theirs with equal logits, theirs to ours and back with equal bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from qkv import models
from qkv.errors import UserError
from qkv.interop import load_folder, save_folder, to_state_dict, tokens_from_mask
from qkv.interop.family import altered
from qkv.models import build
from qkv.nn import GroupedQuery, MultiHead, MultiQuery, Sandwich
from tests.models.parity_kit import CASES, assert_close, hf_logits, hf_model, our_logits, padded, scatter, transformers

SIZES: dict[str, Any] = {"vocab_size": 31, "d_model": 24, "n_layers": 2, "n_heads": 4, "d_ff": 40}
OURS = {
    "bert": models.bert(**SIZES, max_length=16, segments=3),
    "albert": altered(models.albert(**SIZES, max_length=16, rank=8), {"stack.embedding.segments": 3}),
    "gpt2": models.gpt2(**SIZES, max_length=16),
    "llama": models.llama(**SIZES, n_groups=2),
    "t5": models.t5(**SIZES, d_head=8),
    "t5-v1.1": models.t5(**SIZES, gated=True),
    "marian": models.marian(**SIZES),
}


def strictly_loaded(path: Path, architecture: str, **options: Any) -> Any:
    """What transformers makes of a folder, with nothing missing, left over or of another shape."""
    cls = getattr(transformers, architecture)
    options |= {"output_loading_info": True, "dtype": "auto", "attn_implementation": "eager"}
    hf, report = cls.from_pretrained(path, **options)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    return hf.eval()


@pytest.mark.parametrize("case", OURS)
def test_ours_in_transformers(case: str, tmp_path: Path) -> None:
    model = build(OURS[case]).eval()
    scatter(model)
    save_folder(model, tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    assert settings["model_type"] == case.removesuffix("-v1.1")
    hf = strictly_loaded(tmp_path, settings["architectures"][0])
    if case == "albert":
        assert len(hf.albert.encoder.albert_layer_groups) == 1
    with torch.inference_mode():
        assert_close(hf_logits(hf, case)[0], our_logits(model, case), 1e-5)


@pytest.mark.parametrize("case", CASES)
def test_theirs_and_back(case: str, tmp_path: Path) -> None:
    hf = hf_model(case)
    hf.save_pretrained(tmp_path / "theirs", max_shard_size="6KB" if case in ("gpt2", "marian") else "5GB")
    sharded = list((tmp_path / "theirs").glob("model-*.safetensors"))
    assert len(sharded) > 1 if case in ("gpt2", "marian") else not sharded
    model, folder = load_folder(tmp_path / "theirs")
    with torch.inference_mode():
        assert_close(our_logits(model, case), hf_logits(hf, case)[0], 1e-5)
    assert not folder.fresh and not folder.unused
    save_folder(model, tmp_path / "back", settings=folder.settings)
    back, before = load_file(tmp_path / "back" / "model.safetensors"), hf.state_dict()
    assert set(back) <= set(before)
    for name, tensor in back.items():
        assert torch.equal(tensor, before[name]), name
    hf_again = strictly_loaded(tmp_path / "back", type(hf).__name__)
    after = hf_again.state_dict()
    assert set(after) == set(before)
    for name, tensor in before.items():  # tied ones and sinusoids too
        assert torch.equal(after[name], tensor), name
    kept = hf.config.to_dict()
    changed = {key for key, value in hf_again.config.to_dict().items() if kept.get(key) != value}
    assert changed <= {"dtype", "transformers_version", "_name_or_path", "architectures", "rope_theta", "head_dim",
                       "n_inner", "static_position_embeddings", "tie_word_embeddings",
                           "activation_function"}, changed  # fmt: skip
    with torch.inference_mode():
        assert torch.equal(hf_logits(hf_again, case)[0], hf_logits(hf, case)[0])


@pytest.mark.parametrize("case", ["bert", "albert"])
def test_encoder_without_an_output_head(case: str, tmp_path: Path) -> None:
    whole = hf_model(case)
    hf = getattr(transformers, f"{case.title()}Model")(whole.config).eval()
    scatter(hf)
    hf.save_pretrained(tmp_path / "theirs")
    model, folder = load_folder(tmp_path / "theirs")
    assert all("pooler" in name for name in folder.unused) and len(folder.unused) == 2
    assert folder.fresh == (("head.dense.weight", "head.dense.bias") if case == "albert" else ())
    ids, mask = padded("right")
    with torch.inference_mode():
        expected = hf(input_ids=ids, attention_mask=mask, token_type_ids=torch.zeros_like(ids)).last_hidden_state
        assert_close(model(ids, tokens_from_mask(mask))[mask.bool()], expected[mask.bool()], 1e-5)
    save_folder(model, tmp_path / "back", settings=folder.settings)
    again = strictly_loaded(tmp_path / "back", f"{case.title()}Model", add_pooling_layer=False)
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, hf.state_dict()[name]), name


def test_generation_starts_and_ends_with_our_ids(tmp_path: Path) -> None:
    for case in ("marian", "t5", "gpt2"):
        save_folder(build(OURS[case]), tmp_path / case)
        config = json.loads((tmp_path / case / "config.json").read_text())
        hf = strictly_loaded(tmp_path / case, config["architectures"][0])
        ids = hf.generation_config.bos_token_id, hf.generation_config.eos_token_id, hf.generation_config.pad_token_id
        assert ids == (1, 2, 0)
        if case != "gpt2":
            assert hf.generate(torch.tensor([[5, 6, 2]]), max_new_tokens=2)[0, 0] == 1


def test_what_computes_the_same_is_the_same_family() -> None:
    for heads, n_kv in ((MultiQuery(4), 1), (MultiHead(4), 4), (GroupedQuery(4, 2), 2)):
        config = altered(OURS["llama"], {"stack.block.attention.heads": heads, "stack.block.attention.d_head": 6})
        family, settings, _ = to_state_dict(build(config))
        assert (family, settings["num_key_value_heads"]) == ("llama", n_kv)


@pytest.mark.parametrize(
    ("config", "family", "says"),
    [
        (models.vaswani("tiny", 31), None, "decoder.position"),
        (models.gpt2(**SIZES, bias=False), "gpt2", "stack.block.attention.bias"),
        (models.gpt2(**SIZES), "bert", "shape DecoderOnly"),
        (models.gpt2(**SIZES), "mamba", "bert, albert, gpt2, t5, marian, llama"),
        (models.llama(**SIZES), "gpt2", "n_positions"),
    ],
)
def test_models_of_no_family_are_refused(config: Any, family: str | None, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says):
        save_folder(build(config), tmp_path / "out", family)
    assert not (tmp_path / "out").exists()


def test_another_placement_is_no_family() -> None:
    config = altered(OURS["gpt2"], {"stack.block.placement": Sandwich()})
    with pytest.raises(UserError, match="placement"):
        to_state_dict(build(config))
