"""All parts of a syntax tree, and the names in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, cast

from nasdsl.compiler import syntax
from nasdsl.compiler.diagnostics import Diagnostic
from nasdsl.compiler.frozen import fields


@cache
def _parts(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind) if field.name not in ("span", "operator_span"))


def children(node: syntax.Node) -> Iterator[Any]:
    for name in _parts(cast(Any, type(node))):
        part = getattr(node, name)
        for child in part if isinstance(part, tuple) else (part,):
            if isinstance(child, syntax.Node):
                yield child


def walk(node: syntax.Node) -> Iterator[syntax.Node]:
    queue = [node]
    while queue:
        node = queue.pop()
        yield node
        queue.extend(children(node))


def bound_in(body: Iterable[syntax.Node]) -> dict[str, syntax.Node | None]:
    """Lets and labels anywhere in a body, each with its node. One that stands there twice may be either."""
    out: dict[str, syntax.Node | None] = {}
    queue = list(body)
    while queue:
        node = queue.pop()
        name = ""
        if isinstance(node, syntax.Let):
            name = node.name.name
        elif isinstance(node, syntax.Named) and isinstance(node.key, syntax.Name):
            name = node.key.name
        if name:
            out[name] = node if name not in out else None
        if isinstance(node, syntax.Call):  # its arguments are no labels, what they hold may have some
            queue.extend(item.value if isinstance(item, syntax.Named) else item for item in node.arguments or ())
            if node.body is not None:
                queue.append(node.body)
        else:
            queue.extend(children(node))
    return out


def words_in(trees: Iterable[syntax.Node]) -> Counter[str]:
    """How often each name stands in some trees."""
    return Counter(node.name for tree in trees for node in walk(tree) if isinstance(node, syntax.Name))


def unused(space: syntax.Space, counted: Mapping[str, int]) -> Iterator[Diagnostic]:
    """Warnings about a space's own `let`s and parameters whose name stands once in all files."""
    for item in space.body:
        if (
            isinstance(item, syntax.Let | syntax.Param)
            and counted[item.name.name] == 1
            and not item.name.name.startswith("_")
        ):
            what = "parameter" if isinstance(item, syntax.Param) else "`let`"
            decides = any(word in item.value.span.text for word in ("oneof", "manyof", "permute", "units"))
            help = "its decision is made and counted all the same" if decides else ""
            yield Diagnostic(
                "unused", f"the {what} `{item.name.name}` is never used", item.name.span, help=help, severity="warning"
            )
