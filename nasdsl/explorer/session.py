"""What is left of a space under pins and budgets, as JSON for the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler import measures
from nasdsl.compiler.architecture import Architecture, canonical, index_of
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.count import brief, scientific
from nasdsl.compiler.decision import Decision, Units, runs
from nasdsl.compiler.diagnostics import ArgumentError, NasdslError
from nasdsl.compiler.engine.budget import Within
from nasdsl.compiler.engine.cells import Cell, Patterns
from nasdsl.compiler.engine.conditioned import Conditioned, Limits, Under
from nasdsl.compiler.engine.histogram import LISTED, Distribution, count_within
from nasdsl.compiler.engine.lattice import Window, bounds, whole_bound
from nasdsl.compiler.engine.limits import Infeasible, TooWide, bounded
from nasdsl.compiler.pin import pin
from nasdsl.compiler.population import Estimate, Population, eliminated, inside_window, joined
from nasdsl.compiler.space import Space
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.plain import ABSENT
from nasdsl.compiler.values.tree import Expr, Total
from nasdsl.explorer.budgets import Budget, read_budget

BINS = 48
DRAWS = 1000
"""Architectures that an estimate rests on."""
TRIED = 256
"""Draws, of which the first inside a budget is taken; where none is, it is drawn inside directly."""
MOST_TRIED = 200
"""Draws of which one has to meet requirements that the figures leave out."""
MOST_DIGITS = 40
"""Of a number that is shown in full."""
MOST_BITS = 2000
"""Of a number of which it is found out whether it is a power."""
CERTAIN = 10**11
"""So many architectures can be told by their share to the last one, where costs are not rounded."""
PROOF = 200_000
"""Table entries that the ends of a cost may take where no diagram has them."""
VISIBLE = 1e-10
"""Shares below are told as less than that: rounding may be as large."""
SHOWN = 6.0
"""Standard deviations on both sides of the mean that a histogram shows, where costs lie farther apart."""


@dataclass(frozen=True)
class Asked:
    """What the page asks about.

    Attributes:
        pins: values by path, as `pin` takes them.
        budgets: as they were typed, those that can be read.
        wrong: of each that was typed what is wrong with it, or nothing.
        by: the measure that the histogram shows.
    """

    pins: Mapping[str, Any]
    budgets: Sequence[Budget] = ()
    wrong: Sequence[str] = ()
    by: str = "macs"

    @cached_property
    def window(self) -> Window:
        found: Window = {}
        for budget in self.budgets:
            found = joined(found, budget.window)
        return found


@dataclass
class Session:
    """A space that is explored.

    Args:
        space: with as many decisions as there may be.
        names: the measures that are told, base measures only.

    Attributes:
        bound: why the architectures cannot be counted, where that is so: what the space requires of decisions together
            is then left out of all figures, which bound those of the space. Empty elsewhere.

    Raises:
        Infeasible: there are no architectures.
        TooWide: whether decisions are there hangs together too much for any figure.
    """

    space: Space
    names: Sequence[str] = measures.DEFAULT
    population: Population = field(init=False)
    bound: str = field(init=False, default="")

    def __post_init__(self) -> None:
        self.names = tuple(dict.fromkeys(measures.base(name)[1] for name in self.names))
        graph = self.space.graph
        try:
            self.population = Population(graph, self.names)
        except TooWide as problem:
            self.bound = problem.message
            budgets = tuple(r for r in graph.requirements if r.origin == "budget")
            self.population = Population(replace(graph, requirements=budgets), self.names)
        self._base = Conditioned(self.population.diagram)
        self._known: dict[tuple[str, bytes], dict[str, Any]] = {}
        self._proves = not self.population.exact and self._proven({}) is not None

    # --- What is asked

    def read(self, told: Any) -> Asked:
        """What the page says, checked.

        Raises:
            NasdslError: it is not what the page would say.
        """
        if not isinstance(told, dict) or not isinstance(told.get("pins", {}), dict):
            raise ArgumentError("a question has pins by path")
        pins = {}
        for path, value in told.get("pins", {}).items():
            decision = self.space.graph.decisions.get(path)
            if decision is None:
                raise ArgumentError(f"the space has no decision `{path}`")
            pins[path] = _read_value(decision, value)
        found, wrong = [], []
        texts = told.get("budgets", [])
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ArgumentError("budgets are texts")
        for text in texts:
            try:
                found.append(read_budget(text, self.names))
                wrong.append("")
            except NasdslError as problem:
                wrong.append(f"{problem.message}: {problem.help}" if problem.help else problem.message)
        by = told.get("by", self.names[0])
        if by not in self.names:
            raise ArgumentError(f"the measure `{by}` is not looked at here")
        return Asked(pins, found, wrong, by)

    # --- What is left

    def view(self, asked: Asked) -> dict[str, Any]:
        """Size, costs, what lies inside the budgets, and what each decision can still be."""
        under = self._base.under(asked.pins)
        window = joined(self.population.window, asked.window)
        out: dict[str, Any] = {
            "total": number(under.total),
            "empty": under.empty,
            "wrong": list(asked.wrong),
            "gone": self._nodes_gone(asked.pins),
        }
        limits = self._limits(window)
        if under.empty:
            out["decisions"] = self._decisions(under, limits, asked)
            out["why"] = "No architecture meets all requirements with these values."
            return out
        if self.population.exact:
            self._exact_costs(out, under, window, asked)
        else:
            self._estimated_costs(out, under, window, asked)
        out["decisions"] = self._decisions(under, limits, asked)
        return out

    def _limits(self, window: Window) -> Limits:
        """The window by columns, whether or not anything lies inside; none where costs are not known exactly."""
        if not self.population.exact:
            return (), (), ()
        columns, lows, highs = [], [], []
        for name, (low, high) in window.items():
            scale = measures.find(name).scale
            columns.append(self.population.diagram.measure(name))
            lows.append(-math.inf if low is None else whole_bound(low, scale))
            highs.append(math.inf if high is None else whole_bound(high, scale))
        return tuple(columns), tuple(lows), tuple(highs)

    def _exact_costs(self, out: dict[str, Any], under: Under, window: Window, asked: Asked) -> None:
        out["costs"] = {
            name: [measures.find(name).amount(end) for end in (under.least(name), under.greatest(name))]
            for name in self.names
        }
        drawn = None
        spread: Any = under.spread(asked.by)
        if spread is None:
            drawn = self._drawn(under)
            spread = Estimate(np.sort(drawn[:, self.names.index(asked.by)]))
        out["histogram"] = self._histogram(spread, asked.by, under)
        if window:
            out["inside"] = self._inside(under, window, asked, spread, drawn)

    def _inside(
        self, under: Under, window: Window, asked: Asked, spread: Any, drawn: NDArray[Any] | None
    ) -> dict[str, Any]:
        """How much lies inside budgets."""
        try:
            wanted = bounds(_Ends(under), window)
        except Infeasible as problem:
            return {"share": 0.0, "count": "0", "exact": True, "why": problem.message}
        names = [self.population.diagram.measures[column] for column in wanted.columns]
        open_ = [
            (name, low, high)
            for name, low, high in zip(names, wanted.low, wanted.high, strict=True)
            if low > under.least(name) or high < under.greatest(name)
        ]
        if not open_:
            return {"share": 1.0, "count": number(under.total), "exact": True}
        if under.total <= LISTED:
            tally = count_within(under.diagram, window)
            return {"share": tally.share, "count": number(tally.number), "exact": True}
        if len(open_) == 1:
            name, low, high = open_[0]
            found = spread if name == asked.by else under.spread(name)
            if isinstance(found, Distribution):
                share = float(found.shares[(found.values >= low) & (found.values <= high)].sum())
                if found.exact and under.total <= CERTAIN:
                    return {"share": share, "count": number(round(share * under.total)), "exact": True}
                return _about(share, under.total, 0.0)
        if drawn is None:
            drawn = self._drawn(under)
        return self._share(under, window, drawn)

    def _share(self, under: Under, window: Window, drawn: NDArray[Any]) -> dict[str, Any]:
        """About how much lies inside budgets, by architectures at random."""
        share = float(inside_window(drawn, [window.get(name, (None, None)) for name in self.names]).mean())
        return _about(share, under.total, math.sqrt(max(share * (1 - share), 1 / DRAWS) / DRAWS))

    def _drawn(self, under: Under, paths: NDArray[np.int32] | None = None) -> NDArray[Any]:
        """[n, names]: what architectures at random cost, DRAWS or those of some paths, in the measures' units."""
        diagram = under.diagram
        rng = np.random.Generator(np.random.PCG64(0))
        if not self.population.exact:
            matrix = diagram.matrix(diagram.draw(DRAWS, rng), rng)
            return np.asarray(self.population.evaluator.costs(matrix, self.names))
        costs = diagram.costs(diagram.draw(DRAWS, rng) if paths is None else paths)
        columns = [diagram.measure(name) for name in self.names]
        scales = [measures.find(name).scale for name in self.names]
        return costs[:, columns] if set(scales) == {1} else costs[:, columns] / np.array(scales)

    def _estimated_costs(self, out: dict[str, Any], under: Under, window: Window, asked: Asked) -> None:
        drawn = self._drawn(under)
        if under.total == 1:
            drawn = drawn[:1]
        out["costs"] = {name: [drawn[:, i].min().item(), drawn[:, i].max().item()] for i, name in enumerate(self.names)}
        proven = self._proven(asked.pins) if self._proves and under.total > 1 else None
        out["costs"] |= proven or {}
        out["estimated"] = under.total > 1 and proven is None
        spread = Estimate(np.sort(drawn[:, self.names.index(asked.by)]))
        out["histogram"] = self._histogram(spread, asked.by, under)
        if window:
            out["inside"] = self._share(under, window, drawn)

    def _proven(self, pins: Mapping[str, Any]) -> dict[str, list[Any]] | None:
        """The ends of costs by elimination, which may find them where a diagram is too large; None where it does
        not."""
        graph = pin(self.space.graph, pins)
        try:
            with bounded(PROOF):
                return {name: [end.cost for end in eliminated(graph, name)] for name in self.names}
        except TooWide:
            return None

    def _histogram(self, spread: Any, by: str, under: Under) -> dict[str, Any]:
        """Bins around the mean, where nearly all costs lie."""
        scale = measures.find(by).scale if isinstance(spread, Distribution) else 1
        if isinstance(spread, Distribution):
            values, shares, exact = spread.values, spread.shares, True
            mean, std = spread.mean, spread.std
        else:
            values, exact = spread.sample, False
            shares = np.full(len(values), 1 / len(values))
            mean, std = spread.mean, float(values.std())
        low, high = float(values.min()), float(values.max())
        low, high = max(low, mean - SHOWN * std), min(high, mean + SHOWN * std)
        if high <= low:
            low, high = float(values.min()), float(values.max())
        edges = np.linspace(low, high, BINS + 1) if high > low else np.array([low, low])
        place = ((values - low) * BINS / (high - low)).astype(int) if high > low else np.zeros(len(values), int)
        bars = np.bincount(place.clip(0, len(edges) - 2), shares, len(edges) - 1)
        return {
            "by": by,
            "edges": (edges / scale).tolist(),
            "shares": [float(f"{share:.4g}") for share in bars.tolist()],
            "mean": mean / scale,
            "std": std / scale,
            "exact": exact,
            "draws": 0 if exact else len(values),
        }

    # --- Decisions

    def _decisions(self, under: Under, limits: Limits, asked: Asked) -> list[dict[str, Any]]:
        """Of each decision what it can be while all other pins stand: whether it is there, what is `off`, and, of a
        choice, the least and the greatest of the shown measure with each option."""
        column = self.population.diagram.measure(asked.by) if self.population.exact else -1
        width = len(self.population.diagram.measures)
        found = []
        for path, decision in self.space.graph.decisions.items():
            ranges = under.ranges(path)
            possible = under.possible(ranges, limits)
            key = (path, possible.tobytes())
            if key not in self._known:
                self._known[key] = _left(decision, under.cells(path), possible)
            told = dict(self._known[key])
            if decision.kind == "choice" and column >= 0:
                scale = measures.find(asked.by).scale
                ends = ranges[: decision.n, [1 + column, 1 + width + column]] * [1, -1] / scale
                told["ends"] = [[_plain(a), _plain(b)] if math.isfinite(a) else None for a, b in ends.tolist()]
            found.append(told)
        return found

    def _nodes_gone(self, pins: Mapping[str, Any]) -> list[int]:
        """The numbers of the nodes that no architecture has any more."""

        def replaced(leaf: Any) -> Any:
            if isinstance(leaf, Total) or leaf.path not in pins:
                return None
            return leaf.fix(pins[leaf.path]) if isinstance(leaf, Units) else leaf.evaluate(pins)

        known: dict[int, Any] = {}
        gone: dict[int, bool] = {}
        found = []
        for number_, node in enumerate(self.space.graph.nodes.values()):
            present = node.present
            if not isinstance(present, Expr):
                continue
            if id(present) not in gone:
                gone[id(present)] = expr.substitute(present, replaced, known) is False
            if gone[id(present)]:
                found.append(number_)
        return found

    # --- Others

    def draw(self, asked: Asked, seed: int) -> dict[str, Any]:
        """A random architecture inside the budgets and the pins: its values, as the page has them, and its costs.

        Raises:
            Infeasible: there is none.
        """
        window = joined(self.population.window, asked.window)
        rng = np.random.Generator(np.random.PCG64(seed))
        for _ in range(MOST_TRIED if self.bound else 1):
            architecture = self._one(asked, window, rng)
            if not self.bound or all(r.origin == "budget" for r in architecture.violations(self.space.graph)):
                return {
                    "pins": {path: self.shown(path, value) for path, value in architecture.indices.items()},
                    "costs": cost_of(self.space.graph, architecture.indices, names=self.names),
                }
        raise Infeasible(f"none of {MOST_TRIED} architectures drawn meets what the space requires")

    def _one(self, asked: Asked, window: Window, rng: np.random.Generator) -> Architecture:
        """A random architecture inside the window."""
        under = self._base.under(asked.pins)
        diagram = under.diagram
        matrix: Any
        if not self.population.exact:
            matrix = self.population.tried(1, rng, window, diagram) if window else None
            matrix = diagram.matrix(diagram.draw(1, rng), rng) if matrix is None else matrix
        else:
            chosen = self._tried(under, window, TRIED, rng)
            if chosen is None:
                bounds(_Ends(under), window)  # tells by how much it is missed
                try:
                    chosen = Within(diagram, window).draw(1, rng)
                except TooWide as problem:
                    chosen = self._tried(under, window, TRIED * MOST_TRIED, rng)
                    if chosen is None:
                        raise problem
            matrix = diagram.matrix(chosen, rng)
        (row,) = diagram.encoding.decode(matrix)
        return Architecture.at(self.space.graph, row.indices)

    def _tried(self, under: Under, window: Window, n: int, rng: np.random.Generator) -> NDArray[np.int32] | None:
        """[1, layers]: the first path of `n` drawn ones that lies inside; None where none does."""
        paths = under.diagram.draw(n, rng)
        inside = inside_window(self._drawn(under, paths), [window.get(name, (None, None)) for name in self.names])
        return paths[int(inside.argmax())][None] if inside.any() else None

    def sizes_alone(self) -> dict[str, list[str]]:
        """Of each choice how many architectures each of its options leaves, if nothing else is pinned."""
        found = {}
        for path, decision in self.space.graph.decisions.items():
            if decision.kind == "choice":
                found[path] = [number(self._base.under({path: option}).total) for option in range(decision.n)]
        return found

    def shown(self, path: str, value: Any) -> Any:
        """A value as the page has it."""
        decision = self.space.graph.decisions[path]
        if decision.kind == "choice":
            return value
        if decision.kind == "units":
            return len(value) if value == tuple(range(len(value))) else runs(value)[1:-1]
        return list(value)

    def count(self, asked: Asked) -> dict[str, Any]:
        """How many architectures lie inside the budgets, as exactly as can be.

        Raises:
            TooWide: it is out of reach.
        """
        under = self._base.under(asked.pins)
        window = joined(self.population.window, asked.window)
        if not self.population.exact:
            raise ArgumentError(f"that cannot be told: {self.population.why}")
        try:
            tally = count_within(under.diagram, window)
        except Infeasible:
            return {"share": 0.0, "count": "0", "exact": True}
        return {"share": tally.share, "count": number(tally.number), "exact": tally.exact}


