"""Who works on a trial, and whether that process still lives."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError


def machine() -> str:
    """What two processes have in common that see each other's numbers; empty where that cannot be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def born(pid: int) -> str:
    """When a process began, in ticks; empty where there is none."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if facts[0] in "ZX" else facts[19]  # of one that is dead nothing is left but that it was


class Heartbeat:
    """Signs of life of the trials in hand, while they are evaluated."""

    def __init__(self, storage: Any, seconds: int):
        self.storage, self.seconds = storage, seconds
        self._trials: set[int] = set()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, trial: int) -> None:
        self._trials.add(trial)
        if self._thread is None:
            self._thread = threading.Thread(target=self._beat, daemon=True)
            self._thread.start()

    def _beat(self) -> None:
        while not self._over.wait(self.seconds):
            try:
                for trial in tuple(self._trials):
                    self.storage.record_heartbeat(trial)
            except (SQLAlchemyError, StorageInternalError):
                pass  # the database is busy or away; there are three more before anyone draws conclusions

    def end(self, trial: int) -> None:
        self._trials.discard(trial)

    def close(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
