"""Exported files: equal numbers beside torch alone, code that reads and lints well, both files or none."""

from __future__ import annotations

import ast
import functools
import importlib.util
import math
import os
import random
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nasdsl.compiler.architecture import Values
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source
from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.export import ExportError, batch_to_compare, export_python, library, verify_python
from nasdsl.runtime.export.code import quoted
from nasdsl.runtime.export.verify import difference
from tests.networks import largest

SEARCHING = """
  operator searching(out, stride = 1) {
    mixconv(out, stride, hidden: { 3: units(2 * in), 5: units(2 * in) })
      + transformer(out, stride, tokens: units(4), size: 4) + skip(out, stride)
  }
  fusion exchange {
    same:  searching(width)
    down:  searching(width, stride: 2)
    up:    searching(width) -> upsample(to: scale)
    new:   searching(width, stride: 2)
    from:  neighbours
    merge: sum()
    then:  relu()
  }
"""
HEADS = {
    "segment": "concat(scale: 1/4) -> segment(classes: 5)",
    "classify": "concat(scale: 1/4) -> conv(20, act: h_swish) -> se() -> global_pool() -> dropout(1/5)"
    " -> classify(classes: 5)",
}
PLAIN = "space plain {\n  input 3 x 32 x 32\n  network {\n    %s\n  }\n}"


def tiny() -> str:
    return f"""space tiny {{
  input 3 x 32 x 32 {SEARCHING}
  network {{
    stem: conv(8, kernel: 3, stride: 2)
    stage: for n in [1, 2] {{
      fuse(exchange, to: take({{ 1/2: 8, 1/4: 16 }}, n))
      parallel {{ repeat 2 {{ searching(width) }} }}
    }}
    concat(scale: 1/2) -> segment(classes: 5)
  }}
}}"""


def branches(head: str) -> str:
    return f"""space branches {{
  input 3 x 64 x 96 {SEARCHING}
  network {{
    let lanes = {{ 1/4: 6, 1/8: 8, 1/16: 12 }}
    stem:  conv(8, kernel: 3, stride: 2) -> conv(6, kernel: 3, stride: 2)
    stage: for n in [1, 2, 3, 3] {{
      fuse(exchange, to: take(lanes, n))
      parallel {{ repeat 1 {{ searching(width) }} }}
    }}
    {HEADS[head]}
  }}
}}"""


def space_of(text: str) -> Space:
    return elaborate(Source(text, "example.space"))


def drawn(graph: Graph, seed: int) -> dict[str, Any]:
    """Kernels and transformers that are whole, partly there, or gone; one kernel of each MixConv stays."""
    rng = random.Random(seed)
    values: dict[str, Any] = {}
    for path, decision in graph.decisions.items():
        least = 1 if decision.n > 8 and not path.endswith("5") else 0
        kept = rng.choice([least, decision.n, rng.randint(least, decision.n)])
        values[path] = tuple(sorted(rng.sample(range(decision.n), kept)))
    return values


def network_of(space: Space, values: Values | None = None) -> Supernet:
    """One architecture, as after training."""
    torch.manual_seed(0)
    network = Supernet(space.graph).extract(largest(space.graph) if values is None else values)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def plain(steps: str) -> tuple[Space, Supernet]:
    space = space_of(PLAIN % steps)
    return space, network_of(space)


def load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("found_here", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def images(*sizes: tuple[int, int], channels: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, channels, *size, generator=generator) for size in sizes]


SIZES = ((32, 32), (37, 51), (33, 64), (21, 19))


