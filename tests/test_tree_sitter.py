"""The tree-sitter grammar: it reads what the compiler reads, to the same tree; its queries have the tables' words."""

from __future__ import annotations

import ctypes
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nasdsl.compiler import syntax
from nasdsl.compiler.bind.walk import walk
from nasdsl.compiler.parse import parse, read
from nasdsl.compiler.source import Source
from nasdsl.editor import treesitter
from nasdsl.editor.pieces import pieces

tree_sitter = pytest.importorskip("tree_sitter")

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "editors" / "tree-sitter"
SHIPPED = [*sorted((ROOT / "spaces").glob("*.space")), *sorted((ROOT / "compiler" / "library").glob("*.space"))]


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    """The parser, compiled."""
    compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    if compiler is None:
        pytest.skip("needs a C compiler")
    library = tmp_path_factory.mktemp("parser") / "nasdsl.so"
    sources = [FOLDER / "src" / "parser.c", FOLDER / "src" / "scanner.c"]
    command = [compiler, "-shared", "-fPIC", "-I", FOLDER / "src", "-o", library, *sources]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    entry = ctypes.CDLL(str(library)).tree_sitter_nasdsl
    entry.restype = ctypes.c_void_p
    wrap = ctypes.pythonapi.PyCapsule_New
    wrap.restype, wrap.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return tree_sitter.Language(wrap(entry(), b"tree_sitter.Language", None))


def nodes(tree: Any) -> Iterator[Any]:
    queue = [tree.root_node]
    while queue:
        node = queue.pop()
        yield node
        queue.extend(node.children)


def read_by(language: Any, text: str) -> Any:
    return tree_sitter.Parser(language).parse(text.encode())


KINDS: dict[str, tuple[type, ...]] = {
    "call": (syntax.Call,),
    "field": (syntax.Field,),
    "index": (syntax.Index,),
    "let": (syntax.Let,),
    "operator": (syntax.Operator,),
    "fusion": (syntax.Fusion,),
    "param": (syntax.Param,),
    "pin": (syntax.Pin,),
    "section": (syntax.Section,),
    "named": (syntax.Named,),
    "formal": (syntax.Formal,),
    "match": (syntax.Match,),
    "for": (syntax.For,),
    "repeat": (syntax.Repeat,),
    "comprehension": (syntax.Comprehension,),
    "conditional": (syntax.If,),
    "binary": (syntax.Binary,),
    "unary": (syntax.Unary,),
    "number": (syntax.Number,),
    "string": (syntax.String,),
    "incoming": (syntax.Incoming,),
    "derived_space": (syntax.Derived,),
    "space": (syntax.Space,),
    "use": (syntax.Use,),
}
"""What is the same in both trees. Pipes, sizes and ranges are flat in the compiler's, and nested in the other one."""


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_it_reads_what_the_compiler_reads(language, path):
    source = read(path)
    data = source.text.encode()
    tree = read_by(language, source.text)
    assert not tree.root_node.has_error
    offsets = [0] * (len(data) + 1)  # characters by bytes
    place = 0
    for number, character in enumerate(source.text):
        offsets[place] = number
        place += len(character.encode())
    offsets[place] = len(source.text)
    here: dict[str, set[tuple[int, int]]] = {kind: set() for kind in KINDS}
    for node in nodes(tree):
        if node.type in here and node.is_named:
            here[node.type].add((offsets[node.start_byte], offsets[node.end_byte]))
    there: dict[str, set[tuple[int, int]]] = {kind: set() for kind in KINDS}
    for kind, classes in KINDS.items():
        there[kind] = {(n.span.start, n.span.end) for n in walk(parse(source)) if isinstance(n, classes)}
    for kind in KINDS:
        assert here[kind] == there[kind], kind


@pytest.mark.parametrize(
    "text",
    [
        "let x = x x 3\n",
        "let a = 3 x\n  4 x step\n",
        "let step = 1..9 step step\n",
        "space a {\n  network {\n    conv(3)\n    -> relu()\n    x\n  }\n}\n",
        "let a = b\n  if c\n  else d\nlet e = f # g\n\n# h\nlet i = j\n",
        "let a = [for i in [1, 2], j in 0..i: i * j]\n",
        "space b = a with { repeat.depth: 2, for[0].kernel: [3, 5], else: 1, input: 3 x 8 x 8 }\n",
        "space b = a with { stage: { repeat: { depth: 2 } } }\n",
        'use "a.space" { b, c }\nlet order = if_then(and_so)\nlet d = order\n',
        "let a = -3 ^ 2 - 4 in c and not b\n",
        "",
        "# nothing\n",
    ],
)
def test_words_and_line_breaks(language, text):
    parse(Source(text))
    assert not read_by(language, text).root_node.has_error


def test_names_are_told_from_infix_words(language):
    text = "let x = x x step\nlet b = a..x step x\nlet c = in in in\n"
    found = {(n.start_byte, n.type) for n in nodes(read_by(language, text))}
    for piece in pieces(text):
        word = text[piece.start : piece.end]
        if word in ("x", "step", "in"):
            kind = word if piece.kind == "infix" else {"in": "incoming"}.get(word, "identifier")
            assert (piece.start, kind) in found
            assert word != "in" or ((piece.start, "incoming") in found) == (kind == "incoming")


def test_any_text_is_read(language):
    generator = random.Random(0)
    text = read(ROOT / "spaces" / "darts.space").text
    for _ in range(100):
        start = generator.randrange(len(text))
        cut = text[:start] + generator.choice(["", "{", "\n)", "é", '"']) + text[start + generator.randrange(9) :]
        tree = read_by(language, cut)
        assert tree.root_node.end_byte <= len(cut.encode())
        assert any(node.type == "space" or node.type == "ERROR" for node in nodes(tree))


def test_the_highlighting_is_up_to_date():
    text = treesitter.FILE.read_text(encoding="utf-8")
    assert text == treesitter.highlights(), "run `python -m nasdsl.editor.treesitter`"


@pytest.mark.parametrize("name", ["highlights", "folds", "locals", "indents"])
def test_queries_are_valid_and_find_something(language, name):
    query = tree_sitter.Query(language, (FOLDER / "queries" / f"{name}.scm").read_text(encoding="utf-8"))
    tree = read_by(language, read(ROOT / "spaces" / "hrnas.space").text)
    found = tree_sitter.QueryCursor(query).captures(tree.root_node)
    assert found
    if name == "highlights":
        operators = {node.text.decode() for node in found["constructor"]}
        assert {"mixconv", "conv", "upsample"} <= operators and "searching" not in operators
        assert {"searching", "joined"} <= {node.text.decode() for node in found["function.call"]}
        assert "hrnas" in {node.text.decode() for node in found["type.definition"]}
