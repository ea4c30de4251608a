"""The supernet: one torch module that holds the weights of every architecture of a space, and runs any of them."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import torch
from torch import nn

from nasdsl.compiler.architecture import Architecture, Values, some, wrong
from nasdsl.compiler.decision import runs
from nasdsl.compiler.diagnostics import ArgumentError
from nasdsl.compiler.extremes import feasible, structural
from nasdsl.compiler.graph import Graph, Node, Shape
from nasdsl.compiler.largest import largest_values
from nasdsl.compiler.layers.auxiliary import Side, Sided
from nasdsl.compiler.layers.scene import Scene
from nasdsl.compiler.ops.auxiliary import AUXILIARY
from nasdsl.compiler.ops.operator import Index, Made
from nasdsl.compiler.pin import pin
from nasdsl.compiler.setting import Setting, largest_settings, layer_class, setting_of
from nasdsl.compiler.slices import Slice, copy_weights, shared, take
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.plain import FAULTS
from nasdsl.compiler.values.tree import Expr, Remembering, decisions_of, evaluate, holds


def reads_scene(op: str) -> bool:
    """Whether the module behind an operator is told of the scene: of sizes of images, and of targets."""
    return bool(getattr(layer_class(op), "reads_scene", False))


Layer = Callable[..., Any]


@dataclass(frozen=True)
class Step:
    """One line of the flat program that `forward` runs: `slot[output] = layer(*slots[inputs])`; then `frees` are
    dropped. A layer that `reads` is told of the scene, too. One that is `aside` runs in training alone, and so does one
    that `parts`, of which in evaluation the first input goes on."""

    layer: Layer
    inputs: tuple[int, ...]
    output: int
    frees: tuple[int, ...]
    reads: bool = False
    aside: bool = False
    parts: bool = False


@dataclass(frozen=True)
class Program:
    """What `forward` runs: steps over so many slots, the first of them the image, and the slot of the output."""

    steps: tuple[Step, ...]
    slots: int
    output: int


def laid_out(
    graph: Graph,
    sources: Mapping[str, Sequence[str]],
    output: str,
    layer: Callable[[str], Layer],
    told: Container[str],
) -> Program:
    """A program of tensors that are made one after the other.

    Args:
        graph: whose nodes they are.
        sources: by name, in order, what each tensor is made of.
        output: the name of what is given.
        layer: what makes it, by name.
        told: of which the layer reads the scene.
    """
    slots = {name: slot for slot, name in enumerate((graph.input.name, *sources))}
    last = {source: name for name, own in sources.items() for source in own}
    frees: dict[str, list[int]] = {}
    for source, user in last.items():
        if source != output:
            frees.setdefault(user, []).append(slots[source])
    steps = [
        Step(
            layer(name),
            tuple(slots[one] for one in own),
            slots[name],
            tuple(frees.get(name, ())),
            name in told,
            graph.nodes[name].aside,
            graph.nodes[name].op == AUXILIARY.name,
        )
        for name, own in sources.items()
    ]
    return Program(tuple(steps), len(slots), slots[output])


MOST_SLICES = 4096
"""Layers of architectures that a supernet keeps ready."""
SUM = "+"
"""The key of the layer behind all sums. No node has this name."""


def adds_up(node: Node) -> bool:
    """Whether a node gives the sum of what it reads, which of one tensor is that tensor."""
    return node.kind == "select" or (node.kind == "merge" and node.op == "sum")


def key_of(weight: str) -> str:
    """A node's weight key in the form that a torch module's name can have."""
    return weight.replace(".", "/")


@dataclass
class Surgery:
    """What a shrink did to parameters and buffers, by name: the entries that stayed of each axis, and the names that
    are gone."""

    cut: dict[str, tuple[Index, ...]]
    removed: list[str]


class Supernet(nn.Module):
    """Holds the largest setting of every operator. `forward` runs the architecture that was activated last, at first
    the largest.

    It is an ordinary module: any training loop can drive it, any input size runs through it (B C H W). Where the size
    of the input is a choice, images of any size are brought to that of the active architecture.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.kept: dict[str, tuple[int, ...]] = {}
        self.settings = largest_settings(graph)
        layers: dict[str, nn.Module] = {}
        for name, setting in self.settings.items():
            key = key_of(graph.nodes[name].weight)
            if key not in layers:
                layers[key] = setting.module()
        layers[SUM] = layer_class("sum")()
        self.layers = nn.ModuleDict(layers)
        self._told = {name for name, setting in self.settings.items() if reads_scene(setting.op)}
        self.steps: tuple[Step, ...] = ()
        self.forget()
        self._run(_first(graph))

    def __repr__(self) -> str:
        """`Supernet(18 decisions, 29 layers, 55,392 parameters)`; `layers` has the modules."""
        size = sum(parameter.numel() for parameter in self.parameters())
        return f"Supernet({len(self.graph.decisions):,} decisions, {len(self.settings):,} layers, {size:,} parameters)"

    # --- Choosing an architecture
    # ------------------------------------------------------------------------------------------

    @property
    def active(self) -> Architecture:
        """What `forward` runs."""
        return Architecture.at(self.graph, self._active)

    def activate(self, architecture: Values) -> None:
        """Makes `forward` run one architecture, with its part of the weights.

        Args:
            architecture: or values by path. Units that were shrunk away cannot come back.

        Raises:
            ArchitectureError: values that are no architecture of the graph, or units that are gone. What was active
                before stays so.
        """
        self._run(self._checked(architecture).indices)

    def _checked(self, values: Values) -> Architecture:
        """The architecture, whose units are all there."""
        architecture = Architecture.of(self.graph, values)
        for path in self.kept:
            self._there(path, architecture.indices.get(path, ()))
        return architecture

    def _there(self, path: str, units: Sequence[int]) -> None:
        """Whether none of the units was removed."""
        gone = sorted(set(units).difference(self.kept.get(path, units)))
        if gone:
            message = f"of `{path}` units were removed from this supernet: {runs(tuple(gone))[1:-1]}"
            raise wrong("no-such-item", path, message, f"left are {runs(self.kept[path])[1:-1] or 'none'}")

    def _run(self, indices: Mapping[str, Any]) -> None:
        program = self._program(indices)
        self._active = dict(indices)
        self._set(program)
        shape = self.graph.input.shape
        sides = (shape.height, shape.width)
        is_open = any(isinstance(side, Expr) for side in sides)
        self._size = tuple(int(evaluate(side, indices)) for side in sides) if is_open else None

    def _set(self, program: Program) -> None:
        self.steps, self._slots, self._output = program.steps, program.slots, program.output

    def forget(self) -> None:
        """Drops the layers kept ready: they hold modules, and indices on the weights' device."""
        self._slices: dict[tuple[Any, ...], Layer] = {}
        self._reads: dict[str, tuple[str, ...]] = {}

    def _program(self, values: Mapping[str, Any]) -> Program:
        """That of an architecture: of the graph with all decisions pinned, without the work of pinning it where each
        layer was made before."""
        whole = Pinned(self.graph, values)
        alias = {self.graph.input.name: self.graph.input.name}
        made: dict[str, tuple[str, ...]] = {}
        output = ""
        for node in self.graph.nodes.values():
            if node.kind == "input" or not whole.holds(node.present):
                continue
            inputs = tuple(alias[e.source] for e in node.inputs if e.source in alias and whole.holds(e.when))
            if node.kind == "output":
                output = inputs[0]
            elif len(inputs) == 1 and adds_up(node):
                alias[node.name] = inputs[0]
            else:
                alias[node.name] = node.name
                made[node.name] = inputs
        nodes = self.graph.nodes
        return laid_out(self.graph, made, output, lambda name: self._layer(nodes[name], whole), self._told)

    def _layer(self, node: Node, whole: Pinned) -> Layer:
        if node.kind == "merge" and node.op == "sum":
            return self.layers[SUM]
        if node.name not in self._reads:
            self._reads[node.name] = tuple(sorted(_read_by(self.graph, node)))
        key = (node.name, *[whole.value(path) for path in self._reads[node.name]])
        layer = self._slices.get(key)
        if layer is None:
            if len(self._slices) >= MOST_SLICES:
                self._slices.pop(next(iter(self._slices)))
            layer = self._slices[key] = self._made(whole.graph, whole.graph.nodes[node.name])
        return layer

    def _made(self, pinned: Graph, node: Node) -> Layer:
        setting = setting_of(pinned, node)
        full = self.settings[node.name]
        module = self.layers[key_of(node.weight)]
        shares = full.shares(setting)
        if setting.arguments() == full.arguments() and not shares:
            return module
        return Slice(module, setting.module, shares)

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        moved = super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.forget()
        self._run(self._active)
        return moved

    def forward(self, x: torch.Tensor, targets: Any = None) -> Any:
        """B C H W -> what the head gives: a tensor, for instance B classes or B classes H/4 W/4, or a record of named
        ones, such as the boxes, scores and labels of a detector.

        Args:
            targets: what a detector learns from, and the sizes of its images (`layers/scene.py`): in training, where
                they have boxes, it gives its losses by name instead. Other networks do not read them.

        Returns:
            In training, where something `auxiliary` is active, that and the outputs of the sides: `Sided`.
        """
        scene = Scene.of(x, targets, self.training) if self.reads_scene else None
        sides: list[Side] | None = [] if self.training else None
        slots: list[Any] = [None] * self._slots
        slots[0] = x if self._size is None else _resized(x, self._size)
        for step in self.steps:
            if sides is not None or not step.aside:
                inputs = [slots[i] for i in step.inputs]
                if step.parts:
                    slots[step.output] = inputs[0] if sides is None else step.layer(*inputs, sides=sides)
                else:
                    slots[step.output] = step.layer(*inputs, scene=scene) if step.reads else step.layer(*inputs)
            for i in step.frees:
                slots[i] = None
        output = slots[self._output]
        if scene is not None and scene.learns:
            return scene.losses
        return Sided(output, tuple(sides)) if sides else output

    @property
    def reads_scene(self) -> bool:
        """Whether what is active reads targets."""
        return any(step.reads for step in self.steps)

    def parts(self) -> list[tuple[nn.Parameter, tuple[Any, ...]]]:
        """The parameters that the active architecture runs with, and of each axis the entries: a slice, a tensor of
        indices, or None for all. One that several steps share comes up once for each."""
        found: list[tuple[nn.Parameter, tuple[Any, ...]]] = []
        for step in self.steps:
            if isinstance(step.layer, Slice):
                own = [part for part in step.layer.parts if not part[-1]]
                found += [(getattr(owner, name), index) for _, name, owner, index, _ in own]
            elif isinstance(step.layer, nn.Module):
                found += [(parameter, ()) for parameter in step.layer.parameters()]
        return found

    # --- Shrinking
    # -----------------------------------------------------------------------------------------------------------

    def shrink(self, kept: Mapping[str, Sequence[int]]) -> Surgery:
        """Removes search units for good: their weights leave the module, operators without a unit leave the network.

        Args:
            kept: by path of a `units` decision, the units that stay (of the original ones, and a subset of those still
                there).

        Returns:
            What happened to each tensor, for the optimiser and averages to follow.

        Raises:
            ArchitectureError: a path that no search units have, or units that are not there.
        """
        self.kept.update({path: self._staying(path, units) for path, units in kept.items()})
        smaller = largest_settings(pin(self.graph, self.kept))
        surgery = Surgery({}, [])
        for name in [n for n in self.settings if n not in smaller]:
            key = key_of(self.graph.nodes[name].weight)
            if key in self.layers and all(key_of(self.graph.nodes[n].weight) != key for n in smaller):
                surgery.removed.extend(f"layers.{key}.{tensor}" for tensor in self.layers[key].state_dict())
                del self.layers[key]
        done: set[str] = set()
        for name, setting in smaller.items():
            old, key = self.settings[name], key_of(self.graph.nodes[name].weight)
            if key not in done and setting.arguments() != old.arguments():
                done.add(key)
                self.layers[key] = self._cut(key, self.layers[key], setting, old.shares(setting), surgery)
        self.settings = smaller
        self.forget()
        self._run({**self._active, **self.kept})
        return surgery

    def _staying(self, path: str, units: Any) -> tuple[int, ...]:
        stay: tuple[int, ...] = some(self.graph, {path: units})[path]
        if self.graph.decisions[path].kind != "units":
            raise wrong("no-units", path, f"`{path}` has no search units that could be removed")
        self._there(path, stay)
        return stay

    def _cut(
        self, key: str, old: nn.Module, setting: Setting, shares: Mapping[str, tuple[Index, ...]], surgery: Surgery
    ) -> nn.Module:
        new = setting.module().train(old.training)
        like = next(chain(old.parameters(), old.buffers()), None)
        if like is not None:
            new.to(device=like.device, dtype=like.dtype)
        before, after = old.state_dict(keep_vars=True), new.state_dict(keep_vars=True)
        with torch.no_grad():
            for tensor, value in after.items():
                value.copy_(shared(old, tensor, shares.get(tensor, ())))
        whole = f"layers.{key}."
        surgery.removed.extend(whole + tensor for tensor in before if tensor not in after)
        surgery.cut.update({whole + tensor: shares.get(tensor, ()) for tensor in after})
        return new

    # --- Taking out
    # ----------------------------------------------------------------------------------------------------------

    def extract(self, architecture: Values | None = None) -> Supernet:
        """A network of one architecture alone, with its own copy of the weights; it computes what this one computes
        when set to it.

        Args:
            architecture: or values by path; by default what is active.

        Raises:
            ArchitectureError: as `activate`.
            ArgumentError: steps share weights, and use parts of them that are not parts of what the largest of them
                uses.
        """
        pinned = pin(self.graph, self._active if architecture is None else self._checked(architecture).indices)
        training = self.training
        network = Supernet(pinned)
        with torch.no_grad():
            for name, setting in network.settings.items():
                node, full = pinned.nodes[name], self.settings[name]
                source, own = self.layers[key_of(node.weight)], setting_of(pinned, node)
                if own != setting and not _nested(source, full, setting, own):
                    raise ArgumentError(
                        f"`{name}` shares weights with other steps, and they use parts of them that no smaller network "
                        "holds together"
                    )
                copy_weights(source, network.layers[key_of(node.weight)], full.shares(setting))
        parameter = next(self.parameters(), None)
        if parameter is not None:
            network.to(device=parameter.device, dtype=parameter.dtype)
        return network.train(training)


