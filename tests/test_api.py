"""The jobs that take a while, from Python: the same as the commands, with data that is handed over."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, WeightedRandomSampler

import nasdsl
from nasdsl.cli import main
from nasdsl.compiler.diagnostics import ArgumentError, CompileError
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.checkpoint import load_weights
from nasdsl.runtime.data import DataError, Loader
from nasdsl.runtime.data.boxes import DetectionSet
from nasdsl.runtime.data.digits import read_default
from nasdsl.runtime.data.holdout import held_back
from nasdsl.runtime.data.splits import Request
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.outputs import OutputError
from nasdsl.runtime.problem import Narrowing
from nasdsl.runtime.search import Found as Written
from tests.test_search import SPACE, small_data

QUICK: dict[str, Any] = {"device": "cpu", "epochs": 1, "batch": 16, "settings": {"train": {"recalibrate": 2}}}
ARCHITECTURE = (
    "space one {\n  input 1 x 8 x 8\n  param classes = 3\n  network { conv(4, kernel: 3) -> classify(classes) }\n}\n"
)


class Bars(Dataset[tuple[Any, int]]):
    """Bars that stand, lie, or are not there, in noise, as somebody's own set."""

    def __init__(self, split: str, kind: str = "uint8") -> None:
        self.samples, self.kind = getattr(small_data(), split), kind
        self.classes = list(small_data().classes)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        images, labels = self.samples.batch([index])
        if self.kind == "pil":
            return Image.fromarray(images[0, 0].numpy()), int(labels)
        if self.kind == "array":
            return images[0, 0].numpy(), int(labels)
        image = images[0] if self.kind == "uint8" else images[0].float() / 255
        return (image - 0.449) / 0.226 if self.kind == "normalised" else image, int(labels)