def lint(path: Path) -> None:
    ruff = shutil.which("ruff") or str(Path(sys.executable).with_name("ruff"))
    if not Path(ruff).exists():
        pytest.skip("ruff is not installed")
    common = ["--isolated", "--no-cache", "--line-length", "120"]
    for command in (["format", "--diff"], ["check", "--extend-select", "E,F,I"]):
        done = subprocess.run([ruff, *command, *common, str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def same_here(path: Path, network: Supernet, inputs: list[torch.Tensor]) -> None:
    """The quick check, in this process; the keys of the weights are part of it."""
    model = load_module(path).load()
    with torch.inference_mode():
        for x in inputs:
            torch.testing.assert_close(model(x), network(x), rtol=0, atol=1e-6)


# --- Numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", [tiny(), branches("segment"), branches("classify")], ids=["tiny", "segment", "classify"]
)
def test_alone_beside_torch_it_gives_the_same_numbers(text: str, tmp_path: Path) -> None:
    space = space_of(text)
    network = network_of(space, drawn(space.graph, 3))
    network.train()
    files = export_python(network, tmp_path / "found.py", space=space)
    assert [file.name for file in files] == ["found.py", "found.py.safetensors"]
    assert verify_python(files[0], network, images(*SIZES)) < 1e-6
    assert network.training  # left as it was
    lint(files[0])


@pytest.mark.parametrize("head", ["segment", "classify"])
@pytest.mark.parametrize("seed", range(4))
def test_random_parts_of_a_space(head: str, seed: int, tmp_path: Path) -> None:
    space = space_of(branches(head))
    network = network_of(space, drawn(space.graph, seed))
    files = export_python(network, tmp_path, space=space)
    same_here(files[0], network, images(*SIZES))
    lint(files[0])


def test_the_largest_and_one_without_transformers_or_the_larger_kernel(tmp_path: Path) -> None:
    space = space_of(tiny())
    whole = network_of(space)
    bare = {path: () if d.n <= 4 or path.endswith("5") else (0, 2) for path, d in space.graph.decisions.items()}
    small = network_of(space, bare)
    for name, network in (("whole", whole), ("small", small)):
        path = export_python(network, tmp_path / f"{name}.py", space=space)[0]
        same_here(path, network, images(*SIZES))
        lint(path)
    assert "class LightTransformer" in (tmp_path / "whole.py").read_text()
    assert "class LightTransformer" not in (tmp_path / "small.py").read_text()
    assert "Attention" not in (tmp_path / "small.py").read_text()


@pytest.mark.parametrize(
    "steps",
    [
        "conv(4) -> global_pool() -> linear(8, act: relu) -> classify(classes: 3)",
        "conv(4, stride: 2) -> (max_pool(stride: 2) + avg_pool(stride: 2) + conv(4, stride: 2)) -> segment(classes: 3)",
        "conv(4) -> (identity() + skip(4)) -> segment(classes: 3)",
        "conv(4, stride: 2) -> ((conv(4, stride: 2) -> upsample(to: 2)) + identity()) -> segment(classes: 3)",
        "conv(4) -> depthwise(3, bias: true) -> norm() -> swish() -> resize(to: 1/2) -> keypoints(joints: 4)",
        "min: conv(4)\nmax: relu()\nlambda: conv(4) -> gelu()\nx: conv(3)\nl: segment(classes: 2)",
        "conv(4, order: [act, conv, norm], scale_init: 0.5, eps: 0.001) -> segment(classes: 2)",
        "conv(4, kernel: 3, stride: 2) -> detect3d(classes: 3)",
        "conv(4, kernel: 3, norm: group, norm_groups: 2, standardise: true) -> norm(frozen) -> segment(classes: 3)",
        "conv(4, kernel: [2, 5], stride: 2) -> depthwise(4, act: silu) -> max_pool([1, 2]) -> segment(classes: 3)",
        "conv(4) -> conv_transpose(4) -> conv_transpose(4, kernel: 2, stride: 1) -> segment(classes: 3)",
        "space_to_depth() -> shuffle(3) -> channels(8, skip: 2) -> depth_to_space() -> shift(1) -> segment(classes: 3)",
    ],
)
def test_operators(steps: str, tmp_path: Path) -> None:
    space, network = plain(steps)
    path = export_python(network, tmp_path, space=space)[0]
    same_here(path, network, images(*SIZES))
    lint(path)


def test_sums_are_written_with_plus_only_where_sizes_always_agree(tmp_path: Path) -> None:
    _, agrees = plain(
        "conv(4, stride: 2) -> (conv(4, stride: 2) -> conv(4, stride: 2)) + conv(4, stride: 4) -> segment(classes: 3)"
    )
    text = export_python(agrees, tmp_path / "a.py")[0].read_text()
    assert "class Sum" not in text
    assert "+ self.conv" in text
    _, differs = plain("(conv(4, stride: 2) -> upsample(to: 2)) + conv(4) -> segment(classes: 3)")
    path = export_python(differs, tmp_path / "b.py")[0]
    assert "self.sum(" in path.read_text()
    same_here(path, differs, images(*SIZES))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_types_of_numbers(dtype: torch.dtype, tmp_path: Path) -> None:
    space = space_of(tiny())
    network = network_of(space, drawn(space.graph, 5)).to(dtype)
    model = load_module(export_python(network, tmp_path)[0]).load()
    assert {p.dtype for p in model.parameters()} == {dtype}
    x = images((32, 32))[0].to(dtype)
    with torch.inference_mode():
        assert torch.equal(model(x), network(x))


@pytest.mark.long
def test_it_can_be_exported_and_traced_further(tmp_path: Path) -> None:
    space = space_of(branches("classify"))
    network = network_of(space, drawn(space.graph, 7))
    model = load_module(export_python(network, tmp_path)[0]).load()
    x = images((64, 96))[0]
    with torch.no_grad():
        batch = torch.export.Dim("batch", min=2, max=64)
        program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},))
        for given in (x, x[:1].repeat(3, 1, 1, 1)):
            torch.testing.assert_close(program.module()(given), network(given), rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_jit_trace(tmp_path: Path) -> None:
    space = space_of(tiny())
    network = network_of(space, drawn(space.graph, 8))
    model = load_module(export_python(network, tmp_path)[0]).load()
    x = images((32, 32))[0]
    with torch.no_grad():
        traced = torch.jit.trace(model, x)
        torch.testing.assert_close(traced(x), network(x), rtol=0, atol=1e-6)


def test_training_goes_on_as_in_the_supernet(tmp_path: Path) -> None:
    space = space_of(tiny().replace("size: 4)", "size: 4, dropout: 0)"))
    network = network_of(space, drawn(space.graph, 9))
    model = load_module(export_python(network, tmp_path)[0]).load()
    x = images((32, 32))[0]
    for net in (network, model):
        net.train()
        net(x).square().mean().backward()
        net.eval()
    grads = [sum(float(p.grad.abs().sum()) for p in net.parameters() if p.grad is not None) for net in (network, model)]
    assert grads[0] == pytest.approx(grads[1], rel=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), network(x), rtol=0, atol=1e-6)


