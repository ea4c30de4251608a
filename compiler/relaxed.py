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
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import nn

from nasdsl.compiler import ops
from nasdsl.compiler.architecture import is_present
from nasdsl.compiler.diagnostics import ArgumentError, CompileError, Diagnostic
from nasdsl.compiler.engine.limits import TooWide
from nasdsl.compiler.extremes import structural
from nasdsl.compiler.gates import Gates, Row, Table
from nasdsl.compiler.graph import Graph, Node
from nasdsl.compiler.largest import largest_node
from nasdsl.compiler.layers.mixture import fitted, mixed, passed
from nasdsl.compiler.layers.resample import resized
from nasdsl.compiler.ops.auxiliary import AUXILIARY
from nasdsl.compiler.pin import pin
from nasdsl.compiler.relaxable import unrelaxable
from nasdsl.compiler.setting import Setting
from nasdsl.compiler.slices import Slice
from nasdsl.compiler.supernet import SUM, Layer, Pinned, Program, Supernet, adds_up, key_of, laid_out
from nasdsl.compiler.values import tree
from nasdsl.compiler.values.follows import follows
from nasdsl.compiler.values.plain import FAULTS
from nasdsl.compiler.values.tree import decisions_of

MOST_PROGRAMS = 256
"""Programs that are kept ready, each for some values that count."""
FOLLOWED = ("running_mean", "running_var", "num_batches_tracked")
"""Of a norm: estimates, which belong to all channels."""


class Now:
    """What the gates are in the pass that is under way, by number; nothing where all that is run counts whole and no
    gradient is asked for."""

    def __init__(self) -> None:
        self.gates: Mapping[int, torch.Tensor] = {}


# --- What is run ------------------------------------------------------------------------------------------------------


class Mix:
    """The sum of what comes in, each times its gate; None counts whole."""

    def __init__(self, now: Now, numbers: Sequence[int | None]) -> None:
        self.now, self.numbers = now, tuple(numbers)

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        first = inputs[0]
        same = [x if x.dim() < 4 else resized(x, (first.shape[2], first.shape[3])) for x in inputs]
        return mixed(same, [None if number is None else self.now.gates[number] for number in self.numbers])


class Chosen:
    """A layer whose inputs, or whose output, count whole; their gates get the gradients that products would give.

    Args:
        inputs: of each input the number of its gate, if it has one.
        output: that of the output.
    """

    def __init__(self, now: Now, layer: Layer, inputs: Sequence[int | None] = (), output: int | None = None) -> None:
        self.now, self.layer, self.inputs, self.output = now, layer, tuple(inputs), output

    def __call__(self, *inputs: Any, **told: Any) -> Any:
        gates = self.now.gates
        if not gates:
            return self.layer(*inputs, **told)
        if self.inputs:
            inputs = tuple(
                x if number is None else passed(x, gates[number]) for x, number in zip(inputs, self.inputs, strict=True)
            )
        made = self.layer(*inputs, **told)
        is_weighed = self.output is not None and isinstance(made, torch.Tensor) and made.is_floating_point()
        return passed(made, gates[self.output]) if is_weighed else made  # type: ignore[index]


class Run:
    """A layer that reads so many channels of each input."""

    def __init__(self, layer: Layer, setting: Setting) -> None:
        self.layer = layer
        self.widths = tuple(int(shape.channels) for shape in setting.inputs)

    def __call__(self, *inputs: torch.Tensor, **told: Any) -> Any:
        return self.layer(*map(fitted, inputs, self.widths), **told)


class Several:
    """The sum of an operator's outputs in several settings, each times its gate."""

    def __init__(self, now: Now, layers: Sequence[Layer], numbers: Sequence[int]) -> None:
        self.now, self.layers, self.numbers = now, tuple(layers), tuple(numbers)

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        return mixed([layer(*inputs) for layer in self.layers], [self.now.gates[number] for number in self.numbers])


