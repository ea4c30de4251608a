"""Trained networks on images: prepared as for evaluation, answers in their own pixels, files, drawings, mistakes."""

from __future__ import annotations

import csv
import itertools
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nasdsl.cli import main
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.parse import read
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.supernet import Supernet
from nasdsl.drawing.predictions import colour_of, draw, palette
from nasdsl.predictions import placed
from nasdsl.runtime.checkpoint import AboutWeights
from nasdsl.runtime.data import DataError, DataSplits, KeypointLayout, Size, open_data
from nasdsl.runtime.found import FoundBoxes, FoundClasses, FoundJoints, FoundMask, Names
from nasdsl.runtime.predict import (
    PREDICTORS,
    Photo,
    Predictor,
    labels_at,
    photos_in,
    predictor_for,
)
from nasdsl.runtime.problem import Result
from nasdsl.runtime.results import save_result
from nasdsl.runtime.tasks import Normalise, find_task
from nasdsl.runtime.tasks.average_precision import to_coco
from nasdsl.runtime.tasks.heatmaps import encode
from nasdsl.runtime.trained import trained_space

SIZE: Size = (40, 48)
BODIES = {
    "classification": "param classes = 7\n network { conv(6) -> global_pool() -> classify(classes: classes) }",
    "segmentation": "param classes = 7\n network { conv(6, stride: 2) -> segment(classes: classes) }",
    "keypoints": "network { conv(6, stride: 2) -> keypoints(joints: 3) }",
    "detection": """param classes = 7
      detector {
        backbone: { conv(8, kernel: 3, stride: 8) -> branches() }
        neck: none
        proposals: none
        head: retina(classes, depth: 0, scales: [2, 3], prior: 1/2, least: 0, most: 20)
      }""",
}
TASKS = tuple(BODIES)


# --- Data and networks ------------------------------------------------------------------------------------------------

SIZES = [(40, 48), (80, 96), (33, 90), (120, 31), (20, 24)]
"""Height and width of the images: that of the network, twice it, wide, high, small."""


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    found = []
    for i, (height, width) in enumerate(SIZES):
        rough = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        image = Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)
        found.append(image.convert("L") if i == 2 else image)
    return found


def write_images(folder: Path) -> list[Path]:
    folder.mkdir(parents=True)
    files = [folder / f"{i}.png" for i in range(len(SIZES))]
    for file, image in zip(files, pictures(), strict=True):
        image.save(file)
    return files


def data_of(task: str, folder: Path) -> DataSplits:
    """A data set of the task in its usual layout; its validation split are the images of `write_images`."""
    names = ["ant", "bee", "cat"]
    if task == "classification":
        for split, label in itertools.product(("train", "val"), names):
            for file in write_images(folder / split / label):
                if split == "val" and int(file.stem) % 3 != names.index(label):
                    file.unlink()
    elif task == "segmentation":
        for split in ("train", "val"):
            write_images(folder / split)
            (folder / f"{split}annot").mkdir()
            for i, size in enumerate(SIZES):
                mask = np.arange(size[0] * size[1]).reshape(size) // 50 % 3
                Image.fromarray(mask.astype(np.uint8)).save(folder / f"{split}annot" / f"{i}.png")
        (folder / "classes.txt").write_text("\n".join(names))
    else:
        for split in ("train", "val"):
            write_images(folder / "images" / split)
        (folder / "annotations").mkdir()
        for split in ("train", "val"):
            name = "person_keypoints" if task == "keypoints" else "instances"
            (folder / "annotations" / f"{name}_{split}.json").write_text(json.dumps(annotated(task, names)))
    return open_data(str(folder), task, size=SIZE)


