"""Expressions become values. Decisions met on the way are made here, under the path that the place gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

from nasdsl.compiler import measures, ops, syntax
from nasdsl.compiler.diagnostics import CompileError, Diagnostic, error
from nasdsl.compiler.elaborate import library
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.arguments import NOTHING, bind_arguments, bind_formals
from nasdsl.compiler.elaborate.frame import DEEPEST_CALLS, Broken, Frame, Scope, each, join
from nasdsl.compiler.elaborate.habits import near, near_operator
from nasdsl.compiler.elaborate.places import at_place
from nasdsl.compiler.source import Span
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Expr, Total
from nasdsl.compiler.values.function import FUNCTIONS
from nasdsl.compiler.values.plain import FAULTS, KINDS, Kind, Symbol

MOST_ITEMS = 1_000_000  # of anything that is counted, such as search units
MOST_LISTED = 20_000  # of a list
MOST_BITS = 4096  # of a number
MOST_SIDE = 1 << 20  # of a part of a size

FORMS: Mapping[str, v.Form] = {
    form.name: form
    for form in (
        v.Form("parallel", ("operator", "share"), True, "applies a body to every branch"),
        v.Form("residual", ("operator",), True, "adds its input to what its body makes of it"),
        v.Form("fuse", ("rule", "to", "from", "also"), False, "brings branches together by a fusion rule"),
        v.Form("branches", ("*",), False, "a set of branches made of labelled tensors"),
        v.Form("extend", ("levels", "operator"), False, "adds coarser branches"),
        v.Form("pick", ("scale",), False, "takes one branch out"),
        v.Form("concat", ("*", "scale", "from", "mode"), False, "joins tensors along the channels"),
        v.Form("sum", ("from",), False, "adds tensors"),
        v.Form("mean", ("from",), False, "averages tensors"),
    )
}


def _total(name: str) -> expr.Value:
    factor, base = measures.base(name)
    return expr.multiply(factor, Total(base))


BUILT_IN_NAMES: Mapping[str, Any] = {"true": True, "false": False, **{name: _total(name) for name in measures.BUILT_IN}}


def evaluate(node: syntax.Expr, frame: Frame, path: str = "") -> Any:
    """The value of an expression.

    Args:
        path: of decisions made directly in this expression; the frame's own where it is left out.

    Raises:
        CompileError: the expression has no meaning here.
    """
    frame.builder.spend(1, node.span)
    return _EVALUATE[type(node)](node, frame, path or frame.decisions)


def number(node: syntax.Expr, frame: Frame, path: str = "") -> Any:
    """The value of an expression that has to be a number."""
    return as_number(evaluate(node, frame, path), node.span, frame)


def as_number(value: Any, span: Span, frame: Frame) -> Any:
    """The value, which has to be a number whatever is chosen."""
    if isinstance(value, v.Units | v.FixedUnits):
        return value.count
    if isinstance(value, Symbol):
        if measures.lookup(value.word) is not None:  # of another package
            return _total(value.word)
        raise error(
            "unknown-name", f"no value named `{value.word}`", span, "not a number", help=near(value.word, frame.scope)
        )
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
    exists = expr.defined(name, tuple(given))
    if exists is False:
        raise CompileError([missing])
    if expr.measures_of(exists):  # costs are known when all is built
        message = f"whether this always has a value is not proven: {function.outside}"
        frame.builder.report([replace(missing, code="unproven", message=message, severity="warning")])
    else:
        frame.builder.prove(exists, frame, missing)
    try:
        result = expr.rebuild(name, tuple(given))
    except OverflowError:
        raise error("too-large", "the result is too large", span) from None
    except FAULTS:
        raise CompileError([missing]) from None
    if isinstance(result, int | Fraction):
        bits = max(result.numerator.bit_length(), result.denominator.bit_length())
        if bits > MOST_BITS:
            raise error("too-large", "the result is too large", span)
    return result


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


def integer(node: syntax.Expr, frame: Frame, what: str, least: int = 0) -> int:
    value = constant(number(node, frame), node.span, what)
    if not isinstance(value, int) or value < least:
        raise error(
            "not-an-integer", f"{what} must be a whole number of at least {least}", node.span, f"is {v.show(value)}"
        )
    if value > MOST_ITEMS:
        raise error("too-large", f"{what} is too large", node.span, f"is {value}; at most {MOST_ITEMS:,}")
    return value


def condition(node: syntax.Expr, frame: Frame, path: str = "") -> Any:
    value = evaluate(node, frame, path)
    if isinstance(value, Symbol):
        raise error("unknown-name", f"no value named `{value.word}`", node.span, help=near(value.word, frame.scope))
    return of_kind(value, "truth", node.span, frame, "not-a-condition")


# --- Atoms ------------------------------------------------------------------------------------------------------------


def _number(node: syntax.Number, frame: Frame, path: str) -> Any:
    return node.value if node.unit is None else v.Quantity(node.value, node.unit)


def _string(node: syntax.String, frame: Frame, path: str) -> str:
    return node.value


def _name(node: syntax.Name, frame: Frame, path: str) -> Any:
    found = frame.scope.find(node.name)
    if found is not None:
        if found.value is Broken:
            raise CompileError([])
        return found.value
    if node.name in frame.labels.named:
        return frame.labels.named[node.name]
    if node.name in frame.labels.absent:
        return None
    if node.name in ("earlier", "unused") and frame.labels.lost:
        raise CompileError([])
    if node.name == "earlier":
        return v.Guarded(tuple((tensor, tensor.present) for tensor in frame.labels.tensors))
    if node.name == "unused":
        return v.Unused(frame.builder.unread(frame.labels.tensors))
    if node.name == "regions":
        return _regions(node, frame)
    if node.name == "at":
        return _incoming_value("scale", node.span, frame)
    if node.name == "branches":
        return _incoming_branches(node.span, frame)
    if node.name in BUILT_IN_NAMES:
        return BUILT_IN_NAMES[node.name]
    return Symbol(node.name, node.span)


def _regions(node: syntax.Name, frame: Frame) -> Any:
    """What a detector's proposals gave. Where some choice leaves them out, that the head is not used then is proven."""
    regions = frame.regions
    if v.is_lost(regions):
        raise CompileError([])
    missing = error(
        "no-regions",
        "this needs regions, and the detector proposes none",
        node.span,
        help="fill the slot `proposals`, for example with `proposals: rpn()`",
    )
    if not isinstance(regions, v.Tensor):
        raise missing
    frame.builder.prove(regions.present, frame, missing.diagnostics[0])
    return replace(regions, present=True)


