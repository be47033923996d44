"""The run folder: what one training leaves behind, and how it is opened again.

config.yaml  tokenizers/{source,target}.json  model.safetensors  card.md  checkpoints/step-N/  metrics.jsonl
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from qkv.errors import UserError
from qkv.tasks import adapters
from qkv.tasks import model as models
from qkv.tasks import recipe as recipes
from qkv.tasks.recipe import Recipe
from qkv.tasks.task import System
from qkv.tasks.tokenizers import Tokenizers
from qkv.training.checkpoint import replace_file
from qkv.training.weights import assign, load_weights

CONFIG, WEIGHTS, TOKENIZERS, CARD = "config.yaml", "model.safetensors", "tokenizers", "card.md"


@dataclass
class Run:
    """An opened run: the recipe it was trained with, and the model ready to answer, in evaluation mode."""

    folder: Path
    recipe: Recipe
    system: System


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all. Raises UserError where the folder is not writable or the disk is full."""
    try:
        replace_file(path, lambda partial: partial.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; free some room or choose another --out") from error


def read_recipe(folder: Path) -> Recipe:
    """The recipe in config.yaml. Raises UserError where there is none, or it is damaged or of another version."""
    if not folder.is_dir():
        raise UserError(f"no run folder {folder}; train one: qkv train RECIPE --out {folder}")
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"{folder} is no run folder: it has no {CONFIG}; name the folder that qkv train wrote")
    return recipes.from_data(recipes.read_yaml(path), f"{path}: ")


def open_run(folder: str | Path, device: torch.device | str = "cpu") -> Run:
    """A run, ready to answer. Raises UserError for a folder that is missing, unfinished or damaged."""
    folder = Path(folder)
    recipe = read_recipe(folder)
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder} has no {WEIGHTS} yet: its training is not finished; resume it with qkv train")
    tokenizers = Tokenizers.load(folder / TOKENIZERS)
    model = adapters.corrected(models.fresh(recipe.model_config, tokenizers, recipe.task), recipe.adapter)
    assign(model, load_weights(folder / WEIGHTS), folder / WEIGHTS)
    model = adapters.merged(model, recipe.adapter)
    return Run(folder, recipe, System(model.to(device).eval(), tokenizers))
