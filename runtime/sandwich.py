"""The smallest and the largest architecture of given operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nasdsl.compiler.architecture import Architecture, is_present
from nasdsl.compiler.cost import total_cost
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.engine.limits import Infeasible, TooWide, bounded
from nasdsl.compiler.engine.monotone import Monotone
from nasdsl.compiler.extremes import greatest, least, structural
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.pin import pin
from nasdsl.compiler.values.tree import holds

PATIENCE = 1_000_000
"""Table entries that an exact search may take: about a second."""
KEPT = 256
"""How many answers of the exact search are kept."""


def is_size(decision: Decision) -> bool:
    """Whether a decision is about more or less of the same: ordered numbers, or search units. Whatever else, words,
    labels, truth values, subsets, orders, is an operator: one of several things."""
    return decision.ordered or decision.kind == "units"


class SandwichExtremes:
    """Takes every size of a space to its end.

    The larger of two numbers is the one with more MACs; where that depends on other decisions, or neither has more (as
    with heads of an attention), it is the greater number. Where requirements forbid all of these together, the end is
    an architecture of the most, or the fewest, MACs among those with the same operators that meet them.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.macs = total_cost(graph).macs
        self.requirements = structural(graph)
        directions = Monotone()
        self._falling = {
            path for path, decision in graph.decisions.items() if decision.ordered and self._falls(directions, decision)
        }
        self._known: dict[tuple[bool, tuple[Any, ...]], Architecture] = {}

    def _falls(self, directions: Monotone, decision: Decision) -> bool:
        """Whether greater numbers cost less. Options stand in any order; directions are of rising ones."""
        if list(decision.items) == sorted(decision.items):
            return directions.of(self.macs, decision.path, decision.n) == -1
        if list(decision.items) == sorted(decision.items, reverse=True):
            return directions.of(self.macs, decision.path, decision.n) == 1
        return False

    def largest(self, operators: Mapping[str, Any]) -> Architecture:
        """The largest architecture that has these operators, where they are present.

        Raises:
            CompileError: no architecture has them.
        """
        return self._end(operators, True)

    def smallest(self, operators: Mapping[str, Any]) -> Architecture:
        """As `largest`, the smallest."""
        return self._end(operators, False)

    def extreme(self, high: bool) -> Architecture:
        """The architecture of the most, or the fewest, MACs of all that meet the requirements. Where that is out of
        reach, the largest or smallest with the first of all operators.

        Raises:
            CompileError: there is none.
        """
        try:
            with bounded(PATIENCE):
                return (greatest if high else least)(self.graph, self.macs)[1]
        except Infeasible as problem:
            raise error("no-end", problem.message, None) from None
        except TooWide:
            first = {path: next(iter(d.values())) for path, d in self.graph.decisions.items() if not is_size(d)}
            return self._end(first, high)

    def _end(self, operators: Mapping[str, Any], high: bool) -> Architecture:
        values: dict[str, Any] = {}
        for path, decision in self.graph.decisions.items():
            if is_present(decision, values):
                values[path] = operators[path] if path in operators else self._extreme(decision, high)
        if all(holds(requirement.condition, values) for requirement in self.requirements):
            return Architecture.at(self.graph, values)
        key = (high, tuple(operators.items()))
        if key not in self._known:
            if len(self._known) >= KEPT:
                self._known.pop(next(iter(self._known)))
            self._known[key] = self._exact(operators, high)
        return self._known[key]

    def _extreme(self, decision: Decision, high: bool) -> Any:
        if decision.kind == "units":
            return tuple(range(decision.n)) if high else ()
        pick = max if high != (decision.path in self._falling) else min
        return pick(range(decision.n), key=decision.items.__getitem__)

    def _exact(self, operators: Mapping[str, Any], high: bool) -> Architecture:
        pinned = pin(self.graph, operators)
        word = "largest" if high else "smallest"
        try:
            with bounded(PATIENCE):
                _, values = (greatest if high else least)(pinned, total_cost(pinned).macs)
        except Infeasible:
            raise error("no-end", f"there is no {word} architecture: none has these operators", None) from None
        except TooWide as problem:
            raise error("too-wide", f"the {word} architecture is out of reach: {problem.message}", None) from None
        return Architecture.at(self.graph, {**operators, **values.indices})
