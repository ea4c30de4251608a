"""Architectures as rows: against the scalar code row by row, plain enumeration, and counting."""

from __future__ import annotations

import inspect
import itertools
import math
import random
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from nasdsl import spaces
from nasdsl.compiler import cost
from nasdsl.compiler.architecture import Architecture, ArchitectureError
from nasdsl.compiler.architecture import canonical as canonical_value
from nasdsl.compiler.arrays import vector
from nasdsl.compiler.arrays.encoding import ABSENT, Encoding, Inside, draw_inside, locate, tidy
from nasdsl.compiler.arrays.evaluator import Evaluator
from nasdsl.compiler.arrays.vector import Program, evaluate_rows
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.engine import cells
from nasdsl.compiler.engine.cells import cells_of
from nasdsl.compiler.engine.limits import TooWide, bounded
from nasdsl.compiler.graph import Graph, Requirement
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Value, add, at_most, equal, less
from nasdsl.compiler.values.function import FUNCTIONS, Function
from nasdsl.compiler.values.plain import ABSENT as ABSENT_VALUE
from nasdsl.compiler.values.plain import Symbol, is_number
from nasdsl.compiler.values.tree import Apply, Case, Expr, Has, Kept, Slot, Total, among, evaluate, value_at
from tests import shipped
from tests.enumeration import conditions, cost_of, decisions, enumerate_all, graphs, measured, numbers, space, worth

thorough = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def choice(path: str, n: int, **more: Any) -> Decision:
    return Decision(path, "choice", tuple(range(n)), **more)


def encoding_of(*made: Decision) -> Encoding:
    return Encoding({d.path: d for d in made})


def random_values(graph: Graph, rng: random.Random) -> dict[str, Any]:
    """A value for every decision, whether present or not."""
    values: dict[str, Any] = {}
    for path, d in graph.decisions.items():
        if d.kind == "choice":
            values[path] = rng.randrange(d.n)
        elif d.kind == "order":
            values[path] = canonical_value(d, rng.sample(range(d.n), d.n))
        else:
            size = d.size if d.kind == "subset" else rng.randrange(d.n + 1)
            values[path] = tuple(sorted(rng.sample(range(d.n), size)))
    return values


# --- encoding ---------------------------------------------------------------------------------------------------------

MIXED = (
    Decision("op", "choice", (Symbol("conv"), Symbol("pool")), ("conv", "pool")),
    Decision("width", "units", range(3)),
    Decision("from", "subset", ("a", "b", "c", "d"), size=2),
    Decision("blocks", "order", (2, 2, 3), present=Case("op", (True, False))),
)


def test_the_columns_are_those_of_the_documentation() -> None:
    encoding = encoding_of(*MIXED)
    assert encoding.width == 1 + 3 + 2 + 3
    assert encoding.columns == {"op": slice(0, 1), "width": slice(1, 4), "from": slice(4, 6), "blocks": slice(6, 9)}
    assert encoding.names[:5] == ("op", "width[0]", "width[1]", "width[2]", "from[0]")
    rows = [
        {"op": 0, "width": (0, 2), "from": (3, 1), "blocks": (1, 2, 0)},
        {"op": 1, "width": (), "from": (0, 1)},
    ]
    matrix = encoding.encode(rows)
    assert matrix.tolist() == [[0, 1, 0, 1, 1, 3, 0, 2, 1], [1, 0, 0, 0, 0, 1, ABSENT, ABSENT, ABSENT]]
    assert encoding.to_table(matrix) == {
        "op": ["conv", "pool"],
        "width": ["0, 2", ""],
        "from": [["b", "d"], ["a", "b"]],
        "blocks": [[2, 3, 2], None],
    }