class Masked:
    """A module of which each weight is multiplied by the probability that it is used.

    Args:
        masks: by name of a tensor, of each setting ones where it has weights.
        numbers: of the settings' gates.
    """

    def __init__(
        self, now: Now, module: nn.Module, masks: Mapping[str, Sequence[torch.Tensor]], numbers: Sequence[int]
    ) -> None:
        self.now, self.module, self.masks, self.numbers = now, module, masks, tuple(numbers)

    def __call__(self, *inputs: torch.Tensor) -> Any:
        own = [self.now.gates[number] for number in self.numbers]
        masked = {}
        for name, masks in self.masks.items():
            path, _, last = name.rpartition(".")
            share = sum(gate * mask for gate, mask in zip(own, masks, strict=True))
            masked[name] = getattr(self.module.get_submodule(path), last) * share
        return torch.func.functional_call(self.module, masked, inputs)


# --- The network ------------------------------------------------------------------------------------------------------


class Compiled(NamedTuple):
    """A program, and what works out the gates that it reads, by their numbers. It is `whole` where one value of each
    decision counts."""

    program: Program
    table: Table
    numbers: tuple[int, ...]
    whole: bool


class Relaxed(Supernet):
    """A supernet that also computes mixtures. `forward` runs what `relax` or `activate` asked for last.

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
        self.edges = {
            (node.name, place): self.gates.add(edge.when, node.reached)
            for node in graph.nodes.values()
            for place, edge in enumerate(node.inputs)
            if edge.when is not True
        }
        self.required = [(one.condition, self.gates.hangs_on(decisions_of(one.condition))) for one in structural(graph)]
        self.edge_table = self.gates.table(self.edges.values())
        self.now = Now()
        self._relaxation: tuple[Compiled, torch.Tensor] | None = None
        super().__init__(graph)

    def relax(self, weights: Mapping[str, torch.Tensor] | None) -> None:
        """Sets what every option counts for, until something else is asked for.

        Where one value of each decision alone counts, that architecture is run, and the weights should be 1: they are
        not multiplied with, but get their gradients (one path at a time).

        Args:
            weights: by path, of each value of the decision (in the order of `gates.values`) its probability; gradients
                flow back to them. None: `forward` runs what is active.

        Raises:
            ArgumentError: a decision has no weights, or not one for each value, or none of them counts; or nothing that
                counts leads to the output. What was run before stays so.
            CompileError: `unrelaxable`: several values of a decision count, and it cannot be a mixture.
        """
        if weights is None:
            self._set(self._activated)
            return
        for path, values in self.gates.values.items():
            if path not in weights:
                raise ArgumentError(f"`{path}` has no weights")
            if weights[path].shape != (len(values),):
                raise ArgumentError(f"`{path}` has {len(values)} values, and not {list(weights[path].shape)} weights")
        vector = self.gates.vector(weights)
        support = tuple((vector.detach() != 0).tolist())
        if sum(support) == len(self.gates.values) and not vector.requires_grad:
            self._set(self._program(_Compiler(self, support).sure))
            return
        compiled = self._programs.get(support)
        if compiled is None:
            compiled = _Compiler(self, support).compiled()
            if len(self._programs) >= MOST_PROGRAMS:
                self._programs.pop(next(iter(self._programs)))
            self._programs[support] = compiled
        self._set(compiled.program)
        self._relaxation = compiled, vector

    def _run(self, indices: Mapping[str, Any]) -> None:
        super()._run(indices)
        self._activated = Program(self.steps, self._slots, self._output)

    def _set(self, program: Program) -> None:
        super()._set(program)
        self._relaxation = None

    def forget(self) -> None:
        super().forget()
        self._programs: dict[tuple[bool, ...], Compiled] = {}

    def forward(self, x: torch.Tensor, targets: Any = None) -> Any:
        """As a supernet's."""
        if self._relaxation is None:
            return super().forward(x, targets)
        compiled, vector = self._relaxation
        if not compiled.whole or torch.is_grad_enabled():
            self.now.gates = dict(zip(compiled.numbers, compiled.table(vector).unbind(), strict=True))
        try:
            return super().forward(x, targets)
        finally:
            self.now.gates = {}


