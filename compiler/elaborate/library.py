"""Operators that are written in the language itself: residual blocks, backbones, necks, proposals and heads.

Their text lies in `compiler/library/`. A file's own operator of the same name goes before them. The text is read only
when one of its names is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from nasdsl.compiler import syntax
from nasdsl.compiler.diagnostics import Diagnostic, Label
from nasdsl.compiler.elaborate.frame import Frame, Scope
from nasdsl.compiler.elaborate.values import Function, Invocation, UserFusion, UserOperator
from nasdsl.compiler.parse import parse
from nasdsl.compiler.source import Source, Span

FOLDER = Path(__file__).parents[1] / "library"

FILES: Mapping[str, tuple[str, ...]] = {
    "blocks": (
        "basic",
        "bottleneck",
        "pooled_shortcut",
        "factorized_reduce",
        "inverted_residual",
        "mbconv",
        "separable",
    ),
    "backbones": (
        "resnet",
        "resnet_stage",
        "resnext",
        "resnext_stage",
        "mobilenet_v2",
        "mobilenet_v2_stage",
    ),
    "dense": ("aspp", "pyramid_pool", "attention_gate"),
    "detection": ("fpn", "rpn", "guided_anchor_rpn", "rcnn", "cascade", "retina", "two_layers"),
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
    for source in ("blocks", file):  # the other files use functions of the first
        if FILES[source][0] not in scope.operators:
            _declare(source, scope, Frame(builder, scope, functions=frame.functions, apply_form=frame.apply_form))
    return scope.operators[name]


def _declare(file: str, scope: Scope, home: Frame) -> None:
    """Puts what a file declares into the library's scope."""
    for word, item in _declarations(file).items():
        if isinstance(item, syntax.Operator):
            scope.operators[word] = UserOperator(word, item.formals, item.body, home, item.name.span)
        elif isinstance(item, syntax.Fusion):
            scope.fusions[word] = UserFusion(word, item.formals, item.body, home, item.name.span)
        else:  # functions alone: a value would need a place in the text to be decided at
            assert item.formals is not None
            scope.bind(word, Function(word, item.formals, item.value, home), item.name.span)


def inside(span: Span | None) -> bool:
    """Whether a place lies in the library's text."""
    return span is not None and span.source.path is None and span.source.name.startswith("library/")


def brought_out(diagnostics: Iterable[Diagnostic], call: Invocation) -> list[Diagnostic]:
    """The same messages in the user's text: at the argument whose name the library's text has there, else at the call
    that led into the library. What a default makes of an argument that is wrong itself is not told again.
    """
    out = []
    diagnostics = list(diagnostics)
    names = {d.span.text for d in diagnostics if d.span is not None and _is_own(d.span, call)}
    wrong = names & set(call.spans)
    for d in diagnostics:
        if inside(d.span):
            assert d.span is not None
            own = _is_own(d.span, call)
            if own and _made_of(d.span.text, call, wrong):
                continue
            argument = call.spans.get(d.span.text) if own else None
            if argument is not None:
                whose = f"this is `{d.span.text}` of `{call.name}`"
                d = replace(d, span=argument, label=d.label or whose)
            else:
                d = replace(d, span=call.span, label=_inside(d, call))
        others = tuple(label for label in d.others if not inside(label.span))
        others += tuple(Label(call.span, o.text) for o in d.others if inside(o.span) and call.span != d.span)
        out.append(replace(d, others=tuple(dict.fromkeys(others))))
    return out


def _is_own(span: Span, call: Invocation) -> bool:
    """Whether a place lies in the body of the operator that is called."""
    return isinstance(call.definition, UserOperator) and _holds(call.definition.body.span, span)


def _made_of(name: str, call: Invocation, wrong: set[str]) -> bool:
    """Whether a name is that of a parameter left to its default, which has one of the wrong arguments in it."""
    formals = call.definition.formals if isinstance(call.definition, UserOperator) else ()
    default = next((f.default for f in formals if f.name.name == name and name not in call.spans), None)
    return default is not None and not wrong.isdisjoint(re.findall(r"\w+", default.span.text))


def _inside(d: Diagnostic, call: Invocation) -> str:
    """The label of a message that moves to the call."""
    if d.code == "never-holds":
        return f"`{call.name}` needs it"
    if d.label:
        return f"in `{call.name}`: {d.label}"
    return f"in `{call.name}`" if d.code == "bad-shape" else ""


def _holds(outer: Span, inner: Span) -> bool:
    return outer.source is inner.source and outer.start <= inner.start and inner.end <= outer.end
