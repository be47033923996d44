"""A recipe: everything that decides what a training run does, as one frozen dataclass and one YAML file.

task: {translate: {measure: pronunciation}}
data: cmudict                                   # or {train: FILE, dev: FILE, test: FILE}
tokenizers: {source: characters, target: words}
model: {preset: vaswani, size: tiny, shared_embedding: false}
training: {max_steps: 4000}
decoding: {beam: {width: 5}}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import yaml

from qkv.config import entry_name, override, parse, plain
from qkv.data.corpora import Corpora
from qkv.data.datasets import Cmudict, Files, Multi30k, Tinyshakespeare
from qkv.data.dialogues import Sgd, Woz
from qkv.data.paradetox import Paradetox, ParadetoxCivil, ParadetoxSpans, ParadetoxStyle
from qkv.data.simulation import Simulated
from qkv.data.stsb import Stsb
from qkv.data.tagged_corpora import TaggedCorpora
from qkv.data.wikitext import Wikitext2
from qkv.decoding import Chooser, Greedy
from qkv.errors import UserError
from qkv.models import ModelConfig
from qkv.tasks.adapters import Adapter
from qkv.tasks.classify import Classify
from qkv.tasks.dialogue_state import DialogueState
from qkv.tasks.incremental import Incremental
from qkv.tasks.infilling import Infill
from qkv.tasks.intent_slots import IntentSlots
from qkv.tasks.language_model import LanguageModel
from qkv.tasks.masked_language_model import MaskedLanguageModel
from qkv.tasks.model import resolve, shape_of, written
from qkv.tasks.similarity import Similarity
from qkv.tasks.tag import Tag
from qkv.tasks.task import check_rows
from qkv.tasks.tokenizers import TokenizersConfig
from qkv.tasks.topics import ClassifyTopics
from qkv.tasks.translate import Translate
from qkv.training.config import TrainingConfig

FORMAT_VERSION = 1

TaskConfig = (
    Translate
    | LanguageModel
    | Classify
    | ClassifyTopics
    | Similarity
    | DialogueState
    | MaskedLanguageModel
    | Infill
    | Tag
    | IntentSlots
)
Data = (
    Cmudict
    | Multi30k
    | Tinyshakespeare
    | Wikitext2
    | Stsb
    | Woz
    | Sgd
    | Corpora
    | TaggedCorpora
    | Paradetox
    | ParadetoxStyle
    | ParadetoxCivil
    | ParadetoxSpans
    | Simulated
    | Files
)
FILES = {entry.rows: entry_name(entry) for entry in get_args(Files)}


@dataclass(frozen=True)
class Evaluation:
    """What is measured while training."""

    rows: int | None = 2000
    """Dev rows that the dev loss is over, evenly spaced (windows or documents: the first ones); null: all."""
    scored: int = 0
    """Dev rows that are also answered, greedily, and scored as by `qkv evaluate`; training.metric may name a score."""

    def __post_init__(self) -> None:
        if self.rows is not None and self.rows < 1:
            raise ValueError(f"rows is {self.rows}; give 1 or more, or null for all")
        if self.scored < 0:
            raise ValueError(f"scored is {self.scored}; give 0 or more")


@dataclass(frozen=True)
class Recipe:
    """task: how rows are learned from and answered. data: where they come from. tokenizers: how text is cut. model: a
    preset or a full config (see `qkv.tasks.model`). training: the loop's settings. decoding: how answers are searched
    for. evaluation: what is measured on the way. init: a run or Hugging Face folder whose weights are trained on.
    incremental: what is kept of that run's labels, texts and weights (null: its weights alone)."""

    task: TaskConfig
    data: Data
    tokenizers: TokenizersConfig
    model: dict[str, Any]
    training: TrainingConfig
    decoding: Chooser = field(default_factory=Greedy)
    evaluation: Evaluation = field(default_factory=Evaluation)
    init: str | None = None
    incremental: Incremental | None = None

    @cached_property
    def model_config(self) -> ModelConfig:
        """The model's config; vocabulary sizes may still be 0."""
        return resolve(self.model)

    @property
    def adapter(self) -> Adapter | None:
        """What learns beside the weights of the run that this one starts from; None: they do."""
        return self.incremental.adapter if self.incremental is not None else None

    def plain(self) -> dict[str, Any]:
        """What config.yaml holds: format_version first, the model spelled out in full."""
        return {"format_version": FORMAT_VERSION, **plain(self), "model": written(self.model_config)}


