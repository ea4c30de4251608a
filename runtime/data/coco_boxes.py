"""COCO boxes: `images/<split>/`, or `<split>2017/`, with `annotations/instances_<split>.json`."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nasdsl.runtime.data.boxes import Pictures, Rows, Tally, declared_size, read_boxes
from nasdsl.runtime.data.coco_files import (
    Json,
    annotation_files,
    chosen_files,
    image_members,
    read_document,
    split_name,
)
from nasdsl.runtime.data.errors import DataError, did_you_mean, some
from nasdsl.runtime.data.files import Files
from nasdsl.runtime.data.readers import Reader, size_of
from nasdsl.runtime.data.reading import held_from
from nasdsl.runtime.data.splits import DataSplits, Request

EXPECTED = (
    'COCO boxes: "images" with id and file_name, "categories", and "annotations" with image_id, category_id and bbox'
)


@dataclass(frozen=True)
class _Split:
    """The images of one annotation file; labels count `names`, in the order of their `ids`."""

    names: tuple[str, ...]
    ids: tuple[Any, ...]
    pictures: Pictures
    tally: Tally = field(default_factory=Tally)


def accepts(files: Files) -> bool:
    """Whether there is an annotation file with categories."""
    return bool(_annotation_files(files))


def read(files: Files, request: Request) -> DataSplits:
    """One sample for each image. Classes are the categories, in the order of their ids.

    Raises:
        DataError: an annotation file is damaged or contradicts itself, an image is missing, or a split has no boxes.
    """
    train_name, val_name = chosen_files(files, _annotation_files(files))
    train = _read_split(files, train_name)
    if val_name is None:
        note = f"; {train_name} is the only split, so a fixed 20 % of its images validates"
        held, sources = None, held_from(train_name)
    else:
        note = f"; validation is {split_name(val_name)}"
        val = _read_split(files, val_name)
        held, sources = (_relabelled(val, train, files.at(val_name)), val.tally), (train_name, val_name)
    others = [one for one in (train_name, val_name) if one]
    return read_boxes(
        files, (train.pictures, train.tally), held, train.names, train.ids, request, "COCO boxes", sources, note, others
    )  # fmt: skip


def _annotation_files(files: Files) -> dict[str, list[str]]:
    keys = ("images", "annotations", "categories")
    return annotation_files(files, keys, "instances", ("keypoint", "panoptic", "stuff", "caption"), trusted=True)


def _read_split(files: Files, name: str) -> _Split:
    # Outlines are most of such a file, and nobody looks at them.
    return read_document(files, name, _parsed, EXPECTED, dropped="segmentation")


def _relabelled(val: _Split, train: _Split, where: str) -> Pictures:
    """The images of `val` with the labels that `train` has for classes of the same name.

    Raises:
        DataError: `train` has no such class.
    """
    unknown = [name for name in val.names if name not in train.names]
    if unknown:
        raise DataError(
            f'{where} has the category "{unknown[0]}", which training has not',
            help=did_you_mean(unknown[0], train.names) or f"training has {some(train.names)}",
        )
    if val.names == train.names:
        return val.pictures
    table = np.array([train.names.index(name) for name in val.names], dtype=np.int64)
    return [dataclasses.replace(one, labels=table[one.labels]) for one in val.pictures]


def _parsed(files: Files, document: Json, name: str) -> _Split:
    where = files.at(name)
    ids = _distinct([one["id"] for one in document["categories"]], "category", where)
    if not ids:
        raise DataError(f"{where} has no categories")
    named = {one["id"]: str(one.get("name", one["id"])).strip() for one in document["categories"]}
    ids.sort(key=lambda one: (isinstance(one, str), one))
    common = {word for word, count in Counter(named.values()).items() if count > 1}
    names = tuple(f"{named[one]} {one}" if named[one] in common else named[one] for one in ids)
    label = {one: i for i, one in enumerate(ids)}

    images = document["images"]
    numbers = {one: i for i, one in enumerate(_distinct([one["id"] for one in images], "image", where))}
    rows = [Rows() for _ in images]
    for i, one in enumerate(document["annotations"]):
        _add(one, f"{where}, annotation {one.get('id', f'number {i + 1}')}", numbers, label, rows)
    members = image_members(files, [str(one["file_name"]) for one in images], name)
    tally = Tally()
    pictures: Pictures = []
    for one, found in zip(images, rows, strict=True):
        member = members[str(one["file_name"])]
        declared = declared_size(one.get("height"), one.get("width"), f"{where}, image {one['id']!r}")
        size = declared or size_of(files, member)
        pictures.append(found.picture(member, one["id"], size, tally))
    return _Split(names, tuple(ids), pictures, tally)


def _distinct(ids: Sequence[Any], what: str, where: str) -> list[Any]:
    """
    Raises:
        DataError: one comes twice, or is neither a number nor a text.
    """
    seen: set[Any] = set()
    for one in ids:
        if not isinstance(one, (int, float, str)) or isinstance(one, bool) or one != one:
            raise DataError(f"{where}: a {what} has the id {one!r}; ids are numbers or texts")
        if one in seen:
            raise DataError(f"{where}: the {what} id {one!r} comes twice")
        seen.add(one)
    return list(ids)


def _add(one: Json, where: str, numbers: dict[Any, int], label: dict[Any, int], rows: list[Rows]) -> None:
    image, category = one["image_id"], one["category_id"]
    if image not in numbers:
        raise DataError(f"{where}: there is no image with id {image!r}")
    if category not in label:
        raise DataError(
            f"{where}: there is no category with id {category!r}", help=f"there are {some(map(str, label))}"
        )
    box = one["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(side, (int, float)) for side in box):
        raise DataError(f"{where}: a box is left, top, width and height, found {box!r}")
    left, top, width, height = (float(value) for value in box)
    area = one.get("area")
    rows[numbers[image]].add(
        (left, top, left + width, top + height), label[category], where,
        crowd=bool(one.get("iscrowd")), area=None if area is None else float(area),
    )  # fmt: skip


COCO_BOXES = Reader(
    name="COCO boxes",
    task="detection",
    expects="images/train, images/val with annotations/instances_train.json and …_val.json",
    accepts=accepts,
    read=read,
)
