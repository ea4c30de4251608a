"""`with { place: value }`: places become paths of decisions, values become indices."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

from nasdsl.compiler import syntax
from nasdsl.compiler.bind.binder import Binder
from nasdsl.compiler.bind.habits import near
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.diagnostics import CompileError, error
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.expressions import evaluate
from nasdsl.compiler.elaborate.frame import Frame, each, join
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.source import Span
from nasdsl.compiler.values.expr import decisions_of
from nasdsl.compiler.values.plain import Symbol


@dataclass(frozen=True)
class _Entry:
    place: str
    value: syntax.Expr
    span: Span


@dataclass(frozen=True)
class _Reader:
    """Reads values in pins: settings in the space's own words."""

    frame: Frame
    binder: Binder

    def value(self, node: syntax.Expr) -> Any:
        return evaluate(self.binder.outside(node), self.frame)


def resolve_pins(
    pins: list[syntax.Pin], graph: Graph, frame: Frame, binder: Binder
) -> tuple[dict[str, Any], dict[str, tuple[int, ...]], dict[str, Span]]:
    """Values and narrowed choices by path of decision, and where each was set.

    Raises:
        CompileError: no decision has that path, or it does not take that value.
    """
    values: dict[str, Any] = {}
    narrowed: dict[str, tuple[int, ...]] = {}
    places: dict[str, Span] = {}
    index = _Index(graph)
    reader = _Reader(frame.but(settings=True), binder)

    def resolve(entry: _Entry) -> None:
        found = index.match(entry.place)
        if not found:
            raise _unknown(entry, index)
        for decision, value in _spread(entry, found, reader):
            _set(decision, value, entry, reader, values, narrowed)
            places[decision.path] = entry.value.span

    flat = each([partial(_entries, pin, reader) for pin in pins])
    each([partial(resolve, entry) for entries in flat for entry in entries])
    return values, narrowed, places


def _entries(pin: syntax.Pin, reader: _Reader) -> list[_Entry]:
    return _flatten(place_text(pin.place, reader), pin.value, pin.place.span, reader)


def place_text(place: syntax.Expr | syntax.Else, reader: _Reader) -> str:
    """The path that a place spells: `stage[2].parallel[1/8].repeat[0]`."""
    if isinstance(place, syntax.Else):
        return "else"
    if isinstance(place, syntax.Name):
        return place.name
    if isinstance(place, syntax.Field):
        return join(place_text(place.base, reader), place.name.name)
    if isinstance(place, syntax.Index):
        return f"{place_text(place.base, reader)}[{_index_text(place.index, reader)}]"
    if isinstance(place, syntax.List) and len(place.items) == 1:  # `[1/4 -> 1/8]`, an index alone
        return f"[{_index_text(place.items[0], reader)}]"  # type: ignore[arg-type]
    raise error("bad-place", "a pin is written `path: value`", place.span)


def _index_text(node: syntax.Expr, reader: _Reader) -> str:
    if isinstance(node, syntax.Pipe):
        return " -> ".join(_index_text(step, reader) for step in node.steps)
    if isinstance(node, syntax.Index | syntax.Field):
        return place_text(node, reader)
    if isinstance(node, syntax.Call):
        return " ".join(node.span.text.split())
    value = reader.value(node)
    if isinstance(node, syntax.Name) and not isinstance(value, int | Fraction):
        return node.name  # of a labelled tensor, whatever else goes by that name here
    if not isinstance(value, int | Fraction | Symbol | str):
        raise error("bad-place", f"an index is a number or a name, and this is {v.describe(value)}", node.span)
    return v.show(value)


def _flatten(place: str, value: syntax.Expr, span: Span, reader: _Reader) -> list[_Entry]:
    """A record under a path prefixes it."""
    if not isinstance(value, syntax.Block):
        return [_Entry(place, value, span)]
    out: list[_Entry] = []
    for item in value.items:
        if not isinstance(item, syntax.Named):
            raise error("bad-place", "a record of pins holds entries `path: value`", item.span)
        key = item.key
        if isinstance(key, syntax.Else | syntax.Name | syntax.Field | syntax.Index | syntax.List):
            step = place_text(key, reader)
        else:
            step = f"[{_index_text(key, reader)}]"
        out.extend(_flatten(join(place, step), item.value, key.span, reader))
    return out


_STEP = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]|[^.\[\]]+(?:\((?:[^()])*\))?")


class _Index:
    """Decisions by path, found with copies' indices left out."""

    def __init__(self, graph: Graph):
        self.decisions = graph.decisions
        self.by_name: dict[tuple[str, ...], list[str]] = {}
        self.steps: dict[str, list[str]] = {}
        for path in graph.decisions:
            steps = _STEP.findall(path)
            self.steps[path] = steps
            self.by_name.setdefault(tuple(s for s in steps if not s.startswith("[")), []).append(path)

    def match(self, place: str) -> list[Decision]:
        """Decisions whose path the place is, perhaps without some indices; else those whose path ends in it."""
        if place in self.decisions:
            return [self.decisions[place]]
        wanted = _STEP.findall(place)
        names = tuple(s for s in wanted if not s.startswith("["))
        exact = [p for p in self.by_name.get(names, ()) if _covers(self.steps[p], wanted)]
        if exact:
            return [self.decisions[p] for p in exact]
        ending = [p for key, paths in self.by_name.items() if key[-len(names) :] == names for p in paths]
        return [self.decisions[p] for p in ending if _covers(self.steps[p][-_tail(self.steps[p], names) :], wanted)]


