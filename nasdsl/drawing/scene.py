"""What a picture shows: the items of a graph at a level of detail, and the links between them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

from nasdsl.compiler import ops
from nasdsl.compiler.decision import Decision, FixedUnits, Units
from nasdsl.compiler.elaborate.values import show
from nasdsl.compiler.graph import Graph, Node
from nasdsl.compiler.largest import largest_values
from nasdsl.compiler.space import Space
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.plain import FAULTS

Level = Literal["block", "operator"]
State = Literal["fixed", "open", "gone"]
Kind = Literal["input", "output", "block", "operator", "choice", "sum", "concat", "select"]

SMALL: frozenset[Kind] = frozenset({"sum", "concat", "select"})
MOST_ROWS = 7


@dataclass(frozen=True)
class Bar:
    """Search units of one kind: how many there are, and how many are kept (None while that is open)."""

    kind: str  # `3`, `5`, ... for channels by kernel size, `channel`, `token`
    total: int
    kept: int | None


@dataclass(frozen=True)
class Row:
    """A choice: its name and its options, each with whether it is taken (None while that is open)."""

    name: str
    options: tuple[tuple[str, bool | None], ...]


@dataclass(frozen=True)
class Item:
    """One node of the picture.

    Attributes:
        scale: of its output; None for what comes before or after the lanes.
        group: the stage that it belongs to.
        state: `open` where something is still decided, `gone` where an architecture does without it.
        optional: there in some architectures only.
    """

    key: str
    kind: Kind
    title: str
    scale: Fraction | int
    group: str
    state: State = "fixed"
    optional: bool = False
    note: str = ""
    bars: tuple[Bar, ...] = ()
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True)
class Link:
    source: str
    target: str
    state: State = "fixed"


@dataclass(frozen=True)
class Scene:
    """Items in topological order, and links."""

    name: str
    facts: str
    items: tuple[Item, ...]
    links: tuple[Link, ...]
    blocks: str = ""  # the operator that all blocks without a title are uses of


def make_scene(space: Space | Graph, level: Level) -> Scene:
    """The items of a space or an architecture.

    What an architecture has left out is in the picture too, faded, where the space knows the whole that it came from;
    except where there is more of that than of the architecture.
    """
    if isinstance(space, Graph):
        return _Maker(space, space, {}, level).scene("", "")
    facts = _facts(space.graph)
    if space.whole is not None:
        scene = _Maker(space.whole, space.graph, space.pins, level).scene(space.name, facts)
        if 2 * sum(item.state == "gone" for item in scene.items) <= len(scene.items):
            return scene
    return _Maker(space.graph, space.graph, {}, level).scene(space.name, facts)


def _facts(graph: Graph) -> str:
    layers = sum(1 for _ in graph.operators())
    if graph.decisions:
        n = len(graph.decisions)
        return f"{layers:,} layers, {n:,} decision{'s' if n > 1 else ''}"
    from nasdsl.compiler.cost import cost_of
    from nasdsl.compiler.measures import find

    costs = [f"{_short(cost)} {find(name).label}" for name, cost in cost_of(graph, {}).items()]
    return ", ".join([f"{layers:,} layers", *costs])


def _short(number: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("K", 10**3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


class _Maker:
    def __init__(self, whole: Graph, graph: Graph, pins: Mapping[str, Any], level: Level):
        self.whole, self.graph, self.pins, self.level = whole, graph, pins, level
        self.values = {**largest_values(whole), **pins}
        self.users = whole.users()
        self.owner: dict[str, str] = {}  # node -> key of its item; passed-by nodes are missing
        self.options: dict[str, tuple[Row, ...]] = {}  # of choice items
        self.own: dict[str, list[str]] = {}  # by decision: the items that depend on it

    def scene(self, name: str, facts: str) -> Scene:
        if self.level == "block":
            self._own_blocks()
            self._own_choices()
        for node in self.whole.nodes.values():
            self.owner.setdefault(node.name, node.name)
        self._pass_by()
        members: dict[str, list[Node]] = {}
        for node in self.whole.nodes.values():
            if node.name in self.owner:
                members.setdefault(self.owner[node.name], []).append(node)
        self._deal_decisions(members)
        links = self._links()
        items = {key: self._item(key, nodes) for key, nodes in members.items()}
        ordered = _topological(items, links)
        titles = {item.title for item in items.values() if item.kind == "block" and item.bars}
        blocks = titles.pop() if len(titles) == 1 else ""
        if blocks:  # the legend names them
            items = {k: replace(i, title="" if i.title == blocks and i.bars else i.title) for k, i in items.items()}
        return Scene(name, facts, tuple(items[key] for key in ordered), links, blocks)

    # --- Which nodes make an item

    def _own_blocks(self) -> None:
        """Uses of operators that use no others are blocks."""
        paths = self.whole.instances
        outer = {before for path in paths for before in _prefixes(path) if before in paths}
        for node in self.whole.nodes.values():
            here = next((p for p in _prefixes(node.name, whole=True) if p in paths and p not in outer), None)
            if here is not None:
                self.owner[node.name] = here

    def _own_choices(self) -> None:
        """A selection between operators is one item, with all that only it reads."""
        for node in reversed(list(self.whole.nodes.values())):
            if node.kind != "select" or self.owner.get(node.name, node.name) != node.name:
                continue
            regions = self._regions(node)
            if any(regions) and (rows := self._alternatives(node)):
                self.options[node.name] = rows
                for name in (node.name, *set().union(*regions)):
                    self.owner[name] = node.name

    def _regions(self, node: Node) -> list[set[str]]:
        """For each input of a selection the nodes that lead to it and nowhere else; none where it is no selection
        between alternatives that start at one tensor, such as that of the last copy of a repeat."""
        starts = [edge.source for edge in node.inputs]
        if node.name.endswith(".exit") or len(set(starts)) < len(starts):
            return []
        regions = [self._region(start, node, set(starts) - {start}) for start in starts]
        outside = {start for start, region in zip(starts, regions, strict=True) if not region}
        read = {edge.source for region in regions for name in region for edge in self.whole.nodes[name].inputs}
        return regions if len(outside) < 2 and outside <= read else []

    def _region(self, start: str, end: Node, others: set[str]) -> set[str]:
        found: set[str] = set()
        queue = [start]
        while queue:
            name = queue.pop()
            node = self.whole.nodes[name]
            if node.kind == "input" or name in found or name in others:
                continue
            if all(user.name in found or user is end for user in self.users[name]):
                found.add(name)
                queue.extend(edge.source for edge in node.inputs)
        return found

    def _alternatives(self, node: Node) -> tuple[Row, ...]:
        """The options of a selection, where one decision makes it."""
        paths = {path for edge in node.inputs for path in expr.decisions_of(edge.when)}
        if len(paths) != 1:
            return ()
        (path,) = paths
        decision = self.whole.decisions.get(path)
        if decision is None or decision.kind != "choice":
            return ()
        return (self._row(decision, decision.path.rpartition(".")[2]),)

    def _pass_by(self) -> None:
        """At the level of blocks, what has no weights and no choice between two items is part of the line."""
        if self.level != "block":
            return
        for node in self.whole.nodes.values():
            if self.owner[node.name] == node.name and node.kind == "operator" and len(node.inputs) == 1:
                operator = ops.find(node.op)
                plain = operator is not None and not any(p.name in ("out", "classes") for p in operator.params)
                costs = node.op in ("dropout", "norm", "se", "depthwise") or "kernel" in node.attrs
                if plain and not costs and not _open(node.attrs) and node.op != "linear":
                    del self.owner[node.name]

    # --- Items

    def _deal_decisions(self, members: Mapping[str, Sequence[Node]]) -> None:
        """Each decision goes to the item whose nodes depend on it, if it is one only."""
        for key, nodes in members.items():
            for node in nodes:
                for path in self._made_by(node):
                    keys = self.own.setdefault(path, [])
                    if key not in keys:
                        keys.append(key)

    def _made_by(self, node: Node) -> Iterable[str]:
        """Decisions that show in a node: in its settings, its choice of inputs, and for a selection what it goes by."""
        found = expr.decisions_of(dict(node.attrs))
        inputs = expr.decisions_of(tuple(edge.when for edge in node.inputs))
        if node.kind == "select":
            return found | inputs
        return found | {path for path in inputs if self.whole.decisions[path].kind == "subset"}

    def _item(self, key: str, nodes: Sequence[Node]) -> Item:
        last = nodes[-1]
        kind: Kind = "operator"
        title = last.op
        if key in self.options:
            kind, title = "choice", self.options[key][0].name
        elif key in self.whole.instances and (len(nodes) > 1 or nodes[0].name != key or key in self.owner.values()):
            kind, title = "block", self.whole.instances[key]
        elif last.kind in ("input", "output"):
            kind = "input" if last.kind == "input" else "output"
        elif last.kind == "merge":
            kind = "sum" if last.op == "sum" else "concat"
        elif last.kind == "select":
            kind = "select"
        alive = any(self._alive(node) for node in nodes)
        still = [self.graph.nodes[node.name] for node in nodes if node.name in self.graph.nodes]
        optional = bool(still) and all(self._depends(node.reached) for node in still)
        bars = self._bars(nodes)
        rows = self.options.get(key, ()) + self._rows(key, nodes)
        open_rows = any(taken is None for row in rows for _, taken in row.options)
        is_open = open_rows or any(bar.kept is None for bar in bars)
        empty = bool(bars) and not rows and all(bar.kept == 0 for bar in bars)  # what is left only passes its input on
        state: State = "gone" if not alive or empty else "open" if is_open else "fixed"
        note = self._note(last) if kind in ("operator", "input", "output") else ""
        scale = self._number(self._ends_at(last))
        return Item(key, kind, title, scale, stage_of(key), state, optional and alive, note, bars, rows)

    def _alive(self, node: Node) -> bool:
        """Whether an architecture has the node; sums and selections of one tensor left are no nodes of its graph."""
        if node.name in self.graph.nodes:
            return True
        if node.kind not in ("select", "merge") or self._holds(node.present) is False:
            return False
        return any(self._alive(self.whole.nodes[e.source]) for e in node.inputs if self._holds(e.when) is not False)

    def _holds(self, condition: Any) -> Any:
        """A condition under the pins; None where it is open."""
        if not isinstance(condition, expr.Expr):
            return condition
        try:
            return bool(expr.evaluate(condition, self.pins))
        except FAULTS:
            return None if self._depends(condition) else True

    def _depends(self, condition: Any) -> bool:
        """Whether a choice decides; that a layer may lose all its search units goes without saying."""
        paths = expr.decisions_of(condition) - self.pins.keys()
        return any(self.whole.decisions[path].kind != "units" for path in paths)

    def _ends_at(self, node: Node) -> Any:
        """The scale at which what a node computes meets others: behind resizes that only it goes through."""
        users = self.users[node.name]
        while self.level == "block" and len(users) == 1 and users[0].kind == "operator" and len(users[0].inputs) == 1:
            if users[0].name in self.owner:
                break
            node = users[0]
            users = self.users[node.name]
        if node.kind == "output" or node.shape.height is None:  # a vector has no scale of its own
            before = self.whole.nodes[node.inputs[0].source]
            return self._ends_at_input(before)
        return node.shape.scale

    def _ends_at_input(self, node: Node) -> Any:
        while node.shape.height is None and node.inputs:
            node = self.whole.nodes[node.inputs[0].source]
        return node.shape.scale

    def _number(self, value: Any) -> Fraction | int:
        try:
            found = expr.evaluate(value, self.values)
            return found if isinstance(found, int | Fraction) else 1
        except FAULTS:
            return 1

    def _bars(self, nodes: Iterable[Node]) -> tuple[Bar, ...]:
        out = []
        for node in nodes:
            operator = ops.find(node.op) if node.kind == "operator" else None
            for group in operator.units(node.attrs) if operator is not None else ():
                if isinstance(group.units, Units):
                    kept = self.pins.get(group.units.path)
                    there = self._alive(node)
                    count = len(kept) if kept is not None else None if there else 0
                    out.append(Bar(_bar_kind(group), group.units.n, count))
                elif isinstance(group.units, FixedUnits):
                    out.append(Bar(_bar_kind(group), group.units.n, group.units.count))
        return tuple(out)

    def _rows(self, key: str, nodes: Iterable[Node]) -> tuple[Row, ...]:
        found: list[Decision] = []
        for path, decision in self.whole.decisions.items():
            if decision.kind == "units" or self.own.get(path, [None])[0] != key:
                continue
            if key in self.options and any(path in expr.decisions_of(e.when) for e in self.whole.nodes[key].inputs):
                continue
            found.append(decision)
        names = _short_names([decision.path for decision in found])
        return tuple(self._row(decision, name) for decision, name in zip(found, names, strict=True))

    def _row(self, decision: Decision, name: str) -> Row:
        """A choice with what is taken: nothing of it where an architecture does not make it at all."""
        labels = decision.labels or tuple(str(item) for item in decision.items)
        value = self.pins.get(decision.path)
        if value is None:
            left = self.graph.decisions.get(decision.path)
            open_labels = (left.labels or tuple(str(item) for item in left.items)) if left is not None else ()
            return Row(name, tuple((label, None if label in open_labels else False) for label in labels))
        if decision.kind == "order":
            return Row(name, tuple((labels[i], True) for i in value))
        taken = value if isinstance(value, tuple) else (value,)
        return Row(name, tuple((label, i in taken) for i, label in enumerate(labels)))

    def _note(self, node: Node) -> str:
        """The settings of a layer that a reader looks for first."""
        node = self.graph.nodes.get(node.name, node)  # with what is decided
        shape = node.shape
        if node.kind in ("input", "output"):
            axes = [shape.channels] if shape.height is None else [shape.channels, shape.height, shape.width]
            return "×".join(_plain(axis) for axis in axes)
        parts = []
        kernel, stride = node.attrs.get("kernel"), node.attrs.get("stride", 1)
        if isinstance(kernel, int):
            parts.append(f"{kernel}×{kernel}")
        if "out" in node.attrs and not isinstance(node.attrs["out"], expr.Expr):
            parts.append(_plain(node.attrs["out"]))
        elif "classes" in node.attrs:
            parts.append(_plain(node.attrs["classes"]))
        if isinstance(stride, int) and stride != 1:
            parts.append(f"/{stride}")
        return " ".join(parts)

    # --- Links

    def _links(self) -> tuple[Link, ...]:
        states: dict[tuple[str, str], set[State]] = {}
        for node in self.whole.nodes.values():
            if node.name not in self.owner:
                continue
            target = self.owner[node.name]
            for edge in node.inputs:
                held = self._holds(edge.when)
                state: State = "gone" if held is False else "open" if held is None else "fixed"
                source = edge.source
                while source not in self.owner:
                    source = self.whole.nodes[source].inputs[0].source
                if not (self._alive(node) and self._alive(self.whole.nodes[edge.source])):
                    state = "gone"
                if self.owner[source] != target:
                    states.setdefault((self.owner[source], target), set()).add(state)
        out = []
        for (source, target), found in states.items():
            best: State = "fixed" if "fixed" in found else "open" if "open" in found else "gone"
            if target in self.options and best == "open":
                best = "fixed"  # what a choice reads is no choice
            out.append(Link(source, target, best))
        return tuple(out)


_STEP = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]|[^.\[\]]+")


def stage_of(path: str) -> str:
    """The first step of a path with its index, such as `stage[2]`."""
    first, *rest = _STEP.findall(path)
    return first + (rest[0] if rest and rest[0].startswith("[") else "")


def _prefixes(path: str, whole: bool = False) -> list[str]:
    """The paths that a path lies under, the longest first."""
    out = [path] if whole else []
    ends = [match.end() for match in _STEP.finditer(path)]
    return out + [path[:end] for end in reversed(ends[:-1])]


def _open(attrs: Mapping[str, Any]) -> bool:
    return bool(expr.decisions_of(dict(attrs)))


def _bar_kind(group: Any) -> str:
    return "token" if group.kind == "token" else group.label or "channel"


def _short_names(paths: Sequence[str]) -> list[str]:
    """The last step of each path, with as many before it as tell them apart."""
    steps = [_STEP.findall(path) for path in paths]
    names = []
    for mine in steps:
        n = 1
        while n < len(mine) and (mine[-n].startswith("[") or sum(s[-n:] == mine[-n:] for s in steps) > 1):
            n += 1
        text = "".join(step if step.startswith("[") else f".{step}" for step in mine[-n:]).removeprefix(".")
        names.append(text)
    return names


def _plain(value: Any) -> str:
    if isinstance(value, expr.Case):
        return "|".join(show(v) for v in dict.fromkeys(value.values))
    return "?" if isinstance(value, expr.Expr) else show(value)


def _topological(items: Mapping[str, Item], links: Sequence[Link]) -> list[str]:
    """The keys so that links point forward; as they are where contraction has made a circle."""
    left = dict.fromkeys(items, 0)
    after: dict[str, list[str]] = {key: [] for key in items}
    for link in links:
        left[link.target] += 1
        after[link.source].append(link.target)
    position = {key: i for i, key in enumerate(items)}
    ready = sorted((key for key, n in left.items() if n == 0), key=position.__getitem__)
    out: list[str] = []
    while ready:
        key = ready.pop(0)
        out.append(key)
        for target in after[key]:
            left[target] -= 1
            if left[target] == 0:
                ready.append(target)
        ready.sort(key=position.__getitem__)
    return out if len(out) == len(items) else list(items)
