"""What the commands that count, cost and draw share: labels, measures asked for, the population, result files."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nasdsl.options import UsageError
from nasdsl.runtime.outputs import check_result, inputs_of

if TYPE_CHECKING:
    from nasdsl.compiler.architecture import Architecture
    from nasdsl.compiler.population import Population
    from nasdsl.compiler.space import Space


def label_of(name: str) -> str:
    """What a measure is called in front of its amounts."""
    from nasdsl.compiler.measures import find

    return find(name).label


def names_of(space: Space, args: Namespace) -> tuple[str, ...]:
    """The measures that are told: MACs, parameters, what budgets bound, and what was asked for."""
    from nasdsl.compiler.engine.budget import budget_windows
    from nasdsl.compiler.measures import with_default

    asked = [*([args.by] if "by" in args else []), *args.measures]
    return with_default([*budget_windows(space.graph), *asked])


def population_of(space: Space, measures: Sequence[str] | None = None) -> Population:
    """All architectures of a space together.

    Raises:
        Infeasible, TooWide, UnreadableBudget: there are none, or nothing can be said of them all.
    """
    from nasdsl.compiler.population import Population

    return Population(space.graph) if measures is None else Population(space.graph, measures)


def write_result(space: Space, values: Architecture, out: Path, note: str = "", name: str = "found") -> None:
    """A result file for decisions of a space, beside whatever else is there."""
    from nasdsl.compiler.write import write_pinned

    if space.source.path is None:
        raise UsageError("a result file names the file of its space, and standard input has no name")
    check_result(out, inputs_of(space))
    write_pinned(out, space, values, name, note)
