"""Who works in a run's folder. A lock on the folder itself, which dies with its process, and leaves no file behind."""

from __future__ import annotations

import os
from pathlib import Path

from nasdsl.runtime.errors import RunError

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

_HELD: dict[Path, int] = {}
"""The folders that this process works in, and what is open of them. It may go on in one where it has begun."""


def hold(folder: Path, shared: bool = False, replaces: bool = False) -> None:
    """Keeps a folder that is there for this process until `let_go`, or until it ends, however that happens.

    Args:
        shared: with other processes that share it, such as workers of one search.
        replaces: what is in the folder is about to be replaced, so that nobody else may be at work now.

    Raises:
        RunError: another process works there.
    """
    if fcntl is None:
        return
    place = folder.resolve()
    handle = _HELD.get(place)
    if handle is None or not os.path.samestat(os.fstat(handle), place.stat()):
        let_go(folder)
        handle = os.open(place, os.O_RDONLY)
    try:
        for alone in (True, False) if replaces and shared else (not shared,):
            fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        if handle != _HELD.get(place):
            os.close(handle)
        raise RunError(
            f"another process is at work in {folder}", "wait until it has ended, or name another folder with `--run`"
        ) from None
    except OSError:  # some network file systems have no locks
        pass
    _HELD[place] = handle


def let_go(folder: Path) -> None:
    """Gives a folder back, if this process has it."""
    handle = _HELD.pop(folder.resolve(), None)
    if handle is not None:
        os.close(handle)
