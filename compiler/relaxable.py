"""Which decisions can be relaxed: given a probability for each of their values, as searches by gradient do."""

from __future__ import annotations

from nasdsl.compiler.decision import Decision
from nasdsl.compiler.diagnostics import Diagnostic
from nasdsl.compiler.graph import Graph

MOST_VALUES = 1 << 12
"""Values of one decision that may each have a probability of their own."""


def is_relaxable(decision: Decision) -> bool:
    """A choice, or a subset of at most MOST_VALUES values."""
    return decision.kind in ("choice", "subset") and decision.cardinality() <= MOST_VALUES


def unrelaxable(graph: Graph) -> list[Diagnostic]:
    """What is wrong with the decisions that cannot be relaxed, once for all copies of one declaration."""
    found: dict[str, Diagnostic] = {}
    for path, decision in graph.decisions.items():
        if is_relaxable(decision) or decision.declaration in found:
            continue
        if decision.kind == "units":
            why = "search units, and each set of them would need a probability of its own"
        elif decision.kind == "order":
            why = "an order, and each order would need a probability of its own"
        else:
            number = decision.cardinality()
            told = f"{number:,}" if number < 10**18 else f"2^{number.bit_length() - 1}"
            why = f"a {decision.kind} of {told} values, more than the {MOST_VALUES:,} that can have probabilities"
        found[decision.declaration or path] = Diagnostic(
            "unrelaxable",
            f"`{path}` cannot be relaxed: it is {why}",
            decision.span,
            help="pin it with `with { ... }`, or use another search",
        )
    return list(found.values())
