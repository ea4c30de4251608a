"""Local and axial attention: against sums written out for each pixel, torch's counts, and published figures."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import nasdsl
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import cost_of, total_cost
from nasdsl.compiler.count import count
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.graph import Graph, Shape
from nasdsl.compiler.layers import attend
from nasdsl.compiler.layers.attention import AxialAttention, AxisAttention, LocalAttention, RelativeAttention
from nasdsl.compiler.ops import CATALOGUE
from nasdsl.compiler.ops.attention import of_each_head
from nasdsl.compiler.pin import pin
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.sample import sample
from nasdsl.compiler.source import Source
from nasdsl.compiler.supernet import Supernet
from nasdsl.compiler.values.bounds import Bounds
from nasdsl.compiler.values.plain import Symbol
from nasdsl.compiler.values.tree import Case, evaluate
from nasdsl.runtime.export import export_python, verify_python
from tests.networks import full_windows, largest, torch_macs


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# --- one pixel after the other ----------------------------------------------------------------------------------------


def channels(module: RelativeAttention, total: int) -> torch.Tensor:
    """Which channels each head has: n D."""
    n = module.heads
    own = [[c for c in range(total) if (c % n if module.interleaved else c // (total // n)) == h] for h in range(n)]
    return torch.tensor(own)


def attended(
    module: RelativeAttention, x: torch.Tensor, near: Mapping[tuple[int, int], list[tuple[tuple[int, int], Any]]]
) -> torch.Tensor:
    """Each pixel by itself; `near` says for each pixel which it attends to, and the index of each offset."""
    q, k, v = (
        torch.einsum("oi,bihw->bohw", conv.weight[:, :, 0, 0], x) for conv in (module.query, module.key, module.value)
    )
    own, given = channels(module, q.shape[1]), channels(module, v.shape[1])
    table: torch.Tensor | None = module.offsets
    if table is not None:  # n D and offsets
        table = table[own] if module.tables > 1 else table.expand(module.heads, *table.shape)
    out = torch.zeros_like(v)
    every = slice(None)
    for (i, j), seen in near.items():
        rows, columns = [list(place) for place in zip(*(pixel for pixel, _ in seen), strict=True)]
        query = q[:, own, i, j]
        logits = torch.einsum("bnd,bndp->bnp", query, k[:, :, rows, columns][:, own])
        if table is not None:
            offsets: list[Any] = [list(axis) for axis in zip(*(index for _, index in seen), strict=True)]
            logits = logits + torch.einsum("bnd,ndp->bnp", query, table[(every, every, *offsets)])
        shares = torch.exp(logits) / torch.exp(logits).sum(2, keepdim=True)
        out[:, given, i, j] = torch.einsum("bnp,bnep->bne", shares, v[:, :, rows, columns][:, given])
    return out


def averaged(x: torch.Tensor, stride: int) -> torch.Tensor:
    """Means over squares that cover the map, with what is too much on both sides, the odd pixel last."""
    starts = [range(-((-size % stride) // 2), size, stride) for size in x.shape[2:]]
    rows, columns = ([slice(max(0, i), i + stride) for i in axis] for axis in starts)
    return torch.stack([torch.stack([x[:, :, i, j].mean((2, 3)) for j in columns], 2) for i in rows], 2)


def local_slowly(module: LocalAttention, x: torch.Tensor) -> torch.Tensor:
    height, width = x.shape[2:]
    reach = module.window // 2
    near = {}
    for i in range(height):
        for j in range(width):
            window = [(i + a, j + b) for a in range(-reach, reach + 1) for b in range(-reach, reach + 1)]
            near[i, j] = [
                ((a, b), (a - i + reach, b - j + reach)) for a, b in window if 0 <= a < height and 0 <= b < width
            ]
    return averaged(attended(module, x, near), module.pool.stride)


def axial_slowly(module: AxialAttention, x: torch.Tensor) -> torch.Tensor:
    height, width = x.shape[2:]

    def place(part: AxisAttention, offset: int) -> tuple[int]:
        farthest = part.span - 1
        return (min(max(offset, -farthest), farthest) + farthest,)

    columns = {
        (i, j): [((a, j), place(module.height, a - i)) for a in range(height)]
        for i in range(height)
        for j in range(width)
    }
    rows = {
        (i, j): [((i, b), place(module.width, b - j)) for b in range(width)]
        for i in range(height)
        for j in range(width)
    }
    y = attended(module.height, x, columns)
    return averaged(attended(module.width, y, rows), module.pool.stride)


def results(module: nn.Module, x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor) -> list[torch.Tensor]:
    """The output, and the gradients by the input and by all weights."""
    return [y, *torch.autograd.grad((y * weights).sum(), (x, *module.parameters()))]


def check_same(module: LocalAttention | AxialAttention, x: torch.Tensor) -> None:
    """Outputs and all gradients, of a module and of the sums written out; then of the module in single precision."""
    slow = local_slowly(module, x) if isinstance(module, LocalAttention) else axial_slowly(module, x)
    weights = torch.randn_like(slow)
    expected = results(module, x, slow, weights)
    for ours, theirs in zip(results(module, x, module(x), weights), expected, strict=True):
        assert (ours - theirs).abs().max() < 1e-10 * max(1.0, theirs.abs().max().item())
    module.float()
    x = x.detach().float().requires_grad_()
    for ours, theirs in zip(results(module, x, module(x), weights.float()), expected, strict=True):
        assert (ours - theirs).abs().max() < 1e-4 * max(1.0, theirs.abs().max().item())


@pytest.fixture(params=["blocks", "shifted maps", "all with all"])
def _all_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows are worked on in each way, whichever is the fastest."""
    monkeypatch.setattr(attend, "MATRICES", 0 if request.param == "blocks" else 1 << 30)
    monkeypatch.setattr(attend, "WHOLE", 1 << 30 if request.param == "all with all" else 0)


