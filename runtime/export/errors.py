"""What can be wrong with a network that is to be exported."""

from nasdsl.compiler.diagnostics import NasdslError


class ExportError(NasdslError):
    """The network cannot be written out."""

    code = "export"
