"""The command `check`: find the mistakes in a file."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from typing import TYPE_CHECKING

from nasdsl.compiler.diagnostics import Diagnostic, NasdslError
from nasdsl.files import source_of
from nasdsl.options import (
    add_defines,
    add_file,
    add_format,
    add_tables,
    defines,
    describe,
    tables_of,
)
from nasdsl.streams import as_json
from nasdsl.terminal import Paint, show_diagnostics, wants_colour

if TYPE_CHECKING:
    from nasdsl.compiler.space import Space


def options(parser: ArgumentParser) -> None:
    describe(
        parser,
        "Finds the mistakes in files: of form, of names and types, shapes that do not agree for some choice, and\n"
        "requirements that nothing can meet. The whole space is checked, not a sample of it. A limit on a latency is\n"
        "checked by a table of measured times.",
        "check spaces/hrnas.space",
        "check mine.space -D classes=10",
        "check --all --format json spaces/*.space",
        "check mine.space --latency table.json",
    )
    add_file(parser, several=True)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--space", metavar="NAME", help="which space of the file; by default the first")
    which.add_argument("--all", action="store_true", help="all spaces that the files define")
    add_defines(parser)
    add_tables(parser)
    add_format(parser)


def run(args: Namespace) -> int:
    from nasdsl.compiler.measured import measured
    from nasdsl.compiler.pipeline import elaborate, elaborate_all

    tables = tables_of(args)
    found: list[Diagnostic] = []
    for file in args.files:
        try:
            source = source_of(file)
            given = defines(args.defines)
            for space in elaborate_all(source, given) if args.all else [elaborate(source, args.space, given)]:
                told = measured(space, tables)
                found += [warning for warning in [*space.warnings, *_unread(told)] if warning not in found]
                if args.format == "text":
                    _say_checked(space, file, args)
        except NasdslError as problem:
            found += [diagnostic for diagnostic in problem.diagnostics if diagnostic not in found]
    if args.format == "json":
        as_json([diagnostic.to_json() for diagnostic in found])
    elif found:
        show_diagnostics(found)
    return int(any(diagnostic.severity == "error" for diagnostic in found))


def _unread(space: Space) -> list[Diagnostic]:
    """Warnings of limits that a check cannot look at."""
    from nasdsl.compiler.cost import is_known
    from nasdsl.compiler.values.tree import measures_of

    conditions = [requirement.condition for requirement in space.graph.requirements]
    if all(is_known(space.graph, name) for condition in conditions for name in measures_of(condition)):
        return []
    from nasdsl.compiler.engine.budget import unread

    missing = [problem.diagnostics[0] for _, problem in unread(space.graph)]
    return [replace(one, message=f"{one.message}, so it is not checked", severity="warning") for one in missing]


def _say_checked(space: Space, file: str, args: Namespace) -> None:
    paint = Paint(wants_colour(sys.stdout))
    n = len(space.graph.decisions)
    size = _size(space)
    many = f"{n:,} decision{'s' if n > 1 else ''}, {size} architecture{'' if size == '1' else 's'}"
    what = many if n else "an architecture"
    others = len(re.findall(r"^space\s", space.source.text, re.MULTILINE)) - 1
    more = f"; {others} more in the file, which --all checks" if others > 0 and not args.all and not args.space else ""
    print(f"{file}: {space.name}: {what}, {paint('no mistakes', 'green')}{more}")


def _size(space: Space) -> str:
    from nasdsl.compiler.count import brief, count
    from nasdsl.compiler.engine.limits import TooWide, bounded

    try:
        with bounded(500_000):  # a check answers at once; `count` takes its time
            return brief(count(space.graph).total)
    except TooWide:
        return "uncounted"
