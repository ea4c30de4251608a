"""Average precision of boxes against pycocotools' numbers, slow loops and cases that are clear by themselves."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nasdsl.runtime.data import Loader, open_data
from nasdsl.runtime.tasks.average_precision import BoxPrecision, to_coco

FIXTURE = json.loads((Path(__file__).parent / "coco/evaluation.json").read_text(encoding="utf-8"))
CATEGORIES = [one["id"] for one in FIXTURE["categories"]]
Tensors = dict[str, torch.Tensor]


def corners(box: list[float]) -> list[float]:
    return [box[0], box[1], box[0] + box[2], box[1] + box[3]]


def batch(images: list[dict[str, Any]], shrink: float) -> tuple[Tensors, Tensors]:
    """Detections and targets of some images of the fixture, as a network sees them: resized, padded, rows not full."""
    truth, found = defaultdict(list), defaultdict(list)
    for one in FIXTURE["annotations"]:
        truth[one["image_id"]].append(one)
    for one in FIXTURE["detections"]:
        found[one["image_id"]].append(one)
    most, wide = (max([1, *(len(by[image["id"]]) for image in images)]) + 2 for by in (truth, found))
    count = len(images)
    original = torch.tensor([[image["height"], image["width"]] for image in images])
    size = (original * shrink).round().long()
    targets = {
        "boxes": torch.zeros(count, most, 4), "labels": torch.full((count, most), -1),
        "crowd": torch.zeros(count, most, dtype=torch.bool), "area": torch.zeros(count, most),
        "size": size, "original": original, "image_id": torch.tensor([image["id"] - 1 for image in images]),
    }  # fmt: skip
    detections = {
        "boxes": torch.zeros(count, wide, 4), "scores": torch.zeros(count, wide),
        "labels": torch.full((count, wide), -1),
    }  # fmt: skip
    scale = (size / original).flip(-1).repeat(1, 2)
    for i, image in enumerate(images):
        for k, one in enumerate(truth[image["id"]], start=1):  # the first row stays empty
            targets["boxes"][i, k] = torch.tensor(corners(one["bbox"])) * scale[i]
            targets["labels"][i, k] = CATEGORIES.index(one["category_id"])
            targets["crowd"][i, k], targets["area"][i, k] = bool(one["iscrowd"]), one["area"]
        for k, one in enumerate(sorted(found[image["id"]], key=lambda one: -one["score"])):
            detections["boxes"][i, k] = torch.tensor(corners(one["bbox"])) * scale[i]
            detections["scores"][i, k] = one["score"]
            detections["labels"][i, k] = CATEGORIES.index(one["category_id"])
    return detections, targets


def counted(metric: BoxPrecision, shrink: float = 1.0, step: int = 7) -> BoxPrecision:
    images = FIXTURE["images"]
    for start in range(0, len(images), step):
        metric.update(*batch(images[start : start + step], shrink))
    return metric


@pytest.mark.parametrize("shrink", [1.0, 0.37, 1.9])
def test_equals_pycocotools(shrink):
    metric = counted(BoxPrecision([str(one) for one in CATEGORIES]), shrink)
    names = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L", None, None, "AR")
    expected = {name: FIXTURE["expected"]["stats"][i] for i, name in enumerate(names) if name}
    result = metric.compute()
    assert next(iter(result)) == "AP"
    assert result == pytest.approx(expected, abs=1e-9)
    by_category = {key: value for key, value in FIXTURE["expected"]["by_category"].items() if value >= 0}
    assert metric.by_class() == pytest.approx(by_category, abs=1e-9)


def test_the_fixture_has_what_it_should():
    """Crowds, a class without objects, images without objects, more detections of a class than count, all sizes."""
    annotations, areas = FIXTURE["annotations"], np.array([one["area"] for one in FIXTURE["annotations"]])
    assert sum(one["iscrowd"] for one in annotations) > 5
    assert {one["category_id"] for one in annotations} == set(CATEGORIES[:-1])
    assert {one["image_id"] for one in annotations} < {one["id"] for one in FIXTURE["images"]}
    assert np.histogram(areas, [0, 32**2, 96**2, 1e10])[0].min() > 10
    assert sum(one["image_id"] == 3 and one["category_id"] == 3 for one in FIXTURE["detections"]) > 100


def slow_voc(label: int) -> float:
    """The development kit's loop, written out for one class of the fixture."""
    category = CATEGORIES[label]
    goals: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for one in FIXTURE["annotations"]:
        if one["category_id"] == category:
            goals[one["image_id"]].append({"box": corners(one["bbox"]), "difficult": one["iscrowd"], "taken": False})
    objects = sum(not goal["difficult"] for each in goals.values() for goal in each)
    right, wrong, curve = 0, 0, []
    detections = [one for one in FIXTURE["detections"] if one["category_id"] == category]
    for one in sorted(detections, key=lambda one: -one["score"]):
        best, which = 0.0, None
        a = corners(one["bbox"])
        for goal in goals[one["image_id"]]:
            b = goal["box"]
            common = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
            overlap = common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)
            if overlap > best:
                best, which = overlap, goal
        if best >= 0.5 and which is not None:
            if which["difficult"]:
                continue
            right, wrong = right + (not which["taken"]), wrong + which["taken"]
            which["taken"] = True
        else:
            wrong += 1
        curve.append((right / objects, right / (right + wrong)))
    area, before = 0.0, 0.0
    for recall in sorted({recall for recall, _ in curve}):
        area += (recall - before) * max(precision for other, precision in curve if other >= recall)
        before = recall
    return area


