"""First weights from files, with the names of torchvision and timm, which `tests/names/write.py` wrote down; and parts
that are not trained."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.parse import read
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source
from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.evaluators import ScratchEvaluator
from nasdsl.runtime.fit import train, train_settings
from nasdsl.runtime.penalty import Penalty
from nasdsl.runtime.pretrained import COUNTER, begin, fill, weights_in
from nasdsl.runtime.search import Options
from nasdsl.runtime.settings import Train
from nasdsl.runtime.strategies.shrink import check_units
from nasdsl.runtime.tasks import Classification
from nasdsl.runtime.trainer import Trainer
from tests import test_trainer

NAMES = Path(__file__).parent / "names"


@cache
def published(name: str) -> Mapping[str, Tensor]:
    """Random weights with the names and shapes of a published network; statistics as after training."""
    generator = torch.Generator().manual_seed(0)
    out: dict[str, Tensor] = {}
    for line in (NAMES / f"{name}.txt").read_text().splitlines():
        key, *sizes = line.split()
        shape = tuple(map(int, sizes))
        if key.endswith(COUNTER):
            out[key] = torch.tensor(7)
        elif len(shape) == 1:
            out[key] = torch.rand(shape, generator=generator) * 0.4 + (0.8 if not key.endswith("bias") else -0.2)
        else:
            fan = max(1, out_of(shape))
            out[key] = torch.randn(shape, generator=generator) / fan**0.5
    return out


def out_of(shape: tuple[int, ...]) -> int:
    """How many numbers a filter reads."""
    return int(torch.tensor(shape[1:]).prod())


@cache
def space_of(body: str, size: int = 64) -> Space:
    return elaborate(Source(f"space test {{\n  input 3 x {size} x {size}\n  {body}\n}}\n"))


def network_of(call: str, rest: str = "pick(1/32) -> classify(classes: 1000)") -> Supernet:
    return Supernet(space_of(f"network {{ b: {call}, {rest} }}").graph)


# --- what torchvision and timm publish --------------------------------------------------------------------------------

FILES = [
    ("torchvision_resnet18", "resnet(18)"),
    ("torchvision_resnet50", "resnet(50)"),
    ("torchvision_resnext50_32x4d", "resnext(50)"),
    ("torchvision_mobilenet_v2", "mobilenet_v2()"),
    ("timm_resnet18", "resnet(18)"),
    ("timm_resnext50_32x4d", "resnext(50)"),
    ("timm_mobilenetv2_100", "mobilenet_v2()"),
]


@pytest.mark.parametrize(("name", "call"), FILES)
def test_each_tensor_of_a_backbone_has_one_source(name: str, call: str) -> None:
    """Every tensor of the file but those of the classifier is found once, in a tensor of its shape."""
    network, tensors = network_of(call), published(name)
    note = fill(network, "b", tensors, "file.safetensors")
    ours = {k: t for k, t in network.state_dict().items() if k.startswith("layers.b/") and t.dim()}
    theirs = {k: t for k, t in tensors.items() if not k.endswith(COUNTER)}
    behind = ("fc.", "classifier.", "features.18.", "conv_head.", "bn2." if "mobilenet" in name else "fc.")
    theirs = {k: t for k, t in theirs.items() if not k.startswith(behind)}
    assert sorted(map(digest, ours.values())) == sorted(map(digest, theirs.values()))
    assert len(set(map(digest, ours.values()))) == len(ours)
    counters = sum(k.endswith(COUNTER) and k.startswith("layers.b/") for k in network.state_dict())
    assert f"`b`: {len(ours) + counters} of {len(ours) + counters} tensors are from file.safetensors" in note
    assert "its classifier (2 tensors) is not used" in note
    assert ("have no place here" in note) == ("mobilenet" in name)  # its last convolution


def digest(tensor: Tensor) -> tuple[Any, ...]:
    return (*tensor.shape, float(tensor.sum()), float(tensor.flatten()[0]))


class Published:
    """The published networks, written down in functions of torch from the names of their weights."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors

    def conv(self, x: Tensor, name: str, norm: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = self.tensors[f"{name}.weight"]
        y = F.conv2d(x, weight, None, stride, weight.shape[2] // 2, groups=groups)
        mean, var, scale, shift = (
            self.tensors[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(y, mean, var, scale, shift, eps=1e-5)

    def resnet(self, x: Tensor, blocks: list[int], convolutions: int, groups: int = 1) -> Tensor:
        x = F.max_pool2d(self.conv(x, "conv1", "bn1", 2).relu(), 3, 2, 1)
        for stage, count in enumerate(blocks, 1):
            for number in range(count):
                block = f"layer{stage}.{number}"
                stride = 2 if stage > 1 and number == 0 else 1
                y = x
                for n in range(1, convolutions + 1):
                    middle = n == (1 if convolutions == 2 else 2)
                    y = self.conv(
                        y,
                        f"{block}.conv{n}",
                        f"{block}.bn{n}",
                        stride if middle else 1,
                        groups if middle and convolutions == 3 else 1,
                    )
                    y = y.relu() if n < convolutions else y
                if f"{block}.downsample.0.weight" in self.tensors:
                    x = self.conv(x, f"{block}.downsample.0", f"{block}.downsample.1", stride)
                x = (x + y).relu()
        return F.linear(x.mean((2, 3)), self.tensors["fc.weight"], self.tensors["fc.bias"])

    def mobilenet(self, x: Tensor) -> Tensor:
        """Up to the last block."""
        x = F.relu6(self.conv(x, "features.0.0", "features.0.1", 2))
        number = 0
        for expand, out, count, first in (
            (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
        ):  # fmt: skip
            for repeat in range(count):
                number += 1
                block, y, stride = f"features.{number}.conv", x, first if repeat == 0 else 1
                if expand > 1:
                    y = F.relu6(self.conv(y, f"{block}.0.0", f"{block}.0.1"))
                at = 0 if expand == 1 else 1
                y = F.relu6(self.conv(y, f"{block}.{at}.0", f"{block}.{at}.1", stride, y.shape[1]))
                y = self.conv(y, f"{block}.{at + 1}", f"{block}.{at + 2}")
                x = x + y if stride == 1 and x.shape[1] == out else y
        return x


@pytest.mark.parametrize(
    ("name", "call", "blocks", "convolutions", "groups"),
    [
        ("torchvision_resnet18", "resnet(18)", [2, 2, 2, 2], 2, 1),
        ("torchvision_resnet50", "resnet(50)", [3, 4, 6, 3], 3, 1),
        ("torchvision_resnext50_32x4d", "resnext(50)", [3, 4, 6, 3], 3, 32),
    ],
)
def test_a_classifier_with_the_weights_computes_what_is_published(
    name: str, call: str, blocks: list[int], convolutions: int, groups: int
) -> None:
    """The whole network, with its last layer."""
    network, tensors = network_of(call).eval(), published(name)
    note = fill(network, "", tensors, "file")
    assert "not used" not in note and "no place" not in note
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = Published(tensors).resnet(image, blocks, convolutions, groups)
        torch.testing.assert_close(network(image), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    assert expected.std() > 1e-3


def test_mobilenet_with_the_weights_computes_what_is_published() -> None:
    network = network_of("mobilenet_v2()", "pick(1/32)").eval()
    tensors = published("torchvision_mobilenet_v2")
    fill(network, "b", tensors, "file")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = Published(tensors).mobilenet(image)
        torch.testing.assert_close(network(image), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_timm_calls_mobilenet_otherwise_and_means_the_same() -> None:
    """Its tensors stand in the same order, so torchvision's names can be given to them."""
    timm, theirs = published("timm_mobilenetv2_100"), list(published("torchvision_mobilenet_v2"))
    one, other = (network_of("mobilenet_v2()", "pick(1/32)").eval() for _ in range(2))
    fill(one, "b", timm, "file")
    fill(other, "b", dict(zip(theirs, timm.values(), strict=True)), "file")
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


# --- parts, prefixes, choices -----------------------------------------------------------------------------------------


def test_a_backbone_may_lack_stages_and_names_may_have_a_prefix(tmp_path: Path) -> None:
    tensors = {f"backbone.body.{name}": tensor for name, tensor in published("torchvision_resnet18").items()}
    tensors |= {"rpn.head.conv.weight": torch.zeros(2)}
    network = network_of("resnet(18, stages: 1..3)", "pick(1/16) -> classify(classes: 3)")
    note = fill(network, "b", tensors, "file")
    assert torch.equal(network.get_parameter("layers.b/conv.conv.weight"), tensors["backbone.body.conv1.weight"])
    assert "26 of 123 tensors of it have no place here: backbone.body.layer4.0.conv1.weight" in note


def test_frozen_norms_take_the_statistics() -> None:
    tensors = published("torchvision_resnet18")
    space = space_of("defaults { norm: frozen }\nnetwork { b: resnet(18), pick(1/32) -> classify(classes: 1000) }")
    frozen, batch = Supernet(space.graph).eval(), network_of("resnet(18)").eval()
    fill(frozen, "", tensors, "file")
    fill(batch, "", tensors, "file")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(frozen(image), batch(image))
    assert sum(p.numel() for p in frozen.parameters()) == 11_689_512 - 9_600


@pytest.mark.parametrize(("depth", "blocks", "convolutions"), [(18, [2, 2, 2, 2], 2), (50, [3, 4, 6, 3], 3)])
def test_a_supernet_takes_a_file_of_blocks_of_one_kind(depth: int, blocks: list[int], convolutions: int) -> None:
    space = space_of("let depth = oneof(18, 50)\nnetwork { resnet(depth), pick(1/32) -> classify(classes: 1000) }")
    network = Supernet(space.graph).eval()
    tensors = published(f"torchvision_resnet{depth}")
    fill(network, "resnet", tensors, "file")
    network.activate({"depth": depth})
    classify = network.get_submodule("layers.classify.linear")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        classify.get_parameter("weight")[:, : tensors["fc.weight"].shape[1]] = tensors["fc.weight"]
        classify.get_parameter("bias").copy_(tensors["fc.bias"])
        expected = Published(tensors).resnet(image, blocks, convolutions)
        torch.testing.assert_close(network(image), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_a_smaller_architecture_has_slices_of_the_file() -> None:
    """Narrow stages of a supernet whose widest is the published one."""
    space = space_of("let width = oneof(32, 64)\nnetwork { b: resnet(18, width), pick(1/32) -> classify(classes: 10) }")
    network, tensors = Supernet(space.graph), published("torchvision_resnet18")
    fill(network, "b", tensors, "file")
    small = network.extract({"width": 32})
    weight = small.get_parameter("layers.b/for[1]/c/resnet_stage[0]/basic/conv[0].conv.weight")
    assert torch.equal(weight, tensors["layer2.0.conv1.weight"][:64, :32])


def test_what_nasdsl_wrote(tmp_path: Path) -> None:
    """A whole network, or a part of another that has the same part."""
    one, other = network_of("resnet(18)"), network_of("resnet(18)")
    save_file(one.state_dict(), tmp_path / "one.safetensors")
    tensors = weights_in(tmp_path / "one.safetensors")
    assert fill(other, "", tensors, "file") == "the network: 122 of 122 tensors are from file"
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    another = network_of("resnet(18)", "pick(1/32) -> conv(7) -> classify(classes: 2)")
    fill(another, "b.for[0]", tensors, "file")
    mine = {k: t for k, t in another.state_dict().items() if k.startswith("layers.b/for[0]")}
    assert mine and all(torch.equal(tensor, tensors[name]) for name, tensor in mine.items())


def test_a_file_gives_what_the_network_has_too(tmp_path: Path) -> None:
    """By name and shape; a file of a part goes before it, and what is left is drawn."""
    other = space_of("network { a: conv(8), b: conv(6), gone: conv(6), classify(classes: 3) }")
    save_file(Supernet(other.graph).state_dict(), tmp_path / "other.safetensors")
    part = Supernet(space_of("network { a: conv(8), classify(classes: 3) }").graph)
    save_file(part.state_dict(), tmp_path / "part.safetensors")
    space = space_of("network { a: conv(8), b: conv(7), new: conv(6), classify(classes: 3) }")
    network = Supernet(space.graph)
    files = {name: str(tmp_path / f"{name}.safetensors") for name in ("other", "part")}
    notes = begin(network, Train.model_validate({"init": {"a": files["part"], "matching": files["other"]}}).init, space)
    assert notes[0].startswith("the network: 9 of 20 tensors are from other.safetensors; not taken `b` (conv.weight)")
    assert "no place here: layers.gone.conv.weight" in notes[0]
    assert notes[1].startswith("`a`: 6 of 6 tensors are from part.safetensors")
    own, theirs = network.state_dict(), load_file(tmp_path / "other.safetensors")
    same = {name for name, t in theirs.items() if name in own and equal(own[name], t)}
    weights = {name for name in same if name.endswith("weight")}
    assert weights == {"layers.a.norm.weight", "layers.classify.linear.weight"}
    of_a = [name for name in part.state_dict() if name.startswith("layers.a.")]
    assert len(of_a) == 6 and all(equal(own[name], part.state_dict()[name]) for name in of_a)
    with pytest.raises(CompileError, match="has nothing of the network: all names differ"):
        begin(Supernet(space_of("network { z: conv(8) -> flatten() }").graph), {"matching": files["part"]}, space)


def test_what_torch_saved(tmp_path: Path) -> None:
    tensors = dict(published("torchvision_resnet18"))
    torch.save({"state_dict": tensors, "epoch": 7}, tmp_path / "a.pth")
    torch.save(tensors, tmp_path / "b.pth")
    for name in ("a.pth", "b.pth"):
        assert weights_in(tmp_path / name).keys() == tensors.keys()
    torch.save({"epoch": 7}, tmp_path / "c.pth")
    with pytest.raises(CompileError, match="holds no tensors by name: `epoch` is none"):
        weights_in(tmp_path / "c.pth")
    torch.save({"network": nn.Linear(1, 1)}, tmp_path / "d.pth")
    with pytest.raises(CompileError, match="no checkpoint, or holds more than tensors"):
        weights_in(tmp_path / "d.pth")
    (tmp_path / "e.safetensors").write_bytes(b"nothing")
    with pytest.raises(CompileError, match="no file of weights"):
        weights_in(tmp_path / "e.safetensors")


# --- what does not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "part", "words"),
    [
        (
            "network { b: resnet(18, width: 32), pick(1/32) -> classify(classes: 3) }",
            "b",
            "does not fit `b`: 100 of 120 tensors differ: `b.conv` (conv.weight) has 32 x 3 x 7 x 7, "
            "and `conv1.weight` 64 x 3 x 7 x 7, ",
        ),
        (
            "defaults { norm: group }\nnetwork { b: resnet(18), pick(1/32) -> classify(classes: 3) }",
            "b",
            "does not fit `b`: 40 of 60 tensors differ: `bn1.running_mean` (64) has no place in its layer",
        ),
        (
            "network { b: resnet(34), pick(1/32) -> classify(classes: 3) }",
            "b",
            "lacks 80 of 216 tensors of `b`: `b.for[0].c.resnet_stage[2].basic.conv[0]` (conv.weight, 64 x 64 x 3 x 3)",
        ),
        (
            "network { b: resnet(18), pick(1/32) -> conv(8) -> classify(classes: 3) }",
            "",
            "lacks 5 of 128 tensors of the network: `conv` (conv.weight, 8 x 512 x 1 x 1)",
        ),
        ("network { b: conv(8) -> classify(classes: 3) }", "b", "lacks 7 of 8 tensors of `b`"),
    ],
)
def test_what_does_not_fit_is_told(body: str, part: str, words: str) -> None:
    network = Supernet(space_of(body).graph)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(CompileError) as caught:
        fill(network, part, published("torchvision_resnet18"), "file")
    assert words in caught.value.diagnostics[0].message
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


# --- as a setting -----------------------------------------------------------------------------------------------------

SPACE = """
space test {{
  input 1 x 12 x 12
  network {{
    backbone: {{ conv(8, kernel: 3) -> repeat 2 {{ conv(8, kernel: 3) }} }}
    head: classify(classes: 3)
  }}
  train {{ epochs: 1, batch: 8, {entries} }}
}}
"""


def written(tmp_path: Path, entries: str) -> Space:
    (tmp_path / "test.space").write_text(SPACE.format(entries=entries))
    return elaborate(read(tmp_path / "test.space"))


@pytest.mark.parametrize(
    ("entries", "code", "words"),
    [
        ("init: trch", "bad-setting", "should be torch or mnas or a .safetensors file or a .pth file"),
        ("init: { backbone: mnas }", "bad-setting", "backbone: should be a .safetensors file or a .pth file"),
        ('init: { rest: "a.pth" }', "bad-setting", "rest: should be torch or mnas"),
        ("init: 5", "bad-setting", "init"),
        ('init: { bakcbone: "a.safetensors" }', "unknown-path", "`init` names no part of the network: `bakcbone`"),
        ('init: "a.safetensors"', "no-weights", "a.safetensors are missing"),
        ('freeze: ["backbone.conv", "haed"]', "unknown-path", "`freeze` names no part of the network: `haed`"),
    ],
)
def test_mistakes_in_the_settings(entries: str, code: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(CompileError) as caught:
        train_settings(written(tmp_path, entries), {})
    (found,) = caught.value.diagnostics
    assert found.code == code and words in found.message
    assert found.span is not None and found.span.text in (entries.partition(": ")[2], "backbone")
    if code == "unknown-path":
        assert "did you mean" in found.help or "parts are `backbone`, `head`" in found.help


def test_a_file_stands_beside_the_space(tmp_path: Path) -> None:
    space = written(tmp_path, 'init: { backbone: "sub/first.pth", rest: mnas }')
    (tmp_path / "sub").mkdir()
    source = Supernet(space.graph)
    torch.save(source.state_dict(), tmp_path / "sub" / "first.pth")
    network = Supernet(space.graph)
    notes = begin(network, train_settings(space, {}).init, space)
    assert notes == ["`backbone`: 18 of 18 tensors are from first.pth; 2 of 20 tensors of it have no place here: "
                     "layers.head.linear.weight, layers.head.linear.bias"]  # fmt: skip
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name]) == ("head" not in name)


def test_a_run_goes_on_with_the_same_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space = written(tmp_path, 'init: "first.safetensors", freeze: "backbone"').source
    network = Supernet(elaborate(space).graph)
    save_file(network.state_dict(), tmp_path / "first.safetensors")
    data = test_trainer.data()
    monkeypatch.setattr("nasdsl.runtime.search.open_data", lambda *args, **options: data)
    out = tmp_path / "out.safetensors"
    train(space, out, Options(accelerator="cpu"), None, {})
    found = weights_in(out)
    assert all(torch.equal(found[n], t) == ("head" not in n) for n, t in network.state_dict().items() if t.dim())
    train(space, out, Options(accelerator="cpu"), None, {})  # which is done already
    save_file({n: t + 1 for n, t in network.state_dict().items()}, tmp_path / "first.safetensors")
    with pytest.raises(RunError, match=r"(?m)started with another init$"):
        train(space, out, Options(accelerator="cpu"), None, {})


def test_one_file_for_all_that_an_evolution_trains(tmp_path: Path) -> None:
    """An architecture that is trained from scratch starts with its part of the largest one's file."""
    text = SPACE.format(entries='init: { backbone: "first.pth" }').replace("conv(8, kernel: 3)", "conv(oneof(4, 8))", 1)
    (tmp_path / "test.space").write_text(text)
    space = elaborate(read(tmp_path / "test.space"))
    largest = Supernet(space.graph)
    torch.save(largest.state_dict(), tmp_path / "first.pth")
    data = test_trainer.data()
    settings = train_settings(space, {"freeze": ["backbone"], "recalibrate": 0})
    task, fabric = Classification.from_data(data), Fabric(accelerator="cpu")
    evaluator = ScratchEvaluator(space, data, task, fabric, settings)
    assert "`backbone`: 18 of 18 tensors" in evaluator.told()[0]
    kept: list[Supernet] = []

    class Spied(Trainer):
        def __init__(self, network: Supernet, *args: Any) -> None:
            kept.append(network)
            super().__init__(network, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nasdsl.runtime.evaluators.Trainer", Spied)
        evaluator.evaluate(Architecture.of(space.graph, {"backbone.conv.out": 4}), seed=3)
    mine = kept[0].state_dict()["layers.backbone/conv.conv.weight"]
    assert torch.equal(mine, largest.state_dict()["layers.backbone/conv.conv.weight"][:4])


def test_two_ways_to_start_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = written(tmp_path, 'init: { backbone: "first.pth" }')
    (tmp_path / "first.pth").write_bytes(b"")
    monkeypatch.setattr("nasdsl.runtime.search.open_data", lambda *args, **options: test_trainer.data())
    with pytest.raises(CompileError, match="`--inherit` and a file under `init`"):
        train(space.source, tmp_path / "out.safetensors", Options(), None, {}, inherit=tmp_path / "first.pth")


# --- parts that are not trained ---------------------------------------------------------------------------------------

FROZEN = ["stem", "searching[0]"]


def trainer(**settings: Any) -> Trainer:
    return test_trainer.trainer(**{"freeze": FROZEN, **settings})


def is_frozen(name: str) -> bool:
    return name.startswith(("layers.stem", "layers.searching[0]"))


def values(one: Trainer) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in one.network.state_dict().items()}


@pytest.mark.parametrize("form", ["loss", "optimiser"])
def test_frozen_parts_stay_as_they_are(form: str) -> None:
    """Their weights, their statistics and their averages, through cuts and recalibration; all else learns."""
    one = trainer(weight_decay=0.1, weight_decay_form=form)
    before = values(one)
    one.fit(3)
    one.shrink({path: units for path, units in test_trainer.half(one.network).items() if "searching[1]" in path})
    one.fit(6)
    one.recalibrate(2)
    moved = {name for name, t in values(one).items() if name in before and not equal(t, before[name])}
    assert moved and not any(map(is_frozen, moved))
    learns = {name for name, t in one.network.named_parameters() if not is_frozen(name)}
    assert learns <= moved
    assert all(is_frozen(name) == (p.grad is None) for name, p in one.network.named_parameters())
    assert all(is_frozen(name) != p.requires_grad for name, p in one.network.named_parameters())
    held = {id(p) for group in one.optimiser.param_groups for p in group["params"]}
    assert held == {id(p) for p in one.network.parameters() if p.requires_grad}
    assert one.average is not None
    for name, value in one.average.values.items():
        assert not is_frozen(name) or equal(value, before[name])


def equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


def test_a_resumed_run_with_frozen_parts_is_the_unbroken_run() -> None:
    one = trainer()
    one.fit(3)
    state = copy.deepcopy(one.state())
    one.fit(6)
    other = trainer()
    other.load(state)
    other.fit(6)
    test_trainer.assert_same(test_trainer.everything(one), test_trainer.everything(other))


def test_units_of_a_frozen_part_can_still_be_taken_away() -> None:
    one = trainer()
    one.fit(2)
    before = values(one)
    one.shrink(test_trainer.half(one.network))
    one.fit(4)
    name = "layers.searching[0]/mixconv.hidden_norm.running_mean"
    assert equal(values(one)[name], before[name][[0, 2, 4, 6, 8, 10, 12]])


def test_a_frozen_part_cannot_be_shrunk_by_a_penalty() -> None:
    one = trainer()
    with pytest.raises(
        CompileError, match=r"search units of `searching\[0\]\.mixconv\.hidden\[3\]` lie in a frozen part"
    ):
        check_units(one.network, Penalty(one.network, "exact", True, 1e-3))
    one = trainer(freeze=["stem"])
    check_units(one.network, Penalty(one.network, "exact", True, 1e-3))


def test_what_cannot_be_frozen() -> None:
    with pytest.raises(RunError, match="leaves nothing to train"):
        trainer(freeze=["stem", "searching[0]", "searching[1]", "head"])
    space = space_of("network { a: conv(8, share: w), b: conv(8) -> conv(8, share: w), classify(classes: 3) }")
    settings = Train.model_validate({"freeze": ["a"]})
    data = test_trainer.data()
    with pytest.raises(RunError, match="shares weights with a part that is frozen"):
        Trainer(Supernet(space.graph), Classification.from_data(data), data, settings, Fabric(accelerator="cpu"))
