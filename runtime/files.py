"""Files that a search reads: where they lie, and whether they are still the same."""

from __future__ import annotations

import hashlib
import itertools
import os
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
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


MOST_READ = 1 << 30
"""Bytes of a data set up to which its files are known by their content, and not by their size alone."""


def fingerprint(data: Path) -> str:
    """A hash of a data set: a folder or a zip of it have the same, wherever they lie and whatever they are called. Of a
    folder the names of its files count, their sizes and, unless it is large, their content; hidden ones do not, nor do
    folders that only wrap all others. A single file, such as one of annotations, is known by its content.
    """
    if data.is_file() and not zipfile.is_zipfile(data):
        return content(data)
    try:
        found = list(_members(data))
    except (OSError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile) as problem:
        return type(problem).__name__  # which its reader tells
    small = sum(size for _, size, _ in found) <= MOST_READ
    names = [name.split("/") for name, _, _ in found]
    folders = zip(*(parts[:-1] for parts in names), strict=False)
    depth = sum(1 for _ in itertools.takewhile(lambda level: len(set(level)) == 1, folders))
    whole = hashlib.sha256()
    for name, size, check in sorted(found, key=lambda one: one[0]):
        shown = unicodedata.normalize("NFC", "/".join(name.split("/")[depth:]))
        told = f"{shown} {size} {check if isinstance(check, int) or not small else _checksum(check)}\0"
        whole.update((told if small else f"{shown} {size}\0").encode("utf-8", "surrogateescape"))
    return whole.hexdigest()[:16]


def _members(data: Path) -> Iterator[tuple[str, int, int | Path]]:
    """The files of a folder or a zip: name, size, and the checksum, or where it is to be read."""
    if data.is_file():
        with zipfile.ZipFile(data) as archive:
            for one in archive.infolist():
                if not one.is_dir() and not _hidden(one.filename.split("/")):
                    yield one.filename, one.file_size, one.CRC
        return
    for folder, folders, files in os.walk(data, followlinks=True):
        folders[:] = [name for name in folders if not _hidden([name])]
        if len(Path(folder).parts) - len(data.parts) > DEEPEST:
            raise ValueError("folders are nested too deeply")
        for name in files:
            file = Path(folder, name)
            if not _hidden([name]) and file.is_file():
                yield file.relative_to(data).as_posix(), file.stat().st_size, file


DEEPEST = 40  # links may lead back to where they are


def _hidden(parts: list[str]) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _checksum(file: Path) -> int:
    """As a zip has it."""
    check = 0
    with file.open("rb") as stream:
        while piece := stream.read(1 << 20):
            check = zlib.crc32(piece, check)
    return check
