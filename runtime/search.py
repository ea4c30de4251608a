"""The main job: a space and data go in, a smaller space with weights comes out."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from nasdsl.compiler import measures
from nasdsl.compiler.diagnostics import NasdslError, error
from nasdsl.compiler.elaborate.program import elaborate
from nasdsl.compiler.measured import measured
from nasdsl.compiler.source import Source
from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet
from nasdsl.compiler.write import write_pinned
from nasdsl.runtime.checkpoint import AboutWeights, load_weights, save_weights
from nasdsl.runtime.data import DataSplits, open_data
from nasdsl.runtime.device import device_named
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.origin import write_origin
from nasdsl.runtime.problem import Problem, Result, Silent, Watch, check_decisions, head_of, task_of
from nasdsl.runtime.recipes import with_recipe
from nasdsl.runtime.runs import About, RunFolder, clear
from nasdsl.runtime.settings import Train, merged, read_settings
from nasdsl.runtime.settle import settle
from nasdsl.runtime.stored import checked
from nasdsl.runtime.strategies import find_strategy
from nasdsl.runtime.tasks import Task, find_task


@dataclass(frozen=True)
class Options:
    """Where and how to run, for searches, training and evaluation.

    Attributes:
        data: what to read; None is the embedded data.
        overrides: settings that come before those of the file, as nested records.
        latency: a latency table, and `measured`: by the names of other measures, the files that they are read from.
        devices, accelerator, precision: as Lightning Fabric takes them; under `torchrun` the processes share the work.
        fresh: start over where the run's folder holds an unfinished run.
    """

    data: str | None = None
    run: Path | None = None
    seed: int = 0
    overrides: Mapping[str, Any] | None = None
    accelerator: str = "auto"
    devices: int = 1
    workers: int = 0
    reader: str | None = None
    latency: str | None = None
    measured: Mapping[str, str] = field(default_factory=dict)
    fresh: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 1 << 32:
            raise error("bad-seed", f"a seed is a number from 0 to {(1 << 32) - 1:,}, and not {self.seed:,}", None)

    @property
    def tables(self) -> dict[str, Path]:
        """The files that measures are read from, by their names."""
        latency = {} if self.latency is None else {"latency": self.latency}
        return {name: Path(file) for name, file in {**latency, **self.measured}.items()}


def fit_to_data(
    source: Source, name: str | None, defines: Mapping[str, str], options: Options
) -> tuple[Space, DataSplits, Task]:
    """The space with the classes of the data and the measures that are read from files, the data in the size of the
    space's input, and the task between them.

    A parameter `classes` of the space is set to the data's number where the user has not set it.

    Raises:
        CompileError, DataError, TaskError: in the user's words.
    """
    space = elaborate(source, name, defines)
    data, task = _data(space, options, {})
    wanted, has = task.outputs, task.outputs_of(head_of(space))
    if wanted != has and "classes" in space.params and "classes" not in defines:
        space = elaborate(source, name, {**defines, "classes": str(wanted)})
        has = task.outputs_of(head_of(space))
    if wanted != has:
        raise error(
            "wrong-outputs",
            f"the data has {wanted} classes, and the network gives {has}",
            space.graph.nodes[space.graph.outputs[0]].span,
            help=f"set the number of classes to {wanted}",
        )
    return measured(space, options.tables), data, task


def _data(space: Space, options: Options, task_options: Mapping[str, Any]) -> tuple[DataSplits, Task]:
    shape = space.graph.input.shape
    if not all(isinstance(side, int) for side in (shape.channels, shape.height, shape.width)):
        raise error(
            "open-input",
            "the size of the input is open to choice",
            space.graph.input.span,
            help="pin it with `with { input ... }`",
        )
    name = task_of(space)
    data = open_data(
        options.data, name, size=(shape.height, shape.width), channels=shape.channels, seed=0, reader=options.reader
    )
    return data, find_task(name).from_data(data, **task_options)


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
    """Ends this process at once if it is one of several that train together; they leave together where all is well.

    Threads of their group outlive it, and the ordinary end of the interpreter may abort on them after all is done.
    """
    if not torch.distributed.is_initialized():
        return
    if code == 0:
        torch.distributed.barrier()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _set(name: str, default: int) -> int:
    """A number of processes that `torchrun` has set."""
    text = os.environ.get(name, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise RunError(f"the environment sets {name} to `{text}`, which is no number of processes")
    return int(text)


def search(
    source: Source,
    out: Path,
    options: Options,
    name: str | None = None,
    defines: Mapping[str, str] | None = None,
    runtime: str | None = None,
    watch: Watch | None = None,
) -> tuple[Result, Space]:
    """Runs the search that the file names (or `runtime`) and writes `out`, and the weights beside it.

    Raises:
        CompileError, DataError, TaskError, RunError: in the user's words.
    """
    space, data, task = fit_to_data(source, name, defines or {}, options)
    if source.path is None:
        raise error("no-file", "a search starts from a file, because its result names that file", None)
    section = space.sections.get("search")
    if section is None and runtime is None:
        raise error(
            "no-search",
            f"the space `{space.name}` has no `search` section",
            None,
            help="add `search shrink { ... }`, or name one with `--runtime shrink`",
        )
    chosen = runtime or (section.name if section is not None else "")
    strategy = find_strategy(chosen)
    reads = getattr(strategy, "reads", (chosen,))
    entries = dict(section.entries) if section is not None and section.name in reads else {}
    entries = merged(entries, options.overrides or {}, strategy.settings)
    spans = section.spans if section is not None else {}
    if isinstance(entries.get("train"), Mapping):
        entries["train"] = with_recipe(entries["train"], spans.get("train.preset"))
    settings = read_settings(strategy.settings, entries, spans, f"`search {chosen}`")
    check_decisions(strategy, space)
    train = settle(getattr(settings, "train", Train()), len(data.train))
    if "train" in strategy.settings.model_fields:
        settings = settings.model_copy(update={"train": train})
    task = find_task(task.name).from_data(data, **train.task)
    fabric = fabric_for(options, train.precision)
    run = run_folder(fabric, options, out, space, data, settings.model_dump(mode="json"), chosen)
    seen = watch if watch is not None and fabric.is_global_zero else Silent()
    problem = Problem(space, task, data, fabric, run, options.seed, options.workers, options.latency, seen)
    result = strategy().search(problem, settings)
    if problem.fabric.is_global_zero:
        write_found(out, space, result, task)
    return result, space


def run_folder(
    fabric: Fabric,
    options: Options,
    out: Path,
    space: Space,
    data: DataSplits,
    settings: Mapping[str, Any],
    strategy: str,
) -> RunFolder:
    """The folder of this run, the same in all processes; the first of them prepares it.

    Raises:
        RunError: it holds another run, or something else.
    """
    path = options.run or Path("runs") / out.stem
    about = About(
        space=space.digest(),
        data=f"{options.data or 'embedded'}: {data.description}",
        seed=options.seed,
        search=strategy,
        settings=dict(settings),
        **contents(options),
    )
    problem: NasdslError | None = None
    if fabric.is_global_zero:
        try:
            if options.fresh and path.is_dir():
                clear(path)
            RunFolder(path, about)
            write_origin(path, space)
        except NasdslError as refused:
            problem = refused
    problem = fabric.broadcast(problem)
    if problem is not None:
        raise problem
    return RunFolder(path, about)


def contents(options: Options) -> dict[str, Any]:
    """What of a run's folder tells by which tables it measures."""
    latency = {} if options.latency is None else {"latency": content(Path(options.latency))}
    others = {name: content(Path(file)) for name, file in options.measured.items()}
    return {**latency, **({"measured": others} if others else {})}


