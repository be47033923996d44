"""Folders of Hugging Face `transformers` in and out: config.json and safetensors. Nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from qkv.config import differing, plain
from qkv.errors import UserError
from qkv.models import EncoderDecoderConfig, ModelConfig, StackConfig, Transformer, build
from qkv.nn import Fused, GroupedQuery, Tokens, Xavier

from .families import FAMILIES
from .family import Family, altered
from .settings import Settings
from .weights import fill, taken_apart, their_names, tidied

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "vocab.json",
                   "merges.txt", "source.spm", "target.spm", "spiece.model", "tokenizer.model")  # fmt: skip
GENERATION = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")


@dataclass(frozen=True)
class Folder:
    """What a Hugging Face folder holds besides the model.

    family: the model_type. settings: config.json as it is, token ids among its entries. tokenizer: name -> path of the
    tokenizer files that are there. unused: tensors that our model has no place for (poolers, for instance). fresh: our
    tensors that the checkpoint does not have and that therefore hold initial values.
    """

    path: Path
    family: str
    settings: Mapping[str, Any]
    tokenizer: Mapping[str, Path]
    unused: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()


def load_folder(path: str | Path, dtype: torch.dtype | None = torch.float32) -> tuple[Transformer, Folder]:
    """The model in a Hugging Face folder, in evaluation mode, and what else the folder says.

    dtype: of the model's weights (None: the checkpoint's own). Raises `UserError` for a folder that lacks something,
    is damaged, or asks for what we do not implement.
    """
    path = Path(path)
    settings = _json(path / "config.json")
    tensors = _tensors(path)
    if dtype is not None:
        tensors = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    model, unused, fresh = _assemble(settings, tensors, str(path))
    files = {name: path / name for name in TOKENIZER_FILES if (path / name).exists()}
    return model, Folder(path, settings["model_type"], settings, files, tuple(unused), tuple(fresh))


def save_folder(
    model: Transformer, path: str | Path, family: str | None = None, settings: Mapping[str, Any] | None = None
) -> Path:
    """Write a folder that `transformers` loads with `from_pretrained`; returns its path.

    family: the model_type to write (None: the first whose members include this model). settings: entries of
    config.json that our config does not decide, token ids for instance (`Folder.settings` of a loaded model); without
    them the ids are those of our tokenizers. Raises `UserError` if no family computes what the model computes.
    """
    path = Path(path)
    chosen, written, tensors = to_state_dict(model, family)
    kept = {key: value for key, value in (settings or {}).items() if key not in ("torch_dtype", "_name_or_path")}
    dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    entries = {**FAMILIES[chosen].defaults, **kept, **written, "model_type": chosen, "dtype": dtype}
    try:
        path.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path / WEIGHTS, metadata={"format": "pt"})
        _write(path / "config.json", entries)
        if "eos_token_id" in FAMILIES[chosen].defaults:
            _write(path / "generation_config.json", {key: entries[key] for key in GENERATION if key in entries})
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write {path}: {reason}; free space or choose another folder") from error
    return path


def from_state_dict(
    settings: Mapping[str, Any], tensors: Mapping[str, Tensor], where: str = "checkpoint"
) -> Transformer:
    """Our model from the entries of a config.json and the tensors by name (`hf.config.to_dict()`, `hf.state_dict()`),
    in the tensors' dtype and in evaluation mode. `where` names the source in messages."""
    return _assemble(settings, tensors, where)[0]


def to_state_dict(model: Transformer, family: str | None = None) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """(family, entries of config.json, tensors by name): the inverse of `from_state_dict`."""
    candidates = [_family(family)] if family else list(FAMILIES.values())
    refusals: list[tuple[int, str]] = []
    own: Any = model.config
    for candidate in candidates:
        if not isinstance(model.config, candidate.config):
            continue
        try:
            written, tensors = candidate.write(model.config), taken_apart(candidate, model)
            back = candidate.read(Settings(written), tensors)
        except (UserError, ValueError) as error:
            refusals.append((1000, f"{candidate.model_type}: {error}"))
            continue
        keys = differing(plain(_canonical(own)), plain(_canonical(back)))
        if not keys:
            return candidate.model_type, written, tensors
        refusals.append((len(keys), f"a {candidate.model_type} model has another {', '.join(keys)}"))
    shape = type(model.config).__name__.removesuffix("Config")
    reason = min(refusals)[1] if refusals else f"it is a model of the shape {shape}"
    wanted = f"as {family}" if family else f"as any of {', '.join(FAMILIES)}"
    raise UserError(f"this model cannot be saved {wanted}: {reason}; save a run folder of qkv instead")


