"""The functions of the language: the five that make decisions, and those of numbers and lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasdsl.compiler import syntax
from nasdsl.compiler.decision import Units
from nasdsl.compiler.diagnostics import CompileError, Diagnostic, error
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.expressions import (
    applied,
    as_items,
    as_number,
    chosen,
    evaluate,
    integer,
    items_of,
    of_kind,
)
from nasdsl.compiler.elaborate.frame import Frame, Made, join
from nasdsl.compiler.elaborate.places import folded, taken
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Among, Expr, Has, Slot, decisions_of
from nasdsl.compiler.values.function import FUNCTIONS as TABLE
from nasdsl.compiler.values.function import Call
from nasdsl.compiler.values.plain import Symbol

MOST_OPTIONS = 4_096

Items = list[tuple[str, Any, syntax.Expr]]


@dataclass(frozen=True)
class Option:
    """Which of the builder's decisions and obligations came with an option of a `oneof`: as numbers, ends excluded."""

    number: int
    made: int
    made_end: int
    owed: int
    owed_end: int


SIGNATURES: Mapping[str, Call] = {
    "units": Call(1, 1, "units(4 * in)"),
    "manyof": Call(2, 2, "manyof(2, earlier)"),
    "permute": Call(1, 1, "permute([3, 4, 5])"),
    "sum": Call(1, 1, "sum(segment.depth)"),
    "count": Call(1, 1, "count(segment.double)"),
    "length": Call(1, 1, "length(list)"),
    "take": Call(2, 2, "take(list, 2)"),
    "last": Call(2, 2, "last(list, 2)"),
}


def calling(name: str) -> Call | None:
    """How a file calls a function: of those whose arguments have no names."""
    return TABLE[name].call if name in TABLE else SIGNATURES.get(name)


def check_call(node: syntax.Call) -> Iterator[Diagnostic]:
    """The mistakes in a call of one of these functions that show without the values of its arguments."""
    name = node.function.name
    if node.body is not None:
        yield Diagnostic("misplaced", f"`{name}` takes no body in braces", node.body.span)
    signature = calling(name)
    if signature is None:
        return
    given, usage = node.arguments or (), f"write `{signature.example}`"
    for item in given:
        if isinstance(item, syntax.Named):
            yield Diagnostic("bad-argument", f"the arguments of `{name}` have no names", item.key.span, help=usage)
        elif isinstance(item, syntax.Let | syntax.Require):
            yield Diagnostic("misplaced", "an argument is a value", item.span)
    least, most = signature.least, signature.most
    if not least <= len(given) <= most:
        needs = str(least) if least == most else f"at least {least}"
        here = "here is none" if not given else f"here {'is' if len(given) == 1 else 'are'} {len(given)}"
        message = f"`{name}` takes {needs} argument{'s' if most == least > 1 else ''}, and {here}"
        yield Diagnostic("wrong-count", message, node.span, help=usage)


def numbers_of(node: syntax.Call) -> Sequence[syntax.Item]:
    """The arguments of a call of one of these functions that have to be numbers."""
    name, given = node.function.name, node.arguments or ()
    if name in TABLE:
        call = TABLE[name].call
        listed = call is not None and call.of_items and len(given) == 1
        return () if listed or TABLE[name].takes != ("number",) else given
    if name in ("take", "last"):
        return given[1:] if len(given) == 2 else ()
    return given[:1] if name in ("units", "manyof") else ()


def _arguments(node: syntax.Call) -> list[syntax.Expr]:
    """The bare arguments of a function."""
    problems = list(check_call(node))
    if problems:
        raise CompileError(problems)
    return list(node.arguments or ())  # type: ignore[arg-type]


# --- Decisions --------------------------------------------------------------------------------------------------------


