"""Augmentation of images with boxes: mirrors, scale jitter, and the crops and expansions of the SSD paper.

Each image shows a rectangle of whole pixels of itself in a rectangle of whole pixels of the output. So a plain mirror
is exact, and what is shrunk is averaged, as the samples for validation are. The rest has the mean colour, which is
about 0 once it is normalised.

Boxes go with their images and are cut at what is shown. An object stays if its centre is still shown; a crowd stays if
any part of it is, so that no crowd becomes background. `size` is the part that shows something; `area`, `original` and
`image_id` are those of the image as it was, so augmented targets no longer map back to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from nasdsl.compiler.diagnostics import cause
from nasdsl.compiler.layers.boxes import overlaps
from nasdsl.runtime.data import Batch, Size
from nasdsl.runtime.data.images import mean_colour
from nasdsl.runtime.tasks.augment import make, unchanged
from nasdsl.runtime.tasks.colour import photometric
from nasdsl.runtime.tasks.task import Augmentation, TaskError

Targets = dict[str, Tensor]
Rectangle = tuple[float, float, float, float]
"""x1, y1, x2, y2."""


@dataclass(frozen=True)
class Views:
    """The pixels `source` of each image fill the pixels `target` of its output, both (B, 4) as x1, y1, x2, y2.

    `size` (B, 2), height and width, is the part of the output, of `canvas`, that counts as image; it is mirrored where
    `flipped` (B,), after which `target` no longer holds. All are on the CPU.
    """

    source: Tensor
    target: Tensor
    size: Tensor
    flipped: Tensor
    canvas: Size


@dataclass(frozen=True)
class BoxPreset:
    """A way to draw views. Every preset has all of these, at other defaults, so that they combine.

    Attributes:
        size: height and width of what comes out, into which images are fitted; None keeps that of the images.
        flip: probability of a mirror.
        scales: least and greatest factor of the size at which images are shown; those that then are larger than the
            output are cut anywhere.
        expand: an image is put anywhere on a canvas whose sides are 1 to so many times its own ...
        expanded: ... with this probability (SSD paper).
        overlaps: a crop of 0.3 to 1 times each side, with an aspect of 1/2 to 2, that overlaps some object by one of
            these, equally likely each, or no crop at all (SSD paper). 0 asks for the centre of an object alone, as all
            do. Without objects there is no crop, nor if none of `tries` fits.
        keep_ratio: crops keep their aspect; otherwise they fill the output, as in the SSD paper.
        colour: brightness, contrast, saturation and hue change, too (`colour.py`).
    """

    size: Size | None = None
    flip: float = 0.5
    scales: tuple[float, float] = (1.0, 1.0)
    expand: float = 1.0
    expanded: float = 0.5
    overlaps: tuple[float, ...] = ()
    tries: int = 50
    keep_ratio: bool = True
    colour: bool = False

    def __post_init__(self) -> None:
        """
        Raises:
            TaskError: an option is out of its range.
        """
        try:
            rules = {
                "flip": (0 <= self.flip <= 1, "a probability"),
                "scales": (_rising(self.scales, 1e-3, 16), "the least and the greatest factor, above 0 and up to 16"),
                "expand": (1 <= self.expand <= 16, "a factor from 1 to 16"),
                "expanded": (0 <= self.expanded <= 1, "a probability"),
                "overlaps": (all(0 <= one < 1 for one in self.overlaps), "overlaps from 0 to below 1"),
                "tries": (self.tries in range(1, 1001), "a whole number from 1 to 1000"),
                "keep_ratio": (isinstance(self.keep_ratio, bool), "true or false"),
                "colour": (isinstance(self.colour, bool), "true or false"),
            }
        except TypeError as error:
            raise TaskError(f"an option of the augmentation is not of its kind: {cause(error)}") from error
        for name, (good, words) in rules.items():
            if not good:
                raise TaskError(f"the option {name} of the augmentation is {words}, not {getattr(self, name)}")

    def draw(self, images: Tensor, targets: Targets, generator: Generator) -> Views:
        """One view for each image (B, C, H, W)."""
        count, canvas = len(images), self.size or (int(images.shape[-2]), int(images.shape[-1]))
        uniform = torch.rand(count, 9, generator=generator)
        patches = torch.rand(count, self.tries, 4, generator=generator) if self.overlaps else None
        sizes = targets["size"].tolist()
        boxes, real = targets["boxes"].detach().cpu(), ((targets["labels"] >= 0) & ~targets["crowd"]).cpu()
        views = [
            self._view(
                sizes[i], canvas, uniform[i].tolist(), boxes[i][real[i]], None if patches is None else patches[i]
            )
            for i in range(count)
        ]
        source, target, size = (torch.tensor(values) for values in zip(*views, strict=True))
        return Views(source, target, size, uniform[:, 0] < self.flip, canvas)

    def _view(
        self, size: Size, canvas: Size, chance: list[float], boxes: Tensor, patches: Tensor | None
    ) -> tuple[list[int], list[int], list[int]]:
        """Source, target and size of one image that shows `size` and has `boxes` (n, 4)."""
        height, width = size
        # The image lies at `left`, `top` of an area, of which the patch is shown.
        times = 1 + (self.expand - 1) * chance[2] if chance[1] < self.expanded else 1.0
        left, top = width * (times - 1) * chance[3], height * (times - 1) * chance[4]
        patch: Rectangle = (0.0, 0.0, width * times, height * times)
        whole = times == 1
        if patches is not None:
            moved = boxes + boxes.new_tensor([left, top, left, top])
            found = self._patch(patch, moved, chance[5], patches)
            whole, patch = whole and found is None, found or patch
        wide, high = patch[2] - patch[0], patch[3] - patch[1]
        across, down = canvas[1] / wide, canvas[0] / high
        if whole and self.size is None:
            across = down = 1.0
        elif self.keep_ratio:
            across = down = min(across, down)
        factor = self.scales[0] + (self.scales[1] - self.scales[0]) * chance[6]
        across, down = across * factor, down * factor
        shown = [max(1, round(wide * across)), max(1, round(high * down))]
        cut = [max(0, shown[0] - canvas[1]) * chance[7], max(0, shown[1] - canvas[0]) * chance[8]]
        x = _axis(left - patch[0], width, across, round(cut[0]), min(shown[0], canvas[1]))
        y = _axis(top - patch[1], height, down, round(cut[1]), min(shown[1], canvas[0]))
        return (
            [x[0], y[0], x[1], y[1]],
            [x[2], y[2], x[3], y[3]],
            [min(shown[1], canvas[0]), min(shown[0], canvas[1])],
        )

    def _patch(self, area: Rectangle, boxes: Tensor, chance: float, drawn: Tensor) -> Rectangle | None:
        """The first of the `drawn` patches (tries, 4) of an area that fits, or None for all of it."""
        option = math.floor(chance * (len(self.overlaps) + 1)) - 1
        if option < 0 or not len(boxes):
            return None
        extent = drawn.new_tensor(area[2:])
        sides = (0.3 + 0.7 * drawn[:, :2]) * extent
        corners = drawn[:, 2:] * (extent - sides)
        patches = torch.cat([corners, corners + sides], dim=1)
        aspect = sides[:, 0] / sides[:, 1]
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = ((centres > patches[:, None, :2]) & (centres < patches[:, None, 2:])).all(-1)
        enough = overlaps(patches[None], boxes[None])[0] >= self.overlaps[option]
        fits = (aspect >= 0.5) & (aspect <= 2) & (inside & enough).any(1)
        if not fits.any():
            return None
        left, top, right, bottom = patches[int(fits.int().argmax())].tolist()
        return left, top, right, bottom


@dataclass(frozen=True)
class Mirror(BoxPreset):
    """A mirror with probability `flip`, and whatever else is asked for."""


@dataclass(frozen=True)
class ScaleJitter(BoxPreset):
    """Images at 0.5 to 2 times the size that fits the output, cut or padded to it, and mirrored (SpineNet paper,
    protocols B and C; A has `scales` 0.8 to 1.2)."""

    scales: tuple[float, float] = (0.5, 2.0)


@dataclass(frozen=True)
class SSD(BoxPreset):
    """The recipe of the SSD paper: changed colours, expansion up to 4 times, crops that overlap objects, a mirror.

    Crops keep their aspect here, unless `keep_ratio` is false, since images for validation do.
    """

    expand: float = 4.0
    overlaps: tuple[float, ...] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
    colour: bool = True


PRESETS: dict[str, type[Any]] = {"flip": Mirror, "scale": ScaleJitter, "ssd": SSD}


def augmentation(preset: str, size: Size | None = None, **options: Any) -> Augmentation:
    """A preset by name: none, flip, scale, ssd. `options` are fields of `BoxPreset`, so that presets combine.

    Raises:
        TaskError: there is no such preset or option, or an option is out of its range.
    """
    made = make(PRESETS, "detection", preset, size, options)
    return MovedWithBoxes(made) if made else unchanged


@dataclass(frozen=True)
class MovedWithBoxes:
    """Moves images and boxes alike."""

    preset: BoxPreset

    def __call__(self, images: Tensor, targets: Targets, generator: Generator) -> Batch:
        views = self.preset.draw(images, targets, generator)
        if self.preset.colour:
            images = photometric(images, generator)
        return show(images, views), move_boxes(targets, views)


def show(images: Tensor, views: Views) -> Tensor:
    """The views of images (B, C, H, W) in 0..1: bilinear, with what is shrunk averaged; the mean colour elsewhere."""
    fill = images.new_tensor(mean_colour(images.shape[1])) / 255
    result = fill[:, None, None].repeat(len(images), 1, *views.canvas)
    rows = zip(views.source.tolist(), views.target.tolist(), views.size.tolist(), views.flipped.tolist(), strict=True)
    for i, ((x1, y1, x2, y2), (left, top, right, bottom), (_, width), flipped) in enumerate(rows):
        part = images[i : i + 1, :, y1:y2, x1:x2]
        if part.shape[-2:] != (bottom - top, right - left):
            part = torch.nn.functional.interpolate(
                part, size=(bottom - top, right - left), mode="bilinear", align_corners=False, antialias=True
            )
        if flipped:
            part, left, right = part.flip(-1), width - right, width - left
        result[i, :, top:bottom, left:right] = part[0]
    return result


def move_boxes(targets: Targets, views: Views) -> Targets:
    """The targets of the views, with objects that are no longer shown left out."""
    device = targets["boxes"].device
    source, target = (value.to(device)[:, None].float() for value in (views.source, views.target))
    size, flipped = views.size.to(device), views.flipped.to(device)
    scale = (target[..., 2:] - target[..., :2]) / (source[..., 2:] - source[..., :2])
    boxes = targets["boxes"]
    moved = (boxes - source[..., :2].repeat(1, 1, 2)) * scale.repeat(1, 1, 2) + target[..., :2].repeat(1, 1, 2)
    low, high = target[..., :2], target[..., 2:]
    centre = (moved[..., :2] + moved[..., 2:]) / 2
    cut = torch.cat([moved[..., :2].clamp(low, high), moved[..., 2:].clamp(low, high)], dim=-1)
    left = (cut[..., 2:] > cut[..., :2]).all(-1)
    left &= targets["crowd"] | ((centre >= low) & (centre <= high)).all(-1)
    left &= targets["labels"] >= 0
    width = size[:, None, 1].float()
    mirrored = torch.stack([width - cut[..., 2], cut[..., 1], width - cut[..., 0], cut[..., 3]], dim=-1)
    cut = torch.where(flipped[:, None, None], mirrored, cut)
    # Rows that stay come first, and no more rows than any image needs.
    most = max(1, int(left.sum(dim=1).max()))
    order = torch.argsort(~left, dim=1, stable=True)[:, :most]
    kept = left.gather(1, order)
    return {
        **targets,
        "boxes": cut.gather(1, order[..., None].expand(-1, -1, 4)) * kept[..., None],
        "labels": torch.where(kept, targets["labels"].gather(1, order), -1),
        "crowd": targets["crowd"].gather(1, order) & kept,
        "area": targets["area"].gather(1, order) * kept,
        "size": size.to(targets["size"].dtype),
    }


def _axis(start: float, length: int, scale: float, cut: int, shown: int) -> tuple[int, int, int, int]:
    """Along one axis: first and last pixel of the image and of the output, each in whole pixels and at least one.

    The image, of `length`, begins at `start` of what is shown; that is multiplied by `scale`, and `cut` pixels are left
    out before the `shown` ones.
    """
    first, last = max(0.0, start * scale - cut), min(float(shown), (start + length) * scale - cut)
    low = min(max(0, round(first)), shown - 1)
    high = max(low + 1, min(shown, round(last)))
    begin = min(max(0, round((first + cut) / scale - start)), length - 1)
    end = max(begin + 1, min(length, round((last + cut) / scale - start)))
    return begin, end, low, high


def _rising(values: tuple[float, float], least: float, most: float) -> bool:
    return len(values) == 2 and least <= values[0] <= values[1] <= most
