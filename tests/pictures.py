"""What is wrong with a picture as a reader sees it: measured on graphviz's text, with the widths of a real font."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from html import unescape
from pathlib import Path

FONTS = Path("/usr/share/fonts/truetype/dejavu")
"""The widest of the fonts that stand in for Helvetica."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Drawn:
    """A node: its place and size in points, y upwards; lines of text, each of pieces with size and whether bold."""

    name: str
    x: float
    y: float
    width: float
    height: float
    lines: tuple[tuple[tuple[str, float, bool], ...], ...]
    shape: str

    def holds(self, point: Point, less: float) -> bool:
        x, y = point
        return abs(x - self.x) < self.width / 2 - less and abs(y - self.y) < self.height / 2 - less

    @property
    def is_words(self) -> bool:
        """Whether it is a text beside boxes."""
        return (
            re.fullmatch(r"(d\d+_)?((lane|stage|says|note|title|facts|key)\d*(_\d+)?|frame\d+n)", self.name) is not None
        )

    @property
    def is_box(self) -> bool:
        return re.fullmatch(r"(d\d+_)?n\d+(_\d+)?", self.name) is not None


@dataclass(frozen=True)
class Line:
    source: str
    target: str
    points: tuple[Point, ...]  # 3n + 1 control points


@dataclass(frozen=True)
class Sheet:
    nodes: dict[str, Drawn]
    lines: tuple[Line, ...]


def read(dot: str) -> Sheet:
    nodes: dict[str, Drawn] = {}
    lines = []
    for row in dot.splitlines():
        if found := re.match(r"\s*(\w+) -> (\w+) \[(.*)\]$", row):
            spline = re.search(r'pos="(?:e,\S+ )?([^"]*)"', found[3])
            assert spline is not None
            points = [(float(x), float(y)) for x, y in (pair.split(",") for pair in spline[1].split())]
            lines.append(Line(found[1], found[2], tuple(points)))
        elif (found := re.match(r"\s*(\w+) \[(.*)\]$", row)) and "pos=" in row:
            nodes[found[1]] = _drawn(found[1], found[2])
    return Sheet(nodes, tuple(lines))


def _drawn(name: str, text: str) -> Drawn:
    label = next(iter(re.findall(r"label=(<.*>|\"[^\"]*\"|\S*)(?= \w+=)", text)), "")
    attributes = text.replace(label, "")
    numbers = [re.search(rf"{key}=([\d.]+)", attributes) for key in ("width", "height")]
    place = re.search(r'pos="(-?[\d.]+),(-?[\d.]+)!"', attributes)
    assert place is not None
    width, height = (72 * float(number[1]) for number in numbers if number is not None)
    shape = re.search(r"shape=(\w+)", attributes)
    rows = re.findall(r'<TR><TD ALIGN="(?:CENTER|LEFT|RIGHT)"[^>]*>(.*?)</TD></TR>', label)
    piece = re.compile(r'<FONT POINT-SIZE="([\d.]+)"[^>]*>(<B>)?(.*?)(?:</B>)?</FONT>')
    lines = tuple(tuple((unescape(t), float(size), bool(b)) for size, b, t in piece.findall(row)) for row in rows)
    outer = 8.0 if "peripheries=2" in attributes else 0.0  # a second line, 4 points outside
    kind = shape[1] if shape else "ellipse"
    return Drawn(name, float(place[1]), float(place[2]), width + outer, height + outer, lines, kind)


@cache
def _font(bold: bool) -> object:
    from PIL import ImageFont

    return ImageFont.truetype(str(FONTS / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")), 100)


def width_of(text: str, size: float, bold: bool) -> float:
    length: float = _font(bold).getlength(text)  # type: ignore[attr-defined]
    return length * size / 100


def texts_outside(sheet: Sheet) -> Iterator[str]:
    """Lines of text that are wider than their box, and boxes that are too low for theirs."""
    for node in sheet.nodes.values():
        if not node.is_box:
            continue
        for line in node.lines:
            if (width := sum(width_of(*piece) for piece in line)) > node.width - 2:
                yield f"{''.join(text for text, *_ in line)}: {width:.1f} in {node.width:.1f}"
        high = sum(max((size for _, size, _ in line), default=0) * 1.17 for line in node.lines)
        if high > node.height:
            yield f"{node.lines[0]}: {high:.1f} high in {node.height:.1f}"


def sampled(line: Line) -> Iterator[Point]:
    for start in range(0, len(line.points) - 1, 3):
        (x0, y0), (x1, y1), (x2, y2), (x3, y3) = line.points[start : start + 4]
        steps = max(4, int((abs(x3 - x0) + abs(y3 - y0)) / 6))
        for i in range(steps + 1):
            t = i / steps
            a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
            yield a * x0 + b * x1 + c * x2 + d * x3, a * y0 + b * y1 + c * y2 + d * y3


def lines_through(sheet: Sheet, words: bool = False) -> Iterator[str]:
    """Lines that run through boxes that they do not belong to, or through words beside boxes."""
    wanted = [node for node in sheet.nodes.values() if (node.is_words if words else node.is_box)]
    for line in sheet.lines:
        own = {line.source, line.target, line.source.partition("_")[0], line.target.partition("_")[0]}
        others = [node for node in wanted if node.name not in own]
        for point in sampled(line):
            hit = next((node for node in others if node.holds(point, 2.5 if words else 1.0)), None)
            if hit is not None:
                yield f"{line.source} -> {line.target} through {hit.name} {hit.lines[:1]}"
                break


def overlapping(sheet: Sheet) -> Iterator[str]:
    """Boxes and words that lie on each other."""
    parts = sorted((n for n in sheet.nodes.values() if n.is_box or n.is_words), key=lambda n: n.x - n.width / 2)
    for i, a in enumerate(parts):
        for b in parts[i + 1 :]:
            if b.x - b.width / 2 > a.x + a.width / 2:
                break
            wide = min(a.x + a.width / 2, b.x + b.width / 2) - max(a.x - a.width / 2, b.x - b.width / 2)
            high = min(a.y + a.height / 2, b.y + b.height / 2) - max(a.y - a.height / 2, b.y - b.height / 2)
            room = 3.5 if a.is_words or b.is_words else 0.5  # words have some air around them
            if wide > room and high > room:
                yield f"{a.name} {a.lines[:1]} and {b.name} {b.lines[:1]}"
