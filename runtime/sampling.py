"""Which architectures a step of one-shot training trains: rules, as data, and pure functions of (seed, step).

What is drawn for a step depends on the seed and the number of the step alone, so that a run that was killed goes on
with the architectures that it would have had, and all processes of a run draw the same ones.

A decision is a *size* where its options are ordered numbers (a width, a kernel, a depth) or search units, of which
there may be more or fewer. Every other decision is an *operator*: a choice among words, labels or truth values, a
subset or an order of things.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from nasdsl.compiler.architecture import Architecture, canonical, is_present
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.engine.limits import Infeasible, TooWide
from nasdsl.compiler.extremes import structural
from nasdsl.compiler.graph import Graph, Requirement
from nasdsl.compiler.pin import pin
from nasdsl.compiler.sample import Numbering
from nasdsl.compiler.values.tree import decisions_of, holds
from nasdsl.runtime.limits import Limits, window_of
from nasdsl.runtime.sandwich import SandwichExtremes, is_size
from nasdsl.runtime.settings import Settings

Role = Literal["smallest", "largest", "random"]
Values = dict[str, Any]

TRIES = 1000
"""How often a draw that breaks a requirement of the space is repeated before the rule is given up."""
KEPT = 64
"""For how many combinations of operators what follows from them is kept."""


class Rule(Settings):
    """How the architectures of a step are drawn. In a file `rule: uniform` or `rule: { name: sandwich, random: 2 }`.

    - `uniform`: each architecture of the space is as likely as any other.
    - `hierarchical`: every decision is uniform over its options, given those that it depends on: in TrioNet the
      operator of a block first, then what that operator has; the depth of a stage is uniform. Where requirements and
      budgets tie decisions, this law among what meets them. TrioNet paper, Hierarchical Sampling.
    - `fair`: over the architectures of a step every choice takes its options equally often, as near as their number
      allows; with as many as it has options, each once. FairNAS paper, strict fairness.
    - `budget`: uniform or hierarchical among the architectures inside a window of costs.
    - `sandwich`: the operators are drawn first and shared by all architectures of a step. The smallest and the largest
      take the ends of every size; the random ones draw the sizes. TrioNet paper; where a space has no operators to
      choose it is the sandwich rule of universally slimmable networks.

    Attributes:
        name: which of these.
        architectures: how many in a step. By default 1, with `fair` the number of options of the largest choice.
        at_most, at_least: of `budget`, such as `at_most: macs <= 4M`; a number up to 1 is a share of the greatest cost.
        smallest, largest, random: of `sandwich`, how many of each.
        draw: of `sandwich`, how operators and sizes are drawn, by default `hierarchical`; of `budget` by default
            `uniform`.
    """

    name: Literal["uniform", "hierarchical", "fair", "budget", "sandwich"]
    architectures: int | None = Field(default=None, gt=0, le=1024)
    at_most: Limits | None = None
    at_least: Limits | None = None
    smallest: int = Field(default=1, ge=0, le=1)
    largest: int = Field(default=1, ge=0, le=1)
    random: int = Field(default=2, ge=0, le=1024)
    draw: Literal["hierarchical", "uniform"] | None = None

    @model_validator(mode="after")
    def _belongs(self) -> Rule:
        known = {
            "sandwich": {"smallest", "largest", "random", "draw"},
            "budget": {"architectures", "at_most", "at_least", "draw"},
        }
        for field in sorted(self.model_fields_set - {"name"} - known.get(self.name, {"architectures"})):
            if getattr(self, field) is not None:
                raise ValueError(f"is `{self.name}`, which has no `{field}`")
        if self.name == "sandwich" and not self.smallest + self.largest + self.random:
            raise ValueError("draws no architecture at all")
        if self.name == "budget" and self.at_most is None and self.at_least is None:
            raise ValueError("is `budget`, which needs `at_most` or `at_least`")
        return self


@dataclass(frozen=True)
class Drawn:
    """An architecture of a step, and what it is there for."""

    architecture: Architecture
    role: Role = "random"


def generator(seed: int, step: int) -> np.random.Generator:
    """The random numbers of a step, the same on every machine."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, step))))


class Sampler:
    """Draws the architectures of steps by a rule.

    Raises:
        CompileError: the rule cannot be followed in this space.
    """

    def __init__(self, graph: Graph, rule: Rule):
        self.graph, self.rule = graph, rule
        self._draw = RULES[rule.name](graph, rule)

    def architectures(self, seed: int, step: int) -> list[Drawn]:
        """Those of one step; of a sandwich the largest first, the smallest last."""
        return self._draw(generator(seed, step))


# --- Inside budgets ---------------------------------------------------------------------------------------------------


