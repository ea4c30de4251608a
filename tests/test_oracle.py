"""The compiler against a direct interpreter of the language, on whole programs."""

from __future__ import annotations

import os
from random import Random

import pytest

from tests.oracle.compare import compared
from tests.oracle.generate import program

PROGRAMS = int(os.environ.get("NASDSL_EXAMPLES", "100"))
GROUPS = 5

EQUAL = {
    "items of what was chosen": """
        let l = manyof(2, [4, 8, 12])
        let i = oneof(0, 1, -1)
        network {
          conv(l[0]) -> conv(l[1]) -> conv(l[-1]) -> conv(l[i])
          conv(max(l)) -> conv(min(l)) -> conv(sum(take(l, 1))) -> conv(sum(last(l, 1)))
          classify(2)
        }
    """,
    "items of values that are not always there": """
        operator block() {
          let w = oneof(4, 8)
          conv(w)
        }
        network {
          repeat oneof(1, 2) { block() }
          classify(2)
        }
        require block.w[-1] == 8
        require max(block.w) == sum(last(block.w, 1))
    """,
    "an operator used twice decides once": """
        let f(x) = oneof(x, 2 * x)
        operator block() {
          conv(f(4) + f(8))
          depthwise(kernel: oneof(1, 3)) -> depthwise(kernel: oneof(1, 3))
          repeat oneof(1, 2) { conv(8 * oneof(1, 2)) }
        }
        operator pair() {
          let b = block()
          b -> b
        }
        network {
          let p = pair()
          p -> p
          classify(2)
        }
    """,
    "a default that is an operator follows what it is computed from": """
        operator block(out) { conv(out, kernel: oneof(1, 3)) }
        operator f(out, inner = block(out) -> relu(), also = oneof(block(out), conv(out))) { inner -> also }
        network {
          let n = f(8)
          a: n(out: 16)
          b: n(out: 4, inner: conv(out: 6))
          n
          classify(2)
        }
    """,
    "steps of a residual that is a value": """
        operator block() { conv(oneof(8, 16)) }
        network {
          conv(8)
          concat(residual { block() }, conv(16))
          oneof(a: residual { conv(oneof(4, 8)) }, b: residual { conv(oneof(4, 8), kernel: 3) })
          let r = residual { conv(oneof(12, 16)) }
          r -> r
          classify(2)
        }
    """,
    "weights of a skip between widths by choice": """
        network {
          conv(oneof([4, 16, 12])) -> skip(8)
          conv(oneof(8, 16)) -> skip(16)
          conv(oneof(4, 8)) -> skip(oneof(8, 12), stride: oneof(1, 2))
          classify(2)
        }
    """,
    "weights of a convolution in groups by choice": """
        network {
          conv(8) -> conv(8, kernel: 3, groups: oneof(1, 2, 4))
          let w = oneof(4, 6)
          conv(w) -> conv(12, groups: match w { 4: 4, 6: 3 })
          classify(2)
        }
    """,
    "weights with and without a norm or a bias": """
        network {
          conv(8, norm: oneof(batch, none)) -> conv(8, norm: oneof(none, batch), bias: oneof(false, true))
          depthwise(norm: oneof(none, batch))
          global_pool() -> linear(4, bias: oneof(false, true))
        }
    """,
    "weights with a norm of groups, a frozen one, or none": """
        network {
          conv(8, norm: oneof(none, group), norm_groups: oneof(2, 4)) -> conv(8, norm: oneof(frozen, none))
          depthwise(norm: group, norm_groups: oneof(1, 8), standardise: oneof(true, false))
          norm(oneof(none, group), norm_groups: 2) -> classify(2)
        }
    """,
    "the value before of a let that two bodies make": """
        operator twice() {
          let w = oneof(8, 16)
          repeat 2 {
            let w = previous(w, else: 4) + 4
            conv(w)
          }
          conv(w)
        }
        network { twice() -> twice() -> classify(2) }
    """,
    "the value before in an operator that uses itself": """
        operator narrower(n) {
          let w = oneof(8, 16)
          require w <= previous(w, else: 16)
          conv(w)
          match n { 0: identity(), else: narrower(n - 1) }
        }
        network { narrower(2) -> classify(2) }
    """,
    "the value before over uses that may be absent": """
        operator step() {
          let w = [oneof(8, 16), oneof(1, 3)]
          let before = previous(w, else: [8, 3])
          require w[0] >= before[0]
          conv(w[0], kernel: w[1])
        }
        network { repeat oneof(1, 2) { step() } -> step() -> classify(2) }
    """,
    "joined lists of decisions": """
        let w = [oneof(8, 16)] + [24, oneof(4, 8)]
        network { for i in w { conv(i) }, classify(2) }
    """,
    "a sum that starts from labels": """
        network {
          a: conv(8)
          b: oneof(conv(8, kernel: oneof(1, 3)), none)
          c: (a -> conv(8)) + b
          classify(2)
        }
    """,
    "a decision is made once where it is matched or chosen from": """
        network {
          match oneof(1, 2) { else: conv(8) }
          conv(manyof(1, [oneof(4, 8), 12])[0])
          classify(2)
        }
    """,
    "sums of those tensors that are chosen": """
        operator cell(k) {
          a: conv(4)
          b: conv(8)
          c: conv(8, kernel: 3)
          sum(from: manyof(1, earlier)) -> conv(in)
          mean(from: manyof(1, earlier))
        }
        network { cell(1) -> classify(2) }
    """,
    "alternatives by their labels": """
        network {
          conv(8)
          let o = oneof(a: conv(8), b: conv(16))
          o
          match o { a: conv(4), b: identity() }
          conv(4 if o == a else 8)
          classify(2)
        }
    """,
    "every item of an order is covered": """
        let l = permute([small, large, small])
        network {
          for w in permute([small, large]) { match w { small: conv(4), large: conv(8) } }
          match l[0] { small: conv(4), large: conv(8) }
          classify(2)
        }
    """,
    "a skip of a vector has no stride": "network { global_pool() -> skip(3, stride: 2) -> linear(4) }",
    "the first alternative is none": """
        operator f() {
          a: oneof(none, conv(4))
          b: conv(4)
          sum(from: unused)
        }
        network { conv(4) -> f() -> classify(2) }
    """,
    "a searched list may hold a value": """
        operator f() {
          let w = oneof(4, 8)
          conv(w)
        }
        network { repeat oneof(1..3) { f() }, classify(2) }
        require 4 in f.w and 8 in last(f.w, 1)
    """,
    "decisions inside conditions go by the nearest let": """
        let b = not oneof(true, false)
        let c = oneof(1, 2) == 1 and 2 in [oneof(2, 3)]
        let w = 4 if oneof(true, false) else match oneof(1, 2) { 1: 8, 2: [12, 16][oneof(0, 1)] }
        network {
          conv(8 if b implies c else 4) -> conv(w)
          classify(2)
        }
    """,
    "a part without a value that nothing asks for": """
        let k = oneof(0, 2)
        network {
          conv(8 / k if k > 0 else 4)
          classify(2)
        }
        require k == 0 or 8 / k > 3
    """,
    "an even kernel that no architecture has": """
        let k = oneof(1, 2, 3, 4)
        network {
          conv(8, kernel: k)
          classify(2)
        }
        require k != 2 and k != 4
    """,
    "words that hang on others are covered": """
        let c = oneof(a, b)
        let d = match c { a: oneof(c1, c2), b: c3 }
        network {
          match d { c1: conv(4), c2: conv(8), c3: conv(12) }
          classify(2)
        }
    """,
    "a default that decided nothing follows the other arguments": """
        operator cell(out, mid = 2 * out) { conv(mid) -> conv(out) }
        let c = cell(oneof(4, 8))
        network { c(out: 16) -> c -> classify(2) }
    """,
    "an operator with other arguments, or none": """
        operator cell(out) { conv(out) }
        let o = oneof(none, cell(8))
        network { conv(8) + o(out: 8) -> classify(2) }
    """,
    "a sum as a value where nothing comes in": """
        let o = conv(8) + conv(8, kernel: 3)
        network { conv(8) -> conv(8) + { oneof(none, conv(8)) -> o } -> classify(2) }
    """,
    "the first of those that come in": """
        operator cell() {
          let x = inputs[0]
          x -> conv(inputs[-1].width)
        }
        network {
          a: conv(8, kernel: 3)
          b: oneof(none, conv(12))
          [b, a] -> cell()
          n: [a, b] -> cell()
          earlier[oneof(0, -1)] -> conv(4)
          classify(2)
        }
    """,
    "a loop over some of those that come in": """
        operator cell() { for x in inputs { x -> conv(8) } }
        network {
          a: conv(8)
          b: oneof(none, conv(8))
          [b, a] -> cell()
          for x in [a, b] { concat(x, conv(4)) }
          classify(2)
        }
    """,
    "the widths of those copies that are there": """
        network {
          repeat oneof(1, 2) { n: conv(8) }
          conv(sum([for x in n: x.width]))
          conv(length(n)) -> classify(2)
        }
    """,
    "places of items that may be missing": """
        operator cell(out) {
          let kernels = [for x in inputs: oneof(1, 3)]
          for i in manyof(1..2, [0, 1]) { n: inputs[0] -> conv(out, kernel: kernels[-1]) }
          concat(from: last(earlier, 1))
        }
        let c = cell(4)
        network {
          a: conv(4)
          b: oneof(none, conv(8))
          s: [b, a] -> c
          [s, b] -> c(out: 8) -> classify(2)
        }
    """,
    "a cell that is decided once, on the two before": """
        operator cell(out, k = oneof(1, 3)) {
          let kinds = [for x in inputs: oneof(none, small, large)]
          require count([for kind in kinds: kind != none]) == 1
          for x in inputs { n: x -> conv(out, kernel: k) }
          sum([for i in 0..1: earlier[i] -> match kinds[i] {
            none: none
            small: conv(out)
            large: conv(out, kernel: 3)
          }])
        }
        let c = cell(8)
        network {
          a: conv(4)
          b: conv(12)
          for i in 0..1 { m: last(earlier, 2) -> c(out: 4 * (i + 1)) }
          for x in last(earlier, 2) { y: x -> conv(8, kernel: oneof(1, 3)) }
          concat(from: earlier) -> classify(2)
        }
    """,
    "other arguments for defaults that decide, and orders that are matched": """
        operator block(out, mid = 2 * out, stride = oneof(1, 2), part = conv(mid)) { part -> conv(out, stride: stride) }
        let b = block(4)
        network {
          b(8), b(8, mid: 4), b(stride: 1), b
          let w = b(12)
          w(part: conv(4, kernel: oneof(1, 3))), w
          let orders = permute(2, [small, large, wide])
          match orders[0] { small: conv(4), large: conv(8), wide: conv(12) }
          for o in orders { match o { small: conv(4), large: conv(8, kernel: oneof(1, 3)), wide: conv(12) } }
          for i in [for j in 1..oneof(1, 2): 2 * j] { conv(4 * i) }
          classify(2)
        }
    """,
    "labelled tensors of copies that may be missing": """
        operator cell() {
          repeat oneof(1, 2) { s: concat() -> conv(8) -> branches(identity(), [for x in earlier: x]) -> concat() }
          let ws = [for x in earlier: x.width]
          require max(ws) <= 40 and length(ws) >= 1
          concat(from: last(earlier, 2))
          conv(4 * length(ws) + sum(ws) - ws[-1])
        }
        network {
          a: conv(4)
          b: oneof(conv(4), none)
          [a, b] -> cell() -> cell()
          classify(2)
        }
    """,
    "branches of which a choice leaves one out": """
        operator cell(out) { mean([for x in inputs: x -> conv(out) -> resize(to: 1/2)]) }
        operator pyramid() { parallel { conv(inputs[0].width + 4) } }
        network {
          a: conv(4)
          b: a -> conv(8, stride: 2)
          c: match oneof(on, off) { on: b -> conv(4, stride: 2), off: none }
          let tops = [a, b, c]
          tops -> pyramid() -> parallel { repeat oneof(1, 2) { conv(width) } } -> concat() -> conv(4)
          d: tops -> cell(8)
          [tops[0], d] -> cell(4)
          branches(a, tops) -> cell(oneof(4, 8))
          branches(conv(4), [a, b], branches(d, conv(4) -> conv(8))) -> concat(from: inputs)
          classify(2)
        }
    """,
    "one of several operators, used with other arguments": """
        operator block(out, stride = 1) { residual { conv(out, stride: stride, kernel: oneof(1, 3)) } }
        network {
          conv(4)
          let op = oneof(block(4), conv(4), deep: block(4, stride: 2))
          for i in 1..2 { op(out: 4 * i) }
          repeat oneof(0, 1) { op(stride: 1) }
          let p = op(stride: 2)
          p(out: 12)
          classify(2)
        }
    """,
    "a cell used three times, on sets of branches that differ": """
        operator cell(out) {
          let ks = [for x in inputs: 2 * oneof(0, 1) + 1]
          repeat oneof(1, 2) {
            let w = previous(w, else: out) + 4
            s: sum([for x in inputs: x -> conv(w)]) -> conv(out, kernel: max(ks))
          }
          for x in last(earlier, 1) { x -> conv(out + length(ks)) }
        }
        let c = cell(4)
        network {
          a: conv(4)
          b: oneof(none, conv(8))
          [a, b] -> c
          d: [b] -> c(out: 8) if oneof(true, false) else identity()
          [a, b, d] -> c
          classify(2)
        }
        require max(cell.w) <= 16
    """,
    "branches and copies up to a decision": """
        network {
          a: conv(4)
          b: a -> conv(4, stride: 2)
          let k = oneof(1, 2)
          lanes: branches(a, b)
          for i in 1..k { lanes: parallel { conv(width + 4 * i, kernel: oneof(1, 3)) } }
          top: parallel { for j in 1..k { conv(width, kernel: 3) } }
          sum([for x in inputs: x -> conv(8)], top -> concat() -> conv(8))
          { repeat k { e: conv(8) } -> mean(from: [earlier[-1]]) } if k > 1 else conv(8)
          classify(2)
        }
    """,
    "some of those that come in, and their widths": """
        operator mix(n) {
          let chosen = manyof(1..n, inputs)
          let ws = [for x in chosen: x.width]
          require ws[0] >= 8 or length(ws) > 1
          sum([for x in chosen: x -> conv(max(ws))])
        }
        network {
          a: conv(4)
          b: conv(oneof(8, 12))
          c: conv(16)
          d: [a, b, c] -> mix(2)
          let m = mix(1)
          [a, d] -> m -> conv(8)
          [b, c] -> m(n: 2)
          classify(2)
        }
    """,
    "what search units leave": """
        operator se2(out) = residual { conv(out) -> se() }
        operator gate(out) {
          x: mixconv(out, hidden: { 3: units(2), 5: units(1) })
          sum([for y in earlier: y -> conv(out)], identity() -> conv(out))
          for z in earlier { z -> conv(out) -> conv(4) }
          concat(from: inputs)
        }
        network {
          a: conv(4)
          let g = gate(4)
          [a] -> g -> g(out: 8)
          classify(2)
        }
    """,
    "heads in the middle, with choices in them and around them": """
        operator cell(out) {
          let w = previous(w, else: 4) + oneof(0, 4)
          a: conv(w)
          b: conv(out)
          auxiliary(weight: 1/3) {
            c: conv(w) + oneof(none, conv(w, kernel: 3))
            auxiliary(weight: 2) { conv(oneof(4, 8)) -> classify(2) }
            concat(from: unused) -> classify(3)
          }
          concat(from: unused)
        }
        let c = cell(4)
        network {
          auxiliary(weight: 0.4) { c -> conv(4) -> classify(2) }
          c
          { oneof(none, conv(4)) -> auxiliary({ conv(8, kernel: oneof(1, 3)) -> classify(3) }, weight: 1) } + conv(4)
          oneof(identity(), auxiliary(weight: 1) { oneof(none, conv(4)) -> classify(2) })
          classify(2)
        }
        require sum(cell.w) <= 8 and length(cell.w) == 1
    """,
    "a head in the middle of each copy": """
        network {
          repeat oneof(1, 2) {
            a: conv(4)
            auxiliary(weight: 1) {
              s: conv(4, kernel: oneof(1, 3))
              t: conv(8)
              s -> classify(2)
            }
          }
          concat(from: earlier)
          residual { mixconv(in, hidden: { 3: units(2) }) -> auxiliary(classify(2), weight: 1) }
          classify(2)
        }
    """,
    "one tensor, and then two, into what is decided once": """
      operator op1(out) {
      for x in inputs { n: x -> conv(out, kernel: oneof(1, 3)) }
      concat(from: earlier)
      }
      let o5 = op1(8)
      network {
      conv(8)
      s6: o5(out: 4)
      s7: o5(out: 8)
      s8: last(earlier, 2) -> o5(8)
      classify(4)
      }
    """,
}
REFUSED = {
    "an item that nothing may be, asked for by a requirement": """
        let some = manyof(0..1, [4, 8])
        network { conv(8) -> classify(2) }
        require some[0] != 8
    """,
    "an item that was not chosen": "let l = manyof(1, [4, 8])\n network { conv(l[1]) -> classify(2) }",
    "an item that is not always there": """
        operator block() {
          let w = oneof(4, 8)
          conv(w)
        }
        network {
          repeat oneof(1, 2) { block() }
          classify(2)
        }
        require block.w[1] == 8
    """,
    "the mean of different widths": """
        operator cell() {
          a: conv(4)
          b: conv(8)
          mean(from: manyof(2, [a, b, a]))
        }
        network { cell() -> classify(2) }
    """,
    "words that hang on others are not covered": """
        let c = oneof(a, b)
        let d = match c { a: oneof(c1, c2), b: c3 }
        network {
          match d { c1: conv(4), c2: conv(8) }
          classify(2)
        }
    """,
    "the most of nothing": """
        operator block() {
          let w = oneof(4, 8)
          conv(w)
        }
        network {
          repeat oneof(0, 1) { block() }
          classify(2)
        }
        require max(block.w) == 8
    """,
}
"""Programs of which the compiler once said something else than they mean."""


def whole(body: str) -> str:
    return f"space s {{\n input 3 x 8 x 8\n {body}\n}}\n"


@pytest.mark.parametrize("name", EQUAL)
def test_these_programs_mean_what_they_say(name):
    outcome = compared(whole(EQUAL[name]), 0, network=True)
    assert outcome.state == "equal", f"{outcome.kind}: {outcome.detail}"


@pytest.mark.parametrize("name", REFUSED)
def test_these_programs_are_refused(name):
    outcome = compared(whole(REFUSED[name]), 0)
    assert outcome.state == "refused", f"{outcome.kind}: {outcome.detail}"


@pytest.mark.parametrize("group", range(GROUPS))
def test_programs_mean_what_the_interpreter_says(group):
    """Accepted or refused, counts, members, costs, extremes, layers, draws, pins, budgets; some are built and run."""
    share = -(-PROGRAMS // GROUPS)
    for seed in range(group * share, (group + 1) * share):
        text = program(Random(seed))
        outcome = compared(text, seed, network=seed % 20 == 0)
        assert outcome.state != "differs", f"{outcome.kind}: {outcome.detail}\n{text}"
