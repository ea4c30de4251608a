"""Values are compared, joined, chosen and looked up, where each may depend on decisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from nasdsl.compiler import bound, measures
from nasdsl.compiler.bind.habits import near
from nasdsl.compiler.bind.messages import no_value, unknown_option
from nasdsl.compiler.diagnostics import CompileError, Diagnostic, error
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.frame import Frame
from nasdsl.compiler.elaborate.merging import select
from nasdsl.compiler.elaborate.places import at_place
from nasdsl.compiler.source import Span
from nasdsl.compiler.values import expr, tree
from nasdsl.compiler.values.function import FUNCTIONS
from nasdsl.compiler.values.plain import FAULTS, KINDS, Kind, Symbol
from nasdsl.compiler.values.tree import (
    Among,
    Apply,
    Case,
    Expr,
    Slot,
    Total,
    apply,
    defined,
    kinds_of,
    measures_of,
    rebuild,
)

MOST_LISTED = 20_000  # of a list
MOST_BITS = 4096  # of a number


def total(name: str) -> expr.Value:
    factor, base = measures.base(name)
    return expr.multiply(factor, Total(base))


BUILT_IN_NAMES: Mapping[str, Any] = {"true": True, "false": False, **{name: total(name) for name in measures.BUILT_IN}}
"""Words with a value: truth, and what a whole network costs."""


def as_number(value: Any, span: Span, frame: Frame) -> Any:
    """The value, which has to be a number whatever is chosen."""
    if isinstance(value, v.Units | v.FixedUnits):
        return value.count
    if isinstance(value, Symbol):
        if measures.lookup(value.word) is not None:  # of another package
            return total(value.word)
        raise CompileError([no_value(value.word, span, frame.scope, "not a number")])
    return of_kind(value, "number", span, frame, "not-a-number")


def of_kind(value: Any, kind: Kind, span: Span, frame: Frame, code: str) -> Any:
    """The value, which has to be of a kind whatever is chosen: told at once, or something to prove."""
    held = expr.is_kind(value, kind)
    if held is not True:
        what = "a condition" if kind == "truth" else KINDS[kind]
        problem = Diagnostic(code, f"{what} is needed here, and this is {v.describe(value)}", span)
        if held is False:
            raise CompileError([problem])
        whatever = replace(problem, message=f"{what} is needed here, whatever is chosen")
        if not frame.builder.prove(held, frame, whatever, (value,)):
            raise CompileError([])
    return value


def applied(name: str, arguments: Sequence[tuple[Any, Span]], span: Span, frame: Frame) -> Any:
    """A function of values, which has to have a value whatever is chosen.

    Raises:
        CompileError: an argument is of another kind, or outside the function's domain.
    """
    function = FUNCTIONS[name]
    given = []
    for place, (value, where) in enumerate(arguments):
        kind = function.kind_taken(place)
        if kind == "number":
            value = as_number(value, where, frame)
        elif kind is not None:
            value = of_kind(value, kind, where, frame, f"not-a-{kind}")
        given.append(value)
    missing = Diagnostic(function.code, function.outside, span)
    exists = defined(name, tuple(given))
    if exists is False:
        raise CompileError([missing])
    if measures_of(exists):  # costs are known when all is built
        message = f"whether this always has a value is not proven: {function.outside}"
        frame.builder.report([replace(missing, code="unproven", message=message, severity="warning")])
    else:
        frame.builder.prove(exists, frame, missing)
    try:
        result = rebuild(name, tuple(given))
    except OverflowError:
        result = None
    except FAULTS:
        raise CompileError([missing]) from None
    large = isinstance(result, int | Fraction) and _bits(result) > MOST_BITS
    if result is None or large:
        raise error("too-large", "the result is too large", span)
    return result


def _bits(number: int | Fraction) -> int:
    return max(number.numerator.bit_length(), number.denominator.bit_length())


def constant(value: Any, span: Span, what: str) -> Any:
    """The value, which must not depend on a decision."""
    if isinstance(value, Expr):
        raise error(
            "not-constant",
            f"{what} must not depend on a decision",
            span,
            "differs between architectures",
            help="what depends on a decision is said with `match`, `if` or `require`",
        )
    return value


def as_items(value: Any, node: bound.Expr, frame: Frame) -> tuple[Any, ...]:
    """The items of a list that is the same whatever is chosen (or of a record: its keys)."""
    items = guarded_items(value, node, frame)
    if all(present is True for _, present in items):
        return tuple(item for item, _ in items)
    raise error(
        "not-constant",
        "which items this list has depends on a decision, and here it has to be known",
        node.span,
        "differs between architectures",
        help="a searched number of copies is `repeat k { ... }`; what else depends on it is said with `match`",
    )


def guarded_items(value: Any, node: bound.Expr, frame: Frame) -> list[tuple[Any, expr.Value]]:
    """The items of a list, each with the condition under which it is there (or of a record: its keys)."""
    if isinstance(value, v.Guarded):
        return list(value.items)
    if isinstance(value, tuple):
        return [(item, item.present if isinstance(item, v.Tensor) else item is not None) for item in value]
    if isinstance(value, v.Branches):
        return [(tensor, tensor.present) for tensor in value.tensors]
    if isinstance(value, v.Record):
        return [(key, True) for key in value.entries]
    if isinstance(value, Symbol):
        raise error("unknown-name", f"no list named `{value.word}`", node.span, help=near(value.word, frame.scope))
    raise error(
        "not-a-list", f"a list is needed here, and this is {v.describe(value)}", node.span, help=_as_list(value)
    )


def _as_list(value: Any) -> str:
    """What may have been meant by something that is no list."""
    if v.is_number(value):
        return f"`[{v.show(value)}]` is a list, and so is `0..{v.show(value)}`"
    if kinds_of(value) == {"number"}:
        return "a range is a list: `0..n - 1`"
    if isinstance(value, v.Tensor):
        return "`[a, b]` is a list of tensors; `inputs` lists those that come in, `earlier` those with labels"
    if v.is_operator(value):
        return "`a + b` and `sum(a, b)` add what operators make; one alone stands without `sum`"
    return ""


def joined(left: Any, right: Any, node: bound.Binary, frame: Frame) -> Any:
    size = sum(len(side.items if isinstance(side, v.Guarded) else side) for side in (left, right))
    if size > MOST_LISTED:
        raise error("too-large", f"the list has more than {MOST_LISTED:,} items", node.span)
    frame.builder.spend(size // 50, node.span)
    if isinstance(left, tuple) and isinstance(right, tuple):
        return v.listed(left + right, node.span)
    parts = [
        side.items if isinstance(side, v.Guarded) else tuple((item, True) for item in side) for side in (left, right)
    ]
    return v.Guarded(parts[0] + parts[1])


def equality(left: Any, right: Any, node: bound.Binary, frame: Frame) -> Any:
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Symbol) and isinstance(other, v.Alternatives):
            words = [word for case in other.cases for word in words_of(case)]
            if one.word not in words:
                raise CompileError([unknown_option(one.word, one.span or node.span, words)])
            return expr.either(*[case.condition for case in other.cases if one.word in words_of(case)])
        if isinstance(one, Symbol) and isinstance(other, v.Invocation):
            return one.word == other.name
        possible = tree.options(other) if isinstance(one, Symbol) and isinstance(other, Expr) else None
        if isinstance(one, Symbol) and possible is not None:
            words = [item.word if isinstance(item, Symbol) else v.show(item) for item in possible]
            if isinstance(other, Case | Slot):
                words = [item.word if isinstance(item, Symbol) else v.show(item) for item in other.values]
            if one.word not in words:
                raise CompileError([unknown_option(one.word, one.span or node.span, words, "one of the values")])
    for value, side in ((left, node.left), (right, node.right)):
        if not (v.is_number(value) or isinstance(value, Expr | Symbol | str | bool | tuple | v.SizeValue)):
            raise error("not-comparable", f"{v.describe(value)} cannot be compared", side.span)
    if isinstance(left, tuple) and isinstance(right, tuple):
        if len(left) != len(right):
            return False
        return expr.both(*[equality(a, b, node, frame) for a, b in zip(left, right, strict=True)])
    if isinstance(left, v.SizeValue) and isinstance(right, v.SizeValue):
        return len(left.parts) == len(right.parts) and expr.both(
            *[expr.equal(a, b) for a, b in zip(left.parts, right.parts, strict=True)]
        )
    if (
        isinstance(left, Symbol) != isinstance(right, Symbol)
        and not isinstance(left, Expr)
        and not isinstance(right, Expr)
    ):
        symbol, other, side = (left, right, node.left) if isinstance(left, Symbol) else (right, left, node.right)
        if v.is_number(other) and measures.lookup(symbol.word) is not None:  # of another package
            return expr.equal(total(symbol.word), other)
        raise CompileError([no_value(symbol.word, side.span, frame.scope)])
    if not kinds_of(left) & kinds_of(right):
        message = f"these are never equal: {v.describe(left)} and {v.describe(right)}"
        raise error("not-comparable", message, node.span)
    return expr.equal(left, right)


def words_of(case: v.Alternative) -> tuple[str, ...]:
    """What an alternative goes by: the label that the text gives it, its operator's name."""
    if not isinstance(case.value, v.Invocation):
        return (case.label,)
    return tuple(dict.fromkeys((case.label, case.value.name) if case.labelled else (case.value.name,)))


