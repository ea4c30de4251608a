"""Image classification: cross-entropy, top-1 and top-5."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from nasdsl.runtime.data import Batch, DataSplits, Size
from nasdsl.runtime.tasks.augment import Flip, PadCrop, Preset, ResizedCrop, make, unchanged
from nasdsl.runtime.tasks.normalise import Normalise
from nasdsl.runtime.tasks.task import Augmentation, OneTensor, TaskError
from nasdsl.runtime.tasks.warp import warp_images

if TYPE_CHECKING:
    from torchmetrics import Metric, MetricCollection

PRESETS: dict[str, type[Any]] = {"flip": Flip, "cifar": PadCrop, "imagenet": ResizedCrop}


@dataclass(frozen=True)
class Classification(OneTensor):
    """Outputs are logits (B, classes), targets labels (B,). The HR-NAS paper has `label_smoothing` 0.1 on ImageNet."""

    classes: int
    label_smoothing: float = 0.0
    normalise: Normalise = field(default_factory=Normalise.imagenet)

    name: ClassVar[str] = "classification"
    headline: ClassVar[str] = "top1"
    higher_is_better: ClassVar[bool] = True
    heads: ClassVar[tuple[str, ...]] = ("classify",)

    @classmethod
    def from_data(cls, data: DataSplits, **options: Any) -> Self:
        """The task for a data set; see `Task.from_data`."""
        fits(data, cls.name, least=2)
        return cls(**{"classes": len(data.classes), "normalise": Normalise.for_data(data), **options})

    @property
    def outputs(self) -> int:
        """One logit for each class."""
        return self.classes

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return nn.functional.cross_entropy(outputs, targets, label_smoothing=self.label_smoothing)

    def metric(self, device: torch.device | str | None = None) -> Accuracy:
        """top1, and top5 where there are more than five classes."""
        return Accuracy(self.classes, device)

    def augment(self, preset: str, size: Size | None = None, **options: Any) -> Augmentation:
        """Presets: none, flip, cifar, imagenet."""
        made = make(PRESETS, self.name, preset, size, options)
        return Moved(made) if made else unchanged


@dataclass(frozen=True)
class Moved:
    """Moves images; labels stay."""

    preset: Preset

    def __call__(self, images: Tensor, targets: Any, generator: torch.Generator) -> Batch:
        return warp_images(images, self.preset.draw(images, targets, generator)), targets


class Accuracy:
    """Shares of images whose label has the greatest logit, or one of the five greatest."""

    def __init__(self, classes: int, device: torch.device | str | None) -> None:
        from torchmetrics import MetricCollection
        from torchmetrics.classification import MulticlassAccuracy

        tops = {"top1": 1, "top5": 5} if classes > 5 else {"top1": 1}
        self._metrics: MetricCollection = MetricCollection(
            {key: MulticlassAccuracy(classes, top_k=top, average="micro") for key, top in tops.items()}
        )
        if device is not None:
            self._metrics.to(device)

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Counts logits (B, classes) against labels (B,)."""
        self._metrics.to(outputs.device).update(outputs.detach().float(), targets)

    def compute(self) -> dict[str, float]:
        """`top1` and perhaps `top5`."""
        return {key: float(value) for key, value in sorted(quietly(self._metrics).items())}

    def reset(self) -> None:
        """Forgets all batches."""
        self._metrics.reset()


def quietly(metric: Metric | MetricCollection) -> Any:
    """`metric.compute()`; a process that saw no batch takes part without a warning, as some may at the end of data."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The ``compute`` method of metric", category=UserWarning)
        return metric.compute()


def fits(data: DataSplits, task: str, least: int = 1) -> None:
    """Refuses data of another task, and data with fewer classes than there have to be.

    Raises:
        TaskError: it is that.
    """
    if data.task != task:
        raise TaskError(f"this is data for {data.task}, not for {task}: {data.description}")
    if len(data.classes) < least:
        found = ", ".join(f"`{name}`" for name in data.classes) or "none"
        raise TaskError(
            f"{task} needs at least {least} classes to tell apart, and the data has {found}: {data.description}"
        )
