"""The three kinds of samples that have one size, as map-style data sets over cached `uint8` pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from nasdsl.runtime.data.errors import DataError
from nasdsl.runtime.data.images import Cached, Size

Target = TypeVar("Target")


class _Set(Dataset[tuple[Tensor, Target]], Generic[Target]):
    """What the three have in common: length, checked indices, and pixels scaled to 0..1 for single samples."""

    def __init__(self, pixels: Cached) -> None:
        self._pixels = pixels

    def __len__(self) -> int:
        return len(self._pixels)

    def _checked(self, index: int) -> list[int]:
        return [range(len(self))[index]]  # negative indices count from the end; IndexError beyond

    @property
    def cached(self) -> bool:
        """Whether decoded samples stay in memory."""
        return self._pixels.kept


class ClassificationSet(_Set[int]):
    """Images (C, H, W) with one label each."""

    def __init__(self, pixels: Cached, labels: Tensor) -> None:
        super().__init__(pixels)
        self.labels = labels

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        images, labels = self.batch(self._checked(index))
        return images[0].float() / 255, int(labels[0])

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images, uint8 (B, C, H, W), and labels, int64 (B,)."""
        return self._pixels.take(indices), self.labels[list(indices)]


class SegmentationSet(_Set[Tensor]):
    """Images with a label for each pixel. The mask is the last plane of what is cached, so both decode at once."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        images, masks = self.batch(self._checked(index))
        return images[0].float() / 255, masks[0]

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images, uint8 (B, C, H, W), and masks, int64 (B, H, W)."""
        planes = self._pixels.take(indices)
        return planes[:, :-1], planes[:, -1].long()


class KeypointSet(_Set[dict[str, Tensor]]):
    """Crops around one instance each, with joints.

    A target has `joints` (K, 3): x, y in pixels of the crop, where integers are pixel centres, and visibility
    (0 not labelled, 1 hidden, 2 visible); `centre` and `scale` (2,): the middle, and width and height, of the crop in
    pixels of its image, where pixel i covers [i, i + 1); `area` of the instance in its image; `size` (2,): height and
    width of the crop; `image_id`, `ann_id`.
    """

    def __init__(self, pixels: Cached, instances: dict[str, Tensor]) -> None:
        """`instances` has every key of a target but `size`, for all N instances; joints in pixels of their images."""
        super().__init__(pixels)
        size: Size = (pixels.shape[-2], pixels.shape[-1])
        count = len(pixels)
        joints = to_crop(instances["joints"], instances["centre"], instances["scale"], size)
        self._targets = {**instances, "joints": joints, "size": torch.tensor([size]).expand(count, 2)}

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        images, targets = self.batch(self._checked(index))
        return images[0].float() / 255, {key: value[0] for key, value in targets.items()}

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, dict[str, Tensor]]:
        """Images, uint8 (B, C, H, W), and the collated targets."""
        rows = list(indices)
        return self._pixels.take(rows), {key: value[rows] for key, value in self._targets.items()}


def to_crop(joints: Tensor, centre: Tensor, scale: Tensor, size: Size) -> Tensor:
    """Joints (N, K, 3) from pixels of the image to pixels of the crop; visibility stays, unlabelled joints become 0."""
    per_pixel = torch.tensor([size[1], size[0]]) / scale
    moved = (joints[..., :2] + 0.5 - (centre - scale / 2)[:, None]) * per_pixel[:, None] - 0.5
    seen = joints[..., 2:]
    return torch.cat([moved * (seen > 0), seen], dim=-1)


def to_image(points: Tensor, targets: dict[str, Tensor]) -> Tensor:
    """Points (N, K, 2) from pixels of the crop back to pixels of the image: the inverse of `to_crop`."""
    per_pixel = targets["scale"] / targets["size"].flip(-1)
    corner = targets["centre"] - targets["scale"] / 2
    return (points + 0.5) * per_pixel[:, None] + corner[:, None] - 0.5


def enlarged(size: Size, train_size: Size | None) -> tuple[Size, float]:
    """Size of stored training crops, and how much more of the image than `size` they show.

    Raises:
        DataError: `train_size` is not the same multiple of `size` in both directions.
    """
    if train_size is None:
        return size, 1.0
    more = train_size[0] / size[0]
    if more < 1 or abs(train_size[1] / size[1] - more) > 0.02:
        raise DataError(
            f"for keypoints, train_size must be a multiple of size in both directions: {train_size}, {size}"
        )
    return train_size, more


def collate(samples: list[tuple[Tensor, Any]]) -> tuple[Tensor, Any]:
    """A batch from single samples, for data sets of users that have no `batch`."""
    from torch.utils.data import default_collate

    images, targets = default_collate(samples)
    return images, targets