def chosen(cases: list[tuple[Any, str, Any]], span: Span, path: str) -> Any:
    """One value out of several whose conditions exclude each other and cover all."""
    options = [value for _, _, value in cases]
    if any(v.is_operator(value) for value in options) and not all(isinstance(value, Symbol) for value in options):
        for value in options:
            if not v.is_operator(value):
                raise error("mixed-options", f"some alternatives are operators, and one is {v.describe(value)}", span)
        return v.Alternatives(tuple(v.Alternative(*case) for case in cases), span, path)
    if all(isinstance(value, tuple) for value in options) and len({len(value) for value in options}) == 1:
        return tuple(chosen([(c, n, value[i]) for c, n, value in cases], span, path) for i in range(len(options[0])))
    if all(isinstance(value, v.SizeValue) for value in options) and len({len(value.parts) for value in options}) == 1:
        size = len(options[0].parts)
        return v.SizeValue(
            tuple(chosen([(c, n, value.parts[i]) for c, n, value in cases], span, path) for i in range(size))
        )
    for value in options:
        if not (v.is_number(value) or isinstance(value, Expr | Symbol | str | bool)):
            raise error(
                "mixed-options", f"a choice between values needs numbers or words, and one is {v.describe(value)}", span
            )
    if frozenset(("number", "truth")) <= frozenset().union(*map(kinds_of, options)):
        raise error("mixed-options", "some of these values are numbers and some are truth values", span)
    result = options[-1]
    for test, _, value in reversed(cases[:-1]):
        result = expr.choose(test, value, result)
    return result


