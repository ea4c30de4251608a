"""The main job: a space and data go in, the best architectures come out, as files with weights."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from nasdsl.compiler.as_file import as_file, write_source
from nasdsl.compiler.diagnostics import NasdslError, error
from nasdsl.compiler.largest import largest_sides, largest_values
from nasdsl.compiler.measured import measured
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source, Span
from nasdsl.compiler.space import Space
from nasdsl.compiler.values.tree import Expr, evaluate
from nasdsl.compiler.with_params import with_params
from nasdsl.runtime.data import Data, DataSplits, is_built_in, open_data, told
from nasdsl.runtime.device import device_named
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.evaluators import find_evaluators
from nasdsl.runtime.evolution.evaluator import Evaluator
from nasdsl.runtime.evolution.methods import Method
from nasdsl.runtime.files import content, fingerprint
from nasdsl.runtime.front import Front
from nasdsl.runtime.functions import refuse_what_is_typed
from nasdsl.runtime.launch import is_first_process
from nasdsl.runtime.lock import hold, let_go
from nasdsl.runtime.outputs import check_result, check_weights, inputs_of
from nasdsl.runtime.pretrained import check_start, files_of, init_file
from nasdsl.runtime.problem import (
    Exploration,
    InputSize,
    Learning,
    Narrowing,
    Needs,
    Problem,
    Result,
    Silent,
    Strategy,
    Watch,
    check_decisions,
    head_of,
    sides_of,
    task_of,
)
from nasdsl.runtime.provenance import write_origin, write_result
from nasdsl.runtime.recipes import with_recipe
from nasdsl.runtime.results import front_folder, weights_path, write_found
from nasdsl.runtime.runs import (
    ABOUT,
    TRAINING,
    About,
    RunFolder,
    drop_before,
    give_up,
    has_work,
    put_back,
    refuse_links,
    set_aside,
)
from nasdsl.runtime.settings import REST, WAYS, Train, merged, read_settings
from nasdsl.runtime.settle import settle
from nasdsl.runtime.strategies import find_strategy
from nasdsl.runtime.strategies.evolve import EvolveSearch
from nasdsl.runtime.tasks import Regression, Task, find_task
from nasdsl.runtime.unused import refuse_unused


@dataclass(frozen=True)
class Options:
    """Where and how to run, for searches, training and evaluation.

    Attributes:
        data: what to read: a path, the name of data that ships, or sets from Python; None is the embedded data.
        kept: whether the folder of the run outlives it.
        test: measure on the test split of sets from Python, where there is one.
        overrides: settings that come before those of the file, as nested records.
        latency: a latency table, and `measured`: by the names of other measures, the files that they are read from.
        devices, accelerator, precision: as Lightning Fabric takes them; under `torchrun` the processes share the work.
        links: follow links in the data that lead out of it.
        fresh: start over where the run's folder holds an unfinished run.
    """

    data: str | Data | None = None
    run: Path | None = None
    seed: int = 0
    overrides: Mapping[str, Any] | None = None
    accelerator: str = "auto"
    devices: int = 1
    workers: int = 0
    reader: str | None = None
    latency: str | None = None
    measured: Mapping[str, str] = field(default_factory=dict)
    links: bool = False
    fresh: bool = False
    kept: bool = True
    test: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 1 << 32:
            raise error("bad-seed", f"a seed is a number from 0 to {(1 << 32) - 1:,}, and not {self.seed:,}", None)

    @property
    def tables(self) -> dict[str, Path]:
        """The files that measures are read from, by their names."""
        latency = {} if self.latency is None else {"latency": self.latency}
        return {name: Path(file) for name, file in {**latency, **self.measured}.items()}

    @property
    def path(self) -> str | None:
        """Of the data; None where it ships, or was handed over in Python."""
        return self.data if isinstance(self.data, str) and not is_built_in(self.data) else None

    @property
    def given(self) -> bool:
        """Whether the data was handed over in Python."""
        return isinstance(self.data, Data)

    @property
    def threads(self) -> int:
        """That prepare batches: as many as asked for, else as the loader that was handed over has workers."""
        return self.workers or (self.data.workers if isinstance(self.data, Data) else 0)

    @property
    def of_networks(self) -> list[str]:
        """What is given, as the command line calls it, of how networks are trained or measured on data."""
        given = {
            "--data": self.data is not None,
            "--reader": self.reader is not None,
            "--links": self.links,
            "--device": self.accelerator != "auto",
            "--workers": self.workers != 0,
        }
        return [option for option, there in given.items() if there]


@dataclass(frozen=True)
class Handed:
    """What a caller in Python hands to a search by evaluations, where a file would name it.

    Attributes:
        evaluator: with `evaluate(architecture, seed)`, and `method`: what proposes; None where settings name it.
    """

    evaluator: Evaluator | None = None
    method: Method | None = None

    @property
    def names(self) -> set[str]:
        """Of the settings in whose place it stands."""
        method = {"method"} if self.method is not None else set()
        return method | (set(find_evaluators()) if self.evaluator is not None else set())

    def told(self) -> dict[str, str]:
        """What a run's folder says of it."""
        kinds = {"evaluator": self.evaluator, "proposes": self.method}
        return {name: _name_of(one) for name, one in kinds.items() if one is not None}