@pytest.fixture(params=[None, 700, 100])
def _in_parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once, or a few images or heads after the other."""
    if request.param is not None:
        monkeypatch.setattr(attend, "NEARBY", request.param)


# What TrioNet chooses between: its narrowest attention has 32 channels, the widest 512.
TRIONET: dict[str, tuple[Any, ...]] = {
    "window": (3, 5, 7),
    "qk": (Fraction(1, 2), 1),
    "value": (Fraction(1, 2), 1),
    "heads": (4, 8),
}


def test_these_are_the_choices_of_trionet() -> None:
    graph = nasdsl.load(Path(nasdsl.__file__).parent / "spaces" / "trionet.space").graph
    nodes = [node for node in graph.nodes.values() if node.op in ("local_attention", "axial_attention")]
    assert len(nodes) == 2 * (2 + 3 + 6 + 3)
    for node in nodes:
        for name, options in TRIONET.items():
            if node.op == "local_attention" or name != "window":
                assert node.attrs[name].values == options
        assert node.attrs["stride"] in (1, 2)
    widths = [node.attrs["out"] for node in nodes]
    spans = [span for width in widths if (span := Bounds().of(width)) is not None]
    assert (min(low for low, _ in spans), max(high for _, high in spans)) == (16, 512)


@pytest.mark.parametrize("position", ["shared", "per_head", "none"])
@pytest.mark.parametrize("interleaved", [False, True], ids=["by_head", "interleaved"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.usefixtures("_all_ways")
def test_all_local_attention_of_trionet(
    stride: int, interleaved: bool, position: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every combination of its parameters, on a map of odd size that several blocks cover."""
    monkeypatch.setattr(attend, "BLOCK", 3)
    for window, qk, value, heads in itertools.product(*TRIONET.values()):
        module = LocalAttention(3, int(32 * qk), int(32 * value), heads, window, stride, position, interleaved)
        check_same(module.double(), torch.randn(1, 3, 5, 3, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("position", ["shared", "per_head", "none"])
@pytest.mark.parametrize("interleaved", [False, True], ids=["by_head", "interleaved"])
@pytest.mark.parametrize("stride", [1, 2])
def test_all_axial_attention_of_trionet(stride: int, interleaved: bool, position: str) -> None:
    for qk, value, heads in itertools.product(*list(TRIONET.values())[1:]):
        module = AxialAttention(3, int(32 * qk), int(32 * value), heads, 5, 3, stride, position, interleaved)
        check_same(module.double(), torch.randn(1, 3, 5, 3, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("width", [16, 32, 64, 128, 256, 512])
@pytest.mark.usefixtures("_all_ways")
def test_all_widths_of_trionet(width: int) -> None:
    for query, heads in ((width // 2, 8), (width, 4)):
        x = torch.randn(1, 8, 5, 5, dtype=torch.float64)
        check_same(LocalAttention(8, query, width, heads, 3).double(), x.clone().requires_grad_())
        check_same(AxialAttention(8, query, width, heads, 5, 5).double(), x.clone().requires_grad_())


@pytest.mark.usefixtures("_all_ways", "_in_parts")
@pytest.mark.parametrize("size", [(17, 10), (8, 8), (1, 9)])
def test_maps_of_several_blocks(size: tuple[int, int]) -> None:
    """With as many images and heads as do not fit together."""
    x = torch.randn(3, 4, *size, dtype=torch.float64)
    check_same(LocalAttention(4, 6, 9, 3, 5).double(), x.clone().requires_grad_())
    check_same(AxialAttention(4, 6, 9, 3, 9, 11, 2).double(), x.clone().requires_grad_())


@st.composite
def modules(draw: st.DrawFn) -> tuple[LocalAttention | AxialAttention, torch.Tensor]:
    heads = draw(st.integers(1, 3))
    common: dict[str, Any] = {
        "inputs": draw(st.integers(1, 3)),
        "query": heads * draw(st.integers(1, 3)),
        "value": heads * draw(st.integers(1, 3)),
        "heads": heads,
        "stride": draw(st.integers(1, 3)),
        "position": draw(st.sampled_from(["shared", "per_head", "none"])),
        "interleaved": draw(st.booleans()),
    }
    torch.manual_seed(draw(st.integers(0, 99)))
    size = [draw(st.integers(1, 5)) for _ in range(2)]
    module: LocalAttention | AxialAttention
    if draw(st.booleans()):
        module = LocalAttention(**common, window=draw(st.sampled_from([1, 3, 5, 7])))
    else:
        module = AxialAttention(**common, height=draw(st.integers(1, 6)), width=draw(st.integers(1, 6)))
    x = torch.randn(2, common["inputs"], *size, dtype=torch.float64)
    if draw(st.booleans()):
        x = x.contiguous(memory_format=torch.channels_last)
    return module.double(), x.requires_grad_()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(modules())
@pytest.mark.usefixtures("_all_ways")
def test_attention_is_the_sum_written_out(drawn: tuple[LocalAttention | AxialAttention, torch.Tensor]) -> None:
    check_same(*drawn)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LocalAttention(5, 8, 4, 2, 5, 2),
        lambda: LocalAttention(5, 4, 8, 2, 5, 3, "per_head", True),
        lambda: AxialAttention(5, 8, 4, 2, 7, 6, 2),
        lambda: AxialAttention(5, 4, 8, 2, 3, 4, 3, "per_head", True),  # the map is larger than its span
    ],
)
@pytest.mark.usefixtures("_all_ways")
def test_attention_of_a_larger_map(make: Any) -> None:
    check_same(make().double(), torch.randn(1, 5, 7, 6, dtype=torch.float64, requires_grad=True))


@pytest.mark.usefixtures("_all_ways")
def test_gradients_of_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attend, "NEARBY", 100)
    x = torch.randn(2, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    for module in (LocalAttention(2, 2, 2, 1, 3).double(), AxialAttention(2, 2, 2, 2, 2, 3).double()):
        parameters = tuple(module.parameters())

        def function(x: torch.Tensor, *values: torch.Tensor, module: nn.Module = module) -> torch.Tensor:
            names = (name for name, _ in module.named_parameters())
            return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x,))

        assert torch.autograd.gradgradcheck(function, (x, *parameters))


@pytest.mark.usefixtures("_all_ways")
@pytest.mark.parametrize("kind", ["local", "axial"])
def test_half_precision(kind: str) -> None:
    """As near as numbers of 8 bits allow; under autocast weights keep their precision, and their gradients."""
    module = LocalAttention(8, 16, 16, 4, 5) if kind == "local" else AxialAttention(8, 16, 16, 4, 6, 7)
    x = torch.randn(2, 8, 6, 7, requires_grad=True)
    weights = torch.randn(2, 16, 6, 7)
    expected = results(module, x, module(x), weights)
    with torch.autocast("cpu", torch.bfloat16):
        y = module(x)
    assert y.dtype == torch.bfloat16
    for i, (ours, theirs) in enumerate(zip(results(module, x, y, weights), expected, strict=True)):
        assert (ours - theirs).abs().max() < 0.05 * theirs.abs().max()
        assert ours.dtype == (torch.float32 if i else torch.bfloat16)


def test_a_smaller_map_uses_the_middle_of_the_vectors() -> None:
    large, small = AxialAttention(4, 4, 4, 2, 9, 7), AxialAttention(4, 4, 4, 2, 5, 4)
    state = large.state_dict()
    state["height.offsets"], state["width.offsets"] = state["height.offsets"][:, 4:-4], state["width.offsets"][:, 3:-3]
    small.load_state_dict(state)
    x = torch.randn(2, 4, 5, 4)
    torch.testing.assert_close(large(x), small(x))


@pytest.mark.parametrize("size", [(1, 1), (3, 17), (20, 2)])
def test_any_size_runs(size: tuple[int, int]) -> None:
    for module in (LocalAttention(4, 4, 8, 2, 7, 2), AxialAttention(4, 4, 8, 2, 6, 5, 2)):
        y = module(torch.randn(1, 4, *size))
        assert y.shape == (1, 8, -(-size[0] // 2), -(-size[1] // 2))
        assert y.isfinite().all()


def test_first_weights_keep_logits_small() -> None:
    """Each product in a logit has variance 1 for input of variance 1, however wide the heads."""
    for width in (2, 64):
        module = LocalAttention(256, 8 * width, 8, 8, 3)
        q, k, v = module.split(torch.randn(8, 256, 6, 6))
        assert module.offsets is not None
        products = (q * k).sum(2), torch.einsum("bndhw,dij->bnhwij", q, module.offsets), v
        for values in products:
            assert 0.4 < values.var().item() < 2


# --- memory and layout ------------------------------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return out


@pytest.mark.parametrize("_all_ways", ["blocks", "shifted maps"], indirect=True)
@pytest.mark.usefixtures("_all_ways")
def test_no_copies_of_keys_and_values_for_each_offset() -> None:
    """Nor weights of the whole map; what the backward pass needs is what the projections gave."""
    module = LocalAttention(64, 64, 64, 4, 7)
    x = torch.randn(2, 64, 56, 56, requires_grad=True)
    held: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // 4
        return tensor

    with Largest() as largest, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = module(x)
        held_numel = sum(held.values())
        y.sum().backward()
    assert largest.numel <= attend.NEARBY < 2 * 4 * 49 * 56 * 56  # the weights, of which copies would have 16 times
    assert held_numel <= 4 * x.numel() + sum(p.numel() for p in module.parameters())  # input, q, k, v


@pytest.mark.usefixtures("_all_ways")
@pytest.mark.parametrize("interleaved", [False, True])
def test_channels_stay_last(interleaved: bool) -> None:
    """Of outputs and of gradients, so that no layer around has to change the layout."""
    form = torch.channels_last
    local = LocalAttention(4, 8, 8, 2, 3, interleaved=interleaved)
    for module in (local, AxialAttention(4, 8, 8, 2, 5, 6, interleaved=interleaved)):
        module.to(memory_format=form)  # type: ignore[call-overload]
        x = torch.randn(2, 4, 5, 6).contiguous(memory_format=form).requires_grad_()
        y = module(x)
        y.backward(torch.randn_like(y))
        assert x.grad is not None
        assert y.is_contiguous(memory_format=form) and x.grad.is_contiguous(memory_format=form)


def test_what_is_faster_is_taken() -> None:
    """On a processor: blocks for wide heads and large windows; all with all on maps hardly larger than a window."""
    kinds = [
        (type(attend.windows(torch.empty(1, 4, channels, size, size), window)), size, channels, window)
        for size, channels, window in ((14, 8, 3), (14, 8, 7), (14, 32, 3), (14, 16, 7), (14, 32, 5), (14, 128, 3))
    ]
    assert [kind is attend.Blocks for kind, *_ in kinds] == [False, False, False, True, True, True]
    assert not any(kind is attend.Whole for kind, *_ in kinds)
    for size, window, whole in ((9, 7, True), (10, 7, False), (7, 5, True), (8, 5, False), (4, 3, True), (7, 3, False)):
        kind = type(attend.windows(torch.empty(1, 4, 8, size, size), window))
        assert (kind is attend.Whole) == whole
    assert isinstance(attend.windows(torch.empty(1, 4, 512, 9, 9), 1), attend.Shifts)


# --- costs ------------------------------------------------------------------------------------------------------------


S = Symbol
MAP = Shape(12, 13, 18, Fraction(1, 4))


def attrs_of(name: str, **given_attrs: Any) -> dict[str, Any]:
    return {p.name: p.default for p in CATALOGUE[name].params} | given_attrs


@pytest.mark.parametrize("position", ["shared", "per_head", "none"])
@pytest.mark.parametrize(
    ("size", "window", "heads", "kind", "seen"),
    [
        ((5, 5), 5, 4, attend.Whole, 25),  # all attend to all, as many as a window has places
        ((1, 1), 1, 4, attend.Whole, 1),
        ((4, 6), 5, 4, attend.Whole, 24),
        ((8, 16), 3, 1, attend.Blocks, 100),  # a block of 8 x 8 with all that its windows reach
        ((13, 18), 5, 4, attend.Shifts, 0),  # element by element
    ],
)
def test_torch_counts_what_its_matrices_take(
    position: str, size: tuple[int, int], window: int, heads: int, kind: type, seen: int
) -> None:
    """The graph counts every window as full; torch counts the keys and values that its products of matrices meet."""
    op, x = CATALOGUE["local_attention"], Shape(12, *size, Fraction(1, 4))
    attrs = attrs_of("local_attention", out=64, window=window, value=2, heads=heads, position=S(position))
    module = LocalAttention(**op.arguments((x,), op.shape((x,), attrs), attrs))
    image = torch.randn(1, 12, *size)
    assert type(attend.windows(module.split(image)[0], window)) is kind
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(image)
    found = counter.get_total_flops() // 2
    full = op.cost((x,), op.shape((x,), attrs), attrs).macs
    assert found - full == size[0] * size[1] * (seen - window**2) * (64 + 128)
    assert (found == full) == (seen == window**2)
    assert full_windows(module, image) == full == torch_macs(module, image)[0]


widths = st.integers(1, 4)


@given(
    widths, widths, widths, st.sampled_from([1, 3, 5, 7]), st.integers(1, 40), st.integers(1, 20), st.integers(1, 20)
)
def test_closed_forms(n: int, d: int, e: int, window: int, m: int, height: int, width: int) -> None:
    """TrioNet paper: all three products of attention, at the resolution of the input."""
    out, q, v = 4 * n, n * d, n * e
    given_attrs = {"out": out, "qk": Fraction(q, out), "value": Fraction(v, out), "heads": n, "stride": 2}
    x = Shape(m, height, width, 1)
    op = CATALOGUE["local_attention"]
    attrs = attrs_of("local_attention", window=window, **given_attrs)
    macs = height * width * (m * (2 * q + v) + window**2 * (q + q + v))
    params = m * (2 * q + v) + window**2 * d
    assert op.cost((x,), op.shape((x,), attrs), attrs) == (macs, params)
    op = CATALOGUE["axial_attention"]
    attrs = attrs_of("axial_attention", **given_attrs)
    macs = height * width * ((m + v) * (2 * q + v) + (height + width) * (q + q + v))
    params = (m + v) * (2 * q + v) + (2 * height - 1 + 2 * width - 1) * d
    assert op.cost((x,), op.shape((x,), attrs), attrs) == (macs, params)


@pytest.mark.parametrize("name", ["local_attention", "axial_attention"])
@pytest.mark.parametrize("position", ["shared", "per_head", "none"])
def test_rules_over_decisions_are_the_rules_of_each_choice(name: str, position: str) -> None:
    op = CATALOGUE[name]
    options: dict[str, tuple[Any, ...]] = {
        "out": (16, 32),
        "qk": (Fraction(1, 2), 1),
        "value": (Fraction(1, 4), 1, 2),
        "heads": (2, 4),
        "stride": (1, 2, 3),
        "channels": (8, 12),
        "height": (9, 14),
    }
    if name == "local_attention":
        options["window"] = (3, 5, 7)
    open_values = {key: Case(key, values) for key, values in options.items()}
    sizes = {"channels", "height"}

    def rules(values: Mapping[str, Any]) -> tuple[Any, ...]:
        x = Shape(values["channels"], values["height"], 11, Fraction(1, 4))
        attrs = attrs_of(name, position=S(position), **{k: v for k, v in values.items() if k not in sizes})
        output = op.shape((x,), attrs)
        conditions = [condition for condition, _ in op.must((x,), attrs)]
        return (*op.cost((x,), output, attrs), output.channels, output.height, output.scale, *conditions)

    whole = rules(open_values)
    generator = random.Random(0)
    for _ in range(50):
        chosen = {key: generator.randrange(len(values)) for key, values in options.items()}
        plain = rules({key: values[chosen[key]] for key, values in options.items()})
        assert tuple(evaluate(value, chosen) for value in whole) == plain
        assert all(condition is True for condition in plain[5:])


STAND_ALONE = """
space stand_alone {{
  input 3 x 224 x 224
  operator block(out, stride = 1) {{
    residual {{
      conv(out {down})
      {attention}
      relu()
      conv(out, act: none)
    }}
    relu()
  }}
  network {{
    conv(64, kernel: 7, stride: 2)
    max_pool(3, stride: 2)
    {stages}
    classify(classes: 1000)
  }}
}}
"""
LOCAL = ("/ 4", "local_attention(out / 4, stride)", 256)
AXIAL = ("/ 2", "axial_attention(out / 2, stride, qk: 1/2)", 128)


@pytest.mark.parametrize(
    ("kind", "blocks", "millions", "billions"),
    [
        (LOCAL, (1, 2, 4, 1), 10.3, 4.5),
        (LOCAL, (3, 4, 6, 3), 18.0, 7.0),
        (AXIAL, (1, 2, 4, 1), 5.9, 3.5),
        (AXIAL, (2, 3, 5, 2), 8.7, 4.4),
    ],
    ids=["local-26", "local-50", "axial-26", "axial-38"],
)
def test_published_models(
    kind: tuple[str, str, int], blocks: tuple[int, ...], millions: float, billions: float
) -> None:
    """TrioNet paper, stand-alone models: parameters, and FLOPs as twice the MACs, to the digits printed."""
    down, looks, out = kind
    stages = "\n    ".join(
        f"repeat {n} {{ block({out << i}{', stride: 2 if first else 1' if i else ''}) }}" for i, n in enumerate(blocks)
    )
    graph = elaborate(Source(STAND_ALONE.format(down=down, attention=looks, stages=stages), "x.space")).graph
    cost = total_cost(graph)
    assert round(cost.params / 1e6, 1) == millions
    assert round(2 * cost.macs / 1e9, 1) == billions


# --- sharing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heads", "small", "rows"),
    [
        (4, 16, list(range(16))),
        (4, 8, [0, 1, 4, 5, 8, 9, 12, 13]),
        (8, 16, list(range(16))),
        (8, 8, [0, 2, 4, 6, 8, 10, 12, 14]),
    ],
)
def test_multi_head_sharing_is_the_table_of_the_paper(heads: int, small: int, rows: list[int]) -> None:
    assert picked(16, small, heads) == rows


def picked(full: int, small: int, heads: int) -> list[int]:
    index = of_each_head(full, small, heads)
    return list(range(full)) if index is None else list(range(full)[index] if isinstance(index, slice) else index)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6), st.integers(0, 30))
def test_a_channel_stays_in_its_head(heads: int, narrow: int, wide: int, more: int) -> None:
    """Also where the widest has channels that the heads do not divide."""
    narrow, wide = sorted((narrow, wide))
    full = heads * wide + more
    small, large = picked(full, heads * narrow, heads), picked(full, heads * wide, heads)
    assert len(set(small)) == heads * narrow and small == sorted(small)
    assert set(small) <= set(large) <= set(range(full))
    head = {row: place // wide for place, row in enumerate(large)}
    assert [head[row] for row in small] == [place // narrow for place in range(len(small))]


def taken(tensor: torch.Tensor, index: tuple[Any, ...]) -> torch.Tensor:
    for axis, entries in enumerate(index):
        if entries is not None:
            tensor = tensor[(slice(None),) * axis + (list(entries) if isinstance(entries, tuple) else entries,)]
    return tensor


def test_what_a_narrower_attention_has() -> None:
    """Written out for one of each: rows of each head, leading columns, the middle of the offsets."""
    op = CATALOGUE["local_attention"]
    full = attrs_of("local_attention", out=16, window=7, heads=2)
    small = attrs_of("local_attention", out=16, window=3, heads=4, qk=Fraction(1, 2), value=Fraction(3, 4))
    rows_q, rows_v = (0, 1, 4, 5, 8, 9, 12, 13), (0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14)
    columns, crop = slice(0, 8), slice(2, 5)
    assert op.shares(full, small, (MAP,), (MAP.with_channels(8),)) == {
        "query.weight": (rows_q, columns, None, None),
        "key.weight": (rows_q, columns, None, None),
        "value.weight": (rows_v, columns, None, None),
        "offsets": (slice(0, 2), crop, crop),
    }
    own = {"position": S("per_head")}
    assert op.shares(full | own, small | own, (MAP,), (MAP,))["offsets"] == (rows_q, crop, crop)
    prefix = {"sharing": S("prefix")}
    assert op.shares(full | prefix, small | prefix, (MAP,), (MAP,))["value.weight"] == (slice(0, 12), None, None, None)
    op = CATALOGUE["axial_attention"]
    full, small = attrs_of("axial_attention", out=8, heads=2), attrs_of("axial_attention", out=4, heads=2)
    small_map = Shape(6, 7, 8, Fraction(1, 4))
    rows = (0, 1, 4, 5)
    assert op.shares(full, small, (MAP,), (small_map,)) == {
        **{f"height.{part}.weight": (rows, slice(0, 6), None, None) for part in ("query", "key", "value")},
        **{f"width.{part}.weight": (rows, slice(0, 4), None, None) for part in ("query", "key", "value")},
        "height.offsets": (slice(0, 2), slice(6, 19)),
        "width.offsets": (slice(0, 2), slice(10, 25)),
    }


@pytest.mark.parametrize("heads", [2, 4])
def test_interleaved_heads_keep_channels_and_columns_together(heads: int) -> None:
    """What is left out of a wider attention is as if its weights were zero, with one column of what reads it for each
    channel: that of the same index. Scores and sums of every head are then those of the narrower one."""
    op = CATALOGUE["local_attention"]
    full = attrs_of("local_attention", out=16, heads=heads, window=3, sharing=S("interleaved"))
    small = full | {"qk": Fraction(1, 2), "value": Fraction(1, 4)}
    large = LocalAttention(**op.arguments((MAP,), MAP, full)).double()
    narrow = LocalAttention(**op.arguments((MAP,), MAP, small)).double()
    shares = op.shares(full, small, (MAP,), (MAP,))
    assert not any(isinstance(entries, tuple) for index in shares.values() for entries in index)  # views, no copies
    state = large.state_dict()
    narrow.load_state_dict({name: taken(state[name], shares.get(name, ())) for name in narrow.state_dict()})
    with torch.no_grad():
        large.query.weight[8:] = 0
        large.value.weight[4:] = 0
    x = torch.randn(2, 12, 5, 4, dtype=torch.float64)
    y = large(x)
    torch.testing.assert_close(y[:, :4], narrow(x))
    assert y[:, 4:].abs().max() == 0


def test_weights_of_a_choice_of_heads_hold_the_widest_head() -> None:
    graph = elaborate(Source(SPACES["both"], "both.space")).graph
    supernet = Supernet(graph)
    (table,) = (p for name, p in supernet.named_parameters() if name.endswith("local.offsets"))
    assert table.shape == (24 // 2, 5, 5)  # the most query channels in the fewest heads


def test_an_alternative_holds_weights_for_its_own_widths_only() -> None:
    """In the paper's block convolution has at most a quarter of the channels, attention half."""
    supernet = Supernet(graph_of("trio by_head"))
    shapes = {name: tuple(p.shape) for name, p in supernet.named_parameters() if "stage2" in name and "[0]" in name}
    (down,) = (shape for name, shape in shapes.items() if name.endswith("down.conv.weight"))
    (conv,) = (shape for name, shape in shapes.items() if name.endswith("trio/conv.conv.weight"))
    (query,) = (shape for name, shape in shapes.items() if name.endswith("local/local_attention.query.weight"))
    assert (down[0], conv[:2], query[:2]) == (32, (16, 16), (32, 32))


def test_bounds_of_values() -> None:
    wide, narrow = Case("a", (8, 24)), Case("b", (2, 4))
    quotient = wide // narrow
    assert Bounds().of(quotient) == (2, 12)
    assert Bounds().of(wide * narrow + 1) == (17, 97)
    assert Bounds().of(Case("c", (S("x"), S("y")))) == (S("x"), S("x"))


# --- spaces -----------------------------------------------------------------------------------------------------------

SPACES = {
    "both": """
space both {
  input 3 x 15 x 11
  let wide = oneof(16, 24)
  network {
    conv(wide, kernel: 3, stride: 2)
    residual {
      look: oneof(
        local: local_attention(wide, window: oneof(3, 5), qk: oneof(1/2, 1), value: 1, heads: oneof(2, 4))
        axial: axial_attention(wide, qk: oneof(1/2, 1), heads: oneof(2, 4))
      )
      norm()
    }
    relu()
    classify(classes: 3)
  }
}
""",
    "trio": """
space trio {
  input 3 x 20 x 13
  operator trio(out, stride = 1) {
    let op  = oneof(conv, local, axial)
    let mid = out * match op { conv: oneof(1/8, 1/4), local: oneof(1/4, 1/2), axial: oneof(1/4, 1/2) }
    residual {
      down: conv(mid)
      match op {
        conv: conv(mid, stride, kernel: oneof(3, 5))
        local: local_attention(mid, stride, window: oneof(3, 5, 7),
          qk: oneof(1/2, 1), value: oneof(1/2, 1), heads: oneof(2, 4), SHARING) -> norm() -> relu()
        axial: axial_attention(mid, stride, qk: oneof(1/2, 1), value: oneof(1/2, 1), heads: oneof(2, 4), SHARING)
          -> norm() -> relu()
      }
      up: conv(out, act: none)
    }
    relu()
  }
  network {
    stem:   conv(8, kernel: 3, stride: 2)
    stage1: repeat oneof(1..2) { trio(32) }
    stage2: repeat oneof(1..2) { trio(64, stride: 2 if first else 1) }
    head:   classify(classes: 5)
  }
}
""",
    "tied": """
space tied {
  input 3 x 12 x 9
  network {
    conv(16)
    let qk = oneof(1/2, 1)
    let window = oneof(3, 5)
    first: repeat 3 {
      local_attention(16, heads: oneof(2, 4, 8), qk, window, share: weights, sharing: interleaved) -> norm()
    }
    then: repeat oneof(1..2) {
      axial_attention(16, heads: oneof(2, 4), qk, share: weights, sharing: interleaved) -> norm()
    }
    last: repeat 2 { local_attention(16, heads: 4, qk, value: oneof(1/2, 1), share: weights) -> norm() -> conv(16) }
    classify(classes: 3)
  }
}
""",
    "sizes": """
space sizes {
  let side = oneof(9, 16)
  input 3 x side x 12
  network {
    conv(8, kernel: 3) -> axial_attention(8, heads: oneof(2, 4), stride: oneof(1, 2, 3), position: per_head)
    classify(classes: 3)
  }
}
""",
}
NAMES = ("both", "tied", "sizes", "trio by_head", "trio interleaved", "trio prefix", "trio per_head")


@cache
def graph_of(name: str) -> Graph:
    base, _, word = name.partition(" ")
    option = "position: per_head" if word == "per_head" else f"sharing: {word}"
    return elaborate(Source(SPACES[base].replace("SHARING", option), f"{base}.space")).graph


def image_for(graph: Graph, batch: int = 2) -> torch.Tensor:
    x = graph.input.shape
    return torch.randn(batch, x.channels, x.height, x.width)


def unsettled(network: Supernet) -> Supernet:
    """Norms as they are after training, so that a wrong slice shows."""
    with torch.no_grad():
        for name, tensor in (*network.named_parameters(), *network.named_buffers()):
            if tensor.dim() == 1 and tensor.dtype == torch.float32:
                tensor.uniform_(0.5, 1.5)
                if name.endswith(("bias", "running_mean")):
                    tensor.sub_(1)
    return network


def architectures(graph: Graph, n: int) -> Iterator[Architecture]:
    yield largest(graph)
    yield from sample(graph, n, seed=1)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_taken_out_computes_the_same(name: str) -> None:
    graph = graph_of(name)
    supernet = unsettled(Supernet(graph)).eval()
    different = set()
    with torch.no_grad():
        for values in architectures(graph, 8):
            supernet.activate(values)
            network = supernet.extract(values)
            image = image_for(network.graph)
            whole = supernet(image)
            assert (whole - network(image)).abs().max() < 1e-5
            different.add(whole.sum().item())
            params = sum(p.numel() for p in network.parameters())
            assert cost_of(graph, values.indices) == {"macs": torch_macs(network, image[:1])[0], "params": params}
    assert len(different) > 5


def test_a_step_of_training_reaches_what_is_active_and_no_more() -> None:
    """Output, statistics and gradients are those of the network by itself."""
    graph = graph_of("trio by_head")
    supernet = unsettled(Supernet(graph))
    image = image_for(graph, 4)
    for values in sample(graph, 4, seed=2):
        network = supernet.extract(values)
        supernet.activate(values)
        supernet.zero_grad()
        whole, alone = supernet(image), network(image)
        assert (whole - alone).abs().max() < 1e-4
        whole.square().sum().backward()
        alone.square().sum().backward()
        for key, setting in network.settings.items():
            shares = supernet.settings[key].shares(setting)
            layer = supernet.layers[graph.nodes[key].weight.replace(".", "/")]
            for name, own in network.layers[graph.nodes[key].weight.replace(".", "/")].named_parameters():
                grad = layer.get_parameter(name).grad
                assert grad is not None and own.grad is not None
                part = taken(grad, shares.get(name, ()))
                torch.testing.assert_close(part, own.grad, rtol=1e-3, atol=1e-3)
                assert grad.count_nonzero() == part.count_nonzero()


def test_the_paper_counts_this_block() -> None:
    """Two depths in each of two stages of blocks with 4 + 48 + 16 candidates, kernels 3 and 5 being two."""
    graph = graph_of("trio by_head")
    block = 4 + 48 + 16
    assert count(graph).total == (block + block**2) ** 2


def test_an_exported_network_gives_the_same_numbers(tmp_path: Path) -> None:
    graph = graph_of("both")
    network = unsettled(Supernet(graph)).extract(largest(graph)).eval()
    path = tmp_path / "found.py"
    export_python(network, path)
    assert verify_python(path, network, [image_for(graph), torch.randn(1, 3, 9, 30)]) < 1e-6


# --- mistakes ---------------------------------------------------------------------------------------------------------

BROKEN = """
space broken {
  input 3 x 16 x 16
  network {
    conv(8)
    STEP
    classify(classes: 3)
  }
}
"""


@pytest.mark.parametrize(
    ("step", "word", "message", "help"),
    [
        ("axial_attention(24, heads: 7)", "7", "7 heads do not divide 24 query channels", "qk * out query channels"),
        ("local_attention(20)", "local_attention(20)", "8 heads do not divide 20 query channels", ""),
        (
            "local_attention(oneof(16, 24), heads: oneof(4, 8), qk: oneof(1/4, 1))",
            "oneof(4, 8)",
            "the heads do not divide the query channels for every choice",
            "`local_attention.heads: 8`",
        ),
        (
            "local_attention(16, value: oneof(1/16, 1), heads: 4)",
            "4",
            "the heads do not divide the value channels for every choice",
            "`local_attention.value: 1/16`",
        ),
        ("axial_attention(16, value: 0)", "0", "`value` needs a number above 0", ""),
        (
            "axial_attention(16, qk: oneof(0, 1))",
            "oneof(0, 1)",
            "`qk` needs a number above 0",
            "`axial_attention.qk: 0`",
        ),
        ("local_attention(16, qk: -1)", "-1", "`qk` needs a number above 0 and at most 64", ""),
        ("local_attention(16, position: oneof(none, shared))", "oneof(none, shared)", "position cannot be chosen", ""),
        (
            "repeat 2 { local_attention(16, heads: oneof(2, 4), value: oneof(1/2, 1), share: weights) -> conv(16) }",
            "weights",
            "steps that share weights cannot choose heads and widths where channels are shared by head",
            "write `sharing: interleaved`",
        ),
        ("local_attention(16, window: 4)", "4", "needs an odd whole number", ""),
        ("global_pool() -> axial_attention(8)", "axial_attention(8)", "axial_attention reads a feature map", ""),
    ],
)
def test_mistakes_are_found_at_the_word(step: str, word: str, message: str, help: str) -> None:
    with pytest.raises(CompileError) as caught:
        elaborate(Source(BROKEN.replace("STEP", step), "broken.space"))
    (diagnostic,) = caught.value.diagnostics
    assert re.search(re.escape(message), diagnostic.message)
    assert help in diagnostic.help
    assert diagnostic.span is not None and diagnostic.span.text == word


def test_parts_that_no_smaller_network_holds_are_refused() -> None:
    """Half of the channels of two heads are others than of four: a network with both would compute something else."""
    text = BROKEN.replace(
        "STEP",
        """let qk = oneof(1/2, 1)
    local_attention(8, heads: 2, qk, share: look)
    local_attention(8, heads: 4, qk, share: look)""",
    )
    graph = elaborate(Source(text, "shared.space")).graph
    supernet = Supernet(graph).eval()
    (path,) = graph.decisions
    assert supernet.extract({path: 1})
    with pytest.raises(ValueError, match="parts of them that no smaller network holds together"):
        supernet.extract({path: 0.5})


def test_only_choices_that_can_meet_have_to_divide() -> None:
    """Eight heads go with the widths that they divide; the weights of all are held at once all the same."""
    text = BROKEN.replace(
        "STEP",
        """let wide = oneof(40, 36)
    local_attention(wide, heads: 8 if wide == 40 else 6, window: 3)""",
    )
    graph = elaborate(Source(text, "fine.space")).graph
    supernet = Supernet(graph)
    with torch.no_grad():
        for width in (40, 36):
            values = Architecture.of(graph, dict.fromkeys(graph.decisions, width))
            supernet.activate(values)
            assert (supernet(image_for(pin(graph, values.indices)))).isfinite().all()