# --- Detectors --------------------------------------------------------------------------------------------------------

DETECTORS = """space detectors {
  input 3 x 64 x 64
  param classes = 3
  let which = oneof(frcnn, cascade, guided, retina, single)
  detector {
    backbone: {
      conv(8, kernel: 3, stride: 4)
      c2: conv(8)
      c3: basic(12, stride: 2)
      (branches(c3) if which == single else branches(c2, c3))
    }
    neck: none if which == single else fpn(8, levels: 2..3)
    proposals: match which {
      frcnn: rpn(30)
      cascade: rpn(30)
      guided: guided_anchor_rpn(30, threshold: 0)
      retina: none
      single: rpn(30, scales: [2, 4])
    }
    head: match which {
      frcnn: rcnn(classes, body: two_layers(16), samples: 16)
      cascade: cascade(2, classes, body: two_layers(16), samples: 16)
      guided: cascade(2, classes, body: two_layers(16), samples: 16)
      retina: retina(classes, depth: 1, prior: 1/2)
      single: rcnn(classes, size: 14) { basic(8, stride: 2) -> global_pool() }
    }
  }
}"""
KINDS = ("frcnn", "cascade", "guided", "retina", "single")


@functools.cache
def detectors() -> Supernet:
    torch.manual_seed(0)
    return Supernet(space_of(DETECTORS).graph)


