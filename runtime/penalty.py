"""Search units while they live: their importance factors, what each costs, and the penalty that drives them to zero.

The penalised loss is L = L_task + lambda(t) * sum over units of Delta_i |alpha_i| (HR-NAS paper), where alpha is the
scale of the batch norm behind a depthwise channel, or behind a token's projection, and Delta the MACs that removing the
unit would save.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from nasdsl.compiler import ops
from nasdsl.compiler.cost import node_term
from nasdsl.compiler.decision import Units
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.graph import Graph, Node
from nasdsl.compiler.supernet import Supernet, key_of
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.tree import decisions_of, evaluate
from nasdsl.runtime.latency import Latency


@dataclass
class Group:
    """The living units of one `units` decision.

    Attributes:
        path: of the decision.
        node: the operator that has the units.
        kind, label: as the operator's `UnitGroup` has them: `channel` with its kernel size, or `token`.
        kept: original numbers of the units, in the order of the scale's entries.
        parameter: name of the module's parameter that holds the scales.
        start: this group's first entry of it.
        cost: MACs that a unit adds; of tokens the last one, while all are alive.
        by_alive: for tokens, the cost of a unit where n are alive, at index n (from 1).
    """

    path: str
    node: str
    kind: str
    label: str
    kept: tuple[int, ...]
    parameter: str
    start: int
    cost: float
    by_alive: list[float]

    @property
    def end(self) -> int:
        return self.start + len(self.kept)


def groups_of(network: Supernet) -> list[Group]:
    """All groups of search units still alive in a supernet, with their MACs at the space's own input size."""
    out: list[Group] = []
    for name in network.settings:
        node = network.graph.nodes[name]
        operator = ops.find(node.op)
        assert operator is not None
        starts: dict[str, int] = {}
        for group in operator.units(node.attrs):
            if not isinstance(group.units, Units):
                continue
            path = group.units.path
            kept = network.kept.get(path, tuple(range(group.units.n)))
            start = starts.get(group.scale, 0)
            starts[group.scale] = start + len(kept)
            if not kept:
                continue
            parameter = f"layers.{key_of(node.weight)}.{group.scale}"
            by_alive = unit_macs(network.graph, node, path, len(kept), network.kept) if group.kind == "token" else []
            cost = by_alive[-1] if by_alive else unit_macs(network.graph, node, path, 1, network.kept)[1]
            out.append(Group(path, name, group.kind, group.label, kept, parameter, start, cost, by_alive))
    return out


def unit_macs(graph: Graph, node: Node, path: str, most: int, kept: Mapping[str, tuple[int, ...]]) -> list[float]:
    """MACs that the n-th living unit of a decision adds, for n = 1 to `most`, at index n; index 0 is 0."""
    return unit_costs(graph, node, path, most, kept, "macs")


def unit_costs(
    graph: Graph, node: Node, path: str, most: int, kept: Mapping[str, tuple[int, ...]], measure: str
) -> list[float]:
    """As `unit_macs`, of any measure."""
    mine = [term for term in expr.terms(node_term(graph, node, measure)) if path in decisions_of(term)]
    others = {
        p: kept.get(p, tuple(range(graph.decisions[p].n)))
        for term in mine
        for p in decisions_of(term)
        if p in graph.decisions
    }
    totals = []
    for n in range(most + 1):
        values = {**others, path: tuple(range(n))}
        totals.append(float(sum(evaluate(term, values) for term in mine)))
    return [0.0] + [totals[n] - totals[n - 1] for n in range(1, most + 1)]


# --- Other forms of a unit's cost -------------------------------------------------------------------------------------


