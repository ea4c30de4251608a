"""What a reader is, and the split names that they share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from nasdsl.runtime.data.errors import DataError
from nasdsl.runtime.data.files import Files
from nasdsl.runtime.data.images import Size, common_size, image_size, spread
from nasdsl.runtime.data.splits import DataSplits, Request

Item = TypeVar("Item")

TRAIN = ("train", "training")
VAL = ("val", "valid", "validation", "test", "testing")
"""Names of the split to validate on, most wanted first."""


@dataclass(frozen=True)
class Reader:
    """One layout of files for one task.

    `expects` says the layout in a user's words; `accepts` looks at names (and where it must, into a file) and answers
    at once; `read` raises DataError for what is wrong inside.
    """

    name: str
    task: str
    expects: str
    accepts: Callable[[Files], bool]
    read: Callable[[Files, Request], DataSplits]


def split_of(word: str) -> str | None:
    """The split that a folder or file name speaks of: `train2017` is "train", `valannot` is "val", `cat` is None."""
    match = re.match(r"(training|train|validation|valid|val|testing|test)(?![a-z])", word.lower())
    return match.group(1) if match else None


def pick_splits(found: Sequence[str], where: str) -> tuple[str, str | None]:
    """The train name and the best validation name among `found` (None when there is none).

    Raises:
        DataError: there is no train split.
    """
    by_split = {split: name for name in sorted(found, reverse=True) if (split := split_of(name))}
    train = next((by_split[name] for name in TRAIN if name in by_split), None)
    if train is None:
        raise DataError(f'{where} has no split named "train"; it has {", ".join(sorted(found)) or "none"}')
    return train, next((by_split[name] for name in VAL if name in by_split), None)


def hold_out(items: Sequence[Item], seed: int, fraction: float = 0.2) -> tuple[list[Item], list[Item]]:
    """A fixed random part of `items` for validation, the rest for training; both in their order."""
    count = max(1, round(len(items) * fraction))
    chosen = set(np.random.default_rng([seed, 20]).permutation(len(items))[:count].tolist())
    return [x for i, x in enumerate(items) if i not in chosen], [x for i, x in enumerate(items) if i in chosen]


def probe_size(files: Files, names: Sequence[str], otherwise: Size) -> Size:
    """The size that 64 images spread over `names` share, or else `otherwise`."""
    return common_size(size_of(files, names[i]) for i in spread(len(names), 64)) or otherwise


def size_of(files: Files, name: str) -> Size:
    """Height and width of an image, from its first bytes where these say it.

    Raises:
        DataError: it is no image.
    """
    try:
        return image_size(files.start(name), files.at(name))
    except DataError:
        return image_size(files.read(name), files.at(name))


def by_cross(size: Size) -> str:
    """A size as people write it, width first: 240x180."""
    return f"{size[1]}x{size[0]}"
