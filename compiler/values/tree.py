"""Expressions over decisions as they are kept: what they are made of, what they come to, and how one is applied.

An `Expr` has the operators of plain numbers; `expr.py` has the other functions that put expressions together.

Assignments map a decision's path to a value: the index of an option (choice), a sorted tuple of kept or chosen indices
(units, subset), or a tuple of indices in order (order).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nasdsl.compiler.values.function import FUNCTIONS, Value
from nasdsl.compiler.values.plain import ABSENT, FAULT, FAULTS, Absent, Kind, kind_of

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
        return rebuild("add", (self, other))

    def __radd__(self, other: Value) -> Value:
        return rebuild("add", (other, self))

    def __sub__(self, other: Value) -> Value:
        return rebuild("add", (self, rebuild("mul", (-1, other))))

    def __rsub__(self, other: Value) -> Value:
        return rebuild("add", (other, -self))

    def __mul__(self, other: Value) -> Value:
        return rebuild("mul", (self, other))

    def __rmul__(self, other: Value) -> Value:
        return rebuild("mul", (other, self))

    def __floordiv__(self, other: Value) -> Value:
        return rebuild("floordiv", (self, other))

    def __rfloordiv__(self, other: Value) -> Value:
        return rebuild("floordiv", (other, self))

    def __truediv__(self, other: Value) -> Value:
        return rebuild("div", (self, other))

    def __neg__(self) -> Value:
        return rebuild("mul", (-1, self))

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


def is_whole(value: Value) -> bool:
    """Whether a value is plainly a whole number, whatever is chosen."""
    return value.is_whole if isinstance(value, Expr) else isinstance(value, int) and not isinstance(value, bool)


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


def apply(function: str, *args: Value) -> Value:
    """The function applied where all arguments are plain; a table where they hang on one choice; an `Apply` otherwise.

    Raises:
        one of FAULTS: from the function, where its arguments are plain and outside its domain. An option of a choice
            whose value is undefined makes the whole expression an `Apply`, to be reported where it is reached.
    """
    if not any(isinstance(a, Expr) for a in args):
        return FUNCTIONS[function].plain(*args)
    single = single_choice(args)
    if single is not None:
        path, n = single
        try:
            return case(path, tuple(FUNCTIONS[function].plain(*[at_option(a, i) for a in args]) for i in range(n)))
        except FAULTS:
            pass
    return Apply(function, args)


def single_choice(args: tuple[Value, ...]) -> tuple[str, int] | None:
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


def at_option(value: Value, option: int) -> Any:
    """What a value is where the choice that it hangs on takes an option."""
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


def rebuild(function: str, args: tuple[Value, ...]) -> Value:
    """An application in normal form."""
    fold = FUNCTIONS[function].fold
    return apply(function, *args) if fold is None else fold(*args)
