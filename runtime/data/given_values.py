"""Images and targets of samples that are handed over in Python, read one by one: as tensors, or told what they are."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nasdsl.compiler.diagnostics import cause
from nasdsl.runtime.data.errors import DataError
from nasdsl.runtime.data.images import Size, centre_cut, coloured, inner_size, planes
from nasdsl.runtime.data.labels import IGNORE

ROUNDING = 0.01
"""So far beyond black and white floats may be, as resampling leaves them."""


def is_image(value: Any) -> bool:
    """Whether an input is an image, and no vector of features."""
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim > 1
    return hasattr(value, "getbands")


def pillow_of(value: Any, where: str) -> Any:
    """An image of Pillow's, of an array of 8 bits or of Pillow's own; None of a tensor.

    Raises:
        DataError: it is no image.
    """
    from PIL import Image

    if isinstance(value, Image.Image):
        return value
    if isinstance(value, np.ndarray):
        if value.dtype != np.uint8 or value.ndim not in (2, 3) or (value.ndim == 3 and value.shape[2] not in (1, 3, 4)):
            raise DataError(
                f"the image of {where} is an array of {value.dtype} {value.shape}",
                help="an array is (H, W) or (H, W, C) of 8 bits; give others as tensors (C, H, W)",
            )
        return Image.fromarray(value[:, :, 0] if value.ndim == 3 and value.shape[2] == 1 else value)
    if not isinstance(value, Tensor):
        raise DataError(f"the image of {where} is a {type(value).__name__}", help="give a tensor or an image")
    return None


def picture_of(value: Any, where: str) -> Any:
    """An image as Pillow's: one of its own, an array, or a tensor (C, H, W) of 8 bits or of floats in 0..1.

    Raises:
        DataError: it is none of these.
    """
    from PIL import Image

    found = pillow_of(value, where)
    if found is not None:
        return found
    channels = value.shape[0] if value.ndim == 3 else 1
    if channels not in (1, 3):
        raise DataError(
            f"the image of {where} is a tensor of {tuple(value.shape)}", help="a picture has 1 or 3 channels"
        )
    pixels = pixels_of(value, channels, where)
    if pixels.dtype != torch.uint8:
        if float(pixels.min()) < -ROUNDING or float(pixels.max()) > 1 + ROUNDING:
            raise DataError(
                f"the image of {where} has values beyond 0..1", help="give it as it is before normalisation"
            )
        pixels = (pixels.clamp(0, 1) * 255).round().to(torch.uint8)
    array = pixels.cpu().numpy()
    return Image.fromarray(array[0] if channels == 1 else np.ascontiguousarray(array.transpose(1, 2, 0)))


def pixels_of(value: Any, channels: int, where: str) -> Tensor:
    """An image (C, H, W), uint8 or float32, in its own size.

    Raises:
        DataError: it is no image, or has other channels, or holds what is no finite number.
    """
    image = pillow_of(value, where)
    if image is not None:
        if channels not in (1, 3):
            raise DataError(f"the image of {where} is a picture, and the network's input has {channels} channels")
        return torch.from_numpy(planes(coloured(image, channels, where)))
    if value.ndim == 2:
        value = value[None]
    if value.ndim != 3 or not value.numel():
        raise DataError(f"the image of {where} is a tensor of {tuple(value.shape)}", help="an image is (C, H, W)")
    if value.dtype != torch.uint8:
        if not value.is_floating_point():
            raise DataError(f"the image of {where} holds {value.dtype}", help="give 8 bits, or floats in 0..1")
        value = value.float()
        if not bool(value.isfinite().all()):
            raise DataError(f"the image of {where} holds what is no finite number")
    if value.shape[0] == 1 and channels != 1:
        value = value.expand(channels, -1, -1)
    if value.shape[0] != channels:
        raise DataError(f"the image of {where} has {value.shape[0]} channels, and the network's input {channels}")
    return value.contiguous()


def resized(image: Tensor, size: Size) -> Tensor:
    """All of an image, bicubic and anti-aliased."""
    if tuple(image.shape[1:]) == tuple(size):
        return image
    made = torch.nn.functional.interpolate(
        image[None].float(), size, mode="bicubic", align_corners=False, antialias=True
    )[0]
    return made.round().clamp(0, 255).to(torch.uint8) if image.dtype == torch.uint8 else made


def cut(value: Any, size: Size, channels: int, where: str) -> Tensor:
    """The greatest centred part with the aspect of a size, in that size, as files are shown."""
    image = pillow_of(value, where)
    if image is not None and channels in (1, 3):
        return torch.from_numpy(planes(centre_cut(coloured(image, channels, where), size)))
    pixels = pixels_of(value, channels, where)
    height, width = pixels.shape[1:]
    scale = min(width / size[1], height / size[0])
    rows, columns = min(height, max(1, round(size[0] * scale))), min(width, max(1, round(size[1] * scale)))
    top, left = (height - rows) // 2, (width - columns) // 2
    return resized(pixels[:, top : top + rows, left : left + columns], size)


def inside(pixels: Tensor, size: Size, fill: float) -> Tensor:
    """All of an image at the greatest scale that fits, at the top left."""
    if tuple(pixels.shape[1:]) == tuple(size):
        return pixels
    inner = inner_size((pixels.shape[1], pixels.shape[2]), size)
    canvas = torch.full((pixels.shape[0], *size), fill, dtype=pixels.dtype)
    canvas[:, : inner[0], : inner[1]] = resized(pixels, inner)
    return canvas


def mask_inside(mask: Tensor, size: Size) -> Tensor:
    if tuple(mask.shape) == tuple(size):
        return mask
    inner = inner_size((mask.shape[0], mask.shape[1]), size)
    canvas = torch.full(size, IGNORE, dtype=torch.int64)
    small = torch.nn.functional.interpolate(mask[None, None].float(), inner, mode="nearest-exact")[0, 0]
    canvas[: inner[0], : inner[1]] = small.long()
    return canvas


def label_of(target: Any, where: str) -> int:
    """
    Raises:
        DataError: it is no whole number.
    """
    given = target.item() if isinstance(target, Tensor | np.generic | np.ndarray) and target.size in ((), 1) else target
    if isinstance(target, Tensor) and target.numel() == 1:
        given = target.item()
    if isinstance(given, bool) or not isinstance(given, int | np.integer):
        raise DataError(f"the target of {where} is {_short(target)}", help="a class is a whole number, from 0")
    return int(given)


def numbers_of(target: Any, where: str) -> Tensor:
    """float32 (T,)

    Raises:
        DataError: they are no finite numbers.
    """
    try:
        found = torch.as_tensor(target, dtype=torch.float32).reshape(-1)
    except (TypeError, ValueError, RuntimeError):
        raise DataError(f"the target of {where} is {_short(target)}", help="give a number, or a vector") from None
    if not len(found) or not bool(found.isfinite().all()):
        raise DataError(f"the target of {where} holds no finite number")
    return found


def vector_of(features: Any, where: str) -> Tensor:
    """float32 (F,)"""
    try:
        found = torch.as_tensor(features, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        raise DataError(
            f"what {where} is to be told by is {_short(features)}", help="give a vector or an image"
        ) from None
    if found.ndim != 1 or not len(found) or not bool(found.isfinite().all()):
        raise DataError(f"the features of {where} are no vector of finite numbers")
    return found


def mask_of(target: Any, where: str) -> Tensor:
    """int64 (H, W)

    Raises:
        DataError: it is no mask.
    """
    found = target if isinstance(target, Tensor) else torch.from_numpy(np.array(target))
    if found.ndim == 3 and found.shape[0] == 1:
        found = found[0]
    if found.ndim != 2 or found.is_floating_point() or found.dtype == torch.bool or not found.numel():
        kind = f"{found.dtype} of {tuple(found.shape)}".removeprefix("torch.")
        raise DataError(f"the mask of {where} is {kind}", help="a mask has a class for each pixel, (H, W)")
    return found.long()


@dataclass(frozen=True)
class Boxes:
    """The boxes of an image."""

    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    area: Tensor
    size: Size = (0, 0)
    original: Size = (0, 0)

    def at(self, original: Size, shown: Size) -> Boxes:
        """In pixels of the image as it is shown, cut at its borders; what has no area then goes."""
        height, width = original
        limits = torch.tensor([width, height, width, height], dtype=torch.float32)
        boxes = torch.minimum(self.boxes.clamp(min=0), limits)
        kept = (boxes[:, 2:] - boxes[:, :2]).amin(dim=1) > 0
        scale = torch.tensor([shown[1] / width, shown[0] / height]).repeat(2)
        return Boxes((boxes * scale)[kept], self.labels[kept], self.crowd[kept], self.area[kept], shown, original)


def boxes_of(target: Any, where: str) -> Boxes:
    """
    Raises:
        DataError: it is no record of boxes and labels.
    """
    if not isinstance(target, Mapping) or not {"boxes", "labels"} <= set(target):
        raise DataError(f"the target of {where} is {_short(target)}", help="give a record of `boxes` and `labels`")
    try:
        boxes = torch.as_tensor(target["boxes"], dtype=torch.float32).reshape(-1, 4)
        labels = torch.as_tensor(target["labels"]).reshape(-1)
        n = len(boxes)
        crowd = torch.as_tensor(target.get("crowd", target.get("iscrowd", torch.zeros(n)))).reshape(-1).bool()
        sides = boxes[:, 2:] - boxes[:, :2]
        area = torch.as_tensor(target.get("area", sides.prod(dim=1)), dtype=torch.float32).reshape(-1)
    except (TypeError, ValueError, RuntimeError) as problem:
        raise DataError(f"the boxes of {where} cannot be read: {cause(problem)}") from None
    if not len(labels) == len(crowd) == len(area) == n:
        raise DataError(f"{where} has {n} boxes, {len(labels)} labels, {len(crowd)} marks of crowds, {len(area)} areas")
    if (n and labels.is_floating_point()) or not bool(boxes.isfinite().all()):
        raise DataError(f"the boxes of {where} are no finite numbers, or their labels no classes")
    return Boxes(boxes, labels.long(), crowd, area)


def _short(value: Any) -> str:
    if isinstance(value, Tensor | np.ndarray):
        return f"a {type(value).__name__.lower()} of {tuple(value.shape)}"
    return f"`{reprlib.repr(value)}`"
