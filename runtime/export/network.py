"""What the file computes: modules and lines, from the graph of an architecture."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import nn

from nasdsl.compiler import ops
from nasdsl.compiler.cost import total_cost
from nasdsl.compiler.evaluated import evaluated
from nasdsl.compiler.graph import Graph, Node, Shape
from nasdsl.compiler.layers.activation import Activation, Dropout
from nasdsl.compiler.layers.conv import Shortcut
from nasdsl.compiler.layers.merge import Sum
from nasdsl.compiler.setting import Setting, layer_class, setting_of
from nasdsl.compiler.slices import copy_weights
from nasdsl.compiler.supernet import Supernet, key_of, reads_scene
from nasdsl.runtime.export.code import WIDTH, Code, Group, code_of, flat
from nasdsl.runtime.export.errors import ExportError
from nasdsl.runtime.export.names import Names, Segment, identifier, joined, needless_words, segments, variable
from nasdsl.runtime.tasks.detection import Detection


def live_nodes(graph: Graph) -> tuple[list[Node], str]:
    """The nodes that the output depends on, in order and without the input, and the name of the last one."""
    final = graph.nodes[graph.outputs[0]].inputs[0].source
    wanted = {final}
    for node in reversed(list(graph.nodes.values())):
        if node.name in wanted:
            wanted |= {edge.source for edge in node.inputs}
    return [node for node in graph.nodes.values() if node.name in wanted and node.kind != "input"], final


def equal_sums(graph: Graph, order: Sequence[Node]) -> set[str]:
    """The sums whose inputs have one size whatever the size of the image, so that `+` does.

    Every size is a chain of ceil(n * a / b), which repeats itself after as many pixels as the strides come to.
    """
    sums = {node.name for node in order if node.op == "sum" and node.kind == "merge"}
    vectors = {name for name in sums if graph.nodes[name].shape.height is None}
    same = set(sums)
    period = math.lcm(*(Fraction(node.shape.scale).denominator for node in order), 1)
    if period > 512:
        return vectors
    for size in range(1, 2 * period + 1):
        if same <= vectors:
            break
        first = graph.input.shape
        shapes = {graph.input.name: Shape(first.channels, size, size, first.scale)}
        for node in order:
            inputs = [shapes[edge.source] for edge in node.inputs]
            if node.name in sums:
                shapes[node.name] = inputs[0]
                if any(x.height != inputs[0].height for x in inputs):
                    same.discard(node.name)
                continue
            operator = ops.find(node.op)
            assert operator is not None
            try:
                shapes[node.name] = operator.shape(inputs, node.attrs)
            except Exception:  # an operator that does not take every size says nothing about the others
                return vectors
    return same


@dataclass
class Line:
    """One value that `forward` computes: a call of a layer, or a sum where there is no layer. `told` is a layer that
    reads the scene, too."""

    node: str
    layer: str
    inputs: tuple[str, ...]
    folded: list[Line] = field(default_factory=list)
    told: bool = False

    def reads(self) -> Iterable[str]:
        """The values that must be there before."""
        inside = {line.node for line in self.folded}
        for line in self.folded:
            yield from line.inputs
        yield from (name for name in self.inputs if name not in inside)

    @property
    def reads_scene(self) -> bool:
        """Whether one of its layers does."""
        return self.told or any(line.told for line in self.folded)


class Network:
    """A network of one architecture as named layers and lines of code."""

    def __init__(self, network: Supernet) -> None:
        graph = self.graph = evaluated(network.graph)
        order, final = live_nodes(graph)
        self.told = {node.name for node in order if node.kind == "operator" and reads_scene(node.op)}
        self.detects = graph.nodes[final].op in Detection.heads
        self.cost = total_cost(Graph({n.name: n for n in [graph.input, *order]}, {}, (), ()))
        self.names = Names({*dir(nn.Module()), "forward"})
        self.dropped = needless_words([node.name for node in order])
        self.weights: dict[str, torch.Tensor] = {}
        self.constructors: dict[str, Code] = {}
        self.classes: list[type] = []
        self.owner: dict[str, str] = {}
        self.same: dict[str, str] = {}
        self.lines: list[Line] = []
        self.calls: dict[str, Line] = {}
        self._build(network, order)
        self._no_idle_losses(order)
        self.final = self.same.get(final, final)
        self.lines = folded(self.lines, self.final)
        self._name_variables()
        while long := [line for line in self.lines if line.folded and self._breaks(line)]:
            for line in long:
                place = self.lines.index(line)
                self.lines[place:place] = line.folded
                line.folded = []
            self._name_variables()

    def call(self, line: Line) -> Code:
        """A layer's call."""
        items: list[tuple[str, Code]] = [("", self.variables[name]) for name in line.inputs]
        return Group(f"self.{line.layer}(", (*items, ("scene=", "scene")) if line.told else tuple(items), ")")

    def terms(self, line: Line) -> list[Code]:
        """What a sum adds."""
        calls = {term.node: self.call(term) for term in line.folded}
        return [calls[name] if name in calls else self.variables[name] for name in line.inputs]

    def _breaks(self, line: Line) -> bool:
        """Whether a sum of two would break inside a call's brackets, which reads worse than a line for each."""
        target = max(len(self.variables[line.node]) + 3, len("return "))
        return len(line.inputs) == 2 and 8 + target + len(" + ".join(map(flat, self.terms(line)))) > WIDTH

    # --- layers

    def _build(self, network: Supernet, order: Sequence[Node]) -> None:
        plus = equal_sums(self.graph, order)
        shared: dict[tuple[str, str], str] = {}
        stateless: list[tuple[Node, Code]] = []
        for node in order:
            if node.kind == "select":
                raise ExportError(f"`{node.name}` is still a choice", "take one architecture out first")
            inputs = tuple(self.same.get(edge.source, edge.source) for edge in node.inputs)
            if node.kind == "merge" and node.op == "sum":
                if len(inputs) == 1:
                    self.same[node.name] = inputs[0]
                elif node.name in plus:
                    self.lines.append(Line(node.name, "", inputs))
                else:
                    stateless.append((node, self._constructor(Sum(), {})))
                    self._add(node.name, inputs)
                continue
            setting = setting_of(self.graph, node)
            module = self._module(network, node, setting)
            if passes_through(module):
                self.same[node.name] = inputs[0]
                continue
            constructor = self._constructor(module, setting.arguments())
            self._add(node.name, inputs)
            if not module.state_dict() and not list(module.buffers()):
                stateless.append((node, constructor))
                continue
            key = (node.weight, flat(constructor))
            if key not in shared:
                attribute = self.names.fresh(joined(segments(node.name), self.dropped))
                shared[key] = attribute
                self.constructors[attribute] = constructor
                self.owner[attribute] = node.name
                for name, tensor in module.state_dict(keep_vars=True).items():
                    self.weights[f"{attribute}.{name}"] = tensor
            self._name_layer(node.name, shared[key])
        self._share_stateless(stateless)

    def _add(self, node: str, inputs: tuple[str, ...]) -> None:
        """A call of a layer that gets its name later."""
        self.calls[node] = Line(node, node, inputs, told=node in self.told)
        self.lines.append(self.calls[node])

    def _name_layer(self, node: str, attribute: str) -> None:
        self.calls[node].layer = attribute

    def _no_idle_losses(self, order: Sequence[Node]) -> None:
        """
        Raises:
            ExportError: a layer learns, but the output does not depend on it, so that the file would be without it.
        """
        live = {node.name for node in order}
        for node in self.graph.operators():
            if node.name not in live and reads_scene(node.op) and hasattr(layer_class(node.op), "learn"):
                raise ExportError(f"`{node.name}` learns, but no output depends on it", "leave it out of the network")

    def _module(self, network: Supernet, node: Node, setting: Setting) -> nn.Module:
        """The node's module with its weights. Nodes that share weights in different settings get a copy each."""
        full = network.layers[key_of(node.weight)]
        largest = network.settings[node.name]
        shares = largest.shares(setting)
        if setting.arguments() == largest.arguments() and not shares:
            return full
        module = setting.module()
        with torch.no_grad():
            for parameter in full.parameters():
                module.to(dtype=parameter.dtype, device=parameter.device)
                break
            copy_weights(full, module, shares)
        return module

    def _constructor(self, module: nn.Module, arguments: Mapping[str, Any]) -> Code:
        if isinstance(module, Activation):  # a layer that is one of torch's own needs no class around it
            return Group(f"nn.{type(module.act).__name__}(", (), ")")
        if isinstance(module, Dropout):
            return Group("nn.Dropout(", (("p=", code_of(module.dropout.p)),), ")")
        cls = type(module)
        if cls not in self.classes:
            self.classes.append(cls)
        defaults = {p.name: p.default for p in inspect.signature(cls).parameters.values()}
        items = []
        for name, value in arguments.items():
            default = defaults.get(name, inspect.Parameter.empty)
            if default is inspect.Parameter.empty or type(default) is not type(value) or default != value:
                items.append((f"{name}=", code_of(value)))
        return Group(f"{cls.__name__}(", tuple(items), ")")

    def _share_stateless(self, layers: Sequence[tuple[Node, Code]]) -> None:
        """One attribute for all layers without weights that are built alike, named after the operator."""
        kinds: dict[str, dict[str, Code]] = {}
        for node, constructor in layers:
            kinds.setdefault(node.op, {})[flat(constructor)] = constructor
        named: dict[tuple[str, str], str] = {}
        for op, constructors in kinds.items():
            for text, constructor in constructors.items():
                values = re.findall(r"=([^,()]+)", text) if len(constructors) > 1 else []
                attribute = self.names.fresh("_".join([op, *(v for v in map(identifier, values) if v)]))
                named[op, text] = attribute
                self.constructors[attribute] = constructor
        for node, constructor in layers:
            self._name_layer(node.name, named[node.op, flat(constructor)])

    # --- variables

    def _name_variables(self) -> None:
        """A short name for each value. Along a chain the name stays, so that old values go as new ones come."""
        self.variables: dict[str, str] = {}
        self.last: dict[str, int] = {self.final: len(self.lines)}
        for i, line in enumerate(self.lines):
            for name in line.reads():
                self.last[name] = max(i, self.last.get(name, 0))
        self.results: dict[tuple[Segment, ...], str] = {}
        for line in self.lines:
            parts = segments(line.node)
            self.results |= {parts[:length]: line.node for length in range(1, len(parts))}
        images = self.variables[self.graph.input.name] = "images" if self.told else "x"
        holder: dict[str, str] = {images: self.graph.input.name}
        if self.told:
            holder |= dict.fromkeys(("targets", "scene"), self.graph.input.name)
        for i, line in enumerate(self.lines):
            for wanted in self._wanted(line.node):
                name = variable(wanted)
                if name not in holder or (holder[name] != self.graph.input.name and self.last[holder[name]] <= i):
                    break
            else:
                name = Names(holder).fresh(variable(wanted))
            holder[name] = line.node
            self.variables[line.node] = name

    def _wanted(self, node: str) -> Iterable[str]:
        if self.detects and node == self.final:
            yield "detections"
        parts = segments(node)
        if len(parts) > 1 and self._is_result(node):
            scope = parts[:-1]
            kept = [part for part in scope if part.word != "repeat"]
            # where several paths lead to one lane, the lane's name is for what they come to
            lane = [Segment(p.word, p.index.removeprefix("->").strip()) for p in kept]
            short = self.dropped | {p.word for p in kept[1:] if p.index.startswith("->")}
            yield joined([*lane, Segment("", "")], short)
            yield joined([*scope, Segment("", "")], self.dropped)
        yield joined(parts, self.dropped)

    def _is_result(self, node: str) -> bool:
        """Whether the node is the last of its scope."""
        return self.results[segments(node)[:-1]] == node


def passes_through(module: nn.Module) -> bool:
    """Whether a layer gives back what it gets, as a shortcut of equal widths does."""
    if isinstance(module, Shortcut):
        return isinstance(module.conv, nn.Identity)
    return isinstance(module, Activation) and isinstance(module.act, nn.Identity)


def folded(lines: Sequence[Line], final: str) -> list[Line]:
    """Calls whose only reader is the sum right behind them become terms of it. The order of calls stays."""
    readers: dict[str, int] = {final: 2}
    for line in lines:
        for name in line.inputs:
            readers[name] = readers.get(name, 0) + 1
    out: list[Line] = []
    for line in lines:
        if not line.layer:
            terms: list[Line] = []
            while out and out[-1].layer and out[-1].node in line.inputs and readers[out[-1].node] == 1:
                terms.insert(0, out.pop())
            places = [line.inputs.index(term.node) for term in terms]
            if places != sorted(places):
                out += terms
            else:
                line.folded = terms
        out.append(line)
    return out
