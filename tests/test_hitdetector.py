"""Hit-Detector: the candidates, the counts and the published network, against tables and closed forms written down
here a second time, and against torch.

To check more random networks, set NASDSL_NETWORKS.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import networkx as nx
import pytest

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import cost_of, total_cost
from nasdsl.compiler.count import count
from nasdsl.compiler.extremes import greatest, least
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.sample import sample
from nasdsl.overview import stage_rows
from tests import shipped
from tests.networks import check_extraction, check_predictions

NETWORKS = int(os.environ.get("NASDSL_NETWORKS", "1"))


graph = partial(shipped.graph, "hitdetector")


def changed(changes: str, base: str = "hitdetector") -> Graph:
    return graph(base, changes)


# --- What is expected -------------------------------------------------------------------------------------------------

Op = tuple[str, int, int, int]  # family, kernel, dilation, expansion

WHOLE: list[Op] = [
    *[("ir", 3, d, e) for d in (1, 2, 3) for e in (1, 3, 6)],
    *[("ir", 5, d, e) for d in (1, 2, 3) for e in (1, 3, 6)],
    *[("ir", 7, 1, e) for e in (1, 6)],
    *[("sep", k, d, 0) for k in (3, 5) for d in (1, 2, 3)],
    *[("dense", k, d, 0) for k in (3, 5) for d in (1, 2, 3)],
]


def ir(k: int, e: int, d: int = 1) -> Op:
    return ("ir", k, d, e)


def sep(k: int, d: int = 1) -> Op:
    return ("sep", k, d, 0)


def dense(k: int, d: int = 1) -> Op:
    return ("dense", k, d, 0)


# The appendix's lists of eight. (It prints the fourth operation of the backbone twice.)
SCREENED = {
    "backbone": [ir(3, 3), ir(3, 6), ir(3, 3, d=2), ir(5, 3), ir(5, 6), ir(5, 6, d=2), ir(5, 6, d=3), ir(7, 6)],
    "neck": [dense(3, d=3), dense(5), ir(3, 1, d=2), ir(5, 3), sep(3), sep(3, d=3), sep(5, d=2), sep(5, d=3)],
    "head": [ir(3, 3), ir(3, 6), ir(3, 6, d=2), ir(5, 3), ir(5, 6), ir(7, 6), dense(3), dense(5)],
}

# The released network, fine to coarse.
FOUND = [
    *[ir(3, 3), ir(3, 3), ir(3, 3, d=2), ir(3, 3)],
    *[ir(5, 6), ir(5, 6), ir(3, 3), ir(3, 3)],
    *[ir(7, 6), ir(5, 6), ir(5, 6, d=2), ir(5, 3), ir(5, 6), ir(5, 6, d=2), ir(5, 6), ir(5, 6, d=2)],
    *[ir(7, 6), ir(5, 6), ir(5, 6, d=2), ir(5, 6)],
    *[sep(5, d=3), sep(5, d=3), sep(5, d=2), sep(3, d=3)],
    *[sep(3, d=3), sep(5, d=3), sep(5, d=3), sep(3, d=3)],
    *[ir(5, 6), ir(3, 6), ir(5, 6), ir(5, 6)],
]


def label(op: Op) -> str:
    family, k, d, e = op
    return f"ir(k: {k}, d: {d}, e: {e})" if family == "ir" else f"{family}(k: {k}, d: {d})"


@dataclass
class Total:
    """Parameters; MACs; and what a counter adds that takes a norm for two operations a value, an activation for one."""

    params: int = 0
    macs: int = 0
    others: int = 0

    def __add__(self, other: Total) -> Total:
        return Total(self.params + other.params, self.macs + other.macs, self.others + other.others)

    def times(self, n: int) -> Total:
        """Of the same layer run n times."""
        return Total(self.params, n * self.macs, n * self.others)


def conv(ins: int, outs: int, k: int, pixels: int, act: bool, groups: int = 1) -> Total:
    """With norm; `pixels` are the output's."""
    weights = k * k * ins // groups * outs
    return Total(weights + 2 * outs, weights * pixels, (3 if act else 2) * outs * pixels)


def biased(ins: int, outs: int, k: int, pixels: int, act: bool = False) -> Total:
    """With bias, which the counter takes for one operation a value."""
    weights = k * k * ins * outs
    return Total(weights + outs, weights * pixels, (2 if act else 1) * outs * pixels)


def layer(op: Op, ins: int, outs: int, before: int, after: int) -> Total:
    """One candidate; `before` and `after` are the pixels of its input and output."""
    family, k, _, e = op
    if family == "dense":
        return conv(ins, outs, k, after, False)
    if family == "sep":
        return conv(ins, ins, k, after, True, ins) + conv(ins, outs, 1, after, False)
    mid = e * ins
    return conv(ins, mid, 1, before, True) + conv(mid, mid, k, after, True, mid) + conv(mid, outs, 1, after, False)


