"""Where things go: time from left to right, one lane for each scale with the finest on top, rows where it gets long."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from nasdsl.compiler.bound import SLOTS
from nasdsl.compiler.elaborate.values import show
from nasdsl.drawing.picture import Item, Link, Picture

Point = tuple[float, float]

GAP = 14.0  # between columns
CROSSING = 3.5  # more for each line that changes lanes there
MOST_CROSSING = 30.0
STACK = 7.0  # between items of one lane and column
LANE = 16.0  # between lanes
STAGE = 16.0  # more between stages
ROW = 50.0  # between the rows that a long picture is broken into, and
TRACK = 4.5  # more for each line that goes on in a later one
SHAPE = 4.0  # how many times wider than high a picture may be before a chain is broken
FRAME = 6.0  # around what is repeated
USUAL_RISE = 5.0  # of a line over the boxes of a row
LANE_NAME = 6.0  # and more over a lane's name
TALL = 90.0  # what is higher is read level with where a line comes from
BESIDE = 45.0  # for the lines beside the rows
EDGE = 14.0  # from the boxes of a row to the lines beside it
LABEL = 38.0  # for the names of lanes before permuted blocks
NOTE = 16.0  # a line under the picture
DETAIL = 24.0  # between a picture and the details under it
INSET = 14.0  # from the frame of a detail to what is in it
HEADING, BAND_NAME = 24.0, 18.0  # over a detail, and more where it has stages
DOT = 11.0  # where a block may stand
MANY = 400  # boxes that no page holds
COMPACT = 0.6  # of the room between boxes, where a picture is too large
PAGES = ((955.0, 585.0), (668.0, 875.0))
"""Width and height of what a page of A4 holds beside title and legend, lying and standing, where the smallest letters,
of 7 points here, are printed in 6."""


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
    """A scale or an option, and the top of the first box that stands in it; or with an end the line that all its boxes
    stand on."""

    name: str
    x: float
    y: float
    end: float | None = None


@dataclass(frozen=True)
class Placed:
    """
    Attributes:
        dots: where a block stands at each scale that is open to it; its box is a heading above them.
        routes: control points of cubic curves, 3n + 1, of all links that are drawn; where steps lead to another row, of
            a link in their place.
        apart: the details, each where it stands under the picture.
    """

    boxes: Mapping[str, Box]
    routes: Mapping[Link, tuple[Point, ...]]
    bands: tuple[Band, ...]
    frames: tuple[Band, ...]
    lanes: tuple[Lane, ...]
    left: float
    width: float
    height: float
    rows: int
    dots: Mapping[str, Mapping[Fraction | int, Point]] = field(default_factory=dict)
    apart: tuple[Placed, ...] = ()


def lay_out_all(
    scene: Picture, sizes: Mapping[str, Point], inner: Sequence[Mapping[str, Point]], compact: bool = False
) -> Placed:
    """A picture with its details under it, side by side as far as a page is wide.

    Args:
        sizes: of the items of the picture.
        inner: of those of each detail.
    """
    if not scene.details:
        return lay_out(scene, sizes, compact)
    details = [lay_out(detail, own, compact) for detail, own in zip(scene.details, inner, strict=True)]
    found = []
    for across, _ in PAGES:
        places, width, height = _side_by_side(scene.details, details, across)
        main = lay_out(scene, sizes, compact, height)
        left, top = main.left, main.height + DETAIL
        apart = [_moved(one, left + x, top + y) for one, (x, y) in zip(details, places, strict=True)]
        whole = replace(main, width=max(main.width, left + width), height=top + height, apart=tuple(apart))
        found.append(whole)
    return min(found, key=lambda placed: shrinkage(scene, placed))


def _side_by_side(
    scenes: Sequence[Picture], placed: Sequence[Placed], across: float
) -> tuple[list[Point], float, float]:
    """Where details stand in rows, and how much room these take. A detail's own left upper corner is its first box."""
    places: list[Point] = []
    x, y, widest, high = 0.0, 0.0, 0.0, 0.0
    for scene, one in zip(scenes, placed, strict=True):
        top = min([*(box.top for box in one.boxes.values()), *(band.top for band in one.bands)])
        top -= HEADING + (BAND_NAME if one.bands else 0.0)
        wide = max(one.width - one.left, least_width(scene)) + 2 * INSET
        if x and x + wide > across:
            x, y, high = 0.0, y + high + DETAIL, 0.0
        places.append((x + INSET - one.left, y - top))
        x += wide + DETAIL
        widest, high = max(widest, x - DETAIL), max(high, one.height - top + INSET)
    return places, widest, y + high


def least_width(scene: Picture) -> float:
    """About how wide a detail's heading is."""
    return 6.5 * len(scene.name) + 4.6 * len(scene.facts)


