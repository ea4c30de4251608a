"""The table of functions says what is true of each; values have kinds, and what is computed of them has a value."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nasdsl
from nasdsl.compiler.arrays.encoding import Encoding
from nasdsl.compiler.arrays.vector import evaluate_rows
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.values.bounds import Bounds
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.function import FUNCTIONS, Call, Function
from nasdsl.compiler.values.plain import FAULT, FAULTS, is_number, kind_of
from nasdsl.compiler.values.tree import Apply, Case, apply, evaluate, is_whole, kinds_of, rebuild, value_at

# --- the table --------------------------------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.integers(-4, 9), st.sampled_from((Fraction(1, 2), Fraction(-3, 2), Fraction(1, 4), Fraction(7, 3), 64, 100))
)
TRUTHS = st.booleans()
ARITY = {"add": 3, "mul": 3, "min": 3, "max": 3, "and": 3, "or": 3, "gcd": 2, "if": 3}


def arguments(function: Function, count: int, data: st.DataObject) -> list[Case]:
    """One rising table over a choice of its own for each argument."""
    out = []
    for place in range(count):
        items = TRUTHS if function.kind_taken(place) == "truth" else NUMBERS
        if function.name == "gcd":
            items = st.integers(-9, 9)
        drawn: list[Any] = data.draw(st.lists(items, min_size=3, max_size=3))
        out.append(Case(f"d{place}", tuple(sorted(drawn))))
    return out


def plainly(function: Function, args: list[Any]) -> Any:
    try:
        return function.plain(*args)
    except FAULTS:
        return FAULT


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"lookup", "len", "kind"}))
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_what_a_record_says_is_true_of_its_plain_form(name: str, data: st.DataObject) -> None:
    function = FUNCTIONS[name]
    one = name in ("floor", "ceil", "round", "not", "level_of")
    args = arguments(function, 1 if one else ARITY.get(name, 2), data)
    value = rebuild(name, tuple(args))
    exists = True if function.domain is None else function.domain(*args)
    low_high = Bounds().of(value)
    positive = function.positive and all(is_number(v) is False or v >= 0 for arg in args for v in arg.values)
    slopes = function.slopes(args, lambda v: min(v.values) >= 0) if function.slopes is not None else [None] * len(args)
    found: dict[tuple[int, ...], Any] = {}
    for place in itertools.product(range(3), repeat=len(args)):
        values = {f"d{i}": option for i, option in enumerate(place)}
        plain = found[place] = plainly(function, [arg.values[i] for arg, i in zip(args, place, strict=True)])
        if plain is FAULT:
            assert evaluate(exists, values) is False, "the domain lets this through"
            continue
        assert value_at(value, values) == plain
        assert kind_of(plain) in kinds_of(value)
        assert low_high is None or low_high[0] <= plain <= low_high[1]
        assert not is_whole(value) or isinstance(plain, int)
        assert not positive or plain >= 0
    for place, slope in itertools.product(found, enumerate(slopes)):
        argument, sign = slope
        if sign is not None and place[argument] < 2:
            after = found[(*place[:argument], place[argument] + 1, *place[argument + 1 :])]
            if found[place] is not FAULT and after is not FAULT:
                assert (after - found[place]) * sign >= 0


@pytest.fixture
def hypotenuse() -> Iterator[Function]:
    """A function more, made known by its record alone."""
    made = Function(
        "root",
        ("number",),
        "number",
        lambda a: {n * n: n for n in range(100)}[a],
        domain=lambda a: rebuild("or", tuple(rebuild("eq", (a, n * n)) for n in range(100))),
        outside="only the square of a whole number has a whole root",
        whole=lambda args: True,
        slopes=lambda args, positive: [1],
        positive=True,
        call=Call(1, 1, "root(n)"),
    )
    FUNCTIONS["root"] = made
    yield made
    del FUNCTIONS["root"]


ROOTS = """
space roots {
  input 3 x 8 x 8
  let a = oneof(16, 36, 64)
  let b = oneof(0, 1, 2)
  network { conv(8 * root(a + %s), kernel: 1 + 2 * root(a)) -> classify(10) }
}
"""


def test_a_function_is_added_by_one_record(hypotenuse: Function) -> None:
    space = nasdsl.loads(ROOTS % "0 * b")
    assert nasdsl.count(space).total == 9
    widths = (32, 48, 64)
    costs = [(1 + 2 * w // 8) ** 2 * 3 * w * 64 + w * 10 for w in widths]
    assert nasdsl.cost_range(space)["macs"] == (costs[0], costs[-1])
    population = nasdsl.population(space)
    assert {int(row[0]) for row in population.costs(population.draw(50, 0))} == set(costs)
    supernet = nasdsl.supernet(space)  # as wide as the widest
    assert next(iter(supernet.parameters())).shape == (64, 3, 17, 17)
    with pytest.raises(CompileError) as caught:
        nasdsl.loads(ROOTS % "b")
    (told,) = caught.value.diagnostics
    assert told.message == hypotenuse.outside and told.span is not None and told.span.text == "root(a + b)"
    assert "`b: 1`" in told.help or "`b: 2`" in told.help


def test_its_value_in_every_row(hypotenuse: Function) -> None:
    made = {"a": Decision("a", "choice", (9, 5, 49)), "b": Decision("b", "choice", (0, 20))}
    value: Value = apply("root", apply("add", Case("a", (9, 5, 49)), Case("b", (0, 20))))
    rows = [{"a": a, "b": b} for a in range(3) for b in range(2)]
    found = evaluate_rows(value, Encoding(made), Encoding(made).encode(rows)).objects(len(rows))
    assert found == [3, FAULT, FAULT, 5, 7, FAULT]


# --- kinds and domains in spaces --------------------------------------------------------------------------------------

SPACE = """
space s {
  input 3 x 32 x 32
  let a = oneof(1, 2)
  let b = oneof(1, 2)
  let zero = oneof(0, 1, 2)
  let word = oneof(foo, bar)
  let truth = oneof(true, false)
  let mixed = auto if a == 1 else 8
  %s
  network { conv(8) -> %s -> classify(10) }
}
"""


def told(step: str = "identity()", declaration: str = "") -> list[tuple[str, str, str]]:
    """Code, words that are underlined and advice of all that is said of a space."""
    try:
        nasdsl.loads(SPACE % (declaration, step))
    except CompileError as problem:
        return [(d.code, d.span.text if d.span else "", d.help) for d in problem.diagnostics]
    return []


RANGES = [
    ("dropout(p: %s)", "p", "2"),
    ("conv(8, eps: %s)", "eps", "40"),
    ("norm(momentum: %s)", "momentum", "7"),
    ("se(ratio: %s)", "ratio", "100"),
    ("mixconv(8, hidden: { 3: 8 }, se: %s)", "se", "100"),
    ("transformer(8, tokens: 4, dropout: %s)", "dropout", "2"),
    ("local_attention(8, qk: %s)", "qk", "100"),
    ("conv(8, dilation: %s)", "dilation", "0"),
    ("conv(8, stride: %s)", "stride", "0"),
    ("conv(%s)", "out", "1/2"),
    ("resize(to: %s)", "to", "-1"),
    ("conv(15) -> propose(scales: [%s])", "scales", "0"),
]


@pytest.mark.parametrize(("step", "param", "wrong"), RANGES, ids=[row[0] for row in RANGES])
def test_a_number_stays_in_its_range_whatever_is_chosen(step: str, param: str, wrong: str) -> None:
    ways = [wrong, f"oneof(1, {wrong})", f"1 + (a * b - 1) * ({wrong} - 1) / 3"]
    for way in ways:
        found = told(step % way)
        assert found and found[0][1].strip("[]") == way, way
    assert "for example with" in told(step % ways[2])[0][2]


WRONG = [
    ("conv(word + 1)", "not-a-number", "word"),
    ("conv(8 + truth)", "not-a-number", "truth"),
    ("conv(mixed + 1)", "not-a-number", "mixed"),
    ("conv(max(8, word))", "not-a-number", "word"),
    ("conv(8 / zero)", "division-by-zero", "8 / zero"),
    ("conv(8 / (a - b))", "division-by-zero", "8 / (a - b)"),
    ("resize(to: at / zero)", "division-by-zero", "at / zero"),
    ("conv(8 if a else 16)", "not-a-condition", "a"),
    ("conv(8 if not word else 16)", "not-a-condition", "word"),
    ("conv(8 if truth and a else 16)", "not-a-condition", "a"),
    ("conv(8 if word == 3 else 16)", "not-comparable", "word == 3"),
    ("conv(8 if truth == 1 else 16)", "not-comparable", "truth == 1"),
    ("conv(8 if word < 1 else 16)", "not-a-number", "word"),
    ("conv(8 if (8 / zero > 4 and zero > 0) else 16)", "division-by-zero", "8 / zero"),
    ("conv(8 * level_of(a / 3))", "bad-scale", "level_of(a / 3)"),
    ("conv(divisible(10, zero))", "not-an-integer", "divisible(10, zero)"),
    ("conv(1 if a == 1 else truth)", "mixed-options", "1 if a == 1 else truth"),
    ("conv(8, act: a)", "bad-argument", "a"),
    ("conv(8, bias: a)", "bad-argument", "a"),
]


@pytest.mark.parametrize(("step", "code", "words"), WRONG, ids=[row[0] for row in WRONG])
def test_each_value_has_the_kind_that_is_asked_for(step: str, code: str, words: str) -> None:
    found = told(step)
    assert [(c, w) for c, w, _ in found] == [(code, words)]


RIGHT = [
    ("conv(8 / zero if zero > 0 else 8)", ""),
    ("conv(8 if zero > 0 and 8 / zero > 4 else 16)", ""),
    ("conv(8 if zero == 0 or 8 / zero > 4 else 16)", ""),
    ("conv(8 / zero)", "require zero != 0"),
    ("conv(8)", "require zero > 0 implies 8 / zero > 4"),
    ("conv(mixed)", "require a == 2"),
    ("conv(8, kernel: a + b - 1)", "require a == b"),
    ("conv(8, act: relu if truth else swish)", ""),
]


@pytest.mark.parametrize(("step", "declaration"), RIGHT, ids=[" ".join(row) for row in RIGHT])
def test_what_is_ruled_out_need_not_have_a_value(step: str, declaration: str) -> None:
    assert told(step, declaration) == []


def test_a_requirement_without_a_value_is_no_excuse_for_itself() -> None:
    """Where it divides by zero it is not met; that does not rule the division out."""
    assert told(declaration="require 8 / zero > 2")[0][:2] == ("division-by-zero", "8 / zero")


def test_bounds_of_what_falls() -> None:
    """A difference is greatest where what is taken away is least."""
    space = nasdsl.loads(SPACE % ("", "conv(64 - 8 * a * b)"))
    assert nasdsl.supernet(space).settings["conv[1]"].attrs["out"] == 56
    assert np.ptp(nasdsl.population(space).costs(nasdsl.population(space).draw(64, 0))[:, 0]) > 0


@pytest.mark.parametrize("other", [(1, 2), (Case("e", (1, 2)), 3)])
@pytest.mark.parametrize("name", [name for name, one in FUNCTIONS.items() if one.takes == ("number",)])
def test_lists_in_arithmetic_have_no_numbers_for_bounds(name: str, other: Value) -> None:
    parameters = inspect.signature(FUNCTIONS[name].plain).parameters.values()
    alone = len(parameters) == 1 and all(p.kind is not p.VAR_POSITIONAL for p in parameters)
    found = Bounds().of(Apply(name, (other,) if alone else (Case("d", (2, 3)), other)))
    assert found is None or not any(map(is_number, found))


def test_what_is_ruled_out_may_cost_a_fraction() -> None:
    space = nasdsl.loads(SPACE % ("let w = oneof(4, 7/2)\n  require w == 4", "conv(w) -> depthwise()"))
    population = nasdsl.population(space)
    assert population.exact and population.costs(population.draw(9, 0)).min() > 0
