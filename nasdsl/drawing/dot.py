"""A picture as graphviz text: everything has its place, so graphviz only paints (`neato -n2`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import graphviz

from nasdsl.compiler.diagnostics import ArgumentError
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.space import Space
from nasdsl.drawing.faces import (
    BAND,
    FONT,
    FRAME_LINE,
    GUIDE,
    INK,
    KINDS,
    LANE_INK,
    LINE,
    OPEN,
    PALE,
    PAPER,
    PEN,
    SMALL_TEXT,
    TEXT,
    face,
    font,
    style_of,
    width_of,
)
from nasdsl.drawing.fold import fold, told_once
from nasdsl.drawing.layout import DOT, INSET, Band, Box, Placed, lay_out_all, least_width, shrinkage
from nasdsl.drawing.legend import Entry, entries_of
from nasdsl.drawing.picture import LEVELS, Item, Link, Picture, make_picture

LEAST_TEXT = 6.0  # points, on a page, beside a legend
MOST_OUTER = 3
MARGIN = 18.0
MIN_LEGEND = 300.0  # how wide a legend may be under a narrower picture
TITLE = 11.0


def to_dot(space: Space | Graph, level: str = "module", opened: Sequence[str] = ()) -> str:
    """The picture of a space or an architecture, in graphviz's language. Otherwise as `digraph`."""
    text: str = digraph(space, level, opened).source
    return text


def digraph(space: Space | Graph, level: str = "module", opened: Sequence[str] = ()) -> graphviz.Digraph:
    """The picture of a space or an architecture.

    Args:
        level: `module`, which a page holds: a choice between modules is one box that names them, equal copies are one
            that says how many there are, a permuted block is one, and a cell that is decided once and used in many
            places is drawn once, under the picture; where letters would still be too small, what lies around blocks is
            drawn in their place; `block`, a node for each use of an operator of the file that uses no other; or
            `operator`, one for each layer.
        opened: paths or decisions of choices whose options are drawn, or cells that are drawn where they are used. A
            path opens what lies under it, too.

    Raises:
        ArgumentError: the level is none of these, or there is nothing to open under a name.
    """
    chosen = next((one for one in LEVELS if one == level), None)
    if chosen is None:
        known = " or ".join([", ".join(f"`{one}`" for one in LEVELS[:-1]), f"`{LEVELS[-1]}`"])
        raise ArgumentError(f"a level is {known}, not `{level}`")
    for outer in range(MOST_OUTER + 1):
        scene = make_picture(space, chosen, opened, outer)
        if chosen == "module":
            scene = told_once(fold(scene))
        parts = (scene, *scene.details)
        for compact in (False, True):
            faces = [{item.key: face(item, compact) for item in part.items} for part in parts]
            sizes = [{key: size for key, (_, size) in of.items()} for of in faces]
            placed = lay_out_all(scene, sizes[0], sizes[1:], compact)
            if chosen != "module" or shrinkage(scene, placed) <= 1:
                break  # what has more in it is larger than a page, whatever its boxes are
        if chosen != "module" or opened or LEAST_TEXT * shrinkage(scene, placed) <= SMALL_TEXT:
            break
    labels = [{key: label for key, (label, _) in of.items()} for of in faces]
    return _Sheet(scene, placed, labels).painted()


def _colours(parts: Sequence[Picture]) -> dict[str, str]:
    """A colour for each operator that a permuted block can be."""
    kinds = dict.fromkeys(kind for part in parts for item in part.items for kind in item.kinds)
    return {kind: KINDS[i % len(KINDS)] for i, kind in enumerate(kinds)}


class _Canvas:
    """Boxes and words at their places."""

    def __init__(self, out: graphviz.Digraph, prefix: str = ""):
        self.out, self.prefix = out, prefix

    def node(self, name: str, box: Box, **attributes: str) -> None:
        place = {
            "pos": f"{box.x:.1f},{-box.y:.1f}!",
            "width": f"{box.width / 72:.3f}",
            "height": f"{box.height / 72:.3f}",
        }
        self.out.node(self.prefix + name, **place, **attributes)

    def words(
        self, name: str, text: str, x: float, y: float, size: float, colour: str, side: str = "l", bold: bool = False
    ) -> float:
        """A line of text that starts (l), ends (r) or has its middle (c) at x. Gives its width."""
        width = width_of(text, size, bold) + 4
        centre = {"l": x + width / 2, "r": x - width / 2, "c": x}[side]
        label = '<<TABLE BORDER="0" CELLPADDING="0" CELLSPACING="0"><TR>'
        align = {"l": "LEFT", "r": "RIGHT", "c": "CENTER"}[side]
        label += f'<TD ALIGN="{align}" FIXEDSIZE="TRUE" WIDTH="{width:.0f}" HEIGHT="{size + 4:.0f}">'
        label += f"{font(text, colour, size, bold)}</TD></TR></TABLE>>"
        self.node(name, Box(centre, y, width, size + 4), shape="none", label=label)
        return width


