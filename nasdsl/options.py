"""Options that commands share, and how they are read."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nasdsl.compiler.diagnostics import NasdslError
from nasdsl.files import source_of

if TYPE_CHECKING:
    from nasdsl.compiler.space import Space


class UsageError(NasdslError):
    """The command line itself is wrong: exit code 2."""

    code = "usage"


def describe(parser: argparse.ArgumentParser, description: str, *examples: str) -> None:
    """What `--help` of a command says beside its options."""
    parser.description = description
    parser.epilog = "examples:\n" + "\n".join(f"  nasdsl {example}" for example in examples)


def add_file(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """FILE: a `.space` file, `-`, or the name of one that ships."""
    help = (
        "a .space file, a .safetensors file of nasdsl's, `-` for standard input, or the name of a space that ships "
        "with nasdsl, such as tiny"
    )
    parser.add_argument("files" if several else "file", metavar="FILE", nargs="+" if several else None, help=help)


def add_space(parser: argparse.ArgumentParser) -> None:
    """FILE and what chooses and sets the space in it."""
    add_file(parser)
    parser.add_argument("--space", metavar="NAME", help="which space of the file; by default the first")
    add_defines(parser)


def add_defines(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-D",
        dest="defines",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="set a parameter of the space; may be repeated",
    )


def add_budget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--budget",
        dest="budgets",
        metavar="CONDITION",
        action="append",
        default=[],
        help="as `require` in the file, such as 'macs <= 600M' or 'params in 4M..5M'; may be repeated",
    )


def add_tables(parser: argparse.ArgumentParser) -> None:
    """Where measures are read from that a file alone tells."""
    parser.add_argument(
        "--latency", metavar="FILE", help="a latency table made by `nasdsl profile`, where a latency is asked for"
    )
    parser.add_argument(
        "--measured",
        metavar="NAME=FILE",
        action="append",
        default=[],
        help="the file that another measure is read from; may be repeated",
    )


def add_measures(parser: argparse.ArgumentParser) -> None:
    """Which measures are told."""
    parser.add_argument(
        "--measure",
        dest="measures",
        type=measure,
        metavar="NAME",
        action="append",
        default=[],
        help="tell this measure, too, such as memory, access or latency; may be repeated",
    )
    add_tables(parser)


def tables_of(args: argparse.Namespace) -> dict[str, Path]:
    """The files that measures are read from, by their names."""
    found = {} if getattr(args, "latency", None) is None else {"latency": Path(args.latency)}
    for text in getattr(args, "measured", []):
        name, equals, file = text.partition("=")
        if not equals or not name.strip().isidentifier() or not file.strip():
            raise UsageError(f"--measured takes NAME=FILE, such as --measured energy=table.json, and not `{text}`")
        found[name.strip()] = Path(file.strip())
    return found


def measure(name: str) -> str:
    """A measure of the registry on the command line."""
    from nasdsl.compiler import measures

    if measures.lookup(name) is None:
        raise argparse.ArgumentTypeError(f"there is no measure `{name}`; there are {', '.join(measures.known())}")
    return name


def add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format",
        choices=("text", "json"),
        default="text",
        help="json: one JSON value on standard output; where the file has mistakes, the list of them",
    )


def whole_number(text: str, least: int = 1, most: int = 10**9) -> int:
    """A count on the command line: `10000`, `10_000`, `10,000`."""
    try:
        number = int(text.replace(",", ""))
    except ValueError:
        raise argparse.ArgumentTypeError(f"a whole number is needed here, and this is `{text}`") from None
    if not least <= number <= most:
        limits = f"of at least {least:,}" if number < least else f"of at most {most:,}"
        raise argparse.ArgumentTypeError(f"a number {limits} is needed here")
    return number


def defines(given: Sequence[str]) -> dict[str, str]:
    """`["classes=10"]` -> `{"classes": "10"}`"""
    out = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip().isidentifier() or not value.strip():
            raise UsageError(f"-D takes NAME=VALUE, such as -D classes=10, and not `{text}`")
        out[name.strip()] = value.strip()
    return out


def space_given(args: argparse.Namespace) -> Space:
    """The space that FILE, --space and -D name, checked as a whole."""
    from nasdsl.compiler.pipeline import elaborate

    return elaborate(source_of(args.file), args.space, defines(args.defines))


def space_of(args: argparse.Namespace) -> Space:
    """The space that FILE, --space, -D and --budget speak of, checked as a whole, with the tables that are given.

    Raises:
        CompileError: the file has mistakes, or a condition has, or a table does not fit.
    """
    from nasdsl.compiler.measured import measured

    space = space_given(args)
    budgets = getattr(args, "budgets", [])
    return measured(_narrowed(space, budgets) if budgets else space, tables_of(args))


def _narrowed(space: Space, conditions: Sequence[str]) -> Space:
    """The space with more requirements; it keeps its name, its files and its pins."""
    import dataclasses

    from nasdsl.compiler.pipeline import elaborate
    from nasdsl.compiler.source import Source
    from nasdsl.compiler.write import free_name, used

    path = space.source.path
    if path is None:
        raise UsageError("standard input has no name that a space with more requirements could use")
    lines = "".join(f"  require {' '.join(text.split())}\n" for text in conditions)
    name = free_name(space, "required_here")
    text = f"{used(space, path.name)}space {name} = {space.name} with {{\n{lines}}}\n"
    source = Source(text, "<command line>", path.parent / "<command line>")
    made = elaborate(source, name, space.overrides)
    return dataclasses.replace(made, name=space.name, sources=space.sources, declaration=space.declaration)
