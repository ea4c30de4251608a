"""Searches that evaluate one architecture after the other: from a file to the best architectures as files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from nasdsl.compiler import measures
from nasdsl.compiler.arrays.encoding import Encoding
from nasdsl.compiler.cost import is_known
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.elaborate.program import elaborate
from nasdsl.compiler.measured import measured
from nasdsl.compiler.source import Source
from nasdsl.compiler.space import Space
from nasdsl.compiler.write import write_pinned
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.evaluators import FUNCTION, FunctionEvaluator, ScratchEvaluator, SupernetEvaluator, known_file
from nasdsl.runtime.evolution.candidates import Candidates
from nasdsl.runtime.evolution.loop import Evaluator, Search
from nasdsl.runtime.evolution.objectives import Objectives, front
from nasdsl.runtime.evolution.samplers import find_method
from nasdsl.runtime.evolution.trial import Ledger, Memory, Trial
from nasdsl.runtime.functions import refuse_what_is_typed
from nasdsl.runtime.known import Table
from nasdsl.runtime.origin import write_origin
from nasdsl.runtime.recipes import with_recipe
from nasdsl.runtime.runs import ABOUT, About, RunFolder, clear
from nasdsl.runtime.search import (
    Options,
    content,
    contents,
    costs_of,
    fabric_for,
    fit_to_data,
    name_of,
    save_result,
    weights_path,
)
from nasdsl.runtime.settings import merged, read_settings
from nasdsl.runtime.storage import database_url, told_of_trials
from nasdsl.runtime.strategies import EXPLORERS
from nasdsl.runtime.strategies.evolve import Evolve, Rates
from nasdsl.runtime.watch import Watch


@dataclass(frozen=True)
class Exploration:
    """What a search found.

    Attributes:
        trials: complete ones, by index.
        front: those that nothing dominates; with one objective the best alone. The first is the best in the first
            objective.
        files: of the front.
    """

    trials: list[Trial]
    front: list[Trial]
    files: list[Path]
    objectives: Objectives
    space: Space
    run: Path


def explores(source: Source, name: str | None, defines: Mapping[str, str], runtime: str | None) -> bool:
    """Whether the search that a file names (or `runtime`) is one of these."""
    if runtime is not None:
        return runtime in EXPLORERS
    section = elaborate(source, name, defines).sections.get("search")
    return section is not None and section.name in EXPLORERS


def explore(
    source: Source,
    out: Path,
    options: Options,
    name: str | None = None,
    defines: Mapping[str, str] | None = None,
    runtime: str | None = None,
    watch: Watch | None = None,
) -> Exploration:
    """Runs, or goes on with, the search that the file names, and writes the best architecture to `out`. With several
    objectives the whole front is written to a folder beside it, `NAME_front`.

    Several processes may be given the same command at once; they share the work.

    Raises:
        CompileError, DataError, TaskError, RunError: in the user's words.
    """
    space = measured(elaborate(source, name, defines or {}), options.tables)
    if space.source.path is None:
        raise error("no-file", "a search starts from a file, because its result names that file", None)
    settings = evolve_settings(space, options, runtime)
    space, evaluator, objectives = evaluator_for(space, source, name, defines or {}, options, settings)
    pool = evaluator.pool(Encoding(space.graph.decisions)) if isinstance(evaluator, Table) else None
    asked = [measures.base(one)[1] for one in objectives.names if _is_measure(space, one)]
    distinct = settings.distinct == "function"
    candidates = Candidates(space.graph, settings.window, distinct, pool, settings.draws, asked)
    folder = options.run or Path("runs") / out.stem
    about = About(
        space=space.digest(),
        search="evolve",
        settings=settings.identity,
        seed=options.seed,
        **_content(space, settings, options),
        **contents(options),
    )
    run = _folder(folder, about, options.fresh)
    write_origin(run.path, space)
    with told_of_trials("the same command goes on with the search"):
        ledger = _ledger(run, settings, objectives, space)
        try:
            search = Search(
                candidates,
                evaluator,
                objectives,
                find_method(settings.method),
                Rates(settings),
                ledger,
                settings.trials,
                options.seed,
                settings.failures,
                watch,
            )
            trials = search.run()
        finally:
            ledger.close()
    if not trials:
        raise RunError("no trial is complete, so there is no best one")
    best = chosen(trials, objectives)
    weights = partial(save_weights_of, space, evaluator) if isinstance(evaluator, SupernetEvaluator) else None
    return Exploration(trials, best, write_front(out, space, best, objectives, weights), objectives, space, run.path)


def evolve_settings(space: Space, options: Options, runtime: str | None) -> Evolve:
    """The settings of the file's `search evolve`, those of the command line over them.

    Raises:
        CompileError: an entry that does not exist, does not fit or is not for a file, at its place in the file.
    """
    section = space.sections.get("search")
    mine = section is not None and section.name in EXPLORERS
    chosen = runtime or (section.name if section is not None else "")
    if section is not None and mine:
        refuse_what_is_typed(section, options.overrides or {})
    entries = dict(section.entries) if section is not None and mine else {}
    spans = section.spans if section is not None and mine else {}
    if isinstance(entries.get("table"), str):  # short for a record, of which the command line may give the rest
        entries["table"] = {"file": entries["table"]}
    entries = merged(entries, options.overrides or {}, EXPLORERS[chosen])
    if isinstance(entries.get("train"), Mapping):
        entries["train"] = with_recipe(entries["train"], spans.get("train.preset"))
    return read_settings(Evolve, entries, spans, f"`search {chosen}`")


def evaluator_for(
    space: Space, source: Source, name: str | None, defines: Mapping[str, str], options: Options, settings: Evolve
) -> tuple[Space, Evaluator, Objectives]:
    """What evaluates, and the objectives. A space that is trained is fitted to the data."""
    evaluator: Evaluator
    default: str | None = None
    if settings.table is not None:
        evaluator = Table(space, table_path(space, settings), settings.table)
    elif settings.function is not None:
        evaluator, default = FunctionEvaluator(settings.function, space), FUNCTION
    elif settings.supernet is not None:
        from nasdsl.runtime.inherit import load

        space, data, task = fit_to_data(source, name, defines, options)
        fabric = fabric_for(replace(options, devices=1), "32-true")
        evaluator = SupernetEvaluator(load(supernet_path(space, settings), space, task, data, fabric, options.workers))
        default = task.headline
    elif settings.train is not None:
        space, data, task = fit_to_data(source, name, defines, options)
        fabric = fabric_for(replace(options, devices=1), settings.train.precision)
        evaluator = ScratchEvaluator(space, data, task, fabric, settings.train, options.workers)
        default = task.headline
    else:
        raise error(
            "no-evaluator",
            "nothing says how architectures are evaluated",
            None,
            help="set `table`, `function`, `supernet` or `train` in `search evolve`, or give `--table` or the like",
        )
    directions = {**dict.fromkeys(settings.maximise, True), **dict.fromkeys(settings.minimise, False)}
    if not directions and default is None:
        raise error(
            "no-objective",
            "nothing says what is wanted",
            None,
            help="set `maximise` or `minimise` to a column of the table, or to a measure such as `macs`",
        )
    return space, evaluator, Objectives(directions or {str(default): True})


def _is_measure(space: Space, name: str) -> bool:
    """Whether an objective may be a cost, which is known without an evaluation."""
    return measures.lookup(name) is not None and is_known(space.graph, name)


def table_path(space: Space, settings: Evolve) -> Path:
    assert settings.table is not None and space.source.path is not None
    return known_file(settings.table.file, space.source.path.parent)


def supernet_path(space: Space, settings: Evolve) -> Path:
    assert settings.supernet is not None and space.source.path is not None
    return known_file(settings.supernet, space.source.path.parent)


def _content(space: Space, settings: Evolve, options: Options) -> dict[str, Any]:
    """What else must be the same to go on."""
    if settings.table is not None:
        return {"table": content(table_path(space, settings))}
    if settings.supernet is not None:
        from nasdsl.runtime.inherit import SUPERNET

        weights = content(supernet_path(space, settings) / SUPERNET)
        return {"data": options.data or "embedded", "supernet": weights}
    return {"data": options.data or "embedded"} if settings.train is not None else {}


def _folder(path: Path, about: About, fresh: bool) -> RunFolder:
    """The folder of a run, which workers that start together may make together."""
    if fresh and path.is_dir():
        clear(path)
    try:
        return RunFolder(path, about)
    except RunError:
        if not (path / ABOUT).exists():
            raise
        return RunFolder(path, about)  # another worker has just made it a run


def _ledger(run: RunFolder, settings: Evolve, objectives: Objectives, space: Space) -> Ledger:
    if settings.storage == "memory":
        return Memory()
    from nasdsl.runtime.trials import Database

    url = database_url(None if settings.storage == "file" else settings.storage, run.path)
    name = settings.study or space.name
    return Database(url, name, objectives.directions, run.about.told(), space.graph.decisions, settings.heartbeat)


# --- Results ----------------------------------------------------------------------------------------------------------


def chosen(trials: list[Trial], objectives: Objectives) -> list[Trial]:
    """Those that nothing dominates, the best in the first objective first."""
    losses = objectives.losses([trial.objectives for trial in trials])
    return [trials[at] for at in front(losses)]


def write_front(
    out: Path,
    space: Space,
    best: list[Trial],
    objectives: Objectives,
    weights: Callable[[Path, Trial], None] | None = None,
) -> list[Path]:
    """The result file, and with several objectives a file for each trial of the front, in order.

    Args:
        weights: writes those of a trial beside its file; before it, so that a result file always has them.
    """
    files = []

    def write(file: Path, trial: Trial, name: str) -> None:
        if weights is not None:
            weights(file, trial)
        _write(file, space, trial, objectives, name)

    if len(objectives.names) > 1:
        folder = out.with_name(f"{out.stem}_front")
        width = max(2, len(str(len(best))))
        for number, trial in enumerate(best, 1):
            files.append(folder / f"{number:0{width}}.space")
            write(files[-1], trial, f"{name_of(out)}_{number:0{width}}")
        for old in folder.iterdir():  # of a search that was shorter
            if re.fullmatch(r"\d+\.space", old.name) and old not in files:
                old.unlink(missing_ok=True)
                weights_path(old).unlink(missing_ok=True)
    write(out, best[0], name_of(out))
    return [out, *files]


def save_weights_of(space: Space, evaluator: SupernetEvaluator, file: Path, trial: Trial) -> None:
    """The weights that a trial's architecture inherits, beside the file that is to hold it."""
    from nasdsl.compiler.architecture import Architecture

    architecture = Architecture.of(space.graph, trial.proposal.architecture)
    result = evaluator.result(architecture, {name: float(cost) for name, cost in trial.proposal.costs.items()})
    save_result(weights_path(file), space, result, evaluator.inherited.trainer.task)


def _write(file: Path, space: Space, trial: Trial, objectives: Objectives, name: str) -> None:
    from nasdsl.compiler.architecture import Architecture

    values = dict(zip(objectives.names, trial.objectives, strict=True))
    facts = [costs_of(trial.proposal.costs)]
    known = {*trial.proposal.costs, *(one.name for one in measures.BUILT_IN.values() if one.of is not None)}
    facts += [f"{key} {value:.6g}" for key, value in values.items() if key not in known]
    architecture = Architecture.of(space.graph, trial.proposal.architecture)
    note = f"{', '.join(facts)} (trial {trial.index})"
    write_pinned(file, space, architecture, name, note)
