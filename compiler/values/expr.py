"""Small expressions over decisions: the only way in which a choice reaches a width, a size, a cost or a condition.

A value is either plain (int, Fraction, float, bool, Symbol, str, tuple) or an `Expr`. The functions below (`add`,
`equal`, `both`, ...) take both, fold what is constant, and keep what remains in a normal form in which

* a function of one choice is a table over its options (`Case`, `Among`), however it was written;
* a sum is flat, with its constant last, so that a cost falls apart into terms over few decisions.

Assignments map a decision's path to a value: the index of an option (choice), a sorted tuple of kept or chosen indices
(units, subset), or a tuple of indices in order (order).
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from nasdsl.compiler.values.function import FUNCTIONS
from nasdsl.compiler.values.function import Value as Value
from nasdsl.compiler.values.plain import ABSENT, FAULT, FAULTS, Absent, Kind, Symbol, kind_of, narrow

Assignment = Mapping[str, Any]


def _assigned(values: Assignment, path: str) -> Any:
    try:
        return values[path]
    except KeyError:
        raise Absent(path) from None


class Expr:
    """An expression over at least one decision. Equality and hash are by structure."""

    __slots__ = ("__dict__",)

    @cached_property
    def _hash(self) -> int:
        # Computed once: expressions share their parts, and every look-up would walk a deep one to its leaves.
        return hash((type(self).__name__, *(getattr(self, name) for name in self.__match_args__)))

    __match_args__: tuple[str, ...] = ()

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        """By structure. What shares no hash differs: large expressions that share most of their parts are told apart
        without a walk through all of them."""
        if self is other:
            return True
        if type(self) is not type(other) or self._hash != other._hash:
            return False
        if not all(getattr(self, name) == getattr(other, name) for name in self.__match_args__):
            return False
        self._share(other)
        return True

    def _share(self, other: Any) -> None:
        """Lets an equal expression have the same parts, so that no part is ever walked through twice."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_hash"}  # differs between processes

    def children(self) -> tuple[Value, ...]:
        return ()

    @cached_property
    def decisions(self) -> frozenset[str]:
        """Paths of all decisions that the value depends on."""
        found: set[str] = set()
        for child in self.children():
            if isinstance(child, Expr):
                found |= child.decisions
        return frozenset(found)

    @cached_property
    def measures(self) -> frozenset[str]:
        """Costs of the whole network that the value mentions."""
        found: set[str] = set()
        for child in self.children():
            if isinstance(child, Expr):
                found |= child.measures
        return frozenset(found)

    @property
    def kinds(self) -> frozenset[Kind | None]:
        """Of all values that it may have."""
        raise NotImplementedError

    @property
    def is_whole(self) -> bool:
        """Whether it is plainly a whole number, whatever is chosen."""
        return False

    @cached_property
    def _options(self) -> frozenset[Any] | None:
        return _options_of(self)  # kept: a running width mentions the one before it twice, and so on down

    def evaluate(self, values: Assignment) -> Any:
        raise NotImplementedError

    def __add__(self, other: Value) -> Value:
        return add(self, other)

    def __radd__(self, other: Value) -> Value:
        return add(other, self)

    def __sub__(self, other: Value) -> Value:
        return add(self, multiply(-1, other))

    def __rsub__(self, other: Value) -> Value:
        return add(other, multiply(-1, self))

    def __mul__(self, other: Value) -> Value:
        return multiply(self, other)

    def __rmul__(self, other: Value) -> Value:
        return multiply(other, self)

    def __floordiv__(self, other: Value) -> Value:
        return floor_divide(self, other)

    def __rfloordiv__(self, other: Value) -> Value:
        return floor_divide(other, self)

    def __truediv__(self, other: Value) -> Value:
        return divide(self, other)

    def __neg__(self) -> Value:
        return multiply(-1, self)

    def __bool__(self) -> bool:
        raise TypeError("an expression over decisions has no truth value of its own; use choose(), both(), either()")


TRUTH: frozenset[Kind | None] = frozenset(("truth",))
NUMBER: frozenset[Kind | None] = frozenset(("number",))


@dataclass(frozen=True, eq=False)
class _Leaf(Expr):
    """A value that hangs on the decision at `path` alone."""

    path: str

    @cached_property
    def decisions(self) -> frozenset[str]:
        return frozenset((self.path,))


@dataclass(frozen=True, eq=False)
class _Truth(_Leaf):
    @property
    def kinds(self) -> frozenset[Kind | None]:
        return TRUTH


class _Table:
    """What is one of some values."""

    values: tuple[Any, ...]

    @cached_property
    def kinds(self) -> frozenset[Kind | None]:
        return frozenset(map(kind_of, self.values))

    @cached_property
    def is_whole(self) -> bool:
        return all(map(is_whole, self.values))


