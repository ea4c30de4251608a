"""Equal rows and equal functions: against plain Python, random functions, torch, and the table of NAS-Bench-201."""

from __future__ import annotations

import csv
import gzip
import itertools
import random
from collections import defaultdict
from collections.abc import Hashable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from nasdsl.compiler.arrays import identity
from nasdsl.compiler.arrays.encoding import Encoding
from nasdsl.compiler.arrays.identity import Fingerprints, fingerprints, hashes, unique
from nasdsl.compiler.graph import Graph, Shape
from nasdsl.compiler.ops import CATALOGUE
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source
from nasdsl.compiler.values.tree import evaluate
from nasdsl.testing.operators import attrs_of, build, random_input
from tests.test_ops import SETTINGS


def graph_of(body: str, declarations: str = "") -> Graph:
    size = "" if "input" in declarations else "input 3 x 16 x 16"
    text = f"space s {{\n{size}\n{declarations}\nnetwork {{\n{body}\n}} }}"
    return elaborate(Source(text)).graph


def everything(graph: Graph) -> NDArray[np.int8]:
    """All rows of a space whose decisions are choices that are always there."""
    sizes = [range(d.n) for d in graph.decisions.values()]
    assert all(d.kind == "choice" and d.present is True for d in graph.decisions.values())
    return np.asarray(list(itertools.product(*sizes)), np.int8)


def classes(keys: Sequence[Hashable] | NDArray[Any]) -> set[frozenset[int]]:
    """A partition of the row numbers."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for row, key in enumerate(keys.tolist() if isinstance(keys, np.ndarray) else keys):
        groups[key].append(row)
    return set(map(frozenset, groups.values()))


# --- rows -------------------------------------------------------------------------------------------------------------

MASK = 2**64 - 1


def mixed(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & MASK
    return x ^ x >> 31


@given(st.lists(st.lists(st.integers(-1, 100), min_size=5, max_size=5), max_size=30))
def test_hashes_are_sums_of_products(rows: list[list[int]]) -> None:
    expected = [mixed((sum(v * (mixed(i) | 1) for i, v in enumerate(row)) + 5) & MASK) for row in rows]
    matrix = np.asarray(rows, np.int8).reshape(-1, 5)
    for same in (matrix, matrix.astype(np.int16), matrix.astype(np.int32)):
        assert hashes(same).tolist() == expected


def test_different_rows_have_different_hashes() -> None:
    near = np.asarray(list(itertools.product(range(-1, 3), repeat=8)), np.int8)
    assert len(np.unique(hashes(near))) == len(near)
    rng = np.random.default_rng(0)
    far = np.unique(rng.integers(0, 2, (2000, 300), np.int8), axis=0)
    flipped = far.copy()
    flipped[np.arange(len(far)), rng.integers(0, 300, len(far))] ^= 1
    both = np.unique(np.concatenate([far, flipped]), axis=0)
    assert len(np.unique(hashes(both))) == len(both)
    assert len({hashes(np.zeros((1, n), np.int8))[0] for n in range(50)}) == 50


@pytest.mark.parametrize("collide", [False, True])
def test_unique_rows_are_told_in_order(collide: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if collide:
        monkeypatch.setattr(identity, "hashes", lambda matrix: np.zeros(len(matrix), np.uint64))
    rng = np.random.default_rng(1)
    matrix = rng.integers(0, 3, (500, 4)).astype(np.int8)
    rows, index, inverse = unique(matrix)
    seen = list(dict.fromkeys(map(tuple, matrix.tolist())))
    assert list(map(tuple, rows.tolist())) == seen
    assert index.tolist() == [list(map(tuple, matrix.tolist())).index(row) for row in seen]
    assert np.array_equal(rows[inverse], matrix)
    assert [len(part) for part in unique(matrix[:0])] == [0, 0, 0]
    assert len(unique(np.zeros((3, 0), np.int8))[0]) == 1


# --- functions --------------------------------------------------------------------------------------------------------

CELL = """
operator edge() = oneof(
  none: zero()
  skip_connect: identity()
  nor_conv_1x1: conv(in, kernel: 1, order: [act, conv, norm])
  nor_conv_3x3: conv(in, kernel: 3, order: [act, conv, norm])
  avg_pool_3x3: avg_pool(3)
)
fusion edges { same: edge(), merge: sum() }
operator cell() {
  n0: identity()
  n1: fuse(edges, from: earlier)
  n2: fuse(edges, from: earlier)
  n3: fuse(edges, from: earlier)
}
"""
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


@cache
def cell() -> tuple[Graph, NDArray[np.int8]]:
    """NAS-Bench-201's cell on an input, and all of its 15,625 rows."""
    graph = graph_of("stem: conv(8)\ncell()", CELL)
    assert [path.rpartition(".")[0] for path in graph.decisions] == [
        f"cell.n{target}[n{source}]" for target in (1, 2, 3) for source in range(target)
    ]
    assert all(d.labels == OPERATIONS for d in graph.decisions.values())
    return graph, everything(graph)