def _oneof(node: syntax.Call, frame: Frame, path: str) -> Any:
    inner: list[Option] = []
    items = _options(node, frame, path, inner)
    if not items:
        raise error("empty-choice", "`oneof` offers nothing to choose from", node.span)
    if len(items) > MOST_OPTIONS:
        raise error(
            "too-large", f"`oneof` offers more than {MOST_OPTIONS:,} options", node.span, f"here are {len(items):,}"
        )
    seen: set[Any] = set()
    for i, (_, value, place) in enumerate(items):
        parts = value.parts if isinstance(value, v.SizeValue) else value if isinstance(value, tuple) else (value,)
        if any(isinstance(part, Expr) for part in parts):
            raise error(
                "not-constant",
                "a list to choose from must not depend on another decision",
                place.span,
                help="say what depends with `match` or `require`",
            )
        key = _key(value, i)
        if key in seen:
            raise error("duplicate-option", f"`{v.show(value)}` stands here twice", place.span)
        seen.add(key)
    labels = _labels(items)
    values = [value for _, value, _ in items]
    if len(items) == 1:
        return values[0]
    operators = any(v.is_operator(value) and not isinstance(value, Symbol) for value in values)
    kept = tuple(labels) if operators else tuple(values)
    decision = frame.builder.decide(path, "choice", kept, tuple(labels), 0, frame, node.span)
    n = len(items)
    for option in inner:
        taken = Among(decision.path, n, frozenset((option.number,)))
        frame.builder.only_when(frame.builder.made[option.made : option.made_end], taken)
        for obligation in frame.builder.obligations[option.owed : option.owed_end]:
            obligation.condition = expr.either(expr.negate(taken), obligation.condition)
    if operators:
        for _, value, place in items:
            if not v.is_operator(value):
                raise error("mixed-options", f"some options are operators, and this is {v.describe(value)}", place.span)
        cases = tuple(
            v.Alternative(Among(decision.path, n, frozenset((i,))), label, value, labelled=items[i][0] != "")
            for i, (label, value) in enumerate(zip(labels, values, strict=True))
        )
        return v.Alternatives(cases, node.span, path)
    return _table(decision.path, values, items)


def _table(path: str, values: list[Any], items: Items) -> Any:
    if all(isinstance(value, v.SizeValue) for value in values) and len({len(value.parts) for value in values}) == 1:
        return v.SizeValue(
            tuple(expr.case(path, tuple(value.parts[i] for value in values)) for i in range(len(values[0].parts)))
        )
    if all(isinstance(value, tuple) for value in values) and len({len(value) for value in values}) == 1:
        return tuple(_table(path, [value[i] for value in values], items) for i in range(len(values[0])))
    for value, (_, _, place) in zip(values, items, strict=True):
        if not (v.is_number(value) or isinstance(value, Symbol | str | bool)):
            raise error("mixed-options", f"`oneof` cannot choose among these: one is {v.describe(value)}", place.span)
        if v.is_number(value) != v.is_number(values[0]):
            raise error("mixed-options", "some options are numbers and some are not", place.span)
    return expr.case(path, tuple(values))


def _options(node: syntax.Call, frame: Frame, path: str, inner: list[Option]) -> Items:
    """Label, value and expression of each option; a list stands for its items where it is the only argument, a range
    always.
    """
    given = node.arguments or ()
    if node.body is not None:
        raise error("misplaced", "`oneof` takes its options in parentheses", node.body.span)
    out: Items = []
    for item in given:
        if isinstance(item, syntax.Let | syntax.Require):
            raise error("misplaced", "an option is a value", item.span)
        label = ""
        value_node: Any = item
        if isinstance(item, syntax.Named):
            if not isinstance(item.key, syntax.Name):
                raise error("bad-argument", "an option's label is a word", item.key.span)
            label, value_node = item.key.name, item.value
        made, owed = len(frame.builder.made), len(frame.builder.obligations)
        step = label or (value_node.function.name if isinstance(value_node, syntax.Call) else "")
        value = evaluate(value_node, frame, join(path, step))
        if isinstance(value, tuple) and (isinstance(value_node, syntax.Range) or len(given) == 1):
            out.extend(("", option, value_node) for option in value)
        elif isinstance(value, v.Guarded):
            raise error("not-constant", "a list to choose from must not depend on another decision", value_node.span)
        elif isinstance(value, v.Text) and not label:
            raise error(
                "no-label",
                "a body in braces needs a label to be chosen by",
                value_node.span,
                help="write `label: { ... }`",
            )
        else:
            inner.append(Option(len(out), made, len(frame.builder.made), owed, len(frame.builder.obligations)))
            out.append((label, value, value_node))
    if len(given) == 1 and len(out) > 1:  # a list: what its items hold belongs to them
        inner.extend(_held(out, frame.builder.made[made:], made))
    return out


def _held(items: Items, made: list[Made], start: int) -> Iterator[Option]:
    """The decisions of each item of a list: those that its arguments mention."""
    mentioned = [_mentioned(value) for _, value, _ in items] if made else []
    for i, paths in enumerate(mentioned):
        for place, one in enumerate(made, start):
            if one.path in paths and sum(one.path in other for other in mentioned) == 1:
                yield Option(i, place, place + 1, 0, 0)


