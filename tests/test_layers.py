"""The layers against slow, plain references that are written another way."""

from __future__ import annotations

import ast
import importlib
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nasdsl.compiler.layers.attention import AxialAttention, LocalAttention
from nasdsl.compiler.layers.branch import LayerNorm, LayerScale
from nasdsl.compiler.layers.conv import Conv, Shortcut, SqueezeExcite
from nasdsl.compiler.layers.head import Classify, Detect3d
from nasdsl.compiler.layers.merge import Concat, Mean, Sum
from nasdsl.compiler.layers.mixconv import MixConv
from nasdsl.compiler.layers.norm import Norm
from nasdsl.compiler.layers.resample import Pool, Resize, Zero
from nasdsl.compiler.layers.self_attention import GlobalAttention, WindowAttention
from nasdsl.compiler.layers.tokens import MergePatches, Patches, PositionEmbedding
from nasdsl.compiler.layers.transformer import LightTransformer, position_map
from nasdsl.compiler.ops import CATALOGUE
from nasdsl.runtime.export.library import Library, import_lines


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def unsettle(module: nn.Module) -> nn.Module:
    """Norms as they are after training: with weights and statistics that are neither 0 nor 1."""
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d | nn.LayerNorm):
                part.weight.uniform_(0.5, 1.5)
                part.bias.uniform_(-0.5, 0.5)
            if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None and part.running_var is not None:
                part.running_mean.uniform_(-0.5, 0.5)
                part.running_var.uniform_(0.5, 1.5)
    return module


# --- mixed convolution ------------------------------------------------------------------------------------------------


