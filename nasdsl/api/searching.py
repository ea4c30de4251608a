"""`nasdsl.search`: a space and data, or a function, go in; the best architectures come out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdsl.api.given import (
    CallError,
    DataLike,
    SpaceLike,
    limits_of,
    names_of,
    options_of,
    path_of,
    settings_of,
    space_like,
    with_training,
)
from nasdsl.compiler import notebook
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.decide import decide
from nasdsl.compiler.diagnostics import ArgumentError, error, suggest
from nasdsl.compiler.parse import read
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source
from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet
from nasdsl.compiler.write import pinned
from nasdsl.files import names_in
from nasdsl.runtime.data import Data
from nasdsl.runtime.evaluators import FunctionEvaluator
from nasdsl.runtime.evolution.evaluator import Evaluator
from nasdsl.runtime.evolution.methods import Method
from nasdsl.runtime.evolution.objectives import Objectives
from nasdsl.runtime.evolution.registry import find_methods
from nasdsl.runtime.evolution.trial import Trial
from nasdsl.runtime.problem import Exploration, Narrowing, Result
from nasdsl.runtime.results import weights_path
from nasdsl.runtime.search import Found as Written
from nasdsl.runtime.search import Handed, search_space
from nasdsl.runtime.strategies import find_strategies
from nasdsl.runtime.strategies.evolve import EvolveSearch
from nasdsl.runtime.watch import OnProgress, watching

if TYPE_CHECKING:
    from nasdsl.runtime.data import DataSplits
    from nasdsl.runtime.tasks import Task

EVOLVE = EvolveSearch.name


def search(
    space: SpaceLike,
    data: DataLike | Callable[[Architecture], Any] | Evaluator = None,
    *,
    method: str | Method | None = None,
    maximise: str | Sequence[str] = (),
    minimise: str | Sequence[str] = (),
    budget: str | Sequence[str] | Mapping[str, float] | None = None,
    target: str | Mapping[str, float] | None = None,
    trials: int | None = None,
    epochs: float | None = None,
    batch: int | None = None,
    train: Mapping[str, Any] | None = None,
    table: str | PathLike[str] | Mapping[str, Any] | None = None,
    supernet: str | PathLike[str] | None = None,
    storage: str | None = None,
    seed: int = 0,
    out: str | PathLike[str] | None = None,
    run: str | PathLike[str] | None = None,
    fresh: bool = False,
    reader: str | None = None,
    links: bool = False,
    latency: str | PathLike[str] | None = None,
    measured: Mapping[str, str | PathLike[str]] | None = None,
    device: str = "auto",
    workers: int = 0,
    threads: int | None = None,
    on_progress: OnProgress | None = None,
    settings: Mapping[str, Any] | None = None,
    **more: Any,
) -> Found:
    """Searches a space, as `nasdsl search` does, and gives what it finds.

        found = nasdsl.search("hrnas_small", "camvid.zip", target="macs <= 2M", out="found.space")
        found = nasdsl.search(space, (train_set, val_set), method="sample", epochs=20)
        found = nasdsl.search(space, accuracy, maximise="value", minimise="macs", budget="macs <= 5M", trials=100)
        best = found.architecture

    With `out` it writes what the command writes, keeps its run in `runs/NAME`, and goes on with a run that was
    interrupted. Without, and without `run`, everything is kept in memory, and nothing is left on disk.

    Args:
        space: or the path of a file, or the name of a space that ships. One that was made in Python does, too; where a
            result is written, its text is, beside it, as `NAME.space`.
        data: what networks learn from: a path, `"digits"` or `"diabetes"`, `(train, val)` sets of torch or loaders, or
            `nasdsl.Data`; left out, what ships for the task. Or what gives an architecture its worth: a function of an
            `Architecture` that gives a number, which is the metric `value`, or a dict of numbers by name; or an object
            with `evaluate(architecture, seed)`.
        method: the search: `shrink`, `thin`, `sample`, `gradient`, `screen`, `evolve`, or what `evolve` proposes by:
            `random`, `regularised`, `nsga2`, `local`, `surrogate`, `tpe`, ...; one of another package; or an object
            such as `nasdsl.runtime.evolution.methods.Nsga2(population=50)`. Left out, the search that the file names,
            with the settings of the file; for a function, `evolve`.
        maximise, minimise: metrics, or measures such as `macs`, `params` and `latency`; left out, the one metric is
            maximised, or the task's headline is what it should be.
        budget: such as `"macs <= 600M"`, or several of these; what `evolve` and `gradient` keep inside.
        target: the cost to end at, such as `"macs <= 2M"`, or as a share of the whole `"macs <= 0.3"`.
        trials: evaluations at most; fewer where there are not so many architectures.
        epochs, batch: of the training that is part of the search.
        train: more of its settings.
        table: known results; `supernet`: the folder of a `search sample`. See docs/howto/tables.md
            and `Evolve`.
        storage: where trials are kept: `file`, `memory`, or the URL of a database.
        seed: of all that is random. The same one gives the same result.
        out: the result file, `found.space`; weights and a front go beside it.
        run: the folder of the run; by default `runs/NAME` where there is an `out`.
        fresh: start over where the folder holds a run of the same kind.
        reader, links: how files of data are read.
        latency, measured: tables of measures, as `nasdsl profile` makes them.
        device: `cpu`, `cuda`, `mps` or `auto`. `workers`: threads that prepare batches. `threads`: of torch.
        on_progress: called with a `Progress` at each step, such as `nasdsl.Bars()`.
        settings: other settings of the search, by name, in nested records; also as keywords: `rule="sandwich"`,
            `population=50`, `choices={"after": 2}`.

    Raises:
        CompileError: a mistake in the file, or a setting that does not exist or does not fit.
        ArgumentError: arguments that do not go together.
        DataError, TaskError: the data cannot be read, or is not for the task.
        Infeasible: no architecture lies inside the budgets.
        RunError: an evaluation failed (`failures` allows some), nothing measures an objective, or the folder holds
            another run.
    """
    path = None if out is None else Path(out)
    if path is not None and path.suffix != ".space":
        raise CallError(f"`out` names a .space file, and not {path}")
    given = space_like(space)
    evaluator = evaluator_of(data)
    runtime, own, proposes = chosen(method, evaluator is not None)
    entries = settings_of(
        settings,
        more,
        {
            "maximise": names_of(maximise),
            "minimise": names_of(minimise),
            "budget": limits_of(budget),
            "target": limits_of(target),
            "trials": trials,
            "train": train,
            "table": path_of(table),
            "supernet": path_of(supernet),
            "storage": storage,
        },
        {} if proposes is None else {"method": proposes},
    )
    learns = None if evaluator is not None else data
    if learns is not None and not isinstance(learns, str | PathLike):
        learns = Data.of(learns)
        in_train = entries.get("train")
        if batch is None and not (isinstance(in_train, Mapping) and "batch" in in_train):
            batch = learns.batch
    entries = with_training(entries, {"epochs": epochs, "batch": batch}, "train")
    options = options_of(
        learns,
        entries,
        run=run,
        seed=seed,
        fresh=fresh,
        reader=reader,
        links=links,
        device=device,
        workers=workers,
        threads=threads,
        latency=latency,
        measured=measured,
    )
    by = None if evaluator is None and own is None else Handed(evaluator, own)
    written = search_space(given, path, options, runtime, watching(on_progress), by)
    return Found(written, path)


def evaluator_of(given: Any) -> Evaluator | None:
    """What gives an architecture its worth, where it is that which was given, and no data."""
    if given is None or isinstance(given, str | PathLike | tuple | Data):
        return None
    if hasattr(given, "evaluate"):
        found: Evaluator = given
        return found
    if callable(given) and not hasattr(given, "__getitem__"):
        return FunctionEvaluator(given, getattr(given, "__name__", "evaluate"))
    return None


def chosen(method: str | Method | None, evaluates: bool) -> tuple[str | None, Method | None, str | None]:
    """What a method names: the search, an object that proposes in it, and the name of one that does.

    Args:
        evaluates: whether an evaluator was given, of which `evolve` alone has a use.

    Raises:
        CompileError: there is no method of that name.
        ArgumentError: it evaluates nothing one by one.
    """
    if method is None:
        return (EVOLVE if evaluates else None), None, None
    if isinstance(method, Method):
        return EVOLVE, method, None
    if not isinstance(method, str):
        raise ArgumentError(f"a method is a name or a `Method`, and this is a {type(method).__name__}")
    searches, methods = find_strategies(), find_methods()
    if method in methods:
        return EVOLVE, None, method
    if method not in searches:
        known = [*searches, *methods]
        help = suggest(method, known) or "there are " + ", ".join(known)
        raise error("unknown-search", f"no search or method named `{method}`", None, help=help)
    if evaluates and method != EVOLVE:
        raise ArgumentError(
            f"`search {method}` learns from data, and was given what evaluates architectures",
            f"what evaluates them one by one are evolve, {', '.join(methods)}",
        )
    return method, None, None


@dataclass(frozen=True, repr=False, eq=False)
class Found:
    """What a search found.

    Attributes:
        written: as the runtime gives it.
        out: the result file; None where nothing was written.
    """

    written: Written = field(repr=False)
    out: Path | None = None

    # --- What was found

    @property
    def searched(self) -> Space:
        """The space that was searched, fitted to the data."""
        return self.written.space

    @cached_property
    def space(self) -> Space:
        """The smaller space that was found: the best architecture, or what a screening left of the space."""
        if self.narrowed is not None:
            return elaborate(read(self.out)) if self.files and self.out is not None else self._screened_space()
        return decide(self.searched, self.architecture)

    @cached_property
    def architecture(self) -> Architecture:
        """The best, in the first objective.

        Raises:
            ArgumentError: the search was a screening, which leaves several.
        """
        result = self.written.result
        if isinstance(result, Result):
            return result.architecture
        if isinstance(result, Exploration):
            return Architecture.of(self.searched, result.front[0].architecture)
        raise ArgumentError(
            "a screening shortens lists of options, and chooses no architecture", "`space` has the rest"
        )

    @property
    def metrics(self) -> dict[str, float]:
        """Of the best architecture."""
        result = self.written.result
        if isinstance(result, Narrowing):
            return {}
        return dict(result.metrics if isinstance(result, Result) else result.front[0].metrics)

    @property
    def costs(self) -> dict[str, float]:
        """Of the best architecture."""
        result = self.written.result
        if isinstance(result, Narrowing):
            return {}
        return dict(result.costs if isinstance(result, Result) else result.front[0].costs)

    @cached_property
    def network(self) -> Supernet | None:
        """The best architecture's network with its weights, in evaluation mode; None where the search trains none."""
        result = self._result
        return None if result is None else result.network.eval()

    @cached_property
    def _result(self) -> Result | None:
        result = self.written.result
        if isinstance(result, Exploration):
            return result.result_of(result.front[0])
        return result if isinstance(result, Result) else None

    @property
    def front(self) -> Sequence[Any]:
        """Of several objectives the trials that nothing dominates, the best in the first objective first; with one the
        best alone. Of a search by gradient the likeliest architectures."""
        result = self.written.result
        if isinstance(result, Exploration):
            return result.front
        return (result.front or (result,)) if isinstance(result, Result) else ()

    @property
    def trials(self) -> Sequence[Trial]:
        """The complete trials of a search by evaluations, in order; of other searches none."""
        result = self.written.result
        return result.trials if isinstance(result, Exploration) else []

    @property
    def skipped(self) -> Sequence[Trial] | None:
        """What could not have entered the front; None where nothing was pruned."""
        result = self.written.result
        return result.skipped if isinstance(result, Exploration) else None

    @property
    def objectives(self) -> Objectives | None:
        """What was wanted of trials."""
        result = self.written.result
        return result.objectives if isinstance(result, Exploration) else None

    @property
    def narrowed(self) -> Mapping[str, tuple[int, ...]] | None:
        """Of a screening, by path of a choice, the numbers of the options that stay."""
        result = self.written.result
        return result.narrowed if isinstance(result, Narrowing) else None

    def _screened_space(self) -> Space:
        """The space with shortened lists, which no file has."""
        source = self.searched.source
        use = "" if source.path is None else source.path.resolve().as_posix()
        text = pinned(self.searched, {}, "screened", use, "", self.narrowed)
        if source.path is None:
            text = source.text.rstrip() + "\n" + text.partition("\n")[2]
        made = Source(text)
        return elaborate(made, names_in(made)[-1])

    # --- Where it is

    @property
    def run(self) -> Path | None:
        """The folder of the run; None where it was not kept."""
        return self.written.run

    @property
    def files(self) -> Sequence[Path]:
        """The result file and those of the front, in order; none where nothing was written."""
        return self.written.files

    @property
    def weights(self) -> Path | None:
        """The file of the weights, where one was written."""
        return weights_path(self.out) if self.out is not None and self.written.weights else None

    @property
    def task(self) -> Task | None:
        """What its networks learnt, if any did."""
        return None if self.written.learning is None else self.written.learning.task

    @property
    def data(self) -> DataSplits | None:
        """What they learnt it from."""
        return None if self.written.learning is None else self.written.learning.data

    def save(self, path: str | PathLike[str]) -> list[Path]:
        """Writes the result file, with weights and front beside it, as `out` would have.

        Raises:
            OutputError, ArgumentError: something else is there, or it cannot be written.
        """
        from nasdsl.compiler.as_file import as_file, write_source
        from nasdsl.runtime.outputs import check_result, check_weights, inputs_of
        from nasdsl.runtime.results import write_found
        from nasdsl.runtime.watch import Silent

        out = Path(path)
        if out.suffix != ".space":
            raise CallError(f"a result is a .space file, and not `{out}`")
        space = as_file(self.searched, out.parent)
        inputs = inputs_of(space)
        check_result(out, inputs)
        check_weights(weights_path(out), inputs)
        write_source(space)
        return write_found(out, space, self.written.result, self.written.learning, Silent())[0]

    # --- What is told

    def facts(self) -> dict[str, Any]:
        """What `nasdsl search` tells of it, by name."""
        where = {"out": self.out, "weights": self.weights, "run": self.run}
        told: dict[str, Any] = {name: str(path) for name, path in where.items() if path is not None}
        result = self.written.result
        if isinstance(result, Result):
            return {**told, **result.metrics, **result.costs}
        if isinstance(result, Exploration):
            best, names = result.front[0], result.objectives.names
            told |= {"trials": len(result.trials)}
            told |= {} if result.skipped is None else {"skipped": len(result.skipped)}
            told |= {"best": best.index, **dict(zip(names, best.objectives, strict=True)), **best.costs}
            if len(names) > 1:
                told["front"] = [str(file) for file in self.files[1:]] or len(result.front)
            return told
        return {**told, **{one.name: str(one) for one in self.screened()}}

    def screened(self) -> Iterator[Stays]:
        """What stays of each list of options that a screening has shortened, by declaration."""
        from nasdsl.compiler.declarations import declarations_of

        kept = self.narrowed or {}
        for one in declarations_of(self.searched.graph):
            places = [path for path in one.paths if path in kept]
            if places:
                stay = tuple(one.labels[i] for i in kept[places[0]])
                yield Stays(one.name, len(places), len(one.labels), stay)

    def __repr__(self) -> str:
        told = [f"{name} {_short(value)}" for name, value in self.facts().items()]
        return f"Found({', '.join(told)})"

    def _repr_html_(self) -> str | None:
        return notebook.html(self)


@dataclass(frozen=True)
class Stays:
    """What stays of a list of options.

    Attributes:
        places: where it is chosen from.
        options: that there were, and those that `stay`.
    """

    name: str
    places: int
    options: int
    stay: tuple[str, ...]

    def __str__(self) -> str:
        where = f"in {self.places:,} places" if self.places > 1 else "in 1 place"
        return f"{len(self.stay)} of {self.options} options stay, {where}: {', '.join(self.stay)}"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if not value.is_integer() else f"{int(value):,}"
    return f"{value:,}" if isinstance(value, int) else str(value)