@dataclass(frozen=True, eq=False)
class Case(_Table, _Leaf):
    """`values[i]` where the choice at `path` takes option i."""

    values: tuple[Any, ...]

    def evaluate(self, values: Assignment) -> Any:
        return self.values[_assigned(values, self.path)]


@dataclass(frozen=True, eq=False)
class Among(_Truth):
    """True where the choice at `path` (of `n` options) takes one of `options`."""

    n: int
    options: frozenset[int]

    def evaluate(self, values: Assignment) -> bool:
        return _assigned(values, self.path) in self.options


@dataclass(frozen=True, eq=False)
class Kept(_Leaf):
    """How many of the `n` search units at `path` are kept."""

    n: int

    @property
    def kinds(self) -> frozenset[Kind | None]:
        return NUMBER

    @property
    def is_whole(self) -> bool:
        return True

    def evaluate(self, values: Assignment) -> int:
        return len(_assigned(values, self.path))


@dataclass(frozen=True, eq=False)
class Has(_Truth):
    """True where the subset at `path` contains item number `item`."""

    item: int

    def evaluate(self, values: Assignment) -> bool:
        return self.item in _assigned(values, self.path)


@dataclass(frozen=True, eq=False)
class Slot(_Table, _Leaf):
    """`values[j]` where the order at `path` puts item j at `position`."""

    position: int
    values: tuple[Any, ...]

    def evaluate(self, values: Assignment) -> Any:
        return self.values[_assigned(values, self.path)[self.position]]


@dataclass(frozen=True, eq=False)
class Total(Expr):
    """A cost of the whole network: `macs`, `flops`, `params`, `latency`; gives way to its value once that is known."""

    measure: str

    @cached_property
    def measures(self) -> frozenset[str]:
        return frozenset((self.measure,))

    @property
    def kinds(self) -> frozenset[Kind | None]:
        return NUMBER

    def evaluate(self, values: Assignment) -> Any:
        raise KeyError(self.measure)


@dataclass(frozen=True, eq=False)
class Apply(Expr):
    """A named function of other values; FUNCTIONS has what the names mean."""

    function: str
    args: tuple[Value, ...]

    def __post_init__(self) -> None:
        """What is asked of every part is found while the parts are few: asked of the whole, it would go too deep."""
        _ = self.kinds, self.is_whole

    def children(self) -> tuple[Value, ...]:
        return self.args

    def _share(self, other: Any) -> None:
        shared = [own if isinstance(own, Expr) else theirs for own, theirs in zip(self.args, other.args, strict=True)]
        object.__setattr__(other, "args", tuple(shared))

    @cached_property
    def kinds(self) -> frozenset[Kind | None]:
        gives = FUNCTIONS[self.function].gives
        return gives(self.args) if callable(gives) else frozenset((gives,))

    @cached_property
    def is_whole(self) -> bool:
        whole = FUNCTIONS[self.function].whole
        return whole is not None and whole(self.args)

    def evaluate(self, values: Assignment) -> Any:
        return values.outcome(self) if type(values) is Remembering else self.evaluated(values)

    def evaluated(self, values: Assignment) -> Any:
        function = FUNCTIONS[self.function]
        if function.picks:  # what is not taken may have no value: its decisions are absent
            condition, then, otherwise = self.args
            return evaluate(then if evaluate(condition, values) else otherwise, values)
        if function.decided is not None:
            return self._junction(values, function.decided)
        return function.plain(*[evaluate(a, values) for a in self.args])

    def _junction(self, values: Assignment, decided: bool) -> bool:
        """One argument may decide the whole, whatever stands before it and has no value: `k == 3 and op == conv`."""
        missing: Exception | None = None
        for arg in self.args:
            try:
                if bool(evaluate(arg, values)) is decided:
                    return decided
            except Absent as absent:
                missing = missing or absent
            except FAULTS as fault:
                missing = fault if missing is None or isinstance(missing, Absent) else missing
        if missing is not None:
            raise missing
        return not decided


class Remembering(dict[str, Any]):
    """An assignment that keeps what each part of an expression comes to, for expressions that share their parts."""

    def __init__(self, values: Assignment):
        super().__init__(values)
        self._known: dict[int, tuple[Apply, Any, Exception | None]] = {}

    def outcome(self, value: Apply) -> Any:
        found = self._known.get(id(value))
        if found is None:
            try:
                found = (value, value.evaluated(self), None)
            except (Absent, *FAULTS) as missing:
                found = (value, None, missing)
            self._known[id(value)] = found
        if found[2] is not None:
            raise found[2].with_traceback(None)
        return found[1]


