"""Average precision of boxes, as the COCO evaluation defines it, and as Pascal VOC does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nasdsl.compiler.layers.boxes import overlaps
from nasdsl.runtime.tasks.gather import gathered, silent

Floats = NDArray[np.float64]
Detections = dict[str, Tensor]
"""`boxes` (B, D, 4) in pixels of the batch, `scores` (B, D) and `labels` (B, D), which are -1 where there is none."""


@dataclass(frozen=True)
class _Image:
    """What was found in one image, and what is in it; boxes (n, 4) are x1, y1, x2, y2 in its original pixels."""

    found: Floats
    scores: Floats
    found_labels: NDArray[np.int64]
    true: Floats
    true_labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    area: Floats


class BoxPrecision:
    """Collects detections in pixels of the original images, gathers those of all processes, and evaluates them.

    The COCO evaluation is that of faster-coco-eval. With `voc` there is also `VOC_AP50`: average precision at an
    overlap of a half over all points of the curve (Pascal VOC since 2010), where difficult objects are left out.
    """

    def __init__(self, classes: Sequence[str], voc: bool = False) -> None:
        self._classes, self._voc = tuple(classes), voc
        self._images: dict[int, _Image] = {}

    def update(self, detections: Detections, targets: dict[str, Tensor]) -> None:
        """Counts one batch; `targets` are those of `DetectionSet`. An image that comes again counts once.

        Detections that are not numbers count as none.
        """
        scale = _to_original(targets)
        found, true = _on_cpu(detections, ("boxes", "scores", "labels")), _on_cpu(targets, ())
        boxes, goals = found["boxes"].double() * scale, true["boxes"].double() * scale
        valid = (found["labels"] >= 0) & boxes.isfinite().all(-1) & found["scores"].isfinite()
        there = true["labels"] >= 0
        for i, number in enumerate(true["image_id"].tolist()):
            kept, real = valid[i], there[i]
            self._images[number] = _Image(
                boxes[i][kept].numpy(), found["scores"][i][kept].double().numpy(), found["labels"][i][kept].numpy(),
                goals[i][real].numpy(), true["labels"][i][real].numpy(), true["crowd"][i][real].numpy(),
                true["area"][i][real].double().numpy(),
            )  # fmt: skip

    def compute(self) -> dict[str, float]:
        """`AP`, `AP50`, `AP75`, `AR`, and `AP_S`, `AP_M`, `AP_L` where there are objects of such size.

        All are means over classes; AR is recall of at most 100 detections of a class in an image. AP is 0 without
        objects. With `voc`, `VOC_AP50` is the last.
        """
        images = gathered(self._images)
        numbers = evaluate(images, len(self._classes))[0]
        if self._voc:
            by_class = voc_precision(images, len(self._classes))
            numbers["VOC_AP50"] = float(np.mean(by_class[by_class >= 0])) if (by_class >= 0).any() else 0.0
        return numbers

    def by_class(self) -> dict[str, float]:
        """AP of each class of which there are objects. Every process must call it."""
        each = evaluate(gathered(self._images), len(self._classes))[1]
        return {name: float(value) for name, value in zip(self._classes, each, strict=True) if value >= 0}

    def reset(self) -> None:
        """Forgets all batches."""
        self._images = {}


def to_coco(
    detections: Detections, targets: dict[str, Tensor], ids: Sequence[Any], categories: Sequence[Any]
) -> list[dict[str, Any]]:
    """The records of a COCO result file: `image_id`, `category_id`, `bbox` (left, top, width, height), `score`.

    Args:
        detections: of one batch.
        targets: of the same batch; `size`, `original` and `image_id` are looked at.
        ids: the image ids of the annotation file, by `image_id`: `DetectionSet.ids`.
        categories: its category ids, by label: `details["category_ids"]` of the data.
    """
    scale = _to_original(targets)
    found = _on_cpu(detections, ("boxes", "scores", "labels"))
    boxes = found["boxes"].double() * scale
    boxes = torch.cat([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], dim=-1)
    records = []
    for i, number in enumerate(targets["image_id"].tolist()):
        for k in (found["labels"][i] >= 0).nonzero().flatten().tolist():
            records.append({
                "image_id": ids[number],
                "category_id": categories[int(found["labels"][i, k])],
                "bbox": [round(value, 3) for value in boxes[i, k].tolist()],
                "score": round(float(found["scores"][i, k]), 6),
            })  # fmt: skip
    return records


def evaluate(images: Sequence[_Image], classes: int) -> tuple[dict[str, float], Floats]:
    """The numbers of the COCO evaluation, and the AP of each class (-1 without objects)."""
    numbers = {"AP": 0.0, "AP50": 0.0, "AP75": 0.0, "AR": 0.0}
    if not images:
        return numbers, np.full(classes, -1.0)
    from faster_coco_eval import COCO, COCOeval_faster

    frame = {
        "images": [{"id": number} for number in range(1, len(images) + 1)],
        "categories": [{"id": label + 1, "name": str(label)} for label in range(classes)],
    }
    truth, found = COCO({**frame, "annotations": _truth(images)}), COCO({**frame, "annotations": _found(images)})
    evaluator = COCOeval_faster(truth, found, "bbox", print_function=silent)
    evaluator.run()
    precision = np.asarray(evaluator.eval["precision"])[:, :, :, 0, -1]  # threshold, recall, class
    each = np.array([_mean(precision[:, :, k]) for k in range(classes)])
    ap, ap50, ap75, small, medium, large, _, _, recall = (float(value) for value in evaluator.stats[:9])
    # The evaluation gives -1 where there are no objects.
    numbers = {key: max(0.0, value) for key, value in zip(numbers, (ap, ap50, ap75, recall), strict=True)}
    sized = {"AP_S": small, "AP_M": medium, "AP_L": large}
    return numbers | {key: value for key, value in sized.items() if value >= 0}, each


def voc_precision(images: Sequence[_Image], classes: int, threshold: float = 0.5) -> Floats:
    """AP of each class over all points of its curve, -1 without objects (Pascal VOC 2010 development kit).

    A detection is of the object that it overlaps most. It is right if the overlap is `threshold` at least and no
    detection of higher score is of the same object; one of a difficult object is neither right nor wrong.
    """
    result = np.full(classes, -1.0)
    for label in range(classes):
        objects = 0
        scores: list[float] = []
        right: list[bool] = []
        for image in images:
            goals = image.true_labels == label
            objects += int((goals & ~image.crowd).sum())
            for score, hit in _voc_matches(image, label, threshold):
                scores.append(score)
                right.append(hit)
        if objects:
            order = np.argsort(-np.array(scores), kind="stable")
            hits = np.array(right, dtype=np.float64)[order].cumsum()
            precision = hits / np.arange(1, len(hits) + 1)
            recall = np.concatenate([[0.0], hits / objects])
            envelope = np.maximum.accumulate(precision[::-1])[::-1]
            result[label] = float((np.diff(recall) * envelope).sum())
    return result


def _voc_matches(image: _Image, label: int, threshold: float) -> list[tuple[float, bool]]:
    """Score and whether right, of the detections of one class that count."""
    chosen = np.flatnonzero(image.found_labels == label)
    chosen = chosen[np.argsort(-image.scores[chosen], kind="stable")]
    goals = np.flatnonzero(image.true_labels == label)
    if not len(goals):
        return [(float(image.scores[k]), False) for k in chosen]
    found, true = (torch.from_numpy(boxes)[None] for boxes in (image.found[chosen], image.true[goals]))
    best, place = overlaps(found, true)[0].nan_to_num().max(dim=1)
    taken: set[int] = set()
    matches = []
    for k, overlap, goal in zip(chosen, best.tolist(), goals[place.numpy()], strict=True):
        if overlap >= threshold and image.crowd[goal]:
            continue
        matches.append((float(image.scores[k]), overlap >= threshold and goal not in taken))
        if overlap >= threshold:
            taken.add(goal)
    return matches


def _truth(images: Sequence[_Image]) -> list[dict[str, Any]]:
    annotations: list[dict[str, Any]] = []
    for number, one in enumerate(images, start=1):
        rows = zip(one.true_labels.tolist(), _wide(one.true), one.area.tolist(), one.crowd.tolist(), strict=True)
        for label, box, area, crowd in rows:
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": label + 1, "bbox": box, "area": area,
                "iscrowd": int(crowd),
            })  # fmt: skip
    return annotations


def _found(images: Sequence[_Image]) -> list[dict[str, Any]]:
    annotations: list[dict[str, Any]] = []
    for number, one in enumerate(images, start=1):
        for label, box, score in zip(one.found_labels.tolist(), _wide(one.found), one.scores.tolist(), strict=True):
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": label + 1, "bbox": box,
                "area": box[2] * box[3], "iscrowd": 0, "score": score,
            })  # fmt: skip
    return annotations


def _wide(boxes: Floats) -> list[list[float]]:
    """Left, top, width and height."""
    rows: list[list[float]] = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()
    return rows


def _to_original(targets: dict[str, Tensor]) -> Tensor:
    """Factors (B, 1, 4) from pixels of the batch to those of the original images."""
    size, original = targets["size"].cpu().double(), targets["original"].cpu().double()
    return (original / size).flip(-1).repeat(1, 2)[:, None]


def _on_cpu(values: dict[str, Tensor], keys: Sequence[str]) -> dict[str, Tensor]:
    return {key: values[key].detach().cpu() for key in keys or values}


def _mean(precision: Floats) -> float:
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else -1.0
