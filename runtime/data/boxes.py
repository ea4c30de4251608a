"""Images with boxes, cleaned, from whatever layout named them; the samples of object detection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from nasdsl.runtime.data.errors import DataError, some
from nasdsl.runtime.data.files import Files
from nasdsl.runtime.data.images import (
    Bytes,
    CachedEach,
    Size,
    coloured,
    decode,
    inner_size,
    mean_colour,
    planes,
    resized_to,
    upright,
)
from nasdsl.runtime.data.readers import by_cross, hold_out
from nasdsl.runtime.data.reading import Reading
from nasdsl.runtime.data.splits import DataSplits, Request

if TYPE_CHECKING:
    from PIL.Image import Image

FARTHEST = 1e6
"""Coordinates beyond this are mistakes, not pixels."""
ROUNDING = 1.0
"""So many pixels outside of its image a box may be without being counted: files round, and count from 0 or from 1."""
MOST_SIDES = (800, 1333)
"""Shortest and longest side of images that no size was given for; smaller ones stay as they are (FPN paper)."""
MULTIPLE = 32
"""Sides of a batch whose images differ in size are multiples of the usual greatest stride."""

Targets = dict[str, Tensor]


@dataclass
class Tally:
    """What was done to the boxes of a split."""

    boxes: int = 0
    crowd: int = 0
    clipped: int = 0
    left_out: int = 0
    images_without_boxes: int = 0
    first_left_out: str = ""

    def counts(self) -> dict[str, int]:
        """All counts, by name."""
        return {key: value for key, value in vars(self).items() if isinstance(value, int)}

    def told(self) -> list[str]:
        """The uncommon counts, in words."""
        counts = (
            (self.clipped, "cut at the borders of their images"),
            (self.left_out, "without area left out"),
            (self.crowd, "crowded or difficult"),
        )
        told = [f"{count} boxes {what}" for count, what in counts if count]
        return told + ([f"{self.images_without_boxes} images without boxes"] if self.images_without_boxes else [])


@dataclass(frozen=True)
class Picture:
    """One image with its boxes (n, 4): x1, y1, x2, y2 in its pixels, where pixel i covers [i, i + 1)."""

    member: str
    id: Any
    size: Size
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    area: NDArray[np.float32]


def declared_size(height: Any, width: Any, where: str) -> Size | None:
    """The size of an image as its annotation has it; None where it has none, or 0 for it.

    Raises:
        DataError: the sides are not whole numbers, or those of no image.
    """
    if height in (None, 0) or width in (None, 0):
        return None
    if not all(
        isinstance(side, (int, float)) and 0 < side <= FARTHEST and side == int(side) for side in (height, width)
    ):
        raise DataError(f"{where}: height and width are whole numbers of pixels, not {height!r} and {width!r}")
    return int(height), int(width)


@dataclass
class Rows:
    """The boxes of one image, as they are read one by one, with how a message names each."""

    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    area: list[float | None] = field(default_factory=list)
    where: list[str] = field(default_factory=list)

    def add(
        self,
        box: tuple[float, float, float, float],
        label: int,
        where: str,
        crowd: bool = False,
        area: float | None = None,
    ) -> None:
        """One more box. `area` in pixels; None is that of the box.

        Raises:
            DataError: a number is not one, or far beyond any image.
        """
        if not all(abs(value) <= FARTHEST for value in box):
            raise DataError(f"{where}: a box has four numbers of at most {FARTHEST:,.0f} pixels, found {list(box)}")
        if area is not None and not 0 <= area <= FARTHEST**2:
            raise DataError(f"{where}: an area is a number of pixels, found {area}")
        self.boxes.append(box)
        self.labels.append(label)
        self.crowd.append(crowd)
        self.area.append(area)
        self.where.append(where)

    def picture(self, member: str, id: Any, size: Size, tally: Tally) -> Picture:
        """The image with what is left of its boxes once they are cut at its borders.

        Boxes that have no area, or that are given by their corners in the wrong order, are left out.
        """
        given = np.array(self.boxes, dtype=np.float64).reshape(-1, 4)
        height, width = size
        boxes = given.clip(0, [width, height, width, height]).astype(np.float32)
        sides = boxes[:, 2:] - boxes[:, :2]
        kept: NDArray[np.bool_] = np.asarray(sides.min(axis=1) > 0)
        own = sides.prod(axis=1)
        area = np.array([own[i] if one is None else one for i, one in enumerate(self.area)], dtype=np.float32)
        crowd = np.array(self.crowd, dtype=bool)
        tally.boxes += int(kept.sum())
        tally.crowd += int(crowd[kept].sum())
        tally.clipped += int(((np.abs(boxes - given) > ROUNDING).any(axis=1) & kept).sum())
        tally.left_out += int((~kept).sum())
        tally.images_without_boxes += not kept.any()
        if not tally.first_left_out and not kept.all():
            tally.first_left_out = self.where[int(np.argmin(kept))]
        labels = np.array(self.labels, dtype=np.int64)
        return Picture(member, id, size, boxes[kept], labels[kept], crowd[kept], area[kept])


Pictures = list[Picture]
Load = Callable[[int, Size], Bytes]
"""Image number and size to pixels (C, H, W)."""


class DetectionSet(Dataset[tuple[Tensor, Targets]]):
    """Images of any size, each with any number of boxes.

    A batch is padded at the right and at the bottom with the mean colour, which is 0 once it is normalised: to
    `canvas`, or else to the least multiple of 32 that holds all of its images. A target has, for each image,

    - `boxes` (M, 4): x1, y1, x2, y2 in pixels of the padded image, where pixel i covers [i, i + 1); M is the greatest
      number in the batch, at least 1, and rows that are no box are 0;
    - `labels` (M,): classes from 0, or -1 where the row is no box;
    - `crowd` (M,): regions that neither teach nor count against (COCO's `iscrowd`, VOC's `difficult`);
    - `area` (M,): of the object, in pixels of its original image;
    - `size` (2,) and `original` (2,): height and width of the part that shows the image, and of the original image;
    - `image_id`: the index of the image in this set.

    `ids` has the image ids of the annotation file, by index.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        shown: Sequence[Size],
        load: Load,
        canvas: Size | None,
        channels: int,
        limit: int,
    ) -> None:
        """`shown` are the sizes that images are loaded at; decoded ones are cached up to `limit` bytes."""
        self._pixels = CachedEach([(channels, *size) for size in shown], lambda i: load(i, shown[i]), limit)
        self.canvas = canvas
        self.ids: list[Any] = [one.id for one in pictures]
        self._fill = torch.tensor(mean_colour(channels), dtype=torch.uint8)
        self._size = torch.tensor(list(shown), dtype=torch.int64).view(-1, 2)
        self._original = torch.tensor([one.size for one in pictures], dtype=torch.int64).view(-1, 2)
        # The boxes of all images one after the other, so that a million of them is four tensors.
        self._starts = np.concatenate([[0], np.cumsum([len(one.labels) for one in pictures], dtype=np.int64)])
        self._boxes = _joined([one.boxes for one in pictures], (0, 4), torch.float32)
        self._labels = _joined([one.labels for one in pictures], (0,), torch.int64)
        self._crowd = _joined([one.crowd for one in pictures], (0,), torch.bool)
        self._area = _joined([one.area for one in pictures], (0,), torch.float32)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[Tensor, Targets]:
        images, targets = self.batch([range(len(self))[index]])
        return images[0].float() / 255, {key: value[0] for key, value in targets.items()}

    @property
    def cached(self) -> bool:
        """Whether decoded samples stay in memory."""
        return self._pixels.kept

    @property
    def largest(self) -> Size:
        """Height and width that hold every image."""
        return self.canvas or _padded(self._size.amax(dim=0).tolist())

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Targets]:
        """Images, uint8 (B, C, H, W), and the collated targets."""
        rows = list(indices)
        size, original = self._size[rows], self._original[rows]
        height, width = self.canvas or _padded(size.amax(dim=0).tolist())
        images = self._fill[:, None, None].repeat(len(rows), 1, height, width)
        for image, pixels in zip(images, self._pixels.take(rows), strict=True):
            image[:, : pixels.shape[1], : pixels.shape[2]] = pixels
        return images, self._targets(rows, size, original)

    def _targets(self, rows: list[int], size: Tensor, original: Tensor) -> Targets:
        parts = [slice(int(self._starts[row]), int(self._starts[row + 1])) for row in rows]
        most = max([1, *(part.stop - part.start for part in parts)])
        boxes, area = torch.zeros(len(rows), most, 4), torch.zeros(len(rows), most)
        labels = torch.full((len(rows), most), -1)
        crowd = torch.zeros(len(rows), most, dtype=torch.bool)
        scale = (size / original).flip(-1).repeat(1, 2)
        for i, part in enumerate(parts):
            count = part.stop - part.start
            boxes[i, :count] = self._boxes[part] * scale[i]
            labels[i, :count], crowd[i, :count] = self._labels[part], self._crowd[part]
            area[i, :count] = self._area[part]
        return {
            "boxes": boxes, "labels": labels, "crowd": crowd, "area": area, "size": size, "original": original,
            "image_id": torch.tensor(rows),
        }  # fmt: skip


