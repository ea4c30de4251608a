"""What records a network, to run it elsewhere: every operator gives the same numbers then for any number of images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nasdsl.compiler.graph import Shape
from nasdsl.compiler.layers.boxes import survivors
from nasdsl.compiler.layers.conv import Depthwise
from nasdsl.compiler.layers.mixconv import MixConv
from nasdsl.compiler.layers.recording import operation
from nasdsl.compiler.layers.scene import Scene
from nasdsl.compiler.ops import CATALOGUE
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.export import export_python
from nasdsl.testing.operators import attrs_of, build, random_input, unsettle
from tests.networks import Made, image_for, size_of, tensors_of
from tests.test_export import KINDS, detector, load_module
from tests.test_ops import SETTINGS, Setting

pytestmark = pytest.mark.filterwarnings("ignore")  # what recording says of itself, such as that sizes become constants

IMAGE = Shape(3, 52, 72, 1)
BATCHES = (1, 3)
BRANCHES = (
    *("local_attention", "axial_attention", "global_attention", "window_attention", "position_embedding"),
    *("propose", "detect_regions", "detect_dense", "deform_conv"),
)
"""Operators that go other ways by their settings."""


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


def tried() -> list[Setting]:
    """The first setting for each class of layers, and all of those that have several ways."""
    first = {CATALOGUE[name].module: index for index, (name, _, _) in reversed(list(enumerate(SETTINGS)))}
    return [one for index, one in enumerate(SETTINGS) if one[0] in BRANCHES or first[CATALOGUE[one[0]].module] == index]


class Alone(nn.Module):
    """An operator as a network of its own, of images and of what it reads."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.told = getattr(layer, "reads_scene", False)

    def forward(self, images: torch.Tensor, *inputs: torch.Tensor) -> Any:
        return self.layer(*inputs, scene=Scene.of(images, None, False)) if self.told else self.layer(*inputs)


def traced(network: nn.Module, given: tuple[torch.Tensor, ...], items: tuple[int, ...]) -> Callable[..., Made]:
    program: Callable[..., Made] = torch.jit.trace(network, given, check_trace=False, strict=False)
    return program


def exported(network: nn.Module, given: tuple[torch.Tensor, ...], items: tuple[int, ...]) -> Callable[..., Made]:
    """With a batch that is left open."""
    batch = torch.export.Dim("batch", min=1, max=64)
    sizes: list[Any] = [{0: batch if n == 1 else n * batch} for n in items]
    shapes = (sizes[0], tuple(sizes[1:])) if isinstance(network, Alone) else tuple(sizes)
    program: Callable[..., Made] = torch.export.export(network, given, dynamic_shapes=shapes).module()
    return program


RECORDERS = (traced, exported)


def check(network: nn.Module, shapes: tuple[Shape, ...]) -> None:
    """What was recorded of two images computes the same as the network, whatever their number."""
    items = tuple(int(shape.items) for shape in shapes)
    for record in RECORDERS:
        program = record(network, tuple(random_input(shape, 2) for shape in shapes), items)
        for batch in BATCHES:
            given = tuple(random_input(shape, batch) for shape in shapes)
            wanted, found = tensors_of(network(*given)), tensors_of(program(*given))
            for one, other in zip(wanted, found, strict=True):
                torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5, msg=f"{record.__name__}, {batch} images")


@pytest.mark.parametrize(("name", "inputs", "given"), tried(), ids=lambda v: v if isinstance(v, str) else "")
def test_every_operator_is_recorded_for_any_batch(name: str, inputs: tuple[Shape, ...], given: dict[str, Any]) -> None:
    operator = CATALOGUE[name]
    check(Alone(unsettle(build(operator, inputs, attrs_of(operator, given)))).eval(), (IMAGE, *inputs))


def test_ways_that_training_takes_are_not_recorded() -> None:
    """Gradients are on: large maps would be computed by functions of nasdsl's own, which no recording can hold."""
    check(Alone(Depthwise(16, 5)).eval(), (IMAGE, Shape(16, 48, 48, 1)))
    check(Alone(MixConv(8, 8, {3: 12, 5: 12})).eval(), (IMAGE, Shape(8, 80, 80, 1)))


