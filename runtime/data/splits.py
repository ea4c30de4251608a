"""What a reader is asked for, and what it gives: train and validation samples with what a task must know of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from nasdsl.runtime.data.errors import DataError
from nasdsl.runtime.data.images import Size
from nasdsl.runtime.data.layouts import KeypointLayout
from nasdsl.runtime.data.reading import Reading

GIB = 1 << 30


class Samples(Protocol):
    """A map-style data set that can also hand out a whole batch at once."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        """Image, float32 (C, H, W) in 0..1, and target."""
        ...

    def batch(self, indices: list[int]) -> tuple[Tensor, Any]:
        """Images, uint8 (B, C, H, W), and collated targets."""
        ...


@dataclass(frozen=True)
class Request:
    """What the user asked for. Sizes are (height, width); None leaves it to the reader.

    `train_size` is the size of stored training samples when it is to differ from `size`, so that an augmentation can
    crop from more than it shows. `sides` (shortest, longest) sizes images whose batches may differ in size (detection
    only): the shortest side gets that length, unless the longest would become too long. `cache_bytes` bounds the
    decoded samples kept in memory, each split by itself. `canvas` and `scenes` (train, val) are of the embedded scenes.
    """

    task: str
    size: Size | None = None
    train_size: Size | None = None
    channels: int = 3
    seed: int = 0
    cache_bytes: int = GIB
    centre_crop: float = 1.0
    canvas: Size = (64, 64)
    scenes: tuple[int, int] = (512, 128)
    sides: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for what, size in (("size", self.size), ("train_size", self.train_size), ("canvas", self.canvas)):
            if size is not None and not (len(size) == 2 and all(1 <= side <= 16384 for side in size)):
                raise DataError(f"{what} must be height and width in pixels, 1 to 16384 each, not {size}")
        if self.sides is not None:
            self._check_sides(self.sides)
        if self.channels not in (1, 3) and self.task != "regression":
            raise DataError(f"images have 1 (grey) or 3 (colour) channels, not {self.channels}")
        if not 0 < self.centre_crop <= 1:
            raise DataError(f"centre_crop is a fraction of the image, above 0 and up to 1, not {self.centre_crop}")
        if min(self.canvas) < 24 or min(self.scenes) < 1:
            raise DataError(
                f"scenes need a canvas of at least 24x24 and one scene a split, not {self.canvas}, {self.scenes}"
            )

    def _check_sides(self, sides: tuple[int, int]) -> None:
        if not (len(sides) == 2 and 1 <= sides[0] <= sides[1] <= 16384):
            raise DataError(f"sides are the shortest and the longest in pixels, 1 to 16384, not {sides}")
        if self.task != "detection":
            raise DataError(f"sides are for detection, not for {self.task}", help="give size, the height and width")
        if self.size is not None or self.train_size is not None:
            raise DataError("images are sized either by sides or by size and train_size, not by both")


@dataclass(frozen=True)
class Normalised:
    """By what mean and deviation of each channel images have been normalised before they come here; None where nobody
    says."""

    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None


@dataclass(frozen=True)
class DataSplits:
    """Train and validation samples. `classes` are names, in order of label; for keypoints, of the instances.

    `ignore_index` is the label of pixels that count for nothing (segmentation only); `layout` names the joints
    (keypoints only); `size` is the (height, width) of validation samples, or what holds all of them where they differ;
    `description` is for people, and so is what `reading` has: where it all comes from. `details` of detection:
    `category_ids`, the annotation file's id of each class, and what was counted in the boxes of `train` and `val`. Of a
    table (regression) `classes` are the targets, `channels` is how many features there are, and `details` has the
    names of these, `features`. Images are 8-bit numbers, or floats in 0..1, unless they are `normalised`.
    """

    train: Samples
    val: Samples
    task: str
    classes: tuple[str, ...]
    channels: int
    size: Size
    description: str
    ignore_index: int | None = None
    layout: KeypointLayout | None = None
    details: dict[str, Any] = field(default_factory=dict, compare=False)
    reading: Reading | None = field(default=None, compare=False)
    normalised: Normalised | None = None

    def __post_init__(self) -> None:
        for name, split in (("train", self.train), ("validation", self.val)):
            if len(split) == 0:
                raise DataError(f"the {name} split is empty")
