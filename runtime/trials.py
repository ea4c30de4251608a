"""Trials in a database: a ledger in Optuna's storage, an SQLite file or any URL that SQLAlchemy takes.

**Several workers.** A trial is written in one transaction with its architecture and its keys, as waiting. Its number is
given in the same transaction, under a lock on the study (PostgreSQL: the row of the study, `for update`; SQLite: the
lock on the file, which every transaction here takes at its beginning). So whoever can read a number can read every
lower number, and what was written with it. No key changes afterwards.

A worker takes a waiting trial by setting its state, waiting to running, which under the same locks succeeds once. Then
it reads all trials and withdraws its own where another of a lower number has the same key or function and has not been
withdrawn. Of two workers that have drawn the same architecture, whenever they look, the one with the higher number
sees the other, and the one with the lower number need not see anything: exactly one evaluates it. What it reads of
others is final (withdrawn, failed) or harmless: a trial that is withdrawn a moment later has made another one give way
that was not wrong to do so, and that architecture has a lower number still. The number of evaluations is kept in the
same way: a trial with as many valid ones below it as are wanted is withdrawn.

**Killed workers.** A trial has a heartbeat before it is running. Where it stops, another worker fails the trial and
writes it anew, waiting, with the same architecture, seed and index; where it is the worker's own machine, it need not
wait but asks whether the process lives. Attempts at one trial are ordered by their numbers too: an attempt goes on only
if all before it have failed, so it does not matter if two workers write it anew. If one is killed between failing it
and writing it anew, the next that looks for work finds a failed trial without an heir and writes it anew. A worker
that was only asleep cannot finish a trial that has been failed: its result is dropped.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import ExperimentalWarning, OptunaError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from pydantic import ConfigDict, Field
from sqlalchemy.exc import SQLAlchemyError

from nasdsl.compiler.architecture import value_to_json
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.stored import Stored
from nasdsl.runtime.attempts import Attempt
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.evolution.trial import Proposal, State, Tally, Trial
from nasdsl.runtime.heartbeat import Heartbeat, born, machine
from nasdsl.runtime.runs import TOLD, UNTOUCHED, started_with
from nasdsl.runtime.storage import open_storage, told_of_trials
from nasdsl.runtime.stored import OTHER, checked

MOST_PARAMS = 200
"""A space with more choices has its decisions in the attribute `architecture` alone."""


class Worker(Stored):
    """Who has a trial in hand: a process, by machine, number and time of birth."""

    machine: str
    pid: int
    born: str


class Attributes(Stored):
    """What stands in the database beside a trial's values. Other programs may add their own.

    Attributes:
        architecture, key, function, costs, seed, parents, notes: of the proposal.
        root, after: the numbers of the first attempt at the same trial, and of the one that it follows.
        metrics, seconds: of a complete trial; None for what is no finite number.
        error: why it cannot be evaluated, or need not be.
        withdrawn, superseded: why it does not count.
    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=True)

    architecture: dict[str, Any]
    key: str
    function: str
    costs: dict[str, int | float] = Field(default_factory=dict)
    seed: int
    parents: list[int]
    notes: dict[str, Any]
    root: int | None = None
    after: int | None = None
    worker: Worker | None = None
    metrics: dict[str, float | None] = Field(default_factory=dict)
    seconds: float | None = None
    error: str = ""
    withdrawn: str | None = None
    superseded: str | None = None


AnyAttempt = TypeVar("AnyAttempt", FrozenTrial, Attempt)


def attributes_of(attempt: FrozenTrial | Attempt) -> Attributes:
    """
    Raises:
        RunError: another program has written the trial.
    """
    return checked(Attributes, attempt.user_attrs, f"trial {attempt.number} of the database", "a trial of nasdsl")


