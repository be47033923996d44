"""A model's weights as names and tensors, each stored once however many modules share it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from qkv.errors import UserError


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name, not copied; a shared tensor under the first of its names."""
    seen: set[tuple] = set()
    result = {}
    for name, tensor in model.state_dict().items():
        identity = (tensor.data_ptr(), tensor.shape, tensor.stride())
        if not tensor.numel() or identity not in seen:
            result[name] = tensor
            seen.add(identity)
    return result


def save_weights(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a safetensors file in place. The library's own `save_file` renames a temporary file over whatever `path` is
    and leaves it behind when killed; here the caller decides what appears when (`checkpoint`)."""
    path.write_bytes(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file. Raises UserError if it is missing or damaged."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: there are no weights here; give the folder of a finished run") from None
    except SafetensorError as error:
        raise UserError(f"{path}: the weights cannot be read ({error}); restore the file or train again") from error


@torch.no_grad()
def assign(model: nn.Module, tensors: Mapping[str, Tensor], where: object = "weights") -> None:
    """Copy tensors into the model. Raises UserError naming what is missing, left over or of another shape."""
    own = weights(model)
    wrong = [f"{name} is missing" for name in own if name not in tensors]
    wrong += [f"{name} is left over" for name in tensors if name not in own]
    wrong += [
        f"{name} is {list(tensors[name].shape)} instead of {list(tensor.shape)}"
        for name, tensor in own.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(f"{where}: not of this model ({'; '.join(wrong[:3])}{more}); check the model's config")
    for name, tensor in own.items():
        tensor.copy_(tensors[name])


@contextmanager
def swapped(model: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Let the model hold other weights inside the block; nothing is copied."""
    own = {name: p for name, p in model.named_parameters() if name in tensors}
    kept = {name: p.data for name, p in own.items()}
    try:
        for name, p in own.items():
            p.data = tensors[name].to(p.dtype)
        yield
    finally:
        for name, p in own.items():
            p.data = kept[name]