@pytest.mark.parametrize(("n", "dtype"), [(128, np.int8), (129, np.int16), (32768, np.int16), (32769, np.int32)])
def test_the_type_is_the_smallest_that_holds_all(n: int, dtype: type) -> None:
    encoding = encoding_of(choice("a", n), Decision("b", "units", range(300)))
    assert encoding.dtype == dtype
    assert encoding.decode(encoding.encode([{"a": n - 1, "b": (299,)}]))[0].indices["a"] == n - 1


@thorough
@given(graphs())
def test_architectures_and_tables_come_back_from_rows(graph: Graph) -> None:
    everything = [Architecture.at(graph, values) for values in enumerate_all(graph)]
    encoding = Encoding(graph.decisions)
    matrix = encoding.encode(everything)
    assert encoding.decode(matrix) == everything
    assert np.array_equal(encoding.from_table(encoding.to_table(matrix)), matrix)
    assert len(np.unique(matrix, axis=0)) == len(everything)


def test_mistakes_name_the_decision() -> None:
    encoding = encoding_of(*MIXED)
    fine = {"op": 0, "width": (1,), "from": (0, 1), "blocks": (0, 1, 2)}
    wrong: list[tuple[str, Any]] = [
        ("op", 2),
        ("width", (3,)),
        ("from", (1,)),
        ("blocks", (0, 1, 1)),
        ("blokcs", 0),
    ]
    for path, value in wrong:
        with pytest.raises(ArchitectureError) as raised:
            encoding.encode([{**fine, path: value}])
        assert raised.value.path == path
    good = encoding.encode([fine])
    for column, value, path in [(0, 2, "op"), (1, 2, "width"), (1, -1, "width"), (4, 1, "from"), (6, 1, "blocks")]:
        bad = good.copy()
        bad[0, column] = value
        with pytest.raises(ArchitectureError) as raised:
            encoding.decode(bad)
        assert raised.value.path == path
    swapped = good.copy()
    swapped[0, 6:] = [1, 0, 2]  # equal items of an order, not by rising index
    with pytest.raises(ArchitectureError):
        encoding.decode(swapped)
    wrong_form: list[Any] = [good[:, :-1], good[0], good.astype(np.float64), good.astype(np.uint8)]
    for array in wrong_form:
        with pytest.raises(ValueError, match="9 signed integers"):
            encoding.check(array)
    table = encoding.to_table(good)
    with pytest.raises(ArchitectureError, match="no column `op`"):
        encoding.from_table({path: column for path, column in table.items() if path != "op"})
    with pytest.raises(ArchitectureError, match="`cnv` is not an option of `op`\nhelp: did you mean `conv`"):
        encoding.from_table({**table, "op": ["cnv"]})
    with pytest.raises(ValueError, match="different lengths"):
        encoding.from_table({**table, "op": ["conv", "conv"]})


def test_no_rows_and_no_decisions_are_fine() -> None:
    nothing = encoding_of()
    assert nothing.encode([{}, {}]).shape == (2, 0)
    assert nothing.decode(nothing.encode([{}])) == [Architecture({}, ())]
    empty = encoding_of(*MIXED).encode([])
    assert empty.shape == (0, 9)
    assert encoding_of(*MIXED).decode(empty) == []
    hidden = Decision("h", "subset", ("a",), size=0, present=Case("op", (True, False)))
    encoding = encoding_of(MIXED[0], hidden)
    rows: list[dict[str, Any]] = [{"op": 0, "h": ()}, {"op": 1}]
    assert [dict(row.indices) for row in encoding.decode(encoding.encode(rows))] == rows


@given(st.sampled_from(["abc", "aab", "abab", "aaaa", "abcab"]), st.integers(0, 99))
def test_tidy_values_are_canonical(items: str, seed: int) -> None:
    rng = random.Random(seed)
    order = Decision("o", "order", tuple(items))
    subset = Decision("s", "subset", tuple(items), size=2)
    for d, size in ((order, len(items)), (subset, 2)):
        values = [rng.sample(range(len(items)), size) for _ in range(5)]
        block = np.asarray([*values, [ABSENT] * size], np.int8)
        assert tidy(d, block).tolist() == [*(list(canonical_value(d, v)) for v in values), [ABSENT] * size]


