"""One value for each of many rows, exactly: numbers, truth values or other items, and the functions of expressions on
them. `vector.py` says which rows and which expressions."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler.values.function import FUNCTIONS
from nasdsl.compiler.values.plain import ABSENT, FAULT, FAULTS

Array: TypeAlias = NDArray[Any]
State: TypeAlias = NDArray[np.uint8]

MISSING, FAULTY, UNCLEAR = 1, 2, 3
"""Why a row has no value: a decision is absent, a function is outside its domain, or both occur, and which one came
first is left open (they are the bits of one number, so `|` brings states together)."""

_INT64 = 1 << 63
_FEW = 1 << 12  # values for which a table is quicker than sorting
_WHOLE = 1 << 53  # float64 holds every integer up to this one


@dataclass(frozen=True)
class Column:
    """One value for each row; arrays of no axes stand for the same in all rows.

    Attributes:
        kind: `bool`; `number`, an integer over `scale`; `float`; or `item`, an index into `items`.
        values: of that kind. Numbers are int64, or Python's integers (dtype object) where `low` and `high` are beyond.
        scale: the common denominator of all rows.
        low, high: bounds of `values` of numbers.
        items: what the indices of items stand for.
        state: 0 where there is a value, else MISSING, FAULTY or UNCLEAR; None where all rows have one.
    """

    kind: Literal["bool", "number", "float", "item"]
    values: Array
    scale: int = 1
    low: int = 0
    high: int = 1
    items: tuple[Any, ...] = ()
    state: State | None = None

    def take(self, rows: Array) -> Column:
        """The values of certain rows, as many as there are row numbers."""
        values = self.values.take(rows, mode="clip") if self.values.ndim else self.values
        state = self.state.take(rows, mode="clip") if self.state is not None and self.state.ndim else self.state
        return replace(self, values=values, state=state)

    def spread(self, n: int) -> Column:
        """With an entry for each of n rows."""
        state = None if self.state is None else np.broadcast_to(self.state, (n,))
        return replace(self, values=np.broadcast_to(self.values, (n,)), state=state)

    def truth(self) -> NDArray[np.bool_]:
        """Which values count as true; rows without a value are whatever they are."""
        if self.kind == "bool":
            return self.values
        if self.kind == "item":
            return np.asarray(np.asarray([bool(item) for item in self.items], np.bool_)[self.values])
        return np.asarray(self.values != 0, np.bool_)

    def objects(self, n: int) -> list[Any]:
        """The plain value of each of n rows; the engine's ABSENT or FAULT where there is none."""
        codes, palette = _palette(self.spread(n))
        states = [0] * n if self.state is None else np.broadcast_to(self.state, (n,)).tolist()
        words = {0: None, MISSING: ABSENT, FAULTY: FAULT, UNCLEAR: FAULT}
        return [words[state] if state else palette[code] for code, state in zip(codes.tolist(), states, strict=True)]


def column(values: Sequence[Any]) -> Column:
    """Plain values, one for each row; ABSENT and FAULT where there is none."""
    state = np.asarray([MISSING if v is ABSENT else FAULTY if v is FAULT else 0 for v in values], np.uint8)
    there = [v for v in values if v is not ABSENT and v is not FAULT]
    kinds = {_kind(v) for v in there} or {"number"}
    if not state.any():
        return _of_kind(values, kinds)
    filler = there[0] if there else 0
    full = [filler if v is ABSENT or v is FAULT else v for v in values]
    return replace(_of_kind(full, kinds), state=state)


def constant(value: Any) -> Column:
    """The same value in all rows."""
    one = column([value])
    return replace(one, values=one.values.reshape(()), state=None if one.state is None else one.state.reshape(()))


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | Fraction):
        return "number"
    return "float" if isinstance(value, float) else "item"


def _of_kind(values: Sequence[Any], kinds: set[str]) -> Column:
    if kinds == {"bool"}:
        return Column("bool", np.asarray(values, np.bool_))
    if kinds == {"number"}:
        scale = math.lcm(*{v.denominator for v in values})
        return _numbers([int(v * scale) for v in values], scale)
    if kinds == {"float"}:
        return Column("float", np.asarray(values, np.float64))
    return Column("item", np.arange(len(values)), items=tuple(values))


def _numbers(values: list[int], scale: int) -> Column:
    low, high = min(values, default=0), max(values, default=0)
    return Column("number", np.asarray(values, _dtype(low, high)), scale, low, high)


def _dtype(low: int, high: int) -> type[Any]:
    """int64 where it holds the bounds with room for a sign, else Python's integers."""
    return np.int64 if low > -_INT64 and high < _INT64 else object


def _fit(values: Any, low: int, high: int) -> Array:
    """Integers in the type that certain bounds ask for."""
    return np.asarray(np.asarray(values), _dtype(low, high))  # a numpy scalar would stay one inside an object array