class _Ends:
    """The ends of costs under pins, for `bounds`."""

    def __init__(self, under: Under):
        self.measure, self.scales = under.base.diagram.measure, under.base.diagram.scales
        self._under = under

    def least(self, name: str) -> tuple[int, None]:
        return self._under.least(name), None

    def greatest(self, name: str) -> tuple[int, None]:
        return self._under.greatest(name), None


def _about(share: float, total: int, error: float) -> dict[str, Any]:
    if error == 0.0 and share < VISIBLE:
        return {"share": VISIBLE, "count": f"fewer than {number(math.ceil(total * VISIBLE))}", "exact": False}
    counted = round(share * (1 << 60)) * total >> 60
    rounded = f"{counted:,}" if counted < 1000 else scientific(counted, 3) if counted >= 10**9 else _rounded(counted)
    return {"share": share, "count": rounded, "exact": False, "error": error}


def _rounded(counted: int) -> str:
    digits = len(str(counted)) - 3
    return f"{round(counted, -digits):,}"


def number(value: int) -> str:
    """In full where that is short, else as `2^576` or `1.3e4521`."""
    if value < 10**MOST_DIGITS:
        return f"{value:,}"
    short = value.bit_length() < MOST_BITS or value & (value - 1) == 0
    return brief(value) if short else scientific(value)


