"""Keypoints of one instance for each image: heatmaps, and average precision by object keypoint similarity."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from nasdsl.runtime.data import Batch, DataSplits, KeypointLayout, Size
from nasdsl.runtime.tasks.augment import Flip, Pose, Preset, make, unchanged
from nasdsl.runtime.tasks.classification import fits
from nasdsl.runtime.tasks.heatmaps import encode
from nasdsl.runtime.tasks.normalise import Normalise
from nasdsl.runtime.tasks.oks import SimilarityPrecision
from nasdsl.runtime.tasks.task import Augmentation, OneTensor, TaskError
from nasdsl.runtime.tasks.warp import warp_images, warp_joints

PRESETS: dict[str, type[Any]] = {"flip": Flip, "keypoints": Pose}


@dataclass(frozen=True)
class Keypoints(OneTensor):
    """Outputs are maps (B, K, h, w) at any stride; targets are those of `KeypointSet`.

    `sigma` is in cells of the maps. `flip_test` averages with the mirrored image, at twice the cost of evaluation.
    """

    layout: KeypointLayout
    sigma: float = 2.0
    flip_test: bool = False
    normalise: Normalise = field(default_factory=Normalise.imagenet)

    name: ClassVar[str] = "keypoints"
    headline: ClassVar[str] = "AP"
    higher_is_better: ClassVar[bool] = True
    heads: ClassVar[tuple[str, ...]] = ("keypoints",)

    @classmethod
    def from_data(cls, data: DataSplits, **options: Any) -> Self:
        """The task for a data set; see `Task.from_data`."""
        fits(data, cls.name)
        if data.layout is None:
            raise TaskError(f"the data names no joints: {data.description}")
        return cls(**{"layout": data.layout, "normalise": Normalise.for_data(data), **options})

    @property
    def outputs(self) -> int:
        """One map for each joint."""
        return len(self.layout.names)

    def loss(self, outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """Half the mean squared error of maps, each weighted by whether its joint is labelled (HR-NAS paper)."""
        heat = (int(outputs.shape[-2]), int(outputs.shape[-1]))
        maps, weights = encode(targets["joints"], targets["size"], heat, self.sigma)
        return 0.5 * (weights[..., None, None] * (outputs - maps.to(outputs.dtype))).square().mean()

    def infer(self, model: nn.Module, images: Tensor, targets: Any = None) -> Tensor:
        """The maps, with `flip_test` their mean with those of the mirrored image."""
        outputs: Tensor = model(images)
        if not self.flip_test:
            return outputs
        other: Tensor = model(images.flip(-1))
        return (outputs + other.flip(-1)[:, list(self.layout.flip)]) / 2

    def metric(self, device: torch.device | str | None = None) -> SimilarityPrecision:
        """AP, AP50, AP75, AR, and AP_M and AP_L where instances of such size exist. `device` does not matter."""
        return SimilarityPrecision(self.layout.sigmas)

    def augment(self, preset: str, size: Size | None = None, **options: Any) -> Augmentation:
        """Presets: none, flip, keypoints. Augmented targets no longer map back to their images."""
        made = make(PRESETS, self.name, preset, size, options, {"layout": self.layout})
        if isinstance(made, Pose) and made.half_body and not (self.layout.half(True) and self.layout.half(False)):
            raise TaskError(f"half_body is for joints of bodies, not for {', '.join(self.layout.names)}")
        return MovedWithJoints(made, self.layout.flip) if made else unchanged


@dataclass(frozen=True)
class MovedWithJoints:
    """Moves images and joints alike; a mirror exchanges left and right."""

    preset: Preset
    flip: tuple[int, ...]

    def __call__(self, images: Tensor, targets: dict[str, Tensor], generator: torch.Generator) -> Batch:
        geometry = self.preset.draw(images, targets, generator)
        size = targets["size"].new_tensor(geometry.size).expand(len(images), 2)
        joints = warp_joints(targets["joints"], geometry, self.flip)
        return warp_images(images, geometry), {**targets, "joints": joints, "size": size}