def _tail(steps: list[str], names: tuple[str, ...]) -> int:
    """How many steps the last names span."""
    left = len(names)
    for count, step in enumerate(reversed(steps), 1):
        left -= not step.startswith("[")
        if not left:
            return count
    return len(steps)


def _covers(steps: list[str], wanted: list[str]) -> bool:
    """Whether the path is the wanted one with some indices added: of several in a row, the inner ones."""
    position, skipped = 0, False
    for step in steps:
        index = step.startswith("[")
        skipped = skipped and index
        if position < len(wanted) and step == wanted[position] and not skipped:
            position += 1
        elif not index:
            return False
        else:
            skipped = True
    return position == len(wanted)


def _unknown(entry: _Entry, index: _Index) -> CompileError:
    help = near(entry.place, index.decisions) if index.decisions else "this space has no decision left"
    return error(
        "unknown-decision", f"no decision or parameter named `{entry.place}`", entry.span, "not found", help=help
    )


def _spread(entry: _Entry, found: list[Decision], reader: _Reader) -> list[tuple[Decision, syntax.Expr]]:
    """One value for all copies, or a list with one each. A list also pins a list of decisions, item by item."""
    if isinstance(entry.value, syntax.List) and all(_inside(d.path) > _inside(entry.place) for d in found):
        known = reader.frame.builder.lists
        lists = dict.fromkeys(decision.path.rpartition("[")[0] for decision in found)
        if all(path in known for path in lists):
            return _item_by_item(entry, entry.value, {path: known[path] for path in lists}, found, reader)
    per_copy = isinstance(entry.value, syntax.List) and len(found) > 1
    if isinstance(entry.value, syntax.List) and per_copy:
        kind = found[0].kind
        items = entry.value.items
        nested = kind == "choice" or (len(items) > 0 and all(isinstance(item, syntax.List) for item in items))
        if nested:
            if len(items) > len(found):
                raise error(
                    "wrong-count",
                    f"`{entry.place}` has {len(found)} copies, and here are {len(items)} values",
                    entry.value.span,
                )
            return list(zip(found, items, strict=False))  # type: ignore[arg-type]
    return [(decision, entry.value) for decision in found]


def _inside(path: str) -> int:
    """How many indices stand at the end of a path."""
    steps = _STEP.findall(path)
    return len(steps) - max((i for i, step in enumerate(steps, 1) if not step.startswith("[")), default=0)


def _item_by_item(
    entry: _Entry, value: syntax.List, lists: dict[str, tuple[Any, ...]], found: list[Decision], reader: _Reader
) -> list[tuple[Decision, syntax.Expr]]:
    """A list for each list of decisions, or one for all; where nothing is decided it has to have what is there."""
    given = [value] * len(lists)
    if len(lists) > 1 and all(isinstance(item, syntax.List) for item in value.items):
        given = list(value.items)  # type: ignore[arg-type]
        if len(given) != len(lists):
            message = f"`{entry.place}` has {len(lists)} copies, and here are {len(given)} lists"
            raise error("wrong-count", message, value.span)
    open_ = {decision.path: decision for decision in found}
    out: list[tuple[Decision, syntax.Expr]] = []
    for (path, known), one in zip(lists.items(), given, strict=True):
        items = _items(one)
        if len(items) != len(known):
            message = f"`{path}` has {len(known)} items, and here are {len(items)} values"
            raise error("wrong-count", message, one.span)
        for i, (was, item) in enumerate(zip(known, items, strict=True)):
            if (decision := open_.get(f"{path}[{i}]")) is not None:
                out.append((decision, item))
            elif not decisions_of(was) and (told := reader.value(item)) != was:
                message = f"`{path}[{i}]` is not decided: it is {v.show(was)}"
                raise error("unknown-option", message, item.span, f"this is {v.show(told)}")
    return out


