"""Pictures: what is in them, where it stands, and that graphviz can paint them."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import networkx as nx
import pytest

import nasdsl
from nasdsl import cli, spaces
from nasdsl.compiler.parse import read
from nasdsl.compiler.pin import pin
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source
from nasdsl.compiler.values.tree import evaluate
from nasdsl.drawing.dot import to_dot
from nasdsl.drawing.fold import fold
from nasdsl.drawing.layout import lay_out, staged
from nasdsl.drawing.picture import LEVELS, Bar, make_picture
from nasdsl.drawing.render import FORMATS, RenderError, render
from nasdsl.drawing.tied import tied_cells
from nasdsl.files import names_in
from tests import pictures, shipped

GOLDEN = Path(__file__).parent / "drawings"

CHAIN = """
space chain {
  input 3 x 32 x 32
  operator block(out, stride = 1) {
    residual { mixconv(out, stride, hidden: { 3: units(8), 5: units(4) }) + transformer(out, stride, tokens: units(4)) }
  }
  network {
    stem: conv(8, kernel: oneof(3, 5, 7), stride: 2)
    stage: for out in [8, 16] { block(out, stride: 2) -> repeat oneof(1, 2) { block(out) } }
    pick: oneof(conv(16), wide: { conv(32) -> conv(16) }, none: identity())
    classify(10)
  }
}
"""

LANES = """
space lanes {
  input 3 x 64 x 64
  operator mix(out, stride = 1) {
    mixconv(out, stride, hidden: { 3: units(8), 7: units(8) }) + skip(out, stride)
  }
  fusion exchange {
    same: mix(width), down: mix(width, stride: 2), up: mix(width) -> upsample(to: scale), new: mix(width, stride: 2)
    from: neighbours, merge: sum(), then: relu()
  }
  network {
    conv(8, kernel: 3, stride: 2)
    stage: for n in [1, 2, 3] {
      fuse(exchange, to: take({ 1/2: 8, 1/4: 16, 1/8: 32 }, n))
      parallel { repeat 2 { mix(width) } }
    }
    concat(scale: 1/2) -> segment(3)
  }
}
"""


def scene_of(text, level="block"):
    return make_picture(nasdsl.loads(text), level)


def items_of(scene):
    return {item.key: item for item in scene.items}


# --- What is shown ----------------------------------------------------------------------------------------------------


def test_what_an_architecture_left_out_is_faded_unless_there_is_more_of_it():
    for others, faded in ((1, True), (10, False)):
        options = ", ".join(f"o{n}: {{ conv({n + 4}) -> conv(4) }}" for n in range(others + 1))
        text = f"""space whole {{
          input 3 x 32 x 32
          network {{ repeat 3 {{ conv(4) }}, x: oneof({options}), classify(3) }}
        }}
        space one = whole with {{ x: o1 }}
        """
        scene = make_picture(elaborate(Source(text), "one"), "operator")
        assert any(item.state == "gone" for item in scene.items) == faded
        assert sum(item.state != "gone" and item.title == "conv" for item in scene.items) == 5


def test_levels_that_are_read_at_the_end_have_lanes():
    text = """space levels {
      input 3 x 64 x 64
      network { a: conv(4, stride: 2), b: a -> conv(4, stride: 2), c: b -> conv(4, stride: 2)
        concat(a, b, c, scale: 1/2), classify(2) }
    }"""
    scene = scene_of(text)
    placed = lay_out(scene, {item.key: (10.0, 10.0) for item in scene.items})
    assert [lane.name for lane in placed.lanes] == ["1/2", "1/4", "1/8"]


def test_blocks_are_uses_of_the_files_operators():
    scene = scene_of(CHAIN)
    items = items_of(scene)
    assert list(items) == [
        "input",
        "stem",
        "stage[0].block",
        "stage[0].repeat[0].block",
        "stage[0].repeat[1].block",
        "stage[0].repeat.exit",
        "stage[1].block",
        "stage[1].repeat[0].block",
        "stage[1].repeat[1].block",
        "stage[1].repeat.exit",
        "pick",
        "classify",
        "output",
    ]
    assert items["stage[0].block"].bars == (Bar("3", 8, None), Bar("5", 4, None), Bar("token", 4, None))
    assert [i.key for i in scene.items if i.optional] == ["stage[0].repeat[1].block", "stage[1].repeat[1].block"]
    assert items["stem"].rows[0].options == (("3", None), ("5", None), ("7", None))
    assert (items["pick"].kind, items["pick"].title) == ("choice", "pick")
    assert [text for text, _ in items["pick"].rows[0].options] == ["conv", "wide", "none"]
    assert scene.blocks == "block"


def test_operators_are_shown_one_by_one():
    space = nasdsl.loads(CHAIN)
    scene = make_picture(space, "operator")
    assert [item.key for item in scene.items] == list(space.graph.nodes)


def test_an_architecture_shows_what_it_has_left_out():
    space = nasdsl.loads(CHAIN)
    values: dict[str, Any] = {path: () if d.kind == "units" else 0 for path, d in space.graph.decisions.items()}
    values["stage[0].block.mixconv.hidden[3]"] = (0, 5)
    values["stage[1].block.mixconv.hidden[5]"] = (0, 1, 2, 3)
    pinned = replace(space, graph=pin(space.graph, values), whole=space.graph, pins=values)
    items = items_of(make_picture(pinned, "block"))
    assert items["stage[0].block"].bars == (Bar("3", 8, 2), Bar("5", 4, 0), Bar("token", 4, 0))
    assert [items[f"stage[0].repeat[{i}].block"].state for i in (0, 1)] == ["gone", "gone"]
    assert items["stem"].rows[0].options == (("3", True), ("5", False), ("7", False))
    assert items["pick"].rows[0].options == (("conv", True), ("wide", False), ("none", False))
    assert not [item.key for item in items.values() if item.state == "open" or item.optional]


def test_what_a_shrunk_file_has_left_out_is_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lanes.space").write_text(LANES, encoding="utf-8")
    space = nasdsl.load("lanes.space")
    values: dict[str, Any] = dict.fromkeys(space.graph.decisions, (0,))
    values["stage[0].parallel[1/2].repeat[1].mix.mixconv.hidden[3]"] = ()
    values["stage[0].parallel[1/2].repeat[1].mix.mixconv.hidden[7]"] = ()
    nasdsl.save(space, values, "found.space")
    scene = make_picture(nasdsl.load("found.space"), "block")
    items = items_of(scene)
    assert [key for key, item in items.items() if item.state == "gone"] == ["stage[0].parallel[1/2].repeat[1].mix"]
    assert items["stage[0].parallel[1/2].repeat[0].mix"].bars == (Bar("3", 8, 1), Bar("7", 8, 1))
    assert all(link.state == "fixed" for link in scene.links), "its input passes through an empty block"
    assert set(items) == set(items_of(make_picture(space, "block")))


@pytest.mark.parametrize("level", ["block", "operator"])
@pytest.mark.parametrize("text", [CHAIN, LANES])
def test_links_point_forward(text, level):
    scene = scene_of(text, level)
    order = {item.key: i for i, item in enumerate(scene.items)}
    assert all(order[link.source] < order[link.target] for link in scene.links)
    assert {link.target for link in scene.links} == set(order) - {"input"}


# --- Where it stands --------------------------------------------------------------------------------------------------


def placed(scene):
    return lay_out(scene, {item.key: (40.0, 20.0) for item in scene.items})


def test_lanes_by_scale_the_finest_on_top():
    scene = scene_of(LANES)
    boxes = placed(scene).boxes
    lanes: dict[Any, set[float]] = {}
    for item in scene.items:
        if ".parallel" in item.key:
            lanes.setdefault(item.scale, set()).add(boxes[item.key].y)
    assert sorted(lanes, reverse=True) == [Fraction(1, 2), Fraction(1, 4), Fraction(1, 8)]
    heights = [lanes[scale] for scale in sorted(lanes, reverse=True)]
    assert all(len(ys) == 1 for ys in heights)
    assert sorted(min(ys) for ys in heights) == [min(ys) for ys in heights]


def test_a_path_of_a_fusion_stands_in_the_lane_that_it_leads_to():
    items = items_of(scene_of(LANES))
    assert items["stage[2].exchange[1/4 -> 1/2].mix"].scale == Fraction(1, 2)
    assert items["stage[2].exchange[1/2 -> 1/4].mix"].scale == Fraction(1, 4)


@pytest.mark.parametrize("text", [CHAIN, LANES])
@pytest.mark.parametrize("level", ["block", "operator"])
def test_boxes_do_not_overlap_and_time_runs_to_the_right(text, level):
    scene = scene_of(text, level)
    found = placed(scene)
    boxes = list(found.boxes.values())
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            apart = a.right <= b.left or b.right <= a.left or a.bottom <= b.top or b.bottom <= a.top
            assert apart
    for link in scene.links:
        route = found.routes[link]
        assert len(route) % 3 == 1
        assert route[0][0] == found.boxes[link.source].right
        assert route[-1][0] == found.boxes[link.target].left


def test_stages_stand_side_by_side():
    scene = scene_of(LANES)
    assert staged(scene) == ["stage[0]", "stage[1]", "stage[2]"]
    bands = placed(scene).bands
    assert all(a.right < b.left for a, b in pairwise(bands))


def test_a_long_chain_is_broken_into_rows():
    scene = scene_of(CHAIN.replace("[8, 16]", "[8, 16, 24, 32, 40, 48]"))
    found = placed(scene)
    assert found.rows > 1
    assert found.width < 10 * found.height
    first = {name: found.boxes[f"{name}.block"] for name in staged(scene)}
    assert len({box.y for box in first.values()}) > 1
    for link in scene.links:
        source, target = found.boxes[link.source], found.boxes[link.target]
        assert source.y < target.y - 30 or source.right < target.left


def test_copies_that_an_architecture_does_without_are_gone():
    text = CHAIN.replace("repeat oneof(1, 2) { block(out) }", "repeat oneof(1, 2) { residual { conv(out) } }")
    space = nasdsl.loads(text)
    values: dict[str, Any] = {path: d.words[0] for path, d in space.graph.decisions.items() if d.kind == "choice"}
    items = items_of(make_picture(nasdsl.pin(space, values), "operator"))
    assert items["stage[0].repeat[1].conv"].state == "gone"
    assert items["stage[0].repeat[1].residual"].state == "gone"


# --- Modules ----------------------------------------------------------------------------------------------------------

DETECTOR = """
space detector_of_choices {
  input 3 x 64 x 64
  let trunk = oneof(small, large)
  operator block(out, stride = 1) = residual { conv(out, kernel: 3, stride) -> conv(out, kernel: 3) }
  operator maps() = match trunk {
    small: { a: block(8, stride: 4), b: a -> block(16, stride: 2), branches(a, b) }
    large: { a: { block(8, stride: 4) -> repeat 5 { block(8) } }, b: a -> block(16, stride: 2), branches(a, b) }
  }
  detector {
    backbone: maps()
    neck: parallel { conv(8) }
    head: retina(classes: 3, depth: 1)
  }
}
"""

PERMUTED = """
space permuted {
  input 3 x 64 x 64
  fusion resample {
    same: conv(width), down: conv(width, kernel: 3, stride: 2) -> max_pool(3, to: scale)
    up: conv(width) -> upsample(to: scale), merge: sum(), then: relu()
  }
  operator plain(c) { conv(c, kernel: 3) -> relu() }
  operator deep(c) { conv(c, kernel: 3) -> conv(c, kernel: 3) -> relu() }
  operator node(level, from) {
    let kind = oneof(plain, deep)
    fuse(resample, to: { 1/2^level: 8 }, from)
    match kind { plain: plain(8), deep: deep(8) }
  }
  let order = permute([2, 3, 4, 5])
  detector {
    backbone: {
      s0: conv(8, kernel: 3, stride: 2)
      s1: conv(8, kernel: 3, stride: 2)
      for level in order { b: node(level, from: manyof(2, earlier)) }
      branches(b[2], b[3])
    }
    neck: parallel { conv(8) }
    head: retina(classes: 3, depth: 1)
  }
}