class Chains(nn.Module):
    """One chain of plain modules for each kernel, summed, with the weights of a MixConv."""

    def __init__(self, fused: MixConv, widths: dict[int, int], stride: int, act: nn.Module) -> None:
        super().__init__()
        self.chains = nn.ModuleList()
        start = 0
        for kernel, n in widths.items():
            part = slice(start, start + n)
            start += n
            chain = nn.Sequential(
                nn.Conv2d(fused.expand.in_channels, n, 1, bias=False),
                self.cut(fused.expand_norm, part),
                act,
                nn.Conv2d(n, n, kernel, stride, (kernel - 1) // 2, groups=n, bias=False),
                self.cut(fused.hidden_norm, part),
                act,
                nn.Conv2d(n, fused.project.out_channels, 1, bias=False),
            ).to(fused.project.weight)
            with torch.no_grad():
                chain.get_parameter("0.weight").copy_(fused.expand.weight[part])
                chain.get_parameter("3.weight").copy_(fused.get_parameter(f"depthwise.{kernel}.weight"))
                chain.get_parameter("6.weight").copy_(fused.project.weight[:, part])
            self.chains.append(chain)
        self.norm = self.cut(fused.project_norm, slice(None))

    @staticmethod
    def cut(norm: nn.BatchNorm2d, part: slice) -> nn.BatchNorm2d:
        small = nn.BatchNorm2d(len(norm.weight[part]), norm.eps, norm.momentum).to(norm.weight)
        small.load_state_dict({k: v[part] if v.dim() else v for k, v in norm.state_dict().items()})
        return small

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(sum(chain(x) for chain in self.chains))


@pytest.mark.parametrize("momentum", [0.1, 0.01, None])
@pytest.mark.parametrize(("stride", "widths"), [(1, {3: 4, 5: 3, 7: 5}), (2, {5: 2, 3: 4}), (1, {7: 3})])
def test_mixconv_is_a_sum_of_chains(stride: int, widths: dict[int, int], momentum: float | None) -> None:
    fused = MixConv(6, 5, widths, stride, momentum=momentum, eps=1e-3).double()  # type: ignore[arg-type]
    unsettle(fused)
    slow = Chains(fused, widths, stride, nn.ReLU()).double()
    for training in (True, True, False):
        fused.train(training)
        slow.train(training)
        x = torch.randn(3, 6, 9, 11, dtype=torch.float64, requires_grad=True)
        y, z = fused(x), slow(x)
        torch.testing.assert_close(y, z)
        weights = torch.randn_like(y)
        ours, theirs = (torch.autograd.grad((t * weights).sum(), x)[0] for t in (y, z))
        torch.testing.assert_close(ours, theirs)
    for name in ("running_mean", "running_var"):
        for norm, index in ((fused.expand_norm, 1), (fused.hidden_norm, 4)):
            theirs = torch.cat([chain.get_buffer(f"{index}.{name}") for chain in slow.chains])
            torch.testing.assert_close(norm.get_buffer(name), theirs)
    assert fused.hidden_norm.num_batches_tracked == slow.norm.num_batches_tracked == 2


def test_mixconv_gates_the_concatenated_hidden_features() -> None:
    fused = MixConv(6, 5, {3: 4, 5: 3}, act="swish", squeeze=3).double().eval()
    unsettle(fused)
    assert fused.squeeze is not None
    x = torch.randn(2, 6, 9, 7, dtype=torch.float64)
    hidden = F.silu(fused.expand_norm(fused.expand(x)))
    hidden = torch.cat([fused.depthwise["3"](hidden[:, :4]), fused.depthwise["5"](hidden[:, 4:])], 1)
    hidden = F.silu(fused.hidden_norm(hidden))
    reduce, expand = fused.squeeze.reduce, fused.squeeze.expand
    mean = hidden.flatten(2).mean(2)
    inner = F.silu(F.linear(mean, reduce.weight[:, :, 0, 0], reduce.bias))
    gate = torch.sigmoid(F.linear(inner, expand.weight[:, :, 0, 0], expand.bias))
    expected = fused.project_norm(fused.project(hidden * gate[:, :, None, None]))
    torch.testing.assert_close(fused(x), expected)


# --- light transformer ------------------------------------------------------------------------------------------------


def slow_transformer(m: LightTransformer, x: torch.Tensor, **setting: Any) -> torch.Tensor:
    """The table of the HR-NAS paper's transformer row by row, without dropout, on torch's own attention."""
    batch, _, height, width = x.shape
    side, n = setting["size"], setting["tokens"]

    def position(h: int, w: int) -> torch.Tensor:
        grid = torch.zeros(batch, 2, h, w, dtype=x.dtype)
        for i in range(h):
            for j in range(w):
                if setting["position"] == "unit":
                    grid[:, :, i, j] = torch.tensor([i / h, j / w])
                else:
                    across = [(b - (c - 1) / 2) / ((c * c - 1) / 12) ** 0.5 for b, c in ((j, w), (i, h))]
                    grid[:, :, i, j] = torch.tensor(across)
        return grid

    def resize(y: torch.Tensor, h: int, w: int) -> torch.Tensor:
        return F.interpolate(y, (h, w), mode="bilinear", align_corners=False)

    def attend(layer: nn.Module, query: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        mha = nn.MultiheadAttention(side * side, 1, bias=False, batch_first=True).to(x)
        with torch.no_grad():
            assert mha.in_proj_weight is not None
            mha.in_proj_weight.copy_(layer.get_parameter("attention.project_in"))
            mha.out_proj.weight.copy_(layer.get_parameter("attention.project_out.weight"))
        return mha(query, memory, memory)[0]

    def layer_norm(layer: nn.Module, name: str, y: torch.Tensor) -> torch.Tensor:
        y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return y * layer.get_parameter(f"{name}.weight") + layer.get_parameter(f"{name}.bias")

    def feed(layer: nn.Module, y: torch.Tensor) -> torch.Tensor:
        first, second = layer.widen, layer.narrow
        assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
        assert (first.bias is not None) == setting["bias"]
        assert first.out_features == setting["widen"] * side * side
        return second(first(y).clamp(min=0))

    def batch_norm(norm: nn.BatchNorm2d, y: torch.Tensor) -> torch.Tensor:
        assert norm.momentum == 0.1 and norm.eps == 1e-5
        assert norm.running_mean is not None and norm.running_var is not None
        mean, var = norm.running_mean, norm.running_var
        if norm.training:
            mean, var = y.mean((0, 2, 3)), y.var((0, 2, 3), unbiased=False)
        y = (y - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
        return y * norm.weight[:, None, None] + norm.bias[:, None, None]

    if setting["project"] == "after":
        y = resize(x, side, side)
        if setting["position"] != "none":
            y = torch.cat([y, position(side, side)], 1)
        y = batch_norm(m.token_norm, m.project(y))
    else:
        y = x if setting["position"] == "none" else torch.cat([x, position(height, width)], 1)
        y = resize(batch_norm(m.token_norm, m.project(y)), side, side)
    tokens = y.reshape(batch, n, side * side)
    z = layer_norm(m.encoder, "attention_norm", tokens + attend(m.encoder, tokens, tokens))
    encoded = layer_norm(m.encoder, "feed_norm", z + feed(m.encoder, z))
    if setting["decoder"]:
        assert m.decoder is not None and m.queries is not None
        queries = m.queries.expand(batch, n, side * side)
        start = queries if setting["decoder_residual"] == "query" else encoded
        z = layer_norm(m.decoder, "attention_norm", start + attend(m.decoder, queries, encoded))
        encoded = layer_norm(m.decoder, "feed_norm", z + feed(m.decoder, z))
    else:
        assert m.decoder is None and m.queries is None
    y = batch_norm(m.output_norm, m.unproject(encoded.reshape(batch, n, side, side)))
    return resize(y, -(-height // setting["stride"]), -(-width // setting["stride"]))


@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"stride": 2},
        {"project": "before", "position": "unit", "widen": 4, "bias": True, "decoder_residual": "query"},
        {"project": "before", "stride": 2},
        {"position": "none", "project": "before"},
        {"position": "none", "decoder": False},
        {"position": "unit", "size": 3},
        {"tokens": 1, "bias": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(16, 12), (31, 27), (5, 7), (8, 8)], ids=str)
def test_transformer_follows_the_paper(setting: dict[str, Any], size: tuple[int, int]) -> None:
    default: dict[str, Any] = {
        "tokens": 6,
        "stride": 1,
        "size": 8,
        "widen": 1,
        "position": "centred",
        "project": "after",
        "bias": False,
        "decoder": True,
        "decoder_residual": "encoder",
    }
    full = default | setting
    module = LightTransformer(5, 7, dropout=0.0, **full).double()
    unsettle(module)
    x = torch.randn(2, 5, *size, dtype=torch.float64)
    for training in (False, True):
        module.train(training)
        torch.testing.assert_close(module(x), slow_transformer(module, x, **full), rtol=1e-6, atol=1e-6)


def test_position_map_has_the_values_of_the_published_code() -> None:
    values = torch.tensor([-1.52753, -1.09109, -0.65465, -0.21822, 0.21822, 0.65465, 1.09109, 1.52753])
    grid = position_map(8, 8, "centred")
    torch.testing.assert_close(grid[0, 3], values, rtol=0, atol=1e-5)  # along the width
    torch.testing.assert_close(grid[1, :, 5], values, rtol=0, atol=1e-5)
    assert position_map(1, 5, "centred").isfinite().all()
    unit = position_map(4, 5, "unit")
    assert unit[0, :, 2].tolist() == [0, 0.25, 0.5, 0.75]
    torch.testing.assert_close(unit[1, 1], torch.tensor([0, 0.2, 0.4, 0.6, 0.8]))


def test_transformer_drops_in_four_places_of_each_layer() -> None:
    module = LightTransformer(5, 7, tokens=6, size=4, widen=3)
    seen: list[tuple[int, ...]] = []
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            assert part.p == 0.1
            part.register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape)))
    module(torch.randn(2, 5, 9, 9))
    assert seen == 2 * [(2, 6, 6), (2, 6, 16), (2, 6, 48), (2, 6, 16)]


