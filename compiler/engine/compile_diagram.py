"""A network laid out as a chain of layers, one decision each, with the states that lie between them.

Decisions are taken in an order in which those that hang together stand close. Between two of them a *state* says all
that what is still to come depends on: the values of the variables that a factor further on mentions. States that lead
nowhere are left out, and states from which the same can follow at the same cost are one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler.diagnostics import ArgumentError
from nasdsl.compiler.engine.eliminate import elimination_order
from nasdsl.compiler.engine.factors import Factor, FactorGraph
from nasdsl.compiler.engine.levels import Layer, Weights
from nasdsl.compiler.engine.limits import EXACT, Infeasible, TooCostly, TooWide, spend
from nasdsl.compiler.values.tree import decisions_of

MOST_ARCS = 1 << 18  # of one decision
MOST_READ = 1 << 12  # entries of a table of which is asked on what it still depends
MOST_COMPARED = 1 << 14  # states between two decisions that are compared with each other
_LARGEST = np.iinfo(np.int64).max
_NO_COST = np.iinfo(np.int64).min  # a FAULT: the cost has no value


def compile_diagram(network: FactorGraph) -> list[Layer]:
    """The layers, from a single state before the first decision to a single one after the last.

    Raises:
        Infeasible: nothing meets all constraints.
        TooWide: more arcs are needed for a decision than MOST_ARCS.
        TooCostly: all costs together may come to more than EXACT.
        ArgumentError: a cost that is no whole number, or has no value where it is asked for.
    """
    if not network.possible:
        raise Infeasible("no architecture meets all requirements")
    order = _order(network)
    walk = _Walk(network, order)
    layers = _merge(prune(list(walk.layers())))
    for layer in layers:
        wrong = (layer.costs < _NO_COST // 2).any(axis=1)
        if wrong.any() and walk.fraction is not None:
            raise _no_whole(walk.fraction)
        if wrong.any():
            path = network.variables[layer.decisions[0]].name
            raise ArgumentError(f"a cost that depends on `{path}` has no value for some architectures")
    for measure, charge in enumerate(network.charges):
        constant = abs(whole(charge.constant))
        total = constant + sum(int(abs(layer.costs[:, measure]).max(initial=0)) for layer in layers)
        if total > EXACT:
            raise TooCostly(total)
    return layers


# --- order ------------------------------------------------------------------------------------------------------------


def _scopes(network: FactorGraph) -> list[tuple[int, ...]]:
    charged = [factor.scope for charge in network.charges for factor in charge.factors]
    return [scope for scope, _ in network.relations] + charged


def _order(network: FactorGraph) -> list[int]:
    """All variables: each component in the graph's order or, where that keeps fewer states, in the reverse of the
    order of elimination, as far as presence allows: what governs others comes before them. Intermediates come as soon
    as what they follow from is there."""
    scopes = _scopes(network)
    eliminated = list(elimination_order(network, [Factor(scope, {}) for scope in scopes], frozenset()))
    place = {variable: -at for at, variable in enumerate(eliminated)}
    home = {i: number for number, component in enumerate(network.components()) for i in component}
    inside: dict[int, list[tuple[int, ...]]] = {}
    for scope in scopes:
        inside.setdefault(home[scope[0]], []).append(scope)
    out: list[int] = []
    for number, component in enumerate(network.components()):
        decisions = [i for i in component if network.variables[i].decision is not None]
        natural = _with_intermediates(network, decisions, component)
        if len(decisions) > 2:
            backward = _with_intermediates(network, _governors_first(network, decisions, place), component)
            mine = inside.get(number, [])
            natural = min(natural, backward, key=lambda order: _states(network, order, mine))
        out += natural
    return out


def _governors_first(network: FactorGraph, decisions: Sequence[int], place: Mapping[int, int]) -> list[int]:
    """Decisions by place, each after those that decide whether it is present."""
    import networkx

    governs: networkx.DiGraph[int] = networkx.DiGraph()
    governs.add_nodes_from(decisions)
    for i in decisions:
        decision = network.variables[i].decision
        above = [] if decision is None else [network.index[path] for path in decisions_of(decision.present)]
        governs.add_edges_from((j, i) for j in above if j in governs)
    return list(networkx.lexicographical_topological_sort(governs, place.__getitem__))


def _with_intermediates(network: FactorGraph, decisions: Sequence[int], component: Sequence[int]) -> list[int]:
    waiting: dict[int, list[int]] = {}
    missing: dict[int, int] = {}
    for i in component:
        if i in network.defined:
            sources = network.relations[network.defined[i]][0][:-1]
            missing[i] = len(sources)
            for j in sources:
                waiting.setdefault(j, []).append(i)
    out: list[int] = []
    for decision in decisions:
        ready = [decision]
        while ready:
            out.append(ready.pop(0))
            for i in waiting.get(out[-1], ()):
                missing[i] -= 1
                if not missing[i]:
                    ready.append(i)
    return out


def _states(network: FactorGraph, order: Sequence[int], scopes: Sequence[tuple[int, ...]]) -> float:
    """At most so many states stand between the variables in this order, all places together."""
    at = {variable: place for place, variable in enumerate(order)}
    last = dict(at)
    for scope in scopes:
        end = max(at[i] for i in scope)
        for i in scope:
            last[i] = max(last[i], end)
    ends: dict[int, float] = {}
    total = size = 0.0
    for place, variable in enumerate(order):
        own = math.log2(network.variables[variable].size) if variable not in network.defined else 0.0
        size += own
        ends[last[variable]] = ends.get(last[variable], 0.0) + own
        size -= ends.get(place, 0.0)
        total += 2.0 ** min(size, 1000.0)
    return total


# --- walk -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    """A definition, a requirement or a price: what it says for each values of its variables, in a dense array."""

    scope: tuple[int, ...]
    values: NDArray[Any]
    measure: int = 0  # of a price


class _Walk:
    """Takes the decisions in order and keeps the states."""

    def __init__(self, network: FactorGraph, order: Sequence[int]):
        self.network, self.order = network, order
        self.fraction: Any = None  # a cost that is no whole number, if there is one
        self.at = {variable: place for place, variable in enumerate(order)}
        self.last = dict(self.at)
        self.defined: dict[int, _Table] = {}
        self.checks: dict[int, list[_Table]] = {}
        self.prices: dict[int, list[_Table]] = {}
        self.users: dict[int, list[tuple[int, _Table]]] = {}  # of each variable what reads it, and when that is done
        variable_of = {relation: variable for variable, relation in network.defined.items()}
        for number, (scope, keys) in enumerate(network.relations):
            if number in variable_of:
                defined = self.defined[variable_of[number]] = _Table(scope[:-1], self._listed(scope, keys))
                self._keep(defined, self.at[scope[-1]])
            else:
                check = _Table(scope, self._allowed(scope, keys))
                self.checks.setdefault(self._keep(check), []).append(check)
        for measure, charge in enumerate(network.charges):
            for factor in charge.factors:
                price = _Table(factor.scope, self._priced(factor), measure)
                self.prices.setdefault(self._keep(price), []).append(price)

    def _keep(self, table: _Table, end: int = 0) -> int:
        """Has the variables of a table kept until it is read, at the place that is returned."""
        end = max(end, *[self.at[i] for i in table.scope])
        for i in table.scope:
            self.last[i] = max(self.last[i], end)
            self.users.setdefault(i, []).append((end, table))
        return end

    def _sizes(self, scope: Sequence[int]) -> list[int]:
        return [self.network.variables[i].size for i in scope]

    def _listed(self, scope: tuple[int, ...], keys: list[tuple[int, ...]]) -> NDArray[np.int32]:
        values = np.zeros(math.prod(self._sizes(scope[:-1])), np.int32)
        listed = np.array(keys, np.int64).reshape(-1, len(scope)).T
        values[self._codes(scope[:-1], listed[:-1])] = listed[-1]
        return values

    def _allowed(self, scope: tuple[int, ...], keys: list[tuple[int, ...]]) -> NDArray[np.bool_]:
        table = np.zeros(math.prod(self._sizes(scope)), np.bool_)
        table[self._codes(scope, np.array(keys, np.int64).reshape(-1, len(scope)).T)] = True
        return table

    def _priced(self, factor: Factor) -> NDArray[np.int64]:
        table = np.full(math.prod(self._sizes(factor.scope)), _NO_COST)
        keys = np.array(list(factor.table), np.int64).reshape(-1, len(factor.scope)).T
        table[self._codes(factor.scope, keys)] = [self._cost(value) for value in factor.table.values()]
        return table

    def _codes(self, scope: Sequence[int], columns: Any) -> NDArray[np.int64]:
        code: Any = 0
        for size, column in zip(self._sizes(scope), columns, strict=True):
            code = code * size + column
        return np.asarray(code, np.int64)

    def layers(self) -> Iterator[Layer]:
        front: list[int] = []
        states = np.zeros((0, 1), np.int32)  # one column for each state
        place = 0
        while place < len(self.order):
            end = place + 1
            while end < len(self.order) and self.order[end] in self.network.defined:
                end += 1
            layer, front, states = self._step(self.order[place:end], place, front, states)
            yield layer
            place = end

    def _step(
        self, variables: Sequence[int], place: int, front: list[int], states: NDArray[np.int32]
    ) -> tuple[Layer, list[int], NDArray[np.int32]]:
        decision, network = variables[0], self.network
        size, before = network.variables[decision].size, states.shape[1]
        if before * size > MOST_ARCS:
            paths = [network.variables[i].name for i in (*front, decision) if network.variables[i].decision is not None]
            raise TooWide("the space", before * size, MOST_ARCS, paths)
        spend(before * size)
        source = np.repeat(np.arange(before, dtype=np.int32), size)
        columns = dict(zip(front, states[:, source], strict=True))
        columns[decision] = np.tile(np.arange(size, dtype=np.int32), before)
        costs = np.zeros((before * size, len(network.charges)), np.int64)
        holds = np.ones(before * size, np.bool_)
        for offset, variable in enumerate(variables):
            if offset:
                columns[variable] = self._read(self.defined[variable], columns)
            for check in self.checks.get(place + offset, ()):
                holds &= self._read(check, columns)
            for price in self.prices.get(place + offset, ()):
                added, own = self._read(price, columns), costs[:, price.measure]
                wrong = (added == _NO_COST) | (own == _NO_COST)
                costs[:, price.measure] = np.where(wrong, _NO_COST, own + added)
        rest = [i for i in (*front, *variables) if self.last[i] >= place + len(variables)]
        after = np.stack([columns[i][holds] for i in rest]) if rest else np.zeros((0, int(holds.sum())), np.int32)
        self._forget(rest, after, place, place + len(variables))
        states, target = _distinct(after)
        cells = columns[decision][holds]
        weights = Weights.of(cell.count for cell in network.variables[decision].cells)[cells]
        layer = Layer(
            (decision,), cells[:, None], source[holds], target, costs[holds], weights, before, states.shape[1]
        )
        return layer, rest, states

    def _cost(self, value: Any) -> int:
        """A cost as an integer. A fraction counts as no cost: what requirements rule out may have one."""
        if int(value) != value:
            self.fraction = value
            return _NO_COST
        return whole(value)

    def _read(self, table: _Table, columns: Mapping[int, NDArray[np.int32]]) -> NDArray[Any]:
        found: NDArray[Any] = table.values[self._codes(table.scope, [columns[i] for i in table.scope])]
        return found

    def _forget(self, front: Sequence[int], states: NDArray[np.int32], first: int, end: int) -> None:
        """Sets values that nothing to come depends on any more, given the others of their state, to 0: the width of a
        block, say, that is not the last one. Changes `states`, a row for each of `front`, in place.

        Looked at is what shares a table with one of the variables from place `first` to `end` - 1, which are new.
        """
        row = {variable: states[number] for number, variable in enumerate(front)}
        for variable, own in row.items():
            recent = [(last, table) for last, table in self.users[variable] if last >= first]
            readers = [table for last, table in recent if last >= end]
            fresh = any(first <= self.at[i] < end for _, table in recent for i in table.scope)
            if not fresh or max(len(table.values) for table in readers) > MOST_READ:
                continue
            matters = np.zeros(len(own), np.bool_)
            for table in readers:
                known = [i for i in table.scope if i in row and i != variable]
                matters |= self._depends(table, variable, known)[self._codes(known, [row[i] for i in known])]
            own[~matters] = 0

    def _depends(self, table: _Table, variable: int, known: Sequence[int]) -> NDArray[np.bool_]:
        """[values of the known variables together] whether what a table says still depends on a variable."""
        scope = table.scope
        axes = [scope.index(i) for i in known] + [scope.index(variable)]
        axes += [axis for axis in range(len(scope)) if axis not in axes]
        parted = table.values.reshape(self._sizes(scope)).transpose(axes)
        parted = parted.reshape(math.prod(self._sizes(known)), self.network.variables[variable].size, -1)
        differs: NDArray[np.bool_] = (parted != parted[:, :1]).any(axis=(1, 2))
        return differs


def _no_whole(value: Any) -> ArgumentError:
    return ArgumentError(f"a cost is {value}, which is no whole number")


def whole(value: Any) -> int:
    """A cost as an integer.

    Raises:
        ArgumentError: it is none.
        TooCostly: it is beyond EXACT.
    """
    number = int(value)
    if number != value:
        raise _no_whole(value)
    if abs(number) > EXACT:
        raise TooCostly(number)
    return number


def _distinct(columns: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The different columns of a table, and for each column which of these it is."""
    code, codes = np.zeros(columns.shape[1], np.int64), 1  # so many different codes there may be
    for row in columns:
        size = int(row.max(initial=0)) + 1
        if codes * size > _LARGEST:  # numbers of what was seen so far are smaller
            _, code = np.unique(code, return_inverse=True)
            codes = int(code.max(initial=0)) + 1
        code, codes = code * size + row, codes * size
    _, first, number = np.unique(code, return_index=True, return_inverse=True)
    return columns[:, first], number.astype(np.int32)


