"""What a run says of its data, and that it reads what it was given: the tables of the documentation, made and read."""

from __future__ import annotations

import gzip
import io
import json
import struct
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nasdsl.cli import main
from nasdsl.runtime.data import ClassificationSet, DataError, DataSplits, find_readers, open_data, told
from nasdsl.runtime.data.images import coloured, decode, image_size, upright
from nasdsl.runtime.data.readers import stratified
from nasdsl.runtime.tasks import Classification, TaskError
from nasdsl.testing import check_reader
from tests.datafiles import flat, png, store
from tests.test_docs import DOCS, ROW, tables

LAYOUTS, PIXELS, MASKS = tables((DOCS / "howto" / "data.md").read_text(encoding="utf-8"))
Members = dict[str, bytes]


def jpeg(pixels: np.ndarray, **more: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(stream, "jpeg", quality=100, subsampling=0, **more)
    return stream.getvalue()


def read(where: Path, members: Members, task: str, **more: Any) -> DataSplits:
    where.mkdir(exist_ok=True)
    return open_data(store(where, members, False), task, **more)


# The table of layouts -----------------------------------------------------------------------------------------------

NAMES = [f"shot {i}" for i in range(5)]
PICTURE = np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)
LABELS = np.arange(12 * 16).reshape(12, 16) % 3
BOX = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"


def expanded(pattern: str) -> list[str]:
    found = [pattern.replace("<class>", label) for label in ("cat", "dog")] if "<class>" in pattern else [pattern]
    return [one.replace("*", name) for one in found for name in NAMES] if "*" in pattern else found


def document_for(images: list[str]) -> bytes:
    return json.dumps({
        "images": [{"id": i, "file_name": PurePosixPath(name).name, "width": 16, "height": 12} for i, name in
                   enumerate(images)],
        "categories": [{"id": 1, "name": "cat", "keypoints": ["head", "tail"]}],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 8, 8],
                         "keypoints": [2, 2, 2, 7, 7, 2]} for i in range(len(images))],
    }).encode()  # fmt: skip


def made(row: ROW) -> Members:
    """The files of a row, each with what its name promises."""
    patterns = row["files"].replace("`", " ").split()
    names = [name for pattern in patterns for name in expanded(pattern)]
    images = [name for name in names if name.lower().endswith((".jpg", ".png"))]
    masks = [name for name in images if "mask" in name or any(
        word in name for word in ("annot", "labels/", "gtFine", "SegmentationClass", "b/"))]  # fmt: skip
    pictures = [name for name in images if name not in masks]
    members: Members = {}
    for name in names:
        split = next((one for one in ("train", "val", "test") if one in name.lower()), "")
        mine = [one for one in pictures if split in one.lower()] or pictures
        mine = mine if len(mine) < len(pictures) else pictures[:3] if split == "train" else pictures[3:]
        if name in masks:
            members[name] = png(LABELS)
        elif name in pictures:
            members[name] = png(PICTURE) if name.endswith("png") else jpeg(PICTURE)
        elif name.endswith(".json"):
            members[name] = document_for(mine)
        elif name.endswith(".xml"):
            members[name] = f"<annotation><object><name>cat</name>{BOX}</object></annotation>".encode()
        elif name == "objectInfo150.txt":
            members[name] = b"Idx\tName\n" + b"".join(b"%d\tthing %d\n" % (i, i) for i in range(1, 151))
        elif name == "data.yaml":
            members[name] = b"train: train/images\nval: val/images\nnames: [cat]\n"
        elif "labels/" in name:
            members[name] = b"0 0.3 0.4 0.5 0.5\n"
        elif name.endswith((".csv", ".tsv")):
            between = "," if name.endswith("csv") else "\t"
            rows = [["area", "age", "target"], *[[str(i), str(i % 3), str(2.5 * i)] for i in range(5)]]
            members[name] = "\n".join(between.join(cells) for cells in rows).encode()
        elif name.endswith(".txt"):
            with_masks = row["reader"].startswith("lists")
            lines = [f"{one} {one.replace('a/', 'b/').replace('jpg', 'png')}" if with_masks else
                     PurePosixPath(one).stem for one in mine]  # fmt: skip
            members[name] = "\n".join(lines).encode()
        else:
            count = 9
            values = np.zeros((count, 5, 4)) if "images" in name else np.arange(count) % 3
            head = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
            members[name] = gzip.compress(head + values.astype(np.uint8).tobytes())
    return members


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("row", LAYOUTS, ids=lambda row: f"{row['reader']} {row['files'][:30]}")
def test_each_layout_is_recognised_read_and_told(tmp_path: Path, row: ROW, packed: bool) -> None:
    data = open_data(store(tmp_path, made(row), packed), row["task"], size=(12, 16))
    assert data.reading is not None and data.reading.reader == row["reader"]
    lines = told(data)
    assert f"read as {row['reader']} ({row['task']})" in lines[0]
    for line, split in zip(lines[1:3], (data.train, data.val), strict=True):
        assert f": {len(split)} " in line and ", from " in line
        split.batch(list(range(len(split))))
    assert len(data.train) + len(data.val) in (5, 10, 18, 20)
    if not packed:
        check_reader(find_readers()[row["reader"]], data.reading.spec)
    assert not [line for line in lines if line.startswith("left out") or "warning: no " in line] or "ADE" in lines[0]


