"""What the elaboration of a space knows of each place of its text, in words and numbers that an editor shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from nasdsl.compiler.cost import partial, totals
from nasdsl.compiler.count import brief, count
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.diagnostics import NasdslError
from nasdsl.compiler.elaborate.values import Branches, Flow, Tensor, is_lost, show
from nasdsl.compiler.elaborate.watch import Watch
from nasdsl.compiler.engine.limits import bounded
from nasdsl.compiler.extremes import greatest, least
from nasdsl.compiler.graph import Graph, Node, Shape
from nasdsl.compiler.source import Source
from nasdsl.compiler.space import Space
from nasdsl.compiler.values.bounds import Bounds
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.tree import Expr, decisions_of, options
from nasdsl.editor.lines import Shift

T = TypeVar("T")

Extent = tuple[int, int]

MOST_TABLE = 20_000
"""Table entries for one exact answer; what takes more is told by intervals."""

MOST_OPTIONS = 4
"""Possible values that are listed."""

MOST_SHAPES = 6


@dataclass(frozen=True)
class StepFacts:
    """A step, in all its uses together.

    Attributes:
        shapes: what comes out, by the tensors; several uses may differ.
        uses: how often it is run, at most.
        layers: how many operators it makes.
        macs, params: how many it takes, at least and at most; of layers with shared weights once.
        exact: whether these two are.
        decisions: how many are made in it, and how many settings they have together.
    """

    shapes: tuple[str, ...]
    uses: int
    layers: int
    macs: tuple[int, int] | None
    params: tuple[int, int] | None
    exact: bool
    decisions: int
    settings: str


@dataclass(frozen=True)
class DecisionFacts:
    """A place where something is decided: `options` as the file writes them, `values` how many there are for each of
    its `paths`."""

    kind: str
    options: tuple[str, ...]
    values: str
    paths: tuple[str, ...]


@dataclass(frozen=True)
class SpaceFacts:
    """A space as a whole; what is not known is empty."""

    name: str
    count: str = ""
    decisions: int = 0
    layers: int = 0
    input: str = ""
    output: str = ""
    macs: tuple[int, int] | None = None
    params: tuple[int, int] | None = None
    exact: bool = True


@dataclass(frozen=True)
class Facts:
    """All that is known of the text of a space, by place."""

    space: SpaceFacts
    steps: Mapping[Extent, StepFacts] = field(default_factory=dict)
    decisions: Mapping[Extent, DecisionFacts] = field(default_factory=dict)
    values: Mapping[Extent, str] = field(default_factory=dict)
    paths: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def moved(self, by: Shift) -> Facts:
        """The same for an edited text; what was edited itself is left out."""
        return replace(
            self, steps=_moved(self.steps, by), decisions=_moved(self.decisions, by), values=_moved(self.values, by)
        )


def _moved(facts: Mapping[Extent, T], by: Shift) -> dict[Extent, T]:
    return {place: fact for extent, fact in facts.items() if (place := by.place(*extent)) is not None}


def facts(source: Source, name: str, watch: Watch, space: Space | None, costs: bool = True) -> Facts:
    """What an elaboration found.

    Args:
        space: None where it ended in mistakes.
        costs: whether MACs, parameters and sizes are told, which may take seconds.
    """
    graph = Graph(watch.nodes, watch.decisions, (), ())
    if space is not None:
        graph = space.whole or space.graph
    about = SpaceFacts(name, decisions=len(watch.decisions))
    if space is not None and costs:
        about = about_space(space)
    paths = tuple((path, tuple(map(str, one.words))) for path, one in graph.decisions.items() if one.kind == "choice")
    return Facts(about, _steps(source, watch, graph, costs), _decisions(source, graph), _values(source, watch), paths)


def about_space(space: Space) -> SpaceFacts:
    graph = space.graph
    try:
        with bounded(500_000):
            size = brief(count(graph).total)
    except NasdslError:  # too tangled for an answer at once
        size = ""
    found, exact = {}, True
    for measure, cost in totals(graph, ("macs", "params")).items():
        found[measure], well = _range(graph, cost)
        exact = exact and well
    output = graph.nodes[graph.outputs[0]].shape if graph.outputs[0] in graph.nodes else None
    return SpaceFacts(
        name=space.name,
        count=size,
        decisions=len(graph.decisions),
        layers=sum(1 for _ in graph.operators()),
        input=told_shape(graph.input.shape),
        output="" if output is None else told_shape(output),
        macs=found["macs"],
        params=found["params"],
        exact=exact,
    )


# --- Steps ------------------------------------------------------------------------------------------------------------


def _steps(source: Source, watch: Watch, graph: Graph, costs: bool) -> dict[Extent, StepFacts]:
    order = list(watch.nodes)
    nodes: dict[Extent, dict[str, None]] = {}
    made: dict[Extent, dict[str, None]] = {}
    shapes: dict[Extent, dict[str, None]] = {}
    uses: dict[Extent, int] = {}
    for ran in watch.steps:
        if ran.span.source is not source or is_lost(ran.flow):
            continue
        place = ran.span.start, ran.span.end
        nodes.setdefault(place, {}).update(dict.fromkeys(order[number] for number in ran.nodes))
        made.setdefault(place, {}).update(dict.fromkeys(watch.made[number] for number in ran.made))
        shapes.setdefault(place, {}).update(dict.fromkeys(_flow(ran.flow)))
        uses[place] = uses.get(place, 0) + 1
    for node in watch.nodes.values():  # options of a choice are no steps of a body
        if node.kind == "operator" and node.span is not None and node.span.source is source:
            place = node.span.start, node.span.end
            if place not in uses or node.name not in nodes[place]:
                uses[place] = uses.get(place, 0) + 1
            nodes.setdefault(place, {})[node.name] = None
            shapes.setdefault(place, {})[told_shape(node.shape)] = None
    out: dict[Extent, StepFacts] = {}
    known: dict[tuple[str, ...], tuple[tuple[int, int] | None, tuple[int, int] | None, bool]] = {}
    for place, names in nodes.items():
        own = [graph.nodes[name] for name in names if name in graph.nodes]
        key = tuple(names)
        if key not in known:
            known[key] = _costs(graph, own) if costs else (None, None, True)
        macs, params, exact = known[key]
        decided = {path: graph.decisions[path] for path in made.get(place, {}) if path in graph.decisions}
        listed = tuple(shapes.get(place, {}))
        out[place] = StepFacts(
            shapes=listed if len(listed) <= MOST_SHAPES else (*listed[: MOST_SHAPES - 1], "…"),
            uses=uses[place],
            layers=sum(1 for node in own if node.kind == "operator"),
            macs=macs,
            params=params,
            exact=exact,
            decisions=len(decided),
            settings=_settings(decided) if costs else "",
        )
    return out


def _costs(graph: Graph, nodes: list[Node]) -> tuple[tuple[int, int] | None, tuple[int, int] | None, bool]:
    """MACs and parameters of some nodes, and whether they are exact."""
    try:
        macs, well = _range(graph, partial(graph, "macs", nodes))
        params, also = _range(graph, partial(graph, "params", nodes))
    except (NasdslError, KeyError):  # a graph with mistakes lacks what some of its nodes read
        return None, None, True
    return macs, params, well and also


def _range(graph: Graph, cost: Value) -> tuple[tuple[int, int] | None, bool]:
    """The least and the greatest of a cost, and whether that is exact: else it is not below and not above. What is
    required of decisions that it does not hang on is left aside."""
    if not isinstance(cost, Expr):
        return (int(cost), int(cost)), True
    try:
        with bounded(MOST_TABLE):
            part = _part(graph, decisions_of(cost))
            return (int(least(part, cost)[0]), int(greatest(part, cost)[0])), True
    except NasdslError:  # too tangled, or no architecture
        found = Bounds().of(cost)
        return (None if found is None else (int(found[0]), int(found[1]))), False


def _part(graph: Graph, paths: Iterable[str]) -> Graph:
    """The decisions at some paths with those that their presence hangs on, and what is required of these alone."""
    wanted: dict[str, None] = {}
    queue = list(paths)
    while queue:
        path = queue.pop()
        if path not in wanted and path in graph.decisions:
            wanted[path] = None
            queue += decisions_of(graph.decisions[path].present)
    kept = {path: decision for path, decision in graph.decisions.items() if path in wanted}
    asked = (requirement for requirement in graph.requirements if requirement.origin != "budget")
    required = tuple(one for one in asked if set(decisions_of(one.condition)) <= kept.keys())
    return replace(graph, decisions=kept, requirements=required)


def _settings(decisions: Mapping[str, Decision]) -> str:
    """How many settings some decisions have together, whatever is decided elsewhere."""
    if not decisions:
        return ""
    alone = {
        path: one if set(decisions_of(one.present)) <= set(decisions) else replace(one, present=True)
        for path, one in decisions.items()
    }
    try:
        with bounded(MOST_TABLE):
            return brief(count(Graph({}, alone, (), ())).total)
    except NasdslError:  # too tangled for an answer at once
        return ""


# --- In words ---------------------------------------------------------------------------------------------------------


def _flow(flow: Flow) -> list[str]:
    if flow is None:
        return ["nothing"]
    if isinstance(flow, Tensor):
        return [told_shape(flow.shape)]
    assert isinstance(flow, Branches)
    return ["[" + ", ".join(told_shape(tensor.shape) for tensor in flow.tensors) + "]"]


def told_shape(shape: Shape) -> str:
    """`16|24 x 56 x 56`; `5 of 256 x 7 x 7` for regions."""
    parts = [shape.channels] if shape.height is None else [shape.channels, shape.height, shape.width]
    text = " x ".join(told(part) for part in parts)
    return text if shape.items == 1 else f"{told(shape.items)} of {text}"


def told(value: Value) -> str:
    """A value over decisions, shortly: `3|5|7`, `16..64`."""
    if not isinstance(value, Expr):
        return show(value)
    possible = options(value)
    if possible is not None and len(possible) <= MOST_OPTIONS:
        try:
            return "|".join(show(one) for one in sorted(possible))
        except TypeError:  # words and numbers
            return "|".join(sorted(show(one) for one in possible))
    found = Bounds().of(value)
    return "…" if found is None else f"{show(found[0])}..{show(found[1])}"


def _decisions(source: Source, graph: Graph) -> dict[Extent, DecisionFacts]:
    places: dict[Extent, list[Decision]] = {}
    for decision in graph.decisions.values():
        if decision.span is not None and decision.span.source is source:
            places.setdefault((decision.span.start, decision.span.end), []).append(decision)
    out = {}
    for place, ones in places.items():
        first = ones[0]
        options = () if first.kind == "units" else tuple(first.labels or map(show, first.items))
        sizes = sorted({one.cardinality() for one in ones})
        values = brief(sizes[0]) if len(sizes) == 1 else f"{brief(sizes[0])} to {brief(sizes[-1])}"
        out[place] = DecisionFacts(first.kind, options, values, tuple(one.path for one in ones))
    return out


def _values(source: Source, watch: Watch) -> dict[Extent, str]:
    out = {}
    for (name, start, end), values in watch.values.items():
        if name == source.name and values:
            texts = list(dict.fromkeys(text for value in values if (text := _value(value))))
            if texts:
                out[start, end] = ", ".join(texts)
    return out


MOST_SHOWN = 60


def _value(value: object) -> str:
    """A value of a name, where it can be said shortly."""
    if isinstance(value, Tensor):
        return "" if is_lost(value) else told_shape(value.shape)
    if isinstance(value, Branches):
        return _flow(value)[0]
    if isinstance(value, Expr):
        return told(value)
    if isinstance(value, tuple):
        parts = [_value(one) for one in value]
        text = f"[{', '.join(parts)}]" if all(parts) else ""
    elif isinstance(value, bool | int | str) or hasattr(value, "numerator") or hasattr(value, "word"):
        text = show(value)
    elif type(value).__name__ in ("SizeValue", "Record"):
        text = show(value) if not hasattr(value, "parts") else " x ".join(told(part) for part in value.parts)
    else:
        return ""
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 1]}…"
