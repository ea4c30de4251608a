"""The functions of values, a record each. What a function means stands here and nowhere else."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Expr, Value, kinds_of
from nasdsl.compiler.values.function import FUNCTIONS, Call, Function, Interval
from nasdsl.compiler.values.plain import Kind, is_number, kind_of, narrow, same

Positive = Callable[[Value], bool]
"""Whether a value is never negative."""

# --- plain forms ------------------------------------------------------------------------------------------------------

MOST_POWER = 64
"""Of an exponent; the base of a power has no more bits."""

MOST_LEVEL = 62
"""Of a scale 1/2^n."""


def _divide(a: Any, b: Any) -> Any:
    return a / b if isinstance(a, float) or isinstance(b, float) else narrow(Fraction(a) / Fraction(b))


def _power(a: Any, b: Any) -> Any:
    if abs(b) > MOST_POWER or abs(a) > 1 << MOST_POWER or b != int(b):
        raise OverflowError
    return narrow(Fraction(a) ** int(b))


def _lookup(pairs: tuple[tuple[Any, Any], ...], key: Any) -> Any:
    for k, value in pairs:
        if same(k, key):
            return value
    raise KeyError(key)


def _level(scale: Any) -> int:
    """n of scale 1/2^n."""
    level = Fraction(1, 1) / Fraction(scale)
    if level.denominator != 1 or level.numerator & (level.numerator - 1):
        raise ValueError(scale)
    return level.numerator.bit_length() - 1


def _divides(a: Any, b: Any) -> bool:
    return b % a == 0


def _round(a: Any) -> int:
    """Halves go up."""
    return math.floor(a + Fraction(1, 2))


# --- domains ----------------------------------------------------------------------------------------------------------


def _whole(value: Value) -> Value:
    return expr.equal(value, expr.apply("floor", value))


def _within(low: Any, value: Value, high: Any) -> Value:
    return expr.both(expr.at_most(low, value), expr.at_most(value, high))


def _power_exists(a: Value, b: Value) -> Value:
    small = expr.both(_within(-MOST_POWER, b, MOST_POWER), _within(-(1 << MOST_POWER), a, 1 << MOST_POWER))
    return expr.both(small, _whole(b), expr.either(expr.at_most(0, b), expr.negate(expr.equal(a, 0))))


def _is_level(scale: Value) -> Value:
    return expr.either(*[expr.equal(scale, Fraction(1, 1 << n)) for n in range(MOST_LEVEL + 1)])


def _divisor(a: Value, b: Value) -> Value:
    return expr.negate(expr.equal(b, 0))


# --- how values move with their arguments -----------------------------------------------------------------------------


def _rising(args: Sequence[Value], positive: Positive) -> list[int | None]:
    return [1] * len(args)


def _falling(args: Sequence[Value], positive: Positive) -> list[int | None]:
    return [-1] * len(args)


def _of_product(args: Sequence[Value], positive: Positive) -> list[int | None]:
    """A factor acts as its co-factors are signed: none of them may change sign."""
    signs = [1 if positive(arg) else -1 if not isinstance(arg, Expr) and arg < 0 else None for arg in args]
    out: list[int | None] = []
    for i in range(len(args)):
        others = [sign for j, sign in enumerate(signs) if j != i]
        out.append(None if None in others else math.prod(sign for sign in others if sign is not None))
    return out


def _of_quotient(args: Sequence[Value], positive: Positive) -> list[int | None]:
    above, below = args
    if not positive(below):
        return [None, None]
    return [1, -1 if positive(above) else None]


def _of_order(args: Sequence[Value], positive: Positive) -> list[int | None]:
    return [-1, 1]


def _of_pick(args: Sequence[Value], positive: Positive) -> list[int | None]:
    """A cost that is there or not, or one of two."""
    there_or_not = not isinstance(args[2], Expr) and args[2] == 0 and positive(args[1])
    return [1 if there_or_not else None, 1, 1]


# --- bounds -----------------------------------------------------------------------------------------------------------


def _ends(function: Callable[..., Any]) -> Callable[..., Interval]:
    """Bounds of what never falls as an argument rises."""

    def of(*intervals: Interval) -> Interval:
        return function(*[low for low, _ in intervals]), function(*[high for _, high in intervals])

    return of


def _product(*intervals: Interval) -> Interval:
    low, high = 1, 1
    for a, b in intervals:
        corners = [low * a, low * b, high * a, high * b]
        low, high = min(corners), max(corners)
    return narrow(low), narrow(high)


def _ratio(function: Callable[[Any, Any], Any]) -> Callable[..., Interval | None]:
    """Bounds of a quotient. A divisor that may come out as 0 or less by its bounds is never so where it divides: it
    counts something, and is at least 1, or its greatest value where that is less."""

    def of(above: Interval, below: Interval) -> Interval | None:
        low, high = below
        if high <= 0:
            return None
        low = low if low > 0 else min(1, high)
        corners = [function(a, b) for a in above for b in (low, high)]
        return min(corners), max(corners)

    return of


def _remainder(a: Interval, b: Interval) -> Interval | None:
    return (0, max(0, b[1])) if b[0] >= 0 else None


def _truths(*intervals: Interval) -> Interval:
    return False, True


def _hull(condition: Interval, then: Interval, otherwise: Interval) -> Interval:
    return min(then[0], otherwise[0]), max(then[1], otherwise[1])


def _found(table: Interval, key: Interval) -> Interval | None:
    """Of a list of pairs, one of which is found."""
    least, most = ([value for _, value in pairs] for pairs in table)
    return (min(least), max(most)) if all(map(is_number, (*least, *most))) else None


# --- kinds ------------------------------------------------------------------------------------------------------------


def _kinds_picked(args: Sequence[Value]) -> frozenset[Kind | None]:
    return frozenset().union(*map(kinds_of, args[1:]))


def _kinds_found(args: Sequence[Value]) -> frozenset[Kind | None]:
    return frozenset().union(*[kinds_of(value) for _, value in args[0]])


# --- folding ----------------------------------------------------------------------------------------------------------


def _divisible(width: Value, d: Value) -> Value:
    """The multiple of `d` nearest to a width, halves up; the next one where that would take off more than a tenth.

    Both are positive. MobileNet code rounds its widths so.
    """
    nearest = expr.multiply(d, expr.apply("floor", expr.add(expr.divide(width, d), Fraction(1, 2))))
    short = expr.less(expr.multiply(10, nearest), expr.multiply(9, width))
    return expr.choose(short, expr.add(nearest, d), nearest)


def _plain_divisible(width: Any, d: Any) -> Any:
    nearest = d * _round(_divide(width, d))
    return narrow(nearest + d if 10 * nearest < 9 * width else nearest)


def _divisible_exists(width: Value, d: Value) -> Value:
    return expr.both(expr.at_most(1, d), _whole(d))


NUMBERS: tuple[Kind, ...] = ("number",)
TRUTHS: tuple[Kind, ...] = ("truth",)

FUNCTIONS.update(
    {
        function.name: function
        for function in (
            # numbers
            Function(
                "add",
                NUMBERS,
                "number",
                lambda *args: narrow(sum(args)),
                fold=expr.add,
                associative=True,
                array="total",
                slopes=_rising,
                positive=True,
                bounds=_ends(lambda *args: narrow(sum(args))),
            ),
            Function(
                "mul",
                NUMBERS,
                "number",
                lambda *args: narrow(math.prod(args)),
                fold=expr.multiply,
                associative=True,
                array="product",
                slopes=_of_product,
                positive=True,
                bounds=_product,
            ),
            Function(
                "div",
                NUMBERS,
                "number",
                _divide,
                fold=expr.divide,
                domain=_divisor,
                outside="division by zero",
                code="division-by-zero",
                slopes=_of_quotient,
                positive=True,
                bounds=_ratio(_divide),
            ),
            Function(
                "floordiv",
                NUMBERS,
                "number",
                operator.floordiv,
                domain=_divisor,
                outside="division by zero",
                code="division-by-zero",
                array="quotient_down",
                slopes=_of_quotient,
                positive=True,
                bounds=_ratio(operator.floordiv),
            ),
            Function(
                "ceildiv",
                NUMBERS,
                "number",
                lambda a, b: -(-a // b),
                domain=_divisor,
                outside="division by zero",
                code="division-by-zero",
                array="quotient_up",
                slopes=_of_quotient,
                positive=True,
                bounds=_ratio(lambda a, b: -(-a // b)),
            ),
            Function(
                "mod",
                NUMBERS,
                "number",
                operator.mod,
                domain=_divisor,
                outside="division by zero",
                code="division-by-zero",
                array="remainder",
                positive=True,
                bounds=_remainder,
            ),
            Function(
                "pow",
                NUMBERS,
                "number",
                _power,
                domain=_power_exists,
                outside="this power has no exact value, or too large a one",
                code="too-large",
                positive=True,
                bounds=lambda a, b: (_power(a[0], b[0]), _power(a[1], b[1])) if a[0] >= 1 else None,
            ),
            Function(
                "gcd",
                NUMBERS,
                "number",
                math.gcd,
                array="common_divisor",
                positive=True,
                bounds=lambda *args: (0, max(max(abs(low), abs(high)) for low, high in args)),
            ),
            Function(
                "floor",
                NUMBERS,
                "number",
                math.floor,
                array="down",
                slopes=_rising,
                positive=True,
                bounds=_ends(math.floor),
                call=Call(1, 1, "floor(x)"),
            ),
            Function(
                "ceil",
                NUMBERS,
                "number",
                math.ceil,
                array="up",
                slopes=_rising,
                positive=True,
                bounds=_ends(math.ceil),
                call=Call(1, 1, "ceil(x)"),
            ),
            Function(
                "round",
                NUMBERS,
                "number",
                _round,
                array="nearest",
                slopes=_rising,
                positive=True,
                bounds=_ends(_round),
                call=Call(1, 1, "round(x)"),
            ),
            Function(
                "min",
                NUMBERS,
                "number",
                lambda *args: min(args),
                associative=True,
                array="least",
                slopes=_rising,
                positive=True,
                bounds=_ends(lambda *args: min(args)),
                call=Call(1, 100, "min(a, b)", of_items=True),
            ),
            Function(
                "max",
                NUMBERS,
                "number",
                lambda *args: max(args),
                associative=True,
                array="greatest",
                slopes=_rising,
                positive=True,
                bounds=_ends(lambda *args: max(args)),
                call=Call(1, 100, "max(a, b)", of_items=True),
            ),
            Function(
                "level_of",
                NUMBERS,
                "number",
                _level,
                domain=_is_level,
                outside="only a scale 1/2^n has a level",
                code="bad-scale",
                slopes=_falling,
                positive=True,
                call=Call(1, 1, "level_of(at)"),
            ),
            Function(
                "divisible",
                NUMBERS,
                "number",
                _plain_divisible,
                fold=_divisible,
                domain=_divisible_exists,
                outside="what to be divisible by must be a whole number of at least 1",
                code="not-an-integer",
                positive=True,
                call=Call(2, 2, "divisible(in * 6, 8)"),
            ),
            # comparisons
            Function("eq", (None,), "truth", same, fold=expr.equal, array="equal", positive=True, bounds=_truths),
            Function(
                "lt", NUMBERS, "truth", operator.lt, array="less", slopes=_of_order, positive=True, bounds=_truths
            ),
            Function(
                "le", NUMBERS, "truth", operator.le, array="at_most", slopes=_of_order, positive=True, bounds=_truths
            ),
            Function("divides", NUMBERS, "truth", _divides, array="divides", bounds=_truths, positive=True),
            Function("kind", (None,), "text", kind_of),
            # truth values
            Function(
                "not",
                TRUTHS,
                "truth",
                operator.not_,
                fold=expr.negate,
                array="denial",
                slopes=_falling,
                positive=True,
                bounds=_truths,
            ),
            Function(
                "and",
                TRUTHS,
                "truth",
                lambda *args: all(args),
                fold=expr.both,
                decided=False,
                associative=True,
                slopes=_rising,
                positive=True,
                bounds=_truths,
            ),
            Function(
                "or",
                TRUTHS,
                "truth",
                lambda *args: any(args),
                fold=expr.either,
                decided=True,
                associative=True,
                slopes=_rising,
                positive=True,
                bounds=_truths,
            ),
            # whatever is given
            Function(
                "if",
                ("truth", None),
                _kinds_picked,
                lambda condition, then, otherwise: then if condition else otherwise,
                fold=expr.choose,
                picks=True,
                slopes=_of_pick,
                positive=True,
                bounds=_hull,
            ),
            Function("lookup", (None,), _kinds_found, _lookup, bounds=_found),
            Function("len", ("list",), "number", len, positive=True),
        )
    }
)