def test_each_reader_is_in_the_table() -> None:
    assert {(row["reader"], row["task"]) for row in LAYOUTS} == {
        (one.name, one.task) for one in find_readers().values()
    }


# The table of pixels ------------------------------------------------------------------------------------------------


def one_pixel(mode: str, values: list[float]) -> bytes:
    if mode == "P":
        image = Image.new("P", (4, 4), 7)
        image.putpalette([0, 0, 0] * 7 + [int(value) for value in values])
    elif mode in ("I", "F", "I;16"):
        kind = {"I": np.int32, "F": np.float32, "I;16": np.uint16}[mode]
        image = Image.fromarray(np.full((4, 4), values[0], dtype=kind))
    else:
        image = Image.new(mode, (4, 4), tuple(int(value) for value in values))
    stream = io.BytesIO()
    image.save(stream, "tiff" if mode in ("I", "F", "CMYK") else "png")
    return stream.getvalue()


@pytest.mark.parametrize("row", PIXELS, ids=lambda row: f"{row['mode']} {row['pixel']}")
def test_each_kind_of_pixels_has_one_rule(row: ROW) -> None:
    image = decode(one_pixel(row["mode"].strip("`"), [float(word) for word in row["pixel"].split()]), "it.png")
    assert image.mode == row["mode"].strip("`")
    if row["becomes"] == "refused":
        with pytest.raises(DataError, match=rf"it.png has .* pixels from .* to {row['pixel']}, and they are read as 0"):
            coloured(image, 3, "it.png")
        return
    expected = [int(word) for word in row["becomes"].split()]
    assert np.array_equal(np.asarray(coloured(image, 3)), np.full((4, 4, 3), expected))
    assert np.asarray(coloured(image, 1)).shape == (4, 4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.arange(64, dtype=np.uint8).reshape(8, 8) % 2, "8-bit pixels are from 0 to 1 only, of 0 to 255"),
        (np.arange(64, dtype=np.uint16).reshape(8, 8) * 64, "16-bit pixels are from 0 to 4032 only, of 0 to 65535"),
        (np.full((8, 8), 250, dtype=np.uint8), "8-bit pixels are from 250 to 250 only"),
    ],
    ids=["0 to 1", "12 bits", "one value"],
)
def test_a_range_that_makes_no_sense_is_a_warning(tmp_path: Path, values: np.ndarray, message: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "png")
    members = {f"{split}/{label}/0.png": stream.getvalue() for split in ("train", "val") for label in "ab"}
    lines = told(read(tmp_path, members, "classification"))
    assert [line for line in lines if line.startswith("warning: ")] == [lines[-1]] and message in lines[-1]
    sound = told(read(tmp_path / "b", {name: png(PICTURE) for name in members}, "classification"))
    assert not [line for line in sound if line.startswith("warning: ")]


# The table of labels ------------------------------------------------------------------------------------------------


def labelled(words: list[str]) -> np.ndarray:
    """Each label in a column of its own."""
    if words[0].startswith("#"):
        colours = [[int(word[i : i + 2], 16) for i in (1, 3, 5)] for word in words]
        return np.repeat(np.array([colours], dtype=np.uint8), 4, axis=0)
    return np.repeat(np.array([[int(word) for word in words]], dtype=np.uint8), 4, axis=0)


