"""The commands that look at a space: check, compile, count, cost, draw, fmt, expand."""

from __future__ import annotations

import gc
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdsl.compiler.diagnostics import Diagnostic, NasdslError, error
from nasdsl.compiler.files import to_json, write_text
from nasdsl.files import source_of
from nasdsl.options import (
    add_defines,
    add_file,
    add_format,
    add_measures,
    add_space,
    add_tables,
    defines,
    space_of,
    tables_of,
)
from nasdsl.report import Paint, show_diagnostics, wants_colour
from nasdsl.runtime.outputs import check_output, inputs_of, write_output
from nasdsl.streams import write_program

if TYPE_CHECKING:
    from nasdsl.compiler.source import Source
    from nasdsl.compiler.space import Space


def as_json(value: Any) -> None:
    """Prints one JSON value."""
    print(to_json(value, indent=2))


def describe(parser: ArgumentParser, description: str, *examples: str) -> None:
    """What `--help` of a command says beside its options."""
    parser.description = description
    parser.epilog = "examples:\n" + "\n".join(f"  nasdsl {example}" for example in examples)


# --- check ------------------------------------------------------------------------------------------------------------


def check_options(parser: ArgumentParser) -> None:
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


def check(args: Namespace) -> int:
    from nasdsl.compiler.elaborate.program import elaborate, elaborate_all
    from nasdsl.compiler.measured import measured

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
    what = f"{n:,} decision{'s' if n > 1 else ''}, {_size(space)} architectures" if n else "an architecture"
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


# --- compile ----------------------------------------------------------------------------------------------------------


def compile_options(parser: ArgumentParser) -> None:
    describe(
        parser,
        "Checks a file, builds its graph and its supernet, and shows what it holds: the decisions of each declaration\n"
        "and stage, the exact size, the range of costs, the memory of the supernet.",
        "compile spaces/hrnas.space",
        "compile tiny --stage graph",
        "compile tiny --graph tiny.json",
    )
    add_space(parser)
    add_measures(parser)
    parser.add_argument(
        "--stage",
        choices=("syntax", "space", "graph", "supernet"),
        default="supernet",
        help="stop there: the syntax tree, the space, the nodes of its graph, or (the default) the supernet",
    )
    parser.add_argument("--graph", metavar="OUT", help="write the graph to this file, as JSON")
    add_format(parser)


@contextmanager
def uncollected() -> Iterator[None]:
    """Without a search for garbage in circles: a space is many small objects and hardly any garbage, and looking
    through them again and again takes a tenth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@uncollected()
def compile(args: Namespace) -> None:
    from nasdsl import overview
    from nasdsl.compiler.measures import with_default

    if args.stage == "syntax":
        from nasdsl.compiler.parse import parse

        tree = parse(source_of(args.file))
        if args.format == "json":
            as_json(overview.tree_to_json(tree))
        else:
            print(overview.tree_to_text(tree))
        return
    space = space_of(args)
    if space.warnings:
        show_diagnostics(space.warnings)
    if args.graph is not None:
        check_output(Path(args.graph), inputs_of(space), streams=True)
        text = to_json(overview.graph_to_json(space), indent=1)
        write_output(Path(args.graph), text + "\n")
    if args.stage == "graph":
        if args.format == "json":
            as_json(overview.graph_to_json(space))
        else:
            print(overview.graph_to_text(space.graph))
        return
    if args.format == "json":
        summary = overview.summary_to_json(space, with_default(args.measures))
        if args.stage == "supernet":
            summary["supernet"] = overview.supernet_memory(space.graph)
        as_json(summary)
        return
    # Before torch is imported, which takes a while.
    print(overview.summary(space, with_default(args.measures)), flush=True)
    if args.stage == "supernet":
        print(overview.supernet_line(space.graph))


# --- draw, expand, fmt ------------------------------------------------------------------------------------------------


def draw_options(parser: ArgumentParser) -> None:
    describe(
        parser,
        "Draws a space, its choices visible, or an architecture. Time runs from left to right, scales are lanes with\n"
        "the finest on top. The ending of the output says what is written: svg, pdf, png or dot.\n\n"
        "A choice between modules, such as backbones, is one box that names its options, and equal copies are one box\n"
        "that says how many they are, so that a page holds the picture. --open draws the options; --level block draws\n"
        "every block.",
        "draw spaces/hrnas.space -o hrnas.svg",
        "draw found.space -o found.pdf",
        "draw smnas_structure -o structure.pdf --open backbone --open head",
        "draw tiny -o tiny.png --level operator",
    )
    add_space(parser)
    parser.add_argument("-o", "--out", metavar="OUT", help="the file to write; by default NAME.svg in this folder")
    parser.add_argument(
        "--level",
        choices=("module", "block", "operator"),
        default="module",
        help="what a node stands for: a use of one of the file's operators, of several equal ones, or a choice "
        "between modules; each use; or a layer (default: module)",
    )
    parser.add_argument(
        "--open",
        metavar="NAME",
        action="append",
        default=[],
        help="a choice whose options are drawn, by its path, a path above it, or its decision; can be given repeatedly",
    )


def draw(args: Namespace) -> None:
    from nasdsl.drawing.render import render

    space = space_of(args)
    out = Path(args.out or f"{space.name}.svg")
    check_output(out, inputs_of(space))
    render(space, out, args.level, args.open)
    print(out)


def expand_options(parser: ArgumentParser) -> None:
    describe(
        parser,
        "Writes an architecture out in full: every layer in order, without choices, definitions or other files.",
        "expand found.space",
        "expand found.space -o network.space",
    )
    add_space(parser)
    parser.add_argument("-o", "--out", metavar="OUT", help="the file to write; by default standard output")


def expand(args: Namespace) -> None:
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


def fmt_options(parser: ArgumentParser) -> None:
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


def fmt(args: Namespace) -> int:
    from nasdsl.compiler.parse import parse
    from nasdsl.compiler.unparse import unparse

    found: list[Diagnostic] = []
    changed = 0
    for file in args.files:
        try:
            source = source_of(file)
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
