"""What can be wrong with a run."""

from nasdsl.compiler.diagnostics import NasdslError


class RunError(NasdslError):
    """A run that cannot begin or go on: its folder, its trials, or what it evaluates with."""

    code = "run"