# --- the others -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [("conv", "norm", "act"), ("act", "conv", "norm"), ("norm", "act", "conv")])
def test_conv_keeps_the_order_and_its_input(order: tuple[str, ...]) -> None:
    conv = Conv(4, 6, kernel=3, stride=2, dilation=2, groups=2, order=order, scale_init=0.5).double()
    assert isinstance(conv.norm, nn.BatchNorm2d)
    assert (conv.norm.weight == 0.5).all()
    unsettle(conv).eval()
    norm, weight = conv.norm, conv.conv.weight
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    before = x.clone()

    def normed(y: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias)

    steps = {
        "conv": lambda y: F.conv2d(y, weight, stride=2, padding=2, dilation=2, groups=2),
        "norm": normed,
        "act": lambda y: y.clamp(min=0),
    }
    expected = x
    for step in order:
        expected = steps[step](expected)
    torch.testing.assert_close(conv(x), expected)
    assert torch.equal(x, before)


@pytest.mark.parametrize("vector", [False, True])
def test_group_norm_is_that_of_torch(vector: bool) -> None:
    shape = (3, 12) if vector else (3, 12, 5, 4)
    theirs, ours = nn.GroupNorm(4, 12, 1e-3), Norm(12, vector, norm="group", norm_groups=4, eps=1e-3, scale_init=0.5)
    assert {name: len(p) for name, p in ours.norm.named_parameters()} == {"weight": 12, "bias": 12}
    assert (ours.norm.get_parameter("weight") == 0.5).all()
    unsettle(ours)
    theirs.load_state_dict(ours.norm.state_dict())
    x = torch.randn(shape)
    assert torch.equal(ours(x), theirs(x))


