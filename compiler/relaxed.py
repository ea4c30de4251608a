"""The relaxed supernet: a choice is a mixture of what it could choose, weighted by probabilities that can be trained.

DARTS paper: a selection computes the sum of its options, each times its probability, and a sum the sum of its terms,
each times the probability that it is used. Where one option has probability 1 this is what the activated supernet
computes. An option of probability 0 is not computed, so that with one path at a time a step costs what the path costs.

An operator whose parameters are open to choice is run once where smaller settings are the largest one with zeros in
place of the weights that they lack: its weights are then multiplied by the probability that they are used (FBNetV2
paper, masks of channels; Single-Path NAS paper, kernels). Other operators are run once for each setting. Channels that
a smaller setting does not have are zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from nasdsl.compiler import ops
from nasdsl.compiler.diagnostics import CompileError, Diagnostic
from nasdsl.compiler.engine.limits import TooWide
from nasdsl.compiler.gates import Gates
from nasdsl.compiler.graph import Graph, Node
from nasdsl.compiler.largest import largest_node
from nasdsl.compiler.layers.mixture import mixed, passed
from nasdsl.compiler.layers.scene import Scene
from nasdsl.compiler.pin import pin
from nasdsl.compiler.relaxable import unrelaxable
from nasdsl.compiler.setting import Setting
from nasdsl.compiler.slices import Slice
from nasdsl.compiler.supernet import SUM, Pinned, Supernet, key_of
from nasdsl.compiler.values import expr

MOST_PROGRAMS = 256
"""Programs that are kept ready, each for some values that count."""
FOLLOWED = ("running_mean", "running_var", "num_batches_tracked")
"""Of a norm: estimates, which belong to all channels."""


def cut(inputs: Sequence[Any], widths: Sequence[int]) -> list[Any]:
    """The first channels of each input, where it has more: those that no choice here asks for."""
    return [x if x.shape[1] <= width else x[:, :width] for x, width in zip(inputs, widths, strict=True)]


def widths_of(setting: Setting) -> tuple[int, ...]:
    return tuple(int(shape.channels) for shape in setting.inputs)


class Run:
    """A layer that is run as it is.

    Args:
        widths: how many channels of each input it reads; without, all.
    """

    def __init__(self, layer: Callable[..., Any], widths: Sequence[int] | None = None) -> None:
        self.layer, self.widths = layer, widths

    def __call__(self, inputs: Sequence[Any], gates: Sequence[torch.Tensor], told: Mapping[str, Any]) -> Any:
        return self.layer(*(inputs if self.widths is None else cut(inputs, self.widths)), **told)


class Pass(Run):
    """A layer, or nothing, whose output counts whole; its weights get the gradient that their product would have."""

    def __init__(self, layer: Callable[..., Any] | None, gates: Sequence[int]) -> None:
        super().__init__(layer or _same)
        self.gates = tuple(gates)

    def __call__(self, inputs: Sequence[Any], gates: Sequence[torch.Tensor], told: Mapping[str, Any]) -> Any:
        found = self.layer(*inputs, **told)
        if isinstance(found, torch.Tensor) and found.is_floating_point():
            for number in self.gates:
                found = passed(found, gates[number])
        return found


def _same(x: Any) -> Any:
    return x


class Mix:
    """The sum of what comes in, each times its gate; None counts whole."""

    def __init__(self, numbers: Sequence[int | None]) -> None:
        self.numbers = tuple(numbers)

    def __call__(self, inputs: Sequence[Any], gates: Sequence[torch.Tensor], told: Mapping[str, Any]) -> Any:
        one = inputs[0].new_ones(()) if None in self.numbers else None
        return mixed(inputs, [one if number is None else gates[number] for number in self.numbers])  # type: ignore[misc]


class Settings:
    """The sum of an operator's outputs in several settings, each times its gate.

    Args:
        widths: of each setting, how many channels of each input it reads.
    """

    def __init__(
        self, layers: Sequence[Callable[..., Any]], widths: Sequence[Sequence[int]], numbers: Sequence[int]
    ) -> None:
        self.layers, self.widths, self.numbers = tuple(layers), tuple(widths), tuple(numbers)

    def __call__(self, inputs: Sequence[Any], gates: Sequence[torch.Tensor], told: Mapping[str, Any]) -> Any:
        outputs = [layer(*cut(inputs, widths), **told) for layer, widths in zip(self.layers, self.widths, strict=True)]
        return mixed(outputs, [gates[number] for number in self.numbers])


class Masked:
    """The largest setting of an operator, its weights multiplied by the probability that they are used.

    Args:
        masks: by name of a tensor, of each setting ones where it has weights.
        widths: how many channels of each input it reads.
    """

    def __init__(
        self,
        module: nn.Module,
        masks: Mapping[str, Sequence[torch.Tensor]],
        numbers: Sequence[int],
        widths: Sequence[int],
    ) -> None:
        self.module, self.masks, self.numbers, self.widths = module, masks, tuple(numbers), widths

    def __call__(self, inputs: Sequence[Any], gates: Sequence[torch.Tensor], told: Mapping[str, Any]) -> Any:
        own = [gates[number] for number in self.numbers]
        values = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
        masked = {
            name: values[name] * sum(gate * mask for gate, mask in zip(own, masks, strict=True))
            for name, masks in self.masks.items()
        }
        return torch.func.functional_call(self.module, masked, tuple(cut(inputs, self.widths)), dict(told))


@dataclass(frozen=True)
class Part:
    """One line of a relaxed program: as a `Step`, with what it does given the gates."""

    does: Callable[[Sequence[Any], Sequence[torch.Tensor], Mapping[str, Any]], Any]
    inputs: tuple[int, ...]
    output: int
    frees: tuple[int, ...]
    reads: bool


@dataclass(frozen=True)
class Program:
    parts: tuple[Part, ...]
    slots: int
    output: int


class Relaxed(Supernet):
    """A supernet that also computes mixtures: once it is relaxed, `forward` runs the mixture, else what is active.

    Attributes:
        gates: probabilities of conditions, by those of the decisions' values.

    Raises:
        CompileError: `unrelaxable`: naming the decisions that cannot have probabilities.
    """

    def __init__(self, graph: Graph) -> None:
        problems = unrelaxable(graph)
        if problems:
            raise CompileError(problems)
        self.gates = Gates(graph)
        self._edges: dict[tuple[str, int], int] = {
            (node.name, place): self.gates.add(edge.when, node.reached)
            for node in graph.nodes.values()
            for place, edge in enumerate(node.inputs)
            if edge.when is not True
        }
        self._vector: torch.Tensor | None = None
        self._program_now: Program | None = None
        super().__init__(graph)

    # --- Probabilities ------------------------------------------------------------------------------------------------

    def relax(self, weights: Mapping[str, torch.Tensor] | None) -> None:
        """Sets what every option counts for, until it is set anew.

        Where one value of each decision alone counts, that architecture is run, and the weights should be 1: they are
        not multiplied with, but get their gradients (one path at a time).

        Args:
            weights: by path, of each value of the decision (in the order of `gates.values`) its probability; gradients
                flow back to them. None: `forward` runs what is active.

        Raises:
            CompileError: `unrelaxable`: several values of a decision count, and it cannot be a mixture.
        """
        if weights is None:
            self._vector = self._program_now = None
            return
        vector = self.gates.vector(weights)
        support = tuple((vector.detach() != 0).tolist())
        program = self._programs.get(support)
        if program is None:
            if len(self._programs) >= MOST_PROGRAMS:
                self._programs.pop(next(iter(self._programs)))
            program = self._programs[support] = self._relaxed(support)
        self._vector, self._program_now = vector, program

    def forget(self) -> None:
        super().forget()
        self._programs: dict[tuple[bool, ...], Program] = {}

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        self.relax(None)
        return super()._apply(*args, **kwargs)

    def forward(self, x: torch.Tensor, targets: Any = None) -> Any:
        """As a supernet's."""
        program, vector = self._program_now, self._vector
        if program is None or vector is None:
            return super().forward(x, targets)
        gates = self.gates.of(vector).unbind()
        scene = Scene.of(x, targets, self.training) if any(part.reads for part in program.parts) else None
        slots: list[Any] = [None] * program.slots
        slots[0] = x
        for part in program.parts:
            told = {"scene": scene} if part.reads else {}
            slots[part.output] = part.does([slots[i] for i in part.inputs], gates, told)
            for i in part.frees:
                slots[i] = None
        return scene.losses if scene is not None and scene.learns else slots[program.output]

    # --- Programs -----------------------------------------------------------------------------------------------------

    def _relaxed(self, support: Sequence[bool]) -> Program:
        """What is run where only some values count.

        An option that no value of those leads to is left out, and so is what only it reads.
        """
        counting = {
            path: [value for value, counts in zip(self.gates.values[path], support[place], strict=True) if counts]
            for path, place in self.gates.places.items()
        }
        decided = {path: values[0] for path, values in counting.items() if len(values) == 1}
        space = _Counting(self, counting, decided)
        vector = next(self.parameters()).new_tensor([*support], dtype=torch.float64)
        possible = (self.gates.of(vector) > 0).tolist()
        alias: dict[str, str] = {}
        chosen: dict[str, list[tuple[str, int | None]]] = {}
        final = ""
        for node in self.graph.nodes.values():
            sources = []
            for place, edge in enumerate(node.inputs):
                gate = self._edges.get((node.name, place))
                source = alias.get(edge.source, edge.source)
                if (source in chosen or source == self.graph.input.name) and (gate is None or possible[gate]):
                    sources.append((source, gate))
            if node.kind == "output":
                final = sources[0][0]
            elif not sources or not space.runs(node):
                continue
            elif len(sources) == 1 and sources[0][1] is None and is_mixture(node):
                alias[node.name] = sources[0][0]
            else:
                if not is_mixture(node):
                    space.check_inputs(node)
                chosen[node.name] = sources
        return self._laid_out(chosen, final, space)

    def _laid_out(self, chosen: Mapping[str, list[tuple[str, int | None]]], final: str, space: _Counting) -> Program:
        """The parts in order, without those that the output does not read."""
        needed, stack = set[str](), [final]
        while stack:
            name = stack.pop()
            if name not in needed:
                needed.add(name)
                stack += [source for source, _ in chosen.get(name, ())]
        slots = {self.graph.input.name: 0}
        last: dict[str, str] = {}
        order = [name for name in chosen if name in needed]
        for name in order:
            slots[name] = len(slots)
            last.update(dict.fromkeys((source for source, _ in chosen[name]), name))
        frees: dict[str, list[int]] = {}
        for source, user in last.items():
            if source != final:
                frees.setdefault(user, []).append(slots[source])
        parts = [
            Part(
                space.what(self.graph.nodes[name], chosen[name]),
                tuple(slots[source] for source, _ in chosen[name]),
                slots[name],
                tuple(frees.get(name, ())),
                name in self._told,
            )
            for name in order
        ]
        return Program(tuple(parts), len(slots), slots[final])