def values_of_cells(matrix: NDArray[np.int8], shift: bool) -> list[Hashable]:
    """What each cell makes of one vector where every operator is a random function of its kind, to seven digits."""
    rng = np.random.default_rng(0)
    weights = {op: rng.normal(size=(4, 4)) for op in OPERATIONS}
    shifts = {op: rng.normal(size=4) * (shift and op.startswith("nor_conv")) for op in OPERATIONS}

    def out(op: str, x: NDArray[Any]) -> NDArray[Any]:
        if op == "none":
            return np.zeros(4)
        if op == "skip_connect":
            return x
        y = weights[op] @ x
        return y if op == "avg_pool_3x3" else np.sin(3 * y) + shifts[op]

    start = rng.normal(size=4)

    @cache
    def first(a: str) -> NDArray[Any]:
        return out(a, start)

    @cache
    def second(a: str, b: str, c: str) -> NDArray[Any]:
        return out(b, start) + out(c, first(a))

    keys: list[Hashable] = []
    for row in matrix.tolist():
        a, b, c, d, e, f = (OPERATIONS[i] for i in row)
        total = out(d, start) + out(e, first(a)) + out(f, second(a, b, c))
        keys.append(tuple((np.round(total, 7) + 0.0).tolist()))
    return keys


@pytest.mark.parametrize(("shift", "number"), [(True, 5269), (False, 4660)])
def test_cells_are_equal_where_random_functions_are(shift: bool, number: int) -> None:
    graph, matrix = cell()
    found = classes(fingerprints(graph, matrix, shift))
    assert found == classes(values_of_cells(matrix, shift))
    assert len(found) == number


def as_published(row: Sequence[int]) -> str:
    """A cell as the benchmark names it."""
    a, b, c, d, e, f = (OPERATIONS[i] for i in row)
    return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"


def written(row: Sequence[int]) -> str:
    """A cell as the benchmark tells cells apart: by its expression as text."""
    ops = iter(OPERATIONS[i] for i in row)
    nodes = ["0"]
    for target in (1, 2, 3):
        terms = []
        for source in range(target):
            op, x = next(ops), nodes[source]
            if op == "none" or x == "#":
                terms.append("#")
            else:
                terms.append(x if op == "skip_connect" else f"({x})@{op}")
        nodes.append("+".join(sorted(terms)))
    return nodes[-1]


def test_the_published_classes_are_those_of_texts_and_ours_join_them(shared_data: Path) -> None:
    """Equal texts are equal functions. The other way round zeros, brackets or pooled sums may stand in the way."""
    with gzip.open(shared_data / "nasbench201.csv.gz", "rt") as file:
        published = {row["arch"]: row["canonical"] for row in csv.DictReader(file)}
    graph, matrix = cell()
    texts = [published[as_published(row)] for row in matrix.tolist()]
    assert texts == [written(row) for row in matrix.tolist()]
    assert len(set(texts)) == 6466
    ours = fingerprints(graph, matrix, shift=False).tolist()
    assert len(set(zip(texts, ours, strict=True))) == 6466  # no text has two functions
    several: dict[int, set[str]] = defaultdict(set)
    for text, function in zip(texts, ours, strict=True):
        several[function].add(text)
    for group in several.values():
        assert len({"+".join(terms(text)) for text in group}) == 1


