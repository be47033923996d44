"""Attention maps: what each head of each layer looked at, recorded by module name while a model runs.

The kernels are asked for their weights (`need_weights`) and a hook takes them, so no model knows that it is watched and
every kernel can be, fused ones too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from qkv.models import EncoderDecoder, Transformer
from qkv.nn import Attention, Tokens

Where = Literal["encoder", "decoder", "cross"]


@dataclass(frozen=True)
class Map:
    """weights [B,H,T,S] of the attention module `name`, a row for each query; layers that share a module have the same
    name and follow one another."""

    name: str
    weights: Tensor

    @property
    def where(self) -> Where:
        """The site: encoder or decoder self-attention, or cross-attention."""
        if self.name.endswith(".cross"):
            return "cross"
        return "encoder" if self.name.startswith("encoder.") else "decoder"


@contextmanager
def recording(model: nn.Module) -> Iterator[list[Map]]:
    """A list that fills with the maps of every attention that runs inside, in the order in which they run.

    >>> from qkv.models import build, vaswani
    >>> model = build(vaswani("tiny", vocab_size=8)).eval()
    >>> with recording(model) as maps:
    ...     _ = model.encode(torch.tensor([[4, 5]]), Tokens.arange(1, 2))
    >>> [(m.name, tuple(m.weights.shape)) for m in maps][0]
    ('encoder.blocks.0.attention', (1, 4, 2, 2))
    """
    maps: list[Map] = []
    sites = {name: module for name, module in model.named_modules() if isinstance(module, Attention)}

    def take(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, result: tuple[Tensor, Tensor | None]) -> None:
            if result[1] is not None:
                maps.append(Map(name, result[1].detach().cpu()))

        return hook

    handles = [module.kernel.register_forward_hook(take(name)) for name, module in sites.items()]
    try:
        for module in sites.values():
            module.need_weights = True
        yield maps
    finally:
        for handle in handles:
            handle.remove()
        for module in sites.values():
            del module.need_weights  # the class's own False shows again


@dataclass(frozen=True)
class Picture:
    """One site of one text: weights [L,H,T,S], and a label for each query (rows) and key (columns)."""

    where: Where
    title: str
    rows: list[str]
    columns: list[str]
    weights: Tensor


@torch.inference_mode()
def pictures(
    model: Transformer,
    ids: list[int],
    labels: list[str],
    source_ids: list[int] | None = None,
    source: list[str] | None = None,
    tokens: Tokens | None = None,
) -> list[Picture]:
    """What a model looks at while it reads `ids` (and `source_ids`), once and in full.

    labels, source: the tokens in letters. With a source, `ids` are the begin token and all that is written, the end too
    if it came, and the rows of decoder and cross-attention are the tokens being *written*: each is read only after its
    row. A model of one stack shows what it reads. tokens: of `ids`, [1,T], where they have more than positions.
    """
    device = next(model.parameters()).device
    with recording(model) as maps:
        if isinstance(model, EncoderDecoder):
            assert source_ids is not None and source is not None
            model(*_row(source_ids, device), *_row(ids[:-1], device))
            reads, writes = labels[:-1], labels[1:]
            axes = {
                "encoder": ("Encoder self-attention", source, source),
                "cross": ("Cross-attention: the token being written reads the source", writes, source),
                "decoder": ("Decoder self-attention: the token being written reads those before it", writes, reads),
            }
        else:
            row, plain = _row(ids, device)
            model(row, plain if tokens is None else tokens.to(device))
            own: Where = "encoder" if maps[0].where == "encoder" else "decoder"
            axes = {own: (f"{own.capitalize()} self-attention", labels, labels)}
    return [
        Picture(where, title, rows, columns, torch.stack([m.weights[0].float() for m in maps if m.where == where]))  # type: ignore[arg-type]
        for where, (title, rows, columns) in axes.items()
    ]


def _row(ids: list[int], device: torch.device) -> tuple[Tensor, Tokens]:
    """A batch of one."""
    return torch.tensor([ids], device=device), Tokens.arange(1, len(ids), device=device)
