"""Tensors there and here: names, fused and split matrices, shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from qkv.errors import UserError
from qkv.models import Transformer
from qkv.nn import Attention
from qkv.nn.feedforward import PositionWise

from .family import Family, Layout, Names
from .settings import Settings

AS_IS = Layout(lambda x: x, lambda x: x)


def tidied(family: Family, settings: Settings, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under their canonical names, each once: old spellings, missing prefixes and aliases resolved.

    An alias whose values differ from its original is no alias and stays.
    """
    found: dict[str, Tensor] = {}
    bare = bool(family.prefix) and not any(name.startswith(family.prefix) for name in tensors)
    for name, tensor in tensors.items():
        for old, new in family.renames:
            name = name.removesuffix(old) + new if name.endswith(old) else name
        found[family.prefix + name if bare else name] = tensor
    for name, others in family.aliases(settings).items():
        for other in others:
            if other in found and name not in found:
                found[name] = found.pop(other)
            elif other in found and torch.equal(found[other], found[name]):
                del found[other]
    return found


def their_names(names: Names, name: str) -> tuple[str, ...]:
    """The tensors that make up our tensor `name`, in the order of its rows; () if they have no such thing."""
    layer = "".join(re.findall(r"\.blocks\.(\d+)\.", name))
    whole = _template(name)
    module, _, kind = whole.rpartition(".")
    parts, ending = (names[whole], "") if whole in names else (names.get(module, ()), f".{kind}")
    return tuple(part.format(layer) + ending for part in ([parts] if isinstance(parts, str) else parts))


def _template(name: str) -> str:
    return re.sub(r"\.blocks\.\d+\.", ".blocks.{}.", name)


def row_counts(model: nn.Module, name: str, n_parts: int) -> list[int]:
    """How many rows of our tensor `name` each of its parts has: queries, keys, values; or gate and value."""
    rows = len(model.get_parameter(name))
    owner = model.get_submodule(name.rsplit(".", 2)[0])
    if n_parts == 3 and isinstance(owner, Attention):
        keys = owner.n_groups * owner.d_head
        return [rows - 2 * keys, keys, keys]
    assert n_parts == 1 or isinstance(owner, Attention | PositionWise), name
    return [rows // n_parts] * n_parts


def fill(family: Family, model: Transformer, tensors: Mapping[str, Tensor], where: str) -> list[str]:
    """Copy their tidied tensors into our model; returns the names of those it has no use for.

    Raises `UserError` for missing tensors, wrong shapes, and tensors that the family does not know.
    """
    names, unread = family.names(model.config), set(tensors)
    missing: list[str] = []
    for name, parameter in model.named_parameters():
        parts = their_names(names, name)
        absent = [part for part in parts if part not in tensors]
        missing += absent
        if absent or not parts:
            continue
        layout = family.layouts.get(_template(name), AS_IS)
        pieces = parameter.detach().split(row_counts(model, name, len(parts)))
        for part, piece in zip(parts, pieces, strict=True):
            _copy(part, tensors[part], piece, layout, where)
        unread.difference_update(parts)
    if missing:
        raise UserError(f"{where} lacks {_some(missing)}, which its config.json asks for; download it again")
    unknown = sorted(name for name in unread if not re.match(family.unused, name))
    if unknown:
        raise UserError(
            f"{where} holds {_some(unknown)}, for which a {family.model_type} model of qkv has no place; "
            "choose a checkpoint of the model without additions"
        )
    return sorted(unread)


def _copy(name: str, source: Tensor, target: Tensor, layout: Layout, where: str) -> None:
    expected = tuple(layout.theirs(target).shape)
    if tuple(source.shape) != expected:
        raise UserError(
            f"{where}: {name} has shape {list(source.shape)}, but config.json makes it {list(expected)}; "
            "the two files do not belong together"
        )
    target.copy_(layout.ours(source))


def _some(names: Iterable[str]) -> str:
    first, *rest = dict.fromkeys(names)
    return f"{first} and {len(rest)} more tensors" if rest else first


def taken_apart(family: Family, model: Transformer) -> dict[str, Tensor]:
    """Our tensors under their names, in their form; tied ones once."""
    names, found = family.names(model.config), {}
    for name, parameter in model.named_parameters():
        parts = their_names(names, name)
        layout = family.layouts.get(_template(name), AS_IS)
        pieces = parameter.detach().split(row_counts(model, name, len(parts))) if parts else ()
        for part, piece in zip(parts, pieces, strict=True):
            found[part] = layout.theirs(piece).contiguous().clone()
    return found
