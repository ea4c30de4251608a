"""What went wrong, told to whoever gave the command: the one place in which exceptions are printed."""

from __future__ import annotations

import sys
import traceback

from nasdsl.compiler.diagnostics import CompileError, Diagnostic, NasdslError, cause
from nasdsl.compiler.extras import lack_of_package
from nasdsl.compiler.files import to_json
from nasdsl.options import UsageError
from nasdsl.runtime.launch import is_first_process
from nasdsl.terminal import printable, show_diagnostics

MISTAKES, USAGE = 1, 2


def tell(problem: Exception, command: str, form: str = "text") -> int:
    """Prints what ended a command.

    Args:
        form: `text`, on standard error; `json`, a list of diagnostics on standard output.

    Returns:
        the exit code.
    """
    found = diagnostics_of(problem, command)
    code = USAGE if isinstance(problem, UsageError) else MISTAKES
    if not is_first_process():
        if isinstance(problem, UsageError | CompileError):  # which all of them find
            return code
        form = "text"  # standard output is the first one's
    if form == "json":
        print(to_json([one.to_json() for one in found], indent=2))
    elif isinstance(problem, UsageError):
        advice = f"\n  help: {problem.help}" if problem.help else ""
        sys.stderr.write(f"nasdsl {command}: {printable(str(problem))}{advice}\n")
    else:
        show_diagnostics(found)
    return code


def diagnostics_of(problem: Exception, command: str = "") -> tuple[Diagnostic, ...]:
    """Any exception in the user's words.

    Args:
        command: that it ended.
    """
    if isinstance(problem, NasdslError):
        return problem.diagnostics
    if isinstance(problem, OSError):
        where = f"`{problem.filename}`: " if problem.filename is not None else ""
        return (Diagnostic("file", f"{where}{problem.strerror or cause(problem)}"),)
    if _lacks_memory(problem):
        help = "smaller batches or a smaller space need less"
        return (Diagnostic("memory", f"there is not enough memory: {cause(problem)}", help=help),)
    missing = lack_of_package(problem, command)
    if missing is not None:
        return (missing,)
    package = _package(problem)
    if package is not None:
        file, line = package[1:]
        help = f"it lies at {file}:{line}; NASDSL_TRACEBACK=1 shows the whole traceback"
        return (Diagnostic("plugin", f"package `{package[0]}` fails: {cause(problem)}", help=help),)
    help = "this is a mistake in nasdsl, not in your file; please report it with the traceback that "
    return (Diagnostic("internal", cause(problem), help=help + "NASDSL_TRACEBACK=1 shows"),)


def _lacks_memory(problem: Exception) -> bool:
    if "torch" not in sys.modules:
        return isinstance(problem, MemoryError)
    from nasdsl.runtime.memory import lack_of_memory

    return lack_of_memory(problem) is not None


def _package(problem: Exception) -> tuple[str, str, int] | None:
    """The package whose plugin raised, the file and the line; None where it was nasdsl."""
    plugins = sys.modules.get("nasdsl.compiler.plugins")
    for frame, line in reversed(list(traceback.walk_tb(problem.__traceback__))):
        module = str(frame.f_globals.get("__name__")).split(".")[0]
        if plugins is not None and module in plugins.PACKAGES:
            return plugins.PACKAGES[module], frame.f_code.co_filename, line
        if module == "nasdsl":
            return None
    return None