# --- states -----------------------------------------------------------------------------------------------------------


def prune(layers: list[Layer]) -> list[Layer]:
    """Without the arcs into states from which no architecture can be completed, and without these states."""
    out: list[Layer] = []
    number = np.arange(1) if layers and layers[-1].after else np.zeros(0, np.int64)
    alive = np.ones(len(number), np.bool_)
    for layer in reversed(layers):
        kept = layer[alive[layer.target]]
        alive_before = np.bincount(kept.source, minlength=layer.before) > 0
        renumbered = np.cumsum(alive_before) - 1
        out.append(
            Layer(
                kept.decisions,
                kept.cells,
                renumbered[kept.source].astype(np.int32),
                number[kept.target].astype(np.int32),
                kept.costs,
                kept.weights,
                int(alive_before.sum()),
                int(alive.sum()),
            )
        )
        alive, number = alive_before, renumbered
    if layers and not out[-1].before:
        raise Infeasible("no architecture meets all requirements")
    return out[::-1]


def _merge(layers: list[Layer]) -> list[Layer]:
    """States from which the same can follow, at the same cost, become one."""
    out: list[Layer] = []
    after = np.zeros(1, np.int32)  # the new number of each state after a layer
    count = 1
    for layer in reversed(layers):
        target = after[layer.target]
        before, first = np.arange(layer.before, dtype=np.int32), np.arange(layer.before)
        if 1 < layer.before <= MOST_COMPARED:
            record = np.ascontiguousarray(np.column_stack((layer.cells, target, layer.costs)), np.int64)
            classes: dict[bytes, int] = {}
            firsts: list[int] = []
            for state in range(layer.before):
                key = record[layer.start[state] : layer.start[state + 1]].tobytes()
                if key not in classes:
                    classes[key] = len(classes)
                    firsts.append(state)
                before[state] = classes[key]
            first = np.array(firsts)
        chosen = np.zeros(layer.before, np.bool_)
        chosen[first] = True
        kept = chosen[layer.source]
        out.append(
            Layer(
                layer.decisions,
                layer.cells[kept],
                before[layer.source[kept]],
                target[kept],
                layer.costs[kept],
                layer.weights[kept],
                len(first),
                count,
            )
        )
        after, count = before, len(first)
    return out[::-1]
