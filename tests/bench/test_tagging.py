"""The baselines of the tagging bench, on rows that a glance at the neighbours decides, and the arms' settings."""

from __future__ import annotations

import pytest

from qkv.data.labelled import Tagged
from qkv.tasks import recipe as recipes

pytest.importorskip("seqeval")
pytest.importorskip("sklearn")
from bench.understanding import tagging

CITIES = ["boston", "denver", "dallas", "miami", "austin"]


class Toy:
    """Cities after `to` are B-to, those after `from` B-from; who says `fare` asks for one."""

    def load(self, split: str) -> list[Tagged]:
        rows = []
        for i, city in enumerate(CITIES):
            other = CITIES[i - 1]
            tags = ("O", "O", "B-from", "O", "B-to")
            rows.append(Tagged(("fly", "from", city, "to", other), tags, "flight"))
            rows.append(Tagged(("fare", "to", city, "from", other), ("O", "O", "B-to", "O", "B-from"), "airfare"))
        return rows if split != "test" else rows[::-1]


def test_a_window_sees_what_the_most_frequent_tag_cannot() -> None:
    linear, frequent = tagging._linear(Toy()), tagging._frequent(Toy())
    assert linear["slot_f1"] == linear["intent_accuracy"] == linear["sentence_accuracy"] == 1
    assert linear["free_f1"] == 1 and linear["free_broken"] == linear["broken_rows"] == 0
    assert frequent["slot_f1"] < 0.8 and frequent["intent_accuracy"] == 0.5


def test_what_an_arm_changes_is_there_to_be_changed() -> None:
    for name, arms in tagging.ARMS.items():
        whole = recipes.load(name, tagging.SMALL[name])
        made = {label: recipes.load(name, [*tagging.SMALL[name], *overrides]) for label, overrides in arms.items()}
        assert made.pop("nothing") == whole
        assert len({str(recipe.plain()) for recipe in made.values()} | {str(whole.plain())}) == len(made) + 1
