"""Budgets that no architecture meets: found from the cheapest and the dearest one, several together from all costs."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from nasdsl.compiler import measures
from nasdsl.compiler.architecture import Architecture, is_present
from nasdsl.compiler.cost import in_units, is_known, total
from nasdsl.compiler.diagnostics import Diagnostic, Label
from nasdsl.compiler.engine.eliminate import COUNT, eliminate
from nasdsl.compiler.engine.factors import Constraint, FactorGraph, cost_terms
from nasdsl.compiler.engine.limits import Infeasible, TooWide
from nasdsl.compiler.extremes import conflict, feasible, least, structural
from nasdsl.compiler.graph import Graph, Requirement
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.bounds import Bounds
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.plain import ABSENT, FAULT, is_number
from nasdsl.compiler.values.tree import Apply, Expr, Total, decisions_of, evaluate, holds, measures_of, value_at

if TYPE_CHECKING:
    from nasdsl.compiler.engine.diagram import Diagram
    from nasdsl.compiler.engine.lattice import Window

MOST_CASES = 64
"""Alternatives of a budget with `or` and `implies` that are looked at."""

MOST_MEANS = 20
"""Weighted means of two costs that are looked at."""

MOST_SWEEPS = 2
"""How often all decisions are gone through for an architecture inside several bounds."""

MOST_ARCHITECTURES = 10**9
"""Of a space that is searched for gaps between costs."""

MOST_TRIED = 16
"""Options of a decision that are tried for it."""

MOST_NAMED = 6
"""Decisions of an architecture that a message names."""


@dataclass(frozen=True)
class _Bound:
    """`low <= high`, or `low < high`; one of the two at least is a cost."""

    low: Value
    high: Value
    strict: bool

    @property
    def difference(self) -> Value:
        return expr.add(self.low, expr.multiply(-1, self.high))

    def met(self, difference: Any) -> bool:
        return bool(difference < 0 if self.strict else difference <= 0)


class _Costs:
    """The costs of the whole network in place of their names."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self._known: dict[str, Value] = {}

    def __getitem__(self, name: str) -> Value:
        if name not in self._known:
            self._known[name] = in_units(self.graph, name)
        return self._known[name]

    def put_in_bound(self, bound: _Bound) -> _Bound:
        return _Bound(self.put_in(bound.low), self.put_in(bound.high), bound.strict)

    def put_in(self, value: Value) -> Value:
        return expr.substitute(value, lambda leaf: self[leaf.measure] if isinstance(leaf, Total) else None)


def unaffordable(graph: Graph) -> Diagnostic | None:
    """Why no architecture meets the budgets, or None where one does. A warning where that is too hard to tell.

    A budget on what is read from a file, such as a latency, is taken to be met where there is no such file.
    """
    budgets = [
        r
        for r in graph.requirements
        if r.origin == "budget" and all(is_known(graph, name) for name in measures_of(r.condition))
    ]
    if not budgets:
        return None
    costs = _Costs(graph)
    seen: list[Architecture] = []
    tangled: list[Requirement] = []
    for budget in budgets:
        try:
            found = _alone(graph, costs, budget, seen)
        except TooWide:
            found = _beyond(costs, budget)
            tangled.append(budget)
        if found is not None:
            return found
    return _together(graph, costs, budgets, seen, tangled)


def nothing_left(graph: Graph, broken: Sequence[Requirement]) -> Sequence[Requirement] | Diagnostic | None:
    """Why values that were set leave no architecture: requirements that cannot hold, or a budget that nobody meets.
    None where one is left, or where that is too hard to tell.

    Args:
        broken: requirements that plainly fail.
    """
    blamed: Sequence[Requirement] = broken[:1]
    if not blamed:
        try:
            blamed = conflict(graph)
        except TooWide:
            return None
    if blamed:
        return blamed
    found = unaffordable(graph)
    if found is None or found.severity == "warning":
        return None
    message = found.message.replace("no architecture meets", "no architecture with these values meets")
    return replace(found, message=message)


# --- One budget -------------------------------------------------------------------------------------------------------


