"""Variables summed out one by one in a commutative semiring, and the way back."""

from __future__ import annotations

import heapq
import math
import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from nasdsl.compiler.engine.factors import Factor, FactorGraph, Variable
from nasdsl.compiler.engine.limits import WIDEST, TooWide, spend
from nasdsl.compiler.values.plain import ABSENT, FAULT


@dataclass(frozen=True)
class Semiring:
    """`plus` chooses or adds up, `times` combines independent parts, `one` is neutral for it.

    Zero is what no table has an entry for.
    """

    name: str
    one: Any
    plus: Callable[[Any, Any], Any]
    times: Callable[[Any, Any], Any]


EXISTS = Semiring("exists", True, operator.or_, operator.and_)
COUNT = Semiring("count", 1, operator.add, operator.mul)
LEAST = Semiring("least", 0, min, operator.add)
GREATEST = Semiring("greatest", 0, max, operator.add)


@dataclass
class Step:
    """One variable summed out of the factors that mentioned it."""

    variable: int
    factors: list[Factor]
    scope: tuple[int, ...]


@dataclass
class Elimination:
    """The steps taken, and the sum of each connected component.

    Attributes:
        values: the sum over each component, by the number of its last step; empty where some component's sum is zero.
        total: the product of all of them, None where it is zero.
        width: entries of the largest table.
    """

    network: FactorGraph
    semiring: Semiring
    weights: list[list[Any]]
    steps: list[Step]
    values: dict[int, Any]
    total: Any
    width: int

    def walk(self, choose: Callable[[Step, list[tuple[int, Any]]], int]) -> list[int]:
        """A cell for each variable, last step first: `choose` takes one of those left, given the ones chosen before."""
        cells = [-1] * len(self.network.variables)
        for step in reversed(self.steps):
            cells[step.variable] = choose(step, self.options(step, cells))
        return cells

    def options(self, step: Step, cells: list[int]) -> list[tuple[int, Any]]:
        """The cells of a step's variable and what remains to be summed under each, given the cells of its scope."""
        found = []
        times = self.semiring.times
        for cell, weight in enumerate(self.weights[step.variable]):
            if weight is None:
                continue
            cells[step.variable] = cell
            for factor in step.factors:
                value = factor.table.get(tuple([cells[i] for i in factor.scope]))
                if value is None:
                    break
                weight = times(weight, value)
            else:
                found.append((cell, weight))
        return found

    def best(self) -> dict[str, Any] | None:
        """Values of the present decisions that attain the total of (or, and), (min, +) or (max, +)."""
        if self.total is None:
            return None
        plus = self.semiring.plus

        def choose(step: Step, options: list[tuple[int, Any]]) -> int:
            cell, best = options[0]
            for other, value in options[1:]:
                if plus(value, best) == value != best:
                    cell, best = other, value
            return cell

        cells = self.walk(choose)
        out: dict[str, Any] = {}
        for variable, number in zip(self.network.variables, cells, strict=True):
            if variable.decision is not None and variable.cells[number].value is not ABSENT:
                out[variable.name] = variable.cells[number].whole
        return out


def eliminate(network: FactorGraph, semiring: Semiring, last: Iterable[int] = ()) -> Elimination:
    """All variables summed out, those in `last` after all others.

    Raises:
        TooWide: a table grows beyond the limit.
    """
    weights = [_weights(variable, semiring) for variable in network.variables]
    factors = [Factor(scope, dict.fromkeys(keys, semiring.one)) for scope, keys in network.relations]
    if semiring in (LEAST, GREATEST):
        factors += network.costs
    result = Elimination(network, semiring, weights, [], {}, None, 1)
    if not network.possible:
        return result
    touching: list[set[int]] = [set() for _ in network.variables]
    for number, factor in enumerate(factors):
        for i in factor.scope:
            touching[i].add(number)
    for i in elimination_order(network, factors, frozenset(last)):
        mine = sorted(touching[i])
        bucket = sorted([factors[number] for number in mine], key=lambda f: len(f.table))
        for number in mine:
            for j in factors[number].scope:
                touching[j].discard(number)
        scope, table = _sum_out(i, weights[i], bucket, semiring, network)
        result.width = max(result.width, len(table))
        number = len(result.steps)
        result.steps.append(Step(i, bucket, scope))
        if not table:
            return Elimination(network, semiring, weights, result.steps, {}, None, result.width)
        if scope:
            for j in scope:
                touching[j].add(len(factors))
            factors.append(Factor(scope, table, number))
        else:
            result.values[number] = table[()]
    result.total = product(list(result.values.values()), semiring)
    if semiring in (LEAST, GREATEST):
        result.total = result.total + network.constant
    return result


