"""Whether what was exported gives the numbers of the network, on images that it was not made with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.export.errors import ExportError
from nasdsl.runtime.export.record import IMAGES, SIZES, Recording, Whole

TOLERANCE = 1e-4
"""The largest difference that is let pass, in proportion to the largest number where that is above 1."""
LOST = 0.02
"""The share of detections that may differ: two of nearly equal score may change places, and an overlap that is nearly
the limit fall on its other side, by the last digit of a float."""

Run = Callable[[Mapping[str, torch.Tensor]], Sequence[torch.Tensor]]
"""An exported network: of its inputs by name what it gives, in order."""


@dataclass(frozen=True)
class Agreement:
    """How well an exported network and the network agree.

    Attributes:
        largest: difference of any number.
        tried: batches, in words: `1 x 3 x 32 x 32`.
        detections, lost: detections of the network, and those of them that the exported one has not, or otherwise.
    """

    largest: float
    tried: tuple[str, ...]
    detections: int = 0
    lost: int = 0

    def check(self, what: str) -> None:
        """
        Raises:
            ExportError: they do not agree.
        """
        if not self.largest < TOLERANCE:
            raise ExportError(f"{what} differs from the network by {self.largest:.2g}", "please report this")
        if self.lost > LOST * self.detections:
            found = f"of {self.detections} detections {self.lost} differ from the network's"
            raise ExportError(f"{what}: {found}", "please report this")


def compared(network: Supernet, recording: Recording, run: Run, padded: bool, watched: bool = False) -> Agreement:
    """An exported network against the network, in two sizes of batch and, where they are open, of images.

    Args:
        run: gives, where it is `watched`, the maps behind a detector's boxes, too.
    """
    whole = Whole(network, padded, watched)
    training, parameter = network.training, next(network.parameters(), torch.zeros(0))
    largest, detections, lost, tried = 0.0, 0, 0, []
    network.eval()
    try:
        for seed, inputs in enumerate(batches(network, recording, padded)):
            given = {name: one.to(parameter) if name == IMAGES else one for name, one in inputs.items()}
            with torch.inference_mode():
                wanted = [one.cpu() for one in whole(*given.values())]
            found = [one.detach().cpu() for one in run(given)]
            if [one.shape for one in wanted] != [one.shape for one in found]:
                raise ExportError(f"of batch {seed + 1} it gives tensors of other sizes than the network")
            tried.append(" x ".join(map(str, inputs[IMAGES].shape)))
            if network.reads_scene:
                gap, there, gone = same_detections(wanted[:3], found[:3])
                largest, detections, lost = max(largest, gap), detections + there, lost + gone
                wanted, found = wanted[3:], found[3:]
            for one, other in zip(wanted, found, strict=True):
                largest = max(largest, gap_of(one, other))
    finally:
        network.train(training)
    return Agreement(largest, tuple(tried), detections, lost)


def batches(network: Supernet, recording: Recording, padded: bool) -> list[dict[str, torch.Tensor]]:
    """Inputs by name: a single image and three, of random numbers, and smooth ones, which look more like images."""
    shape = network.graph.input.shape
    own = int(shape.height), int(shape.width)
    sizes = [(1, own), (3, own)]
    if recording.step:
        (height, width), step = recording.least, recording.step
        sizes += [(2, (height, width + step)), (1, (own[0] + step, own[1]))]
    found = []
    for seed, (batch, (height, width)) in enumerate(sizes, 1):
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(batch, int(shape.channels), height, width, generator=generator)
        if seed % 2 == 0 and min(height, width) >= 8:
            coarse = torch.randn(batch, int(shape.channels), height // 4, width // 4, generator=generator)
            images = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear") + 0.2 * images
        inputs = {IMAGES: images}
        if padded:
            ends = torch.rand(batch, 2, generator=generator) * 0.5 + 0.5
            inputs[SIZES] = (ends * torch.tensor([height, width])).round()
        found.append(inputs)
    return found


def gap_of(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference of two tensors of one size, in proportion to the largest number where that is above 1;
    infinite where one has numbers that are none where the other has some."""
    if not torch.equal(one.isfinite(), other.isfinite()):
        return math.inf
    one, other = (x[one.isfinite()].double() for x in (one, other))
    if not one.numel():
        return 0.0
    return float((one - other).abs().max() / one.abs().max().clamp(min=1))


def same_detections(wanted: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> tuple[float, int, int]:
    """Of boxes (B N 4), scores and labels (B N): the largest difference of those that both have, how many the first
    has, and how many of all have no partner.

    A partner is of the same label, not taken by another, and differs by less than a hundredth of a pixel and of a
    score, whatever place it stands at; boxes differ in proportion to their sides.
    """
    largest, detections, lost = 0.0, 0, 0
    for boxes_N4, scores_N, labels_N, others_N4, marks_N, kinds_N in zip(*wanted, *found, strict=True):
        there_N, seen_N = labels_N >= 0, kinds_N >= 0
        detections += int(there_N.sum())
        free_N = seen_N.clone()
        scale = boxes_N4.abs().max().clamp(min=1)
        for box_4, score, label in zip(boxes_N4[there_N], scores_N[there_N], labels_N[there_N], strict=True):
            off_N = torch.maximum((others_N4 - box_4).abs().amax(1) / scale, (marks_N - score).abs())
            off_N = off_N.masked_fill(~free_N | (kinds_N != label), torch.inf)
            best = int(off_N.argmin())
            if off_N[best] < 0.01:
                free_N[best] = False
                largest = max(largest, float(off_N[best]))
            else:
                lost += 1
        lost += int(free_N.sum())
    return largest, detections, lost
