"""The functions of values, a record each. What a function means stands here and nowhere else."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from nasdsl.compiler.example import Example, Manual
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.bounds import Bounds
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.function import FUNCTIONS, Call, Function, Interval
from nasdsl.compiler.values.plain import Kind, is_number, kind_of, narrow, same
from nasdsl.compiler.values.tree import Expr, apply, is_whole, kinds_of

Positive = Callable[[Value], bool]
"""Whether a value is never negative."""

# --- plain forms ------------------------------------------------------------------------------------------------------

MOST_POWER = 64
"""Of an exponent; the base of a power has no more bits."""

MOST_LEVEL = 62
"""Of a scale 1/2^n."""


def _divide(a: Any, b: Any) -> Any:
    return a / b if isinstance(a, float) or isinstance(b, float) else narrow(Fraction(a) / Fraction(b))


def _divide_down(a: Any, b: Any) -> Any:
    return a // b


def _divide_up(a: Any, b: Any) -> Any:
    return -(-a // b)


def _times(a: Any, b: Any) -> Any:
    return narrow(a * b)


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


def _power_exists(a: Value, b: Value) -> Value:
    small = expr.both(expr.within(-MOST_POWER, b, MOST_POWER), expr.within(-(1 << MOST_POWER), a, 1 << MOST_POWER))
    return expr.both(small, expr.whole(b), expr.either(expr.at_most(0, b), expr.negate(expr.equal(a, 0))))


def _is_level(scale: Value) -> Value:
    return expr.either(*[expr.equal(scale, Fraction(1, 1 << n)) for n in range(MOST_LEVEL + 1)])


def _divisor(a: Value, b: Value) -> Value:
    return expr.negate(expr.equal(b, 0))


def _divided(a: Value, b: Value) -> Value:
    return expr.negate(expr.equal(a, 0))


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


Intervals = Sequence[Interval]
Rule = Callable[[Intervals, Sequence[Value]], Interval | None]


def _ends(function: Callable[..., Any]) -> Rule:
    """Bounds of what never falls as an argument rises."""

    def of(intervals: Intervals, args: Sequence[Value]) -> Interval:
        return function(*[low for low, _ in intervals]), function(*[high for _, high in intervals])

    return of


def _corners(function: Callable[[Any, Any], Any], a: Interval, b: Interval) -> Interval:
    """Bounds of what rises or falls all along either argument."""
    found = [function(x, y) for x in a for y in b]
    return min(found), max(found)


def _product(intervals: Intervals, args: Sequence[Value]) -> Interval:
    return functools.reduce(lambda a, b: _corners(_times, a, b), intervals)


def _ratio(function: Callable[[Any, Any], Any]) -> Rule:
    """Bounds of a quotient. A whole divisor that is never negative is at least 1 where it divides."""

    def of(intervals: Intervals, args: Sequence[Value]) -> Interval | None:
        above, (low, high) = intervals
        if low == 0 and high >= 1 and is_whole(args[1]):
            low = 1
        return _corners(function, above, (low, high)) if low > 0 else None

    return of


def _of_remainder(intervals: Intervals, args: Sequence[Value]) -> Interval | None:
    low, high = intervals[1]
    return (0, high) if low >= 0 else None


def _of_power(intervals: Intervals, args: Sequence[Value]) -> Interval | None:
    base, exponent = intervals
    fit = base[0] >= 1 and base[1] <= 1 << MOST_POWER and -MOST_POWER <= exponent[0] <= exponent[1] <= MOST_POWER
    return _corners(_power, base, exponent) if fit and is_whole(args[1]) else None


def _of_common_divisor(intervals: Intervals, args: Sequence[Value]) -> Interval:
    """No more than each argument that is not 0; 0 only where all are."""
    most = max(max(abs(low), abs(high)) for low, high in intervals)
    return (1 if any(low > 0 for low, _ in intervals) else 0), most


def _of_less(intervals: Intervals, args: Sequence[Value]) -> Interval:
    a, b = intervals
    return a[1] < b[0], a[0] < b[1]


def _of_at_most(intervals: Intervals, args: Sequence[Value]) -> Interval:
    a, b = intervals
    return a[1] <= b[0], a[0] <= b[1]


def _of_equal(intervals: Intervals, args: Sequence[Value]) -> Interval | None:
    a, b = intervals
    if not all(map(is_number, (*a, *b))):
        return None
    return a[0] == a[1] == b[0] == b[1], a[0] <= b[1] and b[0] <= a[1]


def _of_denial(intervals: Intervals, args: Sequence[Value]) -> Interval:
    ((low, high),) = intervals
    return not high, not low


def _found(intervals: Intervals, args: Sequence[Value]) -> Interval | None:
    """Of a list of pairs, one of which is found."""
    least, most = map(_held, intervals[0])
    return (min(least), max(most)) if least and all(map(is_number, (*least, *most))) else None


def _held(table: Value) -> list[Value]:
    """The values of a list of pairs."""
    pairs = table if isinstance(table, tuple) else ()
    return [pair[1] for pair in pairs if isinstance(pair, tuple) and len(pair) == 2]


# --- kinds ------------------------------------------------------------------------------------------------------------


def _kinds_picked(args: Sequence[Value]) -> frozenset[Kind | None]:
    return frozenset().union(*map(kinds_of, args[1:]))


def _kinds_found(args: Sequence[Value]) -> frozenset[Kind | None]:
    return frozenset().union(*map(kinds_of, _held(args[0])))


# --- whole numbers ----------------------------------------------------------------------------------------------------


def _closed(args: Sequence[Value]) -> bool:
    return all(map(is_whole, args))


def _always(args: Sequence[Value]) -> bool:
    return True


def _whole_power(args: Sequence[Value]) -> bool:
    exponent = Bounds().of(args[1])
    return _closed(args) and exponent is not None and exponent[0] >= 0


# --- folding ----------------------------------------------------------------------------------------------------------


def _divisible(width: Value, d: Value) -> Value:
    """The multiple of `d` nearest to a width, halves up; the next one where that would take off more than a tenth.

    Both are positive. MobileNet code rounds its widths so.
    """
    nearest = expr.multiply(d, apply("floor", expr.add(expr.divide(width, d), Fraction(1, 2))))
    short = expr.less(expr.multiply(10, nearest), expr.multiply(9, width))
    return expr.choose(short, expr.add(nearest, d), nearest)


def _plain_divisible(width: Any, d: Any) -> Any:
    nearest = d * _round(_divide(width, d))
    return narrow(nearest + d if 10 * nearest < 9 * width else nearest)


def _divisible_exists(width: Value, d: Value) -> Value:
    return expr.both(expr.at_most(1, d), expr.whole(d))


NUMBERS: tuple[Kind, ...] = ("number",)
TRUTHS: tuple[Kind, ...] = ("truth",)


# --- records ----------------------------------------------------------------------------------------------------------


def _quotient(
    name: str,
    plain: Callable[[Any, Any], Any],
    fold: Callable[..., Value] | None = None,
    array: str = "",
    whole: Callable[[Sequence[Value]], bool] | None = None,
) -> Function:
    """A division, exact or to a whole number."""
    return Function(
        name,
        NUMBERS,
        "number",
        plain,
        fold=fold,
        domain=_divisor,
        outside="division by zero",
        code="division-by-zero",
        array=array,
        slopes=_of_quotient,
        whole=whole,
        positive=True,
        bounds=_ratio(plain),
    )


def _rounded(name: str, plain: Callable[[Any], int], array: str, doc: str, shown: Example) -> Function:
    """A way to a whole number; what is whole stays as it is."""
    return Function(
        name,
        NUMBERS,
        "number",
        plain,
        fold=lambda value: value if is_whole(value) else apply(name, value),
        array=array,
        slopes=_rising,
        whole=_always,
        positive=True,
        bounds=_ends(plain),
        call=Call(1, 1, f"{name}(x)"),
        manual=Manual(f"{name}(x)", doc, shown),
    )


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
                whole=_closed,
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
                whole=_closed,
                positive=True,
                bounds=_product,
            ),
            _quotient("div", _divide, fold=expr.divide),
            _quotient("floordiv", _divide_down, array="quotient_down", whole=_always),
            _quotient("ceildiv", _divide_up, array="quotient_up", whole=_always),
            Function(
                "mod",
                NUMBERS,
                "number",
                operator.mod,
                domain=_divisor,
                outside="division by zero",
                code="division-by-zero",
                array="remainder",
                whole=_closed,
                positive=True,
                bounds=_of_remainder,
            ),
            Function(
                "pow",
                NUMBERS,
                "number",
                _power,
                domain=_power_exists,
                outside="this power has no exact value, or too large a one",
                code="too-large",
                whole=_whole_power,
                positive=True,
                bounds=_of_power,
            ),
            Function(
                "gcd",
                NUMBERS,
                "number",
                math.gcd,
                array="common_divisor",
                whole=_always,
                positive=True,
                bounds=_of_common_divisor,
            ),
            _rounded(
                "floor",
                math.floor,
                "down",
                "the greatest whole number that is not above x",
                Example("conv(floor(oneof(10, 15) / 2))", 2),
            ),
            _rounded(
                "ceil",
                math.ceil,
                "up",
                "the least whole number that is not below x",
                Example("conv(ceil(oneof(10, 15) / 2))", 2),
            ),
            _rounded(
                "round",
                _round,
                "nearest",
                "the nearest whole number, halves up",
                Example("conv(round(oneof(10, 15) / 4))", 2),
            ),
            Function(
                "min",
                NUMBERS,
                "number",
                lambda *args: min(args),
                associative=True,
                array="least",
                slopes=_rising,
                whole=_closed,
                positive=True,
                bounds=_ends(lambda *args: min(args)),
                call=Call(1, 100, "min(a, b)", of_items=True),
                manual=Manual(
                    "min(a, b, ...), min(list)",
                    "the least of some numbers, or of a list",
                    Example("let width = oneof(8, 16, 32)\nnetwork { conv(width), conv(min(width, 16)) }", 3),
                    "Items of the list that are not there take no part.",
                ),
            ),
            Function(
                "max",
                NUMBERS,
                "number",
                lambda *args: max(args),
                associative=True,
                array="greatest",
                slopes=_rising,
                whole=_closed,
                positive=True,
                bounds=_ends(lambda *args: max(args)),
                call=Call(1, 100, "max(a, b)", of_items=True),
                manual=Manual(
                    "max(a, b, ...), max(list)",
                    "the greatest of some numbers, or of a list",
                    Example("let width = oneof(8, 16, 32)\nnetwork { conv(width), conv(max(width, 16)) }", 3),
                    "Items of the list that are not there take no part.",
                ),
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
                whole=_always,
                positive=True,
                call=Call(1, 1, "level_of(at)"),
                manual=Manual(
                    "level_of(scale)",
                    "the level of a scale: n of 1/2^n",
                    Example(
                        """
                        operator block() = conv([8, 16, 32][level_of(at)], kernel: 3)
                        network { conv(8, stride: oneof(1, 2, 4)), block() }
                        """,
                        3,
                    ),
                    "Any other scale is an error.",
                ),
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
                whole=_always,
                positive=True,
                call=Call(2, 2, "divisible(in * 6, 8)"),
                manual=Manual(
                    "divisible(width, divisor)",
                    "the multiple of the divisor that is nearest to a width, as MobileNets round theirs",
                    Example("conv(divisible(32 * oneof(0.35, 0.75, 1), 8))", 3),
                    "Halves go up, and where less than 9/10 of the width would be left, the next multiple is taken.",
                ),
            ),
            # comparisons
            Function("eq", (None,), "truth", same, fold=expr.equal, array="equal", positive=True, bounds=_of_equal),
            Function(
                "lt",
                NUMBERS,
                "truth",
                operator.lt,
                array="less",
                slopes=_of_order,
                positive=True,
                bounds=_of_less,
            ),
            Function(
                "le",
                NUMBERS,
                "truth",
                operator.le,
                array="at_most",
                slopes=_of_order,
                positive=True,
                bounds=_of_at_most,
            ),
            Function(
                "divides",
                NUMBERS,
                "truth",
                _divides,
                domain=_divided,
                outside="division by zero",
                code="division-by-zero",
                array="divides",
                positive=True,
            ),
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
                bounds=_of_denial,
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
                bounds=_ends(lambda *args: all(args)),
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
                bounds=_ends(lambda *args: any(args)),
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
                whole=lambda args: _closed(args[1:]),
                positive=True,
            ),
            Function("lookup", ("list", None), _kinds_found, _lookup, bounds=_found),
            Function("len", ("list",), "number", len, positive=True),
        )
    }
)
