"""Every answer is whole, cites what it rests on, types no result, and renders; every refusal refuses."""

from __future__ import annotations

import re
import warnings

import pytest

from qkv.lab import answers, ledger
from qkv.lab.evidence import Evidence, Number
from qkv.lab.questions import Question, find, questions
from qkv.lab.registry import experiments
from qkv.lab.terminal import plain_math, readable

WRITTEN = [(q, language) for q in questions().values() for language in ("en", "zh") if q.path(language)]
IDS = [f"{q.id}-{language}" for q, language in WRITTEN]
RECORDED = ledger.read()

QUESTION = Question("a1", "Title", "题目", (), "L0", "sound", ("coin",), ())
GOOD = "\n\n".join(f"## {title}\n\ntext {{coin.share:.2f}}" for title in answers.SECTIONS["en"])


def test_every_experiment_says_in_both_languages_what_it_shows():
    for experiment in experiments().values():
        assert experiment.title("zh") != experiment.title("en"), f"{experiment.name}: add a line to lab/titles.yaml"
        assert any("\u4e00" <= character <= "\u9fff" for character in experiment.title("zh"))


def test_both_lists_are_whole():
    assert [q.id for q in questions().values()] == [f"a{i}" for i in range(1, 102)] + [f"b{i}" for i in range(1, 33)]
    assert all(re.search(r"[\u4e00-\u9fff]", q.zh) for q in questions().values())


@pytest.mark.parametrize("question", questions().values(), ids=lambda q: q.id)
def test_what_a_question_names_exists(question):
    assert set(question.experiments) <= set(experiments())
    assert set(question.related) <= set(questions()) - {question.id}
    assert bool(question.path("en")) == bool(question.path("zh")), "an answer has two languages or none"


@pytest.mark.parametrize(("question", "language"), WRITTEN, ids=IDS)
def test_an_answer_is_whole(question, language):
    text = question.path(language).read_text(encoding="utf-8")
    assert answers.faults(question, language, text) == []
    for match in answers.MATH.finditer(answers.CODE.sub("", text)):
        assert "\\" not in plain_math(match[1] or match[2]), match[0]


@pytest.mark.parametrize(("question", "language"), WRITTEN, ids=IDS)
def test_an_answer_is_filled_from_the_ledger(question, language):
    answer = answers.read(question, language)
    assert answer is not None
    for section in answer.sections.values():
        filled = answers.fill(section, RECORDED)
        assert not answers.PLACEHOLDER.search(answers.MATH.sub("", answers.CODE.sub("", filled)))
        assert "\0" not in readable(filled)
    assert set(question.experiments) <= set(RECORDED), (
        "record it: qkv lab verify NAME --record src/qkv/lab/ledger.jsonl"
    )


@pytest.mark.parametrize("name", RECORDED)
def test_the_ledger_is_of_this_code(name):
    """An experiment that was changed must be recorded again; after a change of the toolkit that is advised."""
    assert name in experiments(), f"the ledger's {name} is gone: remove its line"
    why = ledger.outdated(RECORDED[name], experiments()[name])
    assert "experiment" not in why, f"{name}: {why}; qkv lab verify {name} --full --record src/qkv/lab/ledger.jsonl"
    if why:
        warnings.warn(f"{name}: {why}", stacklevel=1)


@pytest.mark.parametrize("name", RECORDED)
def test_every_recorded_claim_holds(name):
    assert [claim.name for claim in RECORDED[name].claims if not claim.passed] == []


def test_an_answer_as_it_should_be():
    assert answers.faults(QUESTION, "en", GOOD) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: t.replace("## Limits", "## Limit"), "sections"),
        (lambda t: t.replace("## Limits\n\ntext {coin.share:.2f}", "## Limits\n"), "'limits' is empty"),
        (lambda t: t.replace("{coin.share:.2f}", "nothing"), "cites no experiment"),
        (lambda t: t.replace("coin.", "dice."), "dice is not among"),
        (lambda t: t.replace("shows\n\ntext", "shows\n\n0.37 of"), "typed"),
        (lambda t: t.replace("shows\n\ntext", "shows\n\nabout 5 %"), "typed"),
        (lambda t: t + " $\\nosuch{x}$", "render"),
        (lambda t: t + " $\\frac{x}$", "render"),
    ],
)
def test_what_is_no_answer_is_refused(change, complaint):
    assert complaint in "; ".join(answers.faults(QUESTION, "en", change(GOOD)))


def test_labels_mathematics_and_code_are_no_typed_numbers():
    assert answers.typed_numbers("A69 and $d=4$ and `n=3` and {coin.share:.2f} of {coin.n:3d} d_2") == []
    assert answers.typed_numbers("three of 4, or 2.5e-3") == ["4,", "2.5e-3"]


def test_placeholders_take_formats_and_name_what_is_missing():
    evidence = {"coin": Evidence("coin", {"n": 3}, 0, {"share": Number(0.5)})}
    assert answers.fill("{coin.share:.1%} of {coin.n} {dice.x}", evidence) == "50.0% of 3 –"
    with pytest.raises(ValueError, match="it has n, "):
        answers.fill("{coin.nosuch}", evidence)


@pytest.mark.parametrize(
    ("number", "plain", "latex"),
    [
        ("-0.25", "−0.25", "-0.25"),
        ("3.20e-05", "3.20\u00a0×\u00a010⁻⁵", "3.20 \\times 10^{-5}"),
        ("1e-16", "10⁻¹⁶", "10^{-16}"),
        ("0e+00", "0", "0"),
        ("2.5e+00", "2.5", "2.5"),
        ("12.5%", "12.5%", "12.5\\%"),
        ("Post-norm", "Post-norm", "Post-norm"),
    ],
)
def test_numbers_are_typeset(number, plain, latex):
    assert (answers.typeset(number), answers.typeset(number, latex=True)) == (plain, latex)


@pytest.mark.parametrize(
    ("query", "best"),
    [
        ("69", "a69"),
        ("A69", "a69"),
        ("b9", "b9"),
        ("why divide by √d_k", "a69"),
        ("标签平滑", "a30"),
        ("beam search", "a75"),
    ],
)
def test_questions_are_found(query, best):
    assert find(query)[0].id == best


@pytest.mark.parametrize("query", ["102", "b33", "a0", "zzz"])
def test_what_is_not_found_gets_a_sentence(query):
    from qkv.errors import UserError

    with pytest.raises(UserError):
        find(query)
