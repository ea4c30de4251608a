"""What a task is: how outputs of a network are trained, measured, and their images prepared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from nasdsl.compiler.diagnostics import NasdslError
from nasdsl.compiler.graph import Node
from nasdsl.compiler.layers.auxiliary import Sided
from nasdsl.runtime.data import Batch, DataSplits, Size
from nasdsl.runtime.tasks.normalise import Normalise

Outputs = Any
"""What a network gives: one tensor (B, ...), or a record of named tensors."""

Augmentation = Callable[[Tensor, Any, torch.Generator], Batch]
"""From images, float (B, C, H, W) in 0..1, and targets to augmented ones; all chance comes from the generator."""


class TaskError(NasdslError):
    """A task, preset or option that does not exist, or data that does not fit the task."""

    code = "task"


class Metric(Protocol):
    """The standard metric of a task, summed over batches and, where torch.distributed runs, over processes."""

    def update(self, outputs: Outputs, targets: Any) -> None:
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

    A network is called with images and targets, and may read the targets: in training a detector gives its losses.
    Networks of one tensor are `OneTensor`'s.

    Attributes:
        headline: the name of the number that searches optimise, and the first that a metric gives.
        heads: the operators that networks for this task end in.
        distils: whether a network can learn from the outputs of another, as logits (B, classes, ...).

    A task may have more: `param`, the parameter of a space that is set to how many outputs the data has, by default
    `classes`; `prepare(network)`, called before a network is trained; and `learnt_by(network, normalise)`, the task as
    a trained network knows it.
    """

    name: ClassVar[str]
    headline: ClassVar[str]
    higher_is_better: ClassVar[bool]
    heads: ClassVar[tuple[str, ...]]
    distils: ClassVar[bool]

    @classmethod
    def from_data(cls, data: DataSplits, **options: Any) -> Self:
        """The task for a data set: number of classes, ignored label, joints; `options` are fields of the class."""
        ...

    @property
    def outputs(self) -> int:
        """How many outputs the network's head must have: classes, joints."""
        ...

    @classmethod
    def outputs_of(cls, head: Node) -> int:
        """How many a head has."""
        ...

    @property
    def normalise(self) -> Normalise:
        """What a network sees of images in 0..1."""
        ...

    def loss(self, outputs: Outputs, targets: Any) -> Tensor:
        """A scalar to minimise, from what the network gives in training."""
        ...

    def validation_loss(self, outputs: Outputs, targets: Any) -> Tensor | None:
        """The same from what it gives in evaluation; None where that does not tell."""
        ...

    def infer(self, model: nn.Module, images: Tensor, targets: Any) -> Outputs:
        """Outputs for evaluation, with what the task does at test time. Of the targets it reads no answers, but for
        instance how much of an image is no padding."""
        ...

    def metric(self, device: torch.device | str | None = None) -> Metric:
        """A fresh metric."""
        ...

    def augment(self, preset: str, size: Size | None = None, **options: Any) -> Augmentation:
        """A preset by name ("none" changes nothing). `size` is what comes out; None keeps that of the images."""
        ...


def loss_of(task: Task, outputs: Outputs, targets: Any) -> Tensor:
    """A task's loss of what a network gives in training. That of each side (`auxiliary`) is added, times its weight."""
    if not isinstance(outputs, Sided):
        return task.loss(outputs, targets)
    return task.loss(outputs.output, targets) + loss_of_sides(task, outputs, targets)


def loss_of_sides(task: Task, outputs: Sided, targets: Any) -> Tensor:
    """The sum of the losses of a network's sides, each times its weight."""
    return torch.stack([side.weight * task.loss(side.output, targets) for side in outputs.sides]).sum()


class OneTensor:
    """What tasks have in common whose networks give one tensor with a channel for each output, and read no targets."""

    distils: ClassVar[bool] = True

    @classmethod
    def outputs_of(cls, head: Node) -> int:
        """The channels of a head."""
        return int(head.shape.channels)

    def loss(self, outputs: Tensor, targets: Any) -> Tensor:
        """See `Task.loss`."""
        raise NotImplementedError

    def validation_loss(self, outputs: Tensor, targets: Any) -> Tensor | None:
        """The loss: outputs in evaluation are like those in training."""
        return self.loss(outputs, targets)

    def infer(self, model: nn.Module, images: Tensor, targets: Any = None) -> Tensor:
        """The outputs, at a single scale and without a mirror."""
        outputs: Tensor = model(images)
        return outputs
