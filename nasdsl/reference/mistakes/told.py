"""An explanation of a code as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from nasdsl.reference.mistakes.mistake import FILE, Mistake
from nasdsl.terminal import table

WIDTH = 100


def told(mistake: Mistake) -> str:
    """All about one."""
    parts = [f"{mistake.code}\n{_paragraph(mistake.meaning)}", f"how it is mended\n{_paragraph(mistake.mended)}"]
    if mistake.text:
        parts.append(f"{FILE}\n{textwrap.indent(shown(mistake), '  ').rstrip()}")
    if mistake.asked:
        parts.append(f"what tells it\n  {mistake.asked}")
    return "\n\n".join(parts)


def shown(mistake: Mistake) -> str:
    """The file. What is very long on one line, as where something is too deep, is cut."""
    lines = mistake.file.splitlines(keepends=True)
    return "".join(line if len(line) <= WIDTH else f"{line[: WIDTH - 4].rstrip()} ...\n" for line in lines)


def _paragraph(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="  ", break_long_words=False)


def listed(groups: Sequence[Any]) -> str:
    """All codes, a line each, by the groups of the page."""
    parts = []
    for group in groups:
        rows = [(one.code, textwrap.shorten(one.meaning, 80, placeholder=" ...")) for one in group.MISTAKES]
        parts.append(f"{group.TITLE}\n{table(rows)}")
    return "\n\n".join(parts)


def to_json(mistake: Mistake) -> dict[str, Any]:
    """All about one, for other programs."""
    return {
        "code": mistake.code,
        "meaning": mistake.meaning,
        "mended": mistake.mended,
        "file": mistake.file if mistake.text else None,
        "command": mistake.asked or None,
    }
