"""A space that was made of a text, as the file that holds it: what is written of a search has to name a file."""

from __future__ import annotations

import os
from pathlib import Path

from nasdsl.compiler import syntax
from nasdsl.compiler.diagnostics import ArgumentError
from nasdsl.compiler.files import write_text
from nasdsl.compiler.parse import parse
from nasdsl.compiler.source import Source
from nasdsl.compiler.space import Space
from nasdsl.compiler.with_params import with_params


def as_file(space: Space, folder: Path) -> Space:
    """The space as if its text had been read from `NAME.space` in a folder, which `write_source` writes; one that was
    read from a file as it is.

    Raises:
        ArgumentError: the folder has a file of that name that says something else; or as `with_params`.
    """
    if space.source.path is not None:
        return space
    path = folder / f"{space.name}.space"
    source = Source(_from(space.source, folder), str(path), path)
    if os.path.lexists(path) and not _holds(path, source.text):
        raise ArgumentError(
            f"a result names the file of its space; this space was made of a text, and {path} says something else",
            "write the text to a file of another name and `load` it, or choose another folder",
        )
    return with_params(space, {}, source)


def write_source(space: Space) -> None:
    """Writes the file of `as_file`, where it is not there yet."""
    path = space.source.path
    if path is not None and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, space.source.text)


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()


def _from(source: Source, folder: Path) -> str:
    """The text, with what it uses from the present folder named from another one, which has to be there for that."""
    text, end = "", 0
    for item in parse(source).items:
        if isinstance(item, syntax.Use) and not os.path.isabs(item.path.value) and Path(item.path.value).exists():
            folder.mkdir(parents=True, exist_ok=True)
            span = item.path.span
            moved = os.path.relpath(Path(item.path.value).resolve(), folder.resolve()).replace(os.sep, "/")
            if '"' in moved:
                raise ArgumentError(
                    f"`{item.path.value}` cannot be named from {folder}: a folder has quotes in its name"
                )
            text += source.text[end : span.start] + f'"{moved}"'
            end = span.end
    return text + source.text[end:]
