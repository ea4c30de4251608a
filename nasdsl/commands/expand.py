"""The command `expand`: an architecture written out in full."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from nasdsl.compiler.diagnostics import error
from nasdsl.options import (
    add_space,
    describe,
    space_of,
)
from nasdsl.runtime.outputs import check_output, inputs_of, write_output
from nasdsl.streams import write_program


def options(parser: ArgumentParser) -> None:
    describe(
        parser,
        "Writes an architecture out in full: every layer in order, without choices, definitions or other files.",
        "expand found.space",
        "expand found.space -o network.space",
    )
    add_space(parser)
    parser.add_argument("-o", "--out", metavar="OUT", help="the file to write; by default standard output")


def run(args: Namespace) -> None:
    from nasdsl.compiler.write import expanded

    space = space_of(args)
    if space.graph.decisions:
        first = next(iter(space.graph.decisions.values()))
        n = len(space.graph.decisions)
        raise error(
            "not-an-architecture",
            f"`{space.name}` is no architecture yet: {n:,} of its decisions are open",
            first.span,
            f"here `{first.path}` is decided",
            help="search the space, or pin its decisions: `space found = " + space.name + " with { ... }`",
        )
    text = expanded(space)
    if args.out is None:
        write_program(text)
    else:
        check_output(Path(args.out), inputs_of(space), streams=True)
        write_output(Path(args.out), text)