def is_among(key: Any, known: Iterable[Any]) -> bool:
    """Whether a key is one of the values that are known. A truth value is no number."""
    return any(key == value and isinstance(key, bool) == isinstance(value, bool) for value in known)


def match_condition(head: Any, key: Any, node: bound.Match) -> Any:
    if isinstance(head, v.Alternatives):
        return expr.either(
            *[case.condition for case in head.cases if isinstance(key, Symbol) and key.word in words_of(case)]
        )
    if isinstance(head, v.Invocation):
        return isinstance(key, Symbol) and key.word == head.name
    if isinstance(key, bool) and isinstance(head, Among | Apply):
        return head if key else expr.negate(head)
    return expr.equal(head, key)


def placed(base: v.Guarded, key: Any, node: bound.Index, frame: Frame) -> Any:
    """The item at a place among those that are there."""
    cases = [(test, "item", item) for item, test in at_place(base.items, key) if test is not False]
    diagnostic = _no_such_item(node)
    if not frame.builder.prove(expr.either(*[test for test, _, _ in cases]), frame, diagnostic):
        raise CompileError([])
    if not cases:
        raise CompileError([diagnostic])
    value, exists = _item_of(cases, node, frame), expr.either(*[test for test, _, _ in cases])
    if not isinstance(exists, Expr) or kinds_of(value) != {"number"}:
        return value
    return expr.choose(exists, value, apply("div", 1, expr.choose(exists, 1, 0)))  # no requirement may excuse it


def _item_of(cases: list[tuple[Any, str, Any]], node: bound.Index, frame: Frame) -> Any:
    """The item of which the condition holds."""
    if all(isinstance(item, v.Tensor) for _, _, item in cases):
        return select([(test, item) for test, _, item in cases], frame.under("item"), node.span)
    return chosen(cases, node.span, frame.decisions)


def _no_such_item(node: bound.Index, help: str = "") -> Diagnostic:
    return Diagnostic("no-such-item", "for some choices there is no such item", node.index.span, help=help)


def looked_up(table: dict[Any, Any], key: Expr, shown: str, node: bound.Index, frame: Frame) -> Any:
    possible = tree.options(key)
    if possible is None or not possible <= table.keys():
        found = expr.either(*[expr.equal(key, k) for k in table])
        if not frame.builder.prove(found, frame, _no_such_item(node, shown)):
            raise CompileError([])
    if possible is not None:  # each of which is there, as is proven
        table = {k: value for k, value in table.items() if k in possible}
    if any(not (v.is_number(value) or isinstance(value, Expr | Symbol | str | bool)) for value in table.values()):
        cases = [(expr.equal(key, k), v.show(k), value) for k, value in table.items()]
        return cases[0][2] if len(cases) == 1 else _item_of(cases, node, frame)
    if not any(isinstance(value, Expr) for value in table.values()):
        return apply("lookup", tuple(table.items()), key)
    keys = list(table)
    result = table[keys[-1]]
    for k in reversed(keys[:-1]):
        result = expr.choose(expr.equal(key, k), table[k], result)
    return result


def open_range(first: Any, last: Any, node: bound.Range, frame: Frame) -> v.Guarded:
    """The whole numbers that a range may hold, each where the decisions at its ends put it inside."""
    ends = []
    for end, place in ((first, node.first.span), (last, node.last.span)):
        values = end.values if isinstance(end, Case) else (constant(end, place, "the end of a range"),)
        if not all(isinstance(value, int) and abs(value) <= MOST_LISTED for value in values):
            raise error("not-an-integer", "a range that depends on decisions runs over whole numbers", place)
        ends.append(values)
    empty = error("bad-range", "for some choices this range is empty", node.span).diagnostics[0]
    if not frame.builder.prove(expr.at_most(first, last), frame, empty, (first, last), lost=True):
        raise CompileError([])
    possible = range(min(ends[0]), max(ends[1]) + 1)
    return v.Guarded(tuple((i, expr.within(first, i, last)) for i in possible))