def _resized(images_BCHW: torch.Tensor, sides: tuple[int, ...]) -> torch.Tensor:
    """Images in another size, without what a smaller one cannot show."""
    if images_BCHW.shape[2:] == sides:
        return images_BCHW
    return nn.functional.interpolate(images_BCHW, sides, mode="bilinear", align_corners=False, antialias=True)


def _first(graph: Graph) -> Mapping[str, Any]:
    """The largest values; where they break a requirement, and so may not even run, any architecture."""
    values = largest_values(graph)
    if all(holds(r.condition, values) for r in structural(graph)):
        return values
    found = feasible(graph)
    return values if found is None else found.indices


def _nested(module: nn.Module, full: Setting, part: Setting, own: Setting) -> bool:
    """Whether `own` uses the same entries of a module's weights, taken from the whole or from a part of it."""
    outer, inner, direct = full.shares(part), part.shares(own), full.shares(own)
    for name, tensor in module.state_dict().items():
        if any(isinstance(one.get(name), Made) for one in (outer, inner, direct)):
            return False  # what is made of entries is no part of them
        if name in direct or name in inner:
            for axis, size in enumerate(tensor.shape):  # each by itself: parts are taken along axes
                places = torch.arange(size)
                through, part_of, at_once = (shares.get(name, ())[axis : axis + 1] for shares in (outer, inner, direct))
                if not torch.equal(take(take(places, through), part_of), take(places, at_once)):
                    return False
    return True