def _moved(placed: Placed, x: float, y: float) -> Placed:
    """The same in another place."""

    def moved(band: Band) -> Band:
        return Band(band.name, band.left + x, band.right + x, band.top + y, band.bottom + y)

    return replace(
        placed,
        boxes={key: replace(box, x=box.x + x, y=box.y + y) for key, box in placed.boxes.items()},
        routes={link: tuple((a + x, b + y) for a, b in route) for link, route in placed.routes.items()},
        bands=tuple(map(moved, placed.bands)),
        frames=tuple(map(moved, placed.frames)),
        lanes=tuple(
            replace(lane, x=lane.x + x, y=lane.y + y, end=None if lane.end is None else lane.end + x)
            for lane in placed.lanes
        ),
        left=placed.left + x,
        width=placed.width + x,
        height=placed.height + y,
        dots={key: {scale: (a + x, b + y) for scale, (a, b) in of.items()} for key, of in placed.dots.items()},
    )


def lay_out(scene: Picture, sizes: Mapping[str, Point], compact: bool = False, below: float = 0.0) -> Placed:
    """Positions for all items, and curves for all links.

    A picture that is wider than a page goes on in the next row. Of the widths of a lying and of a standing page the
    first is taken with which it fits, or else the one with which it has to be shrunk least.

    Args:
        below: how much of a page is taken by something else.
    """
    strip = _Strip(scene, sizes, _columns(scene), COMPACT if compact else 1.0)
    found = []
    for width in strip.widths():
        found.append(strip.placed(width))
        if shrinkage(scene, found[-1], below) <= 1:
            return found[-1]
    least = min(shrinkage(scene, placed, below) for placed in found)
    fitting = (placed for placed in found if shrinkage(scene, placed, below) < least + 0.02)
    return min(fitting, key=lambda placed: placed.rows)


def shrinkage(scene: Picture, placed: Placed, below: float = 0.0) -> float:
    """By how much a picture is too large for a page; 1 if it fits."""
    width, height = placed.width - placed.left, placed.height + NOTE * len(scene.notes) + below
    return min(max(width / across, height / down, 1.0) for across, down in PAGES)


def staged(scene: Picture) -> list[str]:
    """The groups that are drawn as such: stages of a loop, which have an index and more than one item, and the parts of
    a detector."""
    count: dict[str, int] = {}
    for item in scene.items:
        count[item.group] = count.get(item.group, 0) + 1
    parts = set(SLOTS) if {"backbone", "head"} <= count.keys() else set()
    return [group for group, n in count.items() if group in parts or (n > 1 and re.search(r"\[\d+\]$", group))]


def _columns(scene: Picture) -> dict[str, int]:
    """The longest way to each item. A stage, and what follows one, begins where all before it has ended; so does a
    block that has its place in an order, or that more than one scale is open to."""
    stages = set(staged(scene))
    sources: dict[str, list[str]] = {item.key: [] for item in scene.items}
    for link in scene.links:
        sources[link.target].append(link.source)
    alone = set(scene.permuted) | {item.key for item in scene.items if item.scales}
    out: dict[str, int] = {}
    start, last, single = 0, "", False
    for item in scene.items:
        changes = item.group != last and (item.group in stages or last in stages)
        if changes or single or item.key in alone:
            start = max(out.values(), default=-1) + 1
        last, single = item.group, item.key in alone
        out[item.key] = max([start, *(out[source] + 1 for source in sources[item.key] if source in out)])
    if not scene.permuted:
        _move_late(scene, out, sources)
    return out


def _move_late(scene: Picture, columns: dict[str, int], sources: Mapping[str, Sequence[str]]) -> None:
    """Alternatives that read the same tensor but are read at different times stand before what reads them, so that no
    column is much higher than the others."""
    targets: dict[str, list[str]] = {item.key: [] for item in scene.items}
    for link in scene.links:
        targets[link.source].append(link.target)
    items = {item.key: item for item in scene.items}
    for item in reversed(scene.items):
        if len(sources[item.key]) != 1 or not targets[item.key] or item.kind != "choice":
            continue
        (source,) = sources[item.key]
        last = min(columns[target] for target in targets[item.key]) - 1
        readers = [t for t in targets[source] if items[t].scale == item.scale and items[t].group == item.group]
        same = all(items[target].group == item.group for target in targets[item.key])
        if same and len(readers) > 1 and last > columns[item.key]:
            columns[item.key] = last


def _order(cells: Mapping[tuple[int, int], list[Item]], lanes: Mapping[str, int], links: Sequence[Link]) -> None:
    """Items that share a lane and a column stand in the order of the lanes that they read."""
    read: dict[str, list[int]] = {}
    for link in links:
        read.setdefault(link.target, []).append(lanes[link.source])
    for items in cells.values():
        items.sort(key=lambda item: sum(read.get(item.key, [0])) / len(read.get(item.key, [0])))


