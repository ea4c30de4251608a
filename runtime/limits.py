"""Limits on costs as settings, and the windows of costs that they mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BeforeValidator

from nasdsl.compiler import measures
from nasdsl.compiler.cost import cost_of, is_known
from nasdsl.compiler.elaborate.settings import Weights
from nasdsl.compiler.engine.lattice import Window
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.population import joined
from nasdsl.compiler.values.tree import measures_of


def _measure(name: str) -> str:
    if measures.lookup(name) is None:
        raise ValueError(f"names no measure; there are {', '.join(f'`{one}`' for one in measures.known())}")
    return name


Cost: TypeAlias = Annotated[str, AfterValidator(_measure)]
"""A measure of the registry, by its name."""


def _together(value: Any) -> dict[str, Any]:
    several = value if isinstance(value, list | tuple) else [value]
    if not several or not all(isinstance(one, Mapping) and not isinstance(one, Weights) for one in several):
        raise ValueError(LIMITS)
    return {name: limit for one in several for name, limit in one.items()}


def _positive(value: dict[Cost, float]) -> dict[Cost, float]:
    if not value or min(value.values()) <= 0:
        raise ValueError(LIMITS)
    return value


LIMITS = "limits costs, such as `macs <= 0.3G`, `macs <= 0.3` or `[macs <= 0.3G, params <= 5M]`"
Limits = Annotated[dict[Cost, float], AfterValidator(_positive), BeforeValidator(_together)]
"""A number of any measure, in its unit; up to 1 it is a share of the greatest cost in the space, but for a measure with
a unit that has fractions, such as a latency in milliseconds, which is always taken as it is."""


def window_of(
    greatest: Callable[[str], float],
    at_most: Mapping[Cost, float] | None = None,
    at_least: Mapping[Cost, float] | None = None,
) -> Window:
    """The window that limits mean for the architectures of a space.

    Args:
        greatest: the most that one costs, by a measure.
    """
    window: dict[str, tuple[float | None, float | None]] = {}
    for side, limits in ((1, at_most), (0, at_least)):
        for name, limit in (limits or {}).items():
            measure, bound = bound_of(name, limit)
            if is_share(name, limit):
                bound = limit * greatest(measure)
            window = joined(window, {measure: (None, bound) if side else (bound, None)})
    return window


def bound_of(name: Cost, limit: float) -> tuple[str, float]:
    """The measure that a limit on whole costs bounds, and by how much: MACs are half as many as FLOPs."""
    factor, base = measures.base(name)
    return base, limit if factor == 1 else limit / factor


def is_share(name: Cost, limit: float) -> bool:
    """Whether a limit is a share of the greatest cost: it is not above 1, and the measure is counted in whole numbers,
    of which nobody means so few."""
    return limit <= 1 and measures.find(name).scale == 1


def told(name: str, cost: float) -> str:
    """An amount of a measure for messages: `1,234`, `3.25`."""
    return f"{cost:,.0f}" if measures.find(name).scale == 1 else f"{float(cost):,.4g}"


def costs_told(graph: Graph, values: Mapping[str, Any], asked: Iterable[str] = ()) -> dict[str, float]:
    """What is told of an architecture's costs: those of `names_told`."""
    return {name: float(cost) for name, cost in cost_of(graph, values, names=names_told(graph, asked)).items()}


def names_told(graph: Graph, asked: Iterable[str] = ()) -> tuple[str, ...]:
    """The measures that are told of architectures: MACs, FLOPs, parameters, what budgets bound, and what was asked."""
    budgets = [measures_of(r.condition) for r in graph.requirements if r.origin == "budget"]
    bounded = [name for names in budgets for name in sorted(names) if is_known(graph, name)]
    return tuple(dict.fromkeys(["macs", "flops", "params", *bounded, *asked]))
