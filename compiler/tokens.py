"""Text into tokens. Layout is kept as one bit a token: whether it is the first of its line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from nasdsl.compiler.diagnostics import Diagnostic, shortened
from nasdsl.compiler.source import Source, Span
from nasdsl.compiler.tables import END, tables

LONGEST_NUMBER = 60
LARGEST_EXPONENT = 300
MOST_MISTAKES = 20  # to be told in one run


class Token(NamedTuple):
    """`kind` is the terminal's name in the tables: `NAME`, `NUMBER`, or the text itself of words and marks."""

    kind: str
    text: str
    start: int
    end: int
    leads: bool  # first of its line


@dataclass(frozen=True)
class Tokens:
    """The tokens with `END` behind them, the places of the comments, and what was no token at all."""

    tokens: list[Token]
    comments: list[tuple[int, int]]
    mistakes: list[Diagnostic]


@cache
def _pattern() -> re.Pattern[str]:
    known = tables()
    marks = "|".join(re.escape(mark) for mark in known.marks)
    parts = (
        ("blank", r"[ \t\ufeff]+"),
        ("NAME", known.patterns["NAME"]),
        ("line", r"\r?\n"),
        ("NUMBER", known.patterns["NUMBER"]),
        ("foreign", r"//[^\r\n]*|/\*(?:(?!\*/).)*(?:\*/)?|\*/|&&|\|\||\*\*|=>|:=|!(?!=)|;|==="),
        ("COMPARE", known.patterns["COMPARE"]),
        ("mark", marks),
        ("STRING", known.patterns["STRING"]),
        ("comment", r"#[^\r\n]*"),
        ("glued", r"[0-9][A-Za-z_0-9]*(?:\.[0-9][A-Za-z_0-9]*)*"),
        ("open_string", r'"[^\r\n]*'),
        ("quoted", r"'[^'\r\n]*'?"),
        ("stray", r"[^\x00-\x7f]+|[\x00-\x08\x0b-\x1f\x7f]+|."),
    )
    return re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in parts), re.DOTALL)


def tokenize(source: Source) -> Tokens:
    """All tokens of a source. What can't be one is noted and left out, or stood in for where that is plain."""
    words = frozenset(tables().words) - {"x", "step"}  # these two are told apart by where they stand
    step = re.compile(tables().patterns["STEP"])
    tokens: list[Token] = []
    comments: list[tuple[int, int]] = []
    mistakes: list[Diagnostic] = []
    leads = True
    add = tokens.append
    for match in _pattern().finditer(source.text):
        kind = match.lastgroup
        if kind == "blank":
            continue
        if kind == "line":
            leads = True
            continue
        start, end = match.span()
        text = match.group()
        if kind == "NAME":
            after_dot = bool(tokens) and tokens[-1].kind == "."
            if text in words and not after_dot and not step.match(source.text, start):
                add(Token(text, text, start, end, leads))
            else:
                add(Token("NAME", text, start, end, leads))
        elif kind == "mark":
            add(Token(text, text, start, end, leads))
        elif kind == "comment":
            comments.append((start, end))
            continue
        elif kind == "NUMBER":
            if (len(text) > 9 or "e" in text or "E" in text) and (too := _too_large(text, Span(source, start, end))):
                mistakes.append(too)
                text = "0"
            add(Token("NUMBER", text, start, end, leads))
        elif kind == "COMPARE" or kind == "STRING":
            add(Token(kind, text, start, end, leads))
        else:
            mistake, stand_in = _mistaken(kind or "", text, Span(source, start, end))
            mistakes.append(mistake)
            if len(mistakes) == MOST_MISTAKES:
                break
            if stand_in is None:
                leads = leads or text == ";"
                continue
            add(Token(*stand_in, start, end, leads))
        leads = False
    add(Token(END, "", len(source.text.rstrip()), len(source.text.rstrip()), True))
    return Tokens(tokens, comments, mistakes)


def is_name(text: str) -> bool:
    """Whether a file can give something this name: letters a to z, digits and `_`, and no word of the language."""
    return re.fullmatch(tables().patterns["NAME"], text) is not None and (
        text in ("x", "step") or text not in tables().words
    )


def _too_large(text: str, span: Span) -> Diagnostic | None:
    exponent = re.search(r"[eE][+-]?0*([0-9]*)", text)
    digits = exponent.group(1) if exponent else ""
    if len(digits) > 3 or int(digits or 0) > LARGEST_EXPONENT:
        help = f"an exponent goes from -{LARGEST_EXPONENT} to {LARGEST_EXPONENT}"
    elif len(text) > LONGEST_NUMBER:
        help = f"a number has at most {LONGEST_NUMBER} characters"
    else:
        return None
    return Diagnostic("number-too-large", "this number is too large or too fine to work with", span, help=help)


