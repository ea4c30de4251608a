"""What a picture shows: the items of a graph at a level of detail, and the links between them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from itertools import islice, pairwise, product
from typing import Any, Literal, get_args

import networkx

from nasdsl.compiler import ops
from nasdsl.compiler.bound import SLOTS
from nasdsl.compiler.decision import Decision, FixedUnits, Units
from nasdsl.compiler.diagnostics import ArgumentError, suggest
from nasdsl.compiler.elaborate.values import show
from nasdsl.compiler.graph import Graph, Node
from nasdsl.compiler.largest import largest_values
from nasdsl.compiler.space import Space
from nasdsl.compiler.values.plain import FAULTS
from nasdsl.compiler.values.tree import Among, Case, Expr, Remembering, decisions_of, evaluate, options, value_at
from nasdsl.drawing.modules import (
    Module,
    block_name,
    chain_links,
    choices_between_modules,
    opened,
    permuted_blocks,
    places,
)
from nasdsl.drawing.paths import last_word, prefixes, short_names, stage_of, steps_under, without_indices
from nasdsl.drawing.tied import Cell, inside_of, tied_cells, uses_in_words

Level = Literal["module", "block", "operator"]
LEVELS: tuple[Level, ...] = get_args(Level)
State = Literal["fixed", "open", "told", "gone"]
Kind = Literal["input", "output", "block", "operator", "choice", "sum", "mean", "concat", "select"]

SMALL: frozenset[Kind] = frozenset({"sum", "mean", "concat", "select"})
MOST_SCALES = 2000  # values tried for the scales of a block
MOST_NAMES = 12  # that a message lists
TOLD = ("kernel", "stride", "dilation", "groups", "norm", "order")  # settings that tell layers apart at a glance
LONGEST_NAME = 24  # of a choice inside a box


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
        group: the stage that it belongs to, and `stage` what that is called where the file has no name for it.
        state: `open` where something is still decided, `gone` where an architecture does without it.
        optional: there in some architectures only.
        nodes: of the graph that it stands for.
        count: how many equal copies it stands for, where it is more than one: `× 3`, `× depth 1–4`.
        scales: that a permuted block can have, the finest first, where that is open.
        ranging: scales that something else can have which is drawn at one of them, the finest first.
        kinds: of a permuted block: the operators that it can be.
        option: of an opened choice: the one that it belongs to.
        ends: whether others than permuted blocks read this one.
        decision: of a choice that is closed: its path.
        same: equal for items that are equal apart from indices.
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
    nodes: tuple[str, ...] = ()
    count: str = ""
    scales: tuple[Fraction | int, ...] = ()
    kinds: tuple[str, ...] = ()
    option: str = ""
    ends: bool = False
    stage: str = ""
    decision: str = ""
    ranging: tuple[Fraction | int, ...] = ()
    same: Hashable = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Frame:
    """Items that are repeated together: how often, and their keys."""

    label: str
    keys: frozenset[str]


@dataclass(frozen=True)
class Link:
    """What reads what. One that is `told` is not drawn: the options of what reads it name it."""

    source: str
    target: str
    state: State = "fixed"


Step = tuple[tuple[str, Fraction | int], tuple[str, Fraction | int]]
"""From a block at a scale to one at another."""


@dataclass(frozen=True)
class Picture:
    """Items in topological order, and links.

    Attributes:
        frames: around what is repeated, inner ones first.
        permuted: the keys of permuted blocks in their order.
        closed: what `--open` can open: paths of the boxes, with the decision of each.
        notes: what is decided about several items together.
        steps: from a permuted block at a scale to the next one at a scale, where not each scale can follow each.
        details: the insides of cells that are decided once and used in many places; their `facts` say where.
    """

    name: str
    facts: str
    items: tuple[Item, ...]
    links: tuple[Link, ...]
    blocks: str = ""  # the operator that all blocks without a title are uses of
    frames: tuple[Frame, ...] = ()
    permuted: tuple[str, ...] = ()
    closed: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    details: tuple[Picture, ...] = ()


def make_picture(space: Space | Graph, level: Level, words: Sequence[str] = (), outer: int = 0) -> Picture:
    """The items of a space or an architecture.

    What an architecture has left out is in the picture too, faded, where the space knows the whole that it came from;
    except where there is more of that than of the architecture.

    Args:
        words: paths or decisions of choices whose options are drawn.
        outer: blocks are the uses around those of operators that use no others, so many times.

    Raises:
        ArgumentError: a word opens nothing.
    """
    if isinstance(space, Graph):
        return _Maker(space, space, {}, level, words, outer).scene("", "")
    facts = _facts(space.graph)
    if space.whole is not None:
        maker = _Maker(space.whole, space.graph, space.pins, level, words, outer)
        scene = maker.scene(space.name, facts)
        if 2 * sum(item.state == "gone" for item in scene.items) <= len(scene.items):
            return scene
    return _Maker(space.graph, space.graph, {}, level, words, outer).scene(space.name, facts)


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
    def __init__(
        self,
        whole: Graph,
        graph: Graph,
        pins: Mapping[str, Any],
        level: Level,
        words: Sequence[str],
        outer: int = 0,
        inside: bool = False,
    ):
        """
        Args:
            inside: of a cell, in which no other cells are drawn apart, and choices stay boxes where they are decided.
        """
        self.whole, self.graph, self.pins, self.level, self.words = whole, graph, pins, level, words
        self.outer = outer
        self.known = Remembering(pins)  # the same, for expressions that share their parts
        self.values = Remembering({**largest_values(whole), **pins})
        self.users = whole.users()
        self.owner: dict[str, str] = {}  # node -> key of its item; passed-by nodes are missing
        self.closed: dict[str, str] = {}  # choice items, and the decision that each is about
        self.opened: list[Module] = []  # choices whose options are drawn, and those inside closed ones
        self.permuted: list[str] = []
        self.own: dict[str, list[str]] = {}  # by decision: the items that depend on it
        self.cells: dict[str, Cell] = {}  # by use: what is drawn once beside the picture
        self.inside = inside
        self.one_of: dict[str, dict[int, str]] = {}  # sums of which one input is there: what each option reads
        self.stepped: dict[str, set[str]] = {}  # by decision: the blocks whose scale it decides, as steps show
        self.passed: dict[str, str] = {}  # such sums where it is decided, and what they read

    def scene(self, name: str, facts: str) -> Picture:
        found = tied_cells(self.whole) if self.level == "module" and not self.inside else []
        cells = [cell for cell in found if not any(cell.named(word) for word in self.words)]
        self.words = [word for word in self.words if not any(cell.named(word) for cell in found)]
        self.cells = {use: cell for cell in cells for use in cell.uses}
        if self.level == "module":
            self._own_permuted()
            self._own_cells()
            self._own_one_of()
        if self.level != "operator":
            self._own_blocks()
        self._own_choices()
        for node in self.whole.nodes.values():
            self.owner.setdefault(node.name, node.name)
        if self.level == "module":
            self._own_plain_selections()
        self._pass_by()
        members: dict[str, list[Node]] = {}
        behind: dict[str, list[str]] = {}
        for node in self.whole.nodes.values():
            if node.name in self.owner:
                members.setdefault(self.owner[node.name], []).append(node)
            behind.setdefault(self.owner[self._shown(node.name)], []).append(node.name)
        self._deal_decisions(members)
        steps = self._steps()
        for _, (target, _) in steps:
            for path in decisions_of(self.ends[target].shape.scale):
                self.stepped.setdefault(path, set()).add(target)
        links = self._links({target for _, (target, _) in steps})
        items = {key: self._item(key, nodes, tuple(behind[key])) for key, nodes in members.items()}
        if steps:
            items = {key: self._stepping(item, steps) for key, item in items.items()}
        ordered = _topological(items, links, pairwise(self.permuted))
        titles = {item.title for item in items.values() if item.kind == "block" and item.bars}
        blocks = titles.pop() if len(titles) == 1 else ""
        if blocks:  # the legend names them
            items = {k: replace(i, title="" if i.title == blocks and i.bars else i.title) for k, i in items.items()}
        return Picture(
            name,
            facts,
            tuple(items[key] for key in ordered),
            links,
            blocks,
            permuted=tuple(self.permuted),
            closed=tuple(self.closed.items()),
            notes=self._notes(steps),
            steps=steps,
            details=tuple(map(self._detail, [*cells, *self._fusing_blocks()])),
        )

    def _fusing_blocks(self) -> list[Cell]:
        """Where a box stands for what lies around blocks: operators of several inputs that are used more than once."""
        if not self.outer or self.inside or self.words or self.opened:
            return []
        innermost = self._innermost(set(self.whole.instances))
        uses: dict[str, list[str]] = {}
        for path in self.whole.instances:
            if path in self.leaves - innermost and path in self.owner.values():
                uses.setdefault(self.whole.instances[path], []).append(path)
        found = [Cell(operator, tuple(paths), frozenset()) for operator, paths in uses.items() if len(paths) > 1]
        return [cell for cell in found if all(self._reads_several(use) for use in cell.uses)]

    def _reads_several(self, use: str) -> bool:
        inside = {name for name, key in self.owner.items() if key == use}
        read = {edge.source for name in inside for edge in self.whole.nodes[name].inputs} - inside
        return len(read) > 1

    def _detail(self, cell: Cell) -> Picture:
        whole, graph = inside_of(cell, self.whole, self.graph)
        scene = _Maker(whole, graph, self.pins, self.level, (), inside=True).scene(cell.name, uses_in_words(cell))
        keys = {item.key for item in scene.items if item.state != "gone"}
        links = tuple(link for link in scene.links if {link.source, link.target} <= keys and link.state != "gone")
        finest = max(item.scale for item in scene.items if item.kind == "input")
        items = (replace(_end_of_cell(i), scale=Fraction(i.scale) / finest) for i in scene.items if i.key in keys)
        return replace(scene, items=tuple(items), links=links)

    # --- Which nodes make an item

    def _own_permuted(self) -> None:
        """A permuted block is one item, with what brings its inputs to its scale."""
        self.permuted = permuted_blocks(self.whole)
        if self.outer:  # some lie inside of other blocks then
            self.permuted = [path for path in self.permuted if self.leaves.isdisjoint(prefixes(path))]
        for node in self.whole.nodes.values():
            here = next((path for path in prefixes(node.name, whole=True) if path in self.permuted), None)
            if here is not None:
                self.owner[node.name] = here

    def _own_cells(self) -> None:
        """A use of a cell that is drawn elsewhere is one item."""
        for node in self.whole.nodes.values():
            here = next((path for path in prefixes(node.name, whole=True) if path in self.cells), None)
            if here is not None:
                self.owner.setdefault(node.name, here)

    def _own_one_of(self) -> None:
        """A sum of tensors of which one choice leaves one is a choice of what is read."""
        for node in self.whole.nodes.values():
            if node.kind != "merge" or node.op != "sum" or node.name in self.owner:
                continue
            read = [self.whole.nodes[edge.source] for edge in node.inputs]
            made = {decisions_of(tuple(edge.when for edge in one.inputs)) for one in read}
            single = all(one.kind == "select" and len(one.inputs) == len(self.users[one.name]) == 1 for one in read)
            if not (single and len(read) > 1 and len(made) == 1 and len(paths := made.pop()) == 1):
                continue
            (path,) = paths
            whens = [one.inputs[0].when for one in read]
            taken = [when.options if isinstance(when, Among) else frozenset[int]() for when in whens]
            if sorted(i for some in taken for i in some) == [*range(self.whole.decisions[path].n)]:
                if path in self.pins:
                    chosen = next(one for one, some in zip(read, taken, strict=True) if self.pins[path] in some)
                    self.passed[node.name] = chosen.inputs[0].source
                    self.passed |= {one.name: one.inputs[0].source for one in read}
                    continue
                sources = {i: one.inputs[0].source for one, some in zip(read, taken, strict=True) for i in some}
                self.one_of[node.name] = sources
                self.owner |= dict.fromkeys((node.name, *(one.name for one in read)), node.name)

    def _own_blocks(self) -> None:
        """Uses of operators that use no others are blocks; in a cell those that are a choice are boxes of its
        options."""
        leaves = frozenset(path for path in self.leaves if not (self.inside and self._is_choice(path)))
        for node in self.whole.nodes.values():
            here = next((path for path in prefixes(node.name, whole=True) if path in leaves), None)
            if here is not None:
                self.owner.setdefault(node.name, here)

    def _is_choice(self, path: str) -> bool:
        """Whether a use of an operator is nothing but a choice between some layers."""
        inside = {name for name in self.whole.nodes if path in prefixes(name, whole=True)}
        ends = [name for name in inside if any(user.name not in inside for user in self.users[name])]
        end = self.whole.nodes[ends[0]] if ends else None
        if end is None or len(ends) > 1 or end.kind != "select" or not self._alternatives(end):
            return False
        return inside <= {end.name}.union(*self._regions(end))

    @cached_property
    def leaves(self) -> frozenset[str]:
        """Where operators of the file are used that use no others, or the uses around these."""
        paths = set(self.whole.instances)
        found = self._innermost(paths)
        for _ in range(self.outer):
            paths -= found
            around = self._innermost(paths)
            found = around | {path for path in found if around.isdisjoint(prefixes(path))}
        return frozenset(found)

    @staticmethod
    def _innermost(paths: set[str]) -> set[str]:
        return paths - {before for path in paths for before in prefixes(path)}

    def _own_choices(self) -> None:
        """A choice between operators or modules is one item, with all that only its options need, unless opened."""
        found = [] if self.level == "operator" else self._choices()
        closed, unknown = opened(found, self.words)
        if unknown:
            raise _nothing_to_open(unknown[0], found, self.level)
        self.opened = [choice for choice in found if choice not in closed]
        for choice in closed:
            self.closed[choice.path] = choice.decision
            for name in choice.nodes:
                self.owner[name] = choice.path

    def _choices(self) -> list[Module]:
        """Outer ones first."""
        modules = []
        if self.level == "module":
            found = choices_between_modules(self.whole, self.owner, self.users)
            modules = [m for m in found if (self.inside or m.decision not in self.pins) and not self._owned(m)]
        single = []
        for node in self.whole.nodes.values():
            if node.kind != "select" or self.owner.get(node.name, node.name) != node.name:
                continue
            regions = self._regions(node)
            path = self._alternatives(node) if any(regions) else ""
            if self.level == "module" and len(node.inputs) == 1 and path:
                options = [
                    f"{place}.{label}" for place in places(node.name) for label in self.whole.decisions[path].labels
                ]
                if not any(name.startswith(tuple(options)) for name in regions[0]):
                    continue  # what it reads is chosen elsewhere
            large = max((len({self.owner.get(n, n) for n in region}) for region in regions), default=0) > 1
            if path and (self.inside or not (self.level == "module" and large and path in self.pins)):
                single.append(Module(node.name, path, frozenset([node.name]).union(*regions)))
        single.reverse()  # inner ones stand before outer ones in the graph
        same = {one.path for one in single for m in modules if m.decision == one.decision and one.nodes <= m.nodes}
        single = [choice for choice in single if choice.path not in same]
        return sorted([*modules, *single], key=lambda choice: -len(choice.nodes))

    def _owned(self, module: Module) -> bool:
        """Whether a module lies in a block or a cell."""
        return any(path in self.permuted or path in self.cells for path in prefixes(module.path, whole=True))

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

    def _alternatives(self, node: Node) -> str:
        """The choice that makes a selection, where it is one only."""
        paths = {path for edge in node.inputs for path in decisions_of(edge.when)}
        if len(paths) != 1:
            return ""
        (path,) = paths
        decision = self.whole.decisions.get(path)
        return "" if decision is None or decision.kind != "choice" else path

    def _own_plain_selections(self) -> None:
        """A selection between outputs of one item is part of it."""
        for node in self.whole.nodes.values():
            if node.kind == "select" and self.owner[node.name] == node.name:
                sources = {self.owner[edge.source] for edge in node.inputs}
                if len(sources) == 1 and not node.name.endswith(".exit"):
                    self.owner[node.name] = sources.pop()

    def _pass_by(self) -> None:
        """At the level of blocks, what has no weights and no choice between two items is part of the line."""
        if self.level == "operator":
            return
        for name in self.passed:
            self.owner.pop(name)
        for node in self.whole.nodes.values():
            if self.owner.get(node.name) == node.name and node.kind == "operator" and len(node.inputs) == 1:
                operator = ops.find(node.op)
                plain = operator is not None and not any(p.name in ("out", "classes") for p in operator.params)
                costs = node.op in ("dropout", "norm", "se", "depthwise") or "kernel" in node.attrs
                if plain and not costs and not _open(node.attrs) and node.op != "linear":
                    del self.owner[node.name]

    def _shown(self, name: str) -> str:
        """The node itself, or if it is passed by the one before it that is not."""
        while name not in self.owner:
            name = self.passed.get(name) or self.whole.nodes[name].inputs[0].source
        return name

    # --- Items

    def _deal_decisions(self, members: Mapping[str, Sequence[Node]]) -> None:
        """Each decision goes to the first item whose nodes depend on it; the box of a choice comes first."""
        for key, path in self.closed.items():
            self.own.setdefault(path, []).append(key)
        for choice in self.opened:
            ends = (node for node in self.whole.nodes.values() if node.name in choice.nodes and node.kind == "select")
            mine = (node.name for node in ends if self.owner.get(node.name) == node.name)
            if (end := next((name for name in mine if set(places(name)) & {choice.path}), None)) is not None:
                self.own.setdefault(choice.decision, []).append(end)
        for key, nodes in sorted(members.items(), key=lambda pair: not pair[0].endswith(".exit")):
            for node in nodes:
                for path in self._made_by(node):
                    if key in self.cells and not path.startswith((f"{key}.", f"{key}[")):
                        continue  # told where the cell is drawn
                    keys = self.own.setdefault(path, [])
                    if key not in keys:
                        keys.append(key)

    def _made_by(self, node: Node) -> frozenset[str]:
        """Decisions that show in a node: in its settings, its choice of inputs, and for a selection what it goes by."""
        found = decisions_of(dict(node.attrs))
        inputs = decisions_of(tuple(edge.when for edge in node.inputs))
        if node.kind == "select":
            return found | inputs
        return found | {path for path in inputs if self.whole.decisions[path].kind == "subset"}

    def _item(self, key: str, nodes: Sequence[Node], behind: tuple[str, ...]) -> Item:
        last = nodes[-1]
        kind: Kind = "operator"
        title = last.op
        choice: tuple[Row, ...] = ()
        if key in self.closed:
            kind, title = "choice", self.closed[key].rpartition(".")[2]
            choice = (self._row(self.whole.decisions[self.closed[key]], title),)
        elif key in self.permuted:
            kind, title = "block", block_name(key)
        elif key in self.cells:
            kind, title = "block", self.cells[key].name
        elif key in self.whole.instances and (len(nodes) > 1 or nodes[0].name != key or key in self.owner.values()):
            kind, title = "block", self.whole.instances[key]
        elif last.kind in ("input", "output"):
            kind, title = ("input" if last.kind == "input" else "output"), last.name
        elif last.kind == "merge":
            kind = "sum" if last.op == "sum" else "mean" if last.op == "mean" else "concat"
            kind = "select" if key in self.one_of else kind
        elif last.kind == "select":
            kind = "select"
        alive = any(self._alive(node) for node in nodes)
        still = [self.graph.nodes[node.name] for node in nodes if node.name in self.graph.nodes]
        optional = bool(still) and all(self._depends(node.reached) for node in still)
        bars = self._bars(nodes)
        rows = choice + self._rows(key, nodes)
        open_rows = any(taken is None for row in rows for _, taken in row.options)
        is_open = open_rows or any(bar.kept is None for bar in bars)
        empty = bool(bars) and not rows and all(bar.kept == 0 for bar in bars)  # what is left only passes its input on
        state: State = "gone" if not alive or empty or key in self.silent else "open" if is_open else "fixed"
        note = self._note(last) if kind in ("operator", "input", "output") else ""
        if kind == "block" and not bars and key not in self.permuted and key not in self.cells:
            note = self._note_of_block(nodes)
        if kind == "input" and len(paths := decisions_of((last.shape.channels, last.shape.height))) == 1:
            decision = self.whole.decisions[min(paths)]
            rows = tuple(Row("", (option,)) for option in self._row(decision, "").options)
            note, state = "", "open" if decision.path not in self.pins else state
        scale = self._finest(nodes) if self.level == "module" else self._number(self._ends_at(last))
        item = Item(key, kind, title, scale, self._group(key), state, optional and alive, note, bars, rows, behind)
        if key in self.permuted:
            end = self.ends[key]
            readers = {self.owner.get(user.name) for user in self.users[end.name]}
            item = replace(
                item,
                scale=self._number(end.shape.scale),
                scales=self._possible(end.shape.scale),
                kinds=() if key in self.cells else self._kinds(key, nodes),
                ends=bool(readers - set(self.permuted)),
                state="open" if self._undecided(nodes) else "fixed",
            )
        elif self.permuted:
            item = replace(item, scales=self._possible(last.shape.scale))
        if key in self.cells and self.cells[key].decisions & self.graph.decisions.keys():
            item = replace(item, state="open")
        if key in self.closed:
            item = replace(item, decision=self.closed[key])
        if re.match(r"(for|repeat|fuse|parallel)\[", item.group):
            item = replace(item, stage=self._called(item.group))
        if self.level == "module":
            same = key if key in self.permuted else self._same(item, nodes)
            item = replace(item, option=self._option(key), same=same)
        return item

    @cached_property
    def silent(self) -> frozenset[str]:
        """Closed choices of which an architecture takes an option that gives zeros."""
        found = set()
        for key, path in self.closed.items():
            own = (node for node in self.whole.nodes.values() if self.owner.get(node.name) == key)
            ends = [
                one for one in own if one.kind == "select" and path in decisions_of(tuple(e.when for e in one.inputs))
            ]
            if path in self.pins and ends:
                sources = [edge.source for edge in ends[-1].inputs if self._holds(edge.when) is not False]
                if sources and all(self.whole.nodes[source].op == "zero" for source in sources):
                    found.add(key)
        return frozenset(found)

    def _option(self, key: str) -> str:
        """The option of an opened choice that an item lies in, of the outermost one."""
        for choice in self.opened:
            for place in places(choice.path):
                for label in self.whole.decisions[choice.decision].labels:
                    if key.startswith((f"{place}.{label}.", f"{place}.{label}[")) or key == f"{place}.{label}":
                        return label
        return ""

    @cached_property
    def ends(self) -> dict[str, Node]:
        """The output of each permuted block."""
        found = {}
        for node in self.whole.nodes.values():
            key = self.owner.get(node.name, "")
            if key in self.permuted and any(self.owner.get(user.name) != key for user in self.users[node.name]):
                found[key] = node
        return found

    def _kinds(self, key: str, nodes: Sequence[Node]) -> tuple[str, ...]:
        """The operators of the file that a permuted block can be."""
        found = []
        for node in nodes:
            if self._alive(node):
                inside = (path for path in prefixes(node.name, whole=True) if path in self.leaves and path != key)
                found += [self.whole.instances[path] for path in inside]
        return tuple(dict.fromkeys(found))

    def _undecided(self, nodes: Sequence[Node]) -> bool:
        left = {path for node in nodes for path in self._made_by(node)} - self.pins.keys()
        return any(path in self.graph.decisions for path in left)

    def _possible(self, scale: Any) -> tuple[Fraction | int, ...]:
        """All scales that a block can have, the finest first; none where that is decided."""
        paths = sorted(decisions_of(scale) - self.pins.keys())
        if not paths:
            return ()
        values = [_samples(self.whole.decisions[path]) for path in paths]
        found = set()
        for chosen in islice(product(*values), MOST_SCALES):
            try:
                found.add(evaluate(scale, {**self.values, **dict(zip(paths, chosen, strict=True))}))
            except FAULTS:
                continue
        return tuple(sorted(found, reverse=True)) if len(found) > 1 else ()

    def _steps(self) -> tuple[Step, ...]:
        """From which scale of a permuted block to which of the next an architecture can go; none where all can follow
        all, or where that hangs on an order."""
        ways: networkx.DiGraph[tuple[str, Any]] = networkx.DiGraph()
        narrowed = False
        for one, other in pairwise(self.permuted):
            scales = self.ends[one].shape.scale, self.ends[other].shape.scale
            paths = sorted(decisions_of(scales) - self.pins.keys())
            if any(self.whole.decisions[path].kind != "choice" for path in paths):
                return ()
            wanted = [one.condition for one in self.whole.requirements if one.origin == "require"]
            asked = [condition for condition in wanted if decisions_of(condition) - self.pins.keys() <= {*paths}]
            pairs = set()
            for chosen in islice(product(*(_samples(self.whole.decisions[path]) for path in paths)), MOST_SCALES):
                values = {**self.values, **dict(zip(paths, chosen, strict=True))}
                if all(value_at(condition, values) is not False for condition in asked):
                    pairs.add((self._number(scales[0], values), self._number(scales[1], values)))
            narrowed = narrowed or len(pairs) < len({a for a, _ in pairs}) * len({b for _, b in pairs})
            ways.add_edges_from(((one, a), (other, b)) for a, b in pairs)
        if not narrowed:
            return ()
        first, last = self.permuted[0], self.permuted[-1]
        starts, ends = ([node for node in ways if node[0] == key] for key in (first, last))
        ahead = {node for layer in networkx.bfs_layers(ways, starts) for node in layer}
        back = {node for layer in networkx.bfs_layers(ways.reverse(copy=False), ends) for node in layer}
        return tuple(sorted(ways.subgraph(ahead & back).edges, key=lambda step: self.permuted.index(step[0][0])))

    def _stepping(self, item: Item, steps: Sequence[Step]) -> Item:
        """An item beside a trellis: a block has the scales that steps lead to, others stand at one of theirs."""
        if item.key not in self.permuted:
            return replace(item, scales=(), ranging=item.scales)
        there = {place for step in steps for place in step}
        return replace(item, scales=tuple(scale for scale in item.scales if (item.key, scale) in there))

    def _reads_before(self) -> list[str]:
        """How many of the blocks before it each block reads, where that is the same of all but the first ones."""
        place = {key: i for i, key in enumerate(self.permuted)}
        back: dict[str, set[int]] = {}
        for node in self.whole.nodes.values():
            target = self.owner.get(node.name, "")
            sources = {self.owner.get(self._shown(edge.source), "") for edge in node.inputs} - {target}
            if target in place:
                back.setdefault(target, set()).update(
                    place[target] - place[source] for source in sources & place.keys()
                )
        back.pop(self.permuted[0], None)
        most = max((max(steps) for steps in back.values()), default=0)
        full = all(steps == {*range(1, min(most, place[key]) + 1)} for key, steps in back.items())
        return [f"each reads the {most} before it"] if full and most > 1 else []

    def _notes(self, steps: Sequence[Step]) -> tuple[str, ...]:
        """Orders of permuted blocks."""
        out = self._reads_before() if steps else []
        for path, decision in self.whole.decisions.items():
            keys = self.own.get(path, [])
            if decision.kind == "order" and path not in self.pins and any(key in self.permuted for key in keys):
                labels = decision.labels or tuple(map(str, decision.items))
                out.append(f"{path}: {', '.join(labels)} in any order")
            elif decision.kind == "subset" and path in self.graph.decisions and keys and keys[0] in self.permuted:
                chosen = f"{decision.size} of {decision.n}"
                row = f"{path.rpartition('.')[2]} {chosen}: reads {chosen} outputs before it"
                out.extend([row] if not any("outputs before it" in line for line in out) else [])
        return tuple(out)

    def _same(self, item: Item, nodes: Sequence[Node]) -> Hashable:
        """What makes an item equal to another one apart from indices. An undecided value is equal to another one that
        the same place of the text asks for, and that the same choices decide, besides those of whether it is there."""
        place = {node.name: i for i, node in enumerate(nodes)}
        found = []
        for node in nodes:
            shape, there = node.shape, decisions_of(node.reached)
            sides = (shape.channels, shape.height, shape.width, shape.scale, shape.items)
            settings = self._alike((dict(node.attrs), sides), item.key, there)
            possible = tuple(options(node.attrs[name]) for name in TOLD if isinstance(node.attrs.get(name), Expr))
            inputs = []
            for edge in node.inputs:
                before = self.whole.nodes[edge.source].shape
                outside = (self._alike(before.channels, item.key, there), self._alike(before.scale, item.key, there))
                inputs.append((place.get(edge.source, outside), self._alike(edge.when, item.key, there)))
            is_open = any(decisions_of(value) for value in (dict(node.attrs), shape.channels, shape.scale))
            where = node.span if is_open else None
            shared = node.weight not in ("", node.name)
            found.append((node.kind, node.op, settings, possible, tuple(inputs), shared, self._alive(node), where))
        rows = tuple((without_indices(row.name), row.options) for row in item.rows)
        note = () if item.kind in ("input", "output") else item.note
        scale = item.scales or item.scale
        return (item.kind, item.title, note, item.state, item.bars, rows, scale, item.kinds, tuple(found))

    def _alike(self, value: Any, key: str, there: frozenset[str]) -> Hashable:
        """A value apart from indices: of an undecided one, which choices decide it.

        Args:
            key: of the item; its own choices are called by what stands behind this.
            there: the choices that need not be the same.
        """
        if isinstance(value, Units):
            return "units", value.n, self.pins.get(value.path, without_indices(value.path.removeprefix(key)))
        if isinstance(value, Expr):
            return self._alike_undecided(value, key, there)
        if isinstance(value, Mapping):
            return tuple((name, self._alike(inner, key, there)) for name, inner in value.items())
        if isinstance(value, tuple | list):
            return tuple(self._alike(inner, key, there) for inner in value)
        return repr(value)

    def _alike_undecided(self, value: Expr, key: str, there: frozenset[str]) -> Hashable:
        try:
            return repr(evaluate(value, self.known))
        except FAULTS:  # some of it is open, or does not exist in this architecture
            named = ((without_indices(path.removeprefix(key)), path) for path in value.decisions)
            decided = sorted((name, self.pins[path]) for name, path in named if path in self.pins)
            left = value.decisions - self.pins.keys() - there
            return "open", frozenset(without_indices(path.removeprefix(key)) for path in left), tuple(decided)

    def _alive(self, node: Node) -> bool:
        """Whether an architecture has the node; sums and selections of one tensor left are no nodes of its graph."""
        if node.name in self.graph.nodes:
            return True
        if node.kind not in ("select", "merge") or self._holds(node.present) is False:
            return False
        return any(self._alive(self.whole.nodes[e.source]) for e in node.inputs if self._holds(e.when) is not False)

    def _holds(self, condition: Any) -> Any:
        """A condition under the pins; None where it is open."""
        if not isinstance(condition, Expr):
            return condition
        try:
            return bool(evaluate(condition, self.known))
        except FAULTS:
            return None if self._depends(condition) else True

    def _depends(self, condition: Any) -> bool:
        """Whether a choice decides; that a layer may lose all its search units goes without saying."""
        paths = decisions_of(condition) - self.pins.keys()
        return any(self.whole.decisions[path].kind != "units" for path in paths)

    def _ends_at(self, node: Node) -> Any:
        """The scale at which what a node computes meets others: behind resizes that only it goes through."""
        users = self.users[node.name]
        while (
            self.level != "operator" and len(users) == 1 and users[0].kind == "operator" and len(users[0].inputs) == 1
        ):
            if users[0].name in self.owner:
                break
            node = users[0]
            users = self.users[node.name]
        if node.kind == "output" or node.shape.height is None:  # a vector has no scale of its own
            before = self.whole.nodes[node.inputs[0].source]
            return self._ends_at_input(before)
        return node.shape.scale

    def _finest(self, nodes: Sequence[Node]) -> Fraction | int:
        """The finest scale of what others read."""
        inside = {node.name for node in nodes}
        ends = [node for node in nodes if any(user.name not in inside for user in self.users[node.name])]
        return max(self._number(self._ends_at(node)) for node in ends or nodes[-1:])

    def _group(self, key: str) -> str:
        """The stage of an item, or the part of a detector."""
        first = stage_of(key)
        slot = first.partition("[")[0]
        return slot if slot in SLOTS and self.is_detector else first

    def _called(self, group: str) -> str:
        """What a copy of a loop without a label is called: by the operator that it uses, if it is one."""
        first = {steps[0] for name in self.whole.nodes if (steps := steps_under(name, group))}
        index = group[group.index("[") :]
        word = first.pop() if len(first) == 1 else ""
        return word + index if word and not word.startswith("[") else index

    @cached_property
    def is_detector(self) -> bool:
        return {"backbone", "head"} <= {stage_of(name).partition("[")[0] for name in self.whole.nodes}

    def _ends_at_input(self, node: Node) -> Any:
        while node.shape.height is None and node.inputs:
            node = self.whole.nodes[node.inputs[0].source]
        return node.shape.scale

    def _number(self, value: Any, values: Mapping[str, Any] | None = None) -> Fraction | int:
        try:
            found = evaluate(value, self.values if values is None else values)
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

    def _rows(self, key: str, nodes: Sequence[Node]) -> tuple[Row, ...]:
        found: list[Decision] = []
        for path, decision in self.whole.decisions.items():
            if decision.kind == "units" or self.own.get(path, [None])[0] != key or self.closed.get(key) == path:
                continue
            placed = decision.kind == "order" or path in self.pins or key in self.stepped.get(path, ())
            if key in self.permuted and placed:
                continue  # shown by where it stands and by its colour
            if path not in self.pins and path not in self.graph.decisions:
                continue  # an architecture does not make it
            found.append(decision)
        names = short_names([decision.path for decision in found])
        if key in self.one_of and len(found) == 1:
            row = self._row(found[0], names[0])
            read = (self.owner[self._shown(source)] for _, source in sorted(self.one_of[key].items()))
            sources = [source.partition(".")[0] for source in read]
            return (replace(row, options=tuple((s, t) for s, (_, t) in zip(sources, row.options, strict=True))),)
        if key in self.permuted:
            return tuple(
                Row(name, ((f"{decision.size} of {decision.n}", None),))
                if decision.kind == "subset"
                else self._row(decision, name)
                for decision, name in zip(found, names, strict=True)
            )
        if any(len(name) > LONGEST_NAME for name in names):
            return self._grouped(found)
        if self.level == "module":  # the lane says at which scale
            here = f"[{show(self._finest(nodes))}]"
            names = [name.removesuffix(here) for name in names]
        return tuple(self._row(decision, name) for decision, name in zip(found, names, strict=True))

    def _grouped(self, decisions: Sequence[Decision]) -> tuple[Row, ...]:
        """Rows of many choices in one box, those that are called alike and have the same options together."""
        counts = Counter((row.name, row.options) for row in (self._row(d, last_word(d.path)) for d in decisions))
        return tuple(Row(f"{name} × {n}" if n > 1 else name, options) for (name, options), n in counts.items())

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
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        if isinstance(sides, tuple) and all(isinstance(side, int) for side in sides):
            parts.append("×".join(map(str, sides)))
        out = node.attrs.get("out", shape.channels)
        out = shape.channels if out is None else out  # left to the operator
        if "out" in node.attrs and not isinstance(out, Expr):
            parts.append(_plain(out))
        elif "classes" in node.attrs:
            parts.append(_plain(node.attrs["classes"]))
        if isinstance(stride, int) and stride != 1:
            parts.append(f"/{stride}")
        return " ".join([*parts, *_unusual(node)])

    def _note_of_block(self, nodes: Sequence[Node]) -> str:
        """As of a layer, of a block in which it is decided: its kernel if there is one, its channels, its stride."""
        layers = [
            self.graph.nodes.get(node.name, node) for node in nodes if node.kind == "operator" and self._alive(node)
        ]
        inside = {node.name for node in nodes}
        kernels = {kernel for layer in layers if (kernel := layer.attrs.get("kernel")) not in (None, 1)}
        dilations = {part for layer in layers for part in _unusual(layer) if re.fullmatch(r"d\d+", part)}
        parts = []
        if len(kernels) == 1 and not isinstance(kernel := kernels.pop(), Expr):
            parts.append("×".join(map(str, kernel if isinstance(kernel, tuple) else (kernel, kernel))))
        ends = [node for node in nodes if any(user.name not in inside for user in self.users[node.name])] or nodes[-1:]
        end = self.graph.nodes.get(ends[-1].name, ends[-1])
        if len(ends) == 1 and isinstance(end.shape.channels, int):
            parts.append(str(end.shape.channels))
        read = [edge.source for node in nodes for edge in node.inputs if edge.source not in inside]
        scales = [self.graph.nodes.get(name, self.whole.nodes[name]).shape.scale for name in read] + [end.shape.scale]
        if len(ends) == 1 and len(set(read)) == 1 and not any(isinstance(scale, Expr) for scale in scales):
            ratio = Fraction(scales[0]) / Fraction(scales[-1]) if scales[-1] else 1
            parts += [f"/{ratio}"] if ratio > 1 and end.shape.height is not None else []
        return " ".join([*parts, *sorted(dilations)])

    # --- Links

    def _chosen_parent(self, node: Node, target: str) -> bool:
        """Whether it is open that a permuted block reads a tensor at all. In which way depends on scales alone."""
        scales = (self.whole.nodes[edge.source].shape.scale for edge in node.inputs)
        decided = decisions_of((*scales, self.ends[target].shape.scale)) | self.pins.keys()
        return bool(decisions_of(node.reached) - decided)

    def _links(self, stepped: Container[str]) -> tuple[Link, ...]:
        """
        Args:
            stepped: permuted blocks to which steps lead, which stand for what they read of others.
        """
        states: dict[tuple[str, str], set[State]] = {}
        near = chain_links(self.permuted)
        for node in self.whole.nodes.values():
            if node.name not in self.owner:
                continue
            target = self.owner[node.name]
            for edge in node.inputs:
                held = self._holds(edge.when)
                state: State = "gone" if held is False else "open" if held is None else "fixed"
                source = self._shown(edge.source)
                if target in self.permuted and state == "fixed" and self._chosen_parent(node, target):
                    state = "open"
                if not (self._alive(node) and self._alive(self.whole.nodes[edge.source])):
                    state = "gone"
                if not self.silent.isdisjoint((self.owner[source], target)):
                    state = "gone"
                if self.owner[source] != target:
                    states.setdefault((self.owner[source], target), set()).add(state)
        out = []
        for (source, target), found in states.items():
            best: State = "fixed" if "fixed" in found else "open" if "open" in found else "gone"
            if target in self.closed and best == "open":
                best = "fixed"  # what a choice reads is no choice
            if target in self.one_of and best == "open":
                best = "told"
            if target in stepped and source in self.permuted:
                continue
            if target in self.permuted and best != "fixed" and not (best == "open" and (source, target) in near):
                continue  # its row says how many of the earlier ones it reads
            out.append(Link(source, target, best))
        return tuple(out)


def _end_of_cell(item: Item) -> Item:
    """What comes into a cell and goes out of it has another shape wherever it is used."""
    return replace(item, note="", rows=(), state="fixed") if item.kind in ("input", "output") else item


def _samples(decision: Decision) -> list[Any]:
    """Values with each item at each place of an order; else all of a choice."""
    if decision.kind == "order":
        places = range(decision.n)
        return [tuple((i + shift) % decision.n for i in places) for shift in places]
    return list(islice(decision.values(), MOST_SCALES))


def _nothing_to_open(word: str, found: Sequence[Module], level: Level) -> ArgumentError:
    if not found:
        return ArgumentError(f"`{word}` cannot be opened: a picture of this at level `{level}` has nothing closed")
    names = list(dict.fromkeys(name for module in found for name in (module.path, module.decision)))
    shown = [f"`{name}`" for name in names[:MOST_NAMES]] + (["..."] if len(names) > MOST_NAMES else [])
    near = suggest(word, names)
    return ArgumentError(f"`{word}` opens nothing", near or "what can be opened: " + ", ".join(shown))


def _open(attrs: Mapping[str, Any]) -> bool:
    return bool(decisions_of(dict(attrs)))


def _bar_kind(group: Any) -> str:
    return "token" if group.kind == "token" else group.label or "channel"


def _unusual(node: Node) -> list[str]:
    """Settings of a layer that are told where they are not as they mostly are: dilation, groups, norm, and the order of
    convolution, norm and activation."""
    found = []
    for name, sign in (("dilation", "d"), ("groups", "g")):
        value = node.attrs.get(name, 1)
        if isinstance(value, int) and value != 1:
            found.append(f"{sign}{value}")
    norm, order = node.attrs.get("norm", "batch"), node.attrs.get("order")
    if str(norm) != "batch" and not isinstance(norm, Expr):
        found.append("no norm" if str(norm) == "none" else f"{norm} norm")
    words = list(map(str, order)) if isinstance(order, tuple) else []
    parts = [word for word in words if str(node.attrs.get(word)) != "none"]
    if parts != sorted(parts, key=("conv", "norm", "act").index):
        found.append("-".join(parts))
    return found


def _plain(value: Any) -> str:
    if isinstance(value, Case):
        return "|".join(show(v) for v in dict.fromkeys(value.values))
    return "?" if isinstance(value, Expr) else show(value)


def _topological(items: Mapping[str, Item], links: Sequence[Link], after: Iterable[tuple[str, str]]) -> list[str]:
    """The keys so that links point forward; as they are where contraction has made a circle.

    Args:
        after: pairs of which the second comes later though nothing leads to it.
    """
    order: networkx.DiGraph[str] = networkx.DiGraph()
    order.add_nodes_from(items)
    order.add_edges_from((link.source, link.target) for link in links)
    order.add_edges_from(after)
    position = {key: i for i, key in enumerate(items)}
    try:
        return list(networkx.lexicographical_topological_sort(order, position.__getitem__))
    except networkx.NetworkXUnfeasible:
        return list(items)
