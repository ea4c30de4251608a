"""How a check fails, and what stands in for an installed package."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from nasdsl.compiler import measures, ops
from nasdsl.compiler.diagnostics import NasdslError


class ContractError(NasdslError, AssertionError):
    """A plug-in does not keep to what its kind promises; the message says what does not hold."""

    code = "contract"


def require(held: Any, message: str) -> None:
    """
    Raises:
        ContractError: it does not hold.
    """
    if not held:
        raise ContractError(message)


class _Point:
    """An entry point of a package that is not installed."""

    dist = None

    def __init__(self, group: str, name: str, value: Any) -> None:
        self.group, self.name, self.object = group, name, value
        self.value = f"{getattr(value, '__module__', 'offered')}:{name}"

    def load(self) -> Any:
        return self.object


@contextmanager
def offering(group: str, **values: Any) -> Iterator[None]:
    """Inside, things are found as if an installed package offered them.

        with offering("nasdsl.operators", ghost_conv=GHOST_CONV):
            space = nasdsl.loads("space s { input 3 x 8 x 8  network { ghost_conv(8) -> classify(4) } }")

    Args:
        group: of entry points: `nasdsl.operators`, `nasdsl.methods`, `nasdsl.evaluators`, `nasdsl.measures`,
            `nasdsl.tasks`, `nasdsl.readers` or `nasdsl.runtimes`.
        values: by name.
    """
    installed = importlib.metadata.entry_points
    points = [_Point(group, name, value) for name, value in values.items()]

    def entry_points(**wanted: Any) -> Any:
        found = list(installed(**wanted))
        mine = [one for one in points if wanted.get("group") == group and wanted.get("name", one.name) == one.name]
        return [*found, *mine]

    with mock.patch.object(importlib.metadata, "entry_points", entry_points):
        _forget()
        try:
            yield
        finally:
            _forget()


def _forget() -> None:
    """What was found of other packages is looked for anew."""
    ops.plugins.cache_clear()
    measures.plugins.cache_clear()
