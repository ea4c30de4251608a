"""Optuna's storage at a URL, opened or refused in the user's words. An SQLite file by default."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, OptunaError, StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import create_engine, event, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from nasdsl.runtime.errors import RunError

DATABASE = "trials.db"
"""The SQLite file in the folder of a run."""
PATIENCE_SECONDS = 60
TRIES = 10


def database_url(storage: str | None, folder: Path) -> str:
    """The URL of a database; by default an SQLite file in the folder."""
    return storage if storage is not None else f"sqlite:///{(folder / DATABASE).resolve()}"


@contextmanager
def told_of_trials(help: str = "") -> Iterator[None]:
    """Inside, a database that fails, or holds what Optuna cannot read, is a RunError."""
    try:
        yield
    except (SQLAlchemyError, OptunaError, JSONDecodeError) as problem:
        raise RunError(f"the database of the trials has failed: {_first_line(problem)}", help) from problem


def open_storage(url: str, heartbeat: int, to_read: bool = False) -> RDBStorage:
    """
    Args:
        heartbeat: seconds between signs of life; after four of them a worker counts as dead.
        to_read: whether only what is there is looked at: nothing is made of a database without trials.

    Raises:
        RunError: there is no such database, or no driver for it.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if to_read:
        _check_trials(url)
    begun = time.monotonic()
    for attempt in range(TRIES):
        try:
            return _opened(url, heartbeat)
        except ImportError as problem:
            raise RunError(
                f"no driver for the database {_hidden(url)} is installed", _driver(url) or str(problem)
            ) from None
        except (SQLAlchemyError, StorageInternalError, RuntimeError, ValueError) as problem:
            # Several workers that create the tables of an empty database at once get in each other's way.
            late = attempt == TRIES - 1 or time.monotonic() - begun > PATIENCE_SECONDS  # locked: it has waited already
            if late or isinstance(problem, ValueError | RuntimeError) or _hopeless(problem):
                raise RunError(f"the database {_hidden(url)} cannot be opened: {_first_line(problem)}") from None
            time.sleep(0.05 * 2 ** min(attempt, 4))
    raise AssertionError


def _check_trials(url: str) -> None:
    """
    Raises:
        RunError: there is no such database, or no program has kept trials in it.
    """
    try:
        place = make_url(url)
        if place.get_backend_name() == "sqlite" and not place.query and not Path(place.database or "").is_file():
            raise RunError(f"there is no database {_hidden(url)}", "an SQLite file is named as `sqlite:///FOLDER/FILE`")
        engine = create_engine(place)
        try:
            known = inspect(engine).has_table("studies")
        finally:
            engine.dispose()
    except ImportError as problem:
        raise RunError(
            f"no driver for the database {_hidden(url)} is installed", _driver(url) or str(problem)
        ) from None
    except (SQLAlchemyError, ValueError) as problem:
        raise RunError(f"the database {_hidden(url)} cannot be opened: {_first_line(problem)}") from None
    if not known:
        raise RunError(f"the database {_hidden(url)} has no trials")


def _opened(url: str, heartbeat: int) -> RDBStorage:
    sqlite = url.startswith("sqlite")
    options: dict[str, Any] = {"pool_pre_ping": True}
    if sqlite:
        options = {"connect_args": {"timeout": PATIENCE_SECONDS}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        storage = RDBStorage(url, options, heartbeat_interval=heartbeat, grace_period=4 * heartbeat)
    if sqlite:
        _lock_from_the_beginning(storage)
    return storage


def _lock_from_the_beginning(storage: RDBStorage) -> None:
    """SQLite's transactions take the lock for writing when they begin, not when they write: what a transaction has read
    is then still so when it writes. Python's driver would not even begin one for reading."""

    def connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        connection.execute("pragma journal_mode = wal")  # a commit need not wait for the disk
        connection.execute("pragma synchronous = normal")

    def begun(connection: Any) -> None:
        connection.exec_driver_sql("begin immediate")

    event.listen(storage.engine, "connect", connected)
    event.listen(storage.engine, "begin", begun)
    storage.engine.dispose()  # connections of before


def _hopeless(problem: Exception) -> bool:
    text = str(problem).lower()
    return not any(word in text for word in ("exist", "unique", "locked", "duplicate", "integrity", "commit"))


def _first_line(problem: Exception) -> str:
    cause = problem.__cause__ or problem
    return (str(getattr(cause, "orig", None) or cause).strip() or type(cause).__name__).splitlines()[0]


def _driver(url: str) -> str:
    return "`pip install nasdsl[postgresql]` brings it" if url.startswith("postgresql") else ""


def _hidden(url: str) -> str:
    """Without the password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return url