class _Strip:
    """A scene in columns, to be cut into rows."""

    def __init__(self, scene: Picture, sizes: Mapping[str, Point], columns: Mapping[str, int], density: float):
        self.scene, self.sizes, self.columns = scene, sizes, columns
        self.lane, self.stack, self.gap, self.between = (density * room for room in (LANE, STACK, GAP, ROW))
        self.between = max(self.between, 44.0)
        self.stages = set(staged(scene))
        self.by_column: dict[int, list[Item]] = {}
        for item in scene.items:
            self.by_column.setdefault(columns[item.key], []).append(item)
        self.order = sorted(self.by_column)
        self.scales = {item.key: item.scale for item in scene.items}
        self.options = {item.key: item.option for item in scene.items}
        permuted = [item for item in scene.items if item.key in scene.permuted]
        self.levels = {scale for item in permuted for scale in (item.scales or (item.scale,))}
        self.headed = {item.key for item in permuted if item.scales}
        self.dots: dict[str, dict[Fraction | int, Point]] = {}
        lanes = self._lane_scales(self.order)
        boxes = self._row(self.order, lanes)
        self.chain = not lanes and not any(self.options.values())
        self.right = max(box.right for box in boxes.values())
        self.height = max(box.bottom for box in boxes.values()) + ROW
        self.starts = {c: min(boxes[i.key].left for i in self.by_column[c]) for c in self.order}
        self.stops = {c: max(boxes[i.key].right for i in self.by_column[c]) for c in self.order}

    def widths(self) -> list[float]:
        """The widths of rows that are tried: one where no page can hold so much."""
        if len(self.scene.items) > MANY:
            return [PAGES[0][0]]
        if self.chain:
            number = round((self.right / self.height / SHAPE) ** 0.5)
            if number > 1:
                return [min(self.right / number * 1.12, PAGES[0][0]), PAGES[1][0]]
        narrower = [width - beside for width, _ in PAGES for beside in (0.0, BESIDE / 2, BESIDE)]
        return [self.right, *narrower] if self.right <= PAGES[0][0] else narrower

    def placed(self, width: float) -> Placed:
        """Rows of a width, further apart where lines run high over the boxes of the next one, which stages' names do
        too."""
        rows = self._cut(width)
        found, over = self._placed(rows, [0.0] * len(rows))
        return self._placed(rows, over)[0] if max(over) > 0 else found

    def _placed(self, rows: Sequence[Sequence[int]], over: Sequence[float]) -> tuple[Placed, list[float]]:
        """
        Args:
            over: the room that each row needs over it, beside what every one has.

        Returns:
            Also the room that the lines of each row need over it.
        """
        boxes: dict[str, Box] = {}
        lanes: list[Lane] = []
        dots: dict[str, dict[Fraction | int, Point]] = {}
        row_of: dict[str, int] = {}
        y = 0.0
        for number, row in enumerate(rows):
            scales = self._lane_scales(row)
            found = self._row(row, scales)
            y += over[number]
            top = min(box.top for box in found.values())
            found = {key: replace(box, y=box.y + y - top) for key, box in found.items()}
            for key in self.headed & found.keys():
                dots[key] = {scale: (a, b + y - top) for scale, (a, b) in self.dots[key].items()}
            boxes |= found
            row_of |= dict.fromkeys(found, number)
            lanes += self._lanes(row, found, scales, dots)
            pairs = [(link.source, link.target) for link in self.scene.links if link.state != "told"]
            pairs += [(one, other) for (one, _), (other, _) in self.scene.steps]
            going = {source for source, target in pairs if row_of.get(source) == number and target not in row_of}
            lowest = max((b + DOT / 2 for key in found for _, b in dots.get(key, {}).values()), default=0.0)
            y = max([lowest, *(box.bottom for box in found.values())]) + self.between + TRACK * len(going)
        links = [link for link in self.scene.links if link.state != "told"]
        further = {(one, other) for (one, _), (other, _) in self.scene.steps if row_of[one] != row_of[other]}
        links += [Link(*pair) for pair in sorted(further)]
        frames = self._frames(boxes, row_of, lanes)
        routes = _Router(boxes, links, row_of, lanes, frames, dots).routes()
        bands = self._bands(boxes, routes, row_of, dots)
        points = [point for route in routes.values() for point in route]
        points += [(a, b + DOT / 2) for of in dots.values() for a, b in of.values()]
        height = max(
            [*(box.bottom for box in boxes.values()), *(band.bottom for band in bands), *(y for _, y in points)]
        )
        right = max([*(box.right for box in boxes.values()), *(x for x, _ in points)])
        left = min([*(box.left for box in boxes.values()), *(x for x, _ in points)])
        placed = Placed(boxes, routes, bands, frames, tuple(lanes), left, right, height, len(rows), dots)
        return placed, self._overhead(placed, row_of)

    def _overhead(self, placed: Placed, row_of: Mapping[str, int]) -> list[float]:
        """How much higher than usual the lines of each row rise over its boxes; nothing over the first one, and where
        there are no stages."""
        tops = [float("inf")] * placed.rows
        for key, box in placed.boxes.items():
            tops[row_of[key]] = min(tops[row_of[key]], box.top)
        over = [0.0] * placed.rows
        for link, route in placed.routes.items() if placed.bands else ():
            row = row_of[link.source]
            if row and row == row_of[link.target]:
                over[row] = max(over[row], tops[row] - min(y for _, y in route) - USUAL_RISE)
        return over

    # --- Rows

    def _cut(self, width: float) -> list[list[int]]:
        """Rows of columns no wider than asked for, cut where few lines are, best between stages."""
        columns = self.order
        cost = [0.0] + [float("inf")] * len(columns)
        begin = [0] * (len(columns) + 1)
        cuts = [self._cut_cost(column) for column in columns]
        for end in range(1, len(columns) + 1):
            for start in range(end - 1, -1, -1):
                wide = self.stops[columns[end - 1]] - self.starts[columns[start]]
                if wide > width + 0.5 and start < end - 1:
                    break
                free = max(1 - wide / width, 0.0)
                own = free**2 * (4 if end == len(columns) else 12) + (cuts[start] if start else 0)
                own += 8 if end - start == 1 and len(columns) > 2 else 0
                if cost[start] + own < cost[end]:
                    cost[end], begin[end] = cost[start] + own, start
        rows = []
        end = len(columns)
        while end:
            rows.append(columns[begin[end] : end])
            end = begin[end]
        return rows[::-1]

    def _cut_cost(self, column: int) -> float:
        """What speaks against a row that begins with this column."""
        crossing = {link.source for link in self.scene.links if self._crosses(link, column)}
        groups = {item.group for item in self.by_column[column]}
        before = {item.group for item in self.by_column.get(column - 1, ())}
        apart = any(len({self.columns[key] < column for key in frame.keys}) > 1 for frame in self.scene.frames)
        stepping = any(self.columns[one] < column <= self.columns[other] for (one, _), (other, _) in self.scene.steps)
        return 1 + len(crossing) + 4 * bool(groups & before) + 30 * apart + 60 * stepping

    def _crosses(self, link: Link, column: int) -> bool:
        return self.columns[link.source] < column <= self.columns[link.target]

    def _lane_scales(self, row: Sequence[int]) -> list[Fraction | int]:
        """The scales that have a lane: those that stand beside another in some column, or run past it. A chain has
        none. Where blocks are permuted, all of theirs have one."""
        present: dict[int, set[Fraction | int]] = {}
        for column in row:
            items = [item for item in self.by_column[column] if not item.option]
            present[column] = {scale for item in items for scale in (item.scales or (item.scale,))}
        for link in self.scene.links:
            if self.options[link.source]:
                continue
            for column in range(self.columns[link.source] + 1, self.columns[link.target]):
                if column in present:
                    present[column].add(self.scales[link.source])
        found = {scale for scales in present.values() if len(scales) > 1 for scale in scales}
        if any(item.key in self.scene.permuted for column in row for item in self.by_column[column]):
            found |= self.levels
        return sorted(found, reverse=True)

    def _row(self, row: Sequence[int], scales: Sequence[Fraction | int]) -> dict[str, Box]:
        """The boxes of some columns, as if there were no others. The options of a choice have a lane each, on top."""
        items = [item for column in row for item in self.by_column[column]]
        options = list(dict.fromkeys(item.option for item in items if item.option))
        headed = any(item.key in self.headed for item in items)
        over = len(options) + headed
        nearest = {scale: _nearest(scale, scales) + over for scale in set(self.scales.values())}
        lane_of = {
            item.key: options.index(item.option) if item.option in options else nearest[item.scale]
            for item in self.scene.items
        }
        lane_of |= dict.fromkeys(self.headed, len(options))
        used = {item.key: lane_of[item.key] for item in items}
        cells: dict[tuple[int, int], list[Item]] = {}
        for item in items:
            cells.setdefault((self.columns[item.key], used[item.key]), []).append(item)
        _order(cells, lane_of, self.scene.links)
        heights: dict[int, float] = {}
        widths: dict[int, float] = {}
        for (column, lane), inside in cells.items():
            high = [self.sizes[i.key][1] for i in inside if not i.scales or i.key in self.headed]
            total = sum(high) + self.stack * (len(inside) - 1)
            heights[lane] = max(heights.get(lane, 0), total)
            widths[column] = max([widths.get(column, 0), *(self.sizes[item.key][0] for item in inside)])
        for item in items:
            lanes = [_nearest(scale, scales) + over for scale in item.scales]
            if item.key in self.headed:
                for lane in lanes:
                    heights[lane] = max(heights.get(lane, 0), DOT)
                continue
            for lane in range(min(lanes, default=0), max(lanes, default=-1) + 1):
                room = (self.sizes[item.key][1] - self.lane * (len(lanes) - 1)) / len(lanes)
                heights[lane] = max(heights.get(lane, 0), room, 14.0)
        centres: dict[int, float] = {}
        y = 0.0
        for lane in sorted(heights):
            centres[lane] = y + heights[lane] / 2
            y += heights[lane] + self.lane
        middles = self._middles(row, widths, lane_of)
        boxes: dict[str, Box] = {}
        for (column, lane), inside in cells.items():
            total = sum(self.sizes[item.key][1] for item in inside) + self.stack * (len(inside) - 1)
            top = centres[lane] - total / 2
            for item in inside:
                width, height = self.sizes[item.key]
                boxes[item.key] = Box(middles[column], top + height / 2, width, height)
                top += height + self.stack
                if item.key in self.headed:
                    low = centres[lane] + heights[lane] / 2 - height / 2
                    boxes[item.key] = Box(middles[column], low, width, height)
                    self.dots[item.key] = {
                        scale: (middles[column], centres[_nearest(scale, scales) + over]) for scale in item.scales
                    }
                elif item.scales:
                    lanes = [_nearest(scale, scales) + over for scale in item.scales]
                    upper = centres[min(lanes)] - heights[min(lanes)] / 2
                    lower = centres[max(lanes)] + heights[max(lanes)] / 2
                    boxes[item.key] = Box(middles[column], (upper + lower) / 2, width, lower - upper)
        return boxes

    def _middles(self, row: Sequence[int], widths: Mapping[int, float], lane_of: Mapping[str, int]) -> dict[int, float]:
        """Where the columns stand, with more room where many lines change lanes."""
        crossing: dict[int, int] = {}
        for link in self.scene.links:
            if lane_of[link.source] != lane_of[link.target]:
                crossing[self.columns[link.target]] = crossing.get(self.columns[link.target], 0) + 1
        framed = {key for frame in self.scene.frames for key in frame.keys}
        middles: dict[int, float] = {}
        groups = {item.group for c in row for item in self.by_column[c] if item.key in self.scene.permuted}
        x, before, inside, labelled = 0.0, "", False, False
        for column in row:
            gap = self.gap + min(CROSSING * crossing.get(column, 0), MOST_CROSSING)
            group = self.by_column[column][0].group
            if group != before and (group in self.stages or before in self.stages):
                gap += STAGE
            now = any(item.key in framed for item in self.by_column[column])
            gap += FRAME if now != inside else 0
            before, inside = group, now
            x += gap if middles else 0
            if not labelled and group in groups:
                x, labelled = x + LABEL, True
            middles[column] = x + widths[column] / 2
            x += widths[column]
        return middles

    # --- What lies behind the boxes

    def _lanes(
        self,
        row: Sequence[int],
        boxes: Mapping[str, Box],
        scales: Sequence[Fraction | int],
        dots: Mapping[str, Mapping[Fraction | int, Point]],
    ) -> Iterable[Lane]:
        permuted = [key for key in self.scene.permuted if key in boxes]
        if permuted:
            groups = {item.group for item in self.scene.items if item.key in permuted}
            beside = [boxes[i.key] for column in row for i in self.by_column[column] if i.group in groups]
            left = min(box.left for box in beside) - LABEL
            right = max(boxes[key].right for key in permuted)
            for scale, y in self._heights(boxes, dots).items():
                yield Lane(_level(scale), left, y, right)
            return
        for scale in scales:
            found = [i for column in row for i in self.by_column[column] if i.scale == scale and not i.option]
            if found:
                first = min(found, key=lambda item: (boxes[item.key].left, boxes[item.key].top))
                ends = first.ranging or first.scales
                name = f"{show(ends[0])}–{show(ends[-1])}" if ends else show(scale)
                yield Lane(name, boxes[first.key].x, boxes[first.key].top)
        for option in dict.fromkeys(i.option for column in row for i in self.by_column[column] if i.option):
            key = next(i.key for column in row for i in self.by_column[column] if i.option == option)
            yield Lane(option, boxes[key].x, boxes[key].top)

    def _heights(
        self, boxes: Mapping[str, Box], dots: Mapping[str, Mapping[Fraction | int, Point]]
    ) -> dict[Fraction | int, float]:
        """The middle of each lane that a permuted block stands in or may stand in."""
        found: dict[Fraction | int, float] = {}
        for item in self.scene.items:
            if item.key in self.scene.permuted and item.key in boxes:
                found |= {scale: y for scale, (_, y) in dots.get(item.key, {}).items()}
                if item.key not in dots:
                    found[item.scale] = boxes[item.key].y
        return dict(sorted(found.items(), reverse=True))

    def _bands(
        self,
        boxes: Mapping[str, Box],
        routes: Mapping[Link, tuple[Point, ...]],
        rows: Mapping[str, int],
        dots: Mapping[str, Mapping[Fraction | int, Point]],
    ) -> tuple[Band, ...]:
        """The stages; one that goes on in the next row is shown in both. All bands of a row are of one height."""
        reach: dict[int, list[float]] = {}
        for key, box in boxes.items():
            reach.setdefault(rows[key], []).extend((box.top, box.bottom))
            reach[rows[key]].extend(y + DOT / 2 for _, y in dots.get(key, {}).values())
        for link, route in routes.items():
            if rows[link.source] == rows[link.target]:
                reach[rows[link.source]].extend(y for _, y in route)
        out = []
        for name in staged(self.scene):
            keys = [item.key for item in self.scene.items if item.group == name]
            for row in sorted({rows[key] for key in keys}):
                inside = [boxes[key] for key in keys if rows[key] == row]
                left, right = min(b.left for b in inside), max(b.right for b in inside)
                out.append(Band(name, left, right, min(reach[row]), max(reach[row])))
        return tuple(out)

    def _frames(self, boxes: Mapping[str, Box], rows: Mapping[str, int], lanes: Sequence[Lane]) -> tuple[Band, ...]:
        """Around what is repeated, with the names of lanes above it; outer ones first, so that inner ones are painted
        over them."""
        named = {(lane.x, lane.y) for lane in lanes if lane.end is None}
        out = []
        for frame in reversed(self.scene.frames):
            for row in sorted({rows[key] for key in frame.keys}):
                inside = [boxes[key] for key in frame.keys if rows[key] == row]
                nested = sum(other.keys < frame.keys for other in self.scene.frames)
                room = FRAME * (1 + nested)
                left, right = min(b.left for b in inside) - room, max(b.right for b in inside) + room
                tops = [b.top - LANE_NAME * ((b.x, b.top) in named) for b in inside]
                top, bottom = min(tops) - room, max(b.bottom for b in inside) + room
                out.append(Band(frame.label, left, right, top, bottom))
        return tuple(out)


