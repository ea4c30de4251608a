"""Spaces as text: result files and architectures in full give back the graph that they were written from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.decision import FixedUnits
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.parse import parse, read
from nasdsl.compiler.pin import pin
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.sample import sample
from nasdsl.compiler.source import Source
from nasdsl.compiler.unparse import unparse
from nasdsl.compiler.write import expanded, pinned

LANES = """
space lanes {
  param classes = 19
  input 3 x 64 x 64

  operator searching(out, stride = 1) =
    mixconv(out, stride, hidden: { 3: units(4 * in), 5: units(4 * in) })
      + transformer(out, stride, tokens: units(3), size: 4)

  fusion exchange {
    same:  searching(width)
    down:  searching(width, stride: 2)
    up:    searching(width) -> upsample(to: scale)
    new:   searching(width, stride: 2)
    from:  neighbours
    merge: sum()
    then:  mixconv(width, hidden: { 3: units(3) }) + identity()
  }

  network {
    conv(8, kernel: 3, stride: 2)
    stage: for n in [1, 2, 3] {
      fuse(exchange, to: take({ 1/2: 4, 1/4: 6, 1/8: 8 }, n))
      parallel { repeat 2 { searching(width) } }
    }
    concat(scale: 1/2) -> segment(classes)
  }
}
"""

MIXED = """
space mixed {
  param wide = 8
  param kind in [fast, slow]
  input 3 x oneof(32, 48) x 32

  let width = oneof(8, 16)
  let plain = 3

  operator block(out, stride = 1) {
    let op     = oneof(plain, deep)
    let kernel = oneof(plain, 5)
    match op {
      plain: conv(out, stride, kernel)
      deep: {
        conv(out * oneof(1/2, 1), stride)
        repeat oneof(1, 2) { conv(out, kernel: oneof(1, 3)) }
      }
    }
  }

  network {
    stem: conv(width, kernel: 3)
    a: conv(width)
    b: conv(width)
    c: conv(width)
    let n = oneof(2, 3, 4)
    m: match n { 2: conv(width, kernel: oneof(3, 5)), else: conv(width, kernel: oneof(5, 7)) }
    sum(from: manyof(2, earlier))
    for w in [8, 16] { block(w) }
    body: repeat oneof(1..3) { block(width) }
    for k in permute([3, 5, 7, 3]) { conv(width, kernel: k) }
    pick: oneof(none: identity(), conv(width), conv(width, kernel: 3), wide: { conv(width * 2) -> conv(width) })
    residual { conv(width, kernel: oneof(1, 3)) }
    residual { conv(width * 2) -> conv(2 * width) }
    mixconv(wide, hidden: { 3: units(4), 5: units(70) }) + transformer(wide, tokens: units(3), size: 4)
    classify(10)
  }
}