def detector(which: str) -> Supernet:
    return detectors().extract({"which": which}).eval()


def same_records(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert list(a) == list(b)
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("which", KINDS)
def test_detections_and_losses_are_those_of_the_network(which: str, tmp_path: Path) -> None:
    network = detector(which)
    path = export_python(network, tmp_path)[0]
    model = load_module(path).load()
    x, targets = batch_to_compare(network)
    assert isinstance(targets, dict)
    with torch.inference_mode():
        for size in ((64, 64), (37, 83)):
            image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(2))
            found = network(image)
            assert int((found["labels"] >= 0).sum()) > 0
            same_records(model(image), found)
        padded = network(x, {"size": targets["size"]})
        same_records(model(x, {"size": targets["size"]}), padded)
        assert float(padded["boxes"][1, :, 3].max()) <= float(targets["size"][1, 0])
    for trained in (network, model):
        trained.train()
    records = []
    for trained in (network, model):
        torch.manual_seed(3)
        losses = trained(x, targets)
        sum(losses.values()).backward()
        gradient = sum(float(p.grad.abs().sum()) for p in trained.parameters() if p.grad is not None)
        records.append({**losses, "gradient": torch.tensor(gradient)})
    same_records(*records)
    lint(path)


def test_a_detector_s_file_as_its_reader_sees_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = detector("frcnn")
    task = {"name": "detection", "mean": (0.5,) * 3, "std": (0.2,) * 3, "classes": ["cat", "dog", "bird"]}
    path = export_python(network, tmp_path, task=task)[0]
    runpy.run_path(str(path), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["boxes: 1 x 100 x 4", "scores: 1 x 100", "labels: 1 x 100"]
    assert lines[4] == f"parameters: {sum(p.numel() for p in network.parameters()):,}"
    module = load_module(path)
    head = " ".join((module.__doc__ or "").split())
    assert "gives at most 100 detections" in head and "`labels`, int64 B 100, indices of CLASSES" in head
    assert module.CLASSES == ("cat", "dog", "bird")
    lint(path)


def test_a_file_that_only_learns_otherwise_is_found(tmp_path: Path) -> None:
    """And the network that it is compared with stays as it was."""
    network = detector("frcnn")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    path = export_python(network, tmp_path)[0]
    path.write_text(path.read_text().replace("beta: float = 1.0,", "beta: float = 0.5,"))
    x, targets = batch_to_compare(network)
    with torch.inference_mode():
        same_records(load_module(path).load()(x), network(x))
    state = torch.get_rng_state()
    assert 1e-3 < verify_python(path, network, (x, targets)) < math.inf
    assert torch.equal(torch.get_rng_state(), state)
    assert not network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_a_network_that_only_proposes(tmp_path: Path) -> None:
    """It reads targets, too, but what it gives is no record."""
    _, network = plain("conv(8, kernel: 3, stride: 8) -> conv(15) -> propose(20)")
    path = export_python(network, tmp_path)[0]
    model = load_module(path).load()
    x, targets = batch_to_compare(network)
    assert isinstance(targets, dict)
    sizes = {"size": targets["size"]}
    with torch.inference_mode():
        assert network(x, sizes).shape == (2 * 20, 4)
        assert torch.equal(model(x, sizes), network(x, sizes))
        for trained in (network, model):
            trained.train()
        torch.manual_seed(0)
        wanted = network(x, targets)
        torch.manual_seed(0)
        same_records(model(x, targets), wanted)
        assert list(wanted) == ["objectness", "proposal_boxes"]
    lint(path)


def test_classes_that_a_detector_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="2 classes, but the network gives 3"):
        export_python(detector("retina"), tmp_path, task={"classes": ["cat", "dog"]})


