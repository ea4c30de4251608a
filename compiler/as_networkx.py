"""A space's graph for other programs: a networkx graph whose attributes are numbers and texts, so that each of
networkx's writers takes it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from nasdsl.compiler.cost import node_cost
from nasdsl.compiler.decision import Decision, Units
from nasdsl.compiler.graph import Graph, Node
from nasdsl.compiler.space import Space
from nasdsl.compiler.values.bounds import Bounds
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.plain import is_number
from nasdsl.compiler.values.tree import Expr, decisions_of
from nasdsl.compiler.wording import wording

if TYPE_CHECKING:
    import networkx


def as_networkx(space: Space | Graph) -> networkx.MultiDiGraph[str]:
    """The graph of a space or an architecture. Its nodes are tensors, by their paths; an edge leads to what reads one.

    All attributes are texts, whole numbers and truth values. Lists and records are texts in JSON. What hangs on
    decisions is told in the words of the language (`wording`), its numbers by the least and the greatest that they can
    be: `NAME_least` and `NAME_most` in place of `NAME`. These are found by interval arithmetic, so no architecture
    lies outside them, but not each end need have one.

    Of each node:

    - `kind`: `input`, `operator`, `select` (one of the inputs that are there), `merge` (a sum, a mean, a
      concatenation) or `output`; `operator`: its name in the catalogue, or of a merge what it does;
    - `label`: its path, `stage[2].block.conv`; `inside`: the operator of the file that it is written in, if any;
    - `shape`: `16 x 8 x 8`, channels by height by width in pixels of one image, or `16` of a vector; the numbers are
      `channels`, `height` and `width`; `scale`: its resolution as a part of the input's, such as `1/4`;
    - `decisions`: the paths of the decisions that its parameters, its shape, its inputs or its presence hang on;
    - `present`: the condition under which there is such a tensor, `true` where that is always so;
    - `parameters`: the operator's parameters by name; `weight`: nodes with the same have the same weights;
    - `macs`, `params`: what it costs where it is reached, for one image of the declared size.

    Of each edge `input`, its number among the inputs of the node that reads (also the edge's key), and `when`, the
    condition under which it is used. Of the graph `name`, `input` (its shape), `outputs` (the paths of what the
    network gives), `decisions` by path with `kind`, `options` (or the number of `units`), the `size` of a subset and
    when it is `present`, and `requirements` as the file writes them.
    """
    import networkx

    source = space if isinstance(space, Graph) else space.graph
    decisions = source.decisions
    out: networkx.MultiDiGraph[str] = networkx.MultiDiGraph(
        name="" if isinstance(space, Graph) else space.name,
        input=_shape(source.input, decisions),
        outputs=json.dumps(list(source.outputs)),
        decisions=json.dumps({path: _decision(one, decisions) for path, one in decisions.items()}),
        requirements=json.dumps([one.message for one in source.requirements if one.origin != "live"]),
    )
    inside = _Inside(source.instances)
    for node in source.nodes.values():
        out.add_node(node.name, **_attributes(source, node), inside=inside.of(node.name))
    for node in source.nodes.values():
        for number, edge in zip(node.places, node.inputs, strict=True):
            out.add_edge(edge.source, node.name, key=number, input=number, when=wording(edge.when, decisions))
    return out


class _Inside:
    """The operators that paths lie in."""

    def __init__(self, instances: Mapping[str, str]) -> None:
        self.instances = instances
        self.found: dict[str, str] = {}

    def of(self, path: str) -> str:
        """The innermost one."""
        if path not in self.found:
            above = path.rpartition(".")[0]
            self.found[path] = self.instances[path] if path in self.instances else self.of(above) if above else ""
        return self.found[path]


def _attributes(graph: Graph, node: Node) -> dict[str, Any]:
    decisions, shape = graph.decisions, node.shape
    values = [dict(node.attrs), shape.channels, shape.height, shape.width, shape.scale, node.present, node.reached]
    values += [edge.when for edge in node.inputs]
    mentioned = frozenset[str]().union(*map(decisions_of, values))
    out: dict[str, Any] = {
        "kind": node.kind,
        "operator": node.op if node.kind in ("operator", "merge") else "",
        "label": node.name,
        "shape": _shape(node, decisions),
        "scale": wording(shape.scale, decisions),
        "decisions": json.dumps([path for path in decisions if path in mentioned]),
        "present": wording(node.present, decisions),
        "parameters": json.dumps({key: _plain(value, decisions) for key, value in node.attrs.items()}),
        "weight": node.weight,
    }
    cost = node_cost(graph, node)
    numbers = {"channels": shape.channels, "height": shape.height, "width": shape.width}
    for name, value in {**numbers, "macs": cost.macs, "params": cost.params}.items():
        out |= _number(name, value.count if isinstance(value, Units) else value)
    return out


def _shape(node: Node, decisions: Mapping[str, Decision]) -> str:
    shape = node.shape
    axes = [shape.channels] if shape.height is None else [shape.channels, shape.height, shape.width]
    return " x ".join(wording(axis, decisions) for axis in axes)


def _number(name: str, value: Value) -> dict[str, Any]:
    """A number as an attribute; nothing where there is none, as of the height of a vector."""
    if not isinstance(value, Expr):
        return {name: _whole(value)} if is_number(value) else {}
    ends = Bounds().of(value)
    if ends is None or not all(map(is_number, ends)):
        return {}
    return {f"{name}_least": _whole(ends[0]), f"{name}_most": _whole(ends[1])}


def _whole(value: Any) -> int | float:
    return int(value) if value == int(value) else float(value)


def _plain(value: Value, decisions: Mapping[str, Decision]) -> Any:
    """A parameter in JSON: numbers, truth values and words as such, what hangs on decisions as text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, tuple | list):
        return [_plain(item, decisions) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item, decisions) for key, item in value.items()}
    return wording(value, decisions)


def _decision(decision: Decision, decisions: Mapping[str, Decision]) -> dict[str, Any]:
    out: dict[str, Any] = {"kind": decision.kind}
    if decision.kind == "units":
        out["units"] = decision.n
    else:
        out["options"] = _options(decision)
    if decision.kind == "subset":
        out["size"] = decision.size
    return {**out, "present": wording(decision.present, decisions)}


def _options(decision: Decision) -> list[str]:
    items: Iterable[Any] = decision.labels or decision.items
    return list(map(str, items))
