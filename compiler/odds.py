"""A space as a distribution over its architectures, with a probability for each value of each decision: what its costs
come to on average, which architectures are the likeliest, draws. Exact, and differentiable where that makes sense.

**The distribution.** Each decision d has a categorical distribution p_d over its values. Of the architectures that
meet all requirements but budgets,

    P(x)  =  1/Z  product over the decisions d that are present in x of  p_d(x_d).

Decisions are so independent of each other given that they are there, as in DARTS (Liu et al. 2019) and its kin. Z is
the probability that such draws, one decision after the other, meet the requirements: 1 where there are none.

**The sums.** The layered diagram of the space (`engine/diagram.py`) has an arc for each value, between few states. One
sweep from its end gives the mass behind each state, in logarithms, and so where an architecture goes on from there; a
sweep from its beginning then gives the probability q of each arc (forward-backward, Baum et al. 1970). An expected cost
is the sum over the arcs of q times cost. With G any sum over the arcs of an architecture and w an arc's weight,

    d E(G) / d log w(arc)  =  q(arc) x (E(G | arc) - E(G)),

which again takes one sweep each way. It is finite where probabilities are 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.autograd.function import once_differentiable

from nasdsl.compiler import measures as registry
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.arrays.encoding import Matrix
from nasdsl.compiler.cost import totals
from nasdsl.compiler.diagnostics import ArgumentError, CompileError, suggest
from nasdsl.compiler.engine.alias import Alias
from nasdsl.compiler.engine.budget import budget_windows, least_alone
from nasdsl.compiler.engine.diagram import Diagram
from nasdsl.compiler.engine.lattice import Bounds, Window, bounds
from nasdsl.compiler.engine.levels import Floats, Ints, Layer
from nasdsl.compiler.engine.likeliest import likeliest_paths
from nasdsl.compiler.engine.limits import Infeasible, bounded
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.population import PATIENCE, joined
from nasdsl.compiler.relaxable import unrelaxable
from nasdsl.compiler.values.plain import ABSENT

LogP = Mapping[str, torch.Tensor]
"""Of each decision, by path, the logarithms of the probabilities of its values [values]: of a choice one for each
option, of a subset one for each of `Decision.values`, in their order. They need not sum to 1; minus infinity is
allowed. float32 or float64, all on one device."""


class Odds:
    """The architectures of a graph under a probability for each value of each decision. Made once, asked at each step.

    Whatever is computed is computed in float64 on the CPU; tensors come back on the device of those given, in their
    type (at least float32).

    Args:
        measures: the costs to know about, by their names in the registry. Those of budgets are known, too, and all
            multiples of known ones.
        patience: table entries that the diagram may take.

    Attributes:
        values: of each decision, by path, its values in the order of their probabilities: indices, or tuples of them.
        window: the graph's budgets.
        diagram: of all architectures; its `encoding` is that of `draw`.

    Raises:
        CompileError: decisions that cannot have a probability for each value (`relaxable.unrelaxable`).
        Infeasible: there is no architecture.
        TooWide: so many decisions hang together that the diagram would be too large.
        ArgumentError: there is no such measure.
        MissingTable, UnreadableBudget: a measure, or a budget on one, that is read from a file where there is none.
    """

    def __init__(self, graph: Graph, measures: Sequence[str] = registry.DEFAULT, patience: int = PATIENCE):
        wrong = unrelaxable(graph)
        if wrong:
            raise CompileError(wrong)
        self.graph, self.measures = graph, tuple(measures)
        self.window = budget_windows(graph)
        known = sorted({registry.base(name)[1] for name in (*measures, *self.window)})
        self.values = {path: tuple(decision.values()) for path, decision in graph.decisions.items()}
        scales = {name: registry.find(name).scale for name in known}
        with bounded(patience):
            self.diagram = Diagram(graph, totals(graph, known), scales=scales, apart=True)
        self._arcs = _Arcs(self.diagram, self.values)

    # --- Means

    def expected(self, log_p: LogP, measures: Sequence[str] | None = None) -> torch.Tensor:
        """[measures]: what each cost comes to on average, in the unit of its measure; differentiable.

        Args:
            measures: by default those that the odds were made with.

        Raises:
            ArgumentError: log-probabilities that are not as `LogP` says, no architecture has a probability, or a
                measure that is not known.
        """
        names = self.measures if measures is None else tuple(measures)
        columns, units = self._columns(names)
        given = self._given(log_p)
        q, _ = self._swept(given)
        costs = torch.from_numpy(self._arcs.costs[:, columns] * units)
        constants = torch.from_numpy(self.diagram.constants[columns] * units)
        return self._back(q @ costs + constants, log_p)

    def _columns(self, names: Sequence[str]) -> tuple[list[int], Floats]:
        """The columns of measures in the diagram, and how many of their units one whole number makes."""
        bases = [registry.base(name) for name in names]
        columns = [self.diagram.measure(name) for _, name in bases]
        return columns, np.array([factor / registry.find(name).scale for factor, name in bases], np.float64)

    def log_partition(self, log_p: LogP) -> torch.Tensor:
        """[]: the logarithm of the probability that decisions made one after the other meet the requirements (budgets
        left out), Z above; minus infinity where none does. Differentiable.

        Raises:
            ArgumentError: log-probabilities that are not as `LogP` says.
        """
        _, log_z = _swept(self._arcs.weights(self._given(log_p)), self._arcs)
        return self._back(log_z, log_p)

    def marginals(self, log_p: LogP) -> dict[str, torch.Tensor]:
        """Of each decision, by path, [values + 1]: the probabilities of its values under the distribution, in the order
        of `values`, and last that it is absent. Differentiable.

        Raises:
            ArgumentError: as `expected`, but for measures.
        """
        q, _ = self._swept(self._given(log_p))
        arcs = self._arcs
        found = torch.zeros(arcs.slots, dtype=torch.float64).index_add(0, arcs.slot, q.index_select(0, arcs.arc))
        parts = torch.split(self._back(found, log_p), [len(values) + 1 for values in self.values.values()])
        return dict(zip(self.values, parts, strict=True))

    def _swept(self, given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[arcs]: their probabilities, and log Z."""
        q, log_z = _swept(self._arcs.weights(given), self._arcs)
        if not log_z > -torch.inf:
            raise ArgumentError("no architecture that meets all requirements has a probability above 0")
        return q, log_z

    # --- Architectures

    def draw(self, n: int, log_p: LogP, rng: np.random.Generator) -> Matrix:
        """`n` independent architectures, budgets left out, as rows of `diagram.encoding`.

        Raises:
            ArgumentError: as `marginals`.
        """
        sums = self._summed(log_p)
        arcs = np.empty((n, len(self._arcs.layers)), np.int32)
        state: Any = np.zeros(n, np.int64)
        for number, layer in enumerate(self._arcs.layers):
            share = sums.share[self._arcs.of[number]]
            dead = np.add.reduceat(share, layer.start[:-1]) == 0  # nothing gets there
            arcs[:, number] = Alias(np.where(dead[layer.source], 1.0, share), layer.start).pick(state, rng.random(n))
            state = layer.target[arcs[:, number]].astype(np.int64)
        return self.diagram.matrix(self.diagram.through(arcs))

    def likeliest(self, log_p: LogP, k: int = 1, window: Window | None = None) -> list[tuple[Architecture, float]]:
        """The `k` architectures with the greatest probabilities of those inside all budgets and the window, greatest
        first, each with the logarithm of P; all with a probability above 0 where there are fewer.

        Exact but for the rounding of floating point, in which sums of equal numbers count as equal. Of architectures
        that are equally likely some come first, always the same.

        Args:
            window: of known measures, in their units: `{"macs": (None, 600e6)}`.

        Raises:
            Infeasible: there is none inside, or none that has a probability above 0.
            TooWide: so many architectures are about as likely that the best of those inside cannot be told.
            ArgumentError: as `expected`; `k` is less than 1.
        """
        if k < 1:
            raise ArgumentError(f"the likeliest {k} architectures are none")
        inside = joined(self.window, _in_bases(window or {}))
        wanted = bounds(self.diagram, inside)
        sums, arcs = self._summed(log_p), self._arcs
        costs = arcs.costs[:, list(wanted.columns)]
        spent = self.diagram.constants[list(wanted.columns)]
        low, high = ((np.array(end, np.int64) - spent).tolist() for end in (wanted.low, wanted.high))
        scores, prices = [sums.weight[part] for part in arcs.of], [costs[part] for part in arcs.of]
        paths, score = likeliest_paths(arcs.layers, scores, prices, low, high, k)
        if not len(paths):
            raise self._nothing(wanted)
        rows = self.diagram.matrix(self.diagram.through(paths))
        found = [Architecture.at(self.graph, row.indices) for row in self.diagram.encoding.decode(rows)]
        return list(zip(found, (score - sums.log_z).tolist(), strict=True))

    def _nothing(self, wanted: Bounds) -> Infeasible:
        told = f"; {least_alone(self.diagram, wanted)}" if wanted.columns else ""
        return Infeasible(f"no architecture with a probability above 0 lies inside the window{told}")

    def _summed(self, log_p: LogP) -> _Sums:
        sums = _Sums(self._arcs, self._arcs.weights(self._given(log_p).detach()).numpy())
        if not sums.log_z > -np.inf:
            raise ArgumentError("no architecture that meets all requirements has a probability above 0")
        return sums

    # --- Probabilities, in and out

    def _given(self, log_p: LogP) -> torch.Tensor:
        """[values of all decisions]: float64, on the CPU."""
        for path in log_p:
            if path not in self.values:
                raise ArgumentError(f"the space has no decision `{path}`", suggest(path, self.values))
        for path, values in self.values.items():
            if path not in log_p:
                raise ArgumentError(f"`{path}` has no probabilities")
            if log_p[path].shape != (len(values),):
                raise ArgumentError(
                    f"`{path}` has {len(values)} values, and not {list(log_p[path].shape)} probabilities"
                )
        if not self.values:
            return torch.zeros(0, dtype=torch.float64)
        given = torch.cat([log_p[path] for path in self.values]).to("cpu", torch.float64)
        wrong = ~(given.detach() < torch.inf)
        if wrong.any():
            ends = np.cumsum([len(values) for values in self.values.values()])
            path = list(self.values)[int(np.searchsorted(ends, int(wrong.int().argmax()), side="right"))]
            raise ArgumentError(f"a logarithm of a probability of `{path}` is not a number, or infinite")
        return given

    def _back(self, found: torch.Tensor, log_p: LogP) -> torch.Tensor:
        """As the tensors given."""
        if not self.values:
            return found
        like = log_p[next(iter(self.values))]
        return found.to(like.device, torch.promote_types(like.dtype, torch.float32))


