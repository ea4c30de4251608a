"""A trained network on rows of tables that nothing is known of: a number for each target, in its own units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.checkpoint import AboutWeights
from nasdsl.runtime.data.errors import DataError
from nasdsl.runtime.data.files import open_files
from nasdsl.runtime.data.tables import ENDINGS, numbered_rows
from nasdsl.runtime.problem import head_of, task_of
from nasdsl.runtime.tasks import Normalise, Regression


@dataclass(frozen=True)
class Given:
    """A table of the user's: its name, the line of each row in it, and the features (N, F, 1, 1)."""

    name: str
    lines: list[int]
    features: Tensor


def is_for_tables(space: Space) -> bool:
    """Whether a network reads rows of tables: it predicts numbers from one pixel."""
    shape = space.graph.input.shape
    return task_of(space) == Regression.name and (shape.height, shape.width) == (1, 1)


def names_of(
    space: Space, about: AboutWeights, needs_features: bool = True
) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """What features and targets are called.

    Args:
        needs_features: whether columns have to be found by their names.

    Raises:
        CompileError: the weights do not say, or say it of another network.
    """
    inputs, outputs = space.graph.input.shape.channels, Regression.outputs_of(head_of(space))
    if about.task is not None and about.task != Regression.name:
        raise error("wrong-task", f"the weights are for {about.task}, and the network for {Regression.name}", None)
    if about.mean is None or about.std is None or (needs_features and about.features is None):
        raise error("bad-weights", "the weights do not say which columns of a table they learnt from", None)
    targets = about.classes or tuple(f"target {i + 1}" for i in range(outputs))
    for what, names, has in (("features", about.features, inputs), ("targets", targets, outputs)):
        if names is not None and len(names) != has:
            raise error("bad-weights", f"the weights name {len(names)} {what}, and the network has {has}", None)
    return about.features, targets


def tables_at(paths: Sequence[Path], features: Sequence[str], links: bool = False) -> list[Given]:
    """The tables that paths name: files, and folders and zips with all tables in them.

    Raises:
        DataError: a path leads to no table, or a table lacks a feature or a number.
    """
    found: list[Given] = []
    for path in paths:
        files = open_files(path, links)
        names = [files.chosen] if files.chosen is not None else list(files.names)
        names = [name for name in names if name.lower().endswith(ENDINGS)]
        if not names:
            raise DataError(f"{path} has no table", help=f"the names of tables end in {' or '.join(ENDINGS)}")
        for name in names:
            table, rows = numbered_rows(files.text(name), files.at(name), features)
            if not table.rows:
                raise DataError(f"{files.at(name)} has no rows")
            found.append(Given(name, table.lines, rows))
    return found


@torch.inference_mode()
def predict_rows(
    network: Supernet, about: AboutWeights, given: Given, batch: int, device: torch.device | str = "cpu"
) -> Iterator[list[list[float]]]:
    """The targets of the rows of a table, some rows at a time."""
    assert about.mean is not None and about.std is not None
    normalise = Normalise(about.mean, about.std)
    network.to(device).eval()
    for rows in torch.split(given.features, batch):
        outputs: list[list[float]] = network(normalise(rows.to(device))).float().cpu().tolist()
        yield outputs
