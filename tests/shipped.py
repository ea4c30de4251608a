"""The spaces that ship, elaborated once in each process however many tests ask for them."""

from __future__ import annotations

from functools import cache

from nasdsl import spaces
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.parse import read
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source
from nasdsl.compiler.space import Space


def space(file: str, name: str = "", changes: str = "", **defines: str) -> Space:
    """A space of a file that ships; the one that is called as the file where no name is given.

    Args:
        changes: what a space derived from it changes, as text.
        defines: parameters set from outside.
    """
    return _made(file, name or file, changes, tuple(sorted(defines.items())))


def graph(file: str, name: str = "", changes: str = "", **defines: str) -> Graph:
    return space(file, name, changes, **defines).graph


@cache
def _made(file: str, name: str, changes: str, defines: tuple[tuple[str, str], ...]) -> Space:
    if not changes:
        return elaborate(read(spaces.path(file)), name, dict(defines))
    text = f'use "{file}.space"\nspace changed = {name} with {{ {changes} }}\n'
    source = Source(text, "changed", spaces.path(file).parent / "changed.space")
    return elaborate(source, "changed", dict(defines))
