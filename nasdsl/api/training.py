"""`nasdsl.train` and `nasdsl.evaluate`: one architecture, trained and measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdsl.api.given import (
    CallError,
    DataLike,
    SpaceLike,
    WeightsLike,
    options_of,
    settings_of,
    space_like,
    weights_like,
)
from nasdsl.compiler import notebook
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.data import Data
from nasdsl.runtime.fit import Fitted, evaluate_space, train_space
from nasdsl.runtime.watch import OnProgress, watching

if TYPE_CHECKING:
    from nasdsl.api.searching import Found
    from nasdsl.runtime.data import DataSplits
    from nasdsl.runtime.tasks import Task


def train(
    space: SpaceLike,
    data: DataLike = None,
    *,
    inherit: WeightsLike | Found | Trained = None,
    fresh_head: bool = False,
    epochs: float | None = None,
    batch: int | None = None,
    seed: int = 0,
    out: str | PathLike[str] | None = None,
    run: str | PathLike[str] | None = None,
    fresh: bool = False,
    reader: str | None = None,
    links: bool = False,
    device: str = "auto",
    workers: int = 0,
    threads: int | None = None,
    on_progress: OnProgress | None = None,
    settings: Mapping[str, Any] | None = None,
    **more: Any,
) -> Trained:
    """Trains an architecture from scratch, or from weights that it inherits, as `nasdsl train` does.

        trained = nasdsl.train("found.space", (train_set, val_set), epochs=30, out="found.safetensors")
        trained = nasdsl.train(found, "cifar10.zip", inherit=found, optimiser={"lr": 0.002})
        print(trained.metrics)

    With `out` it keeps its run in `runs/NAME.train`, and goes on with one that was interrupted. Without, and without
    `run`, everything is kept in memory.

    Args:
        space: an architecture: a space without decisions, what a search found, or the path of a file.
        data: a path, the name of data that ships, `(train, val)` sets of torch or loaders, or `nasdsl.Data`; left out,
            what ships for the task.
        inherit: weights to start from: a file, the folder of a `search sample`, a network, or what a search or a
            training gave.
        fresh_head: begin with a new head, which may be one for another number of classes.
        epochs, batch: left out, by the number of images.
        out: the file of the weights, `trained.safetensors`; left out, none is written.
        settings: of `train`, by name, in nested records; also as keywords: `augment="cifar"`,
            `optimiser={"name": "sgd"}`.

    The others are as in `search`.

    Raises:
        CompileError: a mistake in the file, a setting that does not exist or does not fit, or the space has decisions.
        ArgumentError: arguments that do not go together.
        DataError, TaskError: the data cannot be read, or is not for the task.
        RunError: the training diverged, or the folder holds another run.
    """
    path = None if out is None else Path(out)
    if path is not None and path.suffix != ".safetensors":
        raise CallError(f"`out` names a .safetensors file, and not {path}")
    if fresh_head and inherit is None:
        raise CallError("`fresh_head` goes with `inherit`")
    given = space_like(space)
    if data is not None and not isinstance(data, str | PathLike):
        data = Data.of(data)
        if batch is None and "batch" not in (settings or {}) and "batch" not in more:
            batch = data.batch
    entries = settings_of(settings, more, {"epochs": epochs, "batch": batch})
    options = options_of(
        data,
        entries,
        run=run,
        seed=seed,
        fresh=fresh,
        reader=reader,
        links=links,
        device=device,
        workers=workers,
        threads=threads,
    )
    first = _weights(inherit)
    return Trained(train_space(given, path, options, first, watching(on_progress), fresh_head), path)


def _weights(given: Any) -> Path | Supernet | None:
    if given is None or isinstance(given, Supernet):
        return given
    if isinstance(given, str | PathLike):
        return Path(given)
    found = getattr(given, "network", None)
    if not isinstance(found, Supernet):
        raise CallError(f"`inherit` is a file or a network, and this {type(given).__name__} has none")
    return found


def evaluate(
    space: SpaceLike,
    data: DataLike = None,
    *,
    weights: WeightsLike = None,
    batch: int = 64,
    reader: str | None = None,
    links: bool = False,
    device: str = "auto",
    workers: int = 0,
    threads: int | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, float]:
    """The standard metric of an architecture's task on the validation split, as `nasdsl eval` measures it; on the test
    split of sets that are handed over with one.

        nasdsl.evaluate("found.space", "camvid.zip")
        nasdsl.evaluate(found, (train_set, val_set, test_set))["top1"]

    Args:
        space: what a search or a training gave, with its weights; or an architecture.
        data: as in `train`.
        weights: a file, or a network; by default the file beside the space's.
        batch: images at a time.

    Raises:
        CompileError: a mistake in the file, the space has decisions, or the weights are missing or of another network.
        DataError, TaskError: the data cannot be read, is not for the task, or has its classes in another order.
    """
    options = options_of(
        data, {}, reader=reader, links=links, device=device, workers=workers, threads=threads, test=True
    )
    watch = watching(on_progress)
    return evaluate_space(space_like(space), options, weights_like(space, weights), batch, watch)


@dataclass(frozen=True, repr=False, eq=False)
class Trained:
    """What came of a training.

    Attributes:
        fitted: as the runtime gives it.
        weights: the file of the weights; None where none was written.
    """

    fitted: Fitted = field(repr=False)
    weights: Path | None = None

    @property
    def space(self) -> Space:
        """The architecture, fitted to the data."""
        return self.fitted.space

    @property
    def architecture(self) -> Architecture:
        """Its values; none where its file has no decisions."""
        return self.fitted.result.architecture

    @property
    def network(self) -> Supernet:
        """With its weights, in evaluation mode."""
        return self.fitted.result.network.eval()

    @property
    def metrics(self) -> dict[str, float]:
        """On the validation split."""
        return dict(self.fitted.result.metrics)

    @property
    def costs(self) -> dict[str, float]:
        """MACs, parameters and so on."""
        return dict(self.fitted.result.costs)

    @property
    def run(self) -> Path | None:
        """The folder of the run; None where it was not kept."""
        return self.fitted.run

    @property
    def task(self) -> Task:
        """What it learnt."""
        return self.fitted.learning.task

    @property
    def data(self) -> DataSplits:
        """What it learnt it from."""
        return self.fitted.learning.data

    def save(self, path: str | PathLike[str]) -> Path:
        """Writes the weights, as `out` would have.

        Raises:
            OutputError: something else is there, or it cannot be written.
        """
        from nasdsl.runtime.outputs import check_weights, inputs_of
        from nasdsl.runtime.results import save_result

        out = Path(path)
        if out.suffix != ".safetensors":
            raise CallError(f"weights are a .safetensors file, and not `{out}`")
        check_weights(out, inputs_of(self.space))
        save_result(out, self.space, self.fitted.result, self.task, self.data)
        return out

    def facts(self) -> dict[str, Any]:
        """What `nasdsl train` tells of it, by name."""
        where = {"out": self.weights, "run": self.run}
        told = {name: str(path) for name, path in where.items() if path is not None}
        return {**told, **self.metrics, **self.costs}

    def __repr__(self) -> str:
        told = [
            f"{name} {value:,.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in self.facts().items()
        ]
        return f"Trained({', '.join(told)})"

    def _repr_html_(self) -> str | None:
        return notebook.html(self)