def paper_cost(graph: Graph, group: Group, alive: int) -> float:
    """HR-NAS paper: k^2 h w for a channel of kernel k; for a token O(n) - O(n - 1), n of them being alive.

    O(n) counts two layers of 4 n d^2 + 2 n^2 d MACs for attention and 8 n d^2 for the feed-forward network, d = s^2.
    The last token is never free, also where the scales of all have changed sign.
    """
    node = graph.nodes[group.node]
    if node.aside:
        return 0.0
    if group.kind == "channel":
        return float(int(group.label) ** 2 * node.shape.pixels)
    side = int(node.attrs["size"]) ** 2

    def total(n: int) -> float:
        return 2.0 * (4 * n * side * side + 2 * n * n * side + 8 * n * side * side)

    return total(max(alive, 1)) - total(max(alive, 1) - 1)


def code_cost(graph: Graph, group: Group, alive: int, side: int = 224) -> float:
    """HR-NAS official code, at `side` x `side` pixels for every task: c H W + (k^2 + c') H' W' for a channel.

    For a token E (c + 2) + E c' + 4 E^2 + 4 + 2 E (n^2 - (n - 1)^2), what its profiler sees of the transformer.
    """
    node = graph.nodes[group.node]
    if node.aside:
        return 0.0
    source = graph.nodes[node.inputs[0].source].shape
    if group.kind == "channel":
        pixels_in, pixels_out = (_pixels(scale, side) for scale in (source.scale, node.shape.scale))
        return float(source.channels * pixels_in + (int(group.label) ** 2 + node.shape.channels) * pixels_out)
    width = int(node.attrs["size"]) ** 2
    fixed = width * (source.channels + 2) + width * node.shape.channels + 4 * width**2 + 4
    return float(fixed + 2 * width * (alive**2 - max(alive - 1, 0) ** 2))


def macs_of(graph: Graph, group: Group, form: str) -> float:
    """MACs that one unit of a group adds while all of it lives.

    Args:
        form: "exact" (at the space's own input), "paper" or "code".
    """
    if form == "paper":
        return paper_cost(graph, group, len(group.kept))
    return code_cost(graph, group, len(group.kept)) if form == "code" else group.cost


def code_mean(graph: Graph, group: Group) -> float:
    """What the HR-NAS code takes a unit to cost when it normalises: a token's share of the whole transformer."""
    units = len(group.kept)
    if group.kind == "channel":
        return code_cost(graph, group, units)
    return sum(code_cost(graph, group, n) for n in range(1, units + 1)) / units