# --- inside cells -----------------------------------------------------------------------------------------------------

DECISIONS: list[tuple[Decision, list[Value]]] = [
    (choice("d", 5), [Case("d", (1, 2, 1, 2, 2))]),
    (Decision("d", "units", range(5)), [less(2, Kept("d", 5))]),
    (Decision("d", "units", range(4)), []),
    (Decision("d", "units", range(4)), [less(0, Kept("d", 4)), Kept("d", 4)]),
    (Decision("d", "subset", tuple("abcdef"), size=3), [Has("d", 1), Has("d", 4)]),
    (Decision("d", "subset", tuple("abc"), size=0), []),
    (Decision("d", "order", tuple("abcd")), [Slot("d", 1, (1, 1, 2, 3))]),
    (Decision("d", "order", tuple("aabbc")), [Slot("d", 0, (1, 1, 2, 2, 2)), Slot("d", 3, (0, 0, 0, 0, 1))]),
    (Decision("d", "order", tuple("aab")), []),
    (choice("d", 3, present=Case("other", (True, False))), [Case("d", (True, False, True))]),
]


@pytest.mark.parametrize(("decision", "atoms"), DECISIONS)
def test_draws_fill_their_cell_evenly(decision: Decision, atoms: list[Value]) -> None:
    cells, table = cells_of(decision, atoms)
    encoding = encoding_of(decision)
    rng = np.random.default_rng(7)
    for number, cell in enumerate(cells):
        block = draw_inside(decision, cell, 100 * cell.count, rng)
        assert (locate(decision, cells, block) == number).all()
        seen = Counter(map(tuple, block.tolist()))
        assert len(seen) == cell.count
        chi = sum((times - 100) ** 2 / 100 for times in seen.values())
        assert chi <= cell.count + 5 * math.sqrt(2 * cell.count)
        for values in encoding.decode(block[:20]):
            assert [value_at(atom, values.indices) for atom in atoms] == [column[number] for column in table]
    mixed = rng.integers(0, len(cells), 50)
    assert np.array_equal(locate(decision, cells, Inside(decision, cells).draw(mixed, rng)), mixed)


@thorough
@given(st.data())
def test_cells_are_found_for_every_value(data: st.DataObject) -> None:
    made = data.draw(decisions())
    assume(made)
    alone = [Decision(d.path, d.kind, d.items, size=d.size) for d in made]  # of one decision each
    decision = data.draw(st.sampled_from(alone))
    atoms = [data.draw(conditions([decision], 1)), data.draw(numbers([decision], 1))]
    cells, table = cells_of(decision, [a for a in atoms if isinstance(a, Expr)])
    atoms = [a for a in atoms if isinstance(a, Expr)]
    values = [{decision.path: v} for v in decision.values()]
    found = locate(decision, cells, encoding_of(decision).encode(values))
    for here, number in zip(values, found.tolist(), strict=True):
        assert [value_at(a, here) for a in atoms] == [column[number] for column in table]
    assert Counter(found.tolist()) == {i: cell.count for i, cell in enumerate(cells)}
    if len(cells) > 1:
        there = locate(decision, cells[1:], encoding_of(decision).encode(values))
        assert (there == found - 1).all()


def test_what_is_no_value_is_in_no_cell() -> None:
    for decision, atoms in DECISIONS:
        cells, _ = cells_of(decision, atoms)
        width = encoding_of(decision).width
        strange = np.full((1, width), 99, np.int8)
        gone = np.full((1, width), ABSENT, np.int8)
        assert locate(decision, cells, strange).tolist() == [-1]
        absent = len(cells) - 1 if decision.present is not True else -1
        assert locate(decision, cells, gone).tolist() == [absent]
        with pytest.raises(ValueError, match="no value in cell"):
            Inside(decision, cells).draw(np.asarray([len(cells)]), np.random.default_rng(0))


