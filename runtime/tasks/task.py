"""What a task is: how outputs of a network are trained, measured, and their images prepared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from nasdsl.compiler.diagnostics import NasdslError
from nasdsl.runtime.data import Batch, DataSplits, Size
from nasdsl.runtime.tasks.normalise import Normalise

Augmentation = Callable[[Tensor, Any, torch.Generator], Batch]
"""From images, float (B, C, H, W) in 0..1, and targets to augmented ones; all chance comes from the generator."""


class TaskError(NasdslError):
    """A task, preset or option that does not exist, or data that does not fit the task."""

    code = "task"


class Metric(Protocol):
    """The standard metric of a task, summed over batches and, where torch.distributed runs, over processes."""

    def update(self, outputs: Tensor, targets: Any) -> None:
        """Counts one batch."""
        ...

    def compute(self) -> dict[str, float]:
        """All numbers so far, fractions in 0..1; the headline first. Every process must call it."""
        ...

    def reset(self) -> None:
        """Forgets all batches."""
        ...


@runtime_checkable
class Task(Protocol):
    """One interface for all tasks; an entry point in the group `nasdsl.tasks` is a class that has it.

    `headline` is the name of the number that searches optimise, and the first that a metric gives.
    """

    name: ClassVar[str]
    headline: ClassVar[str]
    higher_is_better: ClassVar[bool]

    @classmethod
    def from_data(cls, data: DataSplits, **options: Any) -> Self:
        """The task for a data set: number of classes, ignored label, joints; `options` are fields of the class."""
        ...

    @property
    def outputs(self) -> int:
        """Channels that the network's head must have."""
        ...

    @property
    def normalise(self) -> Normalise:
        """What a network sees of images in 0..1."""
        ...

    def loss(self, outputs: Tensor, targets: Any) -> Tensor:
        """A scalar to minimise."""
        ...

    def infer(self, model: nn.Module, images: Tensor) -> Tensor:
        """Outputs for evaluation, with what the task does at test time."""
        ...

    def metric(self, device: torch.device | str | None = None) -> Metric:
        """A fresh metric."""
        ...

    def augment(self, preset: str, size: Size | None = None, **options: Any) -> Augmentation:
        """A preset by name ("none" changes nothing). `size` is what comes out; None keeps that of the images."""
        ...