class _Compiler:
    """Makes the program of a network where only some values of its decisions count.

    Args:
        support: of all values of all decisions, whether it counts.

    Raises:
        ArgumentError: of a decision none does.
    """

    def __init__(self, network: Relaxed, support: Sequence[bool]) -> None:
        self.network, self.graph, self.gates = network, network.graph, network.gates
        self.counting = {
            path: [value for value, counts in zip(self.gates.values[path], support[place], strict=True) if counts]
            for path, place in self.gates.places.items()
        }
        for path, values in self.counting.items():
            if not values:
                raise ArgumentError(f"no value of `{path}` counts")
        self.decided = {path: values[0] for path, values in self.counting.items() if len(values) == 1}
        self.sure = self._sure()
        self.whole = Pinned(self.graph, self.sure) if len(self.decided) == len(self.counting) else None
        self.numbers: dict[int, None] = {}  # of the gates that the program reads
        self.never: set[str] = set()  # nodes that requirements rule out

    def _sure(self) -> dict[str, Any]:
        """The values of decisions of which both these and their presence are decided."""
        found: dict[str, Any] = {}
        for path, decision in self.graph.decisions.items():
            if self.gates.hangs_on([path]) <= self.decided.keys() and is_present(decision, found):
                found[path] = self.decided[path]
        return found

    @cached_property
    def narrowed(self) -> Graph:
        """The graph with the values that count."""
        narrow = {
            path: tuple(values)
            for path, values in self.counting.items()
            if 1 < len(values) < len(self.gates.values[path]) and self.graph.decisions[path].kind == "choice"
        }
        return pin(self.graph, self.decided, narrow)

    def compiled(self) -> Compiled:
        """The program. An option that no value of those leads to is left out, and so is what only it reads.

        Raises:
            ArgumentError, CompileError: as `Relaxed.relax`.
        """
        while True:
            self.numbers.clear()
            sources, output = self._sources(self.graph.input.name)
            layers = {}
            for name, (_, gates) in sources.items():
                layer = self._layer(self.graph.nodes[name], gates)
                if layer is not None:
                    layers[name] = layer
            if len(layers) == len(sources):
                break
            self.never |= sources.keys() - layers.keys()
        made = {name: own for name, (own, _) in sources.items()}
        program = laid_out(self.graph, made, output, layers.__getitem__, self.network._told)
        numbers = tuple(self.numbers)
        return Compiled(program, self.gates.table(numbers), numbers, self.whole is not None)

    def _sources(self, image: str) -> tuple[dict[str, tuple[list[str], list[int | None]]], str]:
        """Of each tensor that is needed what it is made of, and with the numbers of which gates; and which is given."""
        used = self._used
        alias = {image: image}
        found: dict[str, tuple[list[str], list[int | None]]] = {}
        output = None
        for node in self.graph.nodes.values():
            own = [
                (alias[edge.source], self.network.edges.get((node.name, place)))
                for place, edge in enumerate(node.inputs)
                if edge.source in alias and used(node, place)
            ]
            if self.whole is None and node.kind == "select":  # zeros add nothing to a mixture
                own = [one for one in own if not self._is_zero(one[0])] or own
            if not own or not self._runs(node):
                continue
            if node.kind == "output":
                output = own[0][0]
            elif len(own) == 1 and own[0][1] is None and adds_up(node):
                alias[node.name] = own[0][0]
            else:
                alias[node.name] = node.name
                found[node.name] = [source for source, _ in own], [gate for _, gate in own]
        if output is None:
            raise ArgumentError("nothing leads from the input to the output with the values that count")
        needed = {output, *[name for name in found if self.graph.nodes[name].op == AUXILIARY.name]}
        for name in reversed(found):
            if name in needed:
                needed.update(found[name][0])
        return {name: own for name, own in found.items() if name in needed}, output

    @cached_property
    def _used(self) -> Callable[[Node, int], bool]:
        """Whether an input of a node can be used."""
        if self.whole is not None:
            holds = self.whole.holds
            return lambda node, place: holds(node.inputs[place].when)
        even = {
            path: torch.tensor([value in self.counting[path] for value in values], dtype=torch.float64)
            / len(self.counting[path])
            for path, values in self.gates.values.items()
        }
        shares = self.network.edge_table(self.gates.vector(even)).tolist()
        possible = {edge: share > 0 for edge, share in zip(self.network.edges, shares, strict=True)}
        return lambda node, place: possible.get((node.name, place), True)

    def _is_zero(self, name: str) -> bool:
        operator = ops.find(self.graph.nodes[name].op)
        return operator is not None and operator.identities.zero

    def _runs(self, node: Node) -> bool:
        """Whether a node can be there."""
        if self.whole is not None:
            return self.whole.holds(node.present)
        return adds_up(node) or (node.name in self.narrowed.nodes and node.name not in self.never)

    # --- Layers -------------------------------------------------------------------------------------------------------

    def _gate(self, number: int) -> int:
        """The number of a gate that the program reads."""
        self.numbers[number] = None
        return number

    def _layer(self, node: Node, gates: Sequence[int | None]) -> Layer | None:
        """What a node does, given the gates of its inputs; None where requirements rule out that it is there."""
        network = self.network
        numbers = [None if gate is None else self._gate(gate) for gate in gates]
        if self.whole is None:
            self._check(node)
            return Mix(network.now, numbers) if adds_up(node) else self._of_settings(node)
        layer: Layer = network.layers[SUM] if adds_up(node) else network._layer(node, self.whole)
        own = None if adds_up(node) else self._own_gate(node)
        if own is None and not any(number is not None for number in numbers):
            return layer
        return Chosen(network.now, layer, numbers, own)

    def _own_gate(self, node: Node) -> int | None:
        """Where all is decided: the gate of an operator's parameters; None where they do not hang on a choice."""
        own = decisions_of(dict(node.attrs))
        if not own:
            return None
        near, rows = self._settings(node, own)
        return self._gate(self.gates.add_settings([row for _, row in rows], near))

    def _of_settings(self, node: Node) -> Layer | None:
        """An operator in the settings that count; None where there are none."""
        network = self.network
        operator = ops.find(node.op)
        assert operator is not None
        module, full = network.layers[key_of(node.weight)], network.settings[node.name]
        own = decisions_of(dict(node.attrs))
        hangs_on = own | decisions_of(node.shape.channels)
        reads = hangs_on.union(*(decisions_of(self.graph.nodes[e.source].shape.channels) for e in node.inputs))
        groups = self._grouped(node, full, hangs_on if module.state_dict() else own)
        if not all(operator.zeros(one.arguments(), one.arguments()) for one, _ in groups):
            groups = self._grouped(node, full, reads)  # what inputs lack makes a difference
        if not groups:
            return None
        settings = [setting for setting, _ in groups]
        if len(groups) == 1:
            return Run(_part(module, full, settings[0]), settings[0])
        self._refuse(node, [node.name in network._told and reads], "how it takes part in the loss")
        numbers = [self._gate(number) for _, number in groups]
        whole = full.arguments()
        arguments = [setting.arguments() for setting in settings]
        if whole in arguments and all(operator.zeros(whole, one) for one in arguments):
            return Run(Masked(network.now, module, _masks(module, full, settings), numbers), full)
        return Several(network.now, [Run(_part(module, full, one), one) for one in settings], numbers)

    def _grouped(self, node: Node, full: Setting, paths: frozenset[str]) -> list[tuple[Setting, int]]:
        """The different settings of an operator by some decisions, with the numbers of their gates."""
        near, joint = self._settings(node, paths)
        made: dict[tuple[Any, ...], Setting | None] = {}
        groups: dict[str, tuple[Setting, list[Row]]] = {}
        for values, row in joint:
            own = {path: values[path] for path in paths if path in values}
            key = tuple(own.items())
            if key not in made:
                made[key] = self._setting(node, own)
            setting = made[key]
            if setting is not None:
                groups.setdefault(_looks(full, setting), (setting, []))[1].append(row)
        return [(setting, self.gates.add_settings(rows, near)) for setting, rows in groups.values()]

    def _settings(self, node: Node, paths: frozenset[str]) -> tuple[Any, list[tuple[dict[str, Any], Row]]]:
        """As `Gates.settings`, of the values that count and break no requirement.

        Raises:
            CompileError: there are too many.
        """
        try:
            near, joint = self.gates.settings(paths, node.reached, self.counting)
        except TooWide as problem:
            path = next(path for path in problem.paths if path not in self.decided)
            what = f"with {len(problem.paths) - 1} others how `{node.name}` is run"
            raise CompileError([self._stuck(path, what)]) from None
        known = self.gates.hangs_on((*paths, *decisions_of(near))).union(self.sure)
        asked = [condition for condition, hangs_on in self.network.required if hangs_on <= known]
        return near, [
            (values, row)
            for values, row in joint
            if all(tree.holds(condition, {**self.sure, **values}) for condition in asked)
        ]

    def _setting(self, node: Node, values: Mapping[str, Any]) -> Setting | None:
        """A node's largest setting with some decisions made; None where it is not there then, or no architecture has
        these values and its arguments mean nothing."""
        nodes = {edge.source: replace(self.graph.nodes[edge.source], inputs=()) for edge in node.inputs}
        nodes[node.name] = node
        asked = decisions_of([(one.attrs, one.shape, one.present, one.reached) for one in nodes.values()])
        decisions = {path: decision for path, decision in self.graph.decisions.items() if path in asked}
        try:
            pinned = pin(Graph(nodes, decisions, (), (node.name,)), {**self.decided, **values})
            there = pinned.nodes.get(node.name)
            return None if there is None else Setting(node.op, *largest_node(pinned, there))
        except FAULTS:
            return None

    # --- What cannot be a mixture -------------------------------------------------------------------------------------

    def _check(self, node: Node) -> None:
        """
        Raises:
            CompileError: which of an operator's inputs are there is open, or how large a map it gives, or whether it
                takes part in the loss.
        """
        here = self.narrowed.nodes.get(node.name)
        if here is None:  # it lets through the one input that it has
            return
        if node.name in self.network._told or node.op == AUXILIARY.name:
            self._refuse(node, [here.present], "whether there is something that takes part in the loss")
        if not adds_up(node):
            there = [edge.when for edge in here.inputs] + [
                self.narrowed.nodes[edge.source].present for edge in here.inputs
            ]
            open_ = [condition for condition in there if not follows(condition, here.present)]
            self._refuse(node, open_, "which of its inputs are there")
        self._refuse(node, [here.shape.height, here.shape.width, here.shape.items], "the size of what it gives")

    def _refuse(self, node: Node, values: Sequence[Any], what: str) -> None:
        """
        Raises:
            CompileError: the values hang on a decision.
        """
        asked = decisions_of(tuple(values))
        for path in self.graph.decisions:
            if path in asked:
                raise CompileError([self._stuck(path, f"{what} at `{node.name}`")])

    def _stuck(self, path: str, what: str) -> Diagnostic:
        return Diagnostic(
            "unrelaxable",
            f"`{path}` cannot be a mixture: it decides {what}",
            self.graph.decisions[path].span,
            help="take a rule that runs one path at a time, pin it with `with { ... }`, or use another search",
        )


def _part(module: nn.Module, full: Setting, setting: Setting) -> Layer:
    """A module in a smaller setting."""
    shares = full.shares(setting)
    if setting.arguments() == full.arguments() and not shares:
        return module
    return Slice(module, setting.module, shares)


def _looks(full: Setting, setting: Setting) -> str:
    """The same for settings of which the same is computed."""
    return repr((setting.arguments(), full.shares(setting), [shape.channels for shape in setting.inputs]))


def _masks(module: nn.Module, full: Setting, settings: Sequence[Setting]) -> dict[str, list[torch.Tensor]]:
    """By name of a tensor, of each setting ones where it has weights. Estimates of norms are not masked."""
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
                if part is not None:
                    line = tensor.new_zeros(tensor.shape[axis])
                    line[part if isinstance(part, slice) else list(part)] = 1
                    axes.append(line.view(-1, *[1] * (tensor.dim() - axis - 1)))
            masks[name].append(math.prod(axes, start=tensor.new_ones(())))
    return masks
