"""What a notebook shows: of a space its summary and its picture, of an architecture its values."""

from __future__ import annotations

import html
from typing import Any

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.diagnostics import shortened
from nasdsl.compiler.engine.limits import bounded
from nasdsl.compiler.space import Space
from nasdsl.drawing.render import RenderError, svg
from nasdsl.overview import summary

PATIENCE = 500_000
"""Table entries that the figures of a summary may take: a cell of a notebook answers within a second or two."""
MOST_ROWS = 40
"""Decisions that a table lists."""
MOST_TEXT = 100
"""Characters of a value."""
MOST_LAYERS = 1000
"""Layers of a network that is still drawn."""


def paint(value: Any) -> str:
    """HTML of a space or an architecture."""
    return _architecture(value) if isinstance(value, Architecture) else _space(value)


def _space(space: Space) -> str:
    with bounded(PATIENCE):
        text = summary(space)
    table = f"<pre>{html.escape(text)}</pre>"
    if sum(1 for _ in space.graph.operators()) > MOST_LAYERS:
        return table
    try:
        picture = svg(space)
    except RenderError:  # no graphviz
        return table
    return f'{table}<div style="max-width: 100%; overflow: auto">{picture[picture.index("<svg") :]}</div>'


def _architecture(architecture: Architecture) -> str:
    shown = list(architecture.indices.items())[:MOST_ROWS]
    told = {path: shortened(architecture.decisions[path].describe(index), MOST_TEXT) for path, index in shown}
    rows = "".join(
        f"<tr><td>{html.escape(path)}</td><td>{html.escape(value)}</td></tr>" for path, value in told.items()
    )
    more = len(architecture) - len(shown)
    rest = f"<p>… and {more:,} more</p>" if more else ""
    return f"<table><thead><tr><th>decision</th><th>value</th></tr></thead><tbody>{rows}</tbody></table>{rest}"
