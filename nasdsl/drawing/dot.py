"""A picture as graphviz text: everything has its place, so graphviz only paints (`neato -n2`)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape

import graphviz

from nasdsl.compiler.diagnostics import ArgumentError
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.space import Space
from nasdsl.drawing.fold import fold, told_once
from nasdsl.drawing.layout import Band, Box, Placed, Point, lay_out, shrinkage
from nasdsl.drawing.picture import LEVELS, SMALL, Bar, Item, Link, Picture, Row, make_picture

FONT = "Helvetica,Arial,sans-serif"
INK, LINE, PALE, PAPER = "#1a1a1a", "#595959", "#c4c4c4", "#ffffff"
OPEN, OPEN_FILL = "#0b62a4", "#f2f7fc"
BAND, LANE_INK = "#f4f4f2", "#8a8a8a"
REMOVED = "#e3e3e3"
FRAME_LINE, GUIDE = "#9a9a9a", "#dcdcdc"
KINDS = ("#fbe3c5", "#d5ecd8", "#e6dcf2", "#f9dadc", "#d8ecf3", "#efeac4")  # of permuted blocks

# Kernel sizes from light to dark in one hue, tokens in another: told apart in grey and by every eye.
BARS = {
    "1": "#deebf7",
    "3": "#9ecae1",
    "5": "#4292c6",
    "7": "#08519c",
    "9": "#08306b",
    "11": "#041a3d",
    "token": "#e6842a",
    "channel": "#5b9f71",
}

PEN = {"penwidth": "0.8"}
BAR_WIDTH, BAR_HEIGHT = 48, 5
TEXT, SMALL_TEXT = 8.0, 7.0
LEAST_TEXT = 6.0  # points, on a page, beside a legend
MOST_OUTER = 3
LINE_HEIGHT = 10.0
BOLD = 1.12  # how much wider letters are
PAD = 4.0
MOST_OPTIONS = 8
MOST_NUMBERS = 6
MARGIN = 18.0
MIN_LEGEND = 300.0  # how wide a legend may be under a narrower picture


def to_dot(space: Space | Graph, level: str = "module", opened: Sequence[str] = ()) -> str:
    """The picture of a space or an architecture, in graphviz's language. Otherwise as `digraph`."""
    text: str = digraph(space, level, opened).source
    return text


def digraph(space: Space | Graph, level: str = "module", opened: Sequence[str] = ()) -> graphviz.Digraph:
    """The picture of a space or an architecture.

    Args:
        level: `module`, which a page holds: a choice between modules is one box that names them, equal copies are one
            that says how many there are, and a permuted block is one; where letters would still be too small, what lies
            around blocks is drawn in their place; `block`, a node for each use of an operator of the file that uses no
            other; or `operator`, one for each layer.
        opened: paths or decisions of choices whose options are drawn. A path opens what lies under it, too.

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
        for compact in (False, True):
            faces = {item.key: _face(item, compact) for item in scene.items}
            placed = lay_out(scene, {key: size for key, (_, size) in faces.items()}, compact)
            if chosen != "module" or shrinkage(scene, placed) <= 1:
                break  # what has more in it is larger than a page, whatever its boxes are
        if chosen != "module" or opened or LEAST_TEXT * shrinkage(scene, placed) <= SMALL_TEXT:
            break
    return _Writer(scene, placed, {key: label for key, (label, _) in faces.items()}, _colours(scene)).picture()


def _colours(scene: Picture) -> dict[str, str]:
    """A colour for each operator that a permuted block can be."""
    kinds = dict.fromkeys(kind for item in scene.items for kind in item.kinds)
    return {kind: KINDS[i % len(KINDS)] for i, kind in enumerate(kinds)}


# --- Faces ------------------------------------------------------------------------------------------------------------


def _face(item: Item, compact: bool = False) -> tuple[str, Point]:
    """An item's label, and the size of its box in points."""
    if item.kind == "sum":
        return "+", (13.0, 13.0)
    if item.kind == "concat":
        return "C", (14.0, 14.0)
    if item.kind == "mean":
        return "μ", (14.0, 14.0)
    if item.kind == "select" and not item.rows:
        return "", (11.0, 11.0)
    gone = item.state == "gone"
    lines: list[str] = []
    width = 0.0
    height = PAD - 1 if compact else 2 * PAD
    word = item.title if item.kind != "select" else ""
    beside = compact and bool(item.note) and item.kind == "operator"
    if beside:
        pieces = _font(word, PALE if gone else INK, TEXT), _font(item.note, PALE if gone else LINE, SMALL_TEXT)
        lines.append(_text_row("  ".join(pieces)))
        width = max(width, _width(f"{word}  ", TEXT) + _width(item.note, SMALL_TEXT))
        height += LINE_HEIGHT
    elif word:
        colour = PALE if gone else LINE if item.kind == "choice" else INK
        lines.append(_text_row(_font(word, colour, TEXT)))
        width, height = max(width, _width(word, TEXT)), height + LINE_HEIGHT
    if item.note and not beside:
        lines.append(_text_row(_font(item.note, LINE if not gone else PALE, SMALL_TEXT)))
        width, height = max(width, _width(item.note, SMALL_TEXT)), height + LINE_HEIGHT - 1
    if item.bars:
        lines.append(_bars(item.bars, gone))
        width, height = max(width, BAR_WIDTH), height + _bars_height(item.bars)
    for row in item.rows:
        upright = "choice" if item.kind == "choice" and row == item.rows[0] else "column" if item.kinds else ""
        for text, length in _row_lines(row, gone, upright):
            lines.append(_text_row(text))
            width, height = max(width, length), height + LINE_HEIGHT - 1
    if item.count:
        colour = PALE if gone else OPEN if re.search(r"[–|]", item.count) else INK
        lines.append('<TR><TD HEIGHT="2"></TD></TR>' + _text_row(_font(item.count, colour, SMALL_TEXT, bold=True)))
        width, height = max(width, _width(item.count, SMALL_TEXT) * BOLD), height + LINE_HEIGHT + 1
    if not lines:
        lines.append(_text_row(_font(" ", INK, TEXT)))
        height += LINE_HEIGHT
    body = "".join(lines)
    label = f'<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0">{body}</TABLE>>'
    width, height = max(width + 2 * PAD + 2, 22.0), max(height, 12.0 if compact else 16.0)
    return label, (width + 8, height + 8) if item.ends else (width, height)


