"""What is to be written, looked at before any work is done for it: an output never takes the place of what is read, and
one that cannot be written is told at once.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

from nasdsl.compiler.diagnostics import CompileError, NasdslError
from nasdsl.compiler.files import write_text
from nasdsl.compiler.parse import parse, read
from nasdsl.compiler.space import Space
from nasdsl.compiler.syntax import Derived, Use


class OutputError(NasdslError):
    """An output cannot be written, or not there."""

    code = "output"


OTHER = "name another file"


def inputs_of(space: Space, *others: str | Path | None) -> list[Path]:
    """The files that a space is made of, and other paths that are given."""
    own = [source.path for source in space.sources if source.path is not None]
    return own + [Path(other) for other in others if other is not None]


def check_output(path: Path, inputs: Iterable[Path] = (), *, streams: bool = False) -> None:
    """
    Args:
        inputs: what is read; nothing of it may be replaced.
        streams: whether a device or a pipe will do.

    Raises:
        OutputError: the path is a folder, a link, one of the inputs, or cannot be written.
    """
    if streams and is_stream(path):
        return
    try:
        found = path.lstat()
    except FileNotFoundError:
        found = None
    except (OSError, ValueError) as problem:
        raise OutputError(f"{path} cannot be written: {getattr(problem, 'strerror', problem)}", OTHER) from None
    if found is not None:
        _check_what_is_there(path, found, inputs)
    _check_folder(path)


def _check_what_is_there(path: Path, found: os.stat_result, inputs: Iterable[Path]) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise OutputError(f"{path} is a folder", "name a file in it")
    if any(_same(path, one) for one in inputs):
        raise OutputError(f"{path} is read here, and would be replaced", OTHER)
    if stat.S_ISLNK(found.st_mode):
        raise OutputError(f"{path} is a link to {os.readlink(path)}", "name the file itself, or another one")
    if not stat.S_ISREG(found.st_mode):
        raise OutputError(f"{path} is a device or a pipe, and no file", OTHER)
    if not os.access(path, os.W_OK):
        raise OutputError(f"{path} may not be written", OTHER)


def _same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except (OSError, ValueError):
        return False


def _check_folder(path: Path) -> None:
    """
    Raises:
        OutputError: the folder is not there and cannot be made, or nothing can be written in it.
    """
    folder = path.parent
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as problem:
        where = "" if folder == path.parent else f" in {folder}"
        reason = f"{problem.strerror}{where}"
        raise OutputError(f"{path} cannot be written: {reason}", OTHER) from None


def check_result(path: Path, inputs: Iterable[Path] = ()) -> None:
    """As `check_output`, for a result file: one that is there already is a result, too.

    Raises:
        OutputError: what is there was not written by nasdsl.
    """
    check_output(path, inputs)
    if path.exists() and not is_result(path):
        raise OutputError(f"{path} is there already, and is no result of nasdsl's", OTHER)


def is_result(path: Path) -> bool:
    """Whether a file is as nasdsl writes results: it names one file with the hash of what that says, and derives one
    space from it."""
    try:
        items = parse(read(path)).items
    except CompileError:
        return False
    used = [item.path.value for item in items if isinstance(item, Use)]
    return len(used) == 1 and "#" in used[0] and len(items) == 2 and isinstance(items[1], Derived)


def check_weights(path: Path, inputs: Iterable[Path] = ()) -> None:
    """As `check_output`, for weights: what is there already was written by nasdsl.

    Raises:
        OutputError: it is another file.
    """
    check_output(path, inputs)
    if path.exists() and path.stat().st_size and not _are_weights(path):
        raise OutputError(f"{path} is there already, and are no weights of nasdsl's", OTHER)


def _are_weights(path: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            return "digest" in dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, RuntimeError):
        return False


def is_stream(path: Path) -> bool:
    """Whether a path is a device or a pipe, such as `/dev/stdout`, and not a file that has a name."""
    if path.is_symlink() and not path.is_relative_to("/dev") and not path.is_relative_to("/proc"):
        return False
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def write_output(path: Path, text: str) -> None:
    """Writes a text where a command was told to: whole to a file, straight into a device or a pipe."""
    if is_stream(path):
        with path.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
    else:
        write_text(path, text)