def test_layers_that_learn_for_nothing_are_told(tmp_path: Path) -> None:
    text = DETECTORS.replace("frcnn: rpn(30)", "frcnn: { levels: branches()\n levels -> rpn(20)\n levels -> rpn(30) }")
    graph = space_of(text).graph
    with pytest.raises(ExportError, match="learns, but no output depends on it"):
        export_python(Supernet(graph).extract({"which": "frcnn"}), tmp_path)


def test_records_differ_by_names_shapes_and_in_proportion() -> None:
    a = {"boxes": torch.tensor([100.0, 0.5]), "scores": torch.tensor([0.5])}
    assert difference(a, a) == 0
    assert difference(a, {**a, "boxes": torch.tensor([101.0, 0.5])}) == pytest.approx(0.01)
    assert difference(a, {**a, "boxes": torch.tensor([100.0, 0.25])}) == 0.25
    assert difference(a, {"boxes": a["boxes"]}) == math.inf
    assert difference(a, {**a, "scores": torch.zeros(2)}) == math.inf
    assert difference(a, a["boxes"]) == math.inf


# --- The file ---------------------------------------------------------------------------------------------------------


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    space = space_of(branches("segment"))
    values = drawn(space.graph, 1)
    first, second = (export_python(network_of(space, values), tmp_path / d, space=space) for d in ("a", "b"))
    assert [a.read_bytes() for a in first] == [b.read_bytes() for b in second]


def test_imports_torch_and_the_standard_library_only(tmp_path: Path) -> None:
    space = space_of(branches("classify"))
    tree = ast.parse(export_python(network_of(space), tmp_path)[0].read_text())
    packages = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    packages |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert {p.split(".")[0] for p in packages} - {"importlib"} == {"__future__", "json", "pathlib", "torch"}


def test_the_head_says_what_it_is(tmp_path: Path) -> None:
    space = space_of(tiny())
    network = network_of(space, drawn(space.graph, 2))
    head = (load_module(export_python(network, tmp_path, space=space)[0]).__doc__ or "").replace("\n", " ")
    assert f"{sum(p.numel() for p in network.parameters()):,} parameters" in head
    assert "input of 3 x 32 x 32" in head
    assert space.digest() in head and "`tiny` (example.space" in head


def test_keys_of_the_weights_are_paths_of_the_network(tmp_path: Path) -> None:
    space = space_of(tiny())
    module = load_module(export_python(network_of(space), tmp_path)[0])
    keys = list(module.read_weights(module.WEIGHTS))
    assert "stem.conv.weight" in keys
    assert "stage1_1_4_repeat0_mixconv.depthwise.3.weight" in keys
    assert set(keys) == set(module.Found().state_dict())


def test_it_runs_as_a_script(tmp_path: Path) -> None:
    _, network = plain("conv(4) -> classify(classes: 3)")
    path = export_python(network, tmp_path)[0]
    done = subprocess.run([sys.executable, "-I", str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["output: 1 x 3", f"parameters: {sum(p.numel() for p in network.parameters())}"]


def test_constants_of_the_task(tmp_path: Path) -> None:
    _, network = plain("conv(4) -> classify(classes: 3)")
    names = ['say "hi"', "it's", "back\\slash\n"]
    task = {"name": "classification", "mean": (0.5, 0.25, 0), "std": [1, 0.5, 0.25], "classes": names}
    path = export_python(network, tmp_path, task=task)[0]
    module = load_module(path)
    assert list(module.CLASSES) == names
    x = torch.rand(2, 3, 5, 5)
    wanted = (x - torch.tensor([0.5, 0.25, 0])[:, None, None]) / torch.tensor([1, 0.5, 0.25])[:, None, None]
    torch.testing.assert_close(module.normalise(x), wanted)
    lint(path)


@given(st.text())
def test_strings_survive(text: str) -> None:
    assert ast.literal_eval(quoted(text)) == text


# --- What goes wrong --------------------------------------------------------------------------------------------------


def test_a_space_is_no_network(tmp_path: Path) -> None:
    space = space_of(tiny())
    with pytest.raises(ExportError, match=r"still a space: \d+ decisions open, such as `stage"):
        export_python(Supernet(space.graph), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"mean": (0, 0, 0)}, "mean and std go together"),
        ({"mean": (0,), "std": (1,)}, "1 values, but the input has 3"),
        ({"mean": (0, 0, 0), "std": (1, 1, 0)}, "above 0"),
        ({"classes": ["a"]}, "1 classes, but the network gives 3"),
        ({"joints": ["a"]}, "1 joints, but the network gives 3"),
        ({"labels": ["a"]}, "no `labels`"),
    ],
)
def test_constants_that_do_not_fit(task: dict[str, Any], message: str, tmp_path: Path) -> None:
    _, network = plain("conv(4) -> classify(classes: 3)")
    with pytest.raises(ExportError, match=message):
        export_python(network, tmp_path, task=task)


