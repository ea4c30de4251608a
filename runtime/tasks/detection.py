"""Object detection: boxes with classes, average precision.

What is learnt, and how boxes come about, is the matter of a network's head (`regions.py` and `dense.py` in
`compiler/layers/`); what it samples to learn from, it samples inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from nasdsl.compiler.graph import Node
from nasdsl.runtime.data import DataSplits, Size
from nasdsl.runtime.tasks.average_precision import BoxPrecision
from nasdsl.runtime.tasks.boxes_augment import augmentation
from nasdsl.runtime.tasks.classification import fits
from nasdsl.runtime.tasks.normalise import Normalise
from nasdsl.runtime.tasks.task import Augmentation


@dataclass(frozen=True)
class Detection:
    """In training networks give losses by name, in evaluation detections: `boxes` (B, D, 4) in pixels of the images,
    `scores` (B, D) by falling score, and `labels` (B, D), with -1 where there is no detection.

    Targets are those of `DetectionSet`.

    Attributes:
        classes: their names, without a background.
        weights: what the losses of such names are multiplied by; those not named by 1.
        voc: whether the metric has the average precision of Pascal VOC, too.
    """

    classes: tuple[str, ...]
    weights: Mapping[str, float] = field(default_factory=dict)
    voc: bool = False
    normalise: Normalise = field(default_factory=Normalise.imagenet)

    name: ClassVar[str] = "detection"
    headline: ClassVar[str] = "AP"
    higher_is_better: ClassVar[bool] = True
    heads: ClassVar[tuple[str, ...]] = ("detect_dense", "detect_regions")
    distils: ClassVar[bool] = False

    @classmethod
    def from_data(cls, data: DataSplits, **options: Any) -> Self:
        """The task for a data set; see `Task.from_data`."""
        fits(data, cls.name)
        return cls(**{"classes": data.classes, "normalise": Normalise.for_data(data), **options})

    @property
    def outputs(self) -> int:
        """Classes, without a background."""
        return len(self.classes)

    @classmethod
    def outputs_of(cls, head: Node) -> int:
        """The classes of a head."""
        return int(head.attrs["classes"])

    def loss(self, outputs: Mapping[str, Tensor], targets: Any) -> Tensor:
        """The weighted sum of the network's losses."""
        return torch.stack([self.weights.get(name, 1.0) * loss for name, loss in outputs.items()]).sum()

    def validation_loss(self, outputs: Mapping[str, Tensor], targets: Any) -> None:
        """Detections have no loss."""
        return

    def infer(self, model: nn.Module, images: Tensor, targets: Any) -> Mapping[str, Tensor]:
        """The detections, at a single scale and without a mirror."""
        outputs: Mapping[str, Tensor] = model(images, {"size": targets["size"]})
        return outputs

    def metric(self, device: torch.device | str | None = None) -> BoxPrecision:
        """AP, AP50, AP75, AR, and AP of small, medium and large objects. `device` does not matter."""
        return BoxPrecision(self.classes, voc=self.voc)

    def augment(self, preset: str, size: Size | None = None, **options: Any) -> Augmentation:
        """Presets: none, flip, scale, ssd."""
        return augmentation(preset, size, **options)
