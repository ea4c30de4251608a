"""Built-in tasks and readers together with those that other packages offer by entry point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import TypeVar

Plugin = TypeVar("Plugin")


class PluginError(RuntimeError):
    """An entry point cannot be loaded, is not of the expected kind, or takes a name that is already in use."""


def with_entry_points(
    group: str, builtin: Mapping[str, Plugin], accepts: Callable[[object], bool]
) -> dict[str, Plugin]:
    """`builtin` and the installed entry points of `group`, by name; built-ins first, then in order of name.

    Raises:
        PluginError: a name is taken twice, or an entry point does not load, or `accepts` refuses what it holds.
    """
    found = dict(builtin)
    for point in sorted(entry_points(group=group), key=lambda point: (point.name, point.value)):
        if point.name in found:
            raise PluginError(f'the name "{point.name}" is taken twice in "{group}": {point.value} must use another')
        try:
            value = point.load()
        except Exception as error:
            raise PluginError(f'"{point.name}" in "{group}" ({point.value}) does not load: {error}') from error
        if not accepts(value):
            raise PluginError(
                f'"{point.name}" in "{group}" ({point.value}) is not a {group.removeprefix("nasdsl.")[:-1]}'
            )
        found[point.name] = value
    return found
