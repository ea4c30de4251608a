"""Backbones, necks and heads of the library: published sizes, closed forms, plain torch."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import Any

import networkx as nx
import pytest
import torch
from torch.nn import functional as F

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.graph import Graph, Node
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.sample import sample
from nasdsl.compiler.source import Source
from nasdsl.compiler.supernet import Supernet, key_of
from nasdsl.compiler.values.plain import Symbol
from nasdsl.compiler.values.tree import evaluate
from tests.networks import check_extraction, check_predictions, unsettle


@cache
def graph(body: str, size: str = "3 x 224 x 224") -> Graph:
    return elaborate(Source(f"space test {{\n  input {size}\n{body}\n}}\n")).graph


def backbone(call: str) -> dict[str, int]:
    """Cost of a backbone; what is behind it has no cost."""
    return cost_of(graph(f"network {{ b: {call} -> concat(scale: 1/4) -> global_pool() }}"), {}, "b")


# --- Backbones --------------------------------------------------------------------------------------------------------

# Parameters and GMACs of the classifiers that torchvision and timm publish, less the last layer of 1000 classes, and of
# MobileNetV2 less its last convolution, too.
PUBLISHED: dict[str, tuple[int, float | None]] = {
    "resnet(18)": (11_689_512 - 513_000, 1.81 - 0.0005),
    "resnet(34)": (21_797_672 - 513_000, 3.66 - 0.0005),
    "resnet(50)": (25_557_032 - 2_049_000, 4.09 - 0.002),
    "resnet(101)": (44_549_160 - 2_049_000, 7.80 - 0.002),
    "resnet(152)": (60_192_808 - 2_049_000, 11.51 - 0.002),
    "resnext(50)": (25_028_904 - 2_049_000, 4.23 - 0.002),
    "resnext(101)": (44_177_704 - 2_049_000, None),
    "mobilenet_v2()": (3_504_872 - 1_281_000 - 412_160, 0.30 - 0.0213),
}


@pytest.mark.parametrize("call", PUBLISHED)
def test_backbones_are_the_published_ones(call: str) -> None:
    params, gmacs = PUBLISHED[call]
    found = backbone(call)
    assert found["params"] == params
    assert gmacs is None or found["macs"] / 1e9 == pytest.approx(gmacs, abs=0.012)


@pytest.mark.parametrize(
    ("whole", "part", "rest"),
    [
        ("resnet(18)", "resnet(18, stages: 1..3)", "resnet_stage(18, stage: 4)"),
        ("resnet(50)", "resnet(50, stages: 1..3)", "resnet_stage(50, stage: 4)"),
        ("resnext(50)", "resnext(50, stages: 1..3)", "resnext_stage(50, stage: 4)"),
        ("mobilenet_v2()", "mobilenet_v2(stages: 1..3)", "mobilenet_v2_stage(4)"),
    ],
)
def test_a_backbone_is_its_stages(whole: str, part: str, rest: str) -> None:
    cut = graph(f"network {{ b: {part}, pick(1/16), last: {rest}, global_pool() }}")
    first, last = cost_of(cut, {}, "b"), cost_of(cut, {}, "last")
    assert {name: first[name] + last[name] for name in first} == backbone(whole)


def test_widths_and_styles() -> None:
    """Half as wide has about a quarter of the weights. The stride of a block on its first convolution saves what that
    one and the second would do at the finer resolution."""
    wide, narrow = backbone("resnet(50)"), backbone("resnet(50, width: 32)")
    assert 3.9 < wide["params"] / narrow["params"] < 4
    caffe = backbone("resnet(50, style: caffe)")
    assert caffe["params"] == wide["params"]
    saved = 0
    for planes, ins, side in ((128, 256, 28), (256, 512, 14), (512, 1024, 7)):
        saved += 3 * ins * planes * side * side  # the first 1x1 convolution at twice the side
    assert wide["macs"] - caffe["macs"] == saved


@pytest.mark.parametrize(
    "call", ["resnet(51)", "resnext(18)", "resnet(50, stages: 2..4)", "mobilenet_v2(stages: 1..5)"]
)
def test_what_a_backbone_cannot_be(call: str) -> None:
    with pytest.raises(CompileError) as caught:
        backbone(call)
    assert all(d.span is not None and d.span.source.name != "library/backbones.space" for d in caught.value.diagnostics)


# --- Pyramids ---------------------------------------------------------------------------------------------------------

PYRAMID = """
  network {{
    c2: conv(5, kernel: 3, stride: 4)
    c3: conv(6, kernel: 3, stride: 2)
    c4: conv(7, kernel: 3, stride: 2)
    c5: conv(9, kernel: 3, stride: 2)
    branches(c2, c3, c4, c5) -> fpn(4, levels: {levels})
    concat(scale: {scale})
  }}
