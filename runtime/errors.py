"""What can be wrong with a run."""

from nasdsl.compiler.diagnostics import NasdslError


class RunError(NasdslError):
    """A run that cannot begin or go on: its folder, its trials, or what it evaluates with."""

    code = "run"


class Diverged(RunError):
    """A training whose loss, or whose weights, are no finite numbers any more.

    Attributes:
        why: what was found, as the end of a sentence: `its loss is nan at step 12 of 340`.
    """

    code = "diverged"

    def __init__(self, message: str, help: str = ""):
        super().__init__(f"the training has diverged: {message}", help)
        self.why = message
