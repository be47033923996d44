"""Markdown, mathematics, placeholders, labels: what becomes of each on a page."""

from __future__ import annotations

import pytest

from qkv.lab.answers import read
from qkv.serving.content import Library
from qkv.serving.prose import html_of, plain_of

TITLES = {"a69": 'Why "scale"?', "b9": "Half"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*a* **b**", "<p><em>a</em> <strong>b</strong></p>"),
        ("<b>x</b>", "<p>&lt;b&gt;x&lt;/b&gt;</p>"),
        ("see A69, B9.", 'href="b9.html" title="Half">B9</a>.'),
        ("见A69题", 'title="Why &quot;scale&quot;?">A69</a>题'),
        ("an A69 GPU, XA69, A691, `A69`", "<p>an A69 GPU, XA69, A691, <code>A69</code></p>"),
        ("平方\n增大\nof x", "<p>平方增大\nof x</p>"),
        ("{squares.n} and {other.x}", "<p>16 and –</p>"),
        ("`{squares.n} $y$`", "<code>{squares.n} $y$</code>"),
        ("a {squares.n:.1e} b1e5", "<p>a 1.6\u00a0×\u00a010¹ b1e5</p>"),
    ],
)
def test_text(text: str, expected: str, library: Library) -> None:
    assert expected in html_of(text, library.evidence, TITLES)


def test_mathematics_in_a_line_in_a_block_and_in_a_table(library: Library) -> None:
    line = html_of("with $x_{i.j} < 2$ and $n={squares.n}$", library.evidence)
    assert line.count("<math") == 2 and "–" not in line and "<mn>16</mn>" in line and "&#x0003C;" in line
    assert '<span class="equation"><math' in html_of("$$\nx\n$$", library.evidence)
    cells = html_of("| a | b |\n|---|---|\n| $|x|$ | 2 |", library.evidence)
    assert '<div class="wide"><table>' in cells and cells.count("<td>") == 2


def test_what_cannot_be_filled_or_rendered_is_an_error(library: Library) -> None:
    with pytest.raises(ValueError, match="squares has no 'nothing'"):
        html_of("{squares.nothing}", library.evidence)
    with pytest.raises(ValueError, match="does not render"):
        html_of("$\\frac{1$", library.evidence)


def test_the_search_reads_words_without_markup(library: Library) -> None:
    answer = read(library.entries["a69"].question, "zh")
    assert answer is not None
    assert plain_of(answer.sections["short"], library.evidence) == "平方随尺度增大：s2。"
    assert plain_of("**a** [b](https://x.org/y) `c` $\\sqrt{d_k}<1$", {}) == "a b c dk<1"