class Inside:
    """Architectures inside the budgets of the space and a window of costs, each as likely as any other, or
    `hierarchical`."""

    def __init__(
        self, graph: Graph, at_most: Limits | None = None, at_least: Limits | None = None, hierarchical: bool = False
    ):
        from nasdsl.compiler.engine.budget import Within
        from nasdsl.compiler.population import Population, joined

        self._numbering: Numbering | None = None
        budgets = any(requirement.origin == "budget" for requirement in graph.requirements)
        try:
            if not (budgets or at_most or at_least or hierarchical):
                try:
                    self._numbering = Numbering(graph)
                    return
                except TooWide:  # the diagram of all architectures copes with more
                    pass
            self._population = Population(graph)
            window = window_of(lambda name: self._population.extreme(name, greatest=True).cost, at_most, at_least)
            self._window = joined(self._population.window, window)
            self._diagram = self._population.hierarchical if hierarchical else self._population.diagram
            exact = self._window and self._population.exact
            self._within = Within(self._diagram, self._window) if exact else None
            self.draw(1, generator(0, 0))
        except Infeasible as problem:
            raise error("empty-window", f"there is nothing to draw: {problem.message}", None) from None
        except TooWide as problem:
            message = f"this space is too tangled for uniform draws: {problem.message}"
            raise error("too-wide", message, None, help="pin some of its decisions") from None

    def draw(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        """`n` independent architectures."""
        if self._numbering is not None:
            return list(self._numbering.draws(n, _seed(rng)))
        diagram = self._diagram
        if self._window and self._within is None:
            rows = self._population.tried(n, rng, self._window, diagram)
        else:
            rows = diagram.matrix((self._within or diagram).draw(n, rng), rng)
        return diagram.encoding.decode(rows)


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(0, 1 << 63))


# --- Decision by decision ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """Decisions that are drawn together, in the graph's order, until what ties them holds."""

    paths: tuple[str, ...]
    requirements: tuple[Requirement, ...]

    def holds(self, values: Mapping[str, Any]) -> bool:
        return all(holds(requirement.condition, values) for requirement in self.requirements)


def groups_of(graph: Graph) -> list[Group]:
    """All decisions in groups. Those that requirements tie, with all that their presence depends on, come first, in as
    many groups as they fall apart into; the others, which nothing ties, make the last one."""
    above: dict[str, set[str]] = {}
    for path, decision in graph.decisions.items():
        direct = decisions_of(decision.present)
        above[path] = set(direct).union(*(above.get(other, set()) for other in direct))
    tied: list[tuple[set[str], list[Requirement]]] = []
    for requirement in structural(graph):
        own = set(decisions_of(requirement.condition))
        own = own.union(*(above[path] for path in own))
        touching = [group for group in tied if group[0] & own]
        tied = [group for group in tied if not group[0] & own]
        paths = own.union(*(group[0] for group in touching))
        tied.append((paths, [r for group in touching for r in group[1]] + [requirement]))
    groups = [Group(tuple(p for p in graph.decisions if p in paths), tuple(rs)) for paths, rs in tied]
    done = {path for group in groups for path in group.paths}
    return [*groups, Group(tuple(path for path in graph.decisions if path not in done), ())]


def value_of(decision: Decision, rng: np.random.Generator) -> Any:
    """A uniform value of a decision by itself."""
    if decision.kind == "choice":
        return int(rng.integers(decision.n))
    if decision.kind == "units":
        return tuple(np.flatnonzero(rng.integers(0, 2, decision.n)).tolist())
    if decision.kind == "subset":
        return tuple(sorted(rng.choice(decision.n, decision.size, replace=False).tolist()))
    return canonical(decision, tuple(rng.permutation(decision.n).tolist()))


