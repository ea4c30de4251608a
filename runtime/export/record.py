"""A network as a program of torch's operations, with an open number of images and, where it can, of open size."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import nn

from nasdsl.compiler.diagnostics import cause
from nasdsl.compiler.layers.attention import LocalAttention
from nasdsl.compiler.layers.self_attention import WindowAttention
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.export.errors import ExportError
from nasdsl.runtime.export.network import live_nodes

IMAGES, SIZES, OUTPUT = "images", "sizes", "output"
"""What the inputs and the only output are called."""
TRACED = 2
"""Images of the batch that is recorded; a single one would be taken for a rule."""


class Whole(nn.Module):
    """A network as it is recorded.

    Args:
        padded: whether it has a second input (B 2), height and width of the images without their padding.
        watched: whether it gives, behind its outputs, the maps that a detector's first layer with boxes reads.
    """

    def __init__(self, network: Supernet, padded: bool = False, watched: bool = False) -> None:
        super().__init__()
        self.network = network
        self.padded = padded
        self.watched = watched and network.reads_scene

    def forward(self, images: torch.Tensor, sizes: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        seen: list[torch.Tensor] = []
        with watching(self.network, seen) if self.watched else unwatched():
            made = self.network(images, {"size": sizes} if self.padded else None)
        outputs = (made,) if isinstance(made, torch.Tensor) else tuple(made.values())
        return (*outputs, *seen)


@contextmanager
def unwatched() -> Iterator[None]:
    yield


@contextmanager
def watching(network: Supernet, seen: list[torch.Tensor]) -> Iterator[None]:
    """While it lasts, what the first layer reads that works with boxes is put into a list."""
    steps = network.steps
    first = next(step for step in steps if step.reads)

    def layer(*inputs: torch.Tensor, **told: Any) -> Any:
        seen.extend(inputs)
        return first.layer(*inputs, **told)

    network.steps = tuple(replace(step, layer=layer) if step is first else step for step in steps)
    try:
        yield
    finally:
        network.steps = steps


@dataclass(frozen=True)
class Recording:
    """A recorded network.

    Attributes:
        inputs: `images` (B C H W) and maybe `sizes` (B 2).
        outputs: names of what it gives.
        step: heights and widths may be any multiples of it, from `least` on; 0 where the size is fixed.
        least: height and width.
        fixed: why the size is fixed; empty where it is not.
    """

    program: torch.export.ExportedProgram
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    step: int
    least: tuple[int, int]
    fixed: str

    @property
    def sizes(self) -> str:
        """In words."""
        if not self.step:
            return f"{self.least[0]} x {self.least[1]} alone"
        each = "any" if self.step == 1 else f"multiples of {self.step}"
        return f"{each}, from {self.least[0]} x {self.least[1]} on"


def outputs_of(network: Supernet) -> tuple[str, ...]:
    """The names of what a network gives."""
    return ("boxes", "scores", "labels") if network.reads_scene else (OUTPUT,)


def record(network: Supernet, *, padded: bool = False, open_sizes: bool = True, watched: bool = False) -> Recording:
    """
    Args:
        network: of one architecture; it is recorded as it is in evaluation.
        padded, watched: see `Whole`.
        open_sizes: whether to try to leave height and width open.

    Raises:
        ExportError: it cannot be recorded.
    """
    shape = network.graph.input.shape
    size = int(shape.height), int(shape.width)
    stride = stride_of(network)
    names, reason = ((IMAGES, SIZES) if padded else (IMAGES,), outputs_of(network)), ""
    if not open_sizes:
        reason = "as it was asked for"
    elif max(size) == 1 or not stride:
        reason = "the network reads no maps"
    elif any(isinstance(module, LocalAttention | WindowAttention) for module in network.modules()):
        reason = "the windows of its attention are laid out for one size"
    elif any(side % stride for side in size):
        reason = f"{size[0]} x {size[1]} are no multiples of {stride}, the coarsest stride"
    else:
        try:
            program = recorded_program(network, padded, watched, size, stride)
        except Exception as problem:  # torch raises nearly anything where steps hang on sizes
            reason = first_line(problem)
        else:
            least = least_of(program, int(shape.channels), size, stride)
            if least:
                return Recording(program, *names, stride, (least * stride, least * stride), "")
            reason = "some of its steps are laid out for one size"
    try:
        program = recorded_program(network, padded, watched, size, 0)
    except Exception as problem:  # whatever torch cannot record
        raise ExportError(f"torch.export cannot record the network: {first_line(problem)}") from problem
    return Recording(program, *names, 0, size, reason)


def first_line(problem: BaseException) -> str:
    """What an exception says, without what it shows of torch's inside."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return lines[0] if lines else cause(problem)