def standardised(weight: torch.Tensor) -> torch.Tensor:
    """Filter by filter, by the definitions of mean and variance."""
    out = torch.empty_like(weight)
    for i, filter in enumerate(weight):
        values = filter.flatten().tolist()
        mean = sum(values) / len(values)
        deviation = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
        out[i] = (filter - mean) / (deviation + 1e-5)
    return out


@pytest.mark.parametrize("groups", [1, 2])
def test_standardised_filters(groups: int) -> None:
    conv = Conv(4, 6, 3, stride=2, groups=groups, norm="none", act="none", bias=True, standardise=True).double()
    weight = conv.get_parameter("conv.weight")
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    bias = conv.get_parameter("conv.bias")
    expected = F.conv2d(x, standardised(weight.detach()), bias, 2, 1, groups=groups)
    torch.testing.assert_close(conv(x), expected)
    conv(x).square().sum().backward()
    assert weight.grad is not None
    # A filter may grow, or move as a whole, and computes the same: along both there is no gradient.
    torch.testing.assert_close(weight.grad.sum((1, 2, 3)), torch.zeros(6).double(), rtol=0, atol=1e-9)
    assert (weight.grad * weight).sum((1, 2, 3)).abs().max() < 1e-3 * weight.grad.norm()
    with torch.no_grad():
        weight[0] = 1.0
    assert not conv(x)[:, 0].sub(bias[0]).any()  # a filter without variance is a filter of zeros, ...
    weight.grad = None
    conv(x).square().sum().backward()
    assert weight.grad is not None and weight.grad.isfinite().all()  # ... and can leave that state


@pytest.mark.parametrize("vector", [False, True])
def test_a_frozen_norm_is_batch_norm_in_evaluation(vector: bool) -> None:
    shape = (3, 6) if vector else (3, 6, 5, 4)
    batch, frozen = Norm(6, vector, eps=1e-3), Norm(6, vector, norm="frozen", eps=1e-3)
    with torch.no_grad():
        for tensor in batch.state_dict().values():
            if tensor.dim():
                tensor.uniform_(0.5, 1.5)
    found = frozen.load_state_dict(batch.state_dict(), strict=False)
    assert (found.missing_keys, found.unexpected_keys) == ([], ["norm.num_batches_tracked"])
    before = {name: tensor.clone() for name, tensor in frozen.state_dict().items()}
    x = torch.randn(shape)
    torch.testing.assert_close(frozen.train()(x), batch.eval()(x))
    assert list(frozen.parameters()) == []
    assert all(torch.equal(tensor, before[name]) for name, tensor in frozen.state_dict().items())


def test_conv_of_a_vector_is_a_linear_layer() -> None:
    conv = Conv(4, 6, kernel=3, norm="none", act="none", bias=True)
    x = torch.randn(3, 4)
    torch.testing.assert_close(conv(x), F.linear(x, conv.conv.weight[:, :, 1, 1], conv.conv.bias))


def test_shortcut() -> None:
    x = torch.randn(2, 6, 5, 5)
    assert Shortcut(6, 6, groups=0)(x) is x
    assert list(Shortcut(6, 6, groups=0).parameters()) == []
    module = Shortcut(6, 9, 2, groups=3)
    assert module(x).shape == (2, 9, 3, 3)
    first = module(x)[:, 0]  # the first group reads channels 0 and 1, every second pixel
    weight = module.get_parameter("conv.weight")[0]
    torch.testing.assert_close(first, (x[:, :2, ::2, ::2] * weight).sum(1))


def test_squeeze_excite() -> None:
    module = SqueezeExcite(6, 2, gate="h_sigmoid")
    x = torch.randn(2, 6, 5, 4)
    inner = F.linear(x.mean((2, 3)), module.reduce.weight[:, :, 0, 0], module.reduce.bias).clamp(min=0)
    gate = (F.linear(inner, module.expand.weight[:, :, 0, 0], module.expand.bias) / 6 + 0.5).clamp(0, 1)
    torch.testing.assert_close(module(x), x * gate[:, :, None, None])