def annotated(task: str, names: list[str]) -> dict[str, Any]:
    images = [{"id": 10 + i, "file_name": f"{i}.png", "height": h, "width": w} for i, (h, w) in enumerate(SIZES)]
    categories: list[dict[str, Any]] = [{"id": 5 * i + 3, "name": name} for i, name in enumerate(names)]
    annotations: list[dict[str, Any]] = []
    for i, (h, w) in enumerate(SIZES):
        box = [0, 0, w, h] if task == "keypoints" else [w / 4, h / 5, w / 2, h / 3]
        one = {"id": i + 1, "image_id": 10 + i, "category_id": 5 * (i % 3) + 3, "bbox": box, "area": box[2] * box[3]}
        if task == "keypoints":
            one |= {"category_id": 1, "keypoints": [w / 3, h / 4, 2, w / 2, h / 2, 1, w * 0.8, h * 0.9, 2]}
        annotations.append({**one, "iscrowd": 0})
    if task == "keypoints":
        joints = {"keypoints": ["nose", "left_ear", "right_ear"], "skeleton": [[1, 2], [1, 3]]}
        categories = [{"id": 1, "name": "person", **joints}]
    return {"images": images, "categories": categories, "annotations": annotations}


def trained(task: str, folder: Path, data: DataSplits) -> Path:
    """A network's file with weights beside it, as training leaves them."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "found.space"
    file.write_text(f"space found {{\n  input 3 x {SIZE[0]} x {SIZE[1]}\n  {BODIES[task]}\n}}\n")
    given = {} if task == "keypoints" else {"classes": "3"}
    space = elaborate(read(file), None, given)
    torch.manual_seed(0)
    network = Supernet(space.graph)
    result = Result(Architecture.of(space, {}), network, {"loss": 1.0}, {})
    save_result(file.with_suffix(".safetensors"), space, result, find_task(task).from_data(data), data)
    return file


def predictor(task: str, most: int | None = None) -> Predictor:
    joints = KeypointLayout.of(("nose", "left_ear", "right_ear"), ((0, 1), (0, 2)))
    names = Names(("ant", "bee", "cat"), joints if task == "keypoints" else None)
    return PREDICTORS[task](SIZE, 3, Normalise.imagenet(), names, most=most)


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
    return image


def photo(name: str, where: str = "photos") -> Photo:
    return Photo(name, FilesNamed(where), name)  # type: ignore[arg-type]


class FilesNamed:
    """As much of `Files` as a photo's place needs."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def at(self, name: str) -> str:
        return f"{self.folder}/{name}"


# --- As in evaluation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_images_are_prepared_as_for_evaluation(task: str, tmp_path: Path) -> None:
    data = data_of(task, tmp_path / "data")
    wanted, _ = data.val.batch(list(range(len(data.val))))
    got = torch.from_numpy(np.stack([predictor(task).prepared(image) for image in pictures()]))
    order = [0, 3, 1, 4, 2] if task == "classification" else range(len(got))  # by class
    assert torch.equal(got[list(order)], wanted)


