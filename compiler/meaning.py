"""What files of the language say, without how they are laid out: one hash for all texts that mean the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from nasdsl.compiler import syntax
from nasdsl.compiler.bind import library
from nasdsl.compiler.bind.walk import walk
from nasdsl.compiler.frozen import Frozen


def meaning(*files: syntax.File) -> str:
    """16 hexadecimal digits that stand for what a file and those that it uses declare, in the order in which they are
    read; as in `use "hrnas.space#1f0a..."`.

    Layout, comments, the spelling of numbers and the paths of used files do not count: `nasdsl fmt` changes none of it,
    nor does moving the files together. What is used of the library does.
    """
    whole = hashlib.sha256()
    for items in (*[file.items for file in files], *_of_library(files)):
        for item in items:
            if not isinstance(item, syntax.Use):
                whole.update(_told(item).encode("utf-8", "surrogatepass") + b"\n")
        whole.update(b"\0")
    return whole.hexdigest()[:16]


def _of_library(files: Sequence[syntax.File]) -> list[Sequence[syntax.Node]]:
    """The library's files whose operators are called, and those that they use themselves."""
    trees: list[syntax.Node] = list(files)
    found: dict[str, Sequence[syntax.Node]] = {}
    while trees:
        called = {node.function.name for tree in trees for node in walk(tree) if isinstance(node, syntax.Call)}
        new = {library.OPERATORS[name] for name in called if name in library.OPERATORS} - found.keys()
        found |= {name: library.items_of(name) for name in new}
        trees = [item for name in new for item in found[name]]
    if found:
        found[library.SHARED] = library.items_of(library.SHARED)
    return [found[name] for name in sorted(found)]


def _told(part: Any) -> str:
    """A part of the tree as text, one for each that is equal to it."""
    if isinstance(part, Frozen):
        return f"{type(part).__name__}({','.join(map(_told, part._key()))})"
    if isinstance(part, tuple):
        return f"[{','.join(map(_told, part))}]"
    return str(part) if isinstance(part, Fraction) else repr(part)