space one = permuted with {
  order: [2, 4, 3, 5]
  b: { kind: [plain, deep, plain, deep], from: [[s1, b[0]], [b[0], b[1]], [s0, b[2]]] }
}
"""


def folded(text, *opened):
    return fold(make_picture(nasdsl.loads(text), "module", opened))


def stands_for_each_node_once(scene, graph):
    names = [name for item in scene.items for name in item.nodes]
    assert len(names) == len(set(names))
    assert set(names) == set(graph.nodes)


def corners(dot):
    """The size of a picture in points, from what is written in it."""
    found = re.findall(r'height=([\d.]+) .*?pos="(-?[\d.]+),(-?[\d.]+)!".*? width=([\d.]+)', dot)
    boxes = [(float(x), float(y), float(width), float(height)) for height, x, y, width in found]
    lines = [pair.split(",") for points in re.findall(r'pos="e,([^"]*)"', dot) for pair in points.split()]
    xs = [x + side * 36 * w for x, _, w, _ in boxes for side in (-1, 1)] + [float(x) for x, _ in lines]
    ys = [y + side * 36 * h for _, y, _, h in boxes for side in (-1, 1)] + [float(y) for _, y in lines]
    return max(xs) - min(xs), max(ys) - min(ys)


PAD = 2 * 0.12 * 72
A4 = (210 / 25.4 * 72, 297 / 25.4 * 72)


def smallest_letters(dot):
    """How large the smallest letters are on a page of A4, lying or standing."""
    width, height = (side + PAD for side in corners(dot))
    scale = max(min(across / width, down / height) for across, down in (A4, A4[::-1]))
    return min(float(size) for size in re.findall(r'POINT-SIZE="([\d.]+)"', dot)) * min(scale, 1.0)


SHIPPED = {name: file for file in spaces.names() for name in names_in(read(spaces.path(file)))}
"""By name of a space that ships: its file."""
needs_font = pytest.mark.skipif(not pictures.FONTS.exists(), reason="DejaVu Sans is not installed")


def of_its_file(name):
    """In one process with other tests of its file; but for the first space of each file, with the long ones."""
    group = pytest.mark.xdist_group(SHIPPED[name].partition("_")[0])
    return pytest.param(name, marks=[group] if name in spaces.names() or name in NOTABLE else [group, pytest.mark.long])


NOTABLE = ("darts_v2", "autodeeplab_s", "deit_tiny", "mobilenet_v3_large", "e0")
"""Architectures that are drawn each time."""


@needs_font
@pytest.mark.parametrize("name", [of_its_file(name) for name in SHIPPED])
def test_a_page_holds_every_space_that_ships_and_all_of_it_can_be_read(name):
    dot = to_dot(shipped.space(SHIPPED[name], name))
    assert smallest_letters(dot) >= 5  # points: 21 pixels at 300 dpi
    sheet = pictures.read(dot)
    assert not [*pictures.texts_outside(sheet)]
    assert not [*pictures.lines_through(sheet)]
    assert not [*pictures.lines_through(sheet, words=True)]
    assert not [*pictures.overlapping(sheet)]
    assert not re.search(r">(for|repeat|option)\[?\d", dot), "what a file has no name for is not told by its number"


def test_the_legend_has_each_sign_that_is_there():
    dots = [to_dot(shipped.space(name)) for name in ("unet", "autodeeplab", "autofpn", "tiny")]
    for dot in dots:
        legend = "\n".join(row for row in dot.splitlines() if re.match(r"\s*says", row))
        rest = "\n".join(row for row in dot.splitlines() if not re.match(r"\s*(says|key)", row))
        for sign, words in (
            (r"fillcolor=\"#f2f7fc\"", "holds a choice"),
            (r"style=\"filled,(rounded,)?dashed", "may be left out"),
            (r"\] *-> |style=dashed\]", "not in all architectures"),
            (r"label=\"\+\"", "sum"),
            (r"label=C ", "concatenation"),
            (r">× ", "so many alike"),
            (r"\d /\d", "stride"),
            (r">1/4", "input's resolution"),
            (r"BGCOLOR=\"#9ecae1\"", "3×3 channels"),
        ):
            assert bool(re.search(sign, rest)) == (words in legend), words


def test_settings_that_are_not_as_usual_are_told():
    text = """space s {
      input 3 x 32 x 32
      operator block(out, d) { conv(out, kernel: 3, stride: 2, dilation: d) -> conv(out, kernel: 3, groups: 2) }
      network {
        conv(8, kernel: 3, dilation: 2, norm: none), conv(8, kernel: [1, 7], order: [act, conv, norm])
        conv(16, stride: 2, groups: 4, order: [act, conv, norm], act: none), block(24, d: 3), classify(2)
      }
    }"""
    notes = [item.note for item in make_picture(nasdsl.loads(text), "module").items]
    assert notes == [
        "3×32×32",
        "3×3 8 d2 no norm",
        "1×7 8 act-conv-norm",
        "1×1 16 /2 g4",
        "3×3 24 /2 d3",
        "2",
        "2",
    ]


# --- Cells that are decided once

CELLS = """
space cells {
  input 3 x 32 x 32
  operator edge(kind) = match kind { none: zero(), conv: conv(in, kernel: 3), pool: max_pool(3), skip: identity() }
  operator cell(out) {
    p0: inputs[0] -> conv(out)
    p1: inputs[1] -> conv(out)
    node: for n in 1..2 {
      let kinds = [for x in earlier: oneof(none, conv, pool, skip)]
      sum: sum([for i in 0..n: earlier[i] -> edge(kinds[i])])
    }
    concat(from: sum)
  }
  let normal = cell(8)
  network {
    s0: conv(8)
    s1: identity()
    stage: for k in 0..3 { c: last(earlier, 2) -> normal(out: 8) }
    classify(3)
  }
}

