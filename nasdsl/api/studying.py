"""`nasdsl.study`: a search in the caller's own loop, which asks what to evaluate, and tells what came of it."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

from nasdsl.api.given import CallError, SpaceLike, limits_of, names_of, settings_of, space_like, tables_like
from nasdsl.api.searching import EVOLVE, Found, chosen
from nasdsl.compiler import notebook
from nasdsl.compiler.diagnostics import ArgumentError, cause
from nasdsl.compiler.measured import measured as with_measures
from nasdsl.compiler.space import Space
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.evaluators import find_evaluators, numbers
from nasdsl.runtime.evolution.loop import UNLIMITED, Search
from nasdsl.runtime.evolution.methods import Method
from nasdsl.runtime.evolution.objectives import EvaluationError, Objectives, front
from nasdsl.runtime.evolution.trial import Ledger, Memory, Trial
from nasdsl.runtime.files import content
from nasdsl.runtime.search import Found as Written
from nasdsl.runtime.search import Handed, Options, chosen_search
from nasdsl.runtime.strategies.evolve import EvolveSearch, explored, prepared
from nasdsl.runtime.watch import OnProgress, watching


def study(
    space: SpaceLike,
    *,
    method: str | Method | None = None,
    maximise: str | Sequence[str] = (),
    minimise: str | Sequence[str] = (),
    budget: str | Sequence[str] | Mapping[str, float] | None = None,
    trials: int | None = None,
    seed: int = 0,
    storage: str | PathLike[str] | None = None,
    name: str | None = None,
    latency: str | PathLike[str] | None = None,
    measured: Mapping[str, str | PathLike[str]] | None = None,
    on_progress: OnProgress | None = None,
    settings: Mapping[str, Any] | None = None,
    **more: Any,
) -> Study:
    """A search that is asked what to evaluate, and told what came of it.

        study = nasdsl.study(space, maximise="accuracy", minimise="macs", budget="macs <= 5M")
        for _ in range(100):
            trial = study.ask()
            study.tell(trial, {"accuracy": trained_and_measured(trial.architecture)})
        print(study.best.architecture)

    Told in the order in which it was asked, it proposes what `nasdsl.search` with the same seed evaluates. Several
    trials may be asked for before one is told.

    Args:
        space: or the path of a file, or the name of a space that ships.
        method: what proposes: `random`, `regularised`, `nsga2`, `local`, `surrogate`, `tpe`, ...; one of another
            package; or an object such as `nasdsl.runtime.evolution.methods.Nsga2(population=50)`. Left out, what the
            file's `search evolve` says, or `regularised`.
        maximise, minimise: what is told, or measures such as `macs`; left out, the number that is told is maximised.
        budget: such as `"macs <= 600M"`, or several of these.
        trials: evaluations at most; left out, as the file says, or until nothing is left.
        seed: of all that is random.
        storage: a file, or the URL of a database, that keeps the trials. Where it has them already the study goes on;
            several processes may share it. Left out, they are kept in memory.
        name: under which the storage keeps them; by default the space's.
        latency, measured: tables of measures.
        on_progress: called with a `Progress` as trials are told.
        settings: others of `search evolve`, such as `draws`, `distinct`, `population` or `prune`; also as keywords.

    Raises:
        CompileError: a mistake in the file, or a setting that does not exist or does not fit.
        Infeasible: no architecture lies inside the budgets.
        RunError: the storage cannot be used, or its study of this name was started with something else.
    """
    given = space_like(space)
    tables = tables_like(latency, measured)
    given = with_measures(given, tables)
    runtime, own, proposes = chosen(method, True)
    entries = settings_of(
        settings,
        more,
        {
            "maximise": names_of(maximise),
            "minimise": names_of(minimise),
            "budget": limits_of(budget),
            "trials": _most(given, trials),
        },
        {} if proposes is None else {"method": proposes},
    )
    unused = [key for key in ("storage", "study", *find_evaluators()) if key in entries]
    if unused:
        raise CallError(f"a study has no use for `{unused[0]}`: whoever asks evaluates")
    by = Handed(_Asker(), own)
    _, found = chosen_search(given, Options(seed=seed, overrides=entries), runtime or EVOLVE, by)
    about = {
        "space": given.digest(),
        "search": "study",
        "seed": seed,
        "settings": found.model_dump(mode="json", exclude=set(EvolveSearch.free(found))),
        **{f"table of {key}": content(file) for key, file in tables.items()},
        **({} if own is None else {"proposes": by.told()["proposes"]}),
    }

    def ledger(objectives: Objectives) -> Ledger:
        if storage is None:
            return Memory()
        from nasdsl.runtime.trials import Database

        text = str(storage)
        url = text if "://" in text else f"sqlite:///{Path(text).resolve()}"
        return Database(url, name or given.name, objectives.directions, about, given.graph.decisions, found.heartbeat)

    search = prepared(given, None, found, seed, own, ledger, watching(on_progress))
    if found.failures is None:
        search.failures = UNLIMITED
    return Study(given, search)


def _most(space: Space, trials: int | None) -> int | None:
    """How many trials there are to be; None where the file says so."""
    section = space.sections.get("search")
    if trials is None and section is not None and section.name == EVOLVE and "trials" in section.entries:
        return None
    return UNLIMITED if trials is None else trials


class _Asker:
    """Stands where an evaluator would: whoever asks evaluates."""

    def evaluate(self, architecture: Any, seed: int) -> Mapping[str, float]:
        raise AssertionError("a study is told what its trials come to")


class Study:
    """A search in somebody's own loop; `nasdsl.study` makes one. It may be used from several threads.

    Attributes:
        space: that is searched.
        run: None; a study has no folder.
    """

    run: Path | None = None

    def __init__(self, space: Space, search: Search) -> None:
        self.space = space
        self._search = search
        self._lock = threading.RLock()
        self._asked: dict[int, tuple[Trial, float]] = {}
        self._end = weakref.finalize(self, _leave, search, self._asked)
        search.ledger.refresh()
        most = search.most if search.most < UNLIMITED else 0
        search.watch.start("study", most, len(search.ledger.tally.complete))

    def ask(self) -> Trial | None:
        """The next architecture to evaluate: `trial.architecture`, with `trial.seed` for what is random in it, and
        `trial.costs`. None where there are enough, or nothing is left; if a trial that is not told yet fails, there may
        be more later.

        Raises:
            RunError: the study is closed.
        """
        with self._lock:
            self._check_open()
            trial = self._search.ask(waits=False)
            if trial is not None:
                self._asked[trial.index] = trial, time.monotonic()
            return trial

    def tell(
        self,
        trial: Trial | int,
        value: float | Mapping[str, float] | BaseException,
        *,
        seconds: float | None = None,
    ) -> Trial:
        """What came of a trial that was asked for.

        Args:
            trial: or its `index`.
            value: a number, which is the metric `value`; metrics by name; or the exception for which it cannot be
                evaluated, after which it is not proposed again.
            seconds: that it took; by default since it was asked for.

        Returns:
            the trial as it is now, `complete` or `failed`.

        Raises:
            ArgumentError: it was not asked for, or has been told already; or what is told are no finite numbers, after
                which it can be told once more.
            RunError: nothing measures an objective, after which it can be told once more; or more trials have failed
                than `failures` allows.
        """
        with self._lock:
            self._check_open()
            index = trial if isinstance(trial, int) else trial.index
            if index not in self._asked:
                known = self._search.ledger.trials.get(index)
                what = "was not asked for here" if known is None or known.state == "waiting" else f"is {known.state}"
                raise ArgumentError(f"trial {index} {what}", "`ask` gives one to tell of")
            asked, begun = self._asked[index]
            spent = time.monotonic() - begun if seconds is None else seconds
            if isinstance(value, BaseException):
                del self._asked[index]
                self._search.fail(asked, EvaluationError(cause(value)))
            else:
                try:
                    self._search.tell(asked, numbers(value, f"trial {index}"), spent)
                except EvaluationError as problem:
                    help = "tell an exception, such as `ValueError(...)`, where it cannot be evaluated"
                    raise ArgumentError(problem.message, help) from None
                finally:  # whoever watches may raise when it is told already
                    if self._search.ledger.trials[index].state != "running":
                        del self._asked[index]
            return self._search.ledger.trials[index]

    # --- What is known

    @property
    def objectives(self) -> Objectives:
        """What is wanted."""
        return self._search.objectives

    @property
    def trials(self) -> list[Trial]:
        """The complete ones, of all workers, in the order in which they were proposed."""
        with self._lock:
            self._refresh()
            return list(self._search.ledger.tally.complete)

    @property
    def pending(self) -> list[Trial]:
        """Those that somebody has asked for, and nobody told."""
        with self._lock:
            self._refresh()
            return [one for one in self._search.ledger.tally.pending if one.state == "running"]

    @property
    def failed(self) -> list[Trial]:
        """Those that cannot be evaluated."""
        with self._lock:
            self._refresh()
            return [one for _, one in sorted(self._search.ledger.trials.items()) if one.state == "failed"]

    @property
    def skipped(self) -> list[Trial]:
        """Those that could not have entered the front, which `prune` leaves out."""
        with self._lock:
            self._refresh()
            return [one for _, one in sorted(self._search.ledger.trials.items()) if one.state == "skipped"]

    @property
    def front(self) -> list[Trial]:
        """Of several objectives the trials that nothing dominates, the best in the first first; with one the best."""
        trials = self.trials
        losses = self.objectives.losses([trial.objectives for trial in trials])
        return [trials[at] for at in front(losses)]

    @property
    def best(self) -> Trial | None:
        """The best in the first objective; None where none is complete."""
        return next(iter(self.front), None)

    @property
    def found(self) -> Found:
        """What has been found so far, as `search` gives it: `found.space`, `found.save("found.space")`.

        Raises:
            RunError: no trial is complete.
        """
        with self._lock:
            self._refresh()
            return Found(Written(explored(self.space, self._search), self.space, [], None))

    def _refresh(self) -> None:
        if self._end.alive:
            self._search.ledger.refresh()

    # --- The end

    def _check_open(self) -> None:
        if not self._end.alive:
            raise RunError("the study is closed", "`nasdsl.study` with the same storage goes on with it")

    def close(self) -> None:
        """Leaves the storage to others, with what was asked for and not told; that others may then evaluate."""
        with self._lock:
            if self._end.alive:
                self._search.watch.stop()
            self._end()

    def __enter__(self) -> Study:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        best = self.best
        told = (
            ""
            if best is None
            else ", best "
            + ", ".join(
                f"{name} {value:.6g}" for name, value in zip(self.objectives.names, best.objectives, strict=True)
            )
        )
        pending = f", {len(self.pending):,} pending" if self.pending else ""
        return f"Study({self.space.name}: {len(self.trials):,} trials{pending}{told})"

    def _repr_html_(self) -> str | None:
        return notebook.html(self)


def _leave(search: Search, asked: dict[int, tuple[Trial, float]]) -> None:
    for trial, _ in asked.values():
        search.ledger.give_back(trial)
    asked.clear()
    search.ledger.close()
