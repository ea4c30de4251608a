"""COCO keypoints: `images/<split>/` with `annotations/person_keypoints_<split>.json`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nasdsl.runtime.data.boxes import declared_size, upright_as_annotated
from nasdsl.runtime.data.coco_files import (
    Json,
    annotation_files,
    chosen_files,
    image_members,
    read_document,
    split_name,
)
from nasdsl.runtime.data.crops import USUAL_SIZE, Instance, crops
from nasdsl.runtime.data.datasets import enlarged
from nasdsl.runtime.data.errors import DataError
from nasdsl.runtime.data.files import Files
from nasdsl.runtime.data.images import Bytes, Size, coloured, crop_box, planes
from nasdsl.runtime.data.layouts import KeypointLayout
from nasdsl.runtime.data.readers import Reader, by_cross, hold_out
from nasdsl.runtime.data.reading import Reading, held_from
from nasdsl.runtime.data.splits import DataSplits, Request

FARTHEST = 1e6
"""Coordinates beyond this are mistakes, not pixels."""

EXPECTED = 'COCO keypoints: "images" with id and file_name, "categories", and "annotations" with image_id and keypoints'


@dataclass(frozen=True)
class Named:
    """An instance with the member that holds its image, and the size of that as the annotations have it, if they do."""

    instance: Instance
    member: str
    size: Size | None


def accepts(files: Files) -> bool:
    """Whether there is an annotation file with keypoints."""
    return bool(_annotation_files(files))


def read(files: Files, request: Request) -> DataSplits:
    """One sample per instance with at least one labelled joint; crowds are left out.

    Raises:
        DataError: an annotation file is damaged or contradicts itself, an image is missing, or no instance has joints.
    """
    train_name, val_name = chosen_files(files, _annotation_files(files))
    layout, train, note_of_train = read_document(files, train_name, _parsed, EXPECTED)
    sources, notes = held_from(train_name), [note_of_train]
    if val_name is None:
        train, val = _hold_out_images(train, request.seed)
        note = f"; {train_name} is the only split, so a fixed 20 % of its images validates"
    else:
        val_layout, val, note_of_val = read_document(files, val_name, _parsed, EXPECTED)
        notes.append(note_of_val)
        note = f"; validation is {split_name(val_name)}"
        sources = (train_name, val_name)
        if val_layout.names != layout.names:
            raise DataError(
                f"{files.title}: the splits name their joints differently: {layout.names}, {val_layout.names}"
            )
    size = request.size or USUAL_SIZE
    stored, more = enlarged(size, request.train_size)
    return DataSplits(
        train=_samples(files, train, stored, more, request),
        val=_samples(files, val, size, 1.0, request),
        task="keypoints",
        classes=("person",),
        channels=request.channels,
        size=size,
        description=f"{files.title}: COCO keypoints, {len(train)} train and {len(val)} validation instances at "
        f"{by_cross(size)}, {len(layout.names)} joints{note}",
        layout=layout,
        reading=Reading(
            files, *sources, tuple(dict.fromkeys(one.member for one in train + val)),
            tuple(one for one in (train_name, val_name) if one), tuple(one for one in notes if one),
        ),
    )  # fmt: skip


def _annotation_files(files: Files) -> dict[str, list[str]]:
    return annotation_files(files, ("keypoints", "images"), "keypoint")


def _parsed(files: Files, document: Json, name: str) -> tuple[KeypointLayout, list[Named], str]:
    """The joints, the instances with a labelled one, and how many others there are."""
    where = files.at(name)
    categories = {one["id"]: one for one in document["categories"] if one.get("keypoints")}
    annotations = [one for one in document["annotations"] if "keypoints" in one and not one.get("iscrowd")]
    if not categories and annotations:
        layout = KeypointLayout.unnamed(len(annotations[0]["keypoints"]) // 3)
    elif len({tuple(one["keypoints"]) for one in categories.values()}) == 1:
        category = next(iter(categories.values()))
        skeleton = tuple((int(a) - 1, int(b) - 1) for a, b in category.get("skeleton") or ())
        layout = KeypointLayout.of(tuple(str(joint) for joint in category["keypoints"]), skeleton)
    else:
        raise DataError(
            f"{where} has {len(categories)} categories with different joints",
            help="give all categories one set of joints",
        )
    images = {int(one["id"]): (i, str(one["file_name"])) for i, one in enumerate(document["images"])}
    sizes = {
        int(one["id"]): declared_size(one.get("height"), one.get("width"), f"{where}, image {one['id']!r}")
        for one in document["images"]
    }
    members = image_members(files, [file_name for _, file_name in images.values()], name)
    found: list[Named] = []
    for one in annotations:
        instance = _instance(one, images, layout, where)
        if instance is not None:
            found.append(Named(instance, members[images[instance.image_id][1]], sizes[instance.image_id]))
    if not found:
        raise DataError(f"{where} has no instance with a labelled joint: the split is empty")
    others = len(document["annotations"]) - len(found)
    note = f"left out: {others:,} annotations of {name} without a labelled joint, or of crowds" if others else ""
    return layout, found, note


def _instance(one: Json, images: dict[int, tuple[int, str]], layout: KeypointLayout, where: str) -> Instance | None:
    """The annotation as an instance; None when no joint is labelled."""
    ann_id, image_id = int(one["id"]), int(one["image_id"])
    count = len(layout.names)
    joints = np.asarray(one["keypoints"], dtype=np.float32)
    if joints.shape != (3 * count,):
        raise DataError(f"{where}, annotation {ann_id}: {count} joints need {3 * count} numbers, found {joints.size}")
    joints = joints.reshape(count, 3)
    if not (np.abs(joints) <= FARTHEST).all() or not np.isin(joints[:, 2], (0, 1, 2)).all():
        raise DataError(f"{where}, annotation {ann_id}: a joint is x, y and visibility 0, 1 or 2")
    if image_id not in images:
        raise DataError(f"{where}, annotation {ann_id}: there is no image with id {image_id}")
    if not -(1 << 63) <= ann_id < 1 << 63:
        raise DataError(f"{where}: the annotation id {ann_id} is larger than 64 bits")
    labelled = joints[joints[:, 2] > 0, :2]
    if not len(labelled):
        return None
    left, top = (float(value) for value in labelled.min(axis=0))
    width, height = (float(value) for value in labelled.max(axis=0) - labelled.min(axis=0))
    box = tuple(float(value) for value in one.get("bbox") or (left, top, width, height))
    if len(box) != 4 or not all(abs(value) <= FARTHEST for value in box):
        raise DataError(f"{where}, annotation {ann_id}: a box is left, top, width and height, found {one.get('bbox')}")
    sides = (max(box[2], 1.0), max(box[3], 1.0))
    area = float(one.get("area") or sides[0] * sides[1])
    if not 0 < area <= FARTHEST**2:
        raise DataError(f"{where}, annotation {ann_id}: an area is a number of pixels above 0, found {one['area']}")
    return Instance(images[image_id][0], image_id, ann_id, (box[0], box[1], *sides), area, joints)


def _hold_out_images(found: list[Named], seed: int) -> tuple[list[Named], list[Named]]:
    """By image, so that no image is in two splits."""
    _, kept = hold_out(sorted({one.instance.image_id for one in found}), seed)
    held = set(kept)
    train = [one for one in found if one.instance.image_id not in held]
    return train, [one for one in found if one.instance.image_id in held]


def _samples(files: Files, found: list[Named], size: Size, more: float, request: Request) -> Any:
    named = {one.instance.image: one for one in found}

    def crop(image: int, box: tuple[float, float, float, float], size: Size) -> Bytes:
        one = named[image]
        pixels = upright_as_annotated(files, one.member, one.size)
        return planes(crop_box(coloured(pixels, request.channels, files.at(one.member)), box, size))

    return crops([one.instance for one in found], crop, size, more, request.channels, request.cache_bytes)


COCO_KEYPOINTS = Reader(
    name="COCO keypoints",
    task="keypoints",
    expects="images/train, images/val with annotations/person_keypoints_train.json and …_val.json",
    accepts=accepts,
    read=read,
)