def _name_of(one: Any) -> str:
    """`module:name` of a function or of a class, with the settings of a method."""
    inner = getattr(one, "function", one)
    kind = inner if hasattr(inner, "__qualname__") else type(inner)
    settings = f" {one.model_dump(mode='json')}" if isinstance(one, Method) else ""
    return f"{kind.__module__}:{kind.__qualname__}{settings}"


def fit_to_data(
    space: Space, options: Options, open_input: bool = False, watch: Watch | None = None
) -> tuple[Space, DataSplits, Task]:
    """A space with the classes of the data and the measures that are read from files, the data in the size of the
    space's input, and the task between them.

    A parameter `classes` of the space is set to the data's number where the user has not set it; for tables it is
    `targets`, and `features` the input's.

    Args:
        space: as its file has it.
        open_input: whether the size of the input may be open to choice; the data then has one of the sizes.
        watch: is told what was read, in the first of the processes.

    Raises:
        CompileError, DataError, TaskError: in the user's words.
    """
    data = data_at(space, options, input_size(space, open_input))
    if data.task == Regression.name:
        space = with_features(space, data)
    if watch is not None and is_first_process():
        for line in told(data):
            watch.note(line)
    task = find_task(data.task).from_data(data)
    wanted, has, param = task.outputs, task.outputs_of(head_of(space)), getattr(task, "param", "classes")
    if wanted != has and param in space.params and param not in space.overrides:
        space = with_params(space, {param: str(wanted)})
        has = task.outputs_of(head_of(space))
    if wanted != has:
        raise error(
            "wrong-outputs",
            f"the data has {wanted} {param}, and the network gives {has}",
            space.graph.nodes[space.graph.outputs[0]].span,
            help=f"set the number of {param} to {wanted}",
        )
    check_sides(space, task)
    return measured(space, options.tables), data, task


def with_features(space: Space, data: DataSplits) -> Space:
    """The space with an input for the features of a table. A parameter `features` is set to how many there are where
    the user has not set it.

    Raises:
        CompileError: the input is for something else.
    """
    if data.size == (1, 1):
        if input_size(space)[0] != data.channels and "features" in space.params and "features" not in space.overrides:
            space = with_params(space, {"features": str(data.channels)})
        found = input_size(space)
        if found != (data.channels, 1, 1):
            given = " x ".join(map(str, found))
            raise error(
                "wrong-input",
                f"the table has {data.channels} features, and the input of the network is {given}",
                space.graph.input.span,
                help=f"write `input {data.channels} x 1 x 1`",
            )
    return space