def test_wide_units_are_read_and_counted_as_narrow_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expressions that take all that there is: faults, fractions, floats, truth values."""
    n = 97
    decision, kept = Decision("u", "units", range(n)), Kept("u", n)
    rounded = Apply("mul", (8, Apply("floor", (Apply("add", (Apply("mul", (Fraction(1, 8), kept)), Fraction(1, 2))),))))
    atoms = [rounded, Apply("div", (12, kept)), less(40, kept), Apply("pow", (kept, 15)), Apply("mul", (0.1, kept))]
    for own in ([rounded], [less(3, rounded)], atoms, [Apply("mod", (kept, 3)), Apply("eq", (kept, 40))]):
        cost = [Apply("mul", (-3, Apply("mod", (kept, 7)))), rounded]
        wide, read = cells_of(decision, own, cost, max)
        with monkeypatch.context() as narrow:
            narrow.setattr(cells, "WIDE", n + 1)
            narrow.setattr(cells, "FEW", n + 2)  # binomial coefficients one by one
            plain, expected = cells_of(decision, own, cost, max)
            sizes = [cell.count for cell in plain]
        assert [list(map(type, column)) for column in read] == [list(map(type, column)) for column in expected]
        assert read == expected and [cell.count for cell in wide] == sizes and sum(sizes) == 1 << n
        assert [(c.whole, c.members, c.cost) for c in wide] == [(c.whole, c.members, c.cost) for c in plain]


def test_very_many_units_take_no_time_and_are_not_counted_at_any_price() -> None:
    n = 1_000_000
    decision, kept = Decision("u", "units", range(n)), Kept("u", n)
    found, _ = cells_of(decision, [less(n // 2, kept)])
    assert [cell.members for cell in found] == [[(0, n // 2 - 1), (n // 2, n // 2)], [(n // 2 + 1, n)]]
    fine, _ = cells_of(decision, [Apply("floordiv", (kept, 100))])
    with pytest.raises(TooWide, match=r"`u` of 1,000,000 units is too tangled"):
        _ = fine[0].count
    with bounded(10), pytest.raises(TooWide):
        cells_of(decision, [Apply("floordiv", (kept, 100))])


def test_many_units_are_drawn_as_they_are_counted() -> None:
    n = 2304
    decision = Decision("u", "units", range(n))
    cells, _ = cells_of(decision, [less(n // 2 + 30, Kept("u", n))])
    kept = [draw_inside(decision, cell, 2000, np.random.default_rng(1)).sum(axis=1) for cell in cells]
    assert kept[0].max() <= n // 2 + 30 < kept[1].min()
    for cell, counts in zip(cells, kept, strict=True):
        sizes = [k for first, last in cell.members for k in range(first, last + 1)]
        shares = [math.comb(n, k) / cell.count for k in sizes]  # exact integers, rounded once
        mean = sum(k * share for k, share in zip(sizes, shares, strict=True))
        variance = sum((k - mean) ** 2 * share for k, share in zip(sizes, shares, strict=True))
        assert abs(counts.mean() - mean) < 5 * math.sqrt(variance / 2000)
    columns = draw_inside(decision, cells[0], 2000, np.random.default_rng(2)).mean(axis=0)
    assert np.abs(columns - columns.mean()).max() < 5.5 * math.sqrt(1 / 4 / 2000)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 8])
def test_all_sets_of_a_size_are_as_likely(size: int) -> None:
    """Of 8 units: sizes near half, that coins are brought to, and sizes far from it."""
    decision = Decision("u", "units", range(8))
    cells, _ = cells_of(decision, [equal(Kept("u", 8), size)])
    cell = next(cell for cell in cells if cell.count == math.comb(8, size))
    drawn = draw_inside(decision, cell, 20_000, np.random.default_rng(3))
    assert (drawn.sum(axis=1) == size).all()
    found = np.unique(drawn @ (1 << np.arange(8)), return_counts=True)[1]
    assert len(found) == cell.count
    each = 20_000 / cell.count
    spread = math.sqrt(each * (1 - 1 / cell.count))
    assert np.abs(found - each).max() <= 5 * spread


def test_the_same_seed_gives_the_same_draws() -> None:
    decision = Decision("o", "order", tuple("aabc"))
    cells, _ = cells_of(decision, [Slot("o", 0, (1, 1, 1, 0))])
    drawn = [draw_inside(decision, cell, 3, np.random.default_rng(5)).tolist() for cell in cells]
    assert drawn == [[[0, 2, 3, 1], [0, 2, 3, 1], [0, 3, 1, 2]], [[3, 0, 2, 1], [3, 0, 2, 1], [3, 2, 0, 1]]]


# --- expressions ------------------------------------------------------------------------------------------------------

PLAIN = (0, 1, 2, -3, Fraction(1, 2), Fraction(-7, 3), 2**61, Symbol("conv"), True, 0.5, (1, 2))
ITEMS = (1, 2, 5, Fraction(3, 4), Symbol("a"), Symbol("b"), False, 2**62, 0.25)


def arity(function: Function) -> int:
    """How many arguments a function takes; three where it takes any number."""
    parameters = inspect.signature(function.plain).parameters.values()
    return 3 if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(parameters)


@st.composite
def values(draw: st.DrawFn, made: list[Decision], depth: int, counts: bool = False) -> Value:
    """Any function of anything, as a rule without any sense.

    Where it counts there are words, but no lists, as 2**61 of them fit nowhere, and no truth values, as the greatest
    of 0 and false is either.
    """
    kind = draw(st.integers(0, 9))
    if depth == 0 or kind < 2:
        leaf = draw(st.integers(0, 4))
        if leaf == 0:
            return draw(st.sampled_from([x for x in PLAIN if not counts or not isinstance(x, bool | tuple)]))
        if leaf == 1 and not counts:
            return draw(conditions(made, 1))
        d = draw(st.sampled_from(made))
        if leaf == 2 and d.kind == "choice":
            items = [x for x in ITEMS if not counts or not isinstance(x, bool)]
            return Case(d.path, tuple(draw(st.lists(st.sampled_from(items), min_size=d.n, max_size=d.n))))
        return draw(numbers(made, 1))
    if kind == 2 and not counts:
        return (draw(values(made, depth - 1)), draw(values(made, depth - 1)))
    if kind == 3:
        return Apply("lookup", (((1, Symbol("x")), (2, 7), (Symbol("a"), 3)), draw(values(made, depth - 1))))
    names = sorted(
        name for name, function in FUNCTIONS.items() if not counts or function.gives not in ("truth", "list")
    )
    function = FUNCTIONS[draw(st.sampled_from(names))]
    places = [function.kind_taken(i) == "number" or (counts and function.picks) for i in range(arity(function))]
    return Apply(function.name, tuple(draw(values(made, depth - 1, place)) for place in places))


def same(mine: Any, theirs: Any) -> bool:
    if isinstance(theirs, tuple) and isinstance(mine, tuple):
        return len(mine) == len(theirs) and all(map(same, mine, theirs))
    if isinstance(theirs, float) and is_number(mine):
        return mine == theirs or math.isclose(mine, theirs, rel_tol=1e-9) or (mine != mine and theirs != theirs)
    return mine is theirs or mine == theirs


@settings(thorough, max_examples=100)
@given(st.data())
def test_rows_have_the_values_of_the_scalar_code(data: st.DataObject) -> None:
    made = data.draw(decisions())
    assume(made)
    graph = space(made)
    rows = enumerate_all(graph)[:200]
    rng = random.Random(data.draw(st.integers(0, 9)))
    rows += [{k: v for k, v in row.items() if rng.random() < 0.7} for row in rng.sample(rows, min(20, len(rows)))]
    encoding = Encoding(graph.decisions)
    matrix = encoding.encode(rows)
    value = data.draw(values(made, data.draw(st.integers(1, 5))))
    expected = [value_at(value, row) for row in rows]
    for largest in (1, 8, vector.LARGEST):  # arithmetic on rows, some tables, one table
        found = Program([value], encoding, largest)(matrix)[0].objects(len(rows))
        assert all(map(same, found, expected)), largest
    assert all(map(same, evaluate_rows(value, encoding, matrix).objects(len(rows)), expected))


@thorough
@given(st.data())
def test_sums_fall_into_tables_without_changing(data: st.DataObject) -> None:
    graph = data.draw(graphs())
    made = list(graph.decisions.values())
    terms = [data.draw(numbers(made, 1)) for _ in range(data.draw(st.integers(2, 12)))]
    total = Apply("add", tuple(terms))
    rows = enumerate_all(graph)
    matrix = Encoding(graph.decisions).encode(rows)
    for largest in (4, 16, 256):
        found = Program([total, *terms], Encoding(graph.decisions), largest)(matrix)
        assert found[0].objects(len(rows)) == [value_at(total, row) for row in rows]
        assert found[1].objects(len(rows)) == [value_at(terms[0], row) for row in rows]


def test_a_fault_and_an_absence_meet_as_in_the_scalar_code() -> None:
    there = choice("there", 3)
    gone = [choice(f"gone{i}", 3, present=False) for i in range(3)]
    encoding = encoding_of(there, *gone)
    rows = [{"there": i} for i in range(3)]
    fault = Apply("floordiv", (1, Case("there", (0, 1, 2))))
    missing = [Case(d.path, (4, 5, 6)) for d in gone]
    for args in itertools.permutations((fault, *missing)):
        for function in ("add", "and", "or", "max"):
            value = Apply(function, args)
            for largest in (4, 64, 4096):
                found = Program([value], encoding, largest)(encoding.encode(rows))[0].objects(3)
                assert found == [value_at(value, row) for row in rows]


def test_zeros_over_a_denominator_beyond_64_bits_are_zeros() -> None:
    d = choice("d", 1)
    tiny = Apply("div", (1, 2**61))
    value = Apply("mul", (0, Case("d", (Fraction(3, 4),)), tiny))
    encoding = encoding_of(d)
    assert Program([value], encoding, 8)(encoding.encode([{"d": 0}]))[0].objects(1) == [0]


def test_numbers_beyond_64_bits_are_exact() -> None:
    made = [choice(f"d{i}", 3) for i in range(8)]
    encoding = encoding_of(*made)
    factors = [Case(d.path, (10**3, 10**9 + 7, -(10**4))) for d in made]
    product, total = Apply("mul", tuple(factors)), Apply("add", tuple(Apply("mul", (2**40, f)) for f in factors))
    rows = [dict(zip(encoding.decisions, key, strict=True)) for key in itertools.product(range(3), repeat=8)][::41]
    small = Apply("floordiv", (product, 10**30))
    found = Program([product, total, small], encoding, 16)(encoding.encode(rows))
    for value, one in zip((product, total, small), found, strict=True):
        assert one.objects(len(rows)) == [evaluate(value, row) for row in rows]


def test_as_many_options_as_a_byte_has_numbers_above_zero() -> None:
    """The last of 128 is 127, the greatest number of the rows' type."""
    for n in (127, 128, 129, 32_768):
        encoding = encoding_of(choice("a", n), choice("b", 2))
        value = add(Case("a", tuple(range(n))), Case("b", (0, 1)))
        rows = np.asarray([[0, 0], [n - 1, 1]], encoding.dtype)
        assert Program([value], encoding)(rows)[0].objects(2) == [0, n]


