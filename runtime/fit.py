"""Training and evaluation of one architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.elaborate.program import elaborate
from nasdsl.compiler.source import Source
from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.checkpoint import AboutWeights
from nasdsl.runtime.data import DataError, DataSplits, Loader
from nasdsl.runtime.data.errors import some
from nasdsl.runtime.files import content
from nasdsl.runtime.inherit import SUPERNET, load_supernet
from nasdsl.runtime.lock import let_go
from nasdsl.runtime.loop import run_epochs
from nasdsl.runtime.outputs import check_weights, inputs_of
from nasdsl.runtime.pretrained import begin, check_start, files_of
from nasdsl.runtime.problem import Result, Silent, Watch
from nasdsl.runtime.provenance import write_result
from nasdsl.runtime.recipes import with_recipe
from nasdsl.runtime.results import save_result
from nasdsl.runtime.runs import TRAINING, About
from nasdsl.runtime.search import (
    Options,
    claimed,
    contents,
    data_identity,
    fabric_for,
    fit_to_data,
    run_folder,
    run_path,
    without_paths,
)
from nasdsl.runtime.settings import Train, merged, read_settings
from nasdsl.runtime.settle import settle
from nasdsl.runtime.tasks import Normalise, Task, find_task
from nasdsl.runtime.trained import architecture, load_network
from nasdsl.runtime.trainer import Trainer, finite


def train_settings(space: Space, overrides: Mapping[str, Any]) -> Train:
    """The `train` section of a space, else the `train` entry of its `search`, over the preset's; `overrides` go first.

    Raises:
        CompileError: an entry that does not exist or does not fit, or a part or a file that is not there, at its place
            in the file.
    """
    section = space.sections.get("train")
    if section is not None:
        entries, spans = dict(section.entries), dict(section.spans)
    else:
        search = space.sections.get("search")
        inner = search.entries.get("train", {}) if search is not None else {}
        entries = dict(inner)
        known = search.spans if search is not None else {}
        spans = {key.removeprefix("train."): span for key, span in known.items() if key.startswith("train.")}
    entries = with_recipe(merged(entries, overrides, Train), spans.get("preset"))
    settings = read_settings(Train, entries, spans, "`train`")
    check_start(space, settings, spans)
    return settings


def train(
    source: Source,
    out: Path,
    options: Options,
    name: str | None,
    defines: Mapping[str, str],
    inherit: Path | None = None,
    watch: Watch | None = None,
    fresh_head: bool = False,
) -> Result:
    """Trains an architecture from scratch, or from inherited weights, and writes its weights to `out`.

    Args:
        inherit: a file with the architecture's weights, or the folder of a `search sample`, whose supernet has them.
        fresh_head: inherit all but the head, which may be one for another number of classes.

    Raises:
        CompileError, DataError, TaskError, RunError: in the user's words.
    """
    space, data, task = fit_to_data(elaborate(source, name, defines), options, watch=watch)
    architecture(space)
    check_weights(out, inputs_of(space, options.data, inherit))
    settings = settle(train_settings(space, options.overrides or {}), len(data.train))
    if inherit is not None and files_of(settings.init):
        help = "leave one out"
        raise error("two-starts", "`--inherit` and a file under `init` both give the first weights", None, help=help)
    task = find_task(task.name).from_data(data, **settings.task)
    torch.manual_seed(options.seed)
    network = Supernet(space.graph)
    notes: list[str] = []
    if inherit is None:
        notes = begin(network, settings.init, space)
    elif inherit.is_dir():
        whole, _ = load_supernet(inherit, space)
        network = whole.extract(Architecture.at(whole.graph, space.pins))
    else:
        network, _ = load_network(space, inherit, fresh_head)
    identity = {
        "train": without_paths(settings.model_dump(mode="json")),
        "inherit": _content_of(inherit),
        **({"fresh_head": True} if fresh_head else {}),
    }
    fabric = fabric_for(options, settings.precision)
    about = About(
        space=space.digest(),
        data=data_identity(options.data, data.description),
        seed=options.seed,
        search=TRAINING,
        settings=identity,
        **contents(options, space, settings),
    )
    try:
        return _trained(network, space, options, out, about, settings, fabric, (task, data), notes, watch)
    finally:
        let_go(run_path(options, out, TRAINING))


def _trained(
    network: Supernet,
    space: Space,
    options: Options,
    out: Path,
    about: About,
    settings: Train,
    fabric: Fabric,
    learnt: tuple[Task, DataSplits],
    notes: Sequence[str],
    watch: Watch | None,
) -> Result:
    """The training itself, in its folder, and what is written of it."""
    task, data = learnt
    run = run_folder(options, out, space, about, fabric)
    if watch is not None and fabric.is_global_zero:
        for line in notes:
            watch.note(line)
    with claimed(lambda: run, fabric.is_global_zero):
        trainer = Trainer(network, task, data, settings, fabric, options.seed, options.workers)
        run.restore(trainer)
        run_epochs(trainer, run, watch or Silent(), "train")
    with trainer.averaged(settings.recalibrate) as best:
        metrics = finite(trainer.measure())
        alone = Architecture.of(space, {})
        result = Result(alone, best.extract(alone), metrics, {k: float(v) for k, v in cost_of(space.graph, {}).items()})
    if trainer.fabric.is_global_zero:
        save_result(out, space, result, task, data)
        write_result(run.path, None, out, options.data, options.reader, options.links)
    return result


def _content_of(inherit: Path | None) -> str:
    """What is inherited, wherever it lies."""
    if inherit is None:
        return ""
    return content(inherit / SUPERNET if inherit.is_dir() else inherit)


@torch.no_grad()
def evaluate(
    network: Supernet, task: Task, data: DataSplits, batch: int, device: torch.device | str = "cpu"
) -> dict[str, float]:
    """The task's standard metric on the validation split."""
    network.to(device).eval()
    metric = task.metric(device)
    for images, targets in Loader(data.val, batch, normalise=task.normalise, device=device).epoch(0):
        metric.update(task.infer(network, images, targets), targets)
    return metric.compute()


