"""Every operator's rules against torch: shapes, parameters, operations, sharing."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from importlib.metadata import EntryPoint
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nasdsl.compiler import ops
from nasdsl.compiler.decision import FixedUnits, Units, count_of
from nasdsl.compiler.graph import Shape
from nasdsl.compiler.layers.mixconv import MixConv
from nasdsl.compiler.layers.transformer import LightTransformer
from nasdsl.compiler.ops import CATALOGUE, find, plugins, signature
from nasdsl.compiler.ops.operator import Cost, Operator, ShapeProblem
from nasdsl.compiler.plugins import PluginError
from nasdsl.compiler.values.expr import terms
from nasdsl.compiler.values.plain import Symbol
from nasdsl.compiler.values.tree import Case, Expr, Kept, decisions_of, evaluate
from nasdsl.testing import check_operator
from nasdsl.testing.operators import attrs_of, build, check_setting, check_sharing, check_words, random_input, unsettle

Setting = tuple[str, tuple[Any, ...], dict[str, Any]]

MAP = Shape(12, 13, 18, Fraction(1, 4))
SMALL = Shape(12, 7, 9, Fraction(1, 8))
SAME_SCALE = Shape(12, 12, 18, Fraction(1, 4))
TINY = Shape(8, 1, 2, Fraction(1, 8))
TOKENS = Shape(12, 16, 1, Fraction(1, 8))
VECTOR = Shape(12, None, None, Fraction(1, 32))
BOXES = Shape(4, None, None, 1, items=6)
REGIONS = Shape(12, 7, 7, 1, items=6)
CLASSES = Shape(12, None, None, 1, items=6)
S = Symbol


def check_against_torch(name: str, inputs: Sequence[Shape], given: Mapping[str, Any]) -> None:
    check_setting(CATALOGUE[name], inputs, given)


# --- shapes, parameters, operations -----------------------------------------------------------------------------------

SETTINGS: list[Setting] = [
    ("conv", (MAP,), {"out": 5}),
    ("conv", (MAP,), {"out": 8, "kernel": 3, "stride": 2, "groups": 4, "norm": S("none"), "act": S("swish")}),
    ("conv", (MAP,), {"out": 8, "kernel": 5, "stride": 3, "dilation": 2, "bias": True, "act": S("none")}),
    ("conv", (MAP,), {"out": 8, "norm": S("none"), "bias": False}),
    ("conv", (MAP,), {"out": 8, "kernel": 3, "order": (S("act"), S("conv"), S("norm"))}),
    ("conv", (MAP,), {"out": 8, "kernel": 3, "order": (S("norm"), S("act"), S("conv")), "scale_init": Fraction(1, 2)}),
    ("conv", (MAP,), {"out": 8, "kernel": 3, "norm": S("group"), "norm_groups": 4, "standardise": True}),
    ("conv", (MAP,), {"out": 7, "norm": S("group"), "norm_groups": 6, "order": (S("norm"), S("act"), S("conv"))}),
    ("conv", (MAP,), {"out": 7, "norm": S("frozen"), "bias": True}),
    ("conv", (MAP,), {"out": 8, "kernel": 4, "stride": 4}),
    ("conv", (MAP,), {"out": 8, "kernel": (1, 6), "stride": 2, "dilation": 2, "norm": S("none")}),
    ("conv", (VECTOR,), {"out": 9}),
    ("conv", (VECTOR,), {"out": 9, "kernel": 2}),
    ("conv", (VECTOR,), {"out": 9, "norm": S("group"), "norm_groups": 3}),
    ("depthwise", (MAP,), {}),
    ("conv_transpose", (MAP,), {"out": 5}),
    ("conv_transpose", (MAP,), {"out": 8, "kernel": 3, "groups": 4, "norm": S("none"), "act": S("swish")}),
    ("conv_transpose", (MAP,), {"out": 8, "kernel": (2, 5), "stride": 1, "bias": True}),
    ("conv_transpose", (TINY,), {"out": 6, "kernel": 6, "stride": 3, "norm": S("group"), "norm_groups": 3}),
    ("depthwise", (MAP,), {"norm": S("group"), "norm_groups": 12, "standardise": True}),
    ("depthwise", (MAP,), {"kernel": 5, "stride": 2, "dilation": 2, "norm": S("none"), "act": S("h_swish")}),
    ("mixconv", (MAP,), {"out": 7, "hidden": {3: 4, 5: 5, 7: 6}}),
    ("mixconv", (MAP,), {"out": 12, "stride": 2, "hidden": {7: 4, 3: 0}, "se": Fraction(1, 2), "act": S("swish")}),
    ("mixconv", (TINY,), {"out": 12, "hidden": {3: FixedUnits(9, (1, 4, 8)), 5: FixedUnits(9, ())}, "se": 0.3}),
    ("transformer", (MAP,), {"out": 7, "tokens": 5}),
    ("transformer", (MAP,), {"out": 7, "tokens": FixedUnits(9, (1, 4)), "stride": 2, "size": 4, "widen": 3}),
    ("transformer", (MAP,), {"out": 7, "tokens": 5, "project": S("before"), "bias": True, "position": S("unit")}),
    ("transformer", (TINY,), {"out": 7, "tokens": 5, "decoder": False, "position": S("none"), "stride": 2}),
    ("transformer", (TINY,), {"out": 7, "tokens": 5, "decoder_residual": S("query"), "position": S("centred")}),
    ("local_attention", (MAP,), {"out": 16}),
    ("local_attention", (TINY,), {"out": 8, "window": 5, "heads": 2, "qk": 2, "value": Fraction(1, 2), "stride": 2}),
    ("local_attention", (MAP,), {"out": 8, "window": 1, "heads": 4, "position": S("per_head"), "stride": 3}),
    ("axial_attention", (MAP,), {"out": 16}),
    ("axial_attention", (TINY,), {"out": 8, "heads": 2, "qk": 2, "value": Fraction(1, 2), "stride": 2}),
    ("axial_attention", (MAP,), {"out": 8, "heads": 4, "position": S("per_head"), "stride": 3}),
    ("axial_attention", (MAP,), {"out": 8, "position": S("none")}),
    ("skip", (MAP,), {"out": 12}),
    ("skip", (MAP,), {"out": 12, "stride": 2}),
    ("skip", (MAP,), {"out": 18, "stride": 1}),
    ("skip", (MAP,), {"out": 5, "stride": 3}),
    ("skip", (VECTOR,), {"out": 12}),
    ("se", (MAP,), {}),
    ("se", (MAP,), {"hidden": 5}),
    ("se", (MAP,), {"ratio": Fraction(1, 100), "act": S("swish"), "gate": S("h_sigmoid")}),
    ("norm", (MAP,), {}),
    ("norm", (VECTOR,), {"scale_init": 0}),
    ("norm", (MAP,), {"norm": S("group"), "norm_groups": 3}),
    ("norm", (VECTOR,), {"norm": S("group"), "norm_groups": 6}),
    ("norm", (MAP,), {"norm": S("frozen")}),
    ("norm", (VECTOR,), {"norm": S("frozen")}),
    ("norm", (MAP,), {"norm": S("none")}),
    ("upsample", (MAP,), {"to": Fraction(1, 2)}),
    ("upsample", (MAP,), {"to": 4, "mode": S("bilinear")}),
    ("upsample", (MAP,), {"to": Fraction(3, 2)}),
    ("upsample", (MAP,), {"to": Fraction(1, 4)}),
    ("upsample", (MAP,), {"to": 1}),
    ("resize", (MAP,), {"to": Fraction(1, 16)}),
    ("resize", (MAP,), {"to": 1, "mode": S("nearest")}),
    ("max_pool", (MAP,), {}),
    ("max_pool", (MAP,), {"kernel": 3, "stride": 2}),
    ("max_pool", (MAP,), {"to": Fraction(1, 16)}),
    ("max_pool", (MAP,), {"kernel": 2, "to": Fraction(1, 8)}),
    ("max_pool", (MAP,), {"kernel": (2, 5), "stride": 2}),
    ("max_pool", (MAP,), {"to": Fraction(1, 4)}),
    ("avg_pool", (MAP,), {"kernel": 2, "stride": 2}),
    ("avg_pool", (MAP,), {"kernel": 4, "stride": 1}),
    ("global_pool", (MAP,), {}),
    ("identity", (MAP,), {}),
    ("identity", (VECTOR,), {}),
    ("zero", (MAP,), {"stride": 2}),
    ("zero", (VECTOR,), {}),
    ("dropout", (MAP,), {"p": Fraction(1, 5)}),
    ("space_to_depth", (MAP,), {}),
    ("space_to_depth", (TINY,), {"factor": 3}),
    ("depth_to_space", (MAP,), {}),
    ("depth_to_space", (MAP.with_channels(18),), {"factor": 3}),
    ("channels", (MAP,), {"out": 5}),
    ("channels", (VECTOR,), {"out": 6, "skip": 6}),
    ("shuffle", (MAP,), {}),
    ("shuffle", (VECTOR,), {"groups": 4}),
    ("shift", (MAP,), {}),
    ("shift", (TINY,), {"rows": 3, "columns": 0}),
    ("sum", (MAP, SMALL, MAP), {}),
    ("sum", (SMALL,), {}),
    ("sum", (VECTOR, VECTOR), {}),
    ("concat", (SMALL, MAP), {}),
    ("concat", (MAP, TINY, SMALL), {"scale": Fraction(1, 8), "mode": S("nearest")}),
    ("concat", (VECTOR, VECTOR), {}),
    ("mean", (MAP, SMALL), {}),
    ("auxiliary", (MAP, CLASSES), {"weight": Fraction(2, 5)}),
    ("mean", (BOXES, BOXES, BOXES), {}),
    ("linear", (VECTOR,), {"out": 5}),
    ("linear", (VECTOR,), {"out": 5, "act": S("relu"), "bias": False}),
    ("classify", (MAP,), {"classes": 10}),
    ("classify", (VECTOR,), {"classes": 3, "dropout": 0.5}),
    ("regress", (MAP,), {"targets": 2}),
    ("regress", (VECTOR,), {"dropout": 0.5}),
    ("segment", (MAP,), {"classes": 19}),
    ("keypoints", (MAP,), {"joints": 17}),
    ("detect3d", (MAP,), {"classes": 3}),
    ("conv", (REGIONS,), {"out": 5, "kernel": 3, "stride": 2}),
    ("linear", (BOXES,), {"out": 5}),
    ("propose", (MAP.with_channels(15), SMALL.with_channels(15)), {"rois": 9}),
    ("propose", (MAP.with_channels(40),), {"scales": (2, Fraction(5, 2)), "ratios": (1, 2, 3, 4), "across": True}),
    (
        "propose",
        (MAP.with_channels(15), SMALL.with_channels(15)),
        {"sizes": (16, 32), "offset": 0, "rounded": True, "learn_rois": 5, "learn_per_level": 20, "count": 7, "beta": 0}
        | {"above": Fraction(1, 2), "below": Fraction(1, 2)},
    ),
    ("guided_propose", (MAP.with_channels(8), TINY), {"rois": 400}),
    (
        "guided_propose",
        (MAP.with_channels(8),),
        {"inner": Fraction(1, 4), "outer": Fraction(3, 4), "shape_weight": 1, "prior": Fraction(1, 2), "learn_rois": 9},
    ),
    ("roi_align", (MAP, SMALL, BOXES), {"size": 3}),
    ("refine", (BOXES, BOXES), {}),
    ("refine", (BOXES, BOXES), {"stds": (1, 1, 1, 1)}),
    ("sample_regions", (BOXES,), {}),
    ("sample_regions", (BOXES,), {"count": 3, "share": Fraction(1, 2), "above": Fraction(2, 3)}),
    ("detect_regions", (BOXES, CLASSES, BOXES), {"classes": 11, "least": 0}),
    (
        "detect_regions",
        (BOXES, BOXES, CLASSES, CLASSES, CLASSES.with_channels(44), CLASSES.with_channels(48)),
        {"classes": 11, "above": (Fraction(1, 2), Fraction(3, 5)), "weights": (1, Fraction(1, 2)), "most": 7}
        | {"stds": (1, 1, 1, 1, 2, 2, 2, 2), "beta": 0, "least": Fraction(1, 100), "nms": Fraction(2, 5)},
    ),
    ("detect_dense", (MAP.with_channels(36),) * 2, {"classes": 4}),
    (
        "detect_dense",
        (MAP, SMALL, MAP.with_channels(24), SMALL.with_channels(24)),
        {
            "classes": 2,
            "ratios": (1, 2),
            "sizes": (4, 5, 6, 8, 10, 12),
            "offset": 0,
            "rounded": True,
            "stds": (1, 1, 2, 2),
        }
        | {"above": Fraction(2, 3), "below": Fraction(1, 3), "alpha": Fraction(1, 2), "gamma": 1, "box_loss": S("giou")}
        | {"beta": 1, "box_weight": 2, "per_level": 50, "least": 0, "nms": 1, "most": 30, "prior": Fraction(1, 2)},
    ),
    ("flatten", (REGIONS,), {}),
    ("detach", (VECTOR,), {}),
    ("deform_conv", (MAP, MAP.with_channels(18)), {"out": 5}),
    (
        "deform_conv",
        (MAP, SMALL.with_channels(100)),
        {"out": 8, "kernel": 5, "stride": 2, "groups": 4, "bias": True}
        | {"offset_groups": 2, "dilation": 2, "act": S("relu")},
    ),
    ("deform_conv", (REGIONS, REGIONS.with_channels(18)), {"out": 5}),
    ("layer_norm", (MAP,), {}),
    ("layer_norm", (VECTOR,), {"eps": 1e-6}),
    ("layer_scale", (MAP,), {}),
    ("layer_scale", (VECTOR,), {"init": Fraction(1, 10)}),
    ("drop_path", (MAP,), {"p": Fraction(1, 5)}),
    ("drop_path", (VECTOR,), {"p": 0}),
    ("patches", (MAP,), {"out": 5}),
    ("patches", (MAP,), {"out": 7, "size": 4, "bias": False}),
    ("merge_patches", (MAP,), {}),
    ("merge_patches", (TINY,), {"out": 5}),
    ("to_tokens", (MAP,), {}),
    ("to_map", (TOKENS,), {}),
    ("to_map", (TOKENS,), {"height": 2}),
    ("class_token", (TOKENS,), {}),
    ("class_token", (TOKENS,), {"count": 2}),
    ("first_token", (TOKENS,), {}),
    ("patch_tokens", (TOKENS,), {"skip": 3}),
    ("position_embedding", (MAP,), {}),
    ("position_embedding", (TOKENS,), {"prefix": 7}),
    ("position_embedding", (TOKENS,), {"prefix": 1, "height": 3}),
    ("global_attention", (TOKENS,), {"heads": 3}),
    ("global_attention", (MAP,), {"heads": 2, "dim": 5, "out": 7, "qkv_bias": False, "bias": False}),
    ("global_attention", (SMALL,), {"heads": 2, "position": S("bias")}),
    ("global_attention", (TOKENS,), {"heads": 4, "position": S("bias"), "prefix": 1, "height": 3}),
    ("global_attention", (SMALL,), {"heads": 2, "position": S("vectors"), "reach": 3}),
    ("global_attention", (TOKENS,), {"heads": 3, "dim": 2, "position": S("vectors"), "prefix": 7}),
    ("window_attention", (MAP,), {"heads": 3}),
    ("window_attention", (SMALL,), {"heads": 2, "window": 4, "shift": 2, "dim": 5, "out": 7, "qkv_bias": False}),
    ("window_attention", (MAP,), {"heads": 2, "window": 13, "shift": 6, "position": S("none"), "bias": False}),
    ("window_attention", (TINY,), {"heads": 2, "shift": 3}),
    *[(name, (MAP,), {}) for name in ops.activation.FORMULAS],
    ("product", (MAP, SAME_SCALE, VECTOR, MAP.with_channels(1)), {}),
    ("product", (VECTOR, VECTOR.with_channels(1)), {}),
    ("weighted_sum", (MAP, SAME_SCALE, MAP), {}),
    ("weighted_sum", (VECTOR, VECTOR), {"weights": S("softmax"), "init": Fraction(1, 2)}),
    ("weighted_sum", (MAP,), {"weights": S("free"), "eps": 0}),
    ("gain", (MAP,), {"init": 0}),
    ("gain", (VECTOR,), {}),
    ("adaptive_pool", (MAP,), {"bins": 5}),
    ("adaptive_pool", (SMALL,), {"bins": 8}),
    ("resize_like", (MAP, SMALL), {}),
    ("resize_like", (VECTOR, MAP), {}),
    ("resize_like", (TINY, MAP), {"mode": S("nearest")}),
]


@pytest.mark.parametrize(("name", "inputs", "given_attrs"), SETTINGS, ids=lambda v: v if isinstance(v, str) else "")
def test_predictions_are_what_torch_says(name: str, inputs: tuple[Shape, ...], given_attrs: dict[str, Any]) -> None:
    check_operator(CATALOGUE[name], [(inputs, given_attrs)])


def test_every_operator_is_tried() -> None:
    assert {name for name, _, _ in SETTINGS} == set(CATALOGUE)


side = st.integers(1, 33)
odd = st.sampled_from([1, 3, 5, 7])
kernels = st.one_of(st.integers(1, 7), st.tuples(st.integers(1, 7), st.integers(1, 7)))
stride = st.integers(1, 3)
acts = st.sampled_from([S(a) for a in ("relu", "relu6", "h_swish", "swish", "gelu", "sigmoid", "leaky_relu", "none")])
norms = st.sampled_from([S("batch"), S("none"), S("group"), S("frozen")])
orders = st.permutations([S("conv"), S("norm"), S("act")]).map(tuple)
widths = st.one_of(
    st.integers(0, 6), st.frozensets(st.integers(0, 9)).map(lambda kept: FixedUnits(10, tuple(sorted(kept))))
)


@st.composite
def drawn(draw: st.DrawFn) -> Setting:
    """A setting of one of the operators with weights."""
    groups = draw(st.integers(1, 3))
    x = Shape(groups * draw(st.integers(1, 5)), draw(side), draw(side), Fraction(1, 4))
    name = draw(st.sampled_from(["conv", "depthwise", "mixconv", "transformer", "skip", "se", "segment", "detect3d"]))
    out = draw(st.integers(1, 9))
    here: dict[str, Any] = {}
    if name in ("conv", "depthwise"):
        here = {"kernel": draw(kernels), "stride": draw(stride), "dilation": draw(st.integers(1, 3))}
        here |= {"norm": draw(norms), "act": draw(acts), "order": draw(orders)}
        here |= {"bias": draw(st.sampled_from([None, True, False])), "standardise": draw(st.booleans())}
    if name == "conv":
        here |= {"out": out * groups, "groups": groups}
    if name in ("conv", "depthwise"):
        ends = here["order"].index(S("conv")) < here["order"].index(S("norm"))
        width: Any = here.get("out", x.channels) if ends else x.channels
        here["norm_groups"] = draw(st.sampled_from([n for n in range(1, width + 1) if width % n == 0]))
    if name == "mixconv":
        here = {"out": out, "stride": draw(stride), "act": draw(acts)}
        here["hidden"] = draw(st.dictionaries(odd, widths, min_size=1, max_size=3))
        if all(count_of(w) == 0 for w in here["hidden"].values()):
            here["hidden"][3] = 1
        here["se"] = draw(st.sampled_from([0, 0.5, Fraction(1, 3), 1, 2]))
    if name == "transformer":
        here = {"out": out, "stride": draw(stride), "size": draw(st.integers(1, 8)), "widen": draw(st.integers(1, 4))}
        here["tokens"] = draw(widths.filter(lambda w: count_of(w) > 0))
        here["position"] = S(draw(st.sampled_from(["centred", "unit", "none"])))
        here["project"] = S(draw(st.sampled_from(["before", "after"])))
        here["decoder_residual"] = S(draw(st.sampled_from(["encoder", "query"])))
        here |= {"bias": draw(st.booleans()), "decoder": draw(st.booleans())}
    if name == "skip":
        here = {"out": draw(st.sampled_from([out, x.channels])), "stride": draw(stride)}
    if name == "se":
        here = {"ratio": draw(st.sampled_from([Fraction(1, 4), 0.5, 1, 2]))}
    if name in ("segment", "detect3d"):
        here = {"classes": out}
    return name, (x,), here


def allowed(setting: Setting) -> bool:
    """Whether a file may say so: torch, for one, has no norm of a group of one value."""
    name, inputs, given_attrs = setting
    op = CATALOGUE[name]
    return all(held is not False for held, _ in op.must(inputs, attrs_of(op, given_attrs)))


@settings(max_examples=150)
@given(drawn().filter(allowed))
def test_predictions_hold_for_any_setting(setting: Setting) -> None:
    check_against_torch(*setting)


@given(drawn(), st.data())
def test_values_over_decisions_mean_the_same(setting: Setting, data: st.DataObject) -> None:
    """Each number in turn is one option of a choice: the rules' expressions, evaluated, are the rules' numbers."""
    name, inputs, given_attrs = setting
    op = CATALOGUE[name]
    attrs = attrs_of(op, given_attrs)
    open_attrs: dict[str, Any] = {}
    values: dict[str, Any] = {}

    def opened(path: str, value: Any) -> Any:
        if isinstance(value, FixedUnits):
            values[path] = value.kept
            return Units(path, value.n)
        if isinstance(value, dict):
            return {key: opened(f"{path}.{key}", item) for key, item in value.items()}
        plain = isinstance(value, int | float | Fraction | Symbol) and "groups" not in path and path != "transform"
        if not plain or not data.draw(st.booleans(), label=path):
            return value
        if isinstance(value, bool):
            other: Any = not value
        elif isinstance(value, Symbol):
            other = Symbol("none")
        else:
            other = value + 1 if isinstance(value, int) else value / 2
        values[path] = data.draw(st.integers(0, 1), label=f"option of {path}")
        return Case(path, (value, other) if values[path] == 0 else (other, value))

    for key, value in attrs.items():
        open_attrs[key] = opened(key, value)
    x = inputs[0]
    wide = Shape(opened("width", x.channels), opened("height", x.height), x.width, opened("scale", x.scale))
    output, plain_output = op.shape((wide,), open_attrs), op.shape(inputs, attrs)
    for part in ("channels", "height", "width", "scale"):
        assert evaluate(getattr(output, part), values) == getattr(plain_output, part)
    cost, plain_cost = op.cost((wide,), output, open_attrs), op.cost(inputs, plain_output, attrs)
    assert tuple(evaluate(c, values) for c in cost) == tuple(plain_cost)
    assert evaluate(op.alive(open_attrs), values) is op.alive(attrs) is True


def test_scales() -> None:
    def scale(name: str, **given_attrs: Any) -> Any:
        op = CATALOGUE[name]
        return op.shape((MAP,), attrs_of(op, given_attrs)).scale

    assert scale("conv", out=4, stride=2) == Fraction(1, 8)
    assert scale("transformer", out=4, stride=2, tokens=3) == Fraction(1, 8)
    assert scale("upsample", to=Fraction(1, 2)) == Fraction(1, 2)
    assert scale("upsample", to=4) == 1
    assert scale("max_pool", to=Fraction(1, 32)) == Fraction(1, 32)
    assert scale("zero", stride=4) == Fraction(1, 16)


# --- the closed forms of the HR-NAS paper -----------------------------------------------------------------------------


def cost_of(name: str, x: Shape, **given_attrs: Any) -> Cost:
    op = CATALOGUE[name]
    attrs = attrs_of(op, given_attrs)
    return op.cost((x,), op.shape((x,), attrs), attrs)


def test_the_hidden_width_of_a_squeeze_excite_may_be_said_by_itself() -> None:
    assert cost_of("se", MAP, hidden=5) == cost_of("se", MAP, ratio=Fraction(5, MAP.channels))
    assert cost_of("se", MAP, hidden=5) == (10 * MAP.channels, 11 * MAP.channels + 5)


@given(st.integers(1, 40), st.integers(1, 40), side, side, stride, st.lists(st.integers(0, 30), min_size=3, max_size=3))
def test_closed_form_of_the_searching_block(c: int, d: int, h: int, w: int, step: int, kept: list[int]) -> None:
    x = Shape(c, h, w, 1)
    out_pixels = len(range(0, h, step)) * len(range(0, w, step))
    total, weighted = sum(kept), 9 * kept[0] + 25 * kept[1] + 49 * kept[2]
    cost = cost_of("mixconv", x, out=d, stride=step, hidden=dict(zip((3, 5, 7), kept, strict=True)))
    params = total * (c + d + 4) + weighted + 2 * d if total else 0
    macs = c * total * h * w + (weighted + d * total) * out_pixels
    assert cost == (macs, params)


def test_full_supernet_block() -> None:
    """Expansion by 4 for each of three kernels: D = 12 c and 332 c depthwise weights."""
    c = 36
    cost = cost_of("mixconv", Shape(c, 28, 28, 1), out=c, hidden=dict.fromkeys((3, 5, 7), 4 * c))
    assert cost.params == 12 * c * (2 * c + 4) + 332 * c + 2 * c
    skip = cost_of("skip", Shape(24, 56, 56, 1), out=18)
    assert skip == (24 * 18 // 6 * 56 * 56, 24 * 18 // 6)


@given(st.integers(0, 80), st.integers(1, 80), st.integers(1, 80), side, side)
def test_closed_form_of_the_transformer(n: int, c: int, d: int, h: int, w: int) -> None:
    e = 64
    cost = cost_of("transformer", Shape(c, h, w, 1), out=d, tokens=n)
    assert cost.macs == n * e * (c + 2) + n * e * d + 12 * n * e * e + 4 * n * n * e
    assert cost.params == (n * (c + 2) + 2 * n + n * e + n * d + 2 * d + 12 * e * e + 8 * e if n else 0)
    paper = cost_of("transformer", Shape(c, h, w, 1), out=d, tokens=n, project=S("before"), widen=4, bias=True)
    assert paper.macs == n * h * w * (c + 2) + n * e * d + 2 * (4 + 8) * n * e * e + 4 * n * n * e
    if n == 64:
        assert cost == (4096 * (c + d + 2) + 4194304, 64 * (c + d + 68) + 49664 + 2 * d)


def test_costs_fall_apart_in_terms_over_single_decisions() -> None:
    hidden = {k: Units(f"k{k}", 8) for k in (3, 5, 7)}
    for squeeze in (0, Fraction(1, 2)):
        cost = cost_of("mixconv", MAP, out=5, hidden=hidden, se=squeeze)
        assert all(len(decisions_of(term)) <= 1 for term in terms(cost.macs))
        assert sum(len(decisions_of(term)) == 3 for term in terms(cost.params)) == 1
    op = CATALOGUE["mixconv"]
    alive = op.alive(attrs_of(op, {"out": 5, "hidden": hidden}))
    assert isinstance(alive, Expr)
    assert evaluate(alive, {"k3": (), "k5": (), "k7": ()}) is False
    assert evaluate(alive, {"k3": (), "k5": (2,), "k7": ()}) is True
    empty = {"k3": (), "k5": (), "k7": ()}
    assert evaluate(cost.params, empty) == evaluate(cost.macs, empty) == 0
    tokens = cost_of("transformer", MAP, out=5, tokens=Units("t", 8))
    assert evaluate(tokens.params, {"t": ()}) == evaluate(tokens.macs, {"t": ()}) == 0


# --- sharing ----------------------------------------------------------------------------------------------------------


def shared(
    name: str, inputs: tuple[Shape, Shape], full_attrs: dict[str, Any], small_attrs: dict[str, Any]
) -> tuple[Any, Any]:
    """The modules of a larger and a smaller setting, the latter with what it shares; both in evaluation mode."""
    return check_sharing(CATALOGUE[name], (inputs[:1], full_attrs), (inputs[1:], small_attrs))


def narrow(channels: int, shape: Shape = MAP) -> Shape:
    return shape.with_channels(channels)


def test_conv_shares_leading_channels_and_the_middle_of_the_kernel() -> None:
    full, small = shared(
        "conv",
        (MAP, narrow(8)),
        {"out": 10, "kernel": 7, "norm": S("batch"), "bias": True, "act": S("none")},
        {"out": 6, "kernel": 3, "norm": S("batch"), "bias": True, "act": S("none")},
    )
    x = random_input(narrow(8), 2)
    y = F.conv2d(x, full.conv.weight[:6, :8, 2:5, 2:5], full.conv.bias[:6], padding=1)
    mean, var = full.norm.running_mean[:6, None, None], full.norm.running_var[:6, None, None]
    y = (y - mean) / (var + 1e-5).sqrt() * full.norm.weight[:6, None, None] + full.norm.bias[:6, None, None]
    torch.testing.assert_close(small(x), y, rtol=1e-4, atol=1e-5)


def test_conv_in_another_order_shares_the_norm_of_its_input() -> None:
    order = (S("norm"), S("act"), S("conv"))
    full, small = shared("conv", (MAP, narrow(8)), {"out": 10, "order": order}, {"out": 6, "order": order})
    x = random_input(narrow(8), 2)
    padded = F.pad(x, (0, 0, 0, 0, 0, 4))
    weight = full.conv.weight[:6].clone()
    weight[:, 8:] = 0  # whatever the norm makes of the missing channels is not read
    torch.testing.assert_close(small(x), F.conv2d(full.norm(padded).clamp(min=0), weight), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [(5, 3), (2, 1), (7, 2)])
def test_group_norm_and_standardised_filters_of_a_part(groups: tuple[int, int]) -> None:
    """Filters are standardised over the entries that are used, whatever else there is; so are groups formed. Seven
    groups of ten channels hold the weights of others."""
    common = {"norm": S("group"), "standardise": True, "act": S("none")}
    full, small = shared(
        "conv",
        (MAP, narrow(8)),
        {**common, "out": 10, "kernel": 7, "norm_groups": groups[0]},
        {**common, "out": 6, "kernel": 3, "norm_groups": groups[1]},
    )
    x = random_input(narrow(8), 2).double()
    weight = full.conv.weight[:6, :8, 2:5, 2:5].double()
    rows = weight.flatten(1)
    rows = (rows - rows.mean(1, keepdim=True)) / (rows.std(1, correction=0, keepdim=True) + 1e-5)
    y = F.conv2d(x, rows.view_as(weight), padding=1)
    parts = y.view(2, groups[1], -1)
    parts = (parts - parts.mean(2, keepdim=True)) / (parts.var(2, correction=0, keepdim=True) + 1e-5).sqrt()
    scale, shift = (full.norm.get_parameter(name)[:6, None, None].double() for name in ("weight", "bias"))
    torch.testing.assert_close(small.double()(x), parts.view_as(y) * scale + shift, rtol=1e-6, atol=1e-6)


def test_frozen_norms_share_leading_channels() -> None:
    for name, given_attrs in (("norm", {}), ("conv", {"out": 10, "act": S("none")})):
        small_attrs = {**given_attrs, "out": 8} if given_attrs else {}
        frozen = {"norm": S("frozen")}
        full, small = shared(name, (MAP, narrow(8)), given_attrs | frozen, small_attrs | frozen)
        for part in ("weight", "bias", "running_mean", "running_var"):
            assert torch.equal(small.get_buffer(f"norm.{part}"), full.get_buffer(f"norm.{part}")[:8])


def test_depthwise_skip_se_norm_share_leading_channels() -> None:
    x = random_input(narrow(8), 2)
    full, small = shared("depthwise", (MAP, narrow(8)), {"kernel": 5}, {"kernel": 3})
    y = F.conv2d(x, full.conv.weight[:8, :, 1:4, 1:4], padding=1, groups=8)
    torch.testing.assert_close(small.conv(x), y)
    assert torch.equal(small.norm.running_var, full.norm.running_var[:8])
    full, small = shared("skip", (MAP, narrow(8)), {"out": 24}, {"out": 16})
    weight = full.conv.weight[:16].flatten()  # twelve and eight groups of one channel, each for two
    torch.testing.assert_close(small(x), x.repeat_interleave(2, 1) * weight[:, None, None])


def test_groups_that_have_no_place_in_the_larger_weight() -> None:
    """12 -> 20 has groups of 3 -> 5 channels, 8 -> 6 of 4 -> 3: no part of the one weight is the other."""
    op = CATALOGUE["skip"]
    with pytest.raises(ValueError, match="4 of 3 entries"):
        op.shares(attrs_of(op, {"out": 20}), attrs_of(op, {"out": 6}), (MAP,), (narrow(8),))


def test_heads_share_leading_channels() -> None:
    x = random_input(narrow(8), 2)
    full, small = shared("segment", (MAP, narrow(8)), {"classes": 5}, {"classes": 5})
    expected = F.conv2d(x, full.conv.weight[:, :8], full.conv.bias)
    torch.testing.assert_close(small(x), expected)
    full, small = shared("classify", (MAP, narrow(8)), {"classes": 5}, {"classes": 4})
    expected = F.linear(x.mean((2, 3)), full.linear.weight[:4, :8], full.linear.bias[:4])
    torch.testing.assert_close(small(x), expected)
    full, small = shared("linear", (VECTOR, narrow(8, VECTOR)), {"out": 5}, {"out": 3})
    vector = torch.randn(2, 8)
    torch.testing.assert_close(small(vector), F.linear(vector, full.linear.weight[:3, :8], full.linear.bias[:3]))
    full, small = shared("detect3d", (MAP, narrow(8)), {"classes": 2}, {"classes": 2})
    torch.testing.assert_close(small.boxes(x), F.conv2d(x, full.boxes.weight[:, :8], full.boxes.bias))
    full, small = shared("norm", (VECTOR, narrow(8, VECTOR)), {}, {})
    torch.testing.assert_close(small(vector), full(F.pad(vector, (0, 4)))[:, :8])
    full, small = shared("se", (MAP, narrow(8)), {"ratio": 0.5}, {"ratio": 0.25})
    inner = F.linear(x.mean((2, 3)), full.reduce.weight[:2, :8, 0, 0], full.reduce.bias[:2]).relu()
    gate = F.linear(inner, full.expand.weight[:8, :2, 0, 0], full.expand.bias[:8]).sigmoid()
    torch.testing.assert_close(small(x), x * gate[:, :, None, None])


MIX = [
    ({3: FixedUnits(6, (0, 1, 2, 3, 4, 5)), 5: 4}, {3: FixedUnits(6, (1, 4)), 5: 4}),
    ({3: 6, 5: 4, 7: 5}, {3: FixedUnits(6, ()), 5: FixedUnits(4, (0, 3)), 7: FixedUnits(5, (2, 3, 4))}),
    ({3: FixedUnits(6, (1, 3, 5)), 5: FixedUnits(9, (0, 7, 8))}, {3: FixedUnits(6, (3, 5)), 5: FixedUnits(9, (7,))}),
    ({7: 6, 3: 4}, {7: 2, 3: 4}),
    ({3: FixedUnits(6, (2, 5))}, {3: FixedUnits(6, (2, 5))}),
    ({3: Units("a", 6), 5: Units("b", 4)}, {3: FixedUnits(6, (0, 5)), 5: Units("b", 4)}),
]


@pytest.mark.parametrize("squeeze", [0, Fraction(1, 2)])
@pytest.mark.parametrize(("full_hidden", "small_hidden"), MIX)
def test_mixconv_without_some_units(full_hidden: Any, small_hidden: Any, squeeze: Any) -> None:
    """Units with no way out of the larger block, and no way into its gates, are units that are not there."""
    common = {"out": 7, "stride": 2, "se": squeeze}
    full, small = shared("mixconv", (MAP, MAP), {**common, "hidden": full_hidden}, {**common, "hidden": small_hidden})
    assert isinstance(full, MixConv)
    place = 0
    with torch.no_grad():
        for kernel, width in full_hidden.items():
            for unit in width.kept if isinstance(width, FixedUnits) else range(getattr(width, "n", width)):
                kept = small_hidden[kernel]
                if unit not in (kept.kept if isinstance(kept, FixedUnits) else range(getattr(kept, "n", kept))):
                    full.project.weight[:, place] = 0
                    if full.squeeze is not None:
                        full.squeeze.reduce.weight[:, place] = 0
                place += 1
    x = random_input(MAP, 2)
    torch.testing.assert_close(small(x), full(x), rtol=1e-4, atol=1e-5)


def test_mixconv_of_fewer_inputs_and_outputs() -> None:
    full, small = shared(
        "mixconv",
        (MAP, narrow(8)),
        {"out": 7, "hidden": {3: 4, 5: 4}},
        {"out": 5, "hidden": {3: FixedUnits(4, (1, 2)), 5: 4}},
    )
    x = random_input(narrow(8), 2)
    with torch.no_grad():
        full.project.weight[:, [0, 3]] = 0
    expected = full(F.pad(x, (0, 0, 0, 0, 0, 4)))[:, :5]
    torch.testing.assert_close(small(x), expected, rtol=1e-4, atol=1e-5)


def test_units_that_were_removed_before_cannot_come_back() -> None:
    op = CATALOGUE["mixconv"]
    large = attrs_of(op, {"out": 7, "hidden": {3: FixedUnits(6, (1, 2))}})
    small = attrs_of(op, {"out": 7, "hidden": {3: FixedUnits(6, (1, 4))}})
    with pytest.raises(ValueError, match="unit 4"):
        op.shares(large, small, (MAP,), (MAP,))


@pytest.mark.parametrize("decoder_residual", ["encoder", "query"])
@pytest.mark.parametrize(("full_tokens", "kept"), [(8, (0, 3, 4, 7)), (FixedUnits(9, (1, 2, 5, 8)), (2, 8))])
def test_transformer_of_some_tokens(full_tokens: Any, kept: tuple[int, ...], decoder_residual: str) -> None:
    """Written out for the kept tokens alone, from the larger module's weights."""
    small_tokens = FixedUnits(9 if isinstance(full_tokens, FixedUnits) else 8, kept)
    common = {"out": 7, "dropout": 0, "decoder_residual": S(decoder_residual)}
    full, small = shared(
        "transformer",
        (MAP, narrow(10)),
        {**common, "tokens": full_tokens},
        {**common, "tokens": small_tokens, "out": 6},
    )
    assert isinstance(full, LightTransformer)
    assert full.decoder is not None and full.queries is not None
    units = full_tokens.kept if isinstance(full_tokens, FixedUnits) else tuple(range(8))
    rows = [units.index(unit) for unit in kept]
    x = random_input(narrow(10), 2)
    y = F.interpolate(x, (8, 8), mode="bilinear", align_corners=False)
    ramp = (torch.arange(8) - 3.5) / (63 / 12) ** 0.5
    position = torch.stack([ramp.expand(8, 8), ramp[:, None].expand(8, 8)]).expand(2, -1, -1, -1)
    weight = full.project.weight[rows][:, [*range(10), 12, 13]]
    y = F.conv2d(torch.cat([y, position], 1), weight)
    norm = full.token_norm
    stats = (norm.running_mean[rows], norm.running_var[rows], norm.weight[rows], norm.bias[rows])  # type: ignore[index]
    tokens = F.batch_norm(y, *stats).flatten(2)

    def attend(layer: nn.Module, query: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        q, k, v = layer.get_parameter("attention.project_in").split(64)
        scores = torch.einsum("bid,bjd->bij", query @ q.T, memory @ k.T) / 8
        mixed = torch.einsum("bij,bjd->bid", scores.softmax(2), memory @ v.T)
        return mixed @ layer.get_parameter("attention.project_out.weight").T

    def finish(layer: nn.Module, z: torch.Tensor) -> torch.Tensor:
        z = layer.get_submodule("attention_norm")(z)
        inner = (z @ layer.get_parameter("widen.weight").T).relu() @ layer.get_parameter("narrow.weight").T
        return layer.get_submodule("feed_norm")(z + inner)

    encoded = finish(full.encoder, tokens + attend(full.encoder, tokens, tokens))
    queries = full.queries[rows].expand(2, -1, -1)
    start = queries if decoder_residual == "query" else encoded
    decoded = finish(full.decoder, start + attend(full.decoder, queries, encoded))
    y = F.conv2d(decoded.reshape(2, len(rows), 8, 8), full.unproject.weight[:6][:, rows])
    norm = full.output_norm
    y = F.batch_norm(y, norm.running_mean[:6], norm.running_var[:6], norm.weight[:6], norm.bias[:6])  # type: ignore[index]
    y = F.interpolate(y, (13, 18), mode="bilinear", align_corners=False)
    torch.testing.assert_close(small(x), y, rtol=1e-4, atol=1e-4)


def test_transformer_of_a_smaller_map_shares_weights_that_fit() -> None:
    small = {"out": 7, "tokens": 5, "size": 3, "widen": 2, "bias": True, "position": S("none")}
    full = {"out": 7, "tokens": 5, "size": 4, "widen": 4, "bias": True}
    big, little = shared("transformer", (MAP, MAP), full, small)
    rows = [part * 16 + i for part in range(3) for i in range(9)]
    assert torch.equal(little.encoder.attention.project_in, big.encoder.attention.project_in[rows][:, :9])
    assert little(random_input(MAP)).shape == (1, 7, 13, 18)


@given(drawn())
def test_a_setting_shares_all_of_itself(setting: Setting) -> None:
    name, inputs, given_attrs = setting
    op = CATALOGUE[name]
    attrs = attrs_of(op, given_attrs)
    assert op.shares(attrs, attrs, inputs, inputs) == {}


# --- search units -----------------------------------------------------------------------------------------------------


def test_unit_groups_name_their_factors() -> None:
    op = CATALOGUE["mixconv"]
    attrs = attrs_of(op, {"out": 7, "hidden": {3: Units("a", 6), 5: 4, 7: FixedUnits(9, (1, 5)), 9: FixedUnits(3, ())}})
    groups = op.units(attrs)
    assert [(g.label, g.start, g.kind) for g in groups] == [("3", 0, "channel"), ("7", 10, "channel")]
    module = build(op, (MAP,), attrs)
    for group in groups:
        size = group.units.n if isinstance(group.units, Units) else len(group.units.kept)
        assert group.start + size <= len(module.get_parameter(group.scale))
    assert op.units(attrs_of(op, {"out": 7, "hidden": {3: 4}})) == ()
    op = CATALOGUE["transformer"]
    attrs = attrs_of(op, {"out": 7, "tokens": Units("t", 8)})
    (group,) = op.units(attrs)
    assert (group.kind, group.start) == ("token", 0)
    assert len(build(op, (MAP,), attrs).get_parameter(group.scale)) == 8
    assert op.units(attrs_of(op, {"out": 7, "tokens": 8})) == ()
    assert op.alive(attrs) == Case("x", (0, 1)) or isinstance(op.alive(attrs), Expr)
    assert evaluate(op.alive(attrs), {"t": ()}) is False
    assert op.alive(attrs_of(op, {"out": 7, "tokens": 0})) is False


def test_importance_factor_of_zero_silences_a_channel() -> None:
    """The scale that a group names acts on the group's own channels and on no others."""
    op = CATALOGUE["mixconv"]
    attrs = attrs_of(op, {"out": 7, "hidden": {3: Units("a", 6), 5: Units("b", 4)}})
    module = unsettle(build(op, (MAP,), attrs)).eval()
    assert isinstance(module, MixConv)
    x = random_input(MAP)
    with torch.no_grad():
        module.hidden_norm.bias.zero_()
        group = op.units(attrs)[1]
        module.get_parameter(group.scale)[group.start : group.start + 4] = 0
        silent = module(x)
        module.get_parameter("depthwise.5.weight").mul_(100)
        torch.testing.assert_close(module(x), silent)
        module.get_parameter("depthwise.3.weight").mul_(100)
        assert not torch.allclose(module(x), silent)


# --- mistakes ---------------------------------------------------------------------------------------------------------

MISTAKES: list[tuple[str, tuple[Shape, ...], dict[str, Any], str, str]] = [
    ("conv", (MAP,), {"out": 8, "groups": 5}, "groups", "5 groups do not divide the 12 channels of the input"),
    ("conv", (MAP,), {"out": 8, "groups": 3}, "groups", "the 8 channels of the output"),
    ("conv", (MAP,), {"out": 8, "kernel": (3, 3, 3)}, "kernel", "a list of 3"),
    ("conv", (MAP,), {"out": 8, "order": (S("conv"), S("norm"))}, "order", "once each"),
    (
        "conv",
        (MAP,),
        {"out": 8, "norm": S("group")},
        "norm_groups",
        "32 groups of the norm do not divide 8 channels",
    ),
    ("norm", (VECTOR,), {"norm": S("group"), "norm_groups": 12}, "norm_groups", "one value alone"),
    ("conv", (MAP,), {"out": 8, "norm": Case("n", (S("batch"), S("group")))}, "norm", "between batch and group"),
    ("norm", (MAP,), {"norm": Case("n", (S("frozen"), S("batch")))}, "norm", "between batch and frozen"),
    ("depthwise", (MAP,), {"kernel": 1, "standardise": True}, "standardise", "a single weight"),
    ("conv_transpose", (MAP,), {"out": 8, "stride": 3}, "kernel", "side 2 leaves out pixels at stride 3"),
    ("conv_transpose", (MAP,), {"out": 8, "kernel": (4, 0)}, "kernel", "from 1 to 4095, and this is 0"),
    (
        "conv_transpose",
        (MAP,),
        {"out": 9, "groups": 6},
        "groups",
        "6 groups do not divide the 9 channels of the output",
    ),
    ("conv_transpose", (MAP,), {"out": 8, "norm": S("group")}, "norm_groups", "do not divide 8 channels"),
    ("conv_transpose", (VECTOR,), {"out": 8}, "", "feature map"),
    ("space_to_depth", (VECTOR,), {}, "", "feature map"),
    ("depth_to_space", (MAP,), {"factor": 3}, "factor", "blocks of 9 channels, which do not divide 12"),
    ("channels", (MAP,), {"out": 8, "skip": 6}, "out", "takes numbers 7 to 14, and 12 come in"),
    ("shuffle", (MAP,), {"groups": 5}, "groups", "5 groups do not divide 12 channels"),
    ("shift", (VECTOR,), {}, "", "feature map"),
    ("mixconv", (MAP,), {"out": 8, "hidden": {4: 8}}, "hidden", "odd number, not 4"),
    ("mixconv", (MAP,), {"out": 8, "hidden": {}}, "hidden", "for each kernel size"),
    ("mixconv", (VECTOR,), {"out": 8, "hidden": {3: 8}}, "", "mixconv reads a feature map"),
    ("transformer", (VECTOR,), {"out": 8, "tokens": 8}, "", "feature map"),
    ("segment", (VECTOR,), {"classes": 8}, "", "segment reads a feature map"),
    ("global_pool", (VECTOR,), {}, "", "feature map"),
    ("skip", (VECTOR,), {"out": 5}, "", "feature map"),
    ("linear", (MAP,), {"out": 8}, "", "reads a vector"),
    ("upsample", (MAP,), {"to": Fraction(1, 8)}, "to", "coarser"),
    ("resize", (MAP,), {"to": 0}, "to", "above 0"),
    ("max_pool", (MAP,), {"to": Fraction(1, 2)}, "to", "whole number"),
    ("sum", (MAP, SMALL.with_channels(9)), {}, "", "input 2 9"),
    ("sum", (MAP, VECTOR), {}, "", "not both"),
    ("concat", (MAP, SMALL), {"scale": Fraction(1, 2)}, "scale", "no input has scale 1/2; there is 1/4, 1/8"),
    ("concat", (), {}, "", "no input"),
    ("product", (), {}, "", "no input"),
    ("product", (VECTOR, MAP), {}, "", "begins with a vector"),
    ("product", (MAP, SAME_SCALE.with_channels(2)), {}, "", "input 1 has 12 channels and input 2 2"),
    ("product", (MAP, SMALL), {}, "", "one scale, but input 1 has 1/4 and input 2 1/8"),
    ("weighted_sum", (MAP, VECTOR), {}, "", "not both"),
    ("weighted_sum", (MAP, MAP.with_channels(9)), {}, "", "input 2 9"),
    ("weighted_sum", (MAP, SMALL), {}, "", "one scale"),
    ("weighted_sum", (BOXES, VECTOR.with_channels(4)), {}, "", "as many"),
    ("adaptive_pool", (VECTOR,), {"bins": 2}, "", "feature map"),
    ("resize_like", (MAP, VECTOR), {}, "", "feature map"),
]


@pytest.mark.parametrize(("name", "inputs", "given_attrs", "param", "message"), MISTAKES, ids=lambda v: str(v)[:20])
def test_mistakes_are_said_in_words(
    name: str, inputs: tuple[Shape, ...], given_attrs: dict[str, Any], param: str, message: str
) -> None:
    op = CATALOGUE[name]
    attrs = attrs_of(op, given_attrs)
    with pytest.raises(ShapeProblem, match=re.escape(message)) as caught:
        op.shape(inputs, attrs)
        for condition, problem in op.must(inputs, attrs):
            if condition is False:
                raise problem
    assert caught.value.param == param


# --- the catalogue ----------------------------------------------------------------------------------------------------


def test_every_operator_and_parameter_says_what_it_is() -> None:
    for name, op in CATALOGUE.items():
        assert op.name == name and op.where == "built-in"
        check_words(op)


def test_signature_reads_like_a_call() -> None:
    assert signature(CATALOGUE["skip"]) == "skip(out, stride = 1)"
    assert signature(CATALOGUE["se"]) == "se(ratio = 1/4, hidden = auto, act = relu, gate = sigmoid)"
    assert "order = [conv, norm, act]" in signature(CATALOGUE["conv"])
    assert "bias = false, decoder = true" in signature(CATALOGUE["transformer"])


def test_the_catalogue_needs_no_torch() -> None:
    code = "import nasdsl.compiler.ops, sys; sys.exit(any(m in sys.modules for m in ('torch', 'importlib.metadata')))"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What other packages offer under the entry point group."""
    offered: list[Any] = []

    def entry_points(group: str) -> list[Any]:
        assert group == "nasdsl.operators"
        return offered

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    plugins.cache_clear()
    yield offered
    plugins.cache_clear()


class Entry:
    """An entry point of a package `their-ops`."""

    class dist:
        name = "their-ops"

    name = "them"
    value = "their_ops:ALL"

    def __init__(self, loaded: Any) -> None:
        self.loaded = loaded

    def load(self) -> Any:
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


def other(name: str) -> Operator:
    base = CATALOGUE["identity"]
    return Operator(name, (), base.shape, base.cost, base.module, base.arguments)


def test_operators_of_other_packages(entries: list[Any]) -> None:
    entries += [Entry(other("blur")), Entry([other("whirl"), other("swirl")])]
    blur = find("blur")
    assert blur is not None and blur.where == "their-ops"
    assert find("swirl") is not None
    assert find("no_such") is None


@pytest.mark.parametrize(
    ("loaded", "message"),
    [
        (ImportError("no module named blurry"), "`their-ops`.*loading their_ops:ALL fails: ImportError: no module"),
        (7, "`their-ops`.*neither an Operator nor a list"),
        ([other("blur"), 7], "`their-ops`.*neither an Operator nor a list"),
        (other("conv"), "`their-ops` has an operator named `conv`, but so has nasdsl"),
        ([other("blur"), other("blur")], "named `blur`, but so has their-ops"),
    ],
)
def test_a_broken_package_is_named(entries: list[Any], loaded: Any, message: str) -> None:
    entries.append(Entry(loaded))
    assert find("conv") is CATALOGUE["conv"]  # built-in names never look outside
    with pytest.raises(PluginError, match=message):
        find("blur")


def test_a_real_entry_point_loads(entries: list[Any]) -> None:
    entries.append(EntryPoint("bad", "no_such_package_at_all:OPS", "nasdsl.operators"))
    with pytest.raises(PluginError, match="no_such_package_at_all"):
        find("blur")


def test_two_operators_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two operators are named `skip`"):
        ops._by_name([CATALOGUE["skip"], CATALOGUE["skip"]])


def test_kept_units_count() -> None:
    assert count_of(Units("u", 4)) == Kept("u", 4)
