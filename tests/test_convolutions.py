"""Convolutions of any kernel, transposed ones, and the small operators around them, against torch's own functions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.diagnostics import ArgumentError, CompileError
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.layers.conv import Conv
from nasdsl.compiler.layers.rearrange import Channels, DepthToSpace, Shift, Shuffle, SpaceToDepth
from nasdsl.compiler.layers.resample import Pool
from nasdsl.compiler.layers.transposed import TransposedConv
from nasdsl.compiler.ops import CATALOGUE
from nasdsl.compiler.ops.common import ALIASES
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.relaxed import Relaxed
from nasdsl.compiler.sample import Numbering
from nasdsl.compiler.source import Source
from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet
from nasdsl.compiler.values.plain import Symbol
from nasdsl.runtime.export import export_python, verify_python
from tests.networks import torch_macs


def space_of(steps: str, size: str = "3 x 13 x 18") -> Space:
    """With the network that some lines make."""
    return elaborate(Source(f"space s {{ input {size}\n network {{\n{steps}\n}} }}", "s"))


def graph_of(steps: str, size: str = "3 x 13 x 18") -> Graph:
    return space_of(steps, size).graph


def unsettled(network: Supernet) -> Supernet:
    """Norms as they are after training."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point() and tensor.dim() == 1:
                tensor.uniform_(0.5, 1.5, generator=generator)
    return network


def check_all(steps: str, size: str = "3 x 13 x 18", most: int = 12) -> None:
    """Of a space: each architecture (or so many) computes in the supernet what it computes by itself, gradients of the
    shared weights included, and costs what torch counts."""
    torch.manual_seed(0)
    graph = graph_of(steps, size)
    supernet = unsettled(Supernet(graph)).eval()
    shape = graph.input.shape
    image = torch.randn(2, shape.channels, shape.height, shape.width)
    for found in Numbering(graph).draws(most, seed=1):
        supernet.activate(found)
        network = supernet.extract(found)
        whole, alone = supernet(image), network(image)
        torch.testing.assert_close(whole, alone, rtol=1e-5, atol=1e-5)
        supernet.zero_grad()
        whole.square().sum().backward()
        alone.square().sum().backward()
        own = dict(network.named_parameters())
        for name, parameter in supernet.named_parameters():
            if parameter.grad is not None and name in own:
                gradient = own[name].grad
                assert gradient is not None
                torch.testing.assert_close(parameter.grad.sum(), gradient.sum(), rtol=1e-3, atol=1e-2)
        macs, _ = torch_macs(network, image[:1])
        size_of = sum(parameter.numel() for parameter in network.parameters())
        assert cost_of(graph, found.indices) == {"macs": macs, "params": size_of}


# --- Kernels ----------------------------------------------------------------------------------------------------------

KERNELS: list[tuple[Any, int, int]] = [
    (2, 1, 1),
    (2, 2, 1),
    (4, 1, 1),
    (4, 2, 1),
    (4, 4, 1),
    (2, 3, 1),
    (2, 1, 2),
    (4, 1, 3),
    ((1, 7), 1, 1),
    ((7, 1), 2, 1),
    ((3, 2), 1, 1),
    ((4, 5), 3, 1),
    ((2, 3), 2, 2),
    ((5, 1), 1, 2),
]


