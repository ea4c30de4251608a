"""Where the text of a space comes from: a file, standard input, or the spaces that ship."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nasdsl.compiler import syntax
from nasdsl.compiler.diagnostics import CompileError, Diagnostic, error
from nasdsl.compiler.parse import parse, read
from nasdsl.compiler.source import Source


def source_of(file: str, weights: bool = True) -> Source:
    """The text of FILE; where it is a file of weights, of the network that they are for.

    Args:
        weights: whether it may be one.

    Raises:
        CompileError: there is none to be had.
    """
    if file == "-":
        return Source(_standard_input(), "<stdin>")
    path = Path(file)
    if path.suffix == ".safetensors":
        if not weights:
            help = f"`nasdsl expand {file}` writes the network that they are for"
            raise error("not-a-space", f"`{file}` holds weights, and no text", None, help=help)
        from nasdsl.runtime.self_told import source_in

        return source_in(path)
    try:
        return read(path)
    except CompileError as problem:
        first = problem.diagnostics[0]
        if first.code != "no-such-file":
            raise
        from nasdsl import spaces

        if file in spaces.names():
            return read(spaces.path(file))
        raise CompileError([_with_names(first, spaces.names())]) from None


def names_in(source: Source) -> list[str]:
    """The spaces that a file defines itself, in order."""
    return [i.name.name for i in parse(source).items if isinstance(i, syntax.Space | syntax.Derived)]


def _with_names(diagnostic: Diagnostic, names: Sequence[str]) -> Diagnostic:
    return replace(diagnostic, help="spaces that ship go by their names: " + ", ".join(names)) if names else diagnostic


def _standard_input() -> str:
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CompileError([Diagnostic("not-utf8", "standard input is not UTF-8 text")]) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
