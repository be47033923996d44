"""The `model:` part of a recipe: a preset with amendments, or a full config of one of the shapes.

model: {preset: vaswani, size: tiny, dropout: 0.2}                     # a preset and its parameters
model: {preset: gpt2, n_layers: 4, stack: {block: {placement: pre}}}   # and nested fields changed on top
model: {decoder_only: {stack: {d_model: 128, ...}}}                    # everything spelled out
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_type_hints

from torch import nn

from qkv.baselines.convolution import ConvolutionConfig
from qkv.config import parse, plain
from qkv.errors import UserError
from qkv.models import (
    PRESETS,
    DecoderOnlyConfig,
    EncoderDecoderConfig,
    EncoderOnlyConfig,
    ModelConfig,
    StackConfig,
    Transformer,
    build,
)
from qkv.tasks.tokenizers import Tokenizers

if TYPE_CHECKING:
    from qkv.tasks.task import Task

SHAPES: dict[str, Any] = {
    "encoder_decoder": EncoderDecoderConfig,
    "decoder_only": DecoderOnlyConfig,
    "encoder_only": EncoderOnlyConfig,
    "convolution": ConvolutionConfig,  # the baseline that a `Reader` holds like an encoder
}


def shape_of(config: ModelConfig) -> str:
    """The name of a config's shape: encoder_decoder, decoder_only, encoder_only or convolution."""
    return next(name for name, cls in SHAPES.items() if isinstance(config, cls))


def resolve(data: Any, where: str = "model") -> ModelConfig:
    """The config that the `model:` part of a recipe means; vocabulary sizes that it leaves at 0 stay 0.

    Raises UserError for an unknown preset, parameter, shape or field, and for sizes that do not fit together.
    """
    if not isinstance(data, Mapping) or not data:
        raise UserError(f"{where}: expected a mapping, either {{preset: NAME, ...}} or {{SHAPE: {{...}}}}")
    if "preset" in data:
        return _from_preset(dict(data), where)
    named = [name for name in SHAPES if name in data]
    if len(named) != 1 or len(data) != 1:
        got = ", ".join(map(str, data))
        raise UserError(f"{where}: expected preset, or exactly one of {', '.join(SHAPES)}; got {got}")
    return parse(SHAPES[named[0]], data[named[0]], f"{where}.{named[0]}")


def written(config: ModelConfig) -> dict[str, Any]:
    """The full config as plain data that `resolve` reads back."""
    return {shape_of(config): plain(config)}


def _from_preset(data: dict[str, Any], where: str) -> ModelConfig:
    name = data.pop("preset")
    if name not in PRESETS:
        raise UserError(f"{where}.preset: no preset is called {name!r}; choose one of {', '.join(PRESETS)}")
    function = PRESETS[name]
    hints = get_type_hints(function)
    parameters = [p for p in inspect.signature(function).parameters if p in data]
    values = {p: parse(hints[p], data.pop(p), f"{where}.{p}") for p in parameters}
    try:
        config = function(**values)
        shape = type(config)
        stray = [key for key in data if key not in shape.__dataclass_fields__]
        if stray:
            valid = ", ".join([*inspect.signature(function).parameters, *shape.__dataclass_fields__])
            raise UserError(f"{where}.{stray[0]}: the preset {name} has no such key; valid keys: {valid}")
        return parse(shape, amended(plain(config), data), where)
    except KeyError as error:
        raise UserError(f"{where}: the preset {name} knows no {error}; see help(qkv.models.{name})") from error
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def amended(base: Any, patch: Any) -> Any:
    """Plain data with the fields of `patch` put over it, at any depth; another entry of a table replaces the one there.

    >>> amended({"norm": {"layer_norm": {"eps": 1e-6}}, "n": 1}, {"norm": {"rms_norm": {}}, "n": 2})
    {'norm': {'rms_norm': {}}, 'n': 2}
    >>> amended({"heads": {"multi_head": {"n": 4}}}, {"heads": {"multi_head": {"n": 8}}})
    {'heads': {'multi_head': {'n': 8}}}
    """
    if not isinstance(base, Mapping) or not isinstance(patch, Mapping):
        return patch
    if len(base) == 1 and not base.keys() & patch.keys():  # a table's entry, and another one
        return dict(patch)
    return {**base, **{key: amended(base[key], value) if key in base else value for key, value in patch.items()}}


def sized(config: ModelConfig, tokenizers: Tokenizers) -> ModelConfig:
    """The config with the tokenizers' vocabulary sizes.

    Raises UserError where a shared embedding meets two tokenizers, or a size in the config is below the tokenizer's.
    """
    target = tokenizers.target.vocab_size
    if not isinstance(config, EncoderDecoderConfig):
        return replace(config, stack=_with_vocabulary(config.stack, target))
    assert tokenizers.source is not None
    if config.shared_embedding and not tokenizers.shared:
        raise UserError(
            "model: shared_embedding needs one tokenizer for both sides; set tokenizers: {shared: ...}, "
            "or model.shared_embedding=false"
        )
    return replace(
        config,
        encoder=_with_vocabulary(config.encoder, tokenizers.source.vocab_size),
        decoder=_with_vocabulary(config.decoder, target),
    )


def _with_vocabulary(stack: StackConfig, size: int) -> StackConfig:
    given = stack.embedding.vocab_size
    if given and given < size:
        raise UserError(f"model: vocab_size is {given}, but the tokenizer has {size} tokens; leave it at 0")
    return replace(stack, embedding=replace(stack.embedding, vocab_size=given or size))


def fresh(config: ModelConfig, tokenizers: Tokenizers, task: Task | None = None) -> Transformer:
    """A model with fresh weights, its vocabulary that of the tokenizers, with the outputs that its task asks for."""
    config = sized(config, tokenizers)
    return build(config) if task is None else task.build(config, tokenizers)


def in_stack(name: str) -> bool:
    """Whether a weight, by its name, belongs to an encoder or a decoder rather than to what reads its states."""
    return name.split(".")[0] in ("encoder", "decoder")


def check_fresh(names: Iterable[str]) -> None:
    """Raise UserError where a weight of a stack is among those that stay fresh: the two models are of different shapes.
    A bottleneck may be: a fresh one changes nothing."""
    wrong = [name for name in names if in_stack(name) and ".bottleneck." not in name]
    if wrong:
        raise UserError(
            f"init: its model does not fit ({wrong[0]} is missing or of another shape); train from its config"
        )


def take_over(model: nn.Module, other: nn.Module) -> list[str]:
    """Copy every weight of `other` that `model` has too, by name and shape; the names of those that stay fresh.

    Raises UserError where a weight of a stack is among these: the two are of different shapes."""
    given, own = other.state_dict(), model.state_dict()
    taken = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    left = [name for name in own if name not in taken]
    check_fresh(left)
    model.load_state_dict(own | taken)
    for name, buffer in model.named_buffers():
        if name.endswith(".temperature"):
            buffer.fill_(1.0)  # it was fitted to the other's answers
    return left


def parameters(model: nn.Module) -> int:
    """How many weights a model has, shared ones counted once."""
    return sum(p.numel() for p in model.parameters())
