"""Pictures: what is in them, where it stands, and that graphviz can paint them."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import nasdsl
from nasdsl import cli
from nasdsl.compiler.elaborate.program import elaborate
from nasdsl.compiler.pin import pin
from nasdsl.compiler.source import Source
from nasdsl.drawing.dot import to_dot
from nasdsl.drawing.place import place, staged
from nasdsl.drawing.render import FORMATS, RenderError, render
from nasdsl.drawing.scene import Bar, make_scene

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
    return make_scene(nasdsl.loads(text), level)


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
        scene = make_scene(elaborate(Source(text), "one"), "operator")
        assert any(item.state == "gone" for item in scene.items) == faded
        assert sum(item.state != "gone" and item.title == "conv" for item in scene.items) == 5


def test_levels_that_are_read_at_the_end_have_lanes():
    text = """space levels {
      input 3 x 64 x 64
      network { a: conv(4, stride: 2), b: a -> conv(4, stride: 2), c: b -> conv(4, stride: 2)
        concat(a, b, c, scale: 1/2), classify(2) }
    }"""
    scene = scene_of(text)
    placed = place(scene, {item.key: (10.0, 10.0) for item in scene.items})
    assert [lane.scale for lane in placed.lanes] == [Fraction(1, 2), Fraction(1, 4), Fraction(1, 8)]


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
    scene = make_scene(space, "operator")
    assert [item.key for item in scene.items] == list(space.graph.nodes)


def test_an_architecture_shows_what_it_has_left_out():
    space = nasdsl.loads(CHAIN)
    values: dict[str, Any] = {path: () if d.kind == "units" else 0 for path, d in space.graph.decisions.items()}
    values["stage[0].block.mixconv.hidden[3]"] = (0, 5)
    values["stage[1].block.mixconv.hidden[5]"] = (0, 1, 2, 3)
    pinned = replace(space, graph=pin(space.graph, values), whole=space.graph, pins=values)
    items = items_of(make_scene(pinned, "block"))
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
    scene = make_scene(nasdsl.load("found.space"), "block")
    items = items_of(scene)
    assert [key for key, item in items.items() if item.state == "gone"] == ["stage[0].parallel[1/2].repeat[1].mix"]
    assert items["stage[0].parallel[1/2].repeat[0].mix"].bars == (Bar("3", 8, 1), Bar("7", 8, 1))
    assert all(link.state == "fixed" for link in scene.links), "its input passes through an empty block"
    assert set(items) == set(items_of(make_scene(space, "block")))


@pytest.mark.parametrize("level", ["block", "operator"])
@pytest.mark.parametrize("text", [CHAIN, LANES])
def test_links_point_forward(text, level):
    scene = scene_of(text, level)
    order = {item.key: i for i, item in enumerate(scene.items)}
    assert all(order[link.source] < order[link.target] for link in scene.links)
    assert {link.target for link in scene.links} == set(order) - {"input"}


# --- Where it stands --------------------------------------------------------------------------------------------------


def placed(scene):
    return place(scene, {item.key: (50.0, 20.0) for item in scene.items})


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
    assert found.width < 6 * found.height
    first = {name: found.boxes[f"{name}.block"] for name in staged(scene)}
    assert len({box.y for box in first.values()}) > 1
    for link in scene.links:
        source, target = found.boxes[link.source], found.boxes[link.target]
        assert source.y < target.y - 40 or source.right < target.left


def test_copies_that_an_architecture_does_without_are_gone():
    text = CHAIN.replace("repeat oneof(1, 2) { block(out) }", "repeat oneof(1, 2) { residual { conv(out) } }")
    space = nasdsl.loads(text)
    values: dict[str, Any] = {path: d.words[0] for path, d in space.graph.decisions.items() if d.kind == "choice"}
    items = items_of(make_scene(nasdsl.pin(space, values), "operator"))
    assert items["stage[0].repeat[1].conv"].state == "gone"
    assert items["stage[0].repeat[1].residual"].state == "gone"


# --- The text ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["block", "operator"])
def test_the_text_is_as_expected(golden, level):
    golden(GOLDEN / f"chain_{level}.dot", to_dot(nasdsl.loads(CHAIN), level))


def test_the_text_of_lanes_is_as_expected(golden):
    golden(GOLDEN / "lanes_block.dot", to_dot(nasdsl.loads(LANES)))


def test_names_are_escaped():
    text = CHAIN.replace("wide:", "a_b:")
    dot = to_dot(nasdsl.loads(text))
    assert "&lt;" not in dot or "<FONT" in dot
    assert dot.count("{") == dot.count("}")
    with pytest.raises(ValueError, match="`block` or `operator`"):
        to_dot(nasdsl.loads(text), "layer")


# --- Files ------------------------------------------------------------------------------------------------------------

needs_graphviz = pytest.mark.skipif(shutil.which("neato") is None, reason="graphviz is not installed")


@needs_graphviz
@pytest.mark.parametrize("form", FORMATS)
def test_every_format(tmp_path, form):
    out = tmp_path / f"lanes.{form}"
    render(nasdsl.loads(LANES), out)
    start = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG", "dot": b"digraph"}[form]
    assert out.read_bytes().startswith(start)


@needs_graphviz
@pytest.mark.parametrize("name", ["tiny", "hrnas_small"])
@pytest.mark.parametrize("level", ["block", "operator"])
def test_the_spaces_that_ship_can_be_drawn(tmp_path, name, level):
    space = nasdsl.load(name)
    out = tmp_path / "picture.svg"
    render(space, out, level)
    drawn = re.findall(r"<title>n(\d+)</title>", out.read_text(encoding="utf-8"))
    assert len(drawn) == len(make_scene(space, "block" if level == "block" else "operator").items)


def test_without_graphviz_there_is_the_text(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RenderError, match="graphviz is not installed") as raised:
        render(nasdsl.loads(LANES), tmp_path / "lanes.pdf")
    assert "neato -n2 -Tpdf" in raised.value.help
    assert (tmp_path / "lanes.dot").read_text(encoding="utf-8").startswith("digraph")


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chain.space").write_text(CHAIN, encoding="utf-8")
    assert cli.main(["draw", "chain.space", "-o", "chain.dot", "--level", "operator"]) == 0
    assert capsys.readouterr().out == "chain.dot\n"
    assert (tmp_path / "chain.dot").read_text(encoding="utf-8") == to_dot(nasdsl.load("chain.space"), "operator")
    assert cli.main(["draw", "chain.space", "-o", "chain.jpeg"]) == 1
    err = capsys.readouterr().err
    assert "error[cannot-draw]: a picture cannot be written as `chain.jpeg`" in err
    assert "help: let the name end in" in err