def _incoming(node: syntax.Incoming, frame: Frame, path: str) -> Any:
    return _incoming_value("width", node.span, frame)


def _incoming_value(what: str, span: Span, frame: Frame) -> Any:
    """`in` or `at`. In the network itself they are the image's: said where the step gets something else."""
    tensor = _incoming_tensor(span, frame)
    part = "channels" if what == "width" else "scale"
    value, flow = getattr(tensor.shape, part), frame.builder.flow
    tensors = flow.tensors if isinstance(flow, v.Branches) else (flow,) if isinstance(flow, v.Tensor) else ()
    others = [getattr(t.shape, part) for t in tensors if not t.lost and getattr(t.shape, part) != value]
    if others and tensor.node == "input" and not frame.operator:
        word, shown = span.text, v.show(value)
        message = f"`{word}` is the {what} of the image here, {shown}, and not that of what comes into this step"
        help = f"`{word}` means what comes in inside an `operator`; here give the {what} a name with `let`"
        found = error("image-for-step", message, span, f"what comes in has {v.show(others[0])}", help=help)
        frame.builder.report([replace(found.diagnostics[0], severity="warning")])
    return value


def _incoming_branches(span: Span, frame: Frame) -> int:
    """How many branches come in, those counted that a choice leaves out."""
    if isinstance(frame.incoming, v.Branches):
        return len(frame.incoming.tensors)
    _incoming_tensor(span, frame)
    return 1


def _incoming_tensor(span: Span, frame: Frame) -> v.Tensor:
    if isinstance(frame.incoming, v.Tensor):
        if frame.incoming.lost:
            raise CompileError([])
        return frame.incoming
    if isinstance(frame.incoming, v.Branches):
        raise error(
            "several-branches",
            "several branches come in here, each with its own width and scale",
            span,
            help="use `parallel { ... }`",
        )
    raise error("nothing-incoming", f"nothing comes in here, so `{span.text}` has no value", span)


def _list(node: syntax.List, frame: Frame, path: str, before: tuple[Any, ...] = ()) -> Any:
    """A list; its items go by their place behind those `before`, to which it is joined."""
    out: list[Any] = []
    for i, item in enumerate(node.items):
        if isinstance(item, syntax.Named | syntax.Let | syntax.Require):
            raise error("misplaced", "a list holds values", item.span, help="entries `key: value` stand in braces")
        out.append(evaluate(item, frame, join(path, f"[{len(before) + i}]")))
    frame.builder.note_list(path, (*before, *out))
    items: list[tuple[Any, Any]] = []
    for item, value in zip(node.items, out, strict=True):
        if not isinstance(item, syntax.Range):
            items.append((value, True))
        else:
            items.extend(value.items if isinstance(value, v.Guarded) else [(one, True) for one in value])
    made: Any = tuple([value for value, _ in items])
    frame.builder.weigh(made, made, node.span)
    return made if all(there is True for _, there in items) else v.Guarded(tuple(items))


