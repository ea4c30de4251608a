"""Mistakes inside operators of the file: what call led there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nasdsl.compiler import bound
from nasdsl.compiler.diagnostics import Diagnostic, Label
from nasdsl.compiler.elaborate.values import Invocation

IN_CALL = "in this call"


def in_call(diagnostic: Diagnostic, calls: Sequence[Invocation]) -> Diagnostic:
    """A diagnostic of a place inside an operator of the file, with the call that led there."""
    span = diagnostic.span
    if span is None or any(other.text == IN_CALL for other in diagnostic.others):
        return diagnostic
    for call in reversed(calls):
        text = call.definition.text.span if isinstance(call.definition, bound.Operator) else None
        if text is not None and text.source is span.source and text.start <= span.start and span.end <= text.end:
            if call.span == span:
                return diagnostic
            return replace(diagnostic, others=(*diagnostic.others, Label(call.span, IN_CALL)))
    return diagnostic
