"""What stands in the boxes of a picture: labels in graphviz's markup, and how large they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from html import escape

from nasdsl.drawing.layout import Point
from nasdsl.drawing.picture import SMALL, Bar, Item, Row

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
LINE_HEIGHT = 10.0
BOLD = 1.12  # how much wider letters are
PAD = 4.0
MOST_OPTIONS = 8
MOST_NUMBERS = 6


def face(item: Item, compact: bool = False) -> tuple[str, Point]:
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
    if compact and item.kind == "block":
        item = replace(item, note="")
    beside = compact and bool(item.note) and item.kind == "operator"
    if beside:
        pieces = font(word, PALE if gone else INK, TEXT), font(item.note, PALE if gone else LINE, SMALL_TEXT)
        lines.append(_text_row("  ".join(pieces), 11))
        width = max(width, width_of(f"{word}  ", TEXT) + width_of(item.note, SMALL_TEXT))
        height += LINE_HEIGHT
    elif word:
        colour = PALE if gone else LINE if item.kind == "choice" else INK
        lines.append(_text_row(font(word, colour, TEXT)))
        width, height = max(width, width_of(word, TEXT)), height + LINE_HEIGHT
    if item.note and not beside:
        lines.append(_text_row(font(item.note, LINE if not gone else PALE, SMALL_TEXT), 10))
        width, height = max(width, width_of(item.note, SMALL_TEXT)), height + LINE_HEIGHT
    if item.bars:
        lines.append(_bars(item.bars, gone))
        width, height = max(width, BAR_WIDTH), height + _bars_height(item.bars)
    for row in item.rows:
        upright = "choice" if item.kind == "choice" and row == item.rows[0] else "column" if item.kinds else ""
        for text, length in _row_lines(row, gone, upright):
            lines.append(_text_row(text, 10))
            width, height = max(width, length), height + LINE_HEIGHT
    if item.count:
        colour = PALE if gone else OPEN if re.search(r"[–|]", item.count) else INK
        lines.append('<TR><TD HEIGHT="2"></TD></TR>' + _text_row(font(item.count, colour, SMALL_TEXT, bold=True)))
        width, height = max(width, width_of(item.count, SMALL_TEXT) * BOLD), height + LINE_HEIGHT + 1
    if not lines:
        lines.append(_text_row(font(" ", INK, TEXT)))
        height += LINE_HEIGHT
    body = "".join(lines)
    label = f'<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0">{body}</TABLE>>'
    width, height = max(width + 2 * PAD + 2, 22.0), max(height, 12.0 if compact else 16.0)
    return label, (width + 8, height + 8) if item.ends else (width, height)


def font(text: str, colour: str, size: float, bold: bool = False) -> str:
    inner = escape(text, quote=False)
    inner = f"<B>{inner}</B>" if bold else inner
    return f'<FONT POINT-SIZE="{size:g}" COLOR="{colour}">{inner}</FONT>'


def _text_row(text: str, height: int = 0) -> str:
    """A line of text. Graphviz sets one of several pieces too high in its row, so that such a row needs a height."""
    room = f' HEIGHT="{height}" VALIGN="BOTTOM"' if height else ""
    return f'<TR><TD ALIGN="CENTER"{room}>{text}</TD></TR>'


def width_of(text: str, size: float, bold: bool = False) -> float:
    """About how wide a text is in the widest of the fonts that may stand in for each other, DejaVu Sans."""
    return sum(_WIDTHS.get(character, 0.62) for character in text) * size * (BOLD if bold else 1) + 1


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
    if len(cut) > MOST_NUMBERS and all(text.isdigit() for text, _ in cut):
        cut = _thinned(cut)
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
        pieces.append((font(text, colour, SMALL_TEXT, bold), width_of(text, SMALL_TEXT) * (BOLD if bold else 1)))
    if more:
        pieces.append((font(f"{more} more", PALE, SMALL_TEXT), width_of(f"{more} more", SMALL_TEXT)))
    name = [(font(row.name, PALE if gone else LINE, SMALL_TEXT), width_of(row.name, SMALL_TEXT))] if row.name else []
    if upright == "choice":
        return pieces
    if upright:
        row_of = all(len(text) < 4 for text, _ in cut)
        space, gap = font(" ", INK, SMALL_TEXT), width_of(" ", SMALL_TEXT)
        line = (space.join(t for t, _ in pieces), sum(w for _, w in pieces) + gap * (len(pieces) - 1))
        return [*name, *([line] if row_of else pieces)]
    parts = [*name, *pieces]
    if sum(length for _, length in parts) > 110 and len(pieces) > 1:
        half = (len(pieces) + 1) // 2
        rows = [[*name, *pieces[:half]], pieces[half:]]
    else:
        rows = [parts]
    space, gap = font("  ", INK, SMALL_TEXT), width_of("  ", SMALL_TEXT)
    return [(space.join(t for t, _ in parts), sum(w for _, w in parts) + gap * (len(parts) - 1)) for parts in rows]


def _thinned(numbers: Sequence[tuple[str, bool | None]]) -> list[tuple[str, bool | None]]:
    """The first and the last of many numbers, and what is taken or still open; of those that are all open the second
    one."""
    last = len(numbers) - 1
    left = {i for i, (_, is_taken) in enumerate(numbers) if is_taken is not False}
    kept = sorted({0, last} | (left if 0 < len(left) <= last else {1}))
    out: list[tuple[str, bool | None]] = []
    for before, at in zip([-1, *kept], kept, strict=False):
        out += [("…", numbers[at][1] and False)] if at > before + 1 else []
        out.append(numbers[at])
    return out


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


def swatch(item: Item) -> tuple[str, Point]:
    (bar,) = item.bars
    colour = REMOVED if bar.kind == "removed" else BARS.get(bar.kind, BARS["channel"])
    cell = f'<TD FIXEDSIZE="TRUE" WIDTH="16" HEIGHT="{BAR_HEIGHT + 1}" BGCOLOR="{colour}"></TD>'
    return f'<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0"><TR>{cell}</TR></TABLE>>', (18.0, 8.0)


def style_of(item: Item, legend: bool = False) -> dict[str, str]:
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
