"""Boxes in loops and plain numbers: what the layers of detectors are held to."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

Box = Sequence[float]


def random_boxes(number: int, height: float = 48, width: float = 68, grow: float = 1.0) -> torch.Tensor:
    """Some of them stick out of the image."""
    corner = torch.rand(number, 2, dtype=torch.float64) * torch.tensor([width, height]) * 1.2 - 6
    size = torch.rand(number, 2, dtype=torch.float64).square() * torch.tensor([width, height]) * grow
    return torch.cat([corner, corner + size], 1)


def slow_decode(box: Box, delta: Box, stds: Box) -> list[float]:
    x1, y1, x2, y2 = map(float, box)
    dx, dy, dw, dh = (float(d) * s for d, s in zip(delta, stds, strict=True))
    x = (x1 + x2) / 2 + dx * (x2 - x1)
    y = (y1 + y2) / 2 + dy * (y2 - y1)
    w = (x2 - x1) * math.exp(min(dw, math.log(1000 / 16)))
    h = (y2 - y1) * math.exp(min(dh, math.log(1000 / 16)))
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def slow_clip(box: Box, height: float, width: float) -> list[float]:
    x1, y1, x2, y2 = (max(0.0, side) for side in box)
    return [min(x1, width), min(y1, height), min(x2, width), min(y2, height)]


def slow_overlap(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union else 0.0


def slow_suppress(boxes: Sequence[Box], threshold: float) -> list[int]:
    """Which of the boxes, best first, stay."""
    kept: list[int] = []
    for i, box in enumerate(boxes):
        if all(slow_overlap(boxes[k], box) <= threshold for k in kept):
            kept.append(i)
    return kept
