"""The text of a `.space` file, and places in it."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """A piece of `.space` text with the name that messages use for it.

    `path` is the file that the text came from, or None for text made in memory; `use "..."` is resolved beside it.
    `begin` is how many characters at the beginning nobody wrote: places are counted behind them.
    """

    text: str
    name: str = "<text>"
    path: Path | None = None
    begin: int = 0

    @cached_property
    def _line_starts(self) -> list[int]:
        starts = [self.begin]
        starts.extend(i + 1 for i, character in enumerate(self.text) if character == "\n" and i >= self.begin)
        return starts

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column, both counted from 1, of a character offset."""
        offset = max(offset, self.begin)
        line = bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1

    def line(self, number: int) -> str:
        """The text of line `number` (from 1), without its line break."""
        start = self._line_starts[number - 1]
        end = self._line_starts[number] if number < len(self._line_starts) else len(self.text)
        return self.text[start:end].rstrip("\r\n")


@dataclass(frozen=True)
class Span:
    """Characters `start` to `end` (end excluded) of a source."""

    source: Source = field(repr=False)
    start: int
    end: int

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]

    @property
    def line(self) -> int:
        return self.source.position(self.start)[0]

    @property
    def column(self) -> int:
        return self.source.position(self.start)[1]

    @property
    def comment(self) -> str:
        """The comment on the lines right above it, as one line."""
        lines: list[str] = []
        number = self.line - 1
        while number > 0 and (line := self.source.line(number).strip()).startswith("#"):
            lines.insert(0, line.removeprefix("#").strip())
            number -= 1
        return " ".join(lines)

    def to(self, other: Span) -> Span:
        """The span from the start of this one to the end of `other`."""
        return Span(self.source, self.start, max(self.end, other.end))

    def __str__(self) -> str:
        return f"{self.source.name}:{self.line}:{self.column}"