sizes = st.integers(1, 12)


@given(sizes, sizes, st.integers(1, 5), st.integers(1, 4), st.sampled_from(["max", "avg"]))
def test_pool_sees_every_pixel_and_no_padding(height: int, width: int, kernel: int, stride: int, kind: str) -> None:
    pool = Pool(kind, kernel, stride)
    x = torch.randn(2, 3, height, width, dtype=torch.float64) - 10  # zeros from padding would be the greatest
    y = pool(x)
    assert y.shape == (2, 3, -(-height // stride), -(-width // stride))
    assert (y < -2).all()
    torch.testing.assert_close(pool(torch.full_like(x, 3.0)), torch.full_like(y, 3.0))
    if kernel >= stride:  # windows overlap or touch: the greatest pixel is in one of them
        if kind == "max":
            assert y.amax() == x.amax()
        else:
            impulse = torch.zeros(1, 1, height, width)
            impulse[..., -1, -1] = 1
            assert pool(impulse).sum() > 0


def test_pool_is_the_usual_one_where_there_is_one() -> None:
    x = torch.randn(2, 3, 14, 14)
    assert torch.equal(Pool("max", 3, 2)(x), F.max_pool2d(x, 3, 2, 1))
    assert torch.equal(Pool("max", 2, 2)(x), F.max_pool2d(x, 2))
    assert torch.equal(Pool("avg", 2, 2)(x), F.avg_pool2d(x, 2))
    assert torch.equal(Pool("avg", 3, 1)(x), F.avg_pool2d(x, 3, 1, 1, count_include_pad=False))
    odd = torch.randn(2, 3, 13, 15)
    assert torch.equal(Pool("max", 2, 2)(odd), F.max_pool2d(odd, 2, ceil_mode=True))
    torch.testing.assert_close(Pool("avg", 2, 2)(odd), F.avg_pool2d(odd, 2, ceil_mode=True))


def test_resize_sum_concat_zero() -> None:
    x, coarse = torch.randn(2, 3, 7, 5), torch.randn(2, 3, 4, 3)
    up = Resize(2, mode="nearest")(coarse)
    assert torch.equal(up, coarse.repeat_interleave(2, 2).repeat_interleave(2, 3))
    fitted = F.interpolate(up, (7, 5), mode="bilinear", align_corners=False)
    torch.testing.assert_close(Sum()(x, up), x + fitted)
    assert torch.equal(Sum()(x), x)
    joined = Concat(target=1, mode="bilinear")(x, coarse)
    expected = [F.interpolate(x, (4, 3), mode="bilinear", align_corners=False), coarse]
    torch.testing.assert_close(joined, torch.cat(expected, 1))
    assert Resize(2, 3)(x).shape == (2, 3, 5, 4)
    assert torch.equal(Zero(2)(x), torch.zeros(2, 3, 4, 3))
    v = torch.randn(2, 3)
    assert torch.equal(Sum()(v, v), 2 * v)
    torch.testing.assert_close(Mean()(v, 2 * v, 6 * v), 3 * v)
    torch.testing.assert_close(Mean()(x, up), (x + fitted) / 2)
    assert torch.equal(Concat()(v, v), torch.cat([v, v], 1))


def test_detect3d_has_its_maps_in_order() -> None:
    module = Detect3d(4, classes=3, anchors=2)
    x = torch.randn(1, 4, 5, 6)
    y = module(x)
    assert y.shape == (1, 2 * (3 + 7 + 2), 5, 6)
    torch.testing.assert_close(y[:, 6:20], module.boxes(x))


# --- memory format and precision --------------------------------------------------------------------------------------

MODULES = {
    "conv": lambda: Conv(6, 8, kernel=3, stride=2),
    "pre": lambda: Conv(6, 8, kernel=3, order=("norm", "act", "conv")),
    "shortcut": lambda: Shortcut(6, 9, 2, 3),
    "se": lambda: SqueezeExcite(6, 2),
    "norm": lambda: Norm(6),
    "mixconv": lambda: MixConv(6, 6, {3: 8, 5: 8, 7: 8}),
    "mixconv_se": lambda: MixConv(6, 9, {3: 8, 5: 7}, stride=2, squeeze=3, act="swish"),
    "transformer": lambda: LightTransformer(6, 6, 5, dropout=0.0),
    "paper_transformer": lambda: LightTransformer(
        6, 9, 5, 2, widen=4, position="unit", project="before", bias=True, decoder_residual="query", dropout=0.0
    ),
    "local": lambda: LocalAttention(6, 8, 4, 2, 5, stride=2),
    "axial": lambda: AxialAttention(6, 8, 4, 2, 15, 13, stride=2, position="per_head", interleaved=True),
    "global": lambda: GlobalAttention(6, 8, 2, 4, position="bias", grid=(9, 7)),
    "vectors": lambda: GlobalAttention(6, 8, 2, 4, position="vectors", reach=3),
    "windows": lambda: WindowAttention(6, 8, 2, 4, window=(4, 5), shift=2),
    "layer_norm": lambda: LayerNorm(6),
    "layer_scale": lambda: LayerScale(6),
    "patches": lambda: Patches(6, 8, 4),
    "merge_patches": lambda: MergePatches(6, 8),
    "position_embedding": lambda: PositionEmbedding(6, 9, 7),
    "group": lambda: Conv(6, 8, 3, stride=2, norm="group", norm_groups=4, standardise=True),
    "frozen": lambda: Conv(6, 8, 3, norm="frozen"),
    "max": lambda: Pool("max", 3, 2),
    "avg": lambda: Pool("avg", 2, 2),
    "resize": lambda: Resize(2, 1, "bilinear"),
    "zero": lambda: Zero(2),
    "classify": lambda: Classify(6, 10),
    "detect3d": lambda: Detect3d(6, 3),
}


def in_layout(module: nn.Module, layout: torch.memory_format) -> nn.Module:
    return module.to(memory_format=layout)  # type: ignore[call-overload]


@pytest.mark.parametrize("name", MODULES)
def test_channels_last_computes_the_same(name: str) -> None:
    module = unsettle(MODULES[name]()).eval()
    x = torch.randn(2, 6, 31, 27)
    expected = module(x)
    in_layout(module, torch.channels_last)
    y = module(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("name", MODULES)
def test_bf16_trains(name: str, layout: torch.memory_format) -> None:
    module = in_layout(MODULES[name]().to(torch.bfloat16), layout)
    x = torch.randn(2, 6, 15, 13, dtype=torch.bfloat16).contiguous(memory_format=layout).requires_grad_()
    y = module(x)
    assert y.dtype == torch.bfloat16
    if y.requires_grad:
        y.float().square().sum().backward()
        assert x.grad is not None and x.grad.isfinite().all()
    exact = MODULES[name]()
    exact.load_state_dict(module.state_dict())
    exact.eval()
    module.eval()
    torch.testing.assert_close(module(x).float(), exact(x.detach().float()), rtol=0.1, atol=0.15)


@pytest.mark.parametrize("name", MODULES)
def test_autocast_runs(name: str) -> None:
    module = MODULES[name]()
    with torch.autocast("cpu", torch.bfloat16):
        y = module(torch.randn(2, 6, 15, 13))
    if y.requires_grad:
        y.float().sum().backward()
        assert all(p.grad is not None for p in module.parameters())


# --- self-contained sources -------------------------------------------------------------------------------------------


def _named(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


@pytest.mark.parametrize("target", sorted({op.module for op in CATALOGUE.values()}))
def test_a_class_runs_from_copies_of_its_source(target: str) -> None:
    """An exported network is such a file: imports of torch and of Python's own modules, then constants, classes and
    functions in the order of need."""
    module_name, class_name = target.split(":")
    library = Library()
    library.add(class_name, importlib.import_module(module_name), "the test")
    text = "\n".join([*import_lines(library.imports), *library.definitions.values()])
    assert "nasdsl" not in {name.split(".")[0] for name, _, _ in library.imports}
    scope: dict[str, Any] = {"__name__": "exported"}
    exec(compile("from __future__ import annotations\n" + text, "exported.py", "exec"), scope)
    known = set(dir(__builtins__)) | set(scope) | set(scope["__builtins__"])
    code = ast.parse(text)
    bound = {part.id for part in ast.walk(code) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
    bound |= {part.arg for part in ast.walk(code) if isinstance(part, ast.arg)}
    bound |= {one.name for part in ast.walk(code) if isinstance(part, ast.ImportFrom) for one in part.names}
    assert _named(code) <= known | bound
    made = scope[class_name]
    assert issubclass(made, nn.Module) if isinstance(made, type) else callable(made)
