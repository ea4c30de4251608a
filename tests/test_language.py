"""One small space for each construct of the language: it parses, counts as derived by hand, and runs.

Each count is compared with a number that the comment above the text derives, and with an enumeration of the graph;
then the
supernet is built, and networks taken out of it compute the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import comb, factorial
from typing import Any

import pytest
import torch

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.count import count
from nasdsl.compiler.evaluated import evaluated
from nasdsl.compiler.extremes import feasible, structural
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.pin import pin
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.sample import sample
from nasdsl.compiler.source import Source
from nasdsl.compiler.supernet import Supernet
from nasdsl.compiler.values.tree import evaluate, holds

MOST_ENUMERATED = 20_000


@dataclass(frozen=True)
class Case:
    """A space and how many architectures it has. `runs` is False where there is no module for an operator yet."""

    size: int
    text: str
    input: str = "3 x 16 x 16"
    defines: dict[str, str] = field(default_factory=dict)
    wrap: bool = True
    runs: bool = True

    @property
    def graph(self) -> Graph:
        text = f"space test {{\n  input {self.input}\n{self.text}\n}}\n" if self.wrap else self.text
        return elaborate(Source(text), defines=self.defines).graph


CASES: dict[str, Case] = {}


def case(name: str, size: int, text: str, **more: Any) -> None:
    assert name not in CASES
    CASES[name] = Case(size, text, **more)


# --- Choices ----------------------------------------------------------------------------------------------------------

# Three kernels, two widths.
case("numbers", 3 * 2, "network { conv(oneof(8, 12), kernel: oneof(3, 5, 7)), classify(10) }")

# A range stands for its items, also beside others: 1, 2, 3 and 8.
case("ranges", 4, "network { conv(8 * oneof(1..3, 8)), classify(10) }")

# A stepped range: 8, 12, 16.
case("stepped range", 3, "network { conv(oneof(8..16 step 4)), classify(10) }")

# Symbols, and what hangs on them.
case(
    "symbols",
    2 * 3,
    """
    let op = oneof(small, large)
    network { conv(8 if op == small else 16, act: oneof(relu, h_swish, none)), classify(10) }
    """,
)

# Operators with decisions of their own: 3 kernels + 1 + 2 widths of the hidden layer.
case(
    "operators",
    3 + 1 + 2,
    """
    network {
      stem: conv(8)
      oneof(
        conv(8, kernel: oneof(1, 3, 5))
        identity()
        mixed: mixconv(8, hidden: { 3: oneof(4, 8) })
      )
      classify(10)
    }
    """,
)

# Input sizes.
case("sizes", 2, "network { conv(8, stride: 2), classify(10) }", input="oneof(3 x 16 x 16, 3 x 24 x 24)")

# One of two lists; each pair of widths goes together.
case(
    "lists",
    2,
    """
    let widths = oneof([8, 16], [12, 24])
    network { conv(widths[0]), conv(widths[1], kernel: 3), classify(10) }
    """,
)

# Lists are equal where all their items are: the second item is 2, the first one of two.
case(
    "lists compared",
    2,
    """
    let a = oneof(1, 2)
    let b = oneof(1, 2)
    require [a, b] == [1, 2] or [a, b] == [2, 2]
    network { conv(8 * a + 4 * b), classify(10) }
    """,
)

# A record is looked up by a value that hangs on two decisions, and holds values that hang on them too.
case(
    "records looked up",
    2 * 2,
    """
    let a = oneof(1, 2)
    let b = oneof(1, 2)
    let widths = { 2: 8, 3: 12 * a, 4: 4 * b }
    network { conv(widths[a + b]), conv([8, 16, 24][a + b - 2]), classify(10) }
    """,
)

# Which branch is the one at a scale hangs on a choice.
case(
    "a branch by its scale",
    2,
    """
    let early = oneof(true, false)
    network {
      x: conv(8, stride: 2 if early else 4)
      y: resize(to: 1/4 if early else 1/2)
      branches(x, y)
      pick(1/2)
      classify(10)
    }
    """,
)

# A list as the only argument stands for its items, here made by a comprehension: 2 x 2 candidates.
case(
    "comprehension",
    4,
    "network { conv(8), oneof([for k in [3, 5], d in 1..2: conv(8, kernel: k, dilation: d)]), classify(10) }",
)

# `none` is an option like any other: the sum has one or two terms.
case("none", 2, "network { conv(8), identity() + oneof(none, conv(8)), classify(10) }")

# Both terms may be none, but not both at once: 2 * 2 - 1.
case("live", 3, "network { conv(8), oneof(none, identity()) + oneof(none, conv(8)), classify(10) }")

# One choice that two places read.
case("hoisted", 3, "let k = oneof(1, 3, 5)\nnetwork { conv(8, kernel: k), conv(8, kernel: k), classify(10) }")

# --- Subsets, orders, units -------------------------------------------------------------------------------------------

# Two of four labelled tensors.
case(
    "manyof",
    comb(4, 2),
    """
    network {
      stem: conv(8)
      a: conv(8, kernel: 3)
      b: conv(8)
      c: identity()
      sum(from: manyof(2, earlier))
      classify(10)
    }
    """,
)

# All of the list is no decision.
case("manyof all", 1, "network { a: conv(8), b: conv(8), sum(from: manyof(2, earlier)), classify(10) }")

# An order of three widths.
case(
    "permute",
    factorial(3),
    "let order = permute([8, 12, 16])\nnetwork { for w in order { conv(w, kernel: 3) }, classify(10) }",
)

# Equal items are interchangeable: 4! / 2!.
case(
    "permute equal",
    factorial(4) // 2,
    "let order = permute([8, 8, 12, 16])\nnetwork { for w in order { conv(w) }, classify(10) }",
)

# Any subset of 4 and of 3 units.
case("units", 2**4 * 2**3 - 1, "network { conv(8), mixconv(8, hidden: { 3: units(4), 5: units(3) }), classify(10) }")

# With a shortcut no unit need be left.
case(
    "units beside a shortcut",
    2**4,
    "network { conv(8), residual { mixconv(8, hidden: { 3: units(4) }) }, classify(10) }",
)

# --- Depth ------------------------------------------------------------------------------------------------------------

# Depth 1, 2 or 3 with two kernels in each copy: 2 + 4 + 8.
case("depth", 2 + 4 + 8, "network { conv(8), repeat oneof(1..3) { conv(8, kernel: oneof(1, 3)) }, classify(10) }")

# Depth 0 too.
case(
    "depth from zero",
    1 + 2 + 4,
    "network { conv(8), repeat oneof(0, 1, 2) { conv(8, kernel: oneof(1, 3)) }, classify(10) }",
)

# A plain count makes free copies.
case("copies", 2**3, "network { conv(8), repeat 3 { conv(8, kernel: oneof(1, 3)) }, classify(10) }")

# A `let` above the repeat ties them.
case("tied copies", 2, "network { conv(8), let k = oneof(1, 3), repeat 3 { conv(8, kernel: k) }, classify(10) }")

# A depth inside a depth: inner 1 + 2 = 2 depths; outer 1: 2, outer 2: 4.
case("nested depth", 2 + 4, "network { conv(8), repeat oneof(1, 2) { repeat oneof(1, 2) { conv(8) } }, classify(10) }")

# The first copy has the stride.
case("first", 2, "network { repeat oneof(1, 2) { conv(8, kernel: 3, stride: 2 if first else 1) }, classify(10) }")

# --- Conditional decisions --------------------------------------------------------------------------------------------

# TrioNet's block: conv has 2 rates and 3 kernels, the other 2 rates and 2 x 2.
case(
    "match",
    2 * 3 + 2 * 4,
    """
    operator trio(out) {
      let op = oneof(conv, mix)
      let mid = out * match op { conv: oneof(1/8, 1/4), mix: oneof(1/4, 1/2) }
      residual {
        down: conv(mid)
        match op {
          conv: conv(mid, kernel: oneof(3, 5, 7))
          mix: mixconv(mid, hidden: { 3: oneof(4, 8), 5: oneof(4, 8) })
        }
        up: conv(out, act: none)
      }
      relu()
    }
    network { conv(16), trio(16), classify(10) }
    """,
)

# Under `else` one decision for all that it covers: 1 + 2 * 3.
case(
    "match with else",
    1 + 2 * 3,
    """
    let op = oneof(a, b, c)
    network { match op { a: conv(8), else: conv(8, kernel: oneof(1, 3, 5)) }, classify(10) }
    """,
)

# A condition on a number: kernel 5 has two dilations, the others one.
case(
    "if",
    2 + 2,
    """
    let k = oneof(1, 3, 5)
    network { conv(8, kernel: k, dilation: oneof(1, 2) if k == 5 else 1), classify(10) }
    """,
)

# Two levels: a: 1; b with 2 kernels, of which 3 has two dilations: 1 + 2.
case(
    "nested",
    1 + 3,
    """
    network {
      conv(8)
      oneof(
        a: identity()
        b: {
          let k = oneof(1, 3)
          match k { 1: conv(8), 3: conv(8, kernel: 3, dilation: oneof(1, 2)) }
        }
      )
      classify(10)
    }
    """,
)

# --- Sides that run in training alone ---------------------------------------------------------------------------------

# Two widths; without the side, or with it: its depth 1 or 2, and a kernel for each copy.
case(
    "decisions of a side",
    2 * (1 + (2 + 2**2)),
    """
    network {
      conv(oneof(8, 12))
      oneof(identity(), auxiliary(weight: 0.4) { repeat oneof(1, 2) { conv(4, kernel: oneof(1, 3)) } -> classify(10) })
      classify(10)
    }
    """,
)

# Two strides; the side needs one of its two terms, which leaves 3 of 4 choices, and has 2 values of its own `w`. The
# `w` of the network follows none of a side, and is `cell.w[0]`: 4 + 8.
case(
    "a side is there and leaves nothing",
    2 * (3 * 2) * 1,
    """
    operator cell() {
      let w = previous(w, else: 4) + oneof(4, 8)
      a: conv(w)
      concat(from: unused)
    }
    network {
      conv(8, stride: oneof(1, 2))
      auxiliary(weight: 1/3) {
        oneof(none, conv(4)) + oneof(none, conv(4, kernel: 3)) -> cell()
        classify(10)
      }
      cell()
      classify(10)
    }
    require cell.w[0] == 12
    """,
)

# --- Tying ------------------------------------------------------------------------------------------------------------

NASBENCH = """
    fusion edges {
      same: oneof(
        zero()
        identity()
        conv(in, kernel: 1, order: [act, conv, norm])
        conv(in, kernel: 3, order: [act, conv, norm])
        avg_pool(3)
      )
      merge: sum()
    }
    operator nodes() {
      n0: identity()
      for i in 1..3 { n: fuse(edges, from: earlier) }
    }