def terms(text: str) -> list[str]:
    """The terms of a sum in order, those of the sums inside likewise: without zeros, and with pooled sums as sums."""
    found: list[str] = []
    depth, start = 0, 0
    for i, sign in enumerate(text + "+"):
        depth += (sign == "(") - (sign == ")")
        if sign == "+" and depth == 0:
            found.append(text[start:i])
            start = i + 1
    kept: list[str] = []
    for term in found:
        if term.startswith("("):
            inside, _, op = term.rpartition("@")
            inner = terms(inside[1:-1])
            if op == "avg_pool_3x3":
                kept += [f"({part})@{op}" for part in inner]
            elif inner:
                kept.append(f"({'+'.join(inner)})@{op}")
        elif term != "#":
            kept.append(term)
    return sorted(kept)


def assert_classes(graph: Graph, expected: list[Any], shift: bool = True) -> None:
    found = fingerprints(graph, everything(graph), shift)
    assert classes(found) == classes(expected)


def test_what_passes_its_input_on_is_not_there() -> None:
    same = "identity(), skip(4), avg_pool(1), max_pool(kernel: 1), upsample(to: 1/2), resize(1/2), conv(4)"
    graph = graph_of(f"conv(4, stride: 2)\noneof({same})\nrelu()")
    assert_classes(graph, ["x"] * 6 + ["conv"])
    graph = graph_of("conv(4)\nrelu() -> avg_pool(oneof(1, 3)) -> skip(oneof(4, 8))")
    assert_classes(graph, ["x", "wider", "pooled", "pooled, wider"])


def test_settings_count_by_value_wherever_they_stand() -> None:
    graph = graph_of(
        "stem: conv(4)\nblock: oneof(conv(oneof(4, 8), kernel: 3), conv(4, kernel: 3), conv(8, kernel: 1))\nconv(4)"
    )
    encoding = Encoding(graph.decisions)
    op, width = graph.decisions
    matrix = encoding.encode([{op: 0, width: 0}, {op: 0, width: 1}, {op: 1}, {op: 2}])
    assert classes(fingerprints(graph, matrix)) == classes(["4 3", "8 3", "4 3", "8 1"])


def test_sums_have_no_order_and_no_brackets() -> None:
    either = "oneof(relu(), tanh())"
    graph = graph_of(f"conv(4)\n{{ {either} + {either} + {{ {either} + sigmoid() }} }}")
    assert_classes(graph, [tuple(sorted(key)) for key in itertools.product("rt", repeat=3)])


def test_concatenation_has_an_order() -> None:
    graph = graph_of(f"x: conv(4)\na: x -> {EITHER}\nb: x -> {EITHER}\nconcat(from: [a, b])")
    assert_classes(graph, list(itertools.product("r0", repeat=2)))


def test_a_mean_has_no_order_but_counts_its_terms() -> None:
    graph = graph_of(f"x: conv(4)\na: x -> {EITHER}\nb: x -> {EITHER}\nmean(from: [a, b])")
    assert_classes(graph, ["r r", "r 0", "r 0", "0 0"])


EITHER = "oneof(relu(), zero())"