def product(values: list[Any], semiring: Semiring) -> Any:
    """Of many large numbers, by halves: the factors of each multiplication stay of like length."""
    if not values:
        return semiring.one
    while len(values) > 1:
        odd = values[-1:] if len(values) % 2 else []
        values = [semiring.times(a, b) for a, b in zip(values[::2], values[1::2], strict=False)] + odd
    return values[0]


def _weights(variable: Variable, semiring: Semiring) -> list[Any]:
    if variable.decision is None or semiring is EXISTS:
        return [semiring.one] * variable.size
    if semiring is COUNT:
        return [cell.count for cell in variable.cells]
    return [None if cell.cost is FAULT else cell.cost for cell in variable.cells]


def elimination_order(network: FactorGraph, factors: list[Factor], last: frozenset[int]) -> Iterator[int]:
    """Always the variable that leaves the smallest table; of equals the latest: a block goes before what governs it."""
    count = len(network.variables)
    size = [variable.size for variable in network.variables]
    near: list[set[int]] = [set() for _ in range(count)]
    for factor in factors:
        for i in factor.scope:
            near[i].update(factor.scope)
    for i in range(count):
        near[i].discard(i)
    left = [math.prod([size[j] for j in near[i]]) for i in range(count)]
    queue = [(i in last, left[i], -i) for i in range(count)]
    heapq.heapify(queue)
    gone = [False] * count
    while queue:
        _, entries, minus = heapq.heappop(queue)
        i = -minus
        if gone[i] or entries != left[i]:
            continue
        gone[i] = True
        around = near[i]
        for a in around:
            near[a].discard(i)
            left[a] //= size[i]
        for a in around:
            for b in around - near[a]:
                if b != a:
                    near[a].add(b)
                    left[a] *= size[b]
        for a in around:
            heapq.heappush(queue, (a in last, left[a], -a))
        yield i


def _sum_out(
    i: int, weights: list[Any], bucket: list[Factor], semiring: Semiring, network: FactorGraph
) -> tuple[tuple[int, ...], dict[tuple[int, ...], Any]]:
    """The product of the factors of a bucket, summed over one variable."""
    scope: tuple[int, ...] = (i,)
    table: dict[tuple[int, ...], Any] = {(cell,): weight for cell, weight in enumerate(weights) if weight is not None}
    for factor in bucket:
        scope, table = _join(scope, table, factor, semiring, network)
    place = scope.index(i)
    rest = scope[:place] + scope[place + 1 :]
    out: dict[tuple[int, ...], Any] = {}
    plus = semiring.plus
    for key, value in table.items():
        short = key[:place] + key[place + 1 :]
        known = out.get(short)
        out[short] = value if known is None else plus(known, value)
    return rest, out


def _join(
    scope: tuple[int, ...], table: dict[tuple[int, ...], Any], factor: Factor, semiring: Semiring, network: FactorGraph
) -> tuple[tuple[int, ...], dict[tuple[int, ...], Any]]:
    """The product of two tables: entries that agree on the shared variables."""
    shared = [i for i in factor.scope if i in scope]
    new = [i for i in factor.scope if i not in scope]
    shared_there = [factor.scope.index(i) for i in shared]
    new_there = [factor.scope.index(i) for i in new]
    shared_here = [scope.index(i) for i in shared]
    by_shared: dict[tuple[int, ...], list[tuple[tuple[int, ...], Any]]] = {}
    for key, value in factor.table.items():
        entry = (tuple([key[p] for p in new_there]), value)
        by_shared.setdefault(tuple([key[p] for p in shared_there]), []).append(entry)
    out: dict[tuple[int, ...], Any] = {}
    times = semiring.times
    union = (*scope, *new)
    spend(len(table) + len(factor.table))
    for key, value in table.items():
        for rest, other in by_shared.get(tuple([key[p] for p in shared_here]), ()):
            out[key + rest] = times(value, other)
        if len(out) > WIDEST:
            names = [network.variables[j].name for j in union]
            width = math.prod([network.variables[j].size for j in union])
            raise TooWide("the space", width, WIDEST, [name for name in names if not name.startswith("intermediate ")])
    spend(len(out))
    return union, out
