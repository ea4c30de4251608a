"""Makes `evaluation.json` beside it: random boxes and detections with the numbers that pycocotools gives for them.

Needs pycocotools, which nasdsl itself does not: `python -m tests.coco.make` in an environment that has it and numpy.
"""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

CATEGORIES = (2, 3, 7, 40)
"""The last has objects in no image."""
FILE = Path(__file__).with_name("evaluation.json")
Json = dict[str, Any]


def scene(rng: np.random.Generator, number: int, document: Json, detections: list[Json]) -> None:
    """One image with objects of all sizes, some in crowds, found more or less well, and with false alarms."""
    height, width = (int(side) for side in rng.integers(200, 500, 2))
    document["images"].append({"id": number, "height": height, "width": width})

    def add(box: np.ndarray, category: int, score: float) -> None:
        left, top, right, bottom = (round(float(x), 2) for x in box.clip(0, [width, height, width, height]))
        if right > left and bottom > top:
            record = {"image_id": number, "category_id": category, "bbox": [left, top, right - left, bottom - top]}
            detections.append({**record, "score": round(score, 4)})

    for _ in range(0 if number % 6 == 0 else int(rng.integers(1, 9))):
        sides = np.exp(rng.uniform(np.log(8), np.log(320), 2))
        corner = rng.random(2) * (np.array([width, height]) - sides).clip(min=1)
        box = np.concatenate([corner, np.minimum(corner + sides, [width, height])]).round(2)
        category, crowd = int(rng.choice(CATEGORIES[:3])), bool(rng.random() < 0.12)
        wide = (box[2:] - box[:2]).tolist()
        document["annotations"].append({
            "id": len(document["annotations"]) + 1, "image_id": number, "category_id": category,
            "bbox": [*box[:2].tolist(), *wide], "area": round(wide[0] * wide[1] * rng.uniform(0.5, 1), 2),
            "iscrowd": int(crowd),
        })  # fmt: skip
        for _ in range(int(rng.integers(0, 4 if not crowd else 6))):
            moved = box + rng.normal(0, 0.12, 4) * np.tile(sides, 2)
            add(moved, category if rng.random() < 0.85 else int(rng.choice(CATEGORIES)), float(rng.beta(4, 2)))
    for _ in range(int(rng.integers(0, 6))):
        corner = rng.random(2) * [width, height]
        add(
            np.concatenate([corner, corner + rng.uniform(5, 120, 2)]),
            int(rng.choice(CATEGORIES)),
            float(rng.beta(2, 3)),
        )
    if number == 3:  # more detections of one class than the 100 that count
        for _ in range(130):
            corner = rng.random(2) * [width, height]
            add(np.concatenate([corner, corner + rng.uniform(5, 60, 2)]), 3, float(rng.uniform(0.4, 1)))


def evaluated(document: Json, detections: list[Json]) -> Json:
    """What pycocotools says: its twelve numbers, and the mean precision of each category."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = json.loads(json.dumps(document))
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(json.loads(json.dumps(detections))), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    precision = evaluator.eval["precision"][:, :, :, 0, -1]
    each = {}
    for k, category in enumerate(CATEGORIES):
        defined = precision[:, :, k][precision[:, :, k] > -1]
        each[str(category)] = float(defined.mean()) if defined.size else -1.0
    return {"stats": [float(x) for x in evaluator.stats], "by_category": each}


def main() -> None:
    """Writes the file."""
    rng = np.random.default_rng(20)
    document: Json = {"images": [], "annotations": [], "categories": [{"id": i, "name": f"c{i}"} for i in CATEGORIES]}
    detections: list[Json] = []
    for number in range(1, 31):
        scene(rng, number, document, detections)
    result = {**document, "detections": detections, "expected": evaluated(document, detections)}
    lists = {key: ",\n".join(json.dumps(one) for one in value) for key, value in result.items() if key != "expected"}
    parts = [f'"{key}": [\n{rows}\n]' for key, rows in lists.items()] + [
        f'"expected": {json.dumps(result["expected"])}'
    ]
    FILE.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