"""

# NAS-Bench-201: the cell of a `let` decides once, six edges with five candidates, however often it stands there.
case(
    "a let of a call decides once",
    5**6,
    NASBENCH
    + """
    let cell = nodes()
    network {
      stem: conv(4, kernel: 3, act: none)
      stage1: repeat 2 { cell }
      stage2: conv(8, stride: 2) -> repeat 2 { cell }
      norm() -> relu() -> classify(classes: 10)
    }
    """,
    input="3 x 8 x 8",
)

# Written at each use it decides each time: four cells.
case(
    "a call decides each time",
    5**24,
    NASBENCH
    + """
    network {
      stem: conv(4, kernel: 3, act: none)
      stage1: repeat 2 { nodes() }
      stage2: conv(8, stride: 2) -> repeat 2 { nodes() }
      norm() -> relu() -> classify(classes: 10)
    }
    """,
    input="3 x 8 x 8",
)

# An operator that is passed as an argument is decided once, at the call; its body uses it twice.
case(
    "an argument decides once",
    2,
    """
    operator twice(op) { op, op }
    network { conv(8), twice(conv(8, kernel: oneof(1, 3))), classify(10) }
    """,
)

# A body in braces is decided for each use.
case("braces decide anew", 2**2, "network { conv(8), repeat 2 { conv(8, kernel: oneof(1, 3)) }, classify(10) }")

# A function decides at each call.
case(
    "functions",
    2 * 2,
    "let wide(n) = oneof(n, 2 * n)\nnetwork { conv(wide(8)), conv(wide(4)), classify(10) }",
)

# A default sees the operator's other parameters.
case(
    "defaults of parameters",
    2,
    """
    operator block(out, mid = out / 2, kernel = oneof(1, 3)) { conv(mid, kernel: kernel), conv(out) }
    network { block(8), classify(10) }
    """,
)

# On or off: a conv with one of two kernels, or nothing.
case(
    "match on a truth value",
    2 + 1,
    """
    let on = oneof(false, true)
    network { conv(8), match on { true: conv(8, kernel: oneof(1, 3)), false: identity() }, classify(10) }
    """,
)

# A comparison of one choice, one of two choices and a parameter, each with a choice of two kernels where it is true: by
# b, over the values of a, and twice all.
case(
    "match on conditions",
    ((1 + 1 + 1) + (4 + 2 + 2) + (2 + 2 + 1)) * 2,
    """
    param wide = true
    let a = oneof(1, 2, 3)
    let b = oneof(1, 2, 3)
    network {
      match (b == 2) { true: conv(8, kernel: oneof(1, 3)), false: conv(4 * b) }
      match (b > a) { true: conv(8, kernel: oneof(1, 3)), else: conv(4 * a) }
      match wide { false: identity(), true: conv(8, kernel: oneof(1, 3)) }
      classify(10)
    }
    """,
)

case(
    "pins of truth values",
    2,
    """
    space open = gated with { on: true, wide: true }

    space gated {
      input 3 x 16 x 16
      param wide = false
      let on = oneof(false, true)
      network {
        match on { true: conv(8, kernel: oneof(1, 3)), false: identity() }
        match wide { true: identity(), false: conv(4) }
        classify(10)
      }
    }
    """,
    wrap=False,
)

# A range in a list whose end is chosen: 1, 2 or 3 items before the 8, each taken where it is there: 1 + 2 + 3 + 3.
case(
    "lists whose length is chosen",
    3,
    """
    let k = oneof(1, 2, 3)
    network { conv(8 * sum([1..k, 8])), classify(10) }
    """,
)

# A sum that starts from labels is there whatever comes before it: b is left out, or has one of two kernels.
case(
    "a sum of labels behind a step left out",
    1 + 2,
    "network { a: conv(8), b: oneof(conv(8, kernel: oneof(1, 3)), none), c: a + b, classify(10) }",
)

# Joined lists go on counting.
case(
    "a joined list by a list",
    1,
    """
    space test = joined with { w: [16, 24, 8], w[2]: 8 }
    space joined {
      input 3 x 16 x 16
      let w = [oneof(8, 16)] + [24, oneof(4, 8)]
      network { for i in w { conv(i) }, classify(10) }
    }
    """,
    wrap=False,
)

# --- Running values and lists -----------------------------------------------------------------------------------------

# SM-NAS: depth 1..3, each copy keeps or doubles, at most two doublings in all: 2 + 4 + (8 - 1).
case(
    "previous",
    2 + 4 + 7,
    """
    operator segment() = repeat oneof(1..3) {
      let double = oneof(false, true)
      let planes = previous(planes, else: 4) * (2 if double else 1)
      conv(planes, kernel: 3)
    }
    network { segment(), classify(10) }
    require count(segment.double) <= 2
    """,
)

# A level is at most one step from the one before it, the first from 2: 2 or 3; then 5 pairs, of which two end at 2, two
# at 3 and one at 4; then 2 * 2 + 2 * 3 + 3.
case(
    "previous behind its let",
    13,
    """
    operator steps() {
      for i in 2..4 {
        let level = oneof(2, 3, 4, 5)
        let before = previous(level, else: 2)
        require level - before in -1..1
        conv(8 * level)
      }
    }
    network { steps() -> classify(10) }
    """,
)

# The same rule over three uses of an operator.
case(
    "previous over uses",
    13,
    """
    operator step() {
      let level = oneof(2, 3, 4, 5)
      require level - previous(level, else: 2) in -1..1
      conv(8 * level)
    }
    network { repeat 3 { step() } -> classify(10) }
    """,
)

# A use that is not there is passed over: 5 pairs with it; without it 2 or 3.
case(
    "previous over uses that may be absent",
    5 + 2,
    """
    operator step() {
      let level = oneof(2, 3, 4, 5)
      require level - previous(level, else: 2) in -1..1
      conv(8 * level)
    }
    network { match oneof(one, two) { one: identity(), two: step() } -> step() -> classify(10) }
    """,
)

# The last copy that is there counts: n copies in all have n + 1 rows that never fall. Two in one way, three in two.
case(
    "previous over a searched depth",
    3 + 2 * 4,
    """
    operator part() {
      repeat oneof(1, 2) {
        let w = oneof(8, 16)
        require w >= previous(w, else: 8)
        conv(w)
      }
    }
    network { part() -> part() -> classify(10) }
    require sum(part.depth) <= 3
    """,
)

# Each call starts from a value of its own: the first copy is 1 or 2, the second like it.
case(
    "previous from different starts",
    2,
    """
    operator twice() {
      repeat 2 {
        let w = oneof(1, 2, 3)
        require w == previous(w, else: 1) or w == previous(w, else: 2)
        conv(8 * w)
      }
    }
    network { twice() -> classify(10) }
    """,
)

# What to start from is only decided where there is nothing before: one of two starts, then 0 or 1 more in two copies.
case(
    "previous from a choice",
    2 * 2 * 2,
    """
    operator grown() {
      repeat 2 {
        let w = previous(w, else: oneof(8, 16)) + oneof(a: 0, b: 1)
        conv(w)
      }
    }
    network { grown() -> classify(10) }
    """,
)

# In a body inside the one that makes it, the value before is that of the use before: two pairs that rise or stay.
case(
    "previous in a body inside",
    3,
    """
    operator layer() {
      let w = oneof(8, 16)
      repeat 2 {
        require w >= previous(w, else: 8)
        conv(w)
      }
    }
    network { layer() -> layer() -> classify(10) }
    """,
)

# Behind the body that makes it, the value before is the last one: 8 or 16, and at the end 16.
case(
    "previous behind the body that makes it",
    2,
    """
    operator layers() {
      repeat 2 { let w = oneof(8, 16), conv(w) }
      require previous(w, else: 8) == 16
    }
    network { layers() -> classify(10) }
    """,
)

# Three layers of 8, 16, 24 or 32 channels, none narrower than the one before it: 3 of 4 with repetition.
case(
    "widths that never fall",
    comb(4 + 3 - 1, 3),
    """
    operator layer() {
      let w = oneof(8, 16, 24, 32)
      require w >= previous(w, else: 8)
      conv(w)
    }
    network { repeat 3 { layer() } -> classify(10) }
    """,
)

# The depths of two segments: of the 9 pairs those with a sum of at most 4 are 1+1, 1+2, 2+1, 1+3, 3+1, 2+2.
case(
    "sum of depths",
    6,
    """
    operator segment() = repeat oneof(1..3) { conv(8) }
    network { a: segment(), b: segment(), classify(10) }
    require sum(segment.depth) <= 4
    """,
)

# Every copy that is there: of kernels with a sum of at most 3 n - 2 there are 1; 1 + 1, 1 + 3, 3 + 1.
case(
    "length",
    1 + 3,
    """
    operator block() { let k = oneof(1, 3, 5), conv(8, kernel: k) }
    network { conv(8), repeat oneof(1, 2) { block() }, classify(10) }
    require sum(block.k) <= 3 * length(block.k) - 2
    """,
)

# a implies b: all pairs but (a, not b).
case(
    "implies",
    4 - 1,
    """
    let a = oneof(false, true)
    let b = oneof(false, true)
    network { conv(8 if a else 16), conv(8 if b else 16), classify(10) }
    require a implies b
    """,
)

# `in` a list.
case("in", 2, "let w = oneof(8, 12, 16)\nnetwork { conv(w), classify(10) }\nrequire w in [8, 16]")

# A call in a slot is compared by its name.
case(
    "names of operators in a require",
    2 * 2 - 1,
    """
    let head = oneof(conv(8), identity())
    let k = oneof(1, 3)
    network { conv(8, kernel: k), head, classify(10) }
    require head == conv implies k == 3
    """,
)

# --- Labelled tensors -------------------------------------------------------------------------------------------------

# Each node of a cell takes two of those before it: (2 of 2) * (2 of 3) * (2 of 4).
case(
    "earlier",
    1 * comb(3, 2) * comb(4, 2),
    """
    fusion join { same: identity(), merge: sum() }
    operator cell() {
      a: identity()
      b: conv(in)
      for i in 1..3 { n: fuse(join, from: manyof(2, earlier)) }
    }
    network { conv(8), cell(), classify(10) }
    """,
)

# What no node has read is added to the last one, without a path and without a decision.
case(
    "unused",
    comb(3, 2),
    """
    fusion join { same: identity(), merge: sum() }
    operator cell() {
      a: identity()
      b: conv(in)
      c: conv(in)
      fuse(join, from: manyof(2, earlier), also: unused)
    }
    network { conv(8), cell(), classify(10) }
    """,
)

# What nothing has read is added where its width fits: never the wider of the two, which then is run for nothing.
case(
    "unused of another width",
    3,
    """
    fusion join { same: conv(width), merge: sum() }
    operator cell() {
      a: conv(8)
      b: conv(8, kernel: 3)
      c: conv(16)
      fuse(join, to: { 1: 8 }, from: manyof(1, [a, b, c]), also: unused)
    }
    network { conv(8), cell(), classify(10) }
    """,
)

# --- Inputs, decided operators, and lists of which choices decide the items -------------------------------------------

# The tensors that come in, of other widths each time. What is decided for each is decided at the first use: 2 * 2.
case(
    "inputs of a decided operator",
    2 * 2,
    """
    operator cell(out) {
      let kernels = [for x in inputs: oneof(1, 3)]
      sum([for i in 0..1: inputs[i] -> conv(out, kernel: kernels[i])])
    }
    let c = cell(8)
    network {
      a: conv(4)
      b: conv(12)
      c1: [a, b] -> c
      c2: [b, c1] -> c(out: 16)
      last(earlier, 2) -> c(out: 4) -> classify(10)
    }
    """,
)

# A branch that may be missing: its kernel (2) is decided where it is there, that of the other one (2) always.
# 2 with one branch, 2 * 2 with both.
case(
    "inputs that may be missing",
    2 + 2 * 2,
    """
    operator cell() { concat([for x in inputs: x -> conv(x.width, kernel: oneof(1, 3))]) }
    network {
      a: conv(8)
      b: oneof(none, conv(4))
      [b, a] -> cell() -> classify(10)
    }
    """,
)

# How many come in, and the scale of the first: the second network has the same shapes, whatever is chosen.
case(
    "what tensors tell of themselves",
    2,
    """
    operator same(out) {
      for x in inputs { n: x -> conv(out, stride: x.scale / inputs[-1].scale) }
      sum(from: earlier) -> conv(4 * length(inputs))
    }
    network {
      a: conv(8)
      b: a -> conv(oneof(8, 12), stride: 2)
      [a, b] -> same(8) -> conv(b.width) -> classify(10)
    }
    """,
)

# In the network itself `inputs` is the image; in a branch, the branch.
case(
    "inputs of the network",
    2,
    """
    network {
      conv(inputs[0].width * oneof(2, 4))
      fine: identity()
      coarse: conv(8, stride: 2)
      branches(fine, coarse)
      parallel { conv(inputs[0].width + length(inputs)) }
      concat() -> classify(10)
    }
    """,
)

# Tied: one kernel (2) and one stride (2) for three uses; a default that decided (3 factors) stays, the other follows.
case(
    "an operator that was decided, with other arguments",
    2 * 3 * 2,
    """
    operator block(out, factor = oneof(1, 2, 3), mid = factor * out, stride = 1) {
      conv(mid, kernel: oneof(1, 3)) -> conv(out, stride: stride)
    }
    let b = block(8, stride: oneof(1, 2))
    network { b, b(out: 4), b(16, mid: 8), b(), classify(10) }
    """,
)

# One of two operators, and what it decides: (2 + 1). Both get the stride.
case(
    "one of several operators, with other arguments",
    2 + 1,
    """
    operator wide(out, stride = 1) { conv(oneof(16, 24)) -> conv(out, stride: stride) }
    operator plain(out, stride = 1) { conv(out, kernel: 3, stride: stride) }
    let op = oneof(wide(8), plain(8))
    network { op, op(stride: 2), op(out: 12, stride: 2) -> classify(10) }
    """,
)

# An operator of the catalogue; its new argument decides at each call: 2 * 2 * 2.
case(
    "a convolution, with other arguments",
    2 * 2 * 2,
    """
    let c = conv(oneof(4, 8))
    network { c, c(kernel: oneof(1, 3)), c(kernel: oneof(1, 3), stride: 2) -> classify(10) }
    """,
)

# `none` takes no arguments, and stays none.
case(
    "none, with other arguments",
    2,
    "network { conv(8), let o = oneof(none, conv(8)), conv(8) + o(kernel: 3), classify(2) }",
)

# A function as an argument is called by place and by name; each call decides: 2 * 2.
case(
    "a function as an argument",
    2 * 2,
    """
    let twice(x) = oneof(x, 2 * x)
    operator block(f) { conv(f(8)) -> conv(f(x: 4)) }
    network { block(twice), classify(10) }
    """,
)

# Of 3 widths 0 to 2: 1 + 3 + 3. A kernel (2) for each that is there: 1 + 3 * 2 + 3 * 4.
case(
    "a loop over what was chosen",
    1 + 3 * 2 + 3 * 4,
    "network { conv(8), for w in manyof(0..2, [4, 8, 12]) { conv(w, kernel: oneof(1, 3)) }, classify(10) }",
)

# All subsets of 3, and those with 1 or 2 of 4: a choice for each item.
case(
    "subsets of any size",
    2**3 * (4 + 6),
    """
    let some = manyof(0..3, [4, 8, 12])
    let few = manyof(1..2, [1, 2, 3, 4])
    network { conv(8 + sum(some)), conv(4 * length(few) + max(few)), classify(10) }
    """,
)

# Of {0, 2} of 3 there are 1 + 3.
case(
    "subsets of stepped sizes",
    1 + comb(3, 2),
    "network { conv(4 + sum(manyof(0..2 step 2, [4, 8, 16]))), classify(10) }",
)

# Orders of 2 out of 4 different items: 4 * 3. With the first less than the second half of them.
case(
    "orders of some items",
    12 + 6,
    """
    let mode = oneof(any, rising)
    let order = permute(2, [1, 2, 3, 4])
    require mode == rising implies order[0] < order[1]
    network { for w in order { conv(4 * w) }, classify(10) }
    """,
)

# An order of all of them: 3!.
case("orders of all items", factorial(3), "network { for w in permute(3, [4, 8, 12]) { conv(w) }, classify(10) }")

# 1 to k copies with a kernel each (2): 2 + 4 + 8; and the same as a sum of branches.
case(
    "a loop to a decision",
    2 + 4 + 8,
    "network { let k = oneof(1, 2, 3), for i in 1..k { conv(8 * i, kernel: oneof(1, 3)) }, classify(10) }",
)
case(
    "a sum to a decision",
    2 + 4 + 8,
    "network { let k = oneof(1, 2, 3), sum([for i in 1..k: conv(8, kernel: oneof(1, 3))]), classify(10) }",
)

# A list made from those chosen: each of 3 may be there, one at least, and has one of two widths; these sum to at most
# 24. One item: 6 ways (4, 8; 8, 16; 12, 24). Two, {4,8}x{8,16}: 12, 20, 16, 24; {4,8}x{12,24}: 16, 20;
# {8,16}x{12,24}: 20. Three: 24.
case(
    "a list made of what was chosen",
    6 + 4 + 2 + 1 + 1,
    """
    let widths = [for w in manyof(1..3, [4, 8, 12]): oneof(1, 2) * w]
    require sum(widths) <= 24
    network { conv(widths[0]), conv(max(widths)), conv(widths[-1]), classify(10) }
    """,
)

# 2 of 4, of which one is large.
case(
    "counted among what was chosen",
    2 * 2,
    """
    let some = manyof(2, [4, 8, 24, 32])
    require count([for w in some: w > 16]) == 1 and (8 in some or 4 in some) and not 16 in some
    network { conv(sum(some)), classify(10) }
    """,
)

# Labelled tensors of which some may be missing: 2 depths, and one kernel (2) for each copy; a second kernel each.
case(
    "a loop over labelled tensors that may be missing",
    2 * 2 + 4 * 4,
    """
    network {
      repeat oneof(1, 2) { n: conv(8, kernel: oneof(1, 3)) }
      let firsts = earlier
      sum([for x in firsts: x -> conv(8, kernel: oneof(1, 3))])
      classify(10)
    }
    """,
)

# For an item that is missing there is no kernel (2), and what comes in goes on.
case(
    "a loop that lets through what comes in",
    2 + 2 * 2,
    """
    network {
      a: conv(8)
      b: oneof(none, conv(8))
      c: a -> conv(8)
      for x in [b, c] { concat(x, conv(4, kernel: oneof(1, 3))) -> conv(8) }
      classify(10)
    }
    """,
)

# Operators and tensors, added, averaged and joined; a list stands for its items: 1 to 2 of them, 3 ways.
case(
    "steps of several operators",
    3,
    """
    network {
      a: conv(8)
      sum(a, conv(8), { conv(4) -> conv(8) })
      mean(conv(8), [for k in manyof(1..2, [3, 5]): conv(8, kernel: k)])
      concat(a, [a, conv(4)], branches(conv(4), conv(8, stride: 1)))
      classify(10)
    }
    """,
)

# Some operators of three, by what tells them apart: 3 + 3 + 1.
case(
    "a sum of chosen operators",
    7,
    "network { conv(8), sum(manyof(1..3, [conv(8), conv(8, kernel: 3), identity()])), classify(10) }",
)

# Where nothing comes in, a sum of what is made of it asks for nothing. Its kernel is decided all the same: 2 * 2.
case(
    "a sum of what is missing",
    2 * 2,
    """
    network {
      conv(8)
      conv(8) + { oneof(none, conv(8)) -> sum(conv(8, kernel: oneof(1, 3)), identity()) }
      classify(10)
    }
    """,
)

# Arithmetic between a keyword and its block: 2 * k copies with a kernel (2) each, 4 + 16; 2 values of j.
case(
    "arithmetic in heads",
    2**2 * 2 + 2**4 * 2,
    """
    network {
      let k = oneof(1, 2)
      let n = 3
      repeat 2 * k { conv(8, kernel: oneof(1, 3)) }
      for i in 1 - 1..n - 2 { conv(8 + i) }
      let j = oneof(1, 2)
      match k + j { 2: identity(), 3: conv(8), else: conv(4) }
      conv(sum([for i in -1..n + -1: i + 2]))
      classify(10)
    }
    """,
)

# --- Fusions ----------------------------------------------------------------------------------------------------------

RULE = """same: conv(width, kernel: oneof(1, 3)), down: conv(width, stride: at / scale)
      up: conv(width) -> upsample(to: scale)"""
LEVELS = """
    fusion start { same: identity(), new: conv(width, stride: 2), from: neighbours, merge: sum() }
    network { conv(8), fuse(start, to: { 1: 8, 1/2: 12, 1/4: 16 }), fuse(join), concat(scale: 1), segment(5) }
