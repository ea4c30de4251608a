"""The command `lsp`: a language server for editors."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace

from nasdsl.compiler.extras import require
from nasdsl.options import describe


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
    require("pygls", what="the language server", command="lsp")
    from nasdsl.editor.server import make_server

    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what anybody prints is no answer
    make_server().start_io(sys.stdin.buffer, answers)
