"""An entry of the reference as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from nasdsl.compiler.example import Example
from nasdsl.reference.entry import KINDS, Entry, Row
from nasdsl.terminal import table

WIDTH = 100
LONG = 32
"""Characters of a column that are not more than what stands beside it."""


def told(entry: Entry) -> str:
    """All about one."""
    where = f"{KINDS[entry.kind].lower()}{f': {entry.group}' if entry.group else ''}"
    parts = [
        "\n".join(
            [_wrapped(entry.signature, "", "    "), _wrapped(entry.doc, "  ", "  "), _wrapped(f"({where})", "  ", "  ")]
        ),
        *(_wrapped(part, "  ", "  ") for part in entry.text.split("\n\n") if part),
    ]
    if entry.rows:
        parts.append(_rows("settings" if _has_settings(entry) else "parameters", entry.rows))
    if entry.bound:
        parts.append(_rows("words inside", entry.bound))
    if entry.source:
        parts.append(f"text\n{textwrap.indent(entry.source, '  ')}")
    if entry.example is not None:
        parts.append(f"example\n{textwrap.indent(written(entry.example), '  ').rstrip()}")
    return "\n\n".join(parts)


def _has_settings(entry: Entry) -> bool:
    return entry.kind in ("search", "settings", "method", "evaluator")


def written(example: Example) -> str:
    """The whole file in its canonical layout, with its count."""
    from nasdsl.compiler.parse import parse
    from nasdsl.compiler.source import Source
    from nasdsl.compiler.unparse import unparse

    many = "architecture" if example.count == 1 else "architectures"
    return f"# {example.count:,} {many}\n{unparse(parse(Source(example.file)))}"


def _wrapped(text: str, first: str, rest: str) -> str:
    """A paragraph; lines that are indented stay as they are."""
    if any(line.startswith(("  ", "- ")) for line in text.splitlines()):
        return "\n".join(f"{rest}{line}".rstrip() for line in text.splitlines())
    return textwrap.fill(
        text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def _rows(title: str, rows: Iterable[Row]) -> str:
    """A table whose last column is wrapped. What may be a great many words stands in it."""
    rows = list(rows)
    names = max(len(row.name) for row in rows)
    kinds = max((len(row.kind) for row in rows if len(row.kind) <= LONG), default=0)
    lines = [title]
    for row in rows:
        kind, doc = (row.kind, row.doc) if len(row.kind) <= LONG else ("", f"{row.doc}: {row.kind}".removeprefix(": "))
        more = "needed" if row.needed else f"default {row.default}" if row.default else ""
        said = "; ".join(filter(None, [doc, more]))
        before = f"  {row.name.ljust(names)}  {kind.ljust(kinds)}{'  ' if kinds else ''}"
        lines += textwrap.wrap(
            said or " ",
            max(WIDTH, len(before) + 40),
            initial_indent=before,
            subsequent_indent=" " * len(before),
            drop_whitespace=True,
        ) or [before.rstrip()]
    return "\n".join(line.rstrip() for line in lines)


def listed(entries: Iterable[Entry]) -> str:
    """All by kind and group, a line each."""
    by_kind: dict[str, dict[str, list[Entry]]] = {}
    for one in entries:
        by_kind.setdefault(one.kind, {}).setdefault(one.group, []).append(one)
    parts = []
    for kind, groups in by_kind.items():
        lines = [KINDS[kind]]
        width = max(len(one.name) for group in groups.values() for one in group)
        for group, members in groups.items():
            if group and len(groups) > 1:
                lines.append(f"  {group}")
            indent = 4 if group and len(groups) > 1 else 2
            lines.append(table([(one.name.ljust(width), shortly(one.doc)) for one in members], indent=indent))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def shortly(text: str) -> str:
    """On one line of the list."""
    return textwrap.shorten(text, 90, placeholder=" ...")


def to_json(entry: Entry) -> dict[str, Any]:
    """All about one, for other programs."""
    record = asdict(entry)
    record["example"] = None if entry.example is None else {"text": entry.example.file, "count": entry.example.count}
    return record
