"""Files of weights that stand by themselves: what they say of their network, and how they are read without its file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import nasdsl
from nasdsl.cli import main
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.pin import pin
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.sample import sample
from nasdsl.compiler.source import Source
from nasdsl.compiler.structure import structure
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.checkpoint import load_weights, save_weights
from nasdsl.runtime.data import open_data
from nasdsl.runtime.problem import Result
from nasdsl.runtime.results import result_data
from nasdsl.runtime.self_told import told_of_network
from nasdsl.runtime.tasks import find_task
from nasdsl.runtime.trained import load_network
from tests import shipped
from tests.test_predict import data_of, opened, trained, write_images

SMALL = ("tiny", "hrnas_small", "trionet_small", "smnas_small", "spinenet_small", "autofpn_small", "hitdetector_small",
         "autoformer_small", "convnext_small", "mlp", "unet")  # fmt: skip


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str]:
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out + err


@pytest.mark.parametrize("name", SMALL)
def test_the_text_in_the_file_is_the_network(name: str) -> None:
    """Weights are put into layers by structure, and so the text has to have the same."""
    space = shipped.space(name)
    for architecture in sample(space.graph, 2, 3):
        alone = pin(space.graph, architecture.indices)
        told = told_of_network(space, alone, architecture)
        again = elaborate(Source(told["text"]))
        assert structure(again.graph).whole == structure(alone).whole
        assert len(structure(again.graph).layers) == len(structure(alone).layers)
        assert Architecture.of(space, json.loads(told["values"])) == architecture


def test_what_was_pinned_before_is_told_too() -> None:
    space = nasdsl.load("tiny")
    first, second = list(space.graph.decisions)[:2]
    value = space.graph.decisions[first].describe(tuple(range(3)))
    smaller = nasdsl.pin(space, {first: value})
    (architecture,) = sample(smaller.graph, 1, 0)
    told = told_of_network(smaller, pin(smaller.graph, architecture.indices), architecture)
    values = json.loads(told["values"])
    assert set(values) == set(space.graph.decisions) and values[first] == "0..2" and second in values


@pytest.mark.parametrize("task", ["classification", "detection"])
def test_weights_alone_predict_as_with_their_file(
    task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = trained(task, tmp_path / "net", data_of(task, tmp_path / "data"))
    write_images(tmp_path / "photos")
    alone = tmp_path / "elsewhere" / "weights.safetensors"
    alone.parent.mkdir()
    shutil.copy(file.with_suffix(".safetensors"), alone)
    defines = ["-D", "classes=3"]
    assert run(capsys, "predict", file, tmp_path / "photos", "-o", tmp_path / "one", *defines)[0] == 0
    code, said = run(capsys, "predict", alone, tmp_path / "photos", "-o", tmp_path / "other")
    assert code == 0, said
    for one in sorted((tmp_path / "one").rglob("*")):
        if one.suffix in (".csv", ".png"):
            other = tmp_path / "other" / one.relative_to(tmp_path / "one")
            assert opened(one) == opened(other) if one.suffix == ".png" else one.read_text() == other.read_text()
    if task == "detection":
        first, second = (
            json.loads((tmp_path / n / "predictions.json").read_text())["annotations"] for n in ("one", "other")
        )
        assert first == second


def test_what_a_file_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = data_of("classification", tmp_path / "data")
    file = trained("classification", tmp_path, data).with_suffix(".safetensors")
    code, said = run(capsys, "compile", file)
    assert code == 0
    for line in ("input  3 x 40 x 48", "classes  ant, bee, cat", "pixels  RGB", "task  classification", "loss  1.0"):
        assert line in said, line
    assert "parameters" in said
    told = json.loads(run(capsys, "compile", file, "--format", "json")[1])["weights"]
    assert told["input"] == {"channels": 3, "height": 40, "width": 48} and told["classes"] == ["ant", "bee", "cat"]
    assert run(capsys, "check", file)[0] == 0
    assert run(capsys, "expand", file)[1] == load_weights(file)[1]["text"]
    space = nasdsl.load(file)
    network, about = load_network(space)
    assert about.classes == ("ant", "bee", "cat") and any(p.numel() for p in network.parameters())


def test_files_of_one_network_are_the_same_bytes(tmp_path: Path) -> None:
    data = open_data(None, "classification", size=(8, 8))
    space = elaborate(Source("space s {\n  input 1 x 8 x 8\n  network { conv(4) -> classify(classes: 10) }\n}\n"))
    torch.manual_seed(0)
    result = Result(Architecture.of(space, {}), Supernet(space.graph), {"loss": 1.0}, {"macs": 2.0})
    made = [result_data(space, result, find_task("classification").from_data(data), data) for _ in range(2)]
    assert made[0] == made[1]


# --- What goes wrong --------------------------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    found = trained("classification", tmp_path / "net", data_of("classification", tmp_path / "data"))
    return Path(shutil.copy(found.with_suffix(".safetensors"), tmp_path / "w.safetensors"))


def changed(weights: Path, **entries: str | None) -> None:
    tensors, metadata = load_weights(weights)
    save_weights(weights, tensors, {key: text for key, text in {**metadata, **entries}.items() if text is not None})


OTHER = "space other {\n  input 3 x 40 x 48\n  network { conv(4) -> classify(classes: 3) }\n}\n"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"text": None}, "does not say which network its weights are for"),
        ({"text": 'use "/etc/passwd"\n' + OTHER}, "tells of its network in terms of other files"),
        ({"text": "space x {"}, "w.safetensors:1"),
        ({"text": OTHER}, "holds weights of another network"),
        ({"text": OTHER.replace("conv(4)", "conv(oneof(4, 8))")}, "still has 1 decisions"),
        ({"text": "#" * 1_000_001}, "at greater length"),
        ({"input": "[3, 4]"}, "`input`"),
        ({"values": "7"}, "`values`"),
        ({"input": '{"channels": -1, "height": 4, "width": 4}'}, "`input.channels`"),
        ({"classes": '["a"]'}, "name 1 outputs"),
    ],
)
def test_damaged_words(
    weights: Path, capsys: pytest.CaptureFixture[str], entries: dict[str, str | None], message: str
) -> None:
    changed(weights, **entries)
    write_images(Path("photos"))
    code, said = run(capsys, "predict", weights, "photos", "-o", "out")
    assert code == 1 and message in said and "internal" not in said, said
    assert not Path("out").exists() or not list(Path("out").iterdir())


@pytest.mark.parametrize(
    "content",
    [b"", b"\x10", b"\xff" * 16, (2).to_bytes(8, "little") + b"[]", (9).to_bytes(8, "little") + b'{"a": 1}\n',
     (25).to_bytes(8, "little") + b'{"__metadata__":{"a": 1}}', (20).to_bytes(8, "little") + b'{"__metadata__": [1]}'],
)  # fmt: skip
def test_files_that_are_no_weights(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "w.safetensors"
    file.write_bytes(content)
    for command in ("check", "compile"):
        code, said = run(capsys, command, file)
        assert code == 1 and ("is no file of weights" in said or "does not say which network" in said), said
    assert run(capsys, "check", tmp_path / "none.safetensors")[1].count("there is no file") == 1


def test_weights_of_others_take_the_file_beside_them(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed(weights, text=None)
    shutil.copy("net/found.space", "w.space")
    write_images(Path("photos"))
    code, said = run(capsys, "predict", weights, "photos", "-o", "out", "-D", "classes=3")
    assert code == 0, said


def test_no_command_writes_text_where_weights_are(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = weights.read_bytes()
    commands: list[list[str | Path]] = [
        ["fmt", weights],
        ["search", weights],
        ["pin", weights, "-o", weights],
        ["export", weights, "-o", weights],
    ]
    for command in commands:
        code, said = run(capsys, *command)
        assert code != 0 and "internal" not in said, said
    assert weights.read_bytes() == before