def _font(text: str, colour: str, size: float, bold: bool = False) -> str:
    inner = escape(text, quote=False)
    inner = f"<B>{inner}</B>" if bold else inner
    return f'<FONT POINT-SIZE="{size:g}" COLOR="{colour}">{inner}</FONT>'


def _text_row(text: str) -> str:
    return f'<TR><TD ALIGN="CENTER">{text}</TD></TR>'


def _width(text: str, size: float) -> float:
    """About how wide a text is in the widest of the fonts that may stand in for each other, DejaVu Sans."""
    return sum(_WIDTHS.get(character, 0.62) for character in text) * size + 1


_WIDTHS = {
    character: width
    for characters, width in (
        ("ijl'|", 0.3),
        ("ft.,:;()[]/r -", 0.4),
        ("mwMW", 0.95),
        ("×+=–<>μ…", 0.84),
        ("\u00a0", 0.32),
    )
    for character in characters
} | {chr(code): 0.71 for code in range(ord("A"), ord("Z") + 1) if chr(code) not in "IMW"}


def _row_lines(row: Row, gone: bool, upright: str) -> list[tuple[str, float]]:
    """A choice as lines of text: what is taken stands out, what is not is pale.

    Args:
        upright: `choice` for the options below each other, `column` for its name above them.
    """
    cut = list(row.options)
    more = 0
    if len(cut) > MOST_NUMBERS and all(text.isdigit() and taken is None for text, taken in cut):
        cut = [*cut[:2], ("…", None), cut[-1]]
    elif len(cut) > MOST_OPTIONS:
        kept = [option for option in cut if option[1]]
        cut = [option for option in cut if not option[1]][: MOST_OPTIONS - 1 - len(kept)] + kept
        cut.sort(key=list(row.options).index)
        more = len(row.options) - len(cut)
    pieces = []
    for text, taken in cut:
        text = text if len(text) <= 22 else text[:21] + "…"
        colour = PALE if gone or taken is False else OPEN if taken is None else INK
        bold = bool(taken) and not gone
        pieces.append((_font(text, colour, SMALL_TEXT, bold), _width(text, SMALL_TEXT) * (BOLD if bold else 1)))
    if more:
        pieces.append((_font(f"{more} more", PALE, SMALL_TEXT), _width(f"{more} more", SMALL_TEXT)))
    name = [(_font(row.name, PALE if gone else LINE, SMALL_TEXT), _width(row.name, SMALL_TEXT))] if row.name else []
    if upright == "choice":
        return pieces
    if upright:
        row_of = all(len(text) < 4 for text, _ in cut)
        space, gap = _font(" ", INK, SMALL_TEXT), _width(" ", SMALL_TEXT)
        line = (space.join(t for t, _ in pieces), sum(w for _, w in pieces) + gap * (len(pieces) - 1))
        return [*name, *([line] if row_of else pieces)]
    parts = [*name, *pieces]
    if sum(length for _, length in parts) > 110 and len(pieces) > 1:
        half = (len(pieces) + 1) // 2
        rows = [[*name, *pieces[:half]], pieces[half:]]
    else:
        rows = [parts]
    space, gap = _font("  ", INK, SMALL_TEXT), _width("  ", SMALL_TEXT)
    return [(space.join(t for t, _ in parts), sum(w for _, w in parts) + gap * (len(parts) - 1)) for parts in rows]


