"""Image folders: `train/<class>/*.png`, `val/<class>/*.png`."""

from __future__ import annotations

from collections import defaultdict

import torch

from nasdsl.runtime.data.datasets import ClassificationSet
from nasdsl.runtime.data.errors import DataError, did_you_mean, some
from nasdsl.runtime.data.files import Files, is_image
from nasdsl.runtime.data.images import Bytes, Cached, Size, centre_cut, coloured, decode, planes
from nasdsl.runtime.data.readers import Reader, by_cross, hold_out, pick_splits, probe_size, split_of
from nasdsl.runtime.data.splits import DataSplits, Request

USUAL_SIZE: Size = (224, 224)

NO_CLASSES = frozenset({"images", "masks", "labels", "annotations"})
"""Names of folders that speak of other tasks."""

Listing = list[tuple[str, str]]
"""Member names with the class of each."""


def accepts(files: Files) -> bool:
    """Whether images lie in `<split>/<class>/`, or all in `<class>/` with no split anywhere."""
    return bool(_by_split(files)) or bool(_unsplit(files))


def read(files: Files, request: Request) -> DataSplits:
    """Classes are the sorted names of the training folders. Images are cut to the aspect of the size and resized.

    Raises:
        DataError: a split or class is missing, or an image is damaged (when it is first used).
    """
    train, val, note = _listings(files, request)
    classes = tuple(sorted({label for _, label in train}))
    unknown = sorted({label for _, label in val} - set(classes))
    if unknown:
        raise DataError(
            f'{files.title} has the class "{unknown[0]}" for validation but not for training',
            help=did_you_mean(unknown[0], classes) or f"training has {some(classes)}",
        )
    size = request.size or probe_size(files, [name for name, _ in train + val], USUAL_SIZE)
    stored = request.train_size or size
    return DataSplits(
        train=_samples(files, train, classes, stored, request, 1.0),
        val=_samples(files, val, classes, size, request, request.centre_crop),
        task="classification",
        classes=classes,
        channels=request.channels,
        size=size,
        description=f"{files.title}: image folders, {len(train)} train and {len(val)} validation images at "
        f"{by_cross(size)}, {len(classes)} classes{note}",
    )


def _by_split(files: Files) -> dict[str, Listing]:
    found: dict[str, Listing] = defaultdict(list)
    for name in files.names:
        parts = name.split("/")
        if len(parts) == 3 and split_of(parts[0]) and is_image(name) and parts[1].lower() not in NO_CLASSES:
            found[parts[0]].append((name, parts[1]))
    return dict(found)


def _unsplit(files: Files) -> Listing:
    found = [(name, name.split("/")[0]) for name in files.names if name.count("/") == 1 and is_image(name)]
    folders = {label for _, label in found}
    plain = len(folders) > 1 and not any(split_of(label) or label.lower().endswith("annot") for label in folders)
    return found if plain and not folders & NO_CLASSES else []


def _listings(files: Files, request: Request) -> tuple[Listing, Listing, str]:
    splits = _by_split(files)
    if not splits:
        train, val = hold_out(_unsplit(files), request.seed)
        return train, val, "; no split was given, so a fixed 20 % validates"
    train_name, val_name = pick_splits(list(splits), files.title)
    if val_name is None:
        train, val = hold_out(splits[train_name], request.seed)
        return train, val, f"; {train_name} is the only split, so a fixed 20 % of it validates"
    return splits[train_name], splits[val_name], f"; validation is {val_name}"


def _samples(
    files: Files, listing: Listing, classes: tuple[str, ...], size: Size, request: Request, fraction: float
) -> ClassificationSet:
    number = {label: i for i, label in enumerate(classes)}

    def load(index: int) -> Bytes:
        name = listing[index][0]
        image = coloured(decode(files.read(name), files.at(name)), request.channels)
        return planes(centre_cut(image, size, fraction))

    pixels = Cached(len(listing), (request.channels, *size), load, request.cache_bytes)
    return ClassificationSet(pixels, torch.tensor([number[label] for _, label in listing], dtype=torch.int64))


IMAGE_FOLDERS = Reader(
    name="image folders",
    task="classification",
    expects="train/<class>/*.png and val/<class>/*.png",
    accepts=accepts,
    read=read,
)
