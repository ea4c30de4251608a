"""The settings in which the architectures of a space run an operator: what is to be measured for all of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasdsl.compiler import ops
from nasdsl.compiler.decision import Decision, Units
from nasdsl.compiler.graph import Graph, Node, Shape
from nasdsl.compiler.setting import Setting
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.bounds import known_from
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.follows import follows
from nasdsl.compiler.values.tree import Total, among, decisions_of, evaluate, holds, measures_of

SHARES = (0.125, 0.25, 0.5, 0.75, 1.0)
"""The shares of the widths at which an operator is measured whose widths are not all measured."""
MOST = 64
"""Up to so many options of an operator's choices together all are measured."""

WIDTHS = ("out", "hidden", "tokens")
"""Parameters whose numbers are widths: between two of them a time can be told."""


@dataclass(frozen=True)
class Asked:
    """An operator with everything decided but some widths.

    Attributes:
        values: by path, the option of each choice that is decided.
        settings: by falling width, the greatest first; one where no width is left open.
    """

    values: Mapping[str, int]
    settings: tuple[Setting, ...]


def asked(graph: Graph, node: Node) -> tuple[Asked, ...]:
    """What the architectures of a space ask of one of its operators; none where it never has an output.

    All options of all its choices, where there are up to 64 of them together. Where there are more, the choices of
    widths are left open together with the search units, and so are, if that does not do, the last ones of the others.
    Widths that are left open come at the shares of `SHARES`, all of them at the same one.
    """
    decided, options, wide = _divided(graph, node)
    conditions = _conditions(graph, node, frozenset(decided))
    found = []
    for chosen in itertools.product(*options):
        values: dict[str, Any] = dict(zip(decided, chosen, strict=True))
        if not all(holds(condition, values) for condition in conditions):
            continue
        settings = []
        for share in reversed(SHARES) if wide else (1.0,):
            settings.append(_setting(graph, node, values | {d.path: _at(d, share) for d in wide}))
        if all(setting is not None for setting in settings):
            found.append(Asked(values, tuple(setting for setting in settings if setting is not None)))
    return tuple(found)


def by_choice(found: Sequence[tuple[Asked, Value]], graph: Graph, node: Node) -> Value:
    """One value for all that is asked of an operator, as it depends on the choices that are decided, where they are
    there. Where one is not, what is asked is the same whatever it would be."""
    if not found[0][0].values:
        return found[0][1]

    def tree(rest: Sequence[tuple[tuple[int, ...], Value]], paths: tuple[str, ...]) -> Value:
        if not paths:
            return rest[0][1]
        groups: dict[int, list[tuple[tuple[int, ...], Value]]] = {}
        for (first, *more), value in rest:
            groups.setdefault(first, []).append((tuple(more), value))
        parts = [(option, tree(group, paths[1:])) for option, group in groups.items()]
        whole = parts[-1][1]
        for option, value in reversed(parts[:-1]):
            of = graph.decisions[paths[0]].n
            whole = expr.choose(among(paths[0], of, frozenset((option,))), value, whole)
        present = graph.decisions[paths[0]].present
        if follows(present, node.reached):
            return whole
        without = {key[1:]: value for key, value in reversed(rest)}
        return expr.choose(present, whole, tree([*without.items()], paths[1:]))

    return tree([(tuple(one.values.values()), value) for one, value in found], tuple(found[0][0].values))


def _divided(graph: Graph, node: Node) -> tuple[list[str], list[list[int]], list[Decision]]:
    """The choices that are gone through, the options of each, and the decisions that are left open as widths."""
    shapes = [graph.nodes[edge.source].shape for edge in node.inputs]
    sizes = tuple((x.channels, x.height, x.width, x.items) for x in (*shapes, node.shape))
    places = tuple((x.height, x.width, x.items) for x in (*shapes, node.shape))
    there = tuple((edge.when, graph.nodes[edge.source].present) for edge in node.inputs)
    all_paths = decisions_of((dict(node.attrs), sizes, there if len(there) > 1 else ()))
    attrs = {name: value for name, value in node.attrs.items() if name not in WIDTHS}
    first = decisions_of((attrs, places))  # what no width is told by comes first
    known = known_from(node.reached)
    decided: list[str] = []
    options: list[list[int]] = []
    wide: list[Decision] = []
    ordered = sorted((graph.decisions[path] for path in all_paths), key=lambda d: (d.path not in first, d.path))
    choices = {d.path: sorted(known.get(d.path, range(d.n))) for d in ordered if d.kind == "choice"}
    whole = math.prod(map(len, choices.values())) <= MOST
    for decision in ordered:
        fits = math.prod(map(len, [*options, choices.get(decision.path, [])])) <= MOST
        if decision.path in choices and (whole or (decision.path in first and fits)):
            decided.append(decision.path)
            options.append(choices[decision.path])
        else:
            wide.append(decision)
    return decided, options, wide


def _conditions(graph: Graph, node: Node, paths: frozenset[str]) -> list[Value]:
    """What has to hold for an architecture to run the node, as far as these decisions tell it alone."""
    required = [r.condition for r in graph.requirements if r.origin != "budget" and not measures_of(r.condition)]
    return [one for one in (node.reached, *required) if (asks := decisions_of(one)) and asks <= paths]


def _at(decision: Decision, share: float) -> Any:
    """The value of a decision at a share of its width: of units the first, of numbers the one at that rank."""
    if decision.kind == "units":
        return tuple(range(max(1, round(share * decision.n))))
    if decision.kind == "subset":
        return tuple(range(decision.size))
    if decision.kind == "order":
        return tuple(range(decision.n))
    if not decision.ordered:
        return 0
    return sorted(range(decision.n), key=lambda i: decision.items[i])[max(0, math.ceil(share * decision.n) - 1)]


def _setting(graph: Graph, node: Node, values: Mapping[str, Any]) -> Setting | None:
    """The node with these values; None where no architecture has it so."""

    known: dict[int, Any] = {}

    def put(value: Any) -> Any:
        return expr.substitute(value, decided, known)  # the parts that many values share are replaced once

    def decided(leaf: Any) -> Value | None:
        if isinstance(leaf, Total) or leaf.path not in values:
            return None
        return leaf.fix(values[leaf.path]) if isinstance(leaf, Units) else leaf.evaluate(values)

    def shape(of: Shape) -> Shape:
        return Shape(*[put(part) for part in (of.channels, of.height, of.width, of.scale, of.items)])

    edges = [
        edge
        for edge in node.inputs
        if len(node.inputs) == 1 or (put(edge.when) is not False and put(graph.nodes[edge.source].present) is not False)
    ]
    inputs = tuple(shape(graph.nodes[edge.source].shape) for edge in edges)
    attrs, output = put(dict(node.attrs)), shape(node.shape)
    operator = ops.find(node.op)
    assert operator is not None
    if not edges or decisions_of((attrs, *[(x.channels, x.height, x.width, x.items) for x in (*inputs, output)])):
        return None
    if evaluate(operator.alive(attrs), {}) is False:
        return None
    if any(held is False for held, _ in operator.must(inputs, attrs)):
        return None
    return Setting(node.op, attrs, inputs, output)
