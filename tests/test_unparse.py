"""Syntax tree -> text: the round trip, and the canonical layout."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasdsl.compiler import syntax
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.parse import parse, read
from nasdsl.compiler.source import Source, Span
from nasdsl.compiler.tokens import tokenize
from nasdsl.compiler.unparse import unparse, unparse_expr

LANGUAGE = sorted((Path(__file__).parent / "language" / "syntax").glob("*.space"))
HERE = Span(Source(""), 0, 0)


def node(kind, *parts):
    extra = {"operator_span": HERE} if kind is syntax.Binary else {}
    return kind(*parts, span=HERE, **extra)


def value_of(text) -> Any:
    """The tree of an expression."""
    items: Any = parse(Source(f"let a = {text}")).items
    (let,) = items
    return let.value


# --- Random trees ----------------------------------------------------------------------------------------------------

words = st.sampled_from(["a", "b", "conv", "x", "step", "width", "then", "_0"])
names = words.map(lambda w: node(syntax.Name, w))
members = st.sampled_from(["a", "depth", "repeat", "in", "x"]).map(lambda w: node(syntax.Name, w))
values = st.one_of(
    st.integers(0, 10**20),
    st.builds(lambda n, k: Fraction(n, 10**k), st.integers(0, 10**9), st.integers(0, 12)),
)
numbers = st.builds(lambda v, u: node(syntax.Number, v, u, ""), values, st.sampled_from([None, None, "epochs", "ms"]))
strings = st.text(st.characters(blacklist_characters='"\n\r', blacklist_categories=["Cs"]), max_size=5).map(
    lambda text: node(syntax.String, text)
)
leaves = st.one_of(names, numbers, strings, st.just(node(syntax.Incoming)))
OPERATORS = ["+", "-", "*", "/", "^", "==", "!=", "<=", ">=", "<", ">", "in", "and", "or", "implies"]


def formals(exprs):
    formal = st.builds(lambda n, a, d: node(syntax.Formal, n, a, d), names, st.none() | exprs, st.none() | exprs)
    return st.lists(formal, max_size=3).map(tuple)


def lets(exprs):
    return st.builds(lambda n, f, v: node(syntax.Let, n, f, v), names, st.none() | formals(exprs), exprs)


def items(exprs):
    keys = st.just(node(syntax.Else)) | exprs
    named = st.builds(lambda k, v: node(syntax.Named, k, v), keys, exprs)
    required = exprs.map(lambda c: node(syntax.Require, c))
    return st.lists(st.one_of(exprs, named, required, lets(exprs)), max_size=4).map(tuple)


def blocks(exprs):
    return items(exprs).map(lambda found: node(syntax.Block, found))


def larger(exprs):
    binds = st.builds(lambda n, s: node(syntax.Bind, n, s), words, exprs)
    some = st.lists(exprs, min_size=2, max_size=3).map(tuple)
    block = blocks(exprs)
    return st.one_of(
        items(exprs).map(lambda found: node(syntax.List, found)),
        st.builds(
            lambda b, e: node(syntax.Comprehension, b, e), st.lists(binds, min_size=1, max_size=2).map(tuple), exprs
        ),
        st.builds(lambda f, a, b: node(syntax.Call, f, a, b), names, items(exprs), st.none() | block),
        st.builds(lambda f, b: node(syntax.Call, f, None, b), names, block),
        st.builds(lambda b, n: node(syntax.Field, b, n), exprs, members),
        st.builds(lambda b, i: node(syntax.Index, b, i), exprs, exprs),
        st.builds(lambda o, e: node(syntax.Unary, o, e), st.sampled_from(["-", "not"]), exprs),
        st.builds(lambda o, a, b: node(syntax.Binary, o, a, b), st.sampled_from(OPERATORS), exprs, exprs),
        some.map(lambda parts: node(syntax.Size, parts)),
        st.builds(lambda a, b, c: node(syntax.Range, a, b, c), exprs, exprs, st.none() | exprs),
        st.builds(lambda a, b, c: node(syntax.If, a, b, c), exprs, exprs, exprs),
        some.map(lambda parts: node(syntax.Pipe, parts)),
        block,
        st.builds(lambda h, b: node(syntax.Match, h, b), exprs, block),
        st.builds(lambda h, b: node(syntax.For, h, b), binds, block),
        st.builds(lambda h, b: node(syntax.Repeat, h, b), exprs, block),
    )


exprs = st.recursive(leaves, larger, max_leaves=12)


def places():
    """Paths. In one that begins with a word of the language, an index holds what decisions are printed with."""
    numbers = st.integers(0, 9).map(lambda i: node(syntax.Number, i, None, ""))
    shown = st.one_of(numbers, names, numbers.map(lambda i: node(syntax.List, (i,))))
    words = st.sampled_from(["repeat", "for", "else", "input"]).map(lambda w: node(syntax.Name, w))

    def steps(indices):
        return lambda inner: st.one_of(
            st.builds(lambda b, n: node(syntax.Field, b, n), inner, members),
            st.builds(lambda b, i: node(syntax.Index, b, i), inner, indices),
        )

    own = st.one_of(names, exprs.map(lambda e: node(syntax.List, (e,))))
    return st.recursive(own, steps(exprs), max_leaves=3) | st.recursive(steps(shown)(words), steps(shown), max_leaves=3)


def files():
    block = blocks(exprs)
    optional_formals = formals(exprs)
    operators = st.builds(lambda n, f, b: node(syntax.Operator, n, f, b), names, optional_formals, exprs)
    fusions = st.builds(lambda n, f, b: node(syntax.Fusion, n, f, b), names, optional_formals, block)
    inputs = exprs.map(lambda v: node(syntax.Input, v))
    required = exprs.map(lambda v: node(syntax.Require, v))
    sections = st.builds(lambda k, n, b: node(syntax.Section, k, n, b), names, st.none() | names, block)
    params = st.builds(lambda n, c, v: node(syntax.Param, n, c, v), names, st.booleans(), exprs)
    pins = st.builds(lambda p, v: node(syntax.Pin, p, v), places(), exprs)
    inside = st.one_of(lets(exprs), operators, fusions, params, inputs, required, sections)
    spaces = st.builds(lambda n, b: node(syntax.Space, n, b), names, st.lists(inside, max_size=4).map(tuple))
    derived = st.builds(
        lambda n, b, c: node(syntax.Derived, n, b, c),
        names,
        names,
        st.lists(st.one_of(pins, inputs, required, sections), max_size=4).map(tuple),
    )
    uses = strings.map(lambda s: node(syntax.Use, s))
    top = st.one_of(uses, spaces, derived, lets(exprs), operators, fusions)
    return st.lists(top, max_size=3).map(lambda found: node(syntax.File, tuple(found)))


@settings(max_examples=300, deadline=None)
@given(files())
def test_a_tree_made_in_memory_survives_the_round_trip(file):
    text = unparse(file)
    again = parse(Source(text))
    assert again == file
    assert unparse(again) == text


@settings(max_examples=300, deadline=None)
@given(exprs)
def test_an_expression_survives_the_round_trip_on_one_line(expr):
    text = unparse_expr(expr)
    assert "\n" not in text
    assert value_of(text) == expr


# --- The layout ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", LANGUAGE, ids=lambda path: path.stem)
def test_the_examples_stand_in_the_canonical_layout(path):
    source = read(path)
    assert unparse(parse(source)) == source.text


def formatted(text):
    return unparse(parse(Source(text)))


LONG = "one_of_the_longer_names_that_people_give"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("let a=f( b,c :3 )", "let a = f(b, c: 3)\n"),
        ("let a = ((b + (c * d)))", "let a = b + c * d\n"),
        ("let a = (b -> c) if d else e", "let a = (b -> c) if d else e\n"),
        ("let a = 1/2 + b/2", "let a = 1/2 + b / 2\n"),
        ("let a = [b\n, c]", "let a = [\n  b\n  c\n]\n"),
        ("let a = {b: 1,\nc: 2, d: 3}", "let a = {\n  b: 1\n  c: 2\n  d: 3\n}\n"),
        ("let a = b ->\nc -> d", "let a = b\n  -> c -> d\n"),
        ("let a = f({\nb: 1 })", "let a = f({\n  b: 1\n})\n"),
        ("let a = f(b   # why\n)", "let a = f(\n  b  # why\n)\n"),
        ("let a = b +  # why\n  c", "let a = b  # why\n  + c\n"),
        ("let a = (b -  # why\n  c)", "# why\nlet a = b - c\n"),
        ("\n\nlet a = 1\n\n\n\nlet b = 2\nlet c = 3\n\n", "let a = 1\n\nlet b = 2\nlet c = 3\n"),
        ("space a{network{b,c}}", "space a { network { b, c } }\n"),
        ("operator a() = { b }", "operator a() { b }\n"),
        ("fusion a() { b: c }", "fusion a { b: c }\n"),
        (
            f"let a = {LONG} -> {LONG} -> {LONG}",
            f"let a = {LONG}\n  -> {LONG}\n  -> {LONG}\n",
        ),
        (
            f"let a = [{LONG}, {LONG}, {LONG}]",
            f"let a = [\n  {LONG}, {LONG}\n  {LONG}\n]\n",
        ),
        (
            f"let a = f(b: {LONG}, c: {LONG}, d: {LONG})",
            f"let a = f(\n  b: {LONG}\n  c: {LONG}\n  d: {LONG}\n)\n",
        ),
    ],
)
def test_the_layout(text, expected):
    assert formatted(text) == expected
    assert formatted(expected) == expected


def relaid(rng, text):
    """The same tokens with other blanks, line breaks and comments between them."""
    out = ""
    place = 0
    for token in tokenize(Source(text)).tokens[:-1]:
        gap = text[place : token.start]
        draw = rng.random()
        if draw < 0.04:
            gap += "\n"
        elif draw < 0.06:
            gap = " # beside\n"
        elif draw < 0.08:
            gap += "\n\n # alone\n\n\n"
        elif draw < 0.2 and "\n" in gap and "#" not in gap:
            gap = rng.choice([" ", ", "])
        out += gap + token.text
        place = token.end
    return out + text[place:]


def test_formatting_keeps_the_meaning_and_the_comments_and_is_done_once():
    rng = random.Random(0)
    texts = [path.read_text(encoding="utf-8") for path in LANGUAGE]
    kept = 0
    for _ in range(600):
        text = relaid(rng, rng.choice(texts))
        try:
            file = parse(Source(text))
        except CompileError:
            continue
        kept += 1
        once = unparse(file)
        again = parse(Source(once))
        assert again == file, text
        assert sorted(c.text.rstrip() for c in again.comments) == sorted(c.text.rstrip() for c in file.comments), text
        assert unparse(again) == once, text
    assert kept > 60


@pytest.mark.parametrize(
    ("value", "text"),
    [(3, "3"), (Fraction(1, 4), "0.25"), (Fraction(16, 10**5), "1.6e-4"), (600_000_000, "600M"), (10**30, "1e30")],
)
def test_numbers_keep_the_way_they_were_written(value, text):
    assert unparse_expr(syntax.Number(value, None, text, span=HERE)) == text
    again = unparse_expr(syntax.Number(value, None, "", span=HERE))
    assert value_of(again).value == value


def test_a_text_that_says_something_else_is_not_trusted():
    assert unparse_expr(syntax.Number(5, None, "3", span=HERE)) == "5"
    assert unparse_expr(syntax.Number(5, "epochs", "five", span=HERE)) == "5 epochs"


def test_a_string_that_can_not_be_written_is_refused():
    with pytest.raises(ValueError, match="quote"):
        unparse_expr(syntax.String('a"b', span=HERE))
