"""Segmentation samples from pairs of image and mask, whatever the layout that named them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nasdsl.runtime.data.datasets import SegmentationSet
from nasdsl.runtime.data.errors import DataError
from nasdsl.runtime.data.files import Files
from nasdsl.runtime.data.images import Bytes, Cached, Size, coloured, decode, fit_inside, planes, upright
from nasdsl.runtime.data.labels import (
    HELP,
    IGNORE,
    LOOKED_AT,
    MOST_MASKS,
    Labels,
    Survey,
    class_list,
    labels_of,
    mask_image,
    name_of_list,
    survey,
)
from nasdsl.runtime.data.readers import by_cross, hold_out, probe_size
from nasdsl.runtime.data.reading import Reading
from nasdsl.runtime.data.splits import DataSplits, Request

USUAL_SIZE: Size = (512, 512)

Pairs = list[tuple[str, str]]
"""Member names of image and mask."""


def read_pairs(
    files: Files,
    train: Pairs,
    val: Pairs | None,
    request: Request,
    layout: str,
    sources: tuple[str, str],
    meaning: Callable[[Survey], Labels] | None = None,
    notes: Sequence[str] = (),
) -> DataSplits:
    """The splits of a segmentation data set; without a validation list, a fixed 20 % of training is held out.

    Images keep their aspect: they are resized to fit the size, and padded right and below with black and IGNORE.

    Args:
        sources: where both splits are from.
        meaning: what labels mean, where the layout says so; else they are what the masks and a list of classes say.

    Raises:
        DataError: there is no pair, the labels have no clear meaning, or the masks are none; an image or mask is
            damaged, they differ in size, or a mask has a value without a class (when the sample is first used).
    """
    if not train or (val is not None and not val):
        raise DataError(f"{files.title}: there are no images with masks in {sources[0] if not train else sources[1]}")
    named = class_list(files)
    masks = [mask for _, mask in train + (val or [])]
    if named is None and meaning is None and len(masks) > MOST_MASKS:
        raise DataError(
            f"{files.title} has no classes.txt, and {len(masks)} masks are too many to look through", help=HELP
        )
    found = survey(files, masks, len(masks) if named is None and meaning is None else LOOKED_AT)
    labels = meaning(found) if meaning is not None else labels_of(files, found, named)
    note = ""
    if val is None:
        train, val = hold_out(train, request.seed, found.present if found.whole else None)
        note = "; there is no validation split, so a fixed 20 % validates"
    size = request.size or probe_size(files, [image for image, _ in train + val], USUAL_SIZE)
    reading = Reading(
        files, *sources, tuple(image for image, _ in train + val), (*masks, *name_of_list(files)),
        (*labels.notes, *notes),
    )  # fmt: skip
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
        reading=reading,
    )


def _samples(files: Files, pairs: Pairs, labels: Labels, size: Size, request: Request) -> SegmentationSet:
    from PIL import Image as pillow

    def load(index: int) -> Bytes:
        image_name, mask_name = pairs[index]
        mapped = labels.mapped(mask_image(files, mask_name), files.at(mask_name))
        sides = (mapped.shape[0], mapped.shape[1])
        image = upright(decode(files.read(image_name), files.at(image_name)), sides)
        if sides != (image.height, image.width):
            raise DataError(
                f"{files.at(mask_name)} is {by_cross(sides)} but its image is {by_cross((image.height, image.width))}"
            )
        image = coloured(image, request.channels, files.at(image_name))
        mask = fit_inside(pillow.fromarray(mapped), size, IGNORE, "nearest")
        return np.concatenate([planes(fit_inside(image, size, 0, "smooth")), planes(mask)])

    return SegmentationSet(Cached(len(pairs), (request.channels + 1, *size), load, request.cache_bytes))
