"""Image folders: `train/<class>/*.png`, `val/<class>/*.png`."""

from __future__ import annotations

from collections import defaultdict

import torch

from nasdsl.runtime.data.datasets import ClassificationSet
from nasdsl.runtime.data.errors import DataError, did_you_mean, some
from nasdsl.runtime.data.files import Files, is_image
from nasdsl.runtime.data.images import Bytes, Cached, Size, centre_cut, coloured, decode, planes, upright
from nasdsl.runtime.data.readers import Reader, by_cross, hold_out, probe_size
from nasdsl.runtime.data.reading import Reading, held_from
from nasdsl.runtime.data.split_names import is_split, pick_splits, split_of
from nasdsl.runtime.data.splits import DataSplits, Request

USUAL_SIZE: Size = (224, 224)

MASKS = frozenset({"masks", "mask", "labels", "annotations", "annots", "trainannot", "segmentation", "gt"})
"""Names of folders that speak of other tasks where one of `IMAGES` lies beside them."""
IMAGES = frozenset({"images", "image", "imgs", "jpegimages"})

Listing = list[tuple[str, str]]
"""Member names with the class of each."""


def accepts(files: Files) -> bool:
    """Whether images lie below `<split>/<class>/`, or all below `<class>/` with no split anywhere."""
    return files.chosen is None and bool(_by_split(files) or _unsplit(files))


def read(files: Files, request: Request) -> DataSplits:
    """Classes are the sorted names of the training folders. Images are cut to the aspect of the size and resized.

    Raises:
        DataError: a split or class is missing, or an image is damaged (when it is first used).
    """
    train, val, sources, note = _listings(files, request)
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
        reading=Reading(files, *sources, images=tuple(name for name, _ in train + val), notes=_missing(classes, val)),
    )


def _missing(classes: tuple[str, ...], val: Listing) -> tuple[str, ...]:
    """The classes that do not validate."""
    missing = sorted(set(classes) - {label for _, label in val})
    return (f"warning: no image of {some(missing)} validates",) if missing else ()


def _by_split(files: Files) -> dict[str, Listing]:
    found: dict[str, Listing] = defaultdict(list)
    for name in files.names:
        parts = name.split("/")
        if len(parts) > 2 and split_of(parts[0]) and is_image(name):
            found[parts[0]].append((name, parts[1]))
    if not found or not (any(split_of(split) == "train" for split in found) or all(map(is_split, found))):
        return {}
    return {} if _of_another_task({label for listing in found.values() for _, label in listing}) else dict(found)


def _unsplit(files: Files) -> Listing:
    """The classes are the folders at the top; one of them may be called as a split is, or as masks are."""
    found = [(name, name.split("/")[0]) for name in files.names if "/" in name and is_image(name)]
    folders = {label for _, label in found}
    splits = {split_of(label) for label in folders if is_split(label)}
    named = {f"{label}annot" for label in folders} & folders
    plain = len(folders) > 1 and len(splits) < 2 and not named and not _of_another_task(folders)
    deep = any(name.count("/") > 1 and split_of(name.split("/")[1]) for name, _ in found)
    return found if plain and not deep else []


def _of_another_task(folders: set[str]) -> bool:
    lower = {folder.lower() for folder in folders}
    return lower <= IMAGES or bool(lower & IMAGES and lower & MASKS) or bool(lower & {"jpegimages", "leftimg8bit"})


def _listings(files: Files, request: Request) -> tuple[Listing, Listing, tuple[str, str], str]:
    """What trains and what validates, where each is from, and how that is told."""
    splits = _by_split(files)
    if not splits:
        whole, origin, note = _unsplit(files), "the data", "; no split was given, so a fixed 20 % validates"
    else:
        train_name, val_name = pick_splits(list(splits), files.title)
        if val_name is not None:
            sources = (f"{train_name}/", f"{val_name}/")
            return splits[train_name], splits[val_name], sources, f"; validation is {val_name}"
        whole, origin = splits[train_name], f"{train_name}/"
        note = f"; {train_name} is the only split, so a fixed 20 % of it validates"
    train, val = hold_out(whole, request.seed, [(label,) for _, label in whole])
    return train, val, held_from(origin), note


def _samples(
    files: Files, listing: Listing, classes: tuple[str, ...], size: Size, request: Request, fraction: float
) -> ClassificationSet:
    number = {label: i for i, label in enumerate(classes)}

    def load(index: int) -> Bytes:
        name = listing[index][0]
        image = coloured(upright(decode(files.read(name), files.at(name))), request.channels, files.at(name))
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