def _palette(one: Column) -> tuple[Array, list[Any]]:
    """Row by row a number, and the plain value of each number."""
    if one.kind == "bool":
        return one.values.astype(np.intp), [False, True]
    if one.kind == "item":
        return one.values, list(one.items)
    if one.values.ndim == 0:
        found, codes = one.values.reshape(1), np.zeros((), np.intp)
    elif one.kind == "number" and one.high - one.low < _FEW and one.values.dtype == np.int64:
        found, codes = np.arange(one.low, one.high + 1), one.values - one.low
    else:
        found, codes = np.unique(one.values, return_inverse=True)
    plain = found.tolist()
    if one.scale != 1:
        plain = [Fraction(v, one.scale) if v % one.scale else v // one.scale for v in plain]
    return codes, plain


# --- functions --------------------------------------------------------------------------------------------------------


def state_of(args: Sequence[Column]) -> State | None:
    """What is missing in any of the arguments."""
    out: State | None = None
    for arg in args:
        if arg.state is not None:
            out = arg.state if out is None else out | arg.state
    return out


def apply(function: str, args: Sequence[Column]) -> Column:
    """A function of the table in every row, as `tree.evaluate` applies it to what `args` have there."""
    meaning = FUNCTIONS[function]
    if meaning.picks:
        return choose(*args)
    if meaning.decided is not None:
        return _junction(args, meaning.decided)
    made = KERNELS[meaning.array](args) if meaning.array else None
    return by_cases(meaning.plain, args) if made is None else made


def by_cases(function: Callable[..., Any], args: Sequence[Column]) -> Column:
    """Any function of plain values: called once for each combination of arguments that occurs."""
    state = state_of(args)
    shape = np.broadcast_shapes(*[arg.values.shape for arg in args], () if state is None else state.shape)
    fine = np.ones(shape, np.bool_) if state is None else np.broadcast_to(state == 0, shape)
    codes: Array = np.zeros(int(fine.sum()), np.intp)
    size = 1
    parts = []
    for arg in args:
        numbers, plain = _palette(arg)
        numbers = np.broadcast_to(numbers, shape)[fine]
        if size * len(plain) >= _INT64:
            known, codes = np.unique(codes, return_inverse=True)
            size = len(known)
        codes = codes * len(plain) + numbers
        size *= len(plain)
        parts.append((numbers, plain))
    first, inverse = _distinct(codes, size)
    results = [_call(function, [plain[numbers[row]] for numbers, plain in parts]) for row in first.tolist()]
    found = column(results or [0])
    rows = np.zeros(shape, np.intp)
    rows[fine] = inverse
    faults = None if found.state is None else np.asarray(found.state[rows])
    if state is not None:
        faults = np.where(fine, 0 if faults is None else faults, state).astype(np.uint8)
    return replace(found, values=np.asarray(found.values[rows]), state=faults)


def _distinct(codes: Array, size: int) -> tuple[Array, Array]:
    """A row for each number that occurs, of numbers below `size`, and for each row which of them it has."""
    if size > max(_FEW, 4 * len(codes)):
        _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
        return first, inverse
    row = np.full(size, -1, np.intp)
    row[codes] = np.arange(len(codes))
    seen = row >= 0
    return row[seen], (np.cumsum(seen) - 1)[codes]


def _call(function: Callable[..., Any], args: list[Any]) -> Any:
    try:
        return function(*args)
    except FAULTS:
        return FAULT


def choose(condition: Column, then: Column, otherwise: Column) -> Column:
    """`then` where the condition is true, else `otherwise`."""
    met = condition.truth()
    then, otherwise = alike([then, otherwise])
    state: State | None = None
    if then.state is not None or otherwise.state is not None:
        zero = np.uint8(0)
        state = np.where(met, zero if then.state is None else then.state, _state(otherwise)).astype(np.uint8)
    if condition.state is not None:
        state = condition.state if state is None else np.where(condition.state, condition.state, state)
    low, high = min(then.low, otherwise.low), max(then.high, otherwise.high)
    return replace(then, values=np.where(met, then.values, otherwise.values), low=low, high=high, state=state)


def _state(one: Column) -> State:
    return np.zeros((), np.uint8) if one.state is None else one.state


def alike(parts: Sequence[Column]) -> list[Column]:
    """The same series in one form, so that their values can stand in one array."""
    kinds = {part.kind for part in parts}
    if kinds == {"number"}:
        return _one_scale(parts)
    if len(kinds) == 1 and "item" not in kinds:
        return list(parts)
    items: list[Any] = []
    out = []
    for part in parts:
        codes, plain = _palette(part)
        out.append(("item", codes + len(items), part.state))
        items += plain
    return [Column("item", codes, items=tuple(items), state=state) for _, codes, state in out]


def joined(parts: Sequence[tuple[Column, int]]) -> Column:
    """Column of so many rows each, one after the other."""
    whole = alike([part.spread(n) for part, n in parts])
    state: State | None = None
    if any(part.state is not None for part in whole):
        state = np.concatenate([np.broadcast_to(_state(p), (n,)) for p, (_, n) in zip(whole, parts, strict=True)])
    low, high = min(part.low for part in whole), max(part.high for part in whole)
    return replace(whole[0], values=np.concatenate([p.values for p in whole]), low=low, high=high, state=state)


def _junction(args: Sequence[Column], decided: bool) -> Column:
    """One argument may decide the whole, whatever stands before it and has no value."""
    decides: Array = np.zeros((), np.bool_)
    state: State | None = None
    faulty: Array | None = None  # a fault goes before an absence, wherever they stand
    for arg in args:
        mine = arg.truth() == decided
        if arg.state is not None:
            mine = mine & (arg.state == 0)
            fault = arg.state == FAULTY
            faulty = fault if faulty is None else faulty | fault
            state = arg.state if state is None else state | arg.state
        decides = decides | mine
    if state is not None and faulty is not None:
        state = np.where(decides, 0, np.where(faulty, FAULTY, state)).astype(np.uint8)
    return Column("bool", np.asarray(decides if decided else ~decides), state=state)


# --- kernels ----------------------------------------------------------------------------------------------------------
#
# Numbers: all are integers over one scale, and Python's integers take over where 64 bits might not do.

Kernel: TypeAlias = Callable[[Sequence[Column]], Column | None]
"""A function on whole arrays; None where it has no quick way for what the arguments are."""


def _denial(args: Sequence[Column]) -> Column:
    return Column("bool", np.asarray(~args[0].truth()), state=args[0].state)


def _as_floats(arg: Column) -> bool:
    """Whether float64 holds all values."""
    return arg.kind == "float" or (arg.scale == 1 and arg.low >= -_WHOLE and arg.high <= _WHOLE)


def _kernel(
    exact: Callable[[list[Column]], Column | None],
    floats: Callable[[list[Array], State | None], Column] | None = None,
    truths: bool = False,
) -> Kernel:
    """A kernel for numbers: `exact`, or `floats` where one is a float and the others are exact as floats. With `truths`
    it works on truth values too, as 0 and 1."""

    def of(args: Sequence[Column]) -> Column | None:
        kinds = {arg.kind for arg in args}
        if truths and kinds == {"bool"}:
            return exact([replace(arg, kind="number", values=arg.values.astype(np.int64)) for arg in args])
        if kinds == {"number"}:
            return exact(list(args))
        if floats is None or not kinds <= {"number", "float"} or not all(map(_as_floats, args)):
            return None
        return floats([arg.values.astype(np.float64, copy=False) for arg in args], state_of(args))

    return of


def _one_scale(args: Sequence[Column]) -> list[Column]:
    scale = math.lcm(*[arg.scale for arg in args])
    return [_scaled(arg, scale // arg.scale, scale) for arg in args]


def _scaled(arg: Column, by: int, scale: int) -> Column:
    low, high = arg.low * by, arg.high * by
    values = arg.values if by == 1 or low == high == 0 else _fit(_fit(arg.values, low, high) * by, low, high)
    return replace(arg, values=values, scale=scale, low=low, high=high)


def _operands(args: Sequence[Column], low: int, high: int) -> list[Array]:
    """Values in a type that holds them all, and the result within the bounds."""
    low, high = min(low, *[arg.low for arg in args]), max(high, *[arg.high for arg in args])
    return [_fit(arg.values, low, high) for arg in args]


def _add(args: list[Column]) -> Column:
    args = _one_scale(args)
    low, high = sum(min(arg.low, 0) for arg in args), sum(max(arg.high, 0) for arg in args)  # of partial sums too
    parts = _operands(args, low, high)
    total = parts[0]
    for number, part in enumerate(parts[1:]):
        # The first sum is an array of its own, which the others may be added into.
        if number and total.ndim >= part.ndim and total.ndim:
            total += part
        else:
            total = _fit(total + part, low, high)
    low, high = sum(arg.low for arg in args), sum(arg.high for arg in args)
    return Column("number", _fit(total, low, high), args[0].scale, low, high, (), state_of(args))


def _multiply(args: list[Column]) -> Column:
    out = args[0]
    for arg in args[1:]:
        ends = [a * b for a in (out.low, out.high) for b in (arg.low, arg.high)]
        low, high = min(ends), max(ends)
        a, b = _operands([out, arg], low, high)
        out = Column("number", _fit(a * b, low, high), out.scale * arg.scale, low, high)
    return replace(out, state=state_of(args))


def _extreme(function: Any, end: Callable[..., int]) -> Callable[[list[Column]], Column]:
    def of(args: list[Column]) -> Column:
        args = _one_scale(args)
        low, high = end(arg.low for arg in args), end(arg.high for arg in args)
        out, *rest = _operands(args, low, high)
        for part in rest:
            out = function(out, part)
        return Column("number", _fit(out, low, high), args[0].scale, low, high, (), state_of(args))

    return of


def _compare(function: Any) -> Callable[[list[Column]], Column]:
    def of(args: list[Column]) -> Column:
        a, b = _operands(_one_scale(args), 0, 0)
        return Column("bool", np.asarray(function(a, b), np.bool_), state=state_of(args))

    return of


def _divisor(args: list[Column]) -> tuple[Array, Array, Column, Column, State | None]:
    """Dividend and divisor over one scale; a division by zero is a fault, and in its place one by 1."""
    a, b = _one_scale(args)
    x, y = _operands([a, b], -max(abs(a.low), abs(a.high)) - 1, max(abs(a.low), abs(a.high)) + 1)
    state = state_of(args)
    if b.low <= 0 <= b.high:
        zero = np.asarray(y == 0, np.bool_)
        if zero.any():
            y = np.where(zero, np.asarray(1, y.dtype), y)
            fault = np.where(zero, FAULTY, 0).astype(np.uint8)
            state = fault if state is None else np.where(state == 0, fault, state)
    return x, y, a, b, state


def _quotient(up: bool) -> Callable[[list[Column]], Column]:
    def of(args: list[Column]) -> Column:
        x, y, a, b, state = _divisor(args)
        if a.low >= 0 and b.low > 0:
            low, high = a.low // b.high, -(-a.high // b.low)
        else:
            high = max(abs(a.low), abs(a.high)) + 1
            low = -high
        out = -(-x // y) if up else x // y
        return Column("number", _fit(out, low, high), 1, low, high, (), state)

    return of


def _modulo(args: list[Column]) -> Column:
    x, y, _, b, state = _divisor(args)
    low, high = min(0, b.low), max(0, b.high)
    return Column("number", _fit(x % y, low, high), b.scale, low, high, (), state)


def _divides(args: list[Column]) -> Column:
    rest = _modulo([args[1], args[0]])
    return Column("bool", np.asarray(rest.values == 0, np.bool_), state=rest.state)


def _rounded(args: list[Column], way: str) -> Column:
    (one,) = args
    if one.scale == 1:
        return one
    scale = 2 * one.scale
    lift = {"floor": 0, "round": one.scale, "ceil": scale - 1}[way]
    low, high = 2 * one.low + lift, 2 * one.high + lift
    values = (_fit(one.values, min(low, 2 * one.low), max(high, 2 * one.high, scale)) * 2 + lift) // scale
    low, high = low // scale, high // scale
    return Column("number", _fit(values, low, high), 1, low, high, (), one.state)


def _common_divisor(args: list[Column]) -> Column | None:
    if any(arg.scale != 1 for arg in args):  # a fault, unless all are whole
        return None
    high = max(max(abs(arg.low), abs(arg.high)) for arg in args)
    out, *rest = _operands(args, -high, high)
    out = abs(out)
    for part in rest:
        out = np.gcd(out, part)
    return Column("number", _fit(out, 0, high), 1, 0, high, (), state_of(args))


def _float_fold(function: Any, kind: Literal["float", "bool"]) -> Callable[[list[Array], State | None], Column]:
    def of(args: list[Array], state: State | None) -> Column:
        out, *rest = args
        with np.errstate(all="ignore"):  # infinities are values, as they are in Python
            for part in rest:
                out = function(out, part)
        return Column(kind, np.asarray(out), state=state)

    return of


KERNELS: dict[str, Kernel] = {
    "total": _kernel(_add, _float_fold(operator.add, "float")),
    "product": _kernel(_multiply, _float_fold(operator.mul, "float")),
    "least": _kernel(_extreme(np.minimum, min)),
    "greatest": _kernel(_extreme(np.maximum, max)),
    "equal": _kernel(_compare(operator.eq), _float_fold(operator.eq, "bool"), truths=True),
    "less": _kernel(_compare(operator.lt), _float_fold(operator.lt, "bool")),
    "at_most": _kernel(_compare(operator.le), _float_fold(operator.le, "bool")),
    "quotient_down": _kernel(_quotient(up=False)),
    "quotient_up": _kernel(_quotient(up=True)),
    "remainder": _kernel(_modulo),
    "divides": _kernel(_divides),
    "common_divisor": _kernel(_common_divisor),
    "down": _kernel(lambda args: _rounded(args, "floor")),
    "up": _kernel(lambda args: _rounded(args, "ceil")),
    "nearest": _kernel(lambda args: _rounded(args, "round")),
    "denial": _denial,
}
"""By the names that the records of `values/table.py` give."""
