"""What qkv has to know about one family of checkpoints; `families/` holds one such record each."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from qkv.models import ModelConfig

from .settings import Settings

Names = Mapping[str, str | tuple[str, ...]]


@dataclass(frozen=True)
class Layout:
    """How a tensor is stored there: functions to our form and back to theirs."""

    ours: Callable[[Tensor], Tensor]
    theirs: Callable[[Tensor], Tensor]


TRANSPOSED = Layout(Tensor.t, Tensor.t)
ROW = Layout(lambda x: x.squeeze(0), lambda x: x.unsqueeze(0))


def no_aliases(settings: Settings) -> Mapping[str, tuple[str, ...]]:
    """No tensor has a second name."""
    return {}


@dataclass(frozen=True)
class Family:
    """One family of Hugging Face checkpoints.

    model_type: as config.json names it. config: which of our three shapes it is. read: config.json and the names of
    the tensors -> our config. write: our config -> config.json; `read` of the result must give the config back, or
    the model is no member of the family. names: our modules or tensors, with `{}` for the layer -> theirs; several
    are stacked along the rows in that order. defaults: entries of config.json that our config does not decide.
    prefix: what a checkpoint without output head leaves out of its names. aliases: name -> further names of the same
    tensor. renames: (old spelling, new spelling) of name endings. unused: pattern of tensors that we may leave aside.
    layouts: our tensors that are stored in another form.
    """

    model_type: str
    config: type
    read: Callable[[Settings, Container[str]], ModelConfig]
    write: Callable[[Any], dict[str, Any]]
    names: Callable[[Any], Names]
    defaults: Mapping[str, Any]
    prefix: str = ""
    aliases: Callable[[Settings], Mapping[str, tuple[str, ...]]] = no_aliases
    renames: tuple[tuple[str, str], ...] = ()
    unused: str = r"(?!)"
    layouts: Mapping[str, Layout] = field(default_factory=dict)


def altered(config: Any, changes: Mapping[str, Any]) -> Any:
    """A copy of nested frozen dataclasses with the fields at dotted paths replaced.

    >>> from qkv.models import gpt2
    >>> altered(gpt2(), {"stack.block.dropout": 0.5}).stack.block.dropout
    0.5
    """
    for path, value in changes.items():
        name, _, rest = path.partition(".")
        config = replace(config, **{name: altered(getattr(config, name), {rest: value}) if rest else value})
    return config
