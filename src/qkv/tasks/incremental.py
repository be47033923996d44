"""Going on from a trained run with new data: what is kept of the old labels, texts and weights.

qkv train NEW --init RUN incremental.replay=0.05 incremental.strength=1 incremental.importance=fisher
qkv train NEW --init RUN incremental.replay=0.05 incremental.adapter.low_rank.rank=8
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from qkv.errors import UserError
from qkv.tasks import adapters, growth
from qkv.tasks.adapters import Adapter
from qkv.tasks.task import spaced
from qkv.tasks.tokenizers import Tokenizers
from qkv.training.anchors import Anchored, fisher_diagonal
from qkv.training.losses import Loss

if TYPE_CHECKING:
    from qkv.tasks.folder import Run
    from qkv.tasks.recipe import Recipe


@dataclass(frozen=True)
class Incremental:
    """How a run that starts from another (`--init`) treats what that one knew."""

    labels: Literal["both", "new"] = "both"
    """both: the old labels can still be answered, and new ones are added; new: only those of the new data."""
    vocabulary: Literal["kept", "learned"] = "kept"
    """kept: the old tokenizer; learned: one that is learned from old and new texts, known tokens keeping their rows."""
    replay: float = 0.0
    """The share of old training texts among all that are trained on."""
    strength: float = 0.0
    """How strongly the old weights are held where they were: factor on half the squared distance."""
    importance: Literal["equal", "fisher"] = "equal"
    """equal: all weights alike (L2-SP); fisher: each by what the old answers hang on it (EWC); for classify."""
    examples: int = 200
    """Old texts that the Fisher information is measured on."""
    adapter: Adapter | None = None
    """null: all weights learn; low_rank or bottleneck: the stacks stay, and a few weights beside them learn."""

    def __post_init__(self) -> None:
        if not 0 <= self.replay < 1:
            raise ValueError(f"replay is {self.replay}; give the share of old rows, 0 or more and below 1")
        if self.strength < 0:
            raise ValueError(f"strength is {self.strength}; give 0 or more")
        if self.examples < 1:
            raise ValueError(f"examples is {self.examples}; give 1 or more")
        if self.adapter is not None and self.strength:
            raise ValueError("an adapter leaves the old weights where they are; set strength to 0, or adapter to null")


def prepared(recipe: Recipe, config: Incremental, rows: list[Any], start: Run) -> tuple[list[Any], Tokenizers]:
    """The rows to train on, old ones among them, and the tokenizers with their labels.

    Raises UserError where the old run's rows are needed and are of another kind, or not there."""
    kept, learned = start.system.tokenizers, recipe.task.labels(rows)
    if config.labels == "both":
        learned = growth.union(kept.labels, learned)
    if config.vocabulary == "learned":
        kept = recipe.task.learn([*rows, *_old(recipe, start)], recipe.tokenizers)
    if config.replay:
        rows = growth.replayed(rows, _old(recipe, start), config.replay, recipe.training.seed)
    if config.labels == "new" and config.replay:
        raise UserError("incremental: old rows have old labels; set labels: both, or replay: 0")
    return rows, replace(kept, labels=learned)


def held(recipe: Recipe, config: Incremental, loss: Loss, model: nn.Module, tokenizers: Tokenizers, start: Run) -> Loss:
    """The loss, with the weights held near those of the old run where the config says so. Rows of labels and tokens
    that the old run had not are free."""
    if not config.strength:
        return loss
    old = dict(start.system.model.named_parameters())
    anchors = {name: p for name, p in model.named_parameters() if name in old}
    given = {name: torch.ones_like(p) for name, p in old.items()}
    if config.importance == "fisher":
        given = _fisher(recipe, config, start)
    return Anchored(loss, anchors, config.strength, _placed(recipe, given, anchors, tokenizers, start))


def confine(recipe: Recipe, config: Incremental, model: nn.Module, tokenizers: Tokenizers, start: Run) -> None:
    """Let only the adapter, the outputs and rows of new tokens learn, where the config has an adapter; in place.

    Raises UserError for an adapter that the model or the optimizer cannot have."""
    if config.adapter is None:
        return
    ones = {name: torch.ones_like(p) for name, p in start.system.model.named_parameters()}
    known = _placed(recipe, ones, dict(model.named_parameters()), tokenizers, start)
    adapters.freeze(model, config.adapter, known, decays=recipe.training.optimizer.weight_decay > 0)
    adapters.corrected(model, config.adapter)


def _placed(
    recipe: Recipe, given: Mapping[str, Tensor], own: Mapping[str, Tensor], tokenizers: Tokenizers, start: Run
) -> dict[str, Tensor]:
    """What is known of the old run's weights, put where these stand in the new model's; zero of those that are new."""
    kinds = growth.dimensions(recipe.task, recipe.model_config, tokenizers)
    zeros = {name: torch.zeros_like(p) for name, p in own.items()}
    how = growth.moves(start.system.tokenizers, tokenizers)
    return zeros | growth.carried(given, zeros, kinds, how, exact=True)


def _fisher(recipe: Recipe, config: Incremental, start: Run) -> dict[str, Tensor]:
    """What the old run's answers to its own texts hang on, by the names of its weights."""
    task: Any = start.recipe.task
    if not hasattr(task, "decide") or "label" not in start.system.tokenizers.labels.sets:
        raise UserError("incremental: importance: fisher needs the answers of classify; use importance: equal")
    drawn = growth.answered(task, start.system, spaced(_old(recipe, start), config.examples), recipe.training.seed)
    source = task.batches(drawn, start.system.tokenizers)
    batches = (source.load([row]) for row in range(len(drawn)))
    return fisher_diagonal(start.system.model, task.loss(training=False), batches)


def _old(recipe: Recipe, start: Run) -> Sequence[Any]:
    if start.recipe.task.rows != recipe.task.rows:
        raise UserError(
            f"incremental: the old run learned from {start.recipe.task.rows} and this one from {recipe.task.rows}; "
            "set replay to 0, vocabulary to kept and importance to equal"
        )
    return start.recipe.task.load(start.recipe.data, "train")