def check_sides(space: Space, task: Task) -> None:
    """
    Raises:
        CompileError: what stands in the braces of an `auxiliary` ends in no head for the task, or in one for another
            number of classes.
    """
    for node, ends in sides_of(space):
        for end in ends:
            if end.op not in task.heads:
                heads = ", ".join(f"`{head}`" for head in task.heads)
                message = f"this `auxiliary` ends in `{end.op}`, which is no head for {task.name}"
                raise error("no-task", message, node.span, help=f"end it with {heads}")
            has = end.shape.channels
            if has != task.outputs:
                message = f"the data has {task.outputs} classes, and an `auxiliary` of the network gives {_value(has)}"
                help = f"set the number of classes to {task.outputs}"
                raise error("wrong-outputs", message, end.span, help=help)


def _value(width: Any) -> str:
    return "what choices decide" if isinstance(width, Expr) else f"{width}"


def input_size(space: Space, open_input: bool = False) -> InputSize:
    """Channels, height and width of the input.

    Args:
        open_input: whether the size may be open to choice; the greatest is then given.

    Raises:
        CompileError: it is open, and may not be.
    """
    shape = space.graph.input.shape
    sides = (shape.channels, shape.height, shape.width)
    if not all(isinstance(side, int) for side in sides):
        if not open_input:
            raise error(
                "open-input",
                "the size of the input is open to choice",
                space.graph.input.span,
                help="pin it with `with { input ... }`",
            )
        if isinstance(shape.channels, int):
            sides = (shape.channels, *largest_sides(space.graph))
        else:  # images of different depth have no greatest: one of those there are
            values = largest_values(space.graph)
            sides = tuple(evaluate(side, values) for side in sides)
    channels, height, width = (int(side) for side in sides)
    return channels, height, width


def data_at(space: Space, options: Options, size: InputSize) -> DataSplits:
    """The data for a space's task, in a size."""
    channels, height, width = size
    if isinstance(options.data, Data):
        return options.data.splits(task_of(space), (height, width), channels, options.test)
    return open_data(
        options.data,
        task_of(space),
        size=(height, width),
        channels=channels,
        seed=0,
        reader=options.reader,
        links=options.links,
    )