TRIED = (*range(1, 13), 16, 24, 32, 48)
"""Multiples of the stride at which the conditions of a recording are looked at."""


class Sized:
    """What a recording's conditions read of an image."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes

    def size(self) -> tuple[int, ...]:
        return self.sizes


def least_of(program: torch.export.ExportedProgram, channels: int, size: tuple[int, int], step: int) -> int:
    """The least number of strides from which on a recording holds for all heights and widths, and for the network's own
    size; 0 where there is none.

    Whatever a step asked of the open sizes while it was recorded has become a condition, which another program than
    torch's would not look at.
    """
    conditions = [compile(text, "condition", "eval") for text in program._guards_code]

    def holds(down: int, across: int) -> bool:
        inputs = {IMAGES: Sized(TRACED + 1, channels, down * step, across * step), SIZES: Sized(TRACED + 1, 2)}
        known = {"L": inputs, "math": math, "torch": torch}
        return all(eval(one, known) for one in conditions)

    own = size[0] // step, size[1] // step
    good = {(a, b) for a in TRIED for b in TRIED if holds(a, b)}
    for least in TRIED:
        if least > min(own):
            return 0
        if all((a, b) in good for a in TRIED for b in TRIED if a >= least and b >= least) and holds(*own):
            return least
    return 0


def stride_of(network: Supernet) -> int:
    """Pixels of the input for one of the coarsest map; 0 where there are no maps."""
    nodes, _ = live_nodes(network.graph)
    maps = [Fraction(node.shape.scale).denominator for node in nodes if node.shape.height is not None]
    return max(maps, default=0)


def recorded_program(
    network: Supernet, padded: bool, watched: bool, size: tuple[int, int], step: int
) -> torch.export.ExportedProgram:
    """
    Args:
        size: that the recording sees, where none is open.
        step: of open sizes, which are multiples of it; 0 where none is open.
    """
    shape, parameter = network.graph.input.shape, next(network.parameters(), torch.zeros(0))
    dims: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    if step:  # sides that differ from one another and are none of a kind
        count = max(*(side // step for side in size), 5)
        size = (count * step, (count + 2) * step)
        sides = (torch.export.Dim(name, min=1) for name in ("height", "width"))
        dims |= {axis: side if step == 1 else step * side for axis, side in enumerate(sides, 2)}
    images = torch.zeros(TRACED, int(shape.channels), *size, dtype=parameter.dtype, device=parameter.device)
    given: tuple[torch.Tensor, ...] = (images,)
    shapes: tuple[Mapping[int, Any] | None, ...] = (dims,)
    if padded:
        given += (torch.tensor([size] * TRACED, dtype=torch.float32, device=parameter.device),)
        shapes += ({0: dims[0]},)
    training = network.training
    network.eval()
    try:
        with torch.no_grad(), quiet():
            return torch.export.export(Whole(network, padded, watched), given, dynamic_shapes=shapes)
    finally:
        network.train(training)


@contextmanager
def quiet() -> Iterator[None]:
    """Without what torch and its exporter say of themselves while they try."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
