"""Figures of the lab on a page: one theme for the live drawing and for the SVG that stands where nothing runs.

Lines and letters are in `currentColor`, so a figure follows the page from light to dark and onto paper."""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from threading import Lock
from typing import Any

from qkv.lab import figures

FONT = "system-ui, 'Noto Sans', 'PingFang SC', 'Noto Sans CJK SC', 'Microsoft YaHei', sans-serif"
COLOURS = ["#3f76ac", "#c4622d", "#4b8b5f", "#a8842c", "#8a64ab", "#5c858f", "#b5566f", "#7d7d7d"]
"""Of series: each stands out at 3:1 or more from a light and from a dark page."""
_INK = {"labelColor": "currentColor", "titleColor": "currentColor", "labelFontSize": 11.5, "titleFontSize": 12}
THEME: dict[str, Any] = {
    "background": None,
    "font": FONT,
    "padding": 2,
    "view": {"stroke": None},
    "title": {"color": "currentColor", "fontSize": 13, "fontWeight": 600, "anchor": "start", "offset": 14},
    "axis": {
        **_INK,
        "titleFontWeight": 400,
        "titlePadding": 8,
        "domainColor": "currentColor",
        "domainOpacity": 0.45,
        "tickColor": "currentColor",
        "tickOpacity": 0.45,
        "gridColor": "currentColor",
        "gridOpacity": 0.1,
        "tickCount": 6,
    },
    "legend": {**_INK, "titleFontWeight": 400, "orient": "bottom", "columns": 3, "labelLimit": 320, "symbolSize": 70},
    "header": _INK,
    "text": {"color": "currentColor"},
    "rule": {"color": "currentColor"},
    "range": {"category": COLOURS, "heatmap": {"scheme": "tealblues"}, "ramp": {"scheme": "tealblues"}},
    "line": {"strokeWidth": 2},
    "point": {"size": 36, "filled": True},
    "bar": {"color": COLOURS[0]},
}


def themed(drawing: dict[str, Any], language: str) -> dict[str, Any]:
    """The specification in one language and in the pages' theme; what the drawing itself configures stays."""
    localized = figures.localized({k: v for k, v in drawing.items() if k != "$schema"}, language)
    return _finite({**localized, "config": {**THEME, **drawing.get("config", {})}})


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: such a point is left out of the drawing."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def svg(drawing: dict[str, Any], language: str) -> str:
    """The drawing as an <svg> element that scales with its column. Raises ValueError for no valid specification."""
    return _svg(json.dumps(themed(drawing, language), ensure_ascii=False))


@lru_cache(maxsize=1024)
def _svg(specification: str) -> str:
    drawn = figures.svg(json.loads(specification))
    drawn = re.sub(r'^.*?<svg ([^>]*?) width="[\d.]+" height="[\d.]+"', r'<svg \1 role="img"', drawn, flags=re.DOTALL)
    # Inside, the groups' roles would name no element that a screen reader knows; the figure's caption speaks.
    return re.sub(r' (?:aria-[a-z]+|role)="(?!img")[^"]*"', "", drawn)


def table(drawing: dict[str, Any], language: str, most: int = 80) -> tuple[list[str], list[list[str]]] | None:
    """The figure's numbers, (column titles, rows), for who cannot see it; None where there are none or too many."""
    localized = figures.localized(drawing, language)
    values = localized.get("data", {}).get("values", [])
    if not values or len(values) > most:
        return None
    columns = list(values[0])
    axes = {e.get("field"): e.get("title") for e in localized.get("encoding", {}).values() if isinstance(e, dict)}
    return [axes.get(c) or "" for c in columns], [[_cell(row.get(c)) for c in columns] for row in values]


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


_bundling = Lock()


def script() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script without requests; it defines window.vegaEmbed."""
    with _bundling:  # it takes seconds, so two pages that ask at once wait for the same one
        return _script()


@lru_cache(maxsize=1)
def _script() -> str:
    # The bundle is written as a module; in a function of its own none of its names leak.
    import vl_convert

    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return f"(()=>{{{bundle}}})();\n"
