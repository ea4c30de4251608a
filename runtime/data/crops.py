"""One sample per instance: crops with a fixed aspect around boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from nasdsl.runtime.data.datasets import KeypointSet
from nasdsl.runtime.data.images import Bytes, Cached, Size

ENLARGED = 1.25
"""How much of its surroundings a crop shows (HR-NAS paper, as in HRNet)."""
USUAL_SIZE: Size = (256, 192)


@dataclass(frozen=True)
class Instance:
    """One instance with labelled joints, in pixels of its image: `box` is left, top, width, height; joints (K, 3)."""

    image: int
    image_id: int
    ann_id: int
    box: tuple[float, float, float, float]
    area: float
    joints: NDArray[np.float32]


CropImage = Callable[[int, tuple[float, float, float, float], Size], Bytes]
"""Image number, box (left, top, right, bottom) and size to pixels (C, H, W)."""


def crops(
    instances: Sequence[Instance], crop: CropImage, size: Size, more: float, channels: int, limit: int
) -> KeypointSet:
    """Crops of `size` that show `more` times what the enlarged boxes do, cached up to `limit` bytes."""
    boxes = np.array([one.box for one in instances], dtype=np.float32).reshape(-1, 4)
    centre = boxes[:, :2] + boxes[:, 2:] / 2
    scale = with_aspect(boxes[:, 2:], size[1] / size[0]) * ENLARGED * more
    corners = np.concatenate([centre - scale / 2, centre + scale / 2], axis=1)

    def load(index: int) -> Bytes:
        left, top, right, bottom = (float(value) for value in corners[index])
        return crop(instances[index].image, (left, top, right, bottom), size)

    joints = np.stack([one.joints for one in instances]) if instances else np.zeros((0, 1, 3), dtype=np.float32)
    targets = {
        "joints": torch.from_numpy(joints.astype(np.float32)),
        "centre": torch.from_numpy(centre),
        "scale": torch.from_numpy(scale.astype(np.float32)),
        "area": torch.tensor([one.area for one in instances], dtype=torch.float32),
        "image_id": torch.tensor([one.image_id for one in instances], dtype=torch.int64),
        "ann_id": torch.tensor([one.ann_id for one in instances], dtype=torch.int64),
    }
    return KeypointSet(Cached(len(instances), (channels, *size), load, limit), targets)


def with_aspect(extent: NDArray[np.float32], aspect: float) -> NDArray[np.float32]:
    """The least (width, height) with width / height = `aspect` that covers `extent` (N, 2)."""
    width = np.maximum(extent[:, 0], extent[:, 1] * aspect)
    return np.stack([width, width / aspect], axis=1)
