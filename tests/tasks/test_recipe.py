"""Recipes: those of the package load, and what is written reads back."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from qkv.data.datasets import PairFiles, TextFiles
from qkv.decoding import Beam, Greedy, Sample
from qkv.errors import UserError
from qkv.tasks import recipe as recipes


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_of_the_package_survives_writing_and_reading(name: str) -> None:
    written = recipes.load(name).plain()
    again = recipes.from_data(yaml.safe_load(yaml.safe_dump(written, sort_keys=False)))
    assert again.plain() == written and written["format_version"] == 1


def test_overrides_apply_in_order() -> None:
    recipe = recipes.load("demo", ["training.max_steps=7", "training.max_steps=9"])
    assert recipe.training.max_steps == 9
    assert recipe.training.max_minutes is None, "the bound given on the line replaces the recipe's"


def test_files_replace_a_named_dataset() -> None:
    recipe = recipes.load("demo", ["data.train=a.tsv", "data.dev=b.tsv"])
    assert recipe.data == PairFiles("a.tsv", "b.tsv")
    recipe = recipes.load("shakespeare-char", ["data.train=a.txt", "data.dev=b.txt", "data.test=c.txt"])
    assert recipe.data == TextFiles("a.txt", "b.txt", "c.txt")


def test_a_nested_model_field_is_overridden_from_the_command_line() -> None:
    changes = ["model.encoder.block.attention.kernel=einsum", "model.encoder.n_layers=1"]
    own, recipe = recipes.load("multi30k-de"), recipes.load("multi30k-de", changes)
    attention = recipe.model_config.encoder.block.attention  # type: ignore[union-attr]
    # The recipe writes the decoder as an alias of the encoder; it does not change with it.
    assert recipe.model_config.decoder == own.model_config.decoder  # type: ignore[union-attr]
    assert type(attention.kernel).__name__ == "Einsum" and recipe.model_config.encoder.n_layers == 1  # type: ignore[union-attr]


def test_decoding_changes_on_top_of_the_recipes_own() -> None:
    recipe = recipes.load("demo", ["decoding={beam: {width: 4, length_penalty: 0.5}}"])
    assert recipes.with_decoding(recipe, ["beam.width=9"]).decoding == Beam(9, 0.5)
    assert recipes.with_decoding(recipe, ["decoding.beam.width=9"]).decoding == Beam(9, 0.5)
    assert recipes.with_decoding(recipe, ["sample.top_k=3"]).decoding == Sample(top_k=3)
    assert recipes.with_decoding(recipe, ["greedy={}"]).decoding == Greedy()
    assert recipes.with_decoding(recipe, ["decoding=greedy"]).decoding == Greedy()


def test_parts_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="this dataset has single texts"):
        recipes.load("demo", ["data=tinyshakespeare"])
    with pytest.raises(UserError, match="needs shape encoder_decoder"):
        recipes.load("demo", ["model={preset: gpt2}"])
    with pytest.raises(UserError, match="positions end at 64"):
        bounded = "model.stack.position={learned: 64}"
        recipes.load("shakespeare-char", [bounded, "task.language_model.windows.length=65"])
    learned = ["model.encoder.position={learned: 40}", "model.decoder.position={learned: 50}"]
    for longest in ([], ["task.translate.batch.max_length=41"]):
        with pytest.raises(UserError, match="positions end at 40; set"):
            recipes.load("demo", [*learned, *longest])
    recipes.load("demo", [*learned, "task.translate.batch.max_length=40"])
    with pytest.raises(UserError, match="keeps documents apart"):
        recipes.load("shakespeare-char", ["task.language_model.packing.length=64"])
    packed = ["task.language_model.packing.length=64", "model.stack.mask={all: {parts: [causal, same_document]}}"]
    recipes.load("shakespeare-char", packed)
