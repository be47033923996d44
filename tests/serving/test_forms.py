"""Parameters as controls of a form, and forms as parameters."""

from __future__ import annotations

from typing import Any

import pytest

from qkv.serving import forms
from tests.serving.experiments import Squares, squares


def test_controls_have_the_bounds_and_the_words_of_the_dataclass() -> None:
    found = {control.name: control for control in forms.controls(squares)}
    assert list(found) == ["n", "scale", "kind", "signed", "pause", "waste", "sizes"]
    n, kind = found["n"], found["kind"]
    assert (n.kind, n.default, n.least, n.most, n.help) == ("int", 16, 2, 1000, "how many numbers are squared")
    assert (kind.kind, kind.choices, kind.default) == ("choice", ("normal", "uniform"), "normal")
    assert (found["scale"].kind, found["signed"].kind) == ("float", "bool")
    assert (found["sizes"].kind, found["sizes"].default) == ("yaml", "[1, 2]")
    assert found["pause"].help == found["waste"].help == "seconds to wait and GB to take"


def test_a_form_of_text_becomes_parameters() -> None:
    given = {"n": "1e2", "scale": "3", "kind": "uniform", "signed": False, "sizes": "[3, 4]"}
    parsed = forms.parameters(squares, given)
    assert parsed == Squares(n=100, scale=3.0, kind="uniform", signed=False, sizes=(3, 4))
    assert not forms.is_default(squares, parsed)
    unchanged = {control.name: control.default for control in forms.controls(squares)}
    assert forms.is_default(squares, forms.parameters(squares, unchanged))


@pytest.mark.parametrize(
    ("given", "field", "sentence"),
    [
        ({"n": "5000"}, "n", "n must lie from 2 to 1,000, and 5,000 does not"),
        ({"n": "1.5"}, "n", "n must be a whole number, not '1.5'"),
        ({"n": "many"}, "n", "n must be a whole number, not 'many'"),
        ({"n": True}, "n", "n must be a whole number, not True"),
        ({"scale": "nan"}, "scale", "scale must be a number"),
        ({"scale": ""}, "scale", "scale must be a number"),
        ({"kind": "cauchy"}, "kind", "expected one of normal, uniform"),
        ({"sizes": "[1, x]"}, "", "sizes.1: expected an integer"),
        ({"sizes": "[1"}, "sizes", "expected a list"),
        ({"m": "1"}, "", "unknown key"),
    ],
)
def test_what_an_experiment_does_not_take_is_refused_in_a_sentence(
    given: dict[str, Any], field: str, sentence: str
) -> None:
    with pytest.raises(forms.Refused, match=sentence.replace("(", r"\(")) as refused:
        forms.parameters(squares, given)
    assert refused.value.field == field and refused.value.text.zh


@pytest.mark.parametrize("given", [-1, "x", 10**9, 1.5, None])
def test_seeds_are_whole_numbers_within_bounds(given: Any) -> None:
    assert forms.seed("7") == 7
    with pytest.raises(forms.Refused, match="seed must"):
        forms.seed(given)
