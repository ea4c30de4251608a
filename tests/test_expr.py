"""Expressions keep a normal form, whatever way they are written, and mean the same before and after."""

from __future__ import annotations

import json
import pickle
from fractions import Fraction

import pytest

from nasdsl.compiler.values.as_json import from_json, to_json
from nasdsl.compiler.values.expr import add, at_most, both, choose, either, equal, less, multiply, negate, substitute
from nasdsl.compiler.values.follows import follows
from nasdsl.compiler.values.plain import Absent, Symbol
from nasdsl.compiler.values.tree import Among, Apply, Case, Has, Kept, Slot, apply, evaluate, holds, options

A = Case("a", (1, 2, 4))
B = Case("b", (0, 5))
FIRST = Among("a", 3, frozenset({0}))


def test_a_function_of_one_choice_is_a_table_however_it_is_written() -> None:
    assert add(A, 1) == Case("a", (2, 3, 5))
    assert add(A, A) == Case("a", (2, 4, 8))
    assert add(A, Case("a", (-1, -2, -4))) == 0
    assert add(A, Case("a", (3, 2, 0))) == 4
    assert multiply(A, A, 2) == Case("a", (2, 8, 32))
    assert equal(A + 1, 2) == FIRST
    assert choose(FIRST, 7, A) == Case("a", (7, 2, 4))
    assert both(less(1, A), less(A, 4)) == Among("a", 3, frozenset({1}))
    assert either(FIRST, negate(FIRST)) is True
    assert choose(less(0, Kept("u", 4)), True, False) == less(0, Kept("u", 4))


def test_a_sum_is_flat_with_its_constant_last() -> None:
    kept = Kept("u", 8)
    total = add(1, multiply(2, add(kept, A, 3)), B, kept)
    assert total == Apply("add", (Apply("mul", (3, kept)), Case("a", (2, 4, 8)), B, 7))
    assert add(multiply(Fraction(1, 2), kept), multiply(Fraction(1, 2), kept)) == kept
    assert add(kept, multiply(-1, kept)) == 0


def test_one_argument_may_decide_where_another_is_absent() -> None:
    absent = equal(Kept("gone", 3), 1)
    assert evaluate(both(absent, FIRST), {"a": 1}) is False
    assert evaluate(either(absent, FIRST), {"a": 0}) is True
    with pytest.raises(Absent):
        evaluate(both(absent, FIRST), {"a": 0})
    assert holds(both(absent, FIRST), {"a": 0})
    assert not holds(both(absent, FIRST), {"a": 1})


def test_a_condition_without_a_value_is_not_met() -> None:
    divides = apply("divides", B, Kept("u", 4))
    assert not holds(divides, {"b": 0, "u": (0,)})
    assert not holds(both(divides, Kept("gone", 3)), {"b": 0, "u": (0,)})
    assert holds(divides, {"b": 1, "u": ()})


def test_equality_is_by_structure_and_survives_pickling() -> None:
    value = add(multiply(A, B), Kept("u", 3))
    again = add(multiply(A, B), Kept("u", 3))
    assert value == again and hash(value) == hash(again)
    assert "_hash" not in pickle.loads(pickle.dumps(value)).__dict__  # strings hash differently in another process
    assert {pickle.loads(pickle.dumps(value)): 1}[again] == 1


def test_substitution_folds_anew() -> None:
    value = choose(less(2, A), multiply(A, Kept("u", 4)), B)
    pinned = substitute(value, lambda leaf: 4 if leaf == A else None)
    assert evaluate(value, {"a": 2, "u": (1, 2)}) == 8
    assert substitute(pinned, lambda leaf: True if isinstance(leaf, Among) else None) == multiply(4, Kept("u", 4))


def test_json_is_read_back_to_an_equal_value() -> None:
    parts = (A, FIRST, Kept("u", 3), Has("s", 2), Slot("o", 1, (Symbol("x"), Fraction(1, 2), 3)), 1, True, "word")
    value = (*parts, Apply("if", (FIRST, add(A, B), Kept("u", 3))), {1: A})
    assert from_json(json.loads(json.dumps(to_json(value)))) == value
    with pytest.raises(ValueError, match="not the form"):
        from_json({"apply": "eval", "args": []})


ORDER = tuple(Slot("o", i, (1, 2, 4)) for i in range(3))


def test_what_a_value_may_be_holds_all_that_it_is() -> None:
    levels = add(ORDER[0], Case("d", (-1, 0, 2)))
    assert options(levels) == frozenset({0, 1, 2, 3, 4, 6})
    halves = apply("div", 1, apply("pow", 2, ORDER[1]))
    assert options(halves) == frozenset({Fraction(1, 2), Fraction(1, 4), Fraction(1, 16)})
    assert options(choose(less(ORDER[0], ORDER[1]), A, 7)) == frozenset({1, 2, 4, 7})
    steps = options(add(ORDER[0], multiply(-1, ORDER[1])))
    assert steps is not None and steps >= {-1, 1, -3, 3, -2, 2}  # and 0, which it never is
    assert options(7) == frozenset({7})
    assert options(apply("div", 1, add(ORDER[0], Case("d", (-1, 0))))) is None  # may divide by zero
    assert options(add(*ORDER, A, B, Case("c", (0, 1)))) is None  # too many to go through
    assert options(Kept("u", 3)) is None


def test_what_follows_from_what_is_given() -> None:
    x, y = add(ORDER[0], A), add(ORDER[1], B)
    given = both(less(x, y), Has("s", 1))
    for condition in (True, less(x, y), Has("s", 1), at_most(x, y), negate(less(y, x)), negate(equal(x, y))):
        assert follows(condition, given)
        assert follows(condition, less(x, y)) or condition == Has("s", 1)
    assert follows(at_most(x, y), both(equal(x, y), Has("s", 1)))
    for condition in (less(y, x), at_most(y, x), equal(x, y), negate(less(x, y)), Has("s", 2), negate(Has("s", 1))):
        assert not follows(condition, given)
        assert not follows(condition, True)


def test_what_follows_from_an_order_is_tried() -> None:
    fine, coarse = (apply("div", 1, apply("pow", 2, slot)) for slot in ORDER[:2])
    step = apply("div", multiply(Fraction(1, 2), fine), coarse)
    whole = equal(step, apply("max", 1, apply("floor", step)))
    assert follows(whole, less(coarse, fine))
    assert follows(whole, both(Has("s", 1), less(coarse, fine)))
    for given in (True, less(fine, coarse), at_most(coarse, fine), both(Has("s", 1), less(A, B))):
        assert not follows(whole, given)
    assert not follows(equal(step, A), less(coarse, fine))  # of something else, too


def test_what_hangs_on_many_decisions_but_has_few_values_is_tried() -> None:
    flags = [Among(f"f{i}", 2, frozenset({1})) for i in range(30)]
    doublings = apply("min", add(*[choose(flag, 1, 0) for flag in flags]), 3)
    assert options(doublings) is None  # 2^30 sums
    doublings = 0
    for flag in flags:
        doublings = apply("min", 4, choose(flag, doublings + 1, doublings))
    assert options(doublings) == frozenset({0, 1, 2, 3, 4})
    doublings = apply("min", 3, doublings)
    base = Case("c", (6, 8, 14))
    width = multiply(2, base, apply("pow", 2, doublings))
    half = apply("div", base, 2)
    assert follows(apply("divides", half, width), True)
    assert follows(apply("divides", half, width), both(*flags))
    assert not follows(apply("divides", base, multiply(half, apply("pow", 2, doublings))), True)
    assert not follows(less(width, 100), True)
    assert follows(at_most(width, 2 * 14 * 8), True)
