"""The folder of a run: checkpoint, history, TensorBoard events, and what it was started with."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field

from nasdsl.compiler.files import PART, to_json, write_text
from nasdsl.compiler.stored import Stored
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.stored import OTHER, read_stored

if TYPE_CHECKING:
    from nasdsl.runtime.trainer import Trainer

ABOUT = "run.json"
"""The file that makes a folder a run: what the run was started with."""
TRAINING = "train"
"""What the training of an architecture is called where searches have their names."""
HISTORY = "history.jsonl"
"""What was measured while a network was trained, one JSON record a line."""
KEPT = "kept"
"""What a record of the history calls the search units that are left, by path, where they are fewer than in the last
one."""


class About(Stored):
    """What a run was started with, and must be gone on with.

    Attributes:
        space: the digest of the space.
        search: the strategy; `train` for the training of an architecture.
        data, latency: what was read, by name or by a hash of its content; left out where nothing was. Whatever else was
            read, such as a `table`, stands beside them.
        measured: by the names of other measures, the same of what they are read from.
        init: the files of first weights, with a hash of the content of each.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, str] = Field(init=False)

    space: str
    search: str
    seed: int
    settings: dict[str, Any]
    data: str | None = None
    latency: str | None = None
    measured: dict[str, str] | None = None
    init: dict[str, str] | None = None

    def told(self) -> dict[str, Any]:
        """What was set, as JSON has it."""
        return self.model_dump(mode="json", exclude_unset=True)


def is_part(file: Path) -> bool:
    """Whether a file is what a killed writer left behind."""
    return file.name.startswith(".") and file.suffix == PART


OWN = re.compile(
    r"(run|space|result|decoded)\.json|(history|candidates|choices)\.jsonl|(checkpoint\.pt|supernet\.safetensors)|"
    r"report\.html|trials\.db(-wal|-shm|-journal)?"
)
"""Names of the files that runs write into their folders."""
EVENTS = "events"
"""The folder in a run's folder with its TensorBoard events."""
BEFORE = ".before"
"""Where the run that `--fresh` replaces lies until the new one has done something."""
OWNER = "owner"
"""The file there that says which process has put it there."""
WORK = ("checkpoint.pt", HISTORY, "candidates.jsonl", "choices.jsonl")
"""Files that show that a run has done something."""


def own_files(path: Path) -> list[Path]:
    """What a run has written into its folder, what makes it a run last. All else is somebody else's."""
    events = path / EVENTS
    files = [file for file in path.iterdir() if OWN.fullmatch(file.name) or is_part(file)]
    if events.is_dir() and not events.is_symlink():
        files += [file for file in events.iterdir() if file.name.startswith("events.out.tfevents.")]
    files = [file for file in files if file.is_symlink() or file.is_file()]
    return sorted(files, key=lambda file: file.name == ABOUT)


def refuse_links(path: Path) -> None:
    """
    Raises:
        RunError: in the folder of a run, a link has the name of a file of the run's: what it leads to is not the run's.
    """
    for file in sorted(path.iterdir()) if path.is_dir() else []:
        if file.is_symlink() and (OWN.fullmatch(file.name) or file.name in (EVENTS, BEFORE)):
            raise RunError(f"{file} is a link, and a run keeps its files in its own folder", "remove the link")


def _somebody_elses(path: Path) -> bool:
    """Whether files lie in a folder that holds no run."""
    return path.exists() and any(file.is_file() and not is_part(file) for file in path.rglob("*"))


def set_aside(path: Path, search: str) -> None:
    """Takes the run in a folder out of the way of a new one, which may be refused yet: `put_back` and `drop_before`
    say what becomes of it. What no run has written stays where it is.

    Args:
        search: the kind of the new run.

    Raises:
        RunError: the folder holds no run, or one of another kind.
    """
    if not (path / ABOUT).is_file():
        if _somebody_elses(path):
            raise RunError(f"{path} holds no run, so `--fresh` does not remove anything there")
        return
    kind = _kind(path / ABOUT)
    if kind is not None and kind != search:
        raise _of_another_kind(path, kind)
    write_text(path / BEFORE / OWNER, _process(os.getpid()))
    for file in own_files(path):
        away = path / BEFORE / file.relative_to(path)
        away.parent.mkdir(parents=True, exist_ok=True)
        file.replace(away)


def put_back(path: Path) -> None:
    """The run that was set aside, in its place again if no other one has done anything there, or is about to."""
    away = path / BEFORE
    if away.is_symlink() or not away.is_dir() or _owner_lives(away / OWNER):
        return
    if not has_work(path) and (away / ABOUT).is_file():
        remove_own(path)
        for file in own_files(away):
            place = path / file.relative_to(away)
            place.parent.mkdir(parents=True, exist_ok=True)
            file.replace(place)
    drop_before(path)


def _process(number: int) -> str:
    """A process, so that it is not taken for a later one of the same number."""
    from nasdsl.runtime.heartbeat import born, machine  # brings optuna, which not every run needs

    return f"{machine()}\n{number}\n{born(number)}"


def _owner_lives(file: Path) -> bool:
    """Whether another process that has set a run aside is still at work."""
    try:
        told = file.read_text(encoding="utf-8")
        process = int(told.split("\n")[1])
    except (OSError, ValueError, IndexError):
        return False
    return process != os.getpid() and told == _process(process)


def give_up(run: RunFolder) -> None:
    """Takes back that a folder is a run's: the run that was set aside is put back, and without one the folders that
    were made for it go."""
    path = run.path
    if not (path / BEFORE).is_dir() and {file for file in path.rglob("*") if file.is_file()} - {*own_files(path)}:
        return  # a search of another package may keep its work there
    remove_own(path)
    put_back(path)
    for folder in run.made:
        _remove_empty(folder)