def test_terms_of_another_size_are_resized_to_the_first() -> None:
    smaller = "zero(), zero(stride: 2) -> upsample(2), relu(), max_pool(3, stride: 2) -> upsample(2)"
    either = f"oneof({smaller})"
    declared = "input 3 x 15 x 15"
    graph = graph_of(f"conv(4)\n{{ {either} + {either} }}", declared)
    meant = {0: ("0", 15), 1: ("0", 16), 2: ("relu", 15), 3: ("pool", 16)}
    expected = []
    for first, second in itertools.product(range(4), repeat=2):
        (a, size), (b, other) = meant[first], meant[second]
        term = b if b == "0" or other == size else f"{b} to {size}"
        expected.append((size, tuple(sorted(t for t in (a, term) if t != "0"))))
    assert_classes(graph, [key if key[1] else "0" for key in expected])  # of zeros the size is not told
    followed = graph_of(f"conv(4)\n{{ {either} + {either} }}\nconv(4)", declared)
    assert_classes(followed, expected)  # but a convolution makes something of them, of their size


def test_zeros_are_kept_as_declared() -> None:
    heads = [
        ("conv(4)", False, True),
        ("conv(4, norm: none, bias: false)", True, True),
        ("conv(4, norm: none)", False, False),
        ("conv(4, act: sigmoid)", False, False),
        ("mixconv(4, hidden: { 3: 4 })", False, True),
        ("max_pool(3)", True, True),
        ("sigmoid()", False, False),
        ("norm()", False, True),
        ("norm(group, norm_groups: 2)", False, True),
        ("norm(frozen)", False, False),
        ("norm(none)", True, True),
        ("conv(4, norm: group, norm_groups: 2, kernel: 3, standardise: true)", False, True),
        ("conv(4, norm: frozen)", False, False),
    ]
    for step, strictly, without_shift in heads:
        graph = graph_of(f"conv(4)\nresidual {{ zero() -> {step} }} + oneof(identity(), zero())")
        plain = graph_of("conv(4)\nresidual { zero() } + oneof(identity(), zero())")
        for shift, kept in ((True, strictly), (False, without_shift)):
            mine, theirs = (fingerprints(g, everything(g), shift) for g in (graph, plain))
            assert np.array_equal(mine, theirs) == kept, (step, shift)


def test_only_shared_weights_count() -> None:
    free = graph_of("conv(4)\nrepeat 2 { oneof(conv(4, kernel: 3), identity()) }")
    assert_classes(free, ["two", "one", "one", "none"])
    tied = graph_of(
        "conv(4)\na: oneof(conv(4, kernel: 3), identity())\nrepeat 2 { b: oneof(c: conv(4, kernel: 3, share: weights), "
        "identity()) }"
    )
    found = fingerprints(tied, everything(tied))
    assert len(classes(found)) == 6  # the free one or not, then none, one or two of the shared ones
    pools = graph_of("conv(4)\nrepeat 2 { oneof(avg_pool(3, share: weights), identity()) }")
    assert_classes(pools, ["two", "one", "one", "none"])


def test_units_count_by_how_many_are_kept() -> None:
    graph = graph_of("conv(4)\nmixconv(4, hidden: { 3: units(3), 5: units(3) })")
    encoding = Encoding(graph.decisions)
    three, five = graph.decisions
    kept = [(), (0,), (2,), (0, 1), (1, 2), (0, 1, 2)]
    rows = [{three: a, five: b} for a, b in itertools.product(kept, repeat=2) if a or b]
    found = fingerprints(graph, encoding.encode(rows))
    assert classes(found) == classes([(len(row[three]), len(row[five])) for row in rows])


def test_depth_and_absent_decisions_do_not_matter() -> None:
    graph = graph_of("conv(4)\nrepeat oneof(1, 2, 3) { oneof(conv(4), identity()) }")
    depth, *ops = graph.decisions
    encoding = Encoding(graph.decisions)
    rows = [
        {depth: n, **dict(zip(ops, chosen, strict=False))}
        for n in range(3)
        for chosen in itertools.product((0, 1), repeat=n + 1)
    ]
    found = fingerprints(graph, encoding.encode(rows))
    assert classes(found) == classes([sum(row[op] == 0 for op in ops if op in row) for row in rows])


