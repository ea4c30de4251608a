"""Where things go: time from left to right, one lane for each scale with the finest on top."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from nasdsl.drawing.scene import Item, Link, Scene

Point = tuple[float, float]

GAP = 14.0  # between columns
CROSSING = 3.5  # more for each line that changes lanes there
MOST_CROSSING = 30.0
STACK = 7.0  # between items of one lane and column
LANE = 16.0  # between lanes
STAGE = 16.0  # more between stages
ROW = 58.0  # between the rows that a long chain is broken into
SHAPE = 4.0  # how many times wider than high a picture may be before a chain is broken


@dataclass(frozen=True)
class Box:
    """An item's rectangle: its centre and its size, in points; y grows downwards."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> float:
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width / 2

    @property
    def top(self) -> float:
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height / 2


@dataclass(frozen=True)
class Band:
    """A stage: what it spans and what it is called."""

    name: str
    left: float
    right: float
    top: float
    bottom: float


@dataclass(frozen=True)
class Lane:
    """A scale, and the top of the first box that stands in it."""

    scale: Fraction | int
    x: float
    y: float


@dataclass(frozen=True)
class Placed:
    boxes: Mapping[str, Box]
    routes: Mapping[Link, tuple[Point, ...]]  # control points of cubic curves, 3n + 1
    bands: tuple[Band, ...]
    lanes: tuple[Lane, ...]
    width: float
    height: float


def place(scene: Scene, sizes: Mapping[str, Point]) -> Placed:
    """Positions for all items, and curves for all links."""
    columns = _columns(scene)
    scales = _lane_scales(scene, columns)
    used = {item.key: _nearest(item.scale, scales) for item in scene.items}
    cells: dict[tuple[int, int], list[Item]] = {}
    for item in scene.items:
        cells.setdefault((columns[item.key], used[item.key]), []).append(item)
    _order(cells, used, scene.links)
    boxes = _coordinates(scene, cells, columns, used, sizes)
    lanes = _lanes(scene, boxes, scales)
    rows = dict.fromkeys(boxes, 0) if lanes else _rows(scene, columns, boxes)
    boxes = _in_rows(boxes, rows)
    routes = _Router(boxes, scene.links, rows).routes()
    bands = _bands(scene, boxes, routes, rows)
    height = max([*(box.bottom for box in boxes.values()), *(band.bottom for band in bands)])
    width = max(box.right for box in boxes.values())
    return Placed(boxes, routes, bands, lanes, width, height)


def staged(scene: Scene) -> list[str]:
    """The groups that are stages of a loop: those with an index and more than one item."""
    count: dict[str, int] = {}
    for item in scene.items:
        count[item.group] = count.get(item.group, 0) + 1
    return [group for group, n in count.items() if n > 1 and re.search(r"\[\d+\]$", group)]


def _columns(scene: Scene) -> dict[str, int]:
    """The longest way to each item; a stage, and what follows one, begins where all before it has ended."""
    stages = set(staged(scene))
    sources: dict[str, list[str]] = {item.key: [] for item in scene.items}
    for link in scene.links:
        sources[link.target].append(link.source)
    out: dict[str, int] = {}
    start, last = 0, ""
    for item in scene.items:
        if item.group != last and (item.group in stages or last in stages):
            start = max(out.values(), default=-1) + 1
        last = item.group
        out[item.key] = max([start, *(out[source] + 1 for source in sources[item.key] if source in out)])
    return out


def _order(cells: Mapping[tuple[int, int], list[Item]], lanes: Mapping[str, int], links: Sequence[Link]) -> None:
    """Items that share a lane and a column stand in the order of the lanes that they read."""
    read: dict[str, list[int]] = {}
    for link in links:
        read.setdefault(link.target, []).append(lanes[link.source])
    for items in cells.values():
        items.sort(key=lambda item: sum(read.get(item.key, [0])) / len(read.get(item.key, [0])))


def _coordinates(
    scene: Scene,
    cells: Mapping[tuple[int, int], list[Item]],
    columns: Mapping[str, int],
    lane_of: Mapping[str, int],
    sizes: Mapping[str, Point],
) -> dict[str, Box]:
    heights: dict[int, float] = {}
    widths: dict[int, float] = {}
    for (column, lane), items in cells.items():
        total = sum(sizes[item.key][1] for item in items) + STACK * (len(items) - 1)
        heights[lane] = max(heights.get(lane, 0), total)
        widths[column] = max([widths.get(column, 0), *(sizes[item.key][0] for item in items)])
    centres: dict[int, float] = {}
    y = 0.0
    for lane in sorted(heights):
        centres[lane] = y + heights[lane] / 2
        y += heights[lane] + LANE
    crossing: dict[int, int] = {}
    for link in scene.links:
        if lane_of[link.source] != lane_of[link.target]:
            crossing[columns[link.target]] = crossing.get(columns[link.target], 0) + 1
    stages = staged(scene)
    first: dict[int, str] = {}
    for item in scene.items:
        first.setdefault(columns[item.key], item.group)
    middles: dict[int, float] = {}
    x, before = 0.0, ""
    for column in sorted(widths):
        gap = GAP + min(CROSSING * crossing.get(column, 0), MOST_CROSSING)
        if first[column] != before and (first[column] in stages or before in stages):
            gap += STAGE
        before = first[column]
        x += gap if middles else 0
        middles[column] = x + widths[column] / 2
        x += widths[column]
    boxes: dict[str, Box] = {}
    for (column, lane), items in cells.items():
        total = sum(sizes[item.key][1] for item in items) + STACK * (len(items) - 1)
        top = centres[lane] - total / 2
        for item in items:
            width, height = sizes[item.key]
            boxes[item.key] = Box(middles[column], top + height / 2, width, height)
            top += height + STACK
    return boxes


