"""The page that `qkv explain --html` writes: one file, no requests, data and drawing inside."""

from __future__ import annotations

import html
import json
import re
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qkv.probe.attention import Picture


def page(run: str, text: str, answer: str, pictures: list[Picture], layer: int | None, head: int | None) -> str:
    """The page as HTML; it opens at `layer` and `head` (None: the last layer, the mean of its heads)."""
    data = {
        "layer": layer,
        "head": head,
        "sites": [
            {
                "where": p.where,
                "title": p.title,
                "rows": p.rows,
                "columns": p.columns,
                # Four digits are finer than any screen shows and keep the file small.
                "weights": [[[[round(x, 4) for x in row] for row in h] for h in lay] for lay in p.weights.tolist()],
            }
            for p in pictures
        ],
    }
    # "</script>" inside a token must not end the element that holds the data.
    embedded = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    values = {"RUN": html.escape(run), "TEXT": html.escape(text), "ANSWER": html.escape(answer), "DATA": embedded}
    template = (resources.files("qkv.cli") / "page.html").read_text(encoding="utf-8")
    # In one pass, so that a text which looks like a mark is left alone.
    return re.sub(r"%(RUN|TEXT|ANSWER|DATA)%", lambda mark: values[mark[1]], template)