def _bars(bars: Sequence[Bar], gone: bool) -> str:
    """One under the other, as long as what is kept is of the whole."""
    rows = []
    for bar in bars:
        colour = BARS.get(bar.kind, BARS["channel"])
        height = BAR_HEIGHT
        kept = bar.total if bar.kept is None else bar.kept
        filled = 0 if gone else round(BAR_WIDTH * kept / bar.total)
        if 0 < kept < bar.total:
            filled = min(max(filled, 1), BAR_WIDTH - 1)
        cells = []
        if filled:
            cells.append(f'<TD FIXEDSIZE="TRUE" WIDTH="{filled}" HEIGHT="{height}" BGCOLOR="{colour}"></TD>')
        if filled < BAR_WIDTH:
            pale = "#f1f1f1" if gone else REMOVED
            rest = BAR_WIDTH - filled
            cells.append(f'<TD FIXEDSIZE="TRUE" WIDTH="{rest}" HEIGHT="{height}" BGCOLOR="{pale}"></TD>')
        table = f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0"><TR>{"".join(cells)}</TR></TABLE>'
        rows.append(f'<TR><TD HEIGHT="{height + 1}">{table}</TD></TR>')
    return "".join(rows)


def _bars_height(bars: Sequence[Bar]) -> float:
    return len(bars) * (BAR_HEIGHT + 1.0)


# --- The text ---------------------------------------------------------------------------------------------------------


