"""`sum(a, b)`, `sum(from: list)`: tensors are added, or what operators make of what comes in."""

from __future__ import annotations

from nasdsl.compiler import bound
from nasdsl.compiler.elaborate import values as v
from nasdsl.compiler.elaborate.forms.bundles import bundle, guarded, outcomes
from nasdsl.compiler.elaborate.frame import Frame
from nasdsl.compiler.elaborate.merging import add_up, where_there
from nasdsl.compiler.elaborate.values import Flow
from nasdsl.compiler.example import Example
from nasdsl.compiler.source import Span


def run(value: v.Invocation, flow: Flow, frame: Frame, name: str, span: Span) -> Flow:
    if "*" in value.arguments:
        items = value.arguments["*"]

        def add(flow: Flow, frame: Frame) -> Flow:
            return add_up(outcomes(items, flow, frame, name, span), frame, name, span)

        return add(flow, frame) if v.starts_anew(items) else where_there(flow, frame, add)
    if "from" in value.arguments:
        tensors = guarded(value.arguments["from"], value.spans.get("from", span))
    else:
        tensors = [(tensor, True) for tensor in bundle(flow)]
    return add_up([(tensor, when, tensor.span or span) for tensor, when in tensors], frame, name, span)


FORM = bound.Form(
    "sum",
    (bound.Parameter("from", doc="a list of tensors, in place of arguments without a name"),),
    run,
    "adds tensors",
    "Operators are each given what comes in; a list stands for its items, and without any the branches that come in "
    "are added. `a() + b()` is the same for two. What is not there takes no part; where nothing is there, the sum "
    "is not there either. Of a list of numbers, `sum(list)` is the function.",
    Example("conv(16, kernel: 3)\nsum(conv(16), max_pool(3), oneof(none, avg_pool(3)))\nclassify(10)", 2),
    rest="step",
)
