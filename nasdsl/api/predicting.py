"""`nasdsl.predict`: what a trained network finds in images, or in rows of tables."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nasdsl.api.given import CallError, SpaceLike, WeightsLike
from nasdsl.api.trained import trained_like
from nasdsl.compiler import notebook
from nasdsl.compiler.diagnostics import NasdslError, error
from nasdsl.compiler.files import write_text
from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet
from nasdsl.predictions import Results
from nasdsl.runtime.checkpoint import AboutWeights
from nasdsl.runtime.data.given_values import picture_of
from nasdsl.runtime.device import device_named
from nasdsl.runtime.found import Found, FoundBoxes, Names
from nasdsl.runtime.predict import Photo, Predictor, Shown, photos_in, predictor_for
from nasdsl.runtime.predict import predict as predicted
from nasdsl.runtime.predict_rows import Given, is_for_tables, names_of, predict_rows, tables_at
from nasdsl.runtime.usual import MOST_CLASSES, SCORE
from nasdsl.runtime.watch import OnProgress, Watch, watching

if TYPE_CHECKING:
    from PIL.Image import Image

ROWS_AT_ONCE = 256

ImageLike: TypeAlias = "str | PathLike[str] | Image | Tensor | NDArray[Any]"
"""A path: of an image, or of a folder or zip with images anywhere below it; or an image."""


def predict(
    space: SpaceLike,
    images: ImageLike | Sequence[ImageLike],
    out: str | PathLike[str] | None = None,
    *,
    weights: WeightsLike = None,
    score: float | None = None,
    most: int | None = None,
    overwrite: bool = False,
    links: bool = False,
    batch: int = 8,
    device: str = "auto",
    threads: int | None = None,
    on_progress: OnProgress | None = None,
) -> Predictions | Numbers:
    """Applies a trained architecture to images, as `nasdsl predict` does.

        for one in nasdsl.predict(found, ["photos/", image]):
            print(one.name, one.found.labels[0], one.found.scores[0])
        nasdsl.predict("found.space", "photos.zip", "out")

    Args:
        space: what a search or a training gave, with its weights; or an architecture.
        images: paths of images, folders and zips; images of Pillow's, arrays (H, W) or (H, W, C) of 8 bits, or tensors
            (C, H, W) of 8 bits or of floats in 0..1; one or several. For regression from tables: paths of CSV files, or
            a matrix (rows, features).
        out: a folder for drawings of what is found and the usual file of the task; left out, nothing is written.
        weights: a file, or a network of a training; by default the file beside the space's.
        score: detections that are less sure are left out, and joints marked as hidden (default 0.3).
        most: detections of an image (default: all), or classes that are listed (default 5).
        overwrite: write into `out` though it is not empty.
        links: follow links that lead out of folders of images.
        batch: images at a time.

    Returns:
        what is found in each image, in order; of tables the numbers.

    Raises:
        CompileError: a mistake in the file, the space has decisions, or its weights are missing or of another network;
            no image can be read.
        DataError: a path leads nowhere or has no image.
        ArgumentError: arguments that do not go together.
    """
    several = list(images) if isinstance(images, list | tuple) else [images]
    folder = None if out is None else Path(out)
    paths = [Path(one) for one in several if isinstance(one, str | PathLike)]
    if folder is not None:
        _check_out(folder, paths, overwrite)
    on = device_named(device)
    if threads:
        torch.set_num_threads(threads)
    made, network, about = trained_like(space, weights)
    if is_for_tables(made):
        _no_limits("regression", score, most)
        return _numbers(made, network, about, several, folder, links, max(batch, ROWS_AT_ONCE), on)
    predictor = _limited(predictor_for(made, about), score, most)
    left_out: list[str] = []
    shown = [
        Path(one) if isinstance(one, str | PathLike) else Shown(f"image{i}.png", picture_of(one, f"image {i}"))
        for i, one in enumerate(several)
    ]
    photos = photos_in(shown, folder, links, left_out)
    watch = watching(on_progress)
    for line in left_out:
        watch.note(f"left out: {line}")
    found = _found(network, predictor, photos, folder, about, batch, on, watch, f"{made.name} ({made.digest()})")
    return dataclasses.replace(found, left_out=left_out)


def _found(
    network: Supernet,
    predictor: Predictor,
    photos: Sequence[Photo | Shown],
    folder: Path | None,
    about: AboutWeights,
    batch: int,
    device: str,
    watch: Watch,
    of: str,
) -> Predictions:
    results = None
    if folder is not None:
        results = Results(folder, photos, predictor.names, about.category_ids, predictor.score)
    unreadable: list[str] = []
    found: list[Prediction] = []

    def skip(photo: Photo | Shown, problem: NasdslError) -> None:
        unreadable.append(photo.where)
        watch.note(f"left out: {problem.diagnostics[0].message}")

    watch.start("predict", len(photos), 0)
    try:
        for photo, image, one in predicted(network, predictor, photos, batch, skip, device):
            if results is not None:
                results.add(photo, image, one)
            found.append(Prediction(photo.name, one))
            watch.step(len(found) + len(unreadable), {})
    finally:
        watch.stop()
    if not found:
        what = f"none of the {len(photos)} images can be read" if len(photos) > 1 else "the image cannot be read"
        raise error("no-images", what, None, help="nothing was written")
    files = [] if results is None else results.finish(predictor.task, f"found by {of}")
    return Predictions(found, predictor.task, predictor.names, files, unreadable)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What is found in one image.

    Attributes:
        name: of the image among those that were given.
        found: in the pixels of the image: `labels` and `scores` of the likeliest classes, `labels` of each pixel,
            `boxes` with `labels` and `scores`, or `points` with `scores`.
    """

    name: str
    found: Found