def _in_bases(window: Window) -> dict[str, tuple[float | None, float | None]]:
    """A window on the measures that those of another are multiples of."""
    found: dict[str, tuple[float | None, float | None]] = {}
    for name, (low, high) in window.items():
        factor, base = registry.base(name)
        found = joined(found, {base: (_over(low, factor), _over(high, factor))})
    return found


def _over(bound: float | None, factor: int) -> float | None:
    return bound if bound is None or factor == 1 else bound / factor


class _Arcs:
    """The arcs of all blocks of a diagram, one after the other.

    Attributes:
        layers: the blocks.
        of: of each block its part of the arcs.
        costs: [arcs, measures] as floats.
        arc, slot: [entries] which arc takes which value: the values of all decisions, each with absence as its last.
        slots: how many of these there are.
    """

    def __init__(self, diagram: Diagram, values: Mapping[str, Sequence[Any]]):
        self.layers: list[Layer] = diagram.blocks.layers
        ends = np.cumsum([0, *map(len, self.layers)]).tolist()
        self.of = [slice(first, last) for first, last in pairwise(ends)]
        self.n = int(ends[-1])
        width = len(diagram.measures)
        self.costs: Floats = np.concatenate([np.zeros((0, width)), *[layer.costs for layer in self.layers]])
        firsts = np.cumsum([0, *[len(own) + 1 for own in values.values()]])
        self.slots = int(firsts[-1])
        arc: list[Ints] = [np.zeros(0, np.int64)]
        slot: list[Ints] = [np.zeros(0, np.int64)]
        for part, layer in zip(self.of, self.layers, strict=True):
            for place, decision in enumerate(layer.decisions):
                variable = diagram.network.variables[decision]
                number = {value: i for i, value in enumerate((*values[variable.name], ABSENT))}
                own = firsts[decision] + np.array([number[cell.value] for cell in variable.cells])
                arc.append(np.arange(part.start, part.stop))
                slot.append(own[layer.cells[:, place]])
        self.arc = torch.from_numpy(np.concatenate(arc))
        self.slot = torch.from_numpy(np.concatenate(slot))
        # Of the values alone: an absent one weighs nothing.
        absent = np.zeros(self.slots, np.bool_)
        absent[firsts[1:] - 1] = True
        there = ~absent[self.slot.numpy()]
        given = np.cumsum(~absent) - 1
        self._weighed = torch.from_numpy(self.arc.numpy()[there])
        self._by = torch.from_numpy(given[self.slot.numpy()[there]])

    def weights(self, given: torch.Tensor) -> torch.Tensor:
        """[arcs]: the logarithms of their weights, from those of the values of all decisions."""
        return torch.zeros(self.n, dtype=torch.float64).index_add(0, self._weighed, given.index_select(0, self._by))