def is_mixture(node: Node) -> bool:
    """Whether a node adds up what it reads, or lets it through."""
    return node.kind == "select" or (node.kind == "merge" and node.op == "sum")


class _Counting:
    """The network where only some values of its decisions count, and what its nodes then do.

    Args:
        counting: by path, the values that count.
        decided: those of which one alone does, with it.
    """

    def __init__(self, network: Relaxed, counting: Mapping[str, Sequence[Any]], decided: Mapping[str, Any]) -> None:
        self.network, self.counting, self.decided = network, counting, decided
        self.graph = network.graph
        self.whole = None if len(decided) < len(counting) else Pinned(self.graph, self._present())
        self._narrowed: Graph | None = None

    def _present(self) -> dict[str, Any]:
        """The architecture, where all is decided."""
        found: dict[str, Any] = {}
        for path, decision in self.graph.decisions.items():
            if decision.present is True or expr.holds(decision.present, found):
                found[path] = self.decided[path]
        return found

    @property
    def narrowed(self) -> Graph:
        """The graph with the values that count."""
        if self._narrowed is None:
            narrow = {
                path: tuple(values)
                for path, values in self.counting.items()
                if 1 < len(values) < len(self.network.gates.values[path])
                and self.graph.decisions[path].kind == "choice"
            }
            self._narrowed = pin(self.graph, self.decided, narrow)
        return self._narrowed

    def runs(self, node: Node) -> bool:
        """Whether a node can be there."""
        if self.whole is not None:
            return self.whole.holds(node.present)
        return is_mixture(node) or node.name in self.narrowed.nodes

    def check_inputs(self, node: Node) -> None:
        """
        Raises:
                CompileError: which of an operator's inputs are there is open, or how large a map it gives.
        """
        if self.whole is not None:
            return
        if len(node.inputs) > 1:
            asked = [edge.when for edge in node.inputs]
            asked += [self.graph.nodes[edge.source].present for edge in node.inputs]
            self._refuse(node, asked, "which of its inputs are there")
        self.check_size(node)

    def check_size(self, node: Node) -> None:
        """
        Raises:
            CompileError: how large a map a node gives is open.
        """
        shape = node.shape
        self._refuse(node, [shape.height, shape.width, shape.items], "the size of what it gives")

    def _refuse(self, node: Node, values: Sequence[Any], what: str) -> None:
        asked = expr.decisions_of(tuple(values)) - set(self.decided)
        for path in self.graph.decisions:
            if path in asked:
                raise CompileError([self._stuck(path, what, node)])

    def _stuck(self, path: str, what: str, node: Node) -> Diagnostic:
        return Diagnostic(
            "unrelaxable",
            f"`{path}` cannot be a mixture: it decides {what} at `{node.name}`",
            self.graph.decisions[path].span,
            help="take a rule that runs one path at a time, pin it with `with { ... }`, or use another search",
        )

    # --- What a node does ---------------------------------------------------------------------------------------------

    def what(
        self, node: Node, sources: Sequence[tuple[str, int | None]]
    ) -> Callable[[Sequence[Any], Sequence[torch.Tensor], Mapping[str, Any]], Any]:
        """Given what it reads, each with the number of its gate."""
        gates = [gate for _, gate in sources]
        if is_mixture(node):
            if self.whole is None and any(gate is not None for gate in gates):
                self.check_size(node)
                return Mix(gates)
            if len(sources) == 1:
                return Pass(None, [gate for gate in gates if gate is not None])
            return _Sum(self.network.layers[SUM], gates)
        if self.whole is not None:
            layer = self.network._layer(node, self.whole)
            own = self._setting_gate(node)
            return Run(layer) if own is None else Pass(layer, [own])
        return self._of_settings(node)

    def _setting_gate(self, node: Node) -> int | None:
        """Where all is decided: the gate of an operator's parameters; None where they do not hang on a choice."""
        assert self.whole is not None
        own = expr.decisions_of(dict(node.attrs))
        if not own:
            return None
        near, rows = self._settings(node, own)
        return self.network.gates.add_settings([row for _, row in rows], near)

    def _settings(self, node: Node, paths: frozenset[str]) -> tuple[Any, list[tuple[dict[str, Any], tuple[int, ...]]]]:
        """As `Gates.settings`, of the values that count.

        Raises:
            CompileError: there are too many.
        """
        try:
            return self.network.gates.settings(paths, node.reached, self.counting)
        except TooWide as problem:
            path = next(path for path in problem.paths if path not in self.decided)
            raise CompileError([self._stuck(path, f"with {len(problem.paths) - 1} others", node)]) from None

    def _of_settings(self, node: Node) -> Callable[[Sequence[Any], Sequence[torch.Tensor], Mapping[str, Any]], Any]:
        """Of an operator in the settings that count."""
        network = self.network
        here = self.narrowed.nodes[node.name]
        module, full = network.layers[key_of(node.weight)], network.settings[node.name]
        largest = Setting(node.op, *largest_node(self.narrowed, here))
        operator = ops.find(node.op)
        assert operator is not None
        zeros = operator.zeros(largest.arguments())
        own = expr.decisions_of(dict(node.attrs))
        follows = own | expr.decisions_of(node.shape.channels)
        reads = follows.union(
            *(expr.decisions_of(network.graph.nodes[edge.source].shape.channels) for edge in node.inputs)
        )
        wanted = own if not module.state_dict() else follows if zeros else reads
        if wanted <= set(self.decided):
            return Run(self._layer(module, full, largest), widths_of(largest))
        near, joint = self._settings(node, wanted)
        groups: dict[str, tuple[Setting, list[tuple[int, ...]]]] = {}
        for values, row in joint:
            setting = self._setting(node, {path: values[path] for path in wanted if path in values})
            if setting is not None:
                groups.setdefault(_looks(full, setting), (setting, []))[1].append(row)
        if len(groups) == 1:
            return Run(self._layer(module, full, largest), widths_of(largest))
        settings = [setting for setting, _ in groups.values()]
        numbers = [network.gates.add_settings(rows, near) for _, rows in groups.values()]
        if zeros and self._differ_by(settings, largest, zeros) and largest.arguments() == full.arguments():
            return Masked(module, self._masks(module, full, settings), numbers, widths_of(full))
        layers = [self._layer(module, full, setting) for setting in settings]
        return Settings(layers, [widths_of(setting) for setting in settings], numbers)

    def _setting(self, node: Node, values: Mapping[str, Any]) -> Setting | None:
        """A node's largest setting with some decisions made; None where it is not there then."""
        nodes = {edge.source: replace(self.graph.nodes[edge.source], inputs=()) for edge in node.inputs}
        small = Graph({**nodes, node.name: node}, self.graph.decisions, (), (node.name,))
        pinned = pin(small, {**self.decided, **values})
        there = pinned.nodes.get(node.name)
        return None if there is None else Setting(node.op, *largest_node(pinned, there))

    @staticmethod
    def _layer(module: nn.Module, full: Setting, setting: Setting) -> Callable[..., Any]:
        shares = full.shares(setting)
        if setting.arguments() == full.arguments() and not shares:
            return module
        return Slice(module, setting.module, shares)

    @staticmethod
    def _differ_by(settings: Sequence[Setting], largest: Setting, names: frozenset[str]) -> bool:
        """Whether arguments of settings differ from the largest one's by those of some names only."""
        whole = largest.arguments()
        return all(
            value == whole[name] or name in names for setting in settings for name, value in setting.arguments().items()
        )

    @staticmethod
    def _masks(module: nn.Module, full: Setting, settings: Sequence[Setting]) -> dict[str, list[torch.Tensor]]:
        shares = [full.shares(setting) for setting in settings]
        state = module.state_dict()
        masks: dict[str, list[torch.Tensor]] = {}
        for name in dict.fromkeys(name for share in shares for name in share):
            if name.endswith(FOLLOWED):
                continue
            tensor = state[name]
            masks[name] = []
            for share in shares:
                axes = []
                for axis, part in enumerate(share.get(name, ())):
                    if part is None:
                        continue
                    line = torch.zeros(tensor.shape[axis], device=tensor.device, dtype=tensor.dtype)
                    line[part if isinstance(part, slice) else list(part)] = 1
                    axes.append(line.view(-1, *[1] * (tensor.dim() - axis - 1)))
                masks[name].append(math.prod(axes, start=tensor.new_ones(())))
        return masks


def _looks(full: Setting, setting: Setting) -> str:
    """The same for settings of which the same is computed."""
    return repr((setting.arguments(), full.shares(setting), [shape.channels for shape in setting.inputs]))


class _Sum(Run):
    """The sum of what comes in, all of it counting whole, with the gradients of the gates."""

    def __init__(self, layer: Callable[..., Any], numbers: Sequence[int | None]) -> None:
        super().__init__(layer)
        self.numbers = tuple(numbers)

    def __call__(self, inputs: Sequence[Any], gates: Sequence[torch.Tensor], told: Mapping[str, Any]) -> Any:
        return self.layer(*[x if n is None else passed(x, gates[n]) for x, n in zip(inputs, self.numbers, strict=True)])
