"""The folder of a run: checkpoint, history, TensorBoard events, and what it was started with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nasdsl.compiler.diagnostics import NasdslError
from nasdsl.compiler.files import PART, write_text

ABOUT = "run.json"
"""The file that makes a folder a run: what the run was started with."""


class RunError(NasdslError):
    """A run that cannot begin or go on: its folder, its trials, or what it evaluates with."""

    code = "run"


def is_part(file: Path) -> bool:
    """Whether a file is what a killed writer left behind."""
    return file.name.startswith(".") and file.suffix == PART


def clear(path: Path) -> None:
    """Removes the run in a folder. What makes it a run goes last, so that a removal that was killed can be repeated.

    Raises:
        RunError: the folder holds no run.
    """
    files = [file for file in path.rglob("*") if file.is_file()]
    about = path / ABOUT
    if about not in files and not all(is_part(file) for file in files):
        raise RunError(f"{path} holds no run, so `--fresh` does not remove anything there")
    for file in sorted(files, key=lambda file: file == about):
        file.unlink(missing_ok=True)


LONGEST = 40  # characters of a value that a message shows
MOST = 5  # differences that it tells
DIGEST = re.compile(r"[0-9a-f]{12,}")


def started_with(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What a run was started with where it is not what it would be started with now, as the end of a sentence: `another
    space, another method (local, now nsga2)`; empty where nothing differs."""
    found = [_told(*one) for one in _differences(before, now)]
    more = [f"{len(found) - MOST} more"] if len(found) > MOST else []
    return ", ".join(found[:MOST] + more)


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The names of what differs, and both values; in records their entries."""
    for key in {**before, **now}:
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            inner = "" if key == "settings" else f"{key}."  # as `--set` names them
            yield from ((inner + name, a, b) for name, a, b in _differences(old, new))
        elif old != new or key not in before or key not in now:
            yield key, old, new


def _told(name: str, old: Any, new: Any) -> str:
    shown = [_short(old), _short(new)]
    if shown[0] == shown[1] or any(len(one) > LONGEST or DIGEST.fullmatch(one) for one in shown):
        return f"another {name}"
    return f"another {name} ({shown[0]}, now {shown[1]})"


def _short(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)


class RunFolder:
    """One run on disk. A run that stopped goes on from its checkpoint; one started with something else is refused."""

    def __init__(self, path: Path, identity: dict[str, Any]):
        """
        Args:
            identity: what must be the same to go on: the hash of the space, the data, the seed, the settings.

        Raises:
            RunError: the folder holds a run with another identity, or is something else.
        """
        self.path = path
        self.identity = json.loads(json.dumps(identity))
        about = path / ABOUT
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is not a folder")
        self.resumed = about.exists()
        if self.resumed:
            self._compare(about)
        else:
            if path.exists() and any(file.is_file() and not is_part(file) for file in path.rglob("*")):
                raise RunError(f"the folder {path} is not empty and holds no run", "name another folder with `--run`")
            write_text(about, json.dumps(self.identity, indent=2) + "\n")

    def _compare(self, about: Path) -> None:
        try:
            before = json.loads(about.read_text())
            if not isinstance(before, dict):
                raise ValueError
        except (OSError, ValueError):
            raise RunError(f"{about} cannot be read", "remove the folder, or name another with `--run`") from None
        if changed := started_with(before, self.identity):
            raise RunError(
                f"{self.path} holds a run that was started with {changed}",
                "name another folder with `--run`, or `--fresh` to start over",
            )

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.pt"

    def save(self, state: dict[str, Any]) -> None:
        from nasdsl.runtime.checkpoint import save_checkpoint  # brings torch, which not every run needs

        save_checkpoint(self.checkpoint, state)

    def load(self) -> dict[str, Any] | None:
        """The last checkpoint, or None where there is none yet.

        Raises:
            RunError: it cannot be read.
        """
        from nasdsl.runtime.checkpoint import load_checkpoint

        if not self.checkpoint.exists():
            return None
        try:
            return load_checkpoint(self.checkpoint)
        except Exception as problem:
            raise RunError(f"{self.checkpoint} cannot be read: {problem}", "use `--fresh` to start over") from None

    def write_rows(self, rows: list[dict[str, Any]]) -> None:
        """All that was measured so far, one JSON record a line."""
        write_text(self.path / "history.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


class Board:
    """TensorBoard events next to the run. They are for the eye: after a resume a few steps may stand there twice."""

    def __init__(self, path: Path):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(path))

    def scalars(self, row: dict[str, Any], step: int) -> None:
        for name, value in row.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                self.writer.add_scalar(name, value, step)

    def histogram(self, name: str, values: Any, step: int) -> None:
        self.writer.add_histogram(name, values, step)

    def close(self) -> None:
        self.writer.close()
