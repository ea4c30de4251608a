"""How values and calls are laid out as Python code, within the width of the file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasdsl.runtime.export.errors import ExportError

WIDTH = 120
"""Longest line of the written file."""


@dataclass(frozen=True)
class Group:
    """Brackets around items, each with a prefix such as `stride=`. A call's items may share one line of their own."""

    head: str
    items: tuple[tuple[str, Code], ...]
    tail: str

    @property
    def is_call(self) -> bool:
        return len(self.head) > 1


Code = str | Group


def flat(code: Code) -> str:
    """On one line."""
    if isinstance(code, str):
        return code
    inner = ", ".join(prefix + flat(item) for prefix, item in code.items)
    one_tuple = code.head == "(" and len(code.items) == 1
    return code.head + inner + ("," if one_tuple else "") + code.tail


def laid_out(prefix: str, code: Code, indent: int, suffix: str = "") -> list[str]:
    """Lines as the usual formatters break them: whole, or the items on one line, or one item a line."""
    margin = " " * indent
    whole = margin + prefix + flat(code) + suffix
    if isinstance(code, str) or not code.items or len(whole) <= WIDTH:
        return [whole]
    inner = margin + "    " + ", ".join(p + flat(item) for p, item in code.items)
    if code.is_call and len(inner) <= WIDTH:
        return [margin + prefix + code.head, inner, margin + code.tail + suffix]
    lines = [margin + prefix + code.head]
    for p, item in code.items:
        lines += laid_out(p, item, indent + 4, ",")
    return [*lines, margin + code.tail + suffix]


def laid_out_sum(target: str, terms: Sequence[Code], indent: int) -> list[str]:
    """`target` and a sum, in brackets where it is long."""
    margin = " " * indent
    inner = " + ".join(flat(term) for term in terms)
    if len(margin + target + inner) <= WIDTH:
        return [margin + target + inner]
    if len(margin + "    " + inner) <= WIDTH:
        return [f"{margin}{target}(", f"{margin}    {inner}", f"{margin})"]
    lines = [f"{margin}{target}("]
    for i, term in enumerate(terms):
        lines += laid_out("+ " if i else "", term, indent + 4)
    return [*lines, f"{margin})"]


def quoted(text: str) -> str:
    """A string literal in double quotes, or in single ones where that saves escapes."""
    body = repr(text + '"')[1:-2]  # a double quote in it makes repr choose single quotes, and escape only these
    if "'" not in text and '"' in text:
        return f"'{body}'"
    return '"' + body.replace("\\'", "'").replace('"', '\\"') + '"'


def code_of(value: Any) -> Code:
    """A plain value as Python writes it.

    Raises:
        ExportError: it is not plain.
    """
    if isinstance(value, str):
        return quoted(value)
    if value is None or isinstance(value, bool | int):
        return repr(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else f'float("{value}")'
    if isinstance(value, list | tuple):
        head, tail = "[]" if isinstance(value, list) else "()"
        return Group(head, tuple(("", code_of(item)) for item in value), tail)
    if isinstance(value, Mapping):
        return Group("{", tuple((f"{flat(code_of(k))}: ", code_of(v)) for k, v in value.items()), "}")
    raise ExportError(f"an operator's module has the argument {value!r}, which cannot be written as plain Python")
