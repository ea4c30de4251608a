"""Mean and standard deviation of channels, as networks want their images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from nasdsl.runtime.data import DataSplits, Samples
from nasdsl.runtime.data.images import spread


@dataclass(frozen=True)
class Normalise:
    """`(image - mean) / std` for each channel of images in 0..1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def imagenet(cls, channels: int = 3) -> Self:
        """The usual constants; for one channel, those of the mean of the colours."""
        if channels == 1:
            return cls((0.449,), (0.226,))
        return cls((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    @classmethod
    def for_data(cls, data: DataSplits) -> Self:
        """What a network sees of some data: nothing changes where it has been normalised already; images of grey or of
        colour have the usual constants, those of other channels their own."""
        if data.normalised is not None:
            return cls((0.0,) * data.channels, (1.0,) * data.channels)
        return cls.imagenet(data.channels) if data.channels in (1, 3) else cls.of(data.train)

    @classmethod
    def of(cls, samples: Samples, most: int = 512) -> Self:
        """Measured on at most `most` samples, spread evenly over the data set."""
        count = torch.zeros((), dtype=torch.float64)
        total = square = torch.zeros((), dtype=torch.float64)
        chosen = spread(len(samples), most)
        for start in range(0, len(chosen), 32):
            images = samples.batch(chosen[start : start + 32])[0]
            images = images.double() / 255 if images.dtype == torch.uint8 else images.double()
            count = count + images[:, 0].numel()
            total = total + images.sum(dim=(0, 2, 3))
            square = square + images.square().sum(dim=(0, 2, 3))
        mean = total / count
        std = (square / count - mean.square()).clamp(min=1e-6).sqrt()
        return cls(tuple(mean.tolist()), tuple(std.tolist()))

    def __call__(self, images: Tensor) -> Tensor:
        """Images (..., C, H, W) in 0..1 to normalised ones."""
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (images - mean) / std

    def undo(self, images: Tensor) -> Tensor:
        """Back to 0..1, for pictures."""
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return images * std + mean