class _Sheet:
    """A picture, its details and its legend."""

    def __init__(self, scene: Picture, placed: Placed, labels: Sequence[Mapping[str, str]]):
        self.scene, self.placed, self.labels = scene, placed, labels
        self.parts = (scene, *scene.details)
        self.colours = _colours(self.parts)
        self.out = graphviz.Digraph(
            scene.name or "graph",
            comment="Positions are given: render with `neato -n2`.",
            graph_attr={
                "outputorder": "nodesfirst",
                "splines": "true",
                "bgcolor": PAPER,
                "pad": "0.12",
                "fontname": FONT,
            },
            node_attr={"fontname": FONT, "fontsize": f"{TEXT:g}", "fixedsize": "true", "margin": "0"} | PEN,
            edge_attr={"color": LINE, "arrowsize": "0.42"} | PEN,
        )

    def painted(self) -> graphviz.Digraph:
        for number, (part, placed) in enumerate(zip(self.parts, (self.placed, *self.placed.apart), strict=True)):
            canvas = _Canvas(self.out, f"d{number}_" if number else "")
            _Part(canvas, part, placed, self.labels[number], self.colours, apart=number > 0).paint()
        self._legend()
        return self.out

    def _legend(self) -> None:
        canvas = _Canvas(self.out)
        entries = entries_of(self.parts, self.placed, self.colours)
        if not entries and not self.scene.notes:
            return
        lefts = [min(box.left for box in placed.boxes.values()) for placed in (self.placed, *self.placed.apart)]
        left = x = min(lefts)
        y = self.placed.height + MARGIN + 14
        room = max(self.placed.width, left + MIN_LEGEND)
        for i, entry in enumerate(entries):
            if x > left and x + entry.width > room:
                x, y = left, y + 18
            self._entry(canvas, i, entry, x, y)
            x += entry.width + 14
        for i, line in enumerate(self._notes(room - left)):
            y += 14 if i else 16
            canvas.words(f"note{i}", line, left, y, SMALL_TEXT, OPEN)

    @staticmethod
    def _entry(canvas: _Canvas, number: int, entry: Entry, x: float, y: float) -> None:
        width, height = entry.size
        if entry.sample:
            for i, (text, colour, bold) in enumerate(entry.sample):
                x += canvas.words(f"key{number}_{i}", text, x, y, SMALL_TEXT, colour, bold=bold) - 1
        else:
            drawn = Box(x + width / 2, y, width - 8 * entry.double, height - 4 * entry.double)
            canvas.node(f"key{number}", drawn, label=entry.label, **entry.style)
            x += width
        if entry.words:
            canvas.words(f"says{number}", entry.words, x + 2, y, SMALL_TEXT, LINE)

    def _notes(self, room: float) -> Iterator[str]:
        """Lines that fit under the picture."""
        for note in self.scene.notes:
            line = ""
            for word in note.split(" "):
                if line and width_of(f"{line} {word}", SMALL_TEXT) > room:
                    yield line
                    line = "  "
                line += (" " if line else "") + word
            yield line


