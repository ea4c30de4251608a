"""Photometric changes of the Cityscapes recipe, on whole batches."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

BRIGHTNESS = 32 / 255
CONTRAST = SATURATION = (0.5, 1.5)
HUE = 18 / 180
"""A share of the colour circle: the recipe's 18 counts the 180 steps that OpenCV divides it into."""


def photometric(images: Tensor, generator: Generator) -> Tensor:
    """Brightness, contrast, saturation and hue of images (B, C, H, W) in 0..1, each changed with probability 0.5.

    Contrast comes before or after the colours, at random for each image, as in the HR-NAS paper's code. Grey images
    have no saturation and hue.
    """
    count = len(images)

    def factor(low: float, high: float, neutral: float) -> Tensor:
        drawn = low + (high - low) * torch.rand(count, generator=generator)
        used = torch.rand(count, generator=generator) < 0.5
        return torch.where(used, drawn, neutral).to(images)[:, None, None, None]

    brightness = factor(-BRIGHTNESS, BRIGHTNESS, 0.0)
    contrast = factor(*CONTRAST, 1.0)
    saturation = factor(*SATURATION, 1.0)
    hue = factor(-HUE, HUE, 0.0)
    early = (torch.rand(count, generator=generator) < 0.5).to(images.device)[:, None, None, None]
    images = (images + brightness) * torch.where(early, contrast, 1.0)
    images = images.clamp(0, 1)
    changed = ((saturation != 1) | (hue != 0)).flatten()
    if images.shape[1] == 3 and changed.any():
        images = images.clone()
        images[changed] = _recoloured(images[changed], saturation[changed], hue[changed])
    return (images * torch.where(early, 1.0, contrast)).clamp(0, 1)


def _recoloured(images: Tensor, saturation: Tensor, hue: Tensor) -> Tensor:
    from kornia.color import hsv_to_rgb, rgb_to_hsv

    circle = 2 * torch.pi
    angle, purity, value = rgb_to_hsv(images).chunk(3, dim=1)
    result: Tensor = hsv_to_rgb(
        torch.cat([(angle + hue * circle) % circle, (purity * saturation).clamp(0, 1), value], dim=1)
    )
    return result