class Hierarchical:
    """Every decision uniform over its options given those before it, among what meets the requirements but budgets."""

    def __init__(self, graph: Graph):
        self.graph, self.groups = graph, groups_of(graph)

    def draw(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        """`n` independent architectures."""
        return [self.one(rng) for _ in range(n)]

    def one(self, rng: np.random.Generator, given: Mapping[str, Any] | None = None) -> Architecture:
        """An architecture in which the decisions of `given` that are present have those values."""
        given = given or {}
        values: Values = {}
        for group in self.groups:
            for _ in range(TRIES):
                for path in group.paths:
                    values.pop(path, None)
                for path in group.paths:
                    decision = self.graph.decisions[path]
                    if is_present(decision, values):
                        values[path] = given[path] if path in given else value_of(decision, rng)
                if group.holds(values):
                    break
            else:
                raise _never_met(group, "the rule")
        return Architecture.at(self.graph, values)


def _never_met(group: Group, rule: str) -> Exception:
    first = group.requirements[0]
    return error(
        "requirement-and-rule",
        f"{TRIES:,} draws decision by decision broke `{first.message}`: {rule} cannot be followed here",
        first.span,
        help="use `rule: uniform`, which draws among the architectures that meet it",
    )


class Fair:
    """The architectures of a step together: each choice takes every option equally often, among those that have it.

    Each option of a choice with k options that m of the architectures have comes up m / k times, rounded up or down at
    random. Subsets, orders and units are drawn uniformly by themselves.
    """

    def __init__(self, graph: Graph, architectures: int | None):
        budget = _budget(graph)
        if budget is not None:
            raise error(
                "budget-and-rule",
                "the space has a budget on costs, and an architecture that is dealt its options may break it",
                budget.span,
                help="use `rule: hierarchical` or `rule: uniform`, which draw inside the budget",
            )
        self.graph = graph
        self.hierarchical = Hierarchical(graph)
        options = [d.n for d in graph.decisions.values() if d.kind == "choice"]
        self.rows = architectures or max(options, default=1)

    def draw(self, rng: np.random.Generator) -> list[Drawn]:
        """The architectures of a step."""
        rows: list[Values] = [{} for _ in range(self.rows)]
        for group in self.hierarchical.groups:
            for _ in range(TRIES):
                for path in group.paths:
                    self._deal(self.graph.decisions[path], rows, rng)
                if all(map(group.holds, rows)):
                    break
            else:
                raise _never_met(group, "`fair`")
        return [Drawn(Architecture.at(self.graph, row)) for row in rows]

    @staticmethod
    def _deal(decision: Decision, rows: list[Values], rng: np.random.Generator) -> None:
        for row in rows:
            row.pop(decision.path, None)
        having = [row for row in rows if is_present(decision, row)]
        if decision.kind != "choice":
            for row in having:
                row[decision.path] = value_of(decision, rng)
            return
        decks = [rng.permutation(decision.n) for _ in range(-(-len(having) // decision.n))]
        cards = rng.permutation(np.concatenate(decks)[: len(having)]).tolist() if decks else []
        for row, card in zip(having, cards, strict=True):
            row[decision.path] = card


# --- Sandwich ---------------------------------------------------------------------------------------------------------


class Sandwich:
    """Operators first, one draw for all architectures of a step, then the ends of the sizes, and random sizes.

    Budgets of the space, which are for what a search finds, do not bound what is trained here.
    """

    def __init__(self, graph: Graph, rule: Rule):
        kept = tuple(r for r in graph.requirements if r.origin != "budget")
        self.graph = graph = Graph(graph.nodes, graph.decisions, kept, graph.outputs, graph.instances)
        self.rule = rule
        self.operators = [path for path, decision in graph.decisions.items() if not is_size(decision)]
        self.ends = SandwichExtremes(graph)
        self.hierarchical = Hierarchical(graph)
        self.uniform = Inside(graph) if rule.draw == "uniform" else None
        self._numberings: dict[tuple[Any, ...], Numbering] = {}

    def draw(self, rng: np.random.Generator) -> list[Drawn]:
        """The architectures of a step."""
        operators = self._operators(rng)
        out = [Drawn(self.ends.largest(operators), "largest")] * self.rule.largest
        out += [Drawn(self._sizes(operators, rng)) for _ in range(self.rule.random)]
        return out + [Drawn(self.ends.smallest(operators), "smallest")] * self.rule.smallest

    def _operators(self, rng: np.random.Generator) -> Values:
        """A value for every operator, those included that only a larger architecture has."""
        found: Values = {}
        if not self.operators:
            return found
        draw = self.uniform.draw if self.uniform is not None else self.hierarchical.draw
        for _ in range(TRIES):
            (drawn,) = draw(1, rng)
            for path in self.operators:
                if path in drawn.indices:
                    found.setdefault(path, drawn.indices[path])
            if len(found) == len(self.operators):
                break
        # In one order, whatever was drawn first. What hardly an architecture has is drawn by itself.
        return {p: found[p] if p in found else value_of(self.graph.decisions[p], rng) for p in self.operators}

    def _sizes(self, operators: Values, rng: np.random.Generator) -> Architecture:
        if self.uniform is None:
            return self.hierarchical.one(rng, operators)
        key = tuple(operators.values())
        if key not in self._numberings:
            if len(self._numberings) >= KEPT:
                self._numberings.pop(next(iter(self._numberings)))
            self._numberings[key] = Numbering(pin(self.graph, operators))
        (sizes,) = self._numberings[key].draws(1, _seed(rng))
        return Architecture.at(self.graph, {**operators, **sizes.indices})


# --- All of them ------------------------------------------------------------------------------------------------------

Draw = Callable[[np.random.Generator], list[Drawn]]


def _budget(graph: Graph) -> Requirement | None:
    return next((requirement for requirement in graph.requirements if requirement.origin == "budget"), None)


def by_decision(graph: Graph, target: Limits | None = None) -> Inside | Hierarchical:
    """Draws decision by decision: by themselves where no cost is limited, which any space allows."""
    if _budget(graph) is None and not target:
        return Hierarchical(graph)
    return Inside(graph, target, hierarchical=True)


def _independent(source: Inside | Hierarchical, rule: Rule) -> Draw:
    return lambda rng: [Drawn(architecture) for architecture in source.draw(rule.architectures or 1, rng)]


RULES: Mapping[str, Callable[[Graph, Rule], Draw]] = {
    "uniform": lambda graph, rule: _independent(Inside(graph), rule),
    "hierarchical": lambda graph, rule: _independent(by_decision(graph), rule),
    "fair": lambda graph, rule: Fair(graph, rule.architectures).draw,
    "budget": lambda graph, rule: _independent(
        Inside(graph, rule.at_most, rule.at_least, rule.draw == "hierarchical"), rule
    ),
    "sandwich": lambda graph, rule: Sandwich(graph, rule).draw,
}
"""What each rule makes of a graph: a function from a step's random numbers to its architectures."""
