"""Training steps of detectors: torchvision's against the same ones written in the language.

    python -m benchmarks detectors

It needs torchvision, beside a torch that it fits. Both have the same layers, images and objects; a step is a forward
pass that gives the losses, a backward pass, and a step of SGD. The clock is that of the process, and both take turns in
one process. Memory is the most that tensors have at once during a step beyond what they have between steps, as torch's
allocator tells it: what a process has in all depends on how it fragments, and differs twofold from run to run.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import nasdsl
from benchmarks.measure import RESULTS, interleaved, peak, ratio, report, table

FILE = Path(__file__).parent.parent / "tests" / "parity" / "torchvision_detectors.space"
MODELS = ("fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn")
SIDES = ("nasdsl", "torchvision")
BATCH, SIZE, OBJECTS = 2, 320, 6


def options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Training steps of detectors against those of torchvision, which it needs."
    parser.add_argument("--repeats", type=int, default=7, help="rounds (default: 7)")
    parser.add_argument("--no-write", action="store_true", help="print the table only")


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    rows = []
    for name in MODELS:
        steps = {side: step(name, side) for side in SIDES}
        times = interleaved(steps, args.repeats, cpu=True)
        peaks = {side: peak(call) / 2**20 for side, call in steps.items()}
        rows.append(
            (
                name,
                *(f"{statistics.median(times[side]):.2f}" for side in SIDES),
                f"{ratio(times, *SIDES):.3f}",
                *(f"{peaks[side]:,.0f}" for side in SIDES),
                f"{peaks['nasdsl'] / peaks['torchvision']:.3f}",
            )
        )
    text = table(
        ("detector", "ours, s", "torchvision's, s", "ratio", "ours, MiB", "torchvision's, MiB", "ratio of memory"), rows
    )
    text += f"\n\nA batch is {BATCH} images of {SIZE} x {SIZE} with {OBJECTS} objects each. Goal: ratios of at most 1."
    report("detectors", "Detectors", [("Training steps", text)], None if args.no_write else RESULTS)


def step(name: str, side: str) -> Callable[[], None]:
    """One training step of a detector with random weights."""
    torch.manual_seed(0)
    images = torch.rand(BATCH, 3, SIZE, SIZE)
    corner = torch.rand(BATCH, OBJECTS, 2) * SIZE * 0.6
    boxes = torch.cat([corner, corner + 16 + torch.rand(BATCH, OBJECTS, 2) * SIZE * 0.35], -1)
    labels = torch.randint(1, 90, (BATCH, OBJECTS))
    model = _ours(name) if side == "nasdsl" else _theirs(name)
    optimiser = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    model.train()
    listed = list(images), [{"boxes": b, "labels": n} for b, n in zip(boxes, labels, strict=True)]
    given = (images, {"boxes": boxes, "labels": labels - 1}) if side == "nasdsl" else listed

    def call() -> None:
        losses: dict[str, torch.Tensor] = model(*given)
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return call


def _ours(name: str) -> Any:
    return nasdsl.supernet(nasdsl.load(FILE, name))


def _theirs(name: str) -> Any:
    import torchvision  # type: ignore[import-untyped, import-not-found, unused-ignore]

    warnings.simplefilter("ignore")
    model = getattr(torchvision.models.detection, name)(
        weights=None, weights_backbone=None, trainable_backbone_layers=5, min_size=SIZE, max_size=SIZE
    )
    return model
