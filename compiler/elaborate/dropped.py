"""What a text drops without saying so: alternatives that no architecture takes, layers that nothing reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from nasdsl.compiler.count import brief, count
from nasdsl.compiler.diagnostics import Diagnostic, Label
from nasdsl.compiler.elaborate import library
from nasdsl.compiler.elaborate.frame import Builder, LeftOut
from nasdsl.compiler.engine.limits import TooWide, bounded
from nasdsl.compiler.graph import Graph, Requirement
from nasdsl.compiler.ops.auxiliary import AUXILIARY
from nasdsl.compiler.source import Span
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.bounds import known_from
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.tree import Among, Expr, decisions_of

COUNTED = 500_000
"""Table entries that counting what is lost may take; beyond, the number is left out."""


def dropped(builder: Builder, graph: Graph) -> Iterator[Diagnostic]:
    """Warnings about parts of a space that are gone, each at its place."""
    yield from _never_taken(builder.left_out, graph)
    yield from _never_read(graph)


def _never_taken(places: list[LeftOut], graph: Graph) -> Iterator[Diagnostic]:
    """Each `none` that never is what is taken, since nothing would then reach what has to be reached."""
    live = [r for r in graph.requirements if r.origin == "live"]
    found: dict[Span, list[tuple[LeftOut, Requirement]]] = {}
    taken: set[Span] = set()
    for place in places:
        blamed = next((r for r in live if _excludes(place.condition, r.condition)), None)
        if blamed is None:
            taken.add(place.span)
        else:
            found.setdefault(place.span, []).append((place, blamed))
    for span, lost in found.items():
        if span in taken:  # in another copy or use it can be
            continue
        number = _number(lost, graph)
        message = f"`none` is never taken here: it is required that {lost[0][1].message}"
        others = () if lost[0][1].span is None else (Label(lost[0][1].span, "something has to reach this"),)
        help = "to leave the step out and keep what comes in, write `identity()`"
        yield Diagnostic("never-taken", message, span, number, others, help, "warning")


def _excludes(taken: Value, condition: Value) -> bool:
    """Whether a condition fails wherever an option is taken, as its form tells."""
    known = known_from(taken)
    if not known or not known.keys() & decisions_of(condition):
        return False

    def put(leaf: Expr) -> Value | None:
        if not isinstance(leaf, Among) or leaf.path not in known:
            return None
        if known[leaf.path] <= leaf.options:
            return True
        return None if known[leaf.path] & leaf.options else False

    return expr.substitute(condition, put) is False


def _number(lost: list[tuple[LeftOut, Requirement]], graph: Graph) -> str:
    """How many architectures would take the option, if they did not have to meet what excludes it."""
    blamed = [requirement for _, requirement in lost]
    others = [r for r in graph.requirements if r not in blamed]
    wanted = Requirement(expr.either(*[place.condition for place, _ in lost]), "taken", "require")
    try:
        with bounded(COUNTED):
            total = count(replace(graph, requirements=(*others, wanted))).total
    except TooWide:
        return ""
    return f"{brief(total)} architecture{'s are' if total != 1 else ' is'} lost"


def _never_read(graph: Graph) -> Iterator[Diagnostic]:
    """Layers that lead to no output, told once for each place in the text. What goes through an `auxiliary` leads to a
    loss."""
    reached = {*graph.outputs, *[node.name for node in graph.nodes.values() if node.op == AUXILIARY.name]}
    for node in reversed(tuple(graph.nodes.values())):
        if node.name in reached:
            reached.update(edge.source for edge in node.inputs)
    users = graph.users()
    ends: dict[Span, int] = {}
    for node in graph.operators():
        if node.name in reached or node.span is None or library.inside(node.span):
            continue
        if not users.get(node.name):
            ends[node.span] = ends.get(node.span, 0) + 1
    dead = sum(node.name not in reached for node in graph.operators())
    for span in ends:
        several = f"{dead:,} layers lead" if dead > 1 else "one layer leads"
        message = "nothing reads what this step makes"
        help = "join it with what goes on, or leave it out; it has costs all the same"
        yield Diagnostic("never-read", message, span, f"{several} to no output", (), help, "warning")
