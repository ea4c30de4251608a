"""Built-in tasks and readers together with those that other packages offer by entry point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from nasdsl.compiler.plugins import PluginError, find_plugins

Plugin = TypeVar("Plugin")


def is_child_of(kind: type) -> Callable[[object], bool]:
    """What `with_entry_points` accepts where plug-ins are classes of a kind."""
    return lambda value: isinstance(value, type) and issubclass(value, kind)


def with_entry_points(
    group: str, builtin: Mapping[str, Plugin], accepts: Callable[[object], bool]
) -> dict[str, Plugin]:
    """`builtin` and the installed entry points of `group`, by name; built-ins first, then in order of name.

    Raises:
        PluginError: a name is taken twice, or an entry point does not load, or `accepts` refuses what it holds.
    """
    found = dict(builtin)
    for plugin in find_plugins(group):
        if plugin.name in found:
            raise PluginError(f"package `{plugin.package}` offers `{plugin.name}` in {group}, but that name is taken")
        if not accepts(plugin.value):
            kind = group.removeprefix("nasdsl.")[:-1]
            raise PluginError(f"package `{plugin.package}`: {plugin.where}, offered in {group}, is not a {kind}")
        found[plugin.name] = plugin.value
    return found
