"""Arguments meet parameters by name: each parameter's argument, and every mistake that shows without its value."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Any

from nasdsl.compiler import syntax
from nasdsl.compiler.bind.habits import near_argument
from nasdsl.compiler.diagnostics import Diagnostic, Label
from nasdsl.compiler.ops.operator import REQUIRED, Operator
from nasdsl.compiler.source import Span

SHARED_ARGUMENTS = ("share",)
"""Arguments that every operator takes."""

BODY = "body"
"""The parameter of an operator that text in braces after a call goes to."""


@dataclass(frozen=True)
class Given:
    """An argument as it stands in a call.

    Attributes:
        key: its name; empty for one without.
        word: what a bare name says: behind the first argument it may stand for `name: name`.
        value: its expression, as syntax or bound.
    """

    key: str
    word: str
    place: Span
    value: Any

    @property
    def span(self) -> Span:
        span: Span = self.value.span
        return span


def given_in(items: Iterable[syntax.Item], takes: str) -> tuple[list[Given], list[Diagnostic]]:
    """The arguments of a call; what is no argument is told, with what the call takes."""
    out: list[Given] = []
    problems: list[Diagnostic] = []
    for item in items:
        if isinstance(item, syntax.Let | syntax.Require):
            problems.append(no_argument(item))
        elif not isinstance(item, syntax.Named):
            out.append(Given("", item.name if isinstance(item, syntax.Name) else "", item.span, item))
        elif isinstance(item.key, syntax.Name):
            out.append(Given(item.key.name, "", item.key.span, item.value))
        else:
            problems.append(Diagnostic("bad-argument", "an argument's name is a word", item.key.span, help=takes))
    return out, problems


def no_argument(item: syntax.Node) -> Diagnostic:
    return Diagnostic("misplaced", "an argument is a value", item.span)


def takes(owner: str, names: tuple[str, ...]) -> str:
    return f"{owner} takes {', '.join(names)}" if names else f"{owner} takes no arguments"


def match(
    given: Iterable[Given], names: tuple[str, ...], owner: str, positional: bool = False
) -> tuple[dict[str, Given], list[Diagnostic]]:
    """Each argument by the name of its parameter, and the mistakes in their names."""
    out: dict[str, Given] = {}
    problems: list[Diagnostic] = []
    usage = takes(owner, names)
    for position, one in enumerate(given):
        if one.key:
            key = one.key
        elif position < (len(names) if positional else min(1, len(names))):
            key = names[position]
        elif one.word in names:
            key = one.word
        elif positional or not names:
            count = f"{owner} takes {len(names)} argument{'s' if len(names) > 1 else ''}: {', '.join(names)}"
            problems.append(Diagnostic("wrong-count", count if names else usage, one.place, "one too many"))
            continue
        else:
            problems.append(_unnamed(one, next((name for name in names if name not in out), "name"), usage))
            continue
        if key not in names:
            message = f"{owner} has no parameter `{key}`"
            help = near_argument(key, names) or usage
            problems.append(Diagnostic("unknown-argument", message, one.place, "not a parameter", help=help))
        elif key in out:
            problems.append(twice(f"the argument `{key}`", one.place, out[key].span))
        else:
            out[key] = one
    return out, problems


def _unnamed(one: Given, free: str, usage: str) -> Diagnostic:
    text = " ".join(one.span.text.split())
    help = f"write `{free}: {text}`" if len(text) < 30 and "\n" not in one.span.text else ""
    message = "only the first argument may stand without a name"
    return Diagnostic("unnamed-argument", message, one.place, help="; ".join(filter(None, (help, usage))))


def missing(node: syntax.Call, names: tuple[str, ...], absent: list[str], owner: str) -> Diagnostic:
    """As `needs`, with the call as it would be."""
    given = [" ".join(item.span.text.split()) for item in node.arguments or ()]
    first = absent[0] == names[0] and not any(not isinstance(item, syntax.Named) for item in node.arguments or ())
    more = ["..." if first and name == names[0] else f"{name}: ..." for name in absent]
    text = f"{node.function.name}({', '.join([*more, *given] if first else [*given, *more])})"
    if len(text) >= 80:
        text = f"{node.function.name}({', '.join(more)}, ...)"
    return needs(owner, absent, node.function.span, f"write `{text}`")


def needs(owner: str, absent: list[str], place: Span, help: str = "") -> Diagnostic:
    """That a call does not give what it has to."""
    return Diagnostic("missing-argument", f"{owner} needs `{'`, `'.join(absent)}`", place, help=help)


def twice(what: str, place: Span, first: Span | None = None) -> Diagnostic:
    """That something stands twice where it may stand once."""
    others = () if first is None else (Label(first, "also here"),)
    return Diagnostic("duplicate", f"{what} stands here twice", place, others=others)


def body_problem(node: syntax.Call, names: Container[str], given: Container[str], owner: str) -> list[Diagnostic]:
    """What is wrong with text in braces after a call."""
    if node.body is None:
        return []
    if BODY not in names:
        return [no_body(owner, node.body)]
    return [twice(f"the argument `{BODY}`", node.body.span)] if BODY in given else []


def no_body(owner: str, body: syntax.Node) -> Diagnostic:
    return Diagnostic("misplaced", f"{owner} takes no body in braces", body.span)


def formals_of(formals: tuple[syntax.Formal, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """All parameters, and those without a default."""
    return tuple(f.name.name for f in formals), tuple(f.name.name for f in formals if f.default is None)


def with_shared(names: tuple[str, ...]) -> tuple[str, ...]:
    """The parameters of an operator of the file, and the arguments that every operator takes."""
    return (*names, *[name for name in SHARED_ARGUMENTS if name not in names])


def parameters_of(operator: Operator, defaults: Container[str] = ()) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """All parameters of an operator of the catalogue, and those that a call has to give."""
    names = tuple(p.name for p in operator.params)
    needed = tuple(p.name for p in operator.params if p.default is REQUIRED and p.name not in defaults)
    return (*names, *SHARED_ARGUMENTS), needed
