"""The command `fmt`: the canonical layout."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from nasdsl.compiler.diagnostics import Diagnostic, NasdslError
from nasdsl.compiler.files import write_text
from nasdsl.files import source_of
from nasdsl.options import (
    add_file,
    describe,
)
from nasdsl.streams import write_program
from nasdsl.terminal import show_diagnostics

if TYPE_CHECKING:
    from nasdsl.compiler.source import Source


def options(parser: ArgumentParser) -> None:
    describe(
        parser,
        "Brings files into the canonical layout, in place. Comments stay. `-` reads standard input and writes\n"
        "standard output.",
        "fmt spaces/*.space",
        "fmt --check spaces/*.space",
    )
    add_file(parser, several=True)
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a file would change")
    way.add_argument("--stdout", action="store_true", help="write to standard output instead")


def run(args: Namespace) -> int:
    from nasdsl.compiler.parse import parse
    from nasdsl.compiler.unparse import unparse

    found: list[Diagnostic] = []
    changed = 0
    for file in args.files:
        try:
            source = source_of(file, weights=False)
            text = unparse(parse(source))
        except NasdslError as problem:
            found += problem.diagnostics
            continue
        if args.stdout or (file == "-" and not args.check):
            write_program(text)
        elif text != _raw(source):
            changed += 1
            print(f"would change {file}" if args.check else f"changed {file}")
            if not args.check and source.path is not None:
                write_text(source.path.resolve(), text)  # of a link, what it leads to
    if found:
        show_diagnostics(found)
    return int(bool(found) or (args.check and changed > 0))


def _raw(source: Source) -> str:
    """The text as it is in the file, with its line ends."""
    if source.path is None:
        return source.text
    return source.path.read_bytes().decode("utf-8", "replace")
