"""What the terminal shows: diagnostics with the source under them, and plain tables.

Printed by hand rather than with `rich`, which takes longer to import than a file takes to check.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TextIO

from nasdsl.compiler.diagnostics import Diagnostic
from nasdsl.compiler.source import Span

Colour = Literal["red", "yellow", "blue", "cyan", "green", "dim", "bold"]
_CODES: dict[Colour, str] = {
    "red": "1;31",
    "yellow": "1;33",
    "blue": "1;34",
    "cyan": "36",
    "green": "32",
    "dim": "2",
    "bold": "1",
}
MOST_SHOWN = 100


def wants_colour(stream: TextIO) -> bool:
    """Whether to colour what goes to a stream: a terminal, and NO_COLOR is not set."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return os.environ.get("TERM") != "dumb" and stream.isatty()


def width_of(stream: TextIO) -> int:
    """Columns of the terminal; 120 where there is none."""
    try:
        return max(os.get_terminal_size(stream.fileno()).columns, 40)
    except (OSError, ValueError, AttributeError):
        return 120


@dataclass(frozen=True)
class Paint:
    """Wraps text in colour codes, or leaves it."""

    on: bool

    def __call__(self, text: str, colour: Colour) -> str:
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self.on and text else text


# --- Diagnostics ------------------------------------------------------------------------------------------------------


def show_diagnostics(diagnostics: Sequence[Diagnostic], stream: TextIO | None = None) -> None:
    """Prints diagnostics and how many there are."""
    stream = sys.stderr if stream is None else stream
    paint, width = Paint(wants_colour(stream)), width_of(stream)
    for diagnostic in diagnostics[:MOST_SHOWN]:
        stream.write(written(diagnostic, paint, width) + "\n\n")
    stream.write(tally(diagnostics) + "\n")


def tally(diagnostics: Sequence[Diagnostic]) -> str:
    """`2 errors, 1 warning`"""
    parts = []
    for severity in ("error", "warning"):
        number = sum(d.severity == severity for d in diagnostics)
        if number:
            parts.append(f"{number} {severity}{'s' if number > 1 else ''}")
    if len(diagnostics) > MOST_SHOWN:
        parts[-1] += f" (the first {MOST_SHOWN} are shown)"
    return ", ".join(parts)


def written(diagnostic: Diagnostic, paint: Paint, width: int) -> str:
    """One diagnostic: message, place, the lines it speaks of with the exact characters underlined, advice."""
    colour: Colour = "red" if diagnostic.severity == "error" else "yellow"
    head = paint(f"{diagnostic.severity}[{diagnostic.code}]", colour)
    lines = [f"{head}{paint(':', 'bold')} {paint(printable(diagnostic.message), 'bold')}"]
    marks = [] if diagnostic.span is None else [_Mark(diagnostic.span, diagnostic.label, "~", colour)]
    marks += [_Mark(other.span, other.text, "-", "blue") for other in diagnostic.others]
    gutter = max((len(str(mark.last_line)) for mark in marks), default=0) + 1
    file = None
    for i, mark in enumerate(marks):
        if mark.span.source is not file:
            lines.append(f"  {paint(printable(str(mark.span)), 'cyan')}")
            file = mark.span.source
        before = marks[i - 1] if i else None
        repeated = before is not None and before.span.source is file and before.last_line == mark.span.line
        lines += mark.lines(gutter, paint, width, with_text=not repeated)
    for part in diagnostic.help.split("\n") if diagnostic.help else ():
        lines.append(f"  {paint('help:', 'green')} {printable(part)}")
    return "\n".join(lines)


