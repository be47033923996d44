"""An answer in the terminal: mathematics as readable text, prose as Rich renders Markdown, claims as a table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text as Line

from qkv.errors import UserError

from .answers import CODE, KEYS, MATH, SECTIONS, Answer, fill, typeset
from .evidence import Claim, Evidence

RAISED = dict(
    zip("0123456789+-=()abcdefghijklmnoprstuvwxyzTβγ", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᵀᵝᵞ", strict=True)
)
RAISED |= {"⊤": "ᵀ", "−": "⁻", "'": "′", "′": "′"}
LOWERED = dict(zip("0123456789+-=()aehijklmnoprstuvxβγρ", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓᵦᵧᵨ", strict=True))
LOWERED |= {"−": "₋"}
UP, DOWN = "\ue000", "\ue001"  # stand for ^ and _ until LaTeX is done with
OPEN, SHUT = "\ue002", "\ue003"  # around a fraction, which a function before it takes as a whole

WORDS = {
    "en": {
        "claim": "claim",
        "measured": "measured",
        "expected": "expected",
        "control": "control",
        "passed": "holds",
        "failed": "fails",
        "recorded": "from the last recorded run",
        "ran": "run just now",
    },
    "zh": {
        "claim": "论断",
        "measured": "测得",
        "expected": "应为",
        "control": "对照",
        "passed": "成立",
        "failed": "不成立",
        "recorded": "取自最近一次存档的运行",
        "ran": "刚刚运行",
    },
}


def plain_math(latex: str) -> str:
    """LaTeX as one line of Unicode.

    >>> plain_math(r"\\frac{QK^\\top}{\\sqrt{d_k}}"), plain_math("x_{t-1}^2"), plain_math(r"e^{-\\lambda t}")
    ('QKᵀ/√(dₖ)', 'xₜ₋₁²', 'e^(-λt)')
    >>> plain_math(r"\\ln\\frac{q_a}{q_b}")
    'ln(qₐ/q_b)'
    """
    text = re.sub(r"\\[td]frac", r"\\frac", latex.strip())
    while (shorter := _scripts(text)) != text:
        text = shorter
    text = _converter().latex_to_text(text).translate({ord(UP): "^", ord(DOWN): "_"})
    while OPEN in text:  # from the inside out
        text = re.sub(rf"((?:ln|log|exp) ?)?{OPEN}([^{OPEN}{SHUT}]*){SHUT}", _fraction, text)
    return re.sub(r"\s+(?=[\s),.;|\]])", "", text).replace("\n", " ").strip()


def _fraction(match: re.Match[str]) -> str:
    """A fraction; in parentheses where a function is of it."""
    return f"{match[1].strip()}({match[2]})" if match[1] else match[2]


def _scripts(latex: str) -> str:
    """Subscripts and superscripts, from the outside in, as Unicode ones where every character has one, else marked."""

    def replace(match: re.Match[str]) -> str:
        mark, inner = match[1], match[2] if match[2] is not None else match[3]
        text = _converter().latex_to_text(inner).strip()
        table = RAISED if mark == "^" else LOWERED
        if text and all(character in table for character in text):
            return "{}" + "".join(table[character] for character in text)
        return f"{{}}{UP if mark == '^' else DOWN}" + (inner if len(text) < 2 else f"({inner})")

    return re.sub(r"(?<!\\)([_^])(?:\{([^{}]*)\}|(\\[A-Za-z]+|[^\s{}\\]))", replace, latex)


@cache
def _converter() -> Any:
    try:
        from pylatexenc.latex2text import LatexNodes2Text, MacroTextSpec, get_default_latex_context_db
    except ModuleNotFoundError as missing:
        raise UserError("showing mathematics needs pylatexenc; install it with: pip install 'qkv[demo]'") from missing

    def fraction(node: Any, l2tobj: Any) -> str:
        parts = [l2tobj.nodelist_to_text([argument]).strip() for argument in node.nodeargd.argnlist]
        short = re.compile(rf"[\w∂√{UP}{DOWN}]+(\(.*\))?")
        above, below = (p if short.fullmatch(p) and len(p) < 4 else f"({p})" for p in parts)
        return f"{OPEN}{above}/{below if not parts[1].startswith('√') else parts[1]}{SHUT} "

    symbols = get_default_latex_context_db()
    ours = [MacroTextSpec("frac", simplify_repl=fraction)]
    ours += [MacroTextSpec("|", simplify_repl="‖"), MacroTextSpec("Vert", simplify_repl="‖")]
    symbols.add_context_category("ours", ours, prepend=True)
    return LatexNodes2Text(latex_context=symbols, math_mode="text")


def readable(markdown: str) -> str:
    """Markdown with $mathematics$ -> Markdown that any terminal can show."""
    kept: list[str] = []

    def keep(match: re.Match[str]) -> str:
        kept.append(match[0])
        return f"\0{len(kept) - 1}\0"

    text = MATH.sub(lambda m: re.sub(r"([_*\\`\[\]<|#])", r"\\\1", plain_math(m[1] or m[2])), CODE.sub(keep, markdown))
    return re.sub(r"\0(\d+)\0", lambda m: kept[int(m[1])], text)


def shown(answer: Answer, evidence: Mapping[str, Evidence], ran: Iterable[str]) -> RenderableType:
    """The whole answer: title, sections, and after the section on the run its claims; `ran`: what was run just now."""
    question, language = answer.question, answer.language
    words, live = WORDS[language], set(ran)
    parts: list[RenderableType] = [Line(f"{question.label}  {question.title(language)}", style="bold"), Line()]
    for key, title in zip(KEYS, SECTIONS[language], strict=True):
        body = readable(fill(answer.sections[key], evidence))
        if key != "short":
            parts.append(Line(title, style="bold cyan"))
        parts += [Markdown(body), Line()]
        if key == "run":
            for name in question.experiments:
                if name in evidence:
                    origin = words["ran" if name in live else "recorded"]
                    parts += [claims(evidence[name], language, f"{name} · {origin}"), Line()]
    return Group(*parts)


def claims(evidence: Evidence, language: str, title: str) -> Table:
    """The claims of one experiment: measured, expected, and what the control gave."""
    words = WORDS[language]
    table = Table(title=title, title_justify="left", title_style="dim", box=None, padding=(0, 2, 0, 0))
    for column in ("claim", "measured", "expected", "control"):
        table.add_column(words[column], ratio={"claim": 5, "control": 3}.get(column), overflow="fold")
    table.add_column("")
    for claim in evidence.claims:
        verdict = Line(words["passed"], style="green") if claim.passed else Line(words["failed"], style="bold red")
        against = f"{values(claim.against)} ({claim.control.of(language)})"
        unit = f" {claim.unit}" if claim.unit else ""
        told = claim.text.of(language) + (f" [{claim.error}]" if claim.error else "")
        table.add_row(Line(told), values(claim.measured) + unit, claim.expected, Line(against), verdict)
    return table


def values(measured: tuple[float, ...]) -> str:
    """One value, or the range over seeds.

    >>> values((0.5,)), values((0.41, 0.43, 0.42))
    ('0.5', '0.41 … 0.43')
    """
    if not measured:
        return "–"
    least, most = typeset(f"{min(measured):.3g}"), typeset(f"{max(measured):.3g}")
    return least if least == most else f"{least} … {most}"


def summary(claim: Claim) -> str:
    """A claim in one line of English, for tables of many."""
    return (
        f"{values(claim.measured)} {claim.unit}".strip()
        + f", expected {claim.expected}; control {values(claim.against)}"
    )


def print_answer(console: Console, answer: Answer, evidence: Mapping[str, Evidence], ran: Iterable[str]) -> None:
    """Show the answer on a console."""
    console.print(shown(answer, evidence, ran))
