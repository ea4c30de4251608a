"""Text -> syntax tree: what is read, where it stands, and what is said of mistakes."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import lark
import pytest

from nasdsl.compiler import syntax
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.frozen import fields
from nasdsl.compiler.parse import LARGEST_FILE, parse, read
from nasdsl.compiler.source import Source
from nasdsl.compiler.tables import GRAMMAR, TABLES, build, tables

TESTS = Path(__file__).parent
LANGUAGE = sorted((TESTS / "language" / "syntax").glob("*.space"))
ERRORS = sorted((TESTS / "errors" / "syntax").glob("*.space"))


def value_of(text) -> Any:
    """The tree of an expression."""
    items: Any = parse(Source(f"let value = {text}")).items
    (let,) = items
    return let.value


def shape(node):
    """An expression with all its parentheses, operators first."""
    match node:
        case syntax.Name():
            return node.name
        case syntax.Number():
            return f"{node.value} {node.unit}" if node.unit else str(node.value)
        case syntax.Incoming():
            return "in"
        case syntax.Binary():
            return f"({node.operator} {shape(node.left)} {shape(node.right)})"
        case syntax.Unary():
            return f"({node.operator} {shape(node.operand)})"
        case syntax.If():
            return f"(if {shape(node.then)} {shape(node.condition)} {shape(node.otherwise)})"
        case syntax.Pipe():
            return f"(-> {' '.join(map(shape, node.steps))})"
        case syntax.Size():
            return f"(x {' '.join(map(shape, node.parts))})"
        case syntax.Range():
            step = "" if node.step is None else f" {shape(node.step)}"
            return f"(.. {shape(node.first)} {shape(node.last)}{step})"
        case syntax.Field():
            return f"{shape(node.base)}.{node.name.name}"
        case syntax.Index():
            return f"{shape(node.base)}[{shape(node.index)}]"
        case syntax.List():
            return f"[{' '.join(map(shape, node.items))}]"
        case syntax.Block():
            return f"{{{' '.join(map(shape, node.items))}}}"
        case syntax.Call():
            arguments = "" if node.arguments is None else f"({' '.join(map(shape, node.arguments))})"
            return node.function.name + arguments + ("" if node.body is None else shape(node.body))
        case syntax.Named():
            key = "else" if isinstance(node.key, syntax.Else) else shape(node.key)
            return f"{key}:{shape(node.value)}"
        case syntax.Repeat():
            return f"(repeat {shape(node.count)} {shape(node.body)})"
    raise AssertionError(node)


def walk(node):
    yield node
    for field in fields(node):
        part = getattr(node, field.name)
        for child in part if isinstance(part, tuple) else (part,):
            if isinstance(child, syntax.Node):
                yield from walk(child)


# --- What is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + b * c - d", "(- (+ a (* b c)) d)"),
        ("a / b / c", "(/ (/ a b) c)"),
        ("1/2^level", "(/ 1 (^ 2 level))"),
        ("a^b^c", "(^ a (^ b c))"),
        ("-a^-b", "(- (^ a (- b)))"),
        ("a -> b + c -> d", "(-> a (+ b c) d)"),
        ("a or b and not c == d", "(or a (and b (not (== c d))))"),
        ("a and b implies c or d", "(implies (and a b) (or c d))"),
        ("x if a == b else y if c else z", "(if x (== a b) (if y c z))"),
        ("3 x 512 x 1024", "(x 3 512 1024)"),
        ("x x x x x", "(x x x x)"),
        ("3 * a x b + 1", "(x (* 3 a) (+ b 1))"),
        ("start + 1 .. end - 1 step 2", "(.. (+ start 1) (- end 1) 2)"),
        ("a in 1..3", "(in a (.. 1 3))"),
        ("in == out", "(== in out)"),
        ("5 epochs * 2", "(* 5 epochs 2)"),
        ("f(a, k: 3)[0].depth", "f(a k:3)[0].depth"),
        ("a.repeat[1/4 -> 2].for", "a.repeat[(-> (/ 1 4) 2)].for"),
        ("f { a }", "f{a}"),
        ("f(a) { b }", "f(a){b}"),
        ("previous(v, else: x)", "previous(v else:x)"),
        ("{ 1/4: a, 3: b }", "{(/ 1 4):a 3:b}"),
        ("repeat 2 { a } -> b", "(-> (repeat 2 {a}) b)"),
        ("repeat f(2)[1] { a }", "(repeat f(2)[1] {a})"),
        ("(a -> b) + c", "(+ (-> a b) c)"),
        ("{ repeat.depth: 2, for[0][1].x: 3, else.in: 4 }", "{repeat.depth:2 for[0][1].x:3 else.in:4}"),
        ("{ repeat: { depth: 2 }, for: { x: 3 } }", "{repeat:{depth:2} for:{x:3}}"),
        ("{ [1/4 -> 2].repeat: 2, [0][1]: 3 }", "{[(-> (/ 1 4) 2)].repeat:2 [0][1]:3}"),
        ("{ repeat [1] { a } -> b }", "{(-> (repeat [1] {a}) b)}"),
        ("{ k: a if b else[1] }", "{k:(if a b [1])}"),
    ],
)
def test_operators_bind_as_the_language_says(text, expected):
    assert shape(value_of(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a\n b,\n c, d\n]", "[a b c d]"),
        ("[a\n -> b\n -b]", "[(-> a b) (- b)]"),
        ("[a +\n b\n * c]", "[(+ a (* b c))]"),
        ("[\n\n a # one\n # two\n\n b # three\n ]", "[a b]"),
        ("[a if b\n else c\n d]", "[(if a b c) d]"),
        ("f(\n a\n b: 3,\n)", "f(a b:3)"),
        ("{ a\r\n b }", "{a b}"),
        ("{ a\n\t(b)\n\t[c] }", "{a b [c]}"),
        ("[a\n x\n step\n]", "[a x step]"),
    ],
)
def test_a_comma_or_a_line_break_separates(text, expected):
    assert shape(value_of(text)) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("224", 224),
        ("1.6e-4", Fraction(16, 100000)),
        ("0.5", Fraction(1, 2)),
        ("2.0", 2),
        ("1e3", 1000),
        ("14K", 14_000),
        ("4.7G", 4_700_000_000),
        ("600M", 600_000_000),
        ("0.0001K", Fraction(1, 10)),
        ("1e300", 10**300),
    ],
)
def test_numbers_are_exact(text, value):
    number = value_of(text)
    assert (number.value, number.unit, number.text) == (value, None, text)
    assert type(number.value) is type(value)


def test_every_span_covers_its_construct():
    text = "space a {\n  let b(c = 1) = (d + 2) * f(e: 3 epochs) { g }  # h\n  search i { j.k[0]: [l] }\n}\n"
    found = {(type(node).__name__, node.span.text) for node in walk(parse(Source(text)))}
    assert found >= {
        ("Space", text.strip()),
        ("Name", "a"),
        ("Let", "let b(c = 1) = (d + 2) * f(e: 3 epochs) { g }"),
        ("Formal", "c = 1"),
        ("Binary", "(d + 2) * f(e: 3 epochs) { g }"),
        ("Binary", "d + 2"),
        ("Call", "f(e: 3 epochs) { g }"),
        ("Named", "e: 3 epochs"),
        ("Number", "3 epochs"),
        ("Block", "{ g }"),
        ("Section", "search i { j.k[0]: [l] }"),
        ("Index", "j.k[0]"),
        ("Field", "j.k"),
        ("List", "[l]"),
        ("Comment", "# h"),
        ("File", text),
    }
    (binary,) = (node for node in walk(parse(Source(text))) if isinstance(node, syntax.Binary) and node.operator == "*")
    assert binary.operator_span.text == "*"


def test_declarations_have_their_parts():
    file = parse(read(TESTS / "language" / "syntax" / "declarations.space"))
    kinds = [type(item).__name__ for item in file.items]
    assert kinds == ["Use", "Let", "Let", "Operator", "Fusion", "Fusion", "Space", "Derived", "Derived"]
    items: Any = file.items
    use, _, double, _, narrow, wide, space, small, _ = items
    assert use.path.value == "base.space"
    assert [formal.name.name for formal in double.formals] == ["n"]
    assert (narrow.formals, len(wide.formals)) == ((), 1)
    params = [item for item in space.body if isinstance(item, syntax.Param)]
    assert [param.choices for param in params] == [False, True]
    sections = [item for item in space.body if isinstance(item, syntax.Section)]
    assert [(s.kind.name, s.name and s.name.name) for s in sections] == [("network", None), ("search", "shrink")]
    assert [type(change).__name__ for change in small.changes] == ["Pin", "Input", "Pin", "Pin", "Require", "Section"]
    pins = [change.place for change in small.changes if isinstance(change, syntax.Pin)]
    assert shape(pins[1]) == "stage[2].parallel[(/ 1 8)].repeat[0].hidden[3]"


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment", "\ufeff", "\r\n# a\r\n"])
def test_an_empty_file_holds_nothing(text):
    assert parse(Source(text)).items == ()


def test_lark_reads_what_is_read():
    grammar = lark.Lark(GRAMMAR.read_text(encoding="utf-8"), parser="lalr", maybe_placeholders=False)
    for path in LANGUAGE:
        if path.stem != "words":  # Lark looks one state ahead to tell `x` from a name, and is wrong now and then
            grammar.parse(path.read_text(encoding="utf-8"))


# --- The tables ------------------------------------------------------------------------------------------------------


def test_the_stored_tables_are_those_of_the_grammar():
    built = build(GRAMMAR.read_text(encoding="utf-8"))
    assert json.loads(json.dumps(asdict(built))) == json.loads(TABLES.read_text(encoding="utf-8")), (
        "the grammar has changed: run `python -m nasdsl.compiler.tables`"
    )


@pytest.mark.parametrize("stored", [None, b"", b"{", b"[]", b'{"grammar": 3}', b"\xff"])
def test_tables_that_can_not_be_used_are_made_anew(monkeypatch, tmp_path, stored):
    from nasdsl.compiler import tables

    path = tmp_path / "grammar.json"
    if stored is not None:
        path.write_bytes(stored)
    monkeypatch.setattr(tables, "TABLES", path)
    assert tables.tables.__wrapped__().start == 0


def test_reading_a_file_leaves_lark_alone():
    code = (
        "import sys; from pathlib import Path; from nasdsl.compiler.parse import parse, read;"
        f"parse(read(Path({str(LANGUAGE[0])!r}))); sys.exit('lark' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=TESTS.parent).returncode == 0


# --- Mistakes --------------------------------------------------------------------------------------------------------


def mistakes(text):
    with pytest.raises(CompileError) as caught:
        parse(Source(text))
    return caught.value.diagnostics


def in_space(text):
    return f"space s {{\n{text}\n}}"


def in_network(text):
    return f"space s {{\n  network {{\n{text}\n  }}\n}}"


@pytest.mark.parametrize("path", ERRORS, ids=lambda path: path.stem)
def test_each_marked_line_has_its_error(path):
    source = read(path)
    with pytest.raises(CompileError) as caught:
        parse(source)
    found = {(d.span.line, d.code) for d in caught.value.diagnostics if d.span}
    expected = set()
    for number, line in enumerate(source.text.split("\n"), 1):
        expected |= {(number, code) for code in re.findall(r"# error: ([a-z-]+)", line)}
    assert found == expected


@pytest.mark.parametrize(
    ("text", "code", "underlined"),
    [
        (in_network("conv(24, stride = 2)"), "equals-for-colon", "="),
        (in_network("conv(24, stride 2)"), "missing-colon", "2"),
        (in_network("stem conv(24)"), "missing-colon", "conv"),
        (in_network("{ 3 units(8) }"), "missing-colon", "units"),
        (in_network("conv(out stride)"), "missing-comma", "stride"),
        (in_network("a: conv(3) b: conv(4)"), "missing-comma", "b"),
        (in_network("conv(3) ->"), "missing-operand", "->"),
        (in_network("-> conv(3)"), "missing-operand", "->"),
        (in_network("a + * b"), "missing-operand", "+"),
        (in_network("stem:\nnext: conv(3)"), "missing-value", ":"),
        (in_network("a: b: c"), "second-colon", ":"),
        (in_network("repeat 3"), "missing-block", "repeat"),
        (in_network("for i in 1..3"), "missing-block", "for"),
        (in_network("match op"), "missing-block", "match"),
        (in_network("repeat n ^ 2 { a() }"), "head-needs-parentheses", "^"),
        (in_network("match n < 1 { true: a() }"), "head-needs-parentheses", "<"),
        (in_network("repeat { a() }"), "missing-head", "repeat"),
        (in_network("for i = 1..3 { a() }"), "missing-in", "="),
        (in_network("for in 1..3 { a() }"), "keyword-as-name", "in"),
        (in_network("if a { b() }"), "if-statement", "if"),
        (in_network("conv(2 if first)"), "missing-else", "if"),
        (in_network("else a"), "missing-colon", "a"),
        (in_network("(a, b)"), "one-value", "b"),
        (in_network("a[1, 2]"), "one-value", ","),
        (in_network("()"), "empty-brackets", ")"),
        (in_network("conv(3,, 4)"), "extra-comma", ","),
        (in_network("operator f() = a"), "misplaced-declaration", "operator"),
        (in_network("param a = 3"), "misplaced-declaration", "param"),
        (in_network("conv\n(to: 3)"), "misplaced-bracket", "("),
        (in_network("stem\n: conv(3)"), "misplaced-mark", ":"),
        (in_space("operator f = conv(3)"), "missing-formals", "f"),
        (in_space("operator f { conv(3) }"), "missing-formals", "f"),
        (in_space("operator f()"), "missing-body", "f"),
        (in_space("operator = conv(3)"), "missing-name", "operator"),
        (in_space("let a: 3"), "colon-for-equals", ":"),
        (in_space("let a == 3"), "double-equals", "=="),
        (in_space("let a 3"), "missing-equals", "3"),
        (in_space("let a"), "missing-value", "a"),
        (in_space("let a =\nlet b = 3"), "missing-value", "="),
        (in_space("let match = 3"), "keyword-as-name", "match"),
        (in_space("let f(a: 3) = a"), "colon-for-equals", ":"),
        (in_space("require a = b"), "single-equals", "="),
        (in_space("require a < b < c"), "chained-comparison", "<"),
        (in_space("require"), "missing-value", "require"),
        (in_space("lanes = 3"), "missing-let", "lanes"),
        (in_space("oprator f(a) = a"), "unknown-word", "oprator"),
        (in_space("stem: conv(3)"), "misplaced-step", "stem"),
        (in_space("conv(3) -> conv(4)"), "misplaced-step", "conv"),
        (in_space("network"), "missing-block", "network"),
        (in_space("fusion f = 3"), "missing-block", "f"),
        (in_space("input 3 x 4 let a = 3"), "missing-comma", "let"),
        ("spcae a {}", "unknown-word", "spcae"),
        ("network { conv(3) }", "outside-space", "network"),
        ("param a = 3", "outside-space", "param"),
        ("space {}", "missing-name", "space"),
        ("space a", "missing-block", "a"),
        ("space a = b {}", "missing-with", "{"),
        ("space a = b with { c 3 }", "missing-colon", "3"),
        ("space a = b with { c = 3 }", "equals-for-colon", "="),
        ("space a = b with { let c = 3 }", "misplaced-declaration", "let"),
        ("use hrnas", "missing-path", "hrnas"),
        ("let a = 3 x 4 x 5 x 6", "size-too-long", "x"),
        ("let a = 1..2..3", "chained-range", ".."),
        ("let a = .5", "malformed-number", ".5"),
        ("let a = 1.", "malformed-number", "1."),
        ("let a = 5epochs", "malformed-number", "5epochs"),
        ("let a = 1_000", "malformed-number", "1_000"),
        ("let a = 1e999999999", "number-too-large", "1e999999999"),
        ("let a = 1e-999999999", "number-too-large", "1e-999999999"),
        ('let a = "b', "unclosed-string", '"b'),
        ("let a = 'b'", "single-quotes", "'b'"),
        ("let a = b // c", "wrong-comment", "//"),
        ("let a = 3;", "semicolon", ";"),
        ("let a = b && c", "foreign-operator", "&&"),
        ("let a = b → c", "stray-character", "→"),
        ("let a = b\x00", "stray-character", "\x00"),
        ("let a = \ud800", "stray-character", "\ud800"),
        ("let a = b == not c", "misplaced-not", "not"),
        ("let a = b if c -> d else e", "misplaced-arrow", "->"),
        ("let a = [for k in [1] k]", "missing-colon", "k"),
        ("let a = [for k in 0..n ^ 2: k]", "head-needs-parentheses", "^"),
        ("let a = [for k in xs == ys, d in 1..3: k]", "head-needs-parentheses", "=="),
        ("let a = f(for: 3)", "keyword-as-name", "for"),
        ("let a = (b = c)", "single-equals", "="),
        ("let a = b.", "missing-name", "."),
        ("let a = 3 (4)", "misplaced-bracket", "("),
        ("let a = [1, 2", "unclosed-bracket", "["),
        ("let a = [1, 2)", "mismatched-bracket", ")"),
        ("let a = 1)", "unmatched-bracket", ")"),
    ],
)
def test_a_mistake_is_named_and_underlined(text, code, underlined):
    (mistake,) = mistakes(text)
    assert (mistake.code, mistake.span.text) == (code, underlined)


def test_a_missing_brace_is_reported_where_it_was_opened():
    text = "space a {\n  network {\n    conv(3)\n\n  search evolve { trials: 3 }\n}\n"
    (mistake,) = mistakes(text)
    assert (mistake.code, mistake.span.line, mistake.span.column) == ("unclosed-bracket", 2, 11)
    assert mistake.others[0].span.line == 5


def test_independent_mistakes_are_reported_in_one_run():
    text = in_space("  let a 3\n  network {\n    conv(3 4)\n    repeat 3\n  }\n  lte b = 3") + "\nspcae c {}"
    assert [d.code for d in mistakes(text)] == [
        "missing-equals",
        "missing-comma",
        "missing-block",
        "unknown-word",
        "unknown-word",
    ]


@pytest.mark.parametrize(
    ("text", "help"),
    [
        ("spcae a {}", "did you mean `space`?"),
        ("let a = 3x512x1024", "a size is written `3 x 512 x 1024`"),
        (in_network("conv(3, stride = 2)"), "write `:`"),
        ("operator f = g()", "write `operator f() = ...`"),
        ("use hrnas", 'write `use "hrnas.space"`'),
    ],
)
def test_the_help_says_what_to_write(text, help):
    assert mistakes(text)[0].help == help


def test_no_message_lists_tokens():
    for path in ERRORS:
        with pytest.raises(CompileError) as caught:
            parse(read(path))
        for mistake in caught.value.diagnostics:
            assert not re.search(r"[A-Z]{3}|\$|Token", mistake.message + mistake.help), mistake


# --- Absurd input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "let a = " + "(" * 5000,
        "let a = " + "(" * 5000 + "b" + ")" * 5000,
        "let a = " + "[" * 61 + "]" * 61,
        "let a = " + "f(" * 3000 + ")" * 3000,
        "let a = " + "b + " * 5000 + "b",
        "let a = " + "- " * 5000 + "b",
        "let a = " + "not " * 5000 + "b",
        "let a = " + "b^" * 5000 + "b",
        "let a = " + "b if c else " * 5000 + "b",
        "let a = b" + ".c" * 5000,
        "let a = b" + "[0]" * 5000,
        "let a = repeat b" + "\n.c" * 5000 + "{}",
    ],
    ids=lambda text: text[8:20],
)
def test_deep_nesting_is_refused(text):
    assert mistakes(text)[0].code in ("too-deep", "unclosed-bracket")


def test_long_and_flat_is_no_matter():
    assert len(value_of("b -> " * 5000 + "b").steps) == 5001
    assert len(value_of("[" + "-1\n" * 5000 + "]").items) == 5000


@pytest.mark.parametrize("text", ["b + " * 147 + "b", "{ c: " * 60 + "b" + " }" * 60, "- " * 147 + "b"])
def test_the_deepest_trees_can_be_compared(text):
    assert value_of(text) == value_of(text)
    assert hash(value_of(text))
    assert repr(value_of(text))


@pytest.mark.parametrize(
    "text",
    [
        "}" * 200_000,
        ";" * 200_000,
        "a " * 100_000,
        "'" * 200_000,
        "\0" * 200_000,
        "let " * 50_000,
        "{}" * 100_000,
        "1" * 200_000,
        "1e" * 100_000,
        "\n" * 200_000 + "(",
        "/*" * 100_000,
    ],
    ids=lambda text: repr(text[:4]),
)
def test_noise_is_refused_soon(text):
    begin = time.perf_counter()
    assert 1 <= len(mistakes(text)) <= 20
    assert time.perf_counter() - begin < 5


PIECES = [*"()[]{},:=+-*/^.\"'#;_3\n\t\0é", "==", "->", "..", "//", "1e9", "1e999999", "0x1", "5epochs", '"a"', "name"]
PIECES += tables().words


def mutated(rng, text):
    for _ in range(rng.choice([1, 1, 2, 6])):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.randrange(1, 30))
        other = rng.randrange(len(text) + 1)
        text = rng.choice(
            [
                text[:start] + text[end:],
                text[:start] + rng.choice(PIECES) + text[start:],
                f"{text[:start]} {rng.choice(PIECES)} {text[start:]}",
                text[:start] + text[start + 1 :],
                text[:end] + text[start:],
                text[:start] + text[other : other + 40] + text[start:],
            ]
        )
    return text


def test_whatever_the_text_only_a_compile_error_is_raised():
    rng = random.Random(0)
    texts = [path.read_text(encoding="utf-8") for path in LANGUAGE + ERRORS]
    for _ in range(1500):
        text = mutated(rng, rng.choice(texts))
        begin = time.perf_counter()
        try:
            parse(Source(text))
        except CompileError as problem:
            assert problem.diagnostics
            for mistake in problem.diagnostics:
                assert mistake.span
                assert 0 <= mistake.span.start <= mistake.span.end <= len(text), text
                assert mistake.message
                assert "\n" not in mistake.message
        assert time.perf_counter() - begin < 2, text


# --- Files -----------------------------------------------------------------------------------------------------------


def test_a_file_is_read_with_its_name(tmp_path):
    path = tmp_path / "a.space"
    path.write_bytes(b"\xef\xbb\xbflet a = 3\r\nlet b = 4\rlet c = 5\n")
    source = read(path)
    assert (source.text, source.name, source.path) == ("let a = 3\nlet b = 4\nlet c = 5\n", str(path), path)
    assert len(parse(source).items) == 3


def test_what_is_no_text_is_refused(tmp_path):
    (tmp_path / "noise.space").write_bytes(b"let a = 3\nlet b = \xff\xfe\n")
    (tmp_path / "large.space").write_bytes(b"#" * (LARGEST_FILE + 1))
    (tmp_path / "huge.space").write_bytes(b"#" * (5 * LARGEST_FILE))
    expected = {
        "none.space": "no-such-file",
        ".": "not-a-file",
        "noise.space": "not-utf8",
        "large.space": "file-too-large",
        "huge.space": "file-too-large",
        "a\0b": "unreadable-file",
        "noise.space/a": "unreadable-file",
    }
    for name, code in expected.items():
        with pytest.raises(CompileError) as caught:
            read(tmp_path / name)
        assert caught.value.diagnostics[0].code == code


def test_text_that_is_too_long_is_refused():
    assert mistakes("#" * (LARGEST_FILE + 1))[0].code == "file-too-large"
