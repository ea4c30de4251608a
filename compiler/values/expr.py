"""Small expressions over decisions: the only way in which a choice reaches a width, a size, a cost or a condition.

A value is either plain (int, Fraction, float, bool, Symbol, str, tuple) or an `Expr`. The functions below (`add`,
`equal`, `both`, ...) take both, fold what is constant, and keep what remains in a normal form in which

* a function of one choice is a table over its options (`Case`, `Among`), however it was written;
* a sum is flat, with its constant last, so that a cost falls apart into terms over few decisions.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from nasdsl.compiler.values.function import FUNCTIONS
from nasdsl.compiler.values.function import Value as Value
from nasdsl.compiler.values.plain import FAULTS, Kind, narrow
from nasdsl.compiler.values.tree import (
    NUMBER,
    Among,
    Apply,
    Case,
    Expr,
    apply,
    at_option,
    case,
    is_whole,
    kinds_of,
    rebuild,
    single_choice,
)


def is_kind(value: Value, kind: Kind) -> Value:
    """The condition under which a value is of a kind."""
    kinds = kinds_of(value)
    if kinds == {kind}:
        return True
    return equal(apply("kind", value), kind) if kind in kinds else False


def whole(value: Value) -> Value:
    """The condition under which a number is whole."""
    return True if is_whole(value) else equal(value, apply("floor", value))


def add(*terms: Value) -> Value:
    """A flat sum; equal non-constant terms are collected, the constant stands last."""
    constant: Any = 0
    collected: dict[Value, Any] = {}
    tables: dict[str, tuple[Any, ...]] = {}
    for term in _flat_terms(terms):
        if isinstance(term, Case) and term.kinds == NUMBER:
            table = tables.get(term.path)
            tables[term.path] = term.values if table is None else tuple(map(operator.add, table, term.values))
            collected.setdefault(term.path)  # keeps the place; filled in below
        elif isinstance(term, Expr):
            factor, rest = _coefficient(term)
            collected[rest] = collected.get(rest, 0) + factor
        else:
            constant = constant + term
    parts: list[Value] = []
    for rest, factor in collected.items():
        if isinstance(rest, str):
            part = case(rest, tuple(map(narrow, tables[rest])))
            if isinstance(part, Expr):
                parts.append(part)
            else:
                constant = constant + part
        elif factor != 0:
            parts.append(_scaled(narrow(factor), rest))
    constant = narrow(constant)
    if not parts:
        return constant
    if len(parts) == 1 and isinstance(parts[0], Case) and parts[0].kinds == NUMBER:
        return case(parts[0].path, tuple(narrow(v + constant) for v in parts[0].values))
    if constant != 0:
        parts.append(constant)
    return parts[0] if len(parts) == 1 else Apply("add", tuple(parts))


def _flat_terms(terms: Iterable[Value]) -> Iterator[Value]:
    for term in terms:
        if isinstance(term, Apply) and term.function == "add":
            yield from term.args
        else:
            yield term


def _coefficient(term: Expr) -> tuple[Any, Expr]:
    if isinstance(term, Apply) and term.function == "mul" and not isinstance(term.args[0], Expr):
        rest = term.args[1:]
        return term.args[0], rest[0] if len(rest) == 1 else Apply("mul", rest)
    return 1, term


def _scaled(factor: Any, rest: Expr) -> Value:
    if factor == 1:
        return rest
    if isinstance(rest, Case) and rest.kinds == NUMBER:
        return case(rest.path, tuple(narrow(factor * v) for v in rest.values))
    if isinstance(rest, Apply) and rest.function == "mul":
        return Apply("mul", (factor, *rest.args))
    return Apply("mul", (factor, rest))


def multiply(*factors: Value) -> Value:
    """A product; a constant is distributed over a sum, so that sums stay flat."""
    constant: Any = 1
    rest: list[Expr] = []
    for factor in factors:
        if isinstance(factor, Expr):
            coefficient, tail = _coefficient(factor)
            constant = constant * coefficient
            rest.extend(tail.args if isinstance(tail, Apply) and tail.function == "mul" else (tail,))
        else:
            constant = constant * factor
    constant = narrow(constant)
    if constant == 0 or not rest:
        return constant
    single = single_choice(tuple(rest))
    if single is not None:
        return apply("mul", constant, *rest)
    if len(rest) == 1:
        inner = rest[0]
        if isinstance(inner, Apply) and inner.function == "add":
            return add(*[multiply(constant, term) for term in inner.args])
        return _scaled(constant, inner)
    return Apply("mul", tuple(rest) if constant == 1 else (constant, *rest))


def divide(a: Value, b: Value) -> Value:
    if isinstance(a, Expr) and not isinstance(b, Expr) and b != 0:
        return multiply(a, FUNCTIONS["div"].plain(1, b))
    return apply("div", a, b)


def floor_divide(a: Value, b: Value) -> Value:
    return apply("floordiv", a, b)


def ceil_divide(a: Value, b: Value) -> Value:
    """The smallest integer at least a / b: sizes after a strided operator."""
    return apply("ceildiv", a, b)


def equal(a: Value, b: Value) -> Value:
    if isinstance(a, Expr) and a == b:
        return True
    return apply("eq", a, b)


def less(a: Value, b: Value) -> Value:
    return apply("lt", a, b)


def at_most(a: Value, b: Value) -> Value:
    return apply("le", a, b)


def within(low: Value, value: Value, high: Value) -> Value:
    """Whether a value lies between two others, ends included."""
    return both(at_most(low, value), at_most(value, high))


def negate(condition: Value) -> Value:
    if isinstance(condition, Apply) and condition.function == "not":
        return condition.args[0]
    return apply("not", condition)


def both(*conditions: Value) -> Value:
    """Conjunction: flat, without repeats; conditions on one choice are merged."""
    return _junction("and", conditions, neutral=True)


def either(*conditions: Value) -> Value:
    """Disjunction: flat, without repeats; conditions on one choice are merged, also where they stand in conjunctions
    that are otherwise alike."""
    joined = _junction("or", conditions, neutral=False)
    if not isinstance(joined, Apply) or joined.function != "or" or not 1 < len(joined.args) <= MOST_MERGED:
        return joined
    terms = [frozenset(a.args if isinstance(a, Apply) and a.function == "and" else (a,)) for a in joined.args]
    merged = _merged(terms)
    if len(merged) == len(terms):
        return joined
    return _junction("or", tuple([both(*sorted(term, key=_place_of(joined))) for term in merged]), neutral=False)


MOST_MERGED = 64
"""Terms of a disjunction that are compared with each other."""


def _merged(terms: list[frozenset[Expr]]) -> list[frozenset[Expr]]:
    """Conjunctions with fewer of the same disjunction: `a == 1 and b or a == 2 and b` is `a in [1, 2] and b`."""
    while True:
        terms = [
            term
            for i, term in enumerate(terms)
            if not any(o < term or (o == term and j < i) for j, o in enumerate(terms))
        ]
        for term in terms:
            for part in term:
                if not isinstance(part, Among):
                    continue
                rest = term - {part}
                alike = [
                    (other, found)
                    for other in terms
                    if len(other) == len(term) and rest <= other
                    for found in other - rest
                    if isinstance(found, Among) and found.path == part.path
                ]
                if len(alike) > 1:
                    whole = either(*[found for _, found in alike])
                    new = rest if whole is True else rest | {whole}
                    if not new:
                        return [frozenset()]
                    gone = {other for other, _ in alike}
                    terms = [new if other == term else other for other in terms if other == term or other not in gone]
                    break
            else:
                continue
            break
        else:
            return terms


def _place_of(joined: Apply) -> Callable[[Expr], int]:
    """Where a condition stands in an expression, so that what is made of it keeps the order."""
    order: dict[Expr | str, int] = {}
    for arg in joined.args:
        for part in arg.args if isinstance(arg, Apply) and arg.function == "and" else (arg,):
            order.setdefault(part, len(order))
            if isinstance(part, Among):
                order.setdefault(part.path, len(order))

    def place(part: Expr) -> int:
        known = order.get(part)
        if known is None and isinstance(part, Among):
            known = order.get(part.path)
        return len(order) if known is None else known

    return place


def _junction(function: str, conditions: tuple[Value, ...], neutral: bool) -> Value:
    parts: dict[Value, None] = {}
    tables: dict[str, tuple[int, frozenset[int]]] = {}
    queue = list(conditions)
    while queue:
        condition = queue.pop(0)
        if isinstance(condition, Apply) and condition.function == function:
            queue[:0] = condition.args
        elif isinstance(condition, Among):
            n, seen = tables.get(condition.path, (condition.n, condition.options))
            merged = seen & condition.options if function == "and" else seen | condition.options
            if (not merged) if function == "and" else len(merged) == n:
                return not neutral
            tables[condition.path] = (n, merged)
            parts.setdefault(condition.path)  # keeps the place; filled in below
        elif isinstance(condition, Expr):
            parts.setdefault(condition)
        elif bool(condition) is not neutral:
            return not neutral
    out: list[Value] = []
    for part in parts:
        out.append(Among(part, *tables[part]) if isinstance(part, str) else part)
    if not out:
        return neutral
    return out[0] if len(out) == 1 else Apply(function, tuple(out))


def choose(condition: Value, then: Value, otherwise: Value) -> Value:
    """`then` where the condition holds, else `otherwise`; a table where all hang on one choice."""
    if not isinstance(condition, Expr):
        return then if condition else otherwise
    plain = not isinstance(then, Expr) and not isinstance(otherwise, Expr)
    if plain and type(then) is type(otherwise) and then == otherwise:
        return then
    if isinstance(then, Expr) and then == otherwise:
        return then
    if then is True and otherwise is False:
        return condition
    if then is False and otherwise is True:
        return negate(condition)
    single = single_choice((condition, then, otherwise))
    if single is not None:
        path, n = single
        return case(path, tuple(at_option(then if at_option(condition, i) else otherwise, i) for i in range(n)))
    return Apply("if", (condition, then, otherwise))


def terms(value: Value) -> tuple[Value, ...]:
    """The summands of a value."""
    return value.args if isinstance(value, Apply) and value.function == "add" else (value,)


Outcomes = dict[int, tuple[Value, Value]]
"""By identity: a value, kept so that its identity stays its own, and what became of it."""


def substitute(value: Value, replace: Callable[[Expr], Value | None], known: Outcomes | None = None) -> Value:
    """`value` with leaves replaced where `replace(leaf)` is not None, folded anew. Works inside tuples and records.

    What stands in it many times is replaced once; `known` has the outcomes.
    """
    if isinstance(value, Apply):
        known = {} if known is None else known
        if id(value) not in known:
            known[id(value)] = (value, _substituted(value, replace, known))
        return known[id(value)][1]
    if isinstance(value, Expr):
        new = replace(value)
        return value if new is None else new
    if isinstance(value, tuple):
        return tuple(substitute(v, replace, known) for v in value)
    if isinstance(value, dict):
        return {k: substitute(v, replace, known) for k, v in value.items()}
    if hasattr(value, "substitute"):
        return value.substitute(replace)
    return value


def _substituted(value: Apply, replace: Callable[[Expr], Value | None], known: Outcomes) -> Value:
    if FUNCTIONS[value.function].picks:
        condition = substitute(value.args[0], replace, known)
        if not isinstance(condition, Expr):
            return substitute(value.args[1] if condition else value.args[2], replace, known)
    if value.function in ("and", "or"):
        return _junction_of(value, replace, known)
    args = tuple([substitute(arg, replace, known) for arg in value.args])
    if all(new is old for new, old in zip(args, value.args, strict=True)):
        return value  # itself, so that what is shared stays shared
    return rebuild(value.function, args)


def _junction_of(value: Apply, replace: Callable[[Expr], Value | None], known: Outcomes) -> Value:
    """An `and` or `or` of what its parts become. A part without a value is one that the others decide without."""
    parts: list[Value] = []
    for arg in value.args:
        try:
            parts.append(substitute(arg, replace, known))
        except FAULTS:
            continue
    if len(parts) == len(value.args) and all(new is old for new, old in zip(parts, value.args, strict=True)):
        return value
    return rebuild(value.function, tuple(parts))