def _mentioned(value: Any) -> set[str]:
    """Paths of all decisions in a value."""
    found: set[str] = set()
    queue = [value]
    while queue:
        value = queue.pop()
        if isinstance(value, v.Invocation):
            queue.extend(value.arguments.values())
        elif isinstance(value, v.Sequence):
            queue.extend(value.steps)
        elif isinstance(value, v.Sum):
            queue.extend(value.terms)
        elif isinstance(value, v.Alternatives):
            queue.extend(case.condition for case in value.cases)
            queue.extend(case.value for case in value.cases)
        elif isinstance(value, v.Record):
            queue.extend(value.entries.values())
        elif isinstance(value, tuple):
            queue.extend(value)
        elif isinstance(value, v.Guarded):
            queue.extend(part for item in value.items for part in item)
        else:
            found |= decisions_of(value)
    return found


def _labels(items: Items) -> list[str]:
    """How a file names each option: its label, its value, or its operator with the arguments that tell it apart."""
    names = [
        label
        or (
            value.name
            if isinstance(value, v.Invocation)
            else v.show(value)
            if not v.is_operator(value) or v.is_none(value)
            else ""
        )
        for label, value, _ in items
    ]
    alike: dict[str, list[v.Invocation]] = {}
    for name, (_, value, _) in zip(names, items, strict=True):
        if isinstance(value, v.Invocation):
            alike.setdefault(name, []).append(value)
    out: list[str] = []
    for i, (label, value, _) in enumerate(items):
        name, rivals = names[i] or f"option{i}", alike.get(names[i], [])
        if isinstance(value, v.Invocation) and len(rivals) > 1 and not label:
            telling = [
                k for k in value.arguments if any(not _same(r.arguments.get(k), value.arguments[k]) for r in rivals)
            ]
            if telling:
                name = f"{name}({', '.join(f'{k}: {_shown(value.arguments[k])}' for k in telling)})"
        out.append(name)
    seen: set[str] = set()
    for i, name in enumerate(out):
        if name not in seen:
            seen.add(name)
        else:
            raise error(
                "duplicate-option",
                f"two options are named `{name}`",
                items[i][2].span,
                help="give them labels: `oneof(a: ..., b: ...)`",
            )
    return out


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else v.show(value)


def _key(value: Any, number: int) -> Any:
    """What tells an option from others; a record or the like is told by its place."""
    try:
        hash(value)
    except TypeError:
        return number, None
    return type(value), value


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)


def _units(node: syntax.Call, frame: Frame, path: str) -> Units:
    (given,) = _arguments(node)
    n = integer(given, frame, "the number of search units", least=1)
    decision = frame.builder.decide(path, "units", range(n), (), 0, frame, node.span)
    return Units(decision.path, n)


def _manyof(node: syntax.Call, frame: Frame, path: str) -> v.Guarded:
    k_node, list_node = _arguments(node)
    k = integer(k_node, frame, "how many to choose")
    value = evaluate(list_node, frame, path)
    if isinstance(value, v.Guarded):
        if any(present is not True for _, present in value.items):
            raise error(
                "not-constant",
                "a list to choose from must not depend on another decision",
                list_node.span,
                "some of its items are not always there",
            )
        items: tuple[Any, ...] = tuple(item for item, _ in value.items)
    else:
        items = as_items(value, list_node, frame)
    if k > len(items):
        raise error("too-many", f"{k} different items cannot be chosen from {len(items)}", node.span)
    if k == len(items):
        return v.Guarded(tuple((item, True) for item in items))
    labels = tuple(item.label or item.node if isinstance(item, v.Tensor) else v.show(item) for item in items)
    decision = frame.builder.decide(path, "subset", labels, labels, k, frame, node.span)
    return v.Guarded(tuple((item, Has(decision.path, i)) for i, item in enumerate(items)))


def _permute(node: syntax.Call, frame: Frame, path: str) -> tuple[Any, ...]:
    (given,) = _arguments(node)
    items = items_of(given, frame, path)
    for item in items:
        if not (v.is_number(item) or isinstance(item, Symbol)):
            raise error(
                "mixed-options", f"`permute` orders numbers or words, and one is {v.describe(item)}", given.span
            )
    if len(set(items)) < 2:
        return items
    decision = frame.builder.decide(path, "order", items, tuple(v.show(i) for i in items), 0, frame, node.span)
    return tuple(Slot(decision.path, position, items) for position in range(len(items)))


