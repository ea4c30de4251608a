"""The command line. Each command is a line of COMMANDS and a module of `commands`, imported when it is asked for."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from nasdsl.compiler.diagnostics import NasdslError
from nasdsl.streams import prepare_streams, silence
from nasdsl.tell import MISTAKES, USAGE, tell

OK, INTERRUPTED, BROKEN_PIPE = 0, 130, 141


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        name: of its module in `nasdsl/commands/`, too, which has `options(parser)`, which describes the command, and
            `run(args)`, which runs it and returns the exit code (None for success).
        summary: its line in the list of commands.
    """

    name: str
    summary: str

    def load(self) -> ModuleType:
        return importlib.import_module(f"nasdsl.commands.{self.name}")


COMMANDS = (
    Command("check", "find the mistakes in a file"),
    Command("compile", "show what a space holds: decisions, size, costs, memory of its supernet"),
    Command("count", "the exact number of architectures, and how it comes about"),
    Command("cost", "the cheapest and the dearest architecture, and the costs of all"),
    Command("sample", "random architectures, also inside a budget"),
    Command("explore", "a page on which decisions are pinned and what is left is told at once"),
    Command("draw", "a picture of a space or of an architecture"),
    Command("fmt", "bring files into the canonical layout"),
    Command("expand", "write an architecture out in full"),
    Command("pin", "write a smaller space: decisions get values, or fewer alternatives"),
    Command("diff", "what tells two spaces or architectures apart"),
    Command("operators", "what a space can be built from"),
    Command("help", "what a word of the language means, or a setting of a search"),
    Command("explain", "what a mistake means, by its code, and how it is mended"),
    Command("lsp", "a language server, for editors"),
    Command("search", "search a space on data, and write what is found"),
    Command("trials", "list what a search has evaluated"),
    Command("train", "train an architecture"),
    Command("eval", "measure an architecture"),
    Command("predict", "apply a trained architecture to images"),
    Command("export", "take an architecture out, as plain torch"),
    Command("report", "a search as one page of HTML"),
    Command("profile", "measure a space's operators on this device"),
    Command("demo", "the main job from start to finish, on images that come along"),
)

DESCRIPTION = "A language for neural-architecture search spaces: write the space, not the supernet."
EPILOG = """\
examples:
  nasdsl check spaces/hrnas.space                    find mistakes
  nasdsl count tiny                                  how many architectures, and why
  nasdsl draw spaces/hrnas.space -o hrnas.svg        a picture
  nasdsl compile spaces/hrnas.space -D tokens=64     all about a space, with a parameter set

`nasdsl COMMAND --help` tells more. Exit codes: 0 done, 1 the file has mistakes, 2 the command line has.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line; the exit code."""
    prepare_streams()
    try:
        code = _run(sys.argv[1:] if argv is None else list(argv))
        sys.stdout.flush()
        sys.stderr.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output has seen enough
        silence()
        return BROKEN_PIPE
    except OSError as problem:  # the disk that standard output leads to is full
        silence()
        sys.stderr.write(f"nasdsl: standard output cannot be written: {problem.strerror or problem}\n")
        return MISTAKES
    if "torch.distributed" in sys.modules and "WORLD_SIZE" in os.environ:  # one of torchrun's processes
        from nasdsl.runtime.search import leave

        leave(code)
    return code


def _run(argv: list[str]) -> int:
    parser = _parser(argv)
    try:
        args = parser.parse_args(argv)
    except SystemExit as leave:  # of --help (0) and of a wrong option (2)
        return leave.code if isinstance(leave.code, int) else USAGE
    if args.command is None:
        parser.print_help()
        return USAGE
    command = next(c for c in COMMANDS if c.name == args.command)
    try:
        code = command.load().run(args)
        return OK if code is None else int(code)
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except Exception as problem:  # whatever ends a command is told in one place
        if os.environ.get("NASDSL_TRACEBACK") and not isinstance(problem, NasdslError):
            raise
        return tell(problem, command.name, getattr(args, "format", "text"))


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser with the options of the command that is asked for; the other commands are listed only."""
    parser = _Parser(prog="nasdsl", description=DESCRIPTION, epilog=EPILOG, formatter_class=Formatter)
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="print the versions of nasdsl and its packages, and leave"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=_Parser)
    asked = next((word for word in argv if not word.startswith("-")), None)
    for command in COMMANDS:
        sub = commands.add_parser(command.name, help=command.summary, formatter_class=Formatter)
        if command.name == asked:
            command.load().options(sub)
    return parser


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps descriptions and examples as they are written."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=100)
        self._action_max_length = max(len(command.name) for command in COMMANDS) + 4  # argparse forgets their indent


class _Parser(argparse.ArgumentParser):
    """Complains in one line, with the nearest command or option where there is one."""

    def error(self, message: str) -> Any:
        if "invalid choice" in message and self.prog == "nasdsl":
            from nasdsl.compiler.diagnostics import suggest

            word = message.split("'")[1]
            near = suggest(word, [command.name for command in COMMANDS])
            message = f"no command named `{word}`" + (f"; {near}" if near else "")
        self.exit(USAGE, f"{self.prog}: {message}\n{self.prog} --help tells more\n")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from nasdsl.compiler.version import parts

        for name, told in parts():
            print(f"{name} {told}" if name == "nasdsl" else f"  {name:10}  {told}", flush=True)
        parser.exit(OK)
