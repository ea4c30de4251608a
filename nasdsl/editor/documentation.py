"""What is told of the words of the language and of what files declare, as Markdown: from the records that the compiler
itself uses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nasdsl.compiler import measures, ops, syntax
from nasdsl.compiler.bind import library
from nasdsl.compiler.bound import Form
from nasdsl.compiler.constructs import CONSTRUCTS
from nasdsl.compiler.diagnostics import NasdslError
from nasdsl.compiler.elaborate.vocabulary import VOCABULARY
from nasdsl.compiler.example import Manual
from nasdsl.compiler.ops.operator import REQUIRED, Operator, Param

WORDS: Mapping[str, str] = {
    "else": "What holds where nothing else does: in `match`, and behind `if`.",
    "step": "`1..9 step 2` is 1, 3, 5, 7, 9.",
    "and": "Both conditions hold.",
    "or": "One of two conditions holds, or both.",
    "not": "The condition does not hold.",
    "implies": "`a implies b`: wherever `a` holds, `b` does.",
    "true": "The truth value.",
    "false": "The truth value.",
    "first": "Whether this is the first copy of a `repeat`.",
    "same": "In a fusion: from a branch to one of the same scale.",
    "down": "In a fusion: from a branch to one of half its scale.",
    "up": "In a fusion: from a branch to a finer one.",
    "any": "In a fusion: from any branch to any other, where `same`, `down` or `up` does not say it.",
    "from": "In a fusion: which branches feed which: `neighbours`, `all`, `finer` or `coarser`.",
    "merge": "In a fusion: how what meets is brought together: `sum()`, `concat()`, ...",
    "then": "In a fusion: what follows the merge.",
    "new": "In a fusion: how a branch is made that did not come in.",
    "backbone": "In a detector: what the image goes through first.",
    "neck": "In a detector: what the backbone's levels go through; left out, they go on as they are.",
    "proposals": "In a detector: where objects may be; left out for heads that look everywhere.",
    "head": "In a detector: what tells classes and boxes.",
}
"""Words of which the record of their construct tells together with others."""


@dataclass(frozen=True)
class Told:
    """What is told of a word: how it is written, and the rest in Markdown."""

    signature: str
    text: str = ""

    @property
    def markdown(self) -> str:
        shown = f"```space\n{self.signature}\n```" if self.signature else ""
        return "\n\n".join(part for part in (shown, self.text) if part)


def of_operator(operator: Operator) -> Told:
    """An operator of the catalogue."""
    lines = [f"{operator.doc[:1].upper()}{operator.doc[1:]}." if operator.doc else ""]
    lines.append("\n".join(f"- {_of_param(param)}" for param in operator.params))
    if operator.where != "built-in":
        lines.append(f"Of the package `{operator.where}`.")
    return Told(ops.signature(operator), "\n\n".join(line for line in lines if line))


def _of_param(param: Param) -> str:
    kind = " | ".join(param.choices) if param.choices else param.type
    needed = "; has to be given" if param.default is REQUIRED else ""
    return f"`{param.name}` ({kind}){f': {param.doc}' if param.doc else ''}{needed}"


def of_form(form: Form) -> Told:
    """A form: an operator of the language itself."""
    inside = ", ".join(["..."] * bool(form.rest) + [f"{p.name}: ..." for p in form.parameters])
    signature = form.name + (f"({inside})" if inside else "") + (" { ... }" if form.body else "")
    if form.body and inside:
        signature = f"{form.name} {{ ... }}\n{form.name}({inside}) {{ ... }}"
    params = "\n".join(f"- `{p.name}`{f': {p.doc}' if p.doc else ''}" for p in form.parameters)
    text = [f"{form.doc[:1].upper()}{form.doc[1:]}.", form.text, params]
    return Told(signature, "\n\n".join(part for part in text if part))


def of_function(name: str) -> Told:
    """A function of values, or one that decides."""
    function = VOCABULARY.functions[name]
    manual = function.manual
    if manual is None:
        return Told(function.call.example if function.call is not None else f"{name}(...)")
    return _of_manual(manual)


def of_text(node: syntax.Operator | syntax.Fusion | syntax.Let) -> Told:
    """What a file, or the library, declares: its head and the comment above it."""
    formals = "" if node.formals is None else _formals(node.formals)
    kind = {syntax.Operator: "operator", syntax.Fusion: "fusion", syntax.Let: "let"}[type(node)]
    signature = f"{kind} {node.name.name}{formals}"
    if isinstance(node, syntax.Let):
        signature += f" = {_short(node.value.span.text)}"
    return Told(signature, node.span.comment)


def _formals(formals: Sequence[syntax.Formal]) -> str:
    return "(" + ", ".join(_short(formal.span.text) for formal in formals) + ")"


def _short(text: str, most: int = 80) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def of_word(word: str) -> Told | None:
    """Any word that the language has; None for others."""
    if word in WORDS:
        return Told("", WORDS[word])
    measure = measures.lookup(word) if word in VOCABULARY.values else None
    if measure is not None:
        return Told("", f"`{word}`: {measure.label} of the whole network, for `require` and for searches.")
    known = [
        *(one for one in CONSTRUCTS if word in (one.name, *one.words)),
        *(one for one in CONSTRUCTS if word in one.also),
    ]
    return _of_manual(known[0].manual) if known else None


def _of_manual(manual: Manual) -> Told:
    text = [f"{manual.doc[:1].upper()}{manual.doc[1:]}.", manual.text]
    return Told(manual.signature.replace("), ", ")\n"), "\n\n".join(part for part in text if part))


def operator_of(word: str) -> Operator | None:
    """The operator of that name, of the catalogue or of a package that works."""
    try:
        return ops.find(word)
    except NasdslError:
        return None


def of_call(word: str) -> Told | None:
    """What can be called by a word in every file; None where nothing can."""
    if word in VOCABULARY.forms:
        return of_form(VOCABULARY.forms[word])
    if word in VOCABULARY.functions:
        return of_function(word)
    operator = operator_of(word)
    if operator is not None:
        return of_operator(operator)
    if word in library.OPERATORS:
        return of_text(library.texts()[word])
    return None


def brief(word: str) -> str:
    """What a word means, in one sentence."""
    told = of_word(word)
    return "" if told is None else sentence(told.text)


def sentence(text: str) -> str:
    """The first sentence of a text, without marks."""
    return re.split(r"(?<=[a-z0-9)`])\. ", text.replace("\n", " "))[0].rstrip(".").replace("`", "")


def listed(words: Iterable[str]) -> str:
    """Some words as Markdown shows them."""
    return ", ".join(f"`{word}`" for word in words)
