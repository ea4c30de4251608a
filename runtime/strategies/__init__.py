"""Searches: each takes a space to a smaller one. One file each."""

from collections.abc import Mapping

from nasdsl.compiler.diagnostics import error, suggest
from nasdsl.runtime.data.plugins import with_entry_points
from nasdsl.runtime.problem import Strategy
from nasdsl.runtime.strategies.evolve import EvolveSearch
from nasdsl.runtime.strategies.gradient import GradientSearch
from nasdsl.runtime.strategies.sample import SampleSearch
from nasdsl.runtime.strategies.screen import ScreenSearch
from nasdsl.runtime.strategies.shrink import ShrinkSearch
from nasdsl.runtime.strategies.thin import ThinSearch

STRATEGIES: Mapping[str, type[Strategy]] = {
    strategy.name: strategy
    for strategy in (ShrinkSearch, ThinSearch, SampleSearch, GradientSearch, ScreenSearch, EvolveSearch)
}


def find_strategies() -> dict[str, type[Strategy]]:
    """The searches by name: built in, or an entry point in the group `nasdsl.runtimes`.

    Raises:
        PluginError: an entry point cannot be used.
    """
    return with_entry_points("nasdsl.runtimes", dict(STRATEGIES), lambda value: hasattr(value, "search"))


def find_strategy(name: str) -> type[Strategy]:
    """The search called `name`.

    Raises:
        CompileError: there is none.
        PluginError: as `find_strategies`.
    """
    known = find_strategies()
    if name not in known:
        raise error(
            "unknown-search",
            f"no search named `{name}`",
            None,
            help=suggest(name, known) or "there is " + ", ".join(known),
        )
    return known[name]