"""
WIDTHS = {2: 5, 3: 6, 4: 7, 5: 9}


@pytest.mark.parametrize("levels", [(2, 6), (2, 5), (3, 7), (3, 4), (5, 6), (4, 4)])
@pytest.mark.parametrize("size", [(64, 96), (65, 99)])
def test_a_pyramid_computes_what_plain_torch_does(levels: tuple[int, int], size: tuple[int, int]) -> None:
    first, last = levels
    space = graph(PYRAMID.format(levels=f"{first}..{last}", scale=f"1/{2**first}"), f"3 x {size[0]} x {size[1]}")
    network = Supernet(space).eval()
    unsettle(network)
    used = range(first, min(last, 5) + 1)
    assert cost_of(space, {}, "fpn")["params"] == sum(WIDTHS[n] * 4 + 4 + 9 * 16 + 4 for n in used)

    def layer(name: str) -> Any:
        return network.layers[key_of(name)]

    image = torch.randn(2, 3, *size)
    with torch.no_grad():
        x, maps = image, {}
        for level in range(2, max(used) + 1):  # coarser maps that nothing reads are left out
            maps[level] = x = layer(f"c{level}")(x)
        inner: dict[int, torch.Tensor] = {}
        for level in reversed(used):
            conv = layer(f"fpn.parallel[0][1/{2**level}].conv").conv
            inner[level] = F.conv2d(maps[level], conv.weight, conv.bias)
            if level + 1 in inner:
                above = F.interpolate(inner[level + 1], scale_factor=2, mode="nearest")
                if above.shape[2:] != inner[level].shape[2:]:  # what does not fit is brought to the size of the first
                    above = F.interpolate(above, size=inner[level].shape[2:], mode="bilinear", align_corners=False)
                inner[level] = inner[level] + above
        outer = []
        for level in used:
            conv = layer(f"fpn.parallel[1][1/{2**level}].conv").conv
            outer.append(F.conv2d(inner[level], conv.weight, conv.bias, padding=1))
        for _ in range(max(last - 5, 0)):
            outer.append(outer[-1][:, :, ::2, ::2])
        target = outer[0].shape[2:]
        expected = [
            o if o.shape[2:] == target else F.interpolate(o, size=target, mode="bilinear", align_corners=False)
            for o in outer
        ]
        assert torch.allclose(network(image), torch.cat(expected, 1), atol=1e-5)


def test_every_level_of_a_pyramid_sees_the_coarser_ones() -> None:
    space = graph(PYRAMID.format(levels="2..6", scale="1/4"), "3 x 64 x 64")
    for level in range(2, 6):
        behind = nx.ancestors(space.digraph, f"fpn.parallel[1][1/{2**level}].conv")
        seen = {n for n in range(2, 6) if f"fpn.parallel[0][1/{2**n}].conv" in behind}
        assert seen == set(range(level, 6))


# --- Heads ------------------------------------------------------------------------------------------------------------

DETECTOR = """
  detector {{
    backbone: {{
      c2: conv(8, stride: 4)
      c3: conv(8, stride: 2)
      c4: conv(8, stride: 2)
      c5: conv(8, stride: 2)
      branches(c2, c3, c4, c5)
    }}
    neck: fpn(8)
    {slots}
  }}