def test_boxes_are_in_pixels_of_the_original(tmp_path: Path) -> None:
    """A network that says what is true gives back what the annotation file says."""
    data = data_of("detection", tmp_path / "data")
    _, targets = data.val.batch(list(range(len(SIZES))))

    def tells(images: Any, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        assert torch.equal(given["size"], targets["size"])
        scores = (targets["labels"] >= 0).float()
        return {"boxes": targets["boxes"], "scores": scores, "labels": targets["labels"]}

    found = predictor("detection").found(tells, torch.zeros(len(SIZES), 3, *SIZE), SIZES)  # type: ignore[arg-type]
    for one, (height, width) in zip(found, SIZES, strict=True):
        assert isinstance(one, FoundBoxes)
        wanted = [[width / 4, height / 5, width * 3 / 4, height * 8 / 15]]
        np.testing.assert_allclose(one.boxes, wanted, rtol=1e-5)


def test_joints_are_in_pixels_of_the_original(tmp_path: Path) -> None:
    """As near as the cells of the maps are: decoding moves by quarters of one."""
    data = data_of("keypoints", tmp_path / "data")
    _, targets = data.val.batch(list(range(len(SIZES))))
    maps = encode(targets["joints"], targets["size"], SIZE, 1.5)[0]
    found = predictor("keypoints").found(lambda images: maps, torch.zeros(len(SIZES), 3, *SIZE), SIZES)  # type: ignore
    for i, (one, (height, width)) in enumerate(zip(found, SIZES, strict=True)):
        assert isinstance(one, FoundJoints)
        cell = float((targets["scale"][i] / targets["size"][i].flip(-1)).max())
        wanted = np.array([[width / 3, height / 4], [width / 2, height / 2], [width * 0.8, height * 0.9]])
        assert np.abs(one.points - wanted).max() <= cell / 2
        assert (one.scores > 0.8).all()


def test_masks_have_the_size_of_the_original() -> None:
    """Where sizes agree they are the greatest logits; an image's padding is in no mask."""
    logits = torch.zeros(len(SIZES), 3, *SIZE)
    logits[:, 1, :, : SIZE[1] // 2] = 1.0  # the left half
    logits[:, 2, 30:] = 2.0
    found = predictor("segmentation").found(lambda images: logits, logits, SIZES)  # type: ignore[arg-type]
    assert [one.labels.shape for one in found] == SIZES  # type: ignore[union-attr]
    first, _, wide, high, _ = [one.labels for one in found]  # type: ignore[union-attr]
    np.testing.assert_array_equal(first, logits[0].argmax(0).numpy())
    assert set(np.unique(wide)) == {0, 1}  # 33 x 90 is shown at 18 x 48: above row 30
    assert (wide[:, :44] == 1).all() and (wide[:, 47:] == 0).all()
    assert (high[:89] == 1).all() and (high[92:] == 2).all()  # 120 x 31 is shown at 40 x 10: inside the left half


@pytest.mark.parametrize("numbers", [1, 5000, 1 << 30])
def test_classes_are_compared_some_at_a_time(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nasdsl.runtime.predict.LARGEST_LOGITS", numbers)
    logits = torch.randn(1, 7, 9, 5, generator=torch.Generator().manual_seed(0))
    whole = torch.nn.functional.interpolate(logits, (40, 31), mode="bilinear")
    assert torch.equal(labels_at(logits, (40, 31)), whole[0].argmax(0))


# --- The command ------------------------------------------------------------------------------------------------------


def test_detections_in_the_file_are_those_of_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = data_of("detection", tmp_path / "data")
    file = trained("detection", tmp_path / "job", data)
    out = tmp_path / "out"
    photos = str(tmp_path / "data" / "images" / "val")
    assert main(["predict", str(file), photos, "-o", str(out), "--score", "0", "--batch", "2", "--format", "json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    document = json.loads((out / "predictions.json").read_text())
    space, network, _ = trained_space(elaborate(read(file)))
    assert space.params["classes"] == 3  # of the weights; the file says 7
    images, targets = data.val.batch(list(range(len(SIZES))))
    with torch.inference_mode():
        detections = network(Normalise.imagenet()(images / 255), {"size": targets["size"]})
    wanted = to_coco(detections, targets, [1, 2, 3, 4, 5], data.details["category_ids"])
    assert len(wanted) > len(SIZES)
    got = document["annotations"]
    assert facts["detections"] == len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        assert (a["image_id"], a["category_id"]) == (b["image_id"], b["category_id"])
        assert a["bbox"] == pytest.approx(b["bbox"], abs=2e-3)
        assert a["score"] == pytest.approx(b["score"], abs=1e-5)
    assert document["categories"] == [{"id": 3, "name": "ant"}, {"id": 8, "name": "bee"}, {"id": 13, "name": "cat"}]
    assert [one["file_name"] for one in document["images"]] == [f"{i}.png" for i in range(5)]
    assert [(one["height"], one["width"]) for one in document["images"]] == SIZES
    assert sorted(path.name for path in (out / "images").iterdir()) == [f"{i}.png" for i in range(5)]
    capsys.readouterr()
    assert main(["predict", str(file), photos, "-o", str(out), "--score", "0", "--most", "2", "--overwrite"]) == 0
    fewer = json.loads((out / "predictions.json").read_text())["annotations"]
    assert [one["score"] for one in fewer if one["image_id"] == 1] == [one["score"] for one in got[:2]]


def test_classes_in_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = data_of("classification", tmp_path / "data")
    file = trained("classification", tmp_path / "job", data)
    folder = tmp_path / "photos"
    write_images(folder / "trip")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in folder.rglob("*.png"):
            archive.write(path, path.relative_to(folder))
    assert main(["predict", str(file), str(folder), "-o", str(tmp_path / "a")]) == 0
    assert main(["predict", str(file), str(tmp_path / "photos.zip"), "-o", str(tmp_path / "b"), "--batch", "3"]) == 0
    tables = [(tmp_path / name / "predictions.csv").read_text() for name in "ab"]
    assert tables[0] == tables[1]
    rows = list(csv.DictReader(tables[0].splitlines()))
    assert [row["image"] for row in rows] == [f"trip/{i}.png" for i in range(5)]
    _, network, _ = trained_space(elaborate(read(file)))
    prepared = torch.from_numpy(np.stack([predictor("classification").prepared(image) for image in pictures()]))
    with torch.inference_mode():
        chances = network(Normalise.imagenet()(prepared / 255)).softmax(1)
    for row, chance in zip(rows, chances.tolist(), strict=True):
        ranked = sorted(zip(chance, ("ant", "bee", "cat"), strict=True), reverse=True)
        assert [row["class"], row["class_2"], row["class_3"]] == [name for _, name in ranked]
        numbers = [float(row[key]) for key in ("probability", "probability_2", "probability_3")]
        assert numbers == pytest.approx([value for value, _ in ranked], abs=2e-6)
    assert (tmp_path / "a" / "images" / "trip" / "0.png").exists()


def test_masks_with_names_and_colours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The masks are such as a data set has: values are classes."""
    data = data_of("segmentation", tmp_path / "data")
    file = trained("segmentation", tmp_path / "job", data)
    photos = write_images(tmp_path / "photos")
    out = tmp_path / "out"
    assert main(["predict", str(file), *map(str, photos), "-o", str(out)]) == 0
    assert (out / "classes.txt").read_text().split() == ["ant", "bee", "cat"]
    _, network, _ = trained_space(elaborate(read(file)))
    prepared = torch.from_numpy(predictor("segmentation").prepared(pictures()[0]))[None]
    with torch.inference_mode():
        logits = torch.nn.functional.interpolate(network(Normalise.imagenet()(prepared / 255)), SIZE, mode="bilinear")
    masks = [opened(out / "masks" / f"{i}.png") for i in range(5)]
    assert [mask.size for mask in masks] == [size[::-1] for size in SIZES]
    np.testing.assert_array_equal(np.asarray(masks[0]), logits[0].argmax(0).numpy())
    assert masks[0].getpalette()[:9] == [*colour_of(0), *colour_of(1), *colour_of(2)]  # type: ignore[index]


def test_joints_in_a_coco_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = data_of("keypoints", tmp_path / "data")
    file = trained("keypoints", tmp_path / "job", data)
    write_images(tmp_path / "photos")
    out = tmp_path / "out"
    assert main(["predict", str(file), str(tmp_path / "photos"), "-o", str(out), "--score", "0.05"]) == 0
    document = json.loads((out / "predictions.json").read_text())
    joints = {"keypoints": ["nose", "left_ear", "right_ear"], "skeleton": [[1, 2], [1, 3]]}
    assert document["categories"] == [{"id": 1, "name": "person", **joints}]
    assert len(document["annotations"]) == len(SIZES)
    for one, (height, width) in zip(document["annotations"], SIZES, strict=True):
        assert one["bbox"] == [0, 0, width, height]
        seen = [2 if score >= 0.05 else 1 for score in one["keypoint_scores"]]
        assert one["keypoints"][2::3] == seen and one["num_keypoints"] == seen.count(2)


def test_a_turned_photo_is_taken_upright(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = trained("segmentation", tmp_path / "job", data_of("segmentation", tmp_path / "data"))
    image = pictures()[1]
    turned = image.rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right
    turned.save(tmp_path / "turned.png", exif=exif)
    image.save(tmp_path / "upright.png")
    out = tmp_path / "out"
    photos = [str(tmp_path / "turned.png"), str(tmp_path / "upright.png")]
    assert main(["predict", str(file), *photos, "-o", str(out)]) == 0
    turned_mask, mask = (np.asarray(opened(out / "masks" / name)) for name in ("turned.png", "upright.png"))
    np.testing.assert_array_equal(turned_mask, mask)


@pytest.mark.parametrize(
    ("task", "line"),
    [("detection", 'CLASSES = ("ant", "bee", "cat")'), ("keypoints", 'JOINTS = ("nose", "left_ear", "right_ear")')],
)
def test_exported_files_know_names(
    task: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they compute is compared in a process of its own; that of the detector in training, too."""
    if task == "keypoints":  # one process is enough
        monkeypatch.setattr("nasdsl.runtime.export.verify_python", lambda path, network, inputs: 0)
    file = trained(task, tmp_path / "job", data_of(task, tmp_path / "data"))
    assert main(["export", str(file), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["largest difference"] == 0
    text = file.with_suffix(".py").read_text()
    assert line in text.splitlines() and "MEAN = (0.485, 0.456, 0.406)" in text


@pytest.mark.parametrize("task", TASKS)
def test_weights_know_names(task: str, tmp_path: Path) -> None:
    """And weights that do not know them, such as those of earlier versions, give numbers."""
    data = data_of(task, tmp_path / "data")
    file = trained(task, tmp_path / "job", data)
    _, _, about = trained_space(elaborate(read(file)))
    assert about.task == task and about.joints == data.layout
    assert about.classes == (("person",) if task == "keypoints" else ("ant", "bee", "cat"))
    assert about.category_ids == ((3, 8, 13) if task == "detection" else None)
    space, _, _ = trained_space(elaborate(read(file), None, {} if task == "keypoints" else {"classes": "3"}))
    plain = predictor_for(space, AboutWeights())
    assert plain.normalise == Normalise.imagenet()
    if task == "keypoints":
        assert plain.names.joints is not None and plain.names.joints.names == ("joint 1", "joint 2", "joint 3")
    else:
        assert plain.names.classes == ("class 0", "class 1", "class 2")


# --- What goes wrong --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    return trained("classification", folder / "job", data_of("classification", folder / "data"))


def test_unreadable_images_are_told_and_left_out(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    write_images(photos)
    (photos / "1.png").write_bytes(b"no image")
    (photos / "2.png").write_bytes((photos / "0.png").read_bytes()[:60])
    assert main(["predict", str(classifier), str(photos), "-o", str(tmp_path / "out"), "--format", "json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["images"] == 3
    assert [Path(name).name for name in json.loads(told.out)["unreadable"]] == ["1.png", "2.png"]
    assert told.err.count("left out: ") == 2 and "1.png is not an image that can be read" in told.err
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == ["0.png", "3.png", "4.png"]
    out = tmp_path / "nothing"
    assert main(["predict", str(classifier), str(photos / "1.png"), "-o", str(out)]) == 1
    assert "the image cannot be read" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere", "-o", "out"], 1, "no file or folder nowhere"),
        (["empty", "-o", "out"], 1, "empty has no image"),
        (["photos", "-o", "full"], 2, "the folder full is not empty"),
        (["photos", "-o", "photos", "--overwrite"], 2, "photos is the folder of the images"),
        (["photos", "-o", "full/note.txt"], 2, "is a file"),
        (["photos", "-o", "out", "--score", "0.5"], 2, "--score is for detection and keypoints"),
        (["photos", "-o", "out", "--score", "2"], 2, "a number from 0 to 1"),
        (["photos", "-o", "out", "--device", "abacus"], 1, "no device is called `abacus`"),
        (["photos", "-o", "out", "--weights", "none.safetensors"], 1, "weights none.safetensors are missing"),
        (["photos", "more", "-o", "out"], 1, "two images are called 0.png"),
    ],
)
def test_mistakes(
    words: list[str],
    code: int,
    message: str,
    classifier: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "full"):
        Path(name).mkdir()
    Path("full/note.txt").write_text("mine")
    write_images(Path("photos"))
    write_images(Path("more"))
    assert main(["predict", str(classifier), *words]) == code
    assert message in " ".join(capsys.readouterr().err.split())
    assert not Path("out").exists() and Path("full/note.txt").read_text() == "mine"


def test_a_space_or_a_network_of_another_task(tmp_path: Path, classifier: Path) -> None:
    file = tmp_path / "space.space"
    file.write_text("space s {\n  input 3 x 8 x 8\n  network { conv(oneof(2, 4)) -> classify(classes: 2) }\n}\n")
    with pytest.raises(CompileError, match="still has 1 decisions"):
        trained_space(elaborate(read(file)))
    space, _, about = trained_space(elaborate(read(classifier)))
    with pytest.raises(CompileError, match="the weights are for segmentation, and the network for classification"):
        predictor_for(space, AboutWeights(task="segmentation"))
    with pytest.raises(CompileError, match="name 2 outputs, and the network has 3"):
        predictor_for(space, about.model_copy(update={"classes": ("ant", "bee")}))


def test_most_is_not_for_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = trained("segmentation", tmp_path / "job", data_of("segmentation", tmp_path / "data"))
    photos = str(tmp_path / "data" / "val")
    assert main(["predict", str(file), photos, "-o", str(tmp_path / "out"), "--most", "3"]) == 2
    assert "--most is for detection and classification" in capsys.readouterr().err


def test_classes_in_another_order_are_not_measured(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Images of bees would count as ants; a class that nobody has heard of says nothing about the order."""
    data = tmp_path / "data"
    for split, label in itertools.product(("train", "val"), ("aardvark", "ant", "bee")):
        write_images(data / split / label)
    assert main(["eval", str(classifier), "--data", str(data)]) == 1
    assert "learnt `ant` as class 0, and in this data it is class 1" in " ".join(capsys.readouterr().err.split())
    for split in ("train", "val"):
        (data / split / "aardvark").rename(data / split / "cuckoo")
    assert main(["eval", str(classifier), "--data", str(data)]) == 0


# --- Names of files ---------------------------------------------------------------------------------------------------


def test_images_of_one_name_but_for_the_ending() -> None:
    photos = [photo(name) for name in ("a.jpg", "A.png", "b.bmp", "sub/a.jpg")]
    names = placed(photos, [".png"] * 4)
    assert list(names.values()) == ["a.jpg.png", "A.png.png", "b.png", "sub/a.png"]
    with pytest.raises(DataError, match="would both be written as"):
        placed([photo(name) for name in ("a.jpg", "a.bmp", "a.bmp.png")], [".png"] * 3)


def test_an_earlier_result_is_no_image(tmp_path: Path) -> None:
    write_images(tmp_path / "photos")
    write_images(tmp_path / "photos" / "out" / "images")
    assert len(photos_in([tmp_path / "photos"])) == 10
    found = photos_in([tmp_path / "photos"], tmp_path / "photos" / "out")
    assert [one.name for one in found] == [f"{i}.png" for i in range(5)]
    same = photos_in([tmp_path / "photos" / "0.png", tmp_path / "photos" / "0.png"])
    assert [one.name for one in same] == ["0.png"]
    with pytest.raises(DataError, match="no file or folder"):
        photos_in([tmp_path / "photo"])


# --- Drawings ---------------------------------------------------------------------------------------------------------

NAMES = Names(("background", "bee", "cat"), KeypointLayout.of(("nose", "tail", "ear"), ((0, 1),)))
GROUND = (90, 120, 150)


def blank(height: int = 60, width: int = 80) -> Image.Image:
    return Image.new("RGB", (width, height), GROUND)


def boxes(*rows: tuple[float, float, float, float]) -> FoundBoxes:
    numbers = np.arange(len(rows))
    return FoundBoxes(np.array(rows, dtype=float).reshape(-1, 4), numbers % 3, 1.0 - numbers / 10)


def test_tiny_images_are_enlarged_and_others_are_not() -> None:
    nothing = boxes()
    assert draw(blank(), nothing, names=NAMES).size == (480, 360)
    assert draw(blank(600, 800), nothing, names=NAMES).size == (800, 600)
    assert draw(blank(1, 3000), nothing, names=NAMES).size == (3000, 1)


def test_boxes_stand_where_they_were_found() -> None:
    """On an image of the size that it is drawn at, the outline's outermost pixels are those of the box."""
    picture = np.asarray(draw(blank(600, 800), boxes((100, 200, 300, 400)), names=NAMES))
    changed = (picture != GROUND).any(-1)
    changed[:200] = False  # the label
    rows, columns = np.where(changed)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (200, 399, 100, 299)
    assert (picture[201:399, 101] == colour_of(0)).all()
    assert (picture[300, 200] == GROUND).all()


@pytest.mark.parametrize("truth", [False, True])
@pytest.mark.parametrize("size", [(60, 80), (7, 5), (600, 90)])
def test_all_kinds_are_drawn_and_alike_each_time(truth: bool, size: Size) -> None:
    height, width = size
    mask = np.zeros(size, dtype=np.uint8)
    mask[: height // 2] = 2
    mask[0, 0] = 255
    joints = FoundJoints(
        np.array([[0.0, 0.0], [width / 2, height / 2], [-3.0, height + 9.0]]), np.array([0.9, 0.5, 0.1])
    )
    kinds: list[tuple[Any, Any]] = [
        (boxes((0, 0, width, height), (1, 1, 2, 2)), boxes((0, 0, width / 2, height))),
        (FoundMask(mask), FoundMask(mask[::-1].copy())),
        (joints, FoundJoints(joints.points + 2, np.array([1.0, 1.0, 0.0]))),
        (FoundClasses(np.array([1, 2]), np.array([0.75, 0.25])), FoundClasses(np.array([2]), np.ones(1))),
    ]
    for found, real in kinds:
        once, again = (draw(blank(*size), found, real if truth else None, names=NAMES, score=0.3) for _ in range(2))
        assert once.mode == "RGB" and once.tobytes() == again.tobytes()
        assert len(np.unique(np.asarray(once).reshape(-1, 3), axis=0)) > 2


def test_a_mask_colours_what_is_no_background() -> None:
    mask = np.zeros((600, 800), dtype=np.uint8)
    mask[:300] = 1
    picture = np.asarray(draw(blank(600, 800), FoundMask(mask), names=NAMES))
    assert (picture[400:600, :800] == GROUND).all()
    mixed = (np.array(GROUND) + np.array(colour_of(1))) / 2
    assert np.abs(picture[10, 10] - mixed).max() <= 1
    assert (picture[299, :800] == colour_of(1)).all()  # the border between the two
    assert palette(NAMES)[:6] == [0, 0, 0, *colour_of(1)] and len(palette(NAMES)) == 768


def test_right_and_wrong_classes_differ() -> None:
    found = FoundClasses(np.array([1, 2]), np.array([0.75, 0.25]))
    right, wrong = (draw(blank(), found, FoundClasses(np.array([k]), np.ones(1)), names=NAMES) for k in (1, 2))
    assert wrong.height > right.height  # the truth stands under it
    red, green, _ = right.getpixel((100, 365 + 10))  # type: ignore[misc]
    assert green > red
    red, green, _ = wrong.getpixel((100, 365 + 10))  # type: ignore[misc]
    assert red > green


def test_classes_have_colours_that_differ() -> None:
    colours = np.array([colour_of(label) for label in range(256)], dtype=float)
    gaps = np.abs(colours[:, None] - colours[None]).sum(-1) + 999 * np.eye(256)
    assert gaps.min() > 0
    assert gaps[:80, :80].min() >= 60
    assert gaps[:12, :12].min() >= 90


def test_grey_and_transparent_images() -> None:
    for mode in ("L", "LA", "RGBA", "P", "I;16", "1"):
        image = Image.new(mode, (50, 40))
        assert draw(image, boxes((1, 1, 20, 20)), names=NAMES).mode == "RGB"
        for task in TASKS:
            assert predictor(task).prepared(image).shape == (3, *SIZE)
