"""What other installed packages offer, by entry point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nasdsl.compiler.diagnostics import NasdslError, cause

PACKAGES: dict[str, str] = {}
"""The packages whose code is in use, by their top-level modules."""


class PluginError(NasdslError):
    """An installed package offers something that does not load, is not of the expected kind, or takes a name that is
    already in use; the message names the package."""

    code = "plugin"


@dataclass(frozen=True)
class Plugin:
    """One thing that a package offers.

    Attributes:
        name: of the entry point.
        package: that has it.
        where: the module and the name in it, `my_package.ghost:GHOST_CONV`.
    """

    name: str
    package: str
    where: str
    value: Any


def find_plugins(group: str) -> list[Plugin]:
    """All that installed packages offer in a group, by name.

    Raises:
        PluginError: something does not load.
    """
    from importlib.metadata import entry_points  # takes long, and few files need it

    found = []
    for entry in sorted(entry_points(group=group), key=lambda entry: (entry.name, entry.value)):
        module = entry.value.split(":")[0]
        package = entry.dist.name if entry.dist is not None else module
        try:
            value = entry.load()
        except (Exception, SystemExit) as problem:  # it is the package's code that runs here
            raise PluginError(
                f"package `{package}` offers `{entry.name}` in {group}, but loading {entry.value} fails: "
                f"{cause(problem)}",
                f"repair or uninstall `{package}`",
            ) from problem
        PACKAGES[module.split(".")[0]] = package
        found.append(Plugin(entry.name, package, entry.value, value))
    return found
