"""The highlighting of the tree-sitter grammar, with the words of the compiler's tables: Neovim, Helix and Zed read it.

`python -m nasdsl.editor.treesitter` writes it to `editors/tree-sitter/queries/`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path

from nasdsl.compiler.bind.binder import SECTIONS
from nasdsl.editor.words import words

FILE = Path(__file__).resolve().parents[2] / "editors" / "tree-sitter" / "queries" / "highlights.scm"

HEAD = """\
; Written by `python -m nasdsl.editor.treesitter`, with the words of the compiler's tables. What stands further down
; goes before what stands above.

(identifier) @variable
(comment) @comment
(string) @string
(number) @number
(unit) @type

["space" "operator" "fusion" "let" "param" "input" "require"] @keyword
["use" "with"] @keyword.import
["for" "repeat"] @keyword.repeat
["match" "if" "else"] @keyword.conditional
["and" "or" "not" "in" "implies" "x" "step"] @keyword.operator
["->" ".." "+" "-" "*" "/" "^" "==" "!=" "<=" ">=" "<" ">" "="] @operator
["(" ")" "[" "]" "{" "}"] @punctuation.bracket
["," ":" "."] @punctuation.delimiter

(incoming) @variable.builtin
(field name: (identifier) @property)
(named key: (identifier) @property)
(pin place: (identifier) @property)
(formal name: (identifier) @variable.parameter)
(bind name: (identifier) @variable.parameter)

(space name: (identifier) @type.definition)
(derived_space name: (identifier) @type.definition)
(derived_space base: (identifier) @type)
(operator name: (identifier) @function)
(fusion name: (identifier) @function)
(let name: (identifier) @variable)
(let name: (identifier) @function (formals))
(param name: (identifier) @constant)
(section kind: (identifier) @module)
(section name: (identifier) @type)

(call function: (identifier) @function.call)
"""


def highlights() -> str:
    """The query, as its file holds it."""
    known = words()
    return (
        HEAD
        + _any("(call function: (identifier) @constructor", known["operator"])
        + _any("(call function: (identifier) @function.builtin", (*known["function"], *known["form"]))
        + _any("((identifier) @constant.builtin", (*known["constant"], *known["measure"]))
        + _any("((identifier) @variable.builtin", [word for word in known["ambient"] if word != "in"])
        + _any("(section kind: (identifier) @keyword", SECTIONS)
    )


def _any(pattern: str, found: Iterable[str]) -> str:
    capture = pattern.rpartition("@")[2]
    listed = " ".join(f'"{word}"' for word in sorted(set(found)))
    lines = textwrap.fill(listed, 116, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
    return f"\n{pattern}\n  (#any-of? @{capture}\n{lines}))\n"


if __name__ == "__main__":
    FILE.write_text(highlights(), encoding="utf-8")
