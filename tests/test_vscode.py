"""The extension for VS Code: its grammar is that of the compiler's tables, and colours as the compiler reads."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from nasdsl.editor import textmate
from nasdsl.editor.pieces import KINDS, pieces
from nasdsl.editor.words import words

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "editors" / "vscode"
SHIPPED = [*sorted((ROOT / "spaces").glob("*.space")), *sorted((ROOT / "compiler" / "library").glob("*.space"))]


def test_the_grammar_is_up_to_date():
    assert textmate.FILE.read_text(encoding="utf-8") == textmate.text(), "run `python -m nasdsl.editor.textmate`"
    assert {*textmate.SCOPES} == {*KINDS} - {"error"}


def test_the_grammar_knows_every_word():
    text = textmate.text()
    for found in words().values():
        for word in found:
            assert re.search(rf"\b{word}\b", text), word


def test_the_manifest_names_what_is_there():
    manifest = json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))
    contributes = manifest["contributes"]
    (grammar,) = contributes["grammars"]
    (language,) = contributes["languages"]
    assert (FOLDER / grammar["path"]).is_file() and (FOLDER / language["configuration"]).is_file()
    assert grammar["scopeName"] == textmate.grammar()["scopeName"] and language["extensions"] == [".space"]
    assert contributes["configuration"]["properties"]["nasdsl.command"]["default"] == ["nasdsl", "lsp"]
    source = (FOLDER / "src" / "extension.js").read_text(encoding="utf-8")
    for command in contributes["commands"]:
        assert f'"{command["command"]}"' in source
    json.loads((FOLDER / "language-configuration.json").read_text(encoding="utf-8"))


def _node(*arguments: str) -> str:
    """What a script prints that needs the packages of the extension."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node.js")
    folders = [FOLDER / "node_modules", *map(Path, filter(None, os.environ.get("NODE_PATH", "").split(os.pathsep)))]
    if not any((folder / "vscode-textmate").is_dir() for folder in folders):
        pytest.skip("needs the packages of the extension: `npm ci` in editors/vscode")
    done = subprocess.run([node, *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_grammar_colours_as_the_compiler_reads():
    """As VS Code does it, with its own library, on all files that ship."""
    found = json.loads(_node("test/grammar.js", *map(str, SHIPPED)))
    for path in SHIPPED:
        text = path.read_text(encoding="utf-8")
        coloured = {}
        for start, end, scope in found[str(path)]:
            own = text[start:end]  # blanks around a word may be part of its piece
            begin = start + len(own) - len(own.lstrip())
            coloured[begin] = (begin + len(own.strip()), scope)
        for piece in pieces(text):
            wanted = (piece.end, textmate.SCOPES[piece.kind])
            line = text.count("\n", 0, piece.start) + 1
            assert coloured.get(piece.start) == wanted, f"{path.name}:{line}: {text[piece.start : piece.end]}"


@pytest.mark.long
def test_the_extension_is_packed(tmp_path):
    if shutil.which("npm") is None or not (FOLDER / "node_modules").is_dir():
        pytest.skip("needs Node.js and the packages of the extension: `npm ci` in editors/vscode")
    done = subprocess.run(["npm", "run", "package"], cwd=FOLDER, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(FOLDER / "dist" / "nasdsl.vsix") as packed:
        names = set(packed.namelist())
    assert {
        "extension/package.json",
        "extension/dist/extension.js",
        "extension/syntaxes/space.tmLanguage.json",
        "extension/language-configuration.json",
    } <= names
    assert not [name for name in names if "node_modules" in name]