space found = cells with {
  normal: { node[0].kinds: [conv, none], node[1].kinds: [none, pool, skip] }
}
"""


def test_a_cell_that_is_decided_once_is_drawn_once():
    space = elaborate(Source(CELLS), "cells")
    scene = fold(make_picture(space, "module"))
    assert [item.title for item in scene.items] == ["input", "conv", *["normal"] * 4, "classify", "output"]
    (detail,) = scene.details
    assert (detail.name, detail.facts) == ("normal", "stage[0..3]")
    assert [item.key for item in detail.items if item.kind == "input"] == ["inputs[0]", "inputs[1]"]
    choices = [item for item in detail.items if item.kind == "choice"]
    assert len(choices) == len(space.graph.decisions) == 5
    assert sum(item.kind == "sum" for item in detail.items) == 2
    assert set(space.graph.nodes) == {name for item in scene.items for name in item.nodes}
    links = {(link.source, link.target) for link in scene.links}
    uses = [item.key for item in scene.items if item.title == "normal"]
    assert set(pairwise(uses)) <= links
    assert {(a, b) for a, b in zip(uses, uses[2:], strict=False)} <= links


def test_a_found_cell_is_drawn_without_what_it_does_not_have():
    (detail,) = make_picture(elaborate(Source(CELLS), "found"), "module").details
    taken = [[text for text, taken in item.rows[0].options if taken] for item in detail.items if item.kind == "choice"]
    assert taken == [["conv"], ["pool"], ["skip"]]
    assert not [item for item in detail.items if item.state == "gone"]
    targets = {link.target for link in detail.links}
    assert targets == {item.key for item in detail.items if item.kind != "input"}


def test_a_cell_can_be_drawn_where_it_is_used():
    space = elaborate(Source(CELLS), "cells")
    (cell,) = tied_cells(space.graph)
    for word in (cell.name, cell.uses[0], min(cell.decisions)):
        scene = make_picture(space, "module", [word])
        assert not scene.details
        assert sum(item.title == "edge" for item in scene.items) == 4 * 5


def test_copies_of_a_loop_are_no_cells():
    assert not tied_cells(shipped.graph("efficientnet"))
    assert not tied_cells(shipped.graph("attentivenas"))
    assert {cell.name for cell in tied_cells(shipped.graph("darts"))} == {"normal", "reduce"}


@cache
def autodeeplab():
    return make_picture(shipped.space("autodeeplab"), "module")


def test_what_one_choice_leaves_of_several_tensors_is_a_choice_of_names():
    (detail,) = autodeeplab().details
    reads = {
        item.rows[0].name: [text for text, _ in item.rows[0].options] for item in detail.items if item.kind == "select"
    }
    assert reads["reads[0]"] == ["p0", "p1"]
    assert reads["reads[9]"] == ["p0", "p1", "b0", "b1", "b2", "b3"]
    told = [link for link in detail.links if link.state == "told"]
    assert len(told) == 2 * (2 + 3 + 4 + 5 + 6)
    placed = lay_out(detail, {item.key: (40.0, 20.0) for item in detail.items})
    assert set(placed.routes) == {link for link in detail.links if link.state != "told"}


# --- Scales that are searched


def test_a_trellis_has_each_way_that_the_requirements_leave():
    """Against all combinations of levels: from one layer to the next by one at most, starting at the finest."""
    scene = autodeeplab()
    blocks = {item.key: item for item in scene.items if item.key in scene.permuted}
    ways = {((one, a), (other, b)) for (one, a), (other, b) in scene.steps}
    expected = set()
    reached = {0}
    for one, other in pairwise(scene.permuted):
        pairs = {(a, b) for a in reached for b in (a - 1, a, a + 1) if 0 <= b <= 3}
        expected |= {((one, Fraction(1, 4 * 2**a)), (other, Fraction(1, 4 * 2**b))) for a, b in pairs}
        reached = {b for _, b in pairs}
    assert ways == expected
    assert len(scene.permuted) == 12
    assert [len(blocks[key].scales) for key in scene.permuted] == [0, 2, 3, *[4] * 9]
    sizes = {item.key: (30.0, 16.0) for item in scene.items}
    placed = lay_out(scene, sizes)
    for key in scene.permuted[1:]:
        assert list(placed.dots[key]) == list(blocks[key].scales)
        assert len({x for x, _ in placed.dots[key].values()}) == 1, "one below the other"
        heights = [y for _, y in placed.dots[key].values()]
        assert heights == sorted(heights), "the finest on top"
    assert "each reads the 2 before it" in scene.notes
    number_of_paths = nx.DiGraph(scene.steps)
    count = dict.fromkeys([(scene.permuted[0], Fraction(1, 4))], 1)
    for node in nx.topological_sort(number_of_paths):
        for after in number_of_paths.successors(node):
            count[after] = count.get(after, 0) + count[node]
    assert sum(n for (key, _), n in count.items() if key == scene.permuted[-1]) == 28_657  # as docs/spaces.md has it


def test_where_steps_lead_to_the_next_row_a_line_does():
    scene = autodeeplab()
    placed = lay_out(scene, {item.key: (200.0, 16.0) for item in scene.items})
    rows = {key: placed.boxes[key].y for key in scene.permuted}
    across = [pair for pair in pairwise(scene.permuted[1:]) if abs(rows[pair[0]] - rows[pair[1]]) > 50]
    assert across
    assert {(link.source, link.target) for link in placed.routes} >= set(across)


def test_a_picture_is_the_same_each_time():
    space = shipped.space("nasbench201")
    assert to_dot(space) == to_dot(space)


@pytest.mark.parametrize("name", ["hrnas", "nasbench_mr", "smnas_structure", "spinenet", "trionet"])
def test_each_node_is_in_one_box(name):
    space = shipped.space(name)
    stands_for_each_node_once(fold(make_picture(space, "module")), space.graph)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("smnas_modules", "e0"),
        pytest.param("spinenet", "spinenet49", marks=pytest.mark.long),
        ("hitdetector", "found"),
        ("trionet", "resnet50"),
    ],
)
def test_a_page_holds_architectures(file, name):
    space = shipped.space(file, name)
    assert smallest_letters(to_dot(space)) >= 5.7
    scene = fold(make_picture(space, "module"))
    assert not any(item.state == "open" for item in scene.items)
    names = [name for item in scene.items for name in item.nodes]
    assert len(names) == len(set(names))
    assert set(names) in (set(space.graph.nodes), set(space.whole.nodes if space.whole else ()))


@pytest.mark.parametrize("name", ["nasbench201", "hrnas", "smnas_modules", "spinenet", "trionet"])
def test_no_box_lies_on_another_in_a_large_picture(name):
    scene = fold(make_picture(shipped.space(name), "module"))
    boxes = lay_out(scene, {item.key: (60.0, 30.0) for item in scene.items}).boxes
    assert set(boxes) == {item.key for item in scene.items}
    found = list(boxes.values())
    for i, a in enumerate(found):
        for b in found[:i]:
            assert a.right <= b.left or b.right <= a.left or a.bottom <= b.top or b.bottom <= a.top


def test_a_choice_between_modules_is_one_box_that_names_its_options():
    scene = folded(DETECTOR)
    assert [item.key for item in scene.items][:2] == ["input", "backbone"]
    (box,) = (item for item in scene.items if item.kind == "choice")
    assert [text for text, _ in box.rows[0].options] == ["small", "large"]
    assert scene.closed == (("backbone", "trunk"),)
    assert [link.target for link in scene.links if link.source == "backbone"] == [
        "neck[1/4].conv",
        "neck[1/8].conv",
    ]
    stands_for_each_node_once(scene, nasdsl.loads(DETECTOR).graph)


@pytest.mark.parametrize("word", ["backbone", "backbone", "trunk"])
def test_an_opened_choice_shows_its_options_each_in_its_own_lane(word):
    scene = folded(DETECTOR, word)
    assert not scene.closed
    assert {item.option for item in scene.items} == {"", "small", "large"}
    assert items_of(scene)["backbone.large.a.repeat[0].block"].count == "× 5"
    stands_for_each_node_once(scene, nasdsl.loads(DETECTOR).graph)
    boxes = placed(scene).boxes
    lanes = {name: {boxes[i.key].y for i in scene.items if i.option == name} for name in ("small", "large")}
    assert all(len(heights) == 1 for heights in lanes.values())
    assert lanes["small"] != lanes["large"]
    assert any(row.name == "trunk" for item in scene.items for row in item.rows), "what selects says by what"


def test_the_parts_of_a_detector_are_drawn():
    assert staged(folded(DETECTOR)) == ["backbone", "neck", "head"]
    assert staged(fold(make_picture(shipped.space("spinenet"), "module"))) == ["backbone", "neck", "head"]


def test_a_name_that_opens_nothing_is_told_with_what_does():
    with pytest.raises(nasdsl.NasdslError, match="`bakcbone` opens nothing") as raised:
        to_dot(nasdsl.loads(DETECTOR), opened=["bakcbone"])
    assert raised.value.help == "did you mean `backbone`?"
    with pytest.raises(nasdsl.NasdslError) as raised:
        to_dot(nasdsl.loads(DETECTOR), opened=["trunk", "x"])
    assert raised.value.help == "what can be opened: `backbone`, `trunk`"
    with pytest.raises(nasdsl.NasdslError, match="at level `operator` has nothing closed"):
        to_dot(nasdsl.loads(DETECTOR), "operator", ["trunk"])


def test_what_is_decided_is_drawn_without_the_other_options():
    text = DETECTOR + "space one = detector_of_choices with { trunk: small }"
    space = elaborate(Source(text), "one")
    scene = fold(make_picture(space, "module"))
    drawn = [item.key for item in scene.items if item.state != "gone"]
    assert "backbone.small.a" in drawn
    assert not any("large" in key for key in drawn)


# --- Copies


def test_equal_copies_are_one_that_says_how_many():
    scene = folded(CHAIN.replace("repeat oneof(1, 2)", "repeat 6"))
    for stage in (0, 1):
        item = items_of(scene)[f"stage[{stage}].repeat[0].block"]
        assert item.count == "× 6"
        copies = {re.sub(r"\..*", "", name.partition("repeat[")[2]) for name in item.nodes}
        assert copies == {f"{i}]" for i in range(6)}


@pytest.mark.parametrize(
    ("depths", "count"), [("1..4", "× depth 1–4"), ("1, 4", "× depth 1|4"), ("0..2", "× depth 0–2"), ("4", "× 4")]
)
def test_copies_of_a_searchable_repeat_say_how_many_there_can_be(depths, count):
    scene = folded(CHAIN.replace("oneof(1, 2)", f"oneof({depths})" if depths != "4" else depths))
    item = items_of(scene)["stage[0].repeat[0].block"]
    assert item.count == count
    assert "stage[0].repeat.exit" not in items_of(scene) or count.startswith("× depth 0")


def test_copies_of_an_architecture_are_those_that_it_has():
    space = nasdsl.loads(CHAIN.replace("oneof(1, 2)", "oneof(2..6)"))
    values: dict[str, Any] = dict.fromkeys(space.graph.decisions, (0,))
    values |= {path: d.words[0] for path, d in space.graph.decisions.items() if d.kind == "choice"}
    found = nasdsl.pin(space, {**values, "stage[0].repeat.depth": 3, "stage[1].repeat.depth": 5})
    items = items_of(fold(make_picture(found, "module")))
    assert (items["stage[0].repeat[0].block"].count, items["stage[1].repeat[0].block"].count) == ("× 3", "× 5")


def test_what_differs_is_not_folded():
    """Blocks that keep other units, have another width or kernel, or read something else."""
    text = """space s {
      input 3 x 8 x 8
      operator block(out, kernel = 3) { mixconv(out, hidden: { 3: units(4) }) -> conv(out, kernel) }
      network { REST, classify(2) }
    }"""

    def counts(rest):
        return [item.count for item in folded(text.replace("REST", rest)).items if item.kind == "block"]

    assert counts("block(8), block(8), block(8)") == ["", "× 2"]  # the first one reads 3 channels
    assert counts("block(8), block(8), block(8, kernel: 5)") == ["", "", ""]
    assert counts("block(8), block(9), block(8)") == ["", "", ""]
    assert counts("a: block(8), b: block(8), c: block(8), a + c") == ["", "× 2"]
    assert counts("a: block(8), b: block(8), c: block(8), b + c") == ["", "", ""]

    space = nasdsl.loads(text.replace("REST", "block(8), block(8), block(8)"))
    decisions = list(space.graph.decisions)
    for kept, expected in (([0, 1], ["", "× 2"]), ([0, 2], ["", "", ""])):
        found = nasdsl.pin(space, {path: kept if path == decisions[1] else [0, 1] for path in decisions})
        scene = fold(make_picture(found, "module"))
        assert [item.count for item in scene.items if item.kind == "block"] == expected


def test_of_many_numbers_the_ends_and_what_is_taken_are_told():
    text = CHAIN.replace("repeat oneof(1, 2)", "repeat oneof(1..12)").replace("[8, 16]", "[8]")

    def depths(space):
        (row,) = re.findall(r".*>depth<.*", to_dot(space, "block"))
        return re.findall(r">([\d…]+)<", row)

    space = nasdsl.loads(text)
    (path,) = (path for path in space.graph.decisions if path.endswith("depth"))
    assert depths(space) == ["1", "2", "…", "12"]
    assert depths(nasdsl.pin(space, {path: 7})) == ["1", "…", "7", "…", "12"]


def test_what_an_architecture_does_not_have_makes_no_difference():
    scene = fold(make_picture(shipped.space("trionet", "resnet50"), "module"))
    counts = [item.count for item in scene.items if item.title == "trio"]
    assert counts == ["", "× 2", "", "× 3", "", "× 5", "", "× 2"]  # ResNet-50 has 3, 4, 6 and 3 blocks


def test_what_is_repeated_together_stands_in_a_frame():
    scene = fold(make_picture(shipped.space("convnext"), "module"))
    assert [frame.label for frame in scene.frames] == ["× depth 2|3", "× depth 2|3", "× 5|6", "× 0–3", "× depth 2|3"]
    assert all(len({key.partition("[")[0] for key in frame.keys}) == 1 for frame in scene.frames)
    found = placed(scene)
    for frame, band in zip(reversed(scene.frames), found.frames, strict=True):
        for key, box in found.boxes.items():
            inside = box.left > band.left and box.right < band.right and box.top > band.top and box.bottom < band.bottom
            assert inside == (key in frame.keys)


def test_a_long_list_of_options_is_told_once():
    dot = to_dot(shipped.space("hitdetector"))
    assert len(re.findall(r"dense\(k:\u00a05,\u00a0d:\u00a03\)", dot)) == 1
    assert "backbone_op, neck_op, head_op: " in dot


# --- Permuted blocks


def test_permuted_blocks_stand_in_their_order_and_at_their_level():
    space = elaborate(Source(PERMUTED), "one")
    scene = fold(make_picture(space, "module"))
    blocks = [item for item in scene.items if item.key in scene.permuted]
    assert [(item.title, item.scale, item.kinds, item.ends) for item in blocks] == [
        ("b[0]", Fraction(1, 4), ("plain",), False),
        ("b[1]", Fraction(1, 16), ("deep",), False),
        ("b[2]", Fraction(1, 8), ("plain",), True),
        ("b[3]", Fraction(1, 32), ("deep",), True),
    ]
    title = {item.key: item.title for item in blocks} | {"backbone.s0": "s0", "backbone.s1": "s1"}
    links = {(title[link.source], title[link.target]) for link in scene.links if link.target in scene.permuted}
    parents = {"b[0]": "s0 s1", "b[1]": "s1 b[0]", "b[2]": "b[0] b[1]", "b[3]": "s0 b[2]"}
    assert links == {(parent, block) for block, names in parents.items() for parent in names.split()}
    boxes = [placed(scene).boxes[item.key] for item in blocks]
    assert all(a.right < b.left for a, b in pairwise(boxes))
    assert boxes[0].y < boxes[2].y < boxes[1].y < boxes[3].y


def test_a_space_of_permuted_blocks_says_what_is_decided_in_few_lines():
    space = nasdsl.loads(PERMUTED)
    scene = fold(make_picture(space, "module"))
    blocks = [item for item in scene.items if item.key in scene.permuted]
    assert all(item.scales == tuple(Fraction(1, 2**level) for level in (2, 3, 4, 5)) for item in blocks)
    rows = [{row.name: [text for text, _ in row.options] for row in item.rows} for item in blocks]
    assert [row.get("from") for row in rows] == [None, ["2 of 3"], ["2 of 4"], ["2 of 5"]]
    assert all(row["kind"] == ["plain", "deep"] for row in rows)
    assert "order: 2, 3, 4, 5 in any order" in scene.notes
    among = [link for link in scene.links if {link.source, link.target} <= set(scene.permuted)]
    assert [(link.source, link.target) for link in among] == list(pairwise(scene.permuted))
    boxes = placed(scene).boxes
    dots = placed(scene).dots
    assert all(list(dots[key]) == [Fraction(1, 2**level) for level in (2, 3, 4, 5)] for key in scene.permuted)
    assert all(boxes[key].bottom < min(y for _, y in dots[key].values()) for key in scene.permuted), "headings"
    assert not scene.steps


def test_the_scales_of_a_permuted_block_are_those_that_it_can_have():
    """Against all orders."""
    space = nasdsl.loads(PERMUTED)
    decision = space.graph.decisions["order"]
    for item in make_picture(space, "module").items:
        if item.kinds:
            node = space.graph.nodes[[n for n in item.nodes if space.graph.nodes[n].kind == "select"][-1]]
            found = {evaluate(node.shape.scale, {"order": order}) for order in decision.values()}
            assert set(item.scales) == found


def test_spinenet_is_drawn_as_permuted_blocks():
    space = shipped.space("spinenet", "spinenet49")
    scene = fold(make_picture(space, "module"))
    assert len(scene.permuted) == 15
    levels = [item.scale.denominator.bit_length() - 1 for item in scene.items if item.key in scene.permuted]
    assert levels == [2, 4, 3, 4, 6, 4, 5, 7, 5, 5, 4, 3, 5, 7, 6]  # figure 2 of the paper, from left to right
    assert sum(item.ends for item in scene.items) == 5
    among = [link for link in scene.links if link.target in scene.permuted]
    assert all(sum(link.target == key for link in among) >= 2 for key in scene.permuted)


# --- The text ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["block", "operator"])
def test_the_text_is_as_expected(golden, level):
    golden(GOLDEN / f"chain_{level}.dot", to_dot(nasdsl.loads(CHAIN), level))


def test_the_text_of_lanes_is_as_expected(golden):
    golden(GOLDEN / "lanes_block.dot", to_dot(nasdsl.loads(LANES), "block"))


def test_the_text_of_cells_is_as_expected(golden):
    golden(GOLDEN / "cells_module.dot", to_dot(elaborate(Source(CELLS), "cells")))


def test_names_are_escaped():
    text = CHAIN.replace("wide:", "a_b:")
    dot = to_dot(nasdsl.loads(text))
    assert "a_b" in dot
    assert "&lt;" not in dot or "<FONT" in dot
    assert dot.count("{") == dot.count("}")
    with pytest.raises(ValueError, match="`module`, `block` or `operator`"):
        to_dot(nasdsl.loads(text), "layer")


# --- Files ------------------------------------------------------------------------------------------------------------

needs_graphviz = pytest.mark.skipif(shutil.which("neato") is None, reason="graphviz is not installed")


@needs_graphviz
@pytest.mark.parametrize("form", FORMATS)
def test_every_format(tmp_path, form):
    out = tmp_path / f"lanes.{form}"
    render(nasdsl.loads(LANES), out)
    start = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG", "dot": b"// Positions"}[form]
    assert out.read_bytes().startswith(start)


@needs_graphviz
@pytest.mark.parametrize("name", ["tiny", "hrnas_small"])
@pytest.mark.parametrize("level", LEVELS)
def test_the_spaces_that_ship_can_be_drawn(tmp_path, name, level):
    space = nasdsl.load(name)
    out = tmp_path / "picture.svg"
    render(space, out, level)
    drawn = re.findall(r"<title>n(\d+)</title>", out.read_text(encoding="utf-8"))
    scene = make_picture(space, level)
    assert len(drawn) == len((fold(scene) if level == "module" else scene).items)


def test_without_graphviz_there_is_the_text(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RenderError, match="graphviz is not installed") as raised:
        render(nasdsl.loads(LANES), tmp_path / "lanes.pdf")
    assert "neato -n2 -Tpdf" in raised.value.help
    assert (tmp_path / "lanes.dot").read_text(encoding="utf-8").startswith("// Positions are given")


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chain.space").write_text(CHAIN, encoding="utf-8")
    assert cli.main(["draw", "chain.space", "-o", "chain.dot", "--level", "operator"]) == 0
    assert capsys.readouterr().out == "chain.dot\n"
    assert (tmp_path / "chain.dot").read_text(encoding="utf-8") == to_dot(nasdsl.load("chain.space"), "operator")
    (tmp_path / "detector.space").write_text(DETECTOR, encoding="utf-8")
    assert cli.main(["draw", "detector.space", "-o", "closed.dot"]) == 0
    assert cli.main(["draw", "detector.space", "-o", "open.dot", "--open", "backbone"]) == 0
    assert capsys.readouterr().out == "closed.dot\nopen.dot\n"
    assert "backbone.large" not in (tmp_path / "closed.dot").read_text(encoding="utf-8")
    assert "backbone.large" in (tmp_path / "open.dot").read_text(encoding="utf-8")
    assert cli.main(["draw", "detector.space", "-o", "wrong.dot", "--open", "trnk"]) == 1
    assert "help: did you mean `trunk`?" in capsys.readouterr().err
    assert not (tmp_path / "wrong.dot").exists()
    assert cli.main(["draw", "chain.space", "-o", "chain.jpeg"]) == 1
    err = capsys.readouterr().err
    assert "error[cannot-draw]: a picture cannot be written as `chain.jpeg`" in err
    assert "help: let the name end in" in err
