"""The settings of searches and of training, as an editor proposes them: from the rows of the reference."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nasdsl.reference.entry import Row

_KINDS = frozenset(("number", "word", "value", "record", "costs"))
"""What a row says of a setting's value where it does not list the words."""


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        detail: its kind and what it is where it is left out.
        words: that it may be.
        parts: the settings in it, where it is a record.
    """

    detail: str = ""
    doc: str = ""
    words: tuple[str, ...] = ()
    parts: Mapping[str, Setting] = field(default_factory=dict)


def setting_words() -> dict[str, Setting]:
    """The settings of each search, by its name, and those of `train`. Importing all searches takes seconds."""
    from nasdsl.reference.settings import rows
    from nasdsl.runtime.data.plugins import with_entry_points
    from nasdsl.runtime.settings import Train
    from nasdsl.runtime.strategies import STRATEGIES

    known = with_entry_points("nasdsl.runtimes", dict(STRATEGIES), lambda value: hasattr(value, "search"))
    models: dict[str, Any] = {name: strategy.settings for name, strategy in known.items()}
    return {name: Setting(parts=_parts(list(rows(model)))) for name, model in {**models, "train": Train}.items()}


def _parts(rows: list[Row], before: str = "") -> dict[str, Setting]:
    """The settings of a record, whose names begin with a path."""
    out = {}
    for row in rows:
        name = row.name.removeprefix(before)
        if row.name.startswith(before) and "." not in name:
            inside = _parts(rows, f"{row.name}.")
            words = tuple(_words(row.kind)) or _words_for(row, inside)
            detail = f"{row.kind} = {row.default}" if row.default else row.kind
            out[name] = Setting(detail, row.doc, words, inside)
    return out


def _words(kind: str) -> Iterable[str]:
    return [word for word in kind.split(" | ") if word.isidentifier() and word not in _KINDS]


def _words_for(row: Row, inside: Mapping[str, Setting]) -> tuple[str, ...]:
    """Words that may stand for a whole record, as its description says."""
    takes_word = re.search(r"\b(a|one) word\b", row.doc) is not None
    return inside["name"].words if takes_word and "name" in inside else ()
