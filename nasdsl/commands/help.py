"""The command `help`: all about a word of the language, or a setting of a search."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nasdsl.compiler.diagnostics import error
from nasdsl.options import add_format, describe
from nasdsl.streams import as_json

if TYPE_CHECKING:
    from nasdsl.reference.entry import Entry


def options(parser: ArgumentParser) -> None:
    describe(
        parser,
        "Tells what a word of the language means: a construct, a function, a form, an operator, a measure,\n"
        "a search and its settings, a method, a task. Without a name it lists them all.",
        "help fuse",
        "help oneof conv",
        "help shrink",
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="what to tell about")
    add_format(parser)


def run(args: Namespace) -> None:
    from nasdsl.reference import language
    from nasdsl.reference.told import listed, to_json, told

    known = list(language.entries())
    everything = known
    if not args.names or any(not language.named(known, name) for name in args.names):
        from nasdsl.reference import searches  # takes a while

        everything = [*known, *searches.entries()]
    found: list[Entry] = []
    for name in args.names:
        mine = language.named(everything, name)
        if not mine:
            raise error("unknown-word", f"there is nothing named `{name}`", None, help=_near(name, everything))
        found += [one for one in mine if one not in found]
    if args.format == "json":
        as_json([to_json(one) for one in found or everything])
    else:
        print("\n\n".join(map(told, found)) if args.names else listed(everything))


def _near(name: str, known: Sequence[Entry]) -> str:
    from nasdsl.cli import COMMANDS
    from nasdsl.compiler.bind.habits import ARGUMENTS, near_operator

    if any(command.name == name for command in COMMANDS):
        return f"of the command: `nasdsl {name} --help`"
    words = [*(one.name for one in known), *(word for one in known for word in one.also)]
    habit = f"of most operators it is the argument `{ARGUMENTS[name]}`" if name in ARGUMENTS else ""
    return near_operator(name, words) or habit or "`nasdsl help` lists all; `nasdsl explain CODE` tells of a mistake"