class Database:
    """The ledger of one study, which is there until someone deletes it. See the module for how workers share it.

    Args:
        url: of the database, such as `sqlite:////home/me/trials.db` or `postgresql://user@host/trials`.
        name: of the study.
        directions: of each objective, whether it is to be maximised.
        about: what must be the same to go on with a study: the space's digest, the settings.
        decisions: of the space; those of the choices are shown as parameters.
        heartbeat: seconds between signs of life.

    Attributes:
        directions: of each objective, by name, whether it is to be maximised.

    Raises:
        RunError: the database cannot be used, or its study of this name was started with something else.
    """

    def __init__(
        self,
        url: str,
        name: str,
        directions: Mapping[str, bool],
        about: Mapping[str, Any],
        decisions: Mapping[str, Decision],
        heartbeat: int = 15,
    ):
        self._database = open_storage(url, heartbeat)
        self._storage: Any = optuna.storages.get_storage(self._database)  # which reads what is finished once
        self._choices = _distributions(decisions)
        self._decisions = decisions or None
        self.directions = dict(directions)
        ways: list[Literal["minimize", "maximize"]] = ["maximize" if up else "minimize" for up in directions.values()]
        self._study, self._new = _study(self._storage, name, ways, about, list(directions))
        self._id: int = self._storage.get_study_id_from_name(name)
        self._me = {"machine": machine(), "pid": os.getpid(), "born": born(os.getpid())}
        self._pulse = Heartbeat(self._storage, heartbeat)
        self._attempts: list[FrozenTrial] = []  # by number
        self._index: dict[int, int] = {}  # of the trial, by the number of the first attempt at it
        self._of_index: dict[int, list[int]] = {}  # the numbers of all attempts at each trial, rising
        self._orphans: set[int] = set()  # indices of trials all of whose attempts have died
        self._open: set[int] = set()
        self.tally = Tally()
        self._first: dict[str, list[int]] = {}  # indices by key and by function
        self._mine: set[int] = set()
        self._looked = -math.inf  # so the first that asks for work looks for the dead
        self._heartbeat = heartbeat
        self.refresh()

    # --- What there is

    @property
    def trials(self) -> Mapping[int, Trial]:
        return self.tally.trials

    @property
    def proposed(self) -> int:
        return len(self._of_index)

    @property
    def alone(self) -> bool:
        return self._open <= self._mine

    def refresh(self) -> None:
        found: list[FrozenTrial] = self._storage.get_all_trials(self._id, deepcopy=False)
        fresh = range(len(self._attempts), len(found))
        touched = set()
        for number in (*sorted(self._open), *fresh):
            frozen = found[number]
            attributes = attributes_of(frozen)
            index = self._index.setdefault(root_of(frozen), len(self._index))
            touched.add(index)
            if number in fresh:
                self._of_index.setdefault(index, []).append(number)
                for key in {attributes.key, attributes.function}:
                    owners = self._first.setdefault(key, [])
                    if index not in owners:
                        owners.append(index)
            (self._open.discard if frozen.state.is_finished() else self._open.add)(number)
        self._attempts = found
        for index in touched:
            trial = self._standing(index)
            self._orphans.discard(index)
            if trial is None:
                self.tally.pop(index)
                continue
            self.tally.put(trial)
            if trial.state == "waiting" and self._attempts[trial.number].state == TrialState.FAIL:
                self._orphans.add(index)

    def _standing(self, index: int) -> Trial | None:
        """How a trial stands by its attempts; None where it was withdrawn."""
        found = standing([self._attempts[number] for number in self._of_index[index]])
        return None if found is None else _read(index, *found, self._decisions)

    # --- Work

    def add(self, proposal: Proposal) -> None:
        self._write(proposal, None, None)

    def skip(self, proposal: Proposal, why: str) -> None:
        self._write(proposal, None, None, why)

    def _write(self, proposal: Proposal, root: int | None, of: int | None, skipped: str = "") -> None:
        chosen = {path: word for path, word in proposal.architecture.items() if path in self._choices}
        attributes: dict[str, Any] = {
            "architecture": dict(proposal.architecture),
            "key": proposal.key,
            "function": proposal.function,
            "costs": dict(proposal.costs),
            "seed": proposal.seed,
            "parents": list(proposal.parents),
            "notes": dict(proposal.notes),
        }
        if root is not None:
            attributes |= {"root": root, "after": of}
        if skipped:
            attributes["error"] = skipped
        else:  # whoever proposes mostly takes it, and may die before it has said so
            attributes["worker"] = self._me
        template = create_trial(
            state=TrialState.PRUNED if skipped else TrialState.WAITING,
            params=chosen,
            distributions={path: self._choices[path] for path in chosen},
            user_attrs=attributes,
        )
        self._storage.create_new_trial(self._id, template)

    def claim(self, most: int) -> Trial | None:
        self._heirs()
        for number in sorted(self._open):
            if self._attempts[number].state == TrialState.WAITING and self._take(number):
                self.refresh()
                if self._stands(number, most):
                    self._mine.add(number)
                    return self.trials[self._index[root_of(self._attempts[number])]]
        return None

    def _take(self, number: int) -> bool:
        identity = self._attempts[number]._trial_id
        try:
            self._storage.record_heartbeat(identity)  # first, so that whatever runs has one
            if not self._storage.set_trial_state_values(identity, state=TrialState.RUNNING):
                return False
            if self._attempts[number].user_attrs.get("worker") != self._me:
                self._storage.set_trial_user_attr(identity, "worker", self._me)
        except UpdateFinishedTrialError:
            return False
        self._pulse.begin(identity)
        return True

    def _stands(self, number: int, most: int) -> bool:
        """Whether an attempt that this worker has taken is to be evaluated; where not, it is withdrawn."""
        attempt = self._attempts[number]
        index = self._index[root_of(attempt)]
        before = [self._attempts[other] for other in self._of_index[index] if other < number]
        if not all(other.state == TrialState.FAIL for other in before):
            return self._end(attempt, "superseded", "another attempt was first")
        rivals = {i for name in ("key", "function") for i in self._first[attempt.user_attrs[name]] if i < index}
        for rival in sorted(rivals):
            if rival in self.trials:
                return self._end(attempt, "withdrawn", f"trial {rival} has the same architecture or function")
        below = self.tally.standing  # at most: only where that is too many it matters which lie below
        if below >= most:
            below = sum(i < index and trial.state not in ("failed", "skipped") for i, trial in self.trials.items())
        if below >= most:
            return self._end(attempt, "withdrawn", f"there are {most} trials already")
        return True

    def _end(self, attempt: FrozenTrial, why: str, text: str) -> bool:
        self._pulse.end(attempt._trial_id)
        try:
            self._storage.set_trial_user_attr(attempt._trial_id, why, text)
            self._storage.set_trial_state_values(attempt._trial_id, state=TrialState.FAIL)
        except UpdateFinishedTrialError:
            pass  # it took so long that another worker has failed it, and will find the same
        self.refresh()
        return False

    def finish(self, trial: Trial, objectives: tuple[float, ...], metrics: Mapping[str, float], seconds: float) -> None:
        identity = self._attempts[trial.number]._trial_id
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        attributes = {"metrics": finite, "seconds": seconds}
        self._settle(trial.number, identity, attributes, TrialState.COMPLETE, objectives)

    def fail(self, trial: Trial, error: str) -> None:
        identity = self._attempts[trial.number]._trial_id
        self._settle(trial.number, identity, {"error": error}, TrialState.FAIL, None)

    def _settle(
        self,
        number: int,
        identity: int,
        attributes: Mapping[str, Any],
        state: TrialState,
        values: tuple[float, ...] | None,
    ) -> None:
        self._pulse.end(identity)
        self._mine.discard(number)
        try:
            for name, value in attributes.items():
                self._storage.set_trial_user_attr(identity, name, value)
            self._storage.set_trial_state_values(identity, state=state, values=values)
        except UpdateFinishedTrialError:
            pass  # this worker was asleep so long that its trial was given to another
        self.refresh()

    def give_back(self, trial: Trial) -> None:
        self._pulse.end(self._attempts[trial.number]._trial_id)
        self._mine.discard(trial.number)
        if self._failed(trial.number):
            self.refresh()
            self._heirs()

    # --- The dead

    def _failed(self, number: int) -> bool:
        try:
            return bool(self._storage.set_trial_state_values(self._attempts[number]._trial_id, state=TrialState.FAIL))
        except UpdateFinishedTrialError:
            return False

    def _revive(self) -> None:
        """Takes from workers that are known to be dead what they had in hand."""
        lost = []
        for number in self._open:
            attempt = self._attempts[number]
            owner = attempt.user_attrs.get("worker")
            if attempt.state != TrialState.RUNNING or not owner:
                continue
            ours = self._me["machine"] and owner["machine"] == self._me["machine"]
            if ours and number not in self._mine and born(owner["pid"]) != owner["born"]:
                lost.append(number)
        for number in lost:
            self._failed(number)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            optuna.storages.fail_stale_trials(self._study)
        self._looked = time.monotonic()
        self.refresh()

    def _heirs(self) -> None:
        """Writes anew what died: failed attempts of trials that were neither withdrawn nor found impossible."""
        if time.monotonic() - self._looked > self._heartbeat:
            self._revive()
        for index in sorted(self._orphans):
            trial = self.trials[index]
            self._write(trial.proposal, self._of_index[index][0], trial.number)
        if self._orphans:
            self.refresh()

    def take_back(self) -> None:
        with contextlib.suppress(SQLAlchemyError, OptunaError):  # what was refused is told, not that this fails
            self.refresh()
            if self._new and not any(_is_begun(attempt) for attempt in self._attempts):
                self._storage.delete_study(self._id)

    def close(self) -> None:
        self._pulse.close()
        self._database.remove_session()
        self._database.engine.dispose()


