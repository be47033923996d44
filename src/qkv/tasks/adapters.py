"""What learns while the old weights stay as they are: the table of adapters (`incremental.adapter`).

low_rank     W + (α/r)·BA beside every matrix of the stacks (Hu et al. 2022). It is there for the training only: its run
             folder keeps it apart from W, and whoever opens that gets the merged model, of the old names and costs.
bottleneck   h + U φ(D h) after every sub-layer (Houlsby et al. 2019). It is part of the model, and of its config, from
             then on: a run that starts from this one has it too.

The stacks are frozen, norms included; rows of tokens that the old run had not go on learning. Outputs learn as a whole,
those of old labels too, because all labels compete; an output matrix that is the table of embeddings is frozen with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from torch import Tensor, nn

from qkv.compress.lora import insert, merge_lora
from qkv.errors import UserError
from qkv.models import ModelConfig, StackConfig
from qkv.nn import Bottleneck
from qkv.tasks.model import in_stack

Model = TypeVar("Model", bound=nn.Module)
MATRICES = ("query_key_value", "query", "key_value", "out", "up", "down")


@dataclass(frozen=True)
class LowRank:
    """A correction of low rank beside every matrix of attention and feed-forward."""

    rank: int = 8
    """r: columns of B and rows of A."""
    alpha: float = 16.0
    """α: the correction is scaled by α/r, so that a good learning rate hardly depends on r."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank}; give 1 or more")
        if self.alpha <= 0:
            raise ValueError(f"alpha is {self.alpha}; give more than 0")


Adapter = LowRank | Bottleneck


def shaped(config: ModelConfig, adapter: Adapter | None) -> ModelConfig:
    """The old model's config, with the bottlenecks that the adapter asks for.

    Raises UserError for a model that has none of the sub-layers, or has bottlenecks of another size."""
    if not isinstance(adapter, Bottleneck):
        return config
    stacks = {name: getattr(config, name) for name in ("stack", "encoder", "decoder") if hasattr(config, name)}
    changed: Any = {name: _with_bottleneck(stack, adapter) for name, stack in stacks.items()}
    return replace(config, **changed)


def _with_bottleneck(stack: Any, adapter: Bottleneck) -> StackConfig:
    if not isinstance(stack, StackConfig):
        raise UserError("incremental.adapter: the old run's model is no Transformer; leave the adapter out")
    there = stack.block.bottleneck
    if there not in (None, adapter):
        raise UserError(
            f"incremental.adapter: the old run has bottlenecks already, which go on learning; "
            f"set bottleneck: {there.size}, or use low_rank"
        )
    return replace(stack, block=replace(stack.block, bottleneck=adapter))


def freeze(model: nn.Module, adapter: Adapter, known: Mapping[str, Tensor], decays: bool) -> None:
    """Leave what the old run knew in the stacks as it is, in place.

    known: of each weight 1 where it is the old run's and 0 elsewhere. decays: whether the optimizer has weight decay.
    Raises UserError where that would move rows without a gradient."""
    for name, parameter in model.named_parameters():
        if not in_stack(name) or (isinstance(adapter, Bottleneck) and ".bottleneck." in name):
            continue
        free = 1 - known[name]
        if not free.any():
            parameter.requires_grad_(False)
        elif decays:
            raise UserError(
                "incremental.adapter: weight decay would shrink the frozen rows of old tokens; "
                "set the optimizer's weight_decay to 0, or vocabulary to kept"
            )
        else:
            parameter.register_hook(partial(_masked, free))


def _masked(free: Tensor, gradient: Tensor) -> Tensor:
    return gradient * free.to(gradient)


def corrected(model: Model, adapter: Adapter | None) -> Model:
    """The model with the corrections that the adapter asks for beside the matrices of its stacks, put in in place.

    Raises UserError for a rank that a matrix has not, or a model without such matrices."""
    if isinstance(adapter, LowRank):
        outside = [name for name, _ in model.named_children() if not in_stack(name)]
        try:
            insert(model, adapter.rank, adapter.alpha, MATRICES, outside)
        except ValueError as error:
            raise UserError(f"incremental.adapter.low_rank: {error}") from error
    return model


def merged(model: Model, adapter: Adapter | None) -> Model:
    """The model with the corrections added to its matrices, in place: the one that has the names of its config."""
    if isinstance(adapter, LowRank):
        merge_lora(model)
    return model