def _plain(value: float) -> int | float:
    return int(value) if value == int(value) else value


def _read_value(decision: Decision, value: Any) -> Any:
    """A value as the page has it: of a choice its index, of units how many of the first are kept or which, else the
    indices of items.

    Raises:
        ArchitectureError: it is none.
    """
    if decision.kind == "units" and isinstance(value, int) and not isinstance(value, bool):
        return canonical(decision, tuple(range(min(value, decision.n + 1))))
    if decision.kind == "units":
        return index_of(decision, value)
    return canonical(decision, tuple(value) if isinstance(value, list) else value)


def _left(decision: Decision, cells: Sequence[Cell], possible: NDArray[np.bool_]) -> dict[str, Any]:
    """What a decision can still be: which options or items are `off`, which counts of units are possible (`kept`, in
    ranges), which items it must have; and whether it is `there` in `maybe` some architectures, or in `no` one."""
    told = _values_left(decision, cells, possible)
    gone = [cell.value is ABSENT for cell, fine in zip(cells, possible.tolist(), strict=True) if fine]
    if all(gone):
        told["there"] = "no"
    elif any(gone):
        told["there"] = "maybe"
    return told


def _values_left(decision: Decision, cells: Sequence[Cell], possible: NDArray[np.bool_]) -> dict[str, Any]:
    here = [cell for cell, fine in zip(cells, possible.tolist(), strict=True) if fine and cell.value is not ABSENT]
    if decision.kind == "choice":
        fine = {option for cell in here for option in cell.members}
        return {"off": [i for i in range(decision.n) if i not in fine]}
    if decision.kind == "units":
        return {"kept": _merged(sorted(part for cell in here for part in cell.members))}
    if decision.kind == "subset":
        may: set[int] = set()
        must = set(range(decision.n))
        for cell in here:
            members: Patterns = cell.members
            others = set(range(decision.n)) - set(members.mentioned)
            for pattern in members.patterns:
                room = decision.size - len(pattern)
                may |= set(pattern) | (others if room else set())
                must &= set(pattern) | (others if room == len(others) else set())
        return {"off": [i for i in range(decision.n) if i not in may], "must": sorted(must) if here else []}
    return {}


def _merged(parts: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Ranges that touch become one."""
    out: list[list[int]] = []
    for first, last in parts:
        if out and first <= out[-1][1] + 1:
            out[-1][1] = max(out[-1][1], last)
        else:
            out.append([first, last])
    return out
