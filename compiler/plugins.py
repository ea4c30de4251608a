"""What other installed packages offer, by entry point."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nasdsl.compiler.diagnostics import NasdslError, cause

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Kind = TypeVar("Kind")

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

    entries = sorted(entry_points(group=group), key=lambda entry: (entry.name, entry.value))
    return [loaded(entry, group) for entry in entries]


def listed(plugin: Plugin, kind: type[Kind]) -> list[Kind]:
    """What an entry offers that is one of a kind, or a list of them.

    Raises:
        PluginError: it is neither.
    """
    values = list(plugin.value) if isinstance(plugin.value, list | tuple) else [plugin.value]
    if not all(isinstance(value, kind) for value in values):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        message = f"{plugin.where} is neither {article} {kind.__name__} nor a list of them"
        raise PluginError(f"package `{plugin.package}`: {message}")
    return values


def loaded(entry: EntryPoint, group: str) -> Plugin:
    """One of them.

    Raises:
        PluginError: it does not load.
    """
    module = entry.value.split(":")[0]
    package = entry.dist.name if entry.dist is not None else module
    try:
        value = entry.load()
    except (Exception, SystemExit) as problem:  # it is the package's code that runs here
        raise PluginError(
            f"package `{package}` offers `{entry.name}` in {group}, but loading {entry.value} fails: {cause(problem)}",
            f"repair or uninstall `{package}`",
        ) from problem
    PACKAGES[module.split(".")[0]] = package
    return Plugin(entry.name, package, entry.value, value)


SPACES = "nasdsl.spaces"
"""The group of packages that have files of the language: `acme = "acme_nas.spaces"` for `use "acme/blocks.space"`."""


def folder_of(name: str) -> Path | None:
    """The folder of spaces that an installed package offers under a name; its code is not run.

    Raises:
        PluginError: what it names is no package.
    """
    from importlib.metadata import entry_points
    from importlib.util import find_spec

    for entry in entry_points(group=SPACES, name=name):
        try:
            spec = find_spec(entry.value)
        except ImportError:
            spec = None
        folders = () if spec is None else spec.submodule_search_locations or ()
        for folder in folders:
            return Path(folder)
        message = f"the package of `{name}` names `{entry.value}` as its spaces, and there is no such package"
        raise PluginError(message)
    return None