@pytest.mark.parametrize("row", MASKS, ids=lambda row: f"{row['labels']} ({row['list']})")
def test_each_kind_of_labels_is_mapped_or_refused(tmp_path: Path, row: ROW) -> None:
    words = row["labels"].split()
    mask = labelled(words)
    members: Members = {}
    for split in ("train", "val"):
        members |= {f"images/{split}/0.png": png(PICTURE[:4, : len(words)]), f"masks/{split}/0.png": png(mask)}
    if row["list"]:
        members["classes.txt"] = row["list"].replace(", ", "\n").encode()
    if row["become"] == "refused":
        with pytest.raises(DataError) as problem:
            read(tmp_path, members, "segmentation")
        assert words[-1] in str(problem.value) and "classes.txt" in problem.value.help
        return
    data = read(tmp_path, members, "segmentation")
    expected = [255 if word == "ignored" else int(word) for word in row["become"].split()]
    assert data.train[0][1][0].tolist() == data.val[0][1][3].tolist() == expected
    lines = "\n".join(told(data))
    assert ("ignored: " in lines) == ("ignored" in row["become"])
    if expected != [int(word) if word.isdecimal() else -1 for word in words] and not row["list"]:
        assert "ignored: " in lines or "labels: " in lines
    if row["list"]:
        listed = [line.split()[-1] for line in row["list"].split(", ")]
        assert list(data.classes) == [name for name in listed if name != "void"]


def pair(masks: dict[str, bytes], **more: bytes) -> Members:
    members: Members = {f"{name.replace('__', '.')}": content for name, content in more.items()}
    for i, (name, content) in enumerate(masks.items()):
        split = "val" if i == len(masks) - 1 else "train"
        members |= {f"images/{split}/{PurePosixPath(name).stem}.png": png(PICTURE), f"masks/{split}/{name}": content}
    return members


def saved(image: Image.Image, form: str, **more: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **more)
    return stream.getvalue()


@pytest.mark.parametrize("form", ["jpeg", "webp"])
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_masks_that_are_packed_with_loss_are_refused(tmp_path: Path, form: str, ending: str) -> None:
    image = Image.fromarray((LABELS > 0).astype(np.uint8) * 255)
    with pytest.raises(DataError, match=rf"a\.{ending} is a {form.upper()} image, which is packed with loss"):
        read(tmp_path, pair({f"a.{ending}": saved(image, form), "b.png": png(LABELS)}), "segmentation")
    whole = {"a.webp": saved(image, "webp", lossless=True), "b.png": png((LABELS > 0) * 255)}
    assert read(tmp_path / "b", pair(whole), "segmentation").classes == ("class 0", "class 255")


def test_masks_of_one_bit_mean_what_the_others_say(tmp_path: Path) -> None:
    bits = saved(Image.fromarray(((LABELS > 0) * 255).astype(np.uint8)).convert("1"), "png")
    for name, other in (("as 255", (LABELS > 0) * 255), ("as 1", LABELS > 0)):
        data = read(tmp_path / name, pair({"a.png": bits, "b.png": png(other)}), "segmentation")
        assert torch.equal(data.train[0][1], torch.from_numpy(LABELS > 0).long())
        assert torch.equal(data.train[0][1], data.val[0][1]) and len(data.classes) == 2
    with pytest.raises(DataError, match="is white 1 or 255"):
        read(tmp_path / "both", pair({"a.png": bits, "b.png": png((LABELS > 0) * 255 - (LABELS > 1))
                                      , "c.png": png(LABELS % 2)}), "segmentation")  # fmt: skip


def test_palettes_that_differ_are_told_apart_by_their_colours(tmp_path: Path) -> None:
    """An index means nothing if it is another colour in the next file."""
    colours = [(0, 0, 0), (200, 0, 0), (0, 0, 200)]
    masks = {}
    for name, order in (("a.png", (0, 1, 2)), ("b.png", (2, 0, 1))):
        image = Image.fromarray(np.argsort(order)[LABELS].astype(np.uint8), "P")
        image.putpalette([part for i in order for part in colours[i]])
        masks[name] = saved(image, "png")
    data = read(tmp_path, pair(masks), "segmentation")
    assert data.classes == ("#000000", "#0000c8", "#c80000")
    assert torch.equal(data.train[0][1], torch.from_numpy(np.array([0, 2, 1])[LABELS]))
    assert torch.equal(data.train[0][1], data.val[0][1])