def _is_begun(attempt: FrozenTrial) -> bool:
    """Whether somebody is at a trial or has ended it, as `BEGUN` asks of a file."""
    return attempt.state.name not in UNTOUCHED or not attempt.user_attrs.keys().isdisjoint(TOLD)


def root_of(attempt: FrozenTrial | Attempt) -> int:
    """The number of the first attempt at the same trial."""
    return int(attempt.user_attrs.get("root", attempt.number))


def standing(attempts: Sequence[AnyAttempt]) -> tuple[AnyAttempt, State] | None:
    """The attempt at a trial that counts, the first that did not die, and how the trial stands by it: waiting where all
    have died. None where it was withdrawn."""
    if any("withdrawn" in attempt.user_attrs for attempt in attempts):
        return None
    for attempt in attempts:
        if attempt.state != TrialState.FAIL or "error" in attempt.user_attrs:
            return attempt, _STATES[attempt.state]
    return attempts[-1], "waiting"


def _read(index: int, attempt: FrozenTrial, state: State, decisions: Mapping[str, Decision] | None) -> Trial:
    known = attributes_of(attempt)
    proposal = Proposal(
        known.architecture,
        known.key,
        known.function,
        known.costs,
        known.seed,
        tuple(known.parents),
        known.notes,
        decisions,
    )
    return Trial(
        index,
        attempt.number,
        proposal,
        state,
        tuple(attempt.values or ()) if attempt.state == TrialState.COMPLETE else (),
        {name: math.nan if value is None else value for name, value in known.metrics.items()},
        known.seconds,
        known.error,
    )


