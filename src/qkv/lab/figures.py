"""Drawings as data: Vega-Lite specifications whose words are in two languages until they are drawn.

The page draws them live; `svg` and `png` draw them where there is no browser."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from qkv.errors import UserError

from .evidence import Text

Scale = Literal["linear", "log", "symlog"]
SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
WIDTH, HEIGHT = 460, 260


def _words(text: Text) -> dict[str, str]:
    return {"en": text.en, "zh": text.zh}


def _axis(field: str, kind: str, title: Text, scale: Scale = "linear") -> dict[str, Any]:
    axis: dict[str, Any] = {"field": field, "type": kind, "title": _words(title)}
    if kind == "quantitative":
        axis["scale"] = {"type": scale, "zero": False}
    return axis


def _spec(title: Text, mark: Any, values: list[dict[str, Any]], encoding: dict[str, Any]) -> dict[str, Any]:
    return {
        "$schema": SCHEMA,
        "title": _words(title),
        "width": WIDTH,
        "height": HEIGHT,
        "data": {"values": values},
        "mark": mark,
        "encoding": encoding,
    }


def lines(
    title: Text,
    x: Text,
    y: Text,
    series: Mapping[str, Sequence[tuple[float, float]]],
    names: Mapping[str, Text] | None = None,
    x_scale: Scale = "linear",
    y_scale: Scale = "linear",
) -> dict[str, Any]:
    """One line with points for each series of (x, y). names: what a series is called, where its key is no name."""
    values = [
        {"x": float(a), "y": float(b), "series": _words((names or {}).get(key, Text(key, key)))}
        for key, points in series.items()
        for a, b in points
    ]
    color = {"field": "series", "type": "nominal", "title": None, "sort": None}
    encoding = {
        "x": _axis("x", "quantitative", x, x_scale),
        "y": _axis("y", "quantitative", y, y_scale),
        "color": color,
    }
    return _spec(title, {"type": "line", "point": True, "tooltip": True}, values, encoding)


def bars(
    title: Text, y: Text, heights: Mapping[str, float], names: Mapping[str, Text] | None = None, scale: Scale = "linear"
) -> dict[str, Any]:
    """One bar for each entry, in the order given."""
    values = [
        {"x": _words((names or {}).get(key, Text(key, key))), "y": float(height)} for key, height in heights.items()
    ]
    encoding = {
        "x": {"field": "x", "type": "nominal", "title": None, "sort": None, "axis": {"labelAngle": 0}},
        "y": {**_axis("y", "quantitative", y, scale), "scale": {"type": scale}},
    }
    return _spec(title, {"type": "bar", "tooltip": True}, values, encoding)


def heat(title: Text, x: Text, y: Text, cells: Sequence[Sequence[float]], unit: Text) -> dict[str, Any]:
    """A table of numbers [rows, columns] as colours; the first row is at the top."""
    values = [
        {"x": column, "y": row, "value": float(cell)}
        for row, line in enumerate(cells)
        for column, cell in enumerate(line)
    ]
    encoding = {
        "x": {**_axis("x", "ordinal", x), "axis": {"labelAngle": 0}},
        "y": _axis("y", "ordinal", y),
        "color": {"field": "value", "type": "quantitative", "title": _words(unit)},
    }
    return _spec(title, {"type": "rect", "tooltip": True}, values, encoding)


def localized(drawing: Any, language: str) -> Any:
    """The specification with every {en, zh} replaced by its text in `language`."""
    if isinstance(drawing, dict):
        if set(drawing) == {"en", "zh"}:
            return drawing[language]
        return {key: localized(value, language) for key, value in drawing.items()}
    return [localized(value, language) for value in drawing] if isinstance(drawing, list) else drawing


def svg(drawing: dict[str, Any], language: str = "en") -> str:
    """The drawing as SVG text. Needs the extra `serve`."""
    return _converter().vegalite_to_svg(json.dumps(localized(drawing, language)))


def png(drawing: dict[str, Any], language: str = "en") -> bytes:
    """The drawing as a PNG image. Needs the extra `serve`."""
    return _converter().vegalite_to_png(json.dumps(localized(drawing, language)), scale=2)


def _converter() -> Any:
    try:
        import vl_convert
    except ModuleNotFoundError as missing:
        raise UserError(
            "drawing a figure needs vl-convert-python; install it with: pip install 'qkv[serve]'"
        ) from missing
    return vl_convert