def expected(ops: Sequence[Op], size: tuple[int, int], rois: int, middle: int, tail: bool) -> dict[str, Total]:
    """The whole network by part."""
    pixels = []
    height, width = size
    for _ in range(6):
        height, width = -(-height // 2), -(-width // 2)
        pixels.append(height * width)
    backbone = conv(3, 16, 3, pixels[0], True)
    ins, left, taps = 16, list(ops), []
    for stage, widths in enumerate(([48] * 4, [96] * 4, [middle] * 4 + [256] * 4, [352] * 4)):
        for i, outs in enumerate(widths):
            before = pixels[stage + (i > 0)]
            backbone += layer(left.pop(0), ins, outs, before, pixels[stage + 1])
            ins = outs
        taps.append(ins)
    if tail:
        backbone += layer(ir(3, 3), 352, 1024, pixels[4], pixels[4]) + conv(1024, 2048, 1, pixels[4], True)
        taps[-1] = 2048
    neck = Total()
    for level, ins in enumerate(taps, 1):
        neck += layer(left.pop(0), ins, 256, pixels[level], pixels[level])
    for level in range(1, 5):
        neck += layer(left.pop(0), 256, 256, pixels[level], pixels[level])
    for level in (2, 3, 4):
        neck += biased(256, 256, 3, pixels[level])
    proposals = Total()
    for level in range(1, 6):
        one = biased(256, 256, 3, pixels[level], True) + biased(256, 15, 1, pixels[level])
        proposals = Total(one.params, proposals.macs + one.macs, proposals.others + one.others)
    head = Total()
    for op in left:
        head += layer(op, 256, 256, 49, 49)
    head += biased(12544, 512, 1, 1) + biased(512, 81, 1, 1) + biased(512, 4 * 81, 1, 1)
    return {"backbone": backbone, "neck": neck, "proposals": proposals, "head": head.times(rois)}


def values_of(space: Graph, ops: Sequence[Op]) -> dict[str, Any]:
    return {
        path: decision.labels.index(label(op))
        for (path, decision), op in zip(space.decisions.items(), ops, strict=True)
    }


def check_costs(space: Graph, values: Any, parts: dict[str, Total]) -> None:
    for part, total in parts.items():
        assert cost_of(space, values, part) == {"params": total.params, "macs": total.macs}, part
    whole = {"params": sum(t.params for t in parts.values()), "macs": sum(t.macs for t in parts.values())}
    assert cost_of(space, values) == whole


# --- The space --------------------------------------------------------------------------------------------------------


def part_of(path: str) -> str:
    return path.split(".")[0]


def test_every_layer_has_the_32_candidates() -> None:
    decisions = graph().decisions
    assert [part_of(path) for path in decisions] == ["backbone"] * 20 + ["neck"] * 8 + ["head"] * 4
    for decision in decisions.values():
        assert sorted(decision.labels) == sorted(map(label, WHOLE))
        assert decision.present is True
    assert count(graph()).total == 32**32


def test_the_screened_lists_are_the_published_ones() -> None:
    for path, decision in graph("screened").decisions.items():
        assert sorted(decision.labels) == sorted(map(label, SCREENED[part_of(path)]))
    total = count(graph("screened")).total
    assert total == 8**32
    assert f"{total:.1e}" == "7.9e+28"


@pytest.mark.parametrize(("middle", "tail"), [(184, True), (256, False)])
def test_costs_are_the_closed_forms(middle: int, tail: bool) -> None:
    space = graph(middle=str(middle), tail="true" if tail else "false")
    rng = random.Random(f"{middle} {tail}")
    for _ in range(3):
        ops = [rng.choice(WHOLE) for _ in range(32)]
        check_costs(space, values_of(space, ops), expected(ops, (800, 1216), 1000, middle, tail))


def test_costs_at_an_odd_size_with_few_regions() -> None:
    space = changed("input 3 x 333 x 201, rois: 7")
    ops = [random.Random(1).choice(WHOLE) for _ in range(32)]
    check_costs(space, values_of(space, ops), expected(ops, (333, 201), 7, 184, True))


def test_the_neck_goes_down_and_up_again() -> None:
    """Which laterals each map reads: behind the way down those as coarse or coarser, behind the way up all."""
    digraph = graph("found").digraph
    scales = ["1/4", "1/8", "1/16", "1/32"]

    def behind(node: str, before: str) -> list[str]:
        found = nx.ancestors(digraph, node)
        return [scale for scale in scales if any(name.startswith(f"neck.{before}[{scale}]") for name in found)]

    for number, scale in enumerate(scales):
        inputs = [name for name in digraph if name.startswith(f"neck.merged[{scale}]") and name.endswith("depthwise")]
        assert len(inputs) == 1
        assert behind(inputs[0], "lateral") == scales[number:]
        rpn = f"proposals.parallel[{scale}].conv"
        assert behind(rpn, "merged") == scales[: number + 1]
        assert behind(rpn, "lateral") == scales
    assert behind("proposals.parallel[1/64].conv", "merged") == scales


def test_extremes_are_those_of_every_layer_alone() -> None:
    """No layer's cost depends on another layer's choice."""
    space = graph("screened")
    for measure in ("macs", "params"):
        parts = [
            [getattr(sum_of([*FOUND[:i], op, *FOUND[i + 1 :]]), measure) for op in SCREENED[part_of(path)]]
            for i, path in enumerate(space.decisions)
        ]
        base = getattr(sum_of(FOUND), measure)
        cost = total(space, measure)
        assert least(space, cost)[0] == base + sum(min(part) - base for part in parts)
        assert greatest(space, cost)[0] == base + sum(max(part) - base for part in parts)


def sum_of(ops: Sequence[Op]) -> Total:
    out = Total()
    for part in expected(ops, (800, 1216), 1000, 184, True).values():
        out += part
    return out


def total(space: Graph, measure: str) -> Any:
    return getattr(total_cost(space), measure)


# --- The published network --------------------------------------------------------------------------------------------


def test_the_found_network_is_the_published_one() -> None:
    """All of the paper's parameter counts. It prints 272.3 G MACs at 800 x 1200 and 1000 regions, which is what a
    counter gives that pads the image to multiples of 32 and takes a norm for two operations a value, an activation and
    a bias for one each; convolutions and linear layers alone have 269.4 G."""
    found = graph("found")
    assert not found.decisions
    parts = expected(FOUND, (800, 1216), 1000, 184, True)
    check_costs(found, {}, parts)
    assert {name: part.params for name, part in parts.items()} == {
        "backbone": 13_881_832,
        "neck": 2_715_952,
        "proposals": 593_935,
        "head": 9_932_181,
    }
    assert [round(parts[name].params / 1e6, 1) for name in ("backbone", "neck", "head")] == [13.9, 2.7, 9.9]
    assert cost_of(found, {}) == {"params": 27_123_900, "macs": 269_440_827_008}
    whole = sum_of(FOUND)
    assert round(whole.params / 1e6, 2) == 27.12
    assert round((whole.macs + whole.others) / 1e9, 1) == 272.3


def test_stages_have_the_weights_that_are_shared_inside_of_them() -> None:
    """The proposals work on five levels with one set of weights. What the summary tells of stages adds up."""
    found = graph("found")
    rows = stage_rows(found, None, Architecture.at(found, {}))
    assert {row[0]: row[-1] for row in rows}["proposals"] == "593,935"
    for column, whole in ((-2, 269_440_827_008), (-1, 27_123_900)):
        assert sum(int(row[column].replace(",", "")) for row in rows) == whole


def test_the_papers_widths_are_not_those_of_its_counts() -> None:
    """With 256 channels in all of the third stage and nothing after the last one, as the text says, the backbone has
    11.6M parameters and the whole 24.4M."""
    ops = values_of(graph(), FOUND)
    text = graph(middle="256", tail="false")
    assert cost_of(text, ops, "backbone")["params"] == 11_648_720
    assert cost_of(text, ops)["params"] == 24_437_956
    for middle, tail in (("256", "true"), ("184", "false")):
        assert round(cost_of(graph(middle=middle, tail=tail), ops)["params"] / 1e6, 2) != 27.12


def test_the_baseline_is_the_published_one() -> None:
    """41.76M parameters, of which 23.5M, 3.3M and 14.3M in backbone, neck and head; 197.4 G counted as above."""
    baseline = graph("fpn_resnet50")
    assert cost_of(baseline, {}) == {"params": 41_757_156, "macs": 196_733_143_808}
    parts = [cost_of(baseline, {}, name)["params"] for name in ("backbone", "neck", "proposals", "head")]
    assert parts == [23_508_032, 3_344_384, 593_935, 14_310_805]
    assert round(sum(parts) / 1e6, 2) == 41.76
    others = 0
    for node in baseline.operators():
        values = node.shape.items * node.shape.channels * node.shape.pixels
        norm, act = (str(node.attrs.get(name, "none")) for name in ("norm", "act"))
        others += values * (2 * (norm == "batch") + (act != "none") + (node.op == "relu"))
        others += values * (norm == "none" and node.op in ("conv", "linear"))
    assert round((196_733_143_808 + others) / 1e9, 1) == 197.4


# --- Against torch ----------------------------------------------------------------------------------------------------

SMALL = "input 3 x 96 x 128, rois: 5, classes: 4"


@pytest.mark.parametrize("seed", range(NETWORKS))
def test_networks_are_as_predicted(seed: int) -> None:
    space = changed(SMALL)
    (values,) = sample(space, 1, seed)
    check_predictions(space, values)


@pytest.mark.parametrize("seed", range(NETWORKS))
def test_networks_taken_out_compute_what_the_supernet_does(seed: int) -> None:
    """Of two candidates a part; all have more weights than can be tested quickly."""
    rng = random.Random(seed)
    some = {
        f"{part}_op": "oneof(" + ", ".join(label(op) for op in rng.sample(ops, 2)) + ")"
        for part, ops in SCREENED.items()
    }
    space = changed(f"{SMALL}, " + ", ".join(f"{name}: {options}" for name, options in some.items()))
    assert count(space).total == 2**32
    check_extraction(space, *sample(space, 2, seed))