def tokens_from_mask(mask: Tensor, segments: Tensor | None = None) -> Tokens:
    """Tokens from an attention mask [B,T] (1 = token, 0 = padding, on either side) and segment ids [B,T]."""
    pos = (mask.long().cumsum(1) - 1).masked_fill(mask == 0, -1)
    return Tokens(pos, {} if segments is None else {"segment": segments})


def _assemble(
    data: Mapping[str, Any], tensors: Mapping[str, Tensor], where: str
) -> tuple[Transformer, list[str], list[str]]:
    """(model, unused tensors of theirs, fresh tensors of ours)."""
    family = _family(data.get("model_type"), where)
    settings = Settings(data, f"{where}: config.json")
    tidy = tidied(family, settings, tensors)
    try:
        config = family.read(settings, tidy)
    except ValueError as error:
        raise UserError(f"{settings.where}: {error}; take the file from its source again") from error
    dtype = next((tensor.dtype for tensor in tidy.values() if tensor.is_floating_point()), torch.float32)
    model = build(config).to(dtype).eval()
    unused = fill(family, model, tidy, where)
    names = family.names(config)
    fresh = [name for name, _ in model.named_parameters() if not _present(their_names(names, name), tidy)]
    return model, unused, fresh


def _present(parts: tuple[str, ...], tensors: Mapping[str, Tensor]) -> bool:
    return bool(parts) and all(part in tensors for part in parts)


def _family(name: Any, where: str = "family") -> Family:
    if name not in FAMILIES:
        raise UserError(f"{where}: model_type is {name!r}, but qkv reads and writes only {', '.join(FAMILIES)}")
    return FAMILIES[name]


def _canonical(config: ModelConfig) -> ModelConfig:
    """The config with everything that does not change what the model computes, or how it is written, normalised."""
    if isinstance(config, EncoderDecoderConfig):
        return replace(config, encoder=_canonical_stack(config.encoder), decoder=_canonical_stack(config.decoder))
    return replace(config, stack=_canonical_stack(config.stack))


def _canonical_stack(stack: StackConfig) -> StackConfig:
    attention, placement = stack.block.attention, stack.block.placement
    width = attention.width(stack.d_model)
    return altered(
        stack,
        {
            "distinct_layers": stack.distinct_layers or stack.n_layers,
            "init": Xavier(),
            "embedding.std": None,
            "embedding.dropout": 0.0,
            "block.dropout": 0.0,
            "block.attention.dropout": 0.0,
            "block.attention.kernel": Fused(),
            "block.attention.d_head": width,
            "block.attention.scale": width**-0.5 if attention.scale is None else attention.scale,
            "block.attention.heads": GroupedQuery(attention.heads.n, attention.heads.groups),
            "final_norm": placement.final if stack.final_norm is None else stack.final_norm,
            **({"block.feedforward.dropout": 0.0} if hasattr(stack.block.feedforward, "dropout") else {}),
        },
    )


def _tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a folder, from one file or from the shards that an index names."""
    if (path / WEIGHTS).exists():
        files = [WEIGHTS]
    elif (path / INDEX).exists():
        places = _json(path / INDEX).get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(v, str) and Path(v).name == v for v in places.values()):
            raise UserError(f"{path / INDEX} has no weight_map of file names in its own folder; download it again")
        files = sorted(set(places.values()))
    elif list(path.glob("*.bin")):
        raise UserError(
            f"{path} has its weights only as {next(path.glob('*.bin')).name}, a pickle, which can run any code and "
            "which qkv does not open; convert it to model.safetensors with transformers' save_pretrained"
        )
    else:
        raise UserError(f"{path} has no {WEIGHTS}; point to a folder that transformers' save_pretrained wrote")
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            tensors |= load_file(path / file)
        except FileNotFoundError as error:
            raise UserError(f"{path / INDEX} names {file}, which is not there; download the missing shard") from error
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path / file} is damaged ({error}); download it again") from error
    return tensors


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; point to a folder of transformers") from error
    except ValueError as error:
        raise UserError(f"{path} is no JSON ({error}); download it again") from error
    if not isinstance(data, dict):
        raise UserError(f"{path} holds no JSON object; download it again")
    return data


def _write(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
