"""A program that differs, made smaller as long as it differs in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from nasdsl.compiler import syntax
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.frozen import fields
from nasdsl.compiler.parse import parse
from nasdsl.compiler.source import Source
from nasdsl.compiler.unparse import unparse

MOST_TRIED = 2_000
"""Smaller programs that are looked at."""


def shrunk(text: str, differs: Callable[[str], bool]) -> str:
    """The smallest program that was found by leaving out parts, of which `differs` still holds."""
    tried: set[str] = {text}
    found = True
    while found and len(tried) < MOST_TRIED:
        found = False
        for tree in _smaller(parse(Source(text))):
            try:
                other = unparse(tree)
                parse(Source(other))
            except (CompileError, ValueError, IndexError, AssertionError):  # the tree is none that is ever read
                continue
            if other in tried or len(other) >= len(text):
                continue
            tried.add(other)
            if differs(other):
                text, found = other, True
                break
    return text


def _smaller(node: Any) -> Iterator[Any]:
    """The node with a part left out, or put in the place of what it is part of; the largest parts first."""
    for field in fields(node):
        value = getattr(node, field.name)
        if isinstance(value, tuple):
            for i in range(len(value)):
                yield _with(node, field.name, (*value[:i], *value[i + 1 :]))
    for field in fields(node):
        value = getattr(node, field.name)
        for i, child in enumerate(value if isinstance(value, tuple) else (value,)):
            if not isinstance(child, syntax.Node):
                continue
            for part in (*(_parts(child) if isinstance(child, syntax.Expr) else ()), *_smaller(child)):
                made = (*value[:i], part, *value[i + 1 :]) if isinstance(value, tuple) else part
                yield _with(node, field.name, made)


def _parts(node: Any) -> Iterator[Any]:
    """Expressions that may stand where a larger one stood."""
    for field in fields(node):
        value = getattr(node, field.name)
        for child in value if isinstance(value, tuple) else (value,):
            if isinstance(child, syntax.Named):
                yield child.value
            elif isinstance(child, syntax.Expr):
                yield child


def _with(node: Any, name: str, value: Any) -> Any:
    given = {field.name: getattr(node, field.name) for field in fields(node)}
    return type(node)(**{**given, name: value})