def from_data(data: Any, where: str = "") -> Recipe:
    """A recipe from plain data. Raises UserError for whatever is wrong in it."""
    if not isinstance(data, Mapping):
        raise UserError(f"{where}expected a mapping with at least task, data, tokenizers and model")
    body = dict(data)
    version = body.pop("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        raise UserError(f"{where}format_version is {version!r}, and this qkv reads {FORMAT_VERSION}; update qkv")
    body["data"] = _files(body.get("data"), body.get("task"))
    if body["data"] is None:
        del body["data"]
    try:
        recipe = parse(Recipe, body)
        agree(recipe)
    except UserError as error:
        raise UserError(f"{where}{error}") from error
    return recipe


def _files(data: Any, task: Any) -> Any:
    """`data: {train: FILE, dev: FILE}` is short for the task's entry for files; it replaces a named dataset."""
    if not isinstance(data, Mapping) or not data.keys() & {"train", "dev", "test"}:
        return data
    name = task if isinstance(task, str) else next(iter(task), "") if isinstance(task, Mapping) else ""
    rows = next((entry.rows for entry in get_args(TaskConfig) if entry_name(entry) == name), "pairs")
    named = {entry_name(entry) for entry in get_args(Data)}
    return {FILES[rows]: {key: value for key, value in data.items() if key not in named}}


def agree(recipe: Recipe) -> None:
    """Raise UserError where parts do not fit together."""
    config, task = recipe.model_config, recipe.task
    if shape_of(config) not in task.shape.split(" or "):
        raise UserError(f"model: this task needs shape {task.shape}, and the model is {shape_of(config)}")
    check_rows(task, recipe.data)
    task.agree(config)


def read_yaml(path: Path) -> Any:
    """The data in a YAML file. Raises UserError for one that cannot be read or is no YAML."""
    try:
        return _unshared(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check the name and the rights") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start + 1} is not UTF-8; save it as UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not valid YAML ({getattr(error, 'problem', error)}); mend it") from error


def _unshared(data: Any) -> Any:
    """A copy in which what YAML's `*alias` repeats is repeated: an override then changes one place only."""
    if isinstance(data, dict):
        return {key: _unshared(value) for key, value in data.items()}
    return [_unshared(value) for value in data] if isinstance(data, list) else data


def names() -> list[str]:
    """The recipes that come with the package."""
    folder = resources.files("qkv") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe of the package by name, or a file by path, with `key.sub=value` overrides applied in order.

    Raises UserError for an unknown name (and lists those there are), an unreadable file, and any mistake inside.
    """
    if name.endswith((".yaml", ".yml")) or Path(name).is_file():
        path = Path(name)
    else:
        path = Path(str(resources.files("qkv") / "recipes" / f"{name}.yaml"))
        if not path.is_file():
            raise UserError(f"no recipe is called {name!r}; choose one of {', '.join(names())}, or give a .yaml file")
    data = read_yaml(path)
    if not isinstance(data, Mapping):
        raise UserError(f"{path} holds no recipe; write task, data, tokenizers and model (see qkv train --help)")
    for assignment in overrides:
        data = override(_one_bound(data, assignment), assignment)
    return from_data(data)


def _one_bound(data: Mapping[str, Any], assignment: str) -> dict[str, Any]:
    """A run is bounded by steps or by minutes: the bound that is given on the line replaces the recipe's."""
    training = data.get("training")
    for given, other in (("max_steps", "max_minutes"), ("max_minutes", "max_steps")):
        if assignment.startswith(f"training.{given}=") and isinstance(training, Mapping):
            training = {key: value for key, value in training.items() if key != other}
    return {**data, "training": training} if training is not None else dict(data)


def with_decoding(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """The recipe with other decoding, on top of its own: `beam.width=8`, `sample.top_k=9` or `decoding=greedy`."""
    if not overrides:
        return recipe
    own = plain(recipe.decoding, Chooser)
    for assignment in overrides:
        assignment = assignment.removeprefix("decoding.")
        if assignment.startswith("decoding="):
            own = override({}, assignment)["decoding"]
            continue
        entry = assignment.replace("=", ".").split(".")[0]
        own = override({entry: own.get(entry)} if isinstance(own, Mapping) else {}, assignment)
    return replace(recipe, decoding=parse(Chooser, own, "decoding"))
