"""The prose beside the experiments: parsed into its sections, checked, its placeholders filled from evidence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree import ElementTree

from qkv.errors import UserError

from .evidence import Evidence
from .questions import Question

SECTIONS = {
    "en": (
        "In two lines",
        "Derivation",
        "What the run shows",
        "Limits",
        "What would change our mind",
        "Sources",
        "Next questions",
    ),
    "zh": ("两句话回答", "推导", "运行结果", "局限", "什么会改变我们的看法", "出处", "接着问"),
}
KEYS = ("short", "derivation", "run", "limits", "doubt", "sources", "next")
"""The sections in the order of SECTIONS, by names of our own."""

PLACEHOLDER = re.compile(r"\{([a-z]\w*)\.([a-z][\w.]*?)(?::([^{}]*))?\}")
MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.DOTALL)
PARTS = {"mfrac": 2, "msub": 2, "msup": 2, "msubsup": 3, "mover": 2, "munder": 2, "munderover": 3, "mroot": 2}
"""How many parts a MathML element must have to be shown."""
NUMBER = re.compile(r"([+-]?)(\d[\d,]*(?:\.\d+)?)(?:e([+-]\d+))?(%?)")
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)


@dataclass(frozen=True)
class Answer:
    """An answer in one language. sections: by KEYS, Markdown with $mathematics$ and {placeholders}."""

    question: Question
    language: str
    sections: Mapping[str, str]


def read(question: Question, language: str) -> Answer | None:
    """The answer, or None where there is none yet. That every answer is without `faults` is tested."""
    path = question.path(language)
    if path is None:
        return None
    text = path.read_text(encoding="utf-8")
    return Answer(question, language, _sections(text, language))


def faults(question: Question, language: str, text: str) -> list[str]:
    """Why the text is no answer to the question; empty if it is one.

    Its sections are there and in order; it cites an experiment and only such as questions.yaml gives it; no number is
    typed in the section on the run; its mathematics renders."""
    parts = _sections(text, language)
    found = []
    titles = re.findall(r"^## +(.+?) *$", text, re.MULTILINE)
    if tuple(titles) != SECTIONS[language]:
        found.append(f"its sections are {', '.join(titles) or 'missing'}, not {', '.join(SECTIONS[language])}")
    found += [f"section {key!r} is empty" for key in KEYS if not parts.get(key, "").strip()]
    cited = {match[1] for match in PLACEHOLDER.finditer(MATH.sub("", CODE.sub("", text)))}
    if not question.experiments:
        found.append("questions.yaml gives it no experiment")
    if not cited:
        found.append("it cites no experiment: what a run produced is a placeholder {experiment.number}")
    found += [
        f"{name} is not among its experiments in questions.yaml" for name in sorted(cited - {*question.experiments})
    ]
    typed = typed_numbers(parts.get("run", ""))
    if typed:
        found.append(f"numbers typed where placeholders belong: {', '.join(typed)}")
    for match in MATH.finditer(CODE.sub("", text)):
        try:
            mathml(match[1] or match[2])
        except ValueError as error:
            found.append(str(error))
    return found


def typed_numbers(text: str) -> list[str]:
    """The numbers in a section on a run that are neither placeholder, mathematics, code nor a question's label."""
    for pattern in (CODE, PLACEHOLDER, MATH):
        text = pattern.sub(" ", text)
    text = re.sub(r"\b[AB]\d+\b", " ", text)
    return re.findall(r"(?<![A-Za-z_\d.])\d[\d.,]*(?:e-?\d+)?", text)


def fill(text: str, evidence: Mapping[str, Evidence], latex: bool = False) -> str:
    """The text with every {experiment.name:format} replaced by its value; "–" where there is no evidence yet.

    Numbers are typeset: a minus sign, powers of ten; with `latex` as mathematics wants them. Raises ValueError for a
    name that the evidence does not have."""

    def value(match: re.Match[str]) -> str:
        experiment, name, form = match.groups()
        if experiment not in evidence:
            return "–"
        values = evidence[experiment].values()
        if name not in values:
            raise ValueError(f"{match[0]}: {experiment} has no {name!r}; it has {', '.join(sorted(values))}")
        return typeset(_spell(values[name], form), latex)

    return PLACEHOLDER.sub(value, text)


def mathml(latex: str, block: bool = False) -> str:
    """LaTeX as MathML. Raises ValueError for what does not render: an unknown command, an unbalanced brace."""
    try:
        rendered = _convert(latex.strip(), display="block" if block else "inline")
    except UserError:
        raise
    except Exception as error:
        raise ValueError(f"${latex}$ does not render: {type(error).__name__} {error}") from error
    unknown = re.search(r"\\[A-Za-z]+", rendered)
    if unknown:
        raise ValueError(f"${latex}$ does not render: {unknown[0]} is not known")
    for part in ElementTree.fromstring(rendered).iter():
        name = part.tag.rpartition("}")[2]
        if len(part) != PARTS.get(name, len(part)):
            raise ValueError(f"${latex}$ does not render: {name} has {len(part)} parts, not {PARTS[name]}")
    return rendered


def _convert(latex: str, display: str) -> str:
    try:
        from latex2mathml.converter import convert
    except ModuleNotFoundError as missing:
        raise UserError(
            "rendering mathematics needs latex2mathml; install it with: pip install 'qkv[serve]'"
        ) from missing
    return convert(latex, display=display)


def _spell(value: float | str, form: str | None) -> str:
    if isinstance(value, str):
        return value
    if form:
        return format(int(value) if form[-1] == "d" else value, form)
    return f"{value:g}" if isinstance(value, float) else str(value)


def typeset(number: str, latex: bool = False) -> str:
    r"""A formatted number as it is printed, its parts kept in one line; what is no number stays.

    >>> typeset("-1.5e-07"), typeset("1e+12"), typeset("1e+12", latex=True), typeset("Post-norm")
    ('−1.5\xa0×\xa010⁻⁷', '10¹²', '10^{12}', 'Post-norm')
    """
    match = NUMBER.fullmatch(number)
    if match is None:
        return number
    sign, mantissa, exponent, percent = match.groups()
    if exponent and not float(mantissa):
        return "0"
    exponent = exponent if exponent and int(exponent) else None
    if latex:
        power = f"10^{{{int(exponent)}}}" if exponent else ""
        percent = percent and "\\%"
        return sign + (mantissa if not power else power if mantissa == "1" else f"{mantissa} \\times {power}") + percent
    power = f"10{superscript(int(exponent))}" if exponent else ""
    sign = sign.replace("-", "−")
    return sign + (mantissa if not power else power if mantissa == "1" else f"{mantissa}\u00a0×\u00a0{power}") + percent


def superscript(exponent: int) -> str:
    """The exponent of a power of ten, raised.

    >>> superscript(-5)
    '⁻⁵'
    """
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _sections(text: str, language: str) -> dict[str, str]:
    """By KEYS, whatever stands under each heading that is known."""
    found: dict[str, str] = {}
    keys = dict(zip(SECTIONS[language], KEYS, strict=True))
    for part in re.split(r"^## +", text, flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        if title.strip() in keys:
            found[keys[title.strip()]] = body.strip()
    return found
