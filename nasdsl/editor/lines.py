"""Places in a text as editors count them, and how places move when a text is edited."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

UNITS: Mapping[str, Callable[[str], int]] = {
    "utf-8": lambda text: len(text.encode("utf-8", "surrogatepass")),
    "utf-16": lambda text: len(text.encode("utf-16-le", "surrogatepass")) // 2,
    "utf-32": len,
}
"""In what editors count the characters of a line."""


@dataclass(frozen=True)
class Lines:
    """Lines and columns of a text, both from 0. `encoding` says in which units columns are counted."""

    text: str
    encoding: str = "utf-16"

    @cached_property
    def _starts(self) -> list[int]:
        starts, place = [0], 0
        for line in self.text.splitlines(keepends=True):
            place += len(line)
            if line.endswith(("\n", "\r")):  # others that Python breaks at are no ends of lines for editors
                starts.append(place)
        return starts

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of a character."""
        offset = max(0, min(offset, len(self.text)))
        line = bisect_right(self._starts, offset) - 1
        before = self.text[self._starts[line] : offset]
        return line, len(before) if before.isascii() else UNITS[self.encoding](before)

    def offset(self, line: int, column: int) -> int:
        """The character at a line and column; the end of the line, or of the text, where there is none."""
        if line < 0:
            return 0
        if line >= len(self._starts):
            return len(self.text)
        start = self._starts[line]
        end = self._starts[line + 1] if line + 1 < len(self._starts) else len(self.text)
        text = self.text[start:end].rstrip("\r\n")
        if text.isascii():
            return start + min(max(0, column), len(text))
        units, count = UNITS[self.encoding], 0
        for place, character in enumerate(text):
            if count >= column:
                return start + place
            count += units(character)
        return start + len(text)


@dataclass(frozen=True)
class Shift:
    """How places of an older text lie in a newer one, of which it differs in one stretch."""

    first: int  # where the stretch begins
    end: int  # and where it ends in the older text
    by: int  # by how much longer the newer text is

    def place(self, start: int, end: int) -> tuple[int, int] | None:
        """Where a part of the older text is now; None where it was changed itself."""
        if end <= self.first:
            return start, end
        if start >= self.end:
            return start + self.by, end + self.by
        if start < self.first and end > self.end:  # around it
            return start, end + self.by
        return None


def shift(old: str, new: str) -> Shift:
    """What tells two texts apart."""
    most = min(len(old), len(new))
    first = _common(old, new, most)
    last = _common(old[::-1], new[::-1], most - first)
    return Shift(first, len(old) - last, len(new) - len(old))


def _common(one: str, other: str, most: int) -> int:
    """How many characters are the same at the beginning, at most so many."""
    low, high = 0, most
    while low < high:  # by halves, as comparing slices is quick
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