space narrower = mixed with { body.depth: oneof(2, 3), wide: 4, block.op: oneof(deep) }
""".replace("oneof(plain, deep)", "oneof(flat, deep)").replace("      plain: conv", "      flat: conv")


NAMELESS = """
space nameless {
  input 3 x oneof(32, 48) x 32
  let n = oneof(2, 3, 4)
  network {
    for i in 0..1 { conv(oneof(8, 16)) }
    match n {
      2: oneof(conv(8), identity())
      3: oneof(conv(8), conv(4))
      else: { conv(oneof(4, 8)), conv(oneof(4, 8)) }
    }
    match (n == 2) { true: conv(8, kernel: oneof(1, 3)), false: repeat oneof(1, 2) { conv(8, kernel: oneof(1, 3)) } }
    repeat oneof(1, 2) { conv(8, kernel: oneof(1, 3)) }
    classify(10)
  }
}
"""


def write(folder: Path, text: str, name: str = "base.space") -> Source:
    (folder / name).write_text(text, encoding="utf-8")
    return read(folder / name)


@pytest.mark.parametrize(
    ("text", "name", "defines"),
    [
        (LANES, None, {}),
        (LANES, None, {"classes": "3"}),
        (MIXED, None, {}),
        (MIXED, None, {"kind": "slow"}),
        (MIXED, "narrower", {}),
        (NAMELESS, None, {}),
    ],
)
def test_a_result_file_gives_the_pinned_graph(tmp_path, text, name, defines):
    space = elaborate(write(tmp_path, text), name, defines)
    for number, architecture in enumerate(sample(space.graph, 8, seed=1)):
        found = pinned(space, architecture.indices, "found", "base.space", note="a search\n\nof two lines")
        assert unparse(parse(Source(found))) == found
        made = elaborate(write(tmp_path, found, f"found{number}.space"))
        assert made.graph == pin(space.graph, architecture.indices)
        assert made.params == space.params
        assert made.name == "found"


def test_what_stays_open_stays_open(tmp_path):
    space = elaborate(write(tmp_path, MIXED))
    values, narrowed = {"width": 1, "n": 0}, {"body.depth": (0, 2), "pick": (0, 3)}
    found = pinned(space, values, "found", "base.space", narrowed=narrowed)
    assert "body.depth: oneof(1, 3)" in found
    assert elaborate(write(tmp_path, found, "found.space")).graph == pin(space.graph, values, narrowed)


def test_results_can_be_based_on_results(tmp_path):
    space = elaborate(write(tmp_path, MIXED))
    first = pinned(space, {"width": 0}, "found", "base.space", narrowed={"body.depth": (1, 2)})
    middle = elaborate(write(tmp_path, first, "first.space"))
    (architecture,) = sample(middle.graph, 1, seed=3)
    second = pinned(middle, architecture.indices, "found", "first.space")
    assert "space found2 = found with {" in second
    last = elaborate(write(tmp_path, second, "second.space"))
    assert last.graph == pin(middle.graph, architecture.indices)
    assert last.base == "mixed"


def test_a_result_reads_like_its_space(tmp_path):
    space = elaborate(write(tmp_path, LANES))
    (architecture,) = sample(space.graph, 1, seed=1)
    small = {path: value[:2] for path, value in architecture.indices.items()}
    small["stage[0].exchange[1/2 -> 1/2].searching.mixconv.hidden[3]"] = ()
    found = pinned(space, small, "found", "base.space").splitlines()
    start = found.index("  stage[0]: {")
    assert [line.split(": ")[0] for line in found[start : start + 10]] == [
        "  stage[0]",
        "    exchange[1/2 -> 1/2].searching",
        "    exchange[1/2].mixconv.hidden[3]",
        "    parallel[1/2].repeat[0].searching",
        "    parallel[1/2].repeat[1].searching",
        "  }",
        "",
        "  stage[1]",
        "    exchange[1/2 -> 1/2].searching",
        "    exchange[1/2].mixconv.hidden[3]",
    ]
    assert "{ mixconv.hidden: { 3: [], 5: [" in found[start + 1]


def test_a_changed_file_is_told(tmp_path):
    space = elaborate(write(tmp_path, MIXED))
    found = write(tmp_path, pinned(space, {"width": 0}, "found", "base.space"), "found.space")
    write(tmp_path, MIXED.replace("classify(10)", "classify(11)"))
    with pytest.raises(CompileError, match=r"`base\.space`, or a file that it uses, has changed"):
        elaborate(found)


def test_a_change_in_a_file_behind_the_used_one_is_told(tmp_path):
    write(tmp_path, MIXED, "behind.space")
    space = elaborate(write(tmp_path, 'use "behind.space"\nspace front = mixed with { wide: 4 }\n', "front.space"))
    found = write(tmp_path, pinned(space, {"width": 0}, "found", "front.space"), "found.space")
    elaborate(found)
    write(tmp_path, MIXED.replace("classify(10)", "classify(11)"), "behind.space")
    with pytest.raises(CompileError, match="has changed"):
        elaborate(found)


def test_values_of_absent_decisions_are_left_out(tmp_path):
    space = elaborate(write(tmp_path, MIXED))
    values = {"n": 0, "m.else.kernel": 1, "m[2].kernel": 1}
    assert "else" not in pinned(space, values, "found", "base.space")


# --- Architectures in full --------------------------------------------------------------------------------------------


def plain(value):
    """Attributes with search units as widths."""
    if isinstance(value, FixedUnits):
        return value.count
    return tuple((key, plain(item)) for key, item in value.items()) if isinstance(value, Mapping) else value


def structure(graph):
    """The nodes up to their names."""
    seen: dict[str, int] = {}
    sets: dict[str, int] = {}
    for node in graph.nodes.values():
        attrs = tuple((key, str(plain(value))) for key, value in sorted(node.attrs.items()))
        inputs = tuple(seen[edge.source] for edge in node.inputs)
        weight = sets.setdefault(node.weight, len(sets)) if node.weight != node.name else -1
        seen[node.name] = hash((node.kind, node.op, attrs, inputs, node.shape, weight))
    return Counter(seen.values())


SHARED = """
space shared {
  input 3 x 32 x 32
  defaults { act: h_swish, momentum: 0.01 }
  network {
    repeat oneof(2, 3) { conv(3, kernel: 3, share: weights) }
    conv(3, kernel: 3)
    parallel { conv(5, act: relu) + conv(5, kernel: 3) -> identity() }
    classify(10)
  }
}
"""

TWO_READERS = """
space two {
  input 3 x 32 x 32
  network {
    a: conv(3, scale_init: 0.001) + identity()
    b: residual { conv(3) -> conv(3) } -> residual { conv(5, stride: 2) }
    concat(a, b, a, scale: 1, mode: nearest)
    sum(from: manyof(2, [a])) if false else identity()
    segment(oneof(2, 3))
  }
}
"""


@pytest.mark.parametrize(("text", "times"), [(LANES, 2), (MIXED, 20), (SHARED, 2), (TWO_READERS, 2)])
def test_an_architecture_in_full_is_the_same_network(tmp_path, text, times):
    space = elaborate(write(tmp_path, text))
    for architecture in sample(space.graph, times, seed=2):
        one = replace(space, graph=pin(space.graph, architecture.indices))
        full = expanded(one)
        again = elaborate(Source(full))
        assert unparse(parse(Source(full))) == full
        assert structure(again.graph) == structure(one.graph)
        assert cost_of(again.graph, {}) == cost_of(one.graph, {})


def test_full_text_is_short_and_placed():
    text = """
space tiny {
  input 3 x 32 x 32
  network {
    stem: conv(8, kernel: 3, stride: 2)
    stage: for width in [8, 16] { residual { conv(width) -> conv(width, kernel: 3) } }
    classify(10)
  }
}
"""
    assert expanded(elaborate(Source(text)), "found") == (
        """\
space found {
  input 3 x 32 x 32

  network {
    b1: conv(8, kernel: 3, stride: 2)

    # stage[0]
    b2: b1 -> residual { conv(8) -> conv(8, kernel: 3) }

    # stage[1]
    b3: b2 -> conv(16, act: none) + (conv(16) -> conv(16, kernel: 3))
    b3 -> classify(10)
  }
}
"""
    )


def test_only_an_architecture_is_written_in_full():
    with pytest.raises(ValueError, match="still has decisions, such as `"):
        expanded(elaborate(Source(MIXED)))