def test_voc_against_a_slow_loop():
    result = counted(BoxPrecision([str(one) for one in CATEGORIES], voc=True)).compute()
    assert result["VOC_AP50"] == pytest.approx(np.mean([slow_voc(label) for label in range(3)]))
    assert list(result)[-1] == "VOC_AP50"


def as_detections(targets: Tensors, score: float = 1.0) -> Tensors:
    return {
        "boxes": targets["boxes"].clone(), "labels": targets["labels"].clone(),
        "scores": torch.where(targets["labels"] >= 0, score, 0.0),
    }  # fmt: skip


def test_right_answers_have_precision_one_and_images_count_once():
    data = open_data(None, "detection", size=(48, 64), scenes=(2, 12))
    metric = BoxPrecision(data.classes, voc=True)
    for _ in range(2):
        for _, targets in Loader(data.val, 5).epoch():
            metric.update(as_detections(targets), targets)
    result = metric.compute()
    assert {key: result[key] for key in ("AP", "AP50", "AP75", "AR", "VOC_AP50")} == pytest.approx(
        {"AP": 1.0, "AP50": 1.0, "AP75": 1.0, "AR": 1.0, "VOC_AP50": 1.0}
    )
    assert set(metric.by_class().values()) == {1.0} and set(metric.by_class()) <= set(data.classes)
    metric.reset()
    assert metric.compute() == {"AP": 0.0, "AP50": 0.0, "AP75": 0.0, "AR": 0.0, "VOC_AP50": 0.0}
    assert metric.by_class() == {}


def one_image(found: list[tuple[float, list[float]]], true: list[tuple[bool, list[float]]]) -> tuple[Tensors, Tensors]:
    detections = {
        "boxes": torch.tensor([[box for _, box in found]]), "scores": torch.tensor([[score for score, _ in found]]),
        "labels": torch.zeros(1, len(found), dtype=torch.int64),
    }  # fmt: skip
    targets = {
        "boxes": torch.tensor([[box for _, box in true]]), "labels": torch.zeros(1, len(true), dtype=torch.int64),
        "crowd": torch.tensor([[crowd for crowd, _ in true]]), "area": torch.full((1, len(true)), 100.0),
        "size": torch.tensor([[100, 100]]), "original": torch.tensor([[100, 100]]), "image_id": torch.tensor([0]),
    }  # fmt: skip
    return detections, targets


BOX, OTHER, FAR = [10.0, 10.0, 20.0, 20.0], [50.0, 50.0, 90.0, 90.0], [0.0, 80.0, 9.0, 99.0]


@pytest.mark.parametrize(
    ("found", "true", "ap", "voc"),
    [
        ([(0.9, FAR), (0.5, BOX)], [(False, BOX)], 0.5, 0.5),
        ([(0.9, BOX), (0.8, BOX)], [(False, BOX)], 1.0, 1.0),
        ([(0.9, BOX)], [(False, BOX), (False, OTHER)], 51 / 101, 0.5),
        # Many detections inside a crowd count for nothing; for VOC, only one that overlaps it by a half.
        ([(0.9, [55.0, 55.0, 60.0, 60.0]), (0.8, OTHER), (0.7, BOX)], [(True, OTHER), (False, BOX)], 1.0, 0.5),
        ([(0.9, BOX)], [(True, BOX)], 0.0, 0.0),
        ([(float("nan"), BOX), (0.7, [float("inf"), 0.0, 1.0, 1.0]), (0.5, BOX)], [(False, BOX)], 1.0, 1.0),
    ],
)  # fmt: skip
def test_cases_that_are_clear_by_themselves(found, true, ap, voc):
    metric = BoxPrecision(["thing"], voc=True)
    metric.update(*one_image(found, true))
    result = metric.compute()
    assert result["AP50"] == pytest.approx(ap) and result["VOC_AP50"] == pytest.approx(voc)


def test_records_are_in_the_ids_and_pixels_of_the_annotations():
    images = FIXTURE["images"]
    records = to_coco(*batch(images, 0.5), ids=[image["id"] for image in images], categories=CATEGORIES)

    def order(one: dict[str, Any]) -> tuple[Any, ...]:
        return one["image_id"], one["category_id"], one["score"], one["bbox"][0]

    wanted = sorted(FIXTURE["detections"], key=order)
    assert len(records) == len(wanted)
    for one, other in zip(sorted(records, key=order), wanted, strict=True):
        assert (one["image_id"], one["category_id"]) == (other["image_id"], other["category_id"])
        assert one["bbox"] == pytest.approx(other["bbox"], abs=2e-3) and one["score"] == other["score"]
    assert json.loads(json.dumps(records)) == records


def _one_rank(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    metric = BoxPrecision([str(one) for one in CATEGORIES], voc=True)
    for image in FIXTURE["images"][rank::world]:
        metric.update(*batch([image], 1.0))
    torch.save((metric.compute(), metric.by_class()), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_what_one_does(tmp_path):
    torch.multiprocessing.spawn(_one_rank, (2, str(tmp_path)), nprocs=2)  # type: ignore[attr-defined]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    metric = counted(BoxPrecision([str(one) for one in CATEGORIES], voc=True))
    assert first == second == (metric.compute(), metric.by_class())
