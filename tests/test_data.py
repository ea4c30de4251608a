"""Readers against files made on the spot and against real data; the loader's promises; the embedded digits."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nasdsl.compiler.plugins import PluginError
from nasdsl.runtime.data import (
    ClassificationSet,
    DataError,
    DataSplits,
    Files,
    KeypointLayout,
    KeypointSet,
    Loader,
    Reader,
    Request,
    find_readers,
    images,
    open_data,
    to_image,
)
from nasdsl.runtime.data.digits import source
from nasdsl.runtime.data.files import open_files
from nasdsl.runtime.data.layouts import COCO_17, LSP_14
from tests.datafiles import flat, png, store

REAL = Path(__file__).parents[2] / "shared/data"


def real(name: str) -> str:
    path = REAL / name
    if not path.exists():
        pytest.skip(f"{name} is not here: its licence does not let it be shipped")
    return str(path)


@pytest.fixture(params=[False, True], ids=["folder", "zip"])
def packed(request):
    return request.param


# Classification -----------------------------------------------------------------------------------------------------


def class_folders() -> dict[str, bytes]:
    members = {f"train/{label}/{i}.png": flat(10 * c + i) for c, label in enumerate(("cat", "dog")) for i in range(3)}
    return members | {"val/dog/9.png": flat(19), "readme.txt": b"hello"}


def test_image_folders(tmp_path, packed):
    data = open_data(store(tmp_path, class_folders(), packed), "classification")
    assert data.classes == ("cat", "dog") and data.size == (6, 8) and data.channels == 3
    assert (len(data.train), len(data.val)) == (6, 1)
    found = [(round(float(image[0, 0, 0]) * 255), label) for image, label in (data.train[i] for i in range(6))]
    assert found == [(0, 0), (1, 0), (2, 0), (10, 1), (11, 1), (12, 1)]
    image, label = data.val[-1]
    assert image.dtype == torch.float32 and image.shape == (3, 6, 8) and label == 1
    with pytest.raises(IndexError):
        data.val[1]


def test_a_wrapping_folder_is_looked_through_and_hidden_files_are_not_seen(tmp_path, packed):
    members = {f"my set/v2/{name}": content for name, content in class_folders().items() if name != "readme.txt"}
    members["__MACOSX/my set/v2/train/cat/._0.png"] = b"junk"
    assert open_data(store(tmp_path, members, packed), "classification").classes == ("cat", "dog")


def test_folders_without_splits_hold_out_a_fixed_part(tmp_path, packed):
    members = {f"{label}/{i}.png": flat(i) for label in "ab" for i in range(10)}
    spec = store(tmp_path, members, packed)
    data, again = open_data(spec, "classification"), open_data(spec, "classification")
    assert (len(data.train), len(data.val)) == (16, 4) and "20 %" in data.description
    assert torch.equal(data.val.batch([0, 1, 2, 3])[0], again.val.batch([0, 1, 2, 3])[0])


def test_images_are_cut_to_the_aspect_and_grey_is_possible(tmp_path, packed):
    wide = np.zeros((4, 12))
    wide[:, 4:8] = 200
    data = open_data(
        store(tmp_path, {"train/a/0.png": png(wide), "val/a/0.png": png(wide)}, packed),
        "classification", size=(4, 4), channels=1,
    )  # fmt: skip
    image, _ = data.train[0]
    assert image.shape == (1, 4, 4) and torch.all(image * 255 > 199)


def idx(values: np.ndarray) -> bytes:
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return gzip.compress(header + values.astype(np.uint8).tobytes())


def idx_members(prefix: str, count: int) -> dict[str, bytes]:
    images = np.arange(count)[:, None, None] * np.ones((1, 5, 4))
    return {
        f"{prefix}-images-idx3-ubyte.gz": idx(images),
        f"{prefix}-labels-idx1-ubyte.gz": idx(np.arange(count) % 3),
    }


def test_idx_pairs(tmp_path, packed):
    data = open_data(
        store(tmp_path, idx_members("train", 6) | idx_members("t10k", 4), packed), "classification", channels=1
    )
    assert (len(data.train), len(data.val), data.size, data.classes) == (6, 4, (5, 4), ("0", "1", "2"))
    image, label = data.train[5]
    assert image.shape == (1, 5, 4) and round(float(image[0, 2, 2]) * 255) == 5 and label == 2


@pytest.mark.parametrize("which", ["images-idx3", "labels-idx1"])
def test_one_idx_file_finds_its_partner_and_splits_by_label(tmp_path, which):
    folder = store(tmp_path, idx_members("t10k", 30) | {"notes.txt": b""}, False)
    data = open_data(f"{folder}/t10k-{which}-ubyte.gz", "classification")
    assert (len(data.train), len(data.val)) == (24, 6) and "20 %" in data.description
    assert isinstance(data.val, ClassificationSet)
    assert [data.val.labels.tolist().count(label) for label in range(3)] == [2, 2, 2]
    for image, label in (data.val[i] for i in range(6)):
        assert round(float(image.max()) * 255) % 3 == label


# Segmentation -------------------------------------------------------------------------------------------------------


def mask(*rows: str) -> np.ndarray:
    return np.array([[int(x, 16) for x in row] for row in rows], dtype=np.uint8)


MASK = mask("0123", "0113", "3333")


def pair_lists(names: str = "sky\nroad\nvoid\ncar\n") -> dict[str, bytes]:
    image = png(np.arange(36).reshape(3, 4, 3))
    return {
        "train.txt": b"train/a.png trainannot/a.png\n\n",
        "val.txt": b"/val/b.png /valannot/b.png\n",
        "train/a.png": image, "val/b.png": image, "trainannot/a.png": png(MASK), "valannot/b.png": png(MASK),
        "classes.txt": names.encode(),
    }  # fmt: skip


def test_pair_lists_ignore_what_is_called_void(tmp_path, packed):
    data = open_data(store(tmp_path, pair_lists(), packed), "segmentation")
    assert data.classes == ("sky", "road", "car") and data.ignore_index == 255
    image, target = data.train[0]
    assert image.shape == (3, 3, 4) and target.dtype == torch.int64
    expected = np.array([0, 1, 255, 2])[MASK]
    assert np.array_equal(target.numpy(), expected)
    assert np.array_equal((image * 255).round().numpy(), np.arange(36).reshape(3, 4, 3).transpose(2, 0, 1))


def test_masks_fit_inside_and_are_padded_with_ignore(tmp_path, packed):
    data = open_data(store(tmp_path, pair_lists(), packed), "segmentation", size=(8, 8))
    image, target = data.val[0]
    assert torch.all(target[6:] == 255) and torch.all(image[:, 6:] == 0)
    assert np.array_equal(target[:6].numpy(), np.array([0, 1, 255, 2])[MASK].repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("folders", ["images/{0}|masks/{0}", "{0}|{0}annot", "{0}/images|{0}/labels"])
def test_folders_of_masks_count_their_classes(tmp_path, packed, folders):
    members: dict[str, bytes] = {}
    for split in ("train", "val"):
        images, masks = folders.format(split).split("|")
        palette = png(MASK, "P") if split == "train" else png(np.where(MASK == 2, 255, MASK))
        members |= {f"{images}/x.jpg": flat(9, 3, 4), f"{masks}/x.png": palette}
    data = open_data(store(tmp_path, members, packed), "segmentation")
    assert data.classes == tuple(f"class {i}" for i in range(4))
    assert (data.val[0][1] == 255).sum() == 1


@pytest.mark.parametrize("kind", ["labelIds", "labelTrainIds"])
def test_cityscapes(tmp_path, packed, kind):
    raw = np.array([[7, 8, 33, 0], [11, 255, 24, 30]])
    by_train_id = np.array([[0, 1, 18, 255], [2, 255, 11, 255]])
    members: dict[str, bytes] = {}
    for split, city in (("train", "ulm"), ("val", "bonn"), ("test", "x")):
        members[f"leftImg8bit/{split}/{city}/{city}_1_leftImg8bit.png"] = flat(3, 2, 4)
        if split != "test":
            values = raw if kind == "labelIds" else by_train_id
            members[f"gtFine/{split}/{city}/{city}_1_gtFine_{kind}.png"] = png(values)
    data = open_data(store(tmp_path, members, packed), "segmentation")
    assert len(data.classes) == 19 and data.classes[11] == "person" and (len(data.train), len(data.val)) == (1, 1)
    assert np.array_equal(data.val[0][1].numpy(), by_train_id)


def test_ade20k_shifts_labels_down(tmp_path, packed):
    members: dict[str, bytes] = {}
    for split in ("training", "validation"):
        members |= {f"images/{split}/1.jpg": flat(3, 1, 3), f"annotations/{split}/1.png": png(np.array([[0, 1, 150]]))}
    members["objectInfo150.txt"] = b"Idx\tName\n" + b"".join(b"%d\tthing %d, kind\n" % (i, i) for i in range(1, 151))
    data = open_data(store(tmp_path, members, packed), "segmentation")
    assert len(data.classes) == 150 and data.train[0][1].tolist() == [[255, 0, 149]]
    assert data.classes[149] == "thing 150"


# Keypoints ----------------------------------------------------------------------------------------------------------

NAMES = ["nose", "left_hand", "right_hand"]


def coco_document(joints: Sequence[float], **changes: object) -> dict:
    return {
        "images": [{"id": 7, "file_name": "a.png", "width": 40, "height": 30}],
        "categories": [{"id": 1, "name": "person", "keypoints": NAMES, "skeleton": [[1, 2], [1, 3]]}],
        "annotations": [
            {"id": 70, "image_id": 7, "category_id": 1, "iscrowd": 0, "bbox": [10, 5, 8, 16], "area": 90.0,
             "keypoints": list(joints), "num_keypoints": 3} | changes,
            {"id": 71, "image_id": 7, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 1, 1], "area": 1,
             "keypoints": [0] * 9, "num_keypoints": 0},
        ],
    }  # fmt: skip


def coco_members(joints: Sequence[float], **changes: object) -> dict[str, bytes]:
    picture = np.zeros((30, 40, 3))
    for x, y, value in ((12, 7, 250), (16, 12, 150), (11, 19, 80)):
        picture[y - 1 : y + 2, x - 1 : x + 2] = value
    members: dict[str, bytes] = {}
    for split in ("train", "val"):
        members[f"images/{split}2017/a.png"] = png(picture)
        document = json.dumps(coco_document(joints, **changes)).encode()
        members[f"annotations/person_keypoints_{split}2017.json"] = document
    members["annotations/instances_train2017.json"] = b'{"annotations": [], "images": [], "categories": []}'
    return members


JOINTS = [12, 7, 2, 16, 12, 1, 11, 19, 2]


@pytest.mark.parametrize("size", [(40, 20), (80, 40), (64, 64)])
def test_coco_keypoints_land_on_what_they_mark(tmp_path, packed, size):
    data = open_data(store(tmp_path, coco_members(JOINTS), packed), "keypoints", size=size)
    assert len(data.train) == len(data.val) == 1 and data.layout == KeypointLayout.of(tuple(NAMES), ((0, 1), (0, 2)))
    image, target = data.val[0]
    # The pixel under each joint has the colour that was painted around it in the source.
    for (x, y, _), value in zip(target["joints"].tolist(), (250, 150, 80), strict=True):
        assert round(float(image[0, round(y), round(x)]) * 255) == value
    assert target["joints"][:, 2].tolist() == [2, 1, 2]
    # The box is enlarged by 1.25 after it has been given the aspect of the crop.
    height = max(16, 8 * size[0] / size[1]) * 1.25
    assert target["scale"].tolist() == pytest.approx([height * size[1] / size[0], height])
    assert target["centre"].tolist() == [14, 13]
    back = to_image(target["joints"][None, :, :2], {key: value[None] for key, value in target.items()})
    assert torch.allclose(back[0], torch.tensor(JOINTS).view(3, 3)[:, :2].float(), atol=1e-4)
    assert (int(target["image_id"]), int(target["ann_id"]), float(target["area"])) == (7, 70, 90.0)


def test_train_size_shows_more_around_the_instance(tmp_path):
    data = open_data(store(tmp_path, coco_members(JOINTS), True), "keypoints", size=(40, 20), train_size=(60, 30))
    train, val = data.train[0], data.val[0]
    assert train[0].shape == (3, 60, 30)
    assert torch.allclose(train[1]["scale"], val[1]["scale"] * 1.5)
    assert torch.allclose(train[1]["joints"][:, :2] - 5 * torch.tensor([1, 2]), val[1]["joints"][:, :2], atol=1e-4)


def test_one_coco_json_by_itself(tmp_path):
    document = coco_document(JOINTS)
    document["images"] = [{"id": i, "file_name": f"{i}.png"} for i in range(10)]
    document["annotations"] = [document["annotations"][0] | {"id": i, "image_id": i} for i in range(10)]
    members = {f"images/{i}.png": flat(i, 30, 40) for i in range(10)}
    folder = store(tmp_path, members | {"annotations/joints.json": json.dumps(document).encode()}, False)
    data = open_data(f"{folder}/annotations/joints.json", "keypoints", size=(20, 20))
    assert (len(data.train), len(data.val)) == (8, 2) and "20 %" in data.description


def test_layouts_know_left_from_right():
    coco, lsp = KeypointLayout.of(COCO_17), KeypointLayout.of(LSP_14)
    assert coco.flip == (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
    assert lsp.flip == (5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, 12, 13)
    official = [.26, .25, .25, .35, .35, .79, .79, .72, .72, .62, .62, 1.07, 1.07, .87, .87, .89, .89]  # fmt: skip
    assert np.allclose(np.array(coco.sigmas) * 10, official)
    assert KeypointLayout.unnamed(17) == coco and KeypointLayout.unnamed(14) == lsp
    assert KeypointLayout.unnamed(2).flip == (0, 1)
    assert coco.half(True) == tuple(range(11)) and coco.half(False) == tuple(range(11, 17))


# Errors -------------------------------------------------------------------------------------------------------------


def broken(**changes: bytes | None):
    def change(members: dict[str, bytes]) -> dict[str, bytes]:
        merged = members | {name.replace("__", "/"): content for name, content in changes.items()}
        return {name: content for name, content in merged.items() if content is not None}

    return change


def renamed(old: str, new: str):
    return lambda members: {name.replace(old, new): content for name, content in members.items()}


ERRORS = [
    ("classification", class_folders, broken(**{"train__cat__1.png": b"not a picture"}), "train/cat/1.png"),
    ("classification", class_folders, broken(**{"train__cat__1.png": flat(3)[:-30]}), "train/cat/1.png"),
    ("classification", class_folders, broken(**{"val__dgo__1.png": flat(3)}), 'class "dgo".*\n.*did you mean "dog"'),
    ("classification", class_folders, renamed("train", "test"), 'no split named "train"'),
    ("segmentation", class_folders, broken(), "is data for classification"),
    ("keypoints", pair_lists, broken(), "is data for segmentation"),
    ("detektion", pair_lists, broken(), "no reader is for the task"),
    ("clasification", class_folders, broken(), 'did you mean "classification"'),
    ("classification", lambda: {"notes.txt": b"x"}, broken(), "layout of .* is not known .*notes.txt"),
    ("classification", lambda: idx_members("train", 9), broken(**{"train-labels-idx1-ubyte.gz": None}), "in pairs"),
    ("classification", lambda: idx_members("train", 9), broken(**{"train-labels-idx1-ubyte.gz": idx(np.arange(4))}),
     "9 images but .* 4 labels"),
    ("classification", lambda: idx_members("train", 9),
     broken(**{"train-images-idx3-ubyte.gz": gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 9, 5, 4))}),
     "cut short"),
    ("classification", lambda: idx_members("train", 9),
     broken(**{"train-images-idx3-ubyte.gz": gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12)}), "announces"),
    ("classification", lambda: idx_members("train", 9), broken(**{"train-images-idx3-ubyte.gz": b"\x1f\x8bxx"}),
     "cannot be unpacked"),
    ("segmentation", lambda: pair_lists("sky\nroad\n"), broken(), "label 2, but there are 2 classes"),
    ("segmentation", pair_lists, broken(**{"train.txt": b"train/a.png trainannot/b.png"}), "line 1.*trainannot/b.png"),
    ("segmentation", pair_lists, broken(**{"train.txt": b"train/a.png ../../etc/passwd"}), "no file ../../etc/passwd"),
    ("segmentation", pair_lists, broken(**{"train.txt": b"train/a.png trainannot/a.png\nx"}), "line 2.* found 1 words"),
    ("segmentation", pair_lists, broken(**{"trainannot__a.png": png(np.arange(36).reshape(3, 4, 3))}),
     "are colours, the first in .*a.png"),
    ("segmentation", pair_lists, broken(**{"trainannot__a.png": png(MASK[:2])}), "4x2 but its image is 4x3"),
    ("segmentation", lambda: {"images/train/a.png": flat(1), "masks/train/b.png": flat(1)}, broken(),
     "no image with a mask of its name in images/train/ and masks/train/"),
    ("keypoints", lambda: coco_members(JOINTS), broken(**{"images__train2017__a.png": None, "images__val2017__a.png":
     None, "images__b.png": flat(0)}), "no image a.png"),
    ("keypoints", lambda: coco_members(JOINTS[:6]), broken(), "annotation 70: 3 joints need 9 numbers, found 6"),
    ("keypoints", lambda: coco_members([1, 2, 3] * 3), broken(), "visibility 0, 1 or 2"),
    ("keypoints", lambda: coco_members(JOINTS, image_id=8), broken(), "no image with id 8"),
    ("keypoints", lambda: coco_members([0] * 9), broken(), "split is empty"),
    ("keypoints", lambda: coco_members(JOINTS, bbox="wide"), broken(), "not laid out as COCO"),
    ("keypoints", lambda: coco_members(JOINTS), broken(**{"annotations__person_keypoints_train2017.json":
     b'{"keypoints" "images"'}), "is not JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "members", "change", "message"), ERRORS, ids=[e[3] for e in ERRORS])
def test_mistakes_are_told_in_the_words_of_the_user(tmp_path, packed, task, members, change, message):
    with pytest.raises(DataError, match=message):
        data = open_data(store(tmp_path, change(members()), packed), task)
        for split in (data.train, data.val):
            for i in range(len(split)):
                split[i]


def test_boxes_are_not_keypoints(tmp_path, packed):
    document = coco_document(JOINTS)
    del document["categories"][0]["keypoints"]
    for annotation in document["annotations"]:
        del annotation["keypoints"], annotation["num_keypoints"]
    members = {"images/train/a.png": flat(0), "annotations/instances_train.json": json.dumps(document).encode()}
    spec = store(tmp_path, members, packed)
    for task in ("classification", "keypoints", "segmentation"):
        with pytest.raises(DataError, match=rf"is data for detection \(COCO boxes\), but the task is {task}"):
            open_data(spec, task)


def test_paths_that_lead_nowhere(tmp_path):
    (tmp_path / "camvid.zip").write_bytes(b"PK\x03\x04 but not really")
    (tmp_path / "x.mp4").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("canvid.zip", 'no file or folder .*\n.*did you mean "camvid.zip"'),
        ("camvid.zip", "cannot be read as a zip"),
        ("x.mp4", "not a kind of file"),
        ("empty", "is empty"),
        ("nowhere/x.zip", "no folder"),
    ):
        with pytest.raises(DataError, match=message):
            open_data(str(tmp_path / name), "classification")


def test_a_damaged_zip_member_is_named(tmp_path):
    spec = Path(store(tmp_path, class_folders(), True))
    content = bytearray(spec.read_bytes())
    place = content.find(b"train/cat/1.png") + 60
    content[place] ^= 0xFF
    spec.write_bytes(bytes(content))
    data = open_data(str(spec), "classification", size=(6, 8))
    with pytest.raises(DataError, match=r"train/cat/1\.png"):
        data.train.batch([0, 1, 2])


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n%%EndComments\nshowpage\n"


def header(width: int, height: int) -> bytes:
    """A PNG of one colour, of which the header alone is large: its pixels are some zeros, packed."""
    chunk = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", chunk), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def test_images_are_decoded_by_the_formats_that_are_named(tmp_path, packed, monkeypatch):
    """PostScript would be handed to another program, whatever the file is called."""
    monkeypatch.setattr("subprocess.Popen", lambda *a, **k: pytest.fail("another program was started"))
    gif = io.BytesIO()
    Image.new("P", (8, 6)).save(gif, "gif")
    for name, content in (("eps", POSTSCRIPT), ("gif", gif.getvalue())):
        members = class_folders() | {"train/cat/1.png": content}
        (tmp_path / name).mkdir()
        data = open_data(store(tmp_path / name, members, packed), "classification", size=(6, 8))
        with pytest.raises(DataError, match=r"1\.png is not an image that can be read") as told:
            data.train.batch(list(range(len(data.train))))
        assert told.value.help.startswith("PNG, JPEG")


@pytest.mark.parametrize("form", ["png", "jpeg", "bmp", "webp", "tiff", "ppm"])
def test_every_format_that_is_named_is_read(form):
    picture = Image.fromarray(np.full((6, 8, 3), 200, np.uint8))
    stream = io.BytesIO()
    picture.save(stream, form)
    assert images.decode(stream.getvalue(), "it").size == images.image_size(stream.getvalue(), "it")[::-1] == (8, 6)


@pytest.mark.parametrize(
    ("sides", "message"), [((9000, 9999), "has 9,000 x 9,999 pixels"), ((30000, 30000), "is too large an image")]
)
def test_images_of_too_many_pixels_are_not_unpacked(sides, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for read in (images.decode, images.image_size):
            with pytest.raises(DataError, match=f"bomb.png {message}") as told:
                read(header(*sides), "bomb.png")
            assert told.value.help == "at most 89,478,485 pixels are read"


def test_what_never_ends_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("nasdsl.runtime.data.files.LARGEST_MEMBER", 1 << 20)
    spec = Path(store(tmp_path, class_folders(), False))
    for member in ("train/cat/1.png", "train/cat/0.png"):
        (spec / member).unlink()
    os.mkfifo(spec / "train/cat/1.png")
    with (spec / "train/cat/0.png").open("wb") as sparse:
        sparse.truncate(1 << 40)
    files = open_files(spec)
    for name, message in (
        ("1", "it is a pipe or a device"),
        ("0", "it has 1,099,511,627,776 bytes, and at most 1,048"),
    ):
        with pytest.raises(DataError, match=rf"{name}\.png cannot be read: {message}"):
            files.read(f"train/cat/{name}.png")
    os.mkfifo(tmp_path / "pipe.zip")
    for path in (tmp_path / "pipe.zip", "/dev/zero"):
        with pytest.raises(DataError, match="is a pipe or a device"):
            open_data(str(path), "classification")
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/a/0.png", bytes(1 << 21))
        archive.writestr("train/b/0.png", flat(1))
    assert bomb.stat().st_size < 10_000
    with pytest.raises(DataError, match="has 2,097,152 bytes, and at most 1,048,576 are read"):
        open_files(bomb).read("train/a/0.png")


def test_zips_that_are_damaged_where_few_look(tmp_path):
    members = class_folders() | {"train/cat/é.png": flat(3)}
    for how in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED):
        file = tmp_path / f"{how}.zip"
        with zipfile.ZipFile(file, "w", how) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        whole = file.read_bytes()
        place = whole.find(b"train/cat/1.png") + len("train/cat/1.png") + 4
        packed = bytes(byte ^ 0xFF for byte in whole[place : place + 20])
        name = whole.find("é".encode())
        for damaged, member in (
            (whole[:place] + packed + whole[place + 20 :], "train/cat/1.png"),
            (whole[:name] + b"\xff\xfe" + whole[name + 2 :], "train/cat/é.png"),
        ):
            file.write_bytes(damaged)
            with pytest.raises(DataError, match=f"{member} cannot be read"):
                open_files(file).read(member)


@pytest.mark.parametrize(
    "wrong", [{"size": (0, 4)}, {"channels": 4}, {"canvas": (8, 8)}, {"scenes": (0, 1)}, {"centre_crop": 2}]
)
def test_impossible_wishes(wrong):
    with pytest.raises(DataError):
        open_data(None, "segmentation", **wrong)


MADE = [
    ("classification", class_folders),
    ("classification", lambda: idx_members("train", 6)),
    ("segmentation", pair_lists),
    ("keypoints", lambda: coco_members(JOINTS)),
]


@pytest.mark.parametrize(("task", "members"), MADE, ids=["folders", "idx", "lists", "coco"])
def test_any_damage_gives_samples_or_a_data_error(tmp_path, task, members):
    rng = np.random.default_rng(0)
    outcomes = set()
    for trial in range(60):
        damaged = dict(members())
        name = sorted(damaged)[rng.integers(len(damaged))]
        content = bytearray(damaged[name] or b" ")
        for _ in range(rng.integers(1, 4)):
            content[rng.integers(len(content))] = rng.integers(256)
        damaged[name] = bytes(content[: rng.integers(1, len(content) + 1)] if trial % 3 == 0 else content)
        (tmp_path / str(trial)).mkdir()
        try:
            data = open_data(store(tmp_path / str(trial), damaged, trial % 2 == 0), task, size=(8, 8))
            for split in (data.train, data.val):
                split.batch(list(range(len(split))))
            outcomes.add("samples")
        except DataError:
            outcomes.add("error")
    assert outcomes == {"samples", "error"}


def _digits_instead(files: Files, request: Request) -> DataSplits:
    return open_data(None, request.task, size=(9, 9))


def test_readers_from_entry_points(monkeypatch, tmp_path):
    class Point:
        name, value = "mine", "package:READER"

        dist = None

        def load(self):
            return Reader("mine", "classification", "x", lambda files: "mine.bin" in files, _digits_instead)

    points: list[Any] = [Point()]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)
    assert list(find_readers())[-1] == "mine"
    assert open_data(store(tmp_path, {"mine.bin": b""}, True), "classification").size == (9, 9)
    points[0].name = "COCO keypoints"
    with pytest.raises(PluginError, match="that name is taken"):
        find_readers()
    points[0].name, points[0].load = "other", lambda: 3
    with pytest.raises(PluginError, match="is not a reader"):
        find_readers()


# Embedded data ------------------------------------------------------------------------------------------------------


def test_digits_are_split_once_and_for_all():
    train, val = source("train"), source("val")
    assert len(train[0]) + len(val[0]) == 1797 and abs(len(val[0]) - 359) < 3
    assert set(val[1].tolist()) == set(range(10))
    data = open_data(None, "classification", channels=1)
    image, label = data.train[3]
    assert image.shape == (1, 32, 32) and label == int(train[1][3])
    coarse = torch.nn.functional.avg_pool2d(image[None], 4)[0, 0].numpy()
    assert np.corrcoef(coarse.ravel(), train[0][3].ravel())[0, 1] > 0.95


def test_scenes_are_deterministic_and_splits_differ():
    wish: dict[str, Any] = {"scenes": (6, 3), "canvas": (48, 64), "size": (48, 64)}
    data = open_data(None, "segmentation", seed=5, **wish)
    from nasdsl.runtime.data import digits

    digits._scenes.cache_clear()
    again, other = open_data(None, "segmentation", seed=5, **wish), open_data(None, "segmentation", seed=6, **wish)
    images, masks = data.train.batch(list(range(6)))
    assert images.shape == (6, 3, 48, 64) and masks.shape == (6, 48, 64)
    assert torch.equal(images, again.train.batch(list(range(6)))[0])
    assert not torch.equal(images, other.train.batch(list(range(6)))[0])
    assert not torch.equal(images[:3], data.val.batch([0, 1, 2])[0])
    for one in masks:
        labels = set(one.unique().tolist())
        assert 0 in labels and len(labels) >= 2 and max(labels) <= 10
    # More scenes begin with the same ones: a scene follows from its own index.
    longer = open_data(None, "segmentation", seed=5, **(wish | {"scenes": (9, 3)}))
    assert torch.equal(images, longer.train.batch(list(range(6)))[0])


def test_scene_joints_lie_on_the_digits_of_the_mask():
    scenes: dict[str, Any] = {"scenes": (12, 4), "canvas": (64, 64)}
    masks = open_data(None, "segmentation", **scenes).train
    data = open_data(None, "keypoints", **scenes)
    assert data.layout is not None and data.layout.flip == (0, 1, 3, 2, 4)
    assert len(data.train) >= 12
    for i in range(len(data.train)):
        target = {key: value[None] for key, value in data.train[i][1].items()}
        points = to_image(target["joints"][..., :2], target)[0]
        owner = masks[int(target["image_id"]) - 1][1]
        top, bottom, left, right = (points[k] for k in range(4))
        assert top[1] <= points[:, 1].min() + 1e-3 and bottom[1] >= points[:, 1].max() - 1e-3
        assert left[0] <= points[:, 0].min() + 1e-3 and right[0] >= points[:, 0].max() - 1e-3
        for x, y in points[:4].round().long().tolist():
            assert owner[y, x] > 0
    assert isinstance(data.train, KeypointSet)
    assert set(data.train.batch(list(range(len(data.train))))[1]["joints"][..., 2].unique().tolist()) <= {1.0, 2.0}


# Loader -------------------------------------------------------------------------------------------------------------


class Numbers(torch.utils.data.Dataset):
    """A user's own map-style data set, without `batch`."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((1, 2, 2), float(index)), index


