"""Affine moves of whole batches, applied alike to images, masks and joints.

Coordinates are continuous: pixel i covers [i, i + 1) and its centre is i + 0.5. Joints count pixel centres as
integers, so they are shifted by a half on the way in and out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nasdsl.runtime.data import Size


@dataclass(frozen=True)
class Geometry:
    """`matrix` (B, 2, 3) takes points of the output, of `size`, to points of the input; `flipped` (B,) says mirrored.

    Moves by whole pixels also have `corners`: x, y in the input of each output's first pixel, before the mirror.
    """

    matrix: Tensor
    size: Size
    flipped: Tensor
    corners: list[list[int]] | None = None

    def points(self, stride: int = 1) -> Tensor:
        """Where the centre of every `stride`-th output pixel lies in the input: (B, H, W, 2) as x, y."""
        height, width = self.size
        y = torch.arange(0, height, stride, device=self.matrix.device, dtype=self.matrix.dtype) + 0.5
        x = torch.arange(0, width, stride, device=self.matrix.device, dtype=self.matrix.dtype) + 0.5
        down = self.matrix[:, None, None, :, 1] * y[None, :, None, None]
        across = self.matrix[:, None, None, :, 0] * x[None, None, :, None]
        return across + down + self.matrix[:, None, None, :, 2]


def affine(linear: Tensor, output: Tensor, input: Tensor) -> Tensor:
    """(B, 2, 3): the map with `linear` (B, 2, 2) that takes the points `output` to `input`, both (B, 2)."""
    return torch.cat([linear, (input - (linear @ output[..., None])[..., 0])[..., None]], dim=-1)


def mirrored(matrix: Tensor, flipped: Tensor, width: int) -> Tensor:
    """The same map after the output has been mirrored where `flipped`."""
    sign = torch.where(flipped, -1.0, 1.0).to(matrix)
    shift = torch.where(flipped, float(width), 0.0).to(matrix)
    across = matrix[..., 0] * sign[:, None]
    return torch.stack([across, matrix[..., 1], matrix[..., 2] + matrix[..., 0] * shift[:, None]], dim=-1)


def warp_images(images: Tensor, geometry: Geometry) -> Tensor:
    """Bilinear samples of images (B, C, H, W); black outside."""
    if geometry.corners is not None:
        return _cut(images, geometry.corners, geometry, 0)
    points = geometry.points()
    extent = points.new_tensor([images.shape[-1], images.shape[-2]])
    # Borders are held and then cut, so that pixels just inside do not mix with the black outside.
    moved = torch.nn.functional.grid_sample(
        images, points * (2 / extent) - 1, mode="bilinear", padding_mode="border", align_corners=False
    )
    return moved * _inside(points, extent)[:, None]


def warp_masks(masks: Tensor, geometry: Geometry, outside: int) -> Tensor:
    """Nearest samples of masks (B, H, W); `outside` beyond their borders."""
    if geometry.corners is not None:
        return _cut(masks, geometry.corners, geometry, outside)
    return _nearest(masks, geometry.points(), outside)


def coarse_masks(masks: Tensor, geometry: Geometry, outside: int, stride: int) -> Tensor:
    """Every `stride`-th row and column of `warp_masks`, to judge a crop without making it."""
    return _nearest(masks, geometry.points(stride), outside)


def _cut(values: Tensor, corners: list[list[int]], geometry: Geometry, outside: int) -> Tensor:
    """Moves by whole pixels, copied: exact, and many times faster than sampling."""
    height, width = values.shape[-2:]
    result = values.new_full((*values.shape[:-2], *geometry.size), outside)
    for i, (x, y) in enumerate(corners):
        top, bottom = max(y, 0), min(y + geometry.size[0], height)
        left, right = max(x, 0), min(x + geometry.size[1], width)
        if top < bottom and left < right:
            result[i, ..., top - y : bottom - y, left - x : right - x] = values[i, ..., top:bottom, left:right]
    mirrors = geometry.flipped.nonzero().flatten()
    if len(mirrors):
        result[mirrors] = result[mirrors].flip(-1)
    return result


def _nearest(masks: Tensor, points: Tensor, outside: int) -> Tensor:
    height, width = masks.shape[-2:]
    inside = _inside(points, points.new_tensor([width, height]))
    x = points[..., 0].floor().long().clamp(0, width - 1)
    y = points[..., 1].floor().long().clamp(0, height - 1)
    rows = torch.arange(len(masks), device=masks.device)[:, None, None]
    return torch.where(inside, masks[rows, y, x], outside)


def warp_joints(joints: Tensor, geometry: Geometry, flip: tuple[int, ...]) -> Tensor:
    """Joints (B, K, 3) of the input as joints of the output, with left and right exchanged where mirrored."""
    linear, shift = geometry.matrix[:, :, :2], geometry.matrix[:, :, 2]
    back = torch.linalg.inv(linear.double()).to(joints)
    moved = (back[:, None] @ (joints[..., :2] + 0.5 - shift[:, None])[..., None])[..., 0] - 0.5
    seen = joints[..., 2:]
    result = torch.cat([moved * (seen > 0), seen], dim=-1)
    return torch.where(geometry.flipped[:, None, None], result[:, list(flip)], result)


def _inside(points: Tensor, extent: Tensor) -> Tensor:
    return ((points >= 0) & (points <= extent)).all(dim=-1)