@dataclass(frozen=True)
class _Mark:
    """A place that a diagnostic speaks of, and how it is underlined."""

    span: Span
    label: str
    sign: str
    colour: Colour

    @property
    def last(self) -> int:
        """The last character that is underlined: a span of several lines ends with its last text."""
        return self.span.start + max(len(self.span.text.rstrip()) - 1, 0)

    @property
    def last_line(self) -> int:
        return self.span.source.position(self.last)[0]

    def lines(self, gutter: int, paint: Paint, width: int, with_text: bool) -> list[str]:
        source = self.span.source
        first, column = source.position(self.span.start)
        last, end = source.position(self.last)
        if first == last:
            return self._line(first, column - 1, end, self.label, gutter, paint, width, with_text)
        text = source.line(last)
        indent = len(text) - len(text.lstrip())
        out = self._line(first, column - 1, len(source.line(first).rstrip()), "", gutter, paint, width, with_text)
        if last - first > 1:
            out.append(f" {' ' * gutter}{paint('...', 'blue')}")
        return out + self._line(last, min(indent, end - 1), end, self.label, gutter, paint, width, True)

    def _line(
        self, number: int, start: int, end: int, label: str, gutter: int, paint: Paint, width: int, with_text: bool
    ) -> list[str]:
        """The line of that number, and the line under it that marks its characters from `start` to `end`."""
        text, start, end = _window(self.span.source.line(number), start, max(end, start + 1), width - gutter - 4)
        columns = _columns(text)
        left = columns[min(start, len(text))] + max(start - len(text), 0)
        right = max(columns[min(end, len(text))], left + 1)
        under = " " * left + paint(self.sign * (right - left), self.colour)
        under += f" {paint(printable(label), self.colour)}" if label else ""
        bar = paint("|", "blue")
        out = [f" {' ' * gutter}{bar} {under}".rstrip()]
        if with_text:
            out.insert(0, f" {paint(str(number).rjust(gutter - 1), 'blue')} {bar} {_shown(text)}".rstrip())
        return out


def _window(text: str, start: int, end: int, room: int) -> tuple[str, int, int]:
    """The part of a long line around the characters of interest, and where they are in it."""
    room = max(room, 20)
    if len(text) <= room and len(_shown(text)) <= room:
        return text, start, end
    first = 0 if end <= room - 1 else max(min(start - room // 4, len(text) - room + 1), 0)
    cut = text[first : first + room - 2]
    before, after = "…" if first else "", "…" if first + len(cut) < len(text) else ""
    start, end = start - first + len(before), end - first + len(before)
    return before + cut + after, start, min(end, len(before) + len(cut))


TAB = 4


def _columns(text: str) -> list[int]:
    """The column of the terminal at which each character of a line begins, and where the line ends."""
    columns = [0]
    for character in text:
        columns.append(columns[-1] + _advance(character, columns[-1]))
    return columns


def _advance(character: str, column: int) -> int:
    if character == "\t":
        return TAB - column % TAB
    if character.isascii():
        return 1
    import unicodedata  # only for text that needs it

    if unicodedata.combining(character) or unicodedata.category(character) == "Cf":
        return 0 if character.isprintable() or unicodedata.combining(character) else 1
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _shown(text: str) -> str:
    """A line as it is printed: tabs as spaces, and nothing that would steer the terminal."""
    if text.isprintable():
        return text
    out = ""
    for character, column in zip(text, _columns(text), strict=False):
        out += " " * _advance(character, column) if character == "\t" else printable(character)
    return out


def printable(text: str) -> str:
    """Text in which characters that would steer the terminal are replaced."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


# --- Tables -----------------------------------------------------------------------------------------------------------


def table(rows: Iterable[Sequence[str]], head: Sequence[str] = (), right: str = "", indent: int = 2) -> str:
    """Columns side by side.

    Args:
        head: titles of the columns.
        right: the columns to align to the right, as their numbers: `"12"`.
    """
    body = [list(row) for row in rows]
    lines = ([list(head)] if head else []) + body
    if not body:
        return ""
    widths = [max(len(row[i]) for row in lines) for i in range(len(lines[0]))]
    out = []
    for row in lines:
        cells = [
            c.rjust(w) if str(i) in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        out.append((" " * indent + "  ".join(cells)).rstrip())
    if head:
        out.insert(1, " " * indent + "  ".join("-" * w for w in widths))
    return "\n".join(out)


def amount(value: float) -> str:
    """`1.73M`, `267k`, `12`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def thousands(number: float) -> str:
    """`448,167,936`; what has a fraction with four digits, `3.142`."""
    return f"{number:,}" if isinstance(number, int) else f"{number:,.4g}" if abs(number) < 1e4 else f"{number:,.0f}"