"""
SIZE = "3 x 128 x 160"


def of_op(space: Graph, op: str) -> list[Node]:
    return [node for node in space.nodes.values() if node.op == op]


def test_stages_of_a_cascade_are_ever_finer() -> None:
    space = graph(DETECTOR.format(slots="proposals: rpn(7), head: cascade(stages: oneof(1, 3, 4), classes: 3)"), SIZE)
    (path,) = space.decisions
    for option, stages in enumerate((1, 3, 4)):
        values = {path: option}
        refine = [node for node in of_op(space, "refine") if evaluate(node.reached, values)]
        assert len(refine) == stages
        for i, node in enumerate(refine):
            stds = [float(std) for std in evaluate(node.attrs["stds"], values)]
            assert stds == pytest.approx([0.1 / (i + 1)] * 2 + [0.2 / (i + 1)] * 2)
        check_predictions(space, Architecture.at(space, values))
    for before, after in pairwise(of_op(space, "refine")):
        assert before.name in nx.ancestors(space.digraph, after.name)
    check_extraction(space, *[Architecture.of(space, {path: stages}) for stages in (1, 3, 4)])


def test_a_cascade_reads_all_its_stages() -> None:
    """Regions, class scores and deltas of each; the class scores are the mean over the stages (`test_detection.py`)."""
    space = graph(DETECTOR.format(slots="proposals: rpn(7), head: cascade(stages: 3, classes: 3)"), SIZE)
    (head,) = of_op(space, "detect_regions")
    parts = ("boxes", "scores.linear", "deltas.linear")
    assert [edge.source for edge in head.inputs] == [f"head.repeat[{i}].{part}" for part in parts for i in range(3)]
    assert [head.attrs["stds"][4 * i] for i in range(3)] == [Fraction(1, 10), Fraction(1, 20), Fraction(1, 30)]
    samples = [node for node in of_op(space, "sample_regions") if node.present is True]
    assert [node.attrs["above"] for node in samples] == [Fraction(1, 2), Fraction(3, 5), Fraction(7, 10)]
    assert tuple(head.attrs["above"])[:3] == (Fraction(1, 2), Fraction(3, 5), Fraction(7, 10))


def test_regions_do_not_read_the_coarsest_level() -> None:
    for head in ("rcnn(classes: 3)", "cascade(stages: 2, classes: 3)"):
        space = graph(DETECTOR.format(slots=f"proposals: rpn(7), head: {head}"), SIZE)
        for node in of_op(space, "roi_align"):
            scales = [str(space.nodes[edge.source].shape.scale) for edge in node.inputs[:-1]]
            assert scales == ["1/4", "1/8", "1/16", "1/32"]
        (propose,) = of_op(space, "propose")
        assert len(propose.inputs) == 5


@pytest.mark.parametrize("agnostic", ["true", "false"])
def test_the_head_of_faster_rcnn(agnostic: str) -> None:
    slots = f"proposals: rpn(7), head: rcnn(classes: 3, agnostic: {agnostic}) {{ conv(4), flatten(), linear(10) }}"
    space = graph(DETECTOR.format(slots=slots), SIZE)
    deltas = 4 if agnostic == "true" else 16
    body = 8 * 4 + 2 * 4 + 4 * 49 * 10 + 10
    assert cost_of(space, {}, "head")["params"] == body + 10 * 4 + 4 + 10 * deltas + deltas
    assert cost_of(space, {}, "head")["macs"] == 7 * (8 * 4 * 49 + 4 * 49 * 10 + 10 * 4 + 10 * deltas)
    check_predictions(space, Architecture.of(space, {}))


def test_guided_anchors() -> None:
    slots = "proposals: guided_anchor_rpn(7), head: rcnn(classes: 3) { global_pool() }"
    space = graph(DETECTOR.format(slots=slots), SIZE)
    heads = sum(8 * outs + outs for outs in (1, 2, 1, 4))
    assert cost_of(space, {}, "proposals")["params"] == 9 * 64 + 8 + heads + 2 * 72 + 9 * 64
    check_predictions(space, Architecture.of(space, {}))


def test_anchors_of_several_scales() -> None:
    slots = "proposals: rpn(7, scales: [2, 4, 8], ratios: [1, 2]), head: rcnn(classes: 3) { global_pool() }"
    space = graph(DETECTOR.format(slots=slots), SIZE)
    assert cost_of(space, {}, "proposals")["params"] == 9 * 64 + 8 + 8 * 6 + 6 + 8 * 24 + 24
    check_predictions(space, Architecture.of(space, {}))


@pytest.mark.parametrize("level_norm", [False, True])
def test_the_towers_of_retinanet(level_norm: bool) -> None:
    """Convolutions shared by the levels; with `level_norm` five norms behind each."""
    slots = f"head: retina(classes: 3, depth: 2, level_norm: {str(level_norm).lower()})"
    space = graph(DETECTOR.format(slots=slots), SIZE)
    towers = 2 * 2 * (9 * 64 + 8) + (9 * 8 * 27 + 27) + (9 * 8 * 36 + 36)
    assert cost_of(space, {}, "head")["params"] == towers + (2 * 2 * 5 * 16 if level_norm else 0)
    assert len({node.weight for node in of_op(space, "conv") if node.name.startswith("head")}) == 2 * 3
    assert len({node.weight for node in of_op(space, "norm")}) == (2 * 2 * 5 if level_norm else 0)
    (head,) = of_op(space, "detect_dense")
    shapes = [space.nodes[edge.source].shape for edge in head.inputs]
    levels = [(-(-128 // 2**n), -(-160 // 2**n)) for n in range(2, 7)]
    assert [(x.height, x.width) for x in shapes] == levels * 2
    assert [x.channels for x in shapes] == [9 * 3] * 5 + [9 * 4] * 5
    assert space.nodes[space.outputs[0]].shape.items == 100
    check_predictions(space, Architecture.of(space, {}))


def test_norms_of_a_whole_network_by_its_defaults() -> None:
    """They reach what the library's operators are made of, and the parameters of the same name; not what predicts."""
    slots = "head: retina(classes: 3, depth: 2)"
    body = DETECTOR.format(slots=slots)
    group = graph(f"defaults {{ norm: group, norm_groups: 2, standardise: true }}\n{body}", SIZE)
    plain = graph(body, SIZE)
    predicting = 0
    for node in of_op(group, "conv"):
        before = plain.nodes[node.name]
        normed = node.attrs["norm"] == Symbol("group")
        assert node.attrs["standardise"] is normed
        assert normed == (not node.name.startswith("head") or ".repeat" in node.name or node.shape.channels == 8)
        predicting += not normed
        assert normed or before.attrs["norm"] == Symbol("none")
    assert predicting == 2 * 5
    more = sum(2 * 8 for node in of_op(plain, "conv") if node.name.startswith("neck")) + 2 * 2 * 2 * 8
    bias = sum(8 for node in of_op(plain, "conv") if node.name.startswith("neck")) + 2 * 2 * 8
    assert cost_of(group, {})["params"] == cost_of(plain, {})["params"] + more - bias
    check_extraction(group, Architecture.of(group, {}))