def pair(kind: str = "uint8") -> tuple[Bars, Bars]:
    return Bars("train", kind), Bars("val", kind)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "small.space").write_text(SPACE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NASDSL_TRACEBACK", "1")
    return tmp_path


def same_weights(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- The commands and the functions -----------------------------------------------------------------------------------


def test_functions_and_commands_are_one(
    bars: None, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["search", "small.space", "--device", "cpu", "--epochs", "1", "--batch", "16", "--seed", "3"]
    assert main([*command, "--set", "train.recalibrate=2", "--out", "typed.space", "--format", "json"]) == 0
    typed = json.loads(capsys.readouterr().out)
    told: list[nasdsl.Progress] = []
    found = nasdsl.search("small.space", seed=3, out="found.space", on_progress=told.append, **QUICK)
    assert found.facts() == {name: value.replace("typed", "found") if isinstance(value, str) else value
                             for name, value in typed.items()}  # fmt: skip
    assert Path("found.space").read_text().replace("found", "typed") == Path("typed.space").read_text()
    assert found.weights == Path("found.safetensors") and found.run == Path("runs/found")
    assert same_weights(*(load_weights(Path(f"{name}.safetensors"))[0] for name in ("found", "typed")))
    assert {one.kind for one in told} == {"start", "step", "note", "stop"}
    steps = [one for one in told if one.kind == "step"]
    assert steps[-1].done == steps[-1].total == 2 and "loss" in steps[-1].facts and steps[-1].title == "shrink"

    assert main(["train", "typed.space", "--inherit", "typed.safetensors", "--device", "cpu", "--epochs", "1",
                 "--batch", "16", "--out", "t.safetensors", "--format", "json"]) == 0  # fmt: skip
    typed = json.loads(capsys.readouterr().out)
    trained = nasdsl.train(found, inherit=found, device="cpu", epochs=1, batch=16)
    assert {**trained.metrics, **trained.costs} == {k: v for k, v in typed.items() if k not in ("out", "run")}
    assert trained.run is None and trained.weights is None
    assert same_weights(trained.network.state_dict(), load_weights(Path("t.safetensors"))[0])
    assert trained.save("mine.safetensors") == Path("mine.safetensors")

    assert main(["eval", "typed.space", "--weights", "t.safetensors", "--device", "cpu", "--format", "json"]) == 0
    typed = json.loads(capsys.readouterr().out)
    for measured in (
        nasdsl.evaluate("typed.space", weights="t.safetensors", device="cpu"),
        nasdsl.evaluate(trained, device="cpu"),
        nasdsl.evaluate("found.space", weights=trained.network, device="cpu"),
        nasdsl.evaluate("found.space", weights="mine.safetensors", device="cpu"),
    ):
        assert measured == typed


def test_nothing_is_left_on_disk_unless_it_is_asked_for(bars: None, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    found = nasdsl.search("small.space", seed=3, **QUICK)
    assert found.run is None and found.out is None and not found.files and found.weights is None
    assert found.network is not None and not found.space.graph.decisions
    assert nasdsl.cost(found.space)["macs"] == found.costs["macs"] and set(found.metrics) >= {"top1"}
    assert sorted(folder.rglob("*")) == before
    found.save("kept.space")
    again = nasdsl.search("small.space", seed=3, out="again.space", **QUICK)
    assert Path("kept.space").read_text().replace("kept", "again") == Path("again.space").read_text()
    assert same_weights(*(load_weights(Path(f"{name}.safetensors"))[0] for name in ("kept", "again")))
    assert again.metrics == found.metrics


def test_a_run_goes_on(folder: Path) -> None:
    given: dict[str, Any] = {**QUICK, "epochs": 2, "run": "here"}

    def stop(progress: nasdsl.Progress) -> None:
        if progress.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nasdsl.search("small.space", pair(), **given, on_progress=stop)
    begun: list[nasdsl.Progress] = []
    nasdsl.search("small.space", pair(), **given, on_progress=begun.append)
    assert next(one for one in begun if one.kind == "start").done == 2
    with pytest.raises(RunError, match="another data"):
        nasdsl.search("small.space", Bars("train"), **given)


@pytest.mark.parametrize("method", ["sample", "thin", "gradient"])
def test_methods_by_name(folder: Path, method: str) -> None:
    text = SPACE.partition("  search shrink")[0] + "}\n"
    if method == "gradient":
        text = text.replace("kernel: 3, stride: 2", "kernel: oneof(3, 5), stride: 2").replace("units(", "(")
    space = nasdsl.loads(text)
    more: dict[str, Any] = {"target": "macs <= 0.5"} if method == "thin" else {}
    more |= {"candidates": 2} if method == "sample" else {}
    found = nasdsl.search(space, pair(), method=method, **QUICK, **more)
    assert 0 <= found.metrics["top1"] <= 1 and found.network is not None
    assert nasdsl.cost(space, found.architecture)["macs"] == found.costs["macs"]
    assert len(repr(found)) < 300 and "top1" in repr(found)


def test_what_a_screening_leaves_is_a_space(folder: Path) -> None:
    text = SPACE.partition("  search shrink")[0].replace("kernel: 3, stride: 2", "kernel: oneof(1, 3, 5), stride: 2")
    space = nasdsl.loads(text.replace("units(", "(") + "}\n")
    given: dict[str, Any] = {**QUICK, "epochs": 4, "keep": 1, "choices": {"after": 1}}
    settings = {"train": {"recalibrate": 0}, "screen": {"keep": 1}, "choices": {"after": 1}}
    found = nasdsl.search(space, pair(), method="screen", device="cpu", epochs=4, batch=16, settings=settings)
    assert given and found.narrowed and found.network is None and not found.metrics
    assert nasdsl.count(found.space).total < nasdsl.count(space).total
    with pytest.raises(ArgumentError, match="chooses no architecture"):
        _ = found.architecture
    assert "options stay" in repr(found)


def test_methods_that_there_are(folder: Path) -> None:
    with pytest.raises(CompileError, match="no search or method named `regularized`") as caught:
        nasdsl.search("small.space", len, method="regularized")
    assert "regularised" in caught.value.diagnostics[0].help
    with pytest.raises(ArgumentError, match="learns from data"):
        nasdsl.search("small.space", len, method="shrink")
    with pytest.raises(ArgumentError, match="a method is a name"):
        nasdsl.search("small.space", len, method=3)  # type: ignore[arg-type]
    with pytest.raises(CompileError, match="has no setting `trails`"):
        nasdsl.search("small.space", len, trails=3)
    with pytest.raises(ArgumentError, match="two arguments say what `trials` is"):
        nasdsl.search("small.space", len, trials=3, settings={"trials": 4})
    with pytest.raises(ArgumentError, match=r"names a \.space file"):
        nasdsl.search("small.space", len, out="found.txt")
    with pytest.raises(ArgumentError, match="a space is needed here"):
        nasdsl.search(3)  # type: ignore[arg-type]


def test_a_functions_search_is_kept_where_a_folder_is_named(folder: Path) -> None:
    space = nasdsl.load("small.space")

    def worth(architecture: nasdsl.Architecture) -> float:
        return float(nasdsl.cost(space, architecture)["params"] % 97)

    kept = nasdsl.search(space, worth, trials=6, minimise="macs", maximise="value", out="best.space")
    alone = nasdsl.search(space, worth, trials=6, minimise="macs", maximise="value")
    assert [one.proposal for one in kept.trials] == [one.proposal for one in alone.trials]
    assert len(kept.files) == 1 + len(kept.front) and kept.run == Path("runs/best") and alone.run is None
    assert nasdsl.load("best.space").graph.decisions == {}
    more = nasdsl.search(space, worth, trials=8, minimise="macs", maximise="value", out="best.space")
    assert [one.index for one in more.trials] == list(range(8))
    with pytest.raises(RunError, match="another evaluator"):
        nasdsl.search(space, lambda one: 1.0, trials=8, minimise="macs", maximise="value", out="best.space")


# --- Spaces that were made in Python ----------------------------------------------------------------------------------


def test_a_text_is_written_beside_its_result(folder: Path) -> None:
    (folder / "used.space").write_text("operator thing(out) { conv(out, kernel: oneof(1, 3)) }\n")
    text = 'use "used.space"\n\nspace made { input 1 x 8 x 8\n  network { thing(4) -> classify(3) } }\n'
    space = nasdsl.loads(text)
    found = nasdsl.search(space, len, trials=2, out="below/found.space")
    assert nasdsl.load("below/found.space").graph.decisions == {}
    assert nasdsl.load("below/made.space").digest() == space.digest()
    assert found.searched.digest() == space.digest() and found.space.graph.decisions == {}
    (folder / "below" / "made.space").write_text("space made { input 1 x 8 x 8\n  network { classify(3) } }\n")
    with pytest.raises(ArgumentError, match="says something else"):
        nasdsl.search(space, len, trials=2, out="below/other.space")
    nasdsl.save(space, found.architecture, folder / "saved.space")
    assert nasdsl.load("saved.space").graph.decisions == {} and (folder / "made.space").exists()


def test_a_pinned_space_stays_pinned(folder: Path) -> None:
    text = SPACE.replace("classify(classes: 3)", "classify(classes)").replace(
        "  network", "  param classes = 7\n  network"
    )
    (folder / "param.space").write_text(text)
    whole = nasdsl.load("param.space")
    path = next(path for path in whole.graph.decisions if path.endswith("hidden[5]"))
    smaller = nasdsl.pin(whole, {path: "0..1"})
    found = nasdsl.search(smaller, pair(), **QUICK, target="macs <= 0.9", out="found.space")
    assert found.searched.params["classes"] == 3 and path not in found.searched.graph.decisions
    assert "0..1" in Path("found.space").read_text()
    assert nasdsl.load("found.space").digest() and found.metrics["top1"] >= 0
    assert nasdsl.evaluate("found.space", pair(), device="cpu")["top1"] == found.metrics["top1"]


# --- Data that is handed over -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uint8", "float", "pil", "array"])
def test_sets_of_any_form_of_image_are_one(bars: None, folder: Path, kind: str) -> None:
    """As the files of the same pixels would be."""
    one = nasdsl.train(nasdsl.loads(ARCHITECTURE.replace("8 x 8", "12 x 12")), device="cpu", epochs=1, batch=8)
    other = nasdsl.train(
        nasdsl.loads(ARCHITECTURE.replace("8 x 8", "12 x 12")), pair(kind), device="cpu", epochs=1, batch=8
    )
    assert one.metrics == pytest.approx(other.metrics, rel=1e-5)
    for name, tensor in one.network.state_dict().items():
        assert torch.allclose(tensor, other.network.state_dict()[name], atol=1e-5)
    assert other.data.classes == ("none", "standing", "lying")


def test_normalised_images_stay_as_they_are(folder: Path) -> None:
    space = nasdsl.loads(ARCHITECTURE.replace("8 x 8", "12 x 12"))
    plain = nasdsl.train(space, pair("float"), device="cpu", epochs=1, batch=8)
    notes: list[str] = []
    told = nasdsl.Data(*pair("normalised"), normalised=([0.449], [0.226]))
    for data in (pair("normalised"), told):
        made = nasdsl.train(
            space, data, device="cpu", epochs=1, batch=8, on_progress=lambda one: notes.append(one.text)
        )
        assert made.metrics == pytest.approx(plain.metrics, rel=1e-5)
        made.save("w.safetensors")
        about = load_weights(Path("w.safetensors"))[1]
        assert about.get("mean") == ("0.449" if data is told else None)
        if data is not told:
            with pytest.raises(DataError, match="do not say how"):
                nasdsl.evaluate(space, pair("uint8"), weights="w.safetensors", device="cpu")
        else:
            scored = nasdsl.evaluate(space, pair("uint8"), weights="w.safetensors", device="cpu")
            assert scored["top1"] == pytest.approx(made.metrics["top1"])
    assert any("normalised already" in note for note in notes)
    with pytest.raises(RunError, match="paints with colours"):
        nasdsl.train(space, pair("normalised"), device="cpu", epochs=1, batch=8, augment="cifar")


def test_loaders_keep_their_batches_their_sampler_and_their_collate(folder: Path) -> None:
    seen: list[int] = []

    def collate(samples: list[Any]) -> tuple[Tensor, Tensor]:
        seen.append(len(samples))
        return torch.stack([image for image, _ in samples]), torch.tensor([label for _, label in samples])

    train, val = pair()
    weights = [1.0 if label == 1 else 0.0 for _, label in train]  # type: ignore[attr-defined]
    loader = DataLoader(train, 6, sampler=WeightedRandomSampler(weights, 30), collate_fn=collate)
    data = nasdsl.Data(loader, DataLoader(val, 7))
    splits = data.splits("classification", (12, 12), 1)
    batches = list(Loader(splits.train, 6, seed=1, shuffle=True).epoch(2))
    assert [len(labels) for _, labels in batches] == [6] * 5 and seen == [6] * 5
    assert all((labels == 1).all() for _, labels in batches), "the others have no weight"
    again = list(Loader(splits.train, 6, seed=1, shuffle=True).epoch(2))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(batches, again, strict=True)), "the same seed, the same order"
    with pytest.raises(DataError, match="draws by a WeightedRandomSampler"):
        held_back(splits, 0.5)
    notes: list[str] = []
    space = nasdsl.loads(ARCHITECTURE.replace("8 x 8", "12 x 12"))
    plain = (DataLoader(train, 11, shuffle=True), DataLoader(val, 7))
    nasdsl.train(space, plain, device="cpu", epochs=1, on_progress=lambda one: notes.append(one.text))
    assert any("4 batches of 11" in note for note in notes)


def test_classes_and_validation_are_found(folder: Path) -> None:
    images, labels = torch.rand(20, 1, 8, 8), torch.arange(20) % 4
    plain = TensorDataset(images, labels)
    splits = nasdsl.Data(plain).splits("classification", (8, 8), 1)
    assert splits.classes == ("0", "1", "2", "3") and len(splits.train) == 16 and len(splits.val) == 4
    assert sorted(label for _, label in (splits.val[i] for i in range(4))) == [0, 1, 2, 3], "each class validates"
    assert splits.train.labels.tolist() == [labels[i].item() for i in splits.train.given.rows]  # type: ignore[attr-defined]
    part = nasdsl.Data(Subset(plain, range(8)), plain, classes=["a", "b", "c", "d"])
    assert part.splits("classification", (8, 8), 1).classes == ("a", "b", "c", "d")
    listed = [(image, int(label)) for image, label in zip(images, labels, strict=True)]
    assert nasdsl.Data(listed).splits("classification", (8, 8), 1).classes == ("0", "1", "2", "3")
    assert nasdsl.Data(plain, plain, classes=9).splits("classification", (8, 8), 1).classes[-1] == "8"
    assert nasdsl.Data(plain).identity() == nasdsl.Data(TensorDataset(images + 1, labels)).identity()
    assert nasdsl.Data(plain).identity() != nasdsl.Data(TensorDataset(images, labels.flip(0))).identity()


def test_images_of_another_size_and_depth(folder: Path) -> None:
    wide = torch.zeros(3, 8, 16)
    wide[:, :, 4:12] = 1
    splits = nasdsl.Data([(wide, 0), (wide, 1)], [(wide, 0)]).splits("classification", (4, 4), 3)
    assert splits.train.batch([0])[0].shape == (1, 3, 4, 4)
    assert torch.allclose(splits.train.batch([0])[0], torch.ones(1, 3, 4, 4), atol=0.2), "the middle is shown"
    grey = Image.new("L", (8, 8), 200)
    found = nasdsl.Data([(grey, 0), (grey, 1)], [(grey, 0)]).splits("classification", (4, 4), 3)
    assert found.val.batch([0])[0].tolist() == torch.full((1, 3, 4, 4), 200).tolist()
    deep = torch.rand(5, 4, 4)
    five = nasdsl.Data([(deep, 0), (deep, 1)], [(deep, 0)])
    space = nasdsl.loads("space five { input 5 x 4 x 4\n  network { conv(4) -> classify(2) } }\n")
    assert nasdsl.train(space, five, device="cpu", epochs=1, batch=2).metrics["top1"] >= 0


def test_masks(folder: Path) -> None:
    real = read_default(Request("segmentation", size=(32, 32), channels=1, scenes=(6, 3)))

    class Scenes(Dataset[Any]):
        def __init__(self, split: str, size: int = 32) -> None:
            self.samples, self.size = getattr(real, split), size

        def __len__(self) -> int:
            return len(self.samples)

        def __getitem__(self, index: int) -> Any:
            images, masks = self.samples.batch([index])
            return images[0], Image.fromarray(masks[0].to(torch.uint8).numpy())

    splits = nasdsl.Data(Scenes("train"), Scenes("val"), classes=list(real.classes)).splits("segmentation", (32, 32), 1)
    for index in range(3):
        for mine, theirs in zip(splits.val.batch([index]), real.val.batch([index]), strict=True):
            assert torch.equal(mine, theirs)
    smaller = nasdsl.Data(Scenes("train"), Scenes("val"), classes=11).splits("segmentation", (16, 24), 1)
    image, mask = smaller.val[0]
    assert image.shape == (1, 16, 24) and (mask[:, 16:] == 255).all() and (mask[:, :16] != 255).all()
    space = nasdsl.loads(
        "space s { input 1 x 32 x 32\n  param classes = 2\n  network { conv(4) -> segment(classes) } }\n"
    )
    data = nasdsl.Data(Scenes("train"), Scenes("val"))
    made = nasdsl.train(space, data, device="cpu", epochs=1, batch=2)
    assert made.space.params["classes"] == 11 and set(made.metrics) >= {"mIoU"}


def test_boxes(folder: Path) -> None:
    real = read_default(Request("detection", size=(48, 48), channels=3, scenes=(4, 2)))

    class Scenes(Dataset[Any]):
        def __init__(self, split: str) -> None:
            self.samples: DetectionSet = getattr(real, split)

        def __len__(self) -> int:
            return len(self.samples)

        def __getitem__(self, index: int) -> Any:
            images, targets = self.samples.batch([index])
            there = targets["labels"][0] >= 0
            return images[0], {"boxes": targets["boxes"][0][there], "labels": targets["labels"][0][there]}

    loader = DataLoader(Scenes("train"), 2, collate_fn=lambda batch: tuple(zip(*batch, strict=True)))
    splits = nasdsl.Data(loader, Scenes("val"), classes=list(real.classes)).splits("detection", (48, 48), 3)
    for samples, theirs in ((splits.train, real.train), (splits.val, real.val)):
        images, targets = samples.batch([0, 1])
        expected, answers = theirs.batch([0, 1])
        assert torch.equal(images, expected) and targets.keys() == answers.keys()
        for name, tensor in answers.items():
            assert torch.allclose(targets[name].float(), tensor.float(), atol=1e-4), name
    assert splits.details["category_ids"] == list(range(10))
    smaller = nasdsl.Data(Scenes("train"), Scenes("val")).splits("detection", (24, 32), 3)
    images, targets = smaller.val.batch([0])
    assert images.shape == (1, 3, 24, 32) and targets["size"].tolist() == [[24, 24]]
    assert torch.allclose(targets["boxes"], real.val.batch([0])[1]["boxes"] / 2, atol=1e-4)


def test_numbers(folder: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 5, generator=generator)
    targets = features @ torch.randn(5, 2, generator=generator) * 10 + 3
    data = nasdsl.Data(TensorDataset(features, targets), features=list("abcde"), classes=["up", "down"])
    text = "network { flatten() -> linear(8) -> relu() -> linear(8) -> regress(targets) }"
    space = nasdsl.loads(
        f"space m {{\n  param features = 1\n  param targets = 1\n  input features x 1 x 1\n  {text}\n}}\n"
    )
    made = nasdsl.train(space, data, device="cpu", epochs=60, batch=12)
    assert made.metrics["R2"] > 0.8 and {"RMSE_up", "RMSE_down"} <= set(made.metrics)
    assert made.space.params["features"] == 5 and made.space.params["targets"] == 2
    made.save("w.safetensors")
    assert json.loads(load_weights(Path("w.safetensors"))[1]["features"]) == list("abcde")
    images = TensorDataset(torch.rand(12, 3, 8, 8), torch.rand(12))
    picture = nasdsl.loads("space p { input 3 x 8 x 8\n  network { conv(4) -> regress(1) } }\n")
    assert "RMSE" in nasdsl.train(picture, images, device="cpu", epochs=1, batch=4).metrics


def test_the_test_split_is_what_is_measured(folder: Path) -> None:
    space = nasdsl.loads(ARCHITECTURE.replace("8 x 8", "12 x 12"))
    train, val = pair()
    wrong = [(image, (label + 1) % 3) for image, label in (val[i] for i in range(len(val)))]
    made = nasdsl.train(space, (train, val, wrong), device="cpu", epochs=6, batch=8)
    right = nasdsl.evaluate(made, (train, val), device="cpu")["top1"]
    assert right == made.metrics["top1"] > 0.5
    assert nasdsl.evaluate(made, (train, val, wrong), device="cpu")["top1"] < 0.5


def test_data_that_ships_has_a_name(folder: Path) -> None:
    space = nasdsl.loads(ARCHITECTURE)
    named = nasdsl.train(space, "digits", device="cpu", epochs=0.02, batch=16)
    assert named.metrics == nasdsl.train(space, device="cpu", epochs=0.02, batch=16).metrics
    with pytest.raises(DataError, match="`diabetes` is data for regression") as caught:
        nasdsl.train(space, "diabetes", device="cpu")
    assert "digits" in caught.value.help
    (folder / "digits").mkdir()
    with pytest.raises(DataError, match="is empty"):
        nasdsl.train(space, "digits", device="cpu")


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(())


LABELLED = [(torch.zeros(1, 8, 8), 0), (torch.zeros(1, 8, 8), 1)]
MISTAKES: list[tuple[Any, str]] = [
    (Stream(), "no map-style set"),
    ([], "the train split is empty"),
    ((LABELLED, LABELLED, LABELLED, LABELLED), "these are 4 parts"),
    ({"a": 1}, "is a dict"),
    ([(torch.zeros(1, 8, 8), 0), torch.zeros(3)], "is a Tensor, and not an image and its target"),
    ([(torch.zeros(1, 8, 8), 0.5)] * 2, "is `0.5`"),
    ([(torch.zeros(1, 8, 8), True)] * 2, "is `True`"),
    ([(torch.zeros(1, 8, 8), -1), (torch.zeros(1, 8, 8), 1)], "is of class -1"),
    ([(torch.zeros(2, 8, 8), 0), (torch.zeros(2, 8, 8), 1)], "has 2 channels"),
    ([(torch.full((1, 8, 8), torch.nan), 0), (torch.zeros(1, 8, 8), 1)], "no finite number"),
    ([(torch.zeros(1, 8, 8, dtype=torch.int64), 0), (torch.zeros(1, 8, 8), 1)], "holds torch.int64"),
    ([(np.zeros((8, 8)), 0), (torch.zeros(1, 8, 8), 1)], "array of float64"),
    ([("cat.png", 0), (torch.zeros(1, 8, 8), 1)], "is a str"),
]


@pytest.mark.parametrize(("data", "message"), MISTAKES, ids=lambda value: value if isinstance(value, str) else "")
def test_mistakes_in_data_are_told(folder: Path, data: Any, message: str) -> None:
    space = nasdsl.loads(ARCHITECTURE)
    whole: Any = (data, LABELLED) if isinstance(data, list) and data else data
    with pytest.raises(DataError, match=message):
        nasdsl.train(space, whole, device="cpu", epochs=1, batch=1)


def test_a_set_that_fails_is_named(folder: Path) -> None:
    class Broken(Bars):
        def __getitem__(self, index: int) -> Any:
            raise KeyError(index)

    with pytest.raises(DataError, match=r"sample 0 of the train set \(Broken\) cannot be read: KeyError"):
        nasdsl.train(nasdsl.loads(ARCHITECTURE), (Broken("train"), LABELLED), device="cpu")
    with pytest.raises(DataError, match="read from files"):
        nasdsl.Data(Bars("train")).splits("keypoints", (8, 8), 1)


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    space = nasdsl.loads(ARCHITECTURE.replace("8 x 8", "12 x 12"))
    made = nasdsl.train(space, pair(), device="cpu", epochs=0.2, batch=8)
    other = nasdsl.loads(ARCHITECTURE.replace("8 x 8", "12 x 12").replace("kernel: 3", "kernel: 5"))
    with pytest.raises(CompileError, match="computes otherwise"):
        nasdsl.train(other, pair(), inherit=made, device="cpu")
    fresh = nasdsl.loads(ARCHITECTURE.replace("8 x 8", "12 x 12").replace("classes = 3", "classes = 5"))
    data = nasdsl.Data(*pair(), classes=5)
    begun = nasdsl.train(fresh, data, inherit=made, fresh_head=True, device="cpu", epochs=0.2, batch=8)
    assert begun.space.params["classes"] == 5
    with pytest.raises(ArgumentError, match="has none"):
        nasdsl.train(other, pair(), inherit=3, device="cpu")  # type: ignore[arg-type]
    with pytest.raises(OutputError):
        Path("mine.safetensors").write_text("something else")
        made.save("mine.safetensors")
    whole = nasdsl.loads(ARCHITECTURE.replace("kernel: 3", "kernel: oneof(3, 5)").replace("8 x 8", "12 x 12"))
    supernet = Supernet(whole.graph)
    one = nasdsl.pin(whole, nasdsl.sample(whole)[0])
    inherited = nasdsl.train(one, pair(), inherit=supernet, device="cpu", epochs=0.2, batch=8)
    assert inherited.network.graph.decisions == {}


# --- What is found, taken out and told --------------------------------------------------------------------------------


def test_predictions_of_paths_and_of_images_are_one(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    space = nasdsl.loads(ARCHITECTURE.replace("8 x 8", "12 x 12"))
    made = nasdsl.train(space, pair(), device="cpu", epochs=3, batch=8)
    (folder / "photos").mkdir()
    images = [Bars("val", "pil")[i][0] for i in range(6)]
    for number, image in enumerate(images):
        image.save(folder / "photos" / f"{number}.png")
    found = nasdsl.predict(made, images, most=2)
    assert isinstance(found, nasdsl.Predictions) and len(found) == 6 and not found.files
    tensors: list[Any] = [torch.from_numpy(np.array(image)) for image in images]
    floats = [image.float()[None] / 255 for image in tensors]
    told: list[nasdsl.Progress] = []
    for other in (
        nasdsl.predict(made, "photos", most=2, on_progress=told.append),
        nasdsl.predict(made, tensors, most=2),
        nasdsl.predict(made, floats, most=2, batch=1),
        nasdsl.predict(space, images, weights=made.network, most=2),
    ):
        assert isinstance(other, nasdsl.Predictions)
        for one, same in zip(found, other, strict=True):
            assert np.array_equal(one.found.labels, same.found.labels)  # type: ignore[union-attr]
            assert np.allclose(one.found.scores, same.found.scores, atol=1e-6)  # type: ignore[union-attr]
    assert told[0].kind == "start" and told[-2].done == 6
    val = Bars("val", "pil")
    every: Any = nasdsl.predict(made, [image for image, _ in (val[i] for i in range(len(val)))])
    right = [int(one.found.labels[0]) == val[i][1] for i, one in enumerate(every)]
    assert np.mean(right) == pytest.approx(made.metrics["top1"]), "as they were measured"
    assert found.names.classes == ("none", "standing", "lying")
    assert repr(found) == "Predictions(classification: 6 images)"

    (folder / "one.space").write_text(ARCHITECTURE.replace("8 x 8", "12 x 12"))
    made.save("one.safetensors")
    assert main(["predict", "one.space", "photos", "-o", "typed", "--most", "2", "--format", "json"]) == 0
    typed = json.loads(capsys.readouterr().out)
    written = nasdsl.predict("one.space", "photos", "mine", most=2)
    assert {**written.facts(), "out": [name.replace("mine", "typed") for name in written.facts()["out"]]} == typed
    assert (folder / "typed" / "predictions.csv").read_text() == (folder / "mine" / "predictions.csv").read_text()
    with pytest.raises(ArgumentError, match="the folder mine is not empty"):
        nasdsl.predict("one.space", "photos", "mine")
    with pytest.raises(ArgumentError, match="`score` is for detection"):
        nasdsl.predict(made, images, score=0.5)
    with pytest.raises(DataError, match=r"values beyond 0\.\.1"):
        nasdsl.predict(made, [floats[0] * 3])
    with pytest.raises(DataError, match="picture has 1 or 3 channels"):
        nasdsl.predict(made, torch.zeros(2, 12, 12))


def test_rows_are_predicted(folder: Path) -> None:
    features = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    data = nasdsl.Data(TensorDataset(features, features.sum(1)), features=["a", "b", "c"], classes=["sum"])
    space = nasdsl.loads("space m { input 3 x 1 x 1\n  network { flatten() -> linear(8) -> relu() -> regress(1) } }\n")
    made = nasdsl.train(space, data, device="cpu", epochs=20, batch=8)
    found = nasdsl.predict(made, features)
    assert isinstance(found, nasdsl.Numbers) and found.values.shape == (40, 1) and found.targets == ("sum",)
    assert np.corrcoef(found.values[:, 0], features.sum(1).numpy())[0, 1] > 0.8
    lines = [",".join(map(str, row)) for row in features.tolist()]
    (folder / "rows.csv").write_text("a,b,c\n" + "\n".join(lines) + "\n")
    assert np.allclose(nasdsl.predict(made, "rows.csv", "out").values, found.values, atol=1e-5)  # type: ignore[union-attr]
    assert (folder / "out" / "predictions.csv").read_text().startswith("table,line,sum\nrows.csv,2,")
    assert next(iter(found)) == {"sum": found.values[0, 0]}
    with pytest.raises(ArgumentError, match="have 3 columns"):
        nasdsl.predict(made, features[:, :2])


def test_an_export_is_that_of_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "one.space").write_text(ARCHITECTURE.replace("8 x 8", "12 x 12"))
    made = nasdsl.train("one.space", pair(), device="cpu", epochs=0.5, batch=8, out="one.safetensors")
    assert main(["export", "one.space", "-o", "typed.py", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["module"] == "typed.py"
    found = nasdsl.export(made, "mine.py")
    assert found.difference < 1e-5 and found.files == (Path("mine.py"), Path("mine.py.safetensors"))
    assert Path("mine.py").read_text().replace("mine", "typed") == Path("typed.py").read_text()
    alone = nasdsl.export(made.network, "alone.py")
    assert alone.difference < 1e-5 and "CLASSES" not in Path("alone.py").read_text()
    with pytest.raises(ArgumentError, match="`out` names the file"):
        nasdsl.export(made.network)
    with pytest.raises(ArgumentError, match="`to` is python"):
        nasdsl.export(made, "a.py", to="paper")
    assert main(["export", "-", "-o", "typed.py"]) != 0


def test_reports_of_runs_and_of_what_is_in_memory(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = nasdsl.load("small.space")

    def worth(architecture: nasdsl.Architecture) -> float:
        return float(nasdsl.cost(space, architecture)["params"] % 97)

    wanted: dict[str, Any] = {"trials": 6, "minimise": "macs", "maximise": "value"}
    kept = nasdsl.search(space, worth, out="best.space", **wanted)
    assert main(["report", "runs/best", "-o", "typed.html"]) == 0
    told = capsys.readouterr().out
    made = nasdsl.report(kept.run or "", "mine.html")
    assert f"typed.html: {made.told}\n" == told and made.why_no_images is None
    assert made.file.read_text() == Path("typed.html").read_text()
    alone = nasdsl.report(nasdsl.search(space, worth, **wanted), "alone.html")
    assert alone.told == made.told and "6 trials" in alone.told
    trained = nasdsl.train(nasdsl.loads(ARCHITECTURE.replace("8 x 8", "12 x 12")), pair(), device="cpu", epochs=1,
                           batch=8, out="one.safetensors", run="run")  # fmt: skip
    page = nasdsl.report(trained, data=nasdsl.Data(*pair()), device="cpu")
    assert page.file == Path("run/report.html") and page.told == "6 images"
    assert nasdsl.report("run", "again.html").told == "no images", "the data was handed over"
    assert "handed over in Python" in (nasdsl.report("run", "again.html").why_no_images or "")
    with pytest.raises(ArgumentError, match="`out` has to name the file"):
        nasdsl.report(nasdsl.search(space, worth, **wanted))
    with pytest.raises(RunError, match="nothing was kept"):
        nasdsl.report(nasdsl.search("small.space", pair(), **QUICK), "none.html")


def test_the_function_in_the_help_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--help"]) == 0
    text = capsys.readouterr().out.partition("may lie in this folder:")[2].partition("  nasdsl search mine.space")[0]
    name = f"shown_{folder.name}"
    (folder / f"{name}.py").write_text(textwrap.dedent(text))
    command = ["search", "small.space", "--runtime", "nsga2", "--function", f"{name}:accuracy", "--trials", "3"]
    assert main([*command, "--set", "maximise=top1", "--set", "minimise=seconds", "--out", "best.space"]) == 0
    assert "0.93" in capsys.readouterr().out


def test_a_report_finds_what_was_decided_in_python(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A training of what a search found, and of a text that is in no file."""
    space = nasdsl.load("small.space")
    found = nasdsl.pin(space, nasdsl.sample(space, seed=1)[0])
    nasdsl.train(found, pair(), device="cpu", epochs=0.5, batch=16, out="t.safetensors", run="here")
    nasdsl.train(nasdsl.loads(ARCHITECTURE.replace("8 x 8", "12 x 12")), pair(), device="cpu", epochs=0.5, run="there")
    for run in ("here", "there"):
        assert main(["report", run]) == 0, capsys.readouterr().err
        assert "<svg" in (folder / run / "report.html").read_text()
    assert nasdsl.report("here", "images.html", data=nasdsl.Data(*pair()), device="cpu").told == "6 images"
    assert nasdsl.Data.of([*pair()]).val is not None, "a list of two sets is a pair of them"


# --- In a notebook ----------------------------------------------------------------------------------------------------


def html_of(value: Any) -> str:
    shown: str = value._repr_html_()
    assert shown.count("<table") == shown.count("</table>") and "None" not in shown
    return shown


def test_results_show_themselves(folder: Path) -> None:
    found = nasdsl.search("small.space", pair(), **QUICK)
    assert "<td>top1</td>" in html_of(found) and html_of(found).count("<svg") == 1
    made = nasdsl.train(found, pair(), inherit=found, device="cpu", epochs=0.2, batch=16)
    assert "<td>macs</td>" in html_of(made)
    space = nasdsl.load("small.space")

    def worth(architecture: nasdsl.Architecture) -> float:
        return float(nasdsl.cost(space, architecture)["params"] % 97)

    for wanted, word in (({}, "trials</text>"), ({"maximise": "value", "minimise": "macs"}, "on the front")):
        explored = nasdsl.search(space, worth, trials=8, **wanted)  # type: ignore[arg-type]
        shown = html_of(explored)
        assert shown.count("<svg") == 2 and word in shown and shown.count("<circle") == 8
        assert shown.count('fill="#b5462f"') >= len(explored.front)
    study = nasdsl.study(space, method="random")
    assert html_of(study).count("<svg") == 0
    trial = study.ask()
    assert trial is not None and repr(trial).startswith("Trial(0, running, macs ")
    assert "<td>pending</td><td>1</td>" in html_of(study)
    study.tell(trial, 0.5)
    assert "<details>" in html_of(study) and html_of(study).count("<circle") == 1
    images = [Bars("val", "pil")[i][0] for i in range(2)]
    assert "standing" in html_of(nasdsl.predict(made, images))
    screened = nasdsl.Found(Written(Narrowing({}, ""), space, [], None))
    assert "<table" in html_of(screened)
