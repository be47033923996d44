"""Markdown with $mathematics$ and {experiment.number} placeholders as HTML; labels such as A69 become links."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping

from markdown_it import MarkdownIt

from qkv.lab import answers
from qkv.lab.evidence import Evidence

KEPT = re.compile("\ue000(\\d+)\ue001")
CITED = re.compile(r"(?<![A-Za-z0-9\[/–-])([AB])([1-9]\d{0,2})(?![A-Za-z0-9]|\s?GPU)")
HAN = "\u3000-\u303f\u3400-\u9fff\uff00-\uffef“”‘’…—"
BROKEN = re.compile(f"(?<=[{HAN}])\n(?=[{HAN}])")
"""A line break between Chinese characters, which a browser would show as a space."""

_markdown = MarkdownIt("commonmark", {"html": False}).enable("table")


def html_of(text: str, evidence: Mapping[str, Evidence], titles: Mapping[str, str] | None = None) -> str:
    """The text as HTML. titles: of the questions that a label in the prose links to, by id.

    Raises ValueError for a placeholder that the evidence does not have, and for mathematics that does not render.
    """
    kept: list[str] = []

    def keep(fragment: str) -> str:
        kept.append(fragment)
        return f"\ue000{len(kept) - 1}\ue001"

    def math(match: re.Match[str]) -> str:
        # A number may stand inside mathematics; x_{i.j} is none, because no experiment is called i.
        latex = answers.PLACEHOLDER.sub(
            lambda m: answers.fill(m[0], evidence, latex=True) if m[1] in evidence else m[0], match[1] or match[2]
        )
        rendered = answers.mathml(latex, block=match[1] is not None)
        return keep(f'<span class="equation">{rendered}</span>' if match[1] is not None else rendered)

    def cite(match: re.Match[str]) -> str:
        key = f"{match[1].lower()}{match[2]}"
        if titles is None or key not in titles:
            return match[0]
        return keep(f'<a class="cite" href="{key}.html" title="{html.escape(titles[key])}">{match[0]}</a>')

    def outside_code(change: Callable[[str], str], whole: str) -> str:
        parts = re.split(f"({answers.CODE.pattern})", whole, flags=re.DOTALL)
        return "".join(part if i % 2 else change(part) for i, part in enumerate(parts))

    def change(part: str) -> str:
        part = answers.MATH.sub(math, part)
        part = answers.fill(part, evidence)
        part = CITED.sub(cite, part)
        return BROKEN.sub("", part)

    rendered = _markdown.render(outside_code(change, text))
    rendered = rendered.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
    return KEPT.sub(lambda mark: kept[int(mark[1])], rendered)


def title_of(text: str) -> str:
    """A title or a claim as HTML: d_k becomes d with a subscript k; names such as small_d stay.

    >>> title_of("√d_k < n_heads")
    '√d<sub>k</sub> &lt; n_heads'
    """
    return re.sub(
        r"(?<![A-Za-z0-9_])([A-Za-z]{1,2})_([A-Za-z0-9])(?![A-Za-z0-9_])", r"\1<sub>\2</sub>", html.escape(text)
    )


def plain_of(text: str, evidence: Mapping[str, Evidence]) -> str:
    """The words alone, for the search: no markup, of mathematics its letters."""

    def letters(match: re.Match[str]) -> str:
        return html.unescape(re.sub(r"<[^>]*>", "", answers.mathml(match[1] or match[2])))

    filled = answers.MATH.sub(letters, answers.fill(text, evidence))
    filled = re.sub(r"\[([^\]]*)\]\([^)]*\)|<(https?:[^>]*)>", r"\1\2", filled)
    return re.sub(r"\s+", " ", re.sub(r"[*_`#|\\]+", "", BROKEN.sub("", filled))).strip()