def test_a_name_that_cannot_be_imported(tmp_path: Path) -> None:
    _, network = plain("conv(4) -> classify(classes: 3)")
    with pytest.raises(ExportError, match="letters, digits and underscores"):
        export_python(network, tmp_path / "my-net.py")


@pytest.mark.parametrize("failing", [1, 2, 3, 4])
def test_both_files_or_none(failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of the four files that take another's place on the way cannot."""
    space = space_of(tiny())
    before = [f.read_bytes() for f in export_python(network_of(space, drawn(space.graph, 1)), tmp_path)]
    left = iter(range(failing - 1, -1, -1))
    replace = os.replace

    def fails(source: Any, target: Any) -> None:
        if next(left, None) == 0:
            raise OSError("disk is gone")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="disk is gone"):
        export_python(network_of(space), tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["found.py", "found.py.safetensors"]
    assert [(tmp_path / name).read_bytes() for name in ("found.py", "found.py.safetensors")] == before


def test_a_difference_is_found(tmp_path: Path) -> None:
    space, network = plain("conv(4) -> classify(classes: 3)")
    path = export_python(network, tmp_path, space=space)[0]
    with torch.no_grad():
        next(network.parameters()).add_(1)
    assert verify_python(path, network, images((8, 8))) > 1e-3


def test_a_file_that_needs_more_than_torch_is_found(tmp_path: Path) -> None:
    _, network = plain("conv(4) -> classify(classes: 3)")
    path = export_python(network, tmp_path)[0]
    path.write_text(path.read_text().replace("import json\n", "import json\nimport numpy\n"))
    with pytest.raises(ExportError, match=r"found\.py does not run by itself: .*numpy"):
        verify_python(path, network, images((8, 8)))


# --- Layers of other packages -----------------------------------------------------------------------------------------

LAYER = """
import math
from collections.abc import Callable

import torch
from torch import nn
{more}

FACTOR = 2.0
RULES: dict[str, Callable[[float], float]] = {{"root": math.sqrt}}


def scaled(x: torch.Tensor) -> torch.Tensor:
    return x * RULES["root"](FACTOR)


class Base(nn.Module):
    def extra(self, x):
        return {used}


class Mine(Base):
    def forward(self, x):
        return self.extra(x)
"""


def library_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, more: str, used: str) -> library.Library:
    (tmp_path / f"{name}.py").write_text(LAYER.format(more=more, used=used))
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module(name)
    copies = library.Library()
    copies.add("Mine", module, "Mine")
    return copies


def test_helpers_constants_and_bases_come_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = library_with(tmp_path, monkeypatch, "layers_one", "", "scaled(x)")
    assert list(copies.definitions) == ["RULES", "FACTOR", "scaled", "Base", "Mine"]
    lines = library.import_lines(copies.imports)
    assert lines == [
        "",
        "import math",
        "from collections.abc import Callable",
        "",
        "import torch",
        "from torch import nn",
    ]


def test_other_packages_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExportError, match="needs the package `numpy`"):
        library_with(tmp_path, monkeypatch, "layers_two", "import numpy as np", "np.abs(x)")