def test_entries_outside_the_domain_and_unknown_decisions_are_refused() -> None:
    encoding = encoding_of(choice("a", 3))
    program = Program([Case("a", (1, 2, 3))], encoding)
    for entry in (3, -2):
        with pytest.raises(ValueError, match="no value of `a`"):
            program(np.asarray([[entry]], np.int8))
    with pytest.raises(ValueError, match="`b`, which is no decision"):
        Program([Case("b", (1, 2))], encoding)


def test_chunks_make_one_series() -> None:
    encoding = encoding_of(choice("a", 3), choice("b", 4))
    value = (Case("a", (1, 2, Fraction(1, 2))), add(Case("a", (1, 2, 3)), Case("b", (5, 6, 7, 8))))
    program = Program(value, encoding, 2)
    rng = np.random.default_rng(0)
    matrix = np.stack([rng.integers(0, 3, 1000), rng.integers(0, 4, 1000)], axis=1).astype(np.int8)
    whole = [one.objects(1000) for one in program(matrix)]
    program.rows = 7
    assert [one.objects(1000) for one in program(matrix)] == whole
    assert [one.objects(0) for one in program(matrix[:0])] == [[], []]


# --- costs and requirements -------------------------------------------------------------------------------------------


@thorough
@given(measured())
def test_costs_agree_with_enumeration(made: tuple[Graph, dict[str, Value]]) -> None:
    graph, costs = made
    everything = enumerate_all(graph)
    wanted = [[value_at(value, values) for value in costs.values()] for values in everything]
    fine = [ABSENT_VALUE not in row for row in wanted]
    evaluator = Evaluator(graph, costs)
    matrix = evaluator.encoding.encode(everything)
    found = evaluator.costs(matrix[np.asarray(fine, np.bool_)], tuple(costs))
    assert found.tolist() == list(itertools.compress(wanted, fine))
    for values, row in zip(itertools.compress(everything, fine), found.tolist(), strict=True):
        assert row == [cost_of(value, values) for value in costs.values()]
    if not all(fine):
        with pytest.raises(ArchitectureError, match=f"row {fine.index(False)}"):
            evaluator.costs(matrix, tuple(costs))