def drop_before(path: Path) -> None:
    """Removes the run that was set aside."""
    away = path / BEFORE
    if not away.is_symlink() and away.is_dir():
        remove_own(away)
        (away / OWNER).unlink(missing_ok=True)
        _remove_empty(away)


def remove_own(path: Path) -> None:
    """Removes what a run has written into its folder. What makes it a run goes last, so that a removal that was killed
    can be repeated."""
    for file in own_files(path):
        file.unlink(missing_ok=True)
    _remove_empty(path / EVENTS)


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it is not empty, or not there
        folder.rmdir()


def has_work(path: Path) -> bool:
    """Whether the run in a folder has done anything that would be lost."""
    return any((path / name).exists() for name in WORK) or _has_trials(path / DATABASE)


DATABASE = "trials.db"
"""The SQLite file in the folder of a run that keeps trials."""


UNTOUCHED = ("WAITING", "FAIL")
"""States of a trial that nobody has begun, or that was given back unevaluated ..."""
TOLD = ("error", "withdrawn", "superseded")
"""... if it has none of these attributes."""
BEGUN = f"""
    select 1 from trials where state not in {UNTOUCHED} union all
    select 1 from trial_user_attributes where key in {TOLD} limit 1
"""
"""Asks for a trial that somebody is at or has ended; one that was given back unevaluated is none."""


def _has_trials(file: Path) -> bool:
    """Whether a database of trials has one that somebody has begun with; one that cannot be read may have."""
    if not file.is_file():
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as database:
            return bool(database.execute(BEGUN).fetchone())
    except sqlite3.OperationalError as problem:
        return "no such table" not in str(problem)
    except sqlite3.DatabaseError:
        return True


def _kind(file: Path) -> str | None:
    """Which search a run is of; None where that cannot be read."""
    try:
        told = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    kind = told.get("search") if isinstance(told, dict) else None
    return kind if isinstance(kind, str) else None


def _of_another_kind(path: Path, kind: str) -> RunError:
    what = "a training (`nasdsl train`)" if kind == TRAINING else f"a run of `search {kind}`"
    return RunError(f"{path} holds {what}, another search than this", "name another folder with `--run`")


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
            inner = "" if key == "settings" else f"{key}."  # as `--set` names them; the whole of `init` has no name
            yield from ((f"{inner}{name}".removesuffix("."), a, b) for name, a, b in _differences(old, new))
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
    """One run on disk. A run that stopped goes on from its checkpoint; one started with something else is refused.

    Attributes:
        kept: whether the folder outlives the run. Of one that doesn't there are no checkpoints and no events.
    """

    kept = True

    def __init__(self, path: Path, about: About):
        """
        Args:
            about: what must be the same to go on.

        Raises:
            RunError: the folder holds a run with another beginning, or is something else.
        """
        self.path = path
        self.about = about
        self.made: list[Path] = []  # folders that were not there before, the innermost first
        file = path / ABOUT
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is not a folder")
        self.resumed = file.exists()
        if self.resumed:
            self._compare(file)
        else:
            if not (path / BEFORE).is_dir() and _somebody_elses(path):
                raise RunError(f"the folder {path} is not empty and holds no run", "name another folder with `--run`")
            write_text(file, to_json(about.told(), indent=2) + "\n")

    def _compare(self, file: Path) -> None:
        help = "name another folder with `--run`, or `--fresh` to start over"
        before = read_stored(About, file, "what a run was started with", f"{OTHER}; {help}")
        if before.search != self.about.search:
            raise _of_another_kind(self.path, before.search)
        if changed := started_with(before.told(), self.about.told()):
            raise RunError(
                f"{self.path} holds a run that was started with {changed}",
                help,
            )

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.pt"

    def save(self, state: dict[str, Any]) -> None:
        from nasdsl.runtime.checkpoint import save_checkpoint  # brings torch, which not every run needs

        if not self.kept:
            return
        save_checkpoint(self.checkpoint, state)

    def restore(self, trainer: Trainer) -> bool:
        """Puts a trainer where the last checkpoint was written; False where there is none yet.

        Raises:
            RunError: it cannot be read, or is that of another training.
        """
        from nasdsl.runtime.checkpoint import load_checkpoint

        if not self.checkpoint.exists():
            return False
        try:
            trainer.load(load_checkpoint(self.checkpoint))
        except RunError as problem:
            help = f"{problem.help}; use `--fresh` to start over" if problem.help else "use `--fresh` to start over"
            raise RunError(f"{self.checkpoint} {problem.message}", help) from None
        if trainer.fabric.is_global_zero:  # whatever happened to these files
            self.write_records({HISTORY: trainer.rows})
            if trainer.beside is not None:
                self.write_records(trainer.beside.records())
        return True

    def write_records(self, records: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """All that was measured so far, by the name of the file, one JSON record a line."""
        for name, rows in records.items():
            write_text(self.path / name, "".join(to_json(row) + "\n" for row in rows))


class Board:
    """TensorBoard events next to the run. They are for the eye: after a resume a few steps may stand there twice."""

    def __init__(self, path: Path):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(path))

    def scalars(self, row: dict[str, Any], step: int) -> None:
        for name, value in row.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                self.writer.add_scalar(name, value, step)

    def measured(self, row: dict[str, Any], step: int) -> None:
        """A row of the history; when it was measured is the step."""
        self.scalars({key: value for key, value in row.items() if key not in ("step", "epoch")}, step)

    def histogram(self, name: str, values: Any, step: int) -> None:
        self.writer.add_histogram(name, values, step)

    def close(self) -> None:
        self.writer.close()
