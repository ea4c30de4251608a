"""Augmentation presets: each draws one affine move for every image of a batch, from an explicit generator.

Numbers are those of the HR-NAS paper's code where it has them. Draws are made on the CPU, so that a batch is augmented
alike on every device. A move is applied by the task, which knows what its targets are (`warp.py`).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Generator, Tensor

from nasdsl.runtime.data import Batch, KeypointLayout, Size
from nasdsl.runtime.data.errors import did_you_mean
from nasdsl.runtime.tasks.task import TaskError
from nasdsl.runtime.tasks.warp import Geometry, affine, coarse_masks, mirrored


class Preset(Protocol):
    """A way to draw moves. `size` is (height, width) of what comes out, None that of the images."""

    size: Size | None

    def draw(self, images: Tensor, targets: Any, generator: Generator) -> Geometry:
        """One move for each image (B, C, H, W)."""
        ...


def make(
    presets: dict[str, type[Any]],
    task: str,
    name: str,
    size: Size | None,
    options: dict[str, Any],
    known: dict[str, Any] | None = None,
) -> Any:
    """The preset `name` of a task, or None for "none". `known` are fields that the task fills, where a preset has them.

    Raises:
        TaskError: the task has no such preset, or the preset no such option.
    """
    if name not in presets and name != "none":
        raise TaskError(
            f'{task} has no augmentation "{name}"',
            did_you_mean(name, presets) or "it has none, " + ", ".join(presets),
        )
    if name == "none" and (size is not None or options):
        raise TaskError('the augmentation "none" changes nothing, so it takes no size or options')
    if name == "none":
        return None
    names = {field.name for field in dataclasses.fields(presets[name])}
    filled = {key: value for key, value in (known or {}).items() if key in names}
    free = sorted(names - {"size", *filled})
    unknown = sorted(set(options) - set(free))
    if unknown:
        raise TaskError(
            f'the augmentation "{name}" has no option "{unknown[0]}"',
            did_you_mean(unknown[0], free) or f"it has {', '.join(free) or 'none'}",
        )
    return presets[name](size=size, **options, **filled)


def unchanged(images: Tensor, targets: Any, generator: Generator) -> Batch:
    """The augmentation "none"."""
    return images, targets


@dataclass(frozen=True)
class Flip:
    """A mirror with probability `flip`; another `size` is cut from the centre."""

    size: Size | None = None
    flip: float = 0.5

    def draw(self, images: Tensor, targets: Any, generator: Generator) -> Geometry:
        size, extent = _sizes(images, self.size)
        corner = ((extent - torch.tensor([size[1], size[0]])) / 2).floor()
        return _shifted(images, corner.expand(len(images), 2), size, _chance(images, self.flip, generator))


@dataclass(frozen=True)
class PadCrop:
    """The CIFAR recipe: the image is padded by an eighth (4 pixels of 32) and cut anywhere, then mirrored."""

    size: Size | None = None
    flip: float = 0.5
    pad: float = 1 / 8

    def draw(self, images: Tensor, targets: Any, generator: Generator) -> Geometry:
        size, extent = _sizes(images, self.size)
        border = (extent * self.pad).round()
        room = extent + 2 * border - torch.tensor([size[1], size[0]]) + 1
        corner = (_uniform(generator, len(images), 2) * room.clamp(min=1)).floor() - border
        return _shifted(images, corner, size, _chance(images, self.flip, generator))


@dataclass(frozen=True)
class ResizedCrop:
    """The ImageNet recipe: a crop of 8-100 % of the area with an aspect of 3/4 to 4/3, resized, then mirrored.

    The aspect is drawn uniformly and ten tries are made before the centre is taken (HR-NAS paper's code).
    """

    size: Size | None = None
    flip: float = 0.5
    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    tries: int = 10
    centre: float = 224 / 256

    def draw(self, images: Tensor, targets: Any, generator: Generator) -> Geometry:
        size, extent = _sizes(images, self.size)
        count, aspect = len(images), size[1] / size[0]
        # All tries at once; the first that fits is taken.
        area = _between(generator, (count, self.tries), self.area) * extent.prod()
        ratio = _between(generator, (count, self.tries), self.aspect) * aspect
        sides = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=-1)
        fits = (sides <= extent).all(dim=-1)
        first = fits.int().argmax(dim=1)
        side = sides[torch.arange(count), first]
        corner = _uniform(generator, count, 2) * (extent - side).clamp(min=0)
        height = self.centre * min(float(extent[1]), float(extent[0]) / aspect)
        fallback = torch.tensor([height * aspect, height])
        failed = ~fits.any(dim=1, keepdim=True)
        side = torch.where(failed, fallback, side)
        corner = torch.where(failed, (extent - fallback) / 2, corner)
        linear = torch.diag_embed(side / torch.tensor([size[1], size[0]]))
        return _geometry(images, affine(linear, torch.zeros(count, 2), corner), size, generator, self.flip)


@dataclass(frozen=True)
class ScaleCrop:
    """The Cityscapes and ADE20K recipe: scale 0.5-2, a crop in which no class has over 75 % of the labelled pixels
    (as far as ten tries find one), a mirror, and photometric changes (`colour.py`). What lies outside is ignored."""

    size: Size | None = None
    flip: float = 0.5
    scales: tuple[float, float] = (0.5, 2.0)
    most_of_one: float = 0.75
    tries: int = 10
    photometric: bool = True
    ignore_index: int = 255

    def draw(self, images: Tensor, targets: Tensor, generator: Generator) -> Geometry:
        size, extent = _sizes(images, self.size)
        count = len(images)
        scale = _between(generator, (count, 1), self.scales)
        wanted = torch.tensor([size[1], size[0]])
        room = (extent * scale - wanted).clamp(min=0)  # an image smaller than the crop sits at the top left
        linear = torch.diag_embed((1 / scale).expand(count, 2))
        corners = [_uniform(generator, count, 2) * room / scale for _ in range(max(1, self.tries))]
        chosen, undecided = corners[0].clone(), torch.ones(count, dtype=torch.bool)
        for corner in corners if self.most_of_one < 1 else ():
            chosen[undecided] = corner[undecided]
            move = Geometry(
                affine(linear, torch.zeros(count, 2), chosen).to(images.device), size, undecided.to(images.device)
            )
            undecided = self._monotonous(coarse_masks(targets, move, self.ignore_index, 8)).cpu() & undecided
            if not undecided.any():
                break
        return _geometry(images, affine(linear, torch.zeros(count, 2), chosen), size, generator, self.flip)

    def _monotonous(self, masks: Tensor) -> Tensor:
        """Whether one class has too large a share of the labelled pixels: (B,)."""
        flat = masks.flatten(1)
        counted = torch.zeros(len(flat), 256, device=flat.device)
        counted.scatter_add_(1, flat.clamp(0, 255), (flat != self.ignore_index).float())
        return counted.amax(dim=1) > self.most_of_one * counted.sum(dim=1)


@dataclass(frozen=True)
class Pose:
    """The COCO keypoint recipe: scale normal(1, 0.35) within 0.65-1.35, rotation normal(0, 45 degrees) within 90 with
    probability 0.6, a mirror, and with probability `half_body` (0.3 in the paper's code) a crop around the upper or
    lower half of those who show more than eight joints."""

    size: Size | None = None
    flip: float = 0.5
    scale: float = 0.35
    rotation: float = 45.0
    rotated: float = 0.6
    half_body: float = 0.0
    layout: KeypointLayout | None = None

    def draw(self, images: Tensor, targets: dict[str, Tensor], generator: Generator) -> Geometry:
        size, extent = _sizes(images, self.size)
        count = len(images)
        factor = (1 + self.scale * torch.randn(count, generator=generator)).clamp(1 - self.scale, 1 + self.scale)
        degrees = (self.rotation * torch.randn(count, generator=generator)).clamp(-2 * self.rotation, 2 * self.rotation)
        angle = degrees * (torch.rand(count, generator=generator) < self.rotated) * (math.pi / 180)
        halved = torch.rand(count, generator=generator) < self.half_body
        upper = torch.rand(count, generator=generator) < 0.7
        middle = (extent / 2).expand(count, 2).clone()
        for i in torch.nonzero(halved).flatten().tolist():
            part = self._half(targets["joints"][i].cpu(), bool(upper[i]), size)
            if part is not None:
                middle[i], share = part
                factor[i] *= share
        sine, cosine = factor * angle.sin(), factor * angle.cos()
        linear = torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], dim=-2)
        out = (torch.tensor([size[1], size[0]]) / 2).expand(count, 2)
        return _geometry(images, affine(linear, out, middle), size, generator, self.flip)

    def _half(self, joints: Tensor, upper: bool, size: Size) -> tuple[Tensor, float] | None:
        """Middle of one half of the labelled joints, and its size relative to the crop; None if it has too few."""
        if self.layout is None or int((joints[:, 2] > 0).sum()) <= 8:
            return None
        halves = [[i for i in self.layout.half(part) if joints[i, 2] > 0] for part in (upper, not upper)]
        chosen = next((half for half in halves if len(half) > 2), None)
        if chosen is None:
            return None
        points = joints[chosen, :2] + 0.5
        low, high = points.amin(dim=0), points.amax(dim=0)
        share = float(((high - low) / torch.tensor([size[1], size[0]])).max()) * 1.5
        return (low + high) / 2, max(share, 0.1)


def _sizes(images: Tensor, size: Size | None) -> tuple[Size, Tensor]:
    """Size of the output, and (width, height) of the input."""
    height, width = int(images.shape[-2]), int(images.shape[-1])
    return size or (height, width), torch.tensor([width, height], dtype=torch.float32)


def _geometry(images: Tensor, matrix: Tensor, size: Size, generator: Generator, flip: float) -> Geometry:
    flipped = _chance(images, flip, generator)
    return Geometry(mirrored(matrix, flipped, size[1]).to(images.device), size, flipped.to(images.device))


def _shifted(images: Tensor, corner: Tensor, size: Size, flipped: Tensor) -> Geometry:
    eye = torch.eye(2).expand(len(images), 2, 2)
    matrix = mirrored(affine(eye, torch.zeros(len(images), 2), corner), flipped, size[1])
    return Geometry(matrix.to(images.device), size, flipped.to(images.device), corner.long().tolist())


def _chance(images: Tensor, probability: float, generator: Generator) -> Tensor:
    return torch.rand(len(images), generator=generator) < probability


def _uniform(generator: Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator)


def _between(generator: Generator, shape: tuple[int, ...], bounds: tuple[float, float]) -> Tensor:
    return bounds[0] + torch.rand(shape, generator=generator) * (bounds[1] - bounds[0])
