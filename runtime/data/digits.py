"""The embedded default data: scikit-learn's handwritten digits, alone or composed into scenes.

Classification shows the 1,797 real 8x8 digits, resized. Segmentation labels the pixels of scenes (`scenes.py`).
Detection finds the digits of scenes: a box is around the ink of a digit, also where another digit lies over it.
Keypoints finds five points on each digit of a scene: `top`, `bottom`, `left_end` and `right_end` are the extreme
points of the stroke, `centre` is the middle of its ink. A mirror swaps the two ends.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from nasdsl.runtime.data.boxes import DetectionSet, Rows, Tally, shown_at
from nasdsl.runtime.data.crops import crops
from nasdsl.runtime.data.datasets import ClassificationSet, KeypointSet, SegmentationSet, enlarged
from nasdsl.runtime.data.errors import DataError
from nasdsl.runtime.data.idx import resized
from nasdsl.runtime.data.images import Bytes, Cached, Size, crop_box, fit_inside, planes, resized_to
from nasdsl.runtime.data.labels import IGNORE
from nasdsl.runtime.data.layouts import KeypointLayout
from nasdsl.runtime.data.readers import by_cross
from nasdsl.runtime.data.scenes import JOINTS, Scenes, compose
from nasdsl.runtime.data.splits import DataSplits, Request
from nasdsl.runtime.data.tables import embedded

if TYPE_CHECKING:
    from PIL.Image import Image

CLASSES = tuple(str(digit) for digit in range(10))


@lru_cache(maxsize=1)
def _digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """All digits (1797, 8, 8) in 0..1 and their labels."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return (bunch.images / 16).astype(np.float32), bunch.target.astype(np.int64)