# --- Numbers and lists ------------------------------------------------------------------------------------------------


def _on_values(function: str, call: Call) -> Callable[[syntax.Call, Frame, str], Any]:
    """A function of the table, as a file calls it."""

    def run(node: syntax.Call, frame: Frame, path: str) -> Any:
        given = _arguments(node)
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


def _guarded(node: syntax.Expr, frame: Frame, path: str) -> tuple[tuple[Any, Any], ...]:
    value = evaluate(node, frame, path)
    if isinstance(value, v.Guarded):
        return value.items
    if isinstance(value, tuple):
        return tuple((item, True) for item in value)
    raise error("not-a-list", f"a list is needed here, and this is {v.describe(value)}", node.span)


def _sum(node: syntax.Call, frame: Frame, path: str) -> Any:
    (given,) = _arguments(node)
    items = _guarded(given, frame, path)
    numbers = [(there, as_number(item, given.span, frame.granted(there))) for item, there in items]
    return expr.add(*[expr.choose(there, number, 0) for there, number in numbers])


def _count(node: syntax.Call, frame: Frame, path: str) -> Any:
    (given,) = _arguments(node)
    items = _guarded(given, frame, path)
    for item, there in items:
        of_kind(item, "truth", given.span, frame.granted(there), "not-a-condition")
    return expr.add(*[expr.choose(expr.both(present, item), 1, 0) for item, present in items])


def _length(node: syntax.Call, frame: Frame, path: str) -> Any:
    (given,) = _arguments(node)
    return expr.add(*[expr.choose(present, 1, 0) for _, present in _guarded(given, frame, path)])


def _take(node: syntax.Call, frame: Frame, path: str) -> Any:
    return _part(node, frame, path, last=False)


def _last(node: syntax.Call, frame: Frame, path: str) -> Any:
    return _part(node, frame, path, last=True)


def _part(node: syntax.Call, frame: Frame, path: str, last: bool) -> Any:
    list_node, n_node = _arguments(node)
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


def _previous(node: syntax.Call, frame: Frame, path: str) -> Any:
    given = list(node.arguments or ())
    usage = "write `previous(planes, else: base)`"
    if (
        len(given) != 2
        or not isinstance(given[0], syntax.Name)
        or not isinstance(given[1], syntax.Named)
        or not isinstance(given[1].key, syntax.Else)
    ):
        raise error(
            "bad-argument", "`previous` takes the name of a `let` and what to start from", node.span, help=usage
        )
    if not frame.operator:
        raise error("misplaced", "`previous` stands in the body of an operator", node.span)
    name, running = given[0].name, frame.builder.running
    before = frame.builder.before(name, frame)
    certain = [i for i, (_, present) in enumerate(before) if present is True or present == frame.present]
    if certain:
        start = certain[-1] + 1
        value, source = before[start - 1][0], (start, None)
    else:
        start, nothing = 0, expr.negate(expr.either(*[present for _, present in before]))
        value = evaluate(given[1].value, frame.when(nothing), path)
        source = _key(value, -len(running))
    for i in range(start, len(before)):  # each step is made once, so that running values share their parts
        key = (frame.operator, name, *source, i)
        if key not in running:
            made, present = before[i]
            running[key] = chosen([(present, "before", made), (expr.negate(present), "else", value)], node.span, path)
        value = running[key]
    return value


_FORMS: Mapping[str, Callable[[syntax.Call, Frame, str], Any]] = {
    "oneof": _oneof,
    "manyof": _manyof,
    "permute": _permute,
    "units": _units,
    "sum": _sum,
    "count": _count,
    "length": _length,
    "take": _take,
    "last": _last,
    "previous": _previous,
}
"""What decides, and what works on lists."""


class _Functions(Mapping[str, Callable[[syntax.Call, Frame, str], Any]]):
    """All functions that a file can call: these, and those of the table that say how."""

    def __getitem__(self, name: str) -> Callable[[syntax.Call, Frame, str], Any]:
        if name in _FORMS:
            return _FORMS[name]
        call = TABLE[name].call
        if call is None:
            raise KeyError(name)
        return _on_values(name, call)

    def __iter__(self) -> Iterator[str]:
        yield from _FORMS
        yield from (name for name, function in TABLE.items() if function.call is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


FUNCTIONS: Mapping[str, Callable[[syntax.Call, Frame, str], Any]] = _Functions()
