"""Regression: squared or smooth error of numbers, root mean squared error and R2."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from nasdsl.compiler.layers.head import Regress
from nasdsl.runtime.data import DataSplits, Samples, Size
from nasdsl.runtime.tasks.augment import make, unchanged
from nasdsl.runtime.tasks.classification import fits
from nasdsl.runtime.tasks.normalise import Normalise
from nasdsl.runtime.tasks.task import Augmentation, OneTensor, TaskError

CRITERIA = ("squared", "smooth")
MOST_NAMED = 16
"""Targets up to which each has its own error beside that of all."""


@dataclass(frozen=True)
class Regression(OneTensor):
    """Outputs and targets are numbers (B, T), both in the units of the data.

    The network's head holds mean and deviation of the targets of the training rows, so that its weights see numbers
    about 0; features are normalised by those of the training rows, too.

    Attributes:
        targets: how many.
        names: of the targets.
        mean, std: of the targets.
        criterion: the loss: `squared` error, or `smooth`, which is linear beyond `beta` deviations.
    """

    targets: int
    names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    normalise: Normalise
    criterion: str = "squared"
    beta: float = 1.0

    name: ClassVar[str] = "regression"
    headline: ClassVar[str] = "RMSE"
    higher_is_better: ClassVar[bool] = False
    heads: ClassVar[tuple[str, ...]] = ("regress",)
    distils: ClassVar[bool] = False
    param: ClassVar[str] = "targets"

    def __post_init__(self) -> None:
        if self.criterion not in CRITERIA:
            raise TaskError(f'regression has no criterion "{self.criterion}"', f"there are {', '.join(CRITERIA)}")
        if not (self.beta > 0 and math.isfinite(self.beta)):
            raise TaskError(f"beta is above 0, not {self.beta}")

    @classmethod
    def from_data(cls, data: DataSplits, **options: Any) -> Self:
        """The task for a data set; see `Task.from_data`. What is standardised by is of the training samples."""
        fits(data, cls.name)
        normalise, mean, std = statistics(data.train)
        if data.size != (1, 1):
            normalise = Normalise.for_data(data)
        known = {"targets": len(data.classes), "names": data.classes, "normalise": normalise, "mean": mean, "std": std}
        return cls(**{**known, **options})

    @property
    def outputs(self) -> int:
        """One number for each target."""
        return self.targets

    def prepare(self, network: nn.Module) -> None:
        """Tells the head of a network that is to be trained what the targets are like."""
        for head in heads_of(network):
            with torch.no_grad():
                head.shift.copy_(torch.tensor(self.mean))
                head.scale.copy_(torch.tensor(self.std))

    def learnt_by(self, network: nn.Module, normalise: Normalise) -> Self:
        """The task as a trained network knows it: it saw features so, and has its own idea of the targets."""
        mean, std = self.mean, self.std
        for head in heads_of(network):
            mean, std = tuple(head.shift.tolist()), tuple(head.scale.tolist())
        return replace(self, normalise=normalise, mean=mean, std=std)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean over samples and targets, in deviations of the targets."""
        std = outputs.new_tensor(self.std)
        one, other = outputs / std, targets.to(outputs.dtype) / std
        if self.criterion == "smooth":
            return nn.functional.smooth_l1_loss(one, other, beta=self.beta)
        return nn.functional.mse_loss(one, other)

    def metric(self, device: torch.device | str | None = None) -> Errors:
        """RMSE and MSE in deviations of the training targets, R2, and of few targets the RMSE of each in its units."""
        return Errors(self.names, self.mean, self.std)

    def augment(self, preset: str, size: Size | None = None, **options: Any) -> Augmentation:
        """There is no preset but none."""
        make({}, self.name, preset, None if size == (1, 1) else size, options)
        return unchanged


def heads_of(network: nn.Module) -> list[Regress]:
    return [module for module in network.modules() if isinstance(module, Regress)]


def statistics(samples: Samples, at_once: int = 4096) -> tuple[Normalise, tuple[float, ...], tuple[float, ...]]:
    """How features are normalised, and mean and deviation of each target, over all samples. What does not vary keeps
    its deviation of 1. Images, 8-bit, are normalised as usual."""
    features, targets = _Moments(), _Moments()
    images: int | None = None
    for start in range(0, len(samples), at_once):
        rows, values = samples.batch(list(range(start, min(start + at_once, len(samples)))))
        targets.add(values.double().reshape(len(values), -1))
        if rows.dtype == torch.uint8:
            images = rows.shape[1]
        else:
            features.add(rows.double().flatten(2).mean(2))
    normalise = Normalise(*features.told()) if images is None else Normalise.imagenet(images)
    return normalise, *targets.told()


class _Moments:
    """Mean and deviation of columns that come in parts, each by its distance from the first row."""

    def __init__(self) -> None:
        self.count = 0
        self.first = self.total = self.square = torch.zeros(0)

    def add(self, rows: Tensor) -> None:
        if not self.count:
            self.first = rows[0]
            self.total = self.square = torch.zeros_like(rows[0])
        away = rows - self.first
        self.count += len(rows)
        self.total = self.total + away.sum(0)
        self.square = self.square + away.square().sum(0)

    def told(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        away = self.total / self.count
        std = (self.square / self.count - away.square()).clamp(min=0).sqrt()
        std = torch.where(std > 1e-6 * away.abs(), std, torch.ones_like(std))
        return tuple((self.first + away).tolist()), tuple(std.tolist())


class Errors:
    """Errors over all samples, of all processes together.

    RMSE and MSE are of errors in deviations of the training targets: whoever gives their mean has about 1. R2 is the
    mean over the targets of the share of their variance that is explained; of one that does not vary it is 1 or 0.
    """

    def __init__(self, names: Sequence[str], mean: Sequence[float], std: Sequence[float]) -> None:
        self.names = names
        self._mean, self._std = (torch.tensor(values, dtype=torch.float64) for values in (mean, std))
        self._sums = torch.zeros(4, len(self._std), dtype=torch.float64)

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Counts numbers (B, T) against such."""
        found, true = ((x.detach().double().cpu() - self._mean) / self._std for x in (outputs, targets))
        parts = torch.stack([torch.ones_like(true), (found - true).square(), true, true.square()])
        self._sums = self._sums + parts.sum(1)

    def compute(self) -> dict[str, float]:
        """`RMSE`, `MSE`, `R2`, and of few targets `RMSE_` and the name of each."""
        sums = self._sums
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            parts: list[Any] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(parts, sums)
            sums = torch.stack(parts).sum(0)
        count, error, total, square = sums
        mse = error / count
        spread = (square - total.square() / count).clamp(min=0)
        explained = torch.where(spread > 1e-12 * count, 1 - error / spread, (error == 0).double())
        whole = float(mse.mean())
        found = {"RMSE": math.sqrt(whole) if whole >= 0 else math.nan, "MSE": whole, "R2": float(explained.mean())}
        if len(self.names) <= MOST_NAMED:
            each = (mse.sqrt() * self._std).tolist()
            found |= {f"RMSE_{name}": value for name, value in zip(self.names, each, strict=True)}
        return found

    def reset(self) -> None:
        """Forgets all samples."""
        self._sums = torch.zeros_like(self._sums)