"""

# Three levels, each with its own path `same`, of two kernels.
for way in ("neighbours", "all", "finer", "coarser"):
    case(way, 2**3, f"fusion join {{ {RULE}, from: {way}, merge: sum() }}" + LEVELS)

# With a decision in each path: `neighbours` has 3 same, 2 down and 2 up, `all` 3 same and 6 others.
case(
    "paths of neighbours",
    2**7,
    "fusion join { any: conv(width, act: oneof(relu, none)) -> resize(to: scale), from: neighbours, merge: sum() }"
    + LEVELS,
)
case(
    "paths of all",
    2**9,
    "fusion join { any: conv(width, act: oneof(relu, none)) -> resize(to: scale), from: all, merge: sum() }" + LEVELS,
)

# Along the levels, with a decision in each path: 3 same and 2 between, from each output to the next.
for way in ("finer", "coarser"):
    case(
        f"paths of {way}",
        2**5,
        f"""
        fusion join {{
          any: conv(width, act: oneof(relu, none)) -> resize(to: scale)
          from: {way}
          merge: sum()
        }}
        """
        + LEVELS,
    )

# A fusion with a parameter.
case(
    "parameters of a fusion",
    3**3,
    "fusion join(kernels) { any: conv(width) -> resize(to: scale), then: conv(width, kernel: oneof(kernels)), "
    "from: all, merge: sum() }" + LEVELS.replace("fuse(join)", "fuse(join([1, 3, 5]))"),
)

# `concat` as the merge, then back to the width.
case(
    "concat in a fusion",
    1,
    "fusion join { any: conv(width) -> resize(to: scale), from: all, merge: concat() -> conv(width) }" + LEVELS,
)

# A body for each branch: three branches of two kernels.
case(
    "parallel",
    2**3,
    LEVELS.replace("fuse(join)", "parallel { conv(width, kernel: oneof(1, 3)) }"),
)

# `pick` and `branches`.
case(
    "pick and branches",
    2,
    """
    network {
      a: conv(8, kernel: oneof(1, 3))
      b: conv(12, stride: 2)
      branches(a, b) -> parallel { conv(2 * width) } -> pick(1/2)
      classify(10)
    }
    """,
)

# --- Detectors --------------------------------------------------------------------------------------------------------

# Two backbones, a neck or none, two heads; the first head needs the neck: 2 * (2 * 2 - 1).
case(
    "detector",
    2 * 3,
    """
    operator small() { conv(8, stride: 2) }
    operator large() { conv(8, kernel: 3, stride: 2) -> conv(8) }
    operator pyramid() { conv(8, kernel: 3) }
    detector {
      backbone: oneof(small(), large())
      neck: oneof(none, pyramid())
      head: oneof(segment(5), wide())
    }
    operator wide() { conv(16) -> segment(5) }
    require head == segment implies neck != none
    """,
)

# --- Sharing ----------------------------------------------------------------------------------------------------------

# One set of weights for all copies, each with its own kernel.
case(
    "shared weights",
    2**3,
    "network { conv(8), repeat 3 { conv(8, kernel: oneof(1, 3), share: weights) }, classify(10) }",
)

# All layers inside an operator are one set for all its copies; each copy has kernels of its own.
case(
    "shared weights of an operator",
    2**3 * 2**3,
    """
    operator block(out) { conv(out, kernel: oneof(1, 3)) -> conv(out, kernel: oneof(1, 3)) }
    network { conv(8), repeat 3 { block(8, share: weights) }, classify(10) }
    """,
)

# --- with -------------------------------------------------------------------------------------------------------------

BASE = """
space base {
  input 3 x 16 x 16
  param width = 8
  param task in [small, large]
  network {
    stem: conv(width, kernel: oneof(1, 3, 5))
    stage: repeat oneof(1..3) { block: conv(width, kernel: oneof(1, 3, 5), act: oneof(relu, none)) }
    classify(10)
  }
}
"""
WHOLE = 3 * (6 + 36 + 216)  # kernels of the stem; six blocks in each copy


def derived(name: str, size: int, changes: str) -> None:
    case(name, size, f"space test = base with {{ {changes} }}\n{BASE}", wrap=False)


derived("with nothing pinned", WHOLE, "width: 12")
derived("with a value", WHOLE // 3, "stem.kernel: 3")
derived("with a smaller choice", WHOLE // 3 * 2, "stem.kernel: oneof(1, 5)")
derived("with a depth", 3 * 36, "stage.depth: 2")
# One value for all copies: two acts in each copy are left.
derived("with all copies", 3 * (2 + 4 + 8), "stage.block.kernel: 3")
# A value for each copy.
derived("with a list of copies", 3 * (2 + 4 + 8), "stage.block.kernel: [1, 3, 5]")
LISTED = """
space listed {
  input 3 x 16 x 16
  param n = 1
  let w = [oneof(take([8, 16], n)), oneof(24, 32), oneof(40, 48)]
  let k = [for i in 0..2: oneof(1, 2 * i + 3)]
  let u = [4, units(2), units(2)]
  network {
    for i in 0..2 { conv(w[i], kernel: k[i]) }
    conv(8)
    mixconv(8, hidden: { 3: u[1], 5: u[2] }) + identity()
    classify(10)
  }
}
"""
WHOLE_LISTS = 2 * 2 * 2**3 * 4 * 4  # the first width is fixed


def pinned_list(name: str, size: int, changes: str) -> None:
    case(name, size, f"space test = listed with {{ {changes} }}\n{LISTED}", wrap=False)


pinned_list("a list with an item that is fixed", WHOLE_LISTS, "")
# Items go by their place in the source, whether or not something is decided there.
pinned_list("an item of a list", WHOLE_LISTS // 2, "w[1]: 24")
pinned_list("an item of a list that is not fixed now", WHOLE_LISTS // 2 * 2, "n: 2, w[1]: 24")
pinned_list("all items alike", WHOLE_LISTS // 8, "k: 1")
pinned_list("a list by a list", WHOLE_LISTS // 4, "w: [8, 24, 48]")
pinned_list("a list by a list and by items", WHOLE_LISTS // 8, "w: [8, 24, 48], k[2]: 7")
pinned_list("a list of a loop by a list", WHOLE_LISTS // 8, "k: [3, 1, 7]")
pinned_list("a list of units by a list", WHOLE_LISTS // 16, "u: [4, [0], [0..1]]")
pinned_list("units in a list", WHOLE_LISTS // 4, "u[1]: [1]")

# A record prefixes; `[0]` is the first copy alone.
derived("with a record", 3 * (1 + 6 + 36), "stage[0].block: { kernel: 3, act: relu }")
# What is left of a choice is chosen from again.
derived("with a smaller choice of all", 3 * (4 + 16 + 64), "stage.block.kernel: oneof(1, 5)")
case(
    "with a smaller choice made smaller",
    3 * (2 + 4 + 8),
    f"""
    space test = some with {{ stage.block.kernel: 5 }}
    space some = base with {{ stage.block.kernel: oneof(1, 5) }}
    {BASE}
    """,
    wrap=False,
)
# Another input, a parameter of a list.
derived("with an input", WHOLE, "input 3 x 24 x 24, task: large")

# Options that are operators go by the arguments that tell them apart; of two indices in a row, one alone is the outer.
case(
    "with operators for values",
    3 * 3 * 2 * 2,
    """
    space test = whole with {
      stage.twice[0].block: [filter(k: 3, d: 1), filter(k: 3, d: 2)]
      stage.twice[1].block: oneof(filter(k: 3, d: 1), filter(k: 5, d: 2))
    }
    space whole {
      input 3 x 16 x 16
      operator filter(out, k, d) = conv(out, kernel: k, dilation: d)
      operator block(out) = oneof([for k in [3, 5], d in 1..2: filter(out, k, d)])
      operator twice(out) = repeat 2 { block(out) }
      network {
        conv(8, kernel: oneof(1, 3, 5), act: oneof(relu, none, gelu))
        stage: twice(8) -> twice(8)
        classify(5)
      }
    }
    """,
    wrap=False,
)


# Of the subsets 4 and at most one more (3); behind 2 one of 2 others; of the loop the kernel of the first width (2),
# with and without the second.
case(
    "with what subsets, orders and decided operators decide",
    3 * 2 * (2 * 2),
    """
    space test = base with {
      some[4]: true
      order[0]: 2
      c.kernels: [1, 3]
      for.w[4]: true
      for[1].conv.kernel: 3
    }
    space base {
      input 3 x 16 x 16
      let some = manyof(0..2, [4, 8, 12])
      let order = permute(2, [1, 2, 3])
      operator cell(out) {
        let kernels = [for x in inputs: oneof(1, 3)]
        sum([for i in 0..1: inputs[i] -> conv(out, kernel: kernels[i])])
      }
      let c = cell(8)
      network {
        a: conv(4 + sum(some))
        b: conv(4 * order[0], stride: order[1])
        branches(a, b -> resize(to: 1)) -> c
        for w in manyof(1..2, [4, 8]) { conv(w, kernel: oneof(1, 3)) }
        classify(10)
      }
    }
    """,
    wrap=False,
)

# Equal items by their number, operators by what tells them apart: 4 and the first 8; kernel 3 alone or with one of two.
case(
    "with items of subsets",
    1 * (1 + 2),
    """
    space test = base with {
      some[8][1]: false
      sum[conv(kernel: 3)]: true
    }
    space base {
      input 3 x 16 x 16
      let some = manyof(2..3, [4, 8, 8])
      network {
        conv(sum(some))
        sum(manyof(1..2, [conv(8), conv(8, kernel: 3), conv(8, kernel: 5)]))
        classify(10)
      }
    }
    """,
    wrap=False,
)

# --- The tests --------------------------------------------------------------------------------------------------------


def enumerated(graph: Graph) -> Iterator[dict[str, Any]]:
    """All architectures, by trying everything."""
    decisions = list(graph.decisions.values())
    wanted = [r.condition for r in structural(graph)]

    def fill(number: int, values: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if number == len(decisions):
            if all(holds(condition, values) for condition in wanted):
                yield dict(values)
            return
        decision = decisions[number]
        if not holds(decision.present, values):
            yield from fill(number + 1, values)
            return
        for value in decision.values():
            yield from fill(number + 1, {**values, decision.path: value})

    yield from fill(0, {})


@pytest.mark.parametrize("name", CASES)
def test_counts_as_derived_by_hand(name):
    assert count(CASES[name].graph).total == CASES[name].size


@pytest.mark.parametrize("name", [name for name, each in CASES.items() if each.size <= MOST_ENUMERATED])
def test_counts_as_enumerated(name):
    graph = CASES[name].graph
    assert sum(1 for _ in enumerated(graph)) == count(graph).total


@pytest.mark.parametrize("name", CASES)
def test_runs_and_extracts_to_the_same(name):
    graph = CASES[name].graph
    torch.manual_seed(1)
    network = Supernet(graph).eval()
    shape = graph.input.shape
    draws = [*sample(graph, 3, seed=1), feasible(graph)]
    for architecture in draws:
        assert isinstance(architecture, Architecture)
        network.activate(architecture)
        image = torch.randn(
            2, *(int(evaluate(part, architecture.indices)) for part in (shape.channels, shape.height, shape.width))
        )
        with torch.no_grad():
            whole = network(image)
            small = network.extract(architecture).eval()
            taken = small(image)
        assert torch.allclose(whole, taken, atol=1e-5), name
        plain = evaluated(small.graph)
        alone = small if plain is small.graph else Supernet(plain)
        assert sum(p.numel() for p in alone.parameters()) == cost_of(graph, architecture.indices)["params"]


def test_a_shortcut_is_there_where_the_shape_changes():
    text = "space test { input 3 x 16 x 16, network { conv(8), residual { conv(oneof(8, 16)) }, classify(10) } }"
    graph = elaborate(Source(text)).graph
    for option, shortcut in ((0, 0), (1, 8 * 16 + 2 * 16)):
        width = (8, 16)[option]
        body = 3 * 8 + 2 * 8 + 8 * width + 2 * width
        values = {next(iter(graph.decisions)): option}
        assert cost_of(graph, values)["params"] == body + shortcut + 10 * width + 10


def test_all_layers_of_an_operator_can_be_one_set_for_its_copies():
    body = "operator block() { conv(8, kernel: 3, bias: false) -> conv(8, kernel: 3, bias: false) }"
    for share, sets in ((", share: weights", 1), ("", 3), (", share: none", 3)):
        call = f"block({share.removeprefix(', ')})"
        text = f"space s {{ input 3 x 8 x 8\n {body}\n network {{ conv(8), repeat 3 {{ {call} }}, classify(2) }} }}"
        graph = elaborate(Source(text)).graph
        fixed = (3 * 8 + 2 * 8) + (8 * 2 + 2)
        assert cost_of(graph, {})["params"] == fixed + sets * 2 * (9 * 8 * 8 + 2 * 8)
        assert sum(p.numel() for p in Supernet(graph).parameters()) == cost_of(graph, {})["params"]


def test_labels_of_copies_carry_the_condition_of_the_copy():
    text = """space s {
      input 3 x 8 x 8
      let deep = oneof(1, 2, 3)
      network { conv(8), for i in 1..3 { c: conv(8, kernel: 3) if i <= deep else none }, sum(from: c), classify(2) }
    }"""
    graph = elaborate(Source(text)).graph
    for option in range(3):
        pinned = pin(graph, {"deep": option})
        assert sum(node.op == "conv" for node in pinned.nodes.values()) == 1 + 1 + option
        read = [edge.source for node in pinned.nodes.values() if node.op == "sum" for edge in node.inputs]
        assert len(read) == (1 + option if option else 0)  # a sum of one is that one


def test_library_operators_find_what_they_use_whichever_is_called_first():
    head = "retina(classes: 3, depth: 1, scales: [4], ratios: [1], level_norm: true)"
    slots = f"backbone: conv(8, kernel: 3, stride: 8), neck: fpn(levels: 3..4, out: 8), proposals: none, head: {head}"
    graph = elaborate(Source(f"space test {{ input 3 x 32 x 32, detector {{ {slots} }} }}")).graph
    assert sum(node.op == "relu" for node in graph.nodes.values()) == 2 * 2  # of two towers on two levels


@pytest.mark.parametrize(("levels", "count"), [("a", 1), ("branches(a, b)", 2), ("branches(a, b, c)", 3)])
def test_how_many_branches_come_in(levels, count):
    """`branches` without parentheses; one that a choice leaves out counts."""
    text = f"""
    space test {{
      input 3 x 64 x 64
      let late = oneof(false, true)
      operator told() {{
        let found = branches
        parallel {{ conv(8) }}
        concat(scale: 1/2)
        conv(10 * found)
      }}
      network {{
        a: conv(8, stride: 2)
        b: conv(8)
        c: conv(8) if late else none
        {levels} -> told() -> classify(10)
      }}
    }}
    """
    graph = elaborate(Source(text)).graph
    (head,) = [node for node in graph.nodes.values() if node.op == "classify"]
    assert graph.nodes[head.inputs[0].source].shape.channels == 10 * count


def test_what_is_gone_is_read_no_more():
    """A branch under one choice, read under another that excludes it: pinning the first takes its edges away, too."""
    text = """
    space test {
      input 3 x 64 x 64
      let levels = oneof(2, 3)
      let wide = oneof(narrow, broad)
      network {
        conv(8)
        for i in 1..3 { c: conv(8, stride: 2) if i <= levels else none }
        match wide { narrow: branches(c) -> mean() -> conv(8), broad: branches(c) -> parallel { conv(8) } -> mean() }
        classify(5)
      }
    }
    """
    graph = elaborate(Source(text)).graph
    for levels in (0, 1):
        for wide in (0, 1):
            for order in (("levels", "wide"), ("wide", "levels")):
                pinned = graph
                for path in order:
                    pinned = pin(pinned, {path: {"levels": levels, "wide": wide}[path]})
                    assert all(edge.source in pinned.nodes for node in pinned.nodes.values() for edge in node.inputs)
                assert cost_of(pinned, {}) == cost_of(graph, {"levels": levels, "wide": wide})
