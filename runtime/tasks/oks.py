"""Average precision by object keypoint similarity (OKS), as the COCO evaluation defines it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nasdsl.runtime.data import to_image
from nasdsl.runtime.tasks.gather import gathered, silent
from nasdsl.runtime.tasks.heatmaps import decode

Floats = NDArray[np.float64]

SEEN = 0.2
"""Peaks above this make up the score of an instance (HR-NAS paper's code)."""
SAME = 0.9
"""Of two predictions in one image that are this similar, the lower one is dropped (OKS-NMS)."""


@dataclass(frozen=True)
class _Row:
    """One instance: joints are (K, 3) in pixels of the image, with visibility if true and the peak if predicted."""

    ann_id: int
    image_id: int
    area: float
    true: Floats
    predicted: Floats

    @property
    def score(self) -> float:
        peaks = self.predicted[:, 2]
        return float(peaks[peaks > SEEN].mean()) if (peaks > SEEN).any() else 0.0


class SimilarityPrecision:
    """Collects decoded joints, gathers those of all processes, and evaluates them with faster-coco-eval.

    Boxes of instances are given, so each instance has one prediction. `sigmas` say how far each joint may be off;
    see `KeypointLayout`.
    """

    def __init__(self, sigmas: tuple[float, ...]) -> None:
        self._sigmas = sigmas
        self._rows: list[_Row] = []

    def update(self, outputs: Tensor, targets: dict[str, Tensor]) -> None:
        """Decodes maps (B, K, h, w) and puts them beside the joints, both in pixels of their images."""
        targets = {key: value.detach().cpu() for key, value in targets.items()}
        points, peaks = decode(outputs.detach().float().cpu(), targets["size"])
        found = torch.cat([to_image(points, targets), peaks[..., None]], dim=-1).double().numpy()
        joints = targets["joints"]
        true = torch.cat([to_image(joints[..., :2], targets), joints[..., 2:]], dim=-1).double().numpy()
        for i in range(len(found)):
            ann_id, image_id = int(targets["ann_id"][i]), int(targets["image_id"][i])
            self._rows.append(_Row(ann_id, image_id, float(targets["area"][i]), true[i], found[i]))

    def compute(self) -> dict[str, float]:
        """`AP`, `AP50`, `AP75`, `AR`, and `AP_M`, `AP_L` where they are defined; AP is 0 without instances."""
        rows = gathered({row.ann_id: row for row in self._rows})
        if not rows:
            return {"AP": 0.0, "AP50": 0.0, "AP75": 0.0, "AR": 0.0}
        return evaluate(rows, self._sigmas)

    def reset(self) -> None:
        """Forgets all batches."""
        self._rows = []


def evaluate(rows: list[_Row], sigmas: tuple[float, ...]) -> dict[str, float]:
    """The numbers of the COCO evaluation for instances with one prediction each."""
    from faster_coco_eval import COCO, COCOeval_faster

    truth = COCO(_truth(rows))
    found = truth.loadRes([_result(row) for row in _without_doubles(rows, np.asarray(sigmas))])
    evaluator = COCOeval_faster(truth, found, "keypoints", kpt_oks_sigmas=list(sigmas), print_function=silent)
    evaluator.run()
    ap, ap50, ap75, medium, large, recall = (float(value) for value in evaluator.stats[:6])
    numbers = {"AP": ap, "AP50": ap50, "AP75": ap75, "AR": recall, "AP_M": medium, "AP_L": large}
    # The evaluation gives -1 for areas without instances.
    return {key: value for key, value in numbers.items() if value >= 0}


def similarity(one: Floats, other: Floats, counted: NDArray[np.bool_], area: float, sigmas: Floats) -> float:
    """OKS of two sets of joints (K, 2 or more) over the `counted` ones."""
    distance = ((one[:, :2] - other[:, :2]) ** 2).sum(axis=1)
    closeness: Floats = np.exp(-distance / (2 * (2 * sigmas) ** 2 * max(area, 1e-6)))
    return float(closeness[counted].mean()) if counted.any() else 0.0


def _without_doubles(rows: list[_Row], sigmas: Floats) -> list[_Row]:
    """Greedy OKS-NMS within each image, best score first."""
    kept: dict[int, list[_Row]] = {}
    for row in sorted(rows, key=lambda row: (-row.score, row.ann_id)):
        rivals = kept.setdefault(row.image_id, [])
        every = np.ones(len(sigmas), dtype=bool)
        if all(
            similarity(rival.predicted, row.predicted, every, (rival.area + row.area) / 2, sigmas) <= SAME
            for rival in rivals
        ):
            rivals.append(row)
    return [row for rivals in kept.values() for row in rivals]


def _truth(rows: list[_Row]) -> dict[str, Any]:
    annotations = []
    for number, row in enumerate(rows, start=1):
        labelled = row.true[row.true[:, 2] > 0, :2]
        low, high = (labelled.min(axis=0), labelled.max(axis=0)) if len(labelled) else (np.zeros(2), np.zeros(2))
        annotations.append({
            "id": number, "image_id": row.image_id, "category_id": 1, "iscrowd": 0, "area": row.area,
            "bbox": [*low.tolist(), *(high - low).tolist()], "num_keypoints": len(labelled),
            "keypoints": row.true.ravel().tolist(),
        })  # fmt: skip
    images = [{"id": image_id} for image_id in sorted({row.image_id for row in rows})]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "instance"}]}


def _result(row: _Row) -> dict[str, Any]:
    joints = row.predicted.copy()
    joints[:, 2] = 1
    return {"image_id": row.image_id, "category_id": 1, "keypoints": joints.ravel().tolist(), "score": row.score}