def source(split: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The digits of one split, the same on every call and machine: 80 % of each class train."""
    images, labels = _digits()
    train = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        rows = np.random.default_rng([8, digit]).permutation(np.flatnonzero(labels == digit))
        train[rows[: round(len(rows) * 0.8)]] = True
    chosen = train if split == "train" else ~train
    return images[chosen], labels[chosen]


def read_default(request: Request) -> DataSplits:
    """The embedded data for a task; for regression that of `tables.embedded`.

    Raises:
        DataError: there is none for the task.
    """
    made = {
        "classification": _classification,
        "segmentation": _segmentation,
        "keypoints": _keypoints,
        "detection": _detection,
        "regression": embedded,
    }
    if request.task not in made:
        raise DataError(f'there is no embedded data for the task "{request.task}"', help="name your own with --data")
    return made[request.task](request)


def _classification(request: Request) -> DataSplits:
    size = request.size or (32, 32)

    def samples(split: str, size: Size) -> ClassificationSet:
        images, labels = source(split)
        grey = resized(torch.from_numpy((images * 255).round().astype(np.uint8)), size)
        pixels = Cached.of(grey[:, None].expand(-1, request.channels, -1, -1))
        return ClassificationSet(pixels, torch.from_numpy(labels))

    train, val = samples("train", request.train_size or size), samples("val", size)
    what = (
        f"scikit-learn's handwritten digits at {by_cross(size)}: {len(train)} train, {len(val)} validation, 10 classes"
    )
    return DataSplits(train, val, "classification", CLASSES, request.channels, size, what)


@lru_cache(maxsize=4)
def _scenes(split: str, seed: int, count: int, canvas: Size) -> Scenes:
    """Scenes made once for each setting: several tasks and runs in one process share them."""
    return compose(*source(split), seed=[seed, 0 if split == "train" else 1], count=count, canvas=canvas)


def _both(request: Request, canvas: Size) -> tuple[Scenes, Scenes]:
    train, val = request.scenes
    return _scenes("train", request.seed, train, canvas), _scenes("val", request.seed, val, canvas)


def _pixels(scenes: Scenes, channels: int) -> Bytes:
    """The images with 3 channels, or their mean (rounded down) as 1."""
    if channels == 3:
        return scenes.images
    grey: Bytes = scenes.images.mean(axis=1, keepdims=True).astype(np.uint8)
    return grey


def _as_image(pixels: Bytes) -> Image:
    """Pixels (C, H, W) as an image of Pillow's."""
    from PIL import Image as pillow

    return pillow.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _segmentation(request: Request) -> DataSplits:
    size = request.size or request.canvas
    # Scenes are composed at the size asked for, so that their digits stay sharp and nothing is resized.
    canvas = size if min(size) >= 24 else request.canvas

    def samples(scenes: Scenes, size: Size) -> SegmentationSet:
        joined = np.concatenate([_pixels(scenes, request.channels), scenes.masks[:, None]], axis=1)
        if size == canvas:
            return SegmentationSet(Cached.of(torch.from_numpy(joined)))
        return SegmentationSet(
            Cached(len(joined), (request.channels + 1, *size), lambda i: _refit(joined[i], size), request.cache_bytes)
        )

    train, val = _both(request, canvas)
    what = (
        f"scenes of handwritten digits at {by_cross(size)}: {len(train.images)} train, {len(val.images)} validation, "
        "10 digit classes and background"
    )
    classes = ("background", *CLASSES)
    samples_of_train, samples_of_val = samples(train, request.train_size or size), samples(val, size)
    return DataSplits(
        samples_of_train, samples_of_val, "segmentation", classes, request.channels, size, what, ignore_index=IGNORE
    )


def _refit(joined: Bytes, size: Size) -> Bytes:
    from PIL import Image as pillow

    pixels, mask = joined[:-1], joined[-1]
    return np.concatenate(
        [
            planes(fit_inside(_as_image(pixels), size, 0, "smooth")),
            planes(fit_inside(pillow.fromarray(mask), size, IGNORE, "nearest")),
        ]
    )


def _detection(request: Request) -> DataSplits:
    # As for segmentation; where sizes are left open, all scenes have that of the canvas, or what the sides make of it.
    size = request.size
    canvas = size if size is not None and min(size) >= 24 else request.canvas

    def samples(scenes: Scenes, size: Size | None) -> DetectionSet:
        pixels = _pixels(scenes, request.channels)
        tally = Tally()
        rows = [Rows() for _ in pixels]
        for instance, label in zip(scenes.instances, scenes.labels, strict=True):
            left, top, width, height = instance.box
            rows[instance.image].add((left, top, left + width, top + height), label, f"scene {instance.image}")
        pictures = [row.picture("", i + 1, canvas, tally) for i, row in enumerate(rows)]
        shown = shown_at([canvas] * len(pixels), size, request.sides)

        def load(index: int, shown: Size) -> Bytes:
            return planes(resized_to(_as_image(pixels[index]), shown))

        return DetectionSet(pictures, shown, load, size, request.channels, request.cache_bytes)

    train, val = _both(request, canvas)
    samples_of_train, samples_of_val = samples(train, request.train_size or size), samples(val, size)
    largest = samples_of_val.largest
    what = (
        f"scenes of handwritten digits at {by_cross(largest)}: {len(train.images)} train, {len(val.images)} validation"
        f", {len(train.instances) + len(val.instances)} boxes of 10 digits"
    )
    details = {"category_ids": list(range(10))}
    return DataSplits(
        samples_of_train, samples_of_val, "detection", CLASSES, request.channels, largest, what, details=details
    )


def _keypoints(request: Request) -> DataSplits:
    size = request.size or (64, 64)
    stored, more = enlarged(size, request.train_size)

    def samples(scenes: Scenes, size: Size, more: float) -> KeypointSet:
        pixels = _pixels(scenes, request.channels)

        def crop(image: int, box: tuple[float, float, float, float], size: Size) -> Bytes:
            return planes(crop_box(_as_image(pixels[image]), box, size))

        return crops(scenes.instances, crop, size, more, request.channels, request.cache_bytes)

    train, val = _both(request, request.canvas)
    what = (
        f"digits in scenes of {by_cross(request.canvas)}, cropped to {by_cross(size)}: {len(train.instances)} train, "
        f"{len(val.instances)} validation, joints {', '.join(JOINTS)}"
    )
    return DataSplits(
        samples(train, stored, more), samples(val, size, 1.0), "keypoints", ("digit",), request.channels, size, what,
        layout=KeypointLayout.of(JOINTS),
    )  # fmt: skip