def _alone(graph: Graph, costs: _Costs, budget: Requirement, seen: list[Architecture]) -> Diagnostic | None:
    """What is wrong with a budget by itself; the cheapest architectures on the way are added to `seen`."""
    failed: tuple[_Bound, Architecture] | None = None
    for case in _cases(budget.condition, True):
        given = [Requirement(part, budget.message) for part in case if not isinstance(part, _Bound)]
        under = replace(graph, requirements=(*graph.requirements, *given))
        bounds = [part for part in case if isinstance(part, _Bound)]
        if not bounds and feasible(under) is None:
            continue
        for bound in bounds:
            try:
                difference, best = least(under, costs.put_in(bound.difference))
            except Infeasible:
                break
            seen.append(best)
            if not bound.met(difference):
                failed = failed or (bound, best)
                break
        else:
            return None
    if failed is None:  # what it says of decisions is never met
        return _unaffordable(budget)
    bound, best = failed
    low, high = (evaluate(costs.put_in(side), best.indices) for side in (bound.low, bound.high))
    if not isinstance(bound.low, Expr):
        best_is, text = "dearest", f"the greatest is {_figure(high)}, and at least {_figure(low)} are asked for"
    elif not isinstance(bound.high, Expr):
        best_is, text = "cheapest", f"the least is {_figure(low)}, and at most {_figure(high)} are allowed"
    else:
        best_is, text = "nearest", f"{_figure(low)} against {_figure(high)} where they come nearest"
    named = _named(graph, best)
    help = f"the {best_is} architecture has {named}" if named else ""
    return _unaffordable(budget, text, help)


def _beyond(costs: _Costs, budget: Requirement) -> Diagnostic | None:
    """What is wrong with a budget by itself, as far as the bounds of its costs tell."""
    try:
        cases = _cases(budget.condition, True)
    except TooWide:
        return None
    missed: list[Fraction] = []
    for case in cases:
        spans = [Bounds().of(costs.put_in(part.difference)) for part in case if isinstance(part, _Bound)]
        least = max(
            (Fraction(span[0]) for span in spans if span is not None and is_number(span[0])), default=Fraction(0)
        )
        if least <= 0:
            return None
        missed.append(least)
    text = f"whatever is chosen, it is missed by at least {_figure(min(missed))}" if missed else ""
    return _unaffordable(budget, text)


def _unaffordable(budget: Requirement, label: str = "", help: str = "") -> Diagnostic:
    return Diagnostic("unaffordable", f"no architecture meets `{budget.message}`", budget.span, label, help=help)


def _cases(condition: Value, wanted: bool) -> Sequence[Sequence[Value | _Bound]]:
    """A condition as alternatives, each of them bounds on costs and conditions on decisions that hold together.

    Raises:
        TooWide: there are too many.
    """
    if not isinstance(condition, Expr):
        return [[]] if bool(condition) is wanted else []
    if not isinstance(condition, Apply) or not condition.measures:
        return [[condition if wanted else expr.negate(condition)]]
    if condition.function == "not":
        return _cases(condition.args[0], not wanted)
    if condition.function in ("and", "or"):
        parts = [_cases(arg, wanted) for arg in condition.args]
        if (condition.function == "and") is not wanted:
            return [case for part in parts for case in part]
        if math.prod(map(len, parts)) > MOST_CASES:
            raise TooWide("a budget", math.prod(map(len, parts)), MOST_CASES)
        return [list(itertools.chain.from_iterable(choice)) for choice in itertools.product(*parts)]
    if condition.function == "if":
        test, then, otherwise = condition.args
        either = expr.either(expr.both(test, then), expr.both(expr.negate(test), otherwise))
        return _cases(either, wanted)
    if condition.function in ("le", "lt"):
        a, b = condition.args
        strict = condition.function == "lt"
        return [[_Bound(a, b, strict) if wanted else _Bound(b, a, not strict)]]
    if condition.function == "eq":
        a, b = condition.args
        if wanted:
            return [[_Bound(a, b, False), _Bound(b, a, False)]]
        return [[_Bound(a, b, True)], [_Bound(b, a, True)]]
    raise TooWide("a budget", 0, MOST_CASES)


# --- Several at once --------------------------------------------------------------------------------------------------


def _together(
    graph: Graph,
    costs: _Costs,
    budgets: Sequence[Requirement],
    seen: list[Architecture],
    tangled: Sequence[Requirement],
) -> Diagnostic | None:
    """What is wrong with budgets each of which can be met, or is too `tangled` to tell; also with the two ends of a
    range.
    """
    bounds: list[tuple[Requirement, _Bound]] = []
    for budget in budgets:
        try:
            cases = _cases(budget.condition, True)
        except TooWide:
            continue
        if len(cases) == 1:  # of several one may do
            bounds += [(budget, costs.put_in_bound(part)) for part in cases[0] if isinstance(part, _Bound)]
    unclear = [budget for budget in tangled if all(budget is not other for other, _ in bounds)]
    if len(bounds) < 2 and not tangled:
        return None
    starts = seen or _any(graph)
    if _found(graph, [bound for _, bound in bounds], starts):
        return _unproven(unclear)
    for (first, one), (second, other) in itertools.combinations(bounds, 2):
        if not isinstance(expr.add(one.difference, other.difference), Expr):
            continue  # the two ends of a range
        try:
            gap = _gap(graph, one.difference, other.difference, seen)
        except TooWide:
            continue
        if gap is not None:
            others = (Label(second.span, "this one"),) if second.span is not None and second is not first else ()
            message = f"no architecture meets both `{first.message}` and `{second.message}`"
            text = f"what meets the other one misses this by at least {_figure(gap)}"
            return Diagnostic("unaffordable", message, first.span, text, others)
    if _found(graph, [bound for _, bound in bounds], seen[-2:]):
        return _unproven(unclear)
    try:
        return _nothing_inside(graph, costs, budgets)
    except TooWide:
        return _unproven(budgets)