def fabric_for(options: Options, precision: str) -> Fabric:
    """The devices to run on. Under `torchrun` they are those of its processes.

    Raises:
        RunError: there is no such device.
    """
    device_named(options.accelerator)
    processes = _set("WORLD_SIZE", 1)
    here = _set("LOCAL_WORLD_SIZE", processes) if processes > 1 else options.devices
    fabric = Fabric(
        accelerator=options.accelerator,
        devices=here,
        num_nodes=processes // here if processes > 1 else 1,
        strategy="ddp" if here * processes > 1 else "auto",
        precision=precision,  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def leave(code: int) -> None:
    """Ends this process at once if it is one of several that train together; they leave together where all is well,
    and close their group.

    Threads of their group outlive it, and the ordinary end of the interpreter may abort on them after all is done.
    """
    if not torch.distributed.is_initialized():
        return
    if code == 0:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _set(name: str, default: int) -> int:
    """A number of processes that `torchrun` has set."""
    text = os.environ.get(name, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise RunError(f"the environment sets {name} to `{text}`, which is no number of processes")
    return int(text)


@dataclass(frozen=True)
class Found:
    """What a search found, and where it was written.

    Attributes:
        space: that was searched, fitted to the data.
        files: the result file and, where there is a front of several objectives, those of the front, in order. None in
            processes other than the first, and where nothing was to be written.
        run: the folder of the run; None where it was not kept.
        learning: what its networks were trained with, if they were.
        weights: whether the result file has weights beside it.
    """

    result: Result | Exploration | Narrowing
    space: Space
    files: list[Path]
    run: Path | None
    learning: Learning | None = None
    weights: bool = False


def search(
    source: Source,
    out: Path,
    options: Options,
    name: str | None = None,
    defines: Mapping[str, str] | None = None,
    runtime: str | None = None,
    watch: Watch | None = None,
) -> Found:
    """As `search_space`, of a file's space.

    Raises:
        CompileError, DataError, TaskError, RunError: in the user's words.
    """
    return search_space(elaborate(source, name, defines or {}), out, options, runtime, watch)


def search_space(
    plain: Space,
    out: Path | None,
    options: Options,
    runtime: str | None = None,
    watch: Watch | None = None,
    by: Handed | None = None,
) -> Found:
    """Runs, or goes on with, the search that the file names (or `runtime`) and writes what it finds to `out`, with the
    weights beside it. A front, of several objectives or of the likeliest architectures, is written to a folder beside
    it, `NAME_front`.

    Args:
        out: None writes nothing; without a folder in the options nothing is kept of the run either.
        by: what evaluates, and what proposes, where they are no settings.

    Raises:
        CompileError, DataError, TaskError, RunError: in the user's words.
    """
    if out is None and options.run is None:
        with nowhere(options) as options:
            return replace(_searched(plain, out, options, runtime, watch, by, kept=False), run=None)
    return _searched(plain if out is None else as_file(plain, out.parent), out, options, runtime, watch, by, kept=True)


@contextmanager
def nowhere(options: Options) -> Iterator[Options]:
    """Options with a folder that goes when the run has ended."""
    if _set("WORLD_SIZE", 1) > 1:
        raise RunError("processes that train together share the folder of their run", "name one with `run`")
    with tempfile.TemporaryDirectory(prefix="nasdsl-") as folder:
        yield replace(options, run=Path(folder) / "run", kept=False)


def _searched(
    plain: Space,
    out: Path | None,
    options: Options,
    runtime: str | None,
    watch: Watch | None,
    by: Handed | None,
    kept: bool,
) -> Found:
    space = measured(plain, options.tables)
    inputs = inputs_of(space, options.path, *options.tables.values())
    if out is not None:
        check_result(out, inputs)
        check_weights(weights_path(out), inputs)
    strategy, settings = chosen_search(space, options, runtime, by)
    search = strategy() if by is None else EvolveSearch(by.evaluator, by.method)
    if not kept and getattr(settings, "storage", None) == "file":
        settings = settings.model_copy(update={"storage": "memory"})
    needs = Needs()
    if by is not None and by.evaluator is not None:
        needs = Needs(data=False, open_input=True, free=EvolveSearch.free(settings))
    elif hasattr(strategy, "needs"):
        needs = strategy.needs(settings, space)
    learning: Learning | None = None
    of_networks = () if needs.data else options.of_networks
    refuse_unused(strategy, settings, space, options.overrides or {}, options.tables, of_networks)
    if needs.data:
        space, data, task = fit_to_data(plain, options, needs.open_input, watch)
        train = settle(getattr(settings, "train", None) or Train(), len(data.train))
        if getattr(settings, "train", None) is not None:
            settings = settings.model_copy(update={"train": train})
        task = find_task(task.name).from_data(data, **train.task)
        learning = Learning(task, data, fabric_for(options, train.precision), _sized(space, options, data, task, train))
    check_decisions(strategy, space)
    if out is not None:
        Front(front_folder(out)).check(_most_of_front(settings))
    about = _about(space, options, strategy, settings, needs, learning, by)
    first = learning is None or learning.fabric.is_global_zero

    def open_run() -> RunFolder:
        fabric = None if learning is None else learning.fabric
        if out is not None and first:
            write_source(space)
        return run_folder(options, out, space, about, fabric, getattr(strategy, "shared", False))

    seen = watch if watch is not None and first else Silent()
    problem = Problem(space, open_run, learning, options.seed, options.threads, options.latency, seen)
    try:
        with claimed(lambda: problem.opened, first):
            result = search.search(problem, settings)
            run = problem.run.path
        if out is None:
            return Found(result, space, [], run, learning)
        files, trained = write_found(out, space, result, learning, seen) if first else ([], False)
        if trained:
            write_result(run, out, weights_path(out), options.path, options.reader, options.links, options.given)
    finally:
        let_go(run_path(options, out, about.search))
    return Found(result, space, files, run, learning, trained)


def _most_of_front(settings: Any) -> int:
    """How many files the front of a search may have."""
    several = len(getattr(settings, "maximise", ())) + len(getattr(settings, "minimise", ())) > 1
    return int(getattr(settings, "trials", 0)) if several else int(getattr(settings, "candidates", 0) or 0)


EVALUATES = frozenset({"function", "supernet", "table"})
"""Settings that no other search than `evolve` has."""


def chosen_search(
    space: Space, options: Options, runtime: str | None, by: Handed | None = None
) -> tuple[type[Strategy], Any]:
    """The search that a file names, or `runtime`, and its settings: those of the file's section, if it is of that
    search, and those of the command line over them. What is handed over goes before what the file says of it. Where
    neither names one, what evaluates architectures one by one is for `evolve`.

    Raises:
        CompileError: there is no such search; or an entry that does not exist, does not fit or is not for a file, at
            its place in the file.
    """
    section = space.sections.get("search")
    chosen = runtime or (section.name if section is not None else "")
    if not chosen and not EVALUATES.isdisjoint(options.overrides or {}):
        chosen = "evolve"
    if not chosen:
        raise error(
            "no-search",
            f"the space `{space.name}` has no `search` section",
            None,
            help="add `search shrink { ... }`, or name one with `--runtime shrink`",
        )
    strategy = find_strategy(chosen)
    entries: dict[str, Any] = {}
    spans: Mapping[str, Span] = {}
    if section is not None and section.name in getattr(strategy, "reads", (chosen,)):
        handed = set() if by is None else by.names
        section = replace(section, entries={k: value for k, value in section.entries.items() if k not in handed})
        refuse_what_is_typed(section, options.overrides or {})
        entries, spans = dict(section.entries), section.spans
    entries = merged(entries, options.overrides or {}, strategy.settings)
    if isinstance(entries.get("train"), Mapping):
        entries["train"] = with_recipe(entries["train"], spans.get("train.preset"))
    settings = read_settings(strategy.settings, entries, spans, f"`search {chosen}`")
    if getattr(settings, "train", None) is not None:
        check_start(space, settings.train, spans, "train.")  # type: ignore[attr-defined]
    return strategy, settings


def _sized(
    space: Space, options: Options, data: DataSplits, task: Task, train: Train
) -> Callable[[InputSize], tuple[DataSplits, Task]]:
    """The data and the task at any size of the input, each opened once; `data` and `task` are those of one."""
    opened = {(data.channels, *data.size): (data, task)}

    def at(size: InputSize) -> tuple[DataSplits, Task]:
        if size not in opened:
            found = data_at(space, options, size)
            opened[size] = found, find_task(found.task).from_data(found, **train.task)
        return opened[size]

    return at


def _about(
    space: Space,
    options: Options,
    strategy: type[Strategy],
    settings: Any,
    needs: Needs,
    learning: Learning | None,
    by: Handed | None,
) -> About:
    """What the run is started with."""
    known: dict[str, Any] = {
        "space": space.digest(),
        "seed": options.seed,
        "search": strategy.name,
        "settings": without_paths(settings.model_dump(mode="json", exclude=set(needs.free)), needs.contents),
        **needs.contents,
        **({} if by is None else by.told()),
    }
    if learning is not None:
        known["data"] = data_identity(options.data, learning.data.description)
    known |= contents(options, space, getattr(settings, "train", None))
    return About.model_validate(known)


def run_path(options: Options, out: Path | None, search: str) -> Path:
    """Where the folder of a run is. Without an output it is named in the options.

    Args:
        search: the strategy, or `TRAINING`.
    """
    if options.run is not None:
        return options.run
    assert out is not None
    return default_run(out, search)


def run_folder(
    options: Options, out: Path | None, space: Space, about: About, fabric: Fabric | None = None, shared: bool = False
) -> RunFolder:
    """The folder of this run, the same in all processes; the first of them prepares it, and holds it (`lock.py`).

    Args:
        shared: whether several runs of one search may be at work in it at once. Such that start together may make it
            together.

    Raises:
        RunError: it holds another run, or something else, or another process is at work there.
    """
    path = run_path(options, out, about.search)
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    problem: NasdslError | None = None
    if fabric is None or fabric.is_global_zero:
        try:
            refuse_links(path)
            if path.is_dir():
                hold(path, shared, replaces=options.fresh)
                if options.fresh:
                    set_aside(path, about.search)
                else:
                    put_back(path)
            try:
                RunFolder(path, about)
            except RunError:
                if not (path / ABOUT).exists():
                    raise
                RunFolder(path, about)  # another worker has just made it a run
            hold(path, shared)
            write_origin(path, space)
        except NasdslError as refused:
            problem = refused
    problem = problem if fabric is None else fabric.broadcast(problem)
    if problem is not None:
        raise problem
    run = RunFolder(path, about)
    run.made, run.kept = made, options.kept
    return run


def without_paths(settings: dict[str, Any], contents: Collection[str] = ()) -> dict[str, Any]:
    """Settings without the paths of files that are known by their content, so that a run goes on where they have moved.

    Args:
        contents: names of settings that name a file, or have it as `file`.
    """
    found = dict(settings)
    for name in contents:
        if isinstance(found.get(name), dict):
            found[name] = {key: value for key, value in found[name].items() if key != "file"}
        elif name in found:
            found[name] = None
    for name, inner in found.items():
        if name == "train" and isinstance(inner, dict):
            found[name] = without_paths(inner)
    init = found.get("init")
    if isinstance(init, str) and init not in WAYS:
        found["init"] = "a file"
    elif isinstance(init, dict):
        found["init"] = {part: None if part != REST else way for part, way in init.items()}
    return found


def data_identity(data: str | Data | None, description: str) -> str:
    """What a run's folder says of its data: the same for the same content, wherever it lies."""
    if isinstance(data, Data):
        return data.identity()
    if data is None or is_built_in(data):
        return f"embedded: {description}"
    said = description.partition(": ")[2] or description  # the name of the folder or zip stands in front
    return f"{said} ({fingerprint(Path(data))})"


def default_run(out: Path, search: str) -> Path:
    """The folder of a run, where none is named: that of a search and that of the training of what it found are two."""
    return Path("runs") / (f"{out.stem}.train" if search == TRAINING else out.stem)


@contextmanager
def claimed(opened: Callable[[], RunFolder | None], main: bool = True) -> Iterator[None]:
    """Inside, a start that is refused before it has done anything leaves no run behind: what `--fresh` has set aside is
    put back, and a folder that was made for it goes.

    Args:
        opened: the run's folder, once it has been asked for.
        main: whether this is the process that writes.
    """
    try:
        yield
    except NasdslError:
        run = opened() if main else None
        if run is not None and not has_work(run.path):
            give_up(run)
        raise
    run = opened() if main else None
    if run is not None:
        drop_before(run.path)


def contents(options: Options, space: Space, train: Train | None) -> dict[str, Any]:
    """What of a run's folder tells by which tables it measures, and from which weights its trainings start."""
    files = {} if train is None else files_of(train.init)
    first = {part: content(init_file(name, space)) for part, name in files.items()}
    latency = {} if options.latency is None else {"latency": content(Path(options.latency))}
    others = {name: content(Path(file)) for name, file in options.measured.items()}
    return {**latency, **({"measured": others} if others else {}), **({"init": first} if first else {})}