def noisy(images, targets, generator):
    return images + torch.rand(images.shape, generator=generator), targets


def epoch(loader: Loader, number: int, start: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(loader.epoch(number, start))


def same(one, other) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_loader_resumes_where_it_stopped(workers):
    loader = Loader(Numbers(23), 4, seed=3, shuffle=True, augment=noisy)
    whole = epoch(loader, 2)
    assert len(whole) == len(loader) == 6
    torch.manual_seed(0)
    state = torch.get_rng_state()
    fresh = Loader(Numbers(23), 4, seed=3, shuffle=True, augment=noisy, workers=workers)
    for start in range(7):
        assert same(epoch(fresh, 2, start), whole[start:])
    assert torch.equal(torch.get_rng_state(), state)
    assert not same(epoch(fresh, 3), whole)
    assert not same(epoch(Loader(Numbers(23), 4, seed=4, shuffle=True, augment=noisy), 2), whole)


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("count", [30, 31, 40])
def test_ranks_together_see_what_one_sees(world, drop_last, count):
    wish = {"seed": 1, "shuffle": True, "drop_last": drop_last}
    ranks = [Loader(Numbers(count), 3, rank=rank, world=world, **wish) for rank in range(world)]
    one = epoch(Loader(Numbers(count), 3 * world, **wish), 0)
    parts = [epoch(rank, 0) for rank in ranks]
    assert [len(part) for part in parts] == [len(rank) for rank in ranks]
    for step, (_, targets) in enumerate(one):
        together = [part[step][1] for part in parts if step < len(part)]
        assert sorted(torch.cat(together).tolist()) == sorted(targets.tolist())
    everything = sorted(x for part in parts for _, targets in part for x in targets.tolist())
    if drop_last:
        assert len({len(part) for part in parts}) == 1 and len(set(everything)) == len(everything)
    else:
        assert everything == list(range(count))


def test_a_loader_turns_bytes_into_floats_and_normalises():
    data = open_data(None, "classification")
    images, labels = next(Loader(data.val, 5, normalise=lambda x: x - 1).epoch())
    assert images.dtype == torch.float32 and images.min() >= -1 and images.max() <= 0
    assert torch.allclose(images[2] + 1, data.val[2][0], atol=1e-6) and labels[2] == data.val[2][1]


def test_a_loader_refuses_what_cannot_be(tmp_path):
    impossible: list[dict[str, Any]] = [{"batch_size": 0}, {"batch_size": 1, "rank": 1}]
    for wrong in [*impossible, {"batch_size": 9, "drop_last": True}]:
        with pytest.raises(DataError):
            Loader(Numbers(8), **wrong)
    spec = store(tmp_path, class_folders() | {"train/cat/1.png": b"junk"}, True)
    loader = Loader(open_data(spec, "classification", size=(6, 8)).train, 1, workers=2)
    with pytest.raises(DataError, match=r"train/cat/1\.png"):
        list(loader.epoch())


@pytest.mark.parametrize("limit", [0, 1 << 20])
def test_samples_are_the_same_cached_or_not(tmp_path, packed, limit):
    data = open_data(store(tmp_path, class_folders(), packed), "classification", cache_bytes=limit)
    assert isinstance(data.train, ClassificationSet) and data.train.cached is bool(limit)
    first = data.train.batch([4, 0, 4])[0]
    assert torch.equal(first, data.train.batch([4, 0, 4])[0])
    assert first[:, 0, 0, 0].tolist() == [11, 0, 11]


# Real data ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "task", "train", "val", "classes"),
    [
        ("cifar10_subset.zip", "classification", 10000, 2000, 10),
        ("mnist_t10k-images-idx3-ubyte.gz", "classification", 8000, 2000, 10),
        ("camvid_240x180.zip", "segmentation", 120, 40, 11),
        ("lspet_crops_128.zip", "keypoints", 1000, 200, 1),
        ("coco_mini_320.zip", "keypoints", 66, 39, 1),
    ],
)
def test_real_data(name, task, train, val, classes):
    data = open_data(real(name), task)
    assert (len(data.train), len(data.val), len(data.classes)) == (train, val, classes)
    images, targets = next(Loader(data.train, 4, shuffle=True).epoch())
    assert images.shape == (4, 3, *data.size) and images.std() > 0.05
    if task == "segmentation":
        assert set(targets.unique().tolist()) <= {*range(11), 255}
    if task == "keypoints":
        seen = targets["joints"][targets["joints"][..., 2] > 0]
        width = data.size[1]
        assert ((seen[:, 0] > -0.2 * width) & (seen[:, 0] < 1.2 * width)).float().mean() > 0.95


def test_real_detection_data_is_refused_for_other_tasks():
    for task in ("classification", "segmentation", "keypoints"):
        with pytest.raises(DataError, match="data for detection"):
            open_data(real("bccd_coco_320x240.zip"), task)
    with pytest.raises(DataError, match="not known"):
        open_data(real("kitti_mini.zip"), "segmentation")
