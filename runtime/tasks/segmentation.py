"""Semantic segmentation: cross-entropy of each pixel, mean intersection over union."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from nasdsl.runtime.data import Batch, DataSplits, Size
from nasdsl.runtime.tasks.augment import Flip, PadCrop, Preset, ScaleCrop, make, unchanged
from nasdsl.runtime.tasks.classification import fits, quietly
from nasdsl.runtime.tasks.colour import photometric
from nasdsl.runtime.tasks.normalise import Normalise
from nasdsl.runtime.tasks.task import Augmentation, OneTensor
from nasdsl.runtime.tasks.warp import warp_images, warp_masks

PRESETS: dict[str, type[Any]] = {"flip": Flip, "cifar": PadCrop, "cityscapes": ScaleCrop, "ade20k": ScaleCrop}


@dataclass(frozen=True)
class Segmentation(OneTensor):
    """Outputs are logits (B, classes, h, w) of any size, targets masks (B, H, W).

    `average_over_all_pixels` counts ignored pixels as zero loss, as the HR-NAS code does, instead of leaving them out.
    """

    classes: int
    ignore_index: int = 255
    label_smoothing: float = 0.0
    average_over_all_pixels: bool = False
    normalise: Normalise = field(default_factory=Normalise.imagenet)

    name: ClassVar[str] = "segmentation"
    headline: ClassVar[str] = "mIoU"
    higher_is_better: ClassVar[bool] = True
    heads: ClassVar[tuple[str, ...]] = ("segment",)

    @classmethod
    def from_data(cls, data: DataSplits, **options: Any) -> Self:
        """The task for a data set; see `Task.from_data`."""
        fits(data, cls.name, least=2)
        known = {"classes": len(data.classes), "normalise": Normalise.for_data(data)}
        if data.ignore_index is not None:
            known["ignore_index"] = data.ignore_index
        return cls(**{**known, **options})

    @property
    def outputs(self) -> int:
        """One map of logits for each class."""
        return self.classes

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of the pixels, after logits are resized (bilinear) to the masks; 0 if all are ignored."""
        total = nn.functional.cross_entropy(
            at_size_of(outputs, targets),
            targets,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )
        if self.average_over_all_pixels:
            return total / targets.numel()
        return total / (targets != self.ignore_index).sum().clamp(min=1)

    def metric(self, device: torch.device | str | None = None) -> Overlap:
        """mIoU, mAcc and aAcc."""
        return Overlap(self.classes, self.ignore_index, device)

    def augment(self, preset: str, size: Size | None = None, **options: Any) -> Augmentation:
        """Presets: none, flip, cifar, cityscapes, ade20k (the latter two are one recipe at different sizes)."""
        made = make(PRESETS, self.name, preset, size, options, {"ignore_index": self.ignore_index})
        return MovedWithMasks(made, self.ignore_index) if made else unchanged


@dataclass(frozen=True)
class MovedWithMasks:
    """Moves images and masks alike; pixels that come from outside are ignored."""

    preset: Preset
    ignore_index: int

    def __call__(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> Batch:
        geometry = self.preset.draw(images, targets, generator)
        images, targets = warp_images(images, geometry), warp_masks(targets, geometry, self.ignore_index)
        if isinstance(self.preset, ScaleCrop) and self.preset.photometric:
            images = photometric(images, generator)
        return images, targets


class Overlap:
    """From one confusion matrix over all pixels: mean class IoU and recall, and the share of right pixels.

    A class that is neither in the masks nor predicted has no IoU, one that is not in the masks no recall: such are
    left out of the means (HR-NAS paper's code).
    """

    def __init__(self, classes: int, ignore_index: int, device: torch.device | str | None) -> None:
        from torchmetrics.classification import MulticlassConfusionMatrix

        self._matrix = MulticlassConfusionMatrix(classes, ignore_index=ignore_index, validate_args=False)
        if device is not None:
            self._matrix.to(device)

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Counts logits (B, classes, h, w), resized to the masks (B, H, W)."""
        predicted = at_size_of(outputs.detach(), targets).argmax(dim=1)
        self._matrix.to(outputs.device).update(predicted, targets)

    def compute(self) -> dict[str, float]:
        """`mIoU`, `mAcc`, `aAcc`; 0 when no pixel was counted."""
        counts = quietly(self._matrix).double()  # rows are true classes
        right, true, predicted = counts.diagonal(), counts.sum(dim=1), counts.sum(dim=0)
        union = true + predicted - right
        return {
            "mIoU": _mean_where(right / union, union > 0),
            "mAcc": _mean_where(right / true, true > 0),
            "aAcc": float(right.sum() / counts.sum().clamp(min=1)),
        }

    def reset(self) -> None:
        """Forgets all batches."""
        self._matrix.reset()


def at_size_of(logits: Tensor, masks: Tensor) -> Tensor:
    """Logits (B, C, h, w) at the height and width of the masks (B, H, W)."""
    if logits.shape[-2:] == masks.shape[-2:]:
        return logits
    return nn.functional.interpolate(logits, size=masks.shape[-2:], mode="bilinear", align_corners=False)


def _mean_where(values: Tensor, defined: Tensor) -> float:
    return float(values[defined].mean()) if defined.any() else 0.0