def _any(graph: Graph) -> list[Architecture]:
    try:
        found = feasible(graph)
    except TooWide:
        found = None
    return [] if found is None else [found]


def _unproven(budgets: Sequence[Requirement]) -> Diagnostic | None:
    if not budgets:
        return None
    which, others = _all_of(budgets)
    message = f"whether an architecture meets {which} is too tangled to prove: none was found"
    return Diagnostic("unproven", message, budgets[0].span, "", others, severity="warning")


def _all_of(budgets: Sequence[Requirement]) -> tuple[str, tuple[Label, ...]]:
    """Budgets in words, and where those after the first stand."""
    first, *rest = budgets
    others = tuple(Label(r.span, "and this one") for r in rest if r.span is not None)
    return "these budgets together" if rest else f"`{first.message}`", others


def _gap(graph: Graph, one: Value, other: Value, seen: list[Architecture]) -> Fraction | None:
    """By how much at least `one` lies above 0 where `other` does not, or None if it need not.

    A weighted mean of the two is least for some architecture. Where that mean lies above 0, so does one of the two in
    every architecture. The weight is moved to where the mean is greatest, from one pair of architectures to the next;
    they are added to `seen`.
    """
    low, high = (least(graph, cost)[1] for cost in (one, other))
    seen += [low, high]
    for _ in range(MOST_MEANS):
        (a, b), (c, d) = ([Fraction(evaluate(cost, x.indices)) for cost in (one, other)] for x in (low, high))
        if a >= c or d >= b:
            return None
        ratio = (b - d) / (c - a)  # of the two weights: the means of the two architectures are then equal
        weights = ratio.numerator, ratio.denominator
        mean, best = least(graph, expr.add(expr.multiply(weights[0], one), expr.multiply(weights[1], other)))
        seen.append(best)
        if mean > 0:
            return Fraction(mean, weights[0])
        if mean == weights[0] * a + weights[1] * b:
            return None
        here = [evaluate(cost, best.indices) for cost in (one, other)]
        if max(here) <= 0:
            return None
        low, high = (best, high) if here[0] <= 0 else (low, best)
    return None


def _nothing_inside(graph: Graph, costs: _Costs, budgets: Sequence[Requirement]) -> Diagnostic | None:
    """Budgets that leave nothing over, from the costs of all architectures of a small space."""
    number = eliminate(FactorGraph(graph.decisions, [Constraint(r.condition) for r in structural(graph)]), COUNT).total
    if number is None or number > MOST_ARCHITECTURES:
        return _unproven(budgets)
    from nasdsl.compiler.engine.budget import UnreadableBudget, budget_windows  # numpy takes a while to import
    from nasdsl.compiler.engine.diagram import Diagram
    from nasdsl.compiler.engine.histogram import count_within

    try:
        window = budget_windows(replace(graph, requirements=tuple(budgets)))
        scales = {name: measures.find(name).scale for name in window}
        diagram = Diagram(graph, {name: total(graph, name) for name in window}, scales=scales)
        tally = count_within(diagram, window)
        if tally.number:
            return None
        if not tally.exact:
            return _unproven(budgets)
        text = _gap_between(diagram, window) if len(window) == 1 else ""
    except UnreadableBudget:
        return _unproven(budgets)
    except Infeasible:
        text = ""
    which, others = _all_of(budgets)
    return Diagnostic("unaffordable", f"no architecture meets {which}", budgets[0].span, text, others)


def _gap_between(diagram: Diagram, window: Window) -> str:
    """The costs next to a window that holds none."""
    from nasdsl.compiler.engine.histogram import distribution

    ((name, (low, _)),) = window.items()
    values, scale = distribution(diagram, name).values.tolist(), diagram.scales[name]
    above = bisect_left(values, (low or 0) * scale)
    if not 0 < above < len(values):
        return ""
    last, first = (_figure(Fraction(value, scale)) for value in values[above - 1 : above + 1])
    return f"{name} go from {last} to {first} with none in between"