class _Sums:
    """What lies behind each state and on each arc, for given logarithms of weights [arcs].

    Attributes:
        weight: [arcs] as given.
        share: [arcs] of what lies behind its source, how much an arc takes; 0 where there is nothing.
        q: [arcs] probabilities.
        log_z: the logarithm of the sum over all ways of the products of weights.
    """

    def __init__(self, arcs: _Arcs, weight: Floats):
        self.arcs, self.weight = arcs, weight
        self.share, self.q = np.empty(arcs.n), np.empty(arcs.n)
        mass = np.zeros(1)
        with np.errstate(divide="ignore"):
            for layer, part in zip(reversed(arcs.layers), reversed(arcs.of), strict=True):
                terms = weight[part] + mass[layer.target]
                first = layer.start[:-1]
                top = np.maximum.reduceat(terms, first)
                top = np.where(top > -np.inf, top, 0.0)
                parts = np.exp(terms - top[layer.source])
                sums = np.add.reduceat(parts, first)
                mass = top + np.log(sums)
                self.share[part] = parts / np.where(sums > 0, sums, 1.0)[layer.source]
        self.log_z = float(mass[0])
        self.reached: list[Floats] = []  # of each boundary but the last: the probabilities of its states
        state = np.ones(1)
        for layer, part in zip(arcs.layers, arcs.of, strict=True):
            self.reached.append(state)
            self.q[part] = state[layer.source] * self.share[part]
            state = np.bincount(layer.target, self.q[part], layer.after).astype(np.float64)

    def slopes(self, own: Floats) -> Floats:
        """[arcs]: how the mean of the sum of `own` [arcs] over a way grows with each logarithm of a weight."""
        after = np.zeros(1)
        onward = np.empty(self.arcs.n)  # the mean of the sum over an arc and what follows it
        for layer, part in zip(reversed(self.arcs.layers), reversed(self.arcs.of), strict=True):
            onward[part] = own[part] + after[layer.target]
            after = np.add.reduceat(self.share[part] * onward[part], layer.start[:-1])
        mean = after[0]
        found = np.empty(self.arcs.n)
        before = np.zeros(1)  # the mean of the sum over what leads to a state
        for number, (layer, part) in enumerate(zip(self.arcs.layers, self.arcs.of, strict=True)):
            found[part] = self.q[part] * (before[layer.source] + onward[part] - mean)
            if number + 1 < len(self.arcs.layers):
                reached = self.reached[number + 1]
                total = np.bincount(layer.target, self.q[part] * (before[layer.source] + own[part]), layer.after)
                before = np.divide(total, reached, out=np.zeros(layer.after), where=reached > 0)
        return found


class _Sweep(torch.autograd.Function):
    """(logarithms of weights [arcs], _Arcs) -> probabilities of arcs [arcs], log Z []."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, arcs: _Arcs) -> tuple[torch.Tensor, torch.Tensor]:
        sums = ctx.sums = _Sums(arcs, weight.detach().numpy())
        return torch.from_numpy(sums.q), torch.tensor(sums.log_z, dtype=torch.float64)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, q: torch.Tensor, log_z: torch.Tensor) -> tuple[torch.Tensor, None]:
        sums = cast(_Sums, ctx.sums)
        found: NDArray[np.float64] = sums.slopes(q.numpy()) + float(log_z) * sums.q
        return torch.from_numpy(found), None


def _swept(weight: torch.Tensor, arcs: _Arcs) -> tuple[torch.Tensor, torch.Tensor]:
    q, log_z = _Sweep.apply(weight, arcs)  # type: ignore[no-untyped-call]
    return q, log_z
