"""Costs, requirements and presence of whole matrices of architectures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler import cost
from nasdsl.compiler import measures as registry
from nasdsl.compiler.architecture import wrong
from nasdsl.compiler.arrays.columns import MISSING, Column
from nasdsl.compiler.arrays.encoding import ABSENT, Encoding, Matrix, tidy, within
from nasdsl.compiler.arrays.vector import ROWS, Program, assignment
from nasdsl.compiler.diagnostics import ArgumentError
from nasdsl.compiler.engine.factors import cost_terms
from nasdsl.compiler.extremes import structural
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.plain import FAULTS, Absent
from nasdsl.compiler.values.tree import Apply, Total, decisions_of, evaluate


class Evaluator:
    """What a graph says of architectures that are rows of a matrix. Everything is compiled once, on first use.

    Args:
        totals: values of costs that the registry does not have, or in place of its own, over the decisions.

    Attributes:
        encoding: of the matrices.
    """

    def __init__(self, graph: Graph, totals: Mapping[str, Value] | None = None):
        self.graph = graph
        self.encoding = Encoding(graph.decisions)
        self._given = dict(totals or {})
        self._costs: dict[tuple[str, ...], Program] = {}
        self._totals: dict[str, Value] = {}

    def _total(self, name: str) -> Value:
        """A cost as a flat sum of terms over few decisions, in whole numbers (`Measure.scale`).

        Raises:
            KeyError, MissingTable: as `costs`.
        """
        if name not in self._totals:
            if name not in self._given and registry.lookup(name) is None:
                raise KeyError(name)
            value = self._given[name] if name in self._given else cost.total(self.graph, name)
            self._totals[name] = _flat(value)
        return self._totals[name]

    def _scale(self, name: str) -> int:
        return 1 if name in self._given else registry.find(name).scale

    def costs(self, matrix: Matrix, measures: Sequence[str] = registry.DEFAULT) -> NDArray[Any]:
        """Costs of the whole network [n, measures], equal to those of `cost.cost_of`: int64.

        Objects, Python's integers, where one does not fit; float64 where one has fractions, as a latency has.

        Raises:
            KeyError: a measure that nobody knows.
            MissingTable: one that is read from a file where there is none.
            ArchitectureError: a row lacks a decision that its cost depends on.
            ArgumentError: a cost without a value, not a matrix of the encoding, or entries outside a decision's domain.
        """
        program = self._costs.get(tuple(measures))
        if program is None:
            program = self._costs[tuple(measures)] = Program([self._total(m) for m in measures], self.encoding)
        columns, found = [], program(matrix)
        without = {
            name: int((one.state != 0).argmax())
            for name, one in zip(measures, found, strict=True)
            if one.state is not None and one.state.any()
        }
        if without:
            first = min(without, key=without.__getitem__)  # of the first row that lacks any of them
            self._explain(first, matrix, without[first])
        for name, one in zip(measures, found, strict=True):
            amounts, scale = _amounts(one, name, exact=name not in self._given), self._scale(name)
            columns.append(amounts if scale == 1 else amounts.astype(np.float64) / scale)
        return np.stack(columns, axis=1) if columns else np.zeros((len(matrix), 0), np.int64)

    def _explain(self, name: str, matrix: Matrix, row: int) -> None:
        """Raises the error that tells why a row has no cost."""
        try:
            evaluate(self._total(name), assignment(self.encoding, matrix[row]))
        except Absent as missing:
            path = str(missing.args[0])
            raise wrong("bad-row", path, f"row {row}: `{path}` is absent, but {name} depends on it") from None
        except FAULTS as fault:
            raise ArgumentError(f"row {row}: {name} has no value ({type(fault).__name__}: {fault})") from None

    # form

    @cached_property
    def _levels(self) -> list[tuple[Program, list[list[str]]]]:
        """Conditions of presence, each with the decisions that it governs; first those that mention none."""
        depth: dict[str, int] = {}
        levels: list[dict[Value, list[str]]] = []
        for path, decision in self.graph.decisions.items():
            level = depth[path] = 1 + max((depth[other] for other in decisions_of(decision.present)), default=-1)
            if level == len(levels):
                levels.append({})
            levels[level].setdefault(decision.present, []).append(path)
        return [(Program(list(level), self.encoding), list(level.values())) for level in levels]

    def _settle(self, chunk: Matrix) -> dict[str, NDArray[np.bool_]]:
        """Brings rows into their one form, in place; returns in which rows a present decision has no proper value."""
        wrong: dict[str, NDArray[np.bool_]] = {}
        for program, governed in self._levels:
            for one, paths in zip(program(chunk), governed, strict=True):
                present = _met(one.spread(len(chunk)), absent=False)
                for path in paths:
                    decision, columns = self.graph.decisions[path], self.encoding.columns[path]
                    block = tidy(decision, chunk[:, columns])
                    proper = present & within(decision, block)
                    if not proper.all():
                        chunk[:, columns] = np.where(proper[:, None], block, ABSENT)
                    elif decision.kind in ("subset", "order"):
                        chunk[:, columns] = block
                    wrong[path] = present & ~proper
        return wrong

    def canonical(self, matrix: Matrix) -> Matrix:
        """Each architecture in its one form: decisions that are absent under the others at -1, subsets sorted, equal
        items of an order by rising index.

        Raises:
            ArchitectureError: a decision is present, but has no value of its domain.
            ArgumentError: not a matrix of the encoding.
        """
        self.encoding.check(matrix)
        out = matrix.copy()
        for start in range(0, len(out), ROWS):
            for path, lacking in self._settle(out[start : start + ROWS]).items():
                if lacking.any():
                    row = start + int(lacking.argmax())
                    raise wrong("bad-row", path, f"row {row}: `{path}` is present, but has no value of its own")
        return out.astype(self.encoding.dtype, copy=False)

    def valid(self, matrix: Matrix) -> NDArray[np.bool_]:
        """[n]: rows that are architectures in their one form and meet all requirements but budgets.

        Raises:
            ArgumentError: not a matrix of the encoding.
        """
        self.encoding.check(matrix)
        out = np.empty(len(matrix), np.bool_)
        for start in range(0, len(matrix), ROWS):
            chunk = matrix[start : start + ROWS]
            settled = chunk.copy()
            fine = ~np.logical_or.reduce([*self._settle(settled).values(), np.zeros(len(chunk), np.bool_)])
            fine &= np.logical_and.reduce(settled == chunk, axis=1)
            for one in self._structural(settled):
                fine &= _met(one.spread(len(chunk)), absent=True)
            out[start : start + ROWS] = fine
        return out

    # requirements

    @cached_property
    def _structural(self) -> Program:
        return Program([r.condition for r in structural(self.graph)], self.encoding)

    @cached_property
    def _requirements(self) -> Program:
        def known(leaf: Any) -> Value | None:
            if not isinstance(leaf, Total):
                return None
            name = leaf.measure
            if name not in self._given and (registry.lookup(name) is None or not cost.is_known(self.graph, name)):
                raise ArgumentError(f"a requirement speaks of {name}, whose value for this space is not given")
            scale, total = self._scale(name), self._total(name)
            return total if scale == 1 else expr.multiply(Fraction(1, scale), total)

        conditions = [expr.substitute(r.condition, known) for r in self.graph.requirements]
        return Program(conditions, self.encoding)

    def violations(self, matrix: Matrix) -> NDArray[np.bool_]:
        """[n, requirements]: which of the graph's requirements, budgets among them, each architecture breaks.

        Raises:
            ArgumentError: a budget on a measure that is neither the compiler's nor in `totals`; or as `Program`.
        """
        broken = [~_met(one.spread(len(matrix)), absent=True) for one in self._requirements(matrix)]
        return np.stack(broken, axis=1) if broken else np.zeros((len(matrix), 0), np.bool_)


def _flat(value: Value) -> Value:
    terms = cost_terms(value)
    return Apply("add", terms) if len(terms) > 1 else value


def _met(one: Column, absent: bool) -> NDArray[np.bool_]:
    """Where a condition holds: not where it is a fault, and as told where it hangs on an absent decision."""
    if one.state is None:
        return one.truth()
    met: NDArray[np.bool_] = np.where(one.state == 0, one.truth(), (one.state == MISSING) & absent)
    return met


def _amounts(one: Column, name: str, exact: bool) -> NDArray[Any]:
    if one.kind == "item":
        raise ArgumentError(f"{name} is no number in every row")
    if one.kind != "number" or (one.scale != 1 and not exact):
        return one.values.astype(np.int64 if one.kind == "bool" else np.float64) / (1 if one.scale == 1 else one.scale)
    values = one.values
    if one.scale != 1:  # towards zero, as int() takes a fraction
        if one.scale >= 1 << 63:
            values = values.astype(object)
        values = np.where(values < 0, -(-values // one.scale), values // one.scale)
    try:
        return values.astype(np.int64)
    except OverflowError:
        return values
