"""Trials as SVG: of several objectives where they lie by two of them, with the front; of one how it rose or fell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from nasdsl.compiler.measures import lookup
from nasdsl.drawing.histogram import BAR, FONT, LINE, MARK, TEXT, short, ticks

WIDE, HIGH = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 66, 18, 40, 52


@dataclass(frozen=True)
class Dot:
    """A trial: its number and its place, and whether nothing is better."""

    number: int
    across: float
    up: float
    best: bool


def front_svg(title: str, dots: Sequence[Dot], across: str, up: str) -> str:
    """Trials by two of their values; those that nothing dominates are red and joined.

    Args:
        across, up: what the axes show.
    """
    line = sorted((dot for dot in dots if dot.best), key=lambda dot: dot.across)
    path = [(dot.across, dot.up) for dot in line]
    return _picture(title, dots, path, across, up, steps=False)


def progress_svg(title: str, dots: Sequence[Dot], up: str) -> str:
    """The value of each trial in the order of trials, and the best so far as a line: that of dots that are `best`."""
    path = [(dot.across, dot.up) for dot in dots if dot.best]
    if path and dots:
        path.append((max(dot.across for dot in dots), path[-1][1]))
    return _picture(title, dots, path, "trials", up, steps=True)


def _label(name: str) -> str:
    measure = lookup(name)
    return name if measure is None else measure.label


def _picture(
    title: str, dots: Sequence[Dot], path: Sequence[tuple[float, float]], across: str, up: str, steps: bool
) -> str:
    left, right = _range([dot.across for dot in dots])
    low, high = _range([dot.up for dot in dots])
    floor, end = HIGH - BOTTOM, WIDE - RIGHT

    def x(value: float) -> float:
        return LEFT + (value - left) / (right - left) * (end - LEFT)

    def y(value: float) -> float:
        return floor - (value - low) / (high - low) * (floor - TOP)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {HIGH}" width="{WIDE}" height="{HIGH}" '
        f'font-family="{FONT}" font-size="12" fill="{TEXT}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDE}" height="{HIGH}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="14" font-weight="bold">{escape(title)}</text>',
    ]
    for value in ticks(low, high, 4):
        out.append(f'<line x1="{LEFT}" x2="{end}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#e3e6ea"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{short(value)}</text>')
    for value in ticks(left, right, 6):
        out.append(f'<line x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{floor}" y2="{floor + 5}" stroke="{LINE}"/>')
        out.append(f'<text x="{x(value):.1f}" y="{floor + 18}" text-anchor="middle">{short(value)}</text>')
    out.append(f'<line x1="{LEFT}" x2="{end}" y1="{floor}" y2="{floor}" stroke="{LINE}"/>')
    middle, centre = (LEFT + end) / 2, (TOP + floor) / 2
    out.append(f'<text x="{middle:.0f}" y="{floor + 38}" text-anchor="middle">{escape(_label(across))}</text>')
    out.append(
        f'<text transform="translate(14 {centre:.0f}) rotate(-90)" text-anchor="middle">{escape(_label(up))}</text>'
    )
    if len(path) > 1:
        points = [f"M{x(path[0][0]):.1f} {y(path[0][1]):.1f}"]
        for a, b in path[1:]:
            points.append(f"H{x(a):.1f}V{y(b):.1f}" if steps else f"L{x(a):.1f} {y(b):.1f}")
        out.append(f'<path d="{"".join(points)}" fill="none" stroke="{MARK}" stroke-width="1.4"/>')
    for dot in sorted(dots, key=lambda dot: dot.best):  # what stands out lies on top
        told = escape(f"trial {dot.number}: {_label(across)} {dot.across:.6g}, {_label(up)} {dot.up:.6g}")
        colour, size = (MARK, 4) if dot.best else (BAR, 3)
        out.append(f'<circle cx="{x(dot.across):.1f}" cy="{y(dot.up):.1f}" r="{size}" fill="{colour}">')
        out.append(f"<title>{told}</title></circle>")
    return "\n".join([*out, "</svg>", ""])


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = (high - low) * 0.06 or abs(high) * 0.06 or 1.0
    return low - margin, high + margin
