"""Operators that are written in the language itself: residual blocks, backbones, necks, proposals and heads.

Their text lies in `compiler/library/`. A file's own operator of the same name goes before them. The text is read only
when one of its names is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from nasdsl.compiler import syntax
from nasdsl.compiler.diagnostics import Diagnostic, Label
from nasdsl.compiler.elaborate.frame import Frame, Scope
from nasdsl.compiler.elaborate.values import Function, UserFusion, UserOperator
from nasdsl.compiler.parse import parse
from nasdsl.compiler.source import Source, Span

FOLDER = Path(__file__).parents[1] / "library"

FILES: Mapping[str, tuple[str, ...]] = {
    "blocks": ("basic", "bottleneck", "inverted_residual", "mbconv", "separable"),
    "backbones": ("resnet", "resnext", "mobilenet_v2"),
    "detection": ("fpn", "rpn", "guided_anchor_rpn", "rcnn", "cascade", "retina"),
}
"""The operators of each file that spaces may use."""

OPERATORS: Mapping[str, str] = {name: file for file, names in FILES.items() for name in names}
"""The file of each operator."""


@cache
def _declarations(file: str) -> Mapping[str, syntax.Operator | syntax.Fusion | syntax.Let]:
    source = Source((FOLDER / f"{file}.space").read_text(encoding="utf-8"), f"library/{file}.space")
    items = parse(source).items
    return {item.name.name: item for item in items if isinstance(item, syntax.Operator | syntax.Fusion | syntax.Let)}


def declaration(name: str) -> syntax.Operator | None:
    """The text of an operator of the library."""
    file = OPERATORS.get(name)
    item = None if file is None else _declarations(file)[name]
    return item if isinstance(item, syntax.Operator) else None


def find(name: str, frame: Frame) -> UserOperator | None:
    """An operator of the library, ready to be used in a frame."""
    file = OPERATORS.get(name)
    if file is None:
        return None
    builder = frame.builder
    if builder.library is None:
        builder.library = Scope()
    scope = builder.library
    if name not in scope.operators:
        home = Frame(builder, scope, functions=frame.functions, apply_form=frame.apply_form)
        for word, item in _declarations(file).items():
            if isinstance(item, syntax.Operator):
                scope.operators[word] = UserOperator(word, item.formals, item.body, home, item.name.span)
            elif isinstance(item, syntax.Fusion):
                scope.fusions[word] = UserFusion(word, item.formals, item.body, home, item.name.span)
            else:  # functions alone: a value would need a place in the text to be decided at
                assert item.formals is not None
                scope.bind(word, Function(word, item.formals, item.value, home), item.name.span)
    return scope.operators[name]


def inside(span: Span | None) -> bool:
    """Whether a place lies in the library's text."""
    return span is not None and span.source.path is None and span.source.name.startswith("library/")


def brought_out(diagnostics: Iterable[Diagnostic], call: Span) -> list[Diagnostic]:
    """The same messages at the call in the user's text that led into the library."""
    out = []
    for d in diagnostics:
        if inside(d.span):
            assert d.span is not None
            d = replace(d, span=call, label=d.label and f"in `{call.text.split('(')[0].strip()}`: {d.label}")
        others = tuple(label for label in d.others if not inside(label.span))
        others += tuple(Label(call, label.text) for label in d.others if inside(label.span) and call != d.span)
        out.append(replace(d, others=tuple(dict.fromkeys(others))))
    return out