def content(file: Path) -> str:
    """A hash of a file's content; the empty string where it cannot be read, which its reader will tell."""
    if not file.is_file():  # reading a pipe may wait for ever
        return ""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    except OSError:
        return ""


def weights_path(path: Path) -> Path:
    """Where the weights of a result file stand."""
    return path.with_suffix(".safetensors")


def write_found(out: Path, space: Space, result: Result, task: Task) -> None:
    """The result file and its weights: the weights first, so that a result file always has them."""
    note = f"{costs_of(result.costs)}, {task.headline} {result.metrics[task.headline]:.4f}"
    save_result(weights_path(out), space, result, task)
    write_pinned(out, space, result.architecture, name_of(out), note)


def name_of(out: Path) -> str:
    """What the space of a result file is called: as the file is, if that is a word."""
    return out.stem if out.stem.isidentifier() else "found"


def costs_of(costs: Mapping[str, float]) -> str:
    """The costs of an architecture, in words; what is a multiple of another is left out."""
    told = []
    for name, cost in costs.items():
        measure = measures.lookup(name)
        if measure is not None and measure.of is None:
            amount = f"{cost / 1e6:,.3f}M" if measure.scale == 1 else f"{cost:,.4g}"
            told.append(f"{amount} {measure.label}")
    return ", ".join(told)


def save_result(file: Path, space: Space, result: Result, task: Task) -> None:
    """The weights of a result, with what is needed to use them: task, normalisation, costs, metrics."""
    metadata = {
        "space": space.name,
        "digest": space.digest(),
        "task": task.name,
        "mean": ",".join(map(str, task.normalise.mean)),
        "std": ",".join(map(str, task.normalise.std)),
        **{key: f"{value}" for key, value in {**result.metrics, **result.costs}.items()},
    }
    save_weights(file, result.network.state_dict(), metadata)


def architecture(space: Space) -> Space:
    """The space, if it is an architecture.

    Raises:
        CompileError: it has decisions.
    """
    if space.graph.decisions:
        first = next(iter(space.graph.decisions.values()))
        raise error(
            "not-an-architecture",
            f"`{space.name}` still has {len(space.graph.decisions)} decisions, such as `{first.path}`",
            first.span,
            help="search it first, or pin its decisions",
        )
    return space


def load_network(space: Space, weights: Path | None = None) -> tuple[Supernet, AboutWeights]:
    """An architecture's network with its weights, and what the weights' file says of itself.

    Args:
        weights: the file; by default the one beside the space's file.

    Raises:
        CompileError: the file is no architecture, or its weights are missing or belong to another.
    """
    network = Supernet(architecture(space).graph)
    assert weights is not None or space.source.path is not None
    file = weights or weights_path(space.source.path)  # type: ignore[arg-type]
    if not file.exists():
        raise error(
            "no-weights",
            f"the weights {file} are missing",
            None,
            help="train it with `nasdsl train`, or name a file with `--weights`",
        )
    tensors, metadata = load_weights(file)
    about = checked(AboutWeights, metadata, str(file), "a file of weights that can be used")
    wanted = network.state_dict()
    wrong = [n for n in wanted if n not in tensors or tensors[n].shape != wanted[n].shape] + [
        n for n in tensors if n not in wanted
    ]
    if wrong:
        raise error("bad-weights", f"{file} holds weights of another network: `{wrong[0]}` differs", None)
    network.load_state_dict(tensors)
    return network.eval(), about
