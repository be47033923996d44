"""Ablation: what a model would say without one head, or without one layer.

Hooks take the part's contribution away while a model runs, so no model knows of it and every shape, kernel and cache
works. Removing what a trained model relies on says what this model does with it, not what a model trained without it
would do: the layers after it meet inputs that training never showed them (Michel et al. 2019, §2; Voita et al. 2019).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from torch import Tensor, nn

from qkv.models import Transformer
from qkv.models.stack import Stack
from qkv.nn import Attention
from qkv.probe.attention import Where

Side = Literal["encoder", "decoder"]


@contextmanager
def without_head(model: Transformer, where: Where, layer: int, head: int) -> Iterator[None]:
    """Inside, head `head` of layer `layer` at the site `where` adds nothing: its A·V [B,T,D] is zero before W_O.

    Heads that share keys and values stay as they are; so does the bias of W_O. Raises ValueError if there is no such
    head.

    >>> import torch
    >>> from qkv.models import build, vaswani
    >>> from qkv.nn import Tokens
    >>> model = build(vaswani("tiny", vocab_size=8)).eval()
    >>> ids, tokens = torch.tensor([[4, 5]]), Tokens.arange(1, 2)
    >>> with without_head(model, "encoder", 0, head=2):
    ...     without = model.encode(ids, tokens).x
    >>> torch.equal(without, model.encode(ids, tokens).x)
    False
    """
    block = _layer(model, "encoder" if where == "encoder" else "decoder", layer)
    site = block.cross if where == "cross" else block.attention
    if not isinstance(site, Attention):
        raise ValueError(f"this model has no {where} attention")
    if not 0 <= head < site.n_heads:
        raise ValueError(f"{where} layer {layer} has heads 0 to {site.n_heads - 1}, not {head}")
    now = [-1]

    def enter(_module: nn.Module, _inputs: Any, named: dict[str, Any]) -> None:
        now[0] = named.get("layer", 0)

    def silence(_module: nn.Module, _inputs: Any, result: tuple[Tensor, Tensor | None]) -> Any:
        if now[0] != layer:  # a module that several layers share
            return None
        out = result[0].clone()
        out[:, head] = 0.0
        return out, result[1]

    handles = [
        site.register_forward_pre_hook(enter, with_kwargs=True),
        site.kernel.register_forward_hook(silence),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def without_layer(model: Transformer, side: Side, layer: int) -> Iterator[None]:
    """Inside, block `layer` of that stack is passed by: its output is its input x [B,T,E].

    With a norm after each residual (post-norm) the block's norms are passed by too. Raises ValueError if there is no
    such layer."""
    block = _layer(model, side, layer)

    def skip(_module: nn.Module, inputs: tuple[Any, ...], _result: Tensor) -> Tensor | None:
        x, *_, index = inputs  # Stack.forward names the layer last
        return x if index == layer else None

    handle = block.register_forward_hook(skip)
    try:
        yield
    finally:
        handle.remove()


def stacks(model: Transformer) -> dict[Side, Stack]:
    """The model's stacks by side; a network that is no Transformer has none."""
    sides: tuple[Side, ...] = ("encoder", "decoder")
    return {side: found for side in sides if isinstance(found := getattr(model, side, None), Stack)}


def _layer(model: Transformer, side: Side, layer: int) -> Any:
    """The block of that layer; several layers may share one."""
    found = stacks(model)
    if side not in found:
        raise ValueError(f"this model has no {side}")
    blocks = found[side].layers()
    if not 0 <= layer < len(blocks):
        raise ValueError(f"the {side} has layers 0 to {len(blocks) - 1}, not {layer}")
    return blocks[layer]
