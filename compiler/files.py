"""Files that are there whole or not at all, and their names as text."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import stat
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote_to_bytes

PART = ".part"
"""The ending of what a killed writer may leave behind. Nothing reads such a file."""
LONGEST_BEGINNING = 200
"""Bytes of a file's name that the name of its unfinished part begins with: names have 255."""


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Writes beside the file and renames, so that a reader (or a killed writer) never sees half of it. A file that is
    replaced passes its mode and its owner on; a link is replaced, and not what it leads to.

    Raises:
        OSError: the file cannot be written, or a folder, a pipe or a device has its name.
    """
    before = _replaced(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _unfinished(path, write, before)
    try:
        os.replace(temporary, path)
    except BaseException:  # an interrupt too leaves nothing behind
        temporary.unlink(missing_ok=True)
        raise


def _replaced(path: Path) -> os.stat_result | None:
    """The file that a new one would replace.

    Raises:
        OSError: it is no file.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISLNK(found.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, and no file", str(path))
    return found if stat.S_ISREG(found.st_mode) else None


def _unfinished(path: Path, write: Callable[[IO[bytes]], object], before: os.stat_result | None) -> Path:
    """A file beside `path` with all that it is to have, also its mode."""
    beginning = os.fsdecode(os.fsencode(path.name)[:LONGEST_BEGINNING])
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{beginning}.", suffix=PART)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if before is None:
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)  # mkstemp's files are private
        else:
            if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                with contextlib.suppress(OSError):  # only root may give files away
                    os.chown(temporary, before.st_uid, before.st_gid)
            temporary.chmod(stat.S_IMODE(before.st_mode))
    except BaseException:  # an interrupt too: nothing half-written stays
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def read_whole(path: Path, most: int) -> bytes:
    """The bytes of a file. A pipe or a device is none: reading it may wait for ever, or never end.

    Raises:
        OSError: there is no such file, or it has more than `most` bytes (errno EFBIG).
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is a pipe or a device, and no file", str(path))
        data = b"" if found.st_size > most else file.read(most + 1)
        size = max(found.st_size, len(data))
        if size > most:
            raise OSError(errno.EFBIG, f"it has {size:,} bytes, and at most {most:,} are read", str(path))
        return data


def to_json(value: Any, indent: int | None = None, separators: tuple[str, str] | None = None) -> str:
    """JSON that every reader takes: what is no finite number is `null` (RFC 8259 has no word for it), and what is no
    ASCII is escaped."""
    return json.dumps(_finite(value), indent=indent, separators=separators, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_finite(key) if isinstance(key, float) else key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def write_text(path: Path, text: str) -> None:
    """A text file in UTF-8."""
    write_whole(path, lambda file: file.write(text.encode()))


# --- Names ------------------------------------------------------------------------------------------------------------

_UNWRITABLE = re.compile(r'[\x00-\x1f"%\x7f-\x9f\u2028\u2029\ud800-\udfff]')


def quoted(path: str) -> str:
    """A path as a string of the language, or of JSON, can hold it: quotes, control characters and bytes that are no
    text are written `%22`, and so is `%` itself."""
    return _UNWRITABLE.sub(lambda found: "".join(f"%{byte:02X}" for byte in os.fsencode(found.group())), path)


def unquoted(text: str) -> str:
    """The path that `quoted` was given."""
    return os.fsdecode(unquote_to_bytes(text))