class Pinned:
    """A graph with the values of its decisions: conditions at once, the pinned graph only where it is asked for."""

    def __init__(self, graph: Graph, values: Mapping[str, Any]) -> None:
        self._whole, self._values = graph, values
        self._known = Remembering(values)

    @cached_property
    def graph(self) -> Graph:
        return pin(self._whole, self._values)

    def holds(self, condition: Value) -> bool:
        """Whether a condition is met. One on an absent decision is not."""
        if condition is True:
            return True
        try:
            return bool(evaluate(condition, self._known))
        except FAULTS:
            return False

    def value(self, path: str) -> Any:
        """The value of a decision in a form that can be looked up; None where it is absent."""
        value = self._values.get(path)
        return tuple(value) if isinstance(value, list) else value


def _read_by(graph: Graph, node: Node) -> set[str]:
    """The decisions that make a node's setting: of its attributes, its shape, and the shapes of what it may read."""
    found = set(decisions_of(dict(node.attrs))) | _in_shape(node.shape)
    for edge in node.inputs:
        found |= decisions_of(edge.when) | _in_shape(graph.nodes[edge.source].shape)
    return found


def _in_shape(shape: Shape) -> set[str]:
    parts = (shape.channels, shape.height, shape.width, shape.scale, shape.items)
    return set().union(*map(decisions_of, parts))