@pytest.mark.parametrize(("kernel", "stride", "dilation"), KERNELS)
def test_even_and_rectangular_kernels_are_the_whole_convolution_at_some_pixels(
    kernel: Any, stride: int, dilation: int
) -> None:
    """Output pixel i of an axis looks at input pixels from i * stride - before on: half of the zeros that the last
    window needs, rounded down; of an odd side half of the kernel."""
    torch.manual_seed(1)
    module = Conv(3, 4, kernel, stride, dilation, norm="none", act="none", bias=True).double()
    x = torch.randn(2, 3, 11, 14, dtype=torch.float64, requires_grad=True)
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    reach = [dilation * (side - 1) for side in sides]
    starts = []
    for side, size, far in zip(sides, x.shape[2:], reach, strict=True):
        outputs = -(-size // stride)
        before = far // 2 if side % 2 else max(0, (outputs - 1) * stride + far + 1 - size) // 2
        starts.append([i * stride - before for i in range(outputs)])
    wide = F.pad(x, (reach[1], reach[1] + stride, reach[0], reach[0] + stride))
    every = F.conv2d(wide, module.conv.weight, module.conv.bias, dilation=dilation)  # at each shift by a pixel
    rows, columns = ([start + far for start in axis] for axis, far in zip(starts, reach, strict=True))
    expected = every[:, :, rows][:, :, :, columns]
    y = module(x)
    torch.testing.assert_close(y, expected)
    found = torch.autograd.grad(y.square().sum(), [x, module.conv.weight], retain_graph=True)
    wanted = torch.autograd.grad(expected.square().sum(), [x, module.conv.weight])
    torch.testing.assert_close(found, wanted)


def test_odd_kernels_are_torch_s_own() -> None:
    x = torch.randn(2, 3, 11, 14)
    for kernel, stride, dilation in ((3, 2, 1), (5, 3, 2), (7, 1, 1)):
        module = Conv(3, 4, kernel, stride, dilation, norm="none", act="none")
        padding = dilation * (kernel - 1) // 2
        assert torch.equal(module(x), F.conv2d(x, module.conv.weight, None, stride, padding, dilation))


def test_a_kernel_of_the_stride_cuts_a_map_into_patches() -> None:
    x = torch.randn(2, 3, 12, 16)
    for side in (2, 4):
        module = Conv(3, 5, side, side, norm="none", act="none")
        assert torch.equal(module(x), F.conv2d(x, module.conv.weight, None, side))


def test_rectangular_pools() -> None:
    x = torch.randn(2, 3, 11, 14)
    for kernel, stride in (((3, 1), 1), ((1, 3), 2), ((5, 3), 2)):
        padding = (kernel[0] // 2, kernel[1] // 2)
        assert torch.equal(Pool("max", kernel, stride)(x), F.max_pool2d(x, kernel, stride, padding))
        expected = F.avg_pool2d(x, kernel, stride, padding, count_include_pad=False)
        torch.testing.assert_close(Pool("avg", kernel, stride)(x), expected)
    y = Pool("avg", (2, 3), 1)(x)  # reads the row below, and the columns on both sides
    padded = F.pad(x, (1, 1, 0, 1))
    count = F.avg_pool2d(F.pad(torch.ones_like(x), (1, 1, 0, 1)), (2, 3), 1)
    torch.testing.assert_close(y, F.avg_pool2d(padded, (2, 3), 1) / count)


@pytest.mark.parametrize(
    "steps",
    [
        "conv(6, kernel: oneof(2, 4), stride: oneof(1, 2))",
        "conv(oneof(4, 6), kernel: oneof(1, 2, 3, 4, 5)) -> depthwise(kernel: oneof(2, 3))",
        "conv(6, kernel: [oneof(1, 3), oneof(2, 3, 7)], stride: 2)",
        "conv(6, kernel: oneof([1, 7], [7, 1], [3, 3]))",
        "depthwise(kernel: oneof([1, 5], [5, 1])) -> max_pool(oneof(2, 3)) -> avg_pool([oneof(2, 3), 1], stride: 2)",
        "repeat 2 { conv(3, kernel: oneof([2, 3], [5, 4]), share: weights) }",
        "a: conv(3, kernel: 3, share: weights)\nrepeat oneof(1, 2) { conv(3, kernel: [2, 4]) }",
    ],
)
def test_architectures_share_kernels(steps: str) -> None:
    check_all(steps)


def test_a_smaller_kernel_is_the_part_over_the_same_pixels() -> None:
    supernet = Supernet(graph_of("conv(2, kernel: oneof(2, 3, 4, 5), norm: none, act: none, bias: false)"))
    weight = supernet.get_parameter("layers.conv.conv.weight")
    assert weight.shape[2:] == (5, 5)
    (path,) = supernet.graph.decisions
    for side, first in ((2, 2), (3, 1), (4, 1), (5, 0)):
        supernet.activate({path: side})
        part = supernet.extract().get_parameter("layers.conv.conv.weight")
        assert torch.equal(part, weight[:, :, first : first + side, first : first + side])
    x = torch.randn(1, 3, 13, 18)
    for side in (2, 3, 4):  # at stride 1 it is the largest one with zeros around
        supernet.activate({path: side})
        expected = supernet(x)
        larger = torch.zeros_like(weight)
        first = 2 - (side - 1) // 2
        larger[:, :, first : first + side, first : first + side] = weight[
            :, :, first : first + side, first : first + side
        ]
        torch.testing.assert_close(expected, F.conv2d(x, larger, padding=2))


@pytest.mark.parametrize(
    ("kernel", "stride", "runs"),
    [
        ("2, 3, 5", 1, 1),
        ("2, 4", 1, 1),
        ("2, 4", 2, 2),
        ("2, 3", 2, 2),
        ("3, 7", 2, 1),
        ("[1, 5], [5, 1], [3, 3]", 2, 3),
    ],
)
def test_a_mixture_of_kernels(kernel: str, stride: int, runs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is run once where smaller kernels are larger ones with zeros around, else once for each."""
    torch.manual_seed(0)
    graph = graph_of(f"conv(4, kernel: oneof({kernel}), stride: {stride}, norm: none, act: none, bias: false)")
    network = Relaxed(graph)
    x = torch.randn(2, 3, 13, 18)
    (path,) = graph.decisions
    weights = torch.softmax(torch.randn(graph.decisions[path].n), 0)
    expected: Any = 0
    for weight, one in zip(weights, torch.eye(len(weights)), strict=True):
        network.relax({path: one})
        expected = expected + weight * network(x)
    network.relax({path: weights})
    calls, run = [], F.conv2d

    def counted(*args: Any) -> torch.Tensor:
        calls.append(args)
        return run(*args)

    monkeypatch.setattr(F, "conv2d", counted)
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)
    assert len(calls) == runs


@pytest.mark.parametrize(
    ("step", "place", "message"),
    [
        ("conv(16, kernel: 0)", "0", "a whole number from 1 to 4095, and this is 0"),
        ("conv(16, kernel: 5/2)", "5/2", "and this is 5/2"),
        ("conv(16, kernel: [3, 0])", "[3, 0]", "and this is 0"),
        ("conv(16, kernel: [3, 3, 3])", "[3, 3, 3]", "a list of two, [height, width], and here is a list of 3"),
        ("conv(16, kernel: wide)", "wide", "and here is `wide`"),
        ('conv(16, kernel: "3")', '"3"', "and here is a string"),
        ("depthwise(kernel: true)", "true", "and here is `true`"),
        ("depthwise(kernel: { 3: 8 })", "{ 3: 8 }", "and here is neither"),
        ("max_pool(5000)", "5000", "and this is 5000"),
        ("conv(16, kernel: oneof(0, 1) + oneof(0, 1))", "oneof(0, 1) + oneof(0, 1)", "whatever is chosen"),
        ("conv(16, kernel: [3, oneof(1/2, 1)])", "[3, oneof(1/2, 1)]", "whatever is chosen"),
        ("conv(16, kernel: oneof([3, 0], [0, 3]))", "oneof([3, 0], [0, 3])", "whatever is chosen"),
        ("avg_pool(oneof(1, 1/2))", "oneof(1, 1/2)", "whatever is chosen"),
        ("basic(16, kernel: 0)", "0", "and this is 0"),
    ],
)
def test_what_is_no_kernel(step: str, place: str, message: str) -> None:
    with pytest.raises(CompileError) as caught:
        graph_of(step)
    (found,) = caught.value.diagnostics
    assert found.span is not None and found.span.text == place
    assert message in found.message


# --- Transformed kernels ----------------------------------------------------------------------------------------------


def transformed(weight: torch.Tensor, matrices: Mapping[int, torch.Tensor], side: int) -> torch.Tensor:
    """A kernel of 3 or 5 by the words of the paper: the middle of the next larger one as a vector, times a matrix."""
    large = weight if side == 5 or weight.shape[2] == 5 else transformed(weight, matrices, 5)
    rows = []
    for filters in large:
        rows.append([matrices[side] @ plane[1:-1, 1:-1].reshape(-1) for plane in filters])
    return torch.stack([torch.stack(row) for row in rows]).reshape(*large.shape[:2], side, side)


@pytest.mark.parametrize("operator", ["conv(oneof(4, 6), ", "first: conv(6)\ndepthwise("])
def test_smaller_kernels_are_made_of_larger_ones(operator: str, tmp_path: Path) -> None:
    """Forward, backward, taken out, stored and exported."""
    torch.manual_seed(0)
    made = space_of(f"{operator}kernel: oneof(3, 5, 7), transform: true)\nlast: conv(2)")
    graph = made.graph
    supernet = unsettled(Supernet(graph)).eval()
    key = "layers.conv" if "oneof(4" in operator else "layers.depthwise"
    matrices = {side: supernet.get_parameter(f"{key}.to_{side}") for side in (3, 5)}
    assert all(torch.equal(matrix, torch.eye(side * side)) for side, matrix in matrices.items())
    with torch.no_grad():
        for matrix in matrices.values():
            matrix.add_(torch.randn(matrix.shape) / 10)
    weight = supernet.get_parameter(f"{key}.conv.weight")
    path = next(path for path in graph.decisions if path.endswith("kernel"))
    x = torch.randn(2, 3, 13, 18)
    for values in ({path: 0}, {path: 1}, {path: 2}):
        whole = dict.fromkeys(graph.decisions, 0) | values
        supernet.activate(Architecture.at(graph, whole))
        network = supernet.extract()
        side = (3, 5, 7)[values[path]]
        kernel = network.get_parameter(f"{key}.conv.weight")
        assert [name for name, _ in network.named_parameters() if "to_" in name] == []
        expected = weight if side == 7 else transformed(weight, matrices, side)
        torch.testing.assert_close(kernel, expected[: len(kernel)])
        supernet.zero_grad()
        y = supernet(x)
        torch.testing.assert_close(y, network(x), rtol=1e-5, atol=1e-5)
        y.square().sum().backward()
        network(x).square().sum().backward()
        assert kernel.grad is not None and weight.grad is not None
        found = (weight.grad, *(matrix.grad for matrix in matrices.values()))
        wanted = torch.autograd.grad(
            (expected[: len(kernel)] * kernel.grad).sum(), [weight, *matrices.values()], allow_unused=True
        )
        for mine, theirs in zip(found, wanted, strict=True):
            assert theirs is not None or mine is None or not mine.any()
            if theirs is not None:
                torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)
        macs, _ = torch_macs(network, x[:1])
        size = sum(parameter.numel() for parameter in network.parameters())
        assert cost_of(graph, whole) == {"macs": macs, "params": size}
        files = export_python(network, tmp_path / f"k{side}.py", space=made)
        assert "to_" not in files[0].read_text()
        assert verify_python(files[0], network, [x]) < 1e-6
    again = Supernet(graph)
    again.load_state_dict(supernet.state_dict())
    smallest = Architecture.at(graph, dict.fromkeys(graph.decisions, 0))
    again.eval().activate(smallest)
    supernet.activate(smallest)
    assert torch.equal(again(x), supernet(x))


def test_the_block_of_once_for_all_transforms_its_kernels() -> None:
    check_all("mbconv(8, kernel: oneof(3, 5, 7), expand: oneof(3, 4), act: hard_swish, se: true, transform: true)")


def test_transformed_kernels_are_mixed_one_by_one() -> None:
    torch.manual_seed(0)
    graph = graph_of("conv(4, kernel: oneof(3, 5), norm: none, act: none, bias: false, transform: true)")
    network = Relaxed(graph)
    with torch.no_grad():
        network.get_parameter("layers.conv.to_3").normal_()
    (path,) = graph.decisions
    x = torch.randn(2, 3, 13, 18)
    outputs = []
    for one in torch.eye(2):
        network.relax({path: one})
        outputs.append(network(x))
    weights = torch.tensor([0.3, 0.7], requires_grad=True)
    network.relax({path: weights})
    y = network(x)
    torch.testing.assert_close(y, 0.3 * outputs[0] + 0.7 * outputs[1], rtol=1e-4, atol=1e-4)
    y.sum().backward()
    assert network.get_parameter("layers.conv.to_3").grad is not None


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("conv(4, kernel: oneof(3, 5), transform: oneof(true, false))", "cannot be chosen"),
        ("conv(4, kernel: [oneof(3, 5), 3], transform: true)", "not plain numbers"),
        ("depthwise(oneof([1, 3], [3, 1]), transform: true)", "not plain numbers"),
        ("conv(4, kernel: oneof(3, 5), share: { kernel: transform })", "`transform: true`"),
        ("max_pool(kernel: 3, share: { kernel: transform })", "a word that several steps have"),
        ("relu(share: oneof(weights, none))", "a word that several steps have"),
    ],
)
def test_what_cannot_be_transformed(step: str, message: str) -> None:
    with pytest.raises(CompileError, match=message):
        graph_of(step)


def test_steps_that_share_transformed_kernels_of_several_sizes_stay_together() -> None:
    """No smaller network holds what is made of the largest kernel for each of them."""
    graph = graph_of("repeat 2 { conv(3, kernel: oneof(3, 5), transform: true, share: weights) }")
    supernet = unsettled(Supernet(graph)).eval()
    first, second = graph.decisions
    x = torch.randn(1, 3, 13, 18)
    for side in (3, 5):
        supernet.activate({first: side, second: side})
        torch.testing.assert_close(supernet(x), supernet.extract()(x), rtol=1e-5, atol=1e-5)
    supernet.activate({first: 3, second: 5})
    assert supernet(x).shape == (1, 3, 13, 18)
    with pytest.raises(ArgumentError, match="no smaller network holds"):
        supernet.extract()


# --- Transposed convolutions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "more"),
    [(2, 2, 0, 0), (3, 2, 1, 1), (4, 2, 1, 0), (3, 1, 1, 0), (4, 4, 0, 0), (7, 3, 2, 0), ((2, 4), 2, (0, 1), 0)],
)
def test_transposed_convolutions_are_torch_s_own(kernel: Any, stride: int, padding: Any, more: int) -> None:
    torch.manual_seed(1)
    module = TransposedConv(6, 4, kernel, stride, groups=2, norm="none", act="relu", bias=True).double()
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64, requires_grad=True)
    weights = [module.get_parameter("conv.weight"), module.get_parameter("conv.bias")]
    expected = F.conv_transpose2d(x, weights[0], weights[1], stride, padding, more, groups=2).relu()
    y = module(x)
    assert y.shape == (2, 4, 5 * stride, 7 * stride)
    torch.testing.assert_close(y, expected)
    found = torch.autograd.grad(y.square().sum(), [x, *weights])
    torch.testing.assert_close(found, torch.autograd.grad(expected.square().sum(), [x, *weights]))


def test_an_even_transposed_kernel_at_stride_1_is_cut_before() -> None:
    module = TransposedConv(3, 4, 2, 1, norm="none", act="none")
    x = torch.randn(1, 3, 5, 7)
    assert torch.equal(module(x), F.conv_transpose2d(x, module.conv.weight)[:, :, 1:, 1:])


@pytest.mark.parametrize(
    "steps",
    [
        "conv(oneof(4, 6)) -> conv_transpose(oneof(2, 4), kernel: oneof(2, 3, 4, 5), stride: oneof(1, 2))",
        "conv(oneof(4, 8)) -> conv_transpose(oneof(4, 8), kernel: [3, oneof(3, 4)], groups: oneof(1, 2, 4), act: silu)",
        "let w = oneof(4, 6)\nconv(w) -> conv_transpose(w, groups: w, norm: oneof(batch, none))",
        "conv(4) -> conv_transpose(6, norm: group, norm_groups: oneof(2, 3)) -> conv_transpose(2, norm: frozen)",
    ],
)
def test_architectures_share_transposed_convolutions(steps: str) -> None:
    check_all(steps, "3 x 5 x 6", most=8)


def test_the_larger_transposed_kernel_reaches_the_same_pixels() -> None:
    """With zeros around, it is the smaller one."""
    supernet = Supernet(graph_of("conv_transpose(2, kernel: oneof(2, 3, 5, 6), norm: none, act: none, bias: false)"))
    (path,) = supernet.graph.decisions
    x = torch.randn(1, 3, 5, 6)
    for side, first in ((2, 2), (3, 1), (5, 0), (6, 0)):
        supernet.activate({path: side})
        weight = supernet.get_parameter("layers.conv_transpose.conv.weight").detach()
        larger = torch.zeros_like(weight)
        part = (slice(None), slice(None), slice(first, first + side), slice(first, first + side))
        larger[part] = weight[part]
        torch.testing.assert_close(supernet(x), F.conv_transpose2d(x, larger, stride=2, padding=2))


# --- Between channels and pixels --------------------------------------------------------------------------------------


def test_pixels_and_channels_change_places_as_in_torch() -> None:
    x = torch.randn(2, 12, 6, 9)
    assert torch.equal(SpaceToDepth(3)(x), torch.nn.PixelUnshuffle(3)(x))
    assert torch.equal(DepthToSpace(2)(x), torch.nn.PixelShuffle(2)(x))
    assert torch.equal(Shuffle(3)(x), torch.nn.ChannelShuffle(3)(x))
    padded = F.pad(x, (0, 1))
    assert torch.equal(SpaceToDepth(2)(x), F.pixel_unshuffle(padded, 2))
    assert torch.equal(DepthToSpace(2)(SpaceToDepth(2)(padded)), padded)
    assert torch.equal(Channels(5, 4)(x), x[:, 4:9])
    assert torch.equal(Channels(5, 4)(x[:, :, 0, 0]), x[:, 4:9, 0, 0])
    assert torch.equal(Shuffle(3)(x[:, :, 0, 0]), torch.nn.ChannelShuffle(3)(x)[:, :, 0, 0])
    shifted = Shift(1, 2)(x)
    assert torch.equal(shifted[:, :, :-1, :-2], x[:, :, 1:, 2:])
    assert shifted[:, :, -1].abs().sum() == shifted[:, :, :, -2:].abs().sum() == 0
    assert Shift(7, 0)(x).abs().sum() == 0


@pytest.mark.parametrize(
    "steps",
    [
        "conv(oneof(4, 8)) -> space_to_depth(oneof(1, 2, 3)) -> conv(oneof(4, 16)) -> depth_to_space() -> conv(5)",
        "let w = oneof(2, 4)\nx: conv(2 * w)\nl: x -> channels(w)\nr: x -> channels(w, skip: w) -> conv(w)\n"
        "concat(from: [l, r]) -> shuffle(groups: oneof(1, 2, 4)) -> conv(3)",
        "conv(4) -> shift(oneof(0, 1), columns: oneof(0, 2)) -> conv(4, stride: 2)",
        "conv(6) -> global_pool() -> shuffle(3) -> channels(oneof(2, 4), skip: 1) -> linear(3)",
    ],
)
def test_architectures_of_rearranged_tensors(steps: str) -> None:
    check_all(steps, most=8)


@pytest.mark.parametrize(
    "steps",
    [
        "conv(oneof(4, 8), kernel: 3) -> space_to_depth(2) -> conv(4)",
        "conv(oneof(4, 8), norm: none, bias: false, act: none) -> depth_to_space() -> shift(1) -> conv(4)",
        "conv(8) -> conv_transpose(oneof(4, 6), kernel: oneof(2, 4)) -> conv(4)",
        "conv(8) -> channels(oneof(4, 6)) -> conv(4)",
        "conv(oneof(4, 8)) -> shuffle(2) -> conv(4)",
    ],
)
def test_relaxed_networks_at_an_architecture_are_the_activated_ones(steps: str) -> None:
    torch.manual_seed(0)
    graph = graph_of(steps, "3 x 6 x 8")
    network = Relaxed(graph).eval()
    x = torch.randn(1, 3, 6, 8)
    for found in Numbering(graph).draws(3, seed=2):
        network.activate(found)
        expected = network(x)
        weights = {}
        for path, decision in graph.decisions.items():
            weights[path] = torch.full((decision.n,), 1e-8, requires_grad=True)
            with torch.no_grad():
                weights[path][found.indices[path]] = 1
        network.relax(weights)
        torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-4)


def test_a_factorised_reduction_sees_the_pixels_between() -> None:
    """DARTS's: two strided 1x1 convolutions, the second of the map without its first row and column."""
    torch.manual_seed(0)
    network = unsettled(Supernet(graph_of("factorized_reduce(5)", "4 x 8 x 6"))).eval()
    a, b = (p for name, p in network.named_parameters() if name.endswith("conv.weight"))
    (norm,) = (layer for name, layer in network.layers.items() if "norm" in name)
    x = torch.randn(2, 4, 8, 6)
    y = x.relu()
    parts = [F.conv2d(y, a, stride=2), F.conv2d(y[:, :, 1:, 1:], b, stride=2)]
    torch.testing.assert_close(network(x), norm(torch.cat(parts, 1)))


# --- Blocks -----------------------------------------------------------------------------------------------------------


def test_a_pooled_shortcut_is_resnet_d_s() -> None:
    torch.manual_seed(0)
    network = unsettled(Supernet(graph_of("bottleneck(8, mid: 4, stride: 2, shortcut: pooled)", "6 x 9 x 8"))).eval()
    layers = {name: layer for name, layer in network.layers.items() if "conv" in name}
    *body, shortcut = layers.values()
    x = torch.randn(2, 6, 9, 8)
    y = x
    for layer in body:
        y = layer(y)
    pooled = F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False)
    torch.testing.assert_close(network(x), (y + shortcut(pooled)).relu())
    assert body[1].conv.stride == (2, 2) and shortcut.conv.stride == (1, 1)


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_a_pooled_shortcut_costs_no_more(block: str) -> None:
    """It is a 1x1 convolution of as many pixels; where the shape stays, it is the identity."""
    for stride, out in ((2, 8), (1, 8), (1, 12)):
        plain, pooled = (
            graph_of(f"conv(8) -> {block}({out}, stride: {stride}, shortcut: {kind})") for kind in ("conv", "pooled")
        )
        assert cost_of(plain, {}) == cost_of(pooled, {})
        assert any(node.op == "avg_pool" for node in pooled.nodes.values()) == (stride == 2)


# --- Activations by other names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_activations_by_other_names(alias: str, name: str) -> None:
    steps = (
        "conv(4, act: {0}) -> basic(4, act: {0}) -> se(act: {0}) -> {0}() -> mixconv(4, hidden: {{ 3: 4 }}, act: {0})"
    )
    torch.manual_seed(0)
    network = Supernet(graph_of(steps.format(alias))).eval()
    same = Supernet(graph_of(steps.format(name))).eval()
    same.load_state_dict(network.state_dict())
    x = torch.randn(1, 3, 13, 18)
    assert torch.equal(network(x), same(x))
    op = CATALOGUE["conv"]
    for shift in (False, True):
        attrs = {p.name: p.default for p in op.params} | {"norm": Symbol("none"), "bias": False}
        found, wanted = (op.identities.keeps_zero({**attrs, "act": Symbol(word)}, shift) for word in (alias, name))
        assert found == wanted


def test_an_unknown_activation_is_told_what_there_is() -> None:
    with pytest.raises(CompileError) as caught:
        graph_of("conv(4, act: silo)")
    assert caught.value.diagnostics[0].help == "did you mean `silu`?"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("ConvTranspose2d(8)", "conv_transpose"),
        ("pixel_shuffle(2)", "depth_to_space"),
        ("split(2)", "channels(8"),
        ("ChannelShuffle(2)", "shuffle(groups"),
        ("crop(1)", "shift(1)"),
    ],
)
def test_words_from_elsewhere_are_told(written: str, meant: str) -> None:
    with pytest.raises(CompileError) as caught:
        graph_of(f"conv(8) -> {written}")
    assert meant in caught.value.diagnostics[0].help
