"""What goes wrong in a run, as a diagnostic."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from nasdsl.compiler.diagnostics import error

T = TypeVar("T")


def told(act: Callable[[], T]) -> T:
    """Runs; what is wrong with data, task, run or export becomes a diagnostic."""
    from nasdsl.runtime.data import DataError, PluginError
    from nasdsl.runtime.export import ExportError
    from nasdsl.runtime.runs import RunError
    from nasdsl.runtime.tasks import TaskError

    codes: dict[type[Exception], str] = {
        DataError: "data",
        TaskError: "task",
        RunError: "run",
        PluginError: "plugin",
        ExportError: "export",
    }
    try:
        return act()
    except (DataError, TaskError, RunError, PluginError, ExportError) as problem:
        code = next(code for kind, code in codes.items() if isinstance(problem, kind))
        raise error(code, str(problem), None, help=getattr(problem, "help", "") or "") from None