def _joined(parts: list[NDArray[Any]], shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.concatenate([np.zeros(shape), *parts])).to(dtype)


def _padded(size: Sequence[int]) -> Size:
    height, width = (-(-side // MULTIPLE) * MULTIPLE for side in size)
    return height, width


def within_sides(original: Size, sides: tuple[int, int], enlarge: bool) -> Size:
    """The size of which the shortest side is `sides[0]`, or less where the longest would be more than `sides[1]`."""
    scale = min(sides[0] / min(original), sides[1] / max(original))
    scale = scale if enlarge else min(scale, 1.0)
    height, width = (max(1, round(side * scale)) for side in original)
    return height, width


def shown_at(sizes: Sequence[Size], size: Size | None, sides: tuple[int, int] | None) -> list[Size]:
    """The size at which each image is loaded: inside `size`, or by `sides`, or as it is unless it is very large."""
    if size is not None:
        return [inner_size(one, size) for one in sizes]
    return [within_sides(one, sides or MOST_SIDES, enlarge=sides is not None) for one in sizes]


def read_boxes(
    files: Files,
    train: tuple[Pictures, Tally],
    val: tuple[Pictures, Tally] | None,
    classes: tuple[str, ...],
    category_ids: tuple[Any, ...],
    request: Request,
    layout: str,
    sources: tuple[str, str],
    note: str = "",
    others: Sequence[str] = (),
) -> DataSplits:
    """The splits of a detection data set; without a validation list, a fixed 20 % of the training images is held out.

    Images keep their aspect: they are resized to fit the size, and padded.

    Args:
        sources: where both splits are from, and `others`: the members that say so.

    Raises:
        DataError: a split has no image or no box.
    """
    (pictures, tally), held = train, val[0] if val else None
    _has_boxes(files, pictures, tally, "training")
    tallies = {"train": tally.counts()}
    if val is None:
        pictures, held = _hold_out_images(files, pictures, request.seed)
    else:
        _has_boxes(files, val[0], val[1], "validation")
        tallies["val"] = val[1].counts()
    assert held is not None
    train_set = _samples(files, pictures, request.train_size or request.size, request)
    val_set = _samples(files, held, request.size, request)
    size = val_set.largest
    counts = [f"{what}: {', '.join(told)}" for what, told in _told(tally, val[1] if val else None) if told]
    at = f"at {by_cross(size)}" if request.size else f"of up to {by_cross(size)}"
    description = (
        f"{files.title}: {layout}, {len(pictures)} train and {len(held)} validation images {at}, "
        f"{tally.boxes + (val[1].boxes if val else 0)} boxes of {len(classes)} classes{note}"
    )
    return DataSplits(
        train=train_set,
        val=val_set,
        task="detection",
        classes=classes,
        channels=request.channels,
        size=size,
        description="; ".join([description, *counts]),
        details={"category_ids": list(category_ids), **tallies},
        reading=Reading(
            files, *sources, tuple(one.member for one in pictures + held), tuple(others),
            (f"boxes: {tally.boxes + (val[1].boxes if val else 0):,}", *counts, *_missing(classes, pictures, held)),
        ),
    )  # fmt: skip


def _missing(classes: Sequence[str], train: Pictures, val: Pictures) -> list[str]:
    """The classes of which a split has no box."""
    told = []
    for what, pictures in (("trains", train), ("validates", val)):
        there = {int(label) for one in pictures for label in np.unique(one.labels)}
        missing = [name for i, name in enumerate(classes) if i not in there]
        if missing:
            told.append(f"warning: no box of {some(missing)} {what}")
    return told


def _told(train: Tally, val: Tally | None) -> list[tuple[str, list[str]]]:
    return [("training", train.told()), ("validation", val.told())] if val else [("all images", train.told())]


def _has_boxes(files: Files, pictures: Pictures, tally: Tally, what: str) -> None:
    if not pictures:
        raise DataError(f"{files.title}: the {what} split has no images")
    if tally.boxes == 0 and tally.left_out:
        raise DataError(
            f"{files.title}: none of the {tally.left_out} boxes of the {what} split has an area inside its image",
            help=f"the first is {tally.first_left_out}",
        )
    if tally.boxes == tally.crowd:
        only = " that is not crowded or difficult" if tally.crowd else ""
        raise DataError(f"{files.title}: none of the {len(pictures)} images of the {what} split has a box{only}")


def _hold_out_images(files: Files, pictures: Pictures, seed: int) -> tuple[Pictures, Pictures]:
    """By the classes that images have, and those without boxes as one of these."""
    if sum(bool(len(one.labels)) for one in pictures) < 2:
        raise DataError(
            f"{files.title} has one image with boxes, which can be for training or for validation",
            help="give more images, or a train and a validation split",
        )
    return hold_out(pictures, seed, [np.unique(one.labels).tolist() for one in pictures])


def _samples(files: Files, pictures: Pictures, size: Size | None, request: Request) -> DetectionSet:
    members, sizes = [one.member for one in pictures], [one.size for one in pictures]

    def load(index: int, shown: Size) -> Bytes:
        image = upright_as_annotated(files, members[index], sizes[index])
        return planes(resized_to(coloured(image, request.channels, files.at(members[index])), shown))

    shown = shown_at(sizes, size, request.sides)
    return DetectionSet(pictures, shown, load, size, request.channels, request.cache_bytes)


def upright_as_annotated(files: Files, member: str, size: Size | None) -> Image:
    """An image, turned upright unless its annotations, made for `size`, were made before turning.

    Raises:
        DataError: it cannot be read, or has another size than its annotations.
    """
    image = upright(decode(files.read(member), files.at(member)), size)
    found = (image.height, image.width)
    if size is not None and found != size:
        raise DataError(f"{files.at(member)} is {by_cross(found)}, but its annotations are for {by_cross(size)}")
    return image