def _range(node: syntax.Range, frame: Frame, path: str) -> Any:
    first, last = number(node.first, frame, join(path, "first")), number(node.last, frame, join(path, "last"))
    if node.step is None and (isinstance(first, expr.Case) or isinstance(last, expr.Case)):
        return _open_range(first, last, node, frame)
    first = constant(first, node.first.span, "the start of a range")
    last = constant(last, node.last.span, "the end of a range")
    step = 1 if node.step is None else constant(number(node.step, frame), node.step.span, "the step of a range")
    if step <= 0:
        raise error("bad-range", "the step of a range must be positive", node.step.span if node.step else node.span)
    if last < first:
        raise error("bad-range", f"the range from {v.show(first)} to {v.show(last)} is empty", node.span)
    if (last - first) / step > MOST_LISTED:
        raise error("too-large", f"the range has more than {MOST_LISTED:,} items", node.span)
    frame.builder.spend(int((last - first) / step) // 50, node.span)
    return tuple(first + i * step for i in range(int((last - first) // step) + 1))


def _open_range(first: Any, last: Any, node: syntax.Range, frame: Frame) -> v.Guarded:
    """The whole numbers that a range may hold, each where the decisions at its ends put it inside."""
    ends = []
    for end, place in ((first, node.first.span), (last, node.last.span)):
        values = end.values if isinstance(end, expr.Case) else (constant(end, place, "the end of a range"),)
        if not all(isinstance(value, int) and abs(value) <= MOST_LISTED for value in values):
            raise error("not-an-integer", "a range that depends on decisions runs over whole numbers", place)
        ends.append(values)
    empty = error("bad-range", "for some choices this range is empty", node.span).diagnostics[0]
    if not frame.builder.prove(expr.at_most(first, last), frame, empty, (first, last), lost=True):
        raise CompileError([])
    possible = range(min(ends[0]), max(ends[1]) + 1)
    return v.Guarded(tuple((i, expr.within(first, i, last)) for i in possible))


def _size(node: syntax.Size, frame: Frame, path: str) -> v.SizeValue:
    parts = tuple(number(part, frame, path) for part in node.parts)
    for part, value in zip(node.parts, parts, strict=True):
        problem = Diagnostic("bad-size", "each part of a size is a positive whole number", part.span)
        if isinstance(value, Expr):
            held = expr.both(expr.whole(value), expr.within(1, value, MOST_SIDE))
            message = "each part of a size is a positive whole number of at most 2^20, whatever is chosen"
            frame.builder.prove(held, frame, replace(problem, message=message), (value,))
        elif not isinstance(value, int) or value < 1:
            raise CompileError([replace(problem, label=f"is {v.show(value)}")])
        elif value > MOST_SIDE:
            raise error("too-large", "a part of a size is at most 2^20", part.span, f"is {value}")
    return v.SizeValue(parts)


def _comprehension(node: syntax.Comprehension, frame: Frame, path: str) -> tuple[Any, ...]:
    rows: list[Frame] = [frame]
    for bind in node.binds:
        grown: list[Frame] = []
        for row in rows:
            for item in items_of(bind.source, row, path):
                inner = row.nested()
                inner.scope.bind(bind.name, item, bind.span)
                grown.append(inner)
                if len(grown) > MOST_LISTED:
                    raise error("too-large", f"the comprehension has more than {MOST_LISTED:,} items", node.span)
        rows = grown
    made = tuple(each([partial(evaluate, node.body, row, join(path, f"[{i}]")) for i, row in enumerate(rows)]))
    frame.builder.note_list(path, made)
    frame.builder.weigh(made, made, node.span)
    return made


def items_of(node: syntax.Expr, frame: Frame, path: str = "") -> tuple[Any, ...]:
    """The items of an expression that has to be a list (or a record: its keys)."""
    return as_items(evaluate(node, frame, path), node, frame)


def as_items(value: Any, node: syntax.Expr, frame: Frame) -> tuple[Any, ...]:
    if isinstance(value, tuple):
        return value
    if isinstance(value, v.Record):
        return tuple(value.entries)
    if isinstance(value, v.Guarded) and all(present is True for _, present in value.items):
        return tuple(item for item, _ in value.items)
    if isinstance(value, v.Guarded):
        raise error(
            "not-constant",
            "which items this list has depends on a decision, and here it has to be known",
            node.span,
            "differs between architectures",
            help="a searched number of copies is `repeat k { ... }`; what else depends on it is said with `match`",
        )
    if isinstance(value, Symbol):
        raise error("unknown-name", f"no list named `{value.word}`", node.span, help=near(value.word, frame.scope))
    raise error("not-a-list", f"a list is needed here, and this is {v.describe(value)}", node.span)


def _block(node: syntax.Block, frame: Frame, path: str) -> Any:
    if not node.items or not all(isinstance(item, syntax.Named) for item in node.items):
        return v.Text(node, frame, path)
    entries: dict[Any, Any] = {}
    for item in node.items:
        assert isinstance(item, syntax.Named)
        if isinstance(item.key, syntax.Else):
            raise error("misplaced", "`else` belongs to `match`", item.key.span)
        if isinstance(item.key, syntax.Name):
            key: Any = Symbol(item.key.name, item.key.span)
        else:
            key = evaluate(item.key, frame, path)
        if not isinstance(key, Symbol | int | Fraction | str | Expr):
            raise error("bad-key", f"a key is a number or a word, and this is {v.describe(key)}", item.key.span)
        if key in entries:
            raise error("duplicate", f"the key `{v.show(key)}` stands here twice", item.key.span)
        step = key.word if isinstance(key, Symbol) else f"[{v.show(key)}]"
        entries[key] = evaluate(item.value, frame, join(path, step))
    record = v.Record(entries, node.span)
    frame.builder.weigh(record, entries.values(), node.span)
    return record


# --- Operations -------------------------------------------------------------------------------------------------------


def _unary(node: syntax.Unary, frame: Frame, path: str) -> Any:
    if node.operator == "not":
        return expr.negate(condition(node.operand, frame, path))
    return expr.multiply(-1, number(node.operand, frame, path))


_FUNCTION_OF: Mapping[str, str] = {"+": "add", "-": "add", "*": "mul", "/": "div", "^": "pow", "<": "lt", "<=": "le"}
_MIRRORED: Mapping[str, str] = {">": "lt", ">=": "le"}


def _binary(node: syntax.Binary, frame: Frame, path: str) -> Any:
    if node.operator in ("and", "or", "implies"):
        return _logic(node, frame, path)
    if node.operator == "in":
        return _membership(node, frame, path)
    left = evaluate(node.left, frame, path)
    if node.operator == "+" and isinstance(left, tuple) and isinstance(node.right, syntax.List):
        right = _list(node.right, frame, path, left)
    else:
        right = evaluate(node.right, frame, path)
    if node.operator in ("==", "!="):
        same = _equality(left, right, node, frame)
        return same if node.operator == "==" else expr.negate(same)
    if node.operator == "+":
        if isinstance(left, tuple | v.Guarded) and isinstance(right, tuple | v.Guarded):
            return _joined(left, right, node, frame)
        if v.is_operator(left) or v.is_operator(right):
            for value, side in ((left, node.left), (right, node.right)):
                if not v.is_operator(value):
                    raise error(
                        "not-an-operator", f"an operator is needed here, and this is {v.describe(value)}", side.span
                    )
            return v.Sum((left, right), node.span)
    operands = [(left, node.left.span), (right, node.right.span)]
    if node.operator in _MIRRORED:
        return applied(_MIRRORED[node.operator], operands[::-1], node.span, frame)
    if node.operator == "-":
        operands[1] = (expr.multiply(-1, as_number(right, node.right.span, frame)), node.right.span)
    return applied(_FUNCTION_OF[node.operator], operands, node.span, frame)


def _joined(left: Any, right: Any, node: syntax.Binary, frame: Frame) -> Any:
    size = sum(len(side.items if isinstance(side, v.Guarded) else side) for side in (left, right))
    if size > MOST_LISTED:
        raise error("too-large", f"the list has more than {MOST_LISTED:,} items", node.span)
    frame.builder.spend(size // 50, node.span)
    if isinstance(left, tuple) and isinstance(right, tuple):
        joined = left + right
        frame.builder.weigh(joined, joined, node.span)
        return joined
    parts = [
        side.items if isinstance(side, v.Guarded) else tuple((item, True) for item in side) for side in (left, right)
    ]
    return v.Guarded(parts[0] + parts[1])


def _logic(node: syntax.Binary, frame: Frame, path: str) -> Any:
    """The right side counts where the left one leaves the outcome open, and is proven to have a value there."""
    left = condition(node.left, frame, path)
    decided = node.operator == "or"  # by a left side of this truth value
    if left is decided or (node.operator == "implies" and left is False):
        return node.operator != "and"
    right = condition(node.right, frame.granted(expr.negate(left) if decided else left), path)
    if node.operator == "implies":
        return expr.either(expr.negate(left), right)
    return expr.either(left, right) if decided else expr.both(left, right)


def _membership(node: syntax.Binary, frame: Frame, path: str) -> Any:
    left = evaluate(node.left, frame, path)
    if isinstance(left, Symbol) and isinstance(node.right, syntax.Range) and measures.lookup(left.word) is not None:
        left = _total(left.word)
    if expr.measures_of(left) and isinstance(node.right, syntax.Range) and node.right.step is None:  # too long a list
        first, last = number(node.right.first, frame), number(node.right.last, frame)
        return expr.within(first, left, last)
    listed = evaluate(node.right, frame, path)
    if isinstance(listed, v.Guarded):
        return expr.either(*[expr.both(there, _equality(left, item, node, frame)) for item, there in listed.items])
    return expr.either(*[_equality(left, item, node, frame) for item in as_items(listed, node.right, frame)])


def _equality(left: Any, right: Any, node: syntax.Binary, frame: Frame) -> Any:
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Symbol) and isinstance(other, v.Alternatives):
            words = [word for case in other.cases for word in _words(case)]
            if one.word not in words:
                raise error(
                    "unknown-option",
                    f"`{one.word}` is not one of the alternatives",
                    one.span or node.span,
                    help=_options(one.word, words),
                )
            return expr.either(*[case.condition for case in other.cases if one.word in _words(case)])
        if isinstance(one, Symbol) and isinstance(other, v.Invocation):
            return one.word == other.name
        possible = expr.options(other) if isinstance(one, Symbol) and isinstance(other, Expr) else None
        if isinstance(one, Symbol) and possible is not None:
            words = [item.word if isinstance(item, Symbol) else v.show(item) for item in possible]
            if isinstance(other, expr.Case | expr.Slot):
                words = [item.word if isinstance(item, Symbol) else v.show(item) for item in other.values]
            if one.word not in words:
                raise error(
                    "unknown-option",
                    f"`{one.word}` is not one of the values",
                    one.span or node.span,
                    help=_options(one.word, words),
                )
    for value, side in ((left, node.left), (right, node.right)):
        if not (v.is_number(value) or isinstance(value, Expr | Symbol | str | bool | tuple | v.SizeValue)):
            raise error("not-comparable", f"{v.describe(value)} cannot be compared", side.span)
    if isinstance(left, tuple) and isinstance(right, tuple):
        if len(left) != len(right):
            return False
        return expr.both(*[_equality(a, b, node, frame) for a, b in zip(left, right, strict=True)])
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
            return expr.equal(_total(symbol.word), other)
        raise error("unknown-name", f"no value named `{symbol.word}`", side.span, help=near(symbol.word, frame.scope))
    if not expr.kinds_of(left) & expr.kinds_of(right):
        message = f"these are never equal: {v.describe(left)} and {v.describe(right)}"
        raise error("not-comparable", message, node.span)
    return expr.equal(left, right)


def _words(case: v.Alternative) -> tuple[str, ...]:
    """What an alternative goes by: the label that the text gives it, its operator's name."""
    if not isinstance(case.value, v.Invocation):
        return (case.label,)
    return tuple(dict.fromkeys((case.label, case.value.name) if case.labelled else (case.value.name,)))


def _options(word: str, words: list[str]) -> str:
    return near(word, words) or "one of " + ", ".join(f"`{w}`" for w in dict.fromkeys(words))


def _if(node: syntax.If, frame: Frame, path: str) -> Any:
    test = condition(node.condition, frame, path)
    if not isinstance(test, Expr):
        return evaluate(node.then if test else node.otherwise, frame, path)
    then = evaluate(node.then, frame.when(test), path)
    otherwise = evaluate(node.otherwise, frame.when(expr.negate(test)), path)
    return chosen([(test, "then", then), (expr.negate(test), "else", otherwise)], node.span, path)


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
    if frozenset(("number", "truth")) <= frozenset().union(*map(expr.kinds_of, options)):
        raise error("mixed-options", "some of these values are numbers and some are truth values", span)
    result = options[-1]
    for test, _, value in reversed(cases[:-1]):
        result = expr.choose(test, value, result)
    return result


def match_cases(node: syntax.Match, frame: Frame, path: str = "") -> tuple[Any, list[tuple[Any, str, syntax.Expr]]]:
    """What a `match` is of, and its alternatives that can happen: condition, label, expression. Checks that the keys
    cover all, none twice.
    """
    head = evaluate(node.head, frame, path)
    open_conditions: list[Any] = []
    out: list[tuple[Any, str, syntax.Expr]] = []
    seen: dict[Any, Span] = {}
    known = _match_values(head, node, frame)
    for position, item in enumerate(node.cases.items):
        if not isinstance(item, syntax.Named):
            raise error("misplaced", "a `match` holds alternatives `key: value`", item.span)
        if isinstance(item.key, syntax.Else):
            if position + 1 != len(node.cases.items):
                raise error("misplaced", "`else` comes last", item.key.span)
            out.append((expr.negate(expr.either(*open_conditions)), "else", item.value))
            open_conditions.append(True)
            continue
        truth = isinstance(item.key, syntax.Name) and item.key.name in ("true", "false")
        if isinstance(item.key, syntax.Name) and not truth:
            key: Any = Symbol(item.key.name, item.key.span)
        else:
            key = evaluate(item.key, frame)
        if isinstance(item.key, syntax.Name) and (bound := frame.scope.find(item.key.name)) is not None:
            if known is not None and _is_among(key, known) and v.is_number(bound.value):
                raise error(
                    "ambiguous-word", f"`{item.key.name}` is both an alternative and a name in scope", item.key.span
                )
            if known is not None and not _is_among(key, known):
                key = bound.value
        if not (v.is_number(key) or isinstance(key, Symbol | str | bool)):
            message = f"an alternative is a number or a word, and this is {v.describe(key)}"
            raise error("bad-key", message, item.key.span)
        if key in seen:
            raise error("duplicate", f"the alternative `{v.show(key)}` stands here twice", item.key.span)
        seen[key] = item.key.span
        if known is not None and not _is_among(key, known):
            words = [v.show(k) for k in known]
            raise error(
                "unknown-option",
                f"`{v.show(key)}` is not an alternative here",
                item.key.span,
                help=_options(v.show(key), words),
            )
        holds = _match_condition(head, key, node)
        open_conditions.append(holds)
        label = v.show(key) if isinstance(key, Symbol | bool) else f"[{v.show(key)}]"
        out.append((holds, label, item.value))
    listed = known is not None and all(_is_among(value, list(seen)) for value in known)
    covered = expr.either(*open_conditions)
    if not listed and covered is not True:
        missing = [v.show(k) for k in known or () if k not in seen]
        uncovered = Diagnostic(
            "not-covered",
            "the alternatives do not cover every case",
            node.head.span,
            f"`{'`, `'.join(missing)}` missing" if missing else "",
            help="add the missing alternatives, or `else: ...`",
        )
        if known is not None or not isinstance(covered, Expr):
            raise CompileError([uncovered])
        frame.builder.prove(covered, frame, uncovered)
    return head, [case for case in out if case[0] is not False]


def _is_among(key: Any, known: list[Any]) -> bool:
    """Whether a key is one of the values that are known. A truth value is no number."""
    return any(key == value and isinstance(key, bool) == isinstance(value, bool) for value in known)


def _match_values(head: Any, node: syntax.Match, frame: Frame) -> list[Any] | None:
    """The values that the head can take, where they are known."""
    if isinstance(head, expr.Case | expr.Slot):
        return list(dict.fromkeys(head.values))
    if isinstance(head, bool | expr.Among):
        return [False, True]
    if isinstance(head, v.Alternatives):
        return [Symbol(word) for case in head.cases for word in _words(case)]
    if isinstance(head, Symbol):
        found = frame.scope.find(node.head.name) if isinstance(node.head, syntax.Name) else None
        if found is None:
            raise error(
                "unknown-name", f"no value named `{head.word}`", node.head.span, help=near(head.word, frame.scope)
            )
        choices = frame.scope.find(f"{node.head.name} in") if isinstance(node.head, syntax.Name) else None
        return list(choices.value) if choices is not None else None
    if v.is_number(head) or isinstance(head, str | Expr | v.Invocation):
        return None
    raise error(
        "not-comparable", f"`match` takes a decision or a parameter, and this is {v.describe(head)}", node.head.span
    )


def _match_condition(head: Any, key: Any, node: syntax.Match) -> Any:
    if isinstance(head, v.Alternatives):
        return expr.either(
            *[case.condition for case in head.cases if isinstance(key, Symbol) and key.word in _words(case)]
        )
    if isinstance(head, v.Invocation):
        return isinstance(key, Symbol) and key.word == head.name
    if isinstance(key, bool) and isinstance(head, expr.Among | expr.Apply):
        return head if key else expr.negate(head)
    return expr.equal(head, key)


def _match(node: syntax.Match, frame: Frame, path: str) -> Any:
    _, cases = match_cases(node, frame, path)
    if len(cases) == 1:
        return evaluate(cases[0][2], frame, path)
    values = each([partial(evaluate, body, frame.when(test), join(path, label)) for test, label, body in cases])
    return chosen(
        [(test, label, value) for (test, label, _), value in zip(cases, values, strict=True)], node.span, path
    )


def _field(node: syntax.Field, frame: Frame, path: str) -> Any:
    if isinstance(node.base, syntax.Name) and frame.scope.find(node.base.name) is None:
        name = node.base.name
        if name not in frame.scope.operators and name not in frame.scope.fusions:
            raise error(
                "unknown-name",
                f"no operator or value named `{name}`",
                node.base.span,
                "not found",
                help=near(name, [*frame.scope.operators, *frame.scope]),
            )
        found = frame.builder.fields.get((name, node.name.name))
        if found is None:
            known = [field for owner, field in frame.builder.fields if owner == name]
            raise error(
                "unknown-field",
                f"`{name}` has no value named `{node.name.name}` so far",
                node.name.span,
                help=near(node.name.name, known) or "a `let` or `depth` of an operator, after the network that uses it",
            )
        return v.Guarded(tuple(found))
    base = evaluate(node.base, frame, path)
    if isinstance(base, v.Record):
        for key, value in base.entries.items():
            if isinstance(key, Symbol) and key.word == node.name.name:
                return value
        raise error(
            "unknown-field",
            f"the record has no entry `{node.name.name}`",
            node.name.span,
            help=near(node.name.name, [v.show(k) for k in base.entries])
            or "it has " + ", ".join(f"`{v.show(k)}`" for k in base.entries),
        )
    raise error("no-fields", f"{v.describe(base)} has no parts", node.base.span)


def _index(node: syntax.Index, frame: Frame, path: str) -> Any:
    base = evaluate(node.base, frame, path)
    key = evaluate(node.index, frame, path)
    if isinstance(base, v.Guarded):
        if any(there is not True for _, there in base.items):
            return _placed(base, key, node, frame)
        base = tuple(item for item, _ in base.items)
    if isinstance(base, tuple):
        table: dict[Any, Any] = dict(enumerate(base))
        if isinstance(key, Expr):
            table.update({i - len(base): item for i, item in enumerate(base)})
        shown = f"0..{len(base) - 1}"
    elif isinstance(base, v.Record):
        table = dict(base.entries)
        shown = ", ".join(v.show(k) for k in table)
    else:
        raise error("no-items", f"{v.describe(base)} has no items", node.base.span)
    if isinstance(key, Expr):
        return _looked_up(table, key, shown, node, frame)
    if isinstance(key, int) and key < 0 and isinstance(base, tuple):
        key += len(base)
    if key not in table:
        raise error("no-such-item", f"there is no item `{v.show(key)}`", node.index.span, help=f"there are {shown}")
    return table[key]


def _placed(base: v.Guarded, key: Any, node: syntax.Index, frame: Frame) -> Any:
    """The item at a place among those that are there."""
    cases = [(test, "item", item) for item, test in at_place(base.items, key) if test is not False]
    diagnostic = Diagnostic("no-such-item", "for some choices there is no such item", node.index.span)
    if not frame.builder.prove(expr.either(*[test for test, _, _ in cases]), frame, diagnostic):
        raise CompileError([])
    if not cases:
        raise CompileError([diagnostic])
    return chosen(cases, node.span, frame.decisions)


def _looked_up(table: dict[Any, Any], key: Expr, shown: str, node: syntax.Index, frame: Frame) -> Any:
    possible = expr.options(key)
    if possible is None or not possible <= table.keys():
        found = expr.either(*[expr.equal(key, k) for k in table])
        diagnostic = error(
            "no-such-item", "for some choices there is no such item", node.index.span, help=f"there are {shown}"
        ).diagnostics[0]
        if not frame.builder.prove(found, frame, diagnostic):
            raise CompileError([])
    if possible is not None:  # each of which is there, as is proven
        table = {k: value for k, value in table.items() if k in possible}
    if any(not (v.is_number(value) or isinstance(value, Expr | Symbol | str | bool)) for value in table.values()):
        cases = [(expr.equal(key, k), v.show(k), value) for k, value in table.items()]
        return cases[0][2] if len(cases) == 1 else chosen(cases, node.span, frame.decisions)
    if not any(isinstance(value, Expr) for value in table.values()):
        return expr.apply("lookup", tuple(table.items()), key)
    keys = list(table)
    result = table[keys[-1]]
    for k in reversed(keys[:-1]):
        result = expr.choose(expr.equal(key, k), table[k], result)
    return result


def _pipe(node: syntax.Pipe, frame: Frame, path: str) -> v.Sequence:
    return v.Sequence(tuple(each([partial(_operator_value, step, frame, path) for step in node.steps])), node.span)


def _operator_value(node: syntax.Expr, frame: Frame, path: str) -> Any:
    value = evaluate(node, frame, path)
    if v.is_operator(value) or isinstance(value, v.Tensor | v.Branches):
        return value
    raise error("not-an-operator", f"an operator is needed here, and this is {v.describe(value)}", node.span)


def _text(node: syntax.Expr, frame: Frame, path: str) -> v.Text:
    return v.Text(node, frame, path)


# --- Calls ------------------------------------------------------------------------------------------------------------


def _call(node: syntax.Call, frame: Frame, path: str) -> Any:
    name = node.function.name
    bound = frame.scope.find(name)
    if bound is not None and isinstance(bound.value, v.Function):
        return _call_function(bound.value, node, frame, path)
    operator = frame.scope.operators.get(name) or library.find(name, frame)
    if operator is not None:
        preset = frame.builder.defaults if library.inside(operator.span) else NOTHING
        arguments, spans = bind_formals(
            operator.formals, node, frame, path, evaluate, f"`{name}`", operator.frame, preset=preset
        )
        shared = _shares_weights(operator, arguments, spans)
        return v.Invocation(operator, arguments, path, node.span, None, frame, spans, shared=shared)
    if name in frame.functions and not (
        name in FORMS and all(isinstance(a, syntax.Named) for a in node.arguments or ())
    ):
        return frame.functions[name](node, frame, path)
    if name in FORMS:
        return _form(FORMS[name], node, frame, path)
    if name in frame.scope.fusions:
        raise error(
            "fusion-as-operator", f"`{name}` is a fusion rule", node.function.span, help=f"write `fuse({name})`"
        )
    if frame.settings:
        return _setting(node, frame, path)
    known = ops.find(name)
    if known is not None:
        arguments, spans = bind_arguments(known, node, frame, path, evaluate)
        return v.Invocation(known, arguments, path, node.span, node.body, frame, spans)
    if bound is not None:
        raise error(
            "not-callable",
            f"`{name}` is {v.describe(bound.value)} and takes no arguments",
            node.span,
            help=f"write `{name}` alone",
        )
    candidates = [
        *frame.scope.operators,
        *frame.functions,
        *FORMS,
        *ops.CATALOGUE,
        *library.OPERATORS,
        *(n for n in frame.scope if isinstance(_value(frame, n), v.Function)),
    ]
    raise error(
        "unknown-operator",
        f"no operator or function named `{name}`",
        node.function.span,
        "not found",
        help=near_operator(name, candidates),
    )


def _shares_weights(operator: v.UserOperator, arguments: dict[str, Any], spans: dict[str, Span]) -> bool:
    """Takes `share:` out of the arguments of an operator that has no parameter of that name."""
    if "share" not in arguments or any(formal.name.name == "share" for formal in operator.formals):
        return False
    given = arguments.pop("share")
    if v.is_none(given) or given == Symbol("none"):
        return False
    if given != Symbol("weights"):
        raise error(
            "bad-argument",
            f"all of `{operator.name}` shares its weights with its other copies, or none of it",
            spans["share"],
            help="write `share: weights`, or nothing",
        )
    return True


def _value(frame: Frame, name: str) -> Any:
    found = frame.scope.find(name)
    return None if found is None else found.value


def _call_function(function: v.Function, node: syntax.Call, frame: Frame, path: str) -> Any:
    if node.body is not None:
        raise error("misplaced", "a function takes no body in braces", node.body.span)
    if frame.depth > DEEPEST_CALLS:
        raise error("recursion", f"the function `{function.name}` calls itself without end", node.function.span)
    arguments, spans = bind_formals(
        function.formals, node, frame, path, evaluate, f"`{function.name}`", function.frame, positional=True
    )
    inner = function.frame.but(
        scope=Scope(function.frame.scope),
        decisions=frame.decisions,
        present=frame.present,
        given=frame.given,
        uses=frame.uses,
        incoming=frame.incoming,
        labels=frame.labels,
        depth=frame.depth + 1,
    )
    for name, value in arguments.items():
        inner.scope.bind(name, value, spans.get(name))
    try:
        return evaluate(function.body, inner, path)
    except RecursionError:
        raise error("recursion", f"the function `{function.name}` calls itself without end", node.span) from None


def _form(form: v.Form, node: syntax.Call, frame: Frame, path: str) -> v.Invocation:
    arguments: dict[str, Any] = {}
    spans: dict[str, Span] = {}
    rest: list[Any] = []
    for position, item in enumerate(node.arguments or ()):
        if isinstance(item, syntax.Let | syntax.Require):
            raise error("misplaced", "an argument is a value", item.span)
        if isinstance(item, syntax.Named):
            if not isinstance(item.key, syntax.Name) or item.key.name not in form.params:
                word = item.key.span.text
                raise error(
                    "unknown-argument",
                    f"`{form.name}` takes no argument `{word}`",
                    item.key.span,
                    help=near(word, form.params),
                )
            key, value_node = item.key.name, item.value
        elif "*" in form.params:
            rest.append(evaluate(item, frame, path))
            continue
        elif position == 0 and form.params:
            key, value_node = form.params[0], item
        elif isinstance(item, syntax.Name) and item.name in form.params:
            key, value_node = item.name, item
        else:
            raise error(
                "unnamed-argument",
                "only the first argument may stand without a name",
                item.span,
                help=f"`{form.name}` takes {', '.join(form.params)}",
            )
        if key in arguments:
            raise error("duplicate", f"the argument `{key}` stands here twice", item.span)
        spans[key] = value_node.span
        if form.name == "fuse" and key == "rule":
            arguments[key] = _fusion(value_node, frame, path)
        elif form.name == "fuse" and key == "from" and isinstance(value_node, syntax.Name) and value_node.name == "all":
            arguments[key] = Symbol("all")
        else:
            arguments[key] = evaluate(value_node, frame, join(path, key))
    if rest:
        arguments["*"] = tuple(rest)
    if node.body is not None and not form.takes_block:
        raise error("misplaced", f"`{form.name}` takes no body in braces", node.body.span)
    if form.takes_block and node.body is None and "operator" not in arguments:
        raise error("missing-body", f"`{form.name}` needs a body", node.span, help=f"write `{form.name} {{ ... }}`")
    if form.name == "fuse" and "rule" not in arguments:
        raise error(
            "missing-argument",
            "`fuse` needs a fusion rule",
            node.span,
            help="write `fuse(name)` with the name of a `fusion`",
        )
    return v.Invocation(form, arguments, path, node.span, node.body, frame, spans)


def _fusion(node: syntax.Expr, frame: Frame, path: str) -> v.UserFusion:
    if isinstance(node, syntax.Call) and node.function.name in frame.scope.fusions:
        rule = frame.scope.fusions[node.function.name]
        arguments, spans = bind_formals(rule.formals, node, frame, path, evaluate, f"`{rule.name}`", rule.frame)
        scope = Scope(rule.frame.scope)
        for name, value in arguments.items():
            scope.bind(name, value, spans.get(name))
        return replace(rule, frame=rule.frame.but(scope=scope))
    if isinstance(node, syntax.Name):
        found = frame.scope.fusions.get(node.name)
        if found is not None:
            if any(formal.default is None for formal in found.formals):
                raise error(
                    "missing-argument",
                    f"`{found.name}` needs arguments",
                    node.span,
                    help=f"write `fuse({found.name}(...))`",
                )
            bare = syntax.Call(node, (), None, span=node.span)
            return _fusion(bare, frame, path) if found.formals else found
        raise error(
            "unknown-fusion",
            f"no fusion named `{node.name}`",
            node.span,
            "not found",
            help=near(node.name, frame.scope.fusions),
        )
    raise error("unknown-fusion", "the name of a fusion is needed here", node.span)


def _setting(node: syntax.Call, frame: Frame, path: str) -> v.Setting:
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for item in node.arguments or ():
        if isinstance(item, syntax.Named) and isinstance(item.key, syntax.Name):
            named[item.key.name] = evaluate(item.value, frame, path)
        elif isinstance(item, syntax.Named | syntax.Let | syntax.Require):
            raise error("misplaced", "an argument is a value", item.span)
        else:
            positional.append(evaluate(item, frame, path))
    return v.Setting(node.function.name, tuple(positional), named, node.span)


_EVALUATE: dict[type, Callable[[Any, Frame, str], Any]] = {
    syntax.Number: _number,
    syntax.String: _string,
    syntax.Name: _name,
    syntax.Incoming: _incoming,
    syntax.List: _list,
    syntax.Range: _range,
    syntax.Size: _size,
    syntax.Comprehension: _comprehension,
    syntax.Block: _block,
    syntax.Unary: _unary,
    syntax.Binary: _binary,
    syntax.If: _if,
    syntax.Match: _match,
    syntax.Field: _field,
    syntax.Index: _index,
    syntax.Pipe: _pipe,
    syntax.Repeat: _text,
    syntax.For: _text,
    syntax.Call: _call,
}

__all__ = ["CompileError", "condition", "evaluate", "integer", "items_of", "match_cases", "number"]
