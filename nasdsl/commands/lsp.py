"""The command `lsp`: a language server for editors."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace

from nasdsl.compiler.diagnostics import NasdslError
from nasdsl.options import describe


class NoServer(NasdslError):
    """What the language server is made with is not installed."""

    code = "not-installed"


def options(parser: ArgumentParser) -> None:
    describe(
        parser,
        "Talks to an editor over standard input and output, by the Language Server Protocol: mistakes while you type,\n"
        "completion, hover with shapes, sizes and costs, definitions, references, new names, layout, quick fixes.\n"
        "Editors start it by themselves; docs/howto/editor.md says how to set them up.",
        "lsp",
    )
    parser.add_argument("--stdio", action="store_true", help="as is done anyway; some editors pass it")


def run(args: Namespace) -> None:
    try:
        import pygls  # noqa: F401
    except ImportError:
        help = 'install it with `pip install "nasdsl[editor]"`'
        raise NoServer("the language server needs pygls, which is not installed", help) from None
    from nasdsl.editor.server import make_server

    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what anybody prints is no answer
    make_server().start_io(sys.stdin.buffer, answers)
