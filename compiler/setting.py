"""What the module of each operator is built from: the node with everything decided. Nothing here needs torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

from nasdsl.compiler import ops
from nasdsl.compiler.graph import Graph, Node, Shape
from nasdsl.compiler.largest import largest_node
from nasdsl.compiler.ops.operator import Index
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.plain import is_number

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Setting:
    """One node with everything decided: what its module is built from."""

    op: str
    attrs: Mapping[str, Any]
    inputs: tuple[Shape, ...]
    output: Shape

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of the module."""
        operator = ops.find(self.op)
        assert operator is not None
        return operator.arguments(self.inputs, self.output, self.attrs)

    def module(self) -> nn.Module:
        """A new module with fresh weights."""
        return layer_class(self.op)(**self.arguments())

    def macs(self) -> Any:
        """Its multiply-accumulates for one image."""
        operator = ops.find(self.op)
        assert operator is not None
        return operator.cost(self.inputs, self.output, self.attrs).macs * self.output.items

    def shares(self, smaller: Setting) -> dict[str, tuple[Index, ...]]:
        """Which entries of each of this setting's weights the smaller one uses."""
        operator = ops.find(self.op)
        assert operator is not None
        return operator.shares(self.attrs, smaller.attrs, self.inputs, smaller.inputs)


def layer_class(op: str) -> Callable[..., nn.Module]:
    """The torch module behind an operator of the catalogue."""
    operator = ops.find(op)
    assert operator is not None, op
    module, _, name = operator.module.partition(":")
    return getattr(importlib.import_module(module), name)


def setting_of(pinned: Graph, node: Node) -> Setting:
    """What a node of a graph without decisions is built from."""
    inputs = tuple(pinned.nodes[edge.source].shape for edge in node.inputs)
    operator = ops.find(node.op)
    placed = operator is not None and operator.by_input
    return Setting(node.op, {**node.attrs, "places": node.places} if placed else node.attrs, inputs, node.shape)


def largest_settings(graph: Graph) -> dict[str, Setting]:
    """What each module of a supernet is built from, by node. Operators that no choice gives an output are left out."""
    settings: dict[str, Setting] = {}
    for node in graph.nodes.values():
        if node.kind == "operator" or (node.kind == "merge" and node.op != "sum"):
            operator = ops.find(node.op)
            assert operator is not None
            attrs, inputs, output = largest_node(graph, node)
            if expr.evaluate(operator.alive(attrs), {}) is not False:
                settings[node.name] = Setting(node.op, attrs, inputs, output)
    by_weight: dict[str, list[str]] = {}
    for name in settings:
        by_weight.setdefault(graph.nodes[name].weight, []).append(name)
    for names in by_weight.values():
        if len(names) > 1:  # one module holds the weights of all
            common = reduce(_covering, [settings[name] for name in names])
            settings.update(dict.fromkeys(names, common))
    return settings


def _covering(a: Setting, b: Setting) -> Setting:
    """A setting that neither exceeds."""
    if a == b:
        return a
    operator = ops.find(a.op)
    assert operator is not None
    attrs = {
        name: _larger(value, b.attrs.get(name, value), min if name in operator.least else max)
        for name, value in a.attrs.items()
    }
    if operator.by_input and len(a.inputs) < len(b.inputs):
        return _covering(b, a)
    inputs = tuple(x.with_channels(_larger(x.channels, y.channels)) for x, y in zip(a.inputs, b.inputs, strict=False))
    if operator.by_input:  # those that one alone has serve it
        inputs += a.inputs[len(b.inputs) :]
    return Setting(a.op, attrs, inputs, a.output.with_channels(_larger(a.output.channels, b.output.channels)))


def _larger(a: Any, b: Any, pick: Callable[..., Any] = max) -> Any:
    if isinstance(a, dict) and isinstance(b, dict):
        return {key: _larger(a.get(key, b.get(key)), b.get(key, a.get(key)), pick) for key in {**a, **b}}
    if isinstance(a, frozenset) and isinstance(b, frozenset):
        return a | b
    if isinstance(a, tuple) and isinstance(b, int):  # two sides of a kernel, and one of a square
        b = (b,) * len(a)
    if isinstance(b, tuple) and isinstance(a, int):
        a = (a,) * len(b)
    if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        return tuple(_larger(one, other, pick) for one, other in zip(a, b, strict=True))
    return pick(a, b) if is_number(a) and is_number(b) else a