def _level(scale: Fraction | int) -> str:
    """A scale with its level, where it is a power of two: level n has 1/2^n of the input's resolution."""
    power = (1 / Fraction(scale)).numerator
    is_power = Fraction(scale).numerator == 1 and power & (power - 1) == 0
    return f"{show(scale)}  L{power.bit_length() - 1}" if is_power else show(scale)


def _nearest(scale: Fraction | int, scales: Sequence[Fraction | int]) -> int:
    """The lane of a scale, or for what stands before and behind the lanes the one that is nearest."""
    if scale in scales:
        return scales.index(scale)
    if not scales:
        return 0
    return min(range(len(scales)), key=lambda i: max(scale, scales[i]) / Fraction(min(scale, scales[i])))


# --- Lines ------------------------------------------------------------------------------------------------------------


class _Router:
    """Curves from the right side of one box to the left side of another that keep clear of the boxes between.

    What goes on in a later row leaves at the right end of its own, runs back between the rows, and comes in at the left
    end of the other.
    """

    def __init__(
        self,
        boxes: Mapping[str, Box],
        links: Sequence[Link],
        rows: Mapping[str, int],
        lanes: Sequence[Lane],
        frames: Sequence[Band],
        dots: Mapping[str, Mapping[Fraction | int, Point]],
    ):
        self.boxes = boxes
        self.links = links
        self.rows = rows
        self.inside: dict[int, list[tuple[str, Box]]] = {}
        for key, box in boxes.items():
            self.inside.setdefault(rows[key], []).append((key, box))
        for key, places in dots.items():
            self.inside[rows[key]].extend((key, Box(x, y, DOT, DOT)) for x, y in places.values())
        row_at = {(box.x, box.top): rows[key] for key, box in boxes.items()}
        for lane in lanes:
            if lane.end is None:  # its name stands above its first box, and lines run beside it
                self.inside[row_at[lane.x, lane.y]].append(("", Box(lane.x, lane.y - 5.0, 22.0, 8.0)))
            else:
                row = min(rows[key] for key, box in boxes.items() if box.left >= lane.x and box.bottom > lane.y - 8)
                self.inside[row].append(("", Box(lane.x + 16.0, lane.y - 8.0, 32.0, 7.0)))
        for frame in frames:
            row = min(rows[key] for key, box in boxes.items() if frame.top < box.y < frame.bottom)
            self.inside[row].append(("", Box(frame.right - 16.0, frame.top - 6.0, 26.0, 8.0)))
        for found in self.inside.values():
            found.sort(key=lambda pair: pair[1].left)
        self.begins = {row: [box.left for _, box in found] for row, found in self.inside.items()}
        self.widest = max(box.width for found in self.inside.values() for _, box in found)
        self.detours: dict[tuple[int, int], int] = {}
        self.entries: dict[tuple[str, int], Point] = {}  # where the lines of a source come into a row, and
        self.tracks: dict[tuple[str, int], float] = {}  # where they run beside the rows before it

    def routes(self) -> dict[Link, tuple[Point, ...]]:
        ends = self._ends()
        across = [link for link in self.links if self.rows[link.source] != self.rows[link.target]]
        later = set(across)
        found = {link: self._route(*ends[link], (link.source, link.target)) for link in self.links if link not in later}
        found |= self._routes_across(across, ends)
        return {link: found[link] for link in self.links}

    def _ends(self) -> dict[Link, tuple[Point, Point]]:
        """Where each link leaves and arrives: spread over the side of a box in the order of the other ends."""
        arriving: dict[str, list[Link]] = {}
        for link in self.links:
            arriving.setdefault(link.target, []).append(link)
        ends: dict[Link, Point] = {}
        for key, links in arriving.items():
            box = self.boxes[key]
            links = sorted(links, key=lambda link: (self.rows[link.source], self.boxes[link.source].y))
            if box.height > TALL:
                for i, link in enumerate(links):
                    level = self.boxes[link.source].y if self.rows[link.source] == self.rows[key] else box.y
                    level += 5.0 * (i - (len(links) - 1) / 2)
                    ends[link] = (box.left, min(max(level, box.top + 8), box.bottom - 8))
                continue
            room = min(box.height * 0.6, 5.0 * (len(links) - 1))
            for i, link in enumerate(links):
                offset = 0.0 if len(links) == 1 else room * (i / (len(links) - 1) - 0.5)
                ends[link] = (box.left, box.y + offset)
        return {link: ((self.boxes[link.source].right, self.boxes[link.source].y), ends[link]) for link in self.links}

    def _routes_across(
        self, links: Sequence[Link], ends: Mapping[Link, tuple[Point, Point]]
    ) -> dict[Link, tuple[Point, ...]]:
        leaving: dict[int, list[str]] = {}
        for link in links:
            sources = leaving.setdefault(self.rows[link.source], [])
            if link.source not in sources:
                sources.append(link.source)
        found: dict[Link, tuple[Point, ...]] = {}
        taken: list[tuple[int, float, float]] = []  # tracks beside the rows, and from where to where they are in use
        for row, sources in sorted(leaving.items()):
            right = max(box.right for _, box in self.inside[row]) + EDGE
            below = max(box.bottom for _, box in self.inside[row]) + 20.0
            exits = {source: self._exit(source, right) for source in sources}
            sources = sorted(sources, key=lambda source: -exits[source][-1][1])
            for slot, source in enumerate(sources):
                start = exits[source]
                turn = (start[-1][0] + 4.0 + TRACK * slot, below + TRACK * slot)
                entries: dict[int, Point] = {}
                for link in [link for link in links if link.source == source]:
                    later = self.rows[link.target]
                    if later not in entries:
                        entry = self._entry(
                            link, ends[link][1], [e for (s, r), e in self.entries.items() if r == later]
                        )
                        track = len(sources) - 1 - slot
                        while any(t == track and a < entry[1] and turn[1] < b for t, a, b in taken):
                            track += 1
                        taken.append((track, turn[1], entry[1]))
                        entries[later] = entry
                        self.entries[source, later] = entry
                        self.tracks[source, later] = -EDGE - 8.0 - TRACK * track
                    entry, x = entries[later], self.tracks[source, later]
                    corners = [start[-1], (turn[0], start[-1][1]), turn, (x, turn[1]), (x, entry[1]), entry]
                    last = self._route(entry, ends[link][1], (link.target, link.target), later)
                    found[link] = (*start, *_rounded(corners)[1:], *last[1:])
        return found

    def _exit(self, source: str, right: float) -> tuple[Point, ...]:
        """From a box to the right end of its row, along it or beside the boxes that follow."""
        box = self.boxes[source]
        x0, y0, row = box.right, box.y, self.rows[source]
        if self._free(x0, right, y0, y0, (source, source), row):
            return _straight((x0, y0), (right, y0))
        side = self._side(x0, right, y0, y0, (source, source), row)
        turn = min(right - x0, 16.0)
        return (*_curve((x0, y0), (x0 + turn, side)), *_straight((x0 + turn, side), (right, side))[1:])

    def _entry(self, link: Link, end: Point, others: Sequence[Point]) -> Point:
        """Where a line comes into a row: level with where it ends if nothing stands before that."""
        row = self.rows[link.target]
        own = (link.target, link.target)
        y = end[1] if self._free(-EDGE, end[0], end[1], end[1], own, row) else self._side(-EDGE, *end, end[1], own, row)
        while any(abs(y - other[1]) < 4.0 for other in others):
            y += TRACK
        return (-EDGE, y)

    def _route(self, start: Point, end: Point, own: tuple[str, str], row: int | None = None) -> tuple[Point, ...]:
        (x0, y0), (x1, y1) = start, end
        row = self.rows[own[0]] if row is None else row
        if (x1 - x0 <= 60 or abs(y1 - y0) < 0.5) and self._free(x0, x1, y0, y1, own, row):
            return _curve(start, end)
        for left, right in reversed(self._gaps(x0, x1, y0, y1, own, row)):
            turn = min(right - left, 34.0)
            for a, b in ((right - turn, right), (left, left + turn)):  # along, across, along
                if self._free(x0, a, y0, y0, own, row) and self._free(b, x1, y1, y1, own, row):
                    before = _straight(start, (a, y0)) if a > x0 + 0.5 else (start,)
                    after = _straight((b, y1), end)[1:] if b < x1 - 0.5 else ()
                    return (*before, *_curve(before[-1], (b, y1) if after else end)[1:], *after)
        side = self._side(x0, x1, y0, y1, own, row)
        half = min((x1 - x0) / 2, 16.0)
        left, up_to = next(iter(self._gaps(x0, x1, y0, side, own, row)), (x0, x1))
        down_from, right = next(reversed(self._gaps(x0, x1, y1, side, own, row)), (x0, x1))
        if not (self._free(x0, left, y0, y0, own, row) and left + half <= x1 - half):
            left, up_to = x0, x1
        if not (self._free(right, x1, y1, y1, own, row) and left + half <= right - half):
            down_from, right = x0, x1
        top_from, top_to = min(left + half, up_to), max(right - half, down_from)
        before = _straight(start, (left, y0)) if left > x0 + 0.5 else (start,)
        up = _curve(before[-1], (top_from, side))[1:]
        along = _straight((top_from, side), (top_to, side))[1:]
        down = _curve((top_to, side), (right, y1))[1:]
        after = _straight((right, y1), end)[1:] if right < x1 - 0.5 else ()
        return (*before, *up, *along, *down, *after)

    def _gaps(
        self, x0: float, x1: float, y0: float, y1: float, own: tuple[str, str], row: int
    ) -> list[tuple[float, float]]:
        """Where a line can change between two heights without crossing a box, from left to right."""
        low, high = min(y0, y1) - 1, max(y0, y1) + 1
        gaps, x = [], x0
        for box in (box for box in self._between(x0, x1, own, row) if box.bottom > low and box.top < high):
            gaps.append((x, box.left - 2))
            x = max(x, box.right + 2)
        gaps.append((x, x1))
        return [(left, right) for left, right in gaps if right - left > 5]

    def _side(self, x0: float, x1: float, y0: float, y1: float, own: tuple[str, str], row: int) -> float:
        """The height of a way over the boxes between two places, or under them where that is nearer."""
        between = self._between(x0, x1, own, row)
        ways = []
        for room in (6.0, 2.2):  # beside boxes, or between two that stand close
            above, below = min(y0, y1), max(y0, y1)
            while blocking := [b.top for b in between if b.top - room < above < b.bottom + room]:
                above = min(blocking) - room
            while blocking := [b.bottom for b in between if b.top - room < below < b.bottom + room]:
                below = max(blocking) + room
            narrow = 0.0 if room > 3 else 16.0
            ways += [(y0 + y1 - 2 * above + narrow, -room, above), (2 * below - y0 - y1 + narrow, room, below)]
        _, away, side = min(ways)
        slot = (round(side), round(x0 / 40))
        step = self.detours.get(slot, 0)
        self.detours[slot] = step + 1
        return side + (3.5 if abs(away) > 3 else 1.0) * min(step, 2) * (1 if away > 0 else -1)

    def _free(self, x0: float, x1: float, y0: float, y1: float, own: tuple[str, str], row: int) -> bool:
        """Whether no box stands in the rectangle that a curve stays in."""
        low, high = min(y0, y1) - 1, max(y0, y1) + 1
        return not any(box.bottom > low and box.top < high for box in self._between(x0 + 1, x1 - 1, own, row))

    def _between(self, x0: float, x1: float, own: tuple[str, str], row: int) -> list[Box]:
        """The boxes between two places, from left to right."""
        first, end = bisect_left(self.begins[row], x0 - self.widest), bisect_left(self.begins[row], x1)
        return [box for key, box in self.inside[row][first:end] if box.right > x0 and key not in own]


def _rounded(corners: Sequence[Point], radius: float = 5.0) -> tuple[Point, ...]:
    """Level and upright lines from corner to corner, with round bends."""
    out = [corners[0]]
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        near, far = _towards(corner, before, radius), _towards(corner, after, radius)
        out += [*_straight(out[-1], near)[1:], corner, corner, far]
    return (*out, *_straight(out[-1], corners[-1])[1:])


def _towards(start: Point, end: Point, most: float) -> Point:
    """A place on the way, at most half of it."""
    (x0, y0), (x1, y1) = start, end
    length = abs(x1 - x0) + abs(y1 - y0)
    share = min(most / length, 0.5) if length else 0.0
    return x0 + (x1 - x0) * share, y0 + (y1 - y0) * share


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
