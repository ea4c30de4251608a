"""Whether one condition holds wherever another one does, as far as that is plain."""

from __future__ import annotations

import itertools
import math

from nasdsl.compiler.values.function import Value
from nasdsl.compiler.values.tree import MOST_OPTIONS, Among, Apply, Case, Expr, decisions_of, holds, options

MOST_WALKED = 1_000
"""Parts of a condition that are gone through: one that shares its parts may have very many."""
MOST_VALUES = 16
"""Of a part of a condition that is tried."""


def follows(condition: Value, given: Value) -> bool:
    """Whether a condition plainly holds where another one does: it is one of its parts, or what an order tells."""
    if condition is True:
        return True
    parts = given.args if isinstance(given, Apply) and given.function == "and" else (given,)
    if condition in parts:
        return True
    if isinstance(condition, Among):
        return any(isinstance(p, Among) and p.path == condition.path and p.options <= condition.options for p in parts)
    if isinstance(condition, Apply) and condition.function in ("and", "or"):
        every = all if condition.function == "and" else any
        return every(follows(arg, given) for arg in condition.args)
    if not isinstance(condition, Apply):
        return False
    return _told_by_order(condition, parts) or _tried(condition, parts)


def _told_by_order(condition: Apply, parts: tuple[Value, ...]) -> bool:
    if condition.function == "le":
        return Apply("lt", condition.args) in parts or Apply("eq", condition.args) in parts
    denied = condition.args[0]
    if condition.function != "not" or not isinstance(denied, Apply) or denied.function not in ("lt", "eq"):
        return False
    return Apply("lt", denied.args[::-1]) in parts or (denied.function == "eq" and Apply("lt", denied.args) in parts)


def _tried(condition: Apply, parts: tuple[Value, ...]) -> bool:
    """Whether a condition holds for all that its parts can be, under those of the given orders that speak of them.

    What the orders compare, and what hangs on many decisions but has few values, counts as a decision of its own.
    """
    orders = [p for p in parts if isinstance(p, Apply) and p.function in ("lt", "le")]
    tables: dict[Expr, Case] = {}
    domains: dict[str, int] = {}
    walked = 0

    def table(value: Expr) -> Case | None:
        if value not in tables:
            possible = options(value)
            if not possible or len(possible) > MOST_VALUES:
                return None
            tables[value] = Case(f" {len(tables)}", tuple(possible))
            domains[tables[value].path] = len(possible)
        return tables[value]

    def put(value: Value, others: frozenset[str] = frozenset()) -> Value:
        """The value in terms of tables; `others` are the decisions that the rest of the condition hangs on."""
        if not isinstance(value, Expr):
            return value
        if isinstance(value, Case | Among):
            domains[value.path] = len(value.values) if isinstance(value, Case) else value.n
        found = tables.get(value)
        if found is None and isinstance(value, Apply) and len(value.decisions) > 2 and not value.decisions & others:
            found = table(value)
        if found is not None or not isinstance(value, Apply):
            return value if found is None else found
        return inside(value, others)

    def inside(value: Apply, others: frozenset[str] = frozenset()) -> Apply:
        nonlocal walked
        walked += 1
        if walked > MOST_WALKED:
            raise OverflowError
        each = [decisions_of(arg) for arg in value.args]
        beside = [others.union(*each[:i], *each[i + 1 :]) for i in range(len(each))]
        return Apply(value.function, tuple(map(put, value.args, beside)))

    for order in orders:
        for side in order.args:
            if isinstance(side, Expr):
                table(side)
    try:
        wanted = inside(condition)
    except OverflowError:  # not plain
        return False
    paths = [path for path in domains if path in wanted.decisions]
    if len(paths) < len(wanted.decisions) or math.prod(domains[path] for path in paths) > MOST_OPTIONS:
        return False
    walked = 0
    known = [found for order in orders if (found := inside(order)).decisions <= wanted.decisions]
    for picked in itertools.product(*[range(domains[path]) for path in paths]):
        values = dict(zip(paths, picked, strict=True))
        if all(holds(order, values) for order in known) and not holds(wanted, values):
            return False
    return True