def _lane_scales(scene: Scene, columns: Mapping[str, int]) -> list[Fraction | int]:
    """The scales that have a lane: those that stand beside another in some column, or run past it. A chain has none."""
    present: dict[int, set[Fraction | int]] = {}
    scales = {item.key: item.scale for item in scene.items}
    for key, scale in scales.items():
        present.setdefault(columns[key], set()).add(scale)
    for link in scene.links:
        for column in range(columns[link.source] + 1, columns[link.target]):
            present[column].add(scales[link.source])
    return sorted({scale for found in present.values() if len(found) > 1 for scale in found}, reverse=True)


def _nearest(scale: Fraction | int, scales: Sequence[Fraction | int]) -> int:
    """The lane of a scale, or for what stands before and behind the lanes the one that is nearest."""
    if not scales:
        return 0
    return min(range(len(scales)), key=lambda i: max(scale, scales[i]) / Fraction(min(scale, scales[i])))


def _lanes(scene: Scene, boxes: Mapping[str, Box], scales: Sequence[Fraction | int]) -> tuple[Lane, ...]:
    out = []
    for scale in scales:
        inside = [boxes[item.key] for item in scene.items if item.scale == scale]
        first = min(inside, key=lambda box: (box.left, box.top))
        out.append(Lane(scale, first.x, first.top))
    return tuple(out)


def _bands(
    scene: Scene, boxes: Mapping[str, Box], routes: Mapping[Link, tuple[Point, ...]], rows: Mapping[str, int]
) -> tuple[Band, ...]:
    """The stages; one that goes on in the next row is shown in both. All bands of a row are of one height."""
    reach: dict[int, list[float]] = {}
    for key, box in boxes.items():
        reach.setdefault(rows[key], []).extend((box.top, box.bottom))
    for link, route in routes.items():
        if rows[link.source] == rows[link.target]:
            reach[rows[link.source]].extend(y for _, y in route)
    out = []
    for name in staged(scene):
        keys = [item.key for item in scene.items if item.group == name]
        for row in sorted({rows[key] for key in keys}):
            inside = [boxes[key] for key in keys if rows[key] == row]
            left, right = min(b.left for b in inside), max(b.right for b in inside)
            out.append(Band(name, left, right, min(reach[row]), max(reach[row])))
    return tuple(out)


# --- Rows -------------------------------------------------------------------------------------------------------------


def _rows(scene: Scene, columns: Mapping[str, int], boxes: Mapping[str, Box]) -> dict[str, int]:
    """The row of each item. A chain much wider than high is broken where one link is cut, best between stages."""
    right = max(box.right for box in boxes.values())
    height = max(box.bottom for box in boxes.values()) + ROW
    number = round((right / height / SHAPE) ** 0.5)
    if number < 2:
        return dict.fromkeys(boxes, 0)
    groups = {columns[item.key]: item.group for item in scene.items}
    places: dict[int, float] = {}  # columns that a row may begin with, and where they begin
    for column in range(1, max(columns.values()) + 1):
        cut = sum(columns[link.source] < column <= columns[link.target] for link in scene.links)
        if cut == 1:
            places[column] = min(boxes[key].left for key, c in columns.items() if c == column)
    begins: list[int] = []
    for row in range(1, number):
        wanted = right * row / number
        between = [c for c in places if groups[c] != groups[c - 1] and abs(places[c] - wanted) < 0.45 * right / number]
        candidates = [c for c in between or places if c > max(begins, default=0)]
        if candidates:
            begins.append(min(candidates, key=lambda c: abs(places[c] - wanted)))
    return {key: sum(begin <= column for begin in begins) for key, column in columns.items()}


def _in_rows(boxes: Mapping[str, Box], rows: Mapping[str, int]) -> dict[str, Box]:
    """Boxes moved to their rows."""
    step = max(box.bottom for box in boxes.values()) + ROW
    starts: dict[int, float] = {}
    for key, box in boxes.items():
        starts[rows[key]] = min(starts.get(rows[key], box.left), box.left)
    return {key: replace(box, x=box.x - starts[rows[key]], y=box.y + step * rows[key]) for key, box in boxes.items()}


