"""What tasks are held to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nasdsl.api.given import SpaceLike, space_like
from nasdsl.compiler.layers.auxiliary import Sided
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.data import DataSplits, Loader
from nasdsl.runtime.problem import head_of
from nasdsl.runtime.tasks import Task, loss_of
from nasdsl.testing.contract import require

BATCH = 4
BATCHES = 2
STEPS = 12


def check_task(
    kind: type[Task], space: SpaceLike, data: DataSplits, *, presets: Sequence[str] = (), rate: float = 0.01
) -> None:
    """Holds a task to its word with a small network and some data: its head has as many outputs as the data asks for;
    the loss is a finite number that training lowers; the metric does not hang on how images are batched, and begins
    with the headline; and augmentation is a function of its generator.

    Args:
        space: a network that ends in one of the task's heads; of several architectures the largest.
        data: for it. Its first images are used.
        presets: names of augmentations.
        rate: of the steps of training.

    Raises:
        ContractError: something does not hold.
    """
    name = kind.name
    task = kind.from_data(data)
    require(isinstance(task, Task), f"`{name}` lacks a member of `Task`")
    require(type(kind.higher_is_better) is bool and type(kind.distils) is bool, f"`{name}` says neither yes nor no")
    graph = space_like(space).graph
    head = head_of(space_like(space))
    require(
        head.op in kind.heads, f"the network ends in `{head.op}`, and `{name}` has the heads {', '.join(kind.heads)}"
    )
    has = kind.outputs_of(head)
    require(has == task.outputs, f"the data asks for {task.outputs} outputs, and `{name}` finds {has} in the network")
    torch.manual_seed(0)
    network = Supernet(graph)
    if hasattr(task, "prepare"):
        task.prepare(network)
    _check_images(task, data)
    _check_learning(task, network, data, rate)
    _check_metric(task, network, data)
    for preset in presets:
        _check_preset(task, preset, data)


def _batch(data: DataSplits, task: Task, size: int = BATCH) -> tuple[Tensor, Any]:
    """The first images to learn from."""
    found: tuple[Tensor, Any] = next(Loader(data.train, size, normalise=task.normalise).epoch(0))
    return found


def _check_images(task: Task, data: DataSplits) -> None:
    images, targets = _batch(data, task)
    require(images.isfinite().all(), f"`{task.name}` normalises images to what is no finite number")
    generator = torch.Generator().manual_seed(0)
    same, others = task.augment("none")(images, targets, generator)
    require(
        _equal(same, images) and _equal(others, targets), f"the augmentation `none` of `{task.name}` changes something"
    )


def _check_learning(task: Task, network: Supernet, data: DataSplits, rate: float) -> None:
    images, targets = _batch(data, task)
    optimiser = torch.optim.Adam(network.parameters(), rate)
    losses = []
    network.train()
    for _ in range(STEPS):
        torch.manual_seed(1)
        optimiser.zero_grad()
        loss = loss_of(task, network(images, targets), targets)
        require(loss.dim() == 0, f"the loss of `{task.name}` is a tensor of {tuple(loss.shape)}")
        require(loss.isfinite(), f"the loss of `{task.name}` is {float(loss.detach())}")
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [one.grad for one in network.parameters() if one.grad is not None]
        require(gradients, f"the loss of `{task.name}` reaches no weight")
        require(all(one.isfinite().all() for one in gradients), f"a gradient of `{task.name}` is no finite number")
        optimiser.step()
        losses.append(float(loss.detach()))
    lowest = min(losses[1:])
    require(
        lowest < losses[0], f"{STEPS} steps on {len(images)} images do not lower the loss of `{task.name}`: {losses}"
    )


@torch.no_grad()
def _check_metric(task: Task, network: Supernet, data: DataSplits) -> None:
    network.eval()
    found = []
    for size in (BATCH, 1):
        metric = task.metric()
        for images, targets in _some(data, task, size):
            outputs = task.infer(network, images, targets)
            require(not isinstance(outputs, Sided), f"`{task.name}` measures what sides give, too")
            loss = task.validation_loss(outputs, targets)
            finite = loss is None or (loss.dim() == 0 and bool(loss.isfinite()))
            require(finite, f"the loss of `{task.name}` in evaluation is no finite number")
            metric.update(outputs, targets)
        found.append(metric.compute())
        require(metric.compute() == found[-1], f"the metric of `{task.name}` changes when it is asked")
        metric.reset()
        metric.update(outputs, targets)
        alone = task.metric()
        alone.update(outputs, targets)
        require(
            _near(metric.compute(), alone.compute()), f"a metric of `{task.name}` that is reset remembers something"
        )
    whole, each = found
    first = next(iter(whole), None)
    require(
        first == task.headline,
        f"the metric of `{task.name}` begins with `{first}`, and its headline is `{task.headline}`",
    )
    finite = all(type(value) is float and math.isfinite(value) for value in whole.values())
    require(finite, f"the metric of `{task.name}` gives {whole}, and not finite numbers of the type `float`")
    require(_near(whole, each), f"the metric of `{task.name}` hangs on batches: {whole}, and one by one {each}")


def _some(data: DataSplits, task: Task, size: int) -> list[tuple[Tensor, Any]]:
    """The first images that validate, so many at a time."""
    loader = Loader(data.val, size, normalise=task.normalise)
    return [batch for batch, _ in zip(loader.epoch(0), range(BATCH * BATCHES // size), strict=False)]


def _near(one: dict[str, float], other: dict[str, float]) -> bool:
    return one.keys() == other.keys() and all(
        math.isclose(one[name], other[name], rel_tol=1e-4, abs_tol=1e-5) for name in one
    )


def _check_preset(task: Task, preset: str, data: DataSplits) -> None:
    images, targets = _batch(data, task)
    augment = task.augment(preset, data.size if preset not in ("none", "flip") else None)
    made = [augment(images.clone(), targets, torch.Generator().manual_seed(3)) for _ in range(2)]
    same = _equal(made[0][0], made[1][0]) and _equal(made[0][1], made[1][1])
    require(same, f"the augmentation `{preset}` of `{task.name}` is by chance beyond its generator")
    shape = tuple(made[0][0].shape[:2])
    require(shape == tuple(images.shape[:2]), f"the augmentation `{preset}` of `{task.name}` makes {shape}")
    require(made[0][0].isfinite().all(), f"the augmentation `{preset}` of `{task.name}` makes what is no finite number")


def _equal(one: Any, other: Any) -> bool:
    """Whether tensors, or containers of such, are the same."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_equal(one[k], other[k]) for k in one)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)
