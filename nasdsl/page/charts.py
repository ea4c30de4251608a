"""Small pictures of a page as SVG: curves, and maps of places by options. The page's style colours their texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from nasdsl.drawing.histogram import short, ticks

COLOURS = ("#0b62a4", "#d9822b", "#2e8b57", "#b5462f", "#7d5ba6", "#1596a8", "#c2559d", "#8a7a1f")
"""Of the first option, the second and so on: the same everywhere on a page."""
GREY = "#aab2bb"
CHARACTER = 7.0
"""Width of a character of the page's text in a picture, about."""


@dataclass(frozen=True)
class Curve:
    """A line through points; where a value is no number it is broken."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    colour: str = COLOURS[0]
    faint: bool = False


WIDE, HIGH = 400, 210
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 38


def curves(title: str, drawn: Sequence[Curve], along: str, floor: float | None = None, wide: int = WIDE) -> str:
    """Curves over a common axis.

    Args:
        title: for those who do not see the picture.
        along: what the axis shows.
        floor: the least value of the other axis; by default what fits.
        wide: the width of the picture, which is then drawn to fit.
    """
    frame = _Frame.of([x for one in drawn for x in one.xs], [y for one in drawn for y in one.ys], floor, wide)
    out = frame.begun(title, along)
    for one in sorted(drawn, key=lambda one: not one.faint):  # what stands out lies on top
        points = [(frame.x(a), frame.y(b)) for a, b in zip(one.xs, one.ys, strict=True) if math.isfinite(b)]
        path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points) if points else ""
        path += "h0" if len(points) == 1 else ""
        dot = "; stroke-width: 6; stroke-linecap: round" if len(points) == 1 else ""
        name = "faint" if one.faint else "curve"
        out.append(f'<path class="{name}" d="{path}" style="stroke: {one.colour}{dot}">')
        out.append(f"<title>{escape(one.name)}</title></path>")
    return "".join([*out, "</svg>"])


@dataclass(frozen=True)
class Dot:
    """A point, what it is, and whether it is the one that matters."""

    x: float
    y: float
    name: str
    ringed: bool = False


def dots(title: str, drawn: Sequence[Dot], along: str, wide: int = WIDE) -> str:
    """Points over an axis."""
    frame = _Frame.of([one.x for one in drawn], [one.y for one in drawn], None, wide)
    out = frame.begun(title, along)
    for one in sorted(drawn, key=lambda one: one.ringed):
        x, y = f"{frame.x(one.x):.1f}", f"{frame.y(one.y):.1f}"
        ring = f'<circle class="ring" cx="{x}" cy="{y}" r="6"/>' if one.ringed else ""
        out.append(f'{ring}<circle cx="{x}" cy="{y}" r="3" fill="{COLOURS[0]}" fill-opacity="0.65">')
        out.append(f"<title>{escape(one.name)}</title></circle>")
    return "".join([*out, "</svg>"])


def bars(title: str, edges: Sequence[float], counts: Sequence[float], along: str, wide: int = WIDE) -> str:
    """A histogram."""
    frame = _Frame.of(list(edges), [0, max(counts, default=0)], 0, wide)
    out = frame.begun(title, along)
    for i, count in enumerate(counts):
        left, right, top = frame.x(edges[i]), frame.x(edges[i + 1]), frame.y(count)
        if count:
            size = f'width="{max(right - left - 1, 1):.1f}" height="{HIGH - BOTTOM - top:.1f}"'
            out.append(f'<rect x="{left:.1f}" y="{top:.1f}" {size} fill="{COLOURS[0]}">')
            out.append(f"<title>{edges[i]:.4g} to {edges[i + 1]:.4g}: {count:g}</title></rect>")
    return "".join([*out, "</svg>"])


@dataclass(frozen=True)
class _Frame:
    """The axes of a picture: their ends, and its width."""

    left: float
    right: float
    low: float
    high: float
    wide: int

    @classmethod
    def of(cls, xs: Sequence[float], ys: Sequence[float], floor: float | None, wide: int) -> _Frame:
        """Axes that hold all finite values."""
        xs, ys = [x for x in xs if math.isfinite(x)], [y for y in ys if math.isfinite(y)]
        left, right = (min(xs), max(xs)) if xs else (0.0, 1.0)
        low, high = (min(ys), max(ys)) if ys else (0.0, 1.0)
        left, right = (left, right) if right > left else (0.0, 2 * left) if left > 0 else (left - 1, left + 1)
        margin = (high - low) * 0.06 or abs(high) * 0.06 or 1.0
        return cls(left, right, low - margin if floor is None else floor, high + margin, wide)

    def x(self, value: float) -> float:
        return LEFT + (value - self.left) / (self.right - self.left) * (self.wide - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HIGH - BOTTOM - (value - self.low) / (self.high - self.low) * (HIGH - TOP - BOTTOM)

    def begun(self, title: str, along: str) -> list[str]:
        """The beginning of the picture: axes, grid and figures."""
        base, end = HIGH - BOTTOM, self.wide - RIGHT
        out = [f'<svg viewBox="0 0 {self.wide} {HIGH}" role="img" aria-label="{escape(title)}">']
        for value in ticks(self.low, self.high, 4):
            y = self.y(value)
            out.append(f'<line class="grid" x1="{LEFT}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}"/>')
            out.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>')
        for value in ticks(self.left, self.right, self.wide // 80):
            x = self.x(value)
            out.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{base}"/>')
            out.append(f'<text x="{x:.1f}" y="{base + 15}" text-anchor="middle">{short(value)}</text>')
        out.append(f'<line class="axis" x1="{LEFT}" x2="{end}" y1="{base}" y2="{base}"/>')
        out.append(f'<text x="{(LEFT + end) / 2:.0f}" y="{HIGH - 6}" text-anchor="middle">{escape(along)}</text>')
        return out


@dataclass(frozen=True)
class Place:
    """A row of a map.

    Attributes:
        name, full: as it is shown, and in full.
        shares: of each option.
        taken: the option that was taken; None where none was.
        other: whether another is likelier by itself.
        gone: whether the place is not there in what was taken.
    """

    name: str
    full: str
    shares: Sequence[float]
    taken: int | None = None
    other: bool = False
    gone: bool = False


FEW = 10
"""Options of which a map has room for figures."""
LONGEST = 34
"""Characters of a name above a map."""
LONGEST_PLACE = 44
"""Of one beside it."""
ROW = 20


def heat(title: str, options: Sequence[str], places: Sequence[Place]) -> str:
    """A map of places by options: the likelier the darker. A frame marks what was taken, a red one where another is
    likelier by itself."""
    few = len(options) <= FEW
    cell = 44 if few else 24
    names, heads = [cut(one.name, LONGEST_PLACE) for one in places], [cut(one) for one in options]
    left = max(len(name) for name in names) * CHARACTER + 12
    top = max(len(head) for head in heads) * CHARACTER * 0.72 + 16
    over = max(0.0, max(len(head) * CHARACTER * 0.72 - (len(heads) - 1 - i) * cell for i, head in enumerate(heads)))
    wide, high = left + len(options) * cell + max(over - cell / 2, 0) + 4, top + len(places) * ROW + 4
    most = max((share for one in places for share in one.shares), default=0.0) or 1.0
    out = [
        f'<svg viewBox="0 0 {wide:.0f} {high:.0f}" width="{wide:.0f}" height="{high:.0f}" role="img" '
        f'aria-label="{escape(title)}">'
    ]
    for i, (option, head) in enumerate(zip(options, heads, strict=True)):
        x, y = left + (i + 0.5) * cell - 2, top - 6
        out.append(f'<text transform="translate({x:.1f} {y:.1f}) rotate(-45)">{escape(head)}')
        out.append(f"<title>{escape(option)}</title></text>")
    frames = []
    for row, (place, name) in enumerate(zip(places, names, strict=True)):
        y = top + row * ROW
        gone = ' class="gone"' if place.gone else ""
        out.append(f'<text{gone} x="{left - 7:.1f}" y="{y + 14:.1f}" text-anchor="end">{escape(name)}')
        out.append(f"<title>{escape(place.full)}</title></text>")
        for i, share in enumerate(place.shares):
            x, depth = left + i * cell, share / most
            told = escape(f"{place.full}: {options[i]} {share:.3g}")
            out.append(f'<g><title>{told}</title><rect x="{x:.1f}" y="{y:.1f}" width="{cell - 1}" height="{ROW - 1}" ')
            out.append(f'fill="{_shade(depth)}"/>')
            if few:
                light = ' style="fill:#fff"' if depth > 0.55 else ""
                figure = f"{share:.2f}".removeprefix("0")
                out.append(f'<text{light} x="{x + (cell - 1) / 2:.1f}" y="{y + 14:.1f}" text-anchor="middle">')
                out.append(f"{figure}</text>")
            out.append("</g>")
        if place.taken is not None:
            x = left + place.taken * cell
            colour = "var(--red)" if place.other else "var(--ink)"
            frames.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell - 1}" height="{ROW - 1}" fill="none" '
                f'style="stroke:{colour}" stroke-width="2.2"/>'
            )
    return "".join([*out, *frames, "</svg>"])


def cut(name: str, longest: int = LONGEST) -> str:
    """A long name without its middle."""
    if len(name) <= longest:
        return name
    half = (longest - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def _shade(depth: float) -> str:
    """From nearly white to dark blue."""
    return _between((244, 247, 250), (11, 79, 138), depth)


def ramp(depth: float) -> str:
    """From what was early, pale, to what was late, red."""
    return _between((248, 226, 196), (181, 70, 47), depth)


def _between(first: tuple[int, int, int], last: tuple[int, int, int], depth: float) -> str:
    ends = (first, last)
    return "#" + "".join(f"{round(a + (b - a) * depth):02x}" for a, b in zip(*ends, strict=True))
