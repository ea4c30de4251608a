"""Samples of object detection: three layouts that tell the same, sizes, dirty boxes, damaged files."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import pytest
import torch
from PIL import Image

from nasdsl.runtime.data import DataError, DataSplits, DetectionSet, Loader, Request, open_data
from nasdsl.runtime.data.boxes import Rows, Tally, within_sides
from nasdsl.runtime.data.holdout import held_back
from nasdsl.runtime.data.images import mean_colour
from tests.datafiles import flat, png, store

Members = dict[str, bytes]
CLASSES = ("ant", "bee", "cow")
FILL = torch.tensor(mean_colour(3))[:, None, None]


@pytest.fixture(params=[False, True], ids=["folder", "zip"])
def packed(request):
    return request.param


class Scene:
    """One image of noise, with boxes of whole pixels: class, x1, y1, x2, y2, difficult."""

    def __init__(self, name: str, height: int, width: int, boxes: list[tuple[int, int, int, int, int, bool]]) -> None:
        self.name, self.height, self.width, self.boxes = name, height, width, boxes
        pixels = np.random.default_rng([height, width]).integers(0, 256, (height, width, 3))
        self.content = png(pixels)
        self.pixels = torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.uint8))


def scenes() -> dict[str, list[Scene]]:
    return {
        "train": [
            Scene("one", 30, 40, [(2, 3, 4, 20, 25, False), (0, 0, 0, 40, 30, False)]),
            Scene("two", 48, 32, []),
            Scene("three", 20, 20, [(1, 5, 5, 6, 7, True), (1, 1, 2, 19, 20, False)]),
        ],
        "val": [Scene("four", 30, 40, [(1, 10, 10, 30, 30, False)]), Scene("five", 64, 16, [(0, 2, 3, 4, 60, False)])],
    }


IDS = (7, 3, 90)
"""Category ids of bee, ant and cow: the order of ids is not that of the file."""


def coco_document(found: list[Scene], first: int = 100) -> dict[str, Any]:
    number = {"bee": 7, "ant": 3, "cow": 90}
    return {
        "images": [
            {"id": first + i, "file_name": f"{one.name}.png", "height": one.height, "width": one.width}
            for i, one in enumerate(found)
        ],
        "categories": [{"id": number[name], "name": name} for name in ("bee", "cow", "ant")],
        "annotations": [
            {"id": 10 * i + k, "image_id": first + i, "category_id": number[CLASSES[label]], "iscrowd": int(crowd),
             "bbox": [x1, y1, x2 - x1, y2 - y1], "segmentation": [[1.0] * 8]}
            for i, one in enumerate(found) for k, (label, x1, y1, x2, y2, crowd) in enumerate(one.boxes)
        ],
    }  # fmt: skip


def coco(images: str = "images/{split}", json_name: str = "annotations/instances_{split}.json") -> Members:
    members: Members = {}
    for split, found in scenes().items():
        members |= {f"{images.format(split=split)}/{one.name}.png": one.content for one in found}
        members[json_name.format(split=split)] = json.dumps(coco_document(found)).encode()
    return members


def voc_annotation(one: Scene) -> bytes:
    objects = "".join(
        f"<object><name>{escape(CLASSES[label])}</name><truncated>1</truncated><difficult>{int(hard)}</difficult><bndbox>"
        f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for label, x1, y1, x2, y2, hard in one.boxes
    )
    size = f"<size><width>{one.width}</width><height>{one.height}</height><depth>3</depth></size>"
    return f"<annotation>{size}{objects}</annotation>".encode()


def voc(root: str = "") -> Members:
    members: Members = {}
    for split, found in scenes().items():
        for one in found:
            members[f"{root}JPEGImages/{one.name}.png"] = one.content
            members[f"{root}Annotations/{one.name}.xml"] = voc_annotation(one)
        members[f"{root}ImageSets/Main/{split}.txt"] = "\n".join(one.name for one in found).encode()
        members[f"{root}ImageSets/Main/ant_{split}.txt"] = "\n".join(f"{one.name}  1" for one in found).encode()
    return members


YAML = "path: ../somewhere\ntrain: images/train  # of these\nval: images/val\nnames:\n  0: ant\n  1: bee\n  2: cow\n"


def yolo(yaml: str = YAML, images: str = "images/{split}", labels: str = "labels/{split}") -> Members:
    members = {"data.yaml": yaml.encode()}
    for split, found in scenes().items():
        for one in found:
            members[f"{images.format(split=split)}/{one.name}.png"] = one.content
            lines = [
                f"{label} {(x1 + x2) / 2 / one.width} {(y1 + y2) / 2 / one.height} "
                f"{(x2 - x1) / one.width} {(y2 - y1) / one.height}\n"
                for label, x1, y1, x2, y2, _ in one.boxes
            ]
            if lines:  # an image without objects needs no file
                members[f"{labels.format(split=split)}/{one.name}.txt"] = "".join(lines).encode()
    return members


LAYOUTS: dict[str, Callable[[], Members]] = {
    "coco": coco,
    "coco 2017": lambda: coco("{split}2017", "annotations/instances_{split}2017.json"),
    "coco wrapped": lambda: {f"my/set/{name}": content for name, content in coco().items()},
    "coco beside": lambda: coco("{split}", "{split}/_annotations.coco.json"),
    "coco plain": lambda: coco("images", "{split}.json"),
    "voc": voc,
    "voc wrapped": lambda: voc("VOCdevkit/VOC2007/"),
    "yolo": yolo,
    "yolo by split": lambda: yolo(
        "train: ../train/images\nval: ../val/images\nnc: 3\nnames: ['ant', 'bee', 'cow']",
        "{split}/images", "{split}/labels",
    ),
    "yolo lists": lambda: yolo("train: train.txt\nval: [val.txt]\nnames: [ant, bee, cow]") | {
        f"{split}.txt": "".join(f"./images/{split}/{one.name}.png\n" for one in found).encode()
        for split, found in scenes().items()
    },
    "yolo elsewhere": lambda: yolo(
        "train: /home/me/set/images/train\nval: /home/me/set/images/val\nnames: [ant, bee, cow]"
    ),
    "yolo beside": lambda: yolo("train: train\nval: val\nnames: [ant, bee, cow]", "{split}", "{split}"),
}  # fmt: skip


def by_name(data: DataSplits, split: str) -> dict[str, tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    """Image and target of each sample, by the size of its image."""
    samples = data.train if split == "train" else data.val
    found = {}
    for i in range(len(samples)):
        image, target = samples[i]
        height, width = target["original"].tolist()
        found[next(one.name for one in scenes()[split] if (one.height, one.width) == (height, width))] = (image, target)
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_tells_the_same(tmp_path, packed, layout):
    data = open_data(store(tmp_path, LAYOUTS[layout](), packed), "detection", size=(64, 64))
    assert data.classes == CLASSES and data.task == "detection" and data.size == (64, 64)
    assert (len(data.train), len(data.val)) == (3, 2)
    for split, found in scenes().items():
        samples = by_name(data, split)
        for one in found:
            image, target = samples[one.name]
            scale = min(64 / one.height, 64 / one.width)
            assert target["size"].tolist() == [round(one.height * scale), round(one.width * scale)]
            count = len(one.boxes)
            boxes = torch.tensor([list(box[1:5]) for box in one.boxes]).view(-1, 4) * scale
            assert torch.allclose(target["boxes"][:count], boxes, atol=1e-4)
            assert target["labels"].tolist()[:count] == [box[0] for box in one.boxes]
            marked = not layout.startswith("yolo")  # there is no such mark in that layout
            assert target["crowd"].tolist()[:count] == [box[5] and marked for box in one.boxes]
            area = [(x2 - x1) * (y2 - y1) for _, x1, y1, x2, y2, _ in one.boxes]
            assert target["area"].tolist()[:count] == pytest.approx(area, rel=1e-4)
            assert not target["boxes"][count:].any() and (target["labels"][count:] == -1).all()
            height, width = target["size"].tolist()
            assert torch.equal((image[:, height:] * 255).round(), FILL.expand(3, 64 - height, 64).float())
            assert torch.equal((image[:, :, width:] * 255).round(), FILL.expand(3, 64, 64 - width).float())
    if layout.startswith("coco"):
        assert isinstance(data.train, DetectionSet) and data.train.ids == [100, 101, 102]
        assert data.details["category_ids"] == [3, 7, 90]
    assert data.details["train"]["images_without_boxes"] == 1
    assert "1 images without boxes" in data.description


def test_images_of_different_size_are_padded_together(tmp_path):
    data = open_data(store(tmp_path, coco(), True), "detection")
    images, targets = data.train.batch([0, 1, 2])
    assert images.shape == (3, 3, 64, 64) and images.dtype == torch.uint8 and data.size == (64, 64)
    assert targets["boxes"].shape == (3, 2, 4) and torch.equal(targets["size"], targets["original"])
    for image, one in zip(images, scenes()["train"], strict=True):
        assert torch.equal(image[:, : one.height, : one.width], one.pixels)
        assert torch.equal(image[:, one.height :], FILL.expand(3, 64 - one.height, 64))
    assert data.train.batch([2])[0].shape == (1, 3, 32, 32)
    assert data.train.batch([1])[1]["boxes"].tolist() == [[[0, 0, 0, 0]]]
    shapes = {key: (value.dtype, value.shape[1:]) for key, value in targets.items()}
    assert shapes == {
        "boxes": (torch.float32, (2, 4)), "labels": (torch.int64, (2,)), "crowd": (torch.bool, (2,)),
        "area": (torch.float32, (2,)), "size": (torch.int64, (2,)), "original": (torch.int64, (2,)),
        "image_id": (torch.int64, ()),
    }  # fmt: skip


def test_sides_size_images_by_their_shortest(tmp_path):
    data = open_data(store(tmp_path, coco(), True), "detection", sides=(60, 100))
    assert [data.train[i][1]["size"].tolist() for i in range(3)] == [[60, 80], [90, 60], [60, 60]]
    assert data.val[1][1]["size"].tolist() == [100, 25] and data.val[1][0].shape == (3, 128, 32)
    assert within_sides((1000, 4000), (800, 1333), enlarge=False) == (333, 1333)
    assert within_sides((100, 100), (800, 1333), enlarge=False) == (100, 100)
    assert within_sides((1, 16384), (800, 1333), enlarge=True) == (1, 1333)
    impossible: list[dict[str, Any]] = [{"sides": (9, 4)}, {"sides": (8, 9), "size": (9, 9)}, {"sides": (0, 4)}]
    for wrong in impossible:
        with pytest.raises(DataError, match="sides"):
            open_data(None, "detection", **wrong)
    with pytest.raises(DataError, match="sides are for detection"):
        Request("segmentation", sides=(8, 9))


@pytest.mark.parametrize("sides", [(16, 16), (3000, 4000)])
def test_very_small_and_very_large_images(tmp_path, sides):
    height, width = sides
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (200, 10, 10)).save(stream, "jpeg")
    document = coco_document([])
    document["images"] = [{"id": i, "file_name": f"{i}.jpg"} for i in range(2)]  # sizes are those of the files
    box = [width / 2, height / 4, width / 4, height / 2]
    document["annotations"] = [{"id": i, "image_id": i, "category_id": 7, "bbox": box} for i in range(2)]
    members = {f"images/{i}.jpg": stream.getvalue() for i in range(2)}
    spec = store(tmp_path, members | {"annotations/all.json": json.dumps(document).encode()}, True)
    image, target = open_data(spec, "detection", size=(96, 128)).train[0]
    shown = (96, 96) if height == width else (96, 128)
    assert target["size"].tolist() == list(shown) and target["original"].tolist() == [height, width]
    expected = [shown[1] / 2, shown[0] / 4, shown[1] * 3 / 4, shown[0] * 3 / 4]
    assert target["boxes"][0].tolist() == pytest.approx(expected)
    assert float(target["area"][0]) == pytest.approx(height * width / 8)
    natural = open_data(spec, "detection").train[0]
    assert natural[1]["size"].tolist() == ([16, 16] if height == width else [800, 1067])
    assert image[0, : shown[0], : shown[1]].min() > 0.7


def test_images_are_turned_as_their_annotations_are(tmp_path):
    """An annotation of the size of the stored pixels was made before turning, one of the other size after it."""
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6)).save(stream, "png", exif=exif)
    document = coco_document([])
    document["images"] = [{"id": i, "file_name": f"{i}.png", "height": 4, "width": 6} for i in range(2)]
    document["annotations"] = [{"image_id": i, "category_id": 7, "bbox": [0, 0, 3, 2]} for i in range(2)]
    members = {f"images/{i}.png": stream.getvalue() for i in range(2)}

    def opened(name: str, size: tuple[int, int] = (4, 6)) -> DataSplits:
        (tmp_path / name).mkdir()
        content = {"annotations/all.json": json.dumps(document).encode()}
        return open_data(store(tmp_path / name, members | content, True), "detection", size=size, channels=1)

    image, target = opened("right").train[0]
    stored = torch.arange(24, dtype=torch.uint8).view(4, 6)
    assert torch.equal((image[0] * 255).round().byte(), stored)
    assert target["boxes"][0].tolist() == [0, 0, 3, 2]
    document["images"] = [{**one, "height": 6, "width": 4} for one in document["images"]]
    image, target = opened("turned", (6, 4)).train[0]
    # A camera that notes 6 was held on its side: what it stores has to be turned clockwise.
    assert torch.equal((image[0] * 255).round().byte(), stored.rot90(-1))
    assert target["boxes"][0].tolist() == [0, 0, 3, 2]
    document["images"] = [{**one, "height": 6, "width": 5} for one in document["images"]]
    with pytest.raises(DataError, match=r"\.png is 4x6, but its annotations are for 5x6"):
        opened("other").train[0]


# Boxes that are not as they should be -------------------------------------------------------------------------------


def test_cleaning_against_a_slow_loop():
    rng = np.random.default_rng(0)
    boxes = rng.integers(-30, 90, (400, 4)).astype(float) + rng.choice([0, 0.25, 0.5], (400, 4))
    rows, tally = Rows(), Tally()
    for i, box in enumerate(boxes.tolist()):
        rows.add((box[0], box[1], box[2], box[3]), i, f"box {i}", crowd=i % 7 == 0, area=None if i % 2 else 5.0)
    picture = rows.picture("a.png", 1, (40, 60), tally)
    expected: list[tuple[int, list[float]]] = []
    clipped = 0
    for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        inside = [min(max(x1, 0), 60), min(max(y1, 0), 40), min(max(x2, 0), 60), min(max(y2, 0), 40)]
        if inside[0] < inside[2] and inside[1] < inside[3]:
            expected.append((i, inside))
            clipped += max(abs(a - b) for a, b in zip(inside, (x1, y1, x2, y2), strict=True)) > 1
    assert picture.labels.tolist() == [i for i, _ in expected]
    assert picture.boxes.tolist() == [box for _, box in expected]
    assert picture.crowd.tolist() == [i % 7 == 0 for i, _ in expected]
    areas = [(b[2] - b[0]) * (b[3] - b[1]) if i % 2 else 5.0 for i, b in expected]
    assert picture.area.tolist() == pytest.approx(areas)
    assert (tally.boxes, tally.left_out, tally.clipped) == (len(expected), 400 - len(expected), clipped)
    assert tally.crowd == sum(i % 7 == 0 for i, _ in expected) and tally.images_without_boxes == 0


def changed(**changes: Any) -> Callable[[], Members]:
    """COCO, with the first annotation for training changed; `images` and `categories` change the first of these."""

    def make() -> Members:
        document = coco_document(scenes()["train"])
        for what in ("images", "categories"):
            document[what][0] |= changes.get(what, {})
        first = document["annotations"][0]
        first |= {key: value for key, value in changes.items() if key not in ("images", "categories")}
        document["annotations"][0] = {key: value for key, value in first.items() if value != "gone"}
        return coco() | {"annotations/instances_train.json": json.dumps(document).encode()}

    return make


def test_what_was_done_to_boxes_is_told(tmp_path):
    data = open_data(store(tmp_path, changed(bbox=[-5, 4, 200, 21])(), True), "detection")
    assert data.train[0][1]["boxes"][0].tolist() == [0, 4, 40, 25]
    assert data.details["train"]["clipped"] == 1 and "1 boxes cut at the borders of their images" in data.description
    for i, box in enumerate(([3, 4, 0, 9], [3, 4, 7, -2], [50, 4, 9, 9])):
        (tmp_path / str(i)).mkdir()
        data = open_data(store(tmp_path / str(i), changed(bbox=box)(), True), "detection")
        assert data.details["train"]["left_out"] == 1 and data.details["train"]["boxes"] == 3
        assert "1 boxes without area left out" in data.description


def edited(base: Callable[[], Members], **changes: bytes | None) -> Callable[[], Members]:
    def make() -> Members:
        merged = base() | {name.replace("__", "/"): content for name, content in changes.items()}
        return {name: content for name, content in merged.items() if content is not None}

    return make


def document_of(change: Callable[[dict[str, Any]], object], split: str = "train") -> Callable[[], Members]:
    """COCO, with something done to the document of a split."""

    def make() -> Members:
        document = coco_document(scenes()[split])
        change(document)
        return coco() | {f"annotations/instances_{split}.json": json.dumps(document).encode()}

    return make


TRAIN = "annotations/instances_train.json"
ONE = "Annotations/one.xml"
FIRST = voc_annotation(scenes()["train"][0])
ERRORS: list[tuple[Callable[[], Members], str]] = [
    (edited(coco, **{TRAIN: b"no json at all"}), "instances_train.json is not JSON"),
    (document_of(lambda one: [one[key].clear() for key in ("images", "annotations")]), "training split has no images"),
    (edited(coco, **{TRAIN: b"[1, 2]"}), "not laid out as COCO boxes"),
    (changed(bbox=[1, 2, float("nan"), 4]), "annotation 0: a box has four numbers"),
    (changed(bbox=[1, 2, float("inf"), 4]), "annotation 0: a box has four numbers"),
    (changed(bbox=[1, 2, 3]), r"annotation 0: a box is left, top, width and height, found \[1, 2, 3\]"),
    (changed(bbox="gone"), "not laid out as COCO boxes: KeyError: 'bbox'"),
    (changed(bbox="wide"), "a box is left, top"),
    (changed(category_id=4), "there is no category with id 4\nhelp: there are 3, 7, 90"),
    (changed(category_id=[4]), "not laid out as COCO boxes"),
    (changed(image_id=4), "there is no image with id 4"),
    (changed(area=-1.0), "an area is a number of pixels, found -1"),
    (changed(area=float("nan")), "an area is a number"),
    (changed(images={"id": 101}), "the image id 101 comes twice"),
    (changed(images={"id": None}), "an image has the id None|a image has the id None"),
    (changed(images={"file_name": "oen.png"}), "no image oen.png.*\n.*did you mean"),
    (changed(images={"height": -3}), "height and width are whole numbers"),
    (changed(images={"width": 41}), "one.png is 40x30, but its annotations are for 41x30"),
    (changed(categories={"id": 3}), "the category id 3 comes twice"),
    (document_of(lambda one: one["categories"].clear()), "has no categories"),
    (document_of(lambda one: one["annotations"].clear()), "none of the 3 images of the training split has a box"),
    (document_of(lambda one: one["annotations"].clear(), "val"), "none of the 2 images of the validation split"),
    (document_of(lambda one: [a.update(iscrowd=1) for a in one["annotations"]]), "a box that is not crowded"),
    (document_of(lambda one: [a.update(bbox=[3, 3, 0, 0]) for a in one["annotations"]]),
     "none of the 4 boxes of the training split has an area .*\n.*annotation 0"),
    (document_of(lambda one: one["categories"].append({"id": 1, "name": "ent"}), "val"),
     'the category "ent", which training has not\n.*did you mean "ant"'),
    (edited(coco, **{TRAIN: None, "annotations__instances_test.json": json.dumps(coco_document([])).encode()}),
     'no split named "train"'),
    (edited(coco, **{"images__train__one.png": b"no image"}), "one.png is not an image"),
    (edited(voc, **{ONE: b"<annotation><object>"}), "one.xml is not XML"),
    (edited(voc, **{ONE: b'<?xml version="1.0" encoding="klingon"?><annotation/>'}), "one.xml is not XML"),
    (edited(voc, **{ONE: FIRST.replace(b"<name>cow", b"<name>")}), "object 1 has no name"),
    (edited(voc, **{ONE: FIRST.replace(b">20<", b">many<")}), "object 1: bndbox xmax is a number, found 'many'"),
    (edited(voc, **{ONE: FIRST.replace(b"<xmin>4", b"<xmin>nan")}), "object 1: a box has four numbers"),
    (edited(voc, **{"Annotations/four.xml": voc_annotation(scenes()["val"][0]).replace(b"bee", b"beh")}),
     'of the class "beh", which training has not\n.*did you mean "bee"'),
    (edited(voc, **{ONE: None}), "no annotation one, which its list train names"),
    (edited(voc, **{"JPEGImages/one.png": None}), "no image one, which its list train names"),
    (edited(voc, **{"ImageSets/Main/train.txt": b"one\ntwo\none\n"}), "list train names one more than once"),
    (edited(voc, **{"ImageSets/Main/train.txt": b""}), "list train names no images"),
    (edited(yolo, **{"data.yaml": b"train: [\nnames"}), "data.yaml is not YAML"),
    (edited(yolo, **{"data.yaml": b"names and train"}), "is no table of keys"),
    (lambda: yolo("train: images/trian\nnames: [ant, bee, cow]"), "images/trian, and there are no images .*\n.*mean"),
    (lambda: yolo("train: 3\nnames: [ant, bee, cow]"), "train is a folder or a list of images, found 3"),
    (lambda: yolo("train: images/train\nnames: ant"), "names is a list of the classes"),
    (lambda: yolo("train: images/train\nnames: {1: ant}"), "numbered from 0"),
    (lambda: yolo("train: images/train\nnames: [ant, ant]"), "'ant' comes twice"),
    (lambda: yolo("train: images/train\nnc: 2\nnames: [ant, bee, cow]"), "nc says 2 classes, but names has 3"),
    (lambda: yolo("train: images/train\nnames: [ant, bee]"), "line 1: there are classes from 0 to 1, found 2"),
    (lambda: yolo("train: list.txt\nnames: [ant]") | {"list.txt": b"images/gone.png"}, "names images/gone.png, and"),
    (edited(yolo, **{"labels/train/one.txt": b"0 0.5 0.5 0.1\n"}), "line 1: a box is class, .* found 4 numbers"),
    (edited(yolo, **{"labels/train/one.txt": b"\n0 0.5 0.5 0.1 0.1 0.9\n"}), "line 2: .* found 6 numbers"),
    (edited(yolo, **{"labels/train/one.txt": b"0 20 30 10 10\n"}), "20.0 is no fraction of the image"),
    (edited(yolo, **{"labels/train/one.txt": b"0 nan .3 .1 .1\n"}), "nan is no fraction"),
    (edited(yolo, **{"labels/train/one.txt": b"ant .3 .3 .1 .1\n"}), "a box is five numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("members", "message"), ERRORS, ids=[message[:40] for _, message in ERRORS])
def test_mistakes_are_told_in_the_words_of_the_user(tmp_path, packed, members, message):
    with pytest.raises(DataError, match=message):
        data = open_data(store(tmp_path, members(), packed), "detection")
        for split in (data.train, data.val):
            split.batch(list(range(len(split))))


@pytest.mark.parametrize("members", [coco, voc, yolo], ids=["coco", "voc", "yolo"])
def test_any_damage_gives_samples_or_a_data_error(tmp_path, members):
    rng = np.random.default_rng(0)
    outcomes = set()
    for trial in range(40):
        damaged = dict(members())
        name = sorted(damaged)[rng.integers(len(damaged))]
        content = bytearray(damaged[name] or b" ")
        # Digits in place of digits do harm where other bytes would only make it no text.
        digits = [i for i, byte in enumerate(content) if chr(byte) in "0123456789"] if trial % 2 else []
        for _ in range(rng.integers(1, 4)):
            place = int(rng.choice(digits or range(len(content))))
            content[place] = rng.integers(256) if not digits else rng.integers(ord("0"), ord("9") + 1)
        damaged[name] = bytes(content[: rng.integers(1, len(content) + 1)] if trial % 6 == 0 else content)
        (tmp_path / str(trial)).mkdir()
        try:
            data = open_data(store(tmp_path / str(trial), damaged, trial % 4 < 2), "detection", size=(8, 8))
            for split in (data.train, data.val):
                split.batch(list(range(len(split))))
            outcomes.add("samples")
        except DataError:
            outcomes.add("error")
    assert outcomes == {"samples", "error"}


# Layouts ------------------------------------------------------------------------------------------------------------


def test_ids_of_any_kind(tmp_path):
    document = coco_document(scenes()["train"])
    texts = {100: "a", 101: "b", 102: "c", 3: "x", 7: "y", 90: "z"}
    for key in ("images", "categories"):
        document[key] = [{**one, "id": texts[one["id"]]} for one in document[key]]
    for one in document["annotations"]:
        one |= {"image_id": texts[one["image_id"]], "category_id": texts[one["category_id"]], "id": 0}
    members = {name: content for name, content in coco().items() if "val" not in name}
    spec = store(tmp_path, members | {TRAIN: json.dumps(document).encode()}, True)
    data = open_data(spec, "detection", size=(64, 64))
    assert data.classes == CLASSES and data.details["category_ids"] == ["x", "y", "z"]
    assert isinstance(data.train, DetectionSet) and isinstance(data.val, DetectionSet)
    # Of the two images with boxes one validates, and of those without as well.
    assert sorted(data.train.ids + data.val.ids) == ["a", "b", "c"] and "b" in data.val.ids
    assert "20 %" in data.description


def test_categories_of_one_name_are_told_apart_and_splits_may_count_differently(tmp_path):
    def rename(document: dict[str, Any]) -> None:
        document["categories"][0]["name"] = "ant"  # bee, with id 7, as a second ant

    train, val = coco_document(scenes()["train"]), coco_document(scenes()["val"])
    rename(train)
    rename(val)
    members = coco() | {
        TRAIN: json.dumps(train).encode(), "annotations/instances_val.json": json.dumps(val).encode()
    }  # fmt: skip
    assert open_data(store(tmp_path, members, True), "detection").classes == ("ant 3", "ant 7", "cow")

    (tmp_path / "b").mkdir()
    val = coco_document(scenes()["val"])
    val["categories"] = [{"id": 1, "name": "bee"}, {"id": 2, "name": "ant"}]
    for one in val["annotations"]:
        one["category_id"] = {7: 1, 3: 2}[one["category_id"]]
    members = coco() | {"annotations/instances_val.json": json.dumps(val).encode()}
    data = open_data(store(tmp_path / "b", members, True), "detection")
    assert data.classes == CLASSES and data.details["category_ids"] == [3, 7, 90]
    assert [data.val[i][1]["labels"].tolist() for i in range(2)] == [[1], [0]]


def test_other_annotations_beside_those_of_boxes_are_left_alone(tmp_path):
    document = coco_document(scenes()["train"])
    document["categories"] = [{"id": 1, "name": "person", "keypoints": ["nose"]}]
    document["annotations"] = []
    members = coco()
    for kind in ("person_keypoints", "captions", "panoptic", "stuff"):
        members |= {f"annotations/{kind}_{split}.json": json.dumps(document).encode() for split in ("train", "val")}
    spec = store(tmp_path, members, False)
    assert open_data(spec, "detection").classes == CLASSES
    assert open_data(f"{spec}/annotations/instances_train.json", "detection").classes == CLASSES


def test_one_file_by_itself(tmp_path):
    spec = store(tmp_path, {name: content for name, content in coco().items() if "val" not in name}, False)
    data = open_data(f"{spec}/{TRAIN}", "detection")
    assert (len(data.train), len(data.val)) == (2, 1)
    (tmp_path / "b").mkdir()
    spec = store(tmp_path / "b", yolo(), False)
    assert open_data(f"{spec}/data.yaml", "detection").classes == CLASSES


def test_voc_years_and_lists(tmp_path):
    members = voc("VOC2007/") | voc("VOC2012/")
    data = open_data(store(tmp_path, members, True), "detection")
    assert (len(data.train), len(data.val)) == (6, 4)
    assert isinstance(data.val, DetectionSet) and data.val.ids[0] == "VOC2007/four"
    members = {name: content for name, content in voc().items() if "Main" not in name}
    (tmp_path / "b").mkdir()
    data = open_data(store(tmp_path / "b", members, True), "detection")
    assert (len(data.train), len(data.val)) == (3, 2) and "no split is named" in data.description
    members = {name.replace("Main/train", "Main/trainval").replace("/val", "/test"): c for name, c in voc().items()}
    (tmp_path / "c").mkdir()
    data = open_data(store(tmp_path / "c", members, True), "detection")
    assert "training is trainval, validation test" in data.description
    unsized = {name: c.replace(b"<width>40<", b"<width>0<") for name, c in voc().items()}
    (tmp_path / "d").mkdir()
    assert open_data(store(tmp_path / "d", unsized, True), "detection").train[0][1]["original"].tolist() == [30, 40]


def test_yolo_outlines_are_the_boxes_around_them(tmp_path):
    outline = b"2 0.1 0.2 0.5 0.1 0.3 0.9 0.2 0.4\n"
    data = open_data(store(tmp_path, yolo() | {"labels/train/one.txt": outline}, True), "detection")
    target = by_name(data, "train")["one"][1]
    assert target["boxes"][0].tolist() == pytest.approx([4, 3, 20, 27]) and int(target["labels"][0]) == 2


@pytest.mark.parametrize("members", [coco, voc, yolo], ids=["coco", "voc", "yolo"])
def test_other_tasks_refuse_boxes(tmp_path, packed, members):
    spec = store(tmp_path, members(), packed)
    for task in ("classification", "segmentation", "keypoints"):
        with pytest.raises(DataError, match=rf"is data for detection \(.*\), but the task is {task}"):
            open_data(spec, task)


def test_detection_refuses_what_has_no_boxes(tmp_path):
    members = {f"train/{name}/0.png": flat(1) for name in "ab"}
    with pytest.raises(DataError, match="is data for classification"):
        open_data(store(tmp_path, members, True), "detection")
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match=r"not known for detection.*\n.*instances_train.json.*Annotations.*data.yaml"):
        open_data(store(tmp_path / "b", {"notes.txt": b""}, True), "detection")


# Samples ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [None, (40, 56)])
def test_samples_are_the_same_cached_or_not_and_by_any_worker(tmp_path, packed, size):
    spec = store(tmp_path, coco(), packed)
    kept, loose = (open_data(spec, "detection", size=size, cache_bytes=limit) for limit in (1 << 20, 0))
    assert isinstance(kept.train, DetectionSet) and isinstance(loose.train, DetectionSet)
    assert kept.train.cached and not loose.train.cached
    for _ in range(2):
        for rows in ([0, 1, 2], [2, 0, 2]):
            (a, x), (b, y) = kept.train.batch(rows), loose.train.batch(rows)
            assert torch.equal(a, b) and all(torch.equal(x[key], y[key]) for key in x)
    whole = list(Loader(kept.train, 2, shuffle=True, seed=3).epoch())
    for (a, x), (b, y) in zip(whole, Loader(loose.train, 2, shuffle=True, seed=3, workers=3).epoch(), strict=True):
        assert torch.equal(a, b) and all(torch.equal(x[key], y[key]) for key in x)
    assert whole[0][0].dtype == torch.float32 and whole[0][0].max() <= 1


def test_ranks_and_parts_keep_the_numbers_of_images():
    data = open_data(None, "detection", scenes=(10, 4))
    seen = [
        number
        for rank in range(2)
        for _, targets in Loader(data.train, 2, shuffle=True, rank=rank, world=2).epoch()
        for number in targets["image_id"].tolist()
    ]
    assert sorted(seen) == list(range(10))
    held = held_back(data, 3)
    numbers = [int(held.val[i][1]["image_id"]) for i in range(3)]
    assert numbers == held.val.rows and held.val.ids == data.train.ids == list(range(1, 11))  # type: ignore[attr-defined]
    image, target = held.val[0]
    assert torch.equal(image, data.train[numbers[0]][0]) and torch.equal(
        target["boxes"], data.train[numbers[0]][1]["boxes"]
    )
    with pytest.raises(IndexError):
        data.train[10]
    assert int(data.train[-1][1]["image_id"]) == 9


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [None, (48, 64), (16, 12)])
def test_scenes_have_boxes_around_their_digits(size, channels):
    wish: dict[str, Any] = {"scenes": (12, 5), "size": size, "channels": channels}
    data = open_data(None, "detection", **wish)
    assert data.classes == tuple("0123456789") and (len(data.train), len(data.val)) == (12, 5)
    masks = open_data(None, "segmentation", **wish)
    images, targets = data.train.batch(list(range(12)))
    assert images.shape[1:] == (channels, *(size or (64, 64)))
    if size == (16, 12):
        assert targets["original"].tolist() == [[64, 64]] * 12 and targets["size"].tolist() == [[12, 12]] * 12
        return
    assert torch.equal(images, masks.train.batch(list(range(12)))[0])
    found = 0
    for i, mask in enumerate(masks.train.batch(list(range(12)))[1]):
        covered = torch.zeros_like(mask, dtype=torch.bool)
        for box, label in zip(targets["boxes"][i], targets["labels"][i].tolist(), strict=True):
            if label < 0:
                continue
            x1, y1, x2, y2 = box.long().tolist()
            covered[y1:y2, x1:x2] = True
            ys, xs = torch.nonzero(mask[y1:y2, x1:x2] == label + 1, as_tuple=True)
            # Where no other digit lies over it, the ink reaches all four sides.
            if (mask[y1:y2, x1:x2].unique() <= 0).sum() + 1 == len(mask[y1:y2, x1:x2].unique()):
                edges = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
                found += edges == (0, 0, x2 - x1, y2 - y1)
        assert not (mask[~covered] > 0).any()
    assert found > 10
    other = open_data(None, "detection", **(wish | {"train_size": (96, 96)}))
    assert other.train[0][0].shape == (channels, 96, 96) and other.val[0][0].shape[1:] == (size or (64, 64))


def test_padding_is_nothing_once_normalised(tmp_path):
    from nasdsl.runtime.tasks import Normalise

    for channels in (1, 3):
        (tmp_path / str(channels)).mkdir()
        spec = store(tmp_path / str(channels), coco(), True)
        data = open_data(spec, "detection", size=(96, 96), channels=channels)
        loader = Loader(data.train, 3, normalise=Normalise.imagenet(channels))
        images, targets = next(loader.epoch())
        for image, (height, width) in zip(images, targets["size"].tolist(), strict=True):
            assert not (image[:, height:].abs() > 0.01).any() and not (image[:, :, width:].abs() > 0.01).any()


# Real data ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "train", "val", "boxes", "classes", "crowds"),
    [("bccd_coco_320x240.zip", 205, 87, 2804, 3, 0), ("coco_mini_320.zip", 50, 51, 560, 80, 8)],
)
def test_real_data(shared_data, name, train, val, boxes, classes, crowds):
    if not (shared_data / name).exists():
        pytest.skip(f"{name} is not here")
    data = open_data(str(shared_data / name), "detection", size=(128, 160))
    assert (len(data.train), len(data.val), len(data.classes)) == (train, val, classes)
    assert data.details["train"]["boxes"] == boxes and data.details["train"]["crowd"] == crowds
    count = 0
    for images, targets in Loader(data.train, 16).epoch():
        assert images.shape[1:] == (3, 128, 160) and images.std() > 0.05
        there = targets["labels"] >= 0
        count += int(there.sum())
        size = targets["size"].flip(-1).repeat(1, 2)[:, None]
        assert ((targets["boxes"] >= 0) & (targets["boxes"] <= size + 1e-4)).all()
        wide = (targets["boxes"][..., 2:] - targets["boxes"][..., :2])[there]
        assert (wide > 0).all() and (targets["area"][there] > 0).all()
    assert count == boxes
