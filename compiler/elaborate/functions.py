"""The functions of the language that work on numbers and lists, and the table of all functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nasdsl.compiler import bound
from nasdsl.compiler.diagnostics import CompileError, Diagnostic, error
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.decisions import key_of, manyof, oneof, permute, units
from nasdsl.compiler.elaborate.expressions import evaluate, integer
from nasdsl.compiler.elaborate.forms import sum as sum_form
from nasdsl.compiler.elaborate.frame import Frame
from nasdsl.compiler.elaborate.operations import applied, as_number, chosen, guarded_items, of_kind
from nasdsl.compiler.elaborate.places import folded, taken
from nasdsl.compiler.example import Example, Manual
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.function import FUNCTIONS as TABLE
from nasdsl.compiler.values.function import Call


def _on_values(function: str, call: Call) -> Callable[[bound.Apply, Frame, str], Any]:
    """A function of the table, as a file calls it."""

    def run(node: bound.Apply, frame: Frame, path: str) -> Any:
        given = node.arguments
        if not call.of_items or len(given) > 1:
            return applied(function, [(evaluate(item, frame, path), item.span) for item in given], node.span, frame)
        items, place = _guarded(given[0], frame, path), given[0].span
        nothing = Diagnostic("empty-list", f"`{function}` of nothing", node.span)
        if not items:
            raise CompileError([nothing])
        if all(there is True for _, there in items):
            return applied(function, [(item, place) for item, _ in items], node.span, frame)
        if not frame.builder.some_chosen(there for _, there in items):
            frame.builder.prove(expr.either(*[there for _, there in items]), frame, nothing)

        def fold(values: tuple[Any, ...], there: Any) -> Any:
            return applied(function, [(value, place) for value in values], node.span, frame.granted(there))

        return folded(items, fold)

    return run


def _guarded(node: bound.Expr, frame: Frame, path: str) -> tuple[tuple[Any, Any], ...]:
    return tuple(guarded_items(evaluate(node, frame, path), node, frame))


def _sum(node: bound.Apply, frame: Frame, path: str) -> Any:
    """The sum of a list of numbers. One of tensors, or of operators, is a step: it adds what they make."""
    (given,) = node.arguments
    items = _guarded(given, frame, path)
    if any(v.is_operator(item) or isinstance(item, v.Tensor) for item, _ in items):
        return v.Invocation(sum_form.FORM, {"*": (v.Guarded(items),)}, path, node.span, None, frame)
    numbers = [(there, as_number(item, given.span, frame.granted(there))) for item, there in items]
    return expr.add(*[expr.choose(there, number, 0) for there, number in numbers])


def _count(node: bound.Apply, frame: Frame, path: str) -> Any:
    (given,) = node.arguments
    items = _guarded(given, frame, path)
    for item, there in items:
        of_kind(item, "truth", given.span, frame.granted(there), "not-a-condition")
    return expr.add(*[expr.choose(expr.both(present, item), 1, 0) for item, present in items])


def _length(node: bound.Apply, frame: Frame, path: str) -> Any:
    (given,) = node.arguments
    return expr.add(*[expr.choose(present, 1, 0) for _, present in _guarded(given, frame, path)])


def _take(node: bound.Apply, frame: Frame, path: str) -> Any:
    return _part(node, frame, path, last=False)


def _last(node: bound.Apply, frame: Frame, path: str) -> Any:
    return _part(node, frame, path, last=True)


def _part(node: bound.Apply, frame: Frame, path: str, last: bool) -> Any:
    list_node, n_node = node.arguments
    value = evaluate(list_node, frame, path)
    n = integer(n_node, frame, "how many to take")
    if isinstance(value, v.Guarded):
        return v.Guarded(tuple(taken(value.items, n, last)))
    part = slice(-n, None) if last and n else slice(0 if last else n)
    if isinstance(value, v.Record):
        return v.Record(dict(list(value.entries.items())[part]), value.span)
    if isinstance(value, tuple):
        return value[part]
    raise error("not-a-list", f"a list or a record is needed here, and this is {v.describe(value)}", list_node.span)


def _previous(node: bound.Apply, frame: Frame, path: str) -> Any:
    name, running = node.word, frame.builder.running
    (start_from,) = node.arguments
    before = frame.builder.before(name, frame)
    certain = [i for i, (_, present) in enumerate(before) if present is True or present == frame.present]
    if certain:
        start = certain[-1] + 1
        value, source = before[start - 1][0], (start, None)
    else:
        start, nothing = 0, expr.negate(expr.either(*[present for _, present in before]))
        value = evaluate(start_from, frame.when(nothing), path)
        source = key_of(value, -len(running))
    for i in range(start, len(before)):  # each step is made once, so that running values share their parts
        key = (frame.operator, name, *source, i)
        if key not in running:
            made, present = before[i]
            running[key] = chosen([(present, "before", made), (expr.negate(present), "else", value)], node.span, path)
        value = running[key]
    return value


_OWN: Mapping[str, bound.Function] = {
    function.name: function
    for function in (
        bound.Function(
            "oneof",
            oneof,
            None,
            Manual(
                "oneof(a, b, ...), oneof(list)",
                "a decision: exactly one of the alternatives",
                Example("conv(oneof(8, 16), kernel: oneof(3, 5, 7))", 6),
                "The alternatives are numbers, words, sizes, or operators, also with names, `oneof(small: conv(8), "
                "large: conv(16))`. One list or range stands for its items. The list must not depend on another "
                "decision: what depends is said with `match` or `require`.",
            ),
        ),
        bound.Function(
            "manyof",
            manyof,
            Call(2, 2, "manyof(2, earlier)"),
            Manual(
                "manyof(k, list), manyof(a..b, list)",
                "a decision: k different items of a list, or any number in a range, in the order of the list",
                Example(
                    """
                    conv(16, kernel: 3)
                    concat([for kernel in manyof(2, [1, 3, 5, 7]): conv(8, kernel: kernel)])
                    for kernel in manyof(0..1, [3, 5]) { conv(16, kernel: kernel) }
                    """,
                    18,
                ),
                "What it gives is a list: items that are not chosen are not there, in `for`, in comprehensions, in "
                "`sum`, `count`, `length` and `in`.",
            ),
            "first",
        ),
        bound.Function(
            "permute",
            permute,
            Call(1, 2, "permute([3, 4, 5])"),
            Manual(
                "permute(list), permute(k, list)",
                "a decision: an order of all items of a list, or of k of them",
                Example("for kernel in permute([3, 5, 7]) { conv(16, kernel: kernel) }", 6),
                "Equal items are interchangeable: distinct orders count.",
            ),
        ),
        bound.Function(
            "units",
            units,
            Call(1, 1, "units(4 * in)"),
            Manual(
                "units(n)",
                "a decision: any subset of n search units, which a shrinking search removes one by one",
                Example("conv(8)\nmixconv(16, hidden: { 3: units(4), 5: units(4) })", 255),
                "Units are channels of `mixconv` and tokens of `transformer`. In `with`, `units(12)` leaves twelve "
                "of them.",
            ),
            "first",
        ),
        bound.Function(
            "sum",
            _sum,
            Call(1, 1, "sum(segment.depth)"),
            Manual(
                "sum(list)",
                "the sum of a list of numbers",
                Example(
                    """
                operator stage(out) = repeat oneof(1..3) { conv(out, kernel: 3) }
                network { stage(8), stage(16) }
                require sum(stage.depth) <= 4
                """,
                    6,
                ),
                "Items that are not there count 0. Of a list of tensors or operators, or of several arguments, it is "
                "the step that adds them.",
            ),
        ),
        bound.Function(
            "count",
            _count,
            Call(1, 1, "count(segment.double)"),
            Manual(
                "count(list)",
                "how many items of a list of truth values are true",
                Example(
                    """
                operator block(out) {
                  let wide = oneof(false, true)
                  conv(2 * out if wide else out)
                }
                network { block(8), block(8), block(8) }
                require count(block.wide) == 1
                """,
                    3,
                ),
                "Items that are not there do not count.",
            ),
        ),
        bound.Function(
            "length",
            _length,
            Call(1, 1, "length(list)"),
            Manual(
                "length(list)",
                "how many items of a list are there",
                Example(
                    """
                let kernels = manyof(1..3, [3, 5, 7])
                network { for kernel in kernels { conv(16, kernel: kernel) } }
                require length(kernels) <= 2
                """,
                    6,
                ),
            ),
        ),
        bound.Function(
            "take",
            _take,
            Call(2, 2, "take(list, 2)"),
            Manual(
                "take(list, n)",
                "the first n items of a list, or entries of a record",
                Example("for width in take([8, 16, 32], 2) { conv(width, kernel: oneof(3, 5)) }", 4),
                "Of a list whose items are not always there, the first n that are.",
            ),
            "others",
        ),
        bound.Function(
            "last",
            _last,
            Call(2, 2, "last(list, 2)"),
            Manual(
                "last(list, n)",
                "the last n items of a list, or entries of a record",
                Example("a: conv(8)\nb: conv(8)\nc: conv(8)\nsum(from: manyof(1, last(earlier, 2)))", 2),
                "Of a list whose items are not always there, the last n that are.",
            ),
            "others",
        ),
        bound.Function(
            "previous",
            _previous,
            None,
            Manual(
                "previous(name, else: value)",
                "the value that a `let` of this operator had where it was last made",
                Example(
                    """
                operator stage() = repeat 3 {
                  let double = oneof(false, true)
                  let width = previous(width, else: 8) * (2 if double else 1)
                  conv(width, kernel: 3)
                }
                network { stage() }
                """,
                    8,
                ),
                "In the order of the network, across all uses of the operator: a running width. Where it was not made "
                "yet, the value behind `else`.",
            ),
        ),
    )
}
"""What decides, and what works on lists."""


class _Functions(Mapping[str, bound.Function]):
    """Those, and the functions of values that the table says how to call, whenever they got there."""

    def __getitem__(self, name: str) -> bound.Function:
        if name in _OWN:
            return _OWN[name]
        function = TABLE[name]
        if function.call is None:
            raise KeyError(name)
        numbers = "all" if function.takes == ("number",) else ""
        return bound.Function(name, _on_values(name, function.call), function.call, function.manual, numbers)

    def __contains__(self, name: object) -> bool:
        return name in _OWN or (name in TABLE and TABLE[str(name)].call is not None)

    def __iter__(self) -> Iterator[str]:
        yield from _OWN
        yield from (name for name, function in TABLE.items() if function.call is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


FUNCTIONS: Mapping[str, bound.Function] = _Functions()
"""All functions that a file can call."""