_FOREIGN_WORDS = {
    "&&": ("and", "write `and`"),
    "||": ("or", "write `or`"),
    "!": ("not", "write `not`"),
    "**": ("^", "a power is written `2^3`"),
    "=>": ("->", "steps in sequence are written `a -> b`"),
    ":=": ("=", "a name is given with `let name = value`, an argument with `name: value`"),
    "===": ("COMPARE", "equality is written `==`"),
    "→": ("->", "write `->`"),
    "×": ("x", "a size is written `3 x 512 x 1024`, a product `a * b`"),
    "·": ("*", "a product is written `a * b`"),
    "−": ("-", "this is a typographic minus; write `-`"),
    "–": ("-", "this is a dash; write `-`"),
    "—": ("-", "this is a dash; write `-`"),
    "≤": ("COMPARE", "write `<=`"),
    "≥": ("COMPARE", "write `>=`"),
    "≠": ("COMPARE", "write `!=`"),
    "…": ("..", "a range is written `1..4`"),
    "“": ("", 'strings stand in plain quotes: `"..."`'),
    "”": ("", 'strings stand in plain quotes: `"..."`'),
}
_COMPARE = {"===": "==", "≤": "<=", "≥": ">=", "≠": "!="}

FOREIGN = {text: _COMPARE.get(text, word) for text, (word, _) in _FOREIGN_WORDS.items() if word}
"""What others write, and what stands for it here."""


def _mistaken(kind: str, text: str, span: Span) -> tuple[Diagnostic, tuple[str, str] | None]:
    """What to say of a piece that is no token, and the token (kind, text) that may stand in for it."""
    if kind == "open_string":
        return Diagnostic(
            "unclosed-string", "this string is not closed on its line", span, help='a string ends with `"`'
        ), ("STRING", text + '"')
    if kind == "quoted":
        message = "strings stand in double quotes"
        return Diagnostic("single-quotes", message, span, help=f'write `"{text.strip(chr(39))}"`'), (
            "STRING",
            f'"{text[1:]}"',
        )
    if kind == "glued":
        return _glued(text, span), ("NUMBER", "0")
    if text.startswith(("//", "/*", "*/")):
        mark = Span(span.source, span.start, span.start + 2)
        return Diagnostic("wrong-comment", f"a comment begins with `#`, not with `{text[:2]}`", mark), None
    if text == ";":
        help = "a comma or a line break separates" if _goes_on(span) else "a line break is enough"
        return Diagnostic("semicolon", "there are no semicolons in this language", span, help=help), None
    if text in _FOREIGN_WORDS:
        word, help = _FOREIGN_WORDS[text]
        code = "foreign-operator" if text.isascii() else "stray-character"
        message = f"`{text}` is not written this way here" if text.isascii() else f"`{text}` has no meaning here"
        return Diagnostic(code, message, span, help=help), (word, _COMPARE.get(text, word)) if word else None
    return Diagnostic("stray-character", f"{_described(text)} no meaning here", span, help=_stray_help(text)), None


def _goes_on(span: Span) -> bool:
    rest = span.source.line(span.line)[span.column :].strip()
    return bool(rest) and not rest.startswith("#")


_SCALES = {"k": "K", "m": "M", "g": "G", "b": "G", "B": "G"}  # as others write them


def _glued(text: str, span: Span) -> Diagnostic:
    parts = re.fullmatch(r"[1-9][0-9]*(?:x[1-9][0-9]*)+", text)
    if parts:
        help = f"a size is written `{' x '.join(text.split('x'))}`"
    else:
        number = re.match(r"[0-9]+(\.[0-9]+)?", text)
        assert number is not None
        rest = text[number.end() :]
        if rest[:1] == "_" or not rest or rest[0] == ".":
            help = "digits stand without a break: `1000000`, or `1M`"
        elif text[0] == "0" and rest[0] in "xXbo":
            help = "numbers are decimal"
        elif rest in _SCALES:
            help = f"thousands, millions and billions are written K, M and G: `{number.group()}{_SCALES[rest]}`"
        else:
            help = f"a name can't begin with a digit; a unit stands apart: `{number.group()} {short(rest)}`"
    return Diagnostic("malformed-number", f"`{short(text)}` is no number", span, help=help)


def _described(text: str) -> str:
    first = text[0]
    if len(text) > 1:
        shown = (
            short(text)
            if text.isprintable()
            else ", ".join(f"U+{ord(c):04X}" for c in text[:3]) + ("…" if len(text) > 3 else "")
        )
        return f"these {len(text)} characters ({shown}) have"
    return f"`{first}` has" if first.isprintable() else f"the character U+{ord(first):04X} has"


def _stray_help(text: str) -> str:
    if text == "`":
        return "backquotes stand in messages only; leave them out"
    if text[0] == "\u00a0":
        return "this is a no-break space; use a plain one"
    if text == "%":
        return "write a share as `1/4` or `0.25`"
    if text == "\r":
        return "lines end with a line feed"
    if any(c.isalpha() for c in text) and not text.isascii():
        return "names are made of the letters a to z, digits and `_`"
    return ""


def short(text: str) -> str:
    """A word as a message shows it."""
    return shortened(text, 30)