def _set(
    decision: Decision,
    node: syntax.Expr,
    entry: _Entry,
    reader: _Reader,
    values: dict[str, Any],
    narrowed: dict[str, tuple[int, ...]],
) -> None:
    if isinstance(node, syntax.Call) and node.function.name == "oneof" and decision.kind == "choice":
        left = narrowed.get(decision.path)
        options = sorted({_option(decision, item, entry, reader, left) for item in node.arguments or ()})
        if len(options) == 1:
            values[decision.path] = options[0]
        elif len(options) < decision.n:
            narrowed[decision.path] = tuple(options)
        return
    if isinstance(node, syntax.Call) and node.function.name == "units" and decision.kind == "units":
        n = _fewer(decision, node, reader)
        if n < decision.n:
            narrowed[decision.path] = tuple(range(n))
        return
    if decision.kind == "choice":
        values[decision.path] = _option(decision, node, entry, reader, narrowed.get(decision.path))
    elif decision.kind == "units":
        values[decision.path] = _kept(decision, node, reader)
    elif decision.kind == "subset":
        chosen = tuple(sorted(_item(decision, item, reader) for item in _items(node)))
        if len(chosen) != decision.size or len(set(chosen)) != len(chosen):
            raise error("wrong-count", f"`{decision.path}` takes {decision.size} different items", node.span)
        values[decision.path] = chosen
    else:
        values[decision.path] = _order(decision, node, reader)


def _items(node: syntax.Expr) -> list[syntax.Expr]:
    if isinstance(node, syntax.List):
        return [item for item in node.items if not isinstance(item, syntax.Named | syntax.Let | syntax.Require)]
    raise error("not-a-list", "a list is needed here", node.span)


def _option(
    decision: Decision, node: syntax.Item, entry: _Entry, reader: _Reader, left: tuple[int, ...] | None = None
) -> int:
    """The index of the option that a value names, one of those that are left."""
    found = _named_option(decision, node, entry, reader)
    if left is not None and found not in left:
        shown = ", ".join(f"`{decision.labels[i]}`" for i in left[:12])
        message = f"`{decision.labels[found]}` is no longer an option of `{decision.path}`"
        raise error("unknown-option", message, node.span, help=f"left are {shown}")
    return found


def _named_option(decision: Decision, node: syntax.Item, entry: _Entry, reader: _Reader) -> int:
    if isinstance(node, syntax.Name) and node.name in decision.labels:
        return decision.labels.index(node.name)
    word = " ".join(node.span.text.split()) if isinstance(node, syntax.Call) else None
    if word is None and isinstance(node, syntax.Expr):
        value = reader.value(node)
        for i, item in enumerate(decision.items):
            if (type(item) is type(value) and item == value) or (
                isinstance(value, Symbol) and decision.labels and decision.labels[i] == value.word
            ):
                return i
        word = v.show(value)
    assert word is not None
    normal = _normal(word)
    for i, label in enumerate(decision.labels):
        if _normal(label) == normal or _normal(label) == _normal(word.removesuffix("()")):
            return i
    shown = ", ".join(f"`{label}`" for label in decision.labels[:12])
    raise error(
        "unknown-option",
        f"`{word}` is not an option of `{decision.path}`",
        node.span,
        help=near(word, decision.labels) or f"it has {shown}",
    )


def _normal(text: str) -> str:
    return re.sub(r"\s+", "", text)


def _kept(decision: Decision, node: syntax.Expr, reader: _Reader) -> tuple[int, ...]:
    value = reader.value(node)
    if isinstance(value, int) and not isinstance(value, bool):  # how many: the first ones
        value = tuple(range(value))
    if not isinstance(value, tuple) or not all(isinstance(i, int) and not isinstance(i, bool) for i in value):
        raise error("not-a-list", "the kept units are a list of numbers, such as `[0..11, 14]`", node.span)
    kept = tuple(sorted(value))
    if len(set(kept)) != len(kept):
        raise error("duplicate", "a unit stands here twice", node.span)
    if kept and not 0 <= kept[0] <= kept[-1] < decision.n:
        raise error("no-such-item", f"`{decision.path}` has units 0 to {decision.n - 1}", node.span)
    return kept


def _fewer(decision: Decision, node: syntax.Call, reader: _Reader) -> int:
    """How many units are to be left open: `units(12)`."""
    given = [item for item in node.arguments or () if not isinstance(item, syntax.Named | syntax.Let | syntax.Require)]
    n = reader.value(given[0]) if len(given) == 1 else None
    if not isinstance(n, int) or isinstance(n, bool) or not 0 < n <= decision.n:
        message = f"`{decision.path}` is narrowed to a number of its {decision.n} units"
        raise error("bad-argument", message, node.span, help=f"write `units({max(1, decision.n // 2)})`")
    return n


def _item(decision: Decision, node: syntax.Expr, reader: _Reader) -> int:
    word = _normal(node.span.text)
    for i, label in enumerate(decision.labels):
        if _normal(label) == word:
            return i
    raise error(
        "unknown-option", f"`{word}` is not an item of `{decision.path}`", node.span, help=near(word, decision.labels)
    )


def _order(decision: Decision, node: syntax.Expr, reader: _Reader) -> tuple[int, ...]:
    """Items by their values; among equal ones the first comes first."""
    value = reader.value(node)
    if not isinstance(value, tuple) or sorted(map(str, value)) != sorted(map(str, decision.items)):
        raise error("bad-order", f"`{decision.path}` is an order of {v.show(tuple(decision.items))}", node.span)
    left: dict[Any, list[int]] = {}
    for i, item in enumerate(decision.items):
        left.setdefault(item, []).append(i)
    return tuple(left[item].pop(0) for item in value)
