"""What a trained network finds in a few images of the validation split, beside what is true; some right, some wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Subset

from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.layers.boxes import overlaps
from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.data import DataSplits, Loader, to_image
from nasdsl.runtime.data.images import spread
from nasdsl.runtime.data.labels import IGNORE
from nasdsl.runtime.found import Found, FoundBoxes, FoundClasses, FoundJoints, FoundMask, Names
from nasdsl.runtime.predict import PredictBoxes, Predictor
from nasdsl.runtime.tasks import Classification, Detection, Keypoints, Segmentation
from nasdsl.runtime.tasks.heatmaps import decode
from nasdsl.runtime.tasks.oks import similarity

MOST_LOOKED_AT = 48
"""Images that are looked at, spread over the split."""
MOST_MACS = 200e9
"""Of all of them together, so that it takes seconds; of dear networks fewer are looked at."""
HALF = 0.5
"""The overlap or likeness from which on an object, a mask or a pose is right, as in AP50 of COCO and VOC."""


@dataclass(frozen=True)
class Example:
    """An image of the validation split, as the network sees it but without padding.

    Attributes:
        index: in the split.
        found, truth: in pixels of the image.
        value: how good what is found is, 0 to 1, by the measure of `Examples`.
    """

    index: int
    image: Image.Image
    found: Found
    truth: Found
    value: float
    right: bool


@dataclass(frozen=True)
class Examples:
    """Some images of a split.

    Attributes:
        measure: what `value` is of each, in words, and `rule`: which are right.
        shown: the right ones from the best on, then the wrong ones from the worst on.
        right, seen: of the images that were looked at, how many are right, and how many there were.
        data: what the images are of, in words.
    """

    names: Names
    measure: str
    rule: str
    shown: tuple[Example, ...]
    right: int
    seen: int
    data: str


MEASURES: dict[str, tuple[str, str]] = {
    Classification.name: ("probability of the true class", "the true class is the likeliest"),
    Segmentation.name: ("mean IoU of its classes", f"the mean IoU of its classes is {HALF} at least"),
    Detection.name: ("F1 of its boxes", f"F1 of its boxes, at an overlap of {HALF}, is {HALF} at least"),
    Keypoints.name: ("OKS of its joints", f"the object keypoint similarity is {HALF} at least"),
}
"""What is measured of an image, and when it is right, by task."""


def examples(
    space: Space,
    network: Supernet,
    predictor: Predictor,
    data: DataSplits,
    most: int,
    device: torch.device | str = "cpu",
) -> Examples:
    """At most `most` images of the validation split, half of them right and half wrong where there are as many: from
    the best to the worst of each. Images without anything to be measured by are left out.

    Nothing is drawn by chance: the images that are looked at lie at even distances in the split.

    Args:
        space: the architecture of the network.
        predictor: what is found below its `score` is left out (detection).
    """
    measure, rule = MEASURES[predictor.task]
    macs = max(1.0, float(cost_of(space.graph, {})["macs"]))
    count = int(min(MOST_LOOKED_AT, max(MOST_MACS / macs, most)))
    every = list(_judged(network, predictor, data, spread(len(data.val), count), device))
    right = sorted((one for one in every if one.right), key=lambda one: (-one.value, one.index))
    wrong = sorted((one for one in every if not one.right), key=lambda one: (one.value, one.index))
    of_right = min(len(right), max(most - most // 2, most - len(wrong)))
    of_wrong = min(len(wrong), most - of_right)
    shown = tuple(group[i] for group, n in ((right, of_right), (wrong, of_wrong)) for i in spread(len(group), n))
    return Examples(predictor.names, measure, rule, shown, len(right), len(every), data.description)


@torch.inference_mode()
def _judged(
    network: Supernet, predictor: Predictor, data: DataSplits, rows: Sequence[int], device: torch.device | str
) -> Iterator[Example]:
    network.to(device).eval()
    judges: dict[str, Callable[..., _Seen | None]] = {
        Classification.name: _classes,
        Segmentation.name: _mask,
        Detection.name: _boxes,
        Keypoints.name: _joints,
    }
    judge = judges[predictor.task]
    # One at a time, so that a data set without a `batch` of its own, with images of any size, does, too.
    for index, (images, targets) in zip(rows, Loader(Subset(data.val, rows), 1).epoch(0), strict=True):  # type: ignore[arg-type]
        height, width = images.shape[-2:]
        batch = predictor.normalise(images.to(device))
        seen = judge(network, replace(predictor, size=(height, width)), batch, targets, data)
        if seen is not None:
            image = _picture(images[0, :, : seen.height, : seen.width])
            yield Example(index, image, seen.found, seen.truth, seen.value, seen.right)


@dataclass(frozen=True)
class _Seen:
    """What is found in an image, of which the first rows and columns are no padding."""

    found: Found
    truth: Found
    value: float
    right: bool
    height: int
    width: int


def _picture(image_CHW: Tensor) -> Image.Image:
    pixels = (image_CHW * 255).round().byte().cpu().numpy()
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _classes(network: Supernet, predictor: Predictor, images: Tensor, targets: Any, data: DataSplits) -> _Seen:
    found = predictor.found(network, images, [predictor.size])[0]
    assert isinstance(found, FoundClasses)
    truth = FoundClasses(np.array([int(targets[0])]), np.ones(1))
    chance = float(found.scores[found.labels == truth.labels[0]].sum())
    return _Seen(found, truth, chance, bool(found.labels[0] == truth.labels[0]), *predictor.size)


# --- Masks ------------------------------------------------------------------------------------------------------------


def _mask(network: Supernet, predictor: Predictor, images: Tensor, targets: Tensor, data: DataSplits) -> _Seen | None:
    mask_HW = targets[0].cpu().numpy()
    labels_HW: NDArray[np.uint8] = np.where(mask_HW == data.ignore_index, IGNORE, mask_HW).astype(np.uint8)
    counted = labels_HW != IGNORE
    if not counted.any():
        return None
    # Beyond the last row and column that count there is padding, or what is no matter.
    height, width = (int(np.flatnonzero(counted.any(axis=axis))[-1]) + 1 for axis in (1, 0))
    found = predictor.found(network, images, [predictor.size])[0]
    assert isinstance(found, FoundMask)
    truth, found = FoundMask(labels_HW[:height, :width]), FoundMask(found.labels[:height, :width])
    value = mean_overlap(found, truth)
    return _Seen(found, truth, value, value >= HALF, height, width)


def mean_overlap(found: FoundMask, truth: FoundMask) -> float:
    """Mean IoU of the classes that are found or true in an image, over the pixels that have a class."""
    counted = truth.labels != IGNORE
    one, other = found.labels[counted], truth.labels[counted]
    classes = np.union1d(one, other)
    both = [((one == label) & (other == label)).sum() / ((one == label) | (other == label)).sum() for label in classes]
    return float(np.mean(both))


# --- Boxes ------------------------------------------------------------------------------------------------------------


def _boxes(
    network: Supernet, predictor: Predictor, images: Tensor, targets: dict[str, Tensor], data: DataSplits
) -> _Seen:
    assert isinstance(predictor, PredictBoxes)
    size = targets["size"].to(images.device)
    answer = Detection(data.classes).infer(network, images, {"size": size})
    found = predictor.kept(answer, torch.ones(1, 2))[0]
    real = targets["labels"][0] >= 0
    boxes, labels, crowd = (targets[name][0][real].cpu().numpy() for name in ("boxes", "labels", "crowd"))
    truth = FoundBoxes(boxes[~crowd].astype(np.float64), labels[~crowd], np.ones((~crowd).sum()))
    value = f1(found, truth, FoundBoxes(boxes[crowd].astype(np.float64), labels[crowd], np.ones(crowd.sum())))
    height, width = (int(side) for side in targets["size"][0])
    return _Seen(found, truth, value, value >= HALF, height, width)


def f1(found: FoundBoxes, truth: FoundBoxes, crowd: FoundBoxes) -> float:
    """The harmonic mean of precision and recall of the boxes of an image; 1 where nothing is there and nothing found.

    A box is right if it overlaps a true one of its class by a half at least that no surer one has taken; of those the
    one that it overlaps most. One that is not and lies by a half in a crowd of its class does not count.
    """
    taken = np.zeros(len(truth.labels), dtype=bool)
    right = wrong = 0
    shared = overlaps(torch.from_numpy(found.boxes)[None], torch.from_numpy(truth.boxes)[None])[0].numpy()
    for i, label in enumerate(found.labels):
        free = np.where((truth.labels == label) & ~taken, shared[i], 0.0)
        if len(free) and free.max() >= HALF:
            taken[free.argmax()] = True
            right += 1
        elif not _inside(found.boxes[i], crowd.boxes[crowd.labels == label]):
            wrong += 1
    missed = int((~taken).sum())
    return 2 * right / (2 * right + wrong + missed) if right + wrong + missed else 1.0


def _inside(box: NDArray[np.float64], others: NDArray[np.float64]) -> bool:
    """Whether half of the area of a box (4,) lies in one of the others (n, 4)."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    area = (box[2:] - box[:2]).prod()
    return bool((sides.clip(0).prod(axis=1) >= HALF * area).any())


# --- Joints -----------------------------------------------------------------------------------------------------------


def _joints(
    network: Supernet, predictor: Predictor, images: Tensor, targets: dict[str, Tensor], data: DataSplits
) -> _Seen | None:
    layout = predictor.names.joints
    assert layout is not None
    real = targets["joints"].cpu()
    labelled = real[0, :, 2].numpy() > 0
    if not labelled.any():
        return None
    points, peaks = decode(Keypoints(layout).infer(network, images).float().cpu(), targets["size"])
    # The similarity is of pixels of the whole image, as the area is.
    one, other = (to_image(at, targets)[0].double().numpy() for at in (points, real[..., :2]))
    value = similarity(one, other, labelled, float(targets["area"][0]), np.asarray(layout.sigmas))
    found = FoundJoints(points[0].double().numpy(), peaks[0].double().numpy())
    truth = FoundJoints(real[0, :, :2].double().numpy(), labelled.astype(np.float64))
    return _Seen(found, truth, value, value >= HALF, *predictor.size)