_STATES: Mapping[TrialState, State] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.FAIL: "failed",
    TrialState.PRUNED: "skipped",
}


def _distributions(decisions: Mapping[str, Decision]) -> dict[str, CategoricalDistribution]:
    """What a dashboard is to know of the choices."""
    choices = {path: decision for path, decision in decisions.items() if decision.kind == "choice"}
    if len(choices) > MOST_PARAMS:
        return {}
    return {
        path: CategoricalDistribution([value_to_json(decision, option) for option in range(decision.n)])
        for path, decision in choices.items()
    }


def _study(
    storage: BaseStorage,
    name: str,
    ways: list[Literal["minimize", "maximize"]],
    about: Mapping[str, Any],
    objectives: list[str],
) -> tuple[optuna.Study, bool]:
    """The study of a name, and whether it is a new one.

    Raises:
        RunError: there is one that was started with something else.
    """
    study = optuna.create_study(storage=storage, study_name=name, directions=ways, load_if_exists=True)
    wanted = json.loads(json.dumps(dict(about)))
    new = "about" not in study.user_attrs
    if new:
        directions = [StudyDirection.MAXIMIZE if way == "maximize" else StudyDirection.MINIMIZE for way in ways]
        if study.directions != directions or study.user_attrs or study.get_trials(deepcopy=False):
            raise RunError(
                f"the study `{name}` is there already, and was not started by nasdsl",
                "name another study with `--set study=NAME`, or another database with `--storage`",
            )
        study.set_user_attr("about", wanted)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(objectives)
    before = study.user_attrs["about"]
    if not isinstance(before, Mapping) or any(not isinstance(key, str) for key in before):
        raise RunError(f"the study `{name}` does not say what it was started with", OTHER)
    if changed := started_with(before, wanted):
        raise RunError(
            f"the study `{name}` was started with {changed}",
            "name another study with `--set study=NAME`, or another database with `--storage`",
        )
    return study, new


def read_database(url: str, name: str | None) -> Database:
    """A study as it was left, to look at. Nothing is changed.

    Args:
        name: of the study; it may be left out where there is one only.

    Raises:
        RunError: there is no such study.
    """
    with told_of_trials():
        storage = open_storage(url, 60, to_read=True)
        try:
            studies = {study.study_name: study for study in storage.get_all_studies() if "about" in study.user_attrs}
        finally:
            storage.remove_session()
            storage.engine.dispose()
        if name is None and len(studies) == 1:
            name = next(iter(studies))
        if name is None or name not in studies:
            known = ", ".join(f"`{one}`" for one in studies) or "none"
            what = "say which study" if name is None else f"there is no study `{name}`"
            raise RunError(f"{what}: the database has {known}", "name one with `--study`")
        study = studies[name]
        names = study.system_attrs.get("study:metric_names")
        ways = [direction == StudyDirection.MAXIMIZE for direction in study.directions]
        if not isinstance(names, list) or len(names) != len(ways):
            raise RunError(f"the study `{name}` does not name its objectives", OTHER)
        return Database(url, name, dict(zip(names, ways, strict=True)), study.user_attrs["about"], {}, 60)
