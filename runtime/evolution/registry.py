"""The methods of `search evolve`, by name: built in, or of another package."""

from __future__ import annotations

from collections.abc import Mapping

from nasdsl.compiler.diagnostics import suggest
from nasdsl.runtime.data.plugins import is_child_of, with_entry_points
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.evolution.methods import Local, Method, Nsga2, Random, Regularised
from nasdsl.runtime.evolution.samplers import OptunaNsga2, OptunaNsga3, Tpe
from nasdsl.runtime.evolution.surrogate import Surrogate

METHODS: Mapping[str, type[Method]] = {
    "random": Random,
    "regularised": Regularised,
    "nsga2": Nsga2,
    "local": Local,
    "surrogate": Surrogate,
    "tpe": Tpe,
    "nsga2_optuna": OptunaNsga2,
    "nsga3_optuna": OptunaNsga3,
}


def find_methods() -> dict[str, type[Method]]:
    """The built-in methods and those that installed packages offer in the entry-point group `nasdsl.methods`.

    Raises:
        PluginError: a name is taken twice, or an entry point is not a child of `Method`.
    """
    return with_entry_points("nasdsl.methods", METHODS, is_child_of(Method))


def find_method(name: str) -> type[Method]:
    """The method called `name`.

    Raises:
        RunError: there is none.
        PluginError: as `find_methods`.
    """
    known = find_methods()
    if name not in known:
        raise RunError(f"there is no method `{name}`", suggest(name, known) or "there are " + ", ".join(known))
    return known[name]
