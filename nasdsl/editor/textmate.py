"""The TextMate grammar of the language, made of the compiler's tables: VS Code, Sublime Text, JetBrains and others read it.

`python -m nasdsl.editor.textmate` writes it to `editors/vscode/syntaxes/`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nasdsl.compiler.tables import tables
from nasdsl.editor.words import words

FILE = Path(__file__).resolve().parents[2] / "editors" / "vscode" / "syntaxes" / "space.tmLanguage.json"

SCOPES = {
    "comment": "comment.line.number-sign.space",
    "string": "string.quoted.double.space",
    "number": "constant.numeric.space",
    "unit": "support.type.unit.space",
    "mark": "punctuation.space",
    "sign": "keyword.operator.space",
    "infix": "keyword.operator.word.space",
    "declaration": "keyword.declaration.space",
    "control": "keyword.control.space",
    "section": "keyword.other.section.space",
    "defined": "entity.name.space",
    "label": "variable.other.property.space",
    "form": "support.function.form.space",
    "function": "support.function.space",
    "operator": "support.class.operator.space",
    "called": "entity.name.function.space",
    "constant": "constant.language.space",
    "measure": "support.constant.measure.space",
    "ambient": "variable.language.space",
    "field": "variable.other.member.space",
    "name": "variable.other.space",
}
"""The scope of each kind of piece."""

_NAME = r"[A-Za-z_][A-Za-z_0-9]*"
_OPEN = ("x", "step", "in", "not", "and", "or", "implies", "if", "else", "match", "repeat", "require")
"""Words behind which a value has to come, so that what follows is no operator."""

_COMES = r"(?=[ \t]*"  # what follows on the line


def grammar() -> dict[str, Any]:
    """The grammar, as JSON has it."""
    known = words()
    patterns = [
        _match("comment", r"#[^\r\n]*"),
        _match("string", r'"[^"\r\n]*"'),
        # After a dot every word is a name.
        {
            "match": rf"(?<!\.)(\.)(?!\.)[ \t]*({_NAME})",
            "captures": {"1": {"name": SCOPES["mark"]}, "2": {"name": SCOPES["field"]}},
        },
        _match("sign", r"->|\.\.|==|!=|<=|>=|[-+*/^<>=]"),
        # A number, and its unit where one follows.
        {
            "match": rf"({_number()})(?:[ \t]+(?!(?:{_any(_words())})\b)({_NAME}))?",
            "captures": {"1": {"name": SCOPES["number"]}, "2": {"name": SCOPES["unit"]}},
        },
        # A name that is declared, behind its keyword.
        {
            "match": rf"\b(space|operator|fusion|let|param)\b(?!{_path()})(?:[ \t]+({_NAME}))?",
            "captures": {"1": {"name": SCOPES["declaration"]}, "2": {"name": SCOPES["defined"]}},
        },
        {
            "match": rf"\b(for)\b(?!{_path()})(?![ \t]*:[ \t]*\{{)(?:[ \t]+({_NAME})(?:[ \t]+(in)\b)?)?",
            "captures": {
                "1": {"name": SCOPES["control"]},
                "2": {"name": SCOPES["defined"]},
                "3": {"name": SCOPES["infix"]},
            },
        },
        # A keyword that begins a path is a name.
        _match("name", rf"\b(?:repeat|for|else|input)(?={_path()})"),
        _match("label", r"\b(?:repeat|for)(?=[ \t]*:[ \t]*\{)"),
        _match("declaration", rf"\b(?:{_any(known['declaration'])})\b"),
        _match("control", rf"\b(?:{_any(known['control'])})\b"),
        _match("infix", r"\b(?:and|or|not|implies)\b"),
        # `x`, `step` and `in` stand between values where a value ends before them on the line.
        _match("infix", rf"(?<=[\w)\]}}]){_behind_none_of(*_OPEN)}[ \t]+(?:x|step|in)\b(?![ \t]*:)"),
        _match("infix", r"(?<=[)\]}])(?:x|step|in)\b(?![ \t]*:)"),
        _match("section", rf"(?:^|(?<=[{{,]))[ \t]*(?:{_any(known['section'])})\b{_COMES}(?:{_NAME}[ \t]*)?\{{)"),
        _match("label", rf"\b{_NAME}\b{_COMES}:)"),
        _match("form", rf"\b(?:{_any(known['form'])})\b{_COMES}[({{])"),
        _match("function", rf"\b(?:{_any(known['function'])})\b{_COMES}[({{])"),
        _match("operator", rf"\b(?:{_any(known['operator'])})\b{_COMES}[({{])"),
        _match("called", rf"\b{_NAME}\b{_COMES}\()"),
        _match("constant", rf"\b(?:{_any(known['constant'])})\b"),
        _match("measure", rf"\b(?:{_any(known['measure'])})\b"),
        _match("ambient", rf"\b(?:{_any(known['ambient'])})\b"),
        _match("name", rf"\b{_NAME}\b"),
        _match("mark", r"[\]\[(){},:.]"),
    ]
    return {
        "$schema": "https://raw.githubusercontent.com/martinring/tmlanguage/master/tmlanguage.json",
        "name": "nasdsl",
        "scopeName": "source.space",
        "fileTypes": ["space"],
        "patterns": patterns,
    }


def _behind_none_of(*found: str) -> str:
    return "".join(rf"(?<!\b{word})" for word in found)


def _match(kind: str, pattern: str) -> dict[str, str]:
    return {"name": SCOPES[kind], "match": pattern}


def _any(found: Iterable[str]) -> str:
    return "|".join(sorted(map(re.escape, found), key=lambda word: (-len(word), word)))


def _words() -> tuple[str, ...]:
    return tuple(tables().words)


def _number() -> str:
    return tables().patterns["NUMBER"].replace("(", "(?:").replace("(?:?!", "(?!")


def _path() -> str:
    """What follows a keyword that begins a path: `.depth:`, `[0].kernel:`."""
    index = r"\[(?:[^\[\]\n]|\[[^\[\]\n]*\])*\]"
    return rf"(?:\.{_NAME}|{index})+[ \t]*:"


def text() -> str:
    """The grammar as its file holds it."""
    return json.dumps(grammar(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
