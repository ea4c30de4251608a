"""The trials of a search, from Optuna's storage, and the measurements of a training, from its folder."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nasdsl.compiler.diagnostics import cause
from nasdsl.page.study import Candidate, Gradient, Objective, Record, Removal, Screening, Study, Training
from nasdsl.runtime import storage as storages
from nasdsl.runtime import trials as ledger
from nasdsl.runtime.attempts import Attempt, read_attempts
from nasdsl.runtime.chosen import Probabilities, Scores, read_choices, read_decoded
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.evolution.trial import State
from nasdsl.runtime.runs import ABOUT, HISTORY, KEPT, About
from nasdsl.runtime.stored import OTHER, read_stored

GRADIENT, SCREEN, SAMPLE = "gradient", "screen", "sample"
"""The searches that tell of their choices, and of candidates."""
CANDIDATES = "candidates.jsonl"
"""The file of a run with the candidates of a sampled supernet."""


def database_url(run: Path, storage: str | None = None) -> str:
    """Where the trials of a run lie: in its folder, unless a URL says otherwise.

    Raises:
        RunError: the folder has none.
    """
    file = run / storages.DATABASE
    if storage is None and not file.is_file():
        help = "a search that tries architectures one by one leaves them there; `--storage URL` names another database"
        raise RunError(f"{run} has no trials ({file.name} is missing)", help)
    return storages.database_url(storage, run)


def read_training(run: Path) -> Training | None:
    """The training in a run's folder; None where the run is none that trains one network.

    Raises:
        RunError: what the folder has cannot be read.
    """
    file = run / HISTORY
    if not file.is_file() and not (run / ABOUT).is_file():
        return None
    about = read_stored(About, run / ABOUT, "what a run was started with")
    if not file.is_file():
        if about.search in (GRADIENT, SCREEN):
            raise RunError(f"nothing has been measured yet in {run}", "try again when the search is further")
        return None
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as problem:
        raise RunError(f"{file} cannot be read: {cause(problem)}", OTHER) from None
    if not all(isinstance(row, dict) for row in rows):
        raise RunError(f"{file} holds no measurements", OTHER)
    numbers = [{name: value for name, value in row.items() if _is_number(value)} for row in rows]
    facts = {key: told(value) for key, value in about.told().items() if value not in (None, {})}
    return Training(
        about.search,
        numbers,
        facts,
        _choices(run, about, numbers),
        _removals(file, rows),
        read_candidates(run) if about.search == SAMPLE else (),
    )


def _removals(file: Path, rows: list[dict[str, Any]]) -> list[Removal]:
    """
    Raises:
        RunError: a record tells of units something else than their number.
    """
    found = []
    for row in rows:
        kept = row.get(KEPT, {})
        if not isinstance(kept, dict) or not all(type(n) is int and n >= 0 for n in kept.values()):
            raise RunError(f"{file} does not say how many units are left", OTHER)
        if kept and _is_number(row.get("epoch")):
            found.append(Removal(row["epoch"], kept))
    return found


def read_candidates(run: Path) -> list[Candidate]:
    """What a sampled supernet has scored at the end; nothing where it has not come so far.

    Raises:
        RunError: the file is something else.
    """
    file = run / CANDIDATES
    if not file.is_file():
        return []
    try:
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as problem:
        raise RunError(f"{file} cannot be read: {cause(problem)}", OTHER) from None
    if not all(isinstance(line, dict) and isinstance(line.get("architecture"), dict) for line in lines):
        raise RunError(f"{file} holds no candidates", OTHER)
    return [
        Candidate(line["architecture"], {name: value for name, value in line.items() if _is_number(value)})
        for line in lines
    ]


def _is_number(value: Any) -> bool:
    """Whether a chart can show it."""
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _choices(run: Path, about: About, rows: list[dict[str, float]]) -> Gradient | Screening | None:
    if about.search == GRADIENT:
        return Gradient(read_choices(run, Probabilities), read_decoded(run))
    if about.search == SCREEN:
        return Screening(read_choices(run, Scores), _ended(about, rows))
    return None


def _ended(about: About, rows: list[dict[str, float]]) -> bool:
    """Whether the last measurement is that after the last step."""
    train = about.settings.get("train")
    epochs = train.get("epochs") if isinstance(train, dict) else None
    last = rows[-1] if rows else {}
    if not isinstance(epochs, int | float) or not last.get("epoch") or not last.get("step"):
        return False
    return last["step"] >= round(epochs * last["step"] / last["epoch"])


def read_study(url: str, name: str | None = None) -> Study:
    """A study of a database.

    Args:
        name: which; needed where there are several.

    Raises:
        RunError: the database cannot be read, has no such study, or one that was not written by a search of nasdsl.
    """
    import optuna
    from optuna.exceptions import ExperimentalWarning

    with storages.told_of_trials(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        storage = storages.open_storage(url, 60, to_read=True)
        try:
            chosen = _chosen(optuna.get_all_study_names(storage), name)
            study = optuna.load_study(study_name=chosen, storage=storage)
            ways = [direction.name == "MAXIMIZE" for direction in study.directions]
            names = study.metric_names or [f"objective {i}" for i in range(len(ways))]
            attempts = read_attempts(storage.engine, chosen)
            about = study.user_attrs.get("about")
        finally:
            storage.remove_session()
            storage.engine.dispose()
    objectives = tuple(Objective(name, up) for name, up in zip(names, ways, strict=True))
    facts = {str(key): told(value) for key, value in about.items()} if isinstance(about, dict) else {}
    return Study(chosen, objectives, _records(attempts), facts)


def _chosen(names: list[str], name: str | None) -> str:
    if name is not None and name not in names:
        raise RunError(f"there is no study `{name}`", f"there are {', '.join(f'`{n}`' for n in names) or 'none'}")
    if name is None and len(names) != 1:
        listed = ", ".join(f"`{n}`" for n in names)
        raise RunError(f"there are {len(names)} studies", f"name one with `--study`: {listed}" if names else "")
    return names[0] if name is None else name


def told(value: Any) -> str:
    """A setting or a record of settings, for people."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {told(one)}" for key, one in value.items() if one not in (None, {}, []))
    return ", ".join(map(told, value)) if isinstance(value, list) else str(value)


def _records(trials: Sequence[Attempt]) -> list[Record]:
    """A record for each trial that counts. One may have had several attempts, of workers that died; one that turned
    out to have been tried before was withdrawn."""
    attempts: dict[int, list[Attempt]] = {}
    for trial in trials:
        ledger.attributes_of(trial)
        attempts.setdefault(ledger.root_of(trial), []).append(trial)
    records = []
    for index, tries in enumerate(attempts.values()):
        found = ledger.standing(tries)
        if found is not None:
            records.append(_record(index, *found))
    return records


def _record(index: int, trial: Attempt, state: State) -> Record:
    known = ledger.attributes_of(trial)
    return Record(
        number=index,
        state=state,
        objectives=tuple(trial.values or ()) if state == "complete" else (),
        costs=known.costs,
        decisions=known.architecture,
        seconds=known.seconds,
        parents=tuple(known.parents),
        seed=known.seed,
        metrics={name: value for name, value in known.metrics.items() if value is not None and math.isfinite(value)},
        error=known.error,
    )