def evaluate_file(
    source: Source,
    options: Options,
    name: str | None,
    defines: Mapping[str, str],
    weights: Path | None,
    batch: int,
    watch: Watch | None = None,
) -> dict[str, float]:
    """The metric of an architecture with its weights. `watch` is told what was read.

    Raises:
        CompileError, DataError, TaskError: in the user's words.
    """
    space, data, task = fit_to_data(elaborate(source, name, defines), options, watch=watch)
    network, about = load_network(space, weights)
    same_order(about.classes or (), data.classes)
    same_features(about, data)
    if hasattr(task, "learnt_by") and about.mean is not None and about.std is not None:
        task = task.learnt_by(network, Normalise(about.mean, about.std))
    return evaluate(network, task, data, batch, fabric_for(options, "32-true").device)


def same_order(trained: Sequence[str], found: Sequence[str]) -> None:
    """
    Raises:
        DataError: a class has one number in the data that a network was trained with, and another here. Names that only
            one of them has say nothing.
    """
    numbers = {name: number for number, name in enumerate(trained)}
    for number, name in enumerate(found):
        if numbers.get(name, number) != number:
            raise DataError(
                f"the network learnt `{name}` as class {numbers[name]}, and in this data it is class {number}",
                help=f"bring the classes into the order {some(trained, 12)}",
            )


def same_features(about: AboutWeights, data: DataSplits) -> None:
    """
    Raises:
        DataError: the columns of a table are not those that a network was trained with, in their order.
    """
    trained, found = about.features, tuple(data.details.get("features", ()))
    if trained is not None and trained != found:
        raise DataError(
            f"the network learnt from the features {some(trained, 12)}, and this data has {some(found, 12)}",
            help="bring the columns into that order",
        )
