"""The functions that make decisions: `oneof`, `manyof`, `permute`, `units`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nasdsl.compiler import bound
from nasdsl.compiler.decision import Units
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.expressions import evaluate, integer, items_of
from nasdsl.compiler.elaborate.frame import Frame, Made, join
from nasdsl.compiler.elaborate.operations import as_items
from nasdsl.compiler.values import expr, tree
from nasdsl.compiler.values.plain import Symbol
from nasdsl.compiler.values.tree import Among, Expr, Has, Slot, decisions_of

MOST_OPTIONS = 4_096

Items = list[tuple[str, Any, bound.Expr]]


@dataclass(frozen=True)
class Option:
    """Which of the builder's decisions, obligations and requirements came with an option of a `oneof`: as ranges of
    their numbers.
    """

    number: int
    made: range
    owed: range = range(0)
    required: range = range(0)


_FIXED_LIST = "a list to choose from must not depend on another decision"


def oneof(node: bound.Apply, frame: Frame, path: str) -> Any:
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
            raise error("not-constant", _FIXED_LIST, place.span, help="say what depends with `match` or `require`")
        key = key_of(value, i)
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
        builder = frame.builder
        builder.only_when([builder.made[i] for i in option.made], taken)
        for i in option.owed:
            obligation = builder.obligations[i]
            obligation.condition = expr.either(expr.negate(taken), obligation.condition)
        for i in option.required:
            old = builder.requirements[i]
            builder.requirements[i] = replace(old, condition=expr.either(expr.negate(taken), old.condition))
    if operators:
        for _, value, place in items:
            if not v.is_operator(value):
                message = f"some options are operators, and this is {v.describe(value)}"
                help = f"write `{place.span.text} -> identity()`" if isinstance(value, v.Tensor) else ""
                raise error("mixed-options", message, place.span, help=help)
        cases = tuple(
            v.Alternative(Among(decision.path, n, frozenset((i,))), label, value, labelled=items[i][0] != "")
            for i, (label, value) in enumerate(zip(labels, values, strict=True))
        )
        return v.Alternatives(cases, node.span, path)
    return _table(decision.path, values, items)


def _table(path: str, values: list[Any], items: Items) -> Any:
    if all(isinstance(value, v.SizeValue) for value in values) and len({len(value.parts) for value in values}) == 1:
        return v.SizeValue(
            tuple(tree.case(path, tuple(value.parts[i] for value in values)) for i in range(len(values[0].parts)))
        )
    if all(isinstance(value, tuple) for value in values) and len({len(value) for value in values}) == 1:
        return tuple(_table(path, [value[i] for value in values], items) for i in range(len(values[0])))
    for value, (_, _, place) in zip(values, items, strict=True):
        if not (v.is_number(value) or isinstance(value, Symbol | str | bool)):
            message = f"`oneof` cannot choose among these: one is {v.describe(value)}"
            help = "write `[a, b][oneof(0, 1)]`" if isinstance(value, v.Tensor) else ""
            raise error("mixed-options", message, place.span, help=help)
        if v.is_number(value) != v.is_number(values[0]):
            raise error("mixed-options", "some options are numbers and some are not", place.span)
    return tree.case(path, tuple(values))


def _options(node: bound.Apply, frame: Frame, path: str, inner: list[Option]) -> Items:
    """Label, value and expression of each option; a list stands for its items where it is the only argument, a range
    always.
    """
    given = node.arguments
    out: Items = []
    for label, option in zip(node.labels, given, strict=True):
        begun = frame.builder.marks()
        step = label or (option.called if isinstance(option, bound.Calling) else "")
        value = evaluate(option, frame, join(path, step))
        if isinstance(value, tuple) and (isinstance(option, bound.Range) or len(given) == 1):
            out.extend(("", item, option) for item in value)
        elif isinstance(value, v.Guarded):
            raise error("not-constant", _FIXED_LIST, option.span, help="say what depends with `match` or `require`")
        elif isinstance(value, v.Text) and not label:
            message = "a body in braces needs a label to be chosen by"
            raise error("no-label", message, option.span, help="write `label: { ... }`")
        else:
            inner.append(Option(len(out), *map(range, begun, frame.builder.marks())))
            out.append((label, value, option))
    if len(given) == 1 and len(out) > 1:  # a list: what its items hold belongs to them
        inner.extend(_held(out, frame.builder.made[begun[0] :], begun[0]))
    return out


def _held(items: Items, made: list[Made], start: int) -> Iterator[Option]:
    """The decisions of each item of a list: those that its arguments mention."""
    mentioned = [_mentioned(value) for _, value, _ in items] if made else []
    for i, paths in enumerate(mentioned):
        for place, one in enumerate(made, start):
            if one.path in paths and sum(one.path in other for other in mentioned) == 1:
                yield Option(i, range(place, place + 1))


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
    out = _names([label for label, _, _ in items], [value for _, value, _ in items])
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


def _names(labels: Sequence[str], values: Sequence[Any]) -> list[str]:
    """What some values go by: their labels, their text, or their operators with the arguments that tell them apart."""
    names = [
        label
        or (
            value.name
            if isinstance(value, v.Invocation)
            else v.show(value)
            if not v.is_operator(value) or v.is_none(value)
            else ""
        )
        for label, value in zip(labels, values, strict=True)
    ]
    alike: dict[str, list[v.Invocation]] = {}
    for name, value in zip(names, values, strict=True):
        if isinstance(value, v.Invocation):
            alike.setdefault(name, []).append(value)
    out: list[str] = []
    for i, (label, value) in enumerate(zip(labels, values, strict=True)):
        name, rivals = names[i] or f"option{i}", alike.get(names[i], [])
        if isinstance(value, v.Invocation) and len(rivals) > 1 and not label:
            telling = [
                k for k in value.arguments if any(not _same(r.arguments.get(k), value.arguments[k]) for r in rivals)
            ]
            if telling:
                name = f"{name}({', '.join(f'{k}: {_shown(value.arguments[k])}' for k in telling)})"
        out.append(name)
    return out


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else v.show(value)


def key_of(value: Any, number: int) -> Any:
    """What tells an option from others; a record or the like is told by its place."""
    try:
        hash(value)
    except TypeError:
        return number, None
    return tuple if isinstance(value, tuple) else type(value), value


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)


def units(node: bound.Apply, frame: Frame, path: str) -> Units:
    (given,) = node.arguments
    n = integer(given, frame, "the number of search units", least=1)
    decision = frame.builder.decide(path, "units", range(n), (), 0, frame, node.span)
    return Units(decision.path, n)


def manyof(node: bound.Apply, frame: Frame, path: str) -> v.Guarded:
    """Some of the items of a list: so many, or with `manyof(0..3, list)` any number in the range."""
    k_node, list_node = node.arguments
    sizes, begun = _sizes(k_node, frame), len(frame.builder.made)
    value = evaluate(list_node, frame, path)
    inside = frame.builder.made[begun:]
    if isinstance(value, v.Guarded):
        if any(present is not True for _, present in value.items):
            help = "choose from all that may be there, and say what depends with `require`"
            raise error(
                "not-constant", _FIXED_LIST, list_node.span, "some of its items are not always there", help=help
            )
        items: tuple[Any, ...] = tuple(item for item, _ in value.items)
    else:
        items = value if isinstance(value, tuple) else as_items(value, list_node, frame)
    k = sizes[-1]
    if k > len(items):
        raise error("too-many", f"{k} different items cannot be chosen from {len(items)}", node.span)
    known = [item.label or item.node if isinstance(item, v.Tensor) else "" for item in items]
    labels = tuple(_names(known, items))
    if len(sizes) > 1:
        chosen = _any_number(items, labels, sizes, node, frame, path)
    elif k == len(items):
        return v.Guarded(tuple((item, True) for item in items))
    else:
        decision = frame.builder.decide(path, "subset", labels, labels, k, frame, node.span)
        chosen = v.Guarded(tuple((item, Has(decision.path, i)) for i, item in enumerate(items)))
    for held in _held([("", item, list_node) for item in items], inside, begun):  # there where their item is
        frame.builder.only_when([frame.builder.made[i] for i in held.made], chosen.items[held.number][1])
    return chosen


def _sizes(node: bound.Expr, frame: Frame) -> tuple[int, ...]:
    """How many items may be chosen, in order."""
    if not isinstance(node, bound.Range):
        return (integer(node, frame, "how many to choose"),)
    sizes = evaluate(node, frame)
    if not isinstance(sizes, tuple):
        help = "choose from the widest range, and say the rest with `require length(...) <= ...`"
        raise error("not-constant", "how many to choose must not depend on a decision", node.span, help=help)
    if not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise error("not-an-integer", "how many to choose must be whole numbers", node.span)
    return sizes


def _any_number(
    items: tuple[Any, ...], labels: tuple[str, ...], sizes: tuple[int, ...], node: bound.Apply, frame: Frame, path: str
) -> v.Guarded:
    """A choice for each item whether it is taken, and the requirement that it are as many as are allowed."""
    taken: list[Any] = []
    for label, number in zip(labels, _numbered(labels), strict=True):
        place = join(path, f"[{label}][{number}]" if labels.count(label) > 1 else f"[{label}]")
        words = ("false", "true")
        decision = frame.builder.decide(place, "choice", (False, True), words, 0, frame, node.span)
        taken.append(Among(decision.path, 2, frozenset((1,))))
    if len(sizes) <= len(items):
        number_taken = expr.add(*[expr.choose(there, 1, 0) for there in taken])
        held = expr.either(*[expr.equal(number_taken, size) for size in sizes])
        message = f"{' '.join(node.arguments[0].span.text.split())} items are chosen by {path}"
        frame.builder.require(held, frame, message, "require", node.span)
    return v.Guarded(tuple(zip(items, taken, strict=True)))


def _numbered(labels: tuple[str, ...]) -> list[int]:
    """How many of the same name stand before each."""
    return [labels[:i].count(label) for i, label in enumerate(labels)]


def permute(node: bound.Apply, frame: Frame, path: str) -> tuple[Any, ...]:
    """The items of a list in an order that is searched: all, or with `permute(2, list)` so many different ones."""
    *size, given = node.arguments
    items = items_of(given, frame, path)
    for item in items:
        if not (v.is_number(item) or isinstance(item, Symbol)):
            raise error(
                "mixed-options", f"`permute` orders numbers or words, and one is {v.describe(item)}", given.span
            )
    if size:
        return _arranged(integer(size[0], frame, "how many to take"), items, node, frame, path)
    if len(set(items)) < 2:
        return items
    decision = frame.builder.decide(path, "order", items, tuple(v.show(i) for i in items), 0, frame, node.span)
    return tuple(Slot(decision.path, position, items) for position in range(len(items)))


def _arranged(k: int, items: tuple[Any, ...], node: bound.Apply, frame: Frame, path: str) -> tuple[Any, ...]:
    """A choice for each place, and the requirement that no item is taken twice."""
    given = node.arguments[-1].span
    if len(set(items)) != len(items):
        raise error("duplicate-option", "`permute(n, list)` orders different items, and some of these are equal", given)
    if k > len(items):
        raise error("too-many", f"{k} different items cannot be ordered out of {len(items)}", node.span)
    if len(items) == 1:
        return items[:k]
    labels = tuple(v.show(item) for item in items)
    paths = [
        frame.builder.decide(join(path, f"[{i}]"), "choice", items, labels, 0, frame, node.span).path for i in range(k)
    ]
    made = tuple(tree.case(one, items) for one in paths)
    frame.builder.note_list(path, made)
    apart = [expr.negate(expr.equal(a, b)) for i, a in enumerate(made) for b in made[:i]]
    frame.builder.require(expr.both(*apart), frame, f"the items of {path} are different", "require", node.span)
    return made