def test_the_first_row_without_a_cost_is_told() -> None:
    """Whichever of the costs it lacks."""
    first, absent = Decision("d0", "choice", (0, 1)), Decision("d1", "units", range(2), present=False)
    graph = Graph({}, {"d0": first, "d1": absent}, (), ())
    late = expr.choose(among("d0", 2, frozenset({1})), Kept("d1", 2), 0)
    evaluator = Evaluator(graph, {"macs": late, "params": Kept("d1", 2)})
    matrix = evaluator.encoding.encode(enumerate_all(graph))
    with pytest.raises(ArchitectureError, match="row 0: `d1` is absent, but params depends on it"):
        evaluator.costs(matrix, ("macs", "params"))


@thorough
@given(graphs(), st.integers(0, 99))
def test_valid_rows_are_those_of_the_enumeration(graph: Graph, seed: int) -> None:
    evaluator = Evaluator(graph)
    everything = enumerate_all(graph)
    rng = random.Random(seed)
    rows = evaluator.encoding.encode(everything[:50])
    free = evaluator.encoding.encode([random_values(graph, rng) for _ in range(50)])
    spoilt = np.concatenate([rows, free])
    for _ in range(2):
        places = np.asarray([rng.randrange(spoilt.shape[1]) for _ in spoilt])
        spoilt[np.arange(len(spoilt)), places] = [rng.choice([-2, -1, 0, 1, 2, 5]) for _ in spoilt]
    tried = np.concatenate([rows, free, spoilt])
    proper = set(map(tuple, evaluator.encoding.encode(everything).tolist()))
    assert evaluator.valid(tried).tolist() == [tuple(row) in proper for row in tried.tolist()]


