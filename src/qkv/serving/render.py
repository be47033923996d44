"""The pages as HTML, from the templates and a library. All links are relative, so a page works from a disk too."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from qkv.lab.answers import KEYS, typeset
from qkv.lab.evidence import Claim, Evidence
from qkv.lab.kit import Experiment
from qkv.serving import drawing, forms, words
from qkv.serving.content import LANGUAGES, Library
from qkv.serving.prose import html_of, plain_of, title_of

STATIC = Path(__file__).parent / "static"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("qkv.serving"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(number=number, sub=lambda text: Markup(title_of(text)))
    environment.globals.update(premises=words.PREMISES, keys=KEYS)
    return environment


def _page(template: str, language: str, name: str, live: bool, **values: Any) -> str:
    """name: of the page's file, the same in both languages. live: whether a server can run things."""
    other = "en" if language == "zh" else "zh"
    return (
        _environment()
        .get_template(template)
        .render(
            language=language,
            other=other,
            name=name,
            live=live,
            w=lambda key, **filled: words.word(key, language, **filled),
            category=lambda key: words.category(key, language),
            depth=lambda key: words.depth(key, language),
            unit=lambda key: words.unit(key, language),
            scripted={key: words.WORDS[key].of(language) for key in words.SCRIPTED},
            **values,
        )
    )


def index(library: Library, language: str, live: bool = False) -> str:
    """All questions, with filters."""
    questions = [entry.question for entry in library.entries.values()]
    return _page(
        "index.html",
        language,
        "index",
        live,
        entries=list(library.entries.values()),
        answered=sum(entry.answered for entry in library.entries.values()),
        categories=list(dict.fromkeys(c for q in questions for c in q.category)),
        depths=list(dict.fromkeys(q.depth for q in questions)),
    )


def question(library: Library, key: str, language: str, live: bool = False) -> str:
    """One question: its answer, or that it has none yet, and its experiments."""
    entry = library.entries[key]
    answer = entry.answers.get(language)
    titles = {k: e.question.title(language) for k, e in library.entries.items()}
    sections = {
        part: Markup(html_of(text, library.evidence, titles))
        for part, text in (answer.sections if answer else {}).items()
    }
    named = entry.question.experiments
    before, after = library.neighbours(key)
    return _page(
        "question.html",
        language,
        key,
        live,
        entry=entry,
        question=entry.question,
        sections=sections,
        runs=[_shown(library, library.experiments[n], language) for n in named if n in library.experiments],
        related=[library.entries[k] for k in library.related(key)],
        before=library.entries[before].question if before else None,
        after=library.entries[after].question if after else None,
    )


def inside(runs: Sequence[Mapping[str, str]], language: str) -> str:
    """Where one looks into trained runs: each with its `name` and an `example` to begin with."""
    return _page("inside.html", language, "inside", True, runs=runs)


def missing(language: str) -> str:
    """There is no such page."""
    return _page("missing.html", language, "index", True)


def front() -> str:
    """The page at the root of a static site: it goes on to the reader's language."""
    return _environment().get_template("front.html").render()


def result(evidence: Evidence, asserted: bool, language: str) -> str:
    """What a run that was started from a page has shown, as a piece of HTML. asserted: at default parameters."""
    return _page("result.html", language, "", True, run=_evidence(evidence, language), asserted=asserted, outdated="")


def search_index(library: Library) -> str:
    """The script that the search reads: titles and prose of all questions in both languages."""
    rows = []
    for key, entry in library.entries.items():
        row: dict[str, Any] = {"id": key, "label": entry.question.label}
        for language in LANGUAGES:
            answer = entry.answers.get(language)
            prose = (plain_of(text, library.evidence) for text in (answer.sections if answer else {}).values())
            row[language] = [entry.question.title(language), " ".join(prose)]
        rows.append(row)
    return f"window.questions = {json.dumps(rows, ensure_ascii=False)};\n"


def number(value: float) -> str:
    r"""A measurement as it is read: four significant digits, small and large ones with a power of ten.

    >>> number(1032.6968), number(0.000297178), number(4096), number(float("inf"))
    ('1033', '2.972\xa0×\xa010⁻⁴', '4096', '∞')
    """
    if value in (float("inf"), float("-inf")):
        return "∞" if value > 0 else "−∞"
    if value == int(value) and abs(value) < 1e6:
        return typeset(f"{int(value)}")
    if value and not 1e-3 <= abs(value) < 1e6:
        mantissa, exponent = f"{value:.3e}".split("e")
        return typeset(f"{float(mantissa):g}e{exponent}")
    return typeset(f"{value:.4g}")


def _shown(library: Library, experiment: Experiment, language: str) -> dict[str, Any]:
    """An experiment with its recorded evidence and the form that runs it again."""
    evidence = library.evidence.get(experiment.name)
    return {
        "experiment": experiment,
        "title": experiment.title(language),
        "controls": forms.controls(experiment),
        "evidence": _evidence(evidence, language) if evidence else None,
        "outdated": library.outdated(experiment.name),
    }


def _evidence(evidence: Evidence, language: str) -> dict[str, Any]:
    return {
        "plain": evidence,
        "claims": [_claim(claim, language) for claim in evidence.claims],
        "numbers": evidence.numbers,
        "figures": [
            {
                "name": name,
                "title": drawing.figures.localized(figure, language).get("title", ""),
                "svg": Markup(drawing.svg(figure, language)),
                "spec": drawing.themed(figure, language),
                "table": drawing.table(figure, language),
            }
            for name, figure in evidence.figures.items()
        ],
    }


def _claim(claim: Claim, language: str) -> dict[str, Any]:
    return {
        "claim": claim,
        "text": claim.text.of(language),
        "without": claim.control.of(language),
        "measured": _values(claim.measured),
        "against": _values(claim.against),
        "expected": {"< control": "< 对照", "> control": "> 对照"}.get(claim.expected, claim.expected)
        if language == "zh"
        else claim.expected,
    }


def _values(values: Sequence[float]) -> dict[str, str]:
    """The mean, and the least and most where there are several."""
    if not values:
        return {"mean": "–", "range": ""}
    mean = statistics.fmean(values)
    return {"mean": number(mean), "range": f"{number(min(values))} … {number(max(values))}" if len(values) > 1 else ""}