def evaluate(value: Value, values: Assignment) -> Any:
    """The plain value under an assignment of (at least) the present decisions.

    Raises:
        KeyError: a decision that the value needs is not assigned.
    """
    if isinstance(value, Expr):
        return value.evaluate(values)
    if isinstance(value, tuple):
        return tuple(evaluate(v, values) for v in value)
    if isinstance(value, dict):
        return {k: evaluate(v, values) for k, v in value.items()}
    return value


def holds(condition: Value, values: Assignment) -> bool:
    """Whether an assignment meets a condition.

    One that speaks of an absent decision asks nothing; one without a value (a division by zero) is not met.
    """
    try:
        return bool(evaluate(condition, values))
    except Absent:
        return True
    except FAULTS:
        return False


def value_at(value: Value, values: Assignment) -> Any:
    """As `evaluate`, with ABSENT and FAULT in place of exceptions."""
    try:
        return evaluate(value, values)
    except Absent:
        return ABSENT
    except FAULTS:
        return FAULT


def kinds_of(value: Value) -> frozenset[Kind | None]:
    """The kinds that a value may have; None stands for what is no value of the language's expressions."""
    return value.kinds if isinstance(value, Expr) else frozenset((kind_of(value),))


def is_kind(value: Value, kind: Kind) -> Value:
    """The condition under which a value is of a kind."""
    kinds = kinds_of(value)
    if kinds == {kind}:
        return True
    return equal(apply("kind", value), kind) if kind in kinds else False


def is_whole(value: Value) -> bool:
    """Whether a value is plainly a whole number, whatever is chosen."""
    return value.is_whole if isinstance(value, Expr) else isinstance(value, int) and not isinstance(value, bool)


def whole(value: Value) -> Value:
    """The condition under which a number is whole."""
    return True if is_whole(value) else equal(value, apply("floor", value))


def decisions_of(value: Value) -> frozenset[str]:
    """Paths of the decisions that a value (or anything in a tuple or record) depends on."""
    if hasattr(value, "decisions"):
        return value.decisions
    if isinstance(value, tuple):
        return frozenset(itertools.chain.from_iterable(decisions_of(v) for v in value))
    if isinstance(value, dict):
        return frozenset(itertools.chain.from_iterable(decisions_of(v) for v in value.values()))
    return frozenset()


def measures_of(value: Value) -> frozenset[str]:
    """Costs of the whole network that a value mentions: `macs`, `params`, `latency`."""
    return value.measures if isinstance(value, Expr) else frozenset()


def apply(function: str, *args: Value) -> Value:
    """The function applied where all arguments are plain; a table where they hang on one choice; an `Apply` otherwise.

    Raises:
        one of FAULTS: from the function, where its arguments are plain and outside its domain. An option of a choice
            whose value is undefined makes the whole expression an `Apply`, to be reported where it is reached.
    """
    if not any(isinstance(a, Expr) for a in args):
        return FUNCTIONS[function].plain(*args)
    single = _single_choice(args)
    if single is not None:
        path, n = single
        try:
            return case(path, tuple(FUNCTIONS[function].plain(*[_at(a, i) for a in args]) for i in range(n)))
        except FAULTS:
            pass
    return Apply(function, args)


def _single_choice(args: tuple[Value, ...]) -> tuple[str, int] | None:
    """Path and option count where every non-plain argument is a table over one and the same choice."""
    path, n = None, 0
    for arg in args:
        if isinstance(arg, Case):
            here, size = arg.path, len(arg.values)
        elif isinstance(arg, Among):
            here, size = arg.path, arg.n
        elif isinstance(arg, Expr):
            return None
        else:
            continue
        if path is not None and here != path:
            return None
        path, n = here, size
    return None if path is None else (path, n)


def _at(value: Value, option: int) -> Any:
    if isinstance(value, Case):
        return value.values[option]
    if isinstance(value, Among):
        return option in value.options
    return value


def case(path: str, values: tuple[Any, ...]) -> Value:
    """The table over a choice, or its value where all options agree; a truth table becomes `Among`."""
    if all(isinstance(v, bool) for v in values):
        return among(path, len(values), frozenset(i for i, v in enumerate(values) if v))
    if all(type(v) is type(values[0]) and v == values[0] for v in values):
        return values[0]
    return Case(path, values)


def among(path: str, n: int, options: frozenset[int]) -> Value:
    if not options:
        return False
    return True if len(options) == n else Among(path, n, options)


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
    single = _single_choice(tuple(rest))
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
    single = _single_choice((condition, then, otherwise))
    if single is not None:
        path, n = single
        return case(path, tuple(_at(then if _at(condition, i) else otherwise, i) for i in range(n)))
    return Apply("if", (condition, then, otherwise))


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