def _found(graph: Graph, bounds: Sequence[_Bound], seen: Sequence[Architecture]) -> bool:
    """Whether an architecture inside all bounds is soon found from those given. True is a proof, False is none.

    From each of them one decision after the other is set to what brings the costs nearest to the bounds.
    """
    for start in seen:
        point = _Point(graph, bounds, start, seen)
        for _ in range(MOST_SWEEPS):
            moved = [point.improve(path) for path in graph.decisions]
            if not any(moved):
                break
        if point.excess <= 0:
            return True
    return False


class _Point:
    """An architecture on its way to some bounds.

    Attributes:
        values: of all decisions, those that are not there included: what they would be.
        present: of those that are there.
        parts: what each term of each bound comes to, by the number of the term.
        excess: how far the costs lie outside the bounds in all, as shares of what they were at first; 0 inside.
    """

    def __init__(self, graph: Graph, bounds: Sequence[_Bound], start: Architecture, others: Sequence[Architecture]):
        self.graph, self.bounds, self.others = graph, bounds, others
        self.values = {path: next(decision.values()) for path, decision in graph.decisions.items()}
        for architecture in (*others, start):
            self.values.update(architecture.indices)
        self.present = start.indices
        self.terms = [(i, term) for i, bound in enumerate(bounds) for term in cost_terms(bound.difference)]
        self.required = [r.condition for r in structural(graph)]
        self.governing = {path for d in graph.decisions.values() for path in decisions_of(d.present)}
        self.touched: dict[str, list[int]] = {path: [] for path in graph.decisions}
        for number, (_, term) in enumerate(self.terms):
            for path in decisions_of(term):
                self.touched[path].append(number)
        self.parts = [self._part(number, start.indices) for number in range(len(self.terms))]
        self.totals = [
            sum(part for (k, _), part in zip(self.terms, self.parts, strict=True) if k == i) for i in range(len(bounds))
        ]
        self.scales = [max(abs(total), 1) for total in self.totals]
        self.excess = self._excess(self.totals)

    def _part(self, number: int, present: Mapping[str, Any]) -> Any:
        value = value_at(self.terms[number][1], present)
        return 0 if value is ABSENT else math.inf if value is FAULT else value

    def _excess(self, totals: Sequence[Any]) -> float:
        outside = [
            max(float(total) / scale, 1e-12)
            for bound, total, scale in zip(self.bounds, totals, self.scales, strict=True)
            if not bound.met(total)
        ]
        return sum(outside)

    def improve(self, path: str) -> bool:
        """Sets a decision to its best value of those tried; whether that is another one."""
        if self.excess <= 0 or path not in self.present:
            return False
        before = self.excess
        for value in self._candidates(path):
            self._move(path, value)
        return self.excess < before

    def _candidates(self, path: str) -> Iterator[Any]:
        decision = self.graph.decisions[path]
        if decision.kind == "choice":
            yield from range(0, decision.n, -(-decision.n // MOST_TRIED))
        elif decision.kind == "units":  # costs mostly rise evenly with the count: halve the way to where they fit
            low, high = 0, decision.n
            while low <= high:
                middle = (low + high) // 2
                yield tuple(range(middle))
                if len(self.values[path]) >= middle:
                    low = middle + 1
                else:
                    high = middle - 1
        else:
            yield from {other.indices[path] for other in self.others if path in other}

    def _move(self, path: str, value: Any) -> None:
        """Goes to where a decision has another value, if that lies nearer to the bounds and meets what is required."""
        values = {**self.values, path: value}
        if path in self.governing:
            present: dict[str, Any] = {}
            for other, decision in self.graph.decisions.items():
                if is_present(decision, present):
                    present[other] = values[other]
        else:
            present = {**self.present, path: value}
        changed = {path, *(present.keys() ^ self.present.keys())}
        totals, parts = list(self.totals), {}
        for number in {number for other in changed for number in self.touched[other]}:
            parts[number] = self._part(number, present)
            totals[self.terms[number][0]] += parts[number] - self.parts[number]
        excess = self._excess(totals)
        if excess < self.excess and all(
            holds(condition, present) for condition in self.required if decisions_of(condition) & changed
        ):
            self.values, self.present, self.totals, self.excess = values, present, totals, excess
            for number, part in parts.items():
                self.parts[number] = part


# --- Words ------------------------------------------------------------------------------------------------------------


def _named(graph: Graph, architecture: Architecture) -> str:
    choices = [path for path in architecture.indices if graph.decisions[path].kind != "units"]
    if len(choices) > MOST_NAMED:
        return ""
    return ", ".join(f"`{path}: {graph.decisions[path].describe(architecture.indices[path])}`" for path in choices)


def _figure(value: Any) -> str:
    number = Fraction(value)
    if number.denominator == 1 or abs(number) >= 1000:
        return f"{math.floor(number):,}"
    return f"{float(number):,.4g}"