class _Writer:
    def __init__(self, scene: Picture, placed: Placed, labels: Mapping[str, str], colours: Mapping[str, str]):
        self.scene, self.placed, self.labels, self.colours = scene, placed, labels, colours
        self.names = {item.key: f"n{i}" for i, item in enumerate(scene.items)}
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
            node_attr={
                "fontname": FONT,
                "fontsize": f"{TEXT:g}",
                "fixedsize": "true",
                "margin": "0",
                "penwidth": "0.8",
            },
            edge_attr={"color": LINE, "penwidth": "0.8", "arrowsize": "0.42"},
        )

    def picture(self) -> graphviz.Digraph:
        self._background()
        for item in self.scene.items:
            self._item(item)
        for link in self.scene.links:
            self._link(link)
        self._legend()
        return self.out

    def _node(self, name: str, box: Box, **attributes: str) -> None:
        place = {
            "pos": f"{box.x:.1f},{-box.y:.1f}!",
            "width": f"{box.width / 72:.3f}",
            "height": f"{box.height / 72:.3f}",
        }
        self.out.node(name, **place, **attributes)

    def _words(self, name: str, text: str, x: float, y: float, size: float, colour: str, side: str = "l") -> None:
        """A line of text that starts (l), ends (r) or has its middle (c) at x."""
        width = _width(text, size) + 4
        centre = {"l": x + width / 2, "r": x - width / 2, "c": x}[side]
        label = '<<TABLE BORDER="0" CELLPADDING="0" CELLSPACING="0"><TR>'
        align = {"l": "LEFT", "r": "RIGHT", "c": "CENTER"}[side]
        label += f'<TD ALIGN="{align}" FIXEDSIZE="TRUE" WIDTH="{width:.0f}" HEIGHT="{size + 4:.0f}">'
        label += f"{_font(text, colour, size)}</TD></TR></TABLE>>"
        self._node(name, Box(centre, y, width, size + 4), shape="none", label=label)

    def _background(self) -> None:
        placed = self.placed
        left = min(box.left for box in placed.boxes.values())
        top = min([*(box.top for box in placed.boxes.values()), *(band.top for band in placed.bands)])
        for i, band in enumerate(placed.bands):
            x, y = (band.left + band.right) / 2, (band.top + band.bottom) / 2
            box = Box(x, y, band.right - band.left + MARGIN, band.bottom - band.top + MARGIN)
            fill = BAND
            self._node(f"band{i}", box, shape="box", style="filled,rounded", fillcolor=fill, color=fill, label="")
            self._words(
                f"stage{i}", self._stage(band.name), x, band.top - MARGIN / 2 - 8, SMALL_TEXT + 0.5, LANE_INK, "c"
            )
        for i, lane in enumerate(placed.lanes):
            if lane.end is None:
                self._words(f"lane{i}", lane.name, lane.x, lane.y - 6, SMALL_TEXT, LANE_INK, "c")
                continue
            box = Box((lane.x + lane.end) / 2, lane.y, lane.end - lane.x, 0.6)
            line = GUIDE
            self._node(f"guide{i}", box, shape="box", style="filled", fillcolor=line, color=line, label="")
            self._words(f"lane{i}", lane.name, lane.x, lane.y - 8, SMALL_TEXT, LANE_INK)
        for i, frame in enumerate(placed.frames):
            self._frame(f"frame{i}", frame)
        heading = top - MARGIN / 2 - (26 if placed.bands else 14)
        if self.scene.name:
            self._words("title", self.scene.name, left - 6, heading, 11.0, INK)
            at = left + _width(self.scene.name, 11.0) + 4
            self._words("facts", self.scene.facts, at, heading + 1, TEXT, LANE_INK)

    def _stage(self, name: str) -> str:
        """What a stage is called: without its index where it stands for all of them."""
        keys = {item.key for item in self.scene.items if item.group == name}
        return name.removesuffix("[0]") if any(keys == frame.keys for frame in self.scene.frames) else name

    def _frame(self, name: str, frame: Band) -> None:
        x, y = (frame.left + frame.right) / 2, (frame.top + frame.bottom) / 2
        box = Box(x, y, frame.right - frame.left, frame.bottom - frame.top)
        line = FRAME_LINE
        self._node(name, box, shape="box", style="rounded,dashed", color=line, label="")
        colour = OPEN if re.search(r"[–|]", frame.name) else INK
        self._words(f"{name}n", frame.name, frame.right - 3, frame.top - 6, SMALL_TEXT, colour, "r")

    def _item(self, item: Item) -> None:
        box = self.placed.boxes[item.key]
        attributes = {"label": self.labels[item.key], "tooltip": graphviz.escape(item.key)}
        attributes |= _style(item)
        if len(item.kinds) == 1:
            attributes["fillcolor"] = self.colours[item.kinds[0]]
        if item.ends:  # the outer line is drawn 4 points outside
            box, attributes["peripheries"] = replace(box, width=box.width - 8, height=box.height - 8), "2"
        self._node(self.names[item.key], box, **attributes)

    def _link(self, link: Link) -> None:
        route = list(self.placed.routes[link])
        tip = route[-1]
        route[-1] = (tip[0] - 4.5, tip[1])
        if len(route) >= 2:
            route[-2] = (min(route[-2][0], route[-1][0] - 0.5), route[-2][1])
        points = " ".join(f"{x:.1f},{-y:.1f}" for x, y in route)
        look = {"fixed": {}, "open": {"style": "dashed"}, "gone": {"style": "dotted", "color": PALE}}[link.state]
        place = f"e,{tip[0]:.1f},{-tip[1]:.1f} {points}"
        self.out.edge(self.names[link.source], self.names[link.target], pos=place, **look)

    # --- Legend

    def _legend(self) -> None:
        entries = self._legend_entries()
        if not entries and not self.scene.notes:
            return
        left = x = min(box.left for box in self.placed.boxes.values())
        y = self.placed.height + MARGIN + 14
        for i, (item, words, width) in enumerate(entries):
            label, (w, h) = _swatch(item) if item.bars else _face(item)
            if item.kind == "operator":
                label, (w, h) = "", (31.0, 11.0)
            if x > left and x + w + width > max(self.placed.width, MIN_LEGEND):
                x, y = left, y + 18
            style = _style(item, legend=True)
            if item.kinds:
                style["fillcolor"] = self.colours[item.kinds[0]]
            if item.ends:
                w, h, style["peripheries"] = w - 8, h - 4, "2"
            self._node(f"key{i}", Box(x + w / 2 + 4 * item.ends, y, w, h), label=label, **style)
            w += 8 * item.ends
            self._words(f"says{i}", words, x + w + 3, y, SMALL_TEXT, LINE)
            x += w + width + 18
        for i, line in enumerate(self._notes(max(self.placed.width, MIN_LEGEND) - left)):
            y += 14 if i else 16
            self._words(f"note{i}", line, left, y, SMALL_TEXT, OPEN)

    def _notes(self, room: float) -> list[str]:
        """Lines that fit under the picture."""
        out = []
        for note in self.scene.notes:
            line = ""
            for word in note.split(" "):
                if line and _width(f"{line} {word}", SMALL_TEXT) > room:
                    out.append(line)
                    line = "  "
                line += (" " if line else "") + word
            out.append(line)
        return out

    def _legend_entries(self) -> list[tuple[Item, str, float]]:
        items = self.scene.items
        out: list[tuple[Item, str]] = []
        kinds = dict.fromkeys(bar.kind for item in items for bar in item.bars)
        owner = f"{self.scene.blocks}: " if self.scene.blocks else ""
        for kind in sorted(kinds, key=lambda kind: (not kind.isdigit(), int(kind) if kind.isdigit() else 0)):
            words = f"{kind}×{kind} channels" if kind.isdigit() else f"{kind}s"
            out.append((Item(kind, "block", "", 1, "", bars=(Bar(kind, 1, None),)), owner + words))
            owner = ""
        if any(bar.kept is not None and bar.kept < bar.total for item in items for bar in item.bars):
            out.append((Item("removed", "block", "", 1, "", bars=(Bar("removed", 1, 0),)), "removed"))
        if any(item.state == "open" or item.optional for item in items):
            out.append((Item("open", "operator", " ", 1, "", "open"), "holds a choice"))
        if any(item.optional for item in items):
            out.append((Item("optional", "operator", " ", 1, "", "fixed", True), "may be left out"))
        if any(item.state == "gone" for item in items):
            out.append((Item("gone", "operator", " ", 1, "", "gone"), "left out"))
        for kind in self.colours:
            if any(item.kinds == (kind,) for item in items):
                out.append((Item("kind", "operator", " ", 1, "", kinds=(kind,)), kind))
        if any(item.ends for item in items):
            out.append((Item("ends", "operator", " ", 1, "", ends=True), "output of the permuted blocks"))
        if any(item.kind == "sum" for item in items):
            out.append((Item("sum", "sum", "sum", 1, ""), "sum"))
        if any(item.kind == "concat" for item in items):
            out.append((Item("concat", "concat", "concat", 1, ""), "concatenation"))
        if any(item.kind == "mean" for item in items):
            out.append((Item("mean", "mean", "mean", 1, ""), "mean"))
        if any(item.kind == "select" and not item.rows for item in items):
            out.append((Item("select", "select", "", 1, ""), "one of these"))
        return [(item, words, _width(words, SMALL_TEXT) + 4) for item, words in out]


