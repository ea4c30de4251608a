"""Training and evaluation of one architecture."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.as_file import as_file, write_source
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.pipeline import elaborate
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
from nasdsl.runtime.problem import Learning, Result, Silent, Watch
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
    nowhere,
    run_folder,
    run_path,
    without_paths,
)
from nasdsl.runtime.settings import Train, merged, read_settings
from nasdsl.runtime.settle import settle
from nasdsl.runtime.tasks import Normalise, Task, find_task
from nasdsl.runtime.trained import architecture, load_network, take_weights
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
    """As `train_space`, of a file's space.

    Raises:
        CompileError, DataError, TaskError, RunError: in the user's words.
    """
    return train_space(elaborate(source, name, defines), out, options, inherit, watch, fresh_head).result


@dataclass(frozen=True)
class Fitted:
    """What came of a training.

    Attributes:
        space: the architecture, fitted to the data.
        run: the folder of the run; None where it was not kept.
        learning: what it was trained with.
    """

    result: Result
    space: Space
    run: Path | None
    learning: Learning


def train_space(
    plain: Space,
    out: Path | None,
    options: Options,
    inherit: Path | Supernet | None = None,
    watch: Watch | None = None,
    fresh_head: bool = False,
) -> Fitted:
    """Trains an architecture from scratch, or from inherited weights, and writes its weights to `out`.

    Args:
        out: None writes nothing; without a folder in the options nothing is kept of the run either.
        inherit: a file with the architecture's weights, or the folder of a `search sample`, whose supernet has them; or
            a network, of the architecture or of a space that it is of.
        fresh_head: inherit all but the head, which may be one for another number of classes.

    Raises:
        CompileError, DataError, TaskError, RunError: in the user's words.
    """
    if out is None and options.run is None:
        with nowhere(options) as options:
            return replace(_fitted(plain, out, options, inherit, watch, fresh_head), run=None)
    return _fitted(plain if out is None else as_file(plain, out.parent), out, options, inherit, watch, fresh_head)


def _fitted(
    plain: Space,
    out: Path | None,
    options: Options,
    inherit: Path | Supernet | None,
    watch: Watch | None,
    fresh_head: bool,
) -> Fitted:
    space, data, task = fit_to_data(plain, options, watch=watch)
    architecture(space)
    if out is not None:
        check_weights(out, inputs_of(space, options.path, inherit if isinstance(inherit, Path) else None))
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
    elif isinstance(inherit, Supernet):
        take_weights(network, inherit, space, fresh_head)
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
    if out is not None and fabric.is_global_zero:
        write_source(space)
    try:
        result, run = _trained(network, space, options, out, about, settings, fabric, (task, data), notes, watch)
        return Fitted(result, space, run, Learning(task, data, fabric))
    finally:
        let_go(run_path(options, out, TRAINING))


def _trained(
    network: Supernet,
    space: Space,
    options: Options,
    out: Path | None,
    about: About,
    settings: Train,
    fabric: Fabric,
    learnt: tuple[Task, DataSplits],
    notes: Sequence[str],
    watch: Watch | None,
) -> tuple[Result, Path]:
    """The training itself, in its folder, and what is written of it."""
    task, data = learnt
    run = run_folder(options, out, space, about, fabric)
    if watch is not None and fabric.is_global_zero:
        for line in notes:
            watch.note(line)
    with claimed(lambda: run, fabric.is_global_zero):
        trainer = Trainer(network, task, data, settings, fabric, options.seed, options.threads)
        run.restore(trainer)
        run_epochs(trainer, run, watch or Silent(), "train")
    with trainer.averaged(settings.recalibrate) as best:
        metrics = finite(trainer.measure())
        alone = Architecture.of(space, {})
        result = Result(alone, best.extract(alone), metrics, {k: float(v) for k, v in cost_of(space.graph, {}).items()})
    if out is not None and trainer.fabric.is_global_zero:
        save_result(out, space, result, task, data)
        write_result(run.path, None, out, options.path, options.reader, options.links, options.given)
    return result, run.path


def _content_of(inherit: Path | Supernet | None) -> str:
    """What is inherited, wherever it lies."""
    if inherit is None:
        return ""
    if isinstance(inherit, Supernet):
        text = hashlib.sha256()
        for name, tensor in inherit.state_dict().items():
            text.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        return text.hexdigest()[:16]
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


def evaluate_space(
    plain: Space,
    options: Options,
    weights: Path | Supernet | None = None,
    batch: int = 64,
    watch: Watch | None = None,
) -> dict[str, float]:
    """The metric of an architecture.

    Args:
        weights: a file, by default the one beside the space's file, or a network that has them.

    Raises:
        CompileError, DataError, TaskError: in the user's words.
    """
    space, data, task = fit_to_data(plain, options, watch=watch)
    if isinstance(weights, Supernet):
        network = Supernet(architecture(space).graph)
        take_weights(network, weights, space)
    else:
        network, about = load_network(space, weights)
        same_order(about.classes or (), data.classes)
        same_features(about, data)
        task = _as_learnt(task, network, about, data)
    return evaluate(network, task, data, batch, fabric_for(options, "32-true").device)


def _as_learnt(task: Task, network: Supernet, about: AboutWeights, data: DataSplits) -> Task:
    """The task with images normalised as the network learnt them.

    Raises:
        DataError: the network learnt from images that had been normalised, nobody said how, and these are pixels.
    """
    if data.normalised is not None:  # nothing is done to them
        return task
    if about.normalised is not None:
        raise DataError(
            "the network learnt from images that had been normalised, and its weights do not say how",
            help="train it on `nasdsl.Data(..., normalised=(mean, std))`, or measure it on images of that kind",
        )
    if about.mean is None or about.std is None:
        return task
    normalise = Normalise(about.mean, about.std)
    if hasattr(task, "learnt_by"):
        return task.learnt_by(network, normalise)
    if is_dataclass(task) and not isinstance(task, type) and hasattr(task, "normalise"):
        names = {one.name for one in fields(task)}
        return replace(task, normalise=normalise) if "normalise" in names else task
    return task


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
