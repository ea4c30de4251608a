"""Joints as Gaussian heatmaps, and back.

Cell h of a map that is s times smaller than the image is centred on pixel (h + 0.5) * s - 0.5, where integers are
pixel centres. So a mirrored map is exactly the map of the mirrored image, and no shift is needed in a flip test; the
code of the HR-NAS paper instead centres cell h on pixel h * s and shifts the mirrored map by one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nasdsl.runtime.data import Size


def to_cells(points: Tensor, image: Tensor, heat: Size) -> Tensor:
    """Points (B, K, 2) in pixels to cells of maps of size `heat`; `image` (B, 2) is height and width of the images."""
    per_pixel = points.new_tensor([heat[1], heat[0]]) / image.flip(-1)
    return (points + 0.5) * per_pixel[:, None] - 0.5


def to_pixels(cells: Tensor, image: Tensor, heat: Size) -> Tensor:
    """The inverse of `to_cells`."""
    per_cell = image.flip(-1) / cells.new_tensor([heat[1], heat[0]])
    return (cells + 0.5) * per_cell[:, None] - 0.5


def encode(joints: Tensor, image: Tensor, heat: Size, sigma: float) -> tuple[Tensor, Tensor]:
    """Target maps (B, K, h, w) and weights (B, K) of joints (B, K, 3) in pixels.

    Each map is a Gaussian with peak 1 and `sigma` cells (2 in the HR-NAS paper, 3 for 384x288). The weight is 0 for
    joints that are not labelled and for those more than 3 sigma outside the map, else 1.
    """
    centre = to_cells(joints[..., :2].float(), image.to(joints.device), heat)
    y = torch.arange(heat[0], device=joints.device, dtype=centre.dtype)
    x = torch.arange(heat[1], device=joints.device, dtype=centre.dtype)
    # A Gaussian is the product of one in each direction.
    down = torch.exp(-(y - centre[..., 1:]).square() / (2 * sigma**2))
    across = torch.exp(-(x - centre[..., :1]).square() / (2 * sigma**2))
    reach = 3 * sigma
    last = centre.new_tensor([heat[1], heat[0]]) - 1
    near = ((centre >= -reach) & (centre <= last + reach)).all(dim=-1)
    return down[..., :, None] * across[..., None, :], (near & (joints[..., 2] > 0)).to(centre.dtype)


def decode(maps: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """Points (B, K, 2) in pixels and peaks (B, K) of maps (B, K, h, w).

    The greatest cell, moved a quarter of a cell towards the higher neighbour in each direction (HR-NAS paper).
    """
    height, width = int(maps.shape[-2]), int(maps.shape[-1])
    peak, place = maps.flatten(2).max(dim=-1)
    x, y = place % width, place // width
    rows = torch.arange(maps.shape[0], device=maps.device)[:, None]
    columns = torch.arange(maps.shape[1], device=maps.device)[None]

    def lean(length: int, at: Tensor, value: tuple[Tensor, Tensor], value_before: tuple[Tensor, Tensor]) -> Tensor:
        inner = (at > 0) & (at < length - 1)
        return torch.sign(maps[rows, columns, *value] - maps[rows, columns, *value_before]) * inner * 0.25

    right, left = (x + 1).clamp(max=width - 1), (x - 1).clamp(min=0)
    below, above = (y + 1).clamp(max=height - 1), (y - 1).clamp(min=0)
    cells = torch.stack(
        [x + lean(width, x, (y, right), (y, left)), y + lean(height, y, (below, x), (above, x))], dim=-1
    )
    return to_pixels(cells.float(), image.to(maps.device), (height, width)), peak