def _swatch(item: Item) -> tuple[str, Point]:
    (bar,) = item.bars
    colour = REMOVED if bar.kind == "removed" else BARS.get(bar.kind, BARS["channel"])
    cell = f'<TD FIXEDSIZE="TRUE" WIDTH="16" HEIGHT="{BAR_HEIGHT + 1}" BGCOLOR="{colour}"></TD>'
    return f'<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0"><TR>{cell}</TR></TABLE>>', (18.0, 8.0)


def _style(item: Item, legend: bool = False) -> dict[str, str]:
    """Blue where a choice is, dashed for what some architectures do without, dotted and pale for what is left out."""
    if legend and item.bars:
        return {"shape": "none"}
    ink, fill, line = INK, PAPER, "solid"
    if item.state == "open":
        ink, fill = OPEN, OPEN_FILL
    if item.optional:
        line = "dashed"
    if item.state == "gone":
        ink, fill, line = PALE, PAPER, "dotted"
    if item.kind in SMALL and not item.rows:
        line = "solid"  # dashes need room
        ink = LINE if item.optional else ink
    style = {"color": ink, "fillcolor": fill}
    if item.kind in ("sum", "mean", "concat"):
        colour = PALE if item.state == "gone" else INK
        return style | {"shape": "circle", "style": f"filled,{line}", "fontcolor": colour, "fontsize": "9"}
    if item.kind == "select" and not item.rows:
        return style | {"shape": "diamond", "style": f"filled,{line}"}
    if item.kind in ("input", "output"):
        return {"shape": "none"}
    rounded = "" if item.kind == "block" or item.bars or legend else "rounded,"
    return style | {"shape": "box", "style": f"filled,{rounded}{line}"}
