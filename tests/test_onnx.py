"""ONNX models and torch's programs give the numbers of their network, at sizes that they were not made with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from nasdsl.cli import main
from nasdsl.compiler.layers.boxes import suppressed, survivors
from nasdsl.compiler.layers.dense import DetectDense
from nasdsl.compiler.layers.proposals import GuidedPropose
from nasdsl.compiler.layers.regions import DetectRegions
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.sample import sample
from nasdsl.compiler.source import Source
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.checkpoint import AboutWeights
from nasdsl.runtime.export import ExportError, export_network
from nasdsl.runtime.export.compare import Agreement, compared, gap_of, same_detections
from nasdsl.runtime.export.onnx_file import export_onnx, onnx_model
from nasdsl.runtime.export.record import Recording, record
from nasdsl.runtime.export.torch_file import ABOUT, export_torch
from nasdsl.runtime.export.translate import translations
from tests import shipped
from tests.networks import unsettle
from tests.test_export import detector
from tests.test_predict import data_of, trained

LONG = pytest.mark.long
FLIPPED = 0.01
"""Of detections of equal scores another one may be the last that finds room."""


def network_of(text: str) -> Supernet:
    torch.manual_seed(0)
    network = Supernet(elaborate(Source(text)).graph)
    unsettle(network)
    return network.eval()


def images_for(network: Supernet, batch: int, more: tuple[int, int] = (0, 0)) -> torch.Tensor:
    shape = network.graph.input.shape
    generator = torch.Generator().manual_seed(100 + batch)
    return torch.randn(batch, shape.channels, shape.height + more[0], shape.width + more[1], generator=generator)


def run(file: Path, **inputs: torch.Tensor) -> list[torch.Tensor]:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(one) for one in session.run(None, {name: x.numpy() for name, x in inputs.items()})]


def same(network: Supernet, file: Path, images: torch.Tensor, sizes: torch.Tensor | None = None) -> float:
    """The largest difference of a model from its network."""
    given = {} if sizes is None else {"sizes": sizes}
    with torch.inference_mode():
        wanted = network(images, None if sizes is None else {"size": sizes})
    found = run(file, images=images, **given)
    if isinstance(wanted, torch.Tensor):
        return gap_of(wanted, found[0])
    largest, there, lost = same_detections(list(wanted.values()), found)
    assert there > 0 and lost <= FLIPPED * there
    return largest


def exported(network: Supernet, folder: Path, padded: bool = False, **options: Any) -> tuple[Path, Recording]:
    recording = record(network, padded=padded, watched=network.reads_scene, **options)
    file = folder / "net.onnx"
    agreement = export_onnx(network, recording, file, padded=padded)
    assert agreement.largest < 1e-5 and len(agreement.tried) >= 2
    assert agreement.lost <= FLIPPED * agreement.detections
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""} and not model.functions
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    return file, recording


# --- Kinds of networks ------------------------------------------------------------------------------------------------

HEADS = {
    "classification": "global_pool() -> classify(classes: 3)",
    "segmentation": "segment(classes: 3)",
    "keypoints": "keypoints(joints: 4)",
    "places in space": "detect3d(classes: 3)",
}
ATTENTION = {
    "hr-nas": "transformer(16, tokens: 4, size: 4) + skip(16)",
    "hr-nas, strided": "transformer(16, stride: 2, tokens: 5, size: 4)",
    "local": "local_attention(16, heads: 4, window: 3)",
    "local, wide heads": "conv(64) -> local_attention(64, heads: 2, window: 5) -> conv(16)",
    "local, small maps": "conv(16, stride: 4) -> local_attention(16, heads: 2, window: 5, position: per_head)",
    "axial": "axial_attention(16, heads: 4)",
    "axial, taking turns": "axial_attention(16, heads: 4, sharing: interleaved, position: none)",
    "global": "patches(16, size: 4) -> global_attention(heads: 2)",
    "global, biases": "patches(16, size: 4) -> global_attention(heads: 2, position: bias)",
    "autoformer": "patches(16, size: 4) -> to_tokens() -> class_token() -> position_embedding(prefix: 1)"
    " -> vit_block(2, dim: 4, position: vectors, prefix: 1) -> vit_block(2, dim: 4, position: bias, prefix: 1)"
    " -> first_token()",
    "windows": "swin_block(2, window: 4, dim: 4)",
    "windows, shifted": "swin_block(2, window: 3, shift: 1, dim: 4) -> merge_patches(16)",
    "deformable": "conv(16)\n    offsets: x -> conv(36, act: none, norm: none)\n"
    "    branches(x, offsets) -> deform_conv(16, offset_groups: 2)",
    "mixed kernels": "mixconv(16, hidden: { 3: 24, 5: 24, 7: 12 })",
    "convnext": "convnext_block() -> se()",
}
MIXED = (
    "mixconv(16, hidden: { 3: 24, 5: 24 }) + transformer(16, tokens: 4, size: 4) + skip(16)",
    "local_attention(16, heads: 4, window: 3) -> axial_attention(16, heads: 4)",
    "swin_block(2, window: 3, shift: 1, dim: 4)",
    "patches(16, size: 4) -> global_attention(heads: 2, position: bias)",
    "global_attention(heads: 2, position: vectors)",
)


def of_steps(steps: str, head: str = "classify(classes: 3)", side: int = 32) -> Supernet:
    body = f"x: conv(16, kernel: 3, stride: 2) -> {steps} -> {head}"
    return network_of(f"space net {{\n  input 3 x {side} x {side}\n  network {{ {body} }}\n}}\n")


def check_network(network: Supernet, folder: Path) -> Recording:
    """By onnxruntime, at two other batches than those that it was compared with, and another size if that is open."""
    file, recording = exported(network, folder)
    assert same(network, file, images_for(network, 2)) < 1e-5
    assert same(network, file, images_for(network, 5)) < 1e-5
    if recording.step:
        assert same(network, file, images_for(network, 2, (recording.step, 3 * recording.step))) < 1e-5
    return recording


@LONG
def test_all_kinds_of_attention_in_one_network(tmp_path: Path) -> None:
    recording = check_network(of_steps(" -> ".join(MIXED)), tmp_path)
    assert recording.step == 0 and "windows" in recording.fixed


@LONG
def test_a_network_of_open_size(tmp_path: Path) -> None:
    network = of_steps("conv(24, kernel: 3, stride: 2) -> (conv(16, stride: 2) -> upsample(to: 1/4)) + conv(16)"
                       " -> transformer(16, tokens: 4, size: 4)", HEADS["segmentation"])  # fmt: skip
    recording = check_network(network, tmp_path)
    assert recording.step == 8 and recording.least == (16, 16) and not recording.fixed


@LONG
@pytest.mark.parametrize("kind", ATTENTION)
def test_each_kind_of_attention(kind: str, tmp_path: Path) -> None:
    check_network(of_steps(ATTENTION[kind]), tmp_path)


@LONG
@pytest.mark.parametrize("task", HEADS)
def test_each_task(task: str, tmp_path: Path) -> None:
    recording = check_network(of_steps("conv(8, kernel: 3, stride: 2) -> basic(8)", HEADS[task]), tmp_path)
    assert recording.step == 4 if task != "places in space" else recording.step in (0, 4)


@LONG
def test_regression(tmp_path: Path) -> None:
    space = shipped.space("mlp", "mlp_small")
    network = Supernet(space.graph).extract(sample(space.graph, 1, 0)[0]).eval()
    assert check_network(network, tmp_path).fixed == "the network reads no maps"


SMALL = ("hrnas_small", "trionet_small", "smnas_small", "spinenet_small", "autofpn_small", "hitdetector_small",
         "autoformer_small", "convnext_small")  # fmt: skip


@LONG
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", SMALL)
def test_small_spaces_that_ship(name: str, tmp_path: Path) -> None:
    space = shipped.space(name)
    torch.manual_seed(0)
    network = Supernet(space.graph).extract(sample(space.graph, 1, 0)[0]).eval()
    unsettle(network)
    if network.reads_scene:  # a network that has learnt nothing finds nothing
        certain(network)
    check_network(network, tmp_path)


# --- Detectors --------------------------------------------------------------------------------------------------------


def certain(network: Supernet) -> None:
    """Makes a detector find something whatever it sees."""
    for module in network.modules():
        if isinstance(module, DetectRegions | DetectDense):
            module.least = 1e-4
        elif isinstance(module, GuidedPropose):
            module.threshold = 0.0


OTHERS = [pytest.param(which, marks=LONG) for which in ("cascade", "frcnn", "guided", "single")]


@pytest.mark.parametrize("which", ["retina", *OTHERS])
def test_detectors_with_all_that_follows_their_maps(which: str, tmp_path: Path) -> None:
    network = detector(which)
    file, _ = exported(network, tmp_path, padded=which != "retina", open_sizes=False)
    images = images_for(network, 3)
    sizes = torch.tensor([[64.0, 64.0], [48.0, 64.0], [64.0, 33.0]])
    assert same(network, file, images, None if which == "retina" else sizes) < 1e-5
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == ["boxes", "scores", "labels"]
    assert [one.name for one in session.get_inputs()] == ["images", *(["sizes"] if which != "retina" else [])]


@LONG
@pytest.mark.parametrize("which", ["retina", "cascade"])
def test_detectors_of_open_size(which: str, tmp_path: Path) -> None:
    network = detector(which)
    file, recording = exported(network, tmp_path)
    assert recording.step, recording.fixed
    for more in ((0, 0), (recording.step, 2 * recording.step)):
        assert same(network, file, images_for(network, 2, more)) < 1e-5


class Suppression(nn.Module):
    def __init__(self, kinds: int, most: int | None) -> None:
        super().__init__()
        self.kinds, self.most = kinds, most

    def forward(self, boxes: torch.Tensor, there: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
        own = groups if self.kinds > 1 else None
        return survivors(boxes, there, 0.5, 256, own, self.most, self.kinds)


@pytest.mark.parametrize(("kinds", "most"), [(3, None), pytest.param(1, 7, marks=LONG)])
def test_suppression_is_the_same_box_for_box(kinds: int, most: int | None) -> None:
    """Boxes of several classes that lie close, some of them not there, some without area."""
    generator = torch.Generator().manual_seed(0)

    def drawn(batch: int, number: int) -> tuple[torch.Tensor, ...]:
        corner = torch.rand(batch, number, 2, generator=generator) * 20
        boxes = torch.cat([corner, corner + torch.rand(batch, number, 2, generator=generator) * 12], 2)
        boxes[:, ::17, 2:] = boxes[:, ::17, :2]
        there = torch.rand(batch, number, generator=generator) > 0.2
        return boxes, there, torch.randint(kinds, (batch, number), generator=generator)

    dims = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("number", min=2)}
    with torch.no_grad():
        program = torch.export.export(Suppression(kinds, most), drawn(2, 50), dynamic_shapes=(dims, dims, dims))
    model = onnx_model(Recording(program, ("boxes", "there", "groups"), ("keep",), 0, (0, 0), ""))
    names = ("boxes", "there", "groups")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch, number in ((1, 300), (4, 60), (2, 2)):
        given = drawn(batch, number)
        keep = torch.from_numpy(session.run(None, dict(zip(names, [x.numpy() for x in given], strict=True)))[0])
        wanted = suppressed(given[0], given[1], 0.5, 256, given[2] if kinds > 1 else None, None)
        first = wanted if most is None else wanted & (wanted.cumsum(1) <= most)
        assert torch.equal(keep & first, first)  # behind the first so many any may be left out
        assert not (keep & ~wanted).any()


@LONG
def test_equal_values_are_sorted_as_they_stand() -> None:
    class Sort(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return x.sort(dim=1, descending=True, stable=True)

    x = torch.tensor([[1.0, 3.0, 1.0, 3.0, 2.0, 1.0]]).repeat(2, 4)
    program = torch.export.export(Sort(), (x,))
    model = onnx_model(Recording(program, ("x",), ("values", "places"), 0, (0, 0), ""))
    for values, places in (
        onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x.numpy()}),
        ReferenceEvaluator(model).run(None, {"x": x.numpy()}),
    ):
        assert np.array_equal(values, Sort()(x)[0].numpy()) and np.array_equal(places, Sort()(x)[1].numpy())


def test_every_operation_that_is_translated_is_one() -> None:
    assert all(callable(made) and isinstance(str(operation), str) for operation, made in translations().items())


# --- Programs of torch ------------------------------------------------------------------------------------------------


def test_a_program_is_read_back(tmp_path: Path) -> None:
    network = of_steps("mixconv(16, hidden: { 3: 24, 5: 24 })")
    recording = record(network)
    agreement = export_torch(network, recording, tmp_path / "net.pt2", facts={"space": "net"})
    assert agreement.largest < 1e-6
    extra = {ABOUT: ""}
    program = torch.export.load(tmp_path / "net.pt2", extra_files=extra).module()
    assert json.loads(extra[ABOUT]) == {"space": "net"}
    with ZipFile(tmp_path / "net.pt2") as archive:
        assert not any(b"compiler/layers" in archive.read(name) for name in archive.namelist())  # no paths
    images = images_for(network, 7, (2, 4))
    with torch.inference_mode():
        torch.testing.assert_close(program(images)[0], network(images), rtol=0, atol=1e-6)


@LONG
def test_a_detector_as_a_program(tmp_path: Path) -> None:
    network = detector("cascade")
    recording = record(network, padded=True, open_sizes=False)
    assert export_torch(network, recording, tmp_path / "net.pt2", padded=True).largest < 1e-6


# --- The command ------------------------------------------------------------------------------------------------------


def said(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str]:
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out + err


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    return trained("classification", folder, data_of("classification", folder / "data")).with_suffix(".safetensors")


def test_the_command_and_what_the_model_says_of_itself(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "net.onnx"
    code, told = said(capsys, "export", classifier, "--to", "onnx", "-o", file)
    assert code == 0, told
    for line in ("model  " + str(file), "opset  20", "batch  any", "sizes  ", "largest difference"):
        assert line in told, told
    model = onnx.load(file)
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert about["space"] == "found" and len(about["hash"]) == 16 and about["task"] == "classification"
    assert json.loads(about["classes"]) == ["ant", "bee", "cat"] and len(json.loads(about["mean"])) == 3
    size = json.loads(about["input"])
    assert (size["channels"], size["height"], size["width"]) == (3, 40, 48) and model.opset_import[0].version == 20


@LONG
@pytest.mark.parametrize("opset", [18, 21, 23])
def test_opsets_and_a_fixed_size(
    opset: int, classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "net.onnx"
    options = ["--to", "onnx", "-o", str(file), "--fixed-size", "--opset", str(opset)]
    assert said(capsys, "export", classifier, *options)[0] == 0
    model = onnx.load(file)
    assert model.opset_import[0].version == opset
    assert [one.dim_value for one in model.graph.input[0].type.tensor_type.shape.dim][1:] == [3, 40, 48]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "python", "--opset", "20"], "--opset is for onnx"),
        (["--to", "torch", "--opset", "20"], "--opset is for onnx"),
        (["--fixed-size"], "--fixed-size is for onnx and torch"),
        (["--padded"], "--padded is for onnx and torch"),
        (["--to", "onnx", "--padded"], "for detectors"),
        (["--to", "onnx", "--opset", "17"], "opset 17 cannot be written"),
        (["--to", "onnx", "--opset", "24"], "opset 24 cannot be written"),
        (["--to", "onnx", "-o", "other.onnx"], "is no export of nasdsl's"),
        (["--to", "torch", "-o", "other.pt2"], "is no export of nasdsl's"),
    ],
)
def test_what_is_refused(
    options: list[str], message: str, classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for name in ("other.onnx", "other.pt2"):
        Path(name).write_bytes(b"somebody else's")
    code, told = said(capsys, "export", classifier, *options)
    assert code in (1, 2) and message in told and "internal" not in told, told
    assert sorted(file.name for file in tmp_path.iterdir()) == ["other.onnx", "other.pt2"]
    assert Path("other.onnx").read_bytes() == b"somebody else's"


def test_a_difference_is_found() -> None:
    network = of_steps("conv(8)")
    recording = record(network, open_sizes=False)

    def off(by: float) -> Any:
        return lambda inputs: [network(inputs["images"]) + by]

    compared(network, recording, off(0), False).check("the model")
    with pytest.raises(ExportError, match=r"the model differs from the network by 0\.01"):
        compared(network, recording, off(0.01), False).check("the model")
    with pytest.raises(ExportError, match="of other sizes"):
        compared(network, recording, lambda inputs: [inputs["images"]], False)


def test_detections_are_compared_whatever_their_order() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 8.0, 8.0], [4.0, 4.0, 9.0, 9.0], [0.0, 0.0, 0.0, 0.0]]])
    scores, labels = torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([[1, 2, -1]])
    order = [1, 0, 2]
    assert same_detections([boxes, scores, labels], [boxes[:, order], scores[:, order], labels[:, order]]) == (0, 2, 0)
    largest, there, lost = same_detections([boxes, scores, labels], [boxes + 0.001, scores, labels])
    assert there == 2 and lost == 0 and largest == pytest.approx(0.001 / 9, rel=0.01)
    assert same_detections([boxes, scores, labels], [boxes, scores, torch.tensor([[1, 0, -1]])])[1:] == (2, 2)
    agreement = Agreement(0.0, (), detections=100, lost=3)
    with pytest.raises(ExportError, match="of 100 detections 3 differ"):
        agreement.check("the model")


def test_a_network_that_cannot_be_recorded_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = elaborate(Source("space s {\n  input 3 x 8 x 8\n  network { conv(4) -> classify(classes: 3) }\n}\n"))
    network = Supernet(space.graph)
    monkeypatch.setattr(type(network), "forward", lambda self, x, targets=None: x[: int(x.sum())])
    with pytest.raises(ExportError, match=r"torch\.export cannot record the network: .+"):
        export_network(space, network, AboutWeights(), "onnx", tmp_path / "net.onnx")
