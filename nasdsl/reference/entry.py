"""One thing that the reference tells of."""

from __future__ import annotations

from dataclasses import dataclass, field

from nasdsl.compiler.example import Example

KINDS = {
    "construct": "Constructs",
    "function": "Functions",
    "form": "Forms",
    "operator": "Operators",
    "library": "Operators of the library",
    "measure": "Measures",
    "search": "Searches",
    "settings": "Settings",
    "method": "Methods of `search evolve`",
    "evaluator": "Evaluators of `search evolve`",
    "task": "Tasks",
    "preset": "Presets of training",
    "reader": "Readers of data",
}
"""What an entry can be, with the title of all of its kind."""


@dataclass(frozen=True)
class Row:
    """A parameter, a setting, or a word that is bound inside.

    Attributes:
        kind: what its value is, in words of the language; may be empty.
        default: as a file would write it; empty where it is needed or nothing is meant.
    """

    name: str
    kind: str = ""
    default: str = ""
    doc: str = ""
    needed: bool = False


@dataclass(frozen=True)
class Entry:
    """
    Attributes:
        kind: one of `KINDS`.
        group: of its kind, the part that it belongs to: a family of operators, a file of the library.
        signature: how it is written.
        doc: what it means, in a few words; `text` says the rest, in paragraphs.
        rows: parameters or settings.
        bound: words that have a meaning inside.
        source: its text in the language.
        also: other words under which it is found.
    """

    name: str
    kind: str
    group: str
    signature: str
    doc: str
    text: str = ""
    rows: tuple[Row, ...] = ()
    bound: tuple[Row, ...] = ()
    example: Example | None = None
    source: str = ""
    also: tuple[str, ...] = field(default=())
