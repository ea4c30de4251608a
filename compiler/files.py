"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

PART = ".part"
"""The ending of what a killed writer may leave behind. Nothing reads such a file."""


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Writes beside the file and renames, so that a reader (or a killed writer) never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp's files are private
        os.replace(temporary, path)
    except BaseException:  # an interrupt too leaves nothing behind
        Path(temporary).unlink(missing_ok=True)
        raise


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
