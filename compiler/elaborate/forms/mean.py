"""`mean(from: list)`: tensors are averaged."""

from __future__ import annotations

from nasdsl.compiler import bound
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.forms.bundles import bundle, guarded
from nasdsl.compiler.elaborate.frame import Frame
from nasdsl.compiler.elaborate.merging import alike, merge, same_shape
from nasdsl.compiler.elaborate.values import Flow
from nasdsl.compiler.source import Span


def run(value: v.Invocation, flow: Flow, frame: Frame, name: str, span: Span) -> Flow:
    given = value.arguments.get("from")
    tensors = [(tensor, True) for tensor in bundle(flow)] if given is None else guarded(given, span)
    if not tensors:
        return None
    if any(tensor.lost for tensor, _ in tensors):
        return v.LOST
    terms = [(tensor, when, tensor.span or span) for tensor, when in tensors]
    alike("averaged", terms, frame)
    return merge("mean", {}, tensors, same_shape("averaged", terms, frame, resized=True), frame, name, span)


FORM = bound.Form("mean", (bound.Parameter("from"),), run, "averages tensors")
