"""What a network costs, by any measure of the registry: of a space as a value over its decisions, of an architecture
as a number.

MACs are multiply-accumulates for one image of the declared size; FLOPs are twice as many. Batch norm, activations,
pooling and resizing count none; the windows of local attention count as full (`Cost` in `ops/operator.py`). Parameters
are those of the modules, batch norm's scale and shift included and running statistics not. `measures/` says what the
others are. A network costs what its evaluation does: what stands in the braces of an `auxiliary` counts nothing, by any
measure, as papers count (DARTS, NASNet).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any

from nasdsl.compiler import measures
from nasdsl.compiler.diagnostics import NasdslError
from nasdsl.compiler.evaluated import evaluated
from nasdsl.compiler.graph import Graph, Node
from nasdsl.compiler.measures.measure import Measure, Place
from nasdsl.compiler.ops.auxiliary import AUXILIARY
from nasdsl.compiler.ops.operator import Cost
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.tree import Remembering, apply, evaluate


class MissingTable(NasdslError):
    """A measure that is known from a file alone was asked for, and no such file was given."""

    code = "no-table"


def node_cost(graph: Graph, node: Node) -> Cost:
    """Of one node wherever it is reached, over the decisions that its attributes and shapes mention."""
    return Place(graph, node).cost


def is_known(graph: Graph, name: str) -> bool:
    """Whether a measure has a value here: unlike others, one that is read from a file needs that file."""
    _, name = measures.base(name)
    return measures.find(name).read is None or name in graph.given


def total(graph: Graph, name: str, under: str = "") -> Value:
    """A measure of the whole network, or of its nodes under a path such as `backbone`, as a sum of terms over few
    decisions each: a whole number, in parts of the measure's unit (`Measure.scale`).

    Raises:
        ArgumentError: there is no such measure.
        MissingTable: it is read from a file, and there is none.
    """
    return totals(graph, (name,), under)[name]


def totals(graph: Graph, names: Iterable[str], under: str = "") -> dict[str, Value]:
    """As `total`, of several measures, each by its name."""
    wanted = {name: measures.base(name) for name in names}
    graph = evaluated(graph)
    keys = {name: (measures.find(name), under) for _, name in wanted.values()}
    missing = [key for key in keys.values() if key not in graph.sums]
    if missing:
        places = [Place(graph, node) for node in graph.nodes.values() if node.kind in ("operator", "merge")]
        places = [place for place in places if not under or lies_under(place.node.name, under)]
        for key in missing:
            graph.sums[key] = _sum(graph, key[0], places)
    return {name: _times(factor, graph.sums[keys[of]]) for name, (factor, of) in wanted.items()}


def partial(graph: Graph, name: str, nodes: Iterable[Node]) -> Value:
    """As `total`, of some of the nodes."""
    factor, name = measures.base(name)
    graph = evaluated(graph)
    kept = [graph.nodes[node.name] for node in nodes if node.name in graph.nodes]
    places = [Place(graph, node) for node in kept if node.kind in ("operator", "merge")]
    return _times(factor, _sum(graph, measures.find(name), places))


def _times(factor: int | Fraction, value: Value) -> Value:
    return value if factor == 1 else expr.multiply(factor, value)  # a long sum is not made anew for nothing


def _sum(graph: Graph, measure: Measure, places: Iterable[Place]) -> Value:
    parts: list[Value] = []
    shared: dict[str, list[tuple[Value, Value]]] = {}
    for place, term in _terms(graph, measure, places):
        if type(term) is int and term == 0:
            continue
        node, when = place.node, measure.when(place)
        if measure.shared == "each" or (node.weight == node.name and node.weight not in shared):
            parts.append(expr.choose(when, term, 0))
        else:
            shared.setdefault(node.weight, []).append((when, term))
    for users in shared.values():
        first = users[0][1]
        if all(own == first for _, own in users):
            parts.append(expr.choose(expr.either(*[when for when, _ in users]), first, 0))
        else:  # the weights of the largest serve the others
            parts.append(apply("max", 0, *[expr.choose(when, own, 0) for when, own in users]))
    return expr.add(*parts)


def _terms(graph: Graph, measure: Measure, places: Iterable[Place]) -> Iterator[tuple[Place, Value]]:
    if measure.read is None:
        assert measure.term is not None
        yield from ((place, measure.term(place)) for place in places)
    elif measure.name in graph.given:
        terms = graph.given[measure.name]
        yield from ((place, terms.get(place.node.name, 0)) for place in places)
    else:
        raise MissingTable(
            f"there is no {measure.name} table, and nothing else tells {measure.name}", measure.made_with
        )


def in_units(graph: Graph, name: str) -> Value:
    """As `total`, in the unit of the measure, as files speak of it."""
    return _times(Fraction(1, measures.find(name).scale), total(graph, name))


def node_term(graph: Graph, node: Node, name: str) -> Value:
    """What a node adds to a measure where it counts, in the measure's unit; 0 of one that runs in training alone.

    Raises:
        ArgumentError, MissingTable: as `total`.
    """
    factor, name = measures.base(name)
    measure = measures.find(name)
    if node.aside or node.op == AUXILIARY.name:
        return 0
    ((_, term),) = _terms(graph, measure, [Place(graph, node)])
    return _times(Fraction(factor, measure.scale), term)


def total_cost(graph: Graph, under: str = "") -> Cost:
    """MACs and parameters of the whole network, or of its nodes under a path such as `backbone`, as `total`.

    Shared weights count once, their work each time.
    """
    return Cost(**totals(graph, Cost._fields, under))


def lies_under(name: str, path: str) -> bool:
    """Whether a node or decision goes by a path or lies inside it: `backbone.c1[0].conv` lies under `backbone.c1`."""
    return name.startswith(path) and name[len(path) : len(path) + 1] in ("", ".", "[")


def cost_of(
    graph: Graph, values: Mapping[str, Any], under: str = "", names: Iterable[str] = measures.DEFAULT
) -> dict[str, Any]:
    """Measures of one architecture, or of its nodes under a path, in their units: whole numbers where these are.

    Raises:
        ArgumentError, MissingTable: as `total`.
    """
    found = totals(graph, names, under)
    known = values if isinstance(values, Remembering) else Remembering(values)  # the sums share most of their parts
    return {name: measures.find(name).amount(int(evaluate(value, known))) for name, value in found.items()}
