"""What has to hold in every architecture is proven, or told with one in which it does not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.diagnostics import CompileError, Diagnostic, Label, error
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.budgets import nothing_left, unaffordable
from nasdsl.compiler.elaborate.frame import Builder, Obligation
from nasdsl.compiler.elaborate.led import in_call
from nasdsl.compiler.engine.limits import TooWide, bounded
from nasdsl.compiler.extremes import conflict, counterexample
from nasdsl.compiler.graph import Graph, Requirement
from nasdsl.compiler.source import Span
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.plain import ABSENT, FAULT
from nasdsl.compiler.values.tree import decisions_of, holds, value_at

PROOF = 2_000_000
"""Table entries that all proofs of a space may take together: a few seconds."""

MOST_TRIED = 1_000
"""Combinations that are tried to leave decisions out of a message."""

MOST_SHOWN = 6
"""Decisions of a combination that a message names."""


def prove(graph: Graph, builder: Builder) -> None:
    """What has to hold for every choice: shapes that agree, items that exist."""
    proved: dict[Any, Architecture | None] = {}
    told: set[tuple[str, Span | None]] = set()
    for obligation in builder.obligations:
        old = obligation.diagnostic
        if (old.code, old.span) in told:
            continue
        key = (obligation.condition, obligation.lost)
        if key not in proved:
            given = builder.asked if obligation.lost else None
            try:
                with bounded(PROOF // 4):  # one that is too tangled leaves room for the others
                    proved[key] = counterexample(graph, obligation.condition, given)
            except TooWide:
                message = f"whether this always holds is too tangled to prove: {old.message}"
                told_late = replace(old, code="unproven", message=message, severity="warning")
                builder.report([in_call(told_late, obligation.calls)])
                proved[key] = None
        found = proved[key]
        if found is None:
            continue
        undefined = any(value_at(value, found.indices) is FAULT for value in obligation.compared)
        if undefined and any(overlap(old.span, span) for _, span in told):
            continue  # that a part of it has no value is told there
        told.add((old.code, old.span))
        builder.report([in_call(_shown_by(found, obligation, graph), obligation.calls)])


def agree(graph: Graph, builder: Builder) -> None:
    """Requirements that leave at least one architecture."""
    if builder.has_errors or not graph.requirements:
        return
    try:
        blamed = conflict(graph)
    except TooWide:
        message = "whether an architecture meets all requirements is too tangled to prove"
        builder.report([Diagnostic("unproven", message, graph.requirements[0].span, severity="warning")])
        return
    if blamed:
        raise CompileError([_contradiction(blamed)])
    found = unaffordable(graph)
    if found is None:
        return
    if found.severity == "error":
        raise CompileError([found])
    builder.report([found])


def check_pinned(whole: Graph, graph: Graph, places: Mapping[str, Span]) -> None:
    blamed = nothing_left(graph, [r for r in graph.requirements if r.condition is False])
    if blamed is None:
        return
    if isinstance(blamed, Diagnostic):
        place, *_ = sorted(places.values(), key=lambda span: span.start)
        budget = (Label(blamed.span, blamed.label),) if blamed.span is not None else ()
        raise CompileError([replace(blamed, span=place, label="", others=(*budget, *blamed.others))])
    before = next(
        (r for r in whole.requirements if r.message == blamed[0].message and r.span == blamed[0].span), blamed[0]
    )
    concerned = sorted({places[p] for p in decisions_of(before.condition) if p in places}, key=lambda s: s.start)
    others = [Label(span, "with this one") for span in concerned[1:]]
    others += [Label(r.span, "this has to hold") for r in blamed if r.span is not None]
    place = concerned[0] if concerned else next(iter(places.values()))
    raise error("requirement-broken", f"with these values `{blamed[0].message}` cannot hold", place, others=others)


def _shown_by(found: Architecture, obligation: Obligation, graph: Graph) -> Diagnostic:
    """The diagnostic of an obligation that an architecture breaks, with the decisions that show it."""
    diagnostic = obligation.diagnostic
    own = _telling(obligation.condition, found, graph)
    shown = ", ".join(f"`{path}: {graph.decisions[path].describe(found.indices[path])}`" for path in own[:MOST_SHOWN])
    more = f" and {len(own) - MOST_SHOWN} more" if len(own) > MOST_SHOWN else ""
    values = [_told(value_at(value, found.indices)) for value in obligation.compared]
    if values and diagnostic.others:
        told = Label(diagnostic.others[0].span, f"here this {values[1]}")
        diagnostic = replace(diagnostic, label=f"here this {values[0]}", others=(told, *diagnostic.others[1:]))
    elif values:
        diagnostic = replace(diagnostic, label=f"here {' and '.join(value.removeprefix('is ') for value in values)}")
    example = f"for example with {shown}{more}" if shown else ""
    return replace(diagnostic, help="\n".join(part for part in (example, diagnostic.help) if part))


def _told(value: Any) -> str:
    return "has no value" if value is FAULT or value is ABSENT else f"is {v.show(value)}"


def _telling(condition: Value, found: Architecture, graph: Graph) -> list[str]:
    """The decisions because of which an architecture breaks a condition: without those it breaks whatever they are."""
    own = [path for path in graph.decisions if path in found.indices and path in decisions_of(condition)]
    free: list[str] = []
    for path in own:
        domains = [_alternatives(graph.decisions[other]) for other in (*free, path)]
        if all(domains) and math.prod(map(len, domains)) <= MOST_TRIED:
            others = (dict(zip((*free, path), values, strict=True)) for values in itertools.product(*domains))
            if not any(holds(condition, {**found.indices, **values}) for values in others):
                free.append(path)
    return [path for path in own if path not in free]


def _alternatives(decision: Decision) -> list[Any]:
    """The values of a choice. Of units all: a reader takes them for kept where nothing else is said."""
    if decision.kind == "units":
        return [tuple(range(decision.n))]
    return list(range(decision.n)) if decision.kind == "choice" else []


def _contradiction(blamed: Sequence[Requirement]) -> Diagnostic:
    """Why no architecture is left."""
    asked = [r for r in blamed if r.origin == "require"]
    first, *rest = sorted(blamed, key=lambda r: r.origin != "require")
    if len(blamed) == 1:
        message = (
            f"no architecture meets `{first.message}`" if asked else f"in no architecture it holds that {first.message}"
        )
        return Diagnostic("no-architecture", message, first.span)
    others = tuple(
        Label(r.span, "and this one" if r.origin == "require" else "something has to reach this")
        for r in rest
        if r.span is not None
    )
    message = "these requirements contradict each other: no architecture meets them all"
    return Diagnostic("no-architecture", message, first.span, "this one", others)


def in_order(diagnostic: Diagnostic) -> tuple[str, int]:
    """In the order of the text; what has no place comes first."""
    return ("", 0) if diagnostic.span is None else (diagnostic.span.source.name, diagnostic.span.start)


def same_inside(d: Diagnostic, other: Diagnostic) -> bool:
    """Whether another diagnostic says the same of a part of the place."""
    if d.span is None or other.span is None or (d.code, d.message) != (other.code, other.message):
        return False
    inside = d.span.source is other.span.source and d.span.start <= other.span.start and other.span.end <= d.span.end
    return inside and d.span != other.span


def overlap(a: Span | None, b: Span | None) -> bool:
    return a is not None and b is not None and a.source is b.source and a.start < b.end and b.start < a.end