def _pixels(scale: Any, side: int) -> int:
    length = -(-side * scale.numerator // scale.denominator)
    return int(length * length)


class Penalty:
    """Adds the gradient of lambda * sum Delta |alpha| to the scales' gradients.

    Args:
        form: "exact" (MACs by the space's own cost model at its own input), "paper", "code", or "uniform" (all alike).
        normalise: divide by the mean cost of all units of the untouched supernet, so that lambda means the same for all
            tasks and sizes.
        latency: costs are milliseconds on the device of the table, in place of MACs in any form.
        threshold: tokens whose scale is above it count as alive, as in the HR-NAS code.
        measure: of another one than MACs or a latency, costs are what a unit adds to it, in place of MACs in any form.

    Raises:
        CompileError: no unit adds anything to the measure.
    """

    def __init__(
        self,
        network: Supernet,
        form: str,
        normalise: bool,
        threshold: float,
        latency: Latency | None = None,
        measure: str = "macs",
    ):
        self.form, self.threshold, self.latency, self.measure = form, threshold, latency, measure
        self.scale = 1.0
        self._others: dict[str, list[float]] = {}
        self.refresh(network)
        if normalise:
            units = sum(len(group.kept) for group in self.groups)
            whole = sum(self._mean(group) * len(group.kept) for group in self.groups)
            self.scale = (units + 1e-5) / whole if whole else 1.0
            self.refresh(network)  # what was looked up before had no scale yet

    def refresh(self, network: Supernet) -> None:
        """Looks up groups and scales anew after the network has changed."""
        self.network = network
        self.groups = groups_of(network)
        self.parameters = dict(network.named_parameters())
        self._others = self._of_others() if self.latency is None and self.measure != "macs" else {}
        self._slopes: dict[str, float] = {}
        if self.latency is not None:
            nodes = [group.node for group in self.groups if not network.graph.nodes[group.node].aside]
            self._slopes = {node: self.latency.slope(node, network) for node in nodes}
        self._steady: dict[str, torch.Tensor] = {}
        for group in self.groups:
            if group.kind != "token":
                scales = self.parameters[group.parameter]
                row = self._steady.setdefault(group.parameter, torch.zeros_like(scales, requires_grad=False))
                row[group.start : group.end] = self.cost(group, len(group.kept)) * self.scale

    def _of_others(self) -> dict[str, list[float]]:
        """By path what units add to another measure than MACs, as `Group.by_alive`."""
        graph, kept = self.network.graph, self.network.kept
        found = {
            group.path: unit_costs(graph, graph.nodes[group.node], group.path, len(group.kept), kept, self.measure)
            for group in self.groups
        }
        if self.groups and not any(any(costs) for costs in found.values()):
            message = f"the penalty is on {self.measure}, to which no search unit adds anything"
            raise error("idle-penalty", message, None, help="put it on `macs`, `params` or `latency`")
        return found

    def _mean(self, group: Group) -> float:
        """What one unit counts for in the normaliser."""
        if self.form == "code" and self.latency is None and not self._others:
            return code_mean(self.network.graph, group)
        return self.cost(group, len(group.kept))

    def cost(self, group: Group, alive: int) -> float:
        """Delta of one unit where `alive` of its group live, before normalisation; 0 of what runs in training alone."""
        if self.network.graph.nodes[group.node].aside:
            return 0.0
        if self.form == "uniform":
            return 1.0
        if self.latency is not None:
            return self._macs(group, alive) * self._slopes[group.node]
        if self._others:
            return self._others[group.path][max(min(alive, len(group.kept)), 1)]
        if self.form == "paper":
            return paper_cost(self.network.graph, group, alive)
        if self.form == "code":
            return code_cost(self.network.graph, group, alive)
        return self._macs(group, alive)

    @staticmethod
    def _macs(group: Group, alive: int) -> float:
        return group.by_alive[max(min(alive, len(group.by_alive) - 1), 1)] if group.by_alive else group.cost

    @torch.no_grad()
    def add_gradient(self, weight: float) -> None:
        """Adds `weight` * Delta * sign(alpha) to the gradient of every scale."""
        if weight == 0:
            return
        for name, row in self._steady.items():
            scales = self.parameters[name]
            if scales.grad is not None:
                scales.grad.addcmul_(row, scales.sign(), value=weight)
        for group in self.groups:
            if group.kind == "token":
                scales = self.parameters[group.parameter]
                if scales.grad is not None:
                    alive = int((scales > self.threshold).sum())
                    scales.grad.add_(scales.sign(), alpha=weight * self.cost(group, alive) * self.scale)

    @torch.no_grad()
    def value(self) -> float:
        """sum Delta |alpha|, for the log."""
        total = sum(float((row * self.parameters[name].abs()).sum()) for name, row in self._steady.items())
        for group in self.groups:
            if group.kind == "token":
                scales = self.parameters[group.parameter]
                alive = int((scales > self.threshold).sum())
                total += float(scales.abs().sum()) * self.cost(group, alive) * self.scale
        return total

    def importance(self, values: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
        """|alpha| of every group, from the network's own values or an average's."""
        return [values[group.parameter].detach()[group.start : group.end].abs().cpu() for group in self.groups]


def units_left(network: Supernet) -> tuple[int, int]:
    """Search units still there, and how many there were."""
    whole = {p: d.n for p, d in network.graph.decisions.items() if d.kind == "units"}
    return sum(len(network.kept.get(p, range(n))) for p, n in whole.items()), sum(whole.values())