@dataclasses.dataclass(frozen=True, repr=False)
class Predictions(Sequence[Prediction]):
    """What is found in images, in order.

    Attributes:
        names: what classes and joints are called.
        files: what was written.
        unreadable: images that cannot be read, and `left_out`: files that were not looked at, and why.
    """

    found: Sequence[Prediction]
    task: str
    names: Names
    files: Sequence[Path] = ()
    unreadable: Sequence[str] = ()
    left_out: Sequence[str] = ()

    @overload
    def __getitem__(self, index: int) -> Prediction: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Prediction]: ...

    def __getitem__(self, index: int | slice) -> Prediction | Sequence[Prediction]:
        return self.found[index]

    def __len__(self) -> int:
        return len(self.found)

    def facts(self) -> dict[str, Any]:
        """What `nasdsl predict` tells of it, by name."""
        told: dict[str, Any] = {"images": len(self.found)}
        told |= {"out": [str(file) for file in self.files]} if self.files else {}
        told |= {"left_out": list(self.left_out)} if self.left_out else {}
        told |= {"unreadable": list(self.unreadable)} if self.unreadable else {}
        if self.task == "detection":
            told["detections"] = sum(len(one.found.labels) for one in self.found if isinstance(one.found, FoundBoxes))
        return told

    def __repr__(self) -> str:
        detections = self.facts().get("detections")
        more = "" if detections is None else f", {detections:,} detections"
        return f"Predictions({self.task}: {len(self):,} images{more})"

    def _repr_html_(self) -> str | None:
        return notebook.html(self)


# --- Tables -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, repr=False)
class Numbers:
    """What is predicted of rows.

    Attributes:
        targets: what the columns are called.
        values: (rows, targets), in the units of the targets.
        lines: of each row, the table and the line that it stands in.
        files: what was written.
    """

    targets: tuple[str, ...]
    values: NDArray[np.float64]
    lines: Sequence[tuple[str, int]]
    files: Sequence[Path] = ()

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[dict[str, float]]:
        for row in self.values.tolist():
            yield dict(zip(self.targets, row, strict=True))

    def facts(self) -> dict[str, Any]:
        """What `nasdsl predict` tells of it, by name."""
        return {"rows": len(self), **({"out": [str(file) for file in self.files]} if self.files else {})}

    def __repr__(self) -> str:
        return f"Numbers({', '.join(self.targets)}: {len(self):,} rows)"

    def _repr_html_(self) -> str | None:
        return notebook.html(self)


