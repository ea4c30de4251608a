"""`mean(a, b)`, `mean(from: list)`: tensors are averaged, or what operators make of what comes in."""

from __future__ import annotations

from nasdsl.compiler import bound
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.forms.bundles import bundle, guarded, outcomes
from nasdsl.compiler.elaborate.frame import Frame
from nasdsl.compiler.elaborate.merging import Term, alike, merge, same_shape, where_there
from nasdsl.compiler.elaborate.values import Flow, Tensor
from nasdsl.compiler.example import Example
from nasdsl.compiler.source import Span


def run(value: v.Invocation, flow: Flow, frame: Frame, name: str, span: Span) -> Flow:
    if "*" in value.arguments:
        items = value.arguments["*"]

        def average(flow: Flow, frame: Frame) -> Flow:
            return _average(outcomes(items, flow, frame, name, span), frame, name, span)

        return average(flow, frame) if v.starts_anew(items) else where_there(flow, frame, average)
    given = value.arguments.get("from")
    tensors = [(tensor, True) for tensor in bundle(flow)] if given is None else guarded(given, span)
    return _average([(tensor, when, tensor.span or span) for tensor, when in tensors], frame, name, span)


def _average(terms: list[Term], frame: Frame, name: str, span: Span) -> Flow:
    if any(v.is_lost(flow) for flow, _, _ in terms):
        return v.LOST
    tensors = [(flow, when, place) for flow, when, place in terms if isinstance(flow, Tensor)]
    if not tensors:
        return None
    alike("averaged", tensors, frame)
    shape = same_shape("averaged", tensors, frame, resized=True)
    return merge("mean", {}, [(tensor, when) for tensor, when, _ in tensors], shape, frame, name, span)


FORM = bound.Form(
    "mean",
    (bound.Parameter("from", doc="a list of tensors, in place of arguments without a name"),),
    run,
    "averages tensors",
    "As `sum`, and divided by how many there are.",
    Example("conv(16, kernel: 3)\nmean(identity(), conv(16, kernel: oneof(3, 5)))\nclassify(10)", 2),
    rest="step",
)
