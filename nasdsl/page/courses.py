"""The parts of a page that show how a training went: what was measured, and which units were removed when."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape

from nasdsl.compiler.space import Space
from nasdsl.drawing.histogram import short
from nasdsl.page.charts import CHARACTER, COLOURS, GREY, LONGEST_PLACE, Curve, curves, cut, ramp
from nasdsl.page.study import Removal, Training, label_of
from nasdsl.runtime.errors import RunError

NARROW = 300
"""Width of a picture of which four stand in a row."""
MOST_CHARTS = 8
UNMEASURED = frozenset({"step", "epoch", "units_at_start"})
COURSES = frozenset({"lambda", "penalty", "removed", "units"})
"""What the history of a shrinking tells beside metrics and costs."""
OF = " of "
"""Between a metric and the network that it is of, where several are followed."""
MEASURED_ELSEWHERE = frozenset({"gradient", "screen"})
"""Searches whose own part of the page has their curves."""


def measured_section(training: Training) -> str:
    """Metrics over epochs: a chart for each, with a curve for each network that is followed."""
    if training.search in MEASURED_ELSEWHERE or len(training.rows) < 1:
        return ""
    charts: dict[str, list[tuple[str, str]]] = {}
    for name in dict.fromkeys(name for row in training.rows for name in row):
        if name in UNMEASURED or name in COURSES or (training.removals and _is_cost(name)):
            continue
        metric, _, network = name.partition(OF)
        charts.setdefault(metric, []).append((name, network))
    drawn = [_chart(training, metric, columns) for metric, columns in list(charts.items())[:MOST_CHARTS]]
    if not drawn:
        return ""
    return f'<h2>What was measured</h2><div class="row fourths">{"".join(drawn)}</div>'


def _is_cost(name: str) -> bool:
    return label_of(name) != name


def _chart(training: Training, metric: str, columns: Sequence[tuple[str, str]]) -> str:
    few = len(columns) if len(columns) <= len(COLOURS) else len(COLOURS) - 1
    drawn = [_course(training, *one, metric, colour) for one, colour in zip(columns[:few], COLOURS, strict=False)]
    others = [replace(_course(training, *one, metric, GREY), faint=True) for one in columns[few:]]
    legend = "".join(
        f'<span title="{escape(one.name)}"><i style="background:{one.colour}"></i>{escape(cut(one.name))} '
        f"<b>{_figure(one.ys[-1])}</b></span>"
        for one in drawn
        if one.ys
    )
    if others:
        legend += f'<span><i style="background:{GREY}"></i>{len(others)} others</span>'
    return _figured(label_of(metric), [*drawn, *others], legend)


def _course(training: Training, name: str, network: str, metric: str, colour: str = COLOURS[0]) -> Curve:
    """Of a network, where several are followed, else of the one that is trained."""
    rows = [row for row in training.rows if name in row and "epoch" in row]
    return Curve(network or metric, [row["epoch"] for row in rows], [row[name] for row in rows], colour)


def _figured(title: str, drawn: Sequence[Curve], legend: str = "", floor: float | None = None) -> str:
    picture = curves(f"{title} by epochs", drawn, "epochs", floor, NARROW)
    told = f'<div class="legend">{legend}</div>' if legend else ""
    return f'<figure><h3>{escape(title)}</h3><div class="chart">{picture}</div>{told}</figure>'


def _figure(value: float) -> str:
    return short(value) if abs(value) >= 1e4 else f"{value:.4g}"


# --- Removals ---------------------------------------------------------------------------------------------------------


def removals_section(space: Space, training: Training) -> str:
    """What was removed when, and what is left in each place.

    Raises:
        RunError: the space has not these units.
    """
    if not training.removals and "units" not in training.numbers:
        return ""
    falling = "".join(_falling(training))
    parts = [f'<h2>What was removed when</h2><div class="row fourths">{falling}</div>'] if falling else []
    if not training.removals:
        parts.append('<p class="note">The run does not say where: it was begun with an earlier version.</p>')
        return "".join(parts)
    sizes = {path: decision.n for path, decision in space.graph.decisions.items() if decision.kind == "units"}
    for removal in training.removals:
        for path, left in removal.left.items():
            if left > sizes.get(path, -1):
                help = "name the file that was searched, as it was then, with `--file`"
                raise RunError(f"the history is not of {space.name}: it has no such units at `{path}`", help)
    epochs = [removal.epoch for removal in training.removals]
    at_once = training.search == "thin"
    ends = (
        f'<span><i style="background:{GREY}"></i>removed before the training</span>'
        if at_once
        else f'<span><i style="background:{ramp(0.0)}"></i>removed by epoch {epochs[0]:.3g}</span>'
        f'<span><i style="background:{ramp(1.0)}"></i>by epoch {epochs[-1]:.3g}</span>'
    )
    parts.append(
        f"<h2>Where units are left</h2>"
        f'<div class="legend"><span><i style="background:{COLOURS[0]}"></i>left</span>{ends}</div>'
        f'<div class="chart heat">{_bars(sizes, training.removals, at_once)}</div>'
    )
    return "".join(parts)


def _falling(training: Training) -> Iterator[str]:
    """Costs and units over time, what was removed at each measurement, and the penalty."""
    costs = [name for name in training.numbers if _is_cost(name) and training.search != "thin"]
    for name in [*costs, *(name for name in ("units", "removed", "lambda", "penalty") if name in training.numbers)]:
        title = {"units": "units left", "removed": "units removed"}.get(name, label_of(name))
        yield _figured(title, [_course(training, name, "", title)], floor=0)


ROW, BAR = 19, 260


def _bars(sizes: Mapping[str, int], removals: Sequence[Removal], at_once: bool) -> str:
    """A bar for each place: what is left of its units, and behind it what went, the later the darker."""
    names = {path: cut(path, LONGEST_PLACE) for path in sizes}
    left = max((len(name) for name in names.values()), default=0) * CHARACTER + 12
    wide, high = left + BAR + 90, len(sizes) * ROW + 4
    first, last = removals[0].epoch, removals[-1].epoch
    out = [
        f'<svg viewBox="0 0 {wide:.0f} {high:.0f}" width="{wide:.0f}" height="{high:.0f}" role="img" '
        f'aria-label="units left in each place">'
    ]
    for row, (path, n) in enumerate(sizes.items()):
        y = row * ROW + 2
        here, pieces = n, []
        for removal in removals:
            now = removal.left.get(path, here)
            if now < here:
                depth = (removal.epoch - first) / (last - first) if last > first else 0.0
                pieces.append((now, here, GREY if at_once else ramp(depth), removal.epoch))
                here = now
        gone = ' class="gone"' if here == 0 else ""
        out.append(f'<text{gone} x="{left - 7:.1f}" y="{y + 12}" text-anchor="end">{escape(names[path])}')
        out.append(f"<title>{escape(path)}</title></text>")
        pieces.append((0, here, COLOURS[0], math.nan))
        for low, top, colour, epoch in pieces:
            if top > low:
                when = "left" if math.isnan(epoch) else f"removed by epoch {epoch:.3g}"
                x, width = left + BAR * low / n, BAR * (top - low) / n
                out.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{ROW - 5}" fill="{colour}">')
                out.append(f"<title>{escape(path)}: {top - low} {when}</title></rect>")
        out.append(f'<text x="{left + BAR + 8:.1f}" y="{y + 12}">{here} of {n}</text>')
    return "".join([*out, "</svg>"])