def _numbers(
    space: Space,
    network: Supernet,
    about: AboutWeights,
    several: Sequence[Any],
    folder: Path | None,
    links: bool,
    batch: int,
    device: str,
) -> Numbers:
    """Predicts from tables, and writes what is found in one."""
    features, targets = names_of(space, about, needs_features=any(isinstance(one, str | PathLike) for one in several))
    tables: list[Given] = []
    for number, one in enumerate(several):
        if isinstance(one, str | PathLike):
            tables += tables_at([Path(one)], features or (), links)
        else:
            tables.append(_rows(one, f"table {number}", space.graph.input.shape.channels))
    rows: list[list[float]] = []
    for table in tables:
        for some in predict_rows(network, about, table, batch, device):
            rows += some
    lines = [(table.name, line) for table in tables for line in table.lines]
    files: list[Path] = []
    if folder is not None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["table", "line", *targets])
        writer.writerows([*line, *(f"{value:.7g}" for value in row)] for line, row in zip(lines, rows, strict=True))
        files = [folder / "predictions.csv"]
        folder.mkdir(parents=True, exist_ok=True)
        write_text(files[0], text.getvalue())
    return Numbers(targets, np.asarray(rows, np.float64).reshape(len(rows), len(targets)), lines, files)


def _rows(given: Any, name: str, features: int) -> Given:
    """Rows that were handed over.

    Raises:
        CallError: they are no matrix with a column for each feature.
    """
    try:
        rows = torch.as_tensor(given, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        raise CallError("`images` are paths of tables, or a matrix of numbers") from None
    if rows.ndim != 2 or rows.shape[1] != features:
        raise CallError(f"`images` have {features} columns for the features, and here is {tuple(rows.shape)}")
    return Given(name, list(range(len(rows))), rows[:, :, None, None])


# --- Arguments --------------------------------------------------------------------------------------------------------


def _check_out(out: Path, images: Sequence[Path], overwrite: bool) -> None:
    """
    Raises:
        CallError: it cannot, or by mistake might, be written into.
    """
    if out.exists() and not out.is_dir():
        raise CallError(f"`out` names a folder, and {out} is a file")
    if any(path.is_dir() and path.resolve() == out.resolve() for path in images):
        raise CallError(f"{out} is the folder of the images", "name another one with `out`")
    if out.is_dir() and not overwrite and any(out.iterdir()):
        raise CallError(f"the folder {out} is not empty", "`overwrite` writes into it all the same")


def _limited(predictor: Predictor, score: float | None, most: int | None) -> Predictor:
    """
    Raises:
        CallError: a limit that says nothing for the task.
    """
    task = predictor.task
    _no_limits(task, score, most)
    most = most if task == "detection" else most or MOST_CLASSES
    return dataclasses.replace(predictor, score=SCORE if score is None else score, most=most)


def _no_limits(task: str, score: float | None, most: int | None) -> None:
    """
    Raises:
        CallError: a limit that says nothing for the task.
    """
    if score is not None and task not in ("detection", "keypoints"):
        raise CallError(f"`score` is for detection and keypoints, and this network is for {task}")
    if score is not None and not 0 <= score <= 1:
        raise CallError(f"`score` is a number from 0 to 1, and not {score}")
    if most is not None and task not in ("detection", "classification"):
        raise CallError(f"`most` is for detection and classification, and this network is for {task}")
    if most is not None and most < 1:
        raise CallError(f"`most` is at least 1, and not {most}")
