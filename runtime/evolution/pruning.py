"""Partial order pruning (Li et al., CVPR 2019; SM-NAS paper): what cannot enter the front is not evaluated.

Architectures are ordered in part: x is below y where it has no more of anything that there can be more of, and is the
same in all else. It is assumed that more is no worse: x below y means that x is neither better nor dearer. Then x need
not be evaluated where it is below some w that has been, and some y that has been is no worse than w and costs no more
than x. Costs are known without an evaluation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler import measures as registry
from nasdsl.compiler.arrays.encoding import ABSENT
from nasdsl.compiler.cost import totals
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.diagnostics import suggest
from nasdsl.compiler.engine.monotone import Monotone
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.tree import decisions_of, evaluate, holds
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.evolution.candidates import Candidates, Row, Rows
from nasdsl.runtime.evolution.objectives import Objectives
from nasdsl.runtime.evolution.trial import Proposal, Trial
from nasdsl.runtime.settings import Settings


class Prune(Settings):
    """`prune: { ... }`, or one word that is `by`.

    Attributes:
        by: what there is more or less of. `decisions`: the decisions that are ordered. `widths`: how many channels each
            layer gives, none where it is not there, in place of the numbers that decide on this; for spaces whose
            decisions say only in combination how wide and deep a network is (SM-NAS: blocks of a segment, and the
            planes of each).
        order: the decisions that are ordered, by path or by the end of their paths (`depth`, `mbconv.kernel`). The
            options of a choice go from less to more: as numbers do, others as they are listed. Left out: units, and
            numbers of which more has been proven never to cost less, in no measure.
    """

    word: ClassVar[str | None] = "by"

    by: Literal["decisions", "widths"] = "decisions"
    order: tuple[str, ...] | None = None


class PartialOrder:
    """Which architectures are below which.

    Of decisions that both have, ordered ones must be at most as great, and others equal; of units a subset. What the
    greater one alone has, such as further blocks of a deeper stage, may be anything; the lesser one has nothing that
    the greater one lacks.

    Args:
        measures: of costs, in which more of a decision must never cost less.

    Attributes:
        ordered: the paths of the decisions that are.
        unproven: the paths of numbers that are not, since more of them may cost less.

    Raises:
        RunError: `order` names no decision, or one that cannot be ordered.
    """

    def __init__(self, graph: Graph, candidates: Candidates, settings: Prune, measures: Sequence[str]):
        self.encoding = candidates.encoding
        self._widths = _widths(graph) if settings.by == "widths" else []
        told = {path for pair in self._widths for value in pair for path in decisions_of(value)}
        decisions = {path: d for path, d in self.encoding.decisions.items() if not (d.ordered and path in told)}
        if settings.order is not None:
            self.ordered = _named(decisions, settings.order)
            self.unproven: list[str] = []
        else:
            proven = _proven(graph, decisions, measures)
            self.ordered = [path for path, d in decisions.items() if d.kind == "units" or path in proven]
            self.unproven = [path for path, d in decisions.items() if d.ordered and d.n > 1 and path not in proven]
        self._columns = np.concatenate(
            [np.zeros(0, np.intp), *(np.arange(self.encoding.width)[self.encoding.columns[path]] for path in decisions)]
        )
        rises = np.zeros(self.encoding.width, np.bool_)
        self._falling: list[tuple[int, int]] = []
        for path in self.ordered:
            rises[self.encoding.columns[path]] = True
            decision = decisions[path]
            if decision.kind == "choice" and decision.ordered and _falls(decision):
                self._falling.append((self.encoding.columns[path].start, decision.n - 1))
        self._rises = rises[self._columns]

    def points(self, rows: Rows) -> tuple[Rows, NDArray[np.float64]]:
        """[n, columns] and [n, layers]: what `below` compares.

        Args:
            rows: [n, width] of the candidates' encoding.
        """
        rows = rows.copy()
        for column, last in self._falling:  # options from the greatest to the least
            rows[:, column] = np.where(rows[:, column] == ABSENT, ABSENT, last - rows[:, column])
        if not self._widths:
            return rows[:, self._columns], np.zeros((len(rows), 0))
        return rows[:, self._columns], np.asarray([self._wide(one.indices) for one in self.encoding.decode(rows)])

    def _wide(self, values: Mapping[str, Any]) -> list[float]:
        return [float(evaluate(width, values)) if holds(there, values) else 0 for there, width in self._widths]

    def below(self, one: tuple[Row, NDArray[Any]], all: tuple[Rows, NDArray[Any]]) -> NDArray[np.bool_]:
        """[n] whether one architecture is below, or equal to, each of others, all as `points` has them."""
        (row, widths), (rows, all_widths) = one, all
        fits = np.where(self._rises, row <= rows, (row == rows) | (row == ABSENT))
        return np.asarray(fits.all(axis=1) & (widths <= all_widths).all(axis=1))


def _widths(graph: Graph) -> list[tuple[Value, Value]]:
    """When a layer is there, and how many channels it then gives; each pair once."""
    return list({(node.reached, node.shape.channels): None for node in graph.operators()})


def _proven(graph: Graph, decisions: Mapping[str, Decision], measures: Sequence[str]) -> set[str]:
    """The numbers of which more never costs less, whatever else is chosen, and sometimes more."""
    total, directions = totals(graph, measures), Monotone()
    found = set()
    for path, decision in decisions.items():
        if decision.ordered and (_rises(decision) or _falls(decision)):
            turn = -1 if _falls(decision) else 1
            signs = [directions.of(total[name], path, decision.n) for name in measures]
            if 1 in (turn * sign for sign in signs if sign is not None) and not {None, -turn} & set(signs):
                found.add(path)
    return found


def _rises(decision: Decision) -> bool:
    return all(a < b for a, b in pairwise(decision.items))


def _falls(decision: Decision) -> bool:
    return decision.n > 1 and all(a > b for a, b in pairwise(decision.items))


def _named(decisions: Mapping[str, Decision], names: Sequence[str]) -> list[str]:
    """The paths of the decisions that the names mean."""
    found: dict[str, None] = {}
    for name in names:
        mine = [path for path in decisions if path == name or f".{_plain(path)}".endswith(f".{_plain(name)}")]
        if not mine:
            ends = {_plain(path).rsplit(".", 1)[-1] for path in decisions}
            raise RunError(f"`prune` orders `{name}`, and no decision is called so", suggest(name, [*decisions, *ends]))
        for path in mine:
            decision = decisions[path]
            if decision.kind in ("subset", "order"):
                raise RunError(f"`prune` orders `{path}`, of which there cannot be more or less")
            if decision.ordered and not (_rises(decision) or _falls(decision)):
                raise RunError(f"`prune` orders `{path}`, whose numbers are neither in rising nor in falling order")
        found |= dict.fromkeys(mine)
    return list(found)


def _plain(path: str) -> str:
    """A path without the numbers of copies."""
    return re.sub(r"\[[^\]]*\]", "", path)


class Pruning:
    """Says which candidates need not be evaluated, by the trials so far.

    Args:
        objectives: one metric to maximise, and costs to minimise.
    """

    def __init__(self, graph: Graph, candidates: Candidates, objectives: Objectives, settings: Prune):
        self.candidates, self.objectives = candidates, objectives
        measures = candidates.population.measures
        self.order = PartialOrder(graph, candidates, settings, measures)
        self._costs = [number for number, up in enumerate(objectives.maximised) if not up]
        (self._metric,) = (number for number, up in enumerate(objectives.maximised) if up)
        self._known: list[Trial] = []
        self._seen: set[int] = set()
        empty = self.order.points(np.zeros((0, candidates.encoding.width), candidates.encoding.dtype))
        self._rows, self._widths = [empty[0]], [empty[1].reshape(0, len(self.order._widths))]

    def reason(self, row: Row, proposal: Proposal, trials: Sequence[Trial]) -> str | None:
        """Why a candidate need not be evaluated; None where it may enter the front.

        Args:
            trials: complete ones.

        Raises:
            RunError: what evaluates gives a cost itself, so that it is not known before.
        """
        self._learn(trials)
        if not self._known:
            return None
        values = np.asarray([trial.objectives for trial in self._known])
        costs = np.asarray(self._costs_of(proposal))
        (point, widths) = self.order.points(row[None])
        everything = (np.concatenate(self._rows), np.concatenate(self._widths))
        self._rows, self._widths = [everything[0]], [everything[1]]
        above = np.flatnonzero(self.order.below((point[0], widths[0]), everything))
        cheaper = np.flatnonzero((values[:, self._costs] <= costs).all(axis=1))
        if not len(above) or not len(cheaper):
            return None
        metric = values[:, self._metric]
        w, y = above[metric[above].argmin()], cheaper[metric[cheaper].argmax()]
        if metric[y] < metric[w]:
            return None
        larger, better = self._known[int(w)].index, self._known[int(y)].index
        return f"it has no more than trial {larger}, and trial {better} is no worse than that and costs no more than it"

    def _learn(self, trials: Sequence[Trial]) -> None:
        fresh = [trial for trial in trials if trial.index not in self._seen]
        for trial in fresh:
            for number in self._costs:
                name = self.objectives.names[number]
                if name in trial.metrics:
                    raise RunError(
                        f"`prune` needs costs that are known without an evaluation, and each evaluation gives `{name}`"
                    )
        if fresh:
            rows = np.stack([self.candidates.row(trial.proposal.architecture) for trial in fresh])
            for store, part in zip((self._rows, self._widths), self.order.points(rows), strict=True):
                store.append(part)
            self._known += fresh
            self._seen |= {trial.index for trial in fresh}

    def _costs_of(self, proposal: Proposal) -> list[float]:
        names = [registry.base(self.objectives.names[number]) for number in self._costs]
        return [float(factor * proposal.costs[name]) for factor, name in names]