def test_photographs_and_transparent_images_are_no_masks(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (40, 40, 3))
    clear = Image.fromarray(np.dstack([LABELS, LABELS, LABELS, LABELS * 99]).astype(np.uint8), "RGBA")
    for name, content, message in (
        ("noise", png(noise), "it is a photograph, not a mask"),
        ("clear", saved(clear, "png"), "is partly transparent"),
        ("deep", saved(Image.fromarray((LABELS * 300).astype(np.uint16)), "png"), "has the label 600.*300, 600"),
        ("float", saved(Image.fromarray(LABELS.astype(np.float32)), "tiff"), "is a picture in F, not a mask"),
    ):
        with pytest.raises(DataError, match=message):
            read(tmp_path / name, pair({"a.png": content, "b.png": png(LABELS)}), "segmentation")


def test_a_class_that_no_pixel_has_is_told(tmp_path: Path) -> None:
    members = pair({"a.png": png(LABELS), "b.png": png(LABELS)}, classes__txt=b"sky\nroad\ncar\nbus\n")
    lines = told(read(tmp_path, members, "segmentation"))
    assert lines[-1] == "warning: no pixel of the masks is bus" and "classes: 4: 0 sky, 1 road, 2 car, 3 bus" in lines


# Splits -------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 5), min_size=2, max_size=80), st.integers(0, 1 << 30))
def test_what_is_held_out_has_its_share_of_every_class(labels: list[int], seed: int) -> None:
    held = stratified([(label,) for label in labels], seed, 0.2)
    assert held == sorted(set(held)) and held == stratified([(label,) for label in labels], seed, 0.2)
    for label, count in Counter(labels).items():
        part = sum(labels[i] == label for i in held)
        assert part == 0 if count == 1 else 1 <= part < count
        assert abs(part - 0.2 * count) <= 1
    several = [count for count in Counter(labels).values() if count > 1]
    if several and min(Counter(labels).values()) >= 5:
        assert len(held) == round(0.2 * len(labels))


@given(st.lists(st.sets(st.integers(0, 4)), min_size=2, max_size=60), st.integers(0, 1000))
def test_no_label_of_several_leaves_training(kinds: list[set[int]], seed: int) -> None:
    held = set(stratified([sorted(one) for one in kinds], seed, 0.2))
    assert len(held) < len(kinds)
    trained = {label for i, one in enumerate(kinds) if i not in held for label in one}
    assert trained == set().union(*kinds)


@pytest.mark.parametrize("each", [1, 2, 3, 7])
def test_few_images_of_many_classes(tmp_path: Path, each: int) -> None:
    members = {f"kind {c:02}/{i}.png": flat(c) for c in range(12) for i in range(each)}
    if each == 1:
        with pytest.raises(DataError, match="each class has one image"):
            read(tmp_path, members, "classification")
        return
    data = read(tmp_path, members, "classification")
    assert isinstance(data.val, ClassificationSet) and isinstance(data.train, ClassificationSet)
    assert set(data.val.labels.tolist()) == set(data.train.labels.tolist()) == set(range(12))


def test_a_class_that_a_split_lacks_is_told_or_refused(tmp_path: Path) -> None:
    members = {"train/a/0.png": flat(0), "train/b/0.png": flat(1), "val/b/1.png": flat(2)}
    assert "warning: no image of a validates" in told(read(tmp_path, members, "classification"))
    with pytest.raises(DataError, match='class "c" for validation but not for training'):
        read(tmp_path / "b", members | {"val/c/1.png": flat(2)}, "classification")
    one = read(tmp_path / "c", {f"{split}/a/0.png": flat(0) for split in ("train", "val")}, "classification")
    with pytest.raises(TaskError, match="at least 2 classes to tell apart, and the data has `a`"):
        Classification.from_data(one)


# Turned images ------------------------------------------------------------------------------------------------------

MOVES: dict[int, Callable[[torch.Tensor], torch.Tensor]] = {
    1: lambda x: x, 2: lambda x: x.flip(-1), 3: lambda x: x.rot90(2, (-2, -1)), 4: lambda x: x.flip(-2),
    5: lambda x: x.transpose(-2, -1), 6: lambda x: x.rot90(-1, (-2, -1)),
    7: lambda x: x.rot90(2, (-2, -1)).transpose(-2, -1), 8: lambda x: x.rot90(1, (-2, -1)),
}  # fmt: skip
"""What turns the stored pixels upright (EXIF 2.32, orientation)."""


