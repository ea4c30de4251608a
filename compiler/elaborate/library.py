"""Where the library's operators stand, and their mistakes told in the user's text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from nasdsl.compiler import bound
from nasdsl.compiler.bind.binder import functions_of
from nasdsl.compiler.bind.library import inside as inside
from nasdsl.compiler.diagnostics import Diagnostic, Label
from nasdsl.compiler.elaborate.frame import Builder, Frame, Scope
from nasdsl.compiler.elaborate.values import Function, Invocation
from nasdsl.compiler.source import Span


def home(definition: bound.Operator | bound.Fusion, builder: Builder) -> Frame:
    """Where an operator or a fusion stands: in the space, or in a file of the library with its functions."""
    file = definition.file
    if file not in builder.homes:
        frame = builder.homes[file] = Frame(builder, Scope())
        for let in functions_of(file):  # functions alone: a value would need a place in the text to be decided at
            assert let.formals is not None
            frame.scope.bind(let.name, Function(let.name, let.formals, let.value, frame), let.span)
    return builder.homes[file]


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
    return isinstance(call.definition, bound.Operator) and _holds(call.definition.body.span, span)


def _made_of(name: str, call: Invocation, wrong: set[str]) -> bool:
    """Whether a name is that of a parameter left to its default, which has one of the wrong arguments in it."""
    formals = call.definition.formals if isinstance(call.definition, bound.Operator) else ()
    default = next((f.default for f in formals if f.name == name and name not in call.spans), None)
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