class _Router:
    """Curves from the right side of one box to the left side of another that keep clear of the boxes between."""

    def __init__(self, boxes: Mapping[str, Box], links: Sequence[Link], rows: Mapping[str, int]):
        self.boxes = boxes
        self.links = links
        self.rows = rows
        self.detours: dict[tuple[int, int], int] = {}

    def routes(self) -> dict[Link, tuple[Point, ...]]:
        ends = self._ends()
        return {link: self._route(link, *ends[link]) for link in self.links}

    def _ends(self) -> dict[Link, tuple[Point, Point]]:
        """Where each link leaves and arrives: spread over the side of a box in the order of the other ends."""
        leaving: dict[str, list[Link]] = {}
        arriving: dict[str, list[Link]] = {}
        for link in self.links:
            leaving.setdefault(link.source, []).append(link)
            arriving.setdefault(link.target, []).append(link)
        starts: dict[Link, Point] = {}
        for key, links in leaving.items():
            box = self.boxes[key]
            for link in links:
                starts[link] = (box.right, box.y)
        ends: dict[Link, Point] = {}
        for key, links in arriving.items():
            box = self.boxes[key]
            links = sorted(links, key=lambda link: self.boxes[link.source].y)
            room = min(box.height * 0.6, 5.0 * (len(links) - 1))
            for i, link in enumerate(links):
                offset = 0.0 if len(links) == 1 else room * (i / (len(links) - 1) - 0.5)
                ends[link] = (box.left, box.y + offset)
        return {link: (starts[link], ends[link]) for link in self.links}

    def _route(self, link: Link, start: Point, end: Point) -> tuple[Point, ...]:
        (x0, y0), (x1, y1) = start, end
        if self.rows[link.source] != self.rows[link.target]:
            return self._to_next_row(link, start, end)
        own = (link.source, link.target)
        turn = min(x1 - x0, 34.0)
        short = x1 - x0 <= 60 or abs(y1 - y0) < 0.5
        if short and self._free(x0, x1, y0, y1, own):
            return _curve(start, end)
        if self._free(x0, x1 - turn, y0, y0, own):  # along the source's row, then across
            return (*_straight(start, (x1 - turn, y0)), *_curve((x1 - turn, y0), end)[1:])
        if self._free(x0 + turn, x1, y1, y1, own):  # across, then along the target's row
            return (*_curve(start, (x0 + turn, y1)), *_straight((x0 + turn, y1), end)[1:])
        return self._detour(start, end, own)

    def _to_next_row(self, link: Link, start: Point, end: Point) -> tuple[Point, ...]:
        """Back to the left between two rows."""
        (x0, y0), (x1, y1) = start, end
        below = min(box.top for key, box in self.boxes.items() if self.rows[key] == self.rows[link.target])
        middle = below - ROW * 0.62
        bend = 26.0
        x1 = x1 - 8.0
        out = (start, (x0 + bend, y0), (x0 + bend, middle), (x0, middle))
        back = ((x1 - bend, middle), (x1 - bend, y1), (x1, y1))
        return (*out, *_straight((x0, middle), (x1, middle))[1:], *back, *_straight((x1, y1), end)[1:])

    def _detour(self, start: Point, end: Point, own: tuple[str, str]) -> tuple[Point, ...]:
        """Over the boxes between, or under them where that is nearer."""
        (x0, y0), (x1, y1) = start, end
        between = [b for key, b in self.boxes.items() if key not in own and b.right > x0 and b.left < x1]
        rows = [b for b in between if b.top - 6 < max(y0, y1) and b.bottom + 6 > min(y0, y1)]
        above = min([b.top for b in rows], default=y0) - 6
        below = max([b.bottom for b in rows], default=y0) + 6
        side = above if (y0 - above) + (y1 - above) <= (below - y0) + (below - y1) else below
        slot = (round(side), round(x0 / 40))
        step = self.detours.get(slot, 0)
        self.detours[slot] = step + 1
        side += (-3.5 if side == above else 3.5) * min(step, 2)
        turn = min((x1 - x0) / 2, 16.0)
        up = _curve(start, (x0 + turn, side))
        along = _straight((x0 + turn, side), (x1 - turn, side))
        return (*up, *along[1:], *_curve((x1 - turn, side), end)[1:])

    def _free(self, x0: float, x1: float, y0: float, y1: float, own: tuple[str, str]) -> bool:
        """Whether no box stands in the rectangle that a curve stays in."""
        low, high = min(y0, y1) - 1, max(y0, y1) + 1
        return not any(
            key not in own and box.right > x0 + 1 and box.left < x1 - 1 and box.bottom > low and box.top < high
            for key, box in self.boxes.items()
        )


def _straight(start: Point, end: Point) -> tuple[Point, ...]:
    (x0, y0), (x1, y1) = start, end
    third = (x1 - x0) / 3
    rise = (y1 - y0) / 3
    return start, (x0 + third, y0 + rise), (x1 - third, y1 - rise), end


def _curve(start: Point, end: Point) -> tuple[Point, ...]:
    """Level at both ends."""
    (x0, y0), (x1, y1) = start, end
    if abs(y1 - y0) < 0.5:
        return _straight(start, end)
    middle = (x1 - x0) * 0.5
    return start, (x0 + middle, y0), (x1 - middle, y1), end