@pytest.mark.parametrize(("name", "inputs", "given"), SETTINGS, ids=lambda v: v if isinstance(v, str) else "")
def test_every_operator_runs_without_values(name: str, inputs: tuple[Shape, ...], given: dict[str, Any]) -> None:
    """On the meta device, with the size that is predicted."""
    operator = CATALOGUE[name]
    attrs = attrs_of(operator, given)
    with torch.device("meta"):
        layer = Alone(build(operator, inputs, attrs)).eval()
        made = layer(*[random_input(shape, 1) for shape in (IMAGE, *inputs)])
    predicted = operator.shape(inputs, attrs)
    assert all(x.is_meta for x in tensors_of(made))
    if isinstance(made, torch.Tensor):
        sizes = (predicted.channels, predicted.height, predicted.width)
        assert tuple(made.shape) == (predicted.items, *[n for n in sizes if n is not None])
    else:
        assert {x: tuple(y.shape) for x, y in made.items()} == {
            "boxes": (1, predicted.items, 4),
            "scores": (1, predicted.items),
            "labels": (1, predicted.items),
        }


# --- Networks that were exported --------------------------------------------------------------------------------------

STEPS = {
    "windows by shifts": "local_attention(16, heads: 4, window: 3)",
    "windows by blocks": "conv(64) -> local_attention(64, heads: 2, window: 5) -> conv(16)",
    "windows on a small map": "conv(16, stride: 2) -> local_attention(16, heads: 2, window: 5, position: per_head)",
    "lines": "axial_attention(16, heads: 4)",
    "tokens": "patches(16, size: 4) -> to_tokens() -> class_token() -> position_embedding(prefix: 1)"
    " -> vit_block(2, dim: 4, position: vectors, prefix: 1)"
    " -> vit_block(2, dim: 4, position: bias, prefix: 1, height: 2) -> first_token()",
    "windows with shifts": "swin_block(2, window: 3, shift: 1, dim: 4) -> merge_patches(16) -> convnext_block()",
    "parts of maps": "mixconv(16, hidden: { 3: 24, 5: 24 }) + transformer(16, tokens: 4, size: 4) + skip(16)",
}


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_an_exported_network_is_recorded_for_any_batch(steps: str, tmp_path: Path) -> None:
    text = f"""
space net {{
  input 1 x 32 x 32
  network {{ conv(16, kernel: 3, stride: 2) -> {steps} -> classify(classes: 3) }}
}}
"""
    network = Supernet(elaborate(Source(text)).graph).eval()
    model = load_module(export_python(network, tmp_path)[0]).load().eval()
    check(model, (network.graph.input.shape,))


@pytest.mark.parametrize(
    "which", ["single", *[pytest.param(one, marks=pytest.mark.long) for one in KINDS if one != "single"]]
)
def test_an_exported_detector_is_recorded_for_any_batch(which: str, tmp_path: Path) -> None:
    network = detector(which)
    model = load_module(export_python(network, tmp_path)[0]).load().eval()
    check(model, (network.graph.input.shape,))
    image = image_for(network.graph, 3)
    for one, other in zip(tensors_of(model(image)), tensors_of(network(image)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


# --- Operations -------------------------------------------------------------------------------------------------------


def test_a_recording_of_the_suppression_hangs_on_its_boxes() -> None:
    """How many rounds it takes is of the values: a chain of boxes that each suppress the next takes many."""

    def keep(boxes_BN4: torch.Tensor) -> torch.Tensor:
        return survivors(boxes_BN4, torch.ones(boxes_BN4.shape[:2], dtype=torch.bool), 0.4)

    corner = torch.rand(1, 12, 2) * 100  # none near another
    apart = torch.cat([corner, corner + 1], 2)
    start = torch.arange(12.0)[None, :, None] * torch.tensor([1.0, 0.0])
    chain = torch.cat([start, start + torch.tensor([3.0, 3.0])], 2)  # each with half of the next
    program = torch.jit.trace(keep, apart, check_trace=False)
    assert program(apart).all()
    assert program(chain).tolist() == [[i % 2 == 0 for i in range(12)]]


def test_an_operation_is_made_once() -> None:
    def plus(number: float) -> Any:
        return operation("nasdsl_test::plus", "(Tensor x) -> Tensor", lambda x: x + number, torch.empty_like)

    first, second = plus(1.0), plus(2.0)
    assert first is second
    assert second(torch.zeros(2)).tolist() == [1.0, 1.0]
    assert size_of(second(torch.empty(3, 2, device="meta"))) == (3, 2)
