"""Trials in a database: what is written can be read, several workers share a study, and kills lose nothing."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import text

import nasdsl
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.evolution.candidates import Candidates
from nasdsl.runtime.evolution.loop import Search
from nasdsl.runtime.evolution.objectives import Objectives
from nasdsl.runtime.evolution.registry import METHODS
from nasdsl.runtime.evolution.trial import Ledger, Memory, Proposal, Trial
from nasdsl.runtime.storage import database_url
from nasdsl.runtime.trials import Database, read_database
from tests import trial_worker

TESTS = Path(__file__).parent

KILLED = int(os.environ.get("NASDSL_KILLED_TRIALS", "24"))
"""Evaluations of the searches whose workers are killed."""


@pytest.fixture(scope="module")
def space() -> Any:
    return nasdsl.loads(trial_worker.SPACE)


def opened(url: str, space: Any, **changes: Any) -> Database:
    about = {"space": space.digest(), "seed": 0} | changes.pop("about", {})
    return Database(url, changes.pop("name", "many"), {"worth": True}, about, space.graph.decisions, 1)


def searched(space: Any, ledger: Ledger, trials: int, seed: int = 0, method: str = "regularised") -> list[Trial]:
    objectives = Objectives({"worth": True})
    candidates = Candidates(space.graph, None, functions=False)
    evaluator = trial_worker.Slow(space, 0)
    search = Search(candidates, evaluator, objectives, METHODS[method](), ledger, trials, seed)
    return search.run()


def facts(trials: list[Trial]) -> list[Any]:
    """All that must not depend on where trials are kept, and when."""
    return [
        (t.index, dict(t.proposal.architecture), t.proposal.key, t.proposal.seed, t.proposal.parents, t.objectives)
        for t in trials
    ]


def proposal(key: str, **changes: Any) -> Proposal:
    given: dict[str, Any] = {"architecture": {"a": 1}, "key": key, "function": key, "costs": {"macs": 5, "params": 7}}
    return Proposal(**(given | {"seed": 3} | changes))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return database_url(None, tmp_path)
    return str(request.getfixturevalue("postgresql"))


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """A PostgreSQL server of its own, which ends with the tests."""
    debian = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)  # which is not in the path
    path = os.pathsep.join([os.environ.get("PATH", ""), *debian])
    initdb, postgres = shutil.which("initdb", path=path), shutil.which("postgres", path=path)
    if initdb is None or postgres is None:
        pytest.skip("PostgreSQL's initdb and postgres are not installed")
    folder = Path("/tmp") / f"nasdsl_postgresql_{os.getpid()}"
    folder.mkdir()
    user: dict[str, Any] = {}
    if os.getuid() == 0:  # which the server refuses to be
        import pwd

        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    quiet: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "cwd": folder, **user}
    made = subprocess.run([initdb, "-D", folder / "data", "-A", "trust", "-U", "me", "-N"], check=False, **quiet)
    if made.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"initdb does not work here: {made.stdout.decode()[-200:]}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [postgres, "-D", folder / "data", "-p", str(port), "-k", folder, "-h", "127.0.0.1", "-F"],
            **{**quiet, "stdout": log},
        )
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield "127.0.0.1", port
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgresql(postgresql_server: tuple[str, int], request: pytest.FixtureRequest) -> str:
    """The URL of an empty database."""
    import psycopg

    host, port = postgresql_server
    name = f"trials_{abs(hash(request.node.name)) % 10**9}"
    with psycopg.connect(host=host, port=port, user="me", dbname="postgres", autocommit=True) as connection:
        connection.execute(f"create database {name}".encode())
    return f"postgresql+psycopg://me@{host}:{port}/{name}"


# --- One worker -------------------------------------------------------------------------------------------------------


def test_a_search_in_a_database_is_the_one_in_memory(space: Any, url: str) -> None:
    expected = facts(searched(space, Memory(), 30))
    ledger = opened(url, space)
    assert facts(searched(space, ledger, 30)) == expected
    ledger.close()


def test_a_search_goes_on_as_if_it_had_not_stopped(space: Any, tmp_path: Path) -> None:
    expected = facts(searched(space, Memory(), 40, seed=5))
    for trials in (7, 23, 40):
        ledger = opened(database_url(None, tmp_path), space)
        found = searched(space, ledger, trials, seed=5)
        ledger.close()
        assert facts(found) == expected[:trials]


def test_another_seed_gives_other_trials(space: Any) -> None:
    first, other = (searched(space, Memory(), 30, seed) for seed in (0, 1))
    assert {t.proposal.key for t in first} != {t.proposal.key for t in other}


def test_all_of_a_trial_can_be_read_again(space: Any, url: str) -> None:
    ledger = opened(url, space)
    given = proposal("k", parents=(4, 2), notes={"x": [1, "y"]}, architecture={"a": 1, "b": ["c", 2]})
    ledger.add(given)
    trial = ledger.claim(5)
    assert trial is not None and trial.state == "running"
    ledger.finish(trial, (0.25,), {"worth": 0.25, "loss": 1.5}, 2.5)
    ledger.close()
    again = read_database(url, "many")
    (found,) = again.trials.values()
    again.close()
    assert found.proposal == given
    assert (found.objectives, found.metrics, found.seconds) == ((0.25,), {"worth": 0.25, "loss": 1.5}, 2.5)
    assert again.directions == {"worth": True}


def test_another_space_is_refused(space: Any, tmp_path: Path) -> None:
    url = database_url(None, tmp_path)
    opened(url, space).close()
    with pytest.raises(RunError, match="was started with another space"):
        opened(url, space, about={"space": "other"})
    opened(url, space, name="second", about={"space": "other"}).close()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("nothing://x", "cannot be opened"),
        ("sqlite:////no/such/folder/x.db", "cannot be opened: unable to open database file"),
        ("postgresql://me:secret@127.0.0.1:1/x", "cannot be opened: .*(refused|failed)"),
        ("not a url", "cannot be opened"),
    ],
)
def test_a_database_that_is_not_there(space: Any, wrong: str, message: str) -> None:
    with pytest.raises(RunError, match=message) as refused:
        opened(wrong, space)
    assert "secret" not in str(refused.value)


def test_a_study_that_is_not_there(space: Any, tmp_path: Path) -> None:
    url = database_url(None, tmp_path)
    opened(url, space).close()
    with pytest.raises(RunError, match="no study `other`: the database has `many`"):
        read_database(url, "other")
    only = read_database(url, None)
    only.close()


# --- Several workers --------------------------------------------------------------------------------------------------


def test_of_two_workers_with_one_idea_one_evaluates_it(space: Any, url: str) -> None:
    one, other = opened(url, space), opened(url, space)
    one.add(proposal("same"))
    other.add(proposal("same"))  # it has not looked since
    other.add(proposal("key", function="same"))
    found = []
    for ledger in (other, one, other, one):
        ledger.refresh()
        found.append(ledger.claim(10))
    taken = [trial for trial in found if trial is not None]
    assert [trial.number for trial in taken] == [0]
    one.refresh()
    assert list(one.trials) == [0] and one.proposed == 3
    one.close()
    other.close()


def test_a_waiting_trial_is_taken_once(space: Any, url: str) -> None:
    """Both have seen it waiting; the state decides."""
    one, other = opened(url, space), opened(url, space)
    one.add(proposal("a"))
    for ledger in (one, other):
        ledger.refresh()
    assert one._take(0)
    assert not other._take(0)
    one.close()
    other.close()


def test_no_more_trials_than_wanted(space: Any, url: str) -> None:
    workers = [opened(url, space) for _ in range(3)]
    for number, worker in enumerate(workers):
        worker.add(proposal(f"k{number}"))
    found = []
    for worker in workers:
        worker.refresh()
        found.append(worker.claim(2))
    assert [trial.index for trial in found if trial is not None] == [0, 1]
    for worker in workers:
        worker.close()


def test_a_trial_that_is_given_back_is_taken_up_again(space: Any, url: str) -> None:
    one, other = opened(url, space), opened(url, space)
    one.add(proposal("a", seed=11))
    trial = one.claim(5)
    assert trial is not None
    one.give_back(trial)
    other.refresh()
    again = other.claim(5)
    assert again is not None and again.number != trial.number
    assert (again.index, again.proposal) == (trial.index, trial.proposal)
    one.finish(trial, (1.0,), {}, 0.0)  # too late: nothing happens
    other.finish(again, (2.0,), {}, 0.0)
    one.refresh()
    assert [t.objectives for t in one.trials.values()] == [(2.0,)]
    one.close()
    other.close()


def test_what_a_dead_worker_had_in_hand_is_found_by_its_heartbeat(space: Any, url: str) -> None:
    """Of another machine, whose processes cannot be asked."""
    one, other = opened(url, space), opened(url, space)
    one._me = {"machine": "elsewhere", "pid": 1, "born": "1"}
    one.add(proposal("a"))
    trial = one.claim(5)
    one._pulse.close()
    assert trial is not None
    other.refresh()
    assert other.claim(5) is None
    with one._database.engine.begin() as connection:
        connection.execute(text("update trial_heartbeats set heartbeat = '2001-01-01 00:00:00'"))
    other._looked = float("-inf")
    again = other.claim(5)
    assert again is not None and again.proposal == trial.proposal
    one._database.engine.dispose()
    other.close()


def test_a_failed_attempt_without_an_heir_gets_one(space: Any, url: str) -> None:
    """Its worker was killed between failing it and writing it anew; and then two others write it anew."""
    one, other = opened(url, space), opened(url, space)
    one.add(proposal("a"))
    trial = one.claim(5)
    assert trial is not None
    one._pulse.end(one._attempts[trial.number]._trial_id)
    assert one._failed(trial.number)
    one._mine.clear()
    for ledger in (one, other):
        ledger.refresh()
    for ledger in (one, other):
        ledger._write(trial.proposal, 0, 0)
    found = []
    for ledger in (one, other, one, other):
        ledger.refresh()
        found.append(ledger.claim(5))
    assert [t.index for t in found if t is not None] == [0]
    one.close()
    other.close()


def test_a_trial_that_cannot_be_evaluated_is_not_tried_again(space: Any, url: str) -> None:
    ledger = opened(url, space)
    ledger.add(proposal("a"))
    trial = ledger.claim(5)
    assert trial is not None
    ledger.fail(trial, "out of memory")
    assert ledger.claim(5) is None
    assert [(t.state, t.error) for t in ledger.trials.values()] == [("failed", "out of memory")]
    ledger.close()


# --- Kills ------------------------------------------------------------------------------------------------------------


def started(url: str, log: Path) -> multiprocessing.context.ForkProcess:
    """A worker in a fork, which is at work at once."""
    worker = multiprocessing.get_context("fork").Process(target=trial_worker.main, args=(url, KILLED, log, 0.05))
    worker.start()
    return worker


def test_killed_workers_lose_nothing(space: Any, url: str, tmp_path: Path) -> None:
    """Two workers, one of which is killed at random moments and started again."""
    rng, log = random.Random(0), tmp_path / "log"
    steady, killed = started(url, log), started(url, log)
    kills, end = 0, time.monotonic() + 240 + KILLED
    while steady.is_alive() and time.monotonic() < end:
        time.sleep(rng.uniform(0.1, 1.0))
        if steady.is_alive() and killed.is_alive():
            killed.kill()
            kills += 1
        killed.join()
        killed = started(url, log)
    for worker in (steady, killed):
        worker.join(120)
    assert (steady.exitcode, killed.exitcode) == (0, 0)
    print(f"{kills} kills")

    storage = RDBStorage(url)
    attempts = storage.get_all_trials(storage.get_study_id_from_name("many"))
    complete = [attempt for attempt in attempts if attempt.state == TrialState.COMPLETE]
    assert all(attempt.state.is_finished() for attempt in attempts), "a trial is stuck"
    keys = [attempt.user_attrs["key"] for attempt in complete]
    assert len(keys) == len(set(keys)) == KILLED, "a duplicate, or too many"
    assert set(log.read_text().split()) <= set(keys), "a finished trial is lost"
    for attempt in attempts:
        if attempt.state == TrialState.FAIL and not {"withdrawn", "superseded"} & set(attempt.user_attrs):
            assert attempt.user_attrs["key"] in keys, "a killed worker's trial was not taken up again"
    for attempt in complete:
        assert attempt.values == [trial_worker.worth(attempt.user_attrs["architecture"])]
    originals = {attempt.number: attempt for attempt in attempts}
    for attempt in attempts:
        if "root" in attempt.user_attrs:
            first = originals[attempt.user_attrs["root"]]
            for name in ("architecture", "seed", "key"):
                assert json.dumps(attempt.user_attrs[name]) == json.dumps(first.user_attrs[name])
    storage.remove_session()
    storage.engine.dispose()