def test_chunks_and_machines_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, matrix = cell()
    rows = matrix[::97]
    whole = fingerprints(graph, rows)
    monkeypatch.setattr(identity, "_CELLS", 1)
    assert np.array_equal(Fingerprints(graph)(rows), whole)
    assert whole[:2].tolist() == EXPECTED
    assert fingerprints(graph, rows[:0]).shape == (0,)
    with pytest.raises(ValueError, match="6 signed integers"):
        fingerprints(graph, rows[:, :5])


EXPECTED = [9405997083680115952, 12363768799122797908]


# --- what operators declare, against torch ----------------------------------------------------------------------------

COMPLETE = ("conv", "depthwise", "skip", "se", "norm", "mixconv", "linear", "sigmoid", "relu", "avg_pool", "max_pool")


def settle(module: nn.Module, shift: bool) -> nn.Module:
    """As after training; without shifts as in training on zeros, whose mean is zero."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for part in module.modules():
            norm = isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm)
            for name, tensor in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)):
                if norm and not shift and name in ("bias", "running_mean"):
                    tensor.zero_()
                elif tensor.dim() == 1 and tensor.dtype == torch.float32:
                    tensor.uniform_(0.5, 1.5, generator=generator)
    return module.eval()


@pytest.mark.parametrize("number", range(len(SETTINGS)))
def test_declared_identities_hold_in_torch(number: int) -> None:
    name, inputs, given = SETTINGS[number]
    op = CATALOGUE[name]
    attrs = attrs_of(op, given)
    identities = op.identities
    output = op.shape(inputs, attrs)
    torch.manual_seed(0)
    tensors = [random_input(x) for x in inputs]
    passes = evaluate(identities.passes(inputs, output, attrs), {})
    for shift in (True, False):
        module = settle(build(op, inputs, attrs), shift)
        with torch.no_grad():
            if passes:
                assert torch.equal(module(*tensors), tensors[0])
            elif name in COMPLETE and inputs[0] == output:
                assert not torch.equal(module(*tensors), tensors[0])
            if identities.zero:
                assert not module(*tensors).any()
            kept = evaluate(identities.keeps_zero(attrs, shift), {})
            if kept:
                assert not module(*map(torch.zeros_like, tensors)).any()
            elif name in COMPLETE:
                assert module(*map(torch.zeros_like, tensors)).any()
            if identities.linear:
                more = [random_input(x) for x in inputs]
                both = module(*(x + y for x, y in zip(tensors, more, strict=True)))
                assert torch.allclose(both, module(*tensors) + module(*more), atol=1e-5)
            if identities.commutes and len({(x.height, x.width) for x in inputs}) == 1:
                turned = module(*reversed(tensors))
                assert torch.allclose(module(*tensors), turned, atol=1e-6)


@pytest.mark.parametrize("name", [name for name, op in CATALOGUE.items() if op.doc.startswith("activation: ")])
def test_activations_declare_what_they_make_of_zero(name: str) -> None:
    op = CATALOGUE[name]
    shape = Shape(3, 4, 4, 1)
    module = build(op, [shape], {})
    assert evaluate(op.identities.keeps_zero({}, True), {}) == (not module(torch.zeros(1, 3, 4, 4)).any())


def test_random_rows_of_a_space_with_everything_differ() -> None:
    graph = graph_of(
        "conv(8)\nblock: repeat oneof(1, 2) { residual { conv(oneof(8, 16), kernel: oneof(3, 5)) -> conv(8) } }\n"
        "pool: oneof(max_pool(3), avg_pool(3))\nclassify(classes: 3)"
    )
    rng = random.Random(0)
    encoding = Encoding(graph.decisions)
    rows = []
    for _ in range(200):
        depth = rng.randrange(2)
        rows.append({p: rng.randrange(d.n) for p, d in graph.decisions.items() if "[1]" not in p or depth})
        rows[-1]["block.depth"] = depth
    matrix = unique(encoding.encode(rows))[0]
    assert len(np.unique(fingerprints(graph, matrix))) == len(matrix)
