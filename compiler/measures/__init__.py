"""The registry of measures: what a network may cost.

Each is one value (`Measure`), in a file of its family here. Budgets, counts, extremes, distributions, draws,
objectives, reports and drawings take any of them by its name. Other packages add measures under the entry point group
`nasdsl.measures`; an entry is a `Measure` or a list of them. They are looked for only when a name is not built-in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType

from nasdsl.compiler.diagnostics import ArgumentError, suggest
from nasdsl.compiler.measures import counted, tabled
from nasdsl.compiler.measures.measure import Measure
from nasdsl.compiler.plugins import PluginError, find_plugins, listed

GROUP = "nasdsl.measures"
FAMILIES = (counted, tabled)
DEFAULT = ("macs", "params")
"""What is told where nobody asks for anything else."""

BUILT_IN: Mapping[str, Measure] = MappingProxyType({one.name: one for family in FAMILIES for one in family.MEASURES})
"""By name."""


@cache
def plugins() -> Mapping[str, Measure]:
    """The measures of other installed packages by name.

    Raises:
        PluginError: an entry cannot be loaded, is not a measure, or has a name that is taken.
    """
    found: dict[str, Measure] = {}
    for plugin in find_plugins(GROUP):
        package = plugin.package
        for one in listed(plugin, Measure):
            if one.name in BUILT_IN or one.name in found:
                raise PluginError(f"package `{package}` has a measure named `{one.name}`, which is taken")
            if sum(way is not None for way in (one.term, one.of, one.read)) != 1:
                message = f"package `{package}`: the measure `{one.name}` has one of `term`, `of` and `read`"
                raise PluginError(message)
            if one.of is not None:
                other = {**BUILT_IN, **found}.get(one.of[1])
                if other is None or other.scale != one.scale or one.of[0] < 1:
                    message = (
                        f"package `{package}`: `{one.name}` is no whole multiple of a measure that is there before it"
                    )
                    raise PluginError(message)
            found[one.name] = one
    return MappingProxyType(found)


def lookup(name: str) -> Measure | None:
    """The measure of that name, built-in or from another package; None where there is none.

    Raises:
        PluginError: the name is not built-in, and a package that offers measures does not work.
    """
    return BUILT_IN.get(name) or plugins().get(name)


def known() -> tuple[str, ...]:
    """The names of all.

    Raises:
        PluginError: as `plugins`.
    """
    return (*BUILT_IN, *plugins())


def find(name: str) -> Measure:
    """As `lookup`.

    Raises:
        ArgumentError: there is none.
    """
    found = lookup(name)
    if found is None:
        help = suggest(name, known()) or f"there are {', '.join(known())}"
        raise ArgumentError(f"there is no measure `{name}`", help)
    return found


def base(name: str) -> tuple[int, str]:
    """The measure that one is a multiple of, and the factor; itself once where it is derived of none."""
    factor = 1
    while (of := find(name).of) is not None:
        factor, name = factor * of[0], of[1]
    return factor, name


def with_default(names: Iterable[str]) -> tuple[str, ...]:
    """Those that are always told, and others, each once."""
    return tuple(dict.fromkeys([*DEFAULT, *names]))
