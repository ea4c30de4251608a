"""What a report shows of a network in images: what is right, which images, what the page says where there are none."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from nasdsl.cli import main
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source
from nasdsl.compiler.space import Space
from nasdsl.page.examples import MOST_BYTES, MOST_SHOWN, data_uri
from nasdsl.runtime.data import DataSplits, open_data
from nasdsl.runtime.examples import MOST_LOOKED_AT, Examples, examples, f1, mean_overlap
from nasdsl.runtime.found import FoundBoxes, FoundClasses, FoundJoints, FoundMask, Names
from nasdsl.runtime.predict import PREDICTORS, Predictor
from nasdsl.runtime.provenance import RESULT
from nasdsl.runtime.tasks import Normalise
from nasdsl.runtime.tasks.heatmaps import encode
from nasdsl.runtime.tasks.segmentation import Overlap

SIDE = 32
BODIES = {
    "classification": "network { conv(4, stride: 2) -> global_pool() -> classify(classes: 10) }",
    "segmentation": "network { conv(4, stride: 2) -> segment(classes: 11) }",
    "keypoints": "network { conv(4, stride: 2) -> keypoints(joints: 5) }",
    "detection": """detector {
        backbone: { conv(8, kernel: 3, stride: 8) -> branches() }
        neck: none
        proposals: none
        head: retina(10, depth: 0, scales: [2, 3], least: 0, most: 20)
      }""",
}


# --- How good an image is ---------------------------------------------------------------------------------------------


def boxes(places: list[int], label: int = 0, side: float = 10) -> FoundBoxes:
    """Squares of which no two touch, at places along a line."""
    rows = [[20.0 * at, 0.0, 20 * at + side, side] for at in places]
    scores = np.linspace(1, 0.5, len(rows))
    return FoundBoxes(np.array(rows).reshape(-1, 4), np.full(len(rows), label, dtype=np.int64), scores)


def joined(*parts: FoundBoxes) -> FoundBoxes:
    return FoundBoxes(
        *(np.concatenate([getattr(one, name) for one in parts]) for name in ("boxes", "labels", "scores"))
    )


few = st.integers(0, 4)


@given(few, few, few, few, few, few)
def test_f1_counts_each_kind_of_mistake(
    right: int, missed: int, double: int, other_class: int, beside: int, in_crowd: int
) -> None:
    double, other_class = min(double, right), min(other_class, missed)
    truth = boxes(list(range(right + missed)))
    found = joined(
        boxes(list(range(right)), side=9),  # of the area 81 %
        boxes(list(range(double)), side=8),
        boxes(list(range(right, right + other_class)), label=1),
        boxes(list(range(100, 100 + beside))),
        boxes(list(range(200, 200 + in_crowd))),
    )
    crowd = FoundBoxes(np.array([[3990.0, 0, 6000, 20]]), np.zeros(1, dtype=np.int64), np.ones(1))
    wrong = double + other_class + beside
    precision, recall = right / max(right + wrong, 1), right / max(right + missed, 1)
    wanted = 2 * precision * recall / (precision + recall) if right else float(not wrong and not missed)
    assert f1(found, truth, crowd) == pytest.approx(wanted)


def test_an_overlap_below_a_half_is_none() -> None:
    none = boxes([])
    assert f1(boxes([0], side=7.2), boxes([0]), none) == 1  # 0.518
    assert f1(boxes([0], side=7.0), boxes([0]), none) == 0  # 0.49


@given(st.integers(0, 2**32 - 1))
def test_the_overlap_of_masks_is_the_metric_of_one_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found, truth = (rng.integers(0, 4, (3, 5)).astype(np.uint8) for _ in range(2))
    truth[rng.random(truth.shape) < 0.2] = 255
    truth[0, 0] = 1
    metric = Overlap(4, 255, None)
    logits = torch.nn.functional.one_hot(torch.from_numpy(found).long(), 4).permute(2, 0, 1)[None].float()
    metric.update(logits, torch.from_numpy(truth).long()[None])
    assert mean_overlap(FoundMask(found), FoundMask(truth)) == pytest.approx(metric.compute()["mIoU"])


# --- Which images -----------------------------------------------------------------------------------------------------


class Teller(nn.Module):
    """Knows what is true of the images, which it is shown one after the other; of some it says something else."""

    def __init__(self, task: str, answers: list[Any], wrong: set[int]) -> None:
        super().__init__()
        self.task, self.answers, self.wrong, self.seen = task, answers, wrong, 0

    def forward(self, images: Tensor, given: dict[str, Tensor] | None = None) -> Any:
        truth, lies = self.answers[self.seen], self.seen in self.wrong
        self.seen += 1
        if self.task == "classification":
            return 5 * torch.nn.functional.one_hot((truth + lies) % 10, 10)[None].float()
        if self.task == "segmentation":
            return torch.nn.functional.one_hot((truth + lies) % 11, 11).permute(2, 0, 1)[None].float()
        if self.task == "keypoints":
            maps = encode(truth["joints"][None], truth["size"][None], (SIDE, SIDE), 1.5)[0]
            return maps.roll(SIDE // 2, dims=-1) if lies else maps
        assert given is not None and set(given) == {"size"}
        labels = truth["labels"][None] + lies
        return {"boxes": truth["boxes"][None], "scores": (labels >= 0).float(), "labels": labels}


@cache
def data_of(task: str) -> DataSplits:
    return open_data(None, task, size=(SIDE, SIDE), channels=3, canvas=(SIDE, SIDE), scenes=(8, 20))


def space_of(task: str) -> Space:
    return elaborate(Source(f"space x {{\n  input 3 x {SIDE} x {SIDE}\n  {BODIES[task]}\n}}\n", "x.space"))


def told(task: str, wrong: set[int], most: int = 6) -> tuple[Examples, list[int]]:
    """What is shown, and which images of the split were looked at."""
    data, space = data_of(task), space_of(task)
    count = min(len(data.val), MOST_LOOKED_AT)
    rows = sorted({round(i) for i in np.linspace(0, len(data.val) - 1, count)})
    network = Teller(task, [data.val[row][1] for row in rows], wrong)
    if task == "classification":
        network.answers = [torch.tensor(answer) for answer in network.answers]
    return examples(space, network, predictor_of(task), data, most), rows  # type: ignore[arg-type]


def predictor_of(task: str) -> Predictor:
    names = Names(data_of(task).classes, data_of(task).layout)
    return PREDICTORS[task]((SIDE, SIDE), 3, Normalise.imagenet(), names, score=0.3)


@pytest.mark.parametrize("task", BODIES)
def test_right_and_wrong_images_are_shown(task: str) -> None:
    found, rows = told(task, {1, 4, 7, 8})
    assert (found.seen, found.right) == (len(rows), len(rows) - 4)
    assert [one.right for one in found.shown] == [True] * 3 + [False] * 3
    assert {one.index for one in found.shown if not one.right} <= {rows[i] for i in (1, 4, 7, 8)}
    assert [one.index for one in found.shown] == [one.index for one in told(task, {1, 4, 7, 8})[0].shown]
    for one in found.shown:
        pixels = (data_of(task).val[one.index][0] * 255).round().byte()
        shown = torch.from_numpy(np.array(one.image)).permute(2, 0, 1)
        assert torch.equal(shown, pixels[:, : shown.shape[1], : shown.shape[2]])
        assert 0 <= one.value <= 1 and (one.value >= 0.5) == one.right
        if one.right:
            assert one.value > 0.9
            same_answer(one.found, one.truth)


def same_answer(found: Any, truth: Any) -> None:
    if isinstance(truth, FoundClasses):
        assert found.labels[0] == truth.labels[0]
    elif isinstance(truth, FoundMask):
        np.testing.assert_array_equal(found.labels, truth.labels)
    elif isinstance(truth, FoundBoxes):
        assert sorted(found.labels) == sorted(truth.labels)
        np.testing.assert_allclose(np.sort(found.boxes, axis=0), np.sort(truth.boxes, axis=0))
    else:
        assert isinstance(truth, FoundJoints)
        seen = truth.scores > 0
        assert np.abs(found.points - truth.points)[seen].max() <= 0.5


@pytest.mark.parametrize(("wrong", "shown"), [(set(), (6, 0)), ({0}, (5, 1)), (set(range(20)), (0, 6))])
def test_of_what_is_rare_there_are_fewer(wrong: set[int], shown: tuple[int, int]) -> None:
    found, _ = told("segmentation", wrong)
    assert (sum(one.right for one in found.shown), sum(not one.right for one in found.shown)) == shown


def test_regions_that_do_not_count_are_not_shown() -> None:
    """Neither as true boxes nor against what is found in them."""
    data, space = data_of("detection"), space_of("detection")

    class Crowded:
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
            image, targets = data.val[0]
            return image, {**targets, "crowd": targets["labels"] >= 0}

    network = Teller("detection", [data.val[0][1]], set())
    predictor = predictor_of("detection")
    found = examples(space, network, predictor, replace(data, val=Crowded()), 6)  # type: ignore[arg-type]
    (one,) = found.shown
    assert isinstance(one.truth, FoundBoxes) and isinstance(one.found, FoundBoxes)
    assert len(one.truth.labels) == 0 < len(one.found.labels) and one.value == 1


def test_padding_is_cut_off() -> None:
    data, space = data_of("segmentation"), space_of("segmentation")

    class Padded:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            image, mask = data.val[index]
            mask = mask.clone()
            if index == 0:
                mask[20:], mask[:, 28:] = 255, 255
            else:
                mask[:] = 255  # nothing to be measured by
            return image, mask

    network = Teller("segmentation", [data.val[0][1]] * 2, set())
    predictor = predictor_of("segmentation")
    found = examples(space, network, predictor, replace(data, val=Padded()), 6)  # type: ignore[arg-type]
    (one,) = found.shown
    assert isinstance(one.truth, FoundMask)
    assert one.image.size == (28, 20) and one.truth.labels.shape == (20, 28) and one.value == 1


# --- The page ---------------------------------------------------------------------------------------------------------


def image_in(uri: str) -> tuple[Image.Image, int]:
    head, _, text = uri.partition(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    content = base64.b64decode(text, validate=True)
    image = Image.open(io.BytesIO(content))
    image.load()
    return image, len(content)


def test_pictures_are_small_files() -> None:
    plain = Image.new("RGB", (480, 500), (20, 90, 160))
    image, _ = image_in(data_uri(plain))
    assert np.array_equal(np.asarray(image.convert("RGB")), np.asarray(plain))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (500, 800, 3), dtype=np.uint8))
    image, size = image_in(data_uri(noise))
    assert size <= MOST_BYTES and image.width / image.height == pytest.approx(1.6, abs=0.02)
    assert image_in(data_uri(noise, most=1))[0].size == (1, 1)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Path]:
    """The folder of a short training."""
    monkeypatch.chdir(tmp_path)
    body = BODIES["classification"]
    Path("net.space").write_text(f"space net {{\n  input 1 x 8 x 8\n  {body}\n}}\n")
    given = ["--out", "net.safetensors", "--set", "epochs=0.1", "--set", "batch=32", "--device", "cpu"]
    assert main(["train", "net.space", *given]) == 0
    capsys.readouterr()
    yield tmp_path / "runs" / "net.train"


def written(run: Path, *more: str) -> str:
    assert main(["report", str(run), "--device", "cpu", *more]) == 0
    return (run / "report.html").read_text(encoding="utf-8")


def test_a_training_has_a_page_with_images(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    text = written(run)
    assert text == written(run)
    assert "6 images" in capsys.readouterr().out
    links = re.findall(r'src="([^"]*)"', text)
    assert len(links) == MOST_SHOWN
    assert all(image_in(link)[0].width == 480 for link in links)
    assert len(text) < 400_000 and "<script" not in text
    assert "img-src data:" in text and "default-src 'none'" in text
    top1 = json.loads((run / "history.jsonl").read_text().splitlines()[-1])["top1"]
    assert f"<b>{top1:.6g}</b><span>top1</span>" in text
    assert len(re.findall(r'<b class="(?:right|wrong)">', text)) == MOST_SHOWN
    assert re.search(r"Of 48 images, taken evenly from the validation split, \d+ are right", text)


@pytest.mark.parametrize(
    ("gone", "options", "message"),
    [
        ("net.safetensors", [], "net.safetensors are missing"),
        ("net.space", ["--file", "copy.space"], "net.space"),
        (None, ["--data", "nowhere"], "nowhere"),
        (None, ["--network", "nowhere.space"], "nowhere.space"),
        (None, ["--network", "other.space", "--weights", "net.safetensors"], "holds weights of another network"),
        (None, ["--device", "abacus"], "abacus"),
    ],
)
def test_what_keeps_images_away_is_told(
    run: Path, gone: str | None, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("copy.space").write_text(Path("net.space").read_text())
    Path("other.space").write_text(Path("net.space").read_text().replace("conv(4", "conv(5"))
    if gone is not None:
        Path(gone).unlink()
    text = written(run, *options)
    assert "<img" not in text and "There are no images with what a network finds" in text and message in text
    assert "no images" in (said := capsys.readouterr()).out
    assert message in said.err


def test_runs_that_name_no_network_say_how_to_get_images(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / RESULT).unlink()
    text = written(run)
    assert "the run names no trained network" in text and "--network FILE --data PATH" in text
    assert capsys.readouterr().err == ""
    text = written(run, "--network", "net.space")
    assert "the run does not say what its network learnt from (name the data with" in text
    folder = Path("digits")
    for split in ("train", "val"):
        for label in range(10):
            (folder / split / str(label)).mkdir(parents=True)
            Image.new("L", (8, 8), 20 * label).save(folder / split / str(label) / "0.png")
    for options in (["--network", "net.space"], ["--weights", "net.safetensors"]):
        text = written(run, *options, "--data", "digits")
        assert text.count("<img") == MOST_SHOWN and "Of 10 images" in text
    (folder / "val" / "0").rename(folder / "val" / "a")
    (folder / "train" / "0").rename(folder / "train" / "a")
    text = written(run, "--network", "net.space", "--data", "digits")
    assert "<img" not in text and "the network learnt `1` as class 1, and in this data it is class 0" in text
