"""Files that a search reads: where they lie, and whether they are still the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

from nasdsl.compiler.space import Space


def folder_of(space: Space) -> Path | None:
    """The folder of a space's file; None where it was read from no file."""
    return None if space.source.path is None else space.source.path.parent


def known_file(path: str, base: Path | None) -> Path:
    """A file that a `.space` file names lies beside it; one of the command line in this folder.

    Args:
        base: the folder of the `.space` file.
    """
    given = Path(path)
    beside = base / given if base is not None else given
    return beside if beside.exists() or not given.exists() else given


def content(file: Path) -> str:
    """A hash of a file's content; the empty string where it cannot be read, which its reader will tell."""
    if not file.is_file():  # reading a pipe may wait for ever
        return ""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    except OSError:
        return ""