@thorough
@given(graphs(), st.integers(0, 99))
def test_canonical_rows_and_violations_are_those_of_architectures(graph: Graph, seed: int) -> None:
    rng = random.Random(seed)
    full = [random_values(graph, rng) for _ in range(20)]
    evaluator = Evaluator(graph)
    expected = [Architecture.at(graph, values) for values in full]
    found = evaluator.canonical(evaluator.encoding.encode(full).astype(np.int32))
    assert found.dtype == evaluator.encoding.dtype
    assert np.array_equal(found, evaluator.encoding.encode(expected))
    broken = evaluator.violations(found)
    assert broken.shape == (20, len(graph.requirements))
    for architecture, row in zip(expected, broken, strict=True):
        assert architecture.violations(graph) == tuple(itertools.compress(graph.requirements, row))
        held = [worth(r.condition, dict(architecture.indices), True) for r in graph.requirements]
        assert [bool(h) for h in held] == (~row).tolist()


def test_a_present_decision_without_a_value_is_named() -> None:
    op, width = choice("op", 2), choice("width", 3, present=Case("op", (False, True)))
    evaluator = Evaluator(space([op, width]), {"macs": Case("width", (1, 2, 3))})
    assert evaluator.canonical(np.asarray([[0, 2]], np.int8)).tolist() == [[0, ABSENT]]
    for row in ([1, ABSENT], [1, 3], [ABSENT, 0], [2, 0]):
        with pytest.raises(ArchitectureError) as raised:
            evaluator.canonical(np.asarray([[0, ABSENT], row], np.int8))
        assert raised.value.path == ("width" if row[0] == 1 else "op")
        assert "row 1" in str(raised.value)
    with pytest.raises(ArchitectureError, match="`width` is absent, but macs depends on it"):
        evaluator.costs(np.asarray([[1, 1], [0, ABSENT]], np.int8), ("macs",))


