"""Segmentation samples from pairs of image and mask, whatever the layout that named them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nasdsl.runtime.data.datasets import SegmentationSet
from nasdsl.runtime.data.errors import DataError
from nasdsl.runtime.data.files import Files
from nasdsl.runtime.data.images import Bytes, Cached, Size, coloured, decode, fit_inside, planes
from nasdsl.runtime.data.readers import by_cross, hold_out, probe_size
from nasdsl.runtime.data.splits import DataSplits, Request

if TYPE_CHECKING:
    from PIL.Image import Image

IGNORE = 255
"""The label of pixels that count for nothing, in every segmentation data set as it leaves a reader."""
WRONG = 254
"""Marks, in a table of labels, values that no mask of the data set may hold."""
VOID_NAMES = frozenset({"void", "unlabelled", "unlabeled", "ignore", "ignored", "unknown", "undefined"})
USUAL_SIZE: Size = (512, 512)

Pairs = list[tuple[str, str]]
"""Member names of image and mask."""


@dataclass(frozen=True)
class Labels:
    """What the values of a mask mean: `table[value]` is a class, IGNORE or WRONG."""

    classes: tuple[str, ...]
    table: Bytes = field(compare=False)

    @classmethod
    def named(cls, names: list[str]) -> Labels:
        """Value i is `names[i]`; names such as "void" or "Unlabelled" are ignored, as is 255."""
        if not 1 <= len(names) < WRONG:
            raise DataError(f"a mask can have 1 to {WRONG - 1} classes, not {len(names)}")
        table = np.full(256, WRONG, dtype=np.uint8)
        table[IGNORE] = IGNORE
        kept: list[str] = []
        for value, name in enumerate(names):
            void = name.strip().lower() in VOID_NAMES
            table[value] = IGNORE if void else len(kept)
            kept += [] if void else [name.strip()]
        return cls(tuple(kept), table)


def read_pairs(
    files: Files, train: Pairs, val: Pairs | None, labels: Labels, request: Request, layout: str
) -> DataSplits:
    """The splits of a segmentation data set; without a validation list, a fixed 20 % of training is held out.

    Images keep their aspect: they are resized to fit the size, and padded right and below with black and IGNORE.

    Raises:
        DataError: an image or mask is damaged, they differ in size, or a mask has a value without a class
            (when the sample is first used).
    """
    note = ""
    if val is None:
        train, val = hold_out(train, request.seed)
        note = "; there is no validation split, so a fixed 20 % validates"
    size = request.size or probe_size(files, [image for image, _ in train + val], USUAL_SIZE)
    return DataSplits(
        train=_samples(files, train, labels, request.train_size or size, request),
        val=_samples(files, val, labels, size, request),
        task="segmentation",
        classes=labels.classes,
        channels=request.channels,
        size=size,
        description=f"{files.title}: {layout}, {len(train)} train and {len(val)} validation images at "
        f"{by_cross(size)}, {len(labels.classes)} classes{note}",
        ignore_index=IGNORE,
    )


def mask_values(mask: Image, where: str) -> Bytes:
    """The labels (H, W) in a mask: grey levels, palette indices, or 0 and 1 of a bilevel image.

    Raises:
        DataError: the mask is a colour picture or has labels above 255.
    """
    if mask.mode not in ("L", "P", "1") and not mask.mode.startswith("I"):
        raise DataError(
            f"{where} is a colour picture ({mask.mode}), not a mask",
            help="a mask is an 8-bit grey or palette image whose values are class numbers",
        )
    values = np.asarray(mask)
    if values.dtype != np.bool_ and values.size and int(values.max()) > 255:
        raise DataError(f"{where} has the label {int(values.max())}; labels are 0 to 255")
    return values.astype(np.uint8)


def _samples(files: Files, pairs: Pairs, labels: Labels, size: Size, request: Request) -> SegmentationSet:
    from PIL import Image as pillow

    def load(index: int) -> Bytes:
        image_name, mask_name = pairs[index]
        image = coloured(decode(files.read(image_name), files.at(image_name)), request.channels)
        values = mask_values(decode(files.read(mask_name), files.at(mask_name)), files.at(mask_name))
        if values.shape != (image.height, image.width):
            raise DataError(
                f"{files.at(mask_name)} is {by_cross((values.shape[0], values.shape[1]))} "
                f"but its image is {by_cross((image.height, image.width))}"
            )
        mapped = labels.table[values]
        if (mapped == WRONG).any():
            raise DataError(
                f"{files.at(mask_name)} has the label {int(values[mapped == WRONG][0])}, "
                f"but there are {len(labels.classes)} classes",
                help="list the names of all classes, one a line and in order of label, in classes.txt",
            )
        mask = fit_inside(pillow.fromarray(mapped), size, IGNORE, "nearest")
        return np.concatenate([planes(fit_inside(image, size, 0, "smooth")), planes(mask)])

    return SegmentationSet(Cached(len(pairs), (request.channels + 1, *size), load, request.cache_bytes))