def noted(pixels: np.ndarray, how: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = how
    return saved(Image.fromarray(pixels.astype(np.uint8)), "png", exif=exif)


@pytest.mark.parametrize("how", MOVES)
def test_images_are_turned_upright(how: int) -> None:
    content = noted(PICTURE, how)
    expected = MOVES[how](torch.from_numpy(PICTURE.transpose(2, 0, 1)))
    image = upright(decode(content, "it"))
    assert torch.equal(torch.from_numpy(np.array(image)).permute(2, 0, 1), expected)
    assert image_size(content, "it") == tuple(expected.shape[1:])
    if how > 4:  # an annotation of the size of the stored pixels was made before turning
        assert np.array_equal(np.asarray(upright(decode(content, "it"), (12, 16))), PICTURE)
        assert np.array_equal(np.asarray(upright(decode(content, "it"), (16, 12))), np.asarray(image))


@pytest.mark.parametrize("how", [1, 3, 6, 7, 8])
@pytest.mark.parametrize("before", [False, True], ids=["after", "before"])
def test_annotations_lie_on_what_they_mark_in_turned_images(tmp_path: Path, how: int, before: bool) -> None:
    """A white spot of 3x3, in the pixels that the annotation was made for."""
    if before and how < 5:
        pytest.skip("the size does not tell")
    stored = torch.zeros(30, 40)
    stored[5:8, 28:31] = 255
    seen = stored if before else MOVES[how](stored)
    height, width = seen.shape
    y, x = (int(place[len(place) // 2]) for place in seen.nonzero().T.sort().values)
    content = noted(stored.numpy(), how)
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": width, "height": height}],
        "categories": [{"id": 1, "name": "t", "keypoints": ["dot"]}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "area": 9.0, "bbox": [x - 1, y - 1, 3, 3],
                         "keypoints": [x, y, 2]}],
    }  # fmt: skip
    coco: Members = {}
    for split in ("train", "val"):
        coco |= {f"images/{split}/a.png": content, f"annotations/x_{split}.json": json.dumps(document).encode()}
    image, target = read(tmp_path / "joints", coco, "keypoints", size=(30, 30)).train[0]
    column, row = target["joints"][0, :2].round().int().tolist()
    assert image[0, row, column] > 0.9 and image.mean() < 0.9
    image, target = read(tmp_path / "boxes", coco, "detection", size=(height, width)).train[0]
    x1, y1, x2, y2 = target["boxes"][0].int().tolist()
    assert (x2 - x1, y2 - y1) == (3, 3) and image[:, y1:y2, x1:x2].min() == 1 and (image == 1).sum() == 27
    pairs = {f"images/{s}/a.png": content for s in ("train", "val")}
    pairs |= {f"masks/{s}/a.png": png(seen.numpy() > 0) for s in ("train", "val")}
    image, mask = read(tmp_path / "masks", pairs, "segmentation", size=(height, width)).train[0]
    assert torch.equal(image[0] == 1, mask == 1) and (mask == 1).sum() == 9


# Layouts ------------------------------------------------------------------------------------------------------------


def test_two_ways_to_read_are_both_named(tmp_path: Path) -> None:
    row = {one["reader"]: one for one in LAYOUTS}
    both = made(row["YOLO text"]) | {"train/images/_annotations.coco.json": document_for(
        [f"train/images/{name}.jpg" for name in NAMES])}  # fmt: skip
    with pytest.raises(DataError, match=r'2 ways: as "COCO boxes" .* or as "YOLO text"') as problem:
        read(tmp_path / "a", both, "detection")
    assert problem.value.help == '--reader "COCO boxes" or --reader "YOLO text"'
    assert len(open_data(str(tmp_path / "a/set"), "detection", reader="YOLO text").train) == 5
    twice = made(row["image folders"]) | made(row["IDX files"])
    with pytest.raises(DataError, match=r'as "IDX files" .* or as "image folders"'):
        read(tmp_path / "b", twice, "classification")
    with pytest.raises(DataError, match="is for detection, but the task is classification"):
        open_data(str(tmp_path / "b/set"), "classification", reader="YOLO text")
    with pytest.raises(DataError, match='cannot be read as "IDX files"'):
        open_data(str(tmp_path / "a/set"), "classification", reader="IDX files")


def test_masks_in_the_folders_of_ade20k_are_those_of_whoever_made_them(tmp_path: Path) -> None:
    members: Members = {}
    for split in ("training", "validation"):
        members |= {f"images/{split}/0.png": png(PICTURE), f"annotations/{split}/0.png": png(LABELS)}
    named = read(tmp_path / "a", members | {"classes.txt": b"background\ntissue\nviable\n"}, "segmentation")
    assert named.classes == ("background", "tissue", "viable")
    assert torch.equal(named.train[0][1], torch.from_numpy(LABELS))
    assert read(tmp_path / "b", members, "segmentation").classes == ("class 0", "class 1", "class 2")
    assert len(open_data(str(tmp_path / "b/set"), "segmentation", reader="ADE20K").classes) == 150
    many = {name: content if "images" in name else png(LABELS * 75) for name, content in members.items()}
    with pytest.raises(DataError, match=r'as "ADE20K" .* or as "folders of images and masks"'):
        read(tmp_path / "c", many, "segmentation")


def test_folders_are_classes_whatever_they_are_called(tmp_path: Path) -> None:
    """Face masks, kinds of vehicles: a name that means something elsewhere is a class where its content says so."""
    for i, classes in enumerate((("masks", "no_masks"), ("car", "train"), ("labels", "stickers"))):
        split = {f"{split}/{label}/{n}.png": flat(n) for split in ("train", "val") for label in classes for n in (1, 2)}
        assert read(tmp_path / f"split {i}", split, "classification").classes == classes
        whole = {f"{label}/{n}.png": flat(n) for label in classes for n in (1, 2)}
        assert read(tmp_path / f"whole {i}", whole, "classification").classes == classes
    pairs = {f"{folder}/{n}.png": png(LABELS) for folder in ("images", "masks") for n in "01"}
    with pytest.raises(DataError, match="is data for segmentation"):
        read(tmp_path / "pairs", pairs, "classification")


@pytest.mark.parametrize("train", ["train", "Train", "TRAINING", "train_set", "trainImages", "split-train"])
@pytest.mark.parametrize("val", ["val", "Valid", "VALIDATION", "dev", "eval", "test2020"])
def test_splits_in_any_spelling(tmp_path: Path, train: str, val: str) -> None:
    members = {f"{split}/{label}/0.png": flat(1) for split in (train, val) for label in "ab"}
    data = read(tmp_path, members | {f"{train}/a/1.png": flat(2)}, "classification")
    assert (len(data.train), len(data.val)) == (3, 2)


def test_two_splits_of_one_kind_are_named(tmp_path: Path) -> None:
    members = {f"{split}/{label}/0.png": flat(1) for split in ("train", "val", "valid") for label in "ab"}
    with pytest.raises(DataError, match='2 splits that may be the one for "val": val, valid'):
        read(tmp_path, members, "classification")


def test_two_annotation_files_or_images_for_one_are_named(tmp_path: Path) -> None:
    images = {f"images/train/{name}.jpg": jpeg(PICTURE) for name in NAMES}
    document = document_for(list(images))
    two = images | {"annotations/instances_train.json": document, "annotations/instances_small_train.json": document}
    with pytest.raises(DataError, match=r"2 annotation files for train: annotations/instances_small_train.json"):
        read(tmp_path / "a", two, "detection")
    assert len(open_data(str(tmp_path / "a/set/annotations/instances_train.json"), "detection").train) == 4
    thumbs = {f"{folder}/{name}.jpg": jpeg(PICTURE) for name in NAMES for folder in ("big", "small")}
    with pytest.raises(DataError, match=r"shot 0.jpg, which may be big/shot 0.jpg or small/shot 0.jpg"):
        read(tmp_path / "b", thumbs | {"all.json": document}, "detection")


# Names --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelt",
    [
        lambda name: name.replace("/", "\\"),
        lambda name: f"./{name}",
        lambda name: f"/home/me/set/{name}",
        lambda name: f"C:\\data\\{name}".replace("/", "\\"),
        lambda name: name.replace(".jpg", ".JPG"),
        lambda name: unicodedata.normalize("NFD", name),
        lambda name: PurePosixPath(name).name,
    ],
    ids=["backslashes", "dot", "elsewhere", "windows", "case", "unicode", "base"],
)
def test_names_in_annotations_in_any_spelling(tmp_path: Path, spelt: Callable[[str], str]) -> None:
    images = [f"bilder/größe/é {i}.jpg" for i in range(5)]
    document = json.loads(document_for(images))
    for one, name in zip(document["images"], images, strict=True):
        one["file_name"] = spelt(name)
    members = {name: jpeg(PICTURE) for name in images} | {"all.JSON": json.dumps(document).encode()}
    data = read(tmp_path, members, "keypoints", size=(16, 16))
    data.train.batch(list(range(len(data.train))))
    assert (len(data.train), len(data.val)) == (4, 1)


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_names_of_files_in_any_spelling(tmp_path: Path, packed: bool) -> None:
    """As zips of Windows have them, and folders of macOS beside those of Linux."""
    members: Members = {}
    forms: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
    for i, (split, form) in enumerate(zip(("train", "val"), forms, strict=True)):
        for label in ("café", "__other__"):
            path = f".\\{split}\\{label}\\deep\\{i}.PNG" if packed else f"{split}/{label}/deep/{i}.PNG"
            members[unicodedata.normalize(form, path)] = flat(i)
    data = open_data(store(tmp_path, members, packed), "classification")
    assert data.classes == ("__other__", unicodedata.normalize("NFC", "café"))
    assert (len(data.train), len(data.val)) == (2, 2)
    data.val.batch([0, 1])


def test_masks_are_found_by_their_folders_too(tmp_path: Path) -> None:
    """Two images of one name in two folders, each with a mask of its own."""
    members: Members = {}
    for i, folder in enumerate(("north", "south")):
        for split in ("train", "val"):
            members[f"images/{split}/{folder}/0.png"] = png(np.full((4, 4, 3), i))
            members[f"masks/{split}/{folder}/0.png"] = png(np.tile([i, 2], (4, 2)))
    data = read(tmp_path, members, "segmentation")
    for image, mask in (data.train[i] for i in range(2)):
        assert mask[0, 0] == round(float(image[0, 0, 0]) * 255)


# What is said -------------------------------------------------------------------------------------------------------


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    members = {f"{split}/{label}/0.png": png(PICTURE) for split in ("train", "val", "test") for label in "ab"}
    members |= {"train/a/x.heic": b"?", "train/b/notes.txt": b"?", "train/a/.y.png": flat(0)}
    (line,) = [line for line in told(read(tmp_path, members, "classification")) if line.startswith("left out")]
    for part in (
        "1 images of test/a/, in no split and of no annotation (test/a/0.png)",
        "1 files ending in .heic, which are no images here (train/a/x.heic)",
        "1 files ending in .txt",
        "hidden, such as train/a/.y.png",
    ):
        assert part in line
    pairs = {f"{kind}/{split}/{n}.png": png(LABELS if kind == "masks" else PICTURE)
             for kind in ("images", "masks") for split in ("train", "val") for n in "01"}  # fmt: skip
    del pairs["masks/train/1.png"]
    lines = told(read(tmp_path / "b", pairs, "segmentation"))
    assert "training: 1 images, from images/train/ with masks/train/" in lines
    assert any(
        "images of images/train/, in no split and of no annotation (images/train/1.png)" in line for line in lines
    )


SPACE = """\
space small {
  param classes = 2
  input 3 x 12 x 16
  network { conv(4, kernel: 3) -> classify(classes) }
  search sample { candidates: 1, train: { epochs: 1, batch: 2 } }
}
"""


def test_the_first_lines_of_training_and_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.space").write_text(SPACE, encoding="utf-8")
    members = {f"{split}/{label}/{n}.png": png(PICTURE) for split in ("train", "val") for label in "abc" for n in "01"}
    folder = store(tmp_path, members, False)
    common = ["--data", folder, "--device", "cpu"]
    for command in (
        ["train", "small.space", *common, "--epochs", "1", "--batch", "2", "--out", "small.safetensors"],
        ["eval", "small.space", *common],
    ):
        assert main(command) == 0
        lines = capsys.readouterr().err.splitlines()
        assert lines[0].startswith(f"data: {folder}, read as image folders (classification); another layout: --reader")
        assert lines[1:4] == [
            "training: 6 images, from train/", "validation: 6 images, from val/", "classes: 3: 0 a, 1 b, 2 c"
        ]  # fmt: skip
        assert lines[4].startswith("pixels: PNG 8-bit RGB; 16x12; 8-bit values from ")
