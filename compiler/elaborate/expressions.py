"""Expressions become values. Decisions met on the way are made here, under the path that the place gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

from nasdsl.compiler import bound, measures
from nasdsl.compiler.bind.arguments import twice
from nasdsl.compiler.bind.habits import near
from nasdsl.compiler.bind.messages import no_value, not_covered, unknown_option
from nasdsl.compiler.diagnostics import CompileError, Diagnostic, error
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.ambient import ambient
from nasdsl.compiler.elaborate.calling import again, evaluation, invocation, rule, setting
from nasdsl.compiler.elaborate.frame import Broken, Frame, each, join
from nasdsl.compiler.elaborate.operations import (
    MOST_LISTED,
    applied,
    as_items,
    as_number,
    chosen,
    constant,
    equality,
    guarded_items,
    is_among,
    joined,
    looked_up,
    match_condition,
    of_kind,
    open_range,
    placed,
    total,
    words_of,
)
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.plain import Symbol
from nasdsl.compiler.values.tree import Among, Case, Expr, Slot, measures_of

MOST_ITEMS = 1_000_000  # of anything that is counted, such as search units
MOST_SIDE = 1 << 20  # of a part of a size


def evaluate(node: bound.Expr, frame: Frame, path: str = "") -> Any:
    """The value of an expression.

    Args:
        path: of decisions made directly in this expression; the frame's own where it is left out.

    Raises:
        CompileError: the expression has no meaning here.
    """
    frame.builder.spend(1, node.span)
    return _EVALUATE[type(node)](node, frame, path or frame.decisions)


def number(node: bound.Expr, frame: Frame, path: str = "") -> Any:
    """The value of an expression that has to be a number."""
    return as_number(evaluate(node, frame, path), node.span, frame)


def integer(node: bound.Expr, frame: Frame, what: str, least: int = 0) -> int:
    value = constant(number(node, frame), node.span, what)
    if not isinstance(value, int) or value < least:
        raise error(
            "not-an-integer", f"{what} must be a whole number of at least {least}", node.span, f"is {v.show(value)}"
        )
    if value > MOST_ITEMS:
        raise error("too-large", f"{what} is too large", node.span, f"is {value}; at most {MOST_ITEMS:,}")
    return value


def condition(node: bound.Expr, frame: Frame, path: str = "") -> Any:
    value = evaluate(node, frame, path)
    if isinstance(value, Symbol):
        raise CompileError([no_value(value.word, node.span, frame.scope, "not a condition")])
    return of_kind(value, "truth", node.span, frame, "not-a-condition")


# --- Atoms ------------------------------------------------------------------------------------------------------------


def _bad(node: bound.Bad, frame: Frame, path: str) -> Any:
    raise CompileError([])  # it has been told


def _constant(node: bound.Constant, frame: Frame, path: str) -> Any:
    return node.value


def _quantity(node: bound.Quantity, frame: Frame, path: str) -> v.Quantity:
    return v.Quantity(node.value, node.unit)


def _name(node: bound.Name, frame: Frame, path: str) -> Any:
    found = frame.scope.find(node.name)
    if found is not None:
        if found.value is Broken:
            raise CompileError([])
        return found.value
    if node.name in frame.labels.named:
        return frame.labels.named[node.name]
    if node.name in frame.labels.absent:
        return None
    # it has no value so far
    return Symbol(node.name, node.span) if node.otherwise is None else evaluate(node.otherwise, frame, path)


def _list(node: bound.List, frame: Frame, path: str, before: tuple[Any, ...] = ()) -> Any:
    """A list; its items go by their place behind those `before`, to which it is joined."""
    out = [evaluate(item, frame, join(path, f"[{len(before) + i}]")) for i, item in enumerate(node.items)]
    frame.builder.note_list(path, (*before, *out))
    items: list[tuple[Any, Any]] = []
    for item, value in zip(node.items, out, strict=True):
        if not isinstance(item, bound.Range):
            items.append((value, True))
        else:
            items.extend(value.items if isinstance(value, v.Guarded) else [(one, True) for one in value])
    made = v.listed([value for value, _ in items], node.span)
    return made if all(there is True for _, there in items) else v.Guarded(tuple(items))


def _range(node: bound.Range, frame: Frame, path: str) -> Any:
    first, last = number(node.first, frame, join(path, "first")), number(node.last, frame, join(path, "last"))
    if node.step is None and (isinstance(first, Case) or isinstance(last, Case)):
        return open_range(first, last, node, frame)
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


def _size(node: bound.Size, frame: Frame, path: str) -> v.SizeValue:
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


def _comprehension(node: bound.Comprehension, frame: Frame, path: str) -> Any:
    """A list with a value for each item of the lists. What choices leave out of those has no value either."""
    rows: list[tuple[Frame, Any]] = [(frame, True)]
    for bind in node.binds:
        grown: list[tuple[Frame, Any]] = []
        for row, there in rows:
            for item, condition in guarded_items(evaluate(bind.source, row, path), bind.source, row):
                inner = row.nested() if condition is True else row.nested().when(condition)
                inner.scope.bind(bind.name, item, bind.span)
                grown.append((inner, expr.both(there, condition)))
                if len(grown) > MOST_LISTED:
                    raise error("too-large", f"the comprehension has more than {MOST_LISTED:,} items", node.span)
        rows = grown
    values = each([partial(evaluate, node.body, row, join(path, f"[{i}]")) for i, (row, _) in enumerate(rows)])
    made = v.listed(values, node.span)
    frame.builder.note_list(path, made)
    if all(there is True for _, there in rows):
        return made
    return v.Guarded(tuple((item, there) for item, (_, there) in zip(made, rows, strict=True)))


def items_of(node: bound.Expr, frame: Frame, path: str = "") -> tuple[Any, ...]:
    """The items of an expression that has to be a list (or a record: its keys)."""
    return as_items(evaluate(node, frame, path), node, frame)


def _record(node: bound.Record, frame: Frame, path: str) -> v.Record:
    entries: dict[Any, Any] = {}
    for key_node, value_node in node.entries:
        key = evaluate(key_node, frame, path)
        if not isinstance(key, Symbol | int | Fraction | str | Expr):
            raise error("bad-key", f"a key is a number or a word, and this is {v.describe(key)}", key_node.span)
        if key in entries:
            raise CompileError([twice(f"the key `{v.show(key)}`", key_node.span)])
        step = key.word if isinstance(key, Symbol) else f"[{v.show(key)}]"
        entries[key] = evaluate(value_node, frame, join(path, step))
    return v.Record(entries, node.span, v.weighed(entries.values(), node.span))


# --- Operations -------------------------------------------------------------------------------------------------------


def _unary(node: bound.Unary, frame: Frame, path: str) -> Any:
    if node.operator == "not":
        return expr.negate(condition(node.operand, frame, path))
    return expr.multiply(-1, number(node.operand, frame, path))


_FUNCTION_OF: Mapping[str, str] = {"+": "add", "-": "add", "*": "mul", "/": "div", "^": "pow", "<": "lt", "<=": "le"}
_MIRRORED: Mapping[str, str] = {">": "lt", ">=": "le"}


def _binary(node: bound.Binary, frame: Frame, path: str) -> Any:
    if node.operator in ("and", "or", "implies"):
        return _logic(node, frame, path)
    if node.operator == "in":
        return _membership(node, frame, path)
    left = evaluate(node.left, frame, path)
    if node.operator == "+" and isinstance(left, tuple) and isinstance(node.right, bound.List):
        right = _list(node.right, frame, path, left)
    else:
        right = evaluate(node.right, frame, path)
    if node.operator in ("==", "!="):
        same = equality(left, right, node, frame)
        return same if node.operator == "==" else expr.negate(same)
    if node.operator == "+":
        if isinstance(left, tuple | v.Guarded) and isinstance(right, tuple | v.Guarded):
            return joined(left, right, node, frame)
        if v.is_operator(left) or v.is_operator(right):
            for value, side in ((left, node.left), (right, node.right)):
                if not v.is_operator(value):
                    raise v.not_an_operator(value, side.span)
            return v.Sum((left, right), node.span)
    operands = [(left, node.left.span), (right, node.right.span)]
    if node.operator in _MIRRORED:
        return applied(_MIRRORED[node.operator], operands[::-1], node.span, frame)
    if node.operator == "-":
        operands[1] = (expr.multiply(-1, as_number(right, node.right.span, frame)), node.right.span)
    return applied(_FUNCTION_OF[node.operator], operands, node.span, frame)


def _logic(node: bound.Binary, frame: Frame, path: str) -> Any:
    """The right side counts where the left one leaves the outcome open, and is proven to have a value there."""
    left = condition(node.left, frame, path)
    decided = node.operator == "or"  # by a left side of this truth value
    if left is decided or (node.operator == "implies" and left is False):
        return node.operator != "and"
    right = condition(node.right, frame.granted(expr.negate(left) if decided else left), path)
    if node.operator == "implies":
        return expr.either(expr.negate(left), right)
    return expr.either(left, right) if decided else expr.both(left, right)


def _membership(node: bound.Binary, frame: Frame, path: str) -> Any:
    left = evaluate(node.left, frame, path)
    if isinstance(left, Symbol) and isinstance(node.right, bound.Range) and measures.lookup(left.word) is not None:
        left = total(left.word)
    if measures_of(left) and isinstance(node.right, bound.Range) and node.right.step is None:  # too long a list
        first, last = number(node.right.first, frame), number(node.right.last, frame)
        return expr.within(first, left, last)
    listed = evaluate(node.right, frame, path)
    if isinstance(listed, v.Guarded):
        return expr.either(*[expr.both(there, equality(left, item, node, frame)) for item, there in listed.items])
    return expr.either(*[equality(left, item, node, frame) for item in as_items(listed, node.right, frame)])


def _if(node: bound.If, frame: Frame, path: str) -> Any:
    test = condition(node.condition, frame, path)
    if not isinstance(test, Expr):
        return evaluate(node.then if test else node.otherwise, frame, path)
    then = evaluate(node.then, frame.when(test), path)
    otherwise = evaluate(node.otherwise, frame.when(expr.negate(test)), path)
    return chosen([(test, "then", then), (expr.negate(test), "else", otherwise)], node.span, path)


def match_cases(node: bound.Match, frame: Frame, path: str = "") -> tuple[Any, list[tuple[Any, str, bound.Expr]]]:
    """What a `match` is of, and its alternatives that can happen: condition, label, expression. Checks that the keys
    cover all, none twice.
    """
    head = evaluate(node.head, frame, path)
    open_conditions: list[Any] = []
    out: list[tuple[Any, str, bound.Expr]] = []
    seen: set[Any] = set()
    known = _match_values(head, node, frame)
    for case in node.cases:
        if case.key is None:
            out.append((expr.negate(expr.either(*open_conditions)), "else", case.value))
            open_conditions.append(True)
            continue
        key = _match_key(case, known, frame)
        if key in seen:
            raise CompileError([twice(f"the alternative `{v.show(key)}`", case.span)])
        seen.add(key)
        holds = match_condition(head, key, node)
        open_conditions.append(holds)
        label = v.show(key) if isinstance(key, Symbol | bool) else f"[{v.show(key)}]"
        out.append((holds, label, case.value))
    listed = known is not None and all(is_among(value, seen) for value in known)
    covered = expr.either(*open_conditions)
    if not listed and covered is not True:
        uncovered = not_covered(node.head.span, [v.show(k) for k in known or () if k not in seen])
        if known is not None or not isinstance(covered, Expr):
            raise CompileError([uncovered])
        frame.builder.prove(covered, frame, uncovered)
    return head, [case for case in out if case[0] is not False]


def _match_key(case: bound.Case, known: list[Any] | None, frame: Frame) -> Any:
    """The key of an alternative: a word of what it is matched with, else the value of the name."""
    assert case.key is not None
    key, place = evaluate(case.key, frame), case.span
    binding = frame.scope.find(case.word) if case.word and known is not None else None
    if binding is not None and known is not None:
        if not is_among(key, known):
            key = binding.value
        elif v.is_number(binding.value):
            raise error("ambiguous-word", f"`{case.word}` is both an alternative and a name in scope", place)
    if not (v.is_number(key) or isinstance(key, Symbol | str | bool)):
        raise error("bad-key", f"an alternative is a number or a word, and this is {v.describe(key)}", place)
    if known is not None and not is_among(key, known):
        words = [v.show(k) for k in known]
        raise CompileError([unknown_option(v.show(key), place, words, "an alternative here")])
    return key


def _match_values(head: Any, node: bound.Match, frame: Frame) -> list[Any] | None:
    """The values that the head can take, where they are known."""
    if isinstance(head, Case | Slot):
        return list(dict.fromkeys(head.values))
    if isinstance(head, bool | Among):
        return [False, True]
    if isinstance(head, v.Alternatives):
        return [Symbol(word) for case in head.cases for word in words_of(case)]
    if isinstance(head, Symbol):
        found = frame.scope.find(node.head.name) if isinstance(node.head, bound.Name) else None
        if found is None:
            raise CompileError([no_value(head.word, node.head.span, frame.scope)])
        choices = frame.scope.find(f"{node.head.name} in") if isinstance(node.head, bound.Name) else None
        return list(choices.value) if choices is not None else None
    if v.is_number(head) or isinstance(head, str | Expr | v.Invocation):
        return None
    raise error(
        "not-comparable", f"`match` takes a decision or a parameter, and this is {v.describe(head)}", node.head.span
    )


def _match(node: bound.Match, frame: Frame, path: str) -> Any:
    _, cases = match_cases(node, frame, path)
    if len(cases) == 1:
        return evaluate(cases[0][2], frame, path)
    values = each([partial(evaluate, body, frame.when(test), join(path, label)) for test, label, body in cases])
    return chosen(
        [(test, label, value) for (test, label, _), value in zip(cases, values, strict=True)], node.span, path
    )


def _field(node: bound.Field, frame: Frame, path: str) -> Any:
    if node.owner and (not isinstance(node.base, bound.Name) or frame.scope.find(node.base.name) is None):
        found = frame.builder.fields.get((node.owner, node.name))
        if found is None:
            known = [field for owner, field in frame.builder.fields if owner == node.owner]
            raise error(
                "unknown-field",
                f"`{node.owner}` has no value named `{node.name}` so far",
                node.place,
                help=near(node.name, known) or "a `let` or `depth` of an operator, after the network that uses it",
            )
        return v.Guarded(tuple(found))
    base = evaluate(node.base, frame, path)
    if isinstance(base, v.Record):
        for key, value in base.entries.items():
            if isinstance(key, Symbol) and key.word == node.name:
                return value
        words = [v.show(key) for key in base.entries]
        help = near(node.name, words) or "it has " + ", ".join(f"`{word}`" for word in words)
        raise error("unknown-field", f"the record has no entry `{node.name}`", node.place, help=help)
    if isinstance(base, v.Tensor):
        if base.lost:
            raise CompileError([])
        if node.name in _OF_TENSORS:
            return getattr(base.shape, _OF_TENSORS[node.name])
        help = near(node.name, _OF_TENSORS) or "it has `width` and `scale`"
        raise error("unknown-field", f"a tensor has no `{node.name}`", node.place, help=help)
    help = ""
    if isinstance(base, tuple | v.Guarded):
        word = " ".join(node.base.span.text.split())
        help = f"its items may have: `{word}[0].{node.name}`, or `[for x in {word}: x.{node.name}]`"
    raise error("no-fields", f"{v.describe(base)} has no parts", node.base.span, help=help)


_OF_TENSORS = {"width": "channels", "scale": "scale"}
"""What `tensor.name` asks for."""


def _index(node: bound.Index, frame: Frame, path: str) -> Any:
    base = evaluate(node.base, frame, path)
    key = evaluate(node.index, frame, path)
    if isinstance(base, v.Branches):
        base = v.Guarded(tuple(guarded_items(base, node.base, frame)))
    if isinstance(base, v.Guarded):
        if any(there is not True for _, there in base.items):
            return placed(base, key, node, frame)
        base = tuple(item for item, _ in base.items)
    if isinstance(base, tuple):
        table: dict[Any, Any] = dict(enumerate(base))
        if isinstance(key, Expr):
            table.update({i - len(base): item for i, item in enumerate(base)})
        shown = (
            f"there are 0..{len(base) - 1}" if len(base) > 1 else "there is only `0`" if base else "the list is empty"
        )
    elif isinstance(base, v.Record):
        table = dict(base.entries)
        shown = f"there are {', '.join(v.show(k) for k in table)}"
    else:
        raise error("no-items", f"{v.describe(base)} has no items", node.base.span)
    if isinstance(key, Expr):
        return looked_up(table, key, shown, node, frame)
    if isinstance(key, int) and key < 0 and isinstance(base, tuple):
        key += len(base)
    if key not in table:
        raise error("no-such-item", f"there is no item `{v.show(key)}`", node.index.span, help=shown)
    return table[key]


def _pipe(node: bound.Pipe, frame: Frame, path: str) -> v.Sequence:
    return v.Sequence(tuple(each([partial(_operator_value, step, frame, path) for step in node.steps])), node.span)


def _operator_value(node: bound.Expr, frame: Frame, path: str) -> Any:
    value = evaluate(node, frame, path)
    if v.is_operator(value) or isinstance(value, v.Tensor | v.Branches) or v.as_branches(value) is not None:
        return value
    raise v.not_an_operator(value, node.span)


def _text(node: bound.Expr, frame: Frame, path: str) -> v.Text:
    return v.Text(node, frame, path)


def _apply(node: bound.Apply, frame: Frame, path: str) -> Any:
    return node.function.run(node, frame, path)


_EVALUATE: dict[type, Callable[[Any, Frame, str], Any]] = {
    bound.Bad: _bad,
    bound.Constant: _constant,
    bound.Quantity: _quantity,
    bound.Name: _name,
    bound.Ambient: ambient,
    bound.List: _list,
    bound.Range: _range,
    bound.Size: _size,
    bound.Comprehension: _comprehension,
    bound.Record: _record,
    bound.Unary: _unary,
    bound.Binary: _binary,
    bound.If: _if,
    bound.Match: _match,
    bound.Field: _field,
    bound.Index: _index,
    bound.Pipe: _pipe,
    bound.Body: _text,
    bound.Repeat: _text,
    bound.For: _text,
    bound.Apply: _apply,
    bound.Evaluation: lambda node, frame, path: evaluation(node, frame, path, evaluate),
    bound.Invocation: lambda node, frame, path: invocation(node, frame, path, evaluate),
    bound.Again: lambda node, frame, path: again(node, frame, path, evaluate),
    bound.Rule: lambda node, frame, path: rule(node, frame, path, evaluate),
    bound.Setting: lambda node, frame, path: setting(node, frame, path, evaluate),
}