@pytest.mark.parametrize("level_norm", [False, True])
def test_towers_with_group_norm(level_norm: bool) -> None:
    given = f"level_norm: {str(level_norm).lower()}, norm: group, norm_groups: 4"
    space = graph(DETECTOR.format(slots=f"head: retina(classes: 3, depth: 2, {given})"), SIZE)
    convolutions = 2 * 2 * (9 * 64 + (8 if level_norm else 0)) + (9 * 8 * 27 + 27) + (9 * 8 * 36 + 36)
    assert cost_of(space, {}, "head")["params"] == convolutions + 2 * 2 * (5 if level_norm else 1) * 16
    check_predictions(space, Architecture.of(space, {}))


def test_defaults_reach_the_parameters_of_the_library() -> None:
    """What a call says goes before them, and they before what the library says."""
    space = graph("defaults { act: swish }\nnetwork { basic(16, act: relu6) -> basic(16), separable(8), classify(2) }")
    acts = [str(node.attrs["act"]) for node in space.operators() if "act" in node.attrs]
    assert acts == ["relu6", "none", "none", "swish", "none", "swish", "none"]  # the third is of a shortcut
    assert [node.op for node in space.operators() if node.op in ("relu", "relu6", "swish")] == ["relu6", "swish"]


def test_defaults_may_depend_on_decisions() -> None:
    space = graph(
        "let w = oneof(16, 32)\ndefaults { norm: group, norm_groups: w / 2 }\nnetwork { basic(w), classify(2) }"
    )
    assert list(space.decisions) == ["w"]
    for draw in sample(space, 4, seed=0):
        groups = {evaluate(node.attrs["norm_groups"], draw.indices) for node in of_op(space, "conv")}
        assert groups == {draw["w"] / 2}
        check_extraction(space, draw)


@pytest.mark.parametrize(("head", "deltas"), [("retina(classes: 3, depth: 0, sizes: {})", 9), ("rpn(7, sizes: {})", 3)])
def test_anchors_of_sizes_in_pixels(head: str, deltas: int) -> None:
    """As many for each level; what hangs on the number of levels is worked out by the library."""
    sizes = [16 * 2**n + part for n in range(5) for part in range(deltas // 3)]
    call = head.format(sizes)
    slots = f"head: {call}" if deltas == 9 else f"proposals: {call}, head: rcnn(classes: 3) {{ global_pool() }}"
    space = graph(DETECTOR.format(slots=slots), SIZE)
    (node,) = of_op(space, "detect_dense" if deltas == 9 else "propose")
    assert tuple(node.attrs["sizes"]) == tuple(sizes)
    check_predictions(space, Architecture.of(space, {}))


def test_sizes_in_pixels_need_all_levels() -> None:
    slots = "head: retina(classes: 3, sizes: [16, 32, 64, 128])"
    text = "let first = oneof(2, 3)\n" + DETECTOR.format(slots=slots).replace("fpn(8)", "fpn(8, levels: first..5)")
    with pytest.raises(CompileError, match="no choice may leave a level out"):
        graph(text, SIZE)
    with pytest.raises(CompileError, match="whole number"):
        graph(DETECTOR.format(slots="head: retina(classes: 3, sizes: [16, 32])"), SIZE)


def test_a_detector_with_searched_modules_taken_out_computes_the_same() -> None:
    slots = """
      proposals: oneof(none, rpn: rpn(7), guided: guided_anchor_rpn(5))
      head: oneof(retina: retina(classes: 3, depth: 1), rcnn: rcnn(classes: 3), cascade: cascade(stages: 2, classes: 3))
    """
    text = DETECTOR.format(slots=slots) + "\n  require (head == retina) == (proposals == none)"
    space = graph(text, SIZE)
    each = {(draw["head"], draw["proposals"]): draw for draw in sample(space, 60, seed=3)}
    assert len(each) == 5
    check_extraction(space, *each.values())
