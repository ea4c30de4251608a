"""The lexer for Pygments, and the pieces that it and other highlighters colour."""

from __future__ import annotations

import random
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from pygments.token import Error, Keyword, Name

from nasdsl.compiler import ops, syntax
from nasdsl.compiler.bind import library
from nasdsl.compiler.bind.walk import walk
from nasdsl.compiler.parse import parse, read
from nasdsl.compiler.source import Source
from nasdsl.compiler.tables import tables
from nasdsl.editor.lexer import TOKENS, SpaceLexer
from nasdsl.editor.pieces import KINDS, Piece, pieces
from nasdsl.editor.words import words

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = [*sorted((ROOT / "spaces").glob("*.space")), *sorted((ROOT / "compiler" / "library").glob("*.space"))]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_files_that_ship_have_no_errors_and_come_back_whole(path):
    text = read(path).text
    tokens = list(SpaceLexer(stripnl=False).get_tokens(text))
    assert "".join(part for _, part in tokens) == text
    assert not [part for kind, part in tokens if kind is Error]


@pytest.mark.parametrize("path", [*SHIPPED, *sorted((ROOT / "tests" / "language").glob("*.space"))], ids=str)
def test_words_that_may_be_names_are_told_apart_as_the_parser_does(path):
    source = read(path)
    infix, others = _by_the_parser(parse(source))
    for piece in pieces(source.text):
        text = source.text[piece.start : piece.end]
        if text in ("x", "step", "in") and piece.kind != "comment":
            place = f"{path.name}: {source.position(piece.start)} {text}"
            assert (piece.kind == "infix") == (piece.start not in others), place
            if text != "in":  # that of `for` and of formals stands in no node of its own
                assert (piece.kind == "infix") == (piece.start in infix), place


def _by_the_parser(tree: syntax.File) -> tuple[set[int], set[int]]:
    """Where an infix `x` or `step` stands, and where one of the three is a name."""
    infix: set[int] = set()
    others: set[int] = set()
    for node in walk(tree):
        between: list[tuple[syntax.Node, syntax.Node]] = []
        if isinstance(node, syntax.Size):
            between = list(zip(node.parts, node.parts[1:], strict=False))
        elif isinstance(node, syntax.Range) and node.step is not None:
            between = [(node.last, node.step)]
        for one, other in between:
            text = one.span.source.text[one.span.end : other.span.start]
            infix.add(one.span.end + max(text.find("x"), text.find("step")))
        if isinstance(node, syntax.Incoming | syntax.Name):
            others.add(node.span.start)
        if isinstance(node, syntax.Bind):
            others.add(node.span.start)
    return infix, others


def test_every_word_of_the_language_is_coloured():
    listed = words()
    assert {*listed["declaration"], *listed["control"], *listed["infix"]} == set(tables().words)
    assert {*ops.CATALOGUE, *library.OPERATORS} <= set(listed["operator"])
    for kind, found in listed.items():
        for word in found:
            text = f"{word} " if kind in ("declaration", "control", "infix", "section") else f"a({word})"
            text = f"{word}(1)" if kind in ("form", "function", "operator") else text
            text = f"{word} {{ }}" if kind == "section" else f"1 {word} 2" if kind == "infix" else text
            assert "error" not in {piece.kind for piece in pieces(text)}, text
    assert set(TOKENS) == set(KINDS)


def test_kinds():
    text = """# a space
space tiny { # here
  param width in [8, 16]
  input 3 x 32 x 32
  operator block(out, x = 2) = conv(out, kernel: 3) -> relu()
  network {
    stem: block(8 if width == 8 else 16)
    parallel { repeat oneof(1, 2) { block(in) } }
    classify(classes: 10)
  }
  search shrink { epochs: 5 epochs, limit: macs <= 600M, from: "a b", off: none }
}
"""
    kinds = {(text[p.start : p.end], p.kind) for p in pieces(text)}
    for word, kind in {
        "# a space": "comment",
        "space": "declaration",
        "tiny": "defined",
        "width": "name",
        "x": "infix",
        "block": "called",
        "conv": "operator",
        "kernel": "label",
        "stem": "label",
        "->": "sign",
        "==": "sign",
        "if": "control",
        "parallel": "form",
        "oneof": "function",
        "in": "ambient",
        "network": "section",
        "search": "section",
        "5": "number",
        "600M": "number",
        "epochs": "unit",
        "macs": "measure",
        "none": "constant",
        '"a b"': "string",
        "{": "mark",
    }.items():
        assert (word, kind) in kinds
    assert (text.index("x = 2"), "name") in {(p.start, p.kind) for p in pieces(text)}


def test_what_is_no_token_is_an_error_and_the_rest_is_read():
    text = "let a = b && c ; 'single' \x00 ≤ " + "; " * 50 + "conv(3)"
    found = pieces(text)
    assert [text[p.start : p.end] for p in found if p.kind == "error"][:5] == ["&&", ";", "'single'", "\x00", "≤"]
    assert found[-4:] == [
        Piece(len(text) - 7, len(text) - 3, "operator"),
        Piece(len(text) - 3, len(text) - 2, "mark"),
        Piece(len(text) - 2, len(text) - 1, "number"),
        Piece(len(text) - 1, len(text), "mark"),
    ]


def test_any_text_adds_up():
    generator = random.Random(0)
    text = read(ROOT / "spaces" / "hrnas.space").text
    for _ in range(60):
        start = generator.randrange(len(text))
        cut = text[start : start + generator.randrange(300)] + generator.choice(["", '"', "\ufeff", "é;", "!!", "\r\n"])
        tokens = list(SpaceLexer().get_tokens_unprocessed(cut))
        assert "".join(part for _, _, part in tokens) == cut
        assert [place for place, _, _ in tokens] == sorted({place for place, _, _ in tokens})


def test_pygments_finds_it_by_the_entry_point():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (entry,) = project["entry-points"]["pygments.lexers"].values()
    assert EntryPoint("nasdsl", entry, "pygments.lexers").load() is SpaceLexer
    assert {"space", "nasdsl"} == set(SpaceLexer.aliases)


def test_html():
    from pygments import highlight
    from pygments.formatters import HtmlFormatter

    page = highlight("space a { let b = conv(3) }", SpaceLexer(), HtmlFormatter())
    assert '<span class="kd">space</span>' in page
    assert (Keyword.Declaration in Keyword) and (TOKENS["operator"] in Name)


def test_parser_and_pieces_agree_on_what_is_a_name():
    source = Source("let x = x x in\nlet step = 1..x step step")
    kinds = [(source.text[p.start : p.end], p.kind) for p in pieces(source.text)]
    assert [kind for text, kind in kinds if text in ("x", "step", "in")] == [
        *("defined", "name", "infix", "ambient"),
        *("defined", "name", "infix", "name"),
    ]