class _Part:
    """The picture itself, or one of its details."""

    def __init__(
        self,
        canvas: _Canvas,
        scene: Picture,
        placed: Placed,
        labels: Mapping[str, str],
        colours: Mapping[str, str],
        apart: bool,
    ):
        self.canvas, self.scene, self.placed, self.labels = canvas, scene, placed, labels
        self.colours, self.apart = colours, apart
        self.names = {item.key: f"n{i}" for i, item in enumerate(scene.items)}

    def paint(self) -> None:
        self._background()
        for item in self.scene.items:
            self._item(item)
        for link in self.placed.routes:
            self._link(link)
        self._steps()

    def _background(self) -> None:
        placed = self.placed
        left = min(box.left for box in placed.boxes.values())
        top = min([*(box.top for box in placed.boxes.values()), *(band.top for band in placed.bands)])
        heading = top - MARGIN / 2 - (26 if placed.bands else 14)
        if self.apart:
            self._outline(heading)
        for i, band in enumerate(placed.bands):
            x, y = (band.left + band.right) / 2, (band.top + band.bottom) / 2
            box = Box(x, y, band.right - band.left + MARGIN, band.bottom - band.top + MARGIN)
            self._plain(f"band{i}", box, BAND, "filled,rounded")
            name_at = band.top - MARGIN / 2 - 8
            self.canvas.words(f"stage{i}", self._stage(band.name), x, name_at, SMALL_TEXT + 0.5, LANE_INK, "c")
        for i, lane in enumerate(placed.lanes):
            if lane.end is None:
                self.canvas.words(f"lane{i}", lane.name, lane.x, lane.y - 6, SMALL_TEXT, LANE_INK, "c")
                continue
            self._plain(f"guide{i}", Box((lane.x + lane.end) / 2, lane.y, lane.end - lane.x, 0.6), GUIDE, "filled")
            self.canvas.words(f"lane{i}", lane.name, lane.x, lane.y - 8, SMALL_TEXT, LANE_INK)
        for i, frame in enumerate(placed.frames):
            self._frame(f"frame{i}", frame)
        if self.scene.name:
            size = TEXT + 1 if self.apart else TITLE
            left = placed.left + 2 if self.apart else left
            self.canvas.words("title", self.scene.name, left - 6, heading, size, INK, bold=self.apart)
            at = left + width_of(self.scene.name, size, self.apart) + 4
            self.canvas.words("facts", self.scene.facts, at, heading + 1, TEXT, LANE_INK)

    def _plain(self, name: str, box: Box, colour: str, style: str) -> None:
        self.canvas.node(name, box, shape="box", style=style, fillcolor=colour, color=colour, label="")

    def _outline(self, heading: float) -> None:
        """A line around a detail."""
        placed = self.placed
        left = placed.left - INSET
        right = max(placed.width, placed.left + least_width(self.scene)) + INSET
        top, bottom = heading - 12, placed.height + INSET
        box = Box((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
        self.canvas.node("outline", box, shape="box", style="rounded", color=GUIDE, label="")

    def _stage(self, name: str) -> str:
        """What a stage is called: without its index where it stands for all of them."""
        items = [item for item in self.scene.items if item.group == name]
        keys = {item.key for item in items}
        called = next((item.stage for item in items if item.stage), name)
        return called.removesuffix("[0]") if any(keys == frame.keys for frame in self.scene.frames) else called

    def _frame(self, name: str, frame: Band) -> None:
        x, y = (frame.left + frame.right) / 2, (frame.top + frame.bottom) / 2
        box = Box(x, y, frame.right - frame.left, frame.bottom - frame.top)
        self.canvas.node(name, box, shape="box", style="rounded,dashed", color=FRAME_LINE, label="")
        colour = OPEN if re.search(r"[–|]", frame.name) else INK
        self.canvas.words(f"{name}n", frame.name, frame.right - 3, frame.top - 6, SMALL_TEXT, colour, "r")

    def _item(self, item: Item) -> None:
        box = self.placed.boxes[item.key]
        attributes = {"label": self.labels[item.key], "tooltip": graphviz.escape(item.key)}
        attributes |= style_of(item)
        if len(item.kinds) == 1:
            attributes["fillcolor"] = self.colours[item.kinds[0]]
        if item.ends:  # the outer line is drawn 4 points outside
            box, attributes["peripheries"] = replace(box, width=box.width - 8, height=box.height - 8), "2"
        self.canvas.node(self.names[item.key], box, **attributes)
        for i, (x, y) in enumerate(self.placed.dots.get(item.key, {}).values()):
            look = {"shape": "circle", "style": "filled", "color": OPEN, "fillcolor": PAPER, "label": ""}
            self.canvas.node(f"{self.names[item.key]}_{i}", Box(x, y, DOT, DOT), **look)

    def _link(self, link: Link) -> None:
        route = list(self.placed.routes[link])
        tip = route[-1]
        route[-1] = (tip[0] - 4.5, tip[1])
        if len(route) >= 2:
            route[-2] = (min(route[-2][0], route[-1][0] - 0.5), route[-2][1])
        points = " ".join(f"{x:.1f},{-y:.1f}" for x, y in route)
        looks = {"fixed": {}, "told": {}, "open": {"style": "dashed"}, "gone": {"style": "dotted", "color": PALE}}
        place = f"e,{tip[0]:.1f},{-tip[1]:.1f} {points}"
        source, target = (self.canvas.prefix + self.names[key] for key in (link.source, link.target))
        self.canvas.out.edge(source, target, pos=place, **looks[link.state])

    def _steps(self) -> None:
        """From scale to scale of one block after the other."""
        for (one, a), (other, b) in self.scene.steps:
            source, start = self._dot(one, a, 1)
            target, end = self._dot(other, b, -1)
            if end[0] > start[0]:  # not in the next row
                middle = (start[0] + end[0]) / 2
                points = [start, (middle, start[1]), (middle, end[1]), end]
                place = " ".join(f"{x:.1f},{-y:.1f}" for x, y in points)
                names = (self.canvas.prefix + source, self.canvas.prefix + target)
                self.canvas.out.edge(*names, pos=place, color=OPEN, arrowhead="none", penwidth="0.6")

    def _dot(self, key: str, scale: Fraction | int, side: int) -> tuple[str, tuple[float, float]]:
        """The name and one end of where a block may stand, or of its box where it has one place only."""
        if key in self.placed.dots:
            places = self.placed.dots[key]
            x, y = places[scale]
            return f"{self.names[key]}_{list(places).index(scale)}", (x + side * DOT / 2, y)
        box = self.placed.boxes[key]
        return self.names[key], (box.right if side > 0 else box.left, box.y)
