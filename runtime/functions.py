"""Functions of the user's that a search calls, found by name.

A `.space` file that came from somewhere must not run what it likes. So it may only name what somebody has installed
for this purpose, an entry point; `module:function` is for whoever types the command.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

from nasdsl.compiler.diagnostics import cause, error, suggest
from nasdsl.compiler.space import SettingsSection
from nasdsl.runtime.errors import RunError

FUNCTIONS = "nasdsl.functions"
"""Entry points that give an architecture its worth."""
ROWS = "nasdsl.rows"
"""Entry points that read the architecture off a row of a table."""

STORAGES = ("file", "memory")
"""Where a `.space` file may have trials kept; a database is for whoever types the command."""


def find_function(name: str, group: str) -> Callable[..., Any]:
    """The function `module:function`, whose module may lie in the present folder, or the entry point `name` of a group.

    Raises:
        RunError: there is none.
    """
    module, colon, path = name.partition(":")
    if not colon:
        return _installed(name, group)
    if not module or not path:
        raise RunError(f"`{name}` names no function", "write `module:function`, such as `my_module:accuracy`")
    here = os.getcwd()
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as problem:
        missing = f"the module `{problem.name}`"
        by = "" if problem.name == module else f", which `{module}` imports,"
        raise RunError(
            f"{missing}{by} is not found", "it is looked for in this folder and where Python looks"
        ) from None
    except (Exception, SystemExit) as problem:  # it is the user's code that runs here
        raise RunError(f"the module `{module}` cannot be imported: {cause(problem)}") from problem
    finally:
        if added and here in sys.path:
            sys.path.remove(here)
    for part in path.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise RunError(f"the module `{module}` has no function `{path}`")
    return found


def _installed(name: str, group: str) -> Callable[..., Any]:
    points = {point.name: point for point in entry_points(group=group)}
    if name not in points:
        help = "write `module:function`, such as `my_module:accuracy`"
        raise RunError(f"`{name}` is no function that is installed in `{group}`", suggest(name, points) or help)
    try:
        found: Any = points[name].load()
    except (Exception, SystemExit) as problem:
        raise RunError(f'"{name}" in "{group}" ({points[name].value}) does not load: {cause(problem)}') from problem
    if not callable(found):
        raise RunError(f'"{name}" in "{group}" ({points[name].value}) is no function')
    return found


def refuse_what_is_typed(section: SettingsSection, typed: Mapping[str, Any]) -> None:
    """What only the command line may say is a mistake in a file: a function by its module, a database by its address.

    Args:
        typed: settings of the command line, which go before the file's.

    Raises:
        CompileError: the section says so and the command line nothing else, at its place.
    """
    for key, group, option in (
        ("function", FUNCTIONS, "--function {}"),
        ("table.rows", ROWS, "--set 'table.rows=\"{}\"'"),
    ):
        value = _entry(section.entries, key)
        if isinstance(value, str) and ":" in value and _entry(typed, key) is None:
            raise error(
                "function-in-file",
                f"a file names functions that are installed, and not a module whose code is to run, `{value}`",
                section.spans.get(key) or section.spans.get(key.partition(".")[0]),
                help=f"if you trust it, type it: {option.format(value)}; or install it as an entry point of the group "
                f"{group} and write its name here",
            )
    storage = section.entries.get("storage", STORAGES[0])
    if isinstance(storage, str) and storage not in STORAGES and typed.get("storage") is None:
        raise error(
            "storage-in-file",
            "a file keeps its trials in the run's folder (`file`) or in `memory`, and chooses no database",
            section.spans.get("storage"),
            help=f"if you trust it, type it: --storage {storage}",
        )


def _entry(entries: Mapping[str, Any], key: str) -> Any:
    """The entry of a dotted name; a table that is a file alone has no entries."""
    first, _, rest = key.partition(".")
    value = entries.get(first)
    if not rest:
        return value
    return value.get(rest) if isinstance(value, Mapping) else None