def test_measures_that_are_not_the_compilers_own() -> None:
    d = choice("d", 2)
    table = {"latency": Case("d", (0.25, 1.5)), "energy": Case("d", (Fraction(1, 2), 3)), "memory": 2**70}
    budget = Requirement(at_most(Total("latency"), 1), "fast", "budget")
    graph = Graph({}, {"d": d}, (budget,), ())
    evaluator = Evaluator(graph, table)
    matrix = np.asarray([[0], [1]], np.int8)
    assert evaluator.costs(matrix, ("latency", "energy", "macs")).tolist() == [[0.25, 0.5, 0], [1.5, 3, 0]]
    assert evaluator.violations(matrix).tolist() == [[False], [True]]
    assert evaluator.valid(matrix).all()
    assert evaluator.costs(matrix, ("memory",)).tolist() == [[2**70], [2**70]]
    with pytest.raises(KeyError):
        evaluator.costs(matrix, ("beauty",))
    with pytest.raises(ValueError, match="latency"):
        Evaluator(graph).violations(matrix)


# --- shipped spaces ---------------------------------------------------------------------------------------------------


WIDE = ("spinenet", "efficientdet", "autodeeplab")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long if name in WIDE else ()) for name in spaces.names()]
)
def test_shipped_spaces_are_costed_and_checked_as_one_by_one(name: str) -> None:
    graph = shipped.graph(name)
    rng = random.Random(3)
    full = [random_values(graph, rng) for _ in range(4)]
    evaluator = Evaluator(graph)
    matrix = evaluator.canonical(evaluator.encoding.encode(full))
    architectures = evaluator.encoding.decode(matrix)
    assert architectures == [Architecture.at(graph, values) for values in full]
    broken = [r for r in graph.requirements if r.origin != "budget"]
    fine = [not set(broken) & set(a.violations(graph)) for a in architectures]
    assert evaluator.valid(matrix).tolist() == fine
    costs = evaluator.costs(matrix)
    total = cost.total_cost(graph)
    for architecture, row in zip(architectures, costs.tolist(), strict=True):
        assert row == [
            evaluate(total.macs, architecture.indices),
            evaluate(total.params, architecture.indices),
        ]