MOST_WALKED = 1_000
"""Parts of a condition that are gone through: one that shares its parts may have very many."""
MOST_VALUES = 16
"""Of a part of a condition that is tried."""
MOST_OPTIONS = 256


def options(value: Value) -> frozenset[Any] | None:
    """Plain values that hold all that a value can be, perhaps more; None where they are too many or not known."""
    return value._options if isinstance(value, Expr) else frozenset((value,))


def defined(function: str, args: tuple[Value, ...]) -> Value:
    """The condition under which a function has a value, for arguments of its kinds: True where what they may be is
    listed, and has one in all combinations."""
    domain = FUNCTIONS[function].domain
    if domain is None:
        return True
    if any(isinstance(arg, Expr) for arg in args) and _options_of(Apply(function, args)) is not None:
        return True
    return domain(*args)


def _options_of(value: Expr) -> frozenset[Any] | None:
    if isinstance(value, Case | Slot):
        return frozenset(value.values)
    if isinstance(value, Among | Has):
        return frozenset((False, True))
    if not isinstance(value, Apply):
        return None
    function = FUNCTIONS[value.function]
    parts = [options(arg) for arg in (value.args[1:] if function.picks else value.args)]
    sizes = [0 if part is None else len(part) for part in parts]
    if not all(sizes) or (sum(sizes) if function.picks else math.prod(sizes)) > MOST_OPTIONS:
        return None
    known = [part or frozenset() for part in parts]
    if function.picks:
        return known[0] | known[1]
    try:
        return frozenset(function.plain(*args) for args in itertools.product(*known))
    except FAULTS:
        return None


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


def rebuild(function: str, args: tuple[Value, ...]) -> Value:
    """An application in normal form."""
    fold = FUNCTIONS[function].fold
    return apply(function, *args) if fold is None else fold(*args)


# --- JSON -------------------------------------------------------------------------------------------------------------


def to_json(value: Value) -> Any:
    """A JSON form that `from_json` reads back to an equal value."""
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    if isinstance(value, Fraction):
        return {"ratio": [value.numerator, value.denominator]}
    if isinstance(value, Symbol):
        return {"symbol": value.word}
    if isinstance(value, Case):
        return {"case": value.path, "values": [to_json(v) for v in value.values]}
    if isinstance(value, Among):
        return {"among": value.path, "n": value.n, "options": sorted(value.options)}
    if isinstance(value, Kept):
        return {"kept": value.path, "n": value.n}
    if isinstance(value, Has):
        return {"has": value.path, "item": value.item}
    if isinstance(value, Slot):
        return {"slot": value.path, "position": value.position, "values": [to_json(v) for v in value.values]}
    if isinstance(value, Total):
        return {"total": value.measure}
    if isinstance(value, Apply):
        return {"apply": value.function, "args": [to_json(a) for a in value.args]}
    if isinstance(value, tuple | list):
        return [to_json(v) for v in value]
    if isinstance(value, dict):
        return {"record": [[to_json(k), to_json(v)] for k, v in value.items()]}
    if hasattr(value, "to_json"):
        return value.to_json()
    raise TypeError(f"no JSON form for {type(value).__name__}")


def from_json(data: Any) -> Value:
    """What `to_json` wrote, lists as tuples. Units, being no expressions, are left as records.

    Raises:
        ValueError: a form that `to_json` does not write.
    """
    if isinstance(data, list):
        return tuple(from_json(item) for item in data)
    if not isinstance(data, dict):
        return data
    match data:
        case {"ratio": [int(above), int(below)]}:
            return Fraction(above, below)
        case {"symbol": str(word)}:
            return Symbol(word)
        case {"case": str(path), "values": values}:
            return Case(path, from_json(values))
        case {"among": str(path), "n": int(n), "options": options}:
            return Among(path, n, frozenset(options))
        case {"kept": str(path), "n": int(n)}:
            return Kept(path, n)
        case {"has": str(path), "item": int(item)}:
            return Has(path, item)
        case {"slot": str(path), "position": int(position), "values": values}:
            return Slot(path, position, from_json(values))
        case {"total": str(measure)}:
            return Total(measure)
        case {"apply": str(function), "args": args} if function in FUNCTIONS:
            return Apply(function, from_json(args))
        case {"record": pairs}:
            return {from_json(key): from_json(value) for key, value in pairs}
        case {"units": _, "n": _} | {"kept": _, "of": _}:
            return data
    raise ValueError(f"not the form of a value: {data!r}")
